//! Three nodes, their disks, the messages under way, and what must always hold.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use bytes::Bytes;
use protocol::format::HardState;
use protocol::message::{Envelope, Message};
use protocol::{Chain, ClusterId, Entry, EntryId, EntryKind, Incarnation, NodeId, Sequence, SessionId};
use raftkv::raft::{Append, AppendSequence, Input, Proposal, Raft, Ready, Recovered, Settings, TermRun};
use raftkv::time::{Span, Time};

use super::digest::{combine, digest, Digest};

const NODES: usize = 3;
const CLUSTER: ClusterId = ClusterId(1);
/// The shortest election timeout.
const PATIENCE: Span = Span::secs(1);
/// So long that every timer is due.
const LONG: Span = Span::secs(10);

/// How much of everything there may be, on any way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    /// No campaign for a higher term.
    pub term: u64,
    /// No proposal behind this index.
    pub index: u64,
    pub timeouts: u32,
    pub heartbeats: u32,
    pub crashes: u32,
    /// Messages that are delivered and stay under way.
    pub duplicates: u32,
}

/// What can happen next.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// The message at a position arrives; another copy stays or not.
    Deliver {
        position: usize,
        again: bool,
    },
    /// A node's oldest append is durable.
    Persist(usize),
    /// A node's process ends, with so many of its appends written, and starts on what is durable.
    Crash {
        node: usize,
        written: usize,
    },
    /// A node hears nothing for long: it does what it does by itself.
    Timeout(usize),
    /// A node hears nothing for long enough to lose faith in its leader, and does not move yet.
    Silence(usize),
    Heartbeat(usize),
    Propose(usize),
}

#[derive(Clone)]
pub struct World {
    bounds: Bounds,
    nodes: Vec<Rc<Node>>,
    /// Ordered, so that equal sets are equal.
    network: BTreeMap<(Digest, u32), Rc<Envelope>>,
    /// Who led each term.
    led: BTreeMap<u64, usize>,
    /// What was seen committed, from index 1 on, and in which term it was seen.
    committed: Vec<(Held, u64)>,
}

/// An entry, as far as it can differ.
type Held = (EntryId, Chain);

#[derive(Clone)]
struct Node {
    raft: Raft,
    clock: Time,
    /// As it was handed over.
    log: Vec<Entry>,
    appends: VecDeque<Append>,
    newest_append: AppendSequence,
    disk: Disk,
    /// Of all of the above.
    digest: Digest,
}

#[derive(Clone, Debug, Default)]
struct Disk {
    hard_state: HardState,
    log: Vec<Entry>,
}

impl World {
    /// A cluster that has just been formed.
    pub fn new(bounds: Bounds) -> Self {
        let nodes = (0..NODES).map(|id| Rc::new(Node::boot(id, Time(0) + LONG, Disk::default()))).collect();
        let (led, committed) = (BTreeMap::new(), Vec::new());
        Self { bounds, nodes, network: BTreeMap::new(), led, committed }
    }

    pub fn leaders(&self) -> usize {
        self.led.len()
    }

    pub fn commits(&self) -> usize {
        self.committed.len()
    }

    pub fn digest(&self) -> Digest {
        let ghosts = digest(&(self.bounds, &self.led, &self.committed), Time(0), PATIENCE, 0);
        let nodes = self.nodes.iter().map(|node| node.digest);
        let network = self.network.keys().flat_map(|(message, copy)| [*message, Digest::from(*copy)]);
        combine(std::iter::once(ghosts).chain(nodes).chain(network))
    }

    /// Whether all that happened since an earlier state is that messages are gone: they may as well be late.
    pub fn only_lost_since(&self, earlier: &World) -> bool {
        let same_node = |(now, before): (&Rc<Node>, &Rc<Node>)| Rc::ptr_eq(now, before) || now.digest == before.digest;
        self.nodes.iter().zip(&earlier.nodes).all(same_node)
            && self.network.keys().all(|message| earlier.network.contains_key(message))
            && self.committed.len() == earlier.committed.len()
    }

    /// Everything that can happen next.
    pub fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for position in 0..self.network.len() {
            events.push(Event::Deliver { position, again: false });
            if self.bounds.duplicates > 0 {
                events.push(Event::Deliver { position, again: true });
            }
        }
        for (id, node) in self.nodes.iter().enumerate() {
            if !node.appends.is_empty() {
                events.push(Event::Persist(id));
            }
            if self.bounds.crashes > 0 {
                events.extend((0..=node.appends.len()).map(|written| Event::Crash { node: id, written }));
            }
            if self.bounds.timeouts > 0 && (node.raft.is_leader() || node.raft.term().0 < self.bounds.term) {
                // As long as all are alike, it does not matter which is the first.
                let alike = self.nodes.iter().all(|node| node.raft.campaigns() == 0) && self.led.is_empty();
                if id == 0 || !alike {
                    events.push(Event::Timeout(id));
                }
            }
            if self.bounds.timeouts > 0 && !node.raft.is_leader() && node.raft.leader().is_some() {
                events.push(Event::Silence(id));
            }
            if node.raft.is_leader() {
                if self.bounds.heartbeats > 0 {
                    events.push(Event::Heartbeat(id));
                }
                if node.raft.last().index.0 < self.bounds.index {
                    events.push(Event::Propose(id));
                }
            }
        }
        events
    }

    /// What an event is, in words.
    pub fn describe(&self, event: Event) -> String {
        let Event::Deliver { position, again } = event else { return format!("{event:?}") };
        let Envelope { from, to, term, message, .. } = &**self.network.values().nth(position).expect("it is there");
        let text = match message {
            Message::AppendEntries(append) => {
                let ids: Vec<EntryId> = append.entries.iter().map(|entry| entry.header.id).collect();
                format!("AppendEntries behind {:?}: {ids:?}, commit {}", append.previous, append.commit)
            }
            Message::AppendReply(reply) => format!("AppendReply matched {} reject {:?}", reply.matched, reply.reject),
            other => format!("{other:?}"),
        };
        format!("{from} -> {to} in term {term}{}: {text}", if again { ", and once more later" } else { "" })
    }

    /// Lets it happen. Err: what does not hold afterwards.
    pub fn take(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Deliver { position, again } => {
                let key = *self.network.keys().nth(position).expect("it is there");
                let envelope = self.network[&key].clone();
                if again {
                    self.bounds.duplicates -= 1;
                } else {
                    self.network.remove(&key);
                }
                self.step(envelope.to.0 as usize, Span::ZERO, Input::Message((*envelope).clone()))
            }
            Event::Persist(id) => self.persist(id),
            Event::Crash { node, written } => {
                self.bounds.crashes -= 1;
                self.crash(node, written)
            }
            Event::Timeout(id) => {
                self.bounds.timeouts -= 1;
                self.step(id, LONG, Input::Tick)
            }
            Event::Silence(id) => {
                self.bounds.timeouts -= 1;
                self.node(id).clock = self.nodes[id].clock + PATIENCE;
                self.settle(id)
            }
            Event::Heartbeat(id) => {
                self.bounds.heartbeats -= 1;
                self.step(id, Span(1), Input::Tick)
            }
            Event::Propose(id) => {
                let body = Bytes::from_static(b"command");
                let (session, sequence) = (SessionId(0), Sequence(0));
                let proposal = Proposal { kind: EntryKind::Command, session, sequence, body, body_checksum: 0 };
                let node = self.node(id);
                node.raft.propose(node.clock, proposal).map_err(|error| format!("{error:?}"))?;
                self.settle(id)
            }
        }
    }

    /// To a start of interest: makes a node the leader with the help of some; nobody else hears of it, and all is lost that was
    /// under way but what the new leader sends first. It costs nothing of the bounds.
    pub fn elect(&mut self, leader: usize, reachable: &[usize]) {
        let bounds = self.bounds;
        self.bounds.timeouts = 1000;
        self.network.clear();
        for _ in 0..5 {
            for id in reachable.iter().filter(|id| **id != leader) {
                self.take(Event::Silence(*id)).expect("it holds");
            }
            self.take(Event::Timeout(leader)).expect("it holds");
            self.run(reachable, &|envelope| !matches!(envelope.message, Message::AppendEntries(_)));
            if self.nodes[leader].raft.is_leader() {
                let brings = |envelope: &Envelope| matches!(envelope.message, Message::AppendEntries(_));
                self.network.retain(|_, envelope| envelope.from.0 as usize == leader && brings(envelope));
                self.bounds = bounds;
                return;
            }
        }
        panic!("node {leader} is not elected");
    }

    /// To a start of interest: everything arrives among some nodes. A heartbeat sends it once more.
    pub fn replicate(&mut self, reachable: &[usize]) {
        let bounds = self.bounds;
        self.bounds.heartbeats = 1000;
        for _ in 0..2 {
            for id in 0..NODES {
                if self.nodes[id].raft.is_leader() {
                    self.take(Event::Heartbeat(id)).expect("it holds");
                }
            }
            self.run(reachable, &|_| true);
        }
        self.network.clear();
        self.bounds = bounds;
    }

    fn run(&mut self, reachable: &[usize], arrives: &dyn Fn(&Envelope) -> bool) {
        let among = |id: NodeId| reachable.contains(&(id.0 as usize));
        loop {
            if let Some(id) = reachable.iter().find(|id| !self.nodes[**id].appends.is_empty()) {
                self.take(Event::Persist(*id)).expect("it holds");
                continue;
            }
            let fits = |envelope: &Rc<Envelope>| among(envelope.from) && among(envelope.to) && arrives(envelope);
            match self.network.values().position(fits) {
                Some(position) => self.take(Event::Deliver { position, again: false }).expect("it holds"),
                None => return,
            }
        }
    }

    fn node(&mut self, id: usize) -> &mut Node {
        Rc::make_mut(&mut self.nodes[id])
    }

    fn step(&mut self, id: usize, later: Span, input: Input) -> Result<(), String> {
        let node = self.node(id);
        node.clock += later;
        node.raft.step(node.clock, input);
        self.settle(id)
    }

    fn persist(&mut self, id: usize) -> Result<(), String> {
        let node = self.node(id);
        let append = node.appends.pop_front().expect("the event is possible");
        node.disk.write(&append);
        for envelope in append.waiting {
            self.send(envelope);
        }
        self.step(id, Span::ZERO, Input::Persisted { sequence: append.sequence, queue_us: 0, sync_us: 0 })
    }

    fn crash(&mut self, id: usize, written: usize) -> Result<(), String> {
        let node = self.node(id);
        let mut disk = std::mem::take(&mut node.disk);
        for append in node.appends.iter().take(written) {
            disk.write(append);
        }
        *node = Node::boot(id, node.clock, disk);
        self.settle(id)
    }

    /// Takes everything that follows from a node's inputs, and looks at it.
    fn settle(&mut self, id: usize) -> Result<(), String> {
        let mut ready = Ready::default();
        loop {
            let node = self.node(id);
            node.raft.ready(node.clock, &mut ready);
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
                replace(&mut node.log, &append.entries);
                node.newest_append = append.sequence;
                node.appends.push_back(append);
            }
            if let Some(last) = ready.committed.last() {
                node.raft.applied(last.header.id.index);
            }
            self.check(id)?;
            for envelope in std::mem::take(&mut ready.messages) {
                self.send(envelope);
            }
            if ready.committed.is_empty() {
                break;
            }
        }
        self.node(id).refresh();
        let nodes = &self.nodes;
        self.network.retain(|_, envelope| nodes[envelope.to.0 as usize].may_mind(envelope));
        Ok(())
    }

    fn send(&mut self, envelope: Envelope) {
        let message = digest(&envelope, Time(0), PATIENCE, 0);
        let copy = (0..).find(|copy| !self.network.contains_key(&(message, *copy))).expect("numbers do not end");
        self.network.insert((message, copy), Rc::new(envelope));
    }

    fn check(&mut self, id: usize) -> Result<(), String> {
        let node = self.nodes[id].clone();
        let term = node.raft.term().0;
        let log: Vec<Held> = node.log.iter().map(held).collect();
        if node.raft.is_leader() {
            let led = *self.led.entry(term).or_insert(id);
            if led != id {
                return Err(format!("nodes {led} and {id} both lead term {term}"));
            }
            for (position, (entry, seen_in)) in self.committed.iter().enumerate() {
                if *seen_in < term && log.get(position) != Some(entry) {
                    return Err(format!("node {id} leads term {term} without the committed entry {:?}", entry.0));
                }
            }
        }
        for other in &self.nodes {
            let first_difference = log.iter().zip(&other.log).position(|(own, other)| *own != held(other));
            let same_again =
                |from: usize| log.iter().zip(&other.log).skip(from).any(|(own, other)| own.0 == other.header.id);
            if first_difference.is_some_and(same_again) {
                return Err(format!("logs differ before an entry that they share: node {id}, {log:?}"));
            }
        }
        self.check_commit(id, term, &log)
    }

    fn check_commit(&mut self, id: usize, term: u64, log: &[Held]) -> Result<(), String> {
        let commit = self.nodes[id].raft.commit_index().0 as usize;
        for position in 0..commit {
            let Some(entry) = log.get(position) else {
                return Err(format!("node {id} has committed entry {}, which it does not hold", position + 1));
            };
            match self.committed.get(position) {
                Some((known, _)) if known == entry => {}
                Some((known, _)) => {
                    return Err(format!("committed twice: {:?}, and at node {id} {:?}", known.0, entry.0));
                }
                None => {
                    let holds = |node: &&Rc<Node>| node.disk.log.get(position).map(held).as_ref() == Some(entry);
                    let holders = self.nodes.iter().filter(holds).count();
                    if holders <= NODES / 2 {
                        return Err(format!("node {id} has committed {:?}, durable on {holders} nodes", entry.0));
                    }
                    self.committed.push((*entry, term));
                }
            }
        }
        Ok(())
    }
}

fn held(entry: &Entry) -> Held {
    (entry.header.id, entry.header.chain)
}

/// Writes entries over a log (C-1).
fn replace(log: &mut Vec<Entry>, entries: &[Entry]) {
    if let Some(first) = entries.first() {
        log.truncate(first.header.id.index.previous().0 as usize);
        log.extend_from_slice(entries);
    }
}

impl Disk {
    fn write(&mut self, append: &Append) {
        if let Some(hard_state) = append.hard_state {
            self.hard_state = hard_state;
        }
        replace(&mut self.log, &append.entries);
    }
}

impl Node {
    fn boot(id: usize, clock: Time, disk: Disk) -> Self {
        let settings = Settings {
            id: NodeId(id as u32),
            cluster: CLUSTER,
            incarnation: Incarnation(1),
            voters: (0..NODES as u32).map(NodeId).collect(),
            election_timeout_min: PATIENCE,
            heartbeat: Span(1),
            commit_notice: Span::ZERO,
            // One entry a message: the less at once, the more can come between.
            append_bytes_max: 1,
            inflight_bytes_max: 1 << 20,
            inflight_messages_max: 2,
            tail_bytes_max: 1 << 20,
            uncommitted_bytes_max: 1 << 20,
            snapshot_patience: LONG,
            seed: 1,
        };
        let raft = Raft::new(clock, settings, disk.recovered());
        let (log, appends) = (disk.log.clone(), VecDeque::new());
        let mut node = Self { raft, clock, log, appends, newest_append: AppendSequence(0), disk, digest: 0 };
        node.refresh();
        node
    }

    /// Whether a message may still change anything. Answers about a term that the disk has left behind are ignored, whatever
    /// happens.
    fn may_mind(&self, envelope: &Envelope) -> bool {
        let (own, term) = (self.disk.hard_state.term, envelope.term);
        match envelope.message {
            Message::PreVoteReply { granted: true } => term > own,
            Message::PreVoteReply { .. } | Message::RequestVoteReply { .. } | Message::AppendReply(_) => term >= own,
            _ => true,
        }
    }

    fn refresh(&mut self) {
        let all = (&self.raft, &self.appends, &self.disk);
        self.digest = digest(&all, self.clock, PATIENCE, self.newest_append.0);
    }
}

impl Disk {
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
