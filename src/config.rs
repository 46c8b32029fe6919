//! What was typed -> what it means, once. One table of settings serves flags, environment and TOML: a setting called
//! `election-timeout` is the flag `--election-timeout`, the variable `RAFTKV_ELECTION_TIMEOUT` and the TOML key
//! `election-timeout`. Flags win over variables, variables over the file.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "a configuration is a file of a machine")]

mod commands;
mod logging;
mod machine;
mod settings;
mod source;
mod template;
mod value;

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use protocol::format::Member;
use protocol::{Incarnation, NodeId};

pub use commands::{run, ConfigCommand};
pub use logging::LogSinks;
pub use settings::Settings;
pub use source::{Origin, ServeArgs};
pub use value::{Listen, Millis, Peers, Size};

use crate::exit;
use crate::limits;
use crate::server::{AdminListen, Config};
use crate::time::Span;
use source::Typed;
use value::Bounds;

/// Why there is no configuration. The text is one or two sentences for a person, with what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// Something is missing on the command line: exit 2.
    Usage(String),
    /// What was given is refused: exit 78.
    Refused(String),
}

impl ConfigError {
    /// The process's exit code.
    pub fn exit_code(&self) -> i32 {
        match self {
            ConfigError::Usage(_) => exit::USAGE,
            ConfigError::Refused(_) => exit::REFUSED,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Usage(text) | ConfigError::Refused(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Reads the file, if one is named, and checks everything.
pub fn load(args: ServeArgs) -> Result<Config, ConfigError> {
    check(&Typed::read(args)?)
}

/// Fills in defaults and refuses what cannot work.
fn check(typed: &Typed) -> Result<Config, ConfigError> {
    let settings = &typed.settings;
    let id = NodeId(match (settings.id, &settings.peers) {
        (Some(id), _) => id,
        (None, Some(Peers(members))) => machine::own_id(members)?,
        (None, None) => return Err(missing("id", "this node's number, from 0")),
    });
    let data = settings.data.as_ref().ok_or_else(|| missing("data", "the directory of this node's files"))?;
    let mut warnings = Vec::new();
    let members = members(id, typed, &mut warnings)?;
    let own = members.iter().find(|member| member.id == id).expect("members() checked that it is there");
    let listen_client = listen(typed, "listen-client", settings.listen_client.as_ref().unwrap_or(&own.client_address))?;
    let listen_peer = listen(typed, "listen-peer", settings.listen_peer.as_ref().unwrap_or(&own.peer_address))?;
    let listen_admin = listen_admin(typed, listen_client, &members)?;
    let (election_timeout_min, heartbeat) = timeouts(typed, &mut warnings)?;
    let key_bytes_max = size(typed, "key-bytes-max", settings.key_bytes_max, limits::KEY_BYTES)?;
    let value_bytes_max = size(typed, "value-bytes-max", settings.value_bytes_max, limits::VALUE_BYTES)?;
    let io_threads = settings.io_threads.unwrap_or(1);
    let credits = settings.credits.unwrap_or(limits::CREDITS);
    Ok(Config {
        id,
        data: for_node(data, id),
        listen_client,
        listen_peer,
        listen_admin,
        io_threads: bounded(typed, "io-threads", io_threads, io_threads.into())?,
        election_timeout_min,
        heartbeat,
        segment_bytes: segment_bytes(typed, key_bytes_max as usize, value_bytes_max as usize)?,
        key_bytes_max: key_bytes_max as usize,
        value_bytes_max: value_bytes_max as usize,
        credits: bounded(typed, "credits", credits, credits.into())?,
        pool_bytes: size(typed, "pool-bytes", settings.pool_bytes, limits::POOL_BYTES)? as usize,
        snapshot_log_bytes: size(typed, "snapshot-log-bytes", settings.snapshot_log_bytes, limits::SNAPSHOT_LOG_BYTES)?,
        snapshot_bytes_per_second: size(
            typed,
            "snapshot-bytes-per-second",
            settings.snapshot_bytes_per_second,
            limits::SNAPSHOT_BYTES_PER_SECOND,
        )?,
        name: settings.name.clone().unwrap_or_default(),
        logging: logging::options(typed, id)?,
        members,
        warnings,
    })
}

/// A path in which `{id}` stands for the node's number, so that the same file may serve all nodes.
fn for_node(path: &Path, id: NodeId) -> PathBuf {
    match path.to_str() {
        Some(text) => text.replace("{id}", &id.to_string()).into(),
        None => path.to_owned(),
    }
}

fn missing(key: &str, what: &str) -> ConfigError {
    let variable = source::variable(key);
    ConfigError::Usage(format!("--{key} is missing: {what} (also {variable}, or `{key}` in the --config file)"))
}

fn members(id: NodeId, typed: &Typed, warnings: &mut Vec<String>) -> Result<Vec<Member>, ConfigError> {
    let settings = &typed.settings;
    let mut members = match &settings.peers {
        Some(Peers(members)) => members.clone(),
        None => vec![alone(id, settings)],
    };
    members.sort_by_key(|member| member.id);
    check_members(id, typed, &members)?;
    if members.len() % 2 == 0 {
        let (even, odd) = (members.len(), members.len() - 1);
        warnings.push(format!("{even} members survive the loss of no more nodes than {odd} would; use an odd number"));
    }
    let own = members.iter().find(|member| member.id == id).expect("check_members found it");
    agree(typed, "advertise-client", settings.advertise_client.as_ref(), &own.client_address)?;
    agree(typed, "advertise-peer", settings.advertise_peer.as_ref(), &own.peer_address)?;
    Ok(members)
}

/// The only member of a cluster without `--peers`.
fn alone(id: NodeId, settings: &Settings) -> Member {
    let port = u32::from(limits::BASE_PORT) + 10 * id.0.min(5_000);
    let address = |advertise: &Option<String>, listen: &Option<String>, port: u32| {
        advertise.clone().or_else(|| listen.clone()).unwrap_or_else(|| format!("127.0.0.1:{port}"))
    };
    Member {
        id,
        incarnation: Incarnation(0),
        client_address: address(&settings.advertise_client, &settings.listen_client, port),
        peer_address: address(&settings.advertise_peer, &settings.listen_peer, port + 1),
    }
}

fn check_members(id: NodeId, typed: &Typed, members: &[Member]) -> Result<(), ConfigError> {
    let peers = typed.name("peers");
    if members.len() > limits::MEMBERS_MAX {
        return refuse(format!("{peers} names {} members; at most {} can be", members.len(), limits::MEMBERS_MAX));
    }
    for pair in members.windows(2) {
        if pair[0].id == pair[1].id {
            return refuse(format!("{peers} names node {} twice", pair[0].id));
        }
    }
    let addresses = members.iter().flat_map(|member| [&member.client_address, &member.peer_address]);
    let mut addresses: Vec<&String> = addresses.collect();
    addresses.sort();
    if let Some(pair) = addresses.windows(2).find(|pair| pair[0] == pair[1]) {
        return refuse(format!("{peers} uses the address {} twice", pair[0]));
    }
    if let Some(far) = members.iter().find(|member| member.id.0 > limits::NODE_ID_MAX) {
        return refuse(format!("node {} is beyond the highest possible id, {}", far.id, limits::NODE_ID_MAX));
    }
    if !members.iter().any(|member| member.id == id) {
        let named: Vec<String> = members.iter().map(|member| member.id.to_string()).collect();
        return refuse(format!("{} {id} is not among the nodes of {peers}: {}", typed.name("id"), named.join(", ")));
    }
    Ok(())
}

/// An advertised address beside `--peers` may only repeat what every other node was told.
fn agree(typed: &Typed, key: &str, advertise: Option<&String>, listed: &str) -> Result<(), ConfigError> {
    match advertise {
        Some(address) if address != listed => refuse(format!(
            "{} {address} differs from this node's entry in --peers ({listed}); the list is the same on all nodes",
            typed.name(key)
        )),
        _ => Ok(()),
    }
}

fn listen(typed: &Typed, key: &str, text: &str) -> Result<SocketAddr, ConfigError> {
    let name = typed.name(key);
    let address = match text.to_socket_addrs() {
        Ok(mut addresses) => addresses.next(),
        Err(error) => return refuse(format!("{name}: cannot resolve {text}: {error}")),
    };
    let Some(address) = address else { return refuse(format!("{name}: {text} has no address")) };
    if !address.ip().is_loopback() && typed.settings.insecure != Some(true) {
        return refuse(format!(
            "{name} {text} is reachable from other machines, and nothing is encrypted or authenticated yet; \
             if that network is trusted, add --insecure"
        ));
    }
    Ok(address)
}

/// As asked for; else on loopback two above the port for clients, where that is nobody else's.
fn listen_admin(typed: &Typed, client: SocketAddr, members: &[Member]) -> Result<Option<AdminListen>, ConfigError> {
    match &typed.settings.listen_admin {
        Some(Listen::Off) => return Ok(None),
        Some(Listen::At(text)) => {
            let address = listen(typed, "listen-admin", text)?;
            return Ok(Some(AdminListen { address, is_asked_for: true }));
        }
        None => {}
    }
    let wanted = match client.port() {
        0 => Some(0), // any port for clients: any port for this, too
        port => port.checked_add(2),
    };
    let is_a_members = |port: u16| {
        let addresses = members.iter().flat_map(|member| [&member.client_address, &member.peer_address]);
        addresses.filter_map(|address| address.rsplit_once(':')).any(|(_, taken)| taken == port.to_string())
    };
    let port = wanted.filter(|port| !is_a_members(*port));
    Ok(port.map(|port| AdminListen { address: ([127, 0, 0, 1], port).into(), is_asked_for: false }))
}

/// The times that depend on each other: heartbeats, elections, and what a request waits for.
fn timeouts(typed: &Typed, warnings: &mut Vec<String>) -> Result<(Span, Span), ConfigError> {
    let (default_election, default_heartbeat) = (limits::ELECTION_TIMEOUT_MIN_MS, limits::HEARTBEAT_MS);
    let election = typed.settings.election_timeout.unwrap_or(Millis(default_election));
    let heartbeat = typed.settings.heartbeat.unwrap_or(Millis(default_heartbeat));
    bounded(typed, "heartbeat", heartbeat, heartbeat.0)?;
    bounded(typed, "election-timeout", election, election.0)?;
    if heartbeat.0 * 3 > election.0 {
        return refuse(format!(
            "{} {election} is less than three times {} {heartbeat}: one lost message would depose a leader; \
             it must be at least {}",
            typed.name("election-timeout"),
            typed.name("heartbeat"),
            Millis(heartbeat.0 * 3)
        ));
    }
    let deadline = Millis(limits::REQUEST_DEADLINE_MS_MAX);
    if election.0 * 2 > deadline.0 {
        warnings.push(format!(
            "{} {election}: a silent leader is replaced after up to twice that, longer than any request waits ({deadline})",
            typed.name("election-timeout"),
        ));
    }
    Ok((Span::millis(election.0), Span::millis(heartbeat.0)))
}

/// Whole pages, and room for the largest entry beside the headers.
fn segment_bytes(typed: &Typed, key_bytes_max: usize, value_bytes_max: usize) -> Result<u64, ConfigError> {
    let bytes = size(typed, "segment-bytes", typed.settings.segment_bytes, limits::SEGMENT_BYTES)?;
    let bytes = bytes.next_multiple_of(4096);
    let least = limits::segment_bytes_min(key_bytes_max, value_bytes_max);
    if bytes < least {
        return refuse(format!(
            "{} {} cannot hold the largest entry; it must be at least {}: the longest key, the longest value and {}",
            typed.name("segment-bytes"),
            Size(bytes),
            Size(least),
            Size(limits::SEGMENT_BYTES.min)
        ));
    }
    Ok(bytes)
}

fn size(typed: &Typed, key: &str, given: Option<Size>, limits: limits::SizeLimits) -> Result<u64, ConfigError> {
    let size = given.unwrap_or(Size(limits.default));
    bounded(typed, key, size, size.0).map(|Size(bytes)| bytes)
}

/// The value, if `number`, which is the same in its smallest unit, is within the setting's bounds.
fn bounded<T: fmt::Display>(typed: &Typed, key: &str, value: T, number: u64) -> Result<T, ConfigError> {
    let bounds = Bounds::of(key).expect("a setting that is checked so has bounds");
    if number < bounds.min || number > bounds.max {
        return refuse(format!("{} is {value}; it must be {bounds}", typed.name(key)));
    }
    Ok(value)
}

fn refuse<T>(text: String) -> Result<T, ConfigError> {
    Err(ConfigError::Refused(text))
}

#[cfg(test)]
mod tests;
