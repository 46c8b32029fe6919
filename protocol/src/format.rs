//! What a node knows of itself and of its cluster: HELLO, Format, hard state.

use crate::ids::{ClusterId, Incarnation, NodeId, Term};

/// What must be durable before anything that depends on it leaves (paper figure 2; C-7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// Latest term seen.
    pub term: Term,
    /// Who got this node's vote in that term.
    pub vote: Option<NodeId>,
    /// The largest lease span ever promised, in microseconds (C-14).
    pub lease_span_us: u64,
}

/// One member as everybody knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// Its number.
    pub id: NodeId,
    /// The life of its disk that belongs to the cluster; 0 in an initial list, where it is not known yet.
    pub incarnation: Incarnation,
    /// `host:port` for clients.
    pub client_address: String,
    /// `host:port` for peers.
    pub peer_address: String,
}

/// A cluster's birth certificate: the configuration at index 0 (C-17).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// Random identity of the cluster.
    pub cluster: ClusterId,
    /// All first members, sorted by id.
    pub members: Vec<Member>,
}

/// Why a connection was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Purpose {
    /// Requests and replies.
    Client = 1,
    /// Peer messages.
    Peer = 2,
    /// Bulk transfer between workers (reserved).
    Snapshot = 3,
}

/// The first frame on every connection, in both directions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Oldest protocol version that the sender speaks.
    pub version_min: u16,
    /// Newest protocol version that the sender speaks.
    pub version_max: u16,
    /// Optional features the sender knows; the lower of both counts.
    pub feature_level: u32,
    /// Why the connection was opened.
    pub purpose: Purpose,
    /// The sender's cluster; 0 = unformatted, or a client that does not care.
    pub cluster: ClusterId,
    /// The sender's number; peers only.
    pub node: NodeId,
    /// The life of the sender's disk; peers only.
    pub incarnation: Incarnation,
    /// Peers only: the initial member list, while unformatted (C-17); empty otherwise.
    pub initial_members: Vec<Member>,
}
