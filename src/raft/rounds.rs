//! Rounds: one number serves heartbeats, ReadIndex and CheckQuorum (C-12, C-18).

use std::collections::VecDeque;

use protocol::message::Message;
use protocol::{Index, LogTime, NodeId, Round};

use super::ready::{ReadRefused, ReadState};
use super::{quorum, Follower, Leader, Raft, Role};
use crate::limits;
use crate::time::{Span, Time};

/// Who waits for a read index.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reader {
    /// This node's own clients.
    Local(u64),
    /// A follower, which gave the context.
    Peer(NodeId, u64),
}

/// A leader's reads. Each waits for the confirmation of a round that *began after it arrived* (C-18).
#[derive(Clone, Debug, Default)]
pub(super) struct Reads {
    /// Arrived since the last round began.
    pub(super) arrived: Vec<Reader>,
    /// Their round has begun: the round, and the commit index at its beginning.
    pub(super) waiting: VecDeque<(Round, Index, Reader)>,
}

/// A follower's reads: it asks the leader for the index.
#[derive(Clone, Debug, Default)]
pub(super) struct Forwarded {
    /// Arrived since the leader was last asked.
    pub(super) arrived: Vec<u64>,
    /// Asked, and not answered.
    pub(super) asked: Vec<Asked>,
    /// Tokens in both.
    count: usize,
}

/// Reads that arrived together. Every question was asked after they had arrived, so the answer to any of them will do:
/// where a round trip takes longer than the patience, it is always an older question's answer that comes.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// The context of each time it was asked; none is ever used again.
    contexts: Vec<u64>,
    /// When it was last asked.
    at: Time,
    tokens: Vec<u64>,
}

/// A question that was not answered before so many newer ones were asked is forgotten.
const CONTEXTS_MAX: usize = 16;

impl Forwarded {
    /// All tokens, none of which will be answered.
    pub(super) fn give_up(&mut self) -> Vec<u64> {
        self.count = 0;
        let asked = self.asked.drain(..).flat_map(|asked| asked.tokens);
        asked.chain(self.arrived.drain(..)).collect()
    }
}

impl Reads {
    fn is_full(&self) -> bool {
        self.arrived.len() + self.waiting.len() >= limits::RAFT_READS_WAITING_MAX
    }
}

impl Raft {
    pub(super) fn read(&mut self, token: u64) {
        sabotage!(ReadWithoutRound: {
            if self.is_leader() {
                return self.reads_done.push(ReadState { token, result: Ok(self.commit) });
            }
        });
        match &mut self.role {
            Role::Leader(leader) if !leader.reads.is_full() => leader.reads.arrived.push(Reader::Local(token)),
            Role::Follower(Follower { leader: Some(_), forwarded, .. })
                if forwarded.count < limits::RAFT_READS_WAITING_MAX =>
            {
                forwarded.count += 1;
                forwarded.arrived.push(token);
            }
            _ => self.refuse_read(token),
        }
    }

    pub(super) fn refuse_read(&mut self, token: u64) {
        let leader = self.leader().filter(|leader| *leader != self.settings.id);
        self.reads_done.push(ReadState { token, result: Err(ReadRefused { leader }) });
    }

    /// All reads that wait here end unanswered: a change of leader goes before a ready answer (T-70).
    pub(super) fn refuse_all_reads(&mut self) {
        let tokens: Vec<u64> = match &mut self.role {
            Role::Leader(Leader { reads, .. }) => {
                let readers = reads.arrived.drain(..).chain(reads.waiting.drain(..).map(|(_, _, reader)| reader));
                readers
                    .filter_map(|reader| if let Reader::Local(token) = reader { Some(token) } else { None })
                    .collect()
            }
            Role::Follower(follower) => follower.forwarded.give_up(),
            Role::PreCandidate(_) | Role::Candidate(_) => Vec::new(),
        };
        for token in tokens {
            self.refuse_read(token);
        }
    }

    /// A follower asks for a read index.
    pub(super) fn peer_asks_read_index(&mut self, from: NodeId, context: u64) {
        match &mut self.role {
            Role::Leader(leader) if !leader.reads.is_full() => leader.reads.arrived.push(Reader::Peer(from, context)),
            _ => self.send(from, Message::ReadIndexReply { context, index: None }),
        }
    }

    /// The leader's answer. Contexts are unique in this process and forgotten at each change of leader or term, so an
    /// answer to an older question finds nothing (T-69).
    pub(super) fn read_index_answered(&mut self, from: NodeId, context: u64, index: Option<Index>) {
        let Role::Follower(follower) = &mut self.role else { return };
        if follower.leader != Some(from) {
            return;
        }
        let answered = follower.forwarded.asked.extract_if(.., |asked| asked.contexts.contains(&context));
        let tokens: Vec<u64> = answered.flat_map(|asked| asked.tokens).collect();
        follower.forwarded.count -= tokens.len();
        for token in tokens {
            match index {
                Some(index) => self.reads_done.push(ReadState { token, result: Ok(index) }),
                None => self.refuse_read(token),
            }
        }
    }

    /// Leader: begins a round where one is due. Reads start one only while no other read waits for its round: what
    /// arrives meanwhile shares the next, so load makes rounds fuller, not more frequent.
    pub(super) fn begin_round_if_due(&mut self, now: Time) {
        let committed_own = sabotage!(ReadBeforeOwnCommit, self.has_committed_in_own_term(), true);
        let (heartbeat, commit) = (self.settings.heartbeat, self.commit);
        let Role::Leader(leader) = &mut self.role else { return };
        let heartbeat_due = now >= leader.heartbeat_at;
        let reads_due = committed_own && !leader.reads.arrived.is_empty() && leader.reads.waiting.is_empty();
        if !heartbeat_due && !reads_due {
            return;
        }
        leader.round = Round(leader.round.0.checked_add(1).expect("rounds do not run out"));
        if heartbeat_due {
            leader.heartbeat_round = leader.round;
            leader.heartbeat_at = now + heartbeat;
        }
        // No read before an entry of the own term is committed: the commit index may still be behind (C-18, T-31).
        if committed_own {
            let round = sabotage!(ReadByOldRound, leader.round, Round(leader.round.0 - 1));
            let reads = &mut leader.reads;
            reads.waiting.extend(reads.arrived.drain(..).map(|reader| (round, commit, reader)));
        }
        self.confirm_reads();
    }

    /// Leader: answers the reads whose round a majority has echoed.
    pub(super) fn confirm_reads(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let confirmed = quorum::committed_with(leader.round, leader.peers.iter().map(|peer| peer.echoed));
        while let Some((index, reader)) = self.next_confirmed(confirmed) {
            match reader {
                Reader::Local(token) => self.reads_done.push(ReadState { token, result: Ok(index) }),
                Reader::Peer(to, context) => self.send(to, Message::ReadIndexReply { context, index: Some(index) }),
            }
        }
    }

    /// Takes the oldest read out whose round is confirmed.
    fn next_confirmed(&mut self, confirmed: Round) -> Option<(Index, Reader)> {
        let Role::Leader(leader) = &mut self.role else { return None };
        leader.reads.waiting.front().filter(|(round, _, _)| *round <= confirmed)?;
        leader.reads.waiting.pop_front().map(|(_, index, reader)| (index, reader))
    }

    /// Follower: asks the leader for what has arrived, and again for what has waited for two heartbeats.
    pub(super) fn forward_reads(&mut self, now: Time) {
        let patience = self.settings.heartbeat.times(2);
        let Role::Follower(follower) = &mut self.role else { return };
        let Some(leader) = follower.leader else { return };
        let forwarded = &mut follower.forwarded;
        let overdue = |asked: &Asked| now.since(asked.at) >= patience;
        if forwarded.arrived.is_empty() && !forwarded.asked.iter().any(overdue) {
            return;
        }
        self.context = self.context.wrapping_add(1);
        let context = self.context;
        for asked in forwarded.asked.iter_mut().filter(|asked| overdue(asked)) {
            if asked.contexts.len() == CONTEXTS_MAX {
                asked.contexts.remove(0);
            }
            asked.contexts.push(context);
            asked.at = now;
        }
        if !forwarded.arrived.is_empty() {
            let tokens = std::mem::take(&mut forwarded.arrived);
            forwarded.asked.push(Asked { contexts: vec![context], at: now, tokens });
        }
        self.send(leader, Message::ReadIndex { context });
    }

    /// Follower: when [`Raft::forward_reads`] has something to ask again.
    pub(super) fn forwarded_deadline(&self) -> Time {
        let Role::Follower(follower) = &self.role else { return Time::NEVER };
        let oldest = follower.forwarded.asked.iter().map(|asked| asked.at).min();
        oldest.map_or(Time::NEVER, |asked| asked + self.settings.heartbeat.times(2))
    }
}

/// The cluster's time as a leader tells it (C-25): its last entry's log time, plus the boot-time clock, drawn towards its
/// wall clock by at most a tenth of the time elapsed. Never backwards.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogClock {
    value_ns: u64,
    at: Time,
}

const NS_PER_MS: u64 = 1_000_000;

impl LogClock {
    /// `last` is the log's last log time; an empty log takes the wall clock.
    pub(super) fn new(now: Time, last: LogTime, log_is_empty: bool, wall: LogTime) -> Self {
        let start = sabotage!(LogTimeStartsAnew, if log_is_empty { wall } else { last }, wall);
        Self { value_ns: start.0.saturating_mul(NS_PER_MS), at: now }
    }

    pub(super) fn advance(&mut self, now: Time, wall: LogTime) -> LogTime {
        let Span(elapsed) = now.since(self.at);
        let target = wall.0.saturating_mul(NS_PER_MS);
        let even = self.value_ns.saturating_add(elapsed);
        let pull = elapsed / 10;
        let drawn = target.clamp(even.saturating_sub(pull), even.saturating_add(pull));
        self.value_ns = sabotage!(LogTimeFromWallClock, drawn, target);
        self.at = self.at.max(now);
        LogTime(self.value_ns / NS_PER_MS)
    }
}

#[cfg(test)]
mod tests {
    use protocol::message::{AppendEntries, Envelope};
    use protocol::{Chain, ClusterId, EntryId, Incarnation, Term};

    use super::*;
    use crate::raft::{Input, Ready, Recovered, Settings};

    #[test]
    fn c18_the_answer_to_an_older_question_will_do() {
        let voters: Vec<NodeId> = (0..3).map(NodeId).collect();
        let heartbeat = Span::millis(100);
        let settings = Settings {
            id: NodeId(1),
            cluster: ClusterId(1),
            incarnation: Incarnation(1),
            voters,
            election_timeout_min: Span::secs(1),
            heartbeat,
            commit_notice: Span::ZERO,
            append_bytes_max: 1000,
            inflight_bytes_max: 1000,
            inflight_messages_max: 8,
            tail_bytes_max: 1000,
            snapshot_patience: Span::secs(60),
            uncommitted_bytes_max: 1000,
            seed: 1,
        };
        let mut now = Time(0);
        let mut follower = Raft::new(now, settings, Recovered::empty(Chain(1)));
        let mut ready = Ready::default();
        let from_leader = |message| {
            let (cluster, incarnation) = (ClusterId(1), Incarnation(1));
            Input::Message(Envelope { cluster, incarnation, from: NodeId(0), to: NodeId(1), term: Term(1), message })
        };
        let heartbeat_message = Message::AppendEntries(AppendEntries {
            round: Round(1),
            lease_span_us: 0,
            heartbeat: true,
            previous: EntryId::default(),
            previous_chain: Chain(0),
            commit: Index(0),
            digest_index: Index(0),
            digest: 0,
            entries: Vec::new(),
        });
        follower.step(now, from_leader(heartbeat_message));
        follower.ready(now, &mut ready);
        let sequence = ready.append.take().expect("the term").sequence;
        follower.step(now, Input::Persisted { sequence, queue_us: 0, sync_us: 0 });
        follower.step(now, Input::Read { token: 7 });
        let mut contexts = Vec::new();
        for _ in 0..3 {
            follower.ready(now, &mut ready);
            contexts.extend(ready.messages.iter().filter_map(|envelope| match envelope.message {
                Message::ReadIndex { context } => Some(context),
                _ => None,
            }));
            now += heartbeat.times(2);
        }
        assert_eq!(contexts.len(), 3, "asked again and again: {contexts:?}");
        let answer = Message::ReadIndexReply { context: contexts[0], index: Some(Index(4)) };
        follower.step(now, from_leader(answer.clone()));
        follower.step(now, from_leader(answer));
        follower.ready(now, &mut ready);
        assert_eq!(ready.reads, [ReadState { token: 7, result: Ok(Index(4)) }], "once");
    }

    #[test]
    fn c25_a_wall_clock_that_jumps_moves_log_time_by_a_tenth_at_most() {
        let hour = 3_600_000;
        for jump in [-hour, hour] {
            let wall = LogTime((1_700_000_000_000_i64 + jump).unsigned_abs());
            let mut clock = LogClock::new(Time(0), LogTime(1_700_000_000_000), false, wall);
            let after = clock.advance(Time(0) + Span::secs(10), wall).0 - 1_700_000_000_000;
            assert!((9_000..=11_000).contains(&after), "{jump}: {after}");
        }
    }

    #[test]
    fn c25_log_time_never_runs_backwards_and_only_an_empty_log_takes_the_wall_clock() {
        let mut clock = LogClock::new(Time(5), LogTime(0), true, LogTime(77));
        assert_eq!(clock.advance(Time(5), LogTime(1)), LogTime(77));
        let mut before = LogTime(0);
        for step in 0..1000 {
            let value = clock.advance(Time(step * 1_000_000), LogTime(step % 7));
            assert!(value >= before);
            before = value;
        }
        let behind = LogClock::new(Time(0), LogTime(50), false, LogTime(9_999));
        assert_eq!(behind.value_ns / NS_PER_MS, 50);
    }
}
