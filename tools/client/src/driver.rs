//! Sockets for the machine: many requests in flight on each connection, one write for many requests.

use std::time::Duration;

use protocol::reply::Reply;
use protocol::request::{ReadMode, Request};

use crate::error::Error;
use crate::machine::{EndpointId, Token};

/// Tunables of a client.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `host:port` of nodes, tried in this order; more are learned from redirects.
    pub endpoints: Vec<String>,
    /// Deadline of each operation.
    pub timeout: Duration,
    /// Follow 302 to the leader; otherwise it is an error that names the leader.
    pub follow_redirects: bool,
    /// How long to wait for one connection.
    pub connect_timeout: Duration,
    /// End early, as not applied, when every known endpoint has been unreachable for so long; none = wait for the
    /// deadline.
    pub unreachable_patience: Option<Duration>,
    /// Spreads back-off between clients; any number.
    pub seed: u64,
}

impl Settings {
    /// The defaults: five seconds, redirects followed.
    pub fn new(endpoints: Vec<String>) -> Self {
        Self {
            endpoints,
            timeout: Duration::from_secs(5),
            follow_redirects: true,
            connect_timeout: Duration::from_secs(1),
            unreachable_patience: None,
            seed: 0,
        }
    }
}

/// One operation for [`Pipeline::submit`].
#[derive(Clone, Copy, Debug)]
pub struct Submission<'a> {
    /// Comes back with the completion.
    pub token: Token,
    /// What is asked; copied.
    pub request: Request<'a>,
    /// For reads.
    pub read_mode: ReadMode,
    /// A write that may be executed twice, so that unknown outcomes are repeated until the deadline.
    pub repeatable: bool,
    /// Ask only this endpoint.
    pub only: Option<EndpointId>,
    /// Instead of the settings' timeout.
    pub timeout: Option<Duration>,
}

impl<'a> Submission<'a> {
    /// An operation with the defaults.
    pub fn new(token: Token, request: Request<'a>) -> Self {
        Self { token, request, read_mode: ReadMode::Linearizable, repeatable: false, only: None, timeout: None }
    }
}

/// The end of one operation, borrowed from the connection's buffer.
#[derive(Debug)]
pub struct Completion<'a> {
    /// Of the submission.
    pub token: Token,
    /// The node's answer with a status of 2xx, or what became of it instead.
    pub result: Result<Reply<'a>, Error>,
}

/// Many operations in flight; one thread; nothing happens outside of its calls.
#[derive(Debug)]
pub struct Pipeline {
    settings: Settings,
}

impl Pipeline {
    /// A pipeline without connections; they open when the first operation wants one.
    pub fn new(settings: Settings) -> std::io::Result<Self> {
        Ok(Self { settings })
    }

    /// Accepts an operation. It is only encoded; [`Self::poll`] sends everything accepted in one write.
    pub fn submit(&mut self, _submission: Submission<'_>) {}

    /// Sends what is due, waits for at least one completion (at most `wait`; `Duration::ZERO` = do not wait), hands
    /// out all that are there, and returns their number. `done` may be called in any order of tokens.
    pub fn poll(&mut self, _wait: Duration, _done: &mut dyn FnMut(Completion<'_>)) -> std::io::Result<usize> {
        Ok(0)
    }

    /// Operations submitted and not completed.
    pub fn pending(&self) -> usize {
        0
    }

    /// The endpoint of an address, for [`Submission::only`]. None: the table of endpoints is full.
    pub fn endpoint(&mut self, _address: &str) -> Option<EndpointId> {
        None
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}
