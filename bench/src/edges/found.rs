//! What was found at the edges, for people and for programs.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{json, Map, Value};

use super::Edge;
use crate::limits::beside;
use crate::machine;
use crate::report::{Report, Run};

/// What one edge showed.
pub(super) struct Found {
    pub(super) edge: Edge,
    /// One for each load.
    pub(super) rows: Vec<Report>,
    /// Figures that are not a load's.
    pub(super) facts: Vec<Fact>,
    /// What could not be measured here, and why.
    pub(super) notes: Vec<String>,
}

/// A figure with its name.
pub(super) struct Fact {
    /// As programs know it; with its unit.
    pub(super) name: &'static str,
    pub(super) value: f64,
    /// As people read it; empty if another one's words tell it.
    pub(super) text: String,
}

impl Found {
    pub(super) fn of(edge: Edge) -> Found {
        Found { edge, rows: Vec::new(), facts: Vec::new(), notes: Vec::new() }
    }

    pub(super) fn fact(&mut self, name: &'static str, value: f64, text: String) {
        self.facts.push(Fact { name, value, text });
    }
}

/// For people.
pub(super) fn as_text(all: &[Found]) -> String {
    let mut text = line(&["", "/s", "p50 us", "p99 us", "p99.9 us", "max us", "CPU us/op", "RSS MB", "failed"]);
    for found in all {
        let _ = writeln!(text, "{}", found.edge);
        for row in &found.rows {
            text += &line(&cells(row).each_ref().map(String::as_str));
            for (why, count) in row.merged().failures_by_name() {
                let _ = writeln!(text, "    {count} failed: {why}");
            }
        }
        for fact in found.facts.iter().filter(|fact| !fact.text.is_empty()) {
            let _ = writeln!(text, "    {}", fact.text);
        }
        for note in &found.notes {
            let _ = writeln!(text, "    left out: {note}");
        }
    }
    text + &format!(
        "three nodes; CPU of all servers for each operation, RSS of the largest server at the end; {}\n",
        machine::description_with_limits(Path::new("."))
    )
}

fn cells(row: &Report) -> [String; 9] {
    let known =
        |figure: Option<f64>, digits: usize| figure.map_or("-".to_owned(), |figure| format!("{figure:.digits$}"));
    let median = |figure: fn(&Run) -> Option<f64>| row.figure_if_known(figure).map(|figure| figure.median);
    let latency = |at: f64| format!("{:.0}", row.percentile_us(at));
    [
        row.load.shape(),
        format!("{:.0}", row.per_second()),
        latency(50.0),
        latency(99.0),
        latency(99.9),
        latency(100.0),
        known(median(Run::server_cpu_us), 1),
        known(median(Run::resident_bytes).map(|bytes| bytes / 1e6), 0),
        row.failures().to_string(),
    ]
}

fn line(cells: &[&str; 9]) -> String {
    let mut line = format!("  {:<36}", cells[0]);
    cells[1..].iter().for_each(|cell| line += &format!(" {cell:>10}"));
    line.trim_end().to_owned() + "\n"
}

/// For programs.
pub(super) fn as_json(all: &[Found]) -> Value {
    let edges = all.iter().map(|found| {
        let facts: Map<String, Value> =
            found.facts.iter().map(|fact| (fact.name.to_owned(), fact.value.into())).collect();
        json!({
            "edge": found.edge.to_string(),
            "loads": found.rows.iter().map(Report::as_json).collect::<Vec<_>>(),
            "facts": facts,
            "left_out": found.notes,
        })
    });
    let failed: u64 = all.iter().flat_map(|found| &found.rows).map(Report::failures).sum();
    let machine = machine::description(Path::new("."));
    let limits = beside::as_json(Path::new("."));
    json!({ "ok": failed == 0, "machine": machine, "limits": limits, "edges": edges.collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::load::Load;
    use crate::measured::Measured;
    use crate::process::Used;
    use crate::workload::Kind;

    fn found() -> Found {
        let mut measured = Measured::default();
        (1..=100).for_each(|n| measured.succeeded(Kind::Update, Duration::from_micros(n), false));
        measured.failed("overload".to_owned());
        let used = Used { cpu: vec![Duration::from_millis(2)], resident: vec![5_000_000], ..Used::default() };
        let runs = vec![Run { elapsed: Duration::from_secs(2), measured, used }];
        let mut found = Found::of(Edge::HotKeys);
        found.rows.push(Report { load: Load::updates(), runs });
        found.fact("bytes_per_key", 155.5, "155.5 B of memory for each key".to_owned());
        found.notes.push("5000 connections".to_owned());
        found
    }

    #[test]
    fn every_figure_is_told_to_people_and_to_programs() {
        let text = as_text(&[found()]);
        let row = text.lines().find(|line| line.contains("update 1x1")).expect("a row");
        let cells: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(cells, ["update", "1x1", "50", "50", "99", "100", "100", "20.0", "5", "1"], "{text}");
        for words in ["hot-keys\n", "1 failed: overload", "155.5 B of", "left out: 5000 connections"] {
            assert!(text.contains(words), "{text}");
        }
        let json = as_json(&[found()]);
        assert_eq!((&json["ok"], &json["edges"][0]["edge"]), (&false.into(), &"hot-keys".into()), "{json}");
        assert_eq!(json["edges"][0]["facts"]["bytes_per_key"], 155.5);
        assert_eq!(json["edges"][0]["loads"][0]["completed"], 100);
    }
}
