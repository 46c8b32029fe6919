//! `raftkv bench snapshot`: what a snapshot costs those who write meanwhile. An open loop at a part of the measured peak, with
//! and without snapshots, in pairs that change places, so that a drift of the machine counts for neither.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::load::{self, Load};
use crate::report::Report;
use crate::servers::Servers;

/// Flags of the measurement.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Servers
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=9), value_name = "N")]
    nodes: u32,
    /// Keys in the state
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    keys: u64,
    /// Bytes of a value
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=1_048_576), value_name = "BYTES")]
    value_bytes: u32,
    /// Pairs of measurements
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    pairs: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    duration: f64,
    /// Part of the peak at which is written, in percent
    #[arg(long, default_value_t = 30.0, value_name = "PERCENT")]
    load: f64,
    /// Directory of the servers' files; one that is empty, or that a benchmark made; emptied before
    #[arg(long, default_value = "raftkv-bench-snapshot", value_name = "DIR")]
    dir: PathBuf,
}

/// One measurement.
struct Run {
    p999_us: f64,
    snapshots: u32,
}

/// Fills a cluster, measures its peak, then the pairs.
pub fn run(args: &Args, in_json: bool) -> io::Result<()> {
    // No snapshots but those that are asked for.
    let servers = Servers::start(&args.dir, args.nodes, &["--snapshot-log-bytes", "64GiB"])?;
    let duration = Duration::try_from_secs_f64(args.duration).unwrap_or(Duration::from_secs(10));
    let filled = Load { keys: args.keys, value_bytes: args.value_bytes.into(), ..Load::updates() };
    load::preload(&filled, &servers.endpoints(), Duration::from_secs(60))?;
    let closed = Load { connections: 8, depth: 16, duration: duration / 2, ..filled };
    let peak = load::run(&closed, &servers.endpoints(), Duration::from_secs(30))?.per_second();
    let open = Load { connections: 2, rate: Some(peak * args.load / 100.0), duration, ..closed };
    let mut pairs = Vec::new();
    for pair in 0..args.pairs {
        let order = if pair % 2 == 0 { [false, true] } else { [true, false] };
        let mut runs = order.map(|with| (with, measure(&servers, &open, with)));
        runs.sort_by_key(|(with, _)| *with);
        let [(_, without), (_, with)] = runs;
        pairs.push((without?, with?));
    }
    print(args, peak, &pairs, in_json);
    Ok(())
}

/// One open loop; with snapshots: as one ends, the leader begins the next.
fn measure(servers: &Servers, load: &Load, with_snapshots: bool) -> io::Result<Run> {
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let taker = with_snapshots.then(|| scope.spawn(|| take_until(servers, &end)));
        let report: io::Result<Report> = load::run(load, &servers.endpoints(), Duration::from_secs(30));
        end.store(true, Ordering::Relaxed);
        let snapshots = match taker {
            Some(taker) => taker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?,
            None => 0,
        };
        Ok(Run { p999_us: report?.percentile_us(99.9), snapshots })
    })
}

/// Lets the leader take one snapshot after another until `end`; how many were taken.
pub(crate) fn take_until(servers: &Servers, end: &AtomicBool) -> io::Result<u32> {
    let mut taken = 0;
    while !end.load(Ordering::Relaxed) {
        servers.take_snapshot()?;
        taken += 1;
    }
    Ok(taken)
}

fn print(args: &Args, peak: f64, pairs: &[(Run, Run)], in_json: bool) {
    let mut ratios: Vec<f64> = pairs.iter().map(|(without, with)| with.p999_us / without.p999_us.max(1.0)).collect();
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    if in_json {
        let pairs: Vec<serde_json::Value> = pairs
            .iter()
            .map(|(without, with)| {
                serde_json::json!({
                    "without_p999_us": without.p999_us, "with_p999_us": with.p999_us, "snapshots": with.snapshots,
                })
            })
            .collect();
        let report = serde_json::json!({
            "ok": true, "keys": args.keys, "peak_per_second": peak, "load_percent": args.load,
            "pairs": pairs, "median_ratio": median,
        });
        println!("{report}");
        return;
    }
    println!(
        "put at {} % of {peak:.0} /s beside snapshots of {} keys, {} nodes: p99.9",
        args.load, args.keys, args.nodes
    );
    for (without, with) in pairs {
        println!(
            "  without {:>9.0} us   with {:>9.0} us   ratio {:.2}   ({} snapshots)",
            without.p999_us,
            with.p999_us,
            with.p999_us / without.p999_us.max(1.0),
            with.snapshots
        );
    }
    println!("  median ratio {median:.2}");
}
