//! What this store is to reach beside others: ratios of medians within one run, for some loads.

use serde_json::{json, Value};

use crate::compare::{ratio, Compared};
use crate::peers::Peer;
use crate::report::Run;

/// Which figure of ours stands over theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    /// Successes a second: the ratio is to be at least the bound.
    Throughput,
    /// Median latency: at most the bound.
    P50,
    /// Processor time of all servers for each operation: at most the bound.
    Cpu,
}

/// One goal.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Goal {
    /// Name, connections, depth.
    load: (&'static str, u32, u32),
    against: Peer,
    of: Of,
    bound: f64,
}

const fn goal(load: (&'static str, u32, u32), against: Peer, of: Of, bound: f64) -> Goal {
    Goal { load, against, of, bound }
}

const GOALS: [Goal; 17] = [
    goal(("put", 1, 1), Peer::Skeleton, Of::P50, 1.4),
    goal(("put", 1, 1), Peer::Etcd, Of::P50, 1.0 / 2.3),
    goal(("put", 64, 1), Peer::Skeleton, Of::Throughput, 0.75),
    goal(("put", 64, 1), Peer::Etcd, Of::Throughput, 8.0),
    goal(("put", 64, 1), Peer::Etcd, Of::Cpu, 1.0 / 12.0),
    goal(("put", 64, 1), Peer::Redis, Of::Throughput, 0.8),
    goal(("put", 256, 1), Peer::Skeleton, Of::Throughput, 0.8),
    goal(("put", 256, 1), Peer::Etcd, Of::Throughput, 6.0),
    goal(("put", 256, 1), Peer::Etcd, Of::Cpu, 1.0 / 8.0),
    goal(("put", 64, 16), Peer::Skeleton, Of::Throughput, 0.6),
    goal(("put", 64, 16), Peer::Etcd, Of::Throughput, 20.0),
    goal(("put", 64, 16), Peer::Redis, Of::Throughput, 1.0),
    goal(("get", 1, 1), Peer::Etcd, Of::P50, 1.0 / 3.0),
    goal(("get", 64, 1), Peer::Etcd, Of::Throughput, 6.0),
    goal(("get", 64, 1), Peer::Redis, Of::Throughput, 0.7),
    goal(("get", 256, 1), Peer::Etcd, Of::Throughput, 5.0),
    goal(("get", 64, 16), Peer::Redis, Of::Throughput, 0.7),
];

/// A goal and what was measured: the median of the ratios, pair by pair.
struct Outcome {
    goal: Goal,
    median: f64,
}

impl Outcome {
    fn is_met(&self) -> bool {
        match self.goal.of {
            Of::Throughput => self.median >= self.goal.bound,
            Of::P50 | Of::Cpu => self.median <= self.goal.bound,
        }
    }

    fn words(&self) -> [&'static str; 2] {
        match self.goal.of {
            Of::Throughput => ["throughput", "at least"],
            Of::P50 => ["p50", "at most"],
            Of::Cpu => ["CPU", "at most"],
        }
    }
}

/// The goals of the loads and peers that were measured.
fn outcomes(compared: &[Compared]) -> Vec<Outcome> {
    let of_goal = |goal: &Goal| {
        let is_it = |compared: &&Compared| {
            let load = &compared.load;
            (load.name.as_str(), load.connections, load.depth) == goal.load
        };
        let peers = &compared.iter().find(is_it)?.peers;
        let (_, _, ours) = peers.first()?;
        let (_, _, theirs) = peers.iter().find(|(peer, ..)| *peer == goal.against)?;
        let figure = |run: &Run| match goal.of {
            Of::Throughput => run.per_second(),
            // Nothing was done, which is no short time.
            Of::P50 if run.measured.completed() == 0 => f64::NAN,
            Of::P50 => run.measured.percentile_us(50.0),
            Of::Cpu => run.server_cpu_us().unwrap_or(f64::NAN),
        };
        Some(Outcome { goal: *goal, median: ratio(ours, theirs, figure).median })
    };
    GOALS.iter().filter_map(of_goal).collect()
}

/// For people; nothing if no goal speaks of what was measured.
pub(crate) fn as_text(compared: &[Compared]) -> String {
    let line = |outcome: &Outcome| {
        let Goal { load: (name, connections, depth), against, bound, .. } = outcome.goal;
        let ([of, side], verdict) = (outcome.words(), if outcome.is_met() { "met" } else { "missed" });
        let load = format!("{name} {connections}x{depth}");
        let median = outcome.median;
        format!(
            "  {load:<12} raftkv / {:<9} {of:<10} {median:>8.3}  {side:<8} {bound:<6.3} {verdict}\n",
            against.name()
        )
    };
    let lines: String = outcomes(compared).iter().map(line).collect();
    if lines.is_empty() {
        lines
    } else {
        format!("goals, medians of the ratios pair by pair\n{lines}")
    }
}

/// For programs.
pub(crate) fn as_json(compared: &[Compared]) -> Value {
    let object = |outcome: Outcome| {
        let Goal { load: (name, connections, depth), against, bound, .. } = outcome.goal;
        let [of, side] = outcome.words();
        json!({
            "load": format!("{name} {connections}x{depth}"),
            "against": against.name(),
            "of": of,
            "ratio": outcome.median,
            side.replace(' ', "_"): bound,
            "met": outcome.is_met(),
        })
    };
    outcomes(compared).into_iter().map(object).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::load::Load;
    use crate::measured::Measured;
    use crate::process::Used;
    use crate::report::Report;
    use crate::workload::{Kind, Mix};

    /// `count` puts that took so long each, and a millisecond of processor time in all.
    fn report(load: &Load, count: u32, latency: Duration) -> Report {
        let mut measured = Measured::default();
        (0..count).for_each(|_| measured.succeeded(Kind::Create, latency, false));
        let used = Used { cpu: vec![Duration::from_millis(1)], ..Used::default() };
        Report { load: load.clone(), runs: vec![Run { elapsed: Duration::from_secs(1), measured, used }] }
    }

    #[test]
    fn goals_are_met_from_above_or_below() {
        let load = Load { connections: 64, ..Load::of("put", Mix::only(Kind::Create)) };
        let ours = (Peer::Raftkv, String::new(), report(&load, 900, Duration::from_millis(1)));
        let theirs = (Peer::Etcd, String::new(), report(&load, 100, Duration::from_millis(9)));
        let compared = [Compared { peers: vec![ours, theirs], left_out: Vec::new(), load }];
        let json = as_json(&compared);
        let met = |of: &str| json.as_array()?.iter().find(|goal| goal["of"] == of)?["met"].as_bool();
        // Nine times as much, for a ninth of the processor time: the bounds are 8 and a twelfth.
        assert_eq!((met("throughput"), met("CPU"), met("p50")), (Some(true), Some(false), None), "{json}");
        let text = as_text(&compared);
        assert!(text.contains("at least 8.000  met") && text.contains("at most  0.083  missed"), "{text}");
        assert!(as_text(&[]).is_empty());
    }
}
