//! Log commands: the body of an entry of kind `Command`. Deterministic: applying one reads nothing but the state machine
//! and the entry's own header.

use crate::ids::{Index, Sequence, SessionId};

/// Most operations of one batch: what one entry may do to the state machine before the next has its turn.
pub const BATCH_OPERATIONS_MAX: usize = 128;

/// Most bytes of a batch's operation before its key: kind, both lengths, and a number.
pub const OPERATION_HEAD_BYTES_MAX: usize = 4 + 4 + 4 + 8;

/// One command of the state machine, borrowed from an entry's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Creates a key; refuses an existing one.
    Put {
        /// Key.
        key: &'a [u8],
        /// Value.
        value: &'a [u8],
    },
    /// Creates or replaces.
    Update {
        /// Key.
        key: &'a [u8],
        /// Value.
        value: &'a [u8],
    },
    /// Removes a key; refuses a missing one.
    Remove {
        /// Key.
        key: &'a [u8],
    },
    /// Creates or replaces a key whose revision is the expected one; refuses any other.
    CompareAndSet {
        /// Key.
        key: &'a [u8],
        /// The revision that the key has to have; 0 = it must not exist.
        expected: Index,
        /// Value.
        value: &'a [u8],
    },
    /// Adds to a key whose value is a decimal number as text; a missing one counts as 0. Refuses what is no number, and a
    /// sum outside 64 bits.
    Increment {
        /// Key.
        key: &'a [u8],
        /// What to add.
        by: i64,
    },
    /// Several operations at one revision: all of them, or none if one of them is refused. Later ones see earlier ones.
    Batch(Batch<'a>),
    /// Opens a session, whose id is the index of this entry.
    OpenSession,
    /// Ends the session in the entry's header.
    CloseSession,
    /// Uses the session in the entry's header, and does nothing else.
    KeepAlive,
    /// Asks what became of a request, and makes sure that the answer stays true (C-24).
    QueryOutcome {
        /// Its session.
        session: SessionId,
        /// Its sequence.
        sequence: Sequence,
    },
}

/// What changes one key: a command, or a part of a batch. Each is the [`Command`] of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// See [`Command::Put`].
    Put {
        /// Key.
        key: &'a [u8],
        /// Value.
        value: &'a [u8],
    },
    /// See [`Command::Update`].
    Update {
        /// Key.
        key: &'a [u8],
        /// Value.
        value: &'a [u8],
    },
    /// See [`Command::Remove`].
    Remove {
        /// Key.
        key: &'a [u8],
    },
    /// See [`Command::CompareAndSet`].
    CompareAndSet {
        /// Key.
        key: &'a [u8],
        /// The revision that the key has to have; 0 = it must not exist.
        expected: Index,
        /// Value.
        value: &'a [u8],
    },
    /// See [`Command::Increment`].
    Increment {
        /// Key.
        key: &'a [u8],
        /// What to add.
        by: i64,
    },
}

/// The operations of a batch: 1 to [`BATCH_OPERATIONS_MAX`], encoded and checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch<'a> {
    pub(crate) encoded: &'a [u8],
    pub(crate) count: u32,
}

/// Collects operations into a [`Batch`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchBuilder {
    encoded: Vec<u8>,
    count: u32,
}

/// Goes over the operations of a command.
#[derive(Clone, Copy, Debug)]
pub struct Operations<'a> {
    pub(crate) first: Option<Operation<'a>>,
    pub(crate) rest: &'a [u8],
}

impl<'a> Command<'a> {
    /// What it does to keys, in order: nothing if it is about sessions, several operations if it is a batch.
    pub fn operations(&self) -> Operations<'a> {
        match *self {
            Self::Batch(batch) => batch.operations(),
            _ => Operations { first: self.operation(), rest: &[] },
        }
    }

    /// The one operation that it consists of; none if it is a batch or about sessions.
    pub fn operation(&self) -> Option<Operation<'a>> {
        Some(match *self {
            Self::Put { key, value } => Operation::Put { key, value },
            Self::Update { key, value } => Operation::Update { key, value },
            Self::Remove { key } => Operation::Remove { key },
            Self::CompareAndSet { key, expected, value } => Operation::CompareAndSet { key, expected, value },
            Self::Increment { key, by } => Operation::Increment { key, by },
            _ => return None,
        })
    }
}

impl<'a> From<Operation<'a>> for Command<'a> {
    fn from(operation: Operation<'a>) -> Self {
        match operation {
            Operation::Put { key, value } => Self::Put { key, value },
            Operation::Update { key, value } => Self::Update { key, value },
            Operation::Remove { key } => Self::Remove { key },
            Operation::CompareAndSet { key, expected, value } => Self::CompareAndSet { key, expected, value },
            Operation::Increment { key, by } => Self::Increment { key, by },
        }
    }
}

impl<'a> Operation<'a> {
    /// The key that it is about.
    pub fn key(&self) -> &'a [u8] {
        match *self {
            Self::Put { key, .. }
            | Self::Update { key, .. }
            | Self::Remove { key }
            | Self::CompareAndSet { key, .. }
            | Self::Increment { key, .. } => key,
        }
    }

    /// The value that it brings; empty if it brings none.
    pub fn value(&self) -> &'a [u8] {
        match *self {
            Self::Put { value, .. } | Self::Update { value, .. } | Self::CompareAndSet { value, .. } => value,
            Self::Remove { .. } | Self::Increment { .. } => &[],
        }
    }
}

impl<'a> Batch<'a> {
    /// Its operations, in order.
    pub fn operations(&self) -> Operations<'a> {
        Operations { first: None, rest: self.encoded }
    }

    /// How many they are.
    pub fn count(&self) -> u32 {
        self.count
    }
}

impl BatchBuilder {
    /// Appends an operation. False, and nothing is done: there are [`BATCH_OPERATIONS_MAX`] already.
    pub fn push(&mut self, operation: Operation<'_>) -> bool {
        let has_room = (self.count as usize) < BATCH_OPERATIONS_MAX;
        if has_room {
            operation.encode(&mut self.encoded);
            self.count += 1;
        }
        has_room
    }

    /// The batch; none if it has no operation.
    pub fn batch(&self) -> Option<Batch<'_>> {
        (self.count > 0).then_some(Batch { encoded: &self.encoded, count: self.count })
    }
}
