//! What clients know of the counters: each increment counts exactly once, however often it was sent.

use std::collections::BTreeMap;

use crate::history::{Action, Key};
use crate::oracle::violated;
use crate::workload::counted;
use crate::world::World;

/// One client's increments, or those of all.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    of: BTreeMap<Key, Counter>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counter {
    /// Sum of what was executed.
    executed: i64,
    /// Sum of what may have been executed, or not.
    unknown: i64,
    /// How many were executed.
    times: u64,
}

impl Counters {
    pub fn executed(&mut self, action: &Action) {
        for (key, by) in counted(action) {
            let counter = self.of.entry(key).or_default();
            (counter.executed, counter.times) = (counter.executed + by, counter.times + 1);
        }
    }

    pub fn unknown(&mut self, action: &Action) {
        counted(action).into_iter().for_each(|(key, by)| self.of.entry(key).or_default().unknown += by);
    }

    /// What was unknown is not any more.
    pub fn settled(&mut self, action: &Action) {
        counted(action).into_iter().for_each(|(key, by)| self.of.entry(key).or_default().unknown -= by);
    }

    /// Increments that were executed.
    pub fn times(&self) -> u64 {
        self.of.values().map(|counter| counter.times).sum()
    }

    /// Whether nothing is unknown.
    pub fn is_exact(&self) -> bool {
        self.of.values().all(|counter| counter.unknown == 0)
    }

    fn add(&mut self, other: &Self) {
        for (key, counter) in &other.of {
            let sum = self.of.entry(key.clone()).or_default();
            sum.executed += counter.executed;
            sum.unknown += counter.unknown;
            sum.times += counter.times;
        }
    }
}

impl World {
    /// The increments of all clients.
    pub fn counters(&self) -> Counters {
        let mut all = Counters::default();
        self.clients.iter().for_each(|client| all.add(&client.counters));
        all
    }

    /// At the end: every counter is the sum of its increments.
    pub fn check_counters(&self) {
        for (key, Counter { executed, unknown, .. }) in self.counters().of {
            let stored = self.oracle.model.at(&key, u64::MAX);
            let sum = stored.map_or("0".into(), |stored| String::from_utf8_lossy(&stored.value));
            let sum: i64 = sum.parse().expect("a counter is a number");
            if sum < executed || sum > executed + unknown {
                violated(
                    "C-24: an increment counts once",
                    u32::MAX,
                    format!("{key:?} is {sum}; clients know of {executed} and cannot say of {unknown}"),
                );
            }
        }
    }
}
