//! Sockets for the machine: many requests in flight on each connection, one write for many requests.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the driver has the clock that the machine has not"
)]

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use mio::{Events, Poll};
use protocol::command::Command;
use protocol::frame;
use protocol::reply::{Reason, Reply, ReplyBody};
use protocol::request::{ReadMode, Request, RequestHeader};
use protocol::{RequestId, SessionId};

use crate::error::{Cause, Error, More};
use crate::link::{Arrived, Link};
use crate::machine::{
    self, Action, ConnectionId, End, EndpointId, Failure, Input, Kind, Machine, Number, Own, Span, Time, Token,
};

/// Tunables of a client.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `host:port` of nodes, tried in this order; more are learned from redirects.
    pub endpoints: Vec<String>,
    /// Deadline of each operation.
    pub timeout: Duration,
    /// Follow 302 to the leader; otherwise it is an error that names the leader.
    pub follow_redirects: bool,
    /// Number writes in a session, so that each is executed once; without, a write whose reply is lost ends as
    /// "outcome unknown". Without `follow_redirects` there is no session either.
    pub sessions: bool,
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
            sessions: true,
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
    /// A write that may be executed twice and needs no session: unknown outcomes are repeated until the deadline.
    pub repeatable: bool,
    /// Ask only this endpoint.
    pub only: Option<EndpointId>,
    /// Instead of the settings' timeout.
    pub timeout: Option<Duration>,
    /// The reply should carry a receipt ([`protocol::receipt`]).
    pub explain: bool,
}

impl<'a> Submission<'a> {
    /// An operation with the defaults.
    pub fn new(token: Token, request: Request<'a>) -> Self {
        Self {
            token,
            request,
            read_mode: ReadMode::Linearizable,
            repeatable: false,
            only: None,
            timeout: None,
            explain: false,
        }
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
    machine: Machine,
    poll: Poll,
    events: Events,
    started: Instant,
    /// By endpoint.
    links: BTreeMap<EndpointId, Link>,
    operations: BTreeMap<Token, Operation>,
    /// Buffers of ended operations, to be used again.
    spare: Vec<Vec<u8>>,
    /// Operations that ended without an answer of a node, not handed out yet.
    failed: Vec<(Token, Failure)>,
    /// Operations that were not begun, because no node would take them; not handed out yet.
    unsent: Vec<(Token, Error)>,
    /// Who gave the last refusal, and why: also of what this client asks on its own behalf.
    last_refusal: Option<(EndpointId, Reason)>,
    last_answered: EndpointId,
}

/// A submitted operation, encoded; it may have to be sent more than once.
#[derive(Debug)]
struct Operation {
    frame: Vec<u8>,
    read_mode: ReadMode,
    explain: bool,
}

/// Largest frame that a server sends: a page or a value; a page carries one item at least. Longer requests are not sent:
/// whatever a server's settings are, it takes no more than a value with its key.
const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long one attempt of a read waits for a node that has taken the request and says nothing.
const READ_ATTEMPT: Span = Span(1_000_000_000);
/// How long before its deadline a read is to be answered, whatever the answer is; an eighth of what is left, if that is less.
const READ_ANSWER_MS: u32 = 50;
const SPARE_MAX: usize = 1024;
const EVENTS: usize = 64;

impl Pipeline {
    /// A pipeline without connections; they open when the first operation wants one.
    ///
    /// Panics without an endpoint.
    pub fn new(settings: Settings) -> io::Result<Self> {
        let machine = Machine::new(machine::Settings {
            endpoints: settings.endpoints.clone(),
            follow_redirects: settings.follow_redirects,
            sessions: settings.sessions,
            connect_timeout: span(settings.connect_timeout),
            read_attempt_timeout: READ_ATTEMPT,
            unreachable_patience: settings.unreachable_patience.map(span),
            seed: settings.seed,
        });
        Ok(Self {
            settings,
            machine,
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS),
            started: Instant::now(),
            links: BTreeMap::new(),
            operations: BTreeMap::new(),
            spare: Vec::new(),
            failed: Vec::new(),
            unsent: Vec::new(),
            last_refusal: None,
            last_answered: EndpointId(0),
        })
    }

    /// Accepts an operation. It is only encoded; [`Self::poll`] sends everything accepted in one write. One that is longer
    /// than any node takes is not sent; `poll` hands out its end like any other.
    ///
    /// Panics if an operation with this token is under way.
    pub fn submit(&mut self, submission: Submission<'_>) {
        let Submission { token, request, read_mode, repeatable, only, timeout, explain } = submission;
        let bytes = request.encoded_len();
        if bytes > FRAME_BYTES_MAX {
            self.unsent.push((token, Error::too_long(bytes, FRAME_BYTES_MAX)));
            return;
        }
        let mut frame = self.spare.pop().unwrap_or_default();
        frame.clear();
        request.encode(&RequestHeader { read_mode, ..RequestHeader::default() }, &mut frame);
        assert!(self.operations.insert(token, Operation { frame, read_mode, explain }).is_none(), "tokens are unique");
        let kind = match request {
            Request::Write(Command::QueryOutcome { .. }) => Kind::Repeatable,
            Request::Write(_) if repeatable => Kind::Repeatable,
            Request::Write(_) => Kind::Write,
            Request::TakeSnapshot | Request::LogLevel(_) => Kind::Repeatable,
            Request::Get { .. } | Request::Scan(_) | Request::CloseView(_) | Request::Status => Kind::Read,
        };
        let now = self.now();
        let deadline = Time(now.0.saturating_add(span(timeout.unwrap_or(self.settings.timeout)).0));
        self.machine.step(now, Input::Submit { token, kind, deadline, only });
        self.act();
    }

    /// Sends what is due, waits for at least one completion (at most `wait`; `Duration::ZERO` = do not wait), hands
    /// out all that are there, and returns their number. `done` may be called in any order of tokens.
    ///
    /// Fails only if the system cannot wait for sockets.
    pub fn poll(&mut self, wait: Duration, done: &mut dyn FnMut(Completion<'_>)) -> io::Result<usize> {
        let until = Instant::now() + wait;
        let mut count = 0;
        loop {
            self.flush();
            count += self.hand_out_failed(done);
            let left = until.saturating_duration_since(Instant::now());
            let patience = if count > 0 { Duration::ZERO } else { left.min(self.machine_patience()) };
            match self.poll.poll(&mut self.events, Some(patience)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => result?,
            }
            count += self.take_events(done);
            let now = self.now();
            if self.machine.next_deadline().is_some_and(|due| due <= now) {
                self.machine.step(now, Input::Tick);
                self.act();
            }
            self.flush();
            count += self.hand_out_failed(done);
            if count > 0 || Instant::now() >= until || self.operations.is_empty() {
                return Ok(count);
            }
        }
    }

    /// Operations submitted and not completed.
    pub fn pending(&self) -> usize {
        self.operations.len() + self.unsent.len()
    }

    /// The endpoint of an address, for [`Submission::only`]. None: the table of endpoints is full.
    pub fn endpoint(&mut self, address: &str) -> Option<EndpointId> {
        self.machine.endpoint(address)
    }

    /// Who gave the last answer that was handed out.
    pub fn last_answered(&self) -> EndpointId {
        self.last_answered
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn now(&self) -> Time {
        // From 1 on, so that no deadline is in the past of a clock that has just started.
        Time(1 + span(self.started.elapsed()).0)
    }

    /// How long nothing has to be done if no socket has news. Rounded up to a millisecond: the system waits in those.
    fn machine_patience(&self) -> Duration {
        let now = self.now();
        let left = self.machine.next_deadline().map_or(u64::MAX, |due| due.0.saturating_sub(now.0));
        Duration::from_nanos(left.saturating_add(999_999) / 1_000_000 * 1_000_000)
    }

    /// Carries out what the machine has decided. An `Answered` end is taken by the caller that brought the reply.
    fn act(&mut self) -> Option<(Token, EndpointId, u32)> {
        let mut answered = None;
        while let Some(action) = self.machine.next_action() {
            match action {
                Action::Connect(connection) => self.connect(connection),
                Action::Disconnect(connection) => {
                    if self.links.get(&connection.endpoint).is_some_and(|link| link.id() == connection) {
                        self.links.remove(&connection.endpoint);
                    }
                }
                Action::Send { connection, request, token, number, deadline_ms } => {
                    self.send(connection, request, token, number, deadline_ms);
                }
                Action::SendOwn { connection, request, own, deadline_ms } => {
                    self.send_own(connection, request, own, deadline_ms);
                }
                Action::Done { token, end: End::Answered { endpoint, attempts } } => {
                    answered = Some((token, endpoint, attempts));
                }
                Action::Done { token, end: End::Failed(failure) } => self.failed.push((token, failure)),
            }
        }
        answered
    }

    fn connect(&mut self, connection: ConnectionId) {
        let address = self.machine.address(connection.endpoint).to_owned();
        match Link::open(connection, &address, self.poll.registry()) {
            Ok(link) => {
                self.links.insert(connection.endpoint, link);
            }
            Err(_) => {
                let now = self.now();
                self.machine.step(now, Input::Closed { connection, sent: RequestId(0), incompatible: false });
            }
        }
    }

    fn send_own(&mut self, connection: ConnectionId, request: RequestId, own: Own, deadline_ms: u32) {
        let (command, session) = match own {
            Own::OpenSession => (Command::OpenSession, SessionId(0)),
            Own::KeepAlive(session) => (Command::KeepAlive, session),
        };
        let header = RequestHeader { request, deadline_ms, session, ..RequestHeader::default() };
        let link = self.links.get_mut(&connection.endpoint).expect("what is sent goes to an open connection");
        link.push(request, |out| Request::Write(command).encode(&header, out));
    }

    fn send(
        &mut self,
        connection: ConnectionId,
        request: RequestId,
        token: Token,
        number: Option<Number>,
        deadline_ms: u32,
    ) {
        let operation = self.operations.get(&token).expect("what is sent was submitted");
        let link = self.links.get_mut(&connection.endpoint).expect("what is sent goes to an open connection");
        let (frame, _) = frame::split(&operation.frame, FRAME_BYTES_MAX).expect("encoded here").expect("whole");
        let incoming = Request::decode(&frame).expect("encoded here");
        let Operation { read_mode, explain, .. } = *operation;
        let deadline_ms = match incoming.request {
            // A node without a leader holds a read until its deadline, and then says that; it must not come too late.
            Request::Get { .. } | Request::Scan(_) => (deadline_ms - READ_ANSWER_MS.min(deadline_ms / 8)).max(1),
            _ => deadline_ms,
        };
        let (session, sequence) = number.map(|number| (number.session, number.sequence)).unwrap_or_default();
        let header = RequestHeader { request, session, sequence, deadline_ms, read_mode, explain };
        link.push(request, |out| incoming.request.encode(&header, out));
    }

    /// Writes what is queued, one write per connection.
    fn flush(&mut self) {
        let failed: Vec<ConnectionId> =
            self.links.values_mut().filter_map(|link| link.flush().is_err().then(|| link.id())).collect();
        for connection in failed {
            self.close(connection, false);
        }
    }

    fn close(&mut self, connection: ConnectionId, incompatible: bool) {
        let Some(link) = self.links.remove(&connection.endpoint) else { return };
        let now = self.now();
        self.machine.step(now, Input::Closed { connection, sent: link.sent(), incompatible });
        self.act();
    }

    fn take_events(&mut self, done: &mut dyn FnMut(Completion<'_>)) -> usize {
        let mut ready = Vec::new();
        for event in &self.events {
            let endpoint = EndpointId(u32::try_from(event.token().0).expect("tokens are endpoints"));
            if let (true, Some(link)) = (event.is_read_closed() || event.is_error(), self.links.get_mut(&endpoint)) {
                link.set_closing();
            }
            ready.push(endpoint);
        }
        ready.into_iter().map(|endpoint| self.take_arrived(endpoint, done)).sum()
    }

    /// Reads one connection until it has nothing more.
    fn take_arrived(&mut self, endpoint: EndpointId, done: &mut dyn FnMut(Completion<'_>)) -> usize {
        let mut count = 0;
        // Taken out while its buffer is lent to replies.
        let Some(mut link) = self.links.remove(&endpoint) else { return 0 };
        let (connection, now) = (link.id(), self.now());
        let ended = loop {
            match link.next(FRAME_BYTES_MAX) {
                Ok(Arrived::Nothing) => break None,
                Ok(Arrived::Welcome) => {
                    self.links.insert(endpoint, link);
                    self.machine.step(now, Input::Connected(connection));
                    self.act();
                    link = self.links.remove(&endpoint).expect("just put back");
                }
                Ok(Arrived::Reply(reply)) => count += self.take_reply(connection, reply, done),
                Err(error) => break Some(error),
            }
        };
        self.links.insert(endpoint, link);
        // Redirects and retries that replies gave rise to; their connection may be this one.
        self.act();
        if let Some(error) = ended {
            self.close(connection, error.incompatible);
        }
        count
    }

    fn take_reply(
        &mut self,
        connection: ConnectionId,
        reply: Reply<'_>,
        done: &mut dyn FnMut(Completion<'_>),
    ) -> usize {
        let header = reply.header;
        if header.reason != Reason::None {
            self.last_refusal = Some((connection.endpoint, header.reason));
        }
        let leader = reply.leader.map(|leader| leader.address);
        let now = self.now();
        self.machine.step(
            now,
            Input::Reply {
                connection,
                request: header.request,
                status: header.status,
                reason: header.reason,
                effect: header.effect,
                leader,
                session: match reply.body {
                    ReplyBody::Session(terms) => Some(terms),
                    _ => None,
                },
            },
        );
        let Some((token, endpoint, attempts)) = self.take_answered() else { return 0 };
        self.last_answered = endpoint;
        self.forget(token);
        let good = (header.status as u16) < 300;
        let result = if good { Ok(reply) } else { Err(self.answer_error(&reply, endpoint, attempts)) };
        done(Completion { token, result });
        1
    }

    /// The end that the last reply brought, if it brought one; other actions stay queued, because they may concern the
    /// connection that is being read.
    fn take_answered(&mut self) -> Option<(Token, EndpointId, u32)> {
        self.machine.take_answered()
    }

    fn forget(&mut self, token: Token) {
        let operation = self.operations.remove(&token).expect("an operation ends once");
        if self.spare.len() < SPARE_MAX {
            self.spare.push(operation.frame);
        }
    }

    fn answer_error(&self, reply: &Reply<'_>, endpoint: EndpointId, attempts: u32) -> Error {
        let message = match &reply.body {
            ReplyBody::Message(text) => (*text).to_owned(),
            _ => String::new(),
        };
        Error {
            status: reply.header.status,
            reason: reply.header.reason,
            effect: reply.header.effect,
            cause: Cause::Answered,
            leader: reply.leader.map(|leader| leader.address.to_owned()),
            endpoint: Some(self.machine.address(endpoint).to_owned()),
            message,
            attempts,
            more: match reply.body {
                ReplyBody::Refused(refused) => More::Refused(refused),
                _ => More::Nothing,
            },
        }
    }

    /// An operation whose last attempt found nobody, although a node has answered before: the node's reason is why it was not
    /// done, and "nobody could be reached" would be false.
    fn with_who_answered(&self, failure: Failure) -> Failure {
        match self.last_refusal {
            Some((endpoint, reason)) if failure.cause == Cause::Unreachable && reason == failure.reason => {
                Failure { cause: Cause::Answered, endpoint: Some(endpoint), ..failure }
            }
            _ => failure,
        }
    }

    fn hand_out_failed(&mut self, done: &mut dyn FnMut(Completion<'_>)) -> usize {
        let (failed, unsent) = (std::mem::take(&mut self.failed), std::mem::take(&mut self.unsent));
        let count = failed.len() + unsent.len();
        for (token, error) in unsent {
            done(Completion { token, result: Err(error) });
        }
        for (token, failure) in failed {
            self.forget(token);
            let failure = self.with_who_answered(failure);
            let address = |endpoint: EndpointId| self.machine.address(endpoint).to_owned();
            let error = Error {
                status: failure.status,
                reason: failure.reason,
                effect: failure.effect,
                cause: failure.cause,
                leader: failure.leader.map(address),
                endpoint: failure.endpoint.map(address),
                message: String::new(),
                attempts: failure.attempts,
                more: failure.number.map_or(More::Nothing, More::Number),
            };
            done(Completion { token, result: Err(error) });
        }
        count
    }
}

/// Gives the session back, if nobody may still want to ask about it. Nothing is waited for: one that is not given back
/// expires.
impl Drop for Pipeline {
    fn drop(&mut self) {
        let Some((connection, request, session)) = self.machine.close_session() else { return };
        if let Some(link) = self.links.get_mut(&connection.endpoint) {
            let header = RequestHeader { request, session, ..RequestHeader::default() };
            link.push(request, |out| Request::Write(Command::CloseSession).encode(&header, out));
            let _ = link.flush();
        }
    }
}

fn span(duration: Duration) -> Span {
    Span(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}
