//! `raftkv bench`: a load generator that measures what a client sees, and measurements of the machine underneath.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a load generator has clocks, threads, sockets and files"
)]

mod load;
mod open_loop;
mod report;
pub mod restart;
mod servers;
pub mod snapshot;
pub mod storage;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;

pub use load::{run as run_load, Load, Verb};
pub use report::{Measured, Report};

/// What to measure.
#[derive(clap::Args, Clone, Debug)]
pub struct BenchArgs {
    /// Which measurement.
    #[command(subcommand)]
    workload: Workload,
}

#[derive(Subcommand, Clone, Debug)]
enum Workload {
    /// Create keys, each once
    Put(LoadArgs),
    /// Replace random keys of a set
    Update(LoadArgs),
    /// Read random keys of a set, linearizably; the set is written before
    Get(LoadArgs),
    /// Kill a server of its own with many keys, and time its start
    Restart(restart::Args),
    /// Compare the latency of writes with and without a snapshot, on a cluster of its own
    Snapshot(snapshot::Args),
    /// Compare the ways to make appends durable on a disk; needs no server
    Storage(storage::Args),
}

/// Flags of a load. Without --rate it is a closed loop, in which every connection keeps its number of requests in flight.
#[derive(clap::Args, Clone, Debug)]
struct LoadArgs {
    /// Connections
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096), value_name = "N")]
    connections: u32,
    /// Requests in flight per connection
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65536), value_name = "N")]
    depth: u32,
    /// Requests a second, all connections together: an open loop, whose latencies count from when each was due
    #[arg(long, value_parser = parse_rate, conflicts_with = "depth", value_name = "N")]
    rate: Option<f64>,
    /// How long to measure, in seconds
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    duration: f64,
    /// How long to load before measuring, in seconds
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    warm_up: f64,
    /// Bytes of a key
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(16..=4096), value_name = "BYTES")]
    key_bytes: u32,
    /// Bytes of a value
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=1_048_576), value_name = "BYTES")]
    value_bytes: u32,
    /// Size of the set of keys (update and get)
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    keys: u64,
}

/// Whom to load, and how to report; from the command line's common flags.
#[derive(Clone, Debug)]
pub struct Environment {
    /// `host:port` of nodes.
    pub endpoints: Vec<String>,
    /// Deadline of each request.
    pub timeout: Duration,
    /// One JSON object instead of a table.
    pub json: bool,
}

/// A number above 0.
fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    let usable = rate.is_finite() && rate > 0.0;
    usable.then_some(rate).ok_or_else(|| "it must be above 0".to_owned())
}

fn ended(measured: io::Result<()>) -> ExitCode {
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("raftkv: it could not be measured: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a measurement and prints its report.
pub fn run(args: BenchArgs, environment: &Environment) -> ExitCode {
    let (verb, args) = match args.workload {
        Workload::Put(args) => (Verb::Put, args),
        Workload::Update(args) => (Verb::Update, args),
        Workload::Get(args) => (Verb::Get, args),
        Workload::Restart(args) => return ended(restart::run(&args, environment.json)),
        Workload::Snapshot(args) => return ended(snapshot::run(&args, environment.json)),
        Workload::Storage(args) => return ended(storage::run(&args, environment.json)),
    };
    let seconds = |n: f64| Duration::try_from_secs_f64(n).unwrap_or(Duration::ZERO);
    let load = Load {
        verb,
        connections: args.connections,
        depth: args.depth,
        rate: args.rate,
        duration: seconds(args.duration),
        warm_up: seconds(args.warm_up),
        key_bytes: args.key_bytes as usize,
        value_bytes: args.value_bytes as usize,
        keys: args.keys,
    };
    match load::run(&load, &environment.endpoints, environment.timeout) {
        Ok(report) => {
            print!("{}", if environment.json { report.json() } else { report.text() });
            if report.measured.completed() > 0 {
                ExitCode::SUCCESS
            } else {
                eprintln!(
                    "raftkv: nothing was answered; is a cluster running? `raftkv dev` starts a local one; \
                     --endpoints or RAFTKV_ENDPOINTS say where"
                );
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("raftkv: the load could not be started: {error}");
            ExitCode::FAILURE
        }
    }
}
