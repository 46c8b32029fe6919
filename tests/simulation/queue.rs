//! Virtual time: events by moment, and among those of one moment in an order that the seed draws.

use std::collections::BTreeMap;

use raftkv::time::{Span, Time};

use crate::random::Random;
use crate::world::START;

pub struct Queue<E> {
    now: Time,
    events: BTreeMap<(Time, u64, u64), E>,
    ties: Random,
    serial: u64,
}

impl<E> Queue<E> {
    pub fn new(seed: u64) -> Self {
        Self { now: START, events: BTreeMap::new(), ties: Random::of(seed, "ties"), serial: 0 }
    }

    pub fn now(&self) -> Time {
        self.now
    }

    pub fn at(&mut self, time: Time, event: E) {
        self.serial += 1;
        self.events.insert((time.max(self.now), self.ties.next(), self.serial), event);
    }

    pub fn after(&mut self, span: Span, event: E) {
        self.at(self.now + span, event);
    }

    /// Behind all that happens at the same moment, and without a draw: whether there is such an event changes the order of no
    /// others, so a schedule that leaves out the faults that came to nothing is the same run.
    pub fn last_after(&mut self, span: Span, event: E) {
        self.serial += 1;
        self.events.insert((self.now + span, u64::MAX, self.serial), event);
    }

    pub fn next(&mut self) -> Option<E> {
        let ((time, ..), event) = self.events.pop_first()?;
        self.now = time;
        Some(event)
    }
}
