//! Where a server's time goes while a load runs: the histograms of its stages, from `/metrics`, before and after.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{json, Value};

/// The stages of a request, in its order: the metric's name, and ours.
const STAGES: [(&str, &str); 11] = [
    ("decode", "decode"),
    ("batch_queue", "queue"),
    ("propose", "propose"),
    ("wal_queue", "log's queue"),
    ("wal_sync", "log's sync"),
    ("replicate", "replicate"),
    ("peer_queue", "peer's queue"),
    ("peer_sync", "peer's sync"),
    ("quorum", "quorum"),
    ("apply", "apply"),
    ("reply", "reply"),
];
/// For the answer of the admin port.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often each stage was measured so far, and how long all of it took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stages {
    sums: BTreeMap<&'static str, (f64, f64)>,
}

/// One stage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stage {
    /// In words.
    pub(crate) name: &'static str,
    /// How often it was measured; a turn or a batch at a time, not a request.
    pub(crate) times: f64,
    /// In microseconds.
    pub(crate) mean_us: f64,
}

impl Stages {
    /// What the server says at its admin port. None: it says nothing there.
    pub(crate) fn read(admin: SocketAddr) -> Option<Stages> {
        Some(Stages::parse(&metrics(admin).ok()?))
    }

    fn parse(text: &str) -> Stages {
        let mut stages = Stages::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, value)) = line.rsplit_once(' ') else { continue };
            let name = name.split('{').next().unwrap_or(name);
            let Some(name) = name.strip_prefix("raftkv_") else { continue };
            for (metric, stage) in STAGES {
                let number = || value.parse().unwrap_or(0.0);
                match name.strip_prefix(metric).and_then(|rest| rest.strip_prefix("_seconds_")) {
                    Some("count") => stages.sums.entry(stage).or_default().0 += number(),
                    Some("sum") => stages.sums.entry(stage).or_default().1 += number(),
                    _ => {}
                }
            }
        }
        stages
    }

    /// What came since `before`.
    pub(crate) fn since(&self, before: &Stages) -> Stages {
        let mut sums = self.sums.clone();
        for (stage, (times, seconds)) in &mut sums {
            let before = before.sums.get(stage).copied().unwrap_or_default();
            (*times, *seconds) = ((*times - before.0).max(0.0), (*seconds - before.1).max(0.0));
        }
        Stages { sums }
    }

    /// Those of another run on top.
    pub(crate) fn add(&mut self, other: &Stages) {
        for (stage, (times, seconds)) in &other.sums {
            let sum = self.sums.entry(*stage).or_default();
            (sum.0, sum.1) = (sum.0 + times, sum.1 + seconds);
        }
    }

    /// Those that were measured at all, in a request's order.
    pub(crate) fn each(&self) -> Vec<Stage> {
        let stage = |(_, name): &(&str, &'static str)| {
            let (times, seconds) = self.sums.get(name).copied()?;
            (times > 0.0).then(|| Stage { name, times, mean_us: seconds / times * 1e6 })
        };
        STAGES.iter().filter_map(stage).collect()
    }

    /// A line for each; `seconds` long was measured.
    pub(crate) fn text(&self, seconds: f64) -> String {
        let stages = self.each();
        let mut text = String::new();
        if !stages.is_empty() {
            let _ = writeln!(text, "  {:<16} {:>12} {:>12}", "the leader's", "mean us", "times /s");
        }
        for Stage { name, times, mean_us } in stages {
            let _ = writeln!(text, "    {name:<14} {mean_us:>12.1} {:>12.0}", times / seconds.max(1e-9));
        }
        text
    }

    /// For programs.
    pub(crate) fn as_json(&self) -> Value {
        let stage = |stage: Stage| json!({ "stage": stage.name, "times": stage.times, "mean_us": stage.mean_us });
        self.each().into_iter().map(stage).collect()
    }
}

fn metrics(admin: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    match text.starts_with("HTTP/1.1 200") {
        true => Ok(text),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "HTTP/1.1 200 OK\r\n\r\n# TYPE raftkv_apply_seconds histogram\n\
        raftkv_apply_seconds_bucket{le=\"0.000016\"} 3\nraftkv_apply_seconds_sum 0.5\nraftkv_apply_seconds_count 10\n\
        raftkv_replicate_seconds_sum 0\nraftkv_replicate_seconds_count 0\nraftkv_uptime_seconds 7\n";
    const AFTER: &str = "raftkv_apply_seconds_sum 0.502\nraftkv_apply_seconds_count 30\n\
        raftkv_replicate_seconds_sum{peer=\"1\"} 1\nraftkv_replicate_seconds_count{peer=\"1\"} 1000\n\
        raftkv_replicate_seconds_sum{peer=\"2\"} 3\nraftkv_replicate_seconds_count{peer=\"2\"} 1000\n";

    #[test]
    fn means_are_of_what_came_meanwhile_and_of_all_peers() {
        let mut stages = Stages::parse(AFTER).since(&Stages::parse(BEFORE));
        stages.add(&stages.clone());
        let [replicate, apply] = stages.each()[..] else { panic!("two: {stages:?}") };
        assert_eq!((replicate.name, replicate.times, replicate.mean_us.round()), ("replicate", 4000.0, 2000.0));
        assert_eq!((apply.name, apply.times, apply.mean_us.round()), ("apply", 40.0, 100.0));
        let text = stages.text(2.0);
        assert!(text.contains("replicate") && text.contains("2000.0") && text.lines().count() == 3, "{text}");
        assert_eq!(Stages::default().text(1.0), "");
    }
}
