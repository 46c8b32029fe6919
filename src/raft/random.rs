//! The generator for timeouts: seeded from outside, so that a run can be repeated.

use crate::random::SplitMix64;
use crate::time::Span;

#[derive(Clone, Debug)]
pub(super) struct Random(SplitMix64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0.draw()
    }

    /// Evenly from `[low, high)`; `low` if that is empty.
    pub(super) fn span(&mut self, low: Span, high: Span) -> Span {
        let width = high.0.saturating_sub(low.0);
        Span(if width == 0 { low.0 } else { low.0 + self.next() % width })
    }
}
