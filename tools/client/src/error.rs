//! What a caller learns when an operation did not succeed.

use std::fmt;

use protocol::reply::{Effect, Reason, RefusedOperation, Status};

use crate::machine::Number;

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
    /// This client did not send it: no node takes a request that long.
    TooLong,
    /// The node that held the scan's view has gone away, and the others do not know that view.
    ViewLost,
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
    /// What else there is to know.
    pub more: More,
}

/// What else is known of an operation that did not succeed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum More {
    /// Nothing.
    #[default]
    Nothing,
    /// Of a condition that did not hold, or a batch: which operation, and what it found.
    Refused(RefusedOperation),
    /// Its outcome is unknown: this is what to ask about.
    Number(Number),
}

impl Error {
    /// A node's answer does not fit the question.
    pub(crate) fn senseless(what: &str) -> Self {
        let message = what.to_owned();
        Self {
            status: Status::Internal,
            cause: Cause::Answered,
            message,
            ..Self::cannot_wait(&std::io::Error::other(""))
        }
    }

    /// A request of so many bytes is not sent.
    pub(crate) fn too_long(bytes: usize, most: usize) -> Self {
        Self {
            status: Status::TooLarge,
            effect: Effect::None,
            cause: Cause::TooLong,
            message: format!("the request has {bytes} bytes, and no node takes more than {most}"),
            ..Self::cannot_wait(&std::io::Error::other(""))
        }
    }

    /// The next page of a scan did not come. If that is because its node has gone away, the scan cannot go on anywhere.
    pub(crate) fn of_next_page(self) -> Self {
        match self.cause {
            Cause::Unreachable | Cause::ConnectionLost | Cause::Incompatible => Self { cause: Cause::ViewLost, ..self },
            Cause::Answered | Cause::Deadline | Cause::TooLong | Cause::ViewLost => self,
        }
    }

    /// The system cannot wait for sockets; the operation may be under way.
    pub(crate) fn cannot_wait(error: &std::io::Error) -> Self {
        Self {
            status: Status::Unknown,
            reason: Reason::None,
            effect: Effect::Unknown,
            cause: Cause::ConnectionLost,
            leader: None,
            endpoint: None,
            message: format!("this process cannot wait for its sockets: {error}"),
            attempts: 0,
            more: More::Nothing,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.endpoint.as_deref().map(|endpoint| format!(" at {endpoint}")).unwrap_or_default();
        match self.cause {
            Cause::Answered if !self.message.is_empty() => write!(f, "{}{at}: {}", self.status, self.message),
            Cause::Answered => write!(f, "{}{at} ({})", self.status, self.reason),
            Cause::Unreachable => write!(f, "no node could be reached; the last tried{at}"),
            Cause::Deadline if self.reason != Reason::None => {
                write!(f, "the deadline passed; the last answer{at}: {}", self.reason)
            }
            Cause::Deadline => write!(f, "the deadline passed{at}"),
            Cause::ConnectionLost => write!(f, "the connection{at} ended before the reply came"),
            Cause::Incompatible => write!(f, "the node{at} does not speak this client's protocol"),
            Cause::TooLong => write!(f, "{}; it was not sent", self.message),
            Cause::ViewLost => write!(f, "the node{at} has gone away, and with it the view that the scan went through"),
        }
    }
}

impl std::error::Error for Error {}
