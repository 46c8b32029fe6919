//! A slow follower: one of three nodes runs a tenth of the time, then not at all, then catches up under the same load. The
//! leader's pace and memory must not depend on it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use client::{Client, Settings};
use protocol::Index;

use super::found::Found;
use super::{Bench, Cluster};
use crate::child::Signal;
use crate::load::Load;
use crate::process::{peak_resident, resident};
use crate::report::Report;
use crate::servers::Servers;
use crate::workload::{Kind, Mix};

/// Of each tenth of a second the throttled node stands still for so long, and runs for the rest.
const STILL: Duration = Duration::from_millis(90);
const RUNS: Duration = Duration::from_millis(10);
/// How long a node may take to catch up once it runs again.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(20);

/// Measures the same load four times.
pub(super) fn run(bench: &Bench<'_>, found: &mut Found) -> io::Result<()> {
    let cluster = bench.start(&[])?;
    let (servers, leader) = (&cluster.servers, cluster.leader);
    let follower = (leader + 1) % 3;
    let load = |name: &str| Load { name: name.to_owned(), ..bench.load("", Mix::only(Kind::Update), (64, 4)) };
    found.rows.push(bench.measure_filled(&load("update, all run"), &cluster)?);
    let before = resident(servers.pid(leader)).unwrap_or(0);
    found.rows.push(throttled(servers, follower, || bench.measure_filled(&load("update, one at a tenth"), &cluster))?);
    servers.signal(follower, Signal::Stop)?;
    let at_stop = commit_index(servers, leader)?;
    found.rows.push(bench.measure_filled(&load("update, one stopped"), &cluster)?);
    let missed = commit_index(servers, leader)?;
    let since = Instant::now();
    servers.signal(follower, Signal::Continue)?;
    let (row, caught_up) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| until_applied(servers, follower, missed, since));
        let row = bench.measure_filled(&load("update, it catches up"), &cluster);
        (row, watcher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    found.rows.push(row?);
    tell(found, (at_stop, missed), caught_up?, &cluster, before)
}

/// Runs `measure` while a node stands still for most of the time; it runs afterwards.
fn throttled(servers: &Servers, node: usize, measure: impl FnOnce() -> io::Result<Report>) -> io::Result<Report> {
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let throttle = scope.spawn(|| {
            while !end.load(Ordering::Relaxed) {
                servers.signal(node, Signal::Stop)?;
                std::thread::sleep(STILL);
                servers.signal(node, Signal::Continue)?;
                std::thread::sleep(RUNS);
            }
            io::Result::Ok(())
        });
        let report = measure();
        end.store(true, Ordering::Relaxed);
        throttle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        report
    })
}

fn tell(
    found: &mut Found,
    (at_stop, missed): (Index, Index),
    caught_up: Duration,
    cluster: &Cluster,
    before: u64,
) -> io::Result<()> {
    let (servers, follower) = (&cluster.servers, (cluster.leader + 1) % 3);
    let since = Instant::now();
    let level = until_applied(servers, follower, commit_index(servers, cluster.leader)?, since)?;
    let entries = missed.0.saturating_sub(at_stop.0) as f64;
    let (caught_up, level) = (caught_up.as_secs_f64(), level.as_secs_f64());
    found.fact("missed_entries", entries, format!("it missed {entries:.0} entries while it was stopped"));
    found.fact(
        "caught_up_seconds",
        caught_up,
        format!("{caught_up:.2} s after it went on it had applied them, under load"),
    );
    found.fact("level_seconds", level, format!("{level:.2} s after the load ended it was level with the leader"));
    let peak = peak_resident(servers.pid(cluster.leader)).unwrap_or(0);
    let in_mb = |bytes: u64| bytes as f64 / 1e6;
    let text = format!("leader's RSS {:.0} MB before, {:.0} MB at most", in_mb(before), in_mb(peak));
    found.fact("leader_resident_bytes_before", before as f64, text);
    let grown = peak as f64 / before.max(1) as f64;
    found.fact("leader_resident_peak_ratio", grown, format!("that is {grown:.2} times"));
    Ok(())
}

/// What a node knows to be committed.
pub(super) fn commit_index(servers: &Servers, node: usize) -> io::Result<Index> {
    let mut client = servers.client()?;
    let status = client.status_of(&servers.endpoints()[node]);
    status.map(|status| status.commit_index).map_err(|error| io::Error::other(error.to_string()))
}

/// Time from `since` until this node has applied up to `wanted`; asks nobody else.
pub(super) fn until_applied(servers: &Servers, node: usize, wanted: Index, since: Instant) -> io::Result<Duration> {
    let endpoint = servers.endpoints()[node].clone();
    let mut client =
        Client::new(Settings { timeout: Duration::from_secs(1), ..Settings::new(vec![endpoint.clone()]) })?;
    while since.elapsed() < PATIENCE {
        // A node that just started, or is busy, answers a little later.
        if client.status_of(&endpoint).is_ok_and(|status| status.applied_index >= wanted) {
            return Ok(since.elapsed());
        }
        std::thread::sleep(LOOK);
    }
    let patience = PATIENCE.as_secs();
    Err(io::Error::new(io::ErrorKind::TimedOut, format!("node {node} has not caught up within {patience} s")))
}
