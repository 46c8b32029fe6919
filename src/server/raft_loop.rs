//! The raft thread: an event loop that owns the peers' sockets and the replica. It never touches a file and never blocks.
//! In each iteration all input of sockets and mailboxes is handed in before timers (C-15); then one place hands on what
//! follows from it.

mod proposals;
mod snapshots;

use std::sync::Arc;
use std::time::Duration;

use log::{error, info, warn};
use mio::{Events, Poll, Token};
use protocol::message::Message;
use protocol::reply::Role;
use protocol::{Index, LogTime, NodeId, Term};

use super::bulk_worker::{Done, Job};
use super::gauges::{Gauges, PeerLevel};
use super::names::{Found, LookUp, Purpose};
use super::peers::Peers;
use super::receipt::{Explained, Given, Trace, What};
use super::stop::StopSwitch;
use super::system;
use super::wal_loop::{Persisted, Queued};
use crate::limits;
use crate::logging;
use crate::mailbox::{Batch, Parking, Receiver, Sender};
use crate::metrics::{Counter, Measure, Recorder};
use crate::raft::Raft;
use crate::replica::{Completion, Effects, FetchSnapshot, Input, Published, Replica, ReplyTo, Request, Stop};
use crate::time::Time;
pub(super) use proposals::Proposals;

/// Readiness of the thread's waker.
pub(super) const WAKER: Token = Token(1);

/// A batch of requests from an io thread.
#[derive(Default)]
pub(super) struct Requests {
    /// The turn in which the first of them was decoded.
    at: Option<Time>,
    requests: Vec<Request>,
    /// One of them that wants a receipt.
    explained: Option<Explained>,
}

/// A batch of answers to an io thread.
#[derive(Default)]
pub(super) struct Completions {
    pub(super) completions: Vec<Completion>,
    /// The receipt of one of them.
    pub(super) given: Option<Given>,
}

/// The way to and from one io thread.
pub(super) struct IoLink {
    pub(super) requests: Receiver<Requests>,
    pub(super) completions: Sender<Completions>,
}

/// What the thread is made of.
pub(super) struct RaftLoop {
    pub(super) replica: Replica,
    pub(super) peers: Peers,
    pub(super) poll: Poll,
    pub(super) parking: Arc<Parking>,
    /// By number of the io loop.
    pub(super) io: Vec<IoLink>,
    pub(super) appends: Sender<Vec<Queued>>,
    pub(super) persisted: Receiver<Vec<Persisted>>,
    pub(super) jobs: Sender<Vec<Job>>,
    pub(super) done: Receiver<Vec<Done>>,
    pub(super) names: Sender<Vec<LookUp>>,
    pub(super) found: Receiver<Vec<Found>>,
    /// A snapshot whose sender's name is being looked up.
    pub(super) fetch: Option<FetchSnapshot>,
    /// The last snapshot that was to be fetched was not.
    pub(super) has_fetch_failed: bool,
    pub(super) stop: StopSwitch,
    pub(super) recorder: Recorder,
    pub(super) gauges: Arc<Gauges>,
    pub(super) proposals: Proposals,
}

impl Requests {
    /// The next one wants a receipt; one of a batch gets it.
    pub(super) fn explain(&mut self, reply_to: ReplyTo, what: What, woken: Time) {
        let (position, decoded) = (self.requests.len(), system::now());
        self.explained.get_or_insert(Explained { reply_to, what, position, woken, decoded });
    }

    /// One more.
    pub(super) fn push(&mut self, request: Request) {
        self.requests.push(request);
    }

    /// It is about to be sent, for the first time or again.
    pub(super) fn note_turn(&mut self, now: Time) {
        self.at.get_or_insert(now);
    }
}

impl Batch for Requests {
    fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    fn clear(&mut self) {
        self.requests.clear();
        (self.at, self.explained) = (None, None);
    }
}

impl Batch for Completions {
    fn is_empty(&self) -> bool {
        self.completions.is_empty()
    }

    fn clear(&mut self) {
        self.completions.clear();
        self.given = None;
    }
}

impl RaftLoop {
    /// Until it is asked to stop.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(256);
        let mut effects = Effects::default();
        let mut seen = Seen::new(&self.replica.published());
        let mut busy = true; // a fresh replica may have something to say
        while !self.stop.is_asked() {
            self.sleep(&mut events, busy);
            let now = system::now();
            self.gauges.set_raft_turned(now);
            self.replica.set_wall_clock(LogTime(system::wall_clock_ms()));
            events.iter().filter(|event| event.token() != WAKER).for_each(|event| self.peers.ready(event));
            self.peers.read(now, &mut self.replica);
            self.hand_over_fetchers();
            self.take_persisted(now);
            self.take_requests(now);
            self.take_done(now);
            self.take_found(now);
            self.peers.timers(now, &mut self.replica, self.names.batch());
            self.replica.step(now, Input::Tick);
            let derives = system::now();
            busy = self.hand_on(now, derives, &mut effects, &mut seen);
            self.release_explained();
            seen.look(derives, &mut self.recorder);
            self.peers.flush(now, &mut self.replica);
            self.flush_links();
            self.publish_peers();
        }
        // The process is about to end: taking the state machine apart key by key would only hold it up.
        std::mem::forget(self);
    }

    /// Waits for readiness, a wake or a deadline; not at all if something is there already.
    fn sleep(&mut self, events: &mut Events, busy: bool) {
        let timeout = if busy || self.peers.wants_turn() || !self.may_sleep() {
            Duration::ZERO
        } else {
            let deadline = self.replica.next_deadline().min(self.peers.next_deadline()).min(self.proposals.deadline());
            Duration::from(deadline.since(system::now())).min(Duration::from_millis(limits::RAFT_SLEEP_MS_MAX))
        };
        if let Err(error) = self.poll.poll(events, Some(timeout)) {
            if error.kind() != std::io::ErrorKind::Interrupted {
                panic!("the raft thread cannot poll: {error}");
            }
            events.clear();
        }
        self.parking.awake();
    }

    fn may_sleep(&self) -> bool {
        self.parking.may_sleep(|| {
            self.io.iter().all(|io| io.requests.is_empty() && !io.completions.can_flush())
                && self.persisted.is_empty()
                && self.done.is_empty()
                && self.found.is_empty()
                && !self.appends.can_flush()
                && !self.jobs.can_flush()
                && !self.names.can_flush()
                && !self.stop.is_asked()
        })
    }

    /// Reads are asked for at once, writes when it is their turn.
    fn take_requests(&mut self, now: Time) {
        let Self { io, proposals, replica, peers, recorder, .. } = self;
        let last = leads(replica).map(|raft| raft.last().index);
        proposals.note_commit(leads(replica).map(Raft::commit_index));
        let mut begun = None;
        if !proposals.wait(now) {
            propose_waiting(now, proposals, replica, recorder, &mut begun);
        }
        for io in io {
            while let Some(mut batch) = io.requests.take() {
                recorder.measure(Measure::BatchRequests, batch.requests.len() as u64);
                let came = batch.at.unwrap_or(now);
                if let Some(explained) = batch.explained.take() {
                    // Its receipt tells how long it took, so it does not wait, and neither do those before it.
                    propose_waiting(now, proposals, replica, recorder, &mut begun);
                    begun.get_or_insert_with(system::now);
                    begin_to_follow(now, explained, &mut batch.requests, replica, &mut peers.trace);
                }
                let waits = proposals.wait(now);
                if !waits {
                    propose_waiting(now, proposals, replica, recorder, &mut begun);
                }
                let writes = |request: &Request| matches!(request, Request::Propose { .. });
                if !waits || !batch.requests.iter().all(writes) {
                    let begun = *begun.get_or_insert_with(system::now);
                    recorder.measure(Measure::BatchQueueUs, begun.since(came).as_micros());
                }
                for request in batch.requests.drain(..) {
                    if waits && writes(&request) {
                        proposals.push(request, came);
                    } else {
                        replica.step(now, Input::Request(request));
                    }
                }
            }
        }
        if !proposals.wait(now) {
            propose_waiting(now, proposals, replica, recorder, &mut begun); // they have become many
        }
        let after = leads(replica).map(|raft| raft.last().index);
        if let Some(after) = after.filter(|_| after != last) {
            proposals.note_proposed(now, after);
        }
        if let Some(begun) = begun {
            recorder.measure(Measure::ProposeUs, system::now().since(begun).as_micros());
        }
    }

    fn take_persisted(&mut self, now: Time) {
        while let Some(mut batch) = self.persisted.take() {
            for Persisted { sequence, waiting, entries, queue_us, sync_us } in batch.drain(..) {
                waiting.iter().for_each(|envelope| self.peers.send(envelope));
                self.peers.trace.persisted(sequence, queue_us, sync_us);
                self.replica.give_back(entries);
                self.replica.step(now, Input::Persisted { sequence, queue_us, sync_us });
            }
        }
    }

    fn take_done(&mut self, now: Time) {
        while let Some(mut batch) = self.done.take() {
            for done in batch.drain(..) {
                match done {
                    Done::LogRead(read) => self.replica.step(now, Input::LogRead(read)),
                    Done::Taken(result) => self.replica.step(now, Input::SnapshotTaken(result)),
                    Done::Fetched(result) => {
                        self.has_fetch_failed = result.is_err();
                        self.replica.step(now, Input::SnapshotFetched(result));
                    }
                    Done::Damaged(last, why) => self.replica.step(now, Input::SnapshotDamaged { last, why }),
                    Done::Served(to, last) => self.replica.step(now, Input::SnapshotServed { to, last }),
                }
            }
        }
    }

    fn take_found(&mut self, now: Time) {
        let mut all = Vec::new(); // allocates only when there is something
        while let Some(mut batch) = self.found.take() {
            all.append(&mut batch);
        }
        for Found { purpose, address } in all {
            match purpose {
                Purpose::Peer(node) => self.peers.resolved(now, node, address),
                Purpose::Snapshot(node) => self.resolved(now, node, address),
            }
        }
    }

    /// Hands on everything that follows from the inputs. True: there is more, for the next iteration.
    /// `derives`: when this began.
    fn hand_on(&mut self, now: Time, derives: Time, effects: &mut Effects, seen: &mut Seen) -> bool {
        for _ in 0..limits::EFFECT_ROUNDS_MAX {
            self.replica.effects(now, effects);
            if let Some(stop) = effects.stop.take() {
                end(&stop);
            }
            effects.warnings.drain(..).for_each(|warning| warn!("{warning}"));
            seen.look_at_append(effects);
            self.append(effects);
            for envelope in effects.messages.drain(..) {
                self.peers.send(&envelope);
                if let Message::AppendEntries(append) = envelope.message {
                    self.replica.give_back(append.entries);
                }
            }
            for (io_loop, completion) in effects.completions.drain(..) {
                if !self.peers.trace.keep(io_loop, completion, derives) {
                    self.io[usize::from(io_loop)].completions.batch().completions.push(completion);
                }
            }
            self.jobs.batch().extend(effects.read_log.drain(..).map(Job::ReadLog));
            self.hand_on_snapshots(effects);
            for node in effects.disconnect.drain(..) {
                self.peers.disconnect(now, node, &mut self.replica);
            }
            if !effects.more {
                return false;
            }
        }
        true
    }

    /// The append goes to the wal before anything else is done, so that its sync runs beside the rest.
    fn append(&mut self, effects: &mut Effects) {
        let Some(append) = effects.append.take() else { return };
        self.peers.trace.handed(&append);
        self.appends.batch().push(Queued { append, at: system::now() });
        self.appends.flush();
    }

    /// The answer that was kept for its receipt.
    fn release_explained(&mut self) {
        let Some((reply_to, completion, given)) = self.peers.release_explained(system::now()) else { return };
        let batch = self.io[usize::from(reply_to.io_loop)].completions.batch();
        batch.completions.push(completion);
        batch.given = given;
    }

    fn publish_peers(&self) {
        let matched = |node| {
            let raft = self.replica.raft()?;
            raft.followers().find(|(follower, _)| *follower == node).map(|(_, matched)| matched)
        };
        let queued = self.peers.queued();
        self.gauges.set_peers(queued.map(|(node, queued)| PeerLevel { node, queued, matched: matched(node) }));
    }

    /// A link that is busy keeps filling; its consumer wakes this thread when a batch comes back.
    fn flush_links(&mut self) {
        self.appends.flush();
        self.jobs.flush();
        self.names.flush();
        for io in &mut self.io {
            io.completions.flush();
        }
    }
}

/// Raft, if this node leads.
fn leads(replica: &Replica) -> Option<&Raft> {
    replica.raft().filter(|raft| raft.is_leader())
}

/// Steps all writes that have waited for others.
fn propose_waiting(
    now: Time,
    proposals: &mut Proposals,
    replica: &mut Replica,
    recorder: &mut Recorder,
    begun: &mut Option<Time>,
) {
    let Some(since) = proposals.since() else { return };
    let begun = *begun.get_or_insert_with(system::now);
    recorder.measure(Measure::BatchQueueUs, begun.since(since).as_micros());
    for request in proposals.take() {
        replica.step(now, Input::Request(request));
    }
}

/// Steps the requests of a batch up to one that wants a receipt, and looks where that stands in the log.
fn begin_to_follow(
    now: Time,
    explained: Explained,
    requests: &mut Vec<Request>,
    replica: &mut Replica,
    trace: &mut Trace,
) {
    let follows = trace.begin(explained, system::now());
    for request in requests.drain(..explained.position) {
        replica.step(now, Input::Request(request));
    }
    let last = |replica: &Replica| replica.raft().map(|raft| raft.last());
    let before = last(replica);
    for request in requests.drain(..1) {
        replica.step(now, Input::Request(request));
    }
    if follows && explained.what == What::Write {
        trace.proposed(last(replica).filter(|after| Some(*after) != before));
    }
}

/// An impossible state: say it and end the process.
fn end(stop: &Stop) -> ! {
    error!("stopping: {}", stop.text);
    logging::say(format_args!("{}", stop.text));
    logging::end_process(stop.exit_code)
}

/// What was last seen of the replica, to say and count what changes.
struct Seen {
    published: Arc<Published>,
    term: Term,
    role: Role,
    leader: Option<NodeId>,
    commit: Index,
    is_paused: bool,
    /// The append whose way to a majority is watched: its last entry, and when it was handed to the log.
    watched: Option<(Index, Time)>,
}

impl Seen {
    fn new(published: &Arc<Published>) -> Seen {
        Seen {
            published: Arc::clone(published),
            term: published.term(),
            role: published.role(),
            leader: None,
            commit: published.commit(),
            is_paused: false,
            watched: None,
        }
    }

    /// Watches one append of a leader at a time.
    fn look_at_append(&mut self, effects: &Effects) {
        let last = effects.append.as_ref().and_then(|append| append.entries.last());
        if let (None, Some(last), Role::Leader) = (self.watched, last, self.published.role()) {
            self.watched = Some((last.header.id.index, system::now()));
        }
    }

    /// `derives`: when this iteration began to derive what follows from its inputs.
    fn look(&mut self, derives: Time, recorder: &mut Recorder) {
        self.look_at_commit(derives, recorder);
        let is_paused = self.published.paused();
        if is_paused && !self.is_paused {
            recorder.count(Counter::UncommittedPaused);
        }
        self.is_paused = is_paused;
        let (term, role, leader) = (self.published.term(), self.published.role(), self.published.leader());
        if (term, role, leader) == (self.term, self.role, self.leader) {
            return;
        }
        if term != self.term && role != Role::Follower {
            recorder.count(Counter::Elections);
        }
        if leader != self.leader {
            recorder.count(Counter::LeaderChanges);
            match leader {
                Some(leader) => info!("node {leader} leads in term {term}"),
                None => info!("no leader in term {term}"),
            }
        }
        (self.term, self.role, self.leader) = (term, role, leader);
    }

    fn look_at_commit(&mut self, derives: Time, recorder: &mut Recorder) {
        if self.published.role() != Role::Leader || self.published.term() != self.term {
            self.watched = None; // what was appended may never be committed
        }
        let commit = self.published.commit();
        if commit == self.commit {
            return;
        }
        self.commit = commit;
        let now = system::now();
        recorder.measure(Measure::ApplyUs, now.since(derives).as_micros());
        if let Some((_, at)) = self.watched.take_if(|(index, _)| *index <= commit) {
            recorder.measure(Measure::QuorumUs, now.since(at).as_micros());
        }
    }
}
