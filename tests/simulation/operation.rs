//! One operation of a client: what is asked, how it is written on the wire, and what its answer must be.

use client::machine::{Kind, Number};
use protocol::command::{BatchBuilder, Command, Operation as Change};
use protocol::reply::{Page, Reply, ReplyBody, Status, Versioned};
use protocol::request::{ReadMode, Request, RequestHeader, Scan, ViewId};
use protocol::{Index, RequestId};
use raftkv::kv::{self, Executed, Fate, Outcome};

use crate::history::Action;
use crate::model::Stored;
use crate::oracle::{violated, Oracle};

/// Keys of a page: few, so that scans take many.
pub const PAGE: u32 = 7;

pub struct Operation {
    pub ask: Ask,
    /// What it must see.
    pub floor: u64,
    /// Its number in the recorded history; none for a question about another operation.
    pub recorded: Option<usize>,
    /// How it is sent.
    pub kind: Kind,
    /// Under which number it was sent last.
    pub number: Option<Number>,
    pub sent: bool,
    /// It was sent under more than one.
    pub renumbered: bool,
    /// It was sent behind the client machine's back as well: what the machine is told is not all.
    pub copied: bool,
}

/// What is asked.
pub enum Ask {
    /// A read, or a write.
    Keys(Action),
    /// A later page of a scan.
    Page { from: Vec<u8>, view: ViewId },
    /// What became of a write (C-24).
    Outcome(Owed),
}

/// A write whose end its client does not know.
#[derive(Clone)]
pub struct Owed {
    pub action: Action,
    pub recorded: usize,
    pub floor: u64,
    pub number: Number,
}

impl Operation {
    pub fn new(ask: Ask, floor: u64, kind: Kind) -> Self {
        Self { ask, floor, recorded: None, kind, number: None, sent: false, renumbered: false, copied: false }
    }

    /// As the checkers know it; none for a question about another operation.
    pub fn action(&self) -> Option<Action> {
        match &self.ask {
            Ask::Keys(action) => Some(action.clone()),
            // A later page shows the revision of its view, which is its floor.
            Ask::Page { from, .. } => {
                Some(Action::Page { from: from[..].into(), limit: PAGE as usize, view: Some(self.floor) })
            }
            Ask::Outcome(_) => None,
        }
    }

    /// The write that it is, if it is one.
    pub fn write(&self) -> Option<&Action> {
        match &self.ask {
            Ask::Keys(action) if action.writes() => Some(action),
            _ => None,
        }
    }

    pub fn encode(&self, request: RequestId, number: Option<Number>, deadline_ms: u32) -> Vec<u8> {
        let (session, sequence) = number.map(|number| (number.session, number.sequence)).unwrap_or_default();
        let read_mode = ReadMode::Linearizable;
        let header = RequestHeader { request, session, sequence, deadline_ms, read_mode, ..RequestHeader::default() };
        let mut frame = Vec::new();
        let scan =
            |view, from| Request::Scan(Scan { view, from, to: b"", limit: PAGE, keys_only: false, count_only: false });
        match &self.ask {
            Ask::Keys(Action::Get { key }) => Request::Get { key }.encode(&header, &mut frame),
            Ask::Keys(Action::Page { from, .. }) => scan(None, from).encode(&header, &mut frame),
            Ask::Page { from, view } => scan(Some(*view), from).encode(&header, &mut frame),
            Ask::Keys(write) => with_command(write, |command| Request::Write(command).encode(&header, &mut frame)),
            Ask::Outcome(Owed { number: Number { session, sequence }, .. }) => {
                let (session, sequence) = (*session, *sequence);
                Request::Write(Command::QueryOutcome { session, sequence }).encode(&header, &mut frame);
            }
        }
        frame
    }

    /// The value is the one that the committed log gives at the answered revision.
    pub fn check_read(key: &[u8], node: u32, reply: &Reply<'_>, oracle: &Oracle) {
        let expected = oracle.model.at(key, reply.header.revision.0);
        let same = match (&reply.body, expected) {
            (ReplyBody::Value(found), Some(stored)) => is_same(found, stored),
            (ReplyBody::Empty, None) => reply.header.status == Status::NotFound,
            _ => false,
        };
        if !same {
            violated(
                "values follow from the log",
                node,
                format!("{:?} at {}, not {expected:?}", reply.body, reply.header.revision),
            );
        }
    }

    /// C-21: a page holds the first keys of its view, which is the state at the answered revision, and says where the next
    /// one begins. Returns the next page's operation.
    pub fn check_page(&self, node: u32, reply: &Reply<'_>, oracle: &Oracle) -> Option<Operation> {
        let (from, view) = match &self.ask {
            Ask::Page { from, view } => (&from[..], Some(*view)),
            Ask::Keys(Action::Page { from, .. }) => (&from[..], None),
            _ => unreachable!("not a page"),
        };
        let ReplyBody::Page(Page { view: next_view, items, resume, .. }) = &reply.body else {
            violated("a scan is answered with a page", node, format!("{:?}", reply.body));
        };
        let revision = reply.header.revision;
        if view.is_some_and(|view| view.revision != revision) {
            violated("C-21: every page shows the same moment", node, format!("{revision}, the view is {view:?}"));
        }
        let mut expected = oracle.model.range_at(from, revision.0);
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
        if next.as_deref().unwrap_or(&[]) != *resume || next_view.is_some() != next.is_some() {
            violated(
                "C-21: pages follow each other",
                node,
                format!("resume at {resume:?}, expected {next:?} at {revision}"),
            );
        }
        let (view, from) = next_view.zip(next)?;
        // Its answer is about the view's moment, not about the moment it is asked.
        Some(Operation::new(Ask::Page { from, view }, revision.0, Kind::Read))
    }
}

/// The entry at the answered revision is this very command, and its outcome is the answered one.
pub fn check_write(action: &Action, node: u32, reply: &Reply<'_>, oracle: &Oracle) {
    let index = reply.header.revision;
    let executed = executed_at(action, node, index, oracle);
    let expected = match executed.outcome {
        Outcome::Created | Outcome::Number { created: true, .. } => Status::Created,
        Outcome::Updated | Outcome::Removed | Outcome::BatchApplied | Outcome::Number { .. } => Status::Ok,
        Outcome::Exists => Status::Exists,
        Outcome::NotFound => Status::NotFound,
        Outcome::Mismatch(_) | Outcome::NotANumber | Outcome::Overflow => Status::ConditionFailed,
        Outcome::BatchRefused { .. } => executed.answer().status,
        other => violated("outcomes follow from the log", node, format!("{other:?} at {index}")),
    };
    if reply.header.status != expected || reply.body != executed.body() {
        let text = format!("{:?} {:?} at {index}, not {expected:?}: {executed:?}", reply.header.status, reply.body);
        violated("outcomes follow from the log", node, text);
    }
}

/// What a client is told to have become of a write is what became of it. Returns what it was executed to.
pub fn check_fate(owed: &Owed, node: u32, reply: &Reply<'_>, oracle: &Oracle) -> kv::Fate {
    let index = reply.header.revision;
    let Some(kv::Reply::Fate(fate)) = oracle.model.reply(index.0) else {
        violated("a question about a write is an entry", node, format!("{reply:?}"));
    };
    if reply.body != ReplyBody::Fate(fate.into()) {
        violated("C-24: what became of a write follows from the log", node, format!("{:?}, not {fate:?}", reply.body));
    }
    if let Fate::Executed(executed) = fate {
        if executed_at(&owed.action, node, executed.revision, oracle) != executed {
            violated("C-24: a write has one result", node, format!("{executed:?} is told at {index}"));
        }
    }
    fate
}

fn executed_at(action: &Action, node: u32, index: Index, oracle: &Oracle) -> Executed {
    let mut body = Vec::new();
    with_command(action, |command| command.encode(&mut body));
    if oracle.committed(index.0).body != body {
        violated("an answered write is the entry at its revision", node, format!("revision {index}"));
    }
    match oracle.model.reply(index.0) {
        Some(kv::Reply::Executed(executed)) => executed,
        _ => violated("an answered write is a command", node, format!("revision {index}")),
    }
}

/// The command of a write.
fn with_command<R>(action: &Action, f: impl FnOnce(Command<'_>) -> R) -> R {
    match action {
        Action::Batch(actions) => {
            let mut builder = BatchBuilder::default();
            for action in actions {
                assert!(builder.push(change(action)), "batches are small");
            }
            f(Command::Batch(builder.batch().expect("batches are not empty")))
        }
        single => f(change(single).into()),
    }
}

fn change(action: &Action) -> Change<'_> {
    match action {
        Action::Put { key, value } => Change::Put { key, value },
        Action::Update { key, value } => Change::Update { key, value },
        Action::Remove { key } => Change::Remove { key },
        Action::CompareAndSet { key, expected, value } => {
            Change::CompareAndSet { key, expected: Index(*expected), value }
        }
        Action::Increment { key, by } => Change::Increment { key, by: *by },
        other => unreachable!("no command of one key: {other:?}"),
    }
}

fn is_same(found: &Versioned<'_>, stored: &Stored) -> bool {
    let numbers = (found.revision.0, found.create_revision.0, found.version);
    found.value == stored.value && numbers == (stored.revision, stored.create_revision, stored.version)
}
