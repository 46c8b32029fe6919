//! Messages that no honest node would send: from strangers, of any term, with any marks; well formed, as the codec lets
//! nothing else through.

use bytes::Bytes;
use protocol::message::{AppendEntries, AppendReply, Envelope, Message, RejectHint, SnapshotOffer};
use protocol::{
    Chain, ClusterId, Entry, EntryHeader, EntryId, EntryKind, Incarnation, Index, LogTime, NodeId, Round, Sequence,
    SessionId, Term,
};
use raftkv::raft::{AppendSequence, Input as RaftInput, Proposal, Raft, Ready, Recovered, Settings};
use raftkv::time::{Span, Time};

use super::Input;

const CLUSTER: ClusterId = ClusterId(5);

/// One node among such messages, its own timers, completions and proposals. It may stop, in words; it may not panic.
pub fn raft_step(data: &[u8]) {
    // One input in two has commits told later, by its length: so what the corpus says stays as it is.
    let commit_notice = if data.len() & 1 == 0 { Span::ZERO } else { Span::millis(5) };
    let mut input = Input(data);
    let mut node = Node {
        raft: Raft::new(Time(0), settings(commit_notice), Recovered::empty(Chain::origin(CLUSTER))),
        now: Time(0),
        appends: Vec::new(),
        chain: Chain::origin(CLUSTER),
    };
    while !input.is_empty() {
        match input.below(8) {
            0 => node.step(Span::millis(u64::from(input.byte()) * 10), RaftInput::Tick),
            1 => {
                if !node.appends.is_empty() {
                    let sequence = node.appends.remove(0);
                    node.step(Span::ZERO, RaftInput::Persisted { sequence, queue_us: 0, sync_us: 0 });
                }
            }
            2 => node.step(Span::ZERO, RaftInput::Connected(NodeId(u32::from(input.below(5))))),
            3 => node.step(Span::ZERO, RaftInput::Disconnected(NodeId(u32::from(input.below(5))))),
            4 => {
                let body = Bytes::copy_from_slice(input.take(4));
                let (session, sequence) = (SessionId(0), Sequence(0));
                let proposal = Proposal { kind: EntryKind::Command, session, sequence, body, body_checksum: 0 };
                let _ = node.raft.propose(node.now, proposal);
            }
            5 => node.step(Span::ZERO, RaftInput::Read { token: input.number() }),
            _ => {
                let envelope = node.envelope(&mut input);
                node.step(Span::millis(1), RaftInput::Message(envelope));
            }
        }
        if node.settle() {
            return;
        }
    }
}

struct Node {
    raft: Raft,
    now: Time,
    /// Not completed yet.
    appends: Vec<AppendSequence>,
    /// Of the last entry that a message brought.
    chain: Chain,
}

impl Node {
    fn step(&mut self, later: Span, input: RaftInput) {
        self.now += later;
        self.raft.step(self.now, input);
    }

    /// Whether the node has stopped.
    fn settle(&mut self) -> bool {
        let mut ready = Ready::default();
        loop {
            self.raft.ready(self.now, &mut ready);
            if ready.stop.is_some() {
                return true;
            }
            self.appends.extend(ready.append.take().map(|append| append.sequence));
            let Some(last) = ready.committed.last() else { return false };
            self.raft.applied(last.header.id.index);
        }
    }

    fn envelope(&mut self, input: &mut Input<'_>) -> Envelope {
        let own = self.raft.term().0;
        let term = match input.below(8) {
            0 => own.saturating_sub(1),
            1 => own + 1,
            2 => input.number(),
            3 => 0,
            _ => own,
        };
        Envelope {
            cluster: CLUSTER,
            incarnation: Incarnation(1),
            from: NodeId(u32::from(input.below(5))),
            to: NodeId(u32::from(input.below(16) == 15)),
            term: Term(term),
            message: self.message(input, term),
        }
    }

    fn message(&mut self, input: &mut Input<'_>, term: u64) -> Message {
        match input.below(12) {
            0 => Message::PreVote { last: self.id(input) },
            1 => Message::PreVoteReply { granted: input.below(2) == 1 },
            2 => Message::RequestVote { last: self.id(input), transfer: input.below(2) == 1 },
            3 => Message::RequestVoteReply { granted: input.below(2) == 1 },
            4 => Message::ReadIndex { context: u64::from(input.byte()) },
            5 => Message::ReadIndexReply { context: input.number(), index: Some(self.index(input)) },
            6 => Message::InstallSnapshot(SnapshotOffer { last: self.id(input), chain: self.chain, bytes: 100 }),
            7 => Message::TimeoutNow,
            8 | 9 => Message::AppendReply(self.reply(input)),
            _ => Message::AppendEntries(self.append(input, term)),
        }
    }

    fn reply(&mut self, input: &mut Input<'_>) -> AppendReply {
        let reject = (input.below(2) == 1).then(|| RejectHint { rejected: self.index(input), hint: self.id(input) });
        let round = if input.below(4) == 0 { input.number() } else { u64::from(input.below(4)) };
        AppendReply { round: Round(round), matched: self.index(input), reject, ..AppendReply::default() }
    }

    /// Half of the time one that continues what was sent before.
    fn append(&mut self, input: &mut Input<'_>, term: u64) -> AppendEntries {
        let honest = input.below(2) == 0;
        let previous = if honest { self.raft.last() } else { self.id(input) };
        let previous_chain = if input.below(8) == 0 { Chain(input.number()) } else { self.chain };
        let (mut chain, mut entries) = (previous_chain, Vec::new());
        for ahead in 1..=u64::from(input.below(4)) {
            let index = Index(previous.index.0.saturating_add(ahead));
            let term = if input.below(8) == 0 { input.number() } else { term };
            let entry = entry(EntryId { term: Term(term), index }, chain);
            chain = entry.header.chain;
            entries.push(entry);
        }
        let heartbeat = entries.is_empty() && input.below(2) == 0;
        self.chain = chain;
        AppendEntries {
            round: Round(u64::from(input.below(4))),
            lease_span_us: 0,
            heartbeat,
            previous,
            previous_chain,
            commit: self.index(input),
            digest_index: Index(0),
            digest: 0,
            entries,
        }
    }

    /// Near the end of the log, or anything.
    fn index(&self, input: &mut Input<'_>) -> Index {
        let last = self.raft.last().index.0;
        Index(match input.below(8) {
            0 => input.number(),
            1 => last.saturating_add(1),
            2 => 0,
            back => last.saturating_sub(u64::from(back) - 3),
        })
    }

    fn id(&self, input: &mut Input<'_>) -> EntryId {
        let index = self.index(input);
        let known = self.raft.term_at(index).filter(|_| input.below(4) != 0);
        EntryId { term: known.unwrap_or_else(|| Term(input.number())), index }
    }
}

fn entry(id: EntryId, before: Chain) -> Entry {
    let mut header = EntryHeader {
        id,
        log_time: LogTime(id.index.0),
        session: SessionId(0),
        sequence: Sequence(0),
        kind: EntryKind::Noop,
        flags: 0,
        body_len: 0,
        body_checksum: 0,
        chain: Chain(0),
    };
    header.chain = header.chain_after(before);
    Entry { header, body: Bytes::new() }
}

fn settings(commit_notice: Span) -> Settings {
    Settings {
        id: NodeId(0),
        cluster: CLUSTER,
        incarnation: Incarnation(1),
        voters: (0..3).map(NodeId).collect(),
        election_timeout_min: Span::secs(1),
        heartbeat: Span::millis(100),
        commit_notice,
        append_bytes_max: 200,
        inflight_bytes_max: 1000,
        inflight_messages_max: 4,
        tail_bytes_max: 1 << 20,
        uncommitted_bytes_max: 10_000,
        snapshot_patience: Span::secs(10),
        seed: 1,
    }
}
