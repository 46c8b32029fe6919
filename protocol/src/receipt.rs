//! Receipts: where the time of an explained request went.

use crate::ids::NodeId;

/// The trailer of a reply to a request with the explain flag. All times are in microseconds, on the answering node's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// The node that answered.
    pub node: NodeId,
    /// What came after what, and how long each took; together the time from the wake that brought the request to its answer.
    pub stages: Vec<(Stage, u32)>,
    /// Of a write: the members' ways to having it on disk, in the order in which their word came; those without one last.
    pub members: Vec<MemberTimes>,
    /// Of a write: the member whose word made the majority.
    pub closed_by: Option<NodeId>,
}

/// One member's part in a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemberTimes {
    /// The member.
    pub node: NodeId,
    /// From the leader's hand-over of the entry to its log, and to the followers, until it had the member's word that the
    /// entry is on the member's disk; none: no word in time.
    pub durable_us: Option<u32>,
    /// How long the entry's append waited in the member's own queue for its log.
    pub queue_us: u32,
    /// How long the sync took.
    pub sync_us: u32,
}

/// A stage of a request on the node that answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// From the wake that brought the request to its being decoded.
    Decode,
    /// Until the raft thread took it.
    Queue,
    /// Until it was handed to the log and to the followers.
    Propose,
    /// Until the word of a majority was there.
    Quorum,
    /// Until it was executed.
    Apply,
    /// Until the members' times were there, or no longer waited for. Only explained requests wait for them.
    Held,
    /// Of a read: from the raft thread's taking it until what is shown was known to be new enough.
    Permission,
    /// Until the answer was encoded; the look-up of a read included.
    Reply,
    /// One that this version has no name for.
    Other(u16),
}

impl Stage {
    /// All that have a name.
    pub const ALL: [Self; 8] = [
        Self::Decode,
        Self::Queue,
        Self::Propose,
        Self::Quorum,
        Self::Apply,
        Self::Held,
        Self::Permission,
        Self::Reply,
    ];

    /// Its name, for people and scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Queue => "queue",
            Self::Propose => "propose",
            Self::Quorum => "quorum",
            Self::Apply => "apply",
            Self::Held => "held",
            Self::Permission => "permission",
            Self::Reply => "reply",
            Self::Other(_) => "other",
        }
    }
}
