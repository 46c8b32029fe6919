//! One node of a scenario: its core, what is on its disk, what is on the way there, and its state machine.

use std::collections::VecDeque;

use bytes::Bytes;
use protocol::format::HardState;
use protocol::message::{AppendEntries, AppendReply, Message, RejectHint};
use protocol::{
    Chain, ClusterId, Entry, EntryHeader, EntryId, EntryKind, Incarnation, Index, LogTime, NodeId, Round, Sequence,
    SessionId, Term,
};
use raftkv::raft::{Append, LogBase, LogRead, LogReadResult, Raft, ReadLog, ReadState, Recovered, Settings, TermRun};
use raftkv::time::{Span, Time};

pub const CLUSTER: ClusterId = ClusterId(7);
/// The election timeout is drawn from `[ET, 2 ET)`.
pub const ET: Span = Span::millis(1000);
pub const HB: Span = Span::millis(100);

/// A log and a hard state: on disk, or as handed to the disk.
#[derive(Clone, Debug, Default)]
pub struct Image {
    pub hard_state: HardState,
    pub entries: Vec<Entry>,
}

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
        self.entries.last().map_or(EntryId::default(), |entry| entry.header.id)
    }

    pub fn chain(&self) -> Chain {
        self.entries.last().map_or(Chain::origin(CLUSTER), |entry| entry.header.chain)
    }

    pub fn at(&self, index: Index) -> Option<&Entry> {
        self.entries.get(usize::try_from(index.0).ok()?.checked_sub(1)?)
    }

    /// The position before the entry at `index`: identity and chain.
    pub fn before(&self, index: Index) -> (EntryId, Chain) {
        self.at(index.previous())
            .map_or((EntryId::default(), Chain::origin(CLUSTER)), |entry| (entry.header.id, entry.header.chain))
    }

    /// Takes an append, or its first `entries` only, as replay would (C-1): the first entry replaces what is there.
    pub fn write(&mut self, append: &Append, entries: usize) {
        if let Some(hard_state) = append.hard_state {
            assert!(hard_state.term >= self.hard_state.term, "terms on disk do not fall");
            self.hard_state = hard_state;
        }
        for entry in append.entries.iter().take(entries) {
            let id = entry.header.id;
            let keep = usize::try_from(id.index.0 - 1).expect("small");
            assert!(keep <= self.entries.len(), "an append leaves no hole");
            self.entries.truncate(keep);
            let expected = entry.header.chain_after(self.chain());
            assert_eq!(entry.header.chain, expected, "an append continues the chain");
            self.entries.push(entry.clone());
        }
    }

    /// What a start finds, with the newest `tail` entries in memory.
    pub fn recovered(&self, tail: usize) -> Recovered {
        let mut runs: Vec<TermRun> = Vec::new();
        for entry in &self.entries {
            let EntryId { term, index } = entry.header.id;
            if runs.last().is_none_or(|run| run.term != term) {
                runs.push(TermRun { term, first: index });
            }
        }
        Recovered {
            hard_state: self.hard_state,
            applied: LogBase::origin(Chain::origin(CLUSTER)),
            base: LogBase::origin(Chain::origin(CLUSTER)),
            runs,
            last: self.last(),
            last_chain: self.chain(),
            last_log_time: self.entries.last().map_or(LogTime(0), |entry| entry.header.log_time),
            tail: self.entries[self.entries.len().saturating_sub(tail)..].to_vec(),
        }
    }

    /// Answers a wish for old entries (C-9).
    pub fn read(&self, wish: &ReadLog) -> LogRead {
        let (previous, chain) = self.before(wish.from);
        let differs = previous != wish.previous || wish.previous_chain.is_some_and(|expected| expected != chain);
        let mut entries: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        let skip = usize::try_from(wish.from.0 - 1).expect("small");
        for entry in self.entries.iter().skip(skip) {
            bytes += 64 + entry.body.len();
            if !entries.is_empty() && bytes > wish.bytes_max {
                break;
            }
            entries.push(entry.clone());
        }
        let result =
            if differs || entries.is_empty() { LogReadResult::Mismatch } else { LogReadResult::Entries(entries) };
        LogRead { purpose: wish.purpose, term: wish.term, from: wish.from, result }
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
    pub applied: Vec<Entry>,
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
            reads: Vec::new(),
            stop: None,
            lives: 0,
        }
    }

    pub fn start(&mut self, now: Time) {
        assert!(self.raft.is_none() && !self.puppet, "starts once");
        self.lives += 1;
        self.handed = self.durable.clone();
        let mut settings = self.settings.clone();
        settings.seed = settings.seed.wrapping_add(self.lives.wrapping_mul(0x0123_4567_89ab_cdef));
        self.raft = Some(Raft::new(now + self.ahead, settings, self.durable.recovered(self.tail)));
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
