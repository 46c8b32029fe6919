//! Every kind of frame, in one table.

use std::fmt;

use crate::error::DecodeError;

/// Which conversation a kind belongs to. The number ranges are fixed, so that an unknown kind still tells where it belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// 0x01-0x0f: opens a connection.
    Hello,
    /// 0x10-0x7f: from a client; the payload begins with a request header. 0x10 writes, 0x20 reads, 0x30 status and
    /// administration, 0x40 sessions.
    Request,
    /// 0x80-0xbf: to a client; the payload begins with a reply header.
    Reply,
    /// 0xc0-0xdf: between nodes; the payload begins with an envelope header.
    Peer,
    /// 0xe0-0xff: between nodes, on a connection of its own: a snapshot's transfer.
    Snapshot,
}

impl Group {
    /// Where a number belongs, known or not.
    pub const fn of(number: u8) -> Option<Self> {
        match number {
            0x00 => None,
            0x01..=0x0f => Some(Self::Hello),
            0x10..=0x7f => Some(Self::Request),
            0x80..=0xbf => Some(Self::Reply),
            0xc0..=0xdf => Some(Self::Peer),
            0xe0..=0xff => Some(Self::Snapshot),
        }
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// What a frame is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Kind {
            $($(#[$doc])* $name = $number,)*
        }

        impl Kind {
            /// The whole table.
            pub const ALL: &'static [Kind] = &[$(Kind::$name,)*];

            /// The kind with this number.
            pub const fn from_wire(number: u8) -> Result<Self, DecodeError> {
                match number {
                    $($number => Ok(Self::$name),)*
                    other => Err(DecodeError::UnknownKind(other)),
                }
            }

            /// Its name, as in `docs/protocol.md`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

kinds! {
    /// First frame of the side that connects: [`crate::format::Hello`].
    Hello = 0x01, "HELLO";
    /// First frame of the side that accepts; same layout.
    HelloReply = 0x02, "HELLO_REPLY";
    /// Instead of HELLO_REPLY; the connection is closed after it: [`crate::format::Refusal`].
    Refusal = 0x03, "REFUSAL";
    /// A command for the log: [`crate::request::Request::Write`].
    Write = 0x10, "WRITE";
    /// [`crate::request::Request::Get`].
    Get = 0x20, "GET";
    /// [`crate::request::Request::Scan`].
    Scan = 0x21, "SCAN";
    /// [`crate::request::Request::CloseView`].
    CloseView = 0x22, "CLOSE_VIEW";
    /// [`crate::request::Request::Status`].
    Status = 0x30, "STATUS";
    /// [`crate::request::Request::TakeSnapshot`].
    SnapshotTake = 0x31, "SNAPSHOT_TAKE";
    /// [`crate::request::Request::LogLevel`].
    LogLevel = 0x32, "LOG_LEVEL";
    /// [`crate::reply::Reply`].
    Reply = 0x80, "REPLY";
    /// [`crate::message::Message::PreVote`].
    PreVote = 0xc0, "PRE_VOTE";
    /// [`crate::message::Message::PreVoteReply`].
    PreVoteReply = 0xc1, "PRE_VOTE_REPLY";
    /// [`crate::message::Message::RequestVote`].
    RequestVote = 0xc2, "REQUEST_VOTE";
    /// [`crate::message::Message::RequestVoteReply`].
    RequestVoteReply = 0xc3, "REQUEST_VOTE_REPLY";
    /// [`crate::message::Message::AppendEntries`].
    AppendEntries = 0xc4, "APPEND_ENTRIES";
    /// [`crate::message::Message::AppendReply`].
    AppendReply = 0xc5, "APPEND_REPLY";
    /// [`crate::message::Message::ReadIndex`].
    ReadIndex = 0xc6, "READ_INDEX";
    /// [`crate::message::Message::ReadIndexReply`].
    ReadIndexReply = 0xc7, "READ_INDEX_REPLY";
    /// [`crate::message::Message::TimeoutNow`].
    TimeoutNow = 0xc8, "TIMEOUT_NOW";
    /// [`crate::message::Message::InstallSnapshot`].
    InstallSnapshot = 0xc9, "INSTALL_SNAPSHOT";
    /// [`crate::message::Message::Format`].
    Format = 0xd0, "FORMAT";
    /// [`crate::snapshot::Transfer::Fetch`].
    SnapshotFetch = 0xe0, "SNAPSHOT_FETCH";
    /// [`crate::snapshot::Transfer::Chunk`].
    SnapshotChunk = 0xe1, "SNAPSHOT_CHUNK";
    /// [`crate::snapshot::Transfer::Gone`].
    SnapshotGone = 0xe2, "SNAPSHOT_GONE";
}

impl Kind {
    /// Which conversation it belongs to.
    pub fn group(self) -> Group {
        Group::of(self as u8).expect("the table uses no number outside the ranges")
    }

    /// How many bytes of the payload the frame's checksum covers; `None` = all of it. What lies behind them carries its
    /// own checksum (a command, entries), so that no large body is checksummed twice.
    pub const fn head_bytes(self) -> Option<usize> {
        match self {
            Self::Write => Some(crate::request::WRITE_HEAD_BYTES),
            Self::AppendEntries => Some(crate::message::APPEND_ENTRIES_HEAD_BYTES),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
