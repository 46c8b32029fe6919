//! One seed, many independent generators: one per concern, so that a change in one does not disturb the others.

use raftkv::random::SplitMix64;

#[derive(Clone, Debug)]
pub struct Random(SplitMix64);

impl Random {
    /// The generator of one concern of a seed.
    pub fn of(seed: u64, concern: &str) -> Self {
        let mut state = seed ^ 0x5EED_0F4A_17C0_FFEE;
        for byte in concern.bytes() {
            state = SplitMix64::new(state ^ u64::from(byte)).draw();
        }
        Random(SplitMix64::new(state))
    }

    pub fn next(&mut self) -> u64 {
        self.0.draw()
    }

    /// From 0 to `bound`, without it.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound.max(1))
    }

    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True in `permille` of 1000 cases.
    pub fn chance(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// Exponential-like: the mean most of the time, up to eight times of it rarely.
    pub fn around(&mut self, mean: u64) -> u64 {
        let tail = self.next().trailing_zeros().min(3);
        self.below(mean.max(1) << tail)
    }
}
