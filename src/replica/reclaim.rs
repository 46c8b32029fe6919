//! When old versions are freed though nothing is applied (C-20): a closed view leaves all that it held, and an idle store would
//! keep it.

use protocol::Index;

use crate::kv::Store;
use crate::limits;
use crate::time::{Span, Time};

/// When to look next.
#[derive(Debug)]
pub(super) struct Reclaim {
    due: Time,
    /// At the last look. Every entry that is applied frees some itself.
    applied: Index,
}

impl Default for Reclaim {
    fn default() -> Self {
        Self { due: Time::NEVER, applied: Index(0) }
    }
}

impl Reclaim {
    /// Frees a bounded part if it is time to.
    pub(super) fn look(&mut self, now: Time, store: &mut Store) {
        let applied = store.applied();
        let is_idle = std::mem::replace(&mut self.applied, applied) == applied;
        if is_idle && now >= self.due {
            store.reclaim();
        }
        if !store.is_reclaiming() {
            self.due = Time::NEVER;
        } else if !is_idle || now >= self.due || self.due == Time::NEVER {
            self.due = now + Span::millis(limits::RECLAIM_IDLE_MS);
        }
    }

    pub(super) fn next_deadline(&self) -> Time {
        self.due
    }
}
