//! Nodes, links and disks in virtual time.
//!
//! Nothing happens by itself: [`Net::settle`] delivers and completes everything that is due now, [`Net::run`] lets time pass.
//! Each node may have its own clock (only differences matter to the core), so a script can let one node's election timeout
//! pass and no other's: [`Net::time_out`]. A *puppet* has no core: the script speaks for it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use protocol::message::{Envelope, Message};
use protocol::{EntryId, EntryKind, Incarnation, Index, NodeId, Sequence, SessionId, Term};
use raftkv::raft::{FetchSnapshot, Input, Installed, Proposal, ProposeError, Raft, ReadState, Ready, Settings};
use raftkv::time::{Span, Time};

use super::check::Checker;
use super::node::{settings, Fetch, Image, Node, Snapshot, CLUSTER, ET};

#[derive(Debug)]
pub struct Net {
    pub now: Time,
    pub nodes: Vec<Node>,
    /// On the way: when it arrives, and what.
    pub flight: Vec<(Time, Envelope)>,
    /// How long a message takes, and a write to disk.
    pub latency: Span,
    pub disk_latency: Span,
    /// How long a snapshot travels.
    pub transfer: Span,
    /// Links that are down; both ends were told.
    pub cut: BTreeSet<(u32, u32)>,
    /// Directions in which messages vanish; nobody is told.
    pub lossy: BTreeSet<(u32, u32)>,
    /// Directions in which messages wait.
    pub held: BTreeSet<(u32, u32)>,
    pub waiting: Vec<Envelope>,
    /// What was sent to puppets.
    pub mail: BTreeMap<u32, Vec<Envelope>>,
    /// Everything that was sent, for scripts that look.
    pub sent: Vec<Envelope>,
    /// What became of the snapshots that were fetched.
    pub installed: Vec<Installed>,
    pub checker: Checker,
    tokens: u64,
    ready: Ready,
}

fn pair(a: u32, b: u32) -> (u32, u32) {
    (a.min(b), a.max(b))
}

/// A message as an input.
pub fn spoken(from: u32, to: u32, term: u64, message: Message) -> Input {
    let incarnation = Incarnation(u64::from(from) + 100);
    let (from, to) = (NodeId(from), NodeId(to));
    Input::Message(Envelope { cluster: CLUSTER, incarnation, from, to, term: Term(term), message })
}

impl Net {
    /// `n` new nodes, all linked.
    pub fn cluster(n: u32) -> Self {
        Self::with(&vec![Image::default(); n as usize], |_| {})
    }

    /// Nodes with these terms in their logs.
    pub fn with_logs(logs: &[&[u64]]) -> Self {
        let images: Vec<Image> = logs.iter().map(|terms| Image::of_terms(terms)).collect();
        Self::with(&images, |_| {})
    }

    /// Nodes with these disks and tuned settings, all linked and started.
    pub fn with(images: &[Image], tune: impl Fn(&mut Settings)) -> Self {
        let mut net = Self::stopped(images, tune);
        for id in 0..net.size() {
            net.nodes[id as usize].start(net.now);
        }
        for id in 0..net.size() {
            net.link_up(id);
        }
        net
    }

    /// A core among puppets: node 0 is real, with this log; the script speaks for all others.
    pub fn lone(n: u32, image: Image) -> Self {
        Self::lone_tuned(n, image, |_| {})
    }

    pub fn lone_tuned(n: u32, image: Image, tune: impl Fn(&mut Settings)) -> Self {
        let mut images = vec![Image::default(); n as usize];
        images[0] = image;
        let mut net = Self::stopped(&images, tune);
        for puppet in &mut net.nodes[1..] {
            puppet.puppet = true;
        }
        net.nodes[0].start(net.now);
        net.turn(0);
        net
    }

    /// A core that leads puppets, in the term after its log's; its no-op is durable, and nobody has acknowledged it.
    pub fn lone_leader(n: u32, image: Image, tune: impl Fn(&mut Settings)) -> Self {
        let mut net = Self::lone_tuned(n, image, tune);
        net.time_out(0);
        let term = net.term(0) + 1;
        for puppet in 1..n {
            net.say(puppet, 0, term, Message::PreVoteReply { granted: true });
        }
        net.settle();
        for puppet in 1..n {
            net.say(puppet, 0, term, Message::RequestVoteReply { granted: true });
        }
        net.settle();
        assert!(net.raft(0).is_leader());
        net.mail.clear();
        net
    }

    pub fn stopped(images: &[Image], tune: impl Fn(&mut Settings)) -> Self {
        let size = u32::try_from(images.len()).expect("few nodes");
        let nodes = images.iter().zip(0..).map(|(image, id)| {
            let mut settings = settings(id, size, 42);
            tune(&mut settings);
            Node::new(settings, image.clone())
        });
        let mut net = Self {
            now: Time(1_000_000_000),
            nodes: nodes.collect(),
            flight: Vec::new(),
            latency: Span::ZERO,
            disk_latency: Span::ZERO,
            transfer: Span::ZERO,
            cut: BTreeSet::new(),
            lossy: BTreeSet::new(),
            held: BTreeSet::new(),
            waiting: Vec::new(),
            mail: BTreeMap::new(),
            sent: Vec::new(),
            installed: Vec::new(),
            checker: Checker::default(),
            tokens: 0,
            ready: Ready::default(),
        };
        for image in images {
            for entry in &image.entries {
                net.checker.entry_handed(entry.header.id, entry.header.chain);
            }
        }
        net
    }

    pub fn size(&self) -> u32 {
        u32::try_from(self.nodes.len()).expect("few nodes")
    }

    pub fn ids(&self) -> std::ops::Range<u32> {
        0..self.size()
    }

    pub fn node(&self, id: u32) -> &Node {
        &self.nodes[id as usize]
    }

    pub fn node_mut(&mut self, id: u32) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    pub fn raft(&self, id: u32) -> &Raft {
        self.node(id).raft.as_ref().expect("alive")
    }

    pub fn clock(&self, id: u32) -> Time {
        self.now + self.node(id).ahead
    }

    pub fn term(&self, id: u32) -> u64 {
        self.raft(id).term().0
    }

    pub fn commit(&self, id: u32) -> u64 {
        self.raft(id).commit_index().0
    }

    /// The leader of the highest term among the living, if one leads it.
    pub fn leader(&self) -> Option<u32> {
        let living = self.ids().filter(|id| self.node(*id).alive());
        living.filter(|id| self.raft(*id).is_leader()).max_by_key(|id| self.term(*id))
    }

    /// The terms of a node's log, as handed to its disk.
    pub fn terms(&self, id: u32) -> Vec<u64> {
        self.node(id).handed.entries.iter().map(|entry| entry.header.id.term.0).collect()
    }

    // --- inputs ---

    /// One input for one node, and all that follows from it.
    pub fn input(&mut self, id: u32, input: Input) {
        let now = self.clock(id);
        self.node_mut(id).raft.as_mut().expect("alive").step(now, input);
        self.turn(id);
    }

    /// Several inputs before the core is asked what follows, as a thread hands them in.
    pub fn inputs(&mut self, id: u32, inputs: Vec<Input>) {
        let now = self.clock(id);
        for input in inputs {
            self.node_mut(id).raft.as_mut().expect("alive").step(now, input);
        }
        self.turn(id);
    }

    /// The script says something in a puppet's name.
    pub fn say(&mut self, from: u32, to: u32, term: u64, message: Message) {
        self.input(to, spoken(from, to, term, message));
    }

    /// What a puppet has received since it last looked.
    pub fn mail(&mut self, puppet: u32) -> Vec<Envelope> {
        self.mail.remove(&puppet).unwrap_or_default()
    }

    pub fn propose(&mut self, id: u32, body: &'static str) -> Result<EntryId, ProposeError> {
        self.propose_bytes(id, Bytes::from_static(body.as_bytes()))
    }

    pub fn propose_bytes(&mut self, id: u32, body: Bytes) -> Result<EntryId, ProposeError> {
        let now = self.clock(id);
        let proposal =
            Proposal { kind: EntryKind::Command, session: SessionId(0), sequence: Sequence(0), body, body_checksum: 0 };
        let result = self.node_mut(id).raft.as_mut().expect("alive").propose(now, proposal);
        self.turn(id);
        result
    }

    /// Asks for a read index; the token finds the answer.
    pub fn read(&mut self, id: u32) -> u64 {
        self.tokens += 1;
        let token = self.tokens;
        self.checker.asked.insert(token, (id, self.checker.top()));
        self.input(id, Input::Read { token });
        token
    }

    pub fn answer(&self, id: u32, token: u64) -> Option<ReadState> {
        self.node(id).reads.iter().find(|read| read.token == token).copied()
    }

    // --- what follows ---

    /// Takes everything out of a core that follows from its inputs.
    pub fn turn(&mut self, id: u32) {
        let mut ready = std::mem::take(&mut self.ready);
        loop {
            let now = self.clock(id);
            self.node_mut(id).raft.as_mut().expect("alive").ready(now, &mut ready);
            let more = !ready.committed.is_empty();
            self.take(id, &mut ready);
            let (node, all) = (&self.nodes[id as usize], &self.nodes);
            self.checker.node(node, all);
            if !more {
                break;
            }
        }
        self.ready = ready;
    }

    fn take(&mut self, id: u32, ready: &mut Ready) {
        let due = self.now + self.disk_latency;
        let node = &mut self.nodes[id as usize];
        if let Some(stop) = ready.stop.take() {
            assert!(ready.messages.is_empty() && ready.append.is_none(), "nothing leaves a stopped core");
            node.stop = Some(stop.0);
            return;
        }
        if let Some(append) = ready.append.take() {
            node.handed.write(&append, usize::MAX);
            for entry in &append.entries {
                self.checker.entry_handed(entry.header.id, entry.header.chain);
            }
            node.pending.push_back((due, append));
        }
        if let Some(last) = ready.committed.last() {
            let index = last.header.id.index;
            for entry in ready.committed.drain(..) {
                assert_eq!(entry.header.id.index.0, node.applied.len() as u64 + 1, "applied in order, each once");
                assert_eq!(Some(&entry), node.handed.at(entry.header.id.index), "applied is what is in the log");
                node.applied.push(entry);
            }
            node.raft.as_mut().expect("alive").applied(index);
        }
        for read in ready.reads.drain(..) {
            self.checker.read_answered(NodeId(id), &read);
            node.reads.push(read);
        }
        node.wishes.extend(ready.read_log.drain(..));
        if let Some(wanted) = ready.fetch_snapshot.take() {
            assert!(node.fetch.is_none(), "one fetch at a time");
            node.fetches.push((self.now, wanted));
            let source = &self.nodes[wanted.from.0 as usize];
            let file = source.snapshots.iter().find(|snapshot| snapshot.offer() == wanted.offer).cloned();
            let fetch = Fetch { due: self.now + self.transfer, wanted, file };
            self.nodes[id as usize].fetch = Some(fetch);
        }
        let messages = std::mem::take(&mut ready.messages);
        for to in self.ids() {
            let appends =
                |envelope: &&Envelope| envelope.to.0 == to && matches!(envelope.message, Message::AppendEntries(_));
            assert!(messages.iter().filter(appends).count() <= 1, "one AppendEntries per peer");
        }
        for envelope in messages {
            self.post(envelope);
        }
    }

    fn post(&mut self, envelope: Envelope) {
        self.checker.leaves(&envelope, &self.nodes);
        self.sent.push(envelope.clone());
        let link = (envelope.from.0, envelope.to.0);
        if self.node(link.1).puppet {
            self.mail.entry(link.1).or_default().push(envelope);
        } else if self.cut.contains(&pair(link.0, link.1)) || self.lossy.contains(&link) {
        } else if self.held.contains(&link) {
            self.waiting.push(envelope);
        } else {
            self.flight.push((self.now + self.latency, envelope));
        }
    }

    /// Lets a message arrive, if there is someone to receive it.
    pub fn arrive(&mut self, envelope: Envelope) {
        let to = envelope.to.0;
        if self.node(to).alive() && self.node(to).stop.is_none() {
            self.input(to, Input::Message(envelope));
        }
    }

    /// What was held in this direction goes on its way; later messages are not held.
    pub fn release(&mut self, from: u32, to: u32) {
        self.held.remove(&(from, to));
        let now = self.now;
        let released = self.waiting.extract_if(.., |envelope| (envelope.from.0, envelope.to.0) == (from, to));
        let released: Vec<Envelope> = released.collect();
        self.flight.extend(released.into_iter().map(|envelope| (now, envelope)));
    }

    /// Completes the oldest write of a node: what waited for it leaves, and the core is to be told.
    pub fn complete(&mut self, id: u32) -> Option<Input> {
        let node = self.node_mut(id);
        let (_, append) = node.pending.pop_front()?;
        node.durable.write(&append, usize::MAX);
        node.cuts.extend(append.compact.map(|to| to.id.index.0));
        node.durable.compact(&append);
        node.handed.compact(&append);
        let sequence = append.sequence;
        for envelope in append.waiting {
            self.post(envelope);
        }
        Some(Input::Persisted { sequence, queue_us: 0, sync_us: 0 })
    }

    /// Completes the oldest write of a node, and tells its core.
    pub fn persist(&mut self, id: u32) -> bool {
        let Some(input) = self.complete(id) else { return false };
        self.input(id, input);
        true
    }

    /// Completes everything that waits for a node's disk, and holds it no more.
    pub fn release_disk(&mut self, id: u32) {
        self.node_mut(id).disk_held = false;
        while self.persist(id) {}
    }

    /// Answers the oldest wish for old entries.
    pub fn answer_wish(&mut self, id: u32) -> bool {
        let Some(wish) = self.node_mut(id).wishes.pop_front() else { return false };
        let read = self.node(id).durable.read(&wish);
        self.input(id, Input::LogRead(read));
        true
    }

    /// A node takes a snapshot of what it has applied; it is durable at once. False: there is nothing new.
    pub fn snapshot(&mut self, id: u32) -> bool {
        let node = self.node_mut(id);
        let newest = node.snapshots.last().map_or(0, |newest| newest.state.len());
        if node.applied.len() <= newest {
            return false;
        }
        let snapshot = Snapshot::of(&node.applied);
        node.keep(snapshot.clone());
        node.raft.as_mut().expect("alive").snapshot_taken(snapshot.end, snapshot.bytes());
        self.turn(id);
        true
    }

    /// Two snapshots of two states: the log is cut off behind the older one, if nobody needs it.
    pub fn snapshot_twice(&mut self, id: u32) {
        for _ in 0..2 {
            self.propose(id, "between two snapshots").expect("leads");
            self.settle();
            assert!(self.snapshot(id));
        }
        self.settle();
    }

    /// Bytes of the snapshot that a node fetches arrive.
    pub fn serve(&mut self, id: u32) {
        let Some(Fetch { wanted: FetchSnapshot { from, offer }, .. }) = self.node(id).fetch.clone() else { return };
        let now = self.clock(from.0);
        if let Some(raft) = &mut self.node_mut(from.0).raft {
            raft.snapshot_served(now, NodeId(id), offer.last.index);
        }
    }

    /// The fetch of a node ends: well, if whoever has the file is there and has it still.
    pub fn end_fetch(&mut self, id: u32) -> bool {
        let Some(Fetch { wanted, file, .. }) = self.node(id).fetch.clone() else { return false };
        let source = self.node(wanted.from.0);
        let reachable = !self.cut.contains(&pair(id, wanted.from.0)) && (source.alive() || source.puppet);
        match file.filter(|_| reachable) {
            Some(file) => {
                self.serve(id);
                self.deliver_snapshot(id, file);
            }
            None => self.fail_fetch(id),
        }
        true
    }

    pub fn fail_fetch(&mut self, id: u32) {
        let now = self.clock(id);
        let node = self.node_mut(id);
        node.fetch = None;
        node.raft.as_mut().expect("alive").fetch_failed(now);
        self.turn(id);
    }

    /// A verified, durable file is there, wanted or not.
    pub fn deliver_snapshot(&mut self, id: u32, file: Snapshot) -> Installed {
        self.deliver_snapshot_with(id, file, None)
    }

    /// The same, with another input before the core is asked what follows.
    pub fn deliver_snapshot_with(&mut self, id: u32, file: Snapshot, input: Option<Input>) -> Installed {
        let now = self.clock(id);
        let node = self.node_mut(id);
        node.fetch = None;
        node.keep(file.clone());
        let raft = node.raft.as_mut().expect("alive");
        let installed = raft.install(file.end, file.bytes());
        input.into_iter().for_each(|input| raft.step(now, input));
        self.installed.push(installed);
        match installed {
            Installed::Ignored => {}
            Installed::KeptTail => self.take_state(id, &file),
            Installed::Restarted => {
                self.take_state(id, &file);
                let handed = &mut self.node_mut(id).handed;
                (handed.base, handed.entries) = (file.end, Vec::new());
            }
        }
        self.turn(id);
        installed
    }

    fn take_state(&mut self, id: u32, file: &Snapshot) {
        let node = self.node_mut(id);
        assert!(file.state.len() > node.applied.len(), "a snapshot takes nothing back");
        node.applied = file.state.to_vec();
        node.restored = node.applied.len();
    }

    /// One thing that is due: a message, else a write, else a read of the log.
    fn one_due(&mut self) -> bool {
        let now = self.now;
        if let Some(position) = self.flight.iter().position(|(due, _)| *due <= now) {
            let (_, envelope) = self.flight.remove(position);
            self.arrive(envelope);
            return true;
        }
        for id in self.ids() {
            let node = self.node(id);
            if !node.alive() || node.stop.is_some() {
                continue;
            }
            let write = !node.disk_held && node.pending.front().is_some_and(|(due, _)| *due <= now);
            let wish = !node.wishes_held && !node.wishes.is_empty();
            let fetch = !node.fetch_held && node.fetch.as_ref().is_some_and(|fetch| fetch.due <= now);
            if write && self.persist(id) || wish && self.answer_wish(id) || fetch && self.end_fetch(id) {
                return true;
            }
        }
        false
    }

    /// Everything that is due now happens. No time passes, no timer runs.
    pub fn settle(&mut self) {
        let mut steps = 0;
        while self.one_due() {
            steps += 1;
            assert!(steps < 200_000, "the nodes talk without end: {:?}", self.sent.last());
        }
    }

    /// Time passes: messages, disks, and timers when they are due. At each moment, timers come last (C-15).
    pub fn run(&mut self, span: Span) {
        let end = self.now + span;
        let mut still = 0;
        loop {
            self.settle();
            let next = self.next_event();
            if next > end {
                self.now = end;
                return;
            }
            still = if next > self.now { 0 } else { still + 1 };
            assert!(still < 1000, "a timer that is due again and again");
            self.now = self.now.max(next);
            self.settle();
            for id in self.ids() {
                let due = self.node(id).alive() && self.raft(id).next_deadline() <= self.clock(id);
                if due && self.node(id).stop.is_none() {
                    self.input(id, Input::Tick);
                }
            }
        }
    }

    fn next_event(&self) -> Time {
        let arrivals = self.flight.iter().map(|(due, _)| *due);
        let running = self.nodes.iter().filter(|node| node.alive() && node.stop.is_none());
        let timers = running.clone().map(|node| {
            let deadline = node.raft.as_ref().expect("alive").next_deadline();
            if deadline == Time::NEVER {
                return deadline;
            }
            self.now + deadline.since(self.now + node.ahead)
        });
        let disks = running.filter(|node| !node.disk_held).filter_map(|node| node.pending.front().map(|(due, _)| *due));
        let fetching = self.nodes.iter().filter(|node| node.alive() && node.stop.is_none() && !node.fetch_held);
        let fetches = fetching.filter_map(|node| node.fetch.as_ref().map(|fetch| fetch.due));
        arrivals.chain(timers).chain(disks).chain(fetches).min().unwrap_or(Time::NEVER)
    }

    /// Runs until the condition holds; tells how long that took. Panics after `limit`.
    pub fn run_until(&mut self, limit: Span, what: &str, condition: impl Fn(&Net) -> bool) -> Span {
        let start = self.now;
        while !condition(self) {
            assert!(self.now.since(start) < limit, "no {what} within {} ms", limit.as_millis());
            self.run(Span::millis(1));
        }
        self.now.since(start)
    }

    // --- links and lives ---

    /// The connection is lost, and what was under way on it; both ends notice.
    pub fn cut(&mut self, a: u32, b: u32) {
        if !self.cut.insert(pair(a, b)) {
            return;
        }
        self.flight.retain(|(_, envelope)| pair(envelope.from.0, envelope.to.0) != pair(a, b));
        self.waiting.retain(|envelope| pair(envelope.from.0, envelope.to.0) != pair(a, b));
        for (node, peer) in [(a, b), (b, a)] {
            if self.node(node).alive() {
                self.input(node, Input::Disconnected(NodeId(peer)));
            }
        }
    }

    /// The connection is there again.
    pub fn heal(&mut self, a: u32, b: u32) {
        if !self.cut.remove(&pair(a, b)) || !self.node(a).alive() || !self.node(b).alive() {
            return;
        }
        self.input(a, Input::Connected(NodeId(b)));
        self.input(b, Input::Connected(NodeId(a)));
    }

    /// Cuts a node off from everyone.
    pub fn isolate(&mut self, id: u32) {
        for other in self.ids().filter(|other| *other != id) {
            self.cut(id, other);
        }
    }

    pub fn rejoin(&mut self, id: u32) {
        for other in self.ids().filter(|other| *other != id) {
            self.heal(id, other);
        }
    }

    /// Messages to and from the node vanish, and nobody is told.
    pub fn silence(&mut self, id: u32) {
        for other in self.ids().filter(|other| *other != id) {
            self.lossy.extend([(id, other), (other, id)]);
        }
    }

    pub fn unsilence(&mut self, id: u32) {
        self.lossy.retain(|(from, to)| *from != id && *to != id);
    }

    /// kill -9: what was not durable is lost, and peers see the connection close.
    pub fn crash(&mut self, id: u32) {
        self.crash_with(id, 0, None);
    }

    /// Of what was on the way to the disk, the first appends survive, and the first entries of the next one.
    pub fn crash_with(&mut self, id: u32, appends: usize, entries: Option<usize>) {
        // Whoever asked the crashed node gets no answer.
        self.checker.asked.retain(|_, (asked, _)| *asked != id);
        self.node_mut(id).crash(appends, entries);
        self.flight.retain(|(_, envelope)| envelope.to.0 != id && envelope.from.0 != id);
        self.waiting.retain(|envelope| envelope.to.0 != id && envelope.from.0 != id);
        for other in self.ids().filter(|other| *other != id) {
            if self.node(other).alive() && !self.cut.contains(&pair(id, other)) {
                self.input(other, Input::Disconnected(NodeId(id)));
            }
        }
    }

    pub fn restart(&mut self, id: u32) {
        self.start(id);
        self.turn(id);
        self.link_up(id);
    }

    /// Starts a node without links.
    pub fn start(&mut self, id: u32) {
        let now = self.now;
        self.node_mut(id).start(now);
    }

    pub fn link_up(&mut self, id: u32) {
        for other in self.ids().filter(|other| *other != id) {
            if self.node(other).alive() && !self.cut.contains(&pair(id, other)) {
                self.input(id, Input::Connected(NodeId(other)));
                self.input(other, Input::Connected(NodeId(id)));
            }
        }
    }

    // --- elections by hand ---

    /// This node's clock jumps to its next deadline, and the timer runs.
    pub fn time_out(&mut self, id: u32) {
        let wait = self.raft(id).next_deadline().since(self.clock(id));
        self.node_mut(id).ahead = self.node(id).ahead + wait;
        self.input(id, Input::Tick);
    }

    /// The clocks of followers run ahead by an election timeout, so that none insists on a leader; then `id` times out. It
    /// leads if a majority may elect it.
    pub fn campaign(&mut self, id: u32) {
        for other in self.ids().filter(|other| *other != id) {
            if self.node(other).alive() && !self.raft(other).is_leader() {
                self.node_mut(other).ahead = self.node(other).ahead + ET;
            }
        }
        self.time_out(id);
        self.settle();
    }

    /// [`Net::campaign`], which must succeed.
    pub fn elect(&mut self, id: u32) {
        self.campaign(id);
        assert!(self.raft(id).is_leader(), "node {id} was to lead");
    }

    /// All living nodes have the same log, and all of it is committed and applied.
    pub fn assert_converged(&self) {
        let living: Vec<u32> = self.ids().filter(|id| self.node(*id).alive()).collect();
        let first = self.node(living[0]);
        for id in &living {
            let (own, theirs) = (&self.node(*id).handed, &first.handed);
            assert_eq!((own.last(), own.chain()), (theirs.last(), theirs.chain()), "node {id} has another log");
            let common = own.entries.iter().rev().zip(theirs.entries.iter().rev());
            assert!(common.clone().all(|(own, theirs)| own == theirs), "node {id} has another log");
            assert_eq!(self.commit(*id), theirs.last().index.0, "node {id} has not committed all");
            assert_eq!(self.node(*id).applied, first.applied, "node {id} has another state");
            assert_eq!(self.node(*id).applied.len() as u64, self.commit(*id), "node {id} has not applied all");
        }
    }

    pub fn last_index(&self, id: u32) -> Index {
        self.raft(id).last().index
    }
}
