//! What a snapshot is made of, and what it becomes: the state machine at one position of the log.

use std::sync::Arc;

use protocol::format::Format;
use protocol::{Chain, EntryId, LogTime};

use super::{Built, Session};

/// A position of the log, with all that must go on from there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The last entry that is in it.
    pub id: EntryId,
    /// The chain at that entry (C-8).
    pub chain: Chain,
    /// Its log time (C-25).
    pub log_time: LogTime,
}

/// The part of a snapshot that is no key, captured when its view was opened (C-22).
#[derive(Clone, Debug)]
pub struct Contents {
    /// Where in the log; the view's revision is its index.
    pub position: Position,
    /// The members.
    pub format: Format,
    /// The table of sessions.
    pub sessions: Vec<Arc<Session>>,
}

/// What a verified snapshot became.
pub struct Restored {
    /// Where in the log.
    pub position: Position,
    /// The members.
    pub format: Format,
    /// The table of sessions.
    pub sessions: Vec<Session>,
    /// The keys, applied up to the position.
    pub built: Built,
}
