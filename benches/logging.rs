//! What logging costs those who write: put latencies of a single node on loopback, beside nothing, beside a burst of a
//! million lines, beside logging without a pause, and beside as many threads that only compute; in turns.
//!
//! ```text
//! cargo bench --bench logging            five turns; a number behind `--` for more
//! ```
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "real processes take real time")]

#[path = "../tests/support/burst.rs"]
mod burst;
#[path = "../tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use burst::{Server, ROLE};
use support::Ports;

/// Puts of each kind in one turn.
const PUTS: usize = 1_000;
/// Longer than the puts of one kind take.
const BUSY: Duration = Duration::from_secs(3);

/// What the puts go on beside, as the table calls it.
const KINDS: [&str; 4] = ["nothing", "a million lines", "logging", "computing"];

fn main() {
    if std::env::var_os(ROLE).is_some() {
        return burst::serve();
    }
    let turns = std::env::args().find_map(|word| word.parse::<usize>().ok()).unwrap_or(5).max(1);
    let directory = tempfile::tempdir().expect("a directory");
    // Elsewhere, so that it is not the disk's write-back of the text that the log's syncs wait for.
    let memory = Path::new("/dev/shm");
    let log = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a directory");
    let mut server = Server::start(directory.path(), log.path(), &Ports::take());
    println!("put p50 / p99 in microseconds, {PUTS} puts each\n");
    println!("| turn | {} | lines handed over in a second | dropped |", KINDS.join(" | "));
    println!("|---|{}---|---|", "---|".repeat(KINDS.len()));
    let mut all: [Vec<[u128; 2]>; KINDS.len()] = Default::default();
    for turn in 1..=turns {
        let (figures, rate, dropped) = one_turn(&mut server);
        let cells: Vec<String> = figures.iter().map(|[p50, p99]| format!("{p50} / {p99}")).collect();
        println!("| {turn} | {} | {rate:.0} | {dropped:.0} % |", cells.join(" | "));
        figures.iter().zip(&mut all).for_each(|(figure, all)| all.push(*figure));
    }
    let medians = all.map(|turns| [0, 1].map(|which| median(turns.iter().map(|figure| figure[which]).collect())));
    let cells: Vec<String> = medians.iter().map(|[p50, p99]| format!("{p50} / {p99}")).collect();
    println!("| median | {} | | |", cells.join(" | "));
    let ratio = |kind: usize| medians[kind][1] as f64 / medians[0][1] as f64;
    let ratios: Vec<String> = (0..KINDS.len()).map(|kind| format!("{:.2}", ratio(kind))).collect();
    println!("| p99, times | {} | | |", ratios.join(" | "));
}

/// Latencies beside each of [`KINDS`], lines in a second while it only logged, and which part of them was dropped.
fn one_turn(server: &mut Server) -> ([[u128; 2]; KINDS.len()], f64, f64) {
    let quiet = percentiles(&server.puts(|done| done < PUTS));
    server.order("log", Duration::ZERO);
    let burst = percentiles(&server.puts(|done| done < PUTS));
    server.answer();
    settle(server);
    let (lines, dropped) = (server.counter("log_lines"), server.counter("log_lines_dropped"));
    let logging = beside(server, "log");
    let (took, handed) = server.answer();
    settle(server);
    let dropped = server.counter("log_lines_dropped") - dropped;
    let written = server.counter("log_lines") - lines;
    let computing = beside(server, "compute");
    server.answer();
    let share = 100.0 * dropped as f64 / (dropped + written) as f64;
    ([quiet, burst, logging, computing], handed as f64 / took.as_secs_f64(), share)
}

/// Puts for as long as the work goes on, no more than are wanted.
fn beside(server: &mut Server, work: &str) -> [u128; 2] {
    let start = Instant::now();
    server.order(work, BUSY);
    percentiles(&server.puts(|done| done < PUTS && start.elapsed() < BUSY))
}

/// Waits until the log has written what it has.
fn settle(server: &mut Server) {
    let mut before = 0;
    support::wait_for(Duration::from_secs(60), "the log is written", || {
        let now = server.counter("log_lines");
        let is_same = now == before;
        before = now;
        is_same.then_some(())
    });
}

fn percentiles(sorted: &[Duration]) -> [u128; 2] {
    [50, 99].map(|percent| sorted[(sorted.len() - 1) * percent / 100].as_micros())
}

fn median(mut figures: Vec<u128>) -> u128 {
    figures.sort_unstable();
    figures[figures.len() / 2]
}
