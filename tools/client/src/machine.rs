//! The client's decisions, pure: `step(now, input)`, then take the actions with [`Machine::next_action`].
//!
//! Writes are numbered in a session that the machine opens on its own, so that one whose end is not known is repeated
//! anywhere and executed once (C-24).

mod contract;
mod numbering;
mod operation;

use std::collections::{BTreeMap, VecDeque};

use protocol::reply::{Effect, Reason, SessionTerms, Status};
use protocol::{RequestId, SessionId};

use crate::error::Cause;
#[cfg(feature = "sabotage")]
use crate::sabotage::forgets;
pub use contract::{Action, ConnectionId, End, EndpointId, Failure, Input, Kind, Own, Settings, Span, Time, Token};
pub use numbering::Number;
use numbering::Numbering;
use operation::{doubled, Operation, What};

/// The client machine: all operations, endpoints and connections of one client.
///
/// Every operation is in exactly one place: `unnumbered` (a write that waits for a session, or for room in its window),
/// `waiting` (to be sent, now or at a time), or `sent` (under its request id).
#[derive(Debug)]
pub struct Machine {
    settings: Settings,
    endpoints: Vec<Endpoint>,
    /// Where operations without an endpoint of their own go: the leader, as far as is known.
    preferred: EndpointId,
    waiting: VecDeque<Operation>,
    unnumbered: VecDeque<Operation>,
    numbering: Numbering,
    /// A numbered write has ended as "outcome unknown": its session must last, so that it can be asked about.
    is_owed: bool,
    sent: BTreeMap<RequestId, Operation>,
    last_request: RequestId,
    /// No operation's deadline, retry or attempt ends before this; looked at again when it passes.
    alarm: Time,
    /// Since when no endpoint has been reachable.
    unreachable_since: Option<Time>,
    random: u64,
    actions: VecDeque<Action>,
}

#[derive(Debug)]
struct Endpoint {
    address: String,
    link: Link,
    life: u32,
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// Nobody has asked for it.
    Idle,
    /// Under way since then.
    Connecting(Time),
    Open,
    /// Failed; not tried before then.
    Down(Time),
}

/// What a reply says, as far as it is decided upon.
struct Answer<'a> {
    status: Status,
    reason: Reason,
    leader: Option<&'a str>,
    session: Option<SessionTerms>,
}

/// Most endpoints that are remembered; redirects to more are answered as they are.
const ENDPOINTS_MAX: usize = 64;
/// Pause before an operation that was refused for certain is sent again: doubles up to the maximum.
const RETRY_MIN: Span = Span(2_000_000);
const RETRY_MAX: Span = Span(100_000_000);
/// What an attempt needs at least before its deadline to be worth it: one that is cut off says less than the answer before.
const ANSWER_ROOM: Span = Span(50_000_000);
/// Pause before an endpoint that could not be reached is tried again: doubles up to the maximum.
const REDIAL_MIN: Span = Span(5_000_000);
const REDIAL_MAX: Span = Span(500_000_000);
/// Redirects that are followed at once; more mean that nodes disagree about the leader.
const QUICK_REDIRECTS: u32 = 3;

impl Machine {
    /// A machine that knows the endpoints of its settings and has no connection yet.
    ///
    /// Panics without an endpoint.
    pub fn new(settings: Settings) -> Self {
        assert!(!settings.endpoints.is_empty(), "a client needs an endpoint to start from");
        let new = |address: &String| Endpoint { address: address.clone(), link: Link::Idle, life: 0, failures: 0 };
        Self {
            endpoints: settings.endpoints.iter().map(new).collect(),
            preferred: EndpointId(0),
            waiting: VecDeque::new(),
            unnumbered: VecDeque::new(),
            numbering: if settings.sessions && settings.follow_redirects { Numbering::Closed } else { Numbering::Off },
            is_owed: false,
            sent: BTreeMap::new(),
            last_request: RequestId(0),
            alarm: Time(u64::MAX),
            unreachable_since: None,
            random: settings.seed | 1,
            actions: VecDeque::new(),
            settings,
        }
    }

    /// Takes one input; then take all actions with [`Self::next_action`].
    pub fn step(&mut self, now: Time, input: Input<'_>) {
        match input {
            Input::Tick => {}
            Input::Submit { token, kind, deadline, only } => self.submit(now, token, kind, deadline, only),
            Input::Connected(connection) => self.connected(connection),
            Input::Closed { connection, sent, incompatible } => self.closed(now, connection, sent, incompatible),
            Input::Reply { connection, request, status, reason, effect: _, leader, session } => {
                let answer = Answer { status, reason, leader, session };
                self.replied(now, connection, request, &answer);
            }
        }
        if now >= self.alarm {
            self.expire(now);
        }
        self.keep_session(now);
        self.number_writes(now);
        self.dispatch(now);
    }

    /// The next thing to do; none = the last input has been dealt with.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Takes the `Answered` end out of the actions, if the last input brought one, ahead of the others: a driver wants
    /// it while it still holds the reply.
    pub fn take_answered(&mut self) -> Option<(Token, EndpointId, u32)> {
        let is_end = |action: &Action| matches!(action, Action::Done { end: End::Answered { .. }, .. });
        let position = self.actions.iter().position(is_end)?;
        match self.actions.remove(position) {
            Some(Action::Done { token, end: End::Answered { endpoint, attempts } }) => {
                Some((token, endpoint, attempts))
            }
            _ => None,
        }
    }

    /// When `Input::Tick` is wanted at the latest.
    pub fn next_deadline(&self) -> Option<Time> {
        let alarm = (self.alarm < Time(u64::MAX)).then_some(self.alarm);
        [alarm, self.numbering.next_use()].into_iter().flatten().min()
    }

    /// The `host:port` of an endpoint.
    pub fn address(&self, endpoint: EndpointId) -> &str {
        &self.endpoints[endpoint.0 as usize].address
    }

    /// The endpoint of an address, added if it is new. None: too many are known already.
    pub fn endpoint(&mut self, address: &str) -> Option<EndpointId> {
        let known = self.endpoints.iter().position(|endpoint| endpoint.address == address);
        if known.is_none() && self.endpoints.len() < ENDPOINTS_MAX {
            let endpoint = Endpoint { address: address.to_owned(), link: Link::Idle, life: 0, failures: 0 };
            self.endpoints.push(endpoint);
            return u32::try_from(self.endpoints.len() - 1).ok().map(EndpointId);
        }
        known.and_then(|position| u32::try_from(position).ok()).map(EndpointId)
    }

    /// Operations that have not ended.
    pub fn pending(&self) -> usize {
        self.waiting.len() + self.sent.len() + self.unnumbered.len()
    }

    /// Gives up the session, if nothing may still want it: where to say so, under which request id, and its own id. It
    /// is enough to say it once, and well if it gets lost: a session that nobody uses expires.
    pub fn close_session(&mut self) -> Option<(ConnectionId, RequestId, SessionId)> {
        let id = self.numbering.id().filter(|_| self.numbering.is_at_rest() && !self.is_owed)?;
        let endpoint = self.preferred;
        if self.link(endpoint).link != Link::Open {
            return None;
        }
        self.numbering.lose(id);
        self.last_request.0 += 1;
        let connection = ConnectionId { endpoint, life: self.link(endpoint).life };
        Some((connection, self.last_request, id))
    }

    fn submit(&mut self, now: Time, token: Token, kind: Kind, deadline: Time, only: Option<EndpointId>) {
        if self.pending() == 0 {
            // What was unreachable while nobody asked says nothing about now.
            self.unreachable_since = None;
        }
        self.alarm = self.alarm.min(deadline);
        let operation = Operation::new(now, What::Caller(token), kind, deadline, only);
        if kind == Kind::Write && !matches!(self.numbering, Numbering::Off) {
            self.unnumbered.push_back(operation);
        } else {
            self.waiting.push_back(operation);
        }
    }

    /// Gives numbers to the writes that wait for one, as many as the window has room for; asks for a session first.
    fn number_writes(&mut self, now: Time) {
        let Some(last) = self.unnumbered.back() else { return };
        if matches!(self.numbering, Numbering::Closed) {
            let deadline = last.deadline;
            self.numbering = Numbering::Opening;
            self.waiting.push_back(Operation::new(now, What::Own(Own::OpenSession), Kind::Repeatable, deadline, None));
        }
        while !self.unnumbered.is_empty() {
            let Some(number) = self.numbering.assign(now) else { return };
            let operation = self.unnumbered.pop_front().expect("it is not empty");
            self.waiting.push_back(Operation { number: Some(number), ..operation });
        }
    }

    fn keep_session(&mut self, now: Time) {
        if let Some(session) = self.numbering.keep(now) {
            let deadline = self.numbering.next_use().unwrap_or(now);
            self.alarm = self.alarm.min(deadline);
            let what = What::Own(Own::KeepAlive(session));
            self.waiting.push_back(Operation::new(now, what, Kind::Repeatable, deadline, None));
        }
    }

    fn link(&mut self, endpoint: EndpointId) -> &mut Endpoint {
        &mut self.endpoints[endpoint.0 as usize]
    }

    fn is_current(&self, connection: ConnectionId) -> bool {
        self.endpoints.get(connection.endpoint.0 as usize).is_some_and(|endpoint| endpoint.life == connection.life)
    }

    fn connected(&mut self, connection: ConnectionId) {
        if self.is_current(connection) {
            let endpoint = self.link(connection.endpoint);
            (endpoint.link, endpoint.failures) = (Link::Open, 0);
            self.unreachable_since = None;
        }
    }

    fn closed(&mut self, now: Time, connection: ConnectionId, sent: RequestId, incompatible: bool) {
        if !self.is_current(connection) {
            return;
        }
        let cause = if incompatible { Cause::Incompatible } else { Cause::Unreachable };
        self.mark_down(now, connection.endpoint);
        let on_it = |operation: &Operation| operation.attempt.is_some_and(|(on, _)| on == connection);
        let ended: Vec<RequestId> =
            self.sent.iter().filter(|(_, operation)| on_it(operation)).map(|(request, _)| *request).collect();
        for request in ended {
            let mut operation = self.sent.remove(&request).expect("just listed");
            operation.attempt = None;
            if request > sent {
                // Its frame never left whole: certainly not executed.
                operation.attempts -= 1;
                operation.cause = cause;
                self.again(operation, now);
            } else {
                operation.cause = Cause::ConnectionLost;
                self.unsettled(operation, now);
            }
        }
        let (waiting, unnumbered) = (std::mem::take(&mut self.waiting), std::mem::take(&mut self.unnumbered));
        self.waiting = self.without_lonely(waiting, connection.endpoint, cause);
        self.unnumbered = self.without_lonely(unnumbered, connection.endpoint, cause);
    }

    /// Who asks for this endpoint alone has nowhere else to go; the others note what they met.
    fn without_lonely(
        &mut self,
        operations: VecDeque<Operation>,
        endpoint: EndpointId,
        cause: Cause,
    ) -> VecDeque<Operation> {
        let mut stay = VecDeque::with_capacity(operations.len());
        for mut operation in operations {
            if operation.only == Some(endpoint) {
                (operation.cause, operation.endpoint) = (cause, Some(endpoint));
                self.fail(operation);
            } else {
                if operation.attempts == 0 {
                    (operation.cause, operation.endpoint) = (cause, Some(endpoint));
                }
                stay.push_back(operation);
            }
        }
        stay
    }

    fn mark_down(&mut self, now: Time, at: EndpointId) {
        let endpoint = self.link(at);
        let pause = doubled(REDIAL_MIN, endpoint.failures, REDIAL_MAX);
        endpoint.failures = endpoint.failures.saturating_add(1);
        let until = now.plus(Span(pause));
        self.link(at).link = Link::Down(until);
        self.alarm = self.alarm.min(until);
        if !self.endpoints.iter().any(|endpoint| endpoint.link == Link::Open) {
            self.unreachable_since.get_or_insert(now);
        }
        if self.preferred == at {
            self.prefer_another(now);
        }
    }

    /// Goes on with the next endpoint that is not known to be down, or else the one whose time to try comes first.
    fn prefer_another(&mut self, now: Time) {
        let count = self.endpoints.len();
        let ready = |endpoint: &Endpoint| !matches!(endpoint.link, Link::Down(until) if until > now);
        let after = (1..=count).map(|step| (self.preferred.0 as usize + step) % count);
        let next = after.clone().find(|position| ready(&self.endpoints[*position])).or_else(|| {
            after.min_by_key(|position| match self.endpoints[*position].link {
                Link::Down(until) => until,
                Link::Idle | Link::Connecting(_) | Link::Open => Time(0),
            })
        });
        let position = next.expect("there is an endpoint");
        self.preferred = EndpointId(u32::try_from(position).expect("few endpoints"));
    }

    fn replied(&mut self, now: Time, connection: ConnectionId, request: RequestId, answer: &Answer<'_>) {
        let mine =
            self.sent.get(&request).is_some_and(|operation| operation.attempt.is_some_and(|(on, _)| on == connection));
        if !mine {
            // Late or invented: its operation has ended or is under way elsewhere.
            return;
        }
        let mut operation = self.sent.remove(&request).expect("just looked up");
        operation.attempt = None;
        let Answer { status, reason, leader, .. } = *answer;
        (operation.reason, operation.cause) = (reason, Cause::Answered);
        if operation.what == What::Own(Own::OpenSession) {
            self.note_trouble(reason, connection.endpoint);
        }
        let may_go_on = operation.only.is_none() && self.settings.follow_redirects;
        match status {
            // Certain, whatever became of earlier attempts.
            Status::NotExecuted if reason == Reason::Never => {
                self.answered(now, operation, connection.endpoint, answer)
            }
            Status::NotExecuted if operation.number.is_some() && is_session_lost(reason) => {
                self.session_lost(operation);
            }
            Status::Redirect if may_go_on => self.redirected(operation, now, connection.endpoint, leader),
            Status::NotExecuted if may_go_on && is_passing(reason) => {
                self.redirected(operation, now, connection.endpoint, leader);
            }
            Status::Unknown if operation.may_repeat() => {
                operation.uncertain |= operation.kind != Kind::Read;
                self.refused(operation, now);
            }
            // This attempt was not executed; an earlier one may have been (C-24).
            // Nor does it help to know that this node does not take it (its limits, its version), or could not.
            Status::Redirect | Status::NotExecuted | Status::BadRequest | Status::TooLarge | Status::Internal
                if operation.uncertain =>
            {
                self.fail(operation);
            }
            _ => self.answered(now, operation, connection.endpoint, answer),
        }
    }

    /// This attempt was not applied, because its session is gone. If no earlier one may have been, the write begins anew
    /// in another session; otherwise nobody can say (C-24).
    fn session_lost(&mut self, operation: Operation) {
        if let Some(number) = operation.number {
            self.numbering.lose(number.session);
        }
        if operation.uncertain && !forgets() {
            self.fail(operation);
        } else {
            self.unnumbered.push_front(Operation { number: None, ..operation });
        }
    }

    /// There is no session yet: those that wait for it wait for this reason.
    fn note_trouble(&mut self, reason: Reason, endpoint: EndpointId) {
        for operation in self.unnumbered.iter_mut().filter(|operation| operation.attempts == 0) {
            (operation.reason, operation.cause, operation.endpoint) = (reason, Cause::Answered, Some(endpoint));
        }
    }

    /// Certainly not executed there: goes to the leader that was named, or elsewhere after a pause.
    fn redirected(&mut self, operation: Operation, now: Time, from: EndpointId, leader: Option<&str>) {
        let named = leader.and_then(|address| self.endpoint(address)).filter(|named| *named != from);
        match named {
            Some(named) if operation.refusals < QUICK_REDIRECTS => {
                self.preferred = named;
                self.again(Operation { refusals: operation.refusals + 1, ..operation }, now);
            }
            Some(named) => {
                self.preferred = named;
                self.refused(operation, now);
            }
            None => {
                if self.preferred == from {
                    self.prefer_another(now);
                }
                self.refused(operation, now);
            }
        }
    }

    /// Sends it again after a pause that doubles, spread by a third; if no answer could come before its deadline then, the
    /// last answer is the one that counts.
    fn refused(&mut self, operation: Operation, now: Time) {
        let pause = doubled(RETRY_MIN, operation.refusals, RETRY_MAX);
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let spread = self.random % (pause / 3 + 1);
        let at = now.plus(Span(pause - spread));
        let at = if at.plus(ANSWER_ROOM) > operation.deadline { operation.deadline } else { at };
        self.again(Operation { refusals: operation.refusals.saturating_add(1), ..operation }, at);
    }

    fn again(&mut self, mut operation: Operation, at: Time) {
        operation.uncertain &= !forgets();
        operation.not_before = at;
        self.alarm = self.alarm.min(at).min(operation.deadline);
        self.waiting.push_back(operation);
    }

    /// An attempt that may have been executed has no answer.
    fn unsettled(&mut self, mut operation: Operation, now: Time) {
        operation.uncertain |= operation.kind != Kind::Read;
        if operation.may_repeat() {
            self.again(operation, now);
        } else {
            self.fail(operation);
        }
    }

    fn answered(&mut self, now: Time, operation: Operation, endpoint: EndpointId, answer: &Answer<'_>) {
        if let Some(number) = operation.number {
            self.numbering.ended(number);
        }
        match operation.what {
            What::Caller(token) => {
                let end = End::Answered { endpoint, attempts: operation.attempts };
                self.actions.push_back(Action::Done { token, end });
            }
            What::Own(Own::OpenSession) => self.session_answered(now, answer),
            What::Own(Own::KeepAlive(session)) if is_session_lost(answer.reason) => self.numbering.lose(session),
            What::Own(Own::KeepAlive(_)) => {}
        }
    }

    fn session_answered(&mut self, now: Time, answer: &Answer<'_>) {
        match &answer.session {
            Some(terms) => self.numbering.open(now, terms),
            // A node that knows no sessions: writes go without, under the rules for that.
            None if answer.status == Status::BadRequest => {
                self.numbering = Numbering::Off;
                self.waiting.append(&mut self.unnumbered);
            }
            None => {
                self.numbering = Numbering::Closed;
                std::mem::take(&mut self.unnumbered).into_iter().for_each(|operation| self.fail(operation));
            }
        }
    }

    fn fail(&mut self, operation: Operation) {
        if let Some(number) = operation.number {
            self.numbering.ended(number);
            self.is_owed |= operation.uncertain;
        }
        let token = match operation.what {
            What::Caller(token) => token,
            What::Own(Own::OpenSession) => {
                self.numbering = Numbering::Closed;
                return;
            }
            What::Own(Own::KeepAlive(_)) => return,
        };
        let (status, effect) = match operation.uncertain {
            true => (Status::Unknown, Effect::Unknown),
            false => (Status::NotExecuted, Effect::None),
        };
        let known = operation.endpoint.is_some_and(|endpoint| endpoint != self.preferred);
        let failure = Failure {
            status,
            reason: operation.reason,
            effect,
            cause: operation.cause,
            endpoint: operation.endpoint,
            leader: (known && operation.reason == Reason::NotLeader).then_some(self.preferred),
            attempts: operation.attempts,
            number: operation.number,
        };
        self.actions.push_back(Action::Done { token, end: End::Failed(failure) });
    }

    /// Ends what has passed its deadline, moves reads away from nodes that do not answer, gives up connecting where
    /// that takes too long, and finds out when the next of these is due.
    fn expire(&mut self, now: Time) {
        self.alarm = Time(u64::MAX);
        for position in 0..self.endpoints.len() {
            let endpoint = &self.endpoints[position];
            match endpoint.link {
                Link::Connecting(since) if now >= since.plus(self.settings.connect_timeout) => {
                    let id = EndpointId(u32::try_from(position).expect("few endpoints"));
                    let connection = ConnectionId { endpoint: id, life: endpoint.life };
                    self.actions.push_back(Action::Disconnect(connection));
                    self.closed(now, connection, RequestId(0), false);
                }
                Link::Connecting(since) => self.alarm = self.alarm.min(since.plus(self.settings.connect_timeout)),
                Link::Down(until) if until > now => self.alarm = self.alarm.min(until),
                Link::Idle | Link::Open | Link::Down(_) => {}
            }
        }
        self.expire_sent(now);
        self.expire_waiting(now);
    }

    fn expire_sent(&mut self, now: Time) {
        let patience = self.settings.read_attempt_timeout;
        let due = |operation: &Operation| {
            let since = operation.attempt.map_or(now, |(_, since)| since);
            operation.deadline.min(operation.attempt_end(since, patience))
        };
        let late: Vec<RequestId> =
            self.sent.iter().filter(|(_, operation)| due(operation) <= now).map(|(request, _)| *request).collect();
        for request in late {
            let mut operation = self.sent.remove(&request).expect("just listed");
            let at = operation.attempt.take().map(|(connection, _)| connection.endpoint);
            operation.cause = Cause::Deadline;
            operation.uncertain |= operation.kind != Kind::Read;
            if operation.deadline <= now {
                self.fail(operation);
            } else {
                if at == Some(self.preferred) {
                    self.prefer_another(now);
                }
                self.again(operation, now);
            }
        }
        self.alarm = self.sent.values().map(due).min().map_or(self.alarm, |next| self.alarm.min(next));
    }

    fn expire_waiting(&mut self, now: Time) {
        let patience = self.settings.unreachable_patience;
        let hopeless = match (self.unreachable_since, patience) {
            (Some(since), Some(patience)) => {
                let until = since.plus(patience);
                if now < until && !(self.waiting.is_empty() && self.unnumbered.is_empty()) {
                    self.alarm = self.alarm.min(until);
                }
                now >= until
            }
            _ => false,
        };
        let (waiting, unnumbered) = (std::mem::take(&mut self.waiting), std::mem::take(&mut self.unnumbered));
        self.waiting = self.still_waiting(now, waiting, hopeless);
        self.unnumbered = self.still_waiting(now, unnumbered, hopeless);
    }

    fn still_waiting(&mut self, now: Time, operations: VecDeque<Operation>, hopeless: bool) -> VecDeque<Operation> {
        let mut still = VecDeque::with_capacity(operations.len());
        for operation in operations {
            if operation.deadline <= now || hopeless {
                self.fail(operation);
            } else {
                self.alarm = self.alarm.min(operation.deadline);
                if operation.not_before > now {
                    self.alarm = self.alarm.min(operation.not_before);
                }
                still.push_back(operation);
            }
        }
        still
    }

    /// Sends what may be sent, and connects where something waits.
    fn dispatch(&mut self, now: Time) {
        for _ in 0..self.waiting.len() {
            let operation = self.waiting.pop_front().expect("counted");
            let target = operation.only.unwrap_or(self.preferred);
            if operation.not_before > now {
                self.waiting.push_back(operation);
                continue;
            }
            match self.link(target).link {
                Link::Open => self.send(now, operation, target),
                Link::Connecting(_) => self.waiting.push_back(operation),
                Link::Down(until) if until > now => self.waiting.push_back(operation),
                Link::Idle | Link::Down(_) => {
                    self.connect(now, target);
                    self.waiting.push_back(operation);
                }
            }
        }
    }

    fn connect(&mut self, now: Time, target: EndpointId) {
        let endpoint = self.link(target);
        endpoint.life += 1;
        endpoint.link = Link::Connecting(now);
        let connection = ConnectionId { endpoint: target, life: endpoint.life };
        self.alarm = self.alarm.min(now.plus(self.settings.connect_timeout));
        self.actions.push_back(Action::Connect(connection));
    }

    fn send(&mut self, now: Time, mut operation: Operation, target: EndpointId) {
        self.last_request.0 += 1;
        let request = self.last_request;
        let connection = ConnectionId { endpoint: target, life: self.link(target).life };
        operation.attempts += 1;
        operation.endpoint = Some(target);
        operation.attempt = Some((connection, now));
        self.alarm = self.alarm.min(operation.attempt_end(now, self.settings.read_attempt_timeout));
        let left_ms = operation.deadline.0.saturating_sub(now.0) / 1_000_000;
        let deadline_ms = u32::try_from(left_ms).unwrap_or(u32::MAX).max(1);
        self.actions.push_back(match operation.what {
            What::Caller(token) => Action::Send { connection, request, token, number: operation.number, deadline_ms },
            What::Own(own) => Action::SendOwn { connection, request, own, deadline_ms },
        });
        self.sent.insert(request, operation);
    }
}

/// Whether it is forgotten, on purpose, that an earlier attempt may have been executed.
#[cfg(not(feature = "sabotage"))]
const fn forgets() -> bool {
    false
}

/// Whether a refusal may be gone when it is asked again.
fn is_passing(reason: Reason) -> bool {
    let lasting = matches!(
        reason,
        Reason::NoSpace | Reason::Unsupported | Reason::WrongCluster | Reason::Version | Reason::Deadline
    );
    !lasting && reason != Reason::Never && !is_session_lost(reason)
}

/// Whether a refusal says that the number is of no use any more.
fn is_session_lost(reason: Reason) -> bool {
    matches!(reason, Reason::SessionExpired | Reason::Forgotten)
}
