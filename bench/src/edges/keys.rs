//! Many keys: how fast they are written, what each costs in memory, how fast they are updated and read, and how long restarts take.

use std::io;
use std::time::{Duration, Instant};

use super::follower::{commit_index, until_applied};
use super::found::{Fact, Found};
use super::{Bench, Cluster};
use crate::dialect::Raftkv;
use crate::load::{fill_as_wide_as, resolve, Load};
use crate::probe::first_write;
use crate::process::{peak_resident, resident};
use crate::report::Report;
use crate::workload::{Kind, Mix};

/// What memory is stated for.
const KEY_BYTES: u32 = 16;
const VALUE_BYTES: u32 = 64;
/// What each may take besides, in bytes, where there are millions: the rest of the process's memory then counts for nothing.
const OVERHEAD_MAX: u32 = 120;
/// Connections and depth with which the keys are written: deep, because nothing but throughput counts.
const FILL: (u32, u32) = (16, 256);
/// How long three nodes may take to load all of it.
const PATIENCE: Duration = Duration::from_secs(600);

/// Fills, measures, restarts.
pub(super) fn run(bench: &Bench<'_>, found: &mut Found) -> io::Result<()> {
    let mut cluster = bench.start(&[])?;
    let keys = bench.args.keys;
    let sized = |name: &str, kind: Kind, width: (u32, u32)| Load {
        keys,
        value_bytes: VALUE_BYTES.into(),
        ..bench.load(name, Mix::only(kind), width)
    };
    let empty = resident(cluster.servers.pid(cluster.leader)).unwrap_or(0);
    let fill = sized("all keys, once each", Kind::Update, FILL);
    eprintln!("{}", fill.shape());
    let run = fill_as_wide_as::<Raftkv>(&fill, &cluster.target, bench.timeout)?;
    let took = run.elapsed.as_secs_f64();
    found.rows.push(Report { load: Load { duration: run.elapsed, ..fill }, runs: vec![run] });
    found.fact("fill_seconds", took, format!("{keys} keys were written in {took:.1} s"));
    tell_memory(found, &cluster, keys, empty);
    for load in [
        sized("get", Kind::Read, (64, 16)),
        sized("get", Kind::Read, (1, 1)),
        sized("update", Kind::Update, (64, 16)),
        sized("update", Kind::Update, (1, 1)),
        sized("put", Kind::Create, (64, 16)),
    ] {
        found.rows.push(bench.measure_filled(&load, &cluster)?);
    }
    let peak = peak_resident(cluster.servers.pid(cluster.leader)).unwrap_or(0) as f64;
    found.fact(
        "leader_resident_peak_bytes",
        peak,
        format!("leader's RSS {:.0} MB at most, in all of this", peak / 1e6),
    );
    restart(&mut cluster, found)
}

/// What the leader's memory has grown by for each key.
fn tell_memory(found: &mut Found, cluster: &Cluster, keys: u64, empty: u64) {
    let full = resident(cluster.servers.pid(cluster.leader)).unwrap_or(0);
    let per_key = full.saturating_sub(empty) as f64 / keys as f64;
    let overhead = per_key - f64::from(KEY_BYTES + VALUE_BYTES);
    let text = format!(
        "leader's RSS {:.0} MB empty, {:.0} MB with them: {per_key:.1} B for each key of {KEY_BYTES} B with a value of \
         {VALUE_BYTES} B, {overhead:.1} B more than these (goal: at most {OVERHEAD_MAX})",
        empty as f64 / 1e6,
        full as f64 / 1e6,
    );
    found.fact("resident_bytes_per_key", per_key, text);
    found.facts.push(Fact { name: "overhead_bytes_per_key", value: overhead, text: String::new() });
}

/// A follower, then all three, are killed and started.
fn restart(cluster: &mut Cluster, found: &mut Found) -> io::Result<()> {
    let servers = &mut cluster.servers;
    let follower = (cluster.leader + 1) % 3;
    let committed = commit_index(servers, cluster.leader)?;
    servers.kill(follower)?;
    let since = Instant::now();
    servers.start_node(follower)?;
    let one = until_applied(servers, follower, committed, since)?.as_secs_f64();
    found.fact("follower_restart_seconds", one, format!("a killed follower had all again {one:.1} s after its start"));
    (0..3).try_for_each(|node| servers.kill(node))?;
    let since = Instant::now();
    (0..3).try_for_each(|node| servers.start_node(node))?;
    let addresses: Vec<_> = servers.endpoints().iter().map(|endpoint| resolve(endpoint)).collect::<io::Result<_>>()?;
    let all = first_write::<Raftkv>(&addresses, since, PATIENCE)?.as_secs_f64();
    found.fact("restart_seconds", all, format!("three killed nodes took a write {all:.1} s after their start"));
    Ok(())
}
