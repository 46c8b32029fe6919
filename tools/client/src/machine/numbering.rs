//! The client's side of a session: which number a write gets, and when it may get one (C-24).

use std::collections::VecDeque;

use protocol::reply::SessionTerms;
use protocol::{Sequence, SessionId};

use super::{Span, Time};

/// What makes a write of a session the same write, however often it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number {
    /// The session.
    pub session: SessionId,
    /// Its sequence there.
    pub sequence: Sequence,
}

/// Whether there is a session, and its numbers.
#[derive(Debug)]
pub(super) enum Numbering {
    /// Writes go without a session.
    Off,
    /// None is open; the next write asks for one.
    Closed,
    /// Asked for.
    Opening,
    Open(Session),
}

#[derive(Debug)]
pub(super) struct Session {
    id: SessionId,
    ttl: Span,
    window: u64,
    /// The lowest sequence whose write has not ended.
    first: u64,
    /// For each sequence from `first` on that was given out: whether its write has ended.
    ended: VecDeque<bool>,
    last_use: Time,
}

impl Numbering {
    pub(super) fn open(&mut self, now: Time, terms: &SessionTerms) {
        *self = Self::Open(Session {
            id: terms.id,
            ttl: Span(terms.ttl_ms.saturating_mul(1_000_000)),
            window: u64::from(terms.window.max(1)),
            first: 1,
            ended: VecDeque::new(),
            last_use: now,
        });
    }

    /// The next number; none without a session, or while the window is full.
    pub(super) fn assign(&mut self, now: Time) -> Option<Number> {
        let Self::Open(session) = self else { return None };
        if session.ended.len() as u64 >= session.window {
            return None;
        }
        let sequence = Sequence(session.first + session.ended.len() as u64);
        session.ended.push_back(false);
        session.last_use = now;
        Some(Number { session: session.id, sequence })
    }

    /// The write of this number has ended: it will not be sent again.
    pub(super) fn ended(&mut self, number: Number) {
        let Self::Open(session) = self else { return };
        if session.id != number.session {
            return;
        }
        let place = usize::try_from(number.sequence.0 - session.first).expect("within the window");
        session.ended[place] = true;
        while session.ended.front() == Some(&true) {
            session.ended.pop_front();
            session.first += 1;
        }
    }

    /// A node says that this session is gone.
    pub(super) fn lose(&mut self, id: SessionId) {
        if self.id() == Some(id) {
            *self = Self::Closed;
        }
    }

    pub(super) fn id(&self) -> Option<SessionId> {
        match self {
            Self::Open(session) => Some(session.id),
            Self::Off | Self::Closed | Self::Opening => None,
        }
    }

    /// Every number that was given out has come to its end.
    pub(super) fn is_at_rest(&self) -> bool {
        matches!(self, Self::Open(session) if session.ended.is_empty())
    }

    /// When the session must be used so that it does not expire.
    pub(super) fn next_use(&self) -> Option<Time> {
        match self {
            Self::Open(session) => Some(session.last_use.plus(Span(session.ttl.0 / 2))),
            Self::Off | Self::Closed | Self::Opening => None,
        }
    }

    /// The session to be kept alive now.
    pub(super) fn keep(&mut self, now: Time) -> Option<SessionId> {
        if self.next_use().is_none_or(|due| now < due) {
            return None;
        }
        let Self::Open(session) = self else { return None };
        session.last_use = now;
        Some(session.id)
    }
}
