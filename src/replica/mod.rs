//! The replica: consensus, state machine and the answers that wait, in one pure machine.
//!
//! It has no clock, thread, socket or file. `step` takes what happened, `effects` says what follows; between the two, one
//! batch of inputs becomes one append, at most one AppendEntries per peer and one batch of answers per io loop. The
//! simulator drives this very struct.
//!
//! ```text
//!  io loops --Request--> +---------------------------------------------+ --Completion--> io loops
//!  peers ---Envelope---> |  formation: until the Format is durable     | --Envelope----> peers
//!  wal ----Persisted---> |  raft + kv::Store + pending, parked, reads, | --Append------> wal
//!  bulk -----LogRead---> |  views                                      | --ReadLog-----> bulk worker
//!                        +---------------------------------------------+ published: any thread
//! ```
//!
//! Credits and the bound of uncommitted bytes (C-26): a write that raft has no room for is *parked*, in order, outside the
//! log, with its credit out and its deadline running; [`Published::paused`] tells the io loops to stop reading clients at
//! once, and without that they would stop when their credits are all out. Parked writes are proposed as soon as something
//! commits, answered "not executed" at their deadline or when this node is no longer leader.
#![forbid(unsafe_code)]

mod apply;
mod effects;
mod formation;
mod parked;
mod pending;
mod published;
mod reads;
mod reclaim;
mod requests;
mod snapshots;
mod views;

use std::sync::Arc;

use protocol::format::{Format, Hello};
use protocol::message::{Envelope, Message};
use protocol::{Chain, ClusterId, Entry, Incarnation, LogTime, NodeId};

pub use effects::{
    Completion, ConnectionId, Effects, FetchSnapshot, Input, NotTaken, Recovered, ReplyTo, Request, Settings,
    SnapshotFile, Stop, TakeSnapshot, WriteResult,
};
pub use formation::Refusal;
pub use published::{Published, StateSize};

use crate::kv::Store;
use crate::raft::{self, Raft};
use crate::time::Time;
use formation::{Formation, Sender};
use parked::ParkedWrites;
use pending::{End, Pending};
pub(crate) use published::Numbers;
use reads::Reads;
use reclaim::Reclaim;
use snapshots::Snapshots;
use views::Views;

/// The number of the append that stores the Format; raft's own begin above it.
const FORMAT_SEQUENCE: raft::AppendSequence = raft::AppendSequence(0);
/// Exit code for files that belong to somebody else.
const EXIT_REFUSED: i32 = 78;
/// Exit code for an impossible state.
const EXIT_IMPOSSIBLE: i32 = 70;

/// One node's consensus, state machine and waiting answers. See the module's head.
pub struct Replica {
    settings: Settings,
    formation: Formation,
    phase: Phase,
    store: Store,
    pending: Pending,
    parked: ParkedWrites,
    reads: Reads,
    views: Views,
    snapshots: Snapshots,
    reclaim: Reclaim,
    /// As of the last [`Replica::effects`].
    leader: Option<NodeId>,
    wall_clock: LogTime,
    published: Arc<Published>,
    /// Names or notes have changed since they were published.
    names_changed: bool,
    /// What `step` already knows; `effects` hands it on.
    outbox: Effects,
    /// Reused from batch to batch.
    ready: raft::Ready,
    scratch: Scratch,
}

enum Phase {
    /// No durable Format: there is no Raft, nothing is served.
    Forming,
    /// A member of a cluster.
    Member(Box<Raft>),
}

/// Vectors that keep their capacity.
#[derive(Debug, Default)]
struct Scratch {
    tokens: Vec<u64>,
    ends: Vec<End>,
    expired: Vec<ReplyTo>,
    refused: Vec<reads::Refused>,
    granted: Vec<(reads::Reader, protocol::Index)>,
    /// Credits to return, by io loop.
    credits: Vec<u32>,
}

impl Replica {
    /// A replica as it was left on the disk. Call [`Replica::effects`] before the first input: it may have something to say.
    pub fn new(now: Time, settings: Settings, recovered: Recovered, store: Store) -> Self {
        assert_ne!(settings.incarnation, Incarnation(0), "the incarnation is durable before there is a replica (C-17)");
        let formation = Formation::new(&settings, recovered.format.clone());
        let mut replica = Self {
            formation,
            phase: Phase::Forming,
            store,
            pending: Pending::new(),
            parked: ParkedWrites::default(),
            reads: Reads::default(),
            views: Views::default(),
            snapshots: Snapshots::default(),
            reclaim: Reclaim::default(),
            leader: None,
            wall_clock: LogTime(0),
            published: Arc::new(Published::new(now)),
            names_changed: true,
            outbox: Effects::default(),
            ready: raft::Ready::default(),
            scratch: Scratch::default(),
            settings,
        };
        if let Some(format) = recovered.format {
            replica.outbox.warnings = replica.formation.flag_warnings();
            replica.join(now, &format, recovered.log, recovered.snapshot);
        }
        replica
    }

    /// Whether a peer with this HELLO may connect (C-17). For both directions: also the answer to our own HELLO is checked.
    pub fn admit(&self, hello: &Hello) -> Result<(), Refusal> {
        self.formation.admit(hello)
    }

    /// What this node says first on a peer connection.
    pub fn hello(&self) -> Hello {
        self.formation.hello()
    }

    /// The wall clock, once per batch. Only a cluster's first entry and the drift of log time look at it (C-25).
    pub fn set_wall_clock(&mut self, wall_clock: LogTime) {
        self.wall_clock = wall_clock;
        if let Phase::Member(raft) = &mut self.phase {
            raft.set_wall_clock(wall_clock);
        }
    }

    /// Something happened. Call [`Replica::effects`] after a batch of these.
    pub fn step(&mut self, now: Time, input: Input) {
        match input {
            Input::Tick => self.tick(now),
            Input::Peer(envelope) => self.peer(now, envelope),
            Input::Connected(hello) => self.connected(now, &hello),
            Input::Disconnected(node) => self.disconnected(now, node),
            Input::Refused { node, text } => self.refused(node, text),
            Input::Request(request) => self.request(now, request),
            Input::Persisted { sequence, queue_us, sync_us } => match &mut self.phase {
                Phase::Member(raft) => raft.step(now, raft::Input::Persisted { sequence, queue_us, sync_us }),
                Phase::Forming => self.formatted(now),
            },
            Input::LogRead(read) => {
                if let Phase::Member(raft) = &mut self.phase {
                    raft.step(now, raft::Input::LogRead(read));
                }
            }
            Input::SnapshotTaken(result) => self.snapshot_taken(now, result),
            Input::SnapshotFetched(result) => self.snapshot_fetched(now, result),
            Input::SnapshotDamaged { last, why } => self.snapshot_damaged(last, &why),
            Input::SnapshotServed { to, last } => {
                if let Phase::Member(raft) = &mut self.phase {
                    raft.snapshot_served(now, to, last);
                }
            }
        }
    }

    /// Everything that follows from the inputs so far. Clears `effects` first. While `more` is set, call again.
    pub fn effects(&mut self, now: Time, effects: &mut Effects) {
        effects.clear();
        std::mem::swap(effects, &mut self.outbox);
        if matches!(self.phase, Phase::Forming) {
            self.try_to_form(now, effects);
        } else {
            self.ask_reads(now);
            self.take_ready(now, effects);
            self.take_snapshot_if_due(now, effects);
            self.settle_leadership(now, effects);
            self.answer_reads(now, effects);
        }
        self.reclaim.look(now, &mut self.store);
        self.formation.give(now, &mut effects.messages);
        self.return_credits(effects);
        self.publish(now);
        effects.more |= self.names_changed;
    }

    /// Takes the vector of an append or of a message back once its entries are written or sent
    /// ([`Raft::give_back`](crate::raft::Raft::give_back)).
    pub fn give_back(&mut self, entries: Vec<Entry>) {
        if let Phase::Member(raft) = &mut self.phase {
            raft.give_back(entries);
        }
    }

    /// An empty vector for the entries of a message that is read, if one came back.
    pub fn spare(&mut self) -> Vec<Entry> {
        match &mut self.phase {
            Phase::Member(raft) => raft.spare(),
            Phase::Forming => Vec::new(),
        }
    }

    /// When to hand in [`Input::Tick`] at the latest.
    pub fn next_deadline(&self) -> Time {
        let raft = match &self.phase {
            Phase::Member(raft) => raft.next_deadline(),
            Phase::Forming => Time::NEVER,
        };
        let others = [
            self.formation.next_deadline(),
            self.pending.next_deadline(),
            self.parked.next_deadline(),
            self.reads.next_deadline(),
            self.views.next_deadline(),
            self.snapshots.next_deadline(),
            self.reclaim.next_deadline(),
        ];
        others.into_iter().fold(raft, Time::min)
    }

    /// What any thread may read.
    pub fn published(&self) -> Arc<Published> {
        self.published.clone()
    }

    /// The consensus underneath; none while the cluster is forming. For tests and the simulator's oracle.
    pub fn raft(&self) -> Option<&Raft> {
        match &self.phase {
            Phase::Member(raft) => Some(raft),
            Phase::Forming => None,
        }
    }

    /// The state machine. For tests and for what must know its readers.
    pub fn store(&self) -> &Store {
        &self.store
    }

    fn peer(&mut self, now: Time, envelope: Envelope) {
        if let Message::Format(format) = &envelope.message {
            if self.formation.format().is_none() {
                return self.offered(now, &envelope, format);
            }
        }
        let sender = self.formation.sender(&envelope);
        let Phase::Member(raft) = &mut self.phase else { return };
        match sender {
            Sender::Stranger => return self.published.count_refused_message(),
            Sender::NewMember => raft.step(now, raft::Input::Connected(envelope.from)),
            Sender::Member => {}
        }
        if !matches!(envelope.message, Message::Format(_)) {
            raft.step(now, raft::Input::Message(envelope));
        }
    }

    fn connected(&mut self, now: Time, hello: &Hello) {
        let node = hello.node;
        self.disconnected(now, node);
        if let Err(refusal) = self.formation.admit(hello) {
            // It was admitted, and then the Format came in between.
            self.outbox.disconnect.push(node);
            return self.refused(node, refusal.to_string());
        }
        self.formation.connected(now, hello);
        self.names_changed = true;
        if let (Phase::Member(raft), true) = (&mut self.phase, self.formation.has_member(node)) {
            raft.step(now, raft::Input::Connected(node));
        }
    }

    fn disconnected(&mut self, now: Time, node: NodeId) {
        let was_member = self.formation.has_member(node);
        if !self.formation.disconnected(node) {
            return;
        }
        self.names_changed = true;
        if let (Phase::Member(raft), true) = (&mut self.phase, was_member) {
            raft.step(now, raft::Input::Disconnected(node));
        }
    }

    fn refused(&mut self, node: NodeId, text: String) {
        if self.formation.refused(node, text.clone()) {
            self.names_changed = true;
            self.outbox.warnings.push(text);
        }
    }

    /// Another node's Format has arrived and this node has none.
    fn offered(&mut self, now: Time, envelope: &Envelope, format: &Format) {
        match self.formation.offered(envelope, format) {
            Ok(format) => self.store_format(now, format),
            Err(why) => {
                self.published.count_refused_message();
                self.outbox.warnings.push(format!("ignored the Format of node {}: {why}", envelope.from));
            }
        }
    }

    fn try_to_form(&mut self, now: Time, effects: &mut Effects) {
        if let Some(format) = self.formation.create() {
            self.store_format(now, format);
            std::mem::swap(&mut effects.append, &mut self.outbox.append);
            effects.disconnect.append(&mut self.outbox.disconnect);
            effects.warnings.append(&mut self.outbox.warnings);
        }
    }

    /// The Format is decided: it goes to the disk, and what depends on it waits there (C-10, C-17).
    fn store_format(&mut self, now: Time, format: Format) {
        for stranger in self.formation.strangers() {
            self.outbox.disconnect.push(stranger.node());
            self.refused(stranger.node(), stranger.to_string());
        }
        self.outbox.append = Some(raft::Append {
            format: Some(format),
            waiting: self.formation.announcement(now),
            ..raft::Append::empty(FORMAT_SEQUENCE)
        });
        self.names_changed = true;
    }

    /// The Format is durable: this node is a member now.
    fn formatted(&mut self, now: Time) {
        let format = self.formation.stored().clone();
        let origin = Chain::origin(format.cluster);
        self.join(now, &format, raft::Recovered::empty(origin), None);
        let ids: Vec<NodeId> = self.formation.connected_ids().collect();
        for id in ids.into_iter().filter(|id| self.formation.has_member(*id)) {
            if let Phase::Member(raft) = &mut self.phase {
                raft.step(now, raft::Input::Connected(id));
            }
        }
    }

    fn join(&mut self, now: Time, format: &Format, log: raft::Recovered, newest: Option<SnapshotFile>) {
        if !formation::names(format, self.settings.id, self.settings.incarnation) {
            let Settings { id, incarnation, .. } = self.settings;
            let text = format!(
                "the data directory belongs to a cluster that does not know node {id} with disk {:016x}",
                incarnation.0
            );
            self.outbox.stop = Some(Stop { exit_code: EXIT_REFUSED, text });
            return;
        }
        assert_eq!(log.applied.id.index, self.store.applied(), "the state machine is where the snapshot ends");
        let applied = log.applied;
        let mut raft = Raft::new(now, self.settings.raft(format), log);
        raft.set_wall_clock(self.wall_clock);
        if let Some(file) = newest {
            raft.snapshot_taken(applied, file.bytes);
        }
        self.snapshots = Snapshots::new(applied, newest);
        self.phase = Phase::Member(Box::new(raft));
        self.names_changed = true;
    }

    fn publish(&mut self, now: Time) {
        if let Phase::Member(raft) = &self.phase {
            let numbers = Numbers {
                role: raft.status_role(),
                term: raft.term(),
                leader: raft.leader(),
                leader_commit: raft.leader_commit(),
                needs_snapshot: raft.needs_snapshot(),
                commit: raft.commit_index(),
                applied: self.store.applied(),
                durable: raft.durable_index(),
                keys: self.store.keys(),
                sessions: self.store.sessions().counts(),
                state: self.snapshots.size(self.store.bytes()),
                paused: !self.parked.is_empty() || self.snapshot_holds_writes_back(),
            };
            self.published.set_numbers(now, &numbers);
        }
        if self.names_changed {
            let cluster = if matches!(self.phase, Phase::Member(_)) { self.formation.cluster() } else { ClusterId(0) };
            let connected = self.formation.connected_ids().chain([self.settings.id]).collect();
            let members = self.formation.members().to_vec();
            self.names_changed = !self.published.set_names(cluster, members, connected, self.formation.notes());
        }
    }
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica")
            .field("id", &self.settings.id)
            .field("formation", &self.formation)
            .field("pending", &self.pending)
            .field("parked", &self.parked)
            .field("reads", &self.reads)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
