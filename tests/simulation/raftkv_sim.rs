//! The simulator on its own: `cargo run --profile sim --example raftkv-sim -- --seeds 1000`. See `main.rs` for what it does.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "real minutes bound a run, and seeds are fresh"
)]

mod bulk;
#[path = "../linearizability/by_index.rs"]
mod by_index;
mod checks;
mod clients;
mod counters;
mod damage;
#[path = "../linearizability/history.rs"]
#[allow(dead_code, reason = "histories of other systems have more kinds of operations")]
mod history;
#[cfg(feature = "sabotage")]
mod hunt;
mod io_loop;
mod model;
#[path = "../linearizability/needed.rs"]
mod needed;
mod nemesis;
mod network;
mod node;
mod operation;
mod oracle;
mod phases;
mod profile;
mod promises;
mod queue;
mod random;
mod recorder;
mod runs;
mod scenario;
mod schedule;
mod shrink;
mod trace;
mod transfers;
#[path = "../linearizability/wgl.rs"]
mod wgl;
mod wires;
mod workload;
mod world;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;

use profile::Profile;
use runs::{run, run_all, run_scheduled, Plan};
use scenario::Scenario;

/// Runs seeds of the simulated cluster: whole clusters in virtual time, with faults; every answer is checked.
#[derive(Debug, Parser)]
#[command(name = "raftkv-sim")]
struct Args {
    /// The first seed; drawn if it is not given. Without --seeds and --minutes only this one is run.
    #[arg(long)]
    seed: Option<u64>,
    /// How many seeds to run.
    #[arg(long)]
    seeds: Option<u64>,
    /// Run seeds for so many minutes.
    #[arg(long, conflicts_with = "seeds")]
    minutes: Option<u64>,
    /// Run seeds whose clients count, until so many increments were executed; with --seed and 1 only that one.
    #[arg(long, conflicts_with_all = ["seeds", "minutes", "short"])]
    increments: Option<u64>,
    /// Threads, each with seeds of its own.
    #[arg(long, default_value_t = 1)]
    jobs: u64,
    /// A tenth of the usual time per seed, as the tests run them.
    #[arg(long)]
    short: bool,
    /// Harm more disks than the promise covers: errors and stops pass, wrong answers do not.
    #[arg(long)]
    beyond: bool,
    /// Break these promises on purpose, one by one: run the seeds with the first, or --hunt all; a failure is what is wanted.
    #[cfg(feature = "sabotage")]
    #[arg(long, value_delimiter = ',', value_parser = |name: &str| raftkv::sabotage::Bug::named(name).ok_or("no such bug"))]
    bug: Vec<raftkv::sabotage::Bug>,
    /// Hunt the bugs named, or all there are: each must be found in every range of fresh seeds.
    #[cfg(feature = "sabotage")]
    #[arg(long)]
    hunt: bool,
    /// Ranges of seeds in which each bug is hunted.
    #[cfg(feature = "sabotage")]
    #[arg(long, default_value_t = 3)]
    ranges: usize,
    /// Seconds of processor time of one thread that a range may take.
    #[cfg(feature = "sabotage")]
    #[arg(long, default_value_t = 1_200)]
    dose: u64,
    /// The file whose table gets a row for each bug; rows of the current sources are not hunted again.
    #[cfg(feature = "sabotage")]
    #[arg(long)]
    report: Option<std::path::PathBuf>,
    /// Make the failing run of this seed small, and print it as a scenario (tests/simulation/scenarios).
    #[arg(long, requires = "seed")]
    shrink: bool,
    /// Replay a scenario.
    #[arg(long, conflicts_with_all = ["seed", "seeds", "minutes"])]
    scenario: Option<std::path::PathBuf>,
    /// Print every event.
    #[arg(long)]
    verbose: bool,
}

static VERBOSE: AtomicBool = AtomicBool::new(false);

fn verbose() -> bool {
    VERBOSE.load(Ordering::Relaxed)
}

fn main() -> ExitCode {
    let args = Args::parse();
    VERBOSE.store(args.verbose, Ordering::Relaxed);
    let profile = match (args.short, args.beyond) {
        _ if args.increments.is_some() => Profile::counting,
        (true, false) => Profile::short,
        (true, true) => Profile::short_beyond,
        (false, true) => Profile::beyond,
        (false, false) => Profile::draw,
    };
    let first = args.seed.unwrap_or_else(fresh_seed);
    #[cfg(feature = "sabotage")]
    match args.bug.first() {
        _ if args.hunt => return hunt(args, profile, first),
        Some(bug) => {
            hunt::arm_everywhere(*bug);
            runs::ARMED.get_or_init(|| bug.name().to_owned());
        }
        None => {}
    }
    if let Some(path) = &args.scenario {
        return replay(path);
    }
    if args.shrink {
        return shrink_seed(profile(first), bug_name(&args));
    }
    if args.seeds.is_none() && args.minutes.is_none() && args.increments.is_none_or(|count| count == 1) {
        return one(profile(first));
    }
    println!("seeds from {first}");
    let end = args.minutes.map(|minutes| Instant::now() + Duration::from_secs(minutes * 60));
    let totals =
        run_all(Plan { first, seeds: args.seeds, end, increments: args.increments, jobs: args.jobs.max(1), profile });
    print!("{totals}");
    let gaps = totals.gaps();
    gaps.iter().for_each(|gap| println!("SIM GAP {gap}"));
    if totals.failures.is_empty() && gaps.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs of one shrinking.
const SHRINKING_RUNS_MAX: usize = 1_000;

fn shrink_seed(profile: Profile, bug: Option<String>) -> ExitCode {
    let Some(shrunk) = shrink::shrink(profile, bug, SHRINKING_RUNS_MAX) else {
        eprintln!("nothing to shrink: the seed does not fail");
        return ExitCode::FAILURE;
    };
    eprintln!("{} faults left, after {} runs", shrunk.scenario.schedule.len(), shrunk.runs);
    print!("# {}\n{}", shrunk.line, shrunk.scenario);
    ExitCode::SUCCESS
}

#[cfg(feature = "sabotage")]
fn bug_name(args: &Args) -> Option<String> {
    args.bug.first().map(|bug| bug.name().to_owned())
}

#[cfg(not(feature = "sabotage"))]
fn bug_name(_: &Args) -> Option<String> {
    None
}

fn replay(path: &std::path::Path) -> ExitCode {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("{}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    };
    let scenario = match Scenario::parse(&text) {
        Ok(scenario) => scenario,
        Err(line) => {
            eprintln!("{}: not understood: {line}", path.display());
            return ExitCode::FAILURE;
        }
    };
    runs::SCENARIO.get_or_init(|| path.display().to_string());
    told(run_scheduled(scenario.profile, Some(scenario.schedule)).0)
}

fn one(profile: Profile) -> ExitCode {
    println!("{profile:?}");
    told(run(profile))
}

fn told(result: Result<runs::Summary, String>) -> ExitCode {
    match result {
        Ok(summary) => {
            println!("{summary:?}");
            ExitCode::SUCCESS
        }
        Err(line) => {
            println!("{line}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(feature = "sabotage")]
fn hunt(args: Args, profile: fn(u64) -> Profile, first_seed: u64) -> ExitCode {
    let Args { bug: mut bugs, ranges, dose, jobs, report, .. } = args;
    if bugs.is_empty() {
        bugs.extend(raftkv::sabotage::Bug::ALL);
    }
    let dose = Duration::from_secs(dose);
    match (hunt::Hunt { bugs, first_seed, ranges, dose, jobs: jobs.max(1), profile, report }).run() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn fresh_seed() -> u64 {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |span| span.as_nanos() as u64);
    nanos ^ u64::from(std::process::id()) << 32
}
