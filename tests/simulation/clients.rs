//! Clients: the real client machine, a random workload, and a check of every answer.

use std::collections::BTreeMap;

use client::machine::{
    Action, ConnectionId, End, EndpointId, Input, Kind, Machine, Number, Own, Settings, Span, Time, Token,
};
use protocol::command::Command;
use protocol::reply::{Page, Reply, ReplyBody, Status, Versioned};
use protocol::request::{ReadMode, Request, RequestHeader, Scan, ViewId};
use protocol::{split, RequestId, SessionId};
use raftkv::kv::{self, Outcome};

use crate::history::Action as Recorded;
use crate::io_loop::FRAME_BYTES_MAX;
use crate::model::Stored;
use crate::node::client_address;
use crate::oracle::{violated, Oracle};
use crate::profile::Profile;
use crate::random::Random;
use crate::recorder;

/// What a client wants done on its wires.
#[derive(Debug)]
pub enum Wire {
    Connect { connection: ConnectionId, node: u32 },
    Disconnect { connection: ConnectionId },
    Send { connection: ConnectionId, frame: Vec<u8> },
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

/// Keys of a page: few, so that scans take many.
const PAGE: u32 = 7;

pub struct Client {
    profile: Profile,
    number: u32,
    machine: Machine,
    random: Random,
    operations: BTreeMap<Token, Operation>,
    tokens: u64,
    /// Pages to be asked for where their view is.
    next_pages: Vec<(Operation, EndpointId)>,
    /// On each connection: the last request sent, and how many have had no reply.
    sent: BTreeMap<ConnectionId, (RequestId, u32)>,
    next_operation: Time,
    /// When it is to run next; an event of any other moment is stale.
    pub next_run: Time,
    pub tally: Tally,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub executed: u64,
    pub read: u64,
    pub unknown: u64,
    pub not_executed: u64,
}

struct Operation {
    verb: Verb,
    key: Vec<u8>,
    value: Vec<u8>,
    floor: u64,
    /// For the second and later pages of a scan.
    view: Option<ViewId>,
    /// Its number in the recorded history.
    recorded: usize,
    /// It may be executed more than once; whether it was sent.
    repeatable: bool,
    sent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Put,
    Update,
    Remove,
    Get,
    /// A page; the first opens a view.
    Scan,
}

impl Client {
    pub fn new(profile: &Profile, number: u32) -> Self {
        let mut random = Random::of(profile.seed, &format!("client {number}"));
        let first = random.below(u64::from(profile.nodes)) as u32;
        let machine = Machine::new(Settings {
            endpoints: (0..profile.nodes).map(|id| client_address((id + first) % profile.nodes)).collect(),
            follow_redirects: true,
            sessions: number % 4 != 3, // every fourth goes without
            connect_timeout: Span(500_000_000),
            read_attempt_timeout: Span(700_000_000),
            unreachable_patience: None,
            seed: random.next(),
        });
        Self {
            profile: profile.clone(),
            number,
            machine,
            random,
            operations: BTreeMap::new(),
            tokens: 0,
            next_pages: Vec::new(),
            sent: BTreeMap::new(),
            next_operation: Time(0),
            next_run: Time(u64::MAX),
            tally: Tally::default(),
        }
    }

    pub fn is_idle(&self) -> bool {
        self.operations.is_empty() && self.next_pages.is_empty()
    }

    pub fn next_deadline(&self, mood: Mood) -> Option<Time> {
        let wakes = [self.machine.next_deadline(), (mood != Mood::Done).then_some(self.next_operation)];
        wakes.into_iter().flatten().min()
    }

    /// Time has passed: timers, and perhaps a new operation.
    pub fn run(&mut self, now: Time, oracle: &mut Oracle, mood: Mood, wires: &mut Vec<Wire>) {
        self.machine.step(now, Input::Tick);
        self.act(None, oracle, wires);
        while let Some((page, endpoint)) = self.next_pages.pop() {
            self.tokens += 1;
            self.start(now, mood, page, Some(endpoint), oracle);
            self.act(None, oracle, wires);
        }
        if mood != Mood::Done && now >= self.next_operation {
            let pause = self.random.around(self.profile.think.0);
            self.next_operation = Time(now.0 + 100_000 + pause);
            // A client that went on sending where nobody reads would find its socket full.
            let unanswered: u32 = self.sent.values().map(|(_, unanswered)| unanswered).sum();
            if self.operations.len() < 4 && unanswered < 8 {
                self.submit(now, mood, oracle, wires);
            }
        }
    }

    pub fn connected(&mut self, now: Time, connection: ConnectionId, oracle: &mut Oracle, wires: &mut Vec<Wire>) {
        self.machine.step(now, Input::Connected(connection));
        self.act(None, oracle, wires);
    }

    pub fn closed(&mut self, now: Time, connection: ConnectionId, oracle: &mut Oracle, wires: &mut Vec<Wire>) {
        let sent = self.sent.remove(&connection).map_or(RequestId(0), |(sent, _)| sent);
        self.machine.step(now, Input::Closed { connection, sent, incompatible: false });
        self.act(None, oracle, wires);
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
        self.act(Some(&reply), oracle, wires);
    }

    fn submit(&mut self, now: Time, mood: Mood, oracle: &mut Oracle, wires: &mut Vec<Wire>) {
        self.tokens += 1;
        let verb =
            self.random.pick(&[Verb::Put, Verb::Update, Verb::Update, Verb::Remove, Verb::Get, Verb::Get, Verb::Scan]);
        let mut value = format!("client {} operation {}", self.number, self.tokens).into_bytes();
        value.resize(value.len().max(self.profile.value_bytes as usize), b'.');
        let mut key = format!("key {:03}", self.random.below(self.profile.keys)).into_bytes();
        if verb == Verb::Scan {
            key.clear();
        }
        let operation = Operation { key, value, floor: oracle.floor(), ..Operation::of(verb) };
        self.start(now, mood, operation, None, oracle);
        self.act(None, oracle, wires);
    }

    fn start(
        &mut self,
        now: Time,
        mood: Mood,
        mut operation: Operation,
        only: Option<EndpointId>,
        oracle: &mut Oracle,
    ) {
        let token = Token(self.tokens);
        let kind = match operation.verb {
            Verb::Get | Verb::Scan => Kind::Read,
            Verb::Update if self.random.chance(300) => Kind::Repeatable,
            _ => Kind::Write,
        };
        operation.recorded = oracle.recorder.asked(self.number, operation.action());
        operation.repeatable = kind == Kind::Repeatable;
        self.operations.insert(token, operation);
        let patience = if mood == Mood::Patient { 5_000_000_000 } else { self.profile.patience.0 };
        let deadline = Time(now.0 + self.random.between(patience / 4, patience));
        self.machine.step(now, Input::Submit { token, kind, deadline, only });
    }

    fn act(&mut self, reply: Option<&Reply<'_>>, oracle: &mut Oracle, wires: &mut Vec<Wire>) {
        while let Some(action) = self.machine.next_action() {
            match action {
                Action::Connect(connection) => {
                    let node = node_at(self.machine.address(connection.endpoint));
                    wires.push(Wire::Connect { connection, node });
                }
                Action::Disconnect(connection) => {
                    self.sent.remove(&connection);
                    wires.push(Wire::Disconnect { connection });
                }
                Action::SendOwn { connection, request, own, deadline_ms } => {
                    let sent = self.sent.entry(connection).or_insert((request, 0));
                    *sent = (request, sent.1 + 1);
                    let frame = encode_own(request, own, deadline_ms);
                    wires.push(Wire::Send { connection, frame });
                }
                Action::Send { connection, request, token, number, deadline_ms } => {
                    let sent = self.sent.entry(connection).or_insert((request, 0));
                    *sent = (request, sent.1 + 1);
                    let operation = self.operations.get_mut(&token).expect("it is under way");
                    if std::mem::replace(&mut operation.sent, true) && operation.repeatable {
                        oracle.recorder.asked_again(operation.recorded);
                    }
                    let frame = operation.encode(request, number, deadline_ms);
                    wires.push(Wire::Send { connection, frame });
                }
                Action::Done { token, end } => {
                    let operation = self.operations.remove(&token).expect("each operation ends once");
                    self.end(&operation, end, reply, oracle);
                }
            }
        }
    }

    fn end(&mut self, operation: &Operation, end: End, reply: Option<&Reply<'_>>, oracle: &mut Oracle) {
        let status = match end {
            End::Answered { endpoint, .. } => {
                let reply = reply.expect("an answer comes with its reply");
                let node = node_at(self.machine.address(endpoint));
                if let Status::Ok | Status::Created | Status::NotFound | Status::Exists = reply.header.status {
                    return self.settle(operation, (node, endpoint), reply, oracle);
                }
                if (reply.header.status, operation.view.is_some()) == (Status::ViewExpired, true) {
                    return;
                }
                reply.header.status
            }
            End::Failed(failure) => failure.status,
        };
        match status {
            Status::Unknown => self.tally.unknown += 1,
            Status::NotExecuted | Status::Redirect => {
                self.tally.not_executed += 1;
                oracle.recorder.not_executed(operation.recorded);
                if matches!(operation.verb, Verb::Put | Verb::Update) {
                    oracle.never(operation.value.clone());
                }
            }
            other => violated("answers make sense", 0, format!("{other:?} for {:?}", operation.verb)),
        }
    }

    fn settle(
        &mut self,
        operation: &Operation,
        (node, endpoint): (u32, EndpointId),
        reply: &Reply<'_>,
        oracle: &mut Oracle,
    ) {
        let index = reply.header.revision.0;
        let write = !matches!(operation.verb, Verb::Get | Verb::Scan);
        oracle.answered(node, index, operation.floor, write);
        oracle.recorder.answered(operation.recorded, reply);
        match operation.verb {
            Verb::Get => operation.check_read(node, reply, oracle),
            Verb::Scan => {
                if let Some(next) = operation.check_page(node, reply, oracle) {
                    self.next_pages.push((next, endpoint));
                }
            }
            _ => operation.check_write(node, reply, oracle),
        }
        self.tally.executed += u64::from(write);
        self.tally.read += u64::from(!write);
    }
}

impl Operation {
    fn of(verb: Verb) -> Self {
        let (key, value, view) = (Vec::new(), Vec::new(), None);
        Self { verb, key, value, floor: 0, view, recorded: 0, repeatable: false, sent: false }
    }

    /// As the checkers know it.
    fn action(&self) -> Recorded {
        match self.verb {
            Verb::Get => Recorded::Get { key: self.key[..].into() },
            Verb::Scan => {
                // A later page shows the revision of its view, which is its floor.
                let view = self.view.map(|_| self.floor);
                Recorded::Page { from: self.key[..].into(), limit: PAGE as usize, view }
            }
            _ => recorder::action(&self.command()).expect("it is about keys"),
        }
    }

    fn command(&self) -> Command<'_> {
        let (key, value) = (&self.key[..], &self.value[..]);
        match self.verb {
            Verb::Put => Command::Put { key, value },
            Verb::Update => Command::Update { key, value },
            Verb::Remove => Command::Remove { key },
            Verb::Get | Verb::Scan => unreachable!("a read is no command"),
        }
    }

    fn encode(&self, request: RequestId, number: Option<Number>, deadline_ms: u32) -> Vec<u8> {
        let (session, sequence) = number.map(|number| (number.session, number.sequence)).unwrap_or_default();
        let header = RequestHeader {
            request,
            session,
            sequence,
            deadline_ms,
            read_mode: ReadMode::Linearizable,
            ..RequestHeader::default()
        };
        let mut frame = Vec::new();
        match self.verb {
            Verb::Get => Request::Get { key: &self.key }.encode(&header, &mut frame),
            Verb::Scan => {
                let Operation { view, key: from, .. } = self;
                let scan = Scan { view: *view, from, to: b"", limit: PAGE, keys_only: false, count_only: false };
                Request::Scan(scan).encode(&header, &mut frame);
            }
            _ => Request::Write(self.command()).encode(&header, &mut frame),
        }
        frame
    }

    /// The entry at the answered revision is this very command, and its outcome is the answered one.
    fn check_write(&self, node: u32, reply: &Reply<'_>, oracle: &Oracle) {
        let index = reply.header.revision.0;
        let mut body = Vec::new();
        self.command().encode(&mut body);
        if oracle.committed(index).body != body {
            violated("an answered write is the entry at its revision", node, format!("revision {index}"));
        }
        let Some(kv::Reply::Executed(executed)) = oracle.model.reply(index) else {
            violated("an answered write is a command", node, format!("revision {index}"));
        };
        let expected = match executed.outcome {
            Outcome::Created => Status::Created,
            Outcome::Updated | Outcome::Removed => Status::Ok,
            Outcome::Exists => Status::Exists,
            Outcome::NotFound => Status::NotFound,
            other => violated("outcomes follow from the log", node, format!("{other:?} at {index}")),
        };
        if reply.header.status != expected {
            violated(
                "outcomes follow from the log",
                node,
                format!("{:?} at {index}, not {expected:?}", reply.header.status),
            );
        }
    }

    /// The value is the one that the committed log gives at the answered revision.
    fn check_read(&self, node: u32, reply: &Reply<'_>, oracle: &Oracle) {
        let expected = oracle.model.at(&self.key, reply.header.revision.0);
        let same = match (&reply.body, expected) {
            (ReplyBody::Value(found), Some(stored)) => is_same(found, stored),
            (ReplyBody::Empty, None) => reply.header.status == Status::NotFound,
            _ => false,
        };
        if !same {
            violated("reads show the committed state", node, format!("{reply:?}, expected {expected:?}"));
        }
    }

    /// A page is a part of the committed state at its view's revision, without a gap. Returns what asks for the next.
    fn check_page(&self, node: u32, reply: &Reply<'_>, oracle: &Oracle) -> Option<Operation> {
        let revision = reply.header.revision;
        let ReplyBody::Page(Page { view, items, resume, .. }) = &reply.body else {
            violated("a scan is answered with a page", node, format!("{reply:?}"));
        };
        let mut expected = oracle.model.range_at(&self.key, revision.0);
        for item in items {
            let (key, stored) = expected.next().unzip();
            if key.is_none_or(|key| key != item.key) || stored.is_none_or(|stored| !is_same(&item.versioned, stored)) {
                violated(
                    "C-21: a page shows its view",
                    node,
                    format!("{item:?}, expected {key:?} {stored:?} at {revision}"),
                );
            }
        }
        let next = expected.next().map(|(key, _)| key.clone());
        if next.as_deref().unwrap_or(&[]) != *resume || view.is_some() != next.is_some() {
            violated(
                "C-21: pages follow each other",
                node,
                format!("resume at {resume:?}, expected {next:?} at {revision}"),
            );
        }
        let (view, key) = view.zip(next)?;
        // Its answer is about the view's moment, not about the moment it is asked.
        Some(Operation { key, floor: revision.0, view: Some(view), ..Operation::of(Verb::Scan) })
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

fn is_same(found: &Versioned<'_>, stored: &Stored) -> bool {
    let numbers = (found.revision.0, found.create_revision.0, found.version);
    found.value == stored.value && numbers == (stored.revision, stored.create_revision, stored.version)
}

fn node_at(address: &str) -> u32 {
    let number = address.strip_prefix("node-").and_then(|rest| rest.split(':').next());
    number.and_then(|number| number.parse().ok()).expect("an address of this cluster")
}
