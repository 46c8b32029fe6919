//! The generator for timeouts: seeded from outside, so that a run can be repeated.

use crate::time::Span;

/// SplitMix64 (Steele, Lea, Flood, 2014). Not for secrets.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Evenly from `[low, high)`; `low` if that is empty.
    pub(super) fn span(&mut self, low: Span, high: Span) -> Span {
        let width = high.0.saturating_sub(low.0);
        Span(if width == 0 { low.0 } else { low.0 + self.next() % width })
    }
}
