//! A session as bytes: a record of a snapshot.
//!
//! | size | field |
//! |---|---|
//! | 8 | id |
//! | 8 | last use, log time |
//! | 8 | highest sequence |
//! | 4 | number of results |
//! | 40 each | results, by sequence: sequence (8), revision (8), outcome (1), flag (1), position (1), why (1), reserved (4), number (8), revision found (8) |

use std::fmt;

use protocol::{Index, LogTime, Sequence, SessionId};

use super::{Kept, Session, WINDOW};
use crate::kv::outcome::{Executed, Outcome, Refusal};

const HEAD_BYTES: usize = 28;
const RESULT_BYTES: usize = 40;

/// A record that is no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionError {
    /// What is wrong with it.
    pub what: &'static str,
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a session: {}", self.what)
    }
}

impl std::error::Error for SessionError {}

impl Session {
    /// Bytes that [`Session::encode`] appends.
    pub fn encoded_len(&self) -> usize {
        HEAD_BYTES + self.kept_results().count() * RESULT_BYTES
    }

    /// Appends the session.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let count = u32::try_from(self.kept_results().count()).expect("not more than the window");
        out.extend_from_slice(&self.id.0.to_le_bytes());
        out.extend_from_slice(&self.last_use.0.to_le_bytes());
        out.extend_from_slice(&self.highest.0.to_le_bytes());
        out.extend_from_slice(&count.to_le_bytes());
        for kept in self.kept_results() {
            kept.encode(out);
        }
    }

    /// Reads a whole session; nothing may be left over, and nothing may be in it that no session can have.
    pub fn decode(bytes: &[u8]) -> Result<Self, SessionError> {
        let wrong = |what| SessionError { what };
        let (head, mut rest) = bytes.split_at_checked(HEAD_BYTES).ok_or(wrong("it ends early"))?;
        let count = u32::from_le_bytes(head[24..28].try_into().expect("four bytes")) as usize;
        let mut session = Session {
            id: SessionId(u64_at(head, 0)),
            last_use: LogTime(u64_at(head, 8)),
            highest: Sequence(0),
            results: Vec::new(),
        };
        if session.id.0 == 0 || rest.len() != count * RESULT_BYTES {
            return Err(wrong("its id or length"));
        }
        while let Some((result, after)) = rest.split_at_checked(RESULT_BYTES) {
            let kept = Kept::decode(result).ok_or(wrong("a result"))?;
            if kept.sequence <= session.highest || kept.executed.revision.0 == 0 {
                return Err(wrong("the order of its results"));
            }
            session.keep(kept.sequence, kept.executed);
            rest = after;
        }
        let highest = Sequence(u64_at(head, 16));
        if session.highest != highest || session.kept_results().count() != count {
            return Err(wrong("a result outside its window"));
        }
        Ok(session)
    }

    /// The results that count, by sequence.
    pub(super) fn kept_results(&self) -> impl Iterator<Item = &Kept> {
        let behind = self.highest.0 % WINDOW + 1;
        let (newer, older) = self.results.split_at((behind as usize).min(self.results.len()));
        let in_order = older.iter().chain(newer);
        in_order.filter(|kept| !self.has_forgotten(kept.sequence))
    }
}

impl Kept {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut bytes = [0; RESULT_BYTES];
        bytes[0..8].copy_from_slice(&self.sequence.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.executed.revision.0.to_le_bytes());
        let mut why = |refusal: Refusal| match refusal {
            Refusal::Exists => 1,
            Refusal::NotFound => 2,
            Refusal::Mismatch(found) => {
                bytes[32..40].copy_from_slice(&found.0.to_le_bytes());
                3
            }
            Refusal::NotANumber => 4,
            Refusal::Overflow => 5,
        };
        let (outcome, flag, position, why) = match self.executed.outcome {
            Outcome::Created => (1, false, 0, 0),
            Outcome::Updated => (2, false, 0, 0),
            Outcome::Removed => (3, false, 0, 0),
            Outcome::Number { sum, created } => {
                bytes[24..32].copy_from_slice(&sum.to_le_bytes());
                (4, created, 0, 0)
            }
            Outcome::BatchApplied => (5, false, 0, 0),
            Outcome::Exists => (6, false, 0, why(Refusal::Exists)),
            Outcome::NotFound => (6, false, 0, why(Refusal::NotFound)),
            Outcome::Mismatch(found) => (6, false, 0, why(Refusal::Mismatch(found))),
            Outcome::NotANumber => (6, false, 0, why(Refusal::NotANumber)),
            Outcome::Overflow => (6, false, 0, why(Refusal::Overflow)),
            Outcome::BatchRefused { position, why: refusal } => (7, false, position, why(refusal)),
            Outcome::Never => (8, false, 0, 0),
            Outcome::SessionOpened
            | Outcome::SessionClosed
            | Outcome::SessionKept
            | Outcome::SessionsFull
            | Outcome::SessionExpired
            | Outcome::Forgotten => unreachable!("only what operations did is kept"),
        };
        bytes[16..20].copy_from_slice(&[outcome, u8::from(flag), position, why]);
        out.extend_from_slice(&bytes);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let [outcome, flag, position, why] = bytes[16..20].try_into().ok()?;
        let found = Index(u64_at(bytes, 32));
        let refusal = || {
            Some(match why {
                1 => Refusal::Exists,
                2 => Refusal::NotFound,
                3 => Refusal::Mismatch(found),
                4 => Refusal::NotANumber,
                5 => Refusal::Overflow,
                _ => return None,
            })
        };
        let outcome = match outcome {
            1 => Outcome::Created,
            2 => Outcome::Updated,
            3 => Outcome::Removed,
            4 => Outcome::Number { sum: u64_at(bytes, 24).cast_signed(), created: flag != 0 },
            5 => Outcome::BatchApplied,
            6 => refusal()?.into(),
            7 => Outcome::BatchRefused { position, why: refusal()? },
            8 => Outcome::Never,
            _ => return None,
        };
        let executed = Executed { outcome, revision: Index(u64_at(bytes, 8)) };
        let kept = Self { sequence: Sequence(u64_at(bytes, 0)), executed };
        // One session has one form as bytes: what is not used is zero.
        let mut again = Vec::with_capacity(RESULT_BYTES);
        kept.encode(&mut again);
        (again == bytes).then_some(kept)
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
