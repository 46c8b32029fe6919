//! `raftkv bench restart`: how long a killed server takes from exec to its first linearizable answer.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::load::{self, Load};
use crate::servers::Servers;

/// Flags of the measurement.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Keys in the state
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    keys: u64,
    /// Bytes of a value
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=1_048_576), value_name = "BYTES")]
    value_bytes: u32,
    /// How often the server is killed and started
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    rounds: u32,
    /// Directory of the server's files; one that is empty, or that a benchmark made; emptied before
    #[arg(long, default_value = "raftkv-bench-restart", value_name = "DIR")]
    dir: PathBuf,
}

/// Writes updates behind the snapshot, so that a log is replayed too.
const UPDATES_BEHIND: u64 = 10_000;

/// Fills a server, lets it take a snapshot, kills and starts it.
pub fn run(args: &Args, in_json: bool) -> io::Result<()> {
    let mut servers = Servers::start(&args.dir, 1, &[])?;
    let load = Load { keys: args.keys, value_bytes: args.value_bytes.into(), ..Load::updates() };
    load::preload(&load, &servers.endpoints(), Duration::from_secs(60))?;
    let taken = servers.take_snapshot()?;
    let behind = Load { keys: UPDATES_BEHIND.min(args.keys), ..load };
    load::preload(&behind, &servers.endpoints(), Duration::from_secs(60))?;
    let mut times = Vec::new();
    for _ in 0..args.rounds {
        times.push(servers.restart(0)?.as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    if in_json {
        let report = serde_json::json!({
            "ok": true, "keys": args.keys, "value_bytes": args.value_bytes, "snapshot_bytes": taken.bytes,
            "seconds": times, "median_seconds": median,
        });
        println!("{report}");
    } else {
        println!("restart, {} keys with values of {} B, snapshot of {} B", args.keys, args.value_bytes, taken.bytes);
        println!("  from exec to the first linearizable answer: median {median:.2} s of {times:.2?}");
    }
    Ok(())
}
