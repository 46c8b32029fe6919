//! What a caller learns when an operation did not succeed.

use std::fmt;

use protocol::reply::{Effect, Reason, Status};

/// Why an operation ended without success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A node said so; status and reason are its own.
    Answered,
    /// No node could be reached; nothing was sent.
    Unreachable,
    /// The deadline passed.
    Deadline,
    /// The connection ended after the request was sent and before its reply came.
    ConnectionLost,
    /// The node speaks no version that this client speaks, or not raftkv at all.
    Incompatible,
}

/// An operation that did not succeed, and whether it can have taken effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// In the server's numbers, also where no server answered: 503 = certainly not executed, 504 = outcome unknown.
    pub status: Status,
    /// Why, more closely; the last reason that a node gave.
    pub reason: Reason,
    /// Whether the operation can have changed anything.
    pub effect: Effect,
    /// Who says so.
    pub cause: Cause,
    /// Client address of the leader, where a node named it.
    pub leader: Option<String>,
    /// The endpoint that was involved last.
    pub endpoint: Option<String>,
    /// A node's own words, or empty.
    pub message: String,
    /// How many attempts were sent.
    pub attempts: u32,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.status as u16, self.reason)
    }
}

impl std::error::Error for Error {}
