//! What a load measured, for people and for programs.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{json, Map, Value};

use crate::figure::Figure;
use crate::limits::beside;
use crate::load::Load;
use crate::measured::{percentile_us, Measured};
use crate::process::Used;
use crate::stages::Stages;

/// Percentiles that are reported; 100 is the slowest.
pub(crate) const PERCENTILES: [f64; 6] = [50.0, 90.0, 99.0, 99.9, 99.99, 100.0];

/// One run of a load.
#[derive(Clone, Debug)]
pub struct Run {
    /// How long was measured.
    pub elapsed: Duration,
    /// All connections together.
    pub measured: Measured,
    /// What servers and driver used.
    pub used: Used,
}

/// A load and what it measured, run by run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The load.
    pub load: Load,
    /// At least one.
    pub runs: Vec<Run>,
}

impl Run {
    /// Successes per second.
    pub fn per_second(&self) -> f64 {
        self.measured.completed_in_time() as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    fn per_operation(&self, amount: f64) -> f64 {
        amount / self.measured.completed().max(1) as f64
    }

    /// Processor time of all watched servers for each operation, in microseconds; none if no server is watched.
    pub fn server_cpu_us(&self) -> Option<f64> {
        let cpu: Duration = self.used.cpu.iter().sum();
        (!self.used.cpu.is_empty()).then(|| self.per_operation(cpu.as_secs_f64() * 1e6))
    }

    /// The driver's.
    pub fn driver_cpu_us(&self) -> f64 {
        self.per_operation(self.used.own_cpu.as_secs_f64() * 1e6)
    }

    /// Resident bytes of the largest server.
    pub fn resident_bytes(&self) -> Option<f64> {
        self.used.resident.iter().max().map(|bytes| *bytes as f64)
    }

    /// Flushes of the servers' disk for each operation.
    pub fn flushes(&self) -> Option<f64> {
        self.used.flushes.map(|count| self.per_operation(count as f64))
    }

    /// Bytes written to the servers' disk for each operation.
    pub fn disk_bytes(&self) -> Option<f64> {
        self.used.disk_bytes.map(|bytes| self.per_operation(bytes as f64))
    }
}

impl Report {
    /// Of all runs.
    pub fn completed(&self) -> u64 {
        self.runs.iter().map(|run| run.measured.completed()).sum()
    }

    /// Of all runs.
    pub fn failures(&self) -> u64 {
        self.runs.iter().map(|run| run.measured.failures()).sum()
    }

    /// Successes per second: median of the runs.
    pub fn per_second(&self) -> f64 {
        self.figure(Run::per_second).median
    }

    /// A percentile of the latencies in microseconds: median of the runs.
    pub fn percentile_us(&self, percentile: f64) -> f64 {
        self.figure(|run| run.measured.percentile_us(percentile)).median
    }

    /// A figure of all runs.
    pub(crate) fn figure(&self, figure: impl Fn(&Run) -> f64) -> Figure {
        Figure::of(self.runs.iter().map(figure))
    }

    /// A figure that only some machines tell.
    pub(crate) fn figure_if_known(&self, figure: impl Fn(&Run) -> Option<f64>) -> Option<Figure> {
        let figures: Option<Vec<f64>> = self.runs.iter().map(figure).collect();
        figures.filter(|figures| !figures.is_empty()).map(|figures| Figure::of(figures.into_iter()))
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.load);
        let mut line = |name: &str, figure: Option<Figure>, digits: usize, unit: &str| {
            if let Some(figure) = figure {
                let _ = writeln!(text, "  {name:<16} {} {unit}", figure.text(digits));
            }
        };
        line("throughput", Some(self.figure(Run::per_second)), 0, "/s");
        for percentile in PERCENTILES {
            let figure = self.figure(|run| run.measured.percentile_us(percentile));
            line(&percentile_name(percentile), Some(figure), 1, "us");
        }
        line("server CPU", self.figure_if_known(Run::server_cpu_us), 1, "us/op, all servers");
        line("server memory", self.figure_if_known(|run| Some(run.resident_bytes()? / 1e6)), 1, "MB, largest server");
        line("disk flushes", self.figure_if_known(Run::flushes), 4, "/op, whole machine");
        line("disk bytes", self.figure_if_known(Run::disk_bytes), 0, "B/op, whole machine");
        line("driver CPU", Some(self.figure(Run::driver_cpu_us)), 1, "us/op");
        text + &self.text_apart()
            + &self.stages().text(self.load.duration.as_secs_f64() * self.runs.len() as f64)
            + &self.text_failures()
    }

    /// The leader's, of all runs.
    pub(crate) fn stages(&self) -> Stages {
        let mut sum = Stages::default();
        self.runs.iter().filter_map(|run| run.used.stages.as_ref()).for_each(|stages| sum.add(stages));
        sum
    }

    /// Reads and writes of a mix.
    fn text_apart(&self) -> String {
        let mut text = String::new();
        for (name, latencies) in self.merged().apart().into_iter().flatten() {
            let figures: Vec<String> = PERCENTILES
                .iter()
                .map(|at| format!("{} {:.0}", percentile_name(*at), percentile_us(latencies, *at)))
                .collect();
            let _ = writeln!(text, "  {name:<16} {} ({}, us)", latencies.len(), figures.join(", "));
        }
        text
    }

    fn text_failures(&self) -> String {
        let (mut text, merged) = (String::new(), self.merged());
        if merged.missing() > 0 {
            let _ = writeln!(text, "  {:<16} {:>12} reads of keys that are not there", "missing", merged.missing());
        }
        for (why, count) in merged.failures_by_name() {
            let _ = writeln!(text, "  {:<16} {count:>12}  {why}", "failed");
        }
        text
    }

    /// All runs together.
    pub(crate) fn merged(&self) -> Measured {
        let mut merged = Measured::default();
        self.runs.iter().for_each(|run| merged.add(&run.measured));
        merged
    }

    /// For programs.
    pub fn json(&self) -> String {
        let mut object = self.as_json();
        object["limits"] = beside::as_json(Path::new("."));
        format!("{object}\n")
    }

    pub(crate) fn as_json(&self) -> Value {
        let (load, merged) = (&self.load, self.merged());
        let latency: Map<String, Value> = PERCENTILES
            .iter()
            .map(|at| (format!("p{at}"), self.figure(|run| run.measured.percentile_us(*at)).median.into()))
            .collect();
        let apart: Map<String, Value> = merged
            .apart()
            .into_iter()
            .flatten()
            .map(|(name, latencies)| (name.to_owned(), latency_json(latencies)))
            .collect();
        json!({
            "ok": self.failures() == 0,
            "workload": load.name,
            "connections": load.connections,
            "depth": load.depth,
            "rate": load.rate,
            "threads": load.threads,
            "key_bytes": load.key_bytes,
            "value_bytes": load.value_bytes.max,
            "value_bytes_min": load.value_bytes.min,
            "keys": load.keys,
            "seconds": load.duration.as_secs_f64(),
            "completed": self.completed(),
            "missing": merged.missing(),
            "failed": self.failures(),
            "failures": merged.failures_by_name(),
            "per_second": self.per_second(),
            "latency_us": latency,
            "latency_us_apart": apart,
            "server_cpu_us_per_op": self.figure_if_known(Run::server_cpu_us).map(|figure| figure.median),
            "server_resident_bytes": self.figure_if_known(Run::resident_bytes).map(|figure| figure.median),
            "disk_flushes_per_op": self.figure_if_known(Run::flushes).map(|figure| figure.median),
            "disk_bytes_per_op": self.figure_if_known(Run::disk_bytes).map(|figure| figure.median),
            "driver_cpu_us_per_op": self.figure(Run::driver_cpu_us).median,
            "stages": self.stages().as_json(),
            "runs": self.runs.iter().map(run_json).collect::<Vec<_>>(),
        })
    }
}

impl Load {
    /// In a word or two: `put 64x16`.
    pub(crate) fn shape(&self) -> String {
        format!("{} {}x{}", self.name, self.connections, self.depth)
    }
}

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Load { name, connections, depth, rate, key_bytes, value_bytes, repeats, .. } = self;
        match rate {
            Some(rate) => write!(f, "{name}, {rate:.0} /s over {connections} connections")?,
            None => write!(f, "{name}, {connections} connections x {depth}")?,
        }
        write!(f, ", keys of {key_bytes} B, values of {value_bytes} B, {:.1} s", self.duration.as_secs_f64())?;
        if *repeats > 1 {
            write!(f, ", median [min-max] of {repeats}")?;
        }
        Ok(())
    }
}

/// `p50`, `max`.
pub(crate) fn percentile_name(percentile: f64) -> String {
    if percentile == 100.0 {
        "max".to_owned()
    } else {
        format!("p{percentile}")
    }
}

pub(crate) fn latency_json(latencies: &Histogram<u64>) -> Value {
    let figures = PERCENTILES.iter().map(|at| (format!("p{at}"), percentile_us(latencies, *at).into()));
    let mut object: Map<String, Value> = figures.collect();
    object.insert("count".to_owned(), latencies.len().into());
    object.into()
}

fn run_json(run: &Run) -> Value {
    json!({
        "completed": run.measured.completed(),
        "failed": run.measured.failures(),
        "per_second": run.per_second(),
        "latency_us": latency_json(&run.measured.latencies()),
        "server_cpu_us_per_op": run.server_cpu_us(),
        "server_cpu_seconds": run.used.cpu.iter().map(Duration::as_secs_f64).collect::<Vec<_>>(),
        "server_resident_bytes": run.used.resident,
        "disk_flushes_per_op": run.flushes(),
        "disk_bytes_per_op": run.disk_bytes(),
        "driver_cpu_us_per_op": run.driver_cpu_us(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{Kind, Mix};

    fn report() -> Report {
        let run = |slowest: u64| {
            let mut measured = Measured::default();
            for n in 1..=slowest {
                measured.succeeded(Kind::Create, Duration::from_micros(n), false);
            }
            measured.failed("overload".to_owned());
            let used = Used { cpu: vec![Duration::from_micros(300), Duration::from_micros(200)], ..Used::default() };
            Run { elapsed: Duration::from_secs(2), measured, used }
        };
        let load = Load { repeats: 3, ..Load::of("put", Mix::only(Kind::Create)) };
        Report { load, runs: vec![run(50), run(200), run(100)] }
    }

    #[test]
    fn a_report_shows_the_median_run_and_the_spread() {
        let report = report();
        let json: Value = serde_json::from_str(&report.json()).expect("JSON");
        assert_eq!((&json["completed"], &json["per_second"], &json["ok"]), (&350.into(), &50.0.into(), &false.into()));
        assert_eq!(json["failures"]["overload"], 3);
        assert_eq!(json["server_cpu_us_per_op"], 5.0);
        assert_eq!(json["runs"].as_array().map(Vec::len), Some(3));
        assert_eq!(json["disk_bytes_per_op"], Value::Null);
        let text = report.text();
        assert!(text.contains("throughput                 50 [25-100] /s"), "{text}");
        assert!(text.contains("3  overload") && text.contains("p99.99") && !text.contains("disk"), "{text}");
    }
}
