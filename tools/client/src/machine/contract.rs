//! The whole contract of the machine: what goes in, what comes out, and how an operation ends.

use protocol::reply::{Effect, Reason, SessionTerms, Status};
use protocol::{RequestId, SessionId};

use super::numbering::Number;
use crate::error::Cause;

/// An instant on the caller's monotonic clock, in nanoseconds since any fixed point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

/// A length of time in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub u64);

/// A node's client address, as an index into [`Machine::address`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub u32);

/// One connection to an endpoint; a new life for each attempt to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    /// Whereto.
    pub endpoint: EndpointId,
    /// Counts the attempts to connect there.
    pub life: u32,
}

/// The caller's own number for an operation; handed back with its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// What may be done about an attempt whose outcome is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Changes nothing: asked again anywhere.
    Read,
    /// In a session: sent again under its number until its end is known. Without one: never sent again once an attempt
    /// may have been executed, and ends as "outcome unknown".
    Write,
    /// May be executed twice, and has no number: sent again.
    Repeatable,
}

/// Tunables, fixed for a machine's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where to start, in this order; more are learned from redirects.
    pub endpoints: Vec<String>,
    /// Follow 302 to the leader; otherwise a redirect ends the operation.
    pub follow_redirects: bool,
    /// Number writes in a session; without, they go as they are. Needs `follow_redirects`.
    pub sessions: bool,
    /// How long to wait for a connection and its HELLO.
    pub connect_timeout: Span,
    /// How long one attempt of a read may take before another node is asked.
    pub read_attempt_timeout: Span,
    /// End early, as not applied, when every known endpoint has been unreachable for so long.
    pub unreachable_patience: Option<Span>,
    /// Spreads back-off between clients.
    pub seed: u64,
}

/// What happened outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// Time has passed (see [`Machine::next_deadline`]).
    Tick,
    /// A new operation.
    Submit {
        /// Comes back with the end.
        token: Token,
        /// What may be repeated.
        kind: Kind,
        /// When the caller stops waiting.
        deadline: Time,
        /// Ask only this endpoint, and end if it cannot be reached.
        only: Option<EndpointId>,
    },
    /// A connection is open and its HELLO was accepted.
    Connected(ConnectionId),
    /// A connection ended, or never opened. Requests above `sent` never left this process whole.
    Closed {
        /// Which.
        connection: ConnectionId,
        /// The last request whose whole frame was handed to the kernel; 0 = none.
        sent: RequestId,
        /// Not a raftkv node, or no common version: asking again is pointless for now.
        incompatible: bool,
    },
    /// A reply.
    Reply {
        /// Where it came from.
        connection: ConnectionId,
        /// To which request.
        request: RequestId,
        /// What became of it.
        status: Status,
        /// Why.
        reason: Reason,
        /// Whether it changed anything.
        effect: Effect,
        /// The leader, if named.
        leader: Option<&'a str>,
        /// The session that was opened.
        session: Option<SessionTerms>,
    },
}

/// What is to be done outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Connect and exchange HELLO; answer with `Connected` or `Closed`.
    Connect(ConnectionId),
    /// Drop the connection; no `Closed` is wanted for it.
    Disconnect(ConnectionId),
    /// Send the operation of this token.
    Send {
        /// Where.
        connection: ConnectionId,
        /// Under this id: unique, and rising on every connection.
        request: RequestId,
        /// Which operation.
        token: Token,
        /// Under this number of a session; none = without a session.
        number: Option<Number>,
        /// Deadline for the server, in milliseconds; never 0.
        deadline_ms: u32,
    },
    /// Send a request of the machine's own.
    SendOwn {
        /// Where.
        connection: ConnectionId,
        /// Under this id.
        request: RequestId,
        /// What.
        own: Own,
        /// Deadline for the server, in milliseconds; never 0.
        deadline_ms: u32,
    },
    /// The operation has ended; nothing more will be said of it.
    Done {
        /// Which.
        token: Token,
        /// How.
        end: End,
    },
}

/// What the machine asks on its own behalf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// A session.
    OpenSession,
    /// That the session does not expire.
    KeepAlive(SessionId),
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The reply in the `Input::Reply` of this very step is the answer, success or not.
    Answered {
        /// Who answered.
        endpoint: EndpointId,
        /// How many attempts were sent.
        attempts: u32,
    },
    /// No answer settles it.
    Failed(Failure),
}

/// An operation that no answer settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// `NotExecuted` (certainly) or `Unknown`.
    pub status: Status,
    /// The last reason that a node gave.
    pub reason: Reason,
    /// Effect::None or Effect::Unknown, as `status`.
    pub effect: Effect,
    /// What ended it.
    pub cause: Cause,
    /// The endpoint that was involved last.
    pub endpoint: Option<EndpointId>,
    /// The leader, where known.
    pub leader: Option<EndpointId>,
    /// How many attempts were sent.
    pub attempts: u32,
    /// Under which number, if any: what to ask about.
    pub number: Option<Number>,
}

impl Time {
    pub(super) fn plus(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}
