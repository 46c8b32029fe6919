//! One node of a scenario: its core, what is on its disk, what is on the way there, and its state machine.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use protocol::format::HardState;
use protocol::message::{AppendEntries, AppendReply, Message, RejectHint, SnapshotOffer};
use protocol::{
    Chain, ClusterId, Entry, EntryHeader, EntryId, EntryKind, Incarnation, Index, LogTime, NodeId, Round, Sequence,
    SessionId, Term,
};
use raftkv::raft::{
    Append, FetchSnapshot, LogBase, LogRead, LogReadResult, Raft, ReadLog, ReadState, Recovered, Settings, TermRun,
};
use raftkv::time::{Span, Time};

pub const CLUSTER: ClusterId = ClusterId(7);
/// The election timeout is drawn from `[ET, 2 ET)`.
pub const ET: Span = Span::millis(1000);
pub const HB: Span = Span::millis(100);

/// A log and a hard state: on disk, or as handed to the disk.
#[derive(Clone, Debug)]
pub struct Image {
    pub hard_state: HardState,
    /// Where the entries begin.
    pub base: LogBase,
    pub entries: Vec<Entry>,
}

impl Default for Image {
    fn default() -> Self {
        Self { hard_state: HardState::default(), base: LogBase::origin(Chain::origin(CLUSTER)), entries: Vec::new() }
    }
}

/// A snapshot's file: the state machine is what was applied.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub end: LogBase,
    pub state: Arc<[Entry]>,
}

impl Snapshot {
    pub fn of(applied: &[Entry]) -> Self {
        Self { end: base_at(applied.last().expect("something was applied")), state: applied.into() }
    }

    pub fn bytes(&self) -> u64 {
        self.state.len() as u64 * 64
    }

    pub fn offer(&self) -> SnapshotOffer {
        SnapshotOffer { last: self.end.id, chain: self.end.chain, bytes: self.bytes() }
    }
}

/// The position behind an entry.
pub fn base_at(entry: &Entry) -> LogBase {
    LogBase { id: entry.header.id, chain: entry.header.chain, log_time: entry.header.log_time }
}

/// The log begins behind the newest snapshot (C-5): exit 78.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap;

impl Image {
    /// A log whose entries have these terms.
    pub fn of_terms(terms: &[u64]) -> Self {
        let mut image = Self::default();
        for term in terms {
            let next = entry_after(image.last(), image.chain(), Term(*term), b"");
            image.entries.push(next);
        }
        image.hard_state.term = Term(terms.iter().copied().max().unwrap_or(0));
        image
    }

    pub fn last(&self) -> EntryId {
        self.entries.last().map_or(self.base.id, |entry| entry.header.id)
    }

    pub fn chain(&self) -> Chain {
        self.entries.last().map_or(self.base.chain, |entry| entry.header.chain)
    }

    pub fn at(&self, index: Index) -> Option<&Entry> {
        self.entries.get(usize::try_from(index.0.checked_sub(self.base.id.index.0 + 1)?).ok()?)
    }

    /// Identity and chain of the entry at `index`, or of the base.
    pub fn position(&self, index: Index) -> Option<(EntryId, Chain)> {
        if index == self.base.id.index {
            return Some((self.base.id, self.base.chain));
        }
        self.at(index).map(|entry| (entry.header.id, entry.header.chain))
    }

    /// The position before the entry at `index`: identity and chain.
    pub fn before(&self, index: Index) -> (EntryId, Chain) {
        self.position(index.previous()).expect("the log, or its base, goes up to there")
    }

    /// Takes an append, or its first `records` only (a Base is one), as replay would (C-1): the first entry replaces what
    /// is there.
    pub fn write(&mut self, append: &Append, mut records: usize) {
        if let Some(hard_state) = append.hard_state {
            assert!(hard_state.term >= self.hard_state.term, "terms on disk do not fall");
            self.hard_state = hard_state;
        }
        if let (Some(base), true) = (append.base, records > 0) {
            (self.base, records) = (base, records - 1);
            self.entries.clear();
        }
        for entry in append.entries.iter().take(records) {
            let id = entry.header.id;
            let keep = usize::try_from(id.index.0 - self.base.id.index.0 - 1).expect("behind the base");
            assert!(keep <= self.entries.len(), "an append leaves no hole");
            self.entries.truncate(keep);
            let expected = entry.header.chain_after(self.chain());
            assert_eq!(entry.header.chain, expected, "an append continues the chain");
            self.entries.push(entry.clone());
        }
    }

    /// The log begins behind `to`: once an append is durable that says so.
    pub fn compact(&mut self, append: &Append) {
        if let Some(to) = append.compact.filter(|to| to.id.index > self.base.id.index) {
            assert_eq!(self.position(to.id.index), Some((to.id, to.chain)), "the log is cut off at one of its entries");
            self.entries.retain(|entry| entry.header.id.index > to.id.index);
            self.base = to;
        }
    }

    /// Lays the newest snapshot over the log, as a start does (C-5).
    pub fn lay(&mut self, snapshot: Option<LogBase>) -> Result<(), Gap> {
        let Some(end) = snapshot else {
            return if self.base.id.index == Index(0) { Ok(()) } else { Err(Gap) };
        };
        if self.base.id.index > end.id.index {
            return Err(Gap);
        }
        if self.position(end.id.index) != Some((end.id, end.chain)) {
            (self.base, self.entries) = (end, Vec::new());
        }
        Ok(())
    }

    /// What a start finds, with the newest `tail` entries in memory and the state machine at `applied`.
    pub fn recovered(&self, applied: Option<LogBase>, tail: usize) -> Recovered {
        let mut runs: Vec<TermRun> = Vec::new();
        for entry in &self.entries {
            let EntryId { term, index } = entry.header.id;
            if runs.last().is_none_or(|run| run.term != term) {
                runs.push(TermRun { term, first: index });
            }
        }
        Recovered {
            hard_state: self.hard_state,
            applied: applied.unwrap_or(self.base),
            base: self.base,
            runs,
            last: self.last(),
            last_chain: self.chain(),
            last_log_time: self.entries.last().map_or(self.base.log_time, |entry| entry.header.log_time),
            tail: self.entries[self.entries.len().saturating_sub(tail)..].to_vec(),
        }
    }

    /// Answers a wish for old entries (C-9).
    pub fn read(&self, wish: &ReadLog) -> LogRead {
        let result = if wish.from <= self.base.id.index { LogReadResult::Compacted } else { self.entries_from(wish) };
        LogRead { purpose: wish.purpose, term: wish.term, from: wish.from, result }
    }

    fn entries_from(&self, wish: &ReadLog) -> LogReadResult {
        let Some((previous, chain)) = self.position(wish.from.previous()) else { return LogReadResult::Mismatch };
        let differs = previous != wish.previous || wish.previous_chain.is_some_and(|expected| expected != chain);
        let mut entries: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        let skip = usize::try_from(wish.from.0 - self.base.id.index.0 - 1).expect("small");
        for entry in self.entries.iter().skip(skip) {
            bytes += 64 + entry.body.len();
            if !entries.is_empty() && bytes > wish.bytes_max {
                break;
            }
            entries.push(entry.clone());
        }
        if differs || entries.is_empty() {
            LogReadResult::Mismatch
        } else {
            LogReadResult::Entries(entries)
        }
    }
}

/// The entry of `term` that follows.
pub fn entry_after(last: EntryId, chain: Chain, term: Term, body: &'static [u8]) -> Entry {
    let mut header = EntryHeader {
        id: EntryId { term, index: last.index.next() },
        log_time: LogTime(last.index.0 + 1),
        session: SessionId(0),
        sequence: Sequence(0),
        kind: EntryKind::Command,
        flags: 0,
        body_len: u32::try_from(body.len()).expect("short"),
        body_checksum: 0,
        chain: Chain(0),
    };
    header.chain = header.chain_after(chain);
    Entry { header, body: Bytes::from_static(body) }
}

/// A fetch under way.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// When it ends.
    pub due: Time,
    pub wanted: FetchSnapshot,
    /// Its source opened it when the fetch began, so it stays readable when its name is gone.
    pub file: Option<Snapshot>,
}

#[derive(Debug)]
pub struct Node {
    pub settings: Settings,
    /// None: crashed, or a puppet that the script speaks for.
    pub raft: Option<Raft>,
    pub puppet: bool,
    /// Each node's clock runs ahead of the net's by its own offset.
    pub ahead: Span,
    pub durable: Image,
    /// Everything that was handed to the disk.
    pub handed: Image,
    pub pending: VecDeque<(Time, Append)>,
    pub disk_held: bool,
    /// Entries of the newest that a start finds in memory.
    pub tail: usize,
    pub wishes: VecDeque<ReadLog>,
    pub wishes_held: bool,
    /// The state machine: all that was applied, or came with a snapshot.
    pub applied: Vec<Entry>,
    /// How many of them came with the snapshot that this life began with, or installed last.
    pub restored: usize,
    /// Durable snapshots, oldest first: the two newest.
    pub snapshots: Vec<Snapshot>,
    /// The newest snapshot has rotted: a start finds the one before it.
    pub newest_rotten: bool,
    pub fetch: Option<Fetch>,
    pub fetch_held: bool,
    /// Where the log was told to be cut off.
    pub cuts: Vec<u64>,
    /// Fetches that were begun, and when.
    pub fetches: Vec<(Time, FetchSnapshot)>,
    pub reads: Vec<ReadState>,
    pub stop: Option<String>,
    /// Starts so far.
    pub lives: u64,
}

impl Node {
    pub fn new(settings: Settings, image: Image) -> Self {
        Self {
            settings,
            raft: None,
            puppet: false,
            ahead: Span::ZERO,
            handed: image.clone(),
            durable: image,
            pending: VecDeque::new(),
            disk_held: false,
            tail: usize::MAX,
            wishes: VecDeque::new(),
            wishes_held: false,
            applied: Vec::new(),
            restored: 0,
            snapshots: Vec::new(),
            newest_rotten: false,
            fetch: None,
            fetch_held: false,
            cuts: Vec::new(),
            fetches: Vec::new(),
            reads: Vec::new(),
            stop: None,
            lives: 0,
        }
    }

    pub fn start(&mut self, now: Time) {
        self.try_start(now).expect("the log reaches back to the newest snapshot");
    }

    /// Starts on what is on the disk, unless the log has a gap (C-5).
    pub fn try_start(&mut self, now: Time) -> Result<(), Gap> {
        assert!(self.raft.is_none() && !self.puppet, "starts once");
        if std::mem::take(&mut self.newest_rotten) {
            self.snapshots.pop();
        }
        let newest = self.snapshots.last();
        let end = newest.map(|newest| newest.end);
        self.durable.lay(end)?;
        self.lives += 1;
        self.handed = self.durable.clone();
        let mut settings = self.settings.clone();
        settings.seed = settings.seed.wrapping_add(self.lives.wrapping_mul(0x0123_4567_89ab_cdef));
        let mut raft = Raft::new(now + self.ahead, settings, self.durable.recovered(end, self.tail));
        if let Some(newest) = newest {
            self.applied = newest.state.to_vec();
            raft.snapshot_taken(newest.end, newest.bytes());
        }
        self.restored = self.applied.len();
        self.raft = Some(raft);
        Ok(())
    }

    /// Keeps a file that has become durable; the two newest stay.
    pub fn keep(&mut self, snapshot: Snapshot) {
        self.snapshots.push(snapshot);
        self.snapshots.sort_by_key(|snapshot| snapshot.end.id.index);
        self.snapshots.dedup_by_key(|snapshot| snapshot.end.id.index);
        while self.snapshots.len() > 2 {
            self.snapshots.remove(0);
        }
    }

    /// Whether its disk holds the entry, in the log or in a snapshot.
    pub fn holds(&self, entry: EntryId) -> bool {
        let index = entry.index;
        let covered = self.snapshots.iter().any(|snapshot| snapshot.end.id.index >= index);
        covered
            || self.durable.base.id.index >= index
            || self.durable.position(index).is_some_and(|(id, _)| id == entry)
    }

    /// Power is lost: of what was on the way, the first `appends` survive, and the first `entries` of the next.
    pub fn crash(&mut self, appends: usize, entries: Option<usize>) {
        self.raft = None;
        let pending = std::mem::take(&mut self.pending);
        for (position, (_, append)) in pending.iter().enumerate() {
            if position < appends {
                self.durable.write(append, usize::MAX);
            } else if position == appends {
                if let Some(entries) = entries {
                    self.durable.write(append, entries);
                }
            }
        }
        self.handed = self.durable.clone();
        self.wishes.clear();
        self.fetch = None;
        self.applied.clear();
        self.reads.clear();
    }

    pub fn alive(&self) -> bool {
        self.raft.is_some()
    }
}

pub fn settings(id: u32, voters: u32, seed: u64) -> Settings {
    Settings {
        id: NodeId(id),
        cluster: CLUSTER,
        incarnation: Incarnation(u64::from(id) + 100),
        voters: (0..voters).map(NodeId).collect(),
        election_timeout_min: ET,
        heartbeat: HB,
        commit_notice: Span::ZERO,
        append_bytes_max: 1 << 20,
        inflight_bytes_max: 8 << 20,
        inflight_messages_max: 64,
        tail_bytes_max: 64 << 20,
        uncommitted_bytes_max: 32 << 20,
        snapshot_patience: ET.times(60),
        seed,
    }
}

// --- messages that scripts say ---

impl Image {
    /// A checked AppendEntries with this log's entries `first..=last`; none if `last < first`.
    pub fn append(&self, first: u64, last: u64, round: u64, commit: u64) -> Message {
        let (previous, previous_chain) = self.before(Index(first));
        let entries = (first..=last).map(|index| self.at(Index(index)).expect("in the log").clone()).collect();
        Message::AppendEntries(AppendEntries {
            round: Round(round),
            lease_span_us: 0,
            heartbeat: false,
            previous,
            previous_chain,
            commit: Index(commit),
            digest_index: Index(0),
            digest: 0,
            entries,
        })
    }
}

pub fn heartbeat(round: u64, commit: u64) -> Message {
    Message::AppendEntries(AppendEntries {
        round: Round(round),
        lease_span_us: 0,
        heartbeat: true,
        previous: EntryId::default(),
        previous_chain: Chain(0),
        commit: Index(commit),
        digest_index: Index(0),
        digest: 0,
        entries: Vec::new(),
    })
}

pub fn reply(round: u64, matched: u64) -> Message {
    Message::AppendReply(AppendReply { round: Round(round), matched: Index(matched), ..AppendReply::default() })
}

pub fn rejection(round: u64, rejected: u64, hint: EntryId) -> Message {
    let reject = Some(RejectHint { rejected: Index(rejected), hint });
    Message::AppendReply(AppendReply { round: Round(round), reject, ..AppendReply::default() })
}

pub fn id(term: u64, index: u64) -> EntryId {
    EntryId { term: Term(term), index: Index(index) }
}
