//! The contract with whoever drives the core: what it is told, and what follows from it.

use bytes::Bytes;
use protocol::format::{Format, HardState};
use protocol::message::{Envelope, SnapshotOffer};
use protocol::{
    Chain, ClusterId, Entry, EntryId, EntryKind, Incarnation, Index, LogTime, NodeId, Sequence, SessionId, Term,
};

use crate::time::Span;

/// Who this node is, and its tunables.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node; one of `voters`.
    pub id: NodeId,
    /// The cluster.
    pub cluster: ClusterId,
    /// This life of the node's disk.
    pub incarnation: Incarnation,
    /// All members, sorted.
    pub voters: Vec<NodeId>,
    /// A leader is waited for as long as is drawn from `[min, 1.5 min)`, anew for each sign of life; a campaign that was not
    /// won is repeated after `[min, 2 min)`.
    pub election_timeout_min: Span,
    /// Time between heartbeats; well below the election timeout.
    pub heartbeat: Span,
    /// How long a risen commit index waits for an AppendEntries that goes to the follower anyway; then it is told on its own.
    pub commit_notice: Span,
    /// Bytes of entries in one AppendEntries (one entry at least).
    pub append_bytes_max: usize,
    /// Bytes sent to a peer and not acknowledged.
    pub inflight_bytes_max: usize,
    /// AppendEntries sent to a peer and not acknowledged.
    pub inflight_messages_max: usize,
    /// Bytes of durable entries kept in memory.
    pub tail_bytes_max: usize,
    /// Bytes proposed and not committed, or not durable on the leader itself (C-26).
    pub uncommitted_bytes_max: usize,
    /// How long entries are kept for a follower that acknowledges nothing new and takes no bytes of a snapshot.
    pub snapshot_patience: Span,
    /// For timeouts and read contexts; another one in each process.
    pub seed: u64,
}

/// A position in the log with all that must be known of it to go on behind it: where a log begins, where a snapshot ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogBase {
    /// Term and index; zeroes at the very start.
    pub id: EntryId,
    /// The chain there.
    pub chain: Chain,
    /// The log time there.
    pub log_time: LogTime,
}

impl LogBase {
    /// Where the log of a new cluster begins; `origin` is the cluster's [`Chain::origin`].
    pub fn origin(origin: Chain) -> Self {
        Self { chain: origin, ..Self::default() }
    }
}

/// The entries from `first` to the next run's first have this term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TermRun {
    /// Their term.
    pub term: Term,
    /// The first of them.
    pub first: Index,
}

/// What the disk held at boot; all of it durable.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// Term, vote and lease span.
    pub hard_state: HardState,
    /// Where the state machine is: the end of the snapshot that it was restored from, else the log's origin. Not before
    /// `base` and not behind `last`.
    pub applied: LogBase,
    /// The position before the first entry.
    pub base: LogBase,
    /// The terms of the entries, ascending.
    pub runs: Vec<TermRun>,
    /// The last entry; the base's if there is none.
    pub last: EntryId,
    /// The chain at the last entry.
    pub last_chain: Chain,
    /// The log time of the last entry.
    pub last_log_time: LogTime,
    /// The newest entries, consecutive, ending at `last`; may be empty.
    pub tail: Vec<Entry>,
}

impl Recovered {
    /// A log without entries; `origin` is the cluster's [`Chain::origin`].
    pub fn empty(origin: Chain) -> Self {
        let base = LogBase::origin(origin);
        Self {
            hard_state: HardState::default(),
            applied: base,
            base,
            runs: Vec::new(),
            last: base.id,
            last_chain: origin,
            last_log_time: LogTime(0),
            tail: Vec::new(),
        }
    }
}

/// The local number of an append (C-10). Rises by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppendSequence(pub u64);

/// What the core can be told.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time has passed: timers that are due run. All other input that is there is handed in first (C-15).
    Tick,
    /// A peer said something.
    Message(Envelope),
    /// The connection with a peer is open.
    Connected(NodeId),
    /// It is closed (C-15).
    Disconnected(NodeId),
    /// An append, and all before it, is durable. Completions come in the order of sequences.
    Persisted {
        /// Which.
        sequence: AppendSequence,
        /// How long it waited, in microseconds.
        queue_us: u32,
        /// How long its sync took, in microseconds.
        sync_us: u32,
    },
    /// The answer to a [`ReadLog`].
    LogRead(LogRead),
    /// Someone wants a read index (C-18); answered in [`Ready::reads`].
    Read {
        /// Comes back with the answer.
        token: u64,
    },
}

/// What a leader is asked to append.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// What the body is.
    pub kind: EntryKind,
    /// Session, or 0.
    pub session: SessionId,
    /// Sequence in the session, or 0.
    pub sequence: Sequence,
    /// The body.
    pub body: Bytes,
    /// Its CRC-32C.
    pub body_checksum: u32,
}

/// Why a proposal was not appended. It certainly has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposeError {
    /// This node does not lead.
    NotLeader {
        /// Who does, as far as it knows.
        leader: Option<NodeId>,
    },
    /// Too many bytes are proposed and not committed, or not durable here (C-26): try again when some are.
    Full,
}

/// What follows from the inputs so far.
#[derive(Debug, Default)]
pub struct Ready {
    /// To be written, and synced, in the order of sequences. At most one.
    pub append: Option<Append>,
    /// May leave now. At most one AppendEntries and one AppendReply per peer.
    pub messages: Vec<Envelope>,
    /// To be applied, in order. Bounded in bytes: call `ready` again while this is not empty.
    pub committed: Vec<Entry>,
    /// Answers to [`Input::Read`].
    pub reads: Vec<ReadState>,
    /// Old entries that are wanted (C-9).
    pub read_log: Vec<ReadLog>,
    /// A snapshot that this node needs: fetch it, and then call [`Raft::install`](super::Raft::install) or
    /// [`Raft::fetch_failed`](super::Raft::fetch_failed). At most one fetch is under way.
    pub fetch_snapshot: Option<FetchSnapshot>,
    /// An impossible state: the process must end with code 70, and nothing else of this may leave.
    pub stop: Option<Stop>,
}

impl Ready {
    /// Empties everything and keeps the capacities.
    pub fn clear(&mut self) {
        self.append = None;
        self.messages.clear();
        self.committed.clear();
        self.reads.clear();
        self.read_log.clear();
        self.fetch_snapshot = None;
        self.stop = None;
    }
}

/// One write to the log. What needs its durability travels in it (C-10, C-11).
#[derive(Clone, Debug)]
pub struct Append {
    /// Comes back with the completion.
    pub sequence: AppendSequence,
    /// Term, vote and lease span, if they changed; durable before the entries (C-7).
    pub hard_state: Option<HardState>,
    /// The cluster's Format; set by formation only.
    pub format: Option<Format>,
    /// The log restarts here, before `entries` are written: a snapshot that ends here is durable (C-5).
    pub base: Option<LogBase>,
    /// Consecutive entries. The first may overwrite older ones: it replaces everything from its index on (C-1).
    pub entries: Vec<Entry>,
    /// Once this append is durable, the log begins here, and files that hold nothing behind may go: a durable snapshot of
    /// this node ends here, or behind (C-5).
    pub compact: Option<LogBase>,
    /// Leaves when this append is durable.
    pub waiting: Vec<Envelope>,
}

impl Append {
    /// Nothing to write, as number `sequence`.
    pub fn empty(sequence: AppendSequence) -> Self {
        Self {
            sequence,
            hard_state: None,
            format: None,
            base: None,
            entries: Vec::new(),
            compact: None,
            waiting: Vec::new(),
        }
    }
}

/// A snapshot to be fetched from its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchSnapshot {
    /// Who has it.
    pub from: NodeId,
    /// What it is.
    pub offer: SnapshotOffer,
}

/// What became of a snapshot that was fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    /// Everything that it covers is committed here already: the state machine stays as it is.
    Ignored,
    /// The log holds the snapshot's last entry, and keeps what is behind it. The state machine takes the snapshot.
    KeptTail,
    /// The log conflicted or ended earlier: it restarts behind the snapshot. The state machine takes the snapshot.
    Restarted,
}

/// Who wants old entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadPurpose {
    /// They are to be sent to a peer.
    Peer(NodeId),
    /// They are to be applied.
    Apply,
}

/// A wish for old, durable entries (C-9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLog {
    /// Who wants them; handed back.
    pub purpose: ReadPurpose,
    /// The node's term now; handed back.
    pub term: Term,
    /// The first entry wanted.
    pub from: Index,
    /// Bytes of entries, headers included (one entry at least).
    pub bytes_max: usize,
    /// The entry before `from`.
    pub previous: EntryId,
    /// Its chain, if known.
    pub previous_chain: Option<Chain>,
}

/// The answer to a [`ReadLog`].
#[derive(Clone, Debug)]
pub struct LogRead {
    /// From the wish.
    pub purpose: ReadPurpose,
    /// From the wish.
    pub term: Term,
    /// From the wish.
    pub from: Index,
    /// What was found.
    pub result: LogReadResult,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogReadResult {
    /// Consecutive entries from `from` on; at least one.
    Entries(Vec<Entry>),
    /// They are not in the log any more.
    Compacted,
    /// The entry before them is another one than expected.
    Mismatch,
}

/// An answer to [`Input::Read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadState {
    /// From the input.
    pub token: u64,
    /// The read index: whoever has applied it may answer (C-18).
    pub result: Result<Index, ReadRefused>,
}

/// No read index could be had. The read has no effect and may be asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRefused {
    /// The leader, if one is known.
    pub leader: Option<NodeId>,
}

/// An impossible state, with what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop(pub String);

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
