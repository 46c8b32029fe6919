//! How a snapshot's file travels from one node's bulk worker to another's, on a connection of its own
//! ([`crate::format::Purpose::Snapshot`]). The receiver pulls: each [`Fetch`] is answered by one [`Chunk`] or by [`Gone`],
//! in order.

use crate::entry::{Chain, EntryId};
use crate::ids::Index;

/// Bytes of a CHUNK's payload before the file's bytes.
pub const CHUNK_HEAD_BYTES: usize = 40;

/// What is said on a connection of purpose `Snapshot` after HELLO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer<'a> {
    /// From the receiver: send bytes.
    Fetch(Fetch),
    /// From the sender: bytes.
    Chunk(Chunk<'a>),
    /// From the sender: there are none.
    Gone(Gone<'a>),
}

/// Asks for bytes of the snapshot that ends at this very entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// The last entry that the snapshot covers.
    pub last: EntryId,
    /// Its chain.
    pub chain: Chain,
    /// Where to begin, in bytes of the file.
    pub offset: u64,
    /// At most so many bytes; 0 = none, which asks only for what the answer says of the file.
    pub bytes_max: u32,
}

/// Bytes of a snapshot's file, and what file that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// The last index that the snapshot covers.
    pub index: Index,
    /// Where these bytes begin in the file.
    pub offset: u64,
    /// Bytes of the whole file.
    pub total: u64,
    /// The hash that the file ends with: which file this is. Two nodes' snapshots of the same state are different files.
    pub hash: u64,
    /// The bytes; fewer than were asked for only at the file's end, none at it or where none were asked for.
    pub bytes: &'a [u8],
}

/// The sender cannot serve what was asked for; it closes the connection after this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone<'a> {
    /// Why, for a program.
    pub reason: GoneReason,
    /// Why, for a person.
    pub text: &'a str,
}

/// Why there are no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum GoneReason {
    /// The sender has no snapshot that ends at this entry (any more).
    NotHere = 1,
    /// The offset lies behind the end of the file.
    BeyondEnd = 2,
    /// Too many are being served; ask again later.
    Busy = 3,
    /// The sender cannot read the file.
    Unreadable = 4,
    /// A reason that this version has no name for.
    Other = 0xffff,
}
