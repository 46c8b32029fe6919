//! `raftkv bench`: a load generator that measures what a client sees, and measurements of the machine underneath.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a load generator has clocks, threads, sockets and files"
)]

mod args;
mod dialect;
mod distribution;
mod driver;
mod figure;
mod load;
mod measured;
mod process;
mod progress;
mod random;
mod report;
pub mod restart;
mod servers;
pub mod snapshot;

pub mod storage;
mod workload;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;

pub use load::{run as run_load, Load};
pub use measured::Measured;
pub use report::{Report, Run};

use args::{LoadArgs, MixArgs};
use workload::{Kind, Mix};

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
    /// Read and update in a proportion, or as one of YCSB's mixes
    Mix(MixArgs),
    /// Kill a server of its own with many keys, and time its start
    Restart(restart::Args),
    /// Compare the latency of writes with and without a snapshot, on a cluster of its own
    Snapshot(snapshot::Args),
    /// Compare the ways to make appends durable on a disk; needs no server
    Storage(storage::Args),
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
    let load = match args.workload {
        Workload::Put(args) => args.load("put", Mix::only(Kind::Create)),
        Workload::Update(args) => args.load("update", Mix::only(Kind::Update)),
        Workload::Get(args) => args.load("get", Mix::only(Kind::Read)),
        Workload::Mix(args) => args.load(),
        Workload::Restart(args) => return ended(restart::run(&args, environment.json)),
        Workload::Snapshot(args) => return ended(snapshot::run(&args, environment.json)),
        Workload::Storage(args) => return ended(storage::run(&args, environment.json)),
    };
    match load::run(&load, &environment.endpoints, environment.timeout) {
        Ok(report) => {
            print!("{}", if environment.json { report.json() } else { report.text() });
            if report.completed() > 0 {
                ExitCode::SUCCESS
            } else {
                eprintln!("raftkv: nothing was answered");
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!(
                "raftkv: the load could not be started: {error}; is a cluster running? `raftkv dev` starts a local one; \
                 --endpoints or RAFTKV_ENDPOINTS say where"
            );
            ExitCode::FAILURE
        }
    }
}
