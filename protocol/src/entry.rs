//! Log entries: one layout on the wire and on disk.

use bytes::Bytes;

use crate::ids::{ClusterId, Index, LogTime, Sequence, SessionId, Term};

/// The identity of an entry: two entries with the same term and index are the same entry (log matching).
/// Ordered as Raft compares logs: term first, then index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// Term of the leader that created the entry.
    pub term: Term,
    /// Position in the log.
    pub index: Index,
}

/// 64-bit hash over the chain of the entry before and this entry's header, which includes the body's checksum (C-8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Chain(pub u64);

/// What an entry means. 0 is never a kind, so that zeroes are never an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// The empty entry at the start of a term.
    Noop = 1,
    /// A command of the state machine: see [`crate::command`].
    Command = 2,
    /// A membership configuration (reserved; not written by this version).
    Configuration = 3,
}

/// The 64 bytes before each entry's body.
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 8 | term |
/// | 8 | 8 | index |
/// | 16 | 8 | log time, ms |
/// | 24 | 8 | session id |
/// | 32 | 8 | sequence |
/// | 40 | 1 | kind |
/// | 41 | 1 | flags (0) |
/// | 42 | 2 | reserved (0) |
/// | 44 | 4 | body length |
/// | 48 | 4 | CRC-32C of the body |
/// | 52 | 4 | reserved (0) |
/// | 56 | 8 | chain |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHeader {
    /// Term and index.
    pub id: EntryId,
    /// The cluster's time when the leader created the entry (C-25).
    pub log_time: LogTime,
    /// Session of the request, or 0.
    pub session: SessionId,
    /// Sequence of the request within its session, or 0.
    pub sequence: Sequence,
    /// What the body is.
    pub kind: EntryKind,
    /// None defined; must be 0.
    pub flags: u8,
    /// Bytes of the body.
    pub body_len: u32,
    /// CRC-32C of the body, computed where the command was decoded.
    pub body_checksum: u32,
    /// See [`Chain`]; set by the leader that creates the entry.
    pub chain: Chain,
}

/// One log entry. Cloning shares the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The fixed part.
    pub header: EntryHeader,
    /// The command, as [`crate::command`] encodes it; empty for a no-op.
    pub body: Bytes,
}

impl Chain {
    /// Where a cluster's chain starts (C-8): the chain "before" index 1.
    pub fn origin(cluster: ClusterId) -> Self {
        Self(twox_hash::XxHash3_64::oneshot_with_seed(cluster.0, b"raftkv chain"))
    }
}
