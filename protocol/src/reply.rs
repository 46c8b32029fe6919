//! Replies. Every one says whether the operation can have taken effect (C-23).

use crate::entry::EntryId;
use crate::ids::{ClusterId, Index, NodeId, RequestId, Term};
use crate::request::ViewId;

/// What became of a request, in HTTP's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Status {
    /// Done.
    Ok = 200,
    /// Done, and the key is new.
    Created = 201,
    /// Ask the leader.
    Redirect = 302,
    /// The request makes no sense.
    BadRequest = 400,
    /// No such key.
    NotFound = 404,
    /// The key exists.
    Exists = 409,
    /// The view has expired; start the scan again.
    ViewExpired = 410,
    /// A condition did not hold (reserved).
    ConditionFailed = 412,
    /// Key, value or frame over the limit.
    TooLarge = 413,
    /// The server's fault.
    Internal = 500,
    /// Certainly not executed, and never will be.
    NotExecuted = 503,
    /// May have been executed, or may yet be.
    Unknown = 504,
}

/// Why, more closely than the status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Reason {
    /// Nothing to add.
    #[default]
    None = 0,
    /// This node is not the leader.
    NotLeader = 1,
    /// No leader is known (election, or no quorum).
    NoLeader = 2,
    /// The cluster is not formed yet.
    Forming = 3,
    /// An entry of another term was committed in its place.
    Replaced = 4,
    /// The leader stepped down while the request was under way.
    LeaderChanged = 5,
    /// The deadline passed.
    Deadline = 6,
    /// Too much at once.
    Overload = 7,
    /// The disk is nearly full (reserved).
    NoSpace = 8,
    /// The key is over the limit.
    KeyTooLarge = 9,
    /// The value is over the limit.
    ValueTooLarge = 10,
    /// The frame is over the limit.
    FrameTooLarge = 11,
    /// The frame cannot be decoded.
    Malformed = 12,
    /// A kind this version does not know.
    UnknownKind = 13,
    /// No common protocol version.
    Version = 14,
    /// The connection's HELLO names another cluster.
    WrongCluster = 15,
    /// The server is stopping.
    Stopping = 16,
    /// An empty key.
    EmptyKey = 17,
    /// Not supported by this version (a session, say).
    Unsupported = 18,
    /// A reason that this version has no name for: what every number above becomes when a newer server sent it.
    Other = 0xffff,
}

/// Whether the operation can have changed anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Effect {
    /// It did not and will not.
    #[default]
    None = 0,
    /// It did.
    Applied = 1,
    /// It may have, or may yet.
    Unknown = 2,
}

/// The leader, as the answering node knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderHint<'a> {
    /// Its number.
    pub node: NodeId,
    /// Its `host:port` for clients.
    pub address: &'a str,
}

/// The fixed part of every reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyHeader {
    /// The request's id; 0 for an error that belongs to no request.
    pub request: RequestId,
    /// What became of it.
    pub status: Status,
    /// Why.
    pub reason: Reason,
    /// Whether it changed anything.
    pub effect: Effect,
    /// For a write: the log index that executed it. For a read: the applied index it saw. Otherwise 0.
    pub revision: Index,
}

/// A whole reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The fixed part.
    pub header: ReplyHeader,
    /// With 302, and where known with 503.
    pub leader: Option<LeaderHint<'a>>,
    /// What was asked for.
    pub body: ReplyBody<'a>,
    /// Receipt of an explained request (reserved); usually empty.
    pub trailer: &'a [u8],
}

/// What a reply brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyBody<'a> {
    /// Nothing.
    Empty,
    /// A sentence for a person: what was wrong.
    Message(&'a str),
    /// A key's value.
    Value(Versioned<'a>),
    /// A page of a scan.
    Page(Page<'a>),
    /// A node's status.
    Status(Box<NodeStatus>),
    /// A snapshot that was taken.
    Snapshot(TakenSnapshot),
}

/// A value with its history in three numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versioned<'a> {
    /// The value.
    pub value: &'a [u8],
    /// Log index that wrote it.
    pub revision: Index,
    /// Log index that created the key.
    pub create_revision: Index,
    /// How often the key was written since it was created; 1 = just created.
    pub version: u64,
}

/// One key of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// Key.
    pub key: &'a [u8],
    /// Its value; empty in a page of keys only.
    pub versioned: Versioned<'a>,
}

/// A page of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<'a> {
    /// Where the next page is to be asked for; none with the last page.
    pub view: Option<ViewId>,
    /// How many keys this page covers (also when it carries none of them: `count_only`).
    pub count: u64,
    /// The keys, sorted bytewise. The next page starts after the last of them (or, for `count_only`, at `resume`).
    pub items: Vec<Item<'a>>,
    /// With another page to come: the first key that this one did not look at.
    pub resume: &'a [u8],
}

/// A snapshot that the asked node has taken of its own state; durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TakenSnapshot {
    /// The node.
    pub node: NodeId,
    /// The last entry that it covers.
    pub last: EntryId,
    /// Bytes of its file.
    pub bytes: u64,
}

/// Role as status shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Role {
    /// Not formed, or follows a leader, or waits for one.
    #[default]
    Follower = 0,
    /// Campaigns (PreVote included).
    Candidate = 1,
    /// Leads.
    Leader = 2,
    /// Replicates without a vote (reserved).
    Learner = 3,
}

/// One member in a status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its number.
    pub id: NodeId,
    /// Its `host:port` for clients.
    pub client_address: String,
    /// Its `host:port` for peers.
    pub peer_address: String,
    /// Whether the answering node has an open connection to it (itself: yes).
    pub connected: bool,
}

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its number.
    pub id: NodeId,
    /// Its name, if one was given.
    pub name: String,
    /// 0 = not formed yet.
    pub cluster: ClusterId,
    /// Its role.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// The leader it knows.
    pub leader: Option<NodeId>,
    /// Its commit index.
    pub commit_index: Index,
    /// Its applied index.
    pub applied_index: Index,
    /// Its durable index.
    pub durable_index: Index,
    /// Since it started, in milliseconds.
    pub uptime_ms: u64,
    /// Keys that exist.
    pub keys: u64,
    /// All members, by id, itself included.
    pub members: Vec<MemberStatus>,
    /// For a person: what is not as it should be ("waiting for 3 of 7: nodes 4, 5, 6"); empty if all is well.
    pub notes: Vec<String>,
    /// Counters by name, for people and scripts; additive.
    pub counters: Vec<(String, u64)>,
}
