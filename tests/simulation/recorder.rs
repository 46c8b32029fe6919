//! What the clients asked and were told, for the two linearizability checkers at the end of a seed.

use protocol::command::{Command, Operation};
use protocol::reply::{Reply, ReplyBody, Status, Versioned};
use protocol::Entry;
use raftkv::kv::{self, Executed, Outcome};

use crate::by_index::{self, Log};
use crate::history::{Action, Answer, Found, History};
use crate::oracle::violated;
use crate::wgl::{self, Verdict};

/// Operations of one key that are searched; a longer history is cut where a key reaches it.
const SEARCHED_PER_KEY: usize = 5_000;
/// Steps of the search, for each key; a search that needs more is a failure.
const STEPS_MAX: usize = 30_000_000;

#[derive(Default)]
pub struct Recorder {
    history: History,
}

impl Recorder {
    /// A client asks; returns the operation's number.
    pub fn asked(&mut self, client: u32, action: Action) -> usize {
        self.history.begin(client, action)
    }

    /// It asks again, after an unknown end, what may be executed more than once: each time is an operation of its own.
    pub fn asked_again(&mut self, operation: usize) {
        self.history.asked_again(operation);
    }

    pub fn answered(&mut self, operation: usize, reply: &Reply<'_>) {
        let answer = answer(&self.history.operations[operation].action, reply);
        self.history.answered(operation, Some(reply.header.revision.0), answer);
    }

    pub fn not_executed(&mut self, operation: usize) {
        self.history.not_executed(operation);
    }

    /// At the end: the answers are explained by the log, and by some order that is found without it.
    pub fn check(&self, log: &Log) {
        if let Err(text) = by_index::check(&self.history, log) {
            violated("linearizable by log index", u32::MAX, text);
        }
        let searched = self.history.up_to(SEARCHED_PER_KEY);
        match wgl::check(&searched, STEPS_MAX) {
            Verdict::Linearizable => {}
            Verdict::Not(text) => violated("linearizable", u32::MAX, text),
            Verdict::Undecided => violated("linearizable", u32::MAX, "the search was not finished"),
        }
    }
}

/// What a committed entry did to the keys, if it did anything but be a copy or come too late.
pub fn executed(entry: &Entry, answered: kv::Reply) -> Option<Action> {
    let kv::Reply::Executed(Executed { outcome, revision }) = answered else { return None };
    let too_late = matches!(outcome, Outcome::SessionExpired | Outcome::Forgotten | Outcome::Never);
    if too_late || revision != entry.header.id.index {
        return None;
    }
    action(&Command::decode(&entry.body).expect("only commands are committed"))
}

/// A command as the checkers know it; none if it is about sessions.
pub fn action(command: &Command<'_>) -> Option<Action> {
    match command {
        Command::Batch(_) => Some(Action::Batch(command.operations().map(|operation| single(&operation)).collect())),
        _ => command.operation().as_ref().map(single),
    }
}

fn single(operation: &Operation<'_>) -> Action {
    match *operation {
        Operation::Put { key, value } => Action::Put { key: key.into(), value: value.into() },
        Operation::Update { key, value } => Action::Update { key: key.into(), value: value.into() },
        Operation::Remove { key } => Action::Remove { key: key.into() },
        Operation::CompareAndSet { key, expected, value } => {
            Action::CompareAndSet { key: key.into(), expected: expected.0, value: value.into() }
        }
        Operation::Increment { key, by } => Action::Increment { key: key.into(), by },
    }
}

fn answer(action: &Action, reply: &Reply<'_>) -> Answer {
    match (&reply.body, action) {
        (ReplyBody::Value(versioned), _) => Answer::Found(found(versioned)),
        (ReplyBody::Number(number), _) => Answer::Number(*number),
        (ReplyBody::Page(page), _) => {
            let items = page.items.iter().map(|item| (item.key.into(), found(&item.versioned))).collect();
            Answer::Page { items, resume: page.view.map(|_| page.resume.into()) }
        }
        (ReplyBody::Refused(refused), Action::Batch(actions)) => {
            let position = refused.position as usize;
            let answer = Box::new(by_status(&actions[position], reply.header.status));
            Answer::Refused { position, answer }
        }
        _ => by_status(action, reply.header.status),
    }
}

fn by_status(action: &Action, status: Status) -> Answer {
    match (status, action) {
        (Status::Exists, _) => Answer::Exists,
        (Status::NotFound, _) => Answer::NotFound,
        (Status::ConditionFailed, _) => Answer::Mismatch,
        (_, Action::Batch(_)) => Answer::Done,
        (_, Action::Remove { .. }) => Answer::Removed,
        (Status::Created, _) => Answer::Created,
        _ => Answer::Updated,
    }
}

fn found(versioned: &Versioned<'_>) -> Found {
    Found {
        value: versioned.value.into(),
        revision: Some(versioned.revision.0),
        create_revision: Some(versioned.create_revision.0),
        version: Some(versioned.version),
    }
}
