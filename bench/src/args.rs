//! What was typed -> a load.

use std::str::FromStr;
use std::time::Duration;

use crate::distribution::Spread;
use crate::load::Load;
use crate::workload::{Kind, Mix, ValueBytes};

/// Flags of a load. Without --rate it is a closed loop, in which every connection keeps its number of requests in flight.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct LoadArgs {
    /// Connections
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16384), value_name = "N")]
    connections: u32,
    /// Requests in flight per connection
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65536), value_name = "N")]
    depth: u32,
    /// Requests a second, all connections together: an open loop, whose latencies count from when each was due
    #[arg(long, value_parser = parse_rate, conflicts_with = "depth", value_name = "N")]
    rate: Option<f64>,
    #[command(flatten)]
    shape: ShapeArgs,
}

/// Flags that all loads have in common.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct ShapeArgs {
    /// How long to measure, in seconds
    #[arg(long, default_value_t = 10.0, value_parser = parse_duration, value_name = "SECONDS")]
    pub(crate) duration: f64,
    /// How long to load before measuring, in seconds
    #[arg(long, default_value_t = 1.0, value_parser = parse_seconds, value_name = "SECONDS")]
    pub(crate) warm_up: f64,
    /// How often to measure; the report shows medians and their spread
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000), value_name = "N")]
    pub(crate) repeats: u32,
    /// Bytes of a key
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(16..=4096), value_name = "BYTES")]
    key_bytes: u32,
    /// Bytes of a value: a number, or a range such as 16..1024
    #[arg(long, default_value = "256", value_name = "BYTES")]
    value_bytes: ValueBytes,
    /// Size of the set of keys that is updated and read
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    keys: u64,
    /// Which keys of the set are asked for [default: uniform]
    #[arg(long, hide_possible_values = false, value_name = "SPREAD")]
    spread: Option<Spread>,
    /// Threads of the load generator
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64), value_name = "N")]
    threads: u32,
}

/// Flags of a mix.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct MixArgs {
    /// Part of the requests that read; the others update
    #[arg(long, value_parser = parse_part, conflicts_with = "ycsb", value_name = "PART", default_value_t = 0.5)]
    read: f64,
    /// A mix of the Yahoo! Cloud Serving Benchmark: a (half updates), b (5 % updates), c (only reads), d (5 % new keys, reads of
    /// the newest), e (scans, 5 % new keys), f (half read-modify-write)
    #[arg(long, value_name = "MIX")]
    ycsb: Option<Ycsb>,
    #[command(flatten)]
    load: LoadArgs,
}

/// The core workloads of YCSB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Ycsb {
    A,
    B,
    C,
    D,
    E,
    F,
}

impl LoadArgs {
    /// The load, under this name.
    pub(crate) fn load(&self, name: &str, mix: Mix) -> Load {
        let connections = self.connections;
        Load { connections, depth: self.depth, rate: self.rate, ..self.shape.load(name, mix) }
    }
}

impl ShapeArgs {
    /// One connection with one request in flight.
    pub(crate) fn load(&self, name: &str, mix: Mix) -> Load {
        Load {
            spread: self.spread.unwrap_or(Spread::Uniform),
            threads: self.threads,
            duration: Duration::from_secs_f64(self.duration),
            warm_up: Duration::from_secs_f64(self.warm_up),
            repeats: self.repeats,
            key_bytes: self.key_bytes as usize,
            value_bytes: self.value_bytes,
            keys: self.keys,
            ..Load::of(name, mix)
        }
    }
}

impl MixArgs {
    /// The load.
    pub(crate) fn load(&self) -> Load {
        let Some(ycsb) = self.ycsb else {
            return self.load.load(&format!("mix, {:.0} % reads", self.read * 100.0), Mix::reads(self.read));
        };
        let (letter, mix, spread) = match ycsb {
            Ycsb::A => ('A', Mix::reads(0.5), Spread::Zipfian),
            Ycsb::B => ('B', Mix::reads(0.95), Spread::Zipfian),
            Ycsb::C => ('C', Mix::reads(1.0), Spread::Zipfian),
            Ycsb::D => ('D', Mix::of(&[(Kind::Read, 0.95), (Kind::Create, 0.05)]), Spread::Latest),
            Ycsb::E => ('E', Mix::of(&[(Kind::Scan, 0.95), (Kind::Create, 0.05)]), Spread::Zipfian),
            Ycsb::F => ('F', Mix::of(&[(Kind::Read, 0.5), (Kind::ReadThenUpdate, 0.5)]), Spread::Zipfian),
        };
        let load = self.load.load(&format!("YCSB {letter}"), mix);
        Load { spread: self.load.shape.spread.unwrap_or(spread), ..load }
    }
}

/// Connections, and requests in flight on each: `64x16`, or `64` for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Width {
    pub(crate) connections: u32,
    pub(crate) depth: u32,
}

impl FromStr for Width {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (connections, depth) = text.split_once('x').unwrap_or((text, "1"));
        let number = |text: &str| text.parse().ok().filter(|number| (1..=16_384).contains(number));
        let width = number(connections).zip(number(depth)).map(|(connections, depth)| Width { connections, depth });
        width.ok_or_else(|| format!("`{text}` is not connections, or connections x requests in flight, such as 64x16"))
    }
}

/// A number above 0.
pub(crate) fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    let usable = rate.is_finite() && rate > 0.0;
    usable.then_some(rate).ok_or_else(|| "it must be above 0".to_owned())
}

pub(crate) fn parse_seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("`{text}` is not a number of seconds"))?;
    (0.0..=86_400.0).contains(&seconds).then_some(seconds).ok_or_else(|| "it must be from 0 to 86400".to_owned())
}

/// How long to measure: in no time nothing is done.
pub(crate) fn parse_duration(text: &str) -> Result<f64, String> {
    let seconds = parse_seconds(text)?;
    (seconds > 0.0).then_some(seconds).ok_or_else(|| "it must be more than 0".to_owned())
}

fn parse_part(text: &str) -> Result<f64, String> {
    let part: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    (0.0..=1.0).contains(&part).then_some(part).ok_or_else(|| "it must be from 0 to 1".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        mix: MixArgs,
    }

    #[test]
    fn mixes_are_what_their_letters_say() {
        let load = |line: &str| Line::try_parse_from(line.split(' ')).map(|line| line.mix.load()).map_err(drop);
        let named = load("mix --ycsb d -c 4").expect("a load");
        assert_eq!((named.name.as_str(), named.spread, named.connections), ("YCSB D", Spread::Latest, 4));
        assert!(named.mix.asks(Kind::Create) && named.mix.needs_keys());
        let own = load("mix --read 0.95 --spread hot --value-bytes 16..64").expect("a load");
        assert_eq!((own.mix, own.spread, own.value_bytes.max), (Mix::reads(0.95), Spread::Hot, 64));
        for wrong in ["mix --read 2", "mix --ycsb g", "mix --rate 0", "mix --rate 5 -d 2", "mix --duration -1"] {
            assert!(load(wrong).is_err(), "{wrong}");
        }
    }
}
