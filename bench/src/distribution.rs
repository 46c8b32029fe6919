//! Which keys of a set are asked for.

use std::sync::atomic::Ordering;

use clap::ValueEnum;

use crate::random::{mix, Random};
use crate::workload::Fresh;

/// How requests spread over the keys of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Spread {
    /// Every key as often as any other
    Uniform,
    /// Few keys very often, most seldom (Zipf's law, exponent 0.99), scattered over the set
    Zipfian,
    /// One after the other, from the first to the last, again and again
    Sequential,
    /// Nine of ten requests go to one key of a hundred
    Hot,
    /// The newest keys most often (Zipf's law)
    Latest,
}

/// A spread over a set of keys, ready to be picked from.
#[derive(Clone, Debug)]
pub(crate) struct Distribution {
    spread: Spread,
    keys: u64,
    zipf: Option<Zipf>,
}

/// Share of the requests that go to hot keys, and of the keys that are hot.
const HOT_REQUESTS: f64 = 0.9;
const HOT_KEYS: f64 = 0.01;

impl Distribution {
    /// Over `keys` keys. Of a Zipfian one the sum over all keys is taken here, once.
    pub(crate) fn new(spread: Spread, keys: u64) -> Distribution {
        let ranked = matches!(spread, Spread::Zipfian | Spread::Latest);
        Distribution { spread, keys: keys.max(1), zipf: ranked.then(|| Zipf::new(keys.max(1))) }
    }

    /// Uniform.
    #[cfg(test)]
    pub(crate) fn uniform(keys: u64) -> Distribution {
        Distribution::new(Spread::Uniform, keys)
    }

    /// One thread's picker.
    pub(crate) fn picker(self, seed: u64) -> Picker {
        let at = mix(seed) % self.keys;
        Picker { of: self, at }
    }
}

/// Picks keys, for one thread.
pub(crate) struct Picker {
    of: Distribution,
    /// Of a sequence: where it is.
    at: u64,
}

impl Picker {
    /// The number of the next key.
    pub(crate) fn next(&mut self, random: &mut Random, fresh: &Fresh) -> u64 {
        let keys = self.of.keys;
        match (self.of.spread, &self.of.zipf) {
            (Spread::Zipfian, Some(zipf)) => mix(zipf.rank(random)) % keys,
            (Spread::Latest, Some(zipf)) => {
                let end = match fresh {
                    Fresh::Counted(end) => end.load(Ordering::Relaxed),
                    Fresh::Scattered { .. } => keys,
                };
                end.saturating_sub(1 + zipf.rank(random))
            }
            (Spread::Sequential, _) => {
                self.at = (self.at + 1) % keys;
                self.at
            }
            (Spread::Hot, _) => {
                let hot = (keys as f64 * HOT_KEYS).ceil() as u64;
                let among = if random.unit() < HOT_REQUESTS { hot } else { keys };
                // The hot keys are not neighbours.
                mix(random.below(among)) % keys
            }
            _ => random.below(keys),
        }
    }
}

/// Zipf's law over ranks from 0, by the method of Gray and others, "Quickly generating billion-record synthetic databases" (1994).
#[derive(Clone, Debug)]
struct Zipf {
    ranks: f64,
    zeta: f64,
    alpha: f64,
    eta: f64,
}

const THETA: f64 = 0.99;

impl Zipf {
    fn new(ranks: u64) -> Zipf {
        let zeta_of = |n: u64| (1..=n).map(|rank| (rank as f64).powf(-THETA)).sum::<f64>();
        let (zeta, n) = (zeta_of(ranks), ranks as f64);
        let eta = (1.0 - (2.0 / n).powf(1.0 - THETA)) / (1.0 - zeta_of(2) / zeta);
        Zipf { ranks: n, zeta, alpha: 1.0 / (1.0 - THETA), eta }
    }

    fn rank(&self, random: &mut Random) -> u64 {
        let u = random.unit();
        let uz = u * self.zeta;
        if uz < 1.0 {
            return 0;
        }
        if uz < 1.0 + 0.5_f64.powf(THETA) {
            return 1;
        }
        let rank = self.ranks * (self.eta * u - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.ranks as u64 - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::AtomicU64;
    use std::sync::Arc;

    use super::*;

    fn picked(spread: Spread, keys: u64, count: usize) -> BTreeMap<u64, usize> {
        let mut picker = Distribution::new(spread, keys).picker(1);
        let mut random = Random::new(2);
        let fresh = Fresh::Counted(Arc::new(AtomicU64::new(keys)));
        let mut picked = BTreeMap::new();
        for _ in 0..count {
            *picked.entry(picker.next(&mut random, &fresh)).or_default() += 1;
        }
        picked
    }

    #[test]
    fn every_spread_stays_within_its_keys() {
        for spread in Spread::value_variants() {
            for keys in [1, 2, 3, 1000] {
                let picked = picked(*spread, keys, 2000);
                assert!(picked.keys().all(|key| *key < keys), "{spread:?} of {keys}: {picked:?}");
            }
        }
    }

    #[test]
    fn a_sequence_meets_all_keys_equally_often() {
        let picked = picked(Spread::Sequential, 10, 100);
        assert_eq!(picked.values().copied().collect::<Vec<_>>(), [10; 10]);
    }

    #[test]
    fn uniform_spreads_and_zipfian_does_not() {
        let most = |spread| picked(spread, 1000, 100_000).into_values().max().expect("some");
        assert!(most(Spread::Uniform) < 200);
        // The first of a thousand ranks has 1 / zeta(1000, 0.99) = 13 % of the requests.
        assert!((12_000..15_000).contains(&most(Spread::Zipfian)));
        let latest = picked(Spread::Latest, 1000, 100_000);
        assert!(latest[&999] > 12_000 && latest[&999] > 10 * latest[&900]);
    }

    #[test]
    fn hot_keys_have_nine_tenths() {
        let mut counts: Vec<usize> = picked(Spread::Hot, 1000, 100_000).into_values().collect();
        counts.sort_by_key(|count| std::cmp::Reverse(*count));
        let hot: usize = counts.iter().take(10).sum();
        assert!((89_000..92_000).contains(&hot), "{hot}");
    }
}
