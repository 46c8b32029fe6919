//! Values that are more than a word or a number. Each reads the same text from a flag, a variable and the file, and shows
//! it again so that it can be read.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use protocol::format::Member;
use protocol::{Incarnation, NodeId};

use crate::limits::{self, SizeLimits};

/// A length of time in milliseconds: `250`, `250ms`, `2s` or `5m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub struct Millis(pub u64);

/// A number of bytes: `4096`, `4KiB`, `64MiB`, `1GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub struct Size(pub u64);

/// `ID=CLIENT/PEER,...`: the first members of a cluster, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peers(pub Vec<Member>);

/// `HOST:PORT`, or `off`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Do not listen.
    Off,
    /// Listen here.
    At(String),
}

/// What a setting must be able to do beside being a type.
pub(super) trait Setting: Sized {
    /// The file may write it as a list.
    const IS_LIST: bool = false;

    /// As it was typed, or why that cannot be.
    fn read(text: &str) -> Result<Self, Misread>;
    /// As it can be typed.
    fn show(&self) -> String;
}

/// Why a text is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Misread {
    /// It is something else: what it should be, in words.
    Shape(String),
    /// It is a number, with the right unit, that no setting of its kind can have.
    Range,
}

/// The least and the most that a setting may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) min: u64,
    pub(super) max: u64,
    unit: Unit,
}

/// What a bounded setting counts.
#[derive(Clone, Copy, Debug)]
enum Unit {
    Bytes,
    Millis,
    /// Things of this name; nothing for mere numbers.
    Things(&'static str),
}

impl Bounds {
    /// Those of the setting with this key.
    pub(super) fn of(key: &str) -> Option<Bounds> {
        let things = |min: u64, max: u64, name| Some(Bounds { min, max, unit: Unit::Things(name) });
        let bytes = |limits: SizeLimits| Some(Bounds { min: limits.min, max: limits.max, unit: Unit::Bytes });
        match key {
            "id" => things(0, limits::NODE_ID_MAX.into(), ""),
            "io-threads" => things(1, limits::IO_THREADS_MAX.into(), " threads"),
            "credits" => things(limits::CREDITS_MIN.into(), limits::CREDITS_MAX.into(), " requests"),
            "election-timeout" | "heartbeat" => {
                Some(Bounds { min: 1, max: limits::ELECTION_TIMEOUT_MS_MAX, unit: Unit::Millis })
            }
            "segment-bytes" => bytes(limits::SEGMENT_BYTES),
            "key-bytes-max" => bytes(limits::KEY_BYTES),
            "value-bytes-max" => bytes(limits::VALUE_BYTES),
            "pool-bytes" => bytes(limits::POOL_BYTES),
            "snapshot-log-bytes" => bytes(limits::SNAPSHOT_LOG_BYTES),
            "snapshot-bytes-per-second" => bytes(limits::SNAPSHOT_BYTES_PER_SECOND),
            _ => None,
        }
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bounds { min, max, unit } = *self;
        match unit {
            Unit::Bytes => write!(f, "from {} to {}", Size(min), Size(max)),
            Unit::Millis => write!(f, "from {} to {}", Millis(min), Millis(max)),
            Unit::Things(name) => write!(f, "from {min} to {max}{name}"),
        }
    }
}

/// Reads the setting with this key. Err: why it cannot be, and what would do.
pub(super) fn read<T: Setting>(key: &str, text: &str) -> Result<T, String> {
    T::read(text).map_err(|misread| match (misread, Bounds::of(key)) {
        (Misread::Shape(words), _) => words,
        (Misread::Range, Some(bounds)) => format!("{text} is out of bounds; it must be {bounds}"),
        (Misread::Range, None) => format!("{text} is beyond any number here"),
    })
}

/// The same for the command line.
pub(super) fn reader<T: Setting + 'static>(
    key: &'static str,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| read(key, text)
}

macro_rules! settings_by_display {
    ($($type:ty: $what:literal,)*) => {
        $(impl Setting for $type {
            fn read(text: &str) -> Result<Self, Misread> {
                let wrong = || Misread::Shape(format!(concat!("`{}` is not ", $what), text));
                text.parse().map_err(|_| wrong())
            }

            fn show(&self) -> String {
                self.to_string()
            }
        })*
    };
}

macro_rules! whole_numbers {
    ($($type:ty,)*) => {
        $(impl Setting for $type {
            fn read(text: &str) -> Result<Self, Misread> {
                scaled(text, &[("", 1)], "a whole number")?.try_into().map_err(|_| Misread::Range)
            }

            fn show(&self) -> String {
                self.to_string()
            }
        })*
    };
}

settings_by_display! {
    bool: "true or false",
    String: "a text",
    Listen: "HOST:PORT or off",
}

whole_numbers! {
    u16,
    u32,
}

impl Setting for Millis {
    fn read(text: &str) -> Result<Self, Misread> {
        scaled(text, &MILLIS, "a time; write 250ms, 2s or 5m").map(Millis)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for Size {
    fn read(text: &str) -> Result<Self, Misread> {
        scaled(text, &BYTES, "a size; write 4096, 4KiB, 64MiB or 1GiB").map(Size)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for PathBuf {
    fn read(text: &str) -> Result<Self, Misread> {
        Ok(text.into())
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Setting for Peers {
    const IS_LIST: bool = true;

    fn read(text: &str) -> Result<Self, Misread> {
        text.parse().map_err(Misread::Shape)
    }

    fn show(&self) -> String {
        let member = |member: &Member| format!("{}={}/{}", member.id, member.client_address, member.peer_address);
        self.0.iter().map(member).collect::<Vec<_>>().join(",")
    }
}

const MILLIS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("", 1)];
const BYTES: [(&str, u64); 5] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1), ("", 1)];

/// The number before the first suffix that fits, times its scale.
fn scaled(text: &str, suffixes: &[(&str, u64)], what: &str) -> Result<u64, Misread> {
    let fits = |(suffix, scale): &(&str, u64)| Some((text.trim().strip_suffix(suffix)?, *scale));
    let (number, scale) = suffixes.iter().find_map(fits).expect("the last suffix is empty");
    let number = number.trim();
    let digits = number.strip_prefix('-').unwrap_or(number);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Misread::Shape(format!("`{text}` is not {what}")));
    }
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(scale)).ok_or(Misread::Range)
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms if ms >= 1000 && ms % 1000 == 0 => write!(f, "{}s", ms / 1000),
            ms => write!(f, "{ms}ms"),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(unit, scale): &&(&str, u64)| !unit.is_empty() && self.0 >= *scale && self.0.is_multiple_of(*scale);
        let (unit, scale) = BYTES.iter().find(fits).unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / scale)
    }
}

impl FromStr for Listen {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text == "off" { Listen::Off } else { Listen::At(text.to_owned()) })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Listen::Off => "off",
            Listen::At(address) => address,
        })
    }
}

impl FromStr for Peers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let members = parts.map(member).collect::<Result<Vec<_>, _>>()?;
        if members.is_empty() {
            return Err("no peers; write ID=CLIENT/PEER,... for example 0=127.0.0.1:7400/127.0.0.1:7401".to_owned());
        }
        Ok(Peers(members))
    }
}

fn member(text: &str) -> Result<Member, String> {
    let shape = || format!("`{text}` is not ID=CLIENT/PEER, for example 0=127.0.0.1:7400/127.0.0.1:7401");
    let (id, addresses) = text.split_once('=').ok_or_else(shape)?;
    let (client, peer) = addresses.split_once('/').ok_or_else(shape)?;
    let id = id.trim().parse().map_err(|_| shape())?;
    if !is_host_port(client) || !is_host_port(peer) {
        return Err(shape());
    }
    Ok(Member {
        id: NodeId(id),
        incarnation: Incarnation(0),
        client_address: client.to_owned(),
        peer_address: peer.to_owned(),
    })
}

fn is_host_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}
