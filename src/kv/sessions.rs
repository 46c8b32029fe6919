//! Sessions: what makes a write that is sent often be executed once (C-24).
//!
//! A session keeps the results of its last [`limits::SESSION_WINDOW`] sequences; the highest that was executed, or marked,
//! is the last of them. A copy gets the first result. The table is part of the state machine: it changes by entries alone,
//! expires by their log time, and is the same on every node that has applied the same entries.
//!
//! A session's results lie in a ring that grows with its use up to the window; from then on a write allocates nothing.
//! When sessions expire is kept in a heap with one record per session, which says when it may expire at the earliest and is
//! put right when that time comes; so using a session costs no order.

mod record;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use protocol::{Index, LogTime, Sequence, SessionId};

use super::outcome::{Executed, Fate, Outcome};
use crate::limits;

pub use record::SessionError;

/// The ring's size; sequences find their place by their lowest bits.
const WINDOW: u64 = limits::SESSION_WINDOW as u64;
const _: () = assert!(limits::SESSION_WINDOW.is_power_of_two());

/// From which request an entry comes: what its header says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Its session, or 0.
    pub session: SessionId,
    /// Its sequence within the session.
    pub sequence: Sequence,
    /// The log time of the entry.
    pub log_time: LogTime,
}

/// All open sessions.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    open: BTreeMap<SessionId, Arc<Session>>,
    /// When a session may expire, at the earliest; one record for each, and some of sessions that were closed.
    due: BinaryHeap<Reverse<(LogTime, SessionId)>>,
    counts: SessionCounts,
    /// Places of all rings together.
    places: usize,
}

/// Numbers for status; unlike the sessions themselves they are this process's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCounts {
    /// Sessions that are open.
    pub open: u64,
    /// Sessions that have expired.
    pub expired: u64,
    /// Requests that were answered with their first result.
    pub repeated: u64,
}

/// One session.
#[derive(Clone, Debug)]
pub struct Session {
    id: SessionId,
    last_use: LogTime,
    /// The highest sequence that has a result.
    highest: Sequence,
    /// A ring: a sequence's place is its remainder by the window. Empty places have sequence 0.
    results: Vec<Kept>,
}

/// A result, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    sequence: Sequence,
    executed: Executed,
}

/// What a request of a session meets.
pub(super) enum Met<'a> {
    /// It is new: to be executed, and its result to be kept.
    New(&'a mut Session),
    /// It has its result already, or is refused.
    Known(Executed),
}

impl Sessions {
    /// The table of a snapshot.
    pub fn restore(sessions: Vec<Session>) -> Self {
        let mut restored = Self::default();
        for session in sessions {
            restored.places += session.results.len();
            restored.open.insert(session.id, Arc::new(session));
        }
        restored.rebuild_due();
        restored
    }

    /// Puts the table of a snapshot in place of this one; the counts go on.
    pub(super) fn replace(&mut self, sessions: Vec<Session>) {
        *self = Self { counts: self.counts, ..Self::restore(sessions) };
    }

    /// All sessions, by id. What is returned does not change any more (C-22).
    pub fn capture(&self) -> Vec<Arc<Session>> {
        self.open.values().cloned().collect()
    }

    /// A number that is the same for equal tables.
    pub fn digest(&self) -> u32 {
        let mut bytes = Vec::new();
        self.open.values().for_each(|session| session.encode(&mut bytes));
        crc32c::crc32c(&bytes)
    }

    /// About as many bytes as the sessions take.
    pub fn bytes(&self) -> u64 {
        (self.open.len() * size_of::<Session>() + self.places * size_of::<Kept>()) as u64
    }

    /// Results are kept in so many more places.
    pub(super) fn grown(&mut self, places: usize) {
        self.places += places;
    }

    /// Numbers for status.
    pub fn counts(&self) -> SessionCounts {
        SessionCounts { open: self.open.len() as u64, ..self.counts }
    }

    /// Removes what has not been used for longer than [`limits::SESSION_TTL_MS`]. Every entry does it first.
    pub(super) fn expire(&mut self, log_time: LogTime) {
        while let Some(&Reverse((due, id))) = self.due.peek() {
            if due >= log_time {
                return;
            }
            self.due.pop();
            match self.open.get(&id).map(|session| session.expiry()) {
                Some(expiry) if expiry >= log_time => self.due.push(Reverse((expiry, id))),
                Some(_) => {
                    self.remove(id);
                    self.counts.expired += 1;
                }
                None => {}
            }
        }
    }

    /// Opens the session of the entry at `revision`.
    pub(super) fn open(&mut self, revision: Index, log_time: LogTime) -> Outcome {
        if self.open.len() >= limits::SESSIONS_MAX {
            return Outcome::SessionsFull;
        }
        let session = Session::new(SessionId(revision.0), log_time);
        self.due.push(Reverse((session.expiry(), session.id)));
        self.open.insert(session.id, Arc::new(session));
        // Those that were closed leave their records behind until these are due.
        if self.due.len() > 2 * limits::SESSIONS_MAX {
            self.rebuild_due();
        }
        Outcome::SessionOpened
    }

    pub(super) fn close(&mut self, id: SessionId) -> Outcome {
        if self.remove(id) {
            Outcome::SessionClosed
        } else {
            Outcome::SessionExpired
        }
    }

    fn remove(&mut self, id: SessionId) -> bool {
        let removed = self.open.remove(&id);
        self.places -= removed.as_ref().map_or(0, |session| session.results.len());
        removed.is_some()
    }

    pub(super) fn keep(&mut self, origin: Origin) -> Outcome {
        self.used(origin).map_or(Outcome::SessionExpired, |_| Outcome::SessionKept)
    }

    /// A request of a session comes, in the entry at `revision`.
    pub(super) fn meet(&mut self, origin: Origin, revision: Index) -> Met<'_> {
        let Some(session) = self.open.get_mut(&origin.session) else {
            return Met::Known(Executed { outcome: Outcome::SessionExpired, revision });
        };
        let session = Arc::make_mut(session);
        session.last_use = origin.log_time;
        match sabotage!(NoDedupe, session.kept(origin.sequence), None) {
            Some(executed) => {
                self.counts.repeated += 1;
                Met::Known(executed)
            }
            None if session.has_forgotten(origin.sequence) => {
                Met::Known(Executed { outcome: Outcome::Forgotten, revision })
            }
            None => Met::New(session),
        }
    }

    /// Says what became of a request, in the entry at `revision`; one that has not come is refused from now on (C-24).
    /// Asking does not use the session.
    pub(super) fn query(&mut self, id: SessionId, sequence: Sequence, revision: Index) -> Fate {
        let Some(session) = self.open.get_mut(&id) else { return Fate::SessionExpired };
        match session.kept(sequence) {
            Some(Executed { outcome: Outcome::Never, .. }) => Fate::Never,
            Some(executed) => Fate::Executed(executed),
            // Marking what is further ahead than any honest client can be would make the session forget what it is at.
            None if session.has_forgotten(sequence) || sequence.0.saturating_sub(session.highest.0) > WINDOW => {
                Fate::Forgotten
            }
            None => {
                let never = Executed { outcome: Outcome::Never, revision };
                self.places += sabotage!(NeverNotKept, Arc::make_mut(session).keep(sequence, never), 0);
                Fate::Never
            }
        }
    }

    fn used(&mut self, origin: Origin) -> Option<&mut Session> {
        let session = Arc::make_mut(self.open.get_mut(&origin.session)?);
        session.last_use = origin.log_time;
        Some(session)
    }

    fn rebuild_due(&mut self) {
        self.due.clear();
        self.due.extend(self.open.values().map(|session| Reverse((session.expiry(), session.id))));
    }
}

impl Session {
    fn new(id: SessionId, log_time: LogTime) -> Self {
        Self { id, last_use: log_time, highest: Sequence(0), results: Vec::new() }
    }

    /// Its id: the index of the entry that opened it.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Keeps the result of a sequence that is not forgotten; gives the number of places that the ring has grown by.
    pub(super) fn keep(&mut self, sequence: Sequence, executed: Executed) -> usize {
        let (place, before) = (place(sequence), self.results.len());
        if self.results.len() <= place {
            // In powers of two: a session that is used once stays small.
            self.results.resize((place + 1).next_power_of_two(), Kept::EMPTY);
        }
        self.results[place] = Kept { sequence, executed };
        self.highest = self.highest.max(sequence);
        self.results.len() - before
    }

    /// The result of a sequence.
    fn kept(&self, sequence: Sequence) -> Option<Executed> {
        if self.has_forgotten(sequence) {
            return None;
        }
        self.results.get(place(sequence)).filter(|kept| kept.sequence == sequence).map(|kept| kept.executed)
    }

    /// Whether the sequence is a window or more behind the highest, or no sequence at all.
    fn has_forgotten(&self, sequence: Sequence) -> bool {
        let window = sabotage!(WindowOffByOne, WINDOW, WINDOW + 1);
        sequence.0 == 0 || self.highest.0.saturating_sub(sequence.0) >= window
    }

    /// The last log time at which it is still there.
    fn expiry(&self) -> LogTime {
        LogTime(self.last_use.0.saturating_add(limits::SESSION_TTL_MS))
    }
}

/// Equal are sessions that answer equally: what lies forgotten in the ring does not count.
impl PartialEq for Session {
    fn eq(&self, other: &Self) -> bool {
        let head = |session: &Self| (session.id, session.last_use, session.highest);
        head(self) == head(other) && self.kept_results().eq(other.kept_results())
    }
}

impl Eq for Session {}

impl Kept {
    const EMPTY: Self =
        Self { sequence: Sequence(0), executed: Executed { outcome: Outcome::Never, revision: Index(0) } };
}

fn place(sequence: Sequence) -> usize {
    (sequence.0 % WINDOW) as usize
}

#[cfg(test)]
mod tests;
