//! One seed, many independent generators: one per concern, so that a change in one does not disturb the others.

/// splitmix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The generator of one concern of a seed.
    pub fn of(seed: u64, concern: &str) -> Self {
        let mut state = seed ^ 0x5EED_0F4A_17C0_FFEE;
        for byte in concern.bytes() {
            state = Random(state ^ u64::from(byte)).next();
        }
        Random(state)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to `bound`, without it.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
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
