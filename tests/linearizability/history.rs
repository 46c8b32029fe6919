//! What clients asked and were told, and when: all that the two linearizability checkers share.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A key.
pub type Key = Text;
/// A value.
pub type Value = Text;

/// Bytes that are shown as text, shortened. Cloning shares them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text(Arc<[u8]>);

/// When something happened. Only the order counts; no two events of a history share a moment.
pub type Moment = u64;

/// The operations of all clients.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// In the order in which they began; those that were asked again later stand behind.
    pub operations: Vec<Operation>,
    events: Moment,
}

/// One operation of one client.
#[derive(Clone, Debug)]
pub struct Operation {
    pub client: u32,
    pub action: Action,
    pub begin: Moment,
    pub end: End,
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It was executed once, between its begin and `at`.
    Answered {
        at: Moment,
        /// The log index that the reply names; none in histories of other systems.
        index: Option<u64>,
        answer: Answer,
    },
    /// It was executed once, at any moment after its begin, or never.
    Unknown,
    /// It was not and never will be executed.
    NotExecuted,
}

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Creates a key; refuses an existing one.
    Put {
        key: Key,
        value: Value,
    },
    /// Creates or replaces.
    Update {
        key: Key,
        value: Value,
    },
    Remove {
        key: Key,
    },
    /// Replaces the version `expected` (0 = the key must not exist).
    CompareAndSet {
        key: Key,
        expected: u64,
        value: Value,
    },
    /// Adds to a number in decimal text; a missing key is 0.
    Increment {
        key: Key,
        by: i64,
    },
    /// All or none, in order.
    Batch(Vec<Action>),
    Get {
        key: Key,
    },
    /// At most `limit` keys from `from` on; of the state at revision `view`, or of the latest.
    Page {
        from: Key,
        limit: usize,
        view: Option<u64>,
    },
    /// Adds to the end of a value; a missing key is empty. Of other systems.
    Append {
        key: Key,
        value: Value,
    },
    /// Replaces one value by another. Of other systems.
    Replace {
        key: Key,
        expected: Value,
        value: Value,
    },
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Created,
    Updated,
    Removed,
    /// A put of an existing key.
    Exists,
    /// A get or a removal of a missing key.
    NotFound,
    /// The state is not what the operation needs: another version, no number, too large a sum.
    Mismatch,
    /// What an increment made.
    Number(i64),
    Found(Found),
    /// The batch's operation at a position was refused, so nothing of it was done.
    Refused {
        position: usize,
        answer: Box<Answer>,
    },
    Page {
        items: Vec<(Key, Found)>,
        /// Where the next page begins.
        resume: Option<Key>,
    },
    /// Done, and not told what it met.
    Done,
}

/// A value that was read, with as much as was told about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub value: Value,
    pub revision: Option<u64>,
    pub create_revision: Option<u64>,
    pub version: Option<u64>,
}

impl History {
    /// A client asks; returns the operation's number, for [`History::end`].
    pub fn begin(&mut self, client: u32, action: Action) -> usize {
        self.events += 1;
        self.operations.push(Operation { client, action, begin: self.events, end: End::Unknown });
        self.operations.len() - 1
    }

    /// A client asks again, after an unknown end, what may be executed each time it is asked. Which of them is executed when
    /// nobody knows, so the new one begins with the old one.
    pub fn asked_again(&mut self, operation: usize) {
        let again = Operation { end: End::Unknown, ..self.operations[operation].clone() };
        self.operations.push(again);
    }

    /// The operations with their numbers, in the order in which they began.
    pub fn by_begin(&self) -> Vec<(usize, &Operation)> {
        let mut operations: Vec<_> = self.operations.iter().enumerate().collect();
        operations.sort_by_key(|(_, operation)| operation.begin);
        operations
    }

    /// It is answered; an operation that never is stays unknown.
    pub fn answered(&mut self, operation: usize, index: Option<u64>, answer: Answer) {
        self.events += 1;
        self.operations[operation].end = End::Answered { at: self.events, index, answer };
    }

    /// Its client is told that it was not executed.
    pub fn not_executed(&mut self, operation: usize) {
        self.operations[operation].end = End::NotExecuted;
    }

    /// Its beginning, up to where some key is named by `per_key` operations. What had not ended by then has an unknown end.
    pub fn up_to(&self, per_key: usize) -> History {
        let mut counts: BTreeMap<&Key, usize> = BTreeMap::new();
        let mut operations: Vec<Operation> = Vec::new();
        let mut end = Moment::MAX;
        for (_, operation) in self.by_begin() {
            for key in operation.action.keys() {
                *counts.entry(key).or_default() += 1;
            }
            if operation.action.keys().iter().any(|key| counts[key] > per_key) {
                end = operation.begin;
                break;
            }
            operations.push(operation.clone());
        }
        for operation in &mut operations {
            if operation.ended().is_some_and(|at| at > end) {
                operation.end = End::Unknown;
            }
        }
        History { operations, events: self.events }
    }
}

impl Operation {
    /// When it was answered, if it was.
    pub fn ended(&self) -> Option<Moment> {
        match self.end {
            End::Answered { at, .. } => Some(at),
            End::Unknown | End::NotExecuted => None,
        }
    }
}

impl Action {
    /// Whether it is an entry of the log.
    pub fn writes(&self) -> bool {
        !matches!(self, Action::Get { .. } | Action::Page { .. })
    }

    /// The keys that it names; none for a page.
    pub fn keys(&self) -> Vec<&Key> {
        match self {
            Action::Put { key, .. }
            | Action::Update { key, .. }
            | Action::Remove { key }
            | Action::CompareAndSet { key, .. }
            | Action::Increment { key, .. }
            | Action::Get { key }
            | Action::Append { key, .. }
            | Action::Replace { key, .. } => vec![key],
            Action::Batch(actions) => actions.iter().flat_map(Action::keys).collect(),
            Action::Page { .. } => Vec::new(),
        }
    }
}

impl<T: AsRef<[u8]>> From<T> for Text {
    fn from(bytes: T) -> Self {
        Self(bytes.as_ref().into())
    }
}

impl Deref for Text {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(32)];
        let more = if shown.len() < self.0.len() { ".." } else { "" };
        write!(f, "{}{more}", shown.escape_ascii())
    }
}

impl Found {
    /// A value of which nothing else was told.
    pub fn bare(value: Value) -> Self {
        Self { value, revision: None, create_revision: None, version: None }
    }
}
