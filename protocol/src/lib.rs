//! raftkv's formats: identifiers, log entries, frames, requests, replies and peer messages.
//!
//! Pure: nothing here has a clock, a thread, a socket or a file. All integers are little endian. `docs/protocol.md`
//! has the byte tables and test vectors from which a client in another language can be written.
#![forbid(unsafe_code)]

pub mod command;
pub mod entry;
pub mod format;
pub mod ids;
pub mod message;
pub mod reply;
pub mod request;

pub use entry::{Chain, Entry, EntryHeader, EntryId, EntryKind};
pub use ids::{ClusterId, Incarnation, Index, LogTime, NodeId, RequestId, Round, Sequence, SessionId, Term};
