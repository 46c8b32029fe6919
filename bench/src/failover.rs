//! `raftkv bench failover`: how long nobody takes writes when the leader dies or stands still, and how long a cluster takes from
//! its start to the first write; beside etcd, with the same driver, taking turns.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde_json::{json, Value};

use crate::args::Width;
use crate::child::Signal;
use crate::distribution::{Distribution, Spread};
use crate::driver::Share;
use crate::figure::Figure;
use crate::limits::beside;
use crate::load::Load;
use crate::machine;
use crate::peers::cluster::{Cluster, NODES};
use crate::peers::Peer;
use crate::scratch;
use crate::workload::{Fresh, Generator, Kind, Mix};

/// Flags of the measurement.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// Who is measured, separated by commas: raftkv, etcd
    #[arg(long, value_delimiter = ',', default_value = "raftkv,etcd", value_parser = parse_peer, value_name = "PEER,...")]
    peers: Vec<Peer>,
    /// Only these events, separated by commas [default: all]
    #[arg(long, value_delimiter = ',', value_name = "EVENT,...")]
    only: Vec<Event>,
    /// How often each event is brought about at each peer
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000), value_name = "N")]
    repeats: u32,
    /// Connections that write meanwhile when a leader fails, and requests in flight on each
    #[arg(long, default_value = "16x1", value_name = "CxD")]
    load: Width,
    /// Keys of 16 B with values of 256 B that are there before
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    keys: u64,
    /// Directory of the servers' files; one that is empty, or that a benchmark made; emptied before, and removed
    /// afterwards
    #[arg(long, default_value = "raftkv-bench-failover", value_name = "DIR")]
    dir: PathBuf,
}

/// What happens; time counts from then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Event {
    /// The leader is killed (kill -9), under load
    Kill,
    /// The leader is stopped (SIGSTOP), under load: its connections stay open
    Stop,
    /// Three nodes start on empty directories
    StartEmpty,
    /// Three nodes that were killed start on what they had
    StartFull,
}

/// What one event took at each peer, in milliseconds, turn by turn.
struct Measured {
    event: Event,
    peers: Vec<(Peer, Vec<f64>)>,
}

/// How long the load goes on before its leader fails, and how long in all.
const LOADED: Duration = Duration::from_secs(1);
const LOAD: Duration = Duration::from_secs(4);
/// A request of the load without an answer for so long is lost.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Brings all about, prints, stops all.
pub(crate) fn run(args: &Args, in_json: bool, timeout: Duration) -> io::Result<()> {
    let versions = args.peers.iter().map(|peer| peer.version()).collect::<io::Result<Vec<String>>>()?;
    scratch::claim(&args.dir)?;
    let events = if args.only.is_empty() { Event::value_variants() } else { &args.only };
    let mut all = Vec::new();
    for event in events {
        all.push(take_turns(*event, args, timeout)?);
    }
    scratch::remove(&args.dir)?;
    if in_json {
        println!("{}", as_json(&all, &versions));
    } else {
        print!("{}", as_text(&all, &versions, args));
    }
    Ok(())
}

/// One peer after the other, again and again; every other time the other way round.
fn take_turns(event: Event, args: &Args, timeout: Duration) -> io::Result<Measured> {
    let cluster = |peer: &Peer| prepared(event, *peer, args, timeout);
    let mut clusters: Vec<Cluster> = args.peers.iter().map(cluster).collect::<io::Result<_>>()?;
    let mut peers: Vec<(Peer, Vec<f64>)> = args.peers.iter().map(|peer| (*peer, Vec::new())).collect();
    for turn in 0..args.repeats as usize {
        for place in 0..peers.len() {
            let place = if turn % 2 == 0 { place } else { peers.len() - 1 - place };
            let (peer, times) = &mut peers[place];
            eprintln!("{}: {}, {} of {}", event.words(), peer.name(), turn + 1, args.repeats);
            let took = bring_about(event, *peer, &mut clusters[place], args)?;
            times.push(took.as_secs_f64() * 1e3);
        }
    }
    Ok(Measured { event, peers })
}

/// A cluster as the event finds it the first time.
fn prepared(event: Event, peer: Peer, args: &Args, timeout: Duration) -> io::Result<Cluster> {
    let mut cluster = Cluster::prepare(peer, &args.dir)?;
    if event != Event::StartEmpty {
        cluster.start()?;
        cluster.fill(&Load { keys: args.keys, ..Load::updates() }, timeout)?;
    }
    Ok(cluster)
}

/// Brings an event about, and leaves the cluster as the next one finds it.
fn bring_about(event: Event, peer: Peer, cluster: &mut Cluster, args: &Args) -> io::Result<Duration> {
    match event {
        Event::Kill => {
            let leader = cluster.level_leader()?;
            let took = fail(cluster, leader, Signal::Kill, args)?;
            cluster.kill(leader)?;
            cluster.start_node(leader)?;
            Ok(took)
        }
        Event::Stop => {
            let leader = cluster.level_leader()?;
            let took = fail(cluster, leader, Signal::Stop, args)?;
            cluster.signal(leader, Signal::Continue)?;
            Ok(took)
        }
        Event::StartEmpty => {
            *cluster = Cluster::prepare(peer, &args.dir)?;
            let since = Instant::now();
            cluster.start()?;
            let took = cluster.first_write(since)?;
            (0..NODES).try_for_each(|node| cluster.kill(node))?;
            Ok(took)
        }
        Event::StartFull => {
            cluster.level_leader()?;
            (0..NODES).try_for_each(|node| cluster.kill(node))?;
            let since = Instant::now();
            cluster.start()?;
            cluster.first_write(since)
        }
    }
}

/// Sends the leader a signal under load; time until a write is acknowledged that was sent afterwards.
fn fail(cluster: &Cluster, leader: usize, signal: Signal, args: &Args) -> io::Result<Duration> {
    let (drive, answered) = (cluster.drive(), AtomicU64::new(0));
    let mut addresses = cluster.addresses()?;
    addresses.swap(0, leader);
    let start = Instant::now();
    let share = Share {
        addresses,
        connections: args.load.connections as usize,
        depth: args.load.depth as usize,
        rate: None,
        key_bytes: 16,
        timeout: TIMEOUT,
        start,
        end: Some(start + LOAD),
    };
    let keys = Distribution::new(Spread::Uniform, args.keys);
    let fresh = Fresh::Scattered { run: 0, next: 0, step: 1 };
    let generator = Generator::mix(Mix::only(Kind::Update), keys, fresh, 256.into(), 1);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| drive(&share, generator, &answered));
        std::thread::sleep(LOADED);
        let before = answered.load(Ordering::Relaxed);
        let since = Instant::now();
        cluster.signal(leader, signal)?;
        let took = cluster.first_write(since);
        load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        match before {
            0 => Err(io::Error::other("the load was not answered before the leader failed")),
            _ => took,
        }
    })
}

impl Event {
    /// How many times as long etcd is to take; none is promised for a start on data.
    fn goal(self) -> Option<f64> {
        match self {
            Event::Kill => Some(4.0),
            Event::Stop => Some(1.0),
            Event::StartEmpty => Some(2.0),
            Event::StartFull => None,
        }
    }

    /// For people.
    fn words(self) -> &'static str {
        match self {
            Event::Kill => "leader killed",
            Event::Stop => "leader stopped",
            Event::StartEmpty => "start, empty",
            Event::StartFull => "start, with keys",
        }
    }
}

fn parse_peer(text: &str) -> Result<Peer, String> {
    match Peer::from_str(text, false) {
        Ok(peer @ (Peer::Raftkv | Peer::Etcd)) => Ok(peer),
        _ => Err(format!("`{text}` cannot be measured here; raftkv and etcd can")),
    }
}

/// A peer's time over the first one's, turn by turn.
fn ratio(first: &[f64], other: &[f64]) -> Figure {
    Figure::of(first.iter().zip(other).map(|(first, other)| other / first.max(1e-9)))
}

/// The goal of etcd's time over ours, and whether the median meets it; none of any others.
fn verdict(event: Event, first: Peer, other: Peer, ratio: Figure) -> Option<(f64, bool)> {
    let goal = event.goal().filter(|_| (first, other) == (Peer::Raftkv, Peer::Etcd))?;
    Some((goal, ratio.median >= goal))
}

fn as_text(all: &[Measured], versions: &[String], args: &Args) -> String {
    let Width { connections, depth } = args.load;
    let mut text = format!("milliseconds to the first acknowledged write; {connections} x {depth} updates under way where a leader fails\n");
    for Measured { event, peers } in all {
        let Some(((_, ours), others)) = peers.split_first() else { continue };
        text += &format!("  {:<18}", event.words());
        for (peer, times) in peers {
            let figure = Figure::of(times.iter().copied()).short(0);
            text += &format!(" {:>34}", format!("{} {figure}", peer.name()));
        }
        for (peer, times) in others {
            let ratio = ratio(ours, times);
            text += &format!("   {} / {}: {}", peer.name(), peers[0].0.name(), ratio.short(1));
            if let Some((goal, is_met)) = verdict(*event, peers[0].0, *peer, ratio) {
                text += &format!(" (goal {goal}: {})", if is_met { "met" } else { "missed" });
            }
        }
        text += "\n";
    }
    let machine = machine::description_with_limits(Path::new("."));
    text + &format!("{}; {} keys; median [min-max] of {}; {machine}\n", versions.join("; "), args.keys, args.repeats)
}

fn as_json(all: &[Measured], versions: &[String]) -> Value {
    let figure = |figure: Figure| json!({ "median": figure.median, "min": figure.min, "max": figure.max });
    let events = all.iter().map(|Measured { event, peers }| {
        let measured = peers.iter().zip(versions).map(|((peer, times), version)| {
            json!({ "peer": peer.name(), "version": version, "ms": times, "figure": figure(Figure::of(times.iter().copied())) })
        });
        let ratios = peers.iter().skip(1).map(|(peer, times)| {
            let ratio = ratio(&peers[0].1, times);
            let verdict = verdict(*event, peers[0].0, *peer, ratio);
            json!({
                "of": peer.name(),
                "over": peers[0].0.name(),
                "ms": figure(ratio),
                "goal": verdict.map(|(goal, _)| goal),
                "met": verdict.map(|(_, is_met)| is_met),
            })
        });
        let name = event.to_possible_value().expect("no event is skipped");
        json!({
            "event": name.get_name(),
            "peers": measured.collect::<Vec<_>>(),
            "ratios": ratios.collect::<Vec<_>>(),
        })
    });
    let (machine, limits) = (machine::description(Path::new(".")), beside::as_json(Path::new(".")));
    json!({ "ok": true, "machine": machine, "limits": limits, "events": events.collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stand_beside_each_other_turn_by_turn() {
        let peers = vec![(Peer::Raftkv, vec![50.0, 100.0, 40.0]), (Peer::Etcd, vec![1000.0, 1000.0, 1200.0])];
        let all = [Measured { event: Event::Kill, peers }];
        let json = as_json(&all, &["ours".to_owned(), "theirs".to_owned()]);
        let event = &json["events"][0];
        assert_eq!((&event["event"], &event["peers"][1]["version"]), (&"kill".into(), &"theirs".into()), "{json}");
        assert_eq!(event["peers"][0]["figure"]["median"], 50.0);
        assert_eq!((&event["ratios"][0]["goal"], &event["ratios"][0]["met"]), (&4.0.into(), &true.into()), "{json}");
        let ratio = &event["ratios"][0]["ms"];
        assert_eq!((&ratio["median"], &ratio["min"], &ratio["max"]), (&20.0.into(), &10.0.into(), &30.0.into()));
        assert!(parse_peer("etcd").is_ok() && parse_peer("redis").is_err() && parse_peer("x").is_err());
    }
}
