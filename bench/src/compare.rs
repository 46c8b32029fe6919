//! `raftkv bench compare`: this store beside others, started here, driven by the same generator with the same workload, taking
//! turns within one run. What is compared are ratios, pair by pair, because the same test drifts between runs.

use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde_json::{json, Value};

use crate::args::{ShapeArgs, Width};
use crate::figure::Figure;
use crate::goals;
use crate::load::Load;
use crate::peers::{Peer, Running};
use crate::report::{Report, Run};
use crate::scratch;
use crate::workload::{Kind, Mix};

/// Flags of the comparison.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// With whom, separated by commas; `raftkv` is always measured
    #[arg(long, value_delimiter = ',', default_value = "skeleton,etcd,redis", value_name = "PEER,...")]
    against: Vec<Peer>,
    /// Loads: put, update, get or mix, with connections, and requests in flight on each where that is more than one
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "put:1,put:64,put:256,put:64x16,get:1,get:64,get:256,get:64x16",
        value_name = "LOAD,..."
    )]
    loads: Vec<Shape>,
    /// Connections and requests in flight with which etcd is loaded where a load has more than one in flight, such as
    /// 100x10: what it does best may be something else
    #[arg(long, value_name = "CxD")]
    etcd: Option<Width>,
    #[command(flatten)]
    shape: ShapeArgs,
    /// Directory of the servers' files; one that is empty, or that a benchmark made; emptied before, and removed
    /// afterwards
    #[arg(long, default_value = "raftkv-bench-compare", value_name = "DIR")]
    dir: PathBuf,
}

/// A load as typed: `put:64x16`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Shape {
    name: &'static str,
    mix: Mix,
    connections: u32,
    depth: u32,
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, numbers) = text.split_once(':').unwrap_or((text, "1"));
        let (name, mix) = match name {
            "put" => ("put", Mix::only(Kind::Create)),
            "update" => ("update", Mix::only(Kind::Update)),
            "get" => ("get", Mix::only(Kind::Read)),
            "mix" => ("mix", Mix::reads(0.5)),
            other => return Err(format!("`{other}` is no load; put, update, get and mix are")),
        };
        let Width { connections, depth } = numbers.parse()?;
        Ok(Shape { name, mix, connections, depth })
    }
}

/// What one load made of all peers; this store comes first.
pub(crate) struct Compared {
    pub(crate) load: Load,
    pub(crate) peers: Vec<(Peer, String, Report)>,
    /// Those that cannot be asked for what the load asks for.
    pub(crate) left_out: Vec<Peer>,
}

/// Starts all, measures, prints, stops all.
pub(crate) fn run(args: &Args, in_json: bool, timeout: Duration) -> io::Result<Vec<Compared>> {
    let compared = compare(args, timeout)?;
    if in_json {
        println!("{}", as_json(&compared));
    } else {
        print!("{}", as_text(&compared));
    }
    Ok(compared)
}

fn compare(args: &Args, timeout: Duration) -> io::Result<Vec<Compared>> {
    let mut peers = vec![Peer::Raftkv];
    for peer in &args.against {
        if !peers.contains(peer) {
            peers.push(*peer);
        }
    }
    // Before anything is started: one that is not installed ends this.
    peers.iter().try_for_each(|peer| peer.version().map(drop))?;
    scratch::claim(&args.dir)?;
    let running: Vec<Running> = peers.iter().map(|peer| peer.start(&args.dir)).collect::<io::Result<_>>()?;
    let mut compared = Vec::new();
    for shape in &args.loads {
        let load =
            Load { connections: shape.connections, depth: shape.depth, ..args.shape.load(shape.name, shape.mix) };
        compared.push(take_turns(load, &running, args.etcd, timeout)?);
    }
    drop(running);
    scratch::remove(&args.dir)?;
    Ok(compared)
}

/// All peers that can be asked, one after the other, again and again; every other time the other way round.
fn take_turns(load: Load, running: &[Running], etcd: Option<Width>, timeout: Duration) -> io::Result<Compared> {
    let (able, unable): (Vec<&Running>, Vec<&Running>) = running.iter().partition(|running| running.peer.takes(&load));
    if load.mix.needs_keys() {
        for running in &able {
            running.fill(&load, timeout)?;
        }
    }
    let mut runs: Vec<Vec<Run>> = able.iter().map(|_| Vec::new()).collect();
    for turn in 0..load.repeats as usize {
        for place in 0..able.len() {
            let place = if turn % 2 == 0 { place } else { able.len() - 1 - place };
            let (running, load) = (able[place], load_of(able[place].peer, &load, etcd));
            eprintln!("{}: {}, {} of {}", load.shape(), running.peer.name(), turn + 1, load.repeats);
            runs[place].push(running.measure(&load, timeout)?);
        }
    }
    let report = |(running, runs): (&&Running, Vec<Run>)| {
        let report = Report { load: load_of(running.peer, &load, etcd), runs };
        (running.peer, running.version.clone(), report)
    };
    let left_out = unable.iter().map(|running| running.peer).collect();
    Ok(Compared { peers: able.iter().zip(runs).map(report).collect(), left_out, load })
}

/// What this peer is loaded with.
fn load_of(peer: Peer, load: &Load, etcd: Option<Width>) -> Load {
    match etcd {
        Some(Width { connections, depth }) if peer == Peer::Etcd && load.depth > 1 => {
            Load { connections, depth, ..load.clone() }
        }
        _ => load.clone(),
    }
}

/// A figure of ours over theirs, pair by pair.
pub(crate) fn ratio(ours: &Report, theirs: &Report, figure: impl Fn(&Run) -> f64) -> Figure {
    Figure::of(ours.runs.iter().zip(&theirs.runs).map(|(ours, theirs)| figure(ours) / figure(theirs).max(1e-9)))
}

fn as_text(compared: &[Compared]) -> String {
    let mut text = String::new();
    for Compared { load, peers, left_out } in compared {
        text += &format!("{load}\n");
        text += &format!(
            "  {:<9} {:>26} {:>24} {:>12} {:>20} {:>8} {:>10} {:>10}\n",
            "", "/s", "p50 us", "p99 us", "CPU us/op", "RSS MB", "flushes/op", "failed"
        );
        for (peer, _, report) in peers {
            let known = |figure: Option<Figure>, digits| figure.map_or("-".to_owned(), |figure| figure.short(digits));
            text += &format!(
                "  {:<9} {:>26} {:>24} {:>12.0} {:>20} {:>8.0} {:>10.4} {:>10}\n",
                peer.name(),
                report.figure(Run::per_second).short(0),
                report.figure(|run| run.measured.percentile_us(50.0)).short(0),
                report.percentile_us(99.0),
                known(report.figure_if_known(Run::server_cpu_us), 1),
                report.figure_if_known(Run::resident_bytes).map_or(0.0, |figure| figure.median / 1e6),
                report.figure_if_known(Run::flushes).map_or(0.0, |figure| figure.median),
                report.failures(),
            );
        }
        for peer in left_out {
            text += &format!("  {:<9} {:>26}: it does not take all that is asked for\n", peer.name(), "left out");
        }
        let Some(((_, _, ours), others)) = peers.split_first() else { continue };
        for (peer, _, theirs) in others {
            text += &format!(
                "  raftkv / {}: throughput {}, p50 {}, CPU {}\n",
                peer.name(),
                ratio(ours, theirs, Run::per_second).short(2),
                ratio(ours, theirs, |run| run.measured.percentile_us(50.0)).short(2),
                ratio(ours, theirs, |run| run.server_cpu_us().unwrap_or(0.0)).short(3),
            );
        }
    }
    text += &goals::as_text(compared);
    if let Some(Compared { peers, .. }) = compared.iter().max_by_key(|compared| compared.peers.len()) {
        let versions: Vec<&str> = peers.iter().map(|(_, version, _)| version.as_str()).collect();
        text += &format!(
            "{}; median [min-max]; {}\n",
            versions.join("; "),
            crate::machine::description_with_limits(Path::new("."))
        );
    }
    text
}

fn as_json(compared: &[Compared]) -> Value {
    let figure = |figure: Figure| json!({ "median": figure.median, "min": figure.min, "max": figure.max });
    let loads = compared.iter().map(|Compared { load, peers, left_out }| {
        let reports = peers.iter().map(|(peer, version, report)| {
            let mut object = report.as_json();
            object["peer"] = peer.name().into();
            object["version"] = version.as_str().into();
            object
        });
        let ratios = peers.split_first().map(|((_, _, ours), others)| {
            let ratios = others.iter().map(|(peer, _, theirs)| {
                json!({
                    "against": peer.name(),
                    "per_second": figure(ratio(ours, theirs, Run::per_second)),
                    "p50": figure(ratio(ours, theirs, |run| run.measured.percentile_us(50.0))),
                    "p99": figure(ratio(ours, theirs, |run| run.measured.percentile_us(99.0))),
                    "server_cpu_us_per_op": figure(ratio(ours, theirs, |run| run.server_cpu_us().unwrap_or(0.0))),
                })
            });
            ratios.collect::<Vec<_>>()
        });
        let left_out: Vec<&str> = left_out.iter().map(|peer| peer.name()).collect();
        json!({
            "load": load.to_string(), "peers": reports.collect::<Vec<_>>(), "left_out": left_out, "ratios": ratios,
        })
    });
    let failed: u64 =
        compared.iter().flat_map(|compared| &compared.peers).map(|(_, _, report)| report.failures()).sum();
    json!({
        "ok": failed == 0,
        "machine": crate::machine::description(Path::new(".")),
        "limits": crate::limits::beside::as_json(Path::new(".")),
        "loads": loads.collect::<Vec<_>>(),
        "goals": goals::as_json(compared),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_are_typed_shortly() {
        let shape: Shape = "put:64x16".parse().expect("a load");
        assert_eq!((shape.name, shape.connections, shape.depth), ("put", 64, 16));
        let shape: Shape = "get".parse().expect("a load");
        assert_eq!((shape.mix, shape.connections, shape.depth), (Mix::only(Kind::Read), 1, 1));
        for wrong in ["set:1", "put:0", "put:1x", "put:x", "put:1x1x1", ""] {
            assert!(wrong.parse::<Shape>().is_err(), "{wrong}");
        }
    }
}
