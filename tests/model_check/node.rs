//! One node: the real `Raft`, its disk, and what can happen to it.

use std::collections::VecDeque;

use bytes::Bytes;
use protocol::format::HardState;
use protocol::message::Envelope;
use protocol::{Chain, ClusterId, Entry, EntryId, EntryKind, Incarnation, NodeId, Sequence, SessionId};
use raftkv::raft::{Append, AppendSequence, Input, Proposal, Raft, Ready, Recovered, Settings, TermRun};
use raftkv::time::{Span, Time};

use super::digest::{HEARTBEAT, LONG, NOTICE, PATIENCE};

pub const NODES: usize = 3;
const CLUSTER: ClusterId = ClusterId(1);

/// What can happen to a node beside a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The oldest append is durable.
    Persist,
    /// The process ends, with so many of its appends written, and if `meta` the next one's term and vote (C-7); it starts on
    /// what is durable.
    Crash {
        written: u8,
        meta: bool,
    },
    /// It hears nothing for long: it does what it does by itself. Appends under way have got on meanwhile.
    Timeout,
    /// The same, and the disk hangs (C-13).
    TimeoutOnHungDisk,
    /// It hears nothing for long enough to lose faith in its leader, and does not move yet.
    Silence,
    /// A leader's heartbeat; a candidate asks again.
    Heartbeat,
    /// The time that a risen commit index waits has passed.
    Notice,
    Propose,
    /// The connection with a peer is lost, and there is another one.
    Reconnect(u8),
}

#[derive(Clone)]
pub struct Node {
    pub id: usize,
    pub raft: Raft,
    pub clock: Time,
    /// As it was handed over.
    pub log: Vec<Entry>,
    appends: VecDeque<Append>,
    pub disk: Disk,
    commit_notice: Span,
}

/// An append under way that changes the disk, with all that leaves when it is complete: those behind it that change nothing
/// are complete with it.
#[derive(Clone, Debug)]
pub struct Write {
    pub sequence: AppendSequence,
    pub hard_state: Option<HardState>,
    pub entries: Vec<EntryId>,
    /// What leaves with an earlier one is not named again: it is under way from then on.
    waiting: Vec<Envelope>,
}

#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub hard_state: HardState,
    pub log: Vec<Entry>,
}

impl Node {
    /// As it starts on a disk.
    pub fn boot(id: usize, clock: Time, disk: Disk, commit_notice: Span) -> Self {
        let raft = Raft::new(clock, settings(id, commit_notice), disk.recovered());
        let (log, appends) = (disk.log.clone(), VecDeque::new());
        Self { id, raft, clock, log, appends, disk, commit_notice }
    }

    /// The appends under way.
    pub fn writes(&self) -> Vec<Write> {
        let mut writes: Vec<Write> = Vec::new();
        for append in &self.appends {
            if changes(append) {
                let entries = append.entries.iter().map(|entry| entry.header.id).collect();
                let (sequence, hard_state) = (append.sequence, append.hard_state);
                writes.push(Write { sequence, hard_state, entries, waiting: Vec::new() });
            }
            for envelope in &append.waiting {
                if !writes.iter().any(|write| write.waiting.contains(envelope)) {
                    writes.last_mut().expect("the first one changes something").waiting.push(envelope.clone());
                }
            }
        }
        writes
    }

    /// A message arrives. Err: why that cannot be.
    pub fn hear(&mut self, envelope: Envelope, sent: &mut Vec<Envelope>) -> Result<(), String> {
        self.step(Span::ZERO, Input::Message(envelope), sent)
    }

    /// Something else happens. Err: why that cannot be.
    pub fn take(&mut self, step: Step, sent: &mut Vec<Envelope>) -> Result<(), String> {
        match step {
            Step::Persist => self.persist(sent),
            Step::Crash { written, meta } => self.crash(written.into(), meta, sent),
            Step::Timeout => {
                self.clock += LONG;
                if let Some(append) = self.appends.front() {
                    // As if the one before it had been completed just now.
                    let sequence = AppendSequence(append.sequence.0 - 1);
                    self.raft.step(self.clock, Input::Persisted { sequence, queue_us: 0, sync_us: 0 });
                }
                self.step(Span::ZERO, Input::Tick, sent)
            }
            Step::TimeoutOnHungDisk => self.step(LONG, Input::Tick, sent),
            Step::Silence => {
                self.clock += LONG;
                self.settle(sent)
            }
            Step::Heartbeat => self.step(HEARTBEAT, Input::Tick, sent),
            Step::Notice => self.step(NOTICE, Input::Tick, sent),
            Step::Propose => {
                let body = Bytes::from_static(b"command");
                let (session, sequence) = (SessionId(0), Sequence(0));
                let proposal = Proposal { kind: EntryKind::Command, session, sequence, body, body_checksum: 0 };
                self.raft.propose(self.clock, proposal).map_err(|error| format!("{error:?}"))?;
                self.settle(sent)
            }
            Step::Reconnect(peer) => {
                let peer = NodeId(peer.into());
                self.raft.step(self.clock, Input::Disconnected(peer));
                self.step(Span::ZERO, Input::Connected(peer), sent)
            }
        }
    }

    fn step(&mut self, later: Span, input: Input, sent: &mut Vec<Envelope>) -> Result<(), String> {
        self.clock += later;
        self.raft.step(self.clock, input);
        self.settle(sent)
    }

    fn persist(&mut self, sent: &mut Vec<Envelope>) -> Result<(), String> {
        let append = self.appends.pop_front().expect("the event is possible");
        self.disk.write(&append);
        sent.extend(append.waiting);
        self.step(Span::ZERO, Input::Persisted { sequence: append.sequence, queue_us: 0, sync_us: 0 }, sent)
    }

    fn crash(&mut self, written: usize, meta: bool, sent: &mut Vec<Envelope>) -> Result<(), String> {
        let mut disk = std::mem::take(&mut self.disk);
        let mut writes = self.appends.iter().filter(|append| changes(append));
        writes.by_ref().take(written).for_each(|append| disk.write(append));
        if let (true, Some(next)) = (meta, writes.next()) {
            disk.write_meta(next);
        }
        *self = Self::boot(self.id, self.clock, disk, self.commit_notice);
        self.settle(sent)
    }

    /// Takes everything that follows from the inputs.
    fn settle(&mut self, sent: &mut Vec<Envelope>) -> Result<(), String> {
        let (id, mut ready) = (self.id, Ready::default());
        loop {
            self.raft.ready(self.clock, &mut ready);
            if let Some(stop) = &ready.stop {
                return Err(format!("node {id} stops: {stop}"));
            }
            if ready.fetch_snapshot.is_some() {
                return Err(format!("node {id} wants a snapshot, and there is none"));
            }
            if !ready.read_log.is_empty() {
                return Err(format!("node {id} has lost entries from memory: {:?}", ready.read_log));
            }
            if let Some(append) = ready.append.take() {
                replace(&mut self.log, &append.entries);
                self.appends.push_back(append);
            }
            sent.append(&mut ready.messages);
            let Some(last) = ready.committed.last() else { break };
            self.raft.applied(last.header.id.index);
        }
        // What changes nothing on the disk only lets messages go, and those may be late and lost: so it is complete at once.
        if self.appends.front().is_some_and(|append| !changes(append)) {
            return self.persist(sent);
        }
        Ok(())
    }
}

fn changes(append: &Append) -> bool {
    append.hard_state.is_some() || !append.entries.is_empty()
}

/// Writes entries over a log (C-1).
fn replace(log: &mut Vec<Entry>, entries: &[Entry]) {
    if let Some(first) = entries.first() {
        log.truncate(first.header.id.index.previous().0 as usize);
        log.extend_from_slice(entries);
    }
}

impl Disk {
    fn write_meta(&mut self, append: &Append) {
        if let Some(hard_state) = append.hard_state {
            self.hard_state = hard_state;
        }
    }

    fn write(&mut self, append: &Append) {
        self.write_meta(append);
        replace(&mut self.log, &append.entries);
    }

    fn recovered(&self) -> Recovered {
        let mut recovered = Recovered::empty(Chain::origin(CLUSTER));
        recovered.hard_state = self.hard_state;
        for entry in &self.log {
            let (id, header) = (entry.header.id, &entry.header);
            if recovered.last.term < id.term {
                recovered.runs.push(TermRun { term: id.term, first: id.index });
            }
            (recovered.last, recovered.last_chain, recovered.last_log_time) = (id, header.chain, header.log_time);
        }
        recovered.tail.clone_from(&self.log);
        recovered
    }
}

fn settings(id: usize, commit_notice: Span) -> Settings {
    Settings {
        id: NodeId(id as u32),
        cluster: CLUSTER,
        incarnation: Incarnation(1),
        voters: (0..NODES as u32).map(NodeId).collect(),
        election_timeout_min: PATIENCE,
        heartbeat: HEARTBEAT,
        commit_notice,
        // One entry a message: the less at once, the more can come between.
        append_bytes_max: 1,
        inflight_bytes_max: 1 << 20,
        inflight_messages_max: 2,
        tail_bytes_max: 1 << 20,
        uncommitted_bytes_max: 1 << 20,
        snapshot_patience: LONG,
        seed: 1,
    }
}
