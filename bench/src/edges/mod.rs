//! `raftkv bench edges`: how three nodes behave where loads are extreme. Each edge has a cluster of its own, started here with
//! the defaults, so that the memory that it shows is its own.

mod follower;
mod found;
mod keys;
mod loads;
mod snapshot;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use crate::args::{parse_duration, parse_seconds, Width};
use crate::dialect::Raftkv;
use crate::load::{fill, leader_first, measure, raise_file_limit, resolve, Load, Target};
use crate::process::resident;
use crate::report::Report;
use crate::scratch;
use crate::servers::Servers;
use crate::workload::Mix;
use found::{as_json, as_text, Found};

/// Flags of the measurement.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// Only these edges, separated by commas [default: all]
    #[arg(long, value_delimiter = ',', value_name = "EDGE,...")]
    only: Vec<Edge>,
    /// Keys of the edge `many-keys`; the others have 1,000,000 at most
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    keys: u64,
    /// Numbers of connections of the edge `connections`
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "2000,5000",
        value_parser = clap::value_parser!(u32).range(1..=16384),
        value_name = "N,..."
    )]
    connections: Vec<u32>,
    /// Connections and requests in flight on each, of the edge `pipelines`
    #[arg(long, value_delimiter = ',', default_value = "1x1024,64x256,64x512", value_name = "CxD,...")]
    pipelines: Vec<Width>,
    /// How long to measure each load, in seconds
    #[arg(long, default_value_t = 10.0, value_parser = parse_duration, value_name = "SECONDS")]
    duration: f64,
    /// How long to load before measuring, in seconds
    #[arg(long, default_value_t = 2.0, value_parser = parse_seconds, value_name = "SECONDS")]
    warm_up: f64,
    /// How often to measure each load; the report shows medians
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000), value_name = "N")]
    repeats: u32,
    /// Directory of the servers' files; one that is empty, or that a benchmark made; emptied before, and removed
    /// afterwards
    #[arg(long, default_value = "raftkv-bench-edges", value_name = "DIR")]
    dir: PathBuf,
}

/// Where a store may break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Edge {
    /// One client with one request at a time: latency
    OneClient,
    /// Thousands of connections
    Connections,
    /// Many requests in flight on each connection
    Pipelines,
    /// Values from 16 B to 1 MiB
    Values,
    /// All or most requests go to few keys
    HotKeys,
    /// One of three nodes runs a tenth of the time, then not at all, then catches up
    SlowFollower,
    /// One snapshot after another is taken
    Snapshot,
    /// Ten million keys: memory for each, put and get, restarts
    ManyKeys,
}

/// The measurement of one edge.
struct Bench<'a> {
    args: &'a Args,
    timeout: Duration,
    /// Files that this process may have open.
    files: u64,
}

/// A cluster of an edge's own.
struct Cluster {
    servers: Servers,
    target: Target,
    /// The node that led when it was started.
    leader: usize,
}

/// Measures the edges one after the other and prints what was found.
pub(crate) fn run(args: &Args, in_json: bool, timeout: Duration) -> io::Result<()> {
    // The servers inherit the limit.
    let bench = Bench { args, timeout, files: raise_file_limit() };
    let edges = if args.only.is_empty() { Edge::value_variants() } else { &args.only };
    let mut all = Vec::new();
    for edge in edges {
        let found = bench.look_at(*edge).map_err(|error| {
            io::Error::new(error.kind(), format!("{edge}: {error} (the servers' words are in {})", args.dir.display()))
        })?;
        all.push(found);
    }
    scratch::remove(&args.dir)?;
    if in_json {
        println!("{}", as_json(&all));
    } else {
        print!("{}", as_text(&all));
    }
    Ok(())
}

impl Bench<'_> {
    fn look_at(&self, edge: Edge) -> io::Result<Found> {
        let mut found = Found::of(edge);
        match edge {
            Edge::OneClient | Edge::Connections | Edge::Pipelines | Edge::Values | Edge::HotKeys => {
                loads::run(self, &mut found)?;
            }
            Edge::SlowFollower => follower::run(self, &mut found)?,
            Edge::Snapshot => snapshot::run(self, &mut found)?,
            Edge::ManyKeys => keys::run(self, &mut found)?,
        }
        Ok(found)
    }

    /// Three nodes with these flags besides the defaults.
    fn start(&self, flags: &[&str]) -> io::Result<Cluster> {
        let servers = Servers::start(&self.args.dir, 3, flags)?;
        let target = leader_first(&servers.endpoints(), self.timeout)?;
        let is_leader = |endpoint: &String| resolve(endpoint).is_ok_and(|address| address == target.addresses[0]);
        let leader = servers.endpoints().iter().position(is_leader);
        let leader = leader.ok_or_else(|| io::Error::other("a node that was not started leads"))?;
        Ok(Cluster { servers, target, leader })
    }

    /// A load of this edge.
    fn load(&self, name: &str, mix: Mix, width: (u32, u32)) -> Load {
        Load {
            connections: width.0,
            depth: width.1,
            duration: Duration::from_secs_f64(self.args.duration),
            warm_up: Duration::from_secs_f64(self.args.warm_up),
            repeats: self.args.repeats,
            ..Load::of(name, mix)
        }
    }

    /// Writes the set of keys if the load reads it, and measures.
    fn measure(&self, load: &Load, cluster: &Cluster) -> io::Result<Report> {
        if load.mix.needs_keys() {
            fill::<Raftkv>(load, &cluster.target, self.timeout)?;
        }
        self.measure_filled(load, cluster)
    }

    /// Measures; what is read is there already. Fails if a node has ended meanwhile: the others may not need it.
    fn measure_filled(&self, load: &Load, cluster: &Cluster) -> io::Result<Report> {
        eprintln!("{}", load.shape());
        let report = measure::<Raftkv>(load, &cluster.target, self.timeout)?;
        match (0..3).find(|node| resident(cluster.servers.pid(*node)).is_none()) {
            Some(node) => Err(io::Error::other(format!("node {node} has ended"))),
            None => Ok(report),
        }
    }
}

impl std::fmt::Display for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = self.to_possible_value().expect("no edge is skipped");
        f.write_str(value.get_name())
    }
}
