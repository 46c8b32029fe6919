//! `raftkv bench`: a load generator that measures what a client sees, and measurements of the machine underneath.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a load generator has clocks, threads, sockets and files"
)]

mod args;
mod child;
mod compare;
mod dialect;
mod distribution;
mod driver;
mod edges;
mod failover;
mod figure;
pub mod flamegraph;
mod goals;
mod html;
mod limits;
mod load;
mod machine;
mod measured;
mod peers;
mod probe;
mod process;
mod progress;
mod random;
mod report;
pub mod restart;
mod scratch;
mod servers;
mod skeleton;
pub mod snapshot;

mod stages;
pub mod storage;
mod sweep;
mod workload;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use protocol::reply::Effect;

pub use load::{run as run_load, Load};
pub use measured::Measured;
pub use report::{Report, Run};

use args::{LoadArgs, MixArgs};
use html::Page;
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
    Put(Reported<LoadArgs>),
    /// Replace random keys of a set
    Update(Reported<LoadArgs>),
    /// Read random keys of a set, linearizably; the set is written before
    Get(Reported<LoadArgs>),
    /// Read and update in a proportion, or as one of YCSB's mixes
    Mix(Reported<MixArgs>),
    /// Compare with others in one run: this store, the speed of light, etcd, Redis; all are started here
    Compare(Reported<compare::Args>),
    /// Extremes, each on a cluster of its own: one client, thousands of connections, deep pipelines, small and large values,
    /// hot keys, a slow follower, a snapshot in progress, ten million keys
    Edges(edges::Args),
    /// How long nobody takes writes when a leader fails, and after a start; beside etcd, all are started here
    Failover(failover::Args),
    /// Rising load against latency, until the servers no longer keep up
    Sweep(Reported<sweep::Args>),
    /// What this machine can do at all: syncs, round trips, wakes, and the speed of light; needs no server
    Limits(limits::Args),
    /// Kill a server of its own with many keys, and time its start
    Restart(restart::Args),
    /// Compare the latency of writes with and without a snapshot, on a cluster of its own
    Snapshot(snapshot::Args),
    /// Compare the ways to make appends durable on a disk; needs no server
    Storage(storage::Args),
    /// One process of the speed of light
    #[command(hide = true)]
    SkeletonNode(skeleton::NodeArgs),
}

impl Workload {
    /// Where a page is wanted.
    fn page(&self) -> Option<&Path> {
        match self {
            Workload::Put(args) | Workload::Update(args) | Workload::Get(args) => args.report.as_deref(),
            Workload::Mix(args) => args.report.as_deref(),
            Workload::Compare(args) => args.report.as_deref(),
            Workload::Sweep(args) => args.report.as_deref(),
            _ => None,
        }
    }

    /// Whether its report says what the machine can do at best.
    fn stands_beside_limits(&self) -> bool {
        !matches!(
            self,
            Workload::Limits(_)
                | Workload::Restart(_)
                | Workload::Snapshot(_)
                | Workload::Storage(_)
                | Workload::SkeletonNode(_)
        )
    }
}

/// A measurement that can be shown as a page.
#[derive(clap::Args, Clone, Debug)]
struct Reported<A: clap::Args> {
    #[command(flatten)]
    args: A,
    /// Also write the report as a page with plots, for a browser
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

impl<A: clap::Args> Reported<A> {
    /// Writes the page that `fill` makes, if one is wanted.
    fn write(&self, title: &str, fill: impl FnOnce(Page) -> Page) -> io::Result<()> {
        match &self.report {
            Some(path) => fill(Page::new(title, Path::new("."))).write(path),
            None => Ok(()),
        }
    }
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
    /// Shows why there is nothing to report, in the command line's form, and gives the exit code: what was wanted, the error,
    /// which may have a [`client::Error`] inside, and what may be there of it where the error does not tell.
    pub fail: fn(&str, &io::Error, Effect, bool) -> ExitCode,
}

impl Environment {
    fn ended(&self, measured: io::Result<()>) -> ExitCode {
        match measured {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => (self.fail)("it could not be measured", &error, Effect::Unknown, self.json),
        }
    }
}

/// Prints a report; a reader that has gone away is no error.
fn print(report: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(report.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(io::Error::new(error.kind(), format!("standard output cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// A report of nothing is none.
fn answered(report: &Report) -> io::Result<()> {
    if report.completed() > 0 {
        return Ok(());
    }
    let named = report.runs.iter().find_map(|run| run.measured.failures_by_name().keys().next());
    let why = named.map_or_else(String::new, |name| format!(": {name}"));
    Err(io::Error::other(format!("no request was done, and {} failed{why}", report.failures())))
}

/// Runs a measurement and prints its report.
pub fn run(args: BenchArgs, environment: &Environment) -> ExitCode {
    let Environment { endpoints, timeout, json, .. } = environment;
    let ended = |measured| environment.ended(measured);
    if let Some(Err(error)) = args.workload.page().map(html::check_writable) {
        return ended(Err(error));
    }
    if args.workload.stands_beside_limits() {
        // Now, because a disk still writes what a load has left when that is over: a sync takes a hundred times as long then.
        limits::beside::beside(Path::new("."));
    }
    match args.workload {
        Workload::Put(args) => run_load_of(&args, args.args.load("put", Mix::only(Kind::Create)), environment),
        Workload::Update(args) => run_load_of(&args, args.args.load("update", Mix::only(Kind::Update)), environment),
        Workload::Get(args) => run_load_of(&args, args.args.load("get", Mix::only(Kind::Read)), environment),
        Workload::Mix(args) => run_load_of(&args, args.args.load(), environment),
        Workload::Compare(args) => ended(
            compare::run(&args.args, *json, *timeout)
                .and_then(|compared| args.write("raftkv beside others", |page| page.comparison(&compared))),
        ),
        Workload::Sweep(args) => ended(
            sweep::run(&args.args, endpoints, *timeout, *json)
                .and_then(|swept| args.write("raftkv under rising load", |page| page.sweep(&swept))),
        ),
        Workload::Edges(args) => ended(edges::run(&args, *json, *timeout)),
        Workload::Failover(args) => ended(failover::run(&args, *json, *timeout)),
        Workload::Limits(args) => ended(limits::run(&args, *json)),
        Workload::Restart(args) => ended(restart::run(&args, *json)),
        Workload::Snapshot(args) => ended(snapshot::run(&args, *json)),
        Workload::Storage(args) => ended(storage::run(&args, *json)),
        Workload::SkeletonNode(args) => ended(skeleton::run_node(&args)),
    }
}

/// Loads the cluster of the command line.
fn run_load_of<A: clap::Args>(args: &Reported<A>, load: Load, environment: &Environment) -> ExitCode {
    match load::run(&load, &environment.endpoints, environment.timeout) {
        Ok(report) => {
            let text = || match environment.json {
                true => report.json(),
                false => report.text() + &limits::beside::foot(Path::new(".")),
            };
            let shown = answered(&report).and_then(|()| print(&text()));
            environment.ended(shown.and_then(|()| args.write("raftkv under load", |page| page.report(&report))))
        }
        Err(error) => (environment.fail)("the load could not be started", &error, Effect::Unknown, environment.json),
    }
}
