//! What became of commands, and how a reply says it.

use protocol::reply::{self, Answer, Detail, Effect, Reason, RefusedOperation, ReplyBody, SessionTerms, Status};
use protocol::{Index, SessionId};

use crate::limits;

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The key is new (put, update, compare-and-set).
    Created,
    /// The key's value was replaced (update, compare-and-set).
    Updated,
    /// The key is gone (remove).
    Removed,
    /// The key holds the sum (increment).
    Number {
        /// What it is now.
        sum: i64,
        /// The key is new.
        created: bool,
    },
    /// All operations of the batch were applied.
    BatchApplied,
    /// Refused: the key exists (put).
    Exists,
    /// Refused: there is no such key (remove).
    NotFound,
    /// Refused: the key is at this revision and not at the expected one; 0 = it does not exist (compare-and-set).
    Mismatch(Index),
    /// Refused: the value is not a number (increment).
    NotANumber,
    /// Refused: the sum does not fit 64 bits (increment).
    Overflow,
    /// Refused: this operation of the batch would be, so none was applied.
    BatchRefused {
        /// Its position, from 0.
        position: u8,
        /// Why.
        why: Refusal,
    },
    /// The session is open; its id is the revision.
    SessionOpened,
    /// The session is closed.
    SessionClosed,
    /// The session was used, and nothing else was done.
    SessionKept,
    /// Not executed: there are as many sessions as there may be.
    SessionsFull,
    /// Not executed: there is no such session any more (C-24).
    SessionExpired,
    /// Not executed: the session keeps no result of a sequence so far behind.
    Forgotten,
    /// Not executed, and never will be: its outcome was asked for before it came (C-24).
    Never,
}

/// Why an operation changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// See [`Outcome::Exists`].
    Exists,
    /// See [`Outcome::NotFound`].
    NotFound,
    /// See [`Outcome::Mismatch`].
    Mismatch(Index),
    /// See [`Outcome::NotANumber`].
    NotANumber,
    /// See [`Outcome::Overflow`].
    Overflow,
}

/// A command's result: the first one, however often it comes (C-24).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Executed {
    /// What became of it.
    pub outcome: Outcome,
    /// The entry that executed it.
    pub revision: Index,
}

/// What became of a request that somebody asks about (C-24).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It was executed.
    Executed(Executed),
    /// It never was and never will be.
    Never,
    /// Its result is not kept, or it is too far ahead to be marked.
    Forgotten,
    /// There is no such session.
    SessionExpired,
}

/// What an entry's command is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// Its result.
    Executed(Executed),
    /// What it asked for.
    Fate(Fate),
}

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Exists => Self::Exists,
            Refusal::NotFound => Self::NotFound,
            Refusal::Mismatch(revision) => Self::Mismatch(revision),
            Refusal::NotANumber => Self::NotANumber,
            Refusal::Overflow => Self::Overflow,
        }
    }
}

impl From<Fate> for reply::Fate {
    fn from(fate: Fate) -> Self {
        match fate {
            Fate::Executed(executed) => Self::Executed(executed.answer()),
            Fate::Never => Self::Never,
            Fate::Forgotten => Self::Forgotten,
            Fate::SessionExpired => Self::SessionExpired,
        }
    }
}

impl Executed {
    /// What the reply brings.
    pub fn body(&self) -> ReplyBody<'static> {
        match (self.outcome, self.answer().detail) {
            (Outcome::SessionOpened, _) => ReplyBody::Session(SessionTerms {
                id: SessionId(self.revision.0),
                ttl_ms: limits::SESSION_TTL_MS,
                window: u32::try_from(limits::SESSION_WINDOW).expect("a window is small"),
            }),
            (_, Detail::Nothing) => ReplyBody::Empty,
            (_, Detail::Number(number)) => ReplyBody::Number(number),
            (_, Detail::Refused(refused)) => ReplyBody::Refused(refused),
        }
    }

    /// The result in the protocol's words.
    pub fn answer(&self) -> Answer {
        let answer = |status, reason, effect| {
            let revision = if status == Status::NotExecuted { Index(0) } else { self.revision };
            Answer { status, reason, effect, revision, detail: Detail::Nothing }
        };
        let applied = |status| answer(status, Reason::None, Effect::Applied);
        let refused = |status| answer(status, Reason::None, Effect::None);
        let failed = |reason| answer(Status::ConditionFailed, reason, Effect::None);
        let not_executed = |reason| answer(Status::NotExecuted, reason, Effect::None);
        match self.outcome {
            Outcome::Created | Outcome::SessionOpened => applied(Status::Created),
            Outcome::Updated | Outcome::Removed | Outcome::BatchApplied => applied(Status::Ok),
            Outcome::SessionClosed | Outcome::SessionKept => applied(Status::Ok),
            Outcome::Number { sum, created } => {
                let status = if created { Status::Created } else { Status::Ok };
                Answer { detail: Detail::Number(sum), ..applied(status) }
            }
            Outcome::Exists => refused(Status::Exists),
            Outcome::NotFound => refused(Status::NotFound),
            Outcome::Mismatch(revision) => {
                let detail = Detail::Refused(RefusedOperation { position: 0, revision });
                Answer { detail, ..failed(Reason::RevisionMismatch) }
            }
            Outcome::NotANumber => failed(Reason::NotANumber),
            Outcome::Overflow => failed(Reason::Overflow),
            Outcome::BatchRefused { position, why } => {
                let revision = if let Refusal::Mismatch(revision) = why { revision } else { Index(0) };
                let detail = Detail::Refused(RefusedOperation { position: position.into(), revision });
                Answer { detail, ..Executed { outcome: why.into(), ..*self }.answer() }
            }
            Outcome::SessionsFull => not_executed(Reason::Overload),
            Outcome::SessionExpired => not_executed(Reason::SessionExpired),
            Outcome::Forgotten => not_executed(Reason::Forgotten),
            Outcome::Never => not_executed(Reason::Never),
        }
    }
}
