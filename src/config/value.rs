//! Values that are more than a word or a number. Each reads the same text from a flag, a variable and a TOML string.

use std::str::FromStr;

use protocol::format::Member;
use protocol::{Incarnation, NodeId};
use serde::de::{Deserialize, Deserializer, Error as _};

/// A length of time in milliseconds: `250`, `250ms` or `2s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Millis(pub u64);

/// A number of bytes: `4096`, `4KiB`, `64MiB`, `1GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

/// `ID=CLIENT/PEER,...`: the first members of a cluster, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peers(pub Vec<Member>);

impl FromStr for Millis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        scaled(text, &[("ms", 1), ("s", 1000), ("", 1)])
            .map(Millis)
            .ok_or_else(|| format!("`{text}` is not a time; write 250, 250ms or 2s"))
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        scaled(text, &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1), ("", 1)])
            .map(Size)
            .ok_or_else(|| format!("`{text}` is not a size; write 4096, 4KiB, 64MiB or 1GiB"))
    }
}

/// The number before the first suffix that fits, times its scale.
fn scaled(text: &str, suffixes: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let (number, scale) = suffixes.iter().find_map(|(suffix, scale)| Some((text.strip_suffix(suffix)?, scale)))?;
    number.trim().parse::<u64>().ok()?.checked_mul(*scale)
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

/// TOML may also write a bare number.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(u64),
    Text(String),
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match NumberOrText::deserialize(deserializer)? {
            NumberOrText::Number(n) => Ok(Millis(n)),
            NumberOrText::Text(text) => text.parse().map_err(D::Error::custom),
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match NumberOrText::deserialize(deserializer)? {
            NumberOrText::Number(n) => Ok(Size(n)),
            NumberOrText::Text(text) => text.parse().map_err(D::Error::custom),
        }
    }
}

/// TOML may also write a list of `ID=CLIENT/PEER`.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum TextOrList {
    Text(String),
    List(Vec<String>),
}

impl<'de> Deserialize<'de> for Peers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match TextOrList::deserialize(deserializer)? {
            TextOrList::Text(text) => text,
            TextOrList::List(list) => list.join(","),
        };
        text.parse().map_err(D::Error::custom)
    }
}
