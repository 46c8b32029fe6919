//! What is in a snapshot file, byte by byte. Pure: works on slices.
//!
//! A file is a header, then blocks: those of items, those of sessions, and the footer, which is the last.
//!
//! | offset | size | header |
//! |---|---|---|
//! | 0 | 8 | magic `RKVSNAP\n` |
//! | 8 | 4 | version of the format, 1 |
//! | 12 | 4 | bytes of the header, 88 + n |
//! | 16 | 4 | CRC-32C of bytes 0-15 and of all header bytes behind this field |
//! | 20 | 4 | id of the node that took it |
//! | 24 | 8 | incarnation of that node |
//! | 32 | 8 | the boot in which it was taken, random |
//! | 40 | 8 | cluster id |
//! | 48 | 32 | position: term, index, chain, log time; the state is the one after that entry |
//! | 80 | 4 | bytes of the Format |
//! | 84 | 4 | 0 |
//! | 88 | n | Format, as on the wire: the members |
//!
//! Every version keeps the first 20 bytes, a header of at least 89 bytes and at most 88 + [`limits::SNAPSHOT_FORMAT_BYTES_MAX`],
//! and its checksum where they are: a later version is told from damage.
//!
//! Every block begins with a head. Its checksum is seeded with the header's and the block's number, so that blocks of
//! another file, or in another order, are none.
//!
//! | offset | size | head of a block |
//! |---|---|---|
//! | 0 | 4 | magic: `rkvI` items, `rkvN` sessions, `rkvF` footer |
//! | 4 | 4 | bytes behind the head |
//! | 8 | 4 | records in it; 0 for the footer |
//! | 12 | 4 | CRC-32C of the header's checksum (4 bytes), the block's number from 0 (8), the 12 bytes before, and the records |
//!
//! | offset | size | item, keys strictly ascending over all blocks |
//! |---|---|---|
//! | 0 | 4 | bytes of the key |
//! | 4 | 4 | bytes of the value |
//! | 8 | 8 | revision |
//! | 16 | 8 | create revision |
//! | 24 | 8 | version, from 1 |
//! | 32 | k | key |
//! | 32 + k | v | value |
//!
//! | offset | size | session, ids strictly ascending over all blocks |
//! |---|---|---|
//! | 0 | 4 | bytes of the record |
//! | 4 | n | record: `src/kv/sessions/record.rs` |
//!
//! | offset | size | footer, behind its head |
//! |---|---|---|
//! | 0 | 8 | blocks before it |
//! | 8 | 8 | items |
//! | 16 | 8 | sessions |
//! | 24 | 8 | bytes of the file |
//! | 32 | 8 | hash of the file: XXH3-64 of the header, then of each head and of each block's records, each seeded with the one before |
//! | 40 | 8 | magic `RKVSEND\n` |

mod decoder;
mod encoder;
#[cfg(all(test, not(loom)))]
mod tests;

use std::fmt;

use protocol::format::Format;
use protocol::{ClusterId, Incarnation, NodeId};

use super::Position;
use crate::limits;

pub use decoder::{Decoder, Items, Piece};
pub use encoder::Encoder;

/// Bytes of the header before the Format.
pub const HEADER_FIXED_BYTES: usize = 88;
/// Bytes of the footer with its head: the last ones of a file.
pub const FOOTER_BYTES: usize = HEAD_BYTES + FOOTER_BODY_BYTES;

const MAGIC: &[u8; 8] = b"RKVSNAP\n";
const END_MAGIC: &[u8; 8] = b"RKVSEND\n";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 16;
const ITEM_HEAD_BYTES: usize = 32;
const FOOTER_BODY_BYTES: usize = 48;
/// A block that is not full takes one more record.
const BLOCK_BODY_BYTES_MAX: usize =
    limits::SNAPSHOT_BLOCK_BYTES + ITEM_HEAD_BYTES + limits::KEY_BYTES_MAX + limits::VALUE_BYTES_MAX;

/// Who took a snapshot, of what, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The node that took it.
    pub node: NodeId,
    /// That life of its disk.
    pub incarnation: Incarnation,
    /// That run of its process; random.
    pub boot: u64,
    /// The state is the one after this entry.
    pub position: Position,
    /// The cluster and its members.
    pub format: Format,
}

/// What a file says about itself at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// Blocks before the footer.
    pub blocks: u64,
    /// Keys.
    pub keys: u64,
    /// Sessions.
    pub sessions: u64,
    /// Bytes of the whole file.
    pub bytes: u64,
    /// Over the whole file before the footer; equal files have equal ones.
    pub hash: u64,
}

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Items,
    Sessions,
    Footer,
}

/// Why bytes are not a snapshot, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Bytes before the header or block that is wrong.
    pub offset: u64,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with a snapshot's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It does not begin like a snapshot.
    NotASnapshot,
    /// It was written in a version of the format that is not known.
    Version(u32),
    /// Header or block do not match their checksum.
    Checksum,
    /// This length or count is impossible.
    Length(&'static str),
    /// This field has an impossible value.
    Field(&'static str),
    /// A block of this kind cannot come here, or there is none of this name.
    Kind,
    /// A key is not above the one before it.
    OutOfOrder,
    /// The footer tells other numbers, or another hash, than what was read.
    Footer,
    /// The file ends before its footer does.
    Truncated,
    /// There are bytes behind the footer.
    Trailing,
}

impl Header {
    /// The cluster whose state this is.
    pub fn cluster(&self) -> ClusterId {
        self.format.cluster
    }
}

impl Kind {
    fn magic(self) -> &'static [u8; 4] {
        match self {
            Kind::Items => b"rkvI",
            Kind::Sessions => b"rkvN",
            Kind::Footer => b"rkvF",
        }
    }

    fn of(magic: &[u8]) -> Option<Kind> {
        [Kind::Items, Kind::Sessions, Kind::Footer].into_iter().find(|kind| kind.magic() == magic)
    }
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            Reason::NotASnapshot => write!(f, "it does not begin like a snapshot"),
            Reason::Version(version) => {
                write!(f, "it is written in version {version} of the format, {VERSION} is known")
            }
            Reason::Checksum => write!(f, "what is at offset {} does not match its checksum", self.offset),
            Reason::Length(what) => write!(f, "at offset {}: impossible {what}", self.offset),
            Reason::Field(what) => write!(f, "at offset {}: impossible {what}", self.offset),
            Reason::Kind => write!(f, "at offset {}: no block can begin like this here", self.offset),
            Reason::OutOfOrder => write!(f, "at offset {}: a key is not above the one before it", self.offset),
            Reason::Footer => write!(f, "the footer at offset {} is not that of what comes before it", self.offset),
            Reason::Truncated => {
                write!(f, "it ends before its footer: something is missing from offset {}", self.offset)
            }
            Reason::Trailing => write!(f, "there are bytes behind its end at offset {}", self.offset),
        }
    }
}

impl std::error::Error for Damaged {}

/// Seeds the checksum of block `number`.
fn block_checksum(header: u32, number: u64, head: &[u8], body: &[u8]) -> u32 {
    let seeded = crc32c::crc32c_append(crc32c::crc32c(&header.to_le_bytes()), &number.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(seeded, head), body)
}

fn header_checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..16]), &bytes[20..])
}

/// The hash of a file that goes on with `bytes`.
fn fold(hash: u64, bytes: &[u8]) -> u64 {
    twox_hash::XxHash3_64::oneshot_with_seed(hash, bytes)
}
