//! Consensus, pure: [`Raft`] is told what happened ([`Raft::step`]) and then asked what follows ([`Raft::ready`]).
//!
//! It has no clock, thread, socket, file or random source: time is an argument, randomness a seed. Handlers change state;
//! only `ready` derives messages, at most one AppendEntries and one reply per peer, and at most one append to the log.
//! What needs durability travels inside that append and leaves when it is complete (C-7, C-10, C-11).
//!
//! The algorithm is Ongaro and Ousterhout's (2014; "paper" in comments) with PreVote, CheckQuorum and leader stickiness
//! (Ongaro's thesis, sections 6.2, 9.6 and 4.2.3), always on.
#![forbid(unsafe_code)]

mod election;
mod held;
mod log;
mod progress;
pub mod quorum;
mod random;
mod ready;
mod replication;
mod rounds;
mod snapshot;

use std::collections::{BTreeSet, VecDeque};

use protocol::format::HardState;
use protocol::message::{Envelope, Message};
use protocol::{Entry, EntryId, Index, LogTime, NodeId, Round, Term};

use crate::limits;
use crate::time::Time;
use election::Timers;
use log::Log;
use progress::Progress;
use random::Random;
use rounds::{Forwarded, LogClock, Reads};
use snapshot::Snapshots;

pub use held::Held;
pub use ready::{
    Append, AppendSequence, FetchSnapshot, Input, Installed, LogBase, LogRead, LogReadResult, Proposal, ProposeError,
    ReadLog, ReadPurpose, ReadRefused, ReadState, Ready, Recovered, Settings, Stop, TermRun,
};

/// Bytes of entries handed out by one `ready` for applying (one entry at least).
const APPLY_BYTES_MAX: usize = 1024 * 1024;
/// A message may raise the term by at most this much: beyond, it is refused, so that no peer can use the terms up.
const TERM_JUMP_MAX: u64 = 1 << 32;

/// One node's consensus.
#[derive(Clone, Debug)]
pub struct Raft {
    settings: Settings,
    /// The voters without this node.
    peers: Vec<NodeId>,
    /// Peers with an open connection.
    links: BTreeSet<NodeId>,
    role: Role,
    timers: Timers,
    random: Random,
    wall_clock: LogTime,

    hard_state: HardState,
    /// What the last append that carried one took along.
    handed_hard_state: HardState,
    /// What is on disk.
    durable_hard_state: HardState,
    hard_states_in_flight: VecDeque<(AppendSequence, HardState)>,
    sequence: AppendSequence,
    log: Log,
    commit: Index,
    /// The state machine has applied this.
    applied: Index,
    /// `ready` has handed this out for applying.
    delivered: Index,
    /// Old entries to apply, read from the log.
    fetched: VecDeque<Entry>,
    fetching: bool,
    snapshots: Snapshots,
    /// The last read context that was used (T-69).
    context: u64,
    /// Microseconds that the last completed append was queued and synced.
    disk_us: (u32, u32),
    campaigns: u64,

    outbox: Vec<Envelope>,
    waiting: Vec<Envelope>,
    /// Empty vectors that came back, for the next appends and messages.
    spare: Vec<Vec<Entry>>,
    reads_done: Vec<ReadState>,
    wishes: Vec<ReadLog>,
    stop: Option<Stop>,
}

/// What a node is, with what only that role has.
#[derive(Clone, Debug)]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower(Follower),
    /// Asks whether it could win an election.
    PreCandidate(Campaign),
    /// Asks for votes.
    Candidate(Campaign),
    /// Leads its term.
    Leader(Leader),
}

/// A follower's marks.
#[derive(Clone, Debug, Default)]
pub struct Follower {
    leader: Option<NodeId>,
    /// When the leader was last heard.
    heard: Time,
    /// The highest index verified against *this term's* leader (C-11).
    matched: Index,
    /// The commit index of this term's leader, as its last checked AppendEntries said; 0 = none was heard. For status.
    leader_commit: Index,
    /// The leader's log has left this node behind: it offers a snapshot, and a checked AppendEntries came last before.
    needs_snapshot: bool,
    round: Round,
    lease_span_us: u64,
    reject: Option<protocol::message::RejectHint>,
    told_round: Round,
    told_matched: Index,
    forwarded: Forwarded,
}

/// The answers to a campaign.
#[derive(Clone, Debug)]
pub struct Campaign {
    answers: Vec<(NodeId, bool)>,
    /// A candidate asks those that have not answered again at this time.
    ask_again: Time,
}

/// What a leader knows.
#[derive(Clone, Debug)]
pub struct Leader {
    peers: Vec<Progress>,
    /// The current round (C-12).
    round: Round,
    /// The last round that a heartbeat began.
    heartbeat_round: Round,
    heartbeat_at: Time,
    /// The index of this term's no-op.
    term_start: Index,
    reads: Reads,
    clock: LogClock,
    /// Index and bytes of what is not committed.
    uncommitted: VecDeque<(Index, usize)>,
    uncommitted_bytes: usize,
}

impl Campaign {
    /// A campaign that its candidate supports.
    fn new(own: NodeId) -> Self {
        Self { answers: vec![(own, true)], ask_again: Time::NEVER }
    }

    /// The first answer of each node counts.
    fn answer(&mut self, from: NodeId, granted: bool) {
        if !self.has_answered(from) {
            self.answers.push((from, granted));
        }
    }

    fn has_answered(&self, peer: NodeId) -> bool {
        self.answers.iter().any(|(node, _)| *node == peer)
    }

    fn count(&self, granted: bool) -> usize {
        self.answers.iter().filter(|(_, answer)| *answer == granted).count()
    }
}

impl Leader {
    fn new(now: Time, raft: &Raft) -> Self {
        let last = raft.log.last().index;
        Self {
            peers: raft.peers.iter().map(|peer| Progress::new(*peer, last, now)).collect(),
            round: Round(0),
            heartbeat_round: Round(0),
            heartbeat_at: now,
            term_start: last.next(),
            reads: Reads::default(),
            clock: LogClock::new(now, raft.log.last_log_time(), last == Index(0), raft.wall_clock),
            uncommitted: VecDeque::new(),
            uncommitted_bytes: 0,
        }
    }

    fn progress(&mut self, peer: NodeId) -> Option<&mut Progress> {
        self.peers.iter_mut().find(|progress| progress.id == peer)
    }
}

impl Raft {
    /// A node as it boots: a follower without a leader.
    ///
    /// Panics if `settings` are not those of a member, or if `recovered` is not a log.
    pub fn new(now: Time, settings: Settings, recovered: Recovered) -> Self {
        assert!(settings.voters.contains(&settings.id), "a node is one of its cluster's voters");
        assert!(settings.voters.windows(2).all(|pair| pair[0] < pair[1]), "voters are sorted, each once");
        assert!(settings.heartbeat < settings.election_timeout_min, "heartbeats come before elections");
        let peers = settings.voters.iter().copied().filter(|voter| *voter != settings.id).collect();
        let mut random = Random::new(settings.seed ^ u64::from(settings.id.0) << 32);
        let (context, applied, durable_hard_state) = (random.next(), recovered.applied, recovered.hard_state);
        let hard_state = raised(durable_hard_state, recovered.last.term, settings.id);
        let log = Log::new(recovered);
        assert_eq!(log.term_at(applied.id.index), Some(applied.id.term), "the state machine is at a place in the log");
        let applied = applied.id.index;
        let mut raft = Self {
            peers,
            links: BTreeSet::new(),
            role: Role::Follower(Follower::of(None, now)),
            timers: Timers { election: now, early: None, booting: true },
            random,
            wall_clock: LogTime(0),
            hard_state,
            handed_hard_state: durable_hard_state,
            durable_hard_state,
            hard_states_in_flight: VecDeque::new(),
            sequence: AppendSequence(0),
            log,
            commit: applied,
            applied,
            delivered: applied,
            fetched: VecDeque::new(),
            fetching: false,
            snapshots: Snapshots::default(),
            context,
            disk_us: (0, 0),
            campaigns: 0,
            outbox: Vec::new(),
            waiting: Vec::new(),
            spare: Vec::new(),
            reads_done: Vec::new(),
            wishes: Vec::new(),
            stop: None,
            settings,
        };
        raft.draw_election_timeout(now);
        raft.boot_early(now);
        raft
    }

    /// Takes one input. Then call [`Raft::ready`], once for any number of inputs.
    pub fn step(&mut self, now: Time, input: Input) {
        match input {
            Input::Tick => self.tick(now),
            Input::Message(envelope) => self.message(now, envelope),
            Input::Connected(peer) => self.connected(now, peer),
            Input::Disconnected(peer) => self.disconnected(now, peer),
            Input::Persisted { sequence, queue_us, sync_us } => self.persisted(now, sequence, queue_us, sync_us),
            Input::LogRead(read) => self.log_read(read),
            Input::Read { token } => self.read(token),
        }
    }

    /// Leader only: appends an entry. It is committed, or not, later: watch [`Ready::committed`].
    pub fn propose(&mut self, now: Time, proposal: Proposal) -> Result<EntryId, ProposeError> {
        self.append_as_leader(now, proposal)
    }

    /// The state machine has applied everything up to `index`.
    pub fn applied(&mut self, index: Index) {
        assert!(index >= self.applied && index <= self.delivered, "what was handed out is applied in order");
        self.applied = index;
    }

    /// The wall clock, in milliseconds since the Unix epoch; only log time looks at it (C-25).
    pub fn set_wall_clock(&mut self, wall_clock: LogTime) {
        self.wall_clock = wall_clock;
    }

    /// Derives everything that follows from the inputs so far. Clears `ready` first.
    pub fn ready(&mut self, now: Time, ready: &mut Ready) {
        ready.clear();
        if self.stop.is_none() {
            let compacted = self.compact(now);
            self.replicate(now);
            self.forward_reads(now);
            ready.append = self.append(now, compacted);
            self.reply_to_leader();
            self.deliver(&mut ready.committed);
        }
        ready.stop.clone_from(&self.stop);
        if ready.stop.is_some() {
            ready.append = None;
            return;
        }
        ready.messages.append(&mut self.outbox);
        ready.reads.append(&mut self.reads_done);
        ready.read_log.append(&mut self.wishes);
        ready.fetch_snapshot = self.take_fetch_wish();
        self.log.trim(self.delivered, self.settings.tail_bytes_max);
    }

    /// Takes the vector of an [`Append`] or of a message back once its entries are written or sent: only its capacity is
    /// kept, for the next one. Nothing depends on it.
    pub fn give_back(&mut self, mut entries: Vec<Entry>) {
        entries.clear();
        let has_use = (1..=limits::RAFT_SPARE_ENTRIES_MAX).contains(&entries.capacity());
        if has_use && self.spare.len() < limits::RAFT_SPARE_VECTORS_MAX {
            self.spare.push(entries);
        }
    }

    /// An empty vector for the entries of a message that is read, if one came back.
    pub fn spare(&mut self) -> Vec<Entry> {
        self.spare.pop().unwrap_or_default()
    }

    /// When [`Input::Tick`] is next due.
    pub fn next_deadline(&self) -> Time {
        match &self.role {
            Role::Leader(_) => self.leader_deadline(),
            _ => self.election_deadline().min(self.forwarded_deadline()),
        }
    }

    /// What this node is.
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// Whether this node leads.
    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// Leader: its followers, each with the last entry known to be durable there. Nobody on another node.
    pub fn followers(&self) -> impl Iterator<Item = (NodeId, Index)> + '_ {
        let peers = match &self.role {
            Role::Leader(leader) => leader.peers.as_slice(),
            _ => &[],
        };
        peers.iter().map(|peer| (peer.id, peer.matched))
    }

    /// The role as a status shows it.
    pub fn status_role(&self) -> protocol::reply::Role {
        match self.role {
            Role::Follower(_) => protocol::reply::Role::Follower,
            Role::PreCandidate(_) | Role::Candidate(_) => protocol::reply::Role::Candidate,
            Role::Leader(_) => protocol::reply::Role::Leader,
        }
    }

    /// The leader, as far as this node knows.
    pub fn leader(&self) -> Option<NodeId> {
        match &self.role {
            Role::Leader(_) => Some(self.settings.id),
            Role::Follower(follower) => follower.leader,
            Role::PreCandidate(_) | Role::Candidate(_) => None,
        }
    }

    /// The current term.
    pub fn term(&self) -> Term {
        self.hard_state.term
    }

    /// Term and vote, durable or not.
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Everything up to here is committed, as far as this node knows.
    pub fn commit_index(&self) -> Index {
        self.commit
    }

    /// Everything up to here has been applied.
    pub fn applied_index(&self) -> Index {
        self.applied
    }

    /// What this term's leader has committed, as far as it was heard; a heartbeat tells less (C-12). For status.
    pub fn leader_commit(&self) -> Option<Index> {
        match &self.role {
            Role::Leader(_) => Some(self.commit),
            Role::Follower(follower) => Some(follower.leader_commit).filter(|index| *index > Index(0)),
            Role::PreCandidate(_) | Role::Candidate(_) => None,
        }
    }

    /// The leader's log has left this node behind, which fetches a snapshot, or will. For status.
    pub fn needs_snapshot(&self) -> bool {
        matches!(&self.role, Role::Follower(follower) if follower.needs_snapshot)
    }

    /// Everything up to here is durable on this node.
    pub fn durable_index(&self) -> Index {
        self.log.durable()
    }

    /// The last entry, durable or not.
    pub fn last(&self) -> EntryId {
        self.log.last()
    }

    /// The term of the entry at `index`; none before the log's base and after its end.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.log.term_at(index)
    }

    /// Campaigns (PreVote included) that this node began.
    pub fn campaigns(&self) -> u64 {
        self.campaigns
    }

    fn tick(&mut self, now: Time) {
        match self.role {
            Role::Leader(_) => self.tick_leader(now),
            _ => self.tick_election(now),
        }
    }

    /// Terms first (paper section 5.1), then one line per kind.
    fn message(&mut self, now: Time, envelope: Envelope) {
        let Envelope { from, to, term, message, .. } = envelope;
        let own = self.hard_state.term;
        if to != self.settings.id || !self.peers.contains(&from) || term.0 > own.0.saturating_add(TERM_JUMP_MAX) {
            return;
        }
        match message {
            // The two that carry a term that nobody is in yet.
            Message::PreVote { last } => return self.asked_for_pre_vote(now, from, term, last),
            Message::PreVoteReply { granted: true } => return self.pre_vote_answered(now, from, term, true),
            // A healthy leader's voters refuse, and keep their term (T-29).
            Message::RequestVote { transfer: false, .. } if term > own && self.has_leader(now) => {
                return self.send(from, Message::RequestVoteReply { granted: false });
            }
            _ => {}
        }
        if term > own {
            let leader = matches!(message, Message::AppendEntries(_) | Message::InstallSnapshot(_)).then_some(from);
            self.follow(now, term, leader);
        } else if term < own {
            return match message {
                Message::AppendEntries(_) | Message::InstallSnapshot(_) => self.tell_newer_term(from),
                Message::RequestVote { .. } => self.send(from, Message::RequestVoteReply { granted: false }),
                Message::ReadIndex { context } => self.send(from, Message::ReadIndexReply { context, index: None }),
                _ => {}
            };
        }
        match message {
            Message::PreVote { .. } | Message::TimeoutNow | Message::Format(_) => {}
            Message::PreVoteReply { granted } => self.pre_vote_answered(now, from, term, granted),
            Message::RequestVote { last, .. } => self.asked_for_vote(now, from, last),
            Message::RequestVoteReply { granted } => self.vote_answered(now, from, granted),
            Message::AppendEntries(append) => self.append_entries(now, from, append),
            Message::InstallSnapshot(offer) => self.snapshot_offered(now, from, offer),
            Message::AppendReply(reply) => self.append_answered(now, from, reply),
            Message::ReadIndex { context } => self.peer_asks_read_index(from, context),
            Message::ReadIndexReply { context, index } => self.read_index_answered(from, context, index),
        }
    }

    fn persisted(&mut self, now: Time, sequence: AppendSequence, queue_us: u32, sync_us: u32) {
        assert!(sequence <= self.sequence, "only what was handed over completes");
        while self.hard_states_in_flight.front().is_some_and(|(carried, _)| *carried <= sequence) {
            let (_, hard_state) = self.hard_states_in_flight.pop_front().expect("looked at");
            self.durable_hard_state = hard_state;
        }
        self.disk_us = (queue_us, sync_us);
        self.log.persisted(sequence, now);
        self.own_vote_persisted(now);
        self.commit_by_quorum();
    }

    /// The next append: what changed in the hard state, the new entries, and what waits for both.
    fn append(&mut self, now: Time, compacted: Option<LogBase>) -> Option<Append> {
        let changed = self.hard_state != self.handed_hard_state;
        if !changed && self.durable_hard_state == self.hard_state {
            self.outbox.append(&mut self.waiting);
        }
        let entries = self.log.has_entries_to_hand_over();
        if !changed && !entries && self.waiting.is_empty() && compacted.is_none() {
            return None;
        }
        self.sequence.0 += 1;
        let sequence = self.sequence;
        if changed {
            self.handed_hard_state = self.hard_state;
            self.hard_states_in_flight.push_back((sequence, self.hard_state));
        }
        let base = self.log.take_restart();
        let mut entries = self.spare();
        self.log.hand_over(sequence, now, &mut entries);
        let append = Append {
            hard_state: if changed { self.hard_state_to_store() } else { None },
            base,
            entries,
            compact: base.or(compacted),
            waiting: std::mem::take(&mut self.waiting),
            ..Append::empty(sequence)
        };
        Some(sabotage!(AnswerBeforeSync, append, self.answer_early(now, append)))
    }

    #[cfg(feature = "sabotage")]
    fn answer_early(&mut self, now: Time, mut append: Append) -> Append {
        self.outbox.append(&mut append.waiting);
        self.durable_hard_state = self.hard_state;
        self.log.pretend_durable();
        self.own_vote_persisted(now);
        self.commit_by_quorum();
        append
    }

    /// What goes to the disk of the hard state.
    fn hard_state_to_store(&self) -> Option<HardState> {
        let state = self.hard_state;
        let state = sabotage!(VoteNotPersisted, state, HardState { vote: None, ..state });
        let stored = sabotage!(TermNotPersisted, true, state.vote.is_some());
        stored.then_some(state)
    }

    /// Hands committed entries out for applying; old ones are read from the log first.
    fn deliver(&mut self, committed: &mut Vec<Entry>) {
        let mut bytes = 0;
        while self.delivered < self.commit {
            let next = self.delivered.next();
            let entry = match self.log.entry(next) {
                Some(entry) => entry.clone(),
                None if self.fetched.front().is_some_and(|entry| entry.header.id.index == next) => {
                    self.fetched.pop_front().expect("looked at")
                }
                None => {
                    if !self.fetching && bytes == 0 {
                        self.fetching = true;
                        self.wish(ReadPurpose::Apply, next, APPLY_BYTES_MAX, None);
                    }
                    return;
                }
            };
            assert_eq!(self.log.term_at(next), Some(entry.header.id.term), "what is applied is what is in the log");
            bytes += 64 + entry.body.len();
            committed.push(entry);
            self.delivered = next;
            if bytes >= APPLY_BYTES_MAX {
                return;
            }
        }
    }

    fn old_entries_to_apply(&mut self, entries: Vec<Entry>) {
        self.fetching = false;
        self.fetched = entries.into();
        while self.fetched.front().is_some_and(|entry| entry.header.id.index <= self.delivered) {
            self.fetched.pop_front();
        }
    }

    /// Says something that depends on nothing that is not durable, in the current term. If the term itself is not
    /// durable yet, it travels with the append that makes it so.
    fn send(&mut self, to: NodeId, message: Message) {
        let envelope = self.envelope(to, self.hard_state.term, message);
        if self.durable_hard_state.term == self.hard_state.term {
            self.outbox.push(envelope);
        } else {
            self.waiting.push(envelope);
        }
    }

    /// Says something about a term that nobody is in: PreVote and its grant.
    fn send_in_term(&mut self, to: NodeId, term: Term, message: Message) {
        let envelope = self.envelope(to, term, message);
        self.outbox.push(envelope);
    }

    /// Says something that depends on the vote: it travels inside the append that makes the vote durable.
    fn send_when_durable(&mut self, to: NodeId, message: Message) {
        let envelope = self.envelope(to, self.hard_state.term, message);
        sabotage!(VoteLeavesEarly, &mut self.waiting, &mut self.outbox).push(envelope);
    }

    fn envelope(&self, to: NodeId, term: Term, message: Message) -> Envelope {
        debug_assert_ne!(to, self.settings.id, "a node says nothing to itself");
        let Settings { cluster, incarnation, id, .. } = self.settings;
        Envelope { cluster, incarnation, from: id, to, term, message }
    }

    /// An impossible state: nothing leaves any more (exit 70).
    fn halt(&mut self, what: String) {
        let state = format!(
            "{what}; node {} in term {} votes {:?}, last {:?}, durable {}, commit {}, applied {}, role {:?}",
            self.settings.id,
            self.hard_state.term,
            self.hard_state.vote,
            self.log.last(),
            self.log.durable(),
            self.commit,
            self.applied,
            self.status_role()
        );
        self.stop.get_or_insert(Stop(state));
    }
}

/// The hard state of a node whose log ends in `last`. A log of a later term than the hard state's (the file of a snapshot was
/// durable, the term was not) is no reason to refuse: nothing was ever said in that term. But somebody led it, so no vote is
/// needed in it any more: the node counts its own as given to itself.
fn raised(hard_state: HardState, last: Term, own: NodeId) -> HardState {
    if hard_state.term >= last {
        return hard_state;
    }
    HardState { term: last, vote: Some(own), ..hard_state }
}
