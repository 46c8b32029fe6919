//! raftkv's formats: identifiers, log entries, frames, requests, replies and peer messages.
//!
//! Pure: nothing here has a clock, a thread, a socket or a file. All integers are little endian. `docs/protocol.md`
//! has the byte tables and test vectors from which a client in another language can be written.
#![forbid(unsafe_code)]

mod codec;
pub mod command;
pub mod entry;
pub mod error;
pub mod format;
pub mod frame;
pub mod ids;
pub mod kind;
pub mod message;
pub mod receipt;
pub mod reply;
pub mod request;
pub mod snapshot;
mod text;
mod wire;

pub use entry::{Chain, Entry, EntryHeader, EntryId, EntryKind};
pub use error::{ChainError, DecodeError, FrameError, VersionError};
pub use frame::{split, Frame, Out};
pub use ids::{ClusterId, Incarnation, Index, LogTime, NodeId, RequestId, Round, Sequence, SessionId, Term};
pub use kind::{Group, Kind};

/// Oldest protocol version that this code speaks.
pub const VERSION_MIN: u16 = 1;
/// Newest protocol version that this code speaks.
pub const VERSION_MAX: u16 = 1;
/// Optional features that this code knows; none yet.
pub const FEATURE_LEVEL: u32 = 0;
