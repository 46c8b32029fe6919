//! Peer messages: what one node's Raft says to another's.

use crate::entry::{Chain, Entry, EntryId};
use crate::format::Format;
use crate::ids::{ClusterId, Incarnation, Index, NodeId, Round, Term};
use crate::kind::Kind;

/// Bytes of the envelope header, with which the payload of every peer message begins.
pub const ENVELOPE_HEADER_BYTES: usize = 40;
/// Bytes before the entries in the payload of an AppendEntries.
pub const APPEND_ENTRIES_HEAD_BYTES: usize = ENVELOPE_HEADER_BYTES + 72;

/// One message between two nodes, with what every peer message carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The sender's cluster; 0 while it has no Format.
    pub cluster: ClusterId,
    /// The life of the sender's disk.
    pub incarnation: Incarnation,
    /// Sender.
    pub from: NodeId,
    /// Receiver.
    pub to: NodeId,
    /// The sender's term when the message was made. A PreVote carries the term that its sender *would* campaign in, and
    /// a granting PreVoteReply echoes that term; neither raises anyone's term.
    pub term: Term,
    /// What is said.
    pub message: Message,
}

/// The kinds of peer messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// "Would you vote for me?" Changes nothing at the receiver.
    PreVote {
        /// The candidate's last entry.
        last: EntryId,
    },
    /// Answer to [`Message::PreVote`].
    PreVoteReply {
        /// Whether the vote would be given.
        granted: bool,
    },
    /// "Vote for me."
    RequestVote {
        /// The candidate's last entry.
        last: EntryId,
        /// Set when the leader itself asked for this campaign: stickiness does not apply (reserved until transfer exists).
        transfer: bool,
    },
    /// Answer to [`Message::RequestVote`].
    RequestVoteReply {
        /// Whether the vote is given.
        granted: bool,
    },
    /// Entries to append, or a heartbeat.
    AppendEntries(AppendEntries),
    /// What a follower has to say to the leader; also the answer to every AppendEntries.
    AppendReply(AppendReply),
    /// A follower asks the leader for a read index (C-18).
    ReadIndex {
        /// Chosen by the follower; unique for its process and never reused.
        context: u64,
    },
    /// Answer to [`Message::ReadIndex`].
    ReadIndexReply {
        /// The asker's context.
        context: u64,
        /// The read index, or none where the receiver could not confirm one (ask again).
        index: Option<Index>,
    },
    /// A leader whose log no longer holds what the follower lacks offers its newest snapshot, with each heartbeat until the
    /// follower holds what it covers. The follower fetches the file itself ([`crate::format::Purpose::Snapshot`]).
    InstallSnapshot(SnapshotOffer),
    /// "Campaign now" (reserved: leadership transfer comes later; ignored by this version).
    TimeoutNow,
    /// The Format, given to an unformatted node that it names (C-17). Not part of Raft.
    Format(Format),
}

/// A durable snapshot that its holder can serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotOffer {
    /// The last entry that it covers.
    pub last: EntryId,
    /// Its chain.
    pub chain: Chain,
    /// Bytes of the file.
    pub bytes: u64,
}

/// AppendEntries: paper section 5.3, with rounds (C-12), chain (C-8) and the room for leases (C-14) and digests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendEntries {
    /// The leader's round in which this was sent.
    pub round: Round,
    /// The promise that travels with the round, in microseconds; 0 = none.
    pub lease_span_us: u64,
    /// No entries, and `previous` is not to be checked (C-12).
    pub heartbeat: bool,
    /// The entry before the first of `entries`.
    pub previous: EntryId,
    /// Its chain.
    pub previous_chain: Chain,
    /// The leader's commit index.
    pub commit: Index,
    /// Index at which `digest` was taken; 0 = none.
    pub digest_index: Index,
    /// Digest of the state machine at `digest_index` (reserved).
    pub digest: u64,
    /// Consecutive entries that follow `previous`.
    pub entries: Vec<Entry>,
}

/// The independent marks of a follower (C-12); sent when any of them rises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppendReply {
    /// The highest round of the envelope's term that was received.
    pub round: Round,
    /// Its lease span, echoed.
    pub lease_span_us: u64,
    /// min(durable index, matched) (C-11).
    pub matched: Index,
    /// Where to look next, if the previous entry did not fit.
    pub reject: Option<RejectHint>,
    /// Index at which `digest` was taken; 0 = none.
    pub digest_index: Index,
    /// Digest of the follower's state machine at `digest_index` (reserved).
    pub digest: u64,
    /// How long the last synced append waited in the wal's queue, in microseconds.
    pub queue_us: u32,
    /// How long its sync took, in microseconds.
    pub sync_us: u32,
}

/// A refused previous entry: what the follower holds instead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RejectHint {
    /// The refused `previous.index`; tells a stale refusal from a current one.
    pub rejected: Index,
    /// The follower's best candidate for a common entry: the last entry at or below `rejected` whose term is at most
    /// the refused `previous.term`.
    pub hint: EntryId,
}

impl Message {
    /// The kind of frame that carries it.
    pub fn kind(&self) -> Kind {
        match self {
            Self::PreVote { .. } => Kind::PreVote,
            Self::PreVoteReply { .. } => Kind::PreVoteReply,
            Self::RequestVote { .. } => Kind::RequestVote,
            Self::RequestVoteReply { .. } => Kind::RequestVoteReply,
            Self::AppendEntries(_) => Kind::AppendEntries,
            Self::AppendReply(_) => Kind::AppendReply,
            Self::ReadIndex { .. } => Kind::ReadIndex,
            Self::ReadIndexReply { .. } => Kind::ReadIndexReply,
            Self::InstallSnapshot(_) => Kind::InstallSnapshot,
            Self::TimeoutNow => Kind::TimeoutNow,
            Self::Format(_) => Kind::Format,
        }
    }
}
