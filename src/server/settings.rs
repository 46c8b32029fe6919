//! What a server runs with. `config` makes it from what was typed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use protocol::format::Member;
use protocol::NodeId;

use crate::logging;
use crate::time::Span;

/// A valid configuration. Nothing behind this point asks again.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub id: NodeId,
    /// Its name for people; may be empty.
    pub name: String,
    /// Its directory.
    pub data: PathBuf,
    /// The initial members, sorted by id, this node included; incarnations are not known yet (0).
    pub members: Vec<Member>,
    /// Where clients come in.
    pub listen_client: SocketAddr,
    /// Where peers come in.
    pub listen_peer: SocketAddr,
    /// Where `/metrics`, `/livez`, `/readyz` and `/status` are; none = nowhere.
    pub listen_admin: Option<AdminListen>,
    /// Threads for clients; at least 1.
    pub io_threads: u16,
    /// The smallest election timeout.
    pub election_timeout_min: Span,
    /// The leader's interval.
    pub heartbeat: Span,
    /// How to log.
    pub logging: logging::Options,
    /// Size of a segment.
    pub segment_bytes: u64,
    /// Longest key.
    pub key_bytes_max: usize,
    /// Longest value.
    pub value_bytes_max: usize,
    /// Requests in progress per io thread (C-26).
    pub credits: u32,
    /// Memory for read buffers of clients.
    pub pool_bytes: usize,
    /// Bytes of applied entries after which a snapshot is due, at least.
    pub snapshot_log_bytes: u64,
    /// Bytes of snapshots written in a second, and as many sent.
    pub snapshot_bytes_per_second: u64,
    /// What is allowed but unwise; to be logged once logging runs.
    pub warnings: Vec<String>,
}

/// The settings that SIGHUP reloads; for all others a server says that it needs a restart.
pub const RELOADABLE: &[&str] = &["log", "key-bytes-max", "value-bytes-max"];

impl Config {
    /// The keys whose values differ. Where a default follows from another key, only that one is named.
    pub(super) fn differences(&self, new: &Config) -> Vec<&'static str> {
        let differs = [
            ("id", self.id != new.id),
            ("name", self.name != new.name),
            ("data", self.data != new.data),
            ("peers", self.members != new.members),
            ("listen-client", self.listen_client != new.listen_client),
            ("listen-peer", self.listen_peer != new.listen_peer),
            ("listen-admin", self.listen_admin != new.listen_admin),
            ("io-threads", self.io_threads != new.io_threads),
            ("election-timeout", self.election_timeout_min != new.election_timeout_min),
            ("heartbeat", self.heartbeat != new.heartbeat),
            ("log", self.logging.filter != new.logging.filter),
            ("log-file or log-sinks", self.logging.sinks != new.logging.sinks),
            ("log-pattern", self.logging.pattern != new.logging.pattern),
            ("log-sync", self.logging.synchronous != new.logging.synchronous),
            ("segment-bytes", self.segment_bytes != new.segment_bytes),
            ("key-bytes-max", self.key_bytes_max != new.key_bytes_max),
            ("value-bytes-max", self.value_bytes_max != new.value_bytes_max),
            ("credits", self.credits != new.credits),
            ("pool-bytes", self.pool_bytes != new.pool_bytes),
            ("snapshot-log-bytes", self.snapshot_log_bytes != new.snapshot_log_bytes),
            ("snapshot-bytes-per-second", self.snapshot_bytes_per_second != new.snapshot_bytes_per_second),
        ];
        differs.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }
}

/// The settings that the io threads look at anew for each request.
#[derive(Debug)]
pub(super) struct Live {
    key_bytes_max: AtomicUsize,
    value_bytes_max: AtomicUsize,
}

impl Live {
    pub(super) fn new(config: &Config) -> Live {
        let (key, value) = (config.key_bytes_max, config.value_bytes_max);
        Live { key_bytes_max: AtomicUsize::new(key), value_bytes_max: AtomicUsize::new(value) }
    }

    /// Longest key.
    pub(super) fn key_bytes_max(&self) -> usize {
        self.key_bytes_max.load(Ordering::Relaxed)
    }

    /// Longest value.
    pub(super) fn value_bytes_max(&self) -> usize {
        self.value_bytes_max.load(Ordering::Relaxed)
    }

    /// The largest frame that a client may send.
    pub(super) fn frame_bytes_max(&self) -> usize {
        protocol::frame::client_frame_bytes_max(self.key_bytes_max(), self.value_bytes_max())
    }

    /// What may be as long as `new` says, from the next request on.
    pub(super) fn set(&self, new: &Config) {
        self.key_bytes_max.store(new.key_bytes_max, Ordering::Relaxed);
        self.value_bytes_max.store(new.value_bytes_max, Ordering::Relaxed);
    }
}

/// Where the admin endpoints are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdminListen {
    /// The address.
    pub address: SocketAddr,
    /// Somebody said so: if the port is taken, the server does not start. Otherwise it goes on without.
    pub is_asked_for: bool,
}
