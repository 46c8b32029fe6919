//! Client requests.

use crate::command::Command;
use crate::ids::{Index, RequestId, Sequence, SessionId};

/// Bytes of the request header, with which the payload of every request begins.
pub const REQUEST_HEADER_BYTES: usize = 32;
/// Bytes before the command in the payload of a WRITE: request header and the command's checksum.
pub const WRITE_HEAD_BYTES: usize = REQUEST_HEADER_BYTES + 4;

/// How a read may be answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ReadMode {
    /// Linearizable, on any node (C-18).
    #[default]
    Linearizable = 0,
    /// The asked node's own state, however old, with its applied index.
    Local = 1,
}

/// The fixed part of every request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestHeader {
    /// Echoed in the reply.
    pub request: RequestId,
    /// Session, or 0. Only writes have one.
    pub session: SessionId,
    /// Sequence within the session, from 1; 0 without a session, and with keep-alive and close.
    pub sequence: Sequence,
    /// How long the client will wait, in milliseconds; 0 = the server's maximum.
    pub deadline_ms: u32,
    /// The reply should carry a receipt in its trailer ([`crate::receipt`]); it may come without one.
    pub explain: bool,
    /// For reads.
    pub read_mode: ReadMode,
}

/// A view of one revision, pinned by the server for a scan in pages (C-21).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ViewId {
    /// The server process that pinned it; random.
    pub boot: u64,
    /// The revision that it shows.
    pub revision: Index,
    /// Which of the server's views it is.
    pub serial: u64,
}

/// What a client may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// A write: goes through the log.
    Write(Command<'a>),
    /// One key.
    Get {
        /// Key.
        key: &'a [u8],
    },
    /// One page of keys, bytewise sorted.
    Scan(Scan<'a>),
    /// Gives a view back before its last page.
    CloseView(ViewId),
    /// The asked node's [`crate::reply::NodeStatus`].
    Status,
    /// The asked node is to take a snapshot of its own state now; answered when that is durable.
    TakeSnapshot,
    /// What the asked node logs, and changes of it. The answer is a message: the filter in force.
    LogLevel(LogLevel<'a>),
}

/// A decoded request frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incoming<'a> {
    /// The fixed part.
    pub header: RequestHeader,
    /// What is asked.
    pub request: Request<'a>,
    /// Of a write: the encoded command as it stands in the frame, which is the body of the log entry to be. Otherwise empty.
    pub command: &'a [u8],
    /// Of a write: the verified CRC-32C of `command`, which is the entry's body checksum. Otherwise 0.
    pub command_checksum: u32,
}

/// A page of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan<'a> {
    /// None on the first page: the server pins a view and names it in the reply. The view ends with its last page.
    pub view: Option<ViewId>,
    /// First key, included.
    pub from: &'a [u8],
    /// First key that is not included; empty = to the end.
    pub to: &'a [u8],
    /// At most so many keys in this page; 0 = as many as the server sends in one page.
    pub limit: u32,
    /// Leave the values out.
    pub keys_only: bool,
    /// Only count: the reply has no keys, and covers the whole range in one page where it can.
    pub count_only: bool,
}

/// What is to become of the filter of a node's text log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel<'a> {
    /// Nothing; only show it.
    Show,
    /// These directives (`info,raft=debug`) replace those for the same names; the others stay.
    Change(&'a str),
    /// Back to what the node was started with.
    Reset,
}
