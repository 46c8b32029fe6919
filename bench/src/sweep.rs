//! `raftkv bench sweep`: load against latency. The most that the servers take is measured first, in a closed loop; then open loops
//! at rising parts of it, until they no longer keep up.

use std::io;
use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::{json, Value};

use crate::args::ShapeArgs;
use crate::dialect::Raftkv;
use crate::limits::beside;
use crate::load::{fill, leader_first, measure, Load};
use crate::report::{Report, Run};
use crate::workload::{Kind, Mix};

/// Flags of the sweep.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// What is asked for
    #[arg(value_enum, default_value = "put", value_name = "LOAD")]
    what: What,
    /// Connections
    #[arg(short, long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=16384), value_name = "N")]
    connections: u32,
    /// Requests in flight per connection while the peak is measured
    #[arg(short, long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=65536), value_name = "N")]
    depth: u32,
    /// Parts of the peak at which is measured, in percent
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "5,10,20,30,40,50,60,70,80,90,100,115,130,150",
        value_parser = crate::args::parse_rate,
        value_name = "PERCENT,..."
    )]
    parts: Vec<f64>,
    #[command(flatten)]
    shape: ShapeArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// New keys
    Put,
    /// Replace keys of the set
    Update,
    /// Linearizable reads
    Get,
}

/// What the sweep found.
pub(crate) struct Swept {
    pub(crate) peak: Report,
    /// One report for each rate, rising.
    pub(crate) steps: Vec<Report>,
}

/// A step that completes less of what was due is saturated.
const KEEPS_UP: f64 = 0.95;

impl Swept {
    /// The highest rate that was kept up with; none if none was.
    fn sustained(&self) -> Option<f64> {
        self.steps.iter().filter(|step| keeps_up(step)).filter_map(|step| step.load.rate).reduce(f64::max)
    }
}

fn keeps_up(step: &Report) -> bool {
    step.failures() == 0 && step.per_second() >= KEEPS_UP * step.load.rate.unwrap_or(0.0)
}

/// Measures and prints.
pub(crate) fn run(args: &Args, endpoints: &[String], timeout: Duration, in_json: bool) -> io::Result<Swept> {
    let (name, mix) = match args.what {
        What::Put => ("put", Mix::only(Kind::Create)),
        What::Update => ("update", Mix::only(Kind::Update)),
        What::Get => ("get", Mix::only(Kind::Read)),
    };
    let load = Load { connections: args.connections, depth: args.depth, ..args.shape.load(name, mix) };
    let target = leader_first(endpoints, timeout)?;
    if load.mix.needs_keys() {
        fill::<Raftkv>(&load, &target, timeout)?;
    }
    let peak = measure::<Raftkv>(&load, &target, timeout)?;
    let mut swept = Swept { steps: Vec::new(), peak };
    for part in &args.parts {
        let rate = Some(swept.peak.per_second() * part / 100.0);
        let step = measure::<Raftkv>(&Load { rate, ..load.clone() }, &target, timeout)?;
        let is_last = !keeps_up(&step);
        swept.steps.push(step);
        if is_last {
            break;
        }
    }
    if in_json {
        println!("{}", as_json(&swept));
    } else {
        print!("{}{}", as_text(&swept), beside::foot(Path::new(".")));
    }
    Ok(swept)
}

fn as_text(swept: &Swept) -> String {
    let mut text = format!("{}\n  peak {} /s\n", swept.peak.load, swept.peak.figure(Run::per_second).short(0));
    text += &format!(
        "  {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}\n",
        "due /s", "done /s", "p50 us", "p99 us", "p99.9 us", "max us", "CPU us/op", "failed"
    );
    for step in &swept.steps {
        text += &format!(
            "  {:>10.0} {:>10.0} {:>10.0} {:>10.0} {:>10.0} {:>10.0} {:>10} {:>10}\n",
            step.load.rate.unwrap_or(0.0),
            step.per_second(),
            step.percentile_us(50.0),
            step.percentile_us(99.0),
            step.percentile_us(99.9),
            step.percentile_us(100.0),
            step.figure_if_known(Run::server_cpu_us).map_or("-".to_owned(), |figure| format!("{:.1}", figure.median)),
            step.failures(),
        );
    }
    match swept.sustained() {
        Some(rate) => {
            text + &format!("  sustained {rate:.0} /s: at least {:.0} % of what was due was done\n", KEEPS_UP * 100.0)
        }
        None => text + "  no rate was sustained\n",
    }
}

fn as_json(swept: &Swept) -> Value {
    json!({
        "ok": swept.steps.iter().take(swept.steps.len().saturating_sub(1)).all(|step| step.failures() == 0),
        "limits": beside::as_json(Path::new(".")),
        "peak": swept.peak.as_json(),
        "steps": swept.steps.iter().map(Report::as_json).collect::<Vec<_>>(),
        "sustained_per_second": swept.sustained(),
    })
}
