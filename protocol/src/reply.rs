//! Replies. Every one says whether the operation can have taken effect (C-23).

use crate::entry::EntryId;
use crate::ids::{ClusterId, Index, NodeId, RequestId, SessionId, Term};
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
    /// A condition did not hold: the reason says which.
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
    /// Not supported by this version.
    Unsupported = 18,
    /// The session has expired or was closed: this attempt was not applied (C-24).
    SessionExpired = 19,
    /// The sequence is so far behind the session's newest that its result is not kept: this attempt was not applied.
    Forgotten = 20,
    /// Somebody asked for the request's outcome before it was executed: it never was and never will be (C-24).
    Never = 21,
    /// The key's revision is not the expected one.
    RevisionMismatch = 22,
    /// The value is not a decimal number that fits 64 bits.
    NotANumber = 23,
    /// The sum does not fit 64 bits.
    Overflow = 24,
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
    /// Receipt of an explained request ([`crate::receipt`]); usually empty.
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
    /// The sum after an increment.
    Number(i64),
    /// The session that was opened.
    Session(SessionTerms),
    /// Which operation was refused, of a batch or alone.
    Refused(RefusedOperation),
    /// What became of a request.
    Fate(Fate),
    /// A snapshot that was taken.
    Snapshot(TakenSnapshot),
}

/// A session, and how to use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTerms {
    /// Its id.
    pub id: SessionId,
    /// It expires when it is not used for so long, in milliseconds of log time.
    pub ttl_ms: u64,
    /// How many requests may be in flight: before sequence `s` is sent, `s - window` must have its final answer.
    pub window: u32,
}

/// The operation that was refused; with a batch nothing of it was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedOperation {
    /// Its position in the batch, from 0; 0 where there is no batch.
    pub position: u32,
    /// With a revision that is not the expected one: the key's revision, 0 = it does not exist. Otherwise 0.
    pub revision: Index,
}

/// What became of a request of a session (C-24).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was executed, with this answer.
    Executed(Answer),
    /// It was not executed and never will be: a copy that still comes is refused.
    Never,
    /// The session no longer keeps its result, or it is too far ahead to be marked: nothing can be said.
    Forgotten,
    /// The session has expired, was closed, or never was: nothing can be said of what it did, but it will do nothing more.
    SessionExpired,
}

/// The answer that a request got, or would have got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What became of it.
    pub status: Status,
    /// Why.
    pub reason: Reason,
    /// Whether it changed anything.
    pub effect: Effect,
    /// The log index that executed it.
    pub revision: Index,
    /// What it brought.
    pub detail: Detail,
}

/// The body of an [`Answer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Nothing.
    Nothing,
    /// See [`ReplyBody::Number`].
    Number(i64),
    /// See [`ReplyBody::Refused`].
    Refused(RefusedOperation),
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
