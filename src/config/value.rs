//! Values that are more than a word or a number. Each reads the same text from a flag, a variable and the file, and shows
//! it again so that it can be read.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use protocol::format::Member;
use protocol::{Incarnation, NodeId};

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
    /// As it was typed, or why that cannot be.
    fn read(text: &str) -> Result<Self, String>;
    /// As it can be typed.
    fn show(&self) -> String;
}

macro_rules! settings_by_display {
    ($($type:ty: $what:literal,)*) => {
        $(impl Setting for $type {
            fn read(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!(concat!("`{}` is not ", $what), text))
            }

            fn show(&self) -> String {
                self.to_string()
            }
        })*
    };
}

settings_by_display! {
    u16: "a whole number from 0 to 65535",
    u32: "a whole number from 0 to 4294967295",
    bool: "true or false",
    String: "a text",
    Millis: "a time; write 250ms, 2s or 5m",
    Size: "a size; write 4096, 4KiB, 64MiB or 1GiB",
    Listen: "HOST:PORT or off",
}

impl Setting for PathBuf {
    fn read(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Setting for Peers {
    fn read(text: &str) -> Result<Self, String> {
        text.parse()
    }

    fn show(&self) -> String {
        let member = |member: &Member| format!("{}={}/{}", member.id, member.client_address, member.peer_address);
        self.0.iter().map(member).collect::<Vec<_>>().join(",")
    }
}

const MILLIS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("", 1)];
const BYTES: [(&str, u64); 5] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1), ("", 1)];

impl FromStr for Millis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        scaled(text, &MILLIS).map(Millis).ok_or_else(|| format!("`{text}` is not a time; write 250ms, 2s or 5m"))
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        scaled(text, &BYTES).map(Size).ok_or_else(|| format!("`{text}` is not a size; write 4096, 4KiB, 64MiB or 1GiB"))
    }
}

/// The number before the first suffix that fits, times its scale.
fn scaled(text: &str, suffixes: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let (number, scale) = suffixes.iter().find_map(|(suffix, scale)| Some((text.strip_suffix(suffix)?, scale)))?;
    number.trim().parse::<u64>().ok()?.checked_mul(*scale)
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
