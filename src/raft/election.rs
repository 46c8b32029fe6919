//! Elections: PreVote, votes, timers, and what a lost connection to the leader starts (C-15). Paper section 5.2, thesis 9.6.

use protocol::format::HardState;
use protocol::message::Message;
use protocol::{EntryId, Index, NodeId, Round, Term};

use super::{quorum, Campaign, Follower, Leader, Raft, Role};
use crate::time::{Span, Time};

/// C-15: time between two ranks' PreVotes, and what is added to spread equal ranks of different failures.
const RANK_STEP: Span = Span::millis(15);
const RANK_SPREAD: Span = Span::millis(5);
/// C-15: a failed early attempt is repeated after a time drawn from this range, so often.
const RETRY: (Span, Span) = (Span::millis(50), Span::millis(100));
const RETRIES: u32 = 3;
/// C-15: granting a PreVote postpones one's own by this.
const GRANT_POSTPONES: Span = Span::millis(50);

/// Timers of everyone but the leader.
#[derive(Clone, Debug)]
pub(super) struct Timers {
    /// The ordinary, randomised election timeout.
    pub(super) election: Time,
    /// An early PreVote because the leader's connection was lost, or because the cluster boots (C-15).
    pub(super) early: Option<Early>,
    /// No leader has been heard since boot, and no early attempt was started for that.
    pub(super) booting: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Early {
    pub(super) at: Time,
    pub(super) retries: u32,
}

impl Timers {
    fn next(&self) -> Time {
        self.early.map_or(self.election, |early| early.at.min(self.election))
    }
}

impl Raft {
    /// When a follower or candidate has to do something by itself.
    pub(super) fn election_deadline(&self) -> Time {
        match &self.role {
            Role::Candidate(campaign) => self.timers.next().min(campaign.ask_again),
            _ => self.timers.next(),
        }
    }

    pub(super) fn draw_election_timeout(&mut self, now: Time) {
        let min = self.settings.election_timeout_min;
        self.timers.election = now + self.random.span(min, min.times(2));
    }

    /// How long the leader may be silent. The draw is narrower than that of who has campaigned and did not win: the first one
    /// to ask finds nobody who has heard the leader in the shortest timeout, and as a rule nobody else who asks.
    fn draw_patience(&mut self, now: Time) {
        let min = self.settings.election_timeout_min;
        self.timers.election = now + self.random.span(min, min.times(3).half());
    }

    /// Whether a leader was heard within the shortest election timeout: then votes are refused (stickiness, T-29).
    pub(super) fn has_leader(&self, now: Time) -> bool {
        match &self.role {
            Role::Leader(_) => true,
            Role::Follower(follower) => {
                follower.leader.is_some() && now.since(follower.heard) < self.settings.election_timeout_min
            }
            Role::PreCandidate(_) | Role::Candidate(_) => false,
        }
    }

    /// Timers of a node that does not lead.
    pub(super) fn tick_election(&mut self, now: Time) {
        self.ask_again(now);
        if now < self.timers.next() {
            return;
        }
        if self.disk_hangs(now) {
            // Nothing that a campaign needs could become durable (C-13): look again later, and name no leader meanwhile.
            self.timers.early = None;
            self.follow(now, self.hard_state.term, None);
            self.draw_election_timeout(now);
            return;
        }
        self.pre_campaign(now);
    }

    /// Asks whether an election could be won. Changes no term: a node that cannot win disturbs nobody.
    fn pre_campaign(&mut self, now: Time) {
        self.refuse_all_reads();
        self.draw_election_timeout(now);
        // Its own timer for a campaign that gets no answer: soon after an early one, else the ordinary timeout.
        let early = self.timers.early.take().filter(|early| now >= early.at && early.retries > 0);
        self.timers.early =
            early.map(|early| Early { at: now + self.random.span(RETRY.0, RETRY.1), retries: early.retries - 1 });
        self.role = Role::PreCandidate(Campaign::new(self.settings.id));
        self.campaigns += 1;
        if self.has_won() {
            self.campaign(now);
            return;
        }
        let (term, last) = (self.hard_state.term.next(), self.log.last());
        for peer in self.peers.clone() {
            self.send_in_term(peer, term, Message::PreVote { last });
        }
    }

    /// Asks for votes in the next term. Term and own vote travel in the next append; so do the requests (C-7).
    pub(super) fn campaign(&mut self, now: Time) {
        self.refuse_all_reads();
        let term = self.hard_state.term.next();
        self.hard_state = HardState { term, vote: Some(self.settings.id), ..self.hard_state };
        self.timers.early = None;
        self.draw_election_timeout(now);
        // The own vote counts when it is durable: see `own_vote_persisted`.
        let ask_again = now + self.settings.heartbeat;
        self.role = Role::Candidate(Campaign { answers: Vec::new(), ask_again });
        let last = self.log.last();
        for peer in self.peers.clone() {
            self.send_when_durable(peer, Message::RequestVote { last, transfer: false });
        }
    }

    /// A request for a vote, or its answer, may have been lost: whoever has not answered is asked again, as often as a
    /// leader would speak.
    fn ask_again(&mut self, now: Time) {
        let heartbeat = self.settings.heartbeat;
        let Role::Candidate(campaign) = &mut self.role else { return };
        if now < campaign.ask_again {
            return;
        }
        campaign.ask_again = now + heartbeat;
        let silent: Vec<NodeId> = self.peers.iter().copied().filter(|peer| !campaign.has_answered(*peer)).collect();
        // Before the vote is durable, the first requests have not left (C-7).
        if self.durable_hard_state == self.hard_state {
            let last = self.log.last();
            for peer in silent {
                self.send(peer, Message::RequestVote { last, transfer: false });
            }
        }
    }

    /// The hard state became durable: a candidate may count itself.
    pub(super) fn own_vote_persisted(&mut self, now: Time) {
        let counts = self.durable_hard_state.term == self.hard_state.term
            && self.durable_hard_state.vote == Some(self.settings.id);
        if let (true, Role::Candidate(campaign)) = (counts, &mut self.role) {
            campaign.answer(self.settings.id, true);
            self.conclude(now);
        }
    }

    fn up_to_date(&self, last: EntryId) -> bool {
        // Term first, then index (paper section 5.4.1): the order of `EntryId`.
        sabotage!(VoteForShorterLog, last >= self.log.last(), true)
    }

    pub(super) fn asked_for_pre_vote(&mut self, now: Time, from: NodeId, term: Term, last: EntryId) {
        let granted = !self.has_leader(now) && term > self.hard_state.term && self.up_to_date(last);
        if !granted {
            // The own term, so that a node that is behind learns it (T-19).
            self.send(from, Message::PreVoteReply { granted });
            return;
        }
        self.send_in_term(from, term, Message::PreVoteReply { granted });
        self.timers.election = self.timers.election.max(now + GRANT_POSTPONES);
        if let Some(early) = &mut self.timers.early {
            early.at = early.at.max(now + GRANT_POSTPONES);
        }
    }

    /// `term` is that of the envelope: a granted answer echoes the term that was asked about. A real vote's answer is
    /// another kind of message, and the other way round, so neither can count for the other (T-15).
    pub(super) fn pre_vote_answered(&mut self, now: Time, from: NodeId, term: Term, granted: bool) {
        let asked = self.hard_state.term.next();
        sabotage!(PreVoteCountsAsVote: {
            if let (true, Role::Candidate(campaign)) = (granted && term == self.hard_state.term, &mut self.role) {
                campaign.answer(from, true);
                return self.conclude(now);
            }
        });
        if let (true, Role::PreCandidate(campaign)) = (!granted || term == asked, &mut self.role) {
            campaign.answer(from, granted);
            self.conclude(now);
        }
    }

    /// A request of the node's own term: an older one was answered before, a newer one has raised the term.
    pub(super) fn asked_for_vote(&mut self, now: Time, from: NodeId, last: EntryId) {
        let leaderless = match &self.role {
            Role::Follower(follower) => follower.leader.is_none(),
            Role::PreCandidate(_) => true,
            Role::Candidate(_) | Role::Leader(_) => false,
        };
        let again = self.hard_state.vote == Some(from);
        let free = self.hard_state.vote.is_none() && leaderless;
        let granted = (again || free) && self.up_to_date(last);
        if granted && !again {
            self.hard_state.vote = Some(from);
            self.role = Role::Follower(Follower::of(None, now));
            self.timers.early = None;
            self.draw_election_timeout(now);
        }
        self.send_when_durable(from, Message::RequestVoteReply { granted });
    }

    pub(super) fn vote_answered(&mut self, now: Time, from: NodeId, granted: bool) {
        // Nobody was asked before the own vote was durable.
        let asked = self.durable_hard_state == self.hard_state;
        if let (true, Role::Candidate(campaign)) = (asked, &mut self.role) {
            campaign.answer(from, granted);
            self.conclude(now);
        }
    }

    fn has_won(&self) -> bool {
        let majority = quorum::majority(self.settings.voters.len());
        match &self.role {
            Role::PreCandidate(campaign) | Role::Candidate(campaign) => campaign.count(true) >= majority,
            Role::Follower(_) | Role::Leader(_) => false,
        }
    }

    /// Ends a campaign that is decided.
    fn conclude(&mut self, now: Time) {
        let majority = quorum::majority(self.settings.voters.len());
        match &self.role {
            Role::PreCandidate(_) if self.has_won() => self.campaign(now),
            Role::Candidate(_) if self.has_won() => self.lead(now),
            Role::PreCandidate(campaign) | Role::Candidate(campaign) if campaign.count(false) >= majority => {
                self.role = Role::Follower(Follower::of(None, now));
            }
            _ => {}
        }
    }

    fn lead(&mut self, now: Time) {
        assert_eq!(self.durable_hard_state, self.hard_state, "a leader's term and vote are durable");
        self.timers.early = None;
        self.timers.booting = false;
        let leader = Leader::new(now, self);
        self.role = Role::Leader(leader);
        // Entries of older terms commit only behind an entry of the own term (paper section 5.4.2).
        self.append_noop(now);
    }

    /// Follows in `term` from now on: a newer term, or another role in this one.
    pub(super) fn follow(&mut self, now: Time, term: Term, leader: Option<NodeId>) {
        assert!(term >= self.hard_state.term, "terms do not fall");
        self.refuse_all_reads();
        if term > self.hard_state.term {
            self.hard_state = HardState { term, vote: None, ..self.hard_state };
        }
        let led = self.is_leader();
        #[cfg(feature = "sabotage")]
        let verified = if let Role::Follower(follower) = &self.role { follower.matched } else { Index(0) };
        self.role = Role::Follower(Follower::of(leader, now));
        sabotage!(MatchedSurvivesTerm: { self.keep_matched(verified) });
        if leader.is_some() {
            self.hear_leader(now);
        } else if led || now >= self.timers.election {
            self.draw_election_timeout(now);
        }
    }

    #[cfg(feature = "sabotage")]
    fn keep_matched(&mut self, verified: Index) {
        let Role::Follower(follower) = &mut self.role else { return };
        follower.matched = verified;
    }

    /// A message of the current leader has arrived.
    pub(super) fn hear_leader(&mut self, now: Time) {
        let Role::Follower(follower) = &mut self.role else { return };
        follower.heard = now;
        self.timers.early = None;
        self.timers.booting = false;
        self.draw_patience(now);
    }

    pub(super) fn connected(&mut self, now: Time, peer: NodeId) {
        if !self.peers.contains(&peer) {
            return;
        }
        self.links.insert(peer);
        if let Role::Leader(leader) = &mut self.role {
            leader.progress(peer).expect("a leader knows all peers").link_changed();
        }
        self.boot_early(now);
    }

    /// No leader was heard since boot and links to a quorum exist: ask early (C-15).
    pub(super) fn boot_early(&mut self, now: Time) {
        let linked = self.links.len() + 1 >= quorum::majority(self.settings.voters.len());
        if self.timers.booting && linked && matches!(&self.role, Role::Follower(_)) {
            self.timers.booting = false;
            self.start_early(now, None);
        }
    }

    pub(super) fn disconnected(&mut self, now: Time, peer: NodeId) {
        if !self.peers.contains(&peer) {
            return;
        }
        self.links.remove(&peer);
        match &mut self.role {
            Role::Follower(follower) if follower.leader == Some(peer) => {
                follower.leader = None;
                // What was told last may be lost with the connection: tell it again to whoever leads next.
                (follower.told_round, follower.told_matched) = (Round(0), Index(0));
                for token in follower.forwarded.give_up() {
                    self.refuse_read(token);
                }
                self.start_early(now, Some(peer));
            }
            Role::Leader(leader) => {
                leader.progress(peer).expect("a leader knows all peers").link_changed();
            }
            _ => {}
        }
    }

    /// Schedules an early PreVote by rank: the position by id among the other voters, so that survivors ask one after
    /// the other and do not split the vote.
    fn start_early(&mut self, now: Time, lost: Option<NodeId>) {
        let others = self.settings.voters.iter().filter(|voter| Some(**voter) != lost);
        let rank = others.take_while(|voter| **voter != self.settings.id).count() as u64;
        let spread = self.random.span(Span::ZERO, RANK_SPREAD);
        self.timers.early = Some(Early { at: now + RANK_STEP.times(rank) + spread, retries: RETRIES });
    }

    /// Leader: heartbeats, CheckQuorum, and the progress of its own log (C-13).
    pub(super) fn tick_leader(&mut self, now: Time) {
        let patience = self.settings.election_timeout_min;
        let hangs = sabotage!(HungDiskLeads, self.disk_hangs(now), false);
        let Role::Leader(leader) = &self.role else { return };
        let heard = leader.peers.iter().filter(|peer| now.since(peer.heard) < patience).count() + 1;
        let heard = sabotage!(NoStepDown, heard, self.settings.voters.len());
        if hangs || heard < quorum::majority(self.settings.voters.len()) {
            if hangs {
                crate::mark!("raft: stepped down because the disk hangs");
            }
            let term = self.hard_state.term;
            self.follow(now, term, None);
        }
    }

    /// The own log has made no progress for an election timeout.
    pub(super) fn disk_hangs(&self, now: Time) -> bool {
        self.log.waiting_since().is_some_and(|since| now.since(since) >= self.settings.election_timeout_min)
    }

    /// When [`Raft::tick_leader`] next has something to decide.
    pub(super) fn leader_deadline(&self) -> Time {
        let Role::Leader(leader) = &self.role else { return Time::NEVER };
        let patience = self.settings.election_timeout_min;
        // The quorum is lost when the majority's least recently heard member falls silent for too long.
        let heard = leader.peers.iter().map(|peer| peer.heard);
        let quorum_lost = quorum::committed_with(Time::NEVER, heard) + patience;
        let quorum_lost = sabotage!(NoStepDown, quorum_lost, Time::NEVER);
        let hangs = self.log.waiting_since().map_or(Time::NEVER, |since| since + patience);
        let hangs = sabotage!(HungDiskLeads, hangs, Time::NEVER);
        let notice = leader.peers.iter().map(|peer| peer.commit_notice_at).min().unwrap_or(Time::NEVER);
        leader.heartbeat_at.min(notice).min(quorum_lost).min(hangs)
    }

    /// Whether an entry of the own term is committed: before that, nothing else counts (C-16, C-18).
    pub(super) fn has_committed_in_own_term(&self) -> bool {
        matches!(&self.role, Role::Leader(leader) if self.commit >= leader.term_start)
    }
}

impl Follower {
    pub(super) fn of(leader: Option<NodeId>, now: Time) -> Self {
        Self { leader, heard: now, matched: Index(0), ..Self::default() }
    }
}
