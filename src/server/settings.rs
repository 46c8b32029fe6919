//! What a server runs with. `config` makes it from what was typed.

use std::net::SocketAddr;
use std::path::PathBuf;

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
    /// What is allowed but unwise; to be logged once logging runs.
    pub warnings: Vec<String>,
}

/// The settings that SIGHUP reloads; for all others a server says that it needs a restart.
pub const RELOADABLE: &[&str] = &["log"];

/// Where the admin endpoints are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdminListen {
    /// The address.
    pub address: SocketAddr,
    /// Somebody said so: if the port is taken, the server does not start. Otherwise it goes on without.
    pub is_asked_for: bool,
}
