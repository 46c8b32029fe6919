//! `raftkv bench limits`: what this machine can do at all. Each figure is something that a durable, replicated write has to pay
//! for: a sync, a round trip, a wake; and the skeleton pays for all of them and nothing else.

pub(crate) mod beside;
mod disk;
mod wake;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use hdrhistogram::Histogram;
use serde_json::{json, Value};

use crate::args::Width;
use crate::dialect;
use crate::load::{measure, Load};
use crate::machine;
use crate::measured::percentile_us;
use crate::report::{Report, Run};
use crate::skeleton::{Skeleton, Sync};
use crate::workload::{Kind, Mix};

/// What to measure.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// Directory on the disk to measure; its files are removed afterwards
    #[arg(long, default_value = ".", value_name = "DIR")]
    dir: PathBuf,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 2.0, value_parser = crate::args::parse_duration, value_name = "SECONDS")]
    duration: f64,
    /// How often each load of the skeleton is measured
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100), value_name = "N")]
    repeats: u32,
    /// How the skeleton makes bytes durable
    #[arg(long, default_value = "fdatasync", value_name = "MODE")]
    sync: Sync,
    /// Loads of the skeleton: connections, and requests in flight on each
    #[arg(long, value_delimiter = ',', default_value = "1x1,64x1,256x1,64x16", value_name = "CxD,...")]
    loads: Vec<Width>,
}

/// One figure with its latencies.
pub(crate) struct Limit {
    pub(crate) name: String,
    /// In nanoseconds; none of a bandwidth.
    pub(crate) latencies: Option<Histogram<u64>>,
    /// What else is to be said.
    pub(crate) note: String,
    /// The same for programs.
    pub(crate) numbers: Value,
}

/// Measures, prints, removes its files.
pub(crate) fn run(args: &Args, in_json: bool) -> io::Result<()> {
    let dir = args.dir.join(format!("raftkv-bench-limits-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let measured = measure_all(args, &dir);
    let removed = std::fs::remove_dir_all(&dir);
    let (limits, skeleton) = measured?;
    removed?;
    if in_json {
        println!("{}", as_json(&args.dir, &limits, &skeleton));
    } else {
        print!("{}", as_text(&args.dir, &limits, &skeleton, args.sync));
    }
    Ok(())
}

fn measure_all(args: &Args, dir: &Path) -> io::Result<(Vec<Limit>, Vec<Report>)> {
    let duration = Duration::from_secs_f64(args.duration);
    let mut limits = disk::measure(dir, duration)?;
    limits.push(wake::round_trip(duration)?);
    limits.push(wake::wake(duration)?);
    let skeleton = Skeleton::start(dir, args.sync)?;
    let mut reports = Vec::new();
    for Width { connections, depth } in &args.loads {
        let load = Load {
            connections: *connections,
            depth: *depth,
            duration,
            warm_up: duration / 4,
            repeats: args.repeats,
            ..Load::of("skeleton", Mix::only(Kind::Create))
        };
        reports.push(measure::<dialect::Skeleton>(&load, &skeleton.target, Duration::from_secs(10))?);
    }
    Ok((limits, reports))
}

fn as_text(dir: &Path, limits: &[Limit], skeleton: &[Report], sync: Sync) -> String {
    let mut text =
        format!("{}\n\n{:<52} {:>9} {:>9} {:>9}\n", machine::description(dir), "", "p50 us", "p99 us", "p99.9 us");
    for limit in limits {
        text += &format!("{:<52}", limit.name);
        if let Some(latencies) = &limit.latencies {
            for at in [50.0, 99.0, 99.9] {
                text += &format!(" {:>9.1}", percentile_us(latencies, at));
            }
        }
        text += &format!("  {}\n", limit.note);
    }
    let sync = sync.to_possible_value().expect("no mode is skipped");
    text += &format!("\nspeed of light: three processes that only move and sync bytes ({})\n", sync.get_name());
    text += &format!("  {:<10} {:>26} {:>22} {:>9} {:>18}\n", "", "/s", "p50 us", "p99 us", "CPU us/op");
    for report in skeleton {
        text += &format!(
            "  {:<10} {:>26} {:>22} {:>9.0} {:>18}\n",
            format!("{}x{}", report.load.connections, report.load.depth),
            report.figure(Run::per_second).short(0),
            report.figure(|run| run.measured.percentile_us(50.0)).short(0),
            report.percentile_us(99.0),
            report.figure_if_known(Run::server_cpu_us).map_or("-".to_owned(), |figure| figure.short(1)),
        );
    }
    text
}

fn as_json(dir: &Path, limits: &[Limit], skeleton: &[Report]) -> Value {
    let limits = limits.iter().map(|limit| {
        let latency = limit.latencies.as_ref().map(crate::report::latency_json);
        json!({ "name": limit.name, "latency_us": latency, "numbers": limit.numbers })
    });
    json!({
        "ok": true,
        "machine": machine::description(dir),
        "limits": limits.collect::<Vec<_>>(),
        "skeleton": skeleton.iter().map(Report::as_json).collect::<Vec<_>>(),
    })
}
