//! What was typed -> what it means, once. One table of settings serves flags, environment and TOML: a setting called
//! `election-timeout` is the flag `--election-timeout`, the variable `RAFTKV_ELECTION_TIMEOUT` and the TOML key
//! `election-timeout`. Flags win over variables, variables over the file.

mod value;

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use protocol::format::Member;
use protocol::{Incarnation, NodeId};

pub use value::{Millis, Peers, Size};

use crate::exit;
use crate::limits;
use crate::server::Config;
use crate::time::Span;

/// Declares the settings, and the one operation that needs to name them all.
macro_rules! settings {
    ($($(#[$attribute:meta])* $name:ident: $type:ty,)*) => {
        /// The settings of one source, as typed; what is missing is `None`.
        #[derive(Clone, Debug, Default, clap::Args, serde::Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case")]
        pub struct Settings {
            $($(#[$attribute])* pub $name: Option<$type>,)*
        }

        impl Settings {
            /// These settings, and `other`'s where these say nothing.
            pub fn or(self, other: Settings) -> Settings {
                Settings { $($name: self.$name.or(other.$name),)* }
            }
        }
    };
}

settings! {
    /// This node's number in the cluster, from 0
    #[arg(long, env = "RAFTKV_ID", value_name = "N")]
    id: u32,
    /// Directory of this node's files; created if missing
    #[arg(long, env = "RAFTKV_DATA", value_name = "DIR")]
    data: PathBuf,
    /// A name for people, shown by `status`
    #[arg(long, env = "RAFTKV_NAME", value_name = "TEXT")]
    name: String,
    /// All first members of the cluster, this node included; the same on every node [default: a cluster of this node]
    #[arg(long, env = "RAFTKV_PEERS", value_name = "ID=CLIENT/PEER,...")]
    peers: Peers,
    /// Where to listen for clients [default: this node's entry in --peers]
    #[arg(long, env = "RAFTKV_LISTEN_CLIENT", value_name = "HOST:PORT")]
    listen_client: String,
    /// Where to listen for peers [default: this node's entry in --peers]
    #[arg(long, env = "RAFTKV_LISTEN_PEER", value_name = "HOST:PORT")]
    listen_peer: String,
    /// Address for clients that the cluster tells others [default: this node's entry in --peers]
    #[arg(long, env = "RAFTKV_ADVERTISE_CLIENT", value_name = "HOST:PORT")]
    advertise_client: String,
    /// Address for peers that the cluster tells others [default: this node's entry in --peers]
    #[arg(long, env = "RAFTKV_ADVERTISE_PEER", value_name = "HOST:PORT")]
    advertise_peer: String,
    /// Threads that serve clients [default: 1]
    #[arg(long, env = "RAFTKV_IO_THREADS", value_name = "N")]
    io_threads: u16,
    /// A silent leader is replaced after one to two of these, in ms [default: 1000]
    #[arg(long, env = "RAFTKV_ELECTION_TIMEOUT", value_name = "MS")]
    election_timeout: Millis,
    /// Time between two signs of life of a leader, in ms [default: 100]
    #[arg(long, env = "RAFTKV_HEARTBEAT", value_name = "MS")]
    heartbeat: Millis,
    /// Listen on other than loopback addresses although nothing is encrypted or authenticated
    #[arg(long, env = "RAFTKV_INSECURE", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    insecure: bool,
    /// What to log: error, warn, info, debug, trace, or a filter such as `info,raftkv::raft=debug` [default: info]
    #[arg(long, env = "RAFTKV_LOG", value_name = "FILTER")]
    log: String,
    /// Log to this file instead of standard error
    #[arg(long, env = "RAFTKV_LOG_FILE", value_name = "FILE")]
    log_file: PathBuf,
    /// Size of one file of the log [default: 16MiB]
    #[arg(long, env = "RAFTKV_SEGMENT_BYTES", value_name = "SIZE")]
    segment_bytes: Size,
    /// Longest key [default: 4KiB]
    #[arg(long, env = "RAFTKV_KEY_BYTES_MAX", value_name = "SIZE")]
    key_bytes_max: Size,
    /// Longest value [default: 1MiB]
    #[arg(long, env = "RAFTKV_VALUE_BYTES_MAX", value_name = "SIZE")]
    value_bytes_max: Size,
    /// Requests in progress per io thread; beyond, sockets wait [default: 16384]
    #[arg(long, env = "RAFTKV_CREDITS", value_name = "N")]
    credits: u32,
    /// Memory for the clients' read buffers, all io threads together [default: 64MiB]
    #[arg(long, env = "RAFTKV_POOL_BYTES", value_name = "SIZE")]
    pool_bytes: Size,
}

/// What `raftkv serve` takes: the settings, and the file with more of them.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ServeArgs {
    /// TOML file with any of the settings below
    #[arg(long, env = "RAFTKV_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The settings.
    #[command(flatten)]
    pub settings: Settings,
}

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
    let file = match &args.config {
        Some(path) => read_file(path)?,
        None => Settings::default(),
    };
    check(args.settings.or(file))
}

fn read_file(path: &Path) -> Result<Settings, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::Refused(format!("cannot read configuration file {}: {error}", path.display())))?;
    toml::from_str(&text)
        .map_err(|error| ConfigError::Refused(format!("configuration file {}: {error}", path.display())))
}

/// Fills in defaults and refuses what cannot work.
pub fn check(settings: Settings) -> Result<Config, ConfigError> {
    let id = NodeId(settings.id.ok_or_else(|| missing("id", "this node's number, from 0"))?);
    let data = settings.data.clone().ok_or_else(|| missing("data", "the directory of this node's files"))?;
    let mut warnings = Vec::new();
    let members = members(id, &settings, &mut warnings)?;
    let own = members.iter().find(|member| member.id == id).expect("members() checked that it is there");
    let listen_client = listen("listen-client", settings.listen_client.as_ref(), &own.client_address, &settings)?;
    let listen_peer = listen("listen-peer", settings.listen_peer.as_ref(), &own.peer_address, &settings)?;
    let (election_timeout_min, heartbeat) = timeouts(&settings)?;
    let key_bytes_max = size("key-bytes-max", settings.key_bytes_max, limits::KEY_BYTES)?;
    let value_bytes_max = size("value-bytes-max", settings.value_bytes_max, limits::VALUE_BYTES)?;
    Ok(Config {
        id,
        data,
        listen_client,
        listen_peer,
        io_threads: bounded("io-threads", settings.io_threads.unwrap_or(1), 1, limits::IO_THREADS_MAX)?,
        election_timeout_min,
        heartbeat,
        segment_bytes: segment_bytes(&settings, key_bytes_max + value_bytes_max)?,
        key_bytes_max: key_bytes_max as usize,
        value_bytes_max: value_bytes_max as usize,
        credits: bounded("credits", settings.credits.unwrap_or(limits::CREDITS), 16, limits::CREDITS_MAX)?,
        pool_bytes: size("pool-bytes", settings.pool_bytes, limits::POOL_BYTES)? as usize,
        name: settings.name.unwrap_or_default(),
        log_filter: settings.log.unwrap_or_else(|| "info".to_owned()),
        log_file: settings.log_file,
        members,
        warnings,
    })
}

fn missing(key: &str, what: &str) -> ConfigError {
    let variable = key.to_uppercase().replace('-', "_");
    ConfigError::Usage(format!("--{key} is missing: {what} (also RAFTKV_{variable}, or `{key}` in the --config file)"))
}

fn members(id: NodeId, settings: &Settings, warnings: &mut Vec<String>) -> Result<Vec<Member>, ConfigError> {
    let mut members = match &settings.peers {
        Some(Peers(members)) => members.clone(),
        None => vec![alone(id, settings)?],
    };
    members.sort_by_key(|member| member.id);
    check_members(id, &members)?;
    if members.len() % 2 == 0 {
        let (even, odd) = (members.len(), members.len() - 1);
        warnings.push(format!("{even} members survive the loss of no more nodes than {odd} would; use an odd number"));
    }
    let own = members.iter().find(|member| member.id == id).expect("check_members found it");
    agree("advertise-client", settings.advertise_client.as_ref(), &own.client_address)?;
    agree("advertise-peer", settings.advertise_peer.as_ref(), &own.peer_address)?;
    Ok(members)
}

/// The only member of a cluster without `--peers`.
fn alone(id: NodeId, settings: &Settings) -> Result<Member, ConfigError> {
    let port = u32::from(limits::BASE_PORT) + 10 * id.0.min(5_000);
    let address = |advertise: &Option<String>, listen: &Option<String>, port: u32| {
        advertise.clone().or_else(|| listen.clone()).unwrap_or_else(|| format!("127.0.0.1:{port}"))
    };
    Ok(Member {
        id,
        incarnation: Incarnation(0),
        client_address: address(&settings.advertise_client, &settings.listen_client, port),
        peer_address: address(&settings.advertise_peer, &settings.listen_peer, port + 1),
    })
}

fn check_members(id: NodeId, members: &[Member]) -> Result<(), ConfigError> {
    if members.len() > limits::MEMBERS_MAX {
        return refuse(format!("--peers names {} members; at most {} can be", members.len(), limits::MEMBERS_MAX));
    }
    for pair in members.windows(2) {
        if pair[0].id == pair[1].id {
            return refuse(format!("--peers names node {} twice", pair[0].id));
        }
    }
    let addresses = members.iter().flat_map(|member| [&member.client_address, &member.peer_address]);
    let mut addresses: Vec<&String> = addresses.collect();
    addresses.sort();
    if let Some(pair) = addresses.windows(2).find(|pair| pair[0] == pair[1]) {
        return refuse(format!("--peers uses the address {} twice", pair[0]));
    }
    if let Some(far) = members.iter().find(|member| member.id.0 > limits::NODE_ID_MAX) {
        return refuse(format!("node {} is beyond the highest possible id, {}", far.id, limits::NODE_ID_MAX));
    }
    if !members.iter().any(|member| member.id == id) {
        let named: Vec<String> = members.iter().map(|member| member.id.to_string()).collect();
        return refuse(format!("--id {id} is not among the nodes of --peers ({})", named.join(", ")));
    }
    Ok(())
}

/// An advertised address beside `--peers` may only repeat what every other node was told.
fn agree(key: &str, advertise: Option<&String>, listed: &str) -> Result<(), ConfigError> {
    match advertise {
        Some(address) if address != listed => refuse(format!(
            "--{key} {address} differs from this node's entry in --peers ({listed}); the list is the same on all nodes"
        )),
        _ => Ok(()),
    }
}

fn listen(key: &str, given: Option<&String>, own: &str, settings: &Settings) -> Result<SocketAddr, ConfigError> {
    let text = given.map_or(own, String::as_str);
    let address = match text.to_socket_addrs() {
        Ok(mut addresses) => addresses.next(),
        Err(error) => return refuse(format!("--{key}: cannot resolve {text}: {error}")),
    };
    let Some(address) = address else { return refuse(format!("--{key}: {text} has no address")) };
    if !address.ip().is_loopback() && settings.insecure != Some(true) {
        return refuse(format!(
            "--{key} {text} is reachable from other machines, and nothing is encrypted or authenticated yet; \
             if that network is trusted, add --insecure"
        ));
    }
    Ok(address)
}

fn timeouts(settings: &Settings) -> Result<(Span, Span), ConfigError> {
    let election = Span::millis(settings.election_timeout.map_or(limits::ELECTION_TIMEOUT_MIN_MS, |Millis(n)| n));
    let heartbeat = Span::millis(settings.heartbeat.map_or(limits::HEARTBEAT_MS, |Millis(n)| n));
    if heartbeat == Span::ZERO {
        return refuse("--heartbeat must be at least 1 ms".to_owned());
    }
    if heartbeat.times(3) > election {
        return refuse(format!(
            "--election-timeout {} ms is less than three times --heartbeat {} ms: one lost message would depose a leader",
            election.as_millis(),
            heartbeat.as_millis()
        ));
    }
    if election > Span::secs(600) {
        return refuse("--election-timeout is above ten minutes".to_owned());
    }
    Ok((election, heartbeat))
}

/// Whole pages, and room for the largest entry beside the headers.
fn segment_bytes(settings: &Settings, entry_bytes_max: u64) -> Result<u64, ConfigError> {
    let bytes = size("segment-bytes", settings.segment_bytes, limits::SEGMENT_BYTES)?.next_multiple_of(4096);
    let least = entry_bytes_max + limits::SEGMENT_BYTES.min;
    if bytes < least {
        return refuse(format!("--segment-bytes {bytes} cannot hold the largest entry; it must be at least {least}"));
    }
    Ok(bytes)
}

fn size(key: &str, given: Option<Size>, limits: limits::SizeLimits) -> Result<u64, ConfigError> {
    bounded(key, given.map_or(limits.default, |Size(bytes)| bytes), limits.min, limits.max)
}

fn bounded<T: PartialOrd + fmt::Display>(key: &str, value: T, min: T, max: T) -> Result<T, ConfigError> {
    if value < min || value > max {
        return refuse(format!("--{key} is {value}; it must be from {min} to {max}"));
    }
    Ok(value)
}

fn refuse<T>(text: String) -> Result<T, ConfigError> {
    Err(ConfigError::Refused(text))
}

#[cfg(test)]
mod tests;
