//! What can be wrong with bytes from outside. A [`FrameError`] ends the connection (where the next frame begins is no
//! longer known); a [`DecodeError`] spoils one frame and leaves the connection usable.

use std::fmt;

use crate::ids::{Index, Term};
use crate::reply::Reason;

/// The stream cannot be cut into frames any more: answer if possible, then close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The length field is smaller than a frame header.
    TooShort {
        /// The length field.
        length: u32,
    },
    /// The length field exceeds what this side accepts. Nothing was allocated for it.
    TooLong {
        /// The length field.
        length: u32,
        /// The largest whole frame accepted, in bytes, the length field included.
        max: usize,
    },
    /// The number of checksummed bytes does not fit the frame.
    Covered {
        /// The field as received.
        covered: u32,
        /// The length field.
        length: u32,
    },
    /// The checksum does not match: the bytes were damaged on the way.
    Checksum {
        /// As received.
        received: u32,
        /// As computed.
        computed: u32,
    },
    /// A flag or reserved byte of the frame header is set that this version does not know.
    Reserved,
}

impl FrameError {
    /// What to tell the other side before closing.
    pub fn reason(&self) -> Reason {
        match self {
            Self::TooLong { .. } => Reason::FrameTooLarge,
            Self::TooShort { .. } | Self::Covered { .. } | Self::Checksum { .. } | Self::Reserved => Reason::Malformed,
        }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { length } => {
                write!(f, "frame length {length} is below the minimum of {}", crate::frame::LENGTH_MIN)
            }
            Self::TooLong { length, max } => {
                write!(f, "frame of {} bytes exceeds the limit of {max}", u64::from(*length) + 4)
            }
            Self::Covered { covered, length } => {
                write!(f, "checksum over {covered} bytes does not fit a frame of length {length}")
            }
            Self::Checksum { received, computed } => {
                write!(f, "frame checksum is {received:#010x}, computed {computed:#010x}: damaged on the way")
            }
            Self::Reserved => write!(f, "frame header sets flags that this version does not know"),
        }
    }
}

impl std::error::Error for FrameError {}

/// One frame, command, entry or format cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// A frame kind that this version does not know.
    UnknownKind(u8),
    /// A known kind where another was expected: a peer message on a client's connection, say.
    WrongKind {
        /// What was received.
        received: crate::kind::Kind,
    },
    /// A command kind that this version does not know.
    UnknownCommand(u8),
    /// An entry kind that this version does not know.
    UnknownEntryKind(u8),
    /// The protocol version of a peer message is outside the range this version speaks.
    Version(u16),
    /// HELLO does not begin with the magic: the other side speaks another protocol.
    NotRaftkv,
    /// The bytes end inside this field.
    Truncated(&'static str),
    /// Bytes are left over behind the last field.
    Trailing(usize),
    /// A field that must be zero in this version is not.
    Reserved(&'static str),
    /// A field holds a number without a meaning.
    Value {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: u64,
    },
    /// A text field is not UTF-8.
    Utf8(&'static str),
    /// A count promises more elements than the bytes that follow can hold.
    Count {
        /// What is counted.
        field: &'static str,
        /// The promise.
        count: u64,
    },
    /// The frame's checksum covers a different part than its kind prescribes.
    Covered {
        /// As received.
        covered: u32,
        /// As prescribed.
        expected: u32,
    },
    /// A body does not match the checksum beside it.
    BodyChecksum {
        /// As received.
        received: u32,
        /// As computed.
        computed: u32,
    },
    /// An entry's index does not follow the one before.
    Index {
        /// The index that had to come.
        expected: Index,
        /// The index that came.
        received: Index,
    },
    /// An entry's term is below its predecessor's or above its sender's.
    Term {
        /// The lowest term possible here.
        from: Term,
        /// The highest.
        to: Term,
        /// What came.
        received: Term,
    },
}

impl DecodeError {
    /// What to tell the other side, with [`crate::reply::Status::BadRequest`].
    pub fn reason(&self) -> Reason {
        match self {
            Self::UnknownKind(_) | Self::WrongKind { .. } | Self::UnknownCommand(_) | Self::UnknownEntryKind(_) => {
                Reason::UnknownKind
            }
            Self::Version(_) => Reason::Version,
            Self::Reserved(_) => Reason::Unsupported,
            _ => Reason::Malformed,
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKind(kind) => write!(f, "frame kind {kind:#04x} is not known to this version"),
            Self::WrongKind { received } => write!(f, "a {received} frame does not belong here"),
            Self::UnknownCommand(kind) => write!(f, "command kind {kind} is not known to this version"),
            Self::UnknownEntryKind(kind) => write!(f, "entry kind {kind} is not known to this version"),
            Self::Version(version) => write!(f, "protocol version {version} is not spoken by this version"),
            Self::NotRaftkv => write!(f, "the other side does not speak the raftkv protocol"),
            Self::Truncated(field) => write!(f, "the bytes end inside `{field}`"),
            Self::Trailing(count) => write!(f, "{count} bytes are left over behind the last field"),
            Self::Reserved(field) => write!(f, "`{field}` uses bits that this version does not know"),
            Self::Value { field, value } => write!(f, "{value} is not a valid `{field}`"),
            Self::Utf8(field) => write!(f, "`{field}` is not UTF-8"),
            Self::Count { field, count } => write!(f, "{count} `{field}` cannot fit into the bytes that follow"),
            Self::Covered { covered, expected } => {
                write!(f, "the frame's checksum covers {covered} bytes, {expected} are prescribed for its kind")
            }
            Self::BodyChecksum { received, computed } => {
                write!(f, "body checksum is {received:#010x}, computed {computed:#010x}: damaged on the way")
            }
            Self::Index { expected, received } => write!(f, "entry {received} came where {expected} was due"),
            Self::Term { from, to, received } => {
                write!(f, "an entry of term {received} came where terms {from} to {to} are possible")
            }
        }
    }
}

impl std::error::Error for DecodeError {}

/// No protocol version that both sides speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionError {
    /// Oldest and newest version of this side.
    pub ours: (u16, u16),
    /// Oldest and newest version of the other side.
    pub theirs: (u16, u16),
}

impl fmt::Display for VersionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ours, theirs) = (self.ours, self.theirs);
        write!(
            f,
            "no common protocol version: this side speaks {} to {}, the other side {} to {}",
            ours.0, ours.1, theirs.0, theirs.1
        )
    }
}

impl std::error::Error for VersionError {}

/// An entry does not continue the chain (C-8): it, or what lies before it, is damaged or belongs to another log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainError {
    /// The entry.
    pub id: crate::entry::EntryId,
    /// Its chain as received.
    pub received: crate::entry::Chain,
    /// Its chain as computed from the one before.
    pub computed: crate::entry::Chain,
}

impl fmt::Display for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "entry {} of term {} has chain {:016x}, its predecessor and header give {:016x}",
            self.id.index, self.id.term, self.received.0, self.computed.0
        )
    }
}

impl std::error::Error for ChainError {}
