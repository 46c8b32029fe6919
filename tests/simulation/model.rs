//! The state machine as a child would write it, at every revision.

use std::collections::BTreeMap;

use protocol::command::{Command, Operation};
use protocol::entry::{Entry, EntryHeader, EntryKind};
use raftkv::kv::{Executed, Fate, Outcome, Refusal, Reply};
use raftkv::limits;

#[derive(Default)]
pub struct Model {
    keys: BTreeMap<Vec<u8>, Vec<(u64, Option<Stored>)>>,
    sessions: BTreeMap<u64, Session>,
    replies: Vec<Option<Reply>>,
    /// How often each (unique) value was written by put, update or compare-and-set.
    pub executed: BTreeMap<Vec<u8>, u32>,
    /// Entries that were copies and did nothing.
    pub copies: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub value: Vec<u8>,
    pub revision: u64,
    pub create_revision: u64,
    pub version: u64,
}

/// A session that forgets nothing; what it has to forget is seen when it is asked.
struct Session {
    last_use: u64,
    results: BTreeMap<u64, Executed>,
}

/// What the operations of one entry have done so far.
type Written = BTreeMap<Vec<u8>, Option<Stored>>;

impl Model {
    /// What the entry at an index was answered; none for a no-op.
    pub fn reply(&self, index: u64) -> Option<Reply> {
        self.replies[index as usize - 1]
    }

    /// A key's value at a revision.
    pub fn at(&self, key: &[u8], revision: u64) -> Option<&Stored> {
        let versions = self.keys.get(key)?;
        let after = versions.partition_point(|(written, _)| *written <= revision);
        versions[..after].last()?.1.as_ref()
    }

    /// The keys from one on, at a revision.
    pub fn range_at<'a>(&'a self, from: &'a [u8], revision: u64) -> impl Iterator<Item = (&'a Vec<u8>, &'a Stored)> {
        let keys = self.keys.range(from.to_vec()..).map(|(key, _)| key);
        keys.filter_map(move |key| Some((key, self.at(key, revision)?)))
    }

    /// Everything, at the end.
    pub fn all(&self) -> impl Iterator<Item = (&Vec<u8>, &Stored)> {
        self.keys.iter().filter_map(|(key, versions)| Some((key, versions.last()?.1.as_ref()?)))
    }

    pub fn apply(&mut self, entry: &Entry) {
        let EntryHeader { id, log_time, kind, .. } = entry.header;
        assert_eq!(self.replies.len() as u64 + 1, id.index.0, "the model is applied in order");
        self.sessions.retain(|_, session| session.last_use + limits::SESSION_TTL_MS >= log_time.0);
        let reply = (kind == EntryKind::Command).then(|| {
            let command = Command::decode(&entry.body).expect("only commands are committed");
            self.execute(&entry.header, &command)
        });
        self.replies.push(reply);
    }

    fn execute(&mut self, header: &EntryHeader, command: &Command<'_>) -> Reply {
        let (revision, id, now) = (header.id.index, header.session.0, header.log_time.0);
        let outcome = match command {
            Command::QueryOutcome { session, sequence } => {
                return Reply::Fate(self.fate(session.0, sequence.0, header))
            }
            Command::OpenSession if self.sessions.len() == limits::SESSIONS_MAX => Outcome::SessionsFull,
            Command::OpenSession => {
                self.sessions.insert(revision.0, Session { last_use: now, results: BTreeMap::new() });
                Outcome::SessionOpened
            }
            _ if id == 0 => self.operate(revision.0, command),
            _ => match self.sessions.get_mut(&id) {
                None => Outcome::SessionExpired,
                Some(_) if *command == Command::CloseSession => {
                    self.sessions.remove(&id);
                    Outcome::SessionClosed
                }
                Some(session) => {
                    session.last_use = now;
                    let known = session.known(header.sequence.0);
                    match (command, known) {
                        (Command::KeepAlive, _) => Outcome::SessionKept,
                        (_, Some(known)) => {
                            self.copies += 1;
                            return Reply::Executed(known);
                        }
                        (_, None) if session.forgets(header.sequence.0) => Outcome::Forgotten,
                        _ => {
                            let executed = Executed { outcome: self.operate(revision.0, command), revision };
                            let session = self.sessions.get_mut(&id).expect("it was there");
                            session.results.insert(header.sequence.0, executed);
                            return Reply::Executed(executed);
                        }
                    }
                }
            },
        };
        Reply::Executed(Executed { outcome, revision })
    }

    fn fate(&mut self, session: u64, sequence: u64, header: &EntryHeader) -> Fate {
        let Some(session) = self.sessions.get_mut(&session) else { return Fate::SessionExpired };
        match session.known(sequence) {
            Some(Executed { outcome: Outcome::Never, .. }) => Fate::Never,
            Some(executed) => Fate::Executed(executed),
            None if session.forgets(sequence) => Fate::Forgotten,
            None if sequence > session.highest() + limits::SESSION_WINDOW as u64 => Fate::Forgotten,
            None => {
                let revision = header.id.index;
                session.results.insert(sequence, Executed { outcome: Outcome::Never, revision });
                Fate::Never
            }
        }
    }

    /// All operations of a command, on a copy of what they touch; it counts only if all of them succeed.
    fn operate(&mut self, revision: u64, command: &Command<'_>) -> Outcome {
        let mut written = Written::new();
        let mut last = Outcome::BatchApplied;
        for (position, operation) in (0..).zip(command.operations()) {
            match (self.change(revision, &mut written, &operation), command) {
                (Ok(_), Command::Batch(_)) => {}
                (Ok(outcome), _) => last = outcome,
                (Err(why), Command::Batch(_)) => return Outcome::BatchRefused { position, why },
                (Err(why), _) => return why.into(),
            }
        }
        for (key, stored) in written {
            self.keys.entry(key).or_default().push((revision, stored));
        }
        for operation in command.operations() {
            if !operation.value().is_empty() {
                *self.executed.entry(operation.value().to_vec()).or_default() += 1;
            }
        }
        last
    }

    fn change(&self, revision: u64, written: &mut Written, operation: &Operation<'_>) -> Result<Outcome, Refusal> {
        let key = operation.key();
        let old = written.get(key).cloned().unwrap_or_else(|| self.at(key, revision).cloned());
        let found = old.as_ref().map_or(0, |old| old.revision);
        let is_new = old.is_none();
        let text = match operation {
            Operation::Put { .. } if !is_new => return Err(Refusal::Exists),
            Operation::Remove { .. } if is_new => return Err(Refusal::NotFound),
            Operation::CompareAndSet { expected, .. } if expected.0 != found => {
                return Err(Refusal::Mismatch(protocol::Index(found)));
            }
            Operation::Increment { by, .. } => Some(sum(old.as_ref(), *by)?.to_string()),
            _ => None,
        };
        let value = text.as_ref().map_or(operation.value(), |text| text.as_bytes());
        let stored = Stored {
            value: value.to_vec(),
            revision,
            create_revision: old.as_ref().map_or(revision, |old| old.create_revision),
            version: old.as_ref().map_or(1, |old| old.version + 1),
        };
        let removes = matches!(operation, Operation::Remove { .. });
        written.insert(key.to_vec(), (!removes).then_some(stored));
        Ok(match (removes, text) {
            (true, _) => Outcome::Removed,
            (_, Some(text)) => Outcome::Number { sum: text.parse().expect("a sum"), created: is_new },
            _ if is_new => Outcome::Created,
            _ => Outcome::Updated,
        })
    }
}

fn sum(old: Option<&Stored>, by: i64) -> Result<i64, Refusal> {
    let text = old.map_or("0".into(), |old| String::from_utf8_lossy(&old.value));
    let number: i64 = text.parse().map_err(|_| Refusal::NotANumber)?;
    i64::try_from(i128::from(number) + i128::from(by)).map_err(|_| Refusal::Overflow)
}

impl Session {
    fn highest(&self) -> u64 {
        self.results.keys().next_back().copied().unwrap_or(0)
    }

    fn forgets(&self, sequence: u64) -> bool {
        sequence == 0 || sequence + limits::SESSION_WINDOW as u64 <= self.highest()
    }

    fn known(&self, sequence: u64) -> Option<Executed> {
        (!self.forgets(sequence)).then(|| self.results.get(&sequence).copied()).flatten()
    }
}
