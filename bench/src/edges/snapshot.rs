//! A snapshot in progress: the same load without snapshots, and while one is taken after another.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use super::found::Found;
use super::Bench;
use crate::dialect::Raftkv;
use crate::load::{fill, Load};
use crate::process::peak_resident;
use crate::snapshot::take_until;
use crate::workload::{Kind, Mix};

/// Most keys of the state.
const KEYS_MAX: u64 = 1_000_000;

/// Measures both.
pub(super) fn run(bench: &Bench<'_>, found: &mut Found) -> io::Result<()> {
    // None but those that are asked for.
    let cluster = bench.start(&["--snapshot-log-bytes", "64GiB"])?;
    let load = |name: &str| {
        let load = bench.load(name, Mix::only(Kind::Update), (64, 4));
        Load { keys: bench.args.keys.min(KEYS_MAX), ..load }
    };
    fill::<Raftkv>(&load(""), &cluster.target, bench.timeout)?;
    found.rows.push(bench.measure_filled(&load("update, no snapshot"), &cluster)?);
    let end = AtomicBool::new(false);
    let (row, taken) = std::thread::scope(|scope| {
        let taker = scope.spawn(|| take_until(&cluster.servers, &end));
        let row = bench.measure_filled(&load("update, snapshots"), &cluster);
        end.store(true, Ordering::Relaxed);
        (row, taker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    found.rows.push(row?);
    let taken = taken?;
    found.fact("snapshots", taken.into(), format!("{taken} snapshots were taken meanwhile, the last to its end"));
    let peak = peak_resident(cluster.servers.pid(cluster.leader)).unwrap_or(0) as f64;
    found.fact("leader_resident_peak_bytes", peak, format!("leader's RSS {:.0} MB at most", peak / 1e6));
    Ok(())
}
