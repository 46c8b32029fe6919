//! What a load measured: counts and latencies.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::workload::Kind;

/// Latencies above an hour count as one hour.
const HIGHEST_NS: u64 = 3_600_000_000_000;

/// Counts and latencies of one thread, or of all.
#[derive(Clone, Debug)]
pub struct Measured {
    reads: Histogram<u64>,
    writes: Histogram<u64>,
    missing: u64,
    /// Of those that succeeded: after the end of what was measured.
    late: u64,
    /// What failed, by what was said.
    failed: BTreeMap<String, u64>,
}

impl Default for Measured {
    fn default() -> Self {
        Self { reads: histogram(), writes: histogram(), missing: 0, late: 0, failed: BTreeMap::new() }
    }
}

impl Measured {
    /// One success; a read that found nothing is one.
    pub fn succeeded(&mut self, kind: Kind, latency: Duration, missing: bool) {
        let latencies = match kind {
            Kind::Read | Kind::Scan => &mut self.reads,
            Kind::Create | Kind::Update | Kind::ReadThenUpdate => &mut self.writes,
        };
        latencies.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        self.missing += u64::from(missing);
    }

    /// The last success came after the end: its latency counts, and it is none of what was done in that time.
    pub fn was_late(&mut self) {
        self.late += 1;
    }

    /// One failure.
    pub fn failed(&mut self, why: String) {
        self.failed_times(why, 1);
    }

    /// So many failures.
    pub fn failed_times(&mut self, why: String, times: u64) {
        if times > 0 {
            *self.failed.entry(why).or_default() += times;
        }
    }

    /// Adds another thread's.
    pub fn add(&mut self, other: &Measured) {
        self.reads.add(&other.reads).expect("histograms of the same shape add up");
        self.writes.add(&other.writes).expect("histograms of the same shape add up");
        self.missing += other.missing;
        self.late += other.late;
        for (why, count) in &other.failed {
            *self.failed.entry(why.clone()).or_default() += count;
        }
    }

    /// How many succeeded.
    pub fn completed(&self) -> u64 {
        self.reads.len() + self.writes.len()
    }

    /// How many of them before the end.
    pub fn completed_in_time(&self) -> u64 {
        self.completed() - self.late
    }

    /// How many reads found nothing.
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// How many failed.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// What failed, by what was said.
    pub fn failures_by_name(&self) -> &BTreeMap<String, u64> {
        &self.failed
    }

    /// Of all, in nanoseconds.
    pub fn latencies(&self) -> Histogram<u64> {
        let mut all = self.reads.clone();
        all.add(&self.writes).expect("histograms of the same shape add up");
        all
    }

    /// Reads (scans too) and writes apart, if there are both.
    pub fn apart(&self) -> Option<[(&'static str, &Histogram<u64>); 2]> {
        let both = !self.reads.is_empty() && !self.writes.is_empty();
        both.then_some([("reads", &self.reads), ("writes", &self.writes)])
    }

    /// A percentile of all latencies, in microseconds.
    pub fn percentile_us(&self, percentile: f64) -> f64 {
        percentile_us(&self.latencies(), percentile)
    }
}

/// Nanoseconds up to an hour, three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, HIGHEST_NS, 3).expect("the bounds are in order")
}

/// A percentile in microseconds.
pub(crate) fn percentile_us(latencies: &Histogram<u64>, percentile: f64) -> f64 {
    latencies.value_at_percentile(percentile) as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_add_up() {
        let mut all = Measured::default();
        for part in 0..2 {
            let mut one = Measured::default();
            for n in 1..=50_u64 {
                let kind = if part == 0 { Kind::Read } else { Kind::Update };
                one.succeeded(kind, Duration::from_micros(n + 50 * part), n == 1 && part == 0);
            }
            one.failed("overload".to_owned());
            all.add(&one);
        }
        assert_eq!((all.completed(), all.failures(), all.missing()), (100, 2, 1));
        assert_eq!(all.failures_by_name()["overload"], 2);
        assert!((50.0..50.1).contains(&all.percentile_us(50.0)), "{}", all.percentile_us(50.0));
        assert!((100.0..100.2).contains(&all.percentile_us(100.0)), "{}", all.percentile_us(100.0));
        let [(_, reads), (_, writes)] = all.apart().expect("both");
        assert_eq!((reads.len(), writes.len()), (50, 50));
        assert!(Measured::default().apart().is_none());
    }
}
