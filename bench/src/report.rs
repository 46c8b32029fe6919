//! What a load measured.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::load::Load;

/// Percentiles that are reported.
const PERCENTILES: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 100.0];

/// Latencies above an hour count as one hour.
const HIGHEST_NS: u64 = 3_600_000_000_000;

/// Counts and latencies of one connection, or of all.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Nanoseconds from submission to completion of what succeeded.
    latencies: Histogram<u64>,
    /// What failed, by what the client said.
    failed: BTreeMap<String, u64>,
}

/// A load and what it measured.
#[derive(Clone, Debug)]
pub struct Report {
    /// The load.
    pub load: Load,
    /// How long was measured.
    pub elapsed: Duration,
    /// All connections together.
    pub measured: Measured,
}

impl Default for Measured {
    fn default() -> Self {
        Self {
            latencies: Histogram::new_with_bounds(1, HIGHEST_NS, 3).expect("the bounds are in order"),
            failed: BTreeMap::new(),
        }
    }
}

impl Measured {
    /// One success.
    pub fn succeeded(&mut self, latency: Duration) {
        self.latencies.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// One failure.
    pub fn failed(&mut self, why: String) {
        *self.failed.entry(why).or_default() += 1;
    }

    /// Adds another connection's.
    pub fn add(&mut self, other: &Measured) {
        self.latencies.add(&other.latencies).expect("histograms of the same shape add up");
        for (why, count) in &other.failed {
            *self.failed.entry(why.clone()).or_default() += count;
        }
    }

    /// How many succeeded.
    pub fn completed(&self) -> u64 {
        self.latencies.len()
    }

    /// How many failed.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// A percentile of the latencies, in microseconds.
    pub fn percentile_us(&self, percentile: f64) -> f64 {
        self.latencies.value_at_percentile(percentile) as f64 / 1e3
    }
}

impl Report {
    /// Successes per second.
    pub fn per_second(&self) -> f64 {
        self.measured.completed() as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// For people.
    pub fn text(&self) -> String {
        let Load { verb, connections, depth, rate, key_bytes, value_bytes, .. } = &self.load;
        let how = match rate {
            Some(rate) => format!("{rate:.0} /s over {connections} connections"),
            None => format!("{connections} connections x {depth}"),
        };
        let mut text = String::new();
        let seconds = self.elapsed.as_secs_f64();
        let _ =
            writeln!(text, "{}, {how}, keys of {key_bytes} B, values of {value_bytes} B, {seconds:.1} s", verb.name());
        let _ = writeln!(text, "  throughput  {:>12.0} /s", self.per_second());
        for percentile in PERCENTILES {
            let name = if percentile == 100.0 { "max".to_owned() } else { format!("p{percentile}") };
            let _ = writeln!(text, "  {name:<10}  {:>12.1} us", self.measured.percentile_us(percentile));
        }
        for (why, count) in &self.measured.failed {
            let _ = writeln!(text, "  failed      {count:>12}  {why}");
        }
        text
    }

    /// For programs.
    pub fn json(&self) -> String {
        let latency: serde_json::Map<String, serde_json::Value> = PERCENTILES
            .iter()
            .map(|percentile| (format!("p{percentile}"), self.measured.percentile_us(*percentile).into()))
            .collect();
        let report = serde_json::json!({
            "ok": self.measured.failures() == 0,
            "workload": self.load.verb.name(),
            "connections": self.load.connections,
            "depth": self.load.depth,
            "rate": self.load.rate,
            "key_bytes": self.load.key_bytes,
            "value_bytes": self.load.value_bytes,
            "seconds": self.elapsed.as_secs_f64(),
            "completed": self.measured.completed(),
            "failed": self.measured.failures(),
            "failures": self.measured.failed,
            "per_second": self.per_second(),
            "latency_us": latency,
        });
        format!("{report}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Verb;

    fn report() -> Report {
        let mut all = Measured::default();
        for part in 0..2 {
            let mut one = Measured::default();
            for n in 1..=50_u64 {
                one.succeeded(Duration::from_micros(n + 50 * part));
            }
            one.failed("overload".to_owned());
            all.add(&one);
        }
        let load = Load {
            verb: Verb::Put,
            connections: 2,
            depth: 1,
            rate: None,
            duration: Duration::from_secs(2),
            warm_up: Duration::ZERO,
            key_bytes: 16,
            value_bytes: 0,
            keys: 1,
        };
        Report { load, elapsed: Duration::from_secs(2), measured: all }
    }

    #[test]
    fn connections_add_up() {
        let json: serde_json::Value = serde_json::from_str(&report().json()).expect("JSON");
        assert_eq!(json["completed"], 100);
        assert_eq!(json["per_second"], 50.0);
        assert_eq!(json["failures"]["overload"], 2);
        assert_eq!(json["ok"], false);
        let p50 = json["latency_us"]["p50"].as_f64().expect("a number");
        assert!((50.0..50.1).contains(&p50), "{p50}");
        let max = json["latency_us"]["p100"].as_f64().expect("a number");
        assert!((100.0..100.2).contains(&max), "{max}");
    }

    #[test]
    fn failures_are_shown_by_what_was_said() {
        assert!(report().text().contains("2  overload"));
    }
}
