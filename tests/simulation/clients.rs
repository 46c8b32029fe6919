//! Clients: the real client machine, a random workload, and a check of every answer. Some send their requests twice, or to
//! other nodes as well, behind the machine's back, as a network or a proxy would; some give up early; one may sleep for so
//! long that its session expires.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use client::machine::{
    Action, ConnectionId, End, EndpointId, Input, Kind, Machine, Number, Own, Settings, Span, Time, Token,
};
use protocol::command::Command;
use protocol::reply::{Effect, Reason, Reply, ReplyBody, ReplyHeader, Status};
use protocol::request::{Request, RequestHeader};
use protocol::{split, RequestId, SessionId};
use raftkv::kv::Fate;
use raftkv::limits;

use crate::counters::Counters;
use crate::history::Action as Asked;
use crate::io_loop::FRAME_BYTES_MAX;
use crate::node::client_address;
use crate::operation::{check_fate, check_write, Ask, Operation, Owed};
use crate::oracle::{violated, Oracle};
use crate::profile::Profile;
use crate::random::Random;
use crate::workload::Workload;
use crate::world::START;

/// What a client wants done on its wires.
#[derive(Debug)]
pub enum Wire {
    Connect {
        connection: ConnectionId,
        node: u32,
    },
    Disconnect {
        connection: ConnectionId,
    },
    Send {
        connection: ConnectionId,
        frame: Vec<u8>,
    },
    /// It breaks, and the client sees it then.
    Break {
        connection: ConnectionId,
        seen: Time,
    },
}

/// How clients behave now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// They ask, and wait as long as the profile says.
    Drawn,
    /// They ask, and wait long enough for a healed cluster to answer.
    Patient,
    /// They wait for their last answers.
    Done,
}

/// A request as it was sent, and its number.
type Sent = (Number, RequestId, Vec<u8>);

/// Operations of one client that are under way.
const UNDER_WAY_MAX: usize = 4;
/// Requests without a reply: a client that went on sending where nobody reads would find its socket full.
const UNANSWERED_MAX: u32 = 10;
/// How long a sleeper sleeps: longer than a session lasts by any clock.
const SLEEP: Span = Span(limits::SESSION_TTL_MS * 1_400_000);

pub struct Client {
    profile: Profile,
    number: u32,
    machine: Machine,
    random: Random,
    workload: Workload,
    operations: BTreeMap<Token, Operation>,
    tokens: u64,
    /// Pages to be asked for where their view is.
    next_pages: Vec<(Operation, EndpointId)>,
    /// Writes to be asked about.
    owed: Vec<Owed>,
    /// Requests of its session that were executed, to be sent once more when they are old: a window of them, and some.
    executed: VecDeque<Sent>,
    /// Those that were said never to be executed: they arrive after all.
    never: Vec<Sent>,
    /// Open connections: the last request sent, and how many have had no reply.
    sent: BTreeMap<ConnectionId, (RequestId, u32)>,
    open: BTreeSet<ConnectionId>,
    next_operation: Time,
    /// When it falls asleep, with a write under way.
    sleeps_at: Option<Time>,
    asleep_until: Time,
    /// When it is to run next; an event of any other moment is stale.
    pub next_run: Time,
    pub tally: Tally,
    pub counters: Counters,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub executed: u64,
    pub read: u64,
    pub unknown: u64,
    pub not_executed: u64,
    pub copies: u64,
    /// Unknown ends that were settled by asking.
    pub asked_about: u64,
}

impl Client {
    pub fn new(profile: &Profile, number: u32) -> Self {
        let mut random = Random::of(profile.seed, &format!("client {number}"));
        let first = random.below(u64::from(profile.nodes)) as u32;
        let machine = Machine::new(Settings {
            endpoints: (0..profile.nodes).map(|id| client_address((id + first) % profile.nodes)).collect(),
            follow_redirects: true,
            sessions: has_sessions(profile, number),
            connect_timeout: Span(500_000_000),
            read_attempt_timeout: Span(700_000_000),
            unreachable_patience: None,
            seed: random.next(),
        });
        let sleeps = profile.sleeper && number == 0;
        let awake = profile.turmoil.0.saturating_sub(SLEEP.0);
        Self {
            profile: profile.clone(),
            number,
            machine,
            workload: Workload::new(profile, number, has_sessions(profile, number)),
            operations: BTreeMap::new(),
            tokens: 0,
            next_pages: Vec::new(),
            owed: Vec::new(),
            executed: VecDeque::new(),
            never: Vec::new(),
            sent: BTreeMap::new(),
            open: BTreeSet::new(),
            next_operation: Time(0),
            sleeps_at: sleeps.then(|| Time(START.0 + random.between(awake / 8, awake / 2))),
            asleep_until: Time(0),
            next_run: Time(u64::MAX),
            tally: Tally::default(),
            counters: Counters::default(),
            random,
        }
    }

    pub fn is_idle(&self) -> bool {
        self.operations.is_empty() && self.next_pages.is_empty() && self.owed.is_empty()
    }

    /// A process that sleeps sees nothing before this; none = it is awake.
    pub fn asleep(&self, now: Time) -> Option<Time> {
        (now < self.asleep_until).then_some(self.asleep_until)
    }

    pub fn next_deadline(&self, mood: Mood) -> Option<Time> {
        let asks = mood != Mood::Done || !self.owed.is_empty();
        let wakes = [self.machine.next_deadline(), asks.then_some(self.next_operation)];
        wakes.into_iter().flatten().min()
    }

    /// Time has passed: timers, and perhaps a new operation.
    pub fn run(&mut self, now: Time, oracle: &mut Oracle, mood: Mood, wires: &mut Vec<Wire>) {
        self.machine.step(now, Input::Tick);
        self.act(now, None, oracle, wires);
        while let Some((page, endpoint)) = self.next_pages.pop() {
            self.start(now, mood, page, Some(endpoint), oracle);
            self.act(now, None, oracle, wires);
        }
        if now >= self.next_operation {
            let pause = self.random.around(self.profile.think.0);
            self.next_operation = Time(now.0 + 100_000 + pause);
            let unanswered: u32 = self.sent.values().map(|(_, unanswered)| unanswered).sum();
            if self.operations.len() < UNDER_WAY_MAX && unanswered < UNANSWERED_MAX {
                self.ask(now, mood, oracle);
                self.act(now, None, oracle, wires);
            }
        }
        self.fall_asleep(now, wires);
    }

    /// A question about a write that is owed, or something new.
    fn ask(&mut self, now: Time, mood: Mood, oracle: &mut Oracle) {
        let operation = if let Some(owed) = self.owed.pop() {
            Operation::new(Ask::Outcome(owed), oracle.floor(), Kind::Repeatable)
        } else if mood == Mood::Done {
            return;
        } else {
            let action = self.workload.draw();
            let kind = match action {
                Asked::Get { .. } | Asked::Page { .. } => Kind::Read,
                Asked::Update { .. } if self.random.chance(300) => Kind::Repeatable,
                _ => Kind::Write,
            };
            Operation::new(Ask::Keys(action), oracle.floor(), kind)
        };
        self.start(now, mood, operation, None, oracle);
    }

    fn start(
        &mut self,
        now: Time,
        mood: Mood,
        mut operation: Operation,
        only: Option<EndpointId>,
        oracle: &mut Oracle,
    ) {
        self.tokens += 1;
        let (token, kind) = (Token(self.tokens), operation.kind);
        operation.recorded = operation.action().map(|action| oracle.recorder.asked(self.number, action));
        let is_about_keys = operation.recorded.is_some();
        self.operations.insert(token, operation);
        let patience = if mood == Mood::Patient { 5_000_000_000 } else { self.profile.patience.0 };
        let mut span = self.random.between(patience / 4, patience);
        if mood == Mood::Drawn && is_about_keys && self.random.chance(self.profile.abandons) {
            span = self.random.between(1_000_000, 1_000_000 + 3 * self.profile.delay.0);
        }
        if self.sleeps_at.is_some_and(|at| now >= at) {
            span = 2 * SLEEP.0;
        }
        self.machine.step(now, Input::Submit { token, kind, deadline: Time(now.0 + span), only });
    }

    /// All its connections break, and it does not see it before it wakes.
    fn fall_asleep(&mut self, now: Time, wires: &mut Vec<Wire>) {
        let is_retried = |operation: &Operation| operation.number.is_some();
        // Whoever would not wake while there are faults stays awake: a healed cluster answers all its clients.
        let calm = START.0 + self.profile.turmoil.0;
        self.sleeps_at = self.sleeps_at.filter(|_| now.0 + SLEEP.0 < calm);
        if self.sleeps_at.is_none_or(|at| now < at) || !self.operations.values().any(is_retried) {
            return;
        }
        self.sleeps_at = None;
        self.asleep_until = Time(now.0 + SLEEP.0);
        let seen = self.asleep_until;
        wires.extend(self.open.iter().map(|connection| Wire::Break { connection: *connection, seen }));
    }

    pub fn connected(&mut self, now: Time, connection: ConnectionId, oracle: &mut Oracle, wires: &mut Vec<Wire>) {
        self.open.insert(connection);
        self.machine.step(now, Input::Connected(connection));
        self.act(now, None, oracle, wires);
    }

    pub fn closed(&mut self, now: Time, connection: ConnectionId, oracle: &mut Oracle, wires: &mut Vec<Wire>) {
        self.open.remove(&connection);
        let sent = self.sent.remove(&connection).map_or(RequestId(0), |(sent, _)| sent);
        self.machine.step(now, Input::Closed { connection, sent, incompatible: false });
        self.act(now, None, oracle, wires);
    }

    pub fn reply(
        &mut self,
        now: Time,
        connection: ConnectionId,
        bytes: &[u8],
        oracle: &mut Oracle,
        wires: &mut Vec<Wire>,
    ) {
        let (frame, _) = split(bytes, FRAME_BYTES_MAX).expect("undamaged").expect("whole");
        let reply = Reply::decode(&frame).expect("the client understands what the server sends");
        if let Some((_, unanswered)) = self.sent.get_mut(&connection) {
            *unanswered -= 1;
        }
        let input = Input::Reply {
            connection,
            request: reply.header.request,
            status: reply.header.status,
            reason: reply.header.reason,
            effect: reply.header.effect,
            leader: reply.leader.map(|leader| leader.address),
            session: match reply.body {
                ReplyBody::Session(terms) => Some(terms),
                _ => None,
            },
        };
        self.machine.step(now, input);
        self.act(now, Some(&reply), oracle, wires);
    }

    fn act(&mut self, now: Time, reply: Option<&Reply<'_>>, oracle: &mut Oracle, wires: &mut Vec<Wire>) {
        while let Some(action) = self.machine.next_action() {
            match action {
                Action::Connect(connection) => {
                    let node = node_at(self.machine.address(connection.endpoint));
                    wires.push(Wire::Connect { connection, node });
                }
                Action::Disconnect(connection) => {
                    self.open.remove(&connection);
                    self.sent.remove(&connection);
                    wires.push(Wire::Disconnect { connection });
                }
                Action::SendOwn { connection, request, own, deadline_ms } => {
                    self.send(connection, request, encode_own(request, own, deadline_ms), wires);
                }
                Action::Send { connection, request, token, number, deadline_ms } => {
                    let mut operation = self.operations.remove(&token).expect("it is under way");
                    self.attempt(&mut operation, number, oracle);
                    let frame = operation.encode(request, number, deadline_ms);
                    self.send(connection, request, frame.clone(), wires);
                    self.copy(connection, request, &mut operation, frame, oracle, wires);
                    self.copy_late(number, wires);
                    self.operations.insert(token, operation);
                }
                Action::Done { token, end } => {
                    let operation = self.operations.remove(&token).expect("each operation ends once");
                    self.end(operation, end, reply, oracle);
                }
            }
        }
        self.close_session(now, wires);
    }

    /// What may be executed each time it is sent, is as many operations.
    fn attempt(&mut self, operation: &mut Operation, number: Option<Number>, oracle: &mut Oracle) {
        let again = std::mem::replace(&mut operation.sent, true);
        let renumbered = operation.number.is_some() && operation.number != number;
        operation.renumbered |= renumbered;
        operation.number = number;
        let (Some(recorded), Some(write)) = (operation.recorded, operation.write()) else { return };
        if (again && operation.kind == Kind::Repeatable) || (renumbered && operation.copied) {
            oracle.recorder.asked_again(recorded);
            self.counters.unknown(write);
        }
    }

    /// Some requests arrive twice, or somewhere else as well.
    fn copy(
        &mut self,
        connection: ConnectionId,
        request: RequestId,
        operation: &mut Operation,
        frame: Vec<u8>,
        oracle: &mut Oracle,
        wires: &mut Vec<Wire>,
    ) {
        if !self.random.chance(self.profile.copies) {
            return;
        }
        let open: Vec<ConnectionId> = self.open.iter().copied().collect();
        let elsewhere = !open.is_empty() && self.random.chance(500);
        let to = if elsewhere { self.random.pick(&open) } else { connection };
        self.tally.copies += 1;
        self.send(to, request, frame, wires);
        let (Some(recorded), Some(write)) = (operation.recorded, operation.write()) else { return };
        if operation.number.is_none() {
            oracle.recorder.asked_again(recorded);
            self.counters.unknown(write);
        }
        operation.copied = true;
    }

    /// What was executed long ago arrives once more, about as many sequences later as a session keeps results; and what was said
    /// never to be executed arrives.
    fn copy_late(&mut self, newest: Option<Number>, wires: &mut Vec<Wire>) {
        let Some(newest) = newest else { return };
        self.executed.retain(|(number, ..)| number.session == newest.session);
        for (_, request, frame) in std::mem::take(&mut self.never) {
            self.send_late(request, frame, wires);
        }
        if !self.random.chance(self.profile.copies / 2) {
            return;
        }
        let window = limits::SESSION_WINDOW as u64;
        let age = match self.random.chance(800) {
            true => self.random.between(window - 4, window + 4),
            false => self.random.between(1, window),
        };
        let old = self.executed.iter().find(|(number, ..)| number.sequence.0 + age == newest.sequence.0);
        if let Some((_, request, frame)) = old.cloned() {
            raftkv::mark!("simulation: request copied when it was old");
            self.send_late(request, frame, wires);
        }
    }

    /// The request was answered before: the client machine waits for no reply.
    fn send_late(&mut self, request: RequestId, frame: Vec<u8>, wires: &mut Vec<Wire>) {
        let open: Vec<ConnectionId> = self.open.iter().copied().collect();
        if !open.is_empty() {
            let to = self.random.pick(&open);
            self.tally.copies += 1;
            self.send(to, request, frame, wires);
        }
    }

    fn send(&mut self, connection: ConnectionId, request: RequestId, frame: Vec<u8>, wires: &mut Vec<Wire>) {
        let sent = self.sent.entry(connection).or_insert((request, 0));
        *sent = (request.max(sent.0), sent.1 + 1);
        wires.push(Wire::Send { connection, frame });
    }

    /// Now and then a session is given up, of every other client; the next write opens another.
    fn close_session(&mut self, now: Time, wires: &mut Vec<Wire>) {
        if self.number % 2 == 1 || !self.operations.is_empty() || now < self.next_operation || !self.random.chance(20) {
            return;
        }
        if let Some((connection, request, session)) = self.machine.close_session() {
            let header = RequestHeader { request, session, deadline_ms: 1_000, ..RequestHeader::default() };
            let mut frame = Vec::new();
            Request::Write(Command::CloseSession).encode(&header, &mut frame);
            self.send(connection, request, frame, wires);
        }
    }

    fn end(&mut self, operation: Operation, end: End, reply: Option<&Reply<'_>>, oracle: &mut Oracle) {
        let (status, reason) = match end {
            End::Answered { endpoint, .. } => {
                let reply = reply.expect("an answer comes with its reply");
                let node = node_at(self.machine.address(endpoint));
                match (reply.header.status, &operation.ask) {
                    (Status::Ok | Status::Created, _) => {
                        return self.settle(operation, (node, endpoint), reply, oracle)
                    }
                    (Status::NotFound | Status::Exists | Status::ConditionFailed, Ask::Keys(_)) => {
                        return self.settle(operation, (node, endpoint), reply, oracle);
                    }
                    (Status::ViewExpired, Ask::Page { .. }) => return,
                    (status, _) => (status, reply.header.reason),
                }
            }
            End::Failed(failure) => (failure.status, failure.reason),
        };
        match status {
            Status::Unknown => self.tally.unknown += 1,
            Status::NotExecuted | Status::Redirect => self.tally.not_executed += 1,
            other => violated("answers make sense", 0, format!("{other:?} for {:?}", operation.action())),
        }
        if (status, reason) == (Status::Unknown, Reason::SessionExpired) {
            raftkv::mark!("simulation: session expired with a retry under way");
        }
        match operation.ask {
            Ask::Outcome(owed) => self.owed.push(owed),
            _ if operation.write().is_none() || (status != Status::Unknown && !operation.copied) => {
                deny(&operation, oracle);
            }
            // Its copies count for themselves, and it may be one of them that is executed.
            _ if status != Status::Unknown && operation.number.is_none() => {
                oracle.recorder.not_executed(operation.recorded.expect("it is about keys"));
            }
            _ => self.lose_sight(&operation),
        }
    }

    /// Nobody knows what became of it. If it has a number, that can be asked.
    fn lose_sight(&mut self, operation: &Operation) {
        let (Some(write), Some(recorded)) = (operation.write(), operation.recorded) else { return };
        self.counters.unknown(write);
        if let Some(number) = operation.number {
            self.owed.push(Owed { action: write.clone(), recorded, floor: operation.floor, number });
        }
    }

    fn settle(
        &mut self,
        operation: Operation,
        (node, endpoint): (u32, EndpointId),
        reply: &Reply<'_>,
        oracle: &mut Oracle,
    ) {
        let index = reply.header.revision.0;
        if let Ask::Outcome(owed) = &operation.ask {
            oracle.answered(node, index, operation.floor, true);
            return self.settle_owed(owed, node, reply, oracle);
        }
        let is_write = operation.write().is_some();
        oracle.answered(node, index, operation.floor, is_write);
        oracle.recorder.answered(operation.recorded.expect("it is about keys"), reply);
        match &operation.ask {
            Ask::Keys(Asked::Get { key }) => {
                Operation::check_read(key, node, reply, oracle);
                let revision = if let ReplyBody::Value(found) = &reply.body { found.revision.0 } else { 0 };
                self.workload.saw(key, revision);
            }
            Ask::Keys(write) if is_write => {
                check_write(write, node, reply, oracle);
                if reply.header.effect == Effect::Applied {
                    self.counters.executed(write);
                    write.keys().into_iter().for_each(|key| self.workload.saw(key, index));
                }
            }
            _ => {
                let next = operation.check_page(node, reply, oracle);
                self.next_pages.extend(next.map(|next| (next, endpoint)));
            }
        }
        if let Some(number) = operation.number.filter(|_| is_write && !operation.renumbered && self.profile.copies > 0)
        {
            let request = reply.header.request;
            self.executed.push_back((number, request, operation.encode(request, Some(number), 1_000)));
            if self.executed.len() > limits::SESSION_WINDOW + 20 {
                self.executed.pop_front();
            }
        }
        self.tally.executed += u64::from(is_write);
        self.tally.read += u64::from(!is_write);
    }

    /// A write of unknown end was asked about.
    fn settle_owed(&mut self, owed: &Owed, node: u32, reply: &Reply<'_>, oracle: &mut Oracle) {
        let fate = check_fate(owed, node, reply, oracle);
        self.tally.asked_about += u64::from(matches!(fate, Fate::Executed(_) | Fate::Never));
        match fate {
            Fate::Executed(executed) => {
                let protocol::reply::Answer { status, reason, effect, revision, .. } = executed.answer();
                oracle.answered(node, revision.0, owed.floor, true);
                let header = ReplyHeader { request: RequestId(0), status, reason, effect, revision };
                let late = Reply { header, leader: None, body: executed.body(), trailer: &[] };
                // Others were just compared with the log; a search is not to try each of them at every place up to here.
                if matches!(owed.action, Asked::CompareAndSet { .. } | Asked::Increment { .. } | Asked::Batch(_)) {
                    oracle.recorder.answered(owed.recorded, &late);
                }
                self.counters.settled(&owed.action);
                if effect == Effect::Applied {
                    self.counters.executed(&owed.action);
                }
            }
            Fate::Never => {
                self.counters.settled(&owed.action);
                if self.profile.copies > 0 {
                    let again = Operation::new(Ask::Keys(owed.action.clone()), owed.floor, Kind::Repeatable);
                    let request = reply.header.request;
                    self.never.push((owed.number, request, again.encode(request, Some(owed.number), 1_000)));
                }
                oracle.recorder.not_executed(owed.recorded);
                oracle.never(&owed.action);
            }
            Fate::Forgotten | Fate::SessionExpired => {}
        }
    }
}

/// Every fourth client goes without.
fn has_sessions(profile: &Profile, number: u32) -> bool {
    profile.increments || number % 4 != 3
}

/// It was not executed and never will be.
fn deny(operation: &Operation, oracle: &mut Oracle) {
    if let Some(recorded) = operation.recorded {
        oracle.recorder.not_executed(recorded);
    }
    if let Some(write) = operation.write() {
        oracle.never(write);
    }
}

fn encode_own(request: RequestId, own: Own, deadline_ms: u32) -> Vec<u8> {
    let (command, session) = match own {
        Own::OpenSession => (Command::OpenSession, SessionId(0)),
        Own::KeepAlive(session) => (Command::KeepAlive, session),
    };
    let mut frame = Vec::new();
    let header = RequestHeader { request, session, deadline_ms, ..RequestHeader::default() };
    Request::Write(command).encode(&header, &mut frame);
    frame
}

fn node_at(address: &str) -> u32 {
    let number = address.strip_prefix("node-").and_then(|rest| rest.split(':').next());
    number.and_then(|number| number.parse().ok()).expect("an address of this cluster")
}
