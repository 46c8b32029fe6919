//! What is asked: kinds of requests in their proportions, keys from a distribution, sizes of values.

use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use crate::distribution::{Distribution, Picker};
use crate::random::{mix, Random};

/// One kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A key that nobody wrote before.
    Create,
    /// Create or replace.
    Update,
    /// A linearizable read.
    Read,
    /// One page of up to [`SCAN_KEYS_MAX`] keys.
    Scan,
    /// A read, and then an update of what was read; one latency.
    ReadThenUpdate,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 5] = [Kind::Create, Kind::Update, Kind::Read, Kind::Scan, Kind::ReadThenUpdate];
}

/// Longest scan; each is of 1 to so many keys.
pub const SCAN_KEYS_MAX: u64 = 100;

/// How often each kind is asked for, in parts of their sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mix {
    parts: [(Kind, f64); 4],
}

impl Mix {
    /// Only this.
    pub fn only(kind: Kind) -> Mix {
        Mix::of(&[(kind, 1.0)])
    }

    /// Reads, and updates for the rest.
    pub fn reads(part: f64) -> Mix {
        Mix::of(&[(Kind::Read, part), (Kind::Update, 1.0 - part)])
    }

    /// At most four kinds with their parts.
    pub(crate) fn of(kinds: &[(Kind, f64)]) -> Mix {
        let mut parts = [(Kind::Read, 0.0); 4];
        for (part, kind) in parts.iter_mut().zip(kinds) {
            *part = *kind;
        }
        Mix { parts }
    }

    /// Whether it asks for this kind at all.
    pub fn asks(&self, kind: Kind) -> bool {
        self.parts.iter().any(|(of, part)| *of == kind && *part > 0.0)
    }

    /// Whether it reads keys that should be there.
    pub fn needs_keys(&self) -> bool {
        self.asks(Kind::Read) || self.asks(Kind::Scan) || self.asks(Kind::ReadThenUpdate)
    }

    fn choose(&self, random: &mut Random) -> Kind {
        let mut point = random.unit() * self.parts.iter().map(|(_, part)| part).sum::<f64>();
        for (kind, part) in self.parts {
            if point < part {
                return kind;
            }
            point -= part;
        }
        self.parts[0].0
    }
}

/// Bytes of a value: `256`, or a range, `16..1024`, evenly spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueBytes {
    /// Shortest.
    pub min: u32,
    /// Longest.
    pub max: u32,
}

/// Longest value that may be asked for.
const VALUE_BYTES_MAX: u32 = 1024 * 1024;

impl From<u32> for ValueBytes {
    fn from(bytes: u32) -> Self {
        Self { min: bytes, max: bytes }
    }
}

impl std::fmt::Display for ValueBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.min == self.max {
            write!(f, "{}", self.min)
        } else {
            write!(f, "{}..{}", self.min, self.max)
        }
    }
}

impl FromStr for ValueBytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u32>().map_err(|_| format!("`{text}` is not a number of bytes"));
        let (min, max) = match text.split_once("..") {
            Some((min, max)) => (number(min)?, number(max)?),
            None => (number(text)?, number(text)?),
        };
        if min > max || max > VALUE_BYTES_MAX {
            return Err(format!("it must rise and stay within {VALUE_BYTES_MAX}"));
        }
        Ok(Self { min, max })
    }
}

/// One request to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) kind: Kind,
    /// Number of the key.
    pub(crate) key: u64,
    /// Length of the value.
    pub(crate) value_bytes: u32,
    /// Keys of a scan.
    pub(crate) keys: u32,
}

/// The requests of one thread.
pub(crate) struct Generator {
    source: Source,
    random: Random,
    value_bytes: ValueBytes,
}

enum Source {
    /// Every key of the set once.
    Fill { next: u64, end: u64 },
    /// A mix.
    Mix { mix: Mix, picker: Picker, fresh: Fresh },
}

/// Numbers of keys that are new.
#[derive(Clone, Debug)]
pub(crate) enum Fresh {
    /// Behind the set, counted by all threads together, so that reads of the newest find them.
    Counted(Arc<AtomicU64>),
    /// Never those of another run, in no order.
    Scattered { run: u64, next: u64, step: u64 },
}

impl Fresh {
    fn next(&mut self) -> u64 {
        match self {
            Fresh::Counted(end) => end.fetch_add(1, Ordering::Relaxed),
            Fresh::Scattered { run, next, step } => {
                *next += *step;
                mix(*run ^ mix(*next))
            }
        }
    }
}

impl Generator {
    /// Writes the keys of this range, once each.
    pub(crate) fn fill(keys: std::ops::Range<u64>, value_bytes: ValueBytes) -> Generator {
        let source = Source::Fill { next: keys.start, end: keys.end };
        Generator { source, random: Random::new(keys.start), value_bytes }
    }

    /// Asks without end.
    pub(crate) fn mix(mix: Mix, keys: Distribution, fresh: Fresh, value_bytes: ValueBytes, seed: u64) -> Generator {
        let source = Source::Mix { mix, picker: keys.picker(seed), fresh };
        Generator { source, random: Random::new(seed), value_bytes }
    }

    /// Length of the longest value.
    pub(crate) fn value_bytes_max(&self) -> u32 {
        self.value_bytes.max
    }

    /// The next request; none if all were made.
    pub(crate) fn next(&mut self) -> Option<Ask> {
        let (kind, key) = match &mut self.source {
            Source::Fill { next, end } if next == end => return None,
            Source::Fill { next, .. } => {
                *next += 1;
                (Kind::Update, *next - 1)
            }
            Source::Mix { mix, picker, fresh } => match mix.choose(&mut self.random) {
                // Behind the set another run may have been: such keys are created or replaced.
                Kind::Create if matches!(fresh, Fresh::Counted(_)) => (Kind::Update, fresh.next()),
                Kind::Create => (Kind::Create, fresh.next()),
                kind => (kind, picker.next(&mut self.random, fresh)),
            },
        };
        let ValueBytes { min, max } = self.value_bytes;
        let value_bytes = min + self.random.below(u64::from(max - min) + 1) as u32;
        let keys = if kind == Kind::Scan { 1 + self.random.below(SCAN_KEYS_MAX) as u32 } else { 0 };
        Some(Ask { kind, key, value_bytes, keys })
    }
}

/// Shortest key: sixteen digits.
pub const KEY_BYTES_MIN: usize = 16;

/// The key with this number, of this length: sixteen hexadecimal digits, then filler.
pub(crate) fn put_key(out: &mut Vec<u8>, number: u64, length: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let start = out.len();
    out.resize(start + length.max(KEY_BYTES_MIN), b'k');
    for (place, digit) in out[start..start + KEY_BYTES_MIN].iter_mut().enumerate() {
        *digit = DIGITS[(number >> (60 - 4 * place) & 15) as usize];
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn new_keys_are_never_named_twice() {
        let mut seen = BTreeSet::new();
        for thread in 0..2 {
            let fresh = Fresh::Scattered { run: 7, next: thread, step: 2 };
            let keys = Distribution::uniform(1);
            let mut generator = Generator::mix(Mix::only(Kind::Create), keys, fresh, 1.into(), thread);
            for _ in 0..1000 {
                let ask = generator.next().expect("without end");
                assert_eq!(ask.kind, Kind::Create);
                assert!(seen.insert(ask.key));
            }
        }
    }

    #[test]
    fn a_mix_asks_for_each_kind_as_often_as_it_says() {
        let fresh = Fresh::Counted(Arc::new(AtomicU64::new(100)));
        let sizes = ValueBytes { min: 10, max: 20 };
        let mut generator = Generator::mix(Mix::reads(0.9), Distribution::uniform(100), fresh, sizes, 3);
        let asks: Vec<Ask> = (0..10_000).filter_map(|_| generator.next()).collect();
        let reads = asks.iter().filter(|ask| ask.kind == Kind::Read).count();
        assert!((8_800..9_200).contains(&reads), "{reads}");
        let sizes: BTreeSet<u32> = asks.iter().map(|ask| ask.value_bytes).collect();
        assert_eq!(sizes, (10..=20).collect());
    }

    #[test]
    fn a_fill_writes_each_key_once_and_ends() {
        let mut generator = Generator::fill(5..8, 1.into());
        let keys: Vec<u64> = std::iter::from_fn(|| generator.next().map(|ask| ask.key)).collect();
        assert_eq!(keys, [5, 6, 7]);
    }

    #[test]
    fn keys_have_their_length_and_are_in_the_order_of_their_numbers() {
        let key = |number, length| {
            let mut key = Vec::new();
            put_key(&mut key, number, length);
            key
        };
        assert_eq!(key(0xabc, 18), b"0000000000000abckk");
        assert!(key(9, 20) < key(10, 20) && key(u64::MAX, 20) > key(u64::MAX - 1, 20));
    }

    #[test]
    fn sizes_are_one_number_or_a_range() {
        assert_eq!("256".parse(), Ok(ValueBytes::from(256)));
        assert_eq!("16..1024".parse(), Ok(ValueBytes { min: 16, max: 1024 }));
        for wrong in ["", "x", "9..8", "1..2000000", "-1"] {
            assert!(wrong.parse::<ValueBytes>().is_err(), "{wrong}");
        }
    }
}
