//! The whole contract of the replica: what goes in, what comes out, and what each field's holder owes.

use bytes::Bytes;
use protocol::format::{Format, Hello, Member};
use protocol::message::Envelope;
use protocol::reply::Reason;
use protocol::request::ViewId;
use protocol::{Chain, ClusterId, EntryId, Incarnation, Index, NodeId, RequestId, Sequence, SessionId};

use crate::kv::{Contents, Fate, Outcome, Position, Restored, Retired};
use crate::limits;
use crate::raft;
use crate::time::{Span, Time};

/// What the replica is told once, at boot.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node.
    pub id: NodeId,
    /// The life of its disk; already durable in meta, because the first HELLO carries it (C-17).
    pub incarnation: Incarnation,
    /// The member list of the flags, this node included, incarnations 0. Counts only until the node has a Format.
    pub initial_members: Vec<Member>,
    /// The random, non-zero identity that a new cluster gets if this node is the one that forms it.
    pub cluster_if_formed: ClusterId,
    /// Random, new for every process: marks its views, so that a restarted node knows none of them (C-21).
    pub boot: u64,
    /// Raft's randomness.
    pub seed: u64,
    /// Election timeouts are drawn from one to two times this.
    pub election_timeout_min: Span,
    /// How often a leader speaks at least.
    pub heartbeat: Span,
    /// How long a risen commit index waits for entries to ride with.
    pub commit_notice: Span,
    /// Most bytes of entries in one AppendEntries.
    pub append_bytes_max: usize,
    /// Most bytes sent to one peer and not acknowledged.
    pub inflight_bytes_max: usize,
    /// Most AppendEntries sent to one peer and not acknowledged.
    pub inflight_messages_max: usize,
    /// Raft's tail of recent entries in memory.
    pub tail_bytes_max: usize,
    /// Bound of a leader's uncommitted bytes (C-26).
    pub uncommitted_bytes_max: usize,
    /// Bytes of entries between two snapshots at least.
    pub snapshot_log_bytes_min: u64,
    /// The same, in per cent of the state's bytes; the larger of both counts.
    pub snapshot_state_percent: u64,
    /// Bytes of old versions that the view of a patient snapshot may hold back before writes are held back (C-21).
    pub snapshot_held_bytes_max: u64,
}

/// What the disk held at boot.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The cluster's Format, if the node belongs to one.
    pub format: Option<Format>,
    /// The log and the hard state. Without a Format the log is empty and this is not looked at.
    pub log: raft::Recovered,
    /// The snapshot that the state machine was restored from; it ends at the log's [`applied`](raft::Recovered::applied).
    pub snapshot: Option<SnapshotFile>,
}

/// A durable snapshot of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Where it ends.
    pub position: Position,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Names one life of one slot in an io loop's connection slab.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    /// Position in the slab.
    pub slot: u32,
    /// Rises each time the slot is reused, which makes a late completion harmless.
    pub generation: u32,
}

/// Where an answer goes; opaque to the replica but for the loop's number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReplyTo {
    /// The io loop that holds the connection and lent the credit.
    pub io_loop: u16,
    /// The connection.
    pub connection: ConnectionId,
    /// The client's own number for its request.
    pub request: RequestId,
}

/// What an io loop asks. Every request holds one credit of its loop from decoding to answer (C-26).
#[derive(Clone, Debug)]
pub enum Request {
    /// A write.
    Propose {
        /// Who waits for it.
        reply_to: ReplyTo,
        /// The encoded command.
        body: Bytes,
        /// CRC-32C of `body`, computed by the io thread (C-8).
        body_checksum: u32,
        /// Session, or 0.
        session: SessionId,
        /// Sequence within the session, or 0.
        sequence: Sequence,
        /// When the client stops waiting; never [`Time::NEVER`].
        deadline: Time,
    },
    /// Permission for all linearizable reads of one io-loop iteration (C-18).
    Read {
        /// Who asks.
        io_loop: u16,
        /// Echoed in [`Completion::Read`]; unique among the loop's reads and views under way.
        token: u64,
        /// The latest of the deadlines of the reads it stands for.
        deadline: Time,
    },
    /// Pins a view for a scan in pages.
    OpenView {
        /// Who asks.
        io_loop: u16,
        /// Echoed in [`Completion::View`].
        token: u64,
        /// Show this node's own state, without a permission.
        local: bool,
        /// When the client stops waiting.
        deadline: Time,
    },
    /// A page was read from the view: its 30 s idle time starts again. Sent once per iteration and view at most.
    TouchView {
        /// The view.
        view: ViewId,
    },
    /// Takes a snapshot of everything that is applied by now.
    TakeSnapshot {
        /// Who waits for it.
        reply_to: ReplyTo,
        /// When the client stops waiting; the snapshot is finished all the same.
        deadline: Time,
    },
    /// The last page was read, or the client gave the view back.
    CloseView {
        /// The view.
        view: ViewId,
    },
}

/// What happens to a replica.
pub enum Input {
    /// Run due timers; all socket input of the batch is handed in before it (C-15).
    Tick,
    /// A peer's message, from an admitted connection.
    Peer(Envelope),
    /// A connection to a peer is up: its HELLO was admitted and ours was sent. A second one replaces the first.
    Connected(Hello),
    /// The peer has no connection any more.
    Disconnected(NodeId),
    /// One end refused the other ([`Replica::admit`](super::Replica::admit), or the peer's answer to our HELLO). Shown by
    /// status until the peer connects.
    Refused {
        /// The peer.
        node: NodeId,
        /// Why, in words for the operator.
        text: String,
    },
    /// From an io loop.
    Request(Request),
    /// An append is durable; its `waiting` envelopes may be sent now. Completions come in order.
    Persisted {
        /// Which append.
        sequence: raft::AppendSequence,
        /// How long it waited for the wal thread, in microseconds.
        queue_us: u32,
        /// How long its sync took, in microseconds.
        sync_us: u32,
    },
    /// The bulk worker's answer to one of [`Effects::read_log`].
    LogRead(raft::LogRead),
    /// What became of [`Effects::take_snapshot`].
    SnapshotTaken(Result<SnapshotFile, NotTaken>),
    /// What became of [`Effects::fetch_snapshot`]: the state, verified, and the bytes of its file, which is durable here; or
    /// why not, in words for the operator.
    SnapshotFetched(Result<(Box<Restored>, u64), String>),
    /// The file of this node's snapshot cannot be read, or was found damaged when a member's doubts had it read through: it is offered to
    /// nobody any more, and another one is taken. Ignored unless it is the newest.
    SnapshotDamaged {
        /// The last index that the snapshot covers.
        last: Index,
        /// What was found, in words for the operator.
        why: String,
    },
    /// The bulk worker has sent bytes of a snapshot to a peer, which therefore is getting on.
    SnapshotServed {
        /// The peer.
        to: NodeId,
        /// The last index that the snapshot covers.
        last: Index,
    },
}

/// Why there is no snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// Its view was closed because it held back too many bytes, or because another state took the list's place (C-21).
    Abandoned,
    /// It could not be written; in words for the operator.
    Failed(String),
}

/// A snapshot to be taken of the published state.
#[derive(Clone, Debug)]
pub struct TakeSnapshot {
    /// What is no key, as of the view.
    pub contents: Contents,
    /// What the keys are read from. The replica closes it when it hears of the end.
    pub view: ViewId,
}

/// A snapshot to be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchSnapshot {
    /// Who has it.
    pub from: NodeId,
    /// Where that node listens for peers.
    pub address: String,
    /// The last entry that it covers.
    pub last: EntryId,
    /// Its chain.
    pub chain: Chain,
    /// Bytes of the file.
    pub bytes: u64,
}

/// What follows from the inputs so far. Every vector keeps its capacity from batch to batch.
#[derive(Default)]
pub struct Effects {
    /// For the wal, in order. Its `waiting` envelopes come back with the completion and are sent only then.
    pub append: Option<raft::Append>,
    /// May be sent at once.
    pub messages: Vec<Envelope>,
    /// Answers, with the io loop that each belongs to. What they speak of is already published.
    pub completions: Vec<(u16, Completion)>,
    /// For the bulk worker.
    pub read_log: Vec<raft::ReadLog>,
    /// For the bulk worker, which answers with [`Input::SnapshotTaken`]. One at a time.
    pub take_snapshot: Option<TakeSnapshot>,
    /// For the bulk worker, which answers with [`Input::SnapshotFetched`]. One at a time.
    pub fetch_snapshot: Option<FetchSnapshot>,
    /// A list that a snapshot's has replaced; the bulk worker frees it when its readers have left (C-20).
    pub retired: Option<Retired>,
    /// A state that was fetched and is not needed; the bulk worker drops it, because that takes long.
    pub discarded: Option<Box<Restored>>,
    /// Close these peers' connections; [`Input::Disconnected`] is expected afterwards.
    pub disconnect: Vec<NodeId>,
    /// For the text log: things an operator should know, each said once.
    pub warnings: Vec<String>,
    /// An impossible state: say it and end the process.
    pub stop: Option<Stop>,
    /// There is more to do without further input: call again after handing these on.
    pub more: bool,
}

/// Why the process must end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The process's exit code.
    pub exit_code: i32,
    /// What was seen.
    pub text: String,
}

/// An answer to an io loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// The end of a write, as far as its client is concerned.
    Write {
        /// Who waits for it.
        reply_to: ReplyTo,
        /// What became of it.
        result: WriteResult,
        /// Whether the request's credit comes back with it. If not, a [`Completion::Credit`] brings it later (C-26).
        credit: bool,
    },
    /// So many credits of requests that were answered at their deadline have come back (C-26).
    Credit(u32),
    /// The permission, or why not. The credits of reads stay with their loop, which returns them as it answers.
    Read {
        /// As asked.
        token: u64,
        /// Ok: what is published now is at or after this index and may be shown.
        result: Result<Index, (Reason, Option<NodeId>)>,
    },
    /// The view, or why not.
    View {
        /// As asked.
        token: u64,
        /// The view, ready to be read by every io thread.
        result: Result<ViewId, (Reason, Option<NodeId>)>,
    },
    /// The snapshot that was asked for is durable, or why there is none. The request's credit comes back with it.
    Snapshot {
        /// Who waits for it.
        reply_to: ReplyTo,
        /// What it is.
        result: Result<SnapshotFile, Reason>,
    },
}

/// What became of a write (C-23).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteResult {
    /// Executed, or refused by the state machine, at this revision; either way committed. Of a copy: the first result.
    Done(Outcome, Index),
    /// What became of another request, asked at this revision.
    Fate(Fate, Index),
    /// Certainly not executed, and never will be.
    NotExecuted {
        /// Why.
        reason: Reason,
        /// Whom to ask instead.
        leader: Option<NodeId>,
    },
    /// May have been executed, or may yet be.
    Unknown {
        /// Why nothing more can be said.
        reason: Reason,
    },
}

impl Effects {
    /// Empties everything and keeps the capacities.
    pub fn clear(&mut self) {
        self.append = None;
        self.messages.clear();
        self.completions.clear();
        self.read_log.clear();
        self.take_snapshot = None;
        self.fetch_snapshot = None;
        self.retired = None;
        self.discarded = None;
        self.disconnect.clear();
        self.warnings.clear();
        self.stop = None;
        self.more = false;
    }
}

impl Settings {
    /// Raft's part, once the members are known.
    pub(super) fn raft(&self, format: &Format) -> raft::Settings {
        raft::Settings {
            id: self.id,
            cluster: format.cluster,
            incarnation: self.incarnation,
            voters: format.members.iter().map(|member| member.id).collect(),
            election_timeout_min: self.election_timeout_min,
            heartbeat: self.heartbeat,
            commit_notice: self.commit_notice,
            append_bytes_max: self.append_bytes_max,
            inflight_bytes_max: self.inflight_bytes_max,
            inflight_messages_max: self.inflight_messages_max,
            tail_bytes_max: self.tail_bytes_max,
            uncommitted_bytes_max: self.uncommitted_bytes_max,
            snapshot_patience: Span::millis(limits::SNAPSHOT_TRANSFER_PATIENCE_MS),
            seed: self.seed,
        }
    }

    /// Small bounds and short timers.
    #[cfg(test)]
    pub(super) fn for_tests() -> Self {
        Self {
            id: NodeId(0),
            incarnation: Incarnation(1),
            initial_members: Vec::new(),
            cluster_if_formed: ClusterId(1),
            boot: 1,
            seed: 1,
            election_timeout_min: Span::millis(300),
            heartbeat: Span::millis(50),
            commit_notice: Span::ZERO,
            append_bytes_max: 1 << 16,
            inflight_bytes_max: 1 << 18,
            inflight_messages_max: 16,
            tail_bytes_max: 1 << 20,
            uncommitted_bytes_max: 4096,
            snapshot_log_bytes_min: u64::MAX,
            snapshot_state_percent: 0,
            snapshot_held_bytes_max: 1 << 20,
        }
    }
}
