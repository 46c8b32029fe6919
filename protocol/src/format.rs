//! What a node knows of itself and of its cluster: HELLO, Format, hard state.

use crate::error::VersionError;
use crate::ids::{ClusterId, Incarnation, NodeId, Term};
use crate::reply::Reason;
use crate::{FEATURE_LEVEL, VERSION_MAX, VERSION_MIN};

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
    /// A snapshot's transfer between two nodes' workers: [`crate::snapshot::Transfer`].
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

/// The answer to a [`Hello`]; the accepting side's first frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelloReply {
    /// The accepting side's own HELLO. Both sides go on in the version that [`negotiate`] finds.
    Accepted(Hello),
    /// Why not; the connection is closed after it.
    Refused(Refusal),
}

/// A refused HELLO. Its layout is the same in every protocol version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Oldest protocol version that the refusing side speaks.
    pub version_min: u16,
    /// Newest protocol version that the refusing side speaks.
    pub version_max: u16,
    /// Why, for a program.
    pub reason: Reason,
    /// Why, for a person; says what to do.
    pub text: String,
}

impl Refusal {
    /// A refusal by this version.
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self { version_min: VERSION_MIN, version_max: VERSION_MAX, reason, text: text.into() }
    }
}

impl Hello {
    /// What a client of this version says.
    pub fn client() -> Self {
        Self {
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            feature_level: FEATURE_LEVEL,
            purpose: Purpose::Client,
            cluster: ClusterId(0),
            node: NodeId(0),
            incarnation: Incarnation(0),
            initial_members: Vec::new(),
        }
    }
}

/// The protocol version that both sides go on in: the newest that both speak. Both find the same one.
pub fn negotiate(ours: &Hello, theirs: &Hello) -> Result<u16, VersionError> {
    let newest = ours.version_max.min(theirs.version_max);
    if newest >= ours.version_min && newest >= theirs.version_min {
        return Ok(newest);
    }
    Err(VersionError { ours: (ours.version_min, ours.version_max), theirs: (theirs.version_min, theirs.version_max) })
}
