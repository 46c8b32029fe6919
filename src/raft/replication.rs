//! Log replication: what a leader sends, what a follower does with it, and what becomes committed (paper section 5.3, 5.4).

use protocol::message::{AppendEntries, AppendReply, Message, RejectHint};
use protocol::{Chain, Entry, EntryHeader, EntryId, EntryKind, Index, NodeId, Round, Sequence, SessionId, Term};

use super::progress::{Progress, State};
use super::ready::{LogRead, LogReadResult, Proposal, ProposeError, ReadLog, ReadPurpose};
use super::{quorum, Follower, Raft, Role};
use crate::limits;
use crate::time::Time;

/// Bytes of an entry beside its body.
pub(super) const HEADER_BYTES: usize = 64;

impl Raft {
    /// Appends to the log of a leader. Sets log time (C-25) and chain (C-8).
    pub(super) fn append_as_leader(&mut self, now: Time, proposal: Proposal) -> Result<EntryId, ProposeError> {
        let leader_known = self.leader();
        let (term, wall) = (self.hard_state.term, self.wall_clock);
        let Role::Leader(leader) = &mut self.role else {
            return Err(ProposeError::NotLeader { leader: leader_known });
        };
        let bytes = HEADER_BYTES + proposal.body.len();
        // What the others have committed may still wait for the own disk, and then for memory: the slower of both counts.
        let waiting = leader.uncommitted_bytes.max(self.log.undurable_bytes());
        if waiting >= self.settings.uncommitted_bytes_max {
            return Err(ProposeError::Full);
        }
        let id = EntryId { term, index: self.log.last().index.next() };
        let mut header = EntryHeader {
            id,
            log_time: leader.clock.advance(now, wall).max(sabotage!(
                LogTimeFromWallClock,
                self.log.last_log_time(),
                protocol::LogTime(0)
            )),
            session: proposal.session,
            sequence: proposal.sequence,
            kind: proposal.kind,
            flags: 0,
            body_len: u32::try_from(proposal.body.len()).expect("a body fits its limit"),
            body_checksum: proposal.body_checksum,
            chain: Chain(0),
        };
        header.chain = header.chain_after(self.log.last_chain());
        leader.uncommitted_bytes += bytes;
        leader.uncommitted.push_back((id.index, bytes));
        self.log.push(Entry { header, body: proposal.body });
        Ok(id)
    }

    pub(super) fn append_noop(&mut self, now: Time) {
        let noop = Proposal {
            kind: EntryKind::Noop,
            session: SessionId(0),
            sequence: Sequence(0),
            body: bytes::Bytes::new(),
            body_checksum: 0,
        };
        self.append_as_leader(now, noop).expect("a new leader has nothing uncommitted of its own");
    }

    /// Leader: derives at most one AppendEntries per peer from what each one lacks.
    pub(super) fn replicate(&mut self, now: Time) {
        if !self.is_leader() {
            return;
        }
        self.begin_round_if_due(now);
        for position in 0..self.peers.len() {
            let Role::Leader(leader) = &mut self.role else { unreachable!("nothing here ends the leadership") };
            let mut progress = std::mem::replace(&mut leader.peers[position], Progress::new(NodeId(0), Index(0), now));
            self.replicate_to(now, &mut progress);
            progress.end_commit_notice(now, self.commit, self.settings.heartbeat);
            let Role::Leader(leader) = &mut self.role else { unreachable!("nothing here ends the leadership") };
            leader.peers[position] = progress;
        }
    }

    fn replicate_to(&mut self, now: Time, progress: &mut Progress) {
        let Role::Leader(leader) = &self.role else { return };
        let (round, heartbeat_round) = (leader.round, leader.heartbeat_round);
        if progress.next.previous() < self.log.base().id.index && !matches!(progress.state, State::Snapshot { .. }) {
            self.need_snapshot(now, progress);
        }
        let round_due = progress.sent_round < round;
        let notice_due = progress.commit_notice_due(now, self.commit, self.settings.commit_notice);
        let message = match &progress.state {
            State::Probe { outstanding, .. } => {
                let first = outstanding.is_none();
                let repeat = outstanding.is_some_and(|sent| sent < heartbeat_round);
                let probe = if first || repeat { self.checked(progress, first) } else { None };
                // While the probe is under way, or waits for the disk, a heartbeat keeps the follower (C-12).
                probe.or_else(|| round_due.then(|| self.heartbeat(progress)))
            }
            State::Snapshot { .. } => {
                self.offer_snapshot(progress);
                round_due.then(|| self.heartbeat(progress))
            }
            State::Replicate(window) => {
                let full = window.is_full(self.settings.inflight_messages_max, self.settings.inflight_bytes_max);
                let lacks = !full && progress.next <= self.log.last().index;
                let tell = round_due || notice_due;
                let entries = if lacks { self.checked(progress, true) } else { None };
                // Without entries it still checks that what was sent has arrived, so a lost message is noticed.
                entries
                    .or_else(|| if tell { self.checked(progress, false) } else { None })
                    .or_else(|| round_due.then(|| self.heartbeat(progress)))
            }
        };
        let Some(message) = message else { return };
        (progress.sent_round, progress.sent_commit) = (round, progress.sent_commit.max(message.commit));
        if !message.heartbeat {
            self.note_sent(progress, &message);
        }
        self.send(progress.id, Message::AppendEntries(message));
    }

    /// Moves the follower's marks behind what a checked AppendEntries brings.
    fn note_sent(&self, progress: &mut Progress, message: &AppendEntries) {
        let last = message.entries.last().map(|entry| (entry.header.id, entry.header.chain));
        let sent_to = last.map_or(message.previous.index, |(id, _)| id.index);
        progress.sent = last.or(Some((message.previous, message.previous_chain)));
        match &mut progress.state {
            State::Probe { outstanding, sent_to: probed } => {
                *outstanding = Some(message.round);
                *probed = (*probed).max(sent_to);
            }
            State::Replicate(window) => {
                if !message.entries.is_empty() {
                    window.add(sent_to, message.entries.iter().map(|entry| HEADER_BYTES + entry.body.len()).sum());
                    progress.next = sent_to.next();
                    while progress.fetched.front().is_some_and(|entry| entry.header.id.index <= sent_to) {
                        progress.fetched.pop_front();
                    }
                }
            }
            State::Snapshot { .. } => unreachable!("it is sent heartbeats only"),
        }
    }

    fn heartbeat(&self, progress: &Progress) -> AppendEntries {
        AppendEntries { heartbeat: true, commit: self.commit.min(progress.matched), ..self.empty_append() }
    }

    fn empty_append(&self) -> AppendEntries {
        let Role::Leader(leader) = &self.role else { unreachable!("only a leader appends") };
        AppendEntries {
            round: leader.round,
            lease_span_us: 0,
            heartbeat: false,
            previous: EntryId::default(),
            previous_chain: Chain::default(),
            commit: self.commit,
            digest_index: Index(0),
            digest: 0,
            entries: Vec::new(),
        }
    }

    fn need_snapshot(&self, now: Time, progress: &mut Progress) {
        let newest = self.snapshots.newest().map_or(self.log.base().id.index, |newest| newest.last.index);
        progress.need_snapshot(now, newest);
    }

    /// An AppendEntries whose previous entry is to be checked. None: what it needs has to be read from the log first;
    /// the wish is noted.
    fn checked(&mut self, progress: &mut Progress, with_entries: bool) -> Option<AppendEntries> {
        let previous = self.log.id_at(progress.next.previous()).expect("next is at most one past the end");
        let sent = progress.sent.filter(|(id, _)| *id == previous).map(|(_, chain)| chain);
        let fetched = progress.fetched.front().filter(|entry| entry.header.id == previous);
        let chain = self.log.chain_at(previous.index).or(sent).or(fetched.map(|entry| entry.header.chain));
        let Some(previous_chain) = chain else {
            // From the previous entry on: its header brings the chain.
            self.fetch(progress, previous.index, None);
            return None;
        };
        let mut append = AppendEntries { previous, previous_chain, ..self.empty_append() };
        if with_entries && progress.next <= self.log.last().index {
            append.entries = self.entries_for(progress);
            if append.entries.is_empty() {
                self.give_back(append.entries);
                // What was fetched to learn the chain is replaced by what is fetched now.
                progress.sent = Some((previous, previous_chain));
                self.fetch(progress, progress.next, Some(previous_chain));
                return None;
            }
        }
        Some(append)
    }

    /// Entries from the follower's next on, one message's worth: out of memory, or of what was fetched for it.
    fn entries_for(&mut self, progress: &Progress) -> Vec<Entry> {
        let (mut entries, mut bytes) = (self.spare(), 0);
        let mut next = progress.next;
        let mut take = |entry: &Entry| {
            let size = HEADER_BYTES + entry.body.len();
            let fits = entries.is_empty() || bytes + size <= self.settings.append_bytes_max;
            if fits {
                bytes += size;
                entries.push(entry.clone());
            }
            fits
        };
        while let Some(entry) = self.log.entry(next) {
            if !take(entry) {
                return entries;
            }
            next = next.next();
        }
        if next == progress.next {
            for entry in progress.fetched.iter().filter(|entry| entry.header.id.index >= progress.next) {
                if !take(entry) {
                    break;
                }
            }
        }
        entries
    }

    fn fetch(&mut self, progress: &mut Progress, from: Index, previous_chain: Option<Chain>) {
        if progress.fetching {
            return;
        }
        progress.fetching = true;
        let bytes_max = self.settings.append_bytes_max + limits::KEY_BYTES_MAX + limits::VALUE_BYTES_MAX;
        self.wish(ReadPurpose::Peer(progress.id), from, bytes_max, previous_chain);
    }

    pub(super) fn wish(&mut self, purpose: ReadPurpose, from: Index, bytes_max: usize, previous_chain: Option<Chain>) {
        let previous = self.log.id_at(from.previous()).expect("old entries begin behind the base");
        let previous_chain = previous_chain.or_else(|| self.log.chain_at(previous.index));
        let term = self.hard_state.term;
        self.wishes.push(ReadLog { purpose, term, from, bytes_max, previous, previous_chain });
    }

    /// Old entries have come from the log (C-9).
    pub(super) fn log_read(&mut self, read: LogRead) {
        let LogRead { purpose, term, from, result } = read;
        let current = term == self.hard_state.term;
        let entries = match result {
            LogReadResult::Entries(entries) => entries,
            // The log may have been rewritten since a read of an older term was asked for.
            LogReadResult::Compacted | LogReadResult::Mismatch if !current => Vec::new(),
            // The log was cut off meanwhile, or replaced by a snapshot: a follower is found to need one before the next message,
            // and what is applied next lies behind it. What lies right behind the base is asked for again: the reader
            // may have seen the entry before it leave, and not yet that it became the base.
            LogReadResult::Compacted if from <= self.log.base().id.index.next() => Vec::new(),
            result => return self.halt(format!("old entries from {from} for {purpose:?} cannot be read: {result:?}")),
        };
        match purpose {
            ReadPurpose::Apply => self.old_entries_to_apply(entries),
            ReadPurpose::Peer(peer) => {
                let Role::Leader(leader) = &mut self.role else { return };
                let Some(progress) = leader.progress(peer).filter(|_| current) else { return };
                progress.fetched(entries);
            }
        }
    }

    /// Leader: a follower's marks.
    pub(super) fn append_answered(&mut self, now: Time, from: NodeId, reply: AppendReply) {
        let (last, log) = (self.log.last(), &self.log);
        let base = log.base().id.index;
        let Role::Leader(leader) = &mut self.role else { return };
        let round = leader.round;
        let Some(progress) = leader.progress(from) else { return };
        if reply.round > round || reply.matched > last.index {
            // It claims what was never sent: no honest follower does.
            return;
        }
        progress.heard = now;
        progress.echoed = progress.echoed.max(reply.round);
        let news = progress.acknowledge(now, reply.matched, base);
        if let Some(RejectHint { rejected, hint }) = reply.reject {
            let current = match &progress.state {
                State::Probe { outstanding, .. } => outstanding.is_some() && rejected == progress.next.previous(),
                State::Replicate(_) => rejected > progress.matched,
                State::Snapshot { .. } => false,
            };
            if current {
                let common = log.last_at_most(hint.index, hint.term);
                progress.probe(common.index.next().min(rejected.max(Index(1))));
            }
        }
        if news {
            self.commit_by_quorum();
        }
        self.confirm_reads();
    }

    /// Leader: the commit index is what a majority holds durably, if that is an entry of the own term (paper 5.4.2).
    pub(super) fn commit_by_quorum(&mut self) {
        let durable = sabotage!(LeaderCountsUnsynced, self.log.durable(), self.log.last().index);
        let Role::Leader(leader) = &mut self.role else { return };
        let held = quorum::committed_with(durable, leader.peers.iter().map(|peer| peer.matched));
        let own_term_from = sabotage!(OldTermByCounting, leader.term_start, Index(0));
        if held < own_term_from || held <= self.commit {
            return;
        }
        assert!(
            held < leader.term_start || self.log.term_at(held) == Some(self.hard_state.term),
            "behind the term's start, entries are of the term"
        );
        self.commit_up_to(held);
    }

    /// Everything up to `index` is committed. A leader's room for proposals grows by it.
    pub(super) fn commit_up_to(&mut self, index: Index) {
        if index > self.log.durable() {
            crate::mark!("raft: committed by the others before the own sync");
        }
        self.commit = index;
        let Role::Leader(leader) = &mut self.role else { return };
        while leader.uncommitted.front().is_some_and(|(uncommitted, _)| *uncommitted <= index) {
            let (_, bytes) = leader.uncommitted.pop_front().expect("looked at");
            leader.uncommitted_bytes -= bytes;
        }
    }

    /// `from` speaks as the leader of the own term. False: it cannot be, and this node stops.
    pub(super) fn hear_from(&mut self, now: Time, from: NodeId) -> bool {
        match &self.role {
            Role::Leader(_) => {
                self.halt(format!("node {from} also leads term {}", self.hard_state.term));
                return false;
            }
            Role::Follower(Follower { leader: Some(leader), .. }) if *leader != from => {
                self.halt(format!("nodes {leader} and {from} both lead term {}", self.hard_state.term));
                return false;
            }
            Role::Follower(Follower { leader: Some(_), .. }) => self.hear_leader(now),
            Role::Follower(Follower { leader: None, .. }) => {
                // The same term's leader again, after its connection was lost: what was verified stays so.
                let Role::Follower(follower) = &mut self.role else { unreachable!("just matched") };
                follower.leader = Some(from);
                self.hear_leader(now);
            }
            Role::PreCandidate(_) | Role::Candidate(_) => self.follow(now, self.hard_state.term, Some(from)),
        }
        true
    }

    /// Follower: AppendEntries of the own term's leader.
    pub(super) fn append_entries(&mut self, now: Time, from: NodeId, append: AppendEntries) {
        self.follow_append(now, from, &append);
        self.give_back(append.entries);
    }

    fn follow_append(&mut self, now: Time, from: NodeId, append: &AppendEntries) {
        if !self.hear_from(now, from) {
            return;
        }
        if !append.heartbeat {
            match self.accept(append) {
                Accepted::Matched(index) => self.note_matched(index),
                Accepted::Rejected(hint) => {
                    let Role::Follower(follower) = &mut self.role else { unreachable!("follows since above") };
                    follower.reject = Some(hint);
                }
                Accepted::Refused => return,
                Accepted::Impossible(what) => return self.halt(what),
            }
        }
        let Role::Follower(follower) = &mut self.role else { unreachable!("follows since above") };
        if !append.heartbeat {
            (follower.leader_commit, follower.needs_snapshot) = (append.commit, false);
        }
        sabotage!(HeartbeatMatches: {
            if append.heartbeat {
                follower.matched = self.log.last().index;
            }
        });
        follower.round = follower.round.max(append.round);
        follower.lease_span_us = append.lease_span_us;
        // Never beyond what was verified against this leader (C-11, T-37).
        let verified = sabotage!(CommitUnclamped, follower.matched, self.log.last().index);
        self.commit = self.commit.max(append.commit.min(verified));
    }

    pub(super) fn note_matched(&mut self, index: Index) {
        let Role::Follower(follower) = &mut self.role else { unreachable!("only a follower accepts") };
        follower.matched = follower.matched.max(index);
        follower.reject = None;
    }

    /// Checks the previous entry, verifies the chain of all, and takes what the log lacks. All checks come before the
    /// first change.
    fn accept(&mut self, append: &AppendEntries) -> Accepted {
        let previous = append.previous;
        match self.log.term_at(previous.index) {
            Some(term) if term == previous.term => {}
            // What is before the base is committed, and so is everything up to the commit index: a leader holds the same.
            None if previous.index < self.log.base().id.index => return Accepted::Matched(self.commit),
            _ if previous.index <= self.commit => {
                return Accepted::Impossible(format!("the leader's entry {previous:?} differs from a committed one"));
            }
            _ => {
                let hint = self.log.last_at_most(previous.index, previous.term);
                return Accepted::Rejected(RejectHint { rejected: previous.index, hint });
            }
        }
        if self.log.chain_at(previous.index).is_some_and(|chain| chain != append.previous_chain) {
            return Accepted::Impossible(format!("chains differ at {previous:?}: one of the logs is damaged"));
        }
        if !continues(append, self.hard_state.term) {
            return Accepted::Refused;
        }
        match sabotage!(StaleAppendTruncates, self.first_news(append), Ok(0)) {
            Err(what) => Accepted::Impossible(what),
            Ok(news) => {
                self.take(append, news);
                Accepted::Matched(Index(previous.index.0 + append.entries.len() as u64))
            }
        }
    }

    /// The position of the first entry that the log lacks, or holds differently.
    fn first_news(&self, append: &AppendEntries) -> Result<usize, String> {
        for (position, entry) in append.entries.iter().enumerate() {
            let id = entry.header.id;
            match self.log.term_at(id.index) {
                Some(term) if term == id.term => {
                    if self.log.chain_at(id.index).is_some_and(|chain| chain != entry.header.chain) {
                        return Err(format!("chains differ at {id:?}: one of the logs is damaged"));
                    }
                }
                Some(_) if id.index <= self.commit => return Err(format!("{id:?} would replace a committed entry")),
                _ => return Ok(position),
            }
        }
        Ok(append.entries.len())
    }

    /// Replaces what conflicts and appends the rest. An old message brings no news and truncates nothing (T-35).
    fn take(&mut self, append: &AppendEntries, news: usize) {
        let Some(first) = append.entries.get(news) else { return };
        let before = news.checked_sub(1).map(|position| &append.entries[position].header);
        if first.header.id.index <= self.log.last().index {
            let (keep, chain) =
                before.map_or((append.previous, append.previous_chain), |entry| (entry.id, entry.chain));
            let log_time = before.map_or(first.header.log_time, |entry| entry.log_time);
            self.log.truncate_behind(keep, chain, log_time);
        }
        for entry in &append.entries[news..] {
            self.log.push(entry.clone());
        }
    }

    /// Follower: derives at most one reply from its marks; it needs only the term to be durable (C-12).
    pub(super) fn reply_to_leader(&mut self) {
        if self.durable_hard_state.term != self.hard_state.term {
            return;
        }
        let durable = sabotage!(AckBeforeSync, self.log.durable(), self.log.last().index);
        let (queue_us, sync_us) = self.disk_us;
        let Role::Follower(follower) = &mut self.role else { return };
        let Some(leader) = follower.leader else { return };
        let matched = sabotage!(MatchAboveMatched, durable.min(follower.matched), durable);
        if follower.round == follower.told_round && matched == follower.told_matched && follower.reject.is_none() {
            return;
        }
        (follower.told_round, follower.told_matched) = (follower.round, matched);
        let reply = AppendReply {
            round: follower.round,
            lease_span_us: follower.lease_span_us,
            matched,
            reject: follower.reject.take(),
            queue_us,
            sync_us,
            ..AppendReply::default()
        };
        self.send(leader, Message::AppendReply(reply));
    }

    /// A leader of an older term learns the newer one from an otherwise empty reply (T-06, T-21).
    pub(super) fn tell_newer_term(&mut self, to: NodeId) {
        let reply = AppendReply { round: Round(0), ..AppendReply::default() };
        self.send(to, Message::AppendReply(reply));
    }
}

/// What a follower makes of a checked AppendEntries.
enum Accepted {
    /// The log equals the leader's up to here.
    Matched(Index),
    /// The previous entry does not fit.
    Rejected(RejectHint),
    /// Not a message that an honest leader sends: dropped without a change.
    Refused,
    /// Safety is broken: stop.
    Impossible(String),
}

/// Whether the entries are consecutive behind the previous one, with terms that do not fall or pass the leader's, and
/// whether each continues the chain (C-8).
fn continues(append: &AppendEntries, leader_term: Term) -> bool {
    let (mut before, mut chain) = (append.previous, append.previous_chain);
    append.entries.iter().all(|entry| {
        let id = entry.header.id;
        let fits = id.index == before.index.next() && id.term >= before.term && id.term <= leader_term;
        let whole = fits && entry.header.chain == entry.header.chain_after(chain);
        (before, chain) = (id, entry.header.chain);
        whole
    })
}
