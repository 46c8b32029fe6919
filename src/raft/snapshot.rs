//! Snapshots, as consensus sees them: how far the log may go (C-5), what a leader offers to a follower that its log has left
//! behind, and what a follower makes of the offer and of the file.

use std::collections::VecDeque;

use protocol::message::{Message, SnapshotOffer};
use protocol::{Index, NodeId};

use super::progress::{Progress, State};
use super::ready::{FetchSnapshot, Installed, LogBase};
use super::{Raft, Role};
use crate::limits;
use crate::time::{Span, Time};

/// What this node has, and what it is fetching.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshots {
    /// Where the node's durable snapshots end, oldest first: the newest, and those before it at or behind which the log may
    /// still be cut off. At most [`limits::SNAPSHOTS_HELD_MAX`].
    ends: VecDeque<LogBase>,
    /// The newest one, as a leader offers it; none once its file is known to be damaged.
    newest: Option<SnapshotOffer>,
    fetch: Fetch,
}

/// A fetch, and the pause behind one that failed.
#[derive(Clone, Debug, Default)]
struct Fetch {
    running: bool,
    /// What the driver is to be told.
    wish: Option<FetchSnapshot>,
    failures: u32,
    not_before: Time,
}

impl Snapshots {
    /// The newest, as a leader offers it.
    pub(super) fn newest(&self) -> Option<SnapshotOffer> {
        self.newest
    }

    fn note(&mut self, end: LogBase, bytes: u64) {
        self.ends.push_back(end);
        self.newest = Some(SnapshotOffer { last: end.id, chain: end.chain, bytes });
        if self.ends.len() > limits::SNAPSHOTS_HELD_MAX {
            self.ends.pop_front();
        }
    }

    /// Where the log may be cut off. The newest snapshot does not count: should its file rot, the one before it and the log
    /// hold the same. Of the others the newest at or below `floor` is taken; if so many were taken since that the oldest
    /// one known is above it, nobody is waited for any longer. It may be where the log begins: a start that could not verify
    /// what is before its snapshot begins there, and what is before is still on the disk.
    fn cut(&self, base: Index, floor: Index) -> Option<LogBase> {
        let newest = sabotage!(CompactedToNewest, 1, 0);
        let older = self.ends.iter().take(self.ends.len().saturating_sub(newest));
        let full = self.ends.len() == limits::SNAPSHOTS_HELD_MAX;
        let below = older.clone().rev().find(|end| end.id.index <= floor);
        below.or_else(|| older.clone().next().filter(|_| full)).filter(|end| end.id.index >= base).copied()
    }
}

impl Raft {
    /// A snapshot of this node's state machine is durable; `bytes` is the size of its file. It may be offered from now on,
    /// and the log may be cut off behind the one before it. One that is not newer than those known is ignored.
    pub fn snapshot_taken(&mut self, end: LogBase, bytes: u64) {
        assert!(end.id.index <= self.applied, "a snapshot holds what was applied");
        if matches!(&self.role, Role::Leader(leader) if leader.peers.iter().any(|peer| peer.matched < end.id.index)) {
            crate::mark!("raft: snapshot taken while a follower lags behind it");
        }
        if self.snapshots.ends.back().is_none_or(|newest| newest.id.index < end.id.index) {
            self.snapshots.note(end, bytes);
        }
    }

    /// The file of the snapshot that ends at `last` is damaged. If it is the newest, none is offered until another one is
    /// taken, and the log is cut off behind no older one before that.
    pub fn snapshot_damaged(&mut self, last: Index) {
        let snapshots = &mut self.snapshots;
        if snapshots.newest.take_if(|newest| newest.last.index == last).is_some() {
            snapshots.ends.pop_back();
        }
    }

    /// The snapshot that was asked for by [`Ready::fetch_snapshot`](super::Ready::fetch_snapshot) has been fetched and
    /// verified, and is durable; `bytes` is the size of its file. Unless the answer is [`Installed::Ignored`], the state
    /// machine is at `end` from now on.
    pub fn install(&mut self, end: LogBase, bytes: u64) -> Installed {
        self.snapshots.fetch = Fetch::default();
        let index = end.id.index;
        if index <= self.commit {
            return Installed::Ignored;
        }
        let own = self.log.term_at(index);
        if own == Some(end.id.term) && self.log.chain_at(index).is_some_and(|chain| chain != end.chain) {
            self.halt(format!("chains differ at {:?}: the log or the snapshot is damaged", end.id));
            return Installed::Ignored;
        }
        let kept = sabotage!(ConflictSurvivesInstall, own == Some(end.id.term), own.is_some());
        if !kept {
            if self.is_leader() {
                self.halt(format!("a leader lacks what a snapshot of {:?} says is committed", end.id));
                return Installed::Ignored;
            }
            self.log.restart(end, self.commit);
            self.snapshots.ends.clear();
        }
        self.snapshots.note(end, bytes);
        (self.applied, self.delivered) = (index, index);
        self.fetched.clear();
        self.commit_up_to(index);
        // What is committed is in the log of every leader of this term and later ones.
        self.note_committed_matched();
        if kept {
            Installed::KeptTail
        } else {
            Installed::Restarted
        }
    }

    /// The snapshot that was asked for could not be fetched: an offer is taken up again after a pause that grows with
    /// each failure (T-87).
    pub fn fetch_failed(&mut self, now: Time) {
        let fetch = &mut self.snapshots.fetch;
        let pause = limits::SNAPSHOT_RETRY_MS_MIN << fetch.failures.min(16);
        fetch.running = false;
        fetch.failures += 1;
        fetch.not_before = now + Span::millis(pause.min(limits::SNAPSHOT_RETRY_MS_MAX));
    }

    /// Leader: `to` has just been sent bytes of the snapshot that ends at `last`. The log behind it is kept a while longer,
    /// so that a slow follower finds the entries that come next.
    pub fn snapshot_served(&mut self, now: Time, to: NodeId, last: Index) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress(to) else { return };
        if let State::Snapshot { needs, .. } = &mut progress.state {
            *needs = last;
            progress.advanced = now;
        }
    }

    /// Follower: the leader's log has left this node behind.
    pub(super) fn snapshot_offered(&mut self, now: Time, from: NodeId, offer: SnapshotOffer) {
        if !self.hear_from(now, from) {
            return;
        }
        let SnapshotOffer { last, chain, .. } = offer;
        if last.index <= self.commit {
            return self.note_committed_matched();
        }
        if self.log.term_at(last.index) == Some(last.term) {
            if self.log.chain_at(last.index).is_some_and(|own| own != chain) {
                return self.halt(format!("chains differ at {last:?}: one of the logs is damaged"));
            }
            // The entry is here, so everything before it is, and a leader's snapshot holds only what is committed.
            self.note_matched(last.index);
            self.commit = last.index;
            return;
        }
        let Role::Follower(follower) = &mut self.role else { unreachable!("follows since above") };
        (follower.leader_commit, follower.needs_snapshot) = (follower.leader_commit.max(last.index), true);
        let fetch = &mut self.snapshots.fetch;
        if !fetch.running && now >= fetch.not_before {
            fetch.running = true;
            fetch.wish = Some(FetchSnapshot { from, offer });
        }
    }

    /// Not before the term is durable in which it was offered: the snapshot's file, and a log that restarts behind it, must
    /// not be of a later term than the node knows of after a crash.
    pub(super) fn take_fetch_wish(&mut self) -> Option<FetchSnapshot> {
        if self.durable_hard_state.term != self.hard_state.term {
            return None;
        }
        self.snapshots.fetch.wish.take()
    }

    /// What is committed is in every leader's log, of this term and of later ones: it counts as verified against it (C-11).
    pub(super) fn note_committed_matched(&mut self) {
        if let Role::Follower(_) = &self.role {
            self.note_matched(self.commit);
        }
    }

    /// Leader: what a follower in need of a snapshot is told: the offer, once per heartbeat.
    pub(super) fn offer_snapshot(&mut self, progress: &mut Progress) {
        let Role::Leader(leader) = &self.role else { return };
        let State::Snapshot { offered, .. } = &mut progress.state else { return };
        if offered.is_some_and(|round| round >= leader.heartbeat_round) {
            return;
        }
        *offered = Some(leader.heartbeat_round);
        if let Some(offer) = self.snapshots.newest() {
            self.send(progress.id, Message::InstallSnapshot(offer));
        }
    }

    /// Cuts the log off as far as it may be. Tells where, if it moved.
    pub(super) fn compact(&mut self, now: Time) -> Option<LogBase> {
        if self.snapshots.ends.len() < 2 {
            return None;
        }
        let (base, durable) = (self.log.base().id.index, self.log.durable());
        let cut = self.snapshots.cut(base, self.needed_by_followers(now))?;
        if cut.id.index > durable {
            return None;
        }
        self.log.compact(cut);
        self.snapshots.ends.retain(|end| end.id.index > cut.id.index);
        Some(cut)
    }

    /// Entries behind this are kept for followers that are getting on: whoever is not needs a snapshot anyway.
    fn needed_by_followers(&self, now: Time) -> Index {
        let Role::Leader(leader) = &self.role else { return Index(u64::MAX) };
        let patience = self.settings.snapshot_patience;
        let getting_on = leader.peers.iter().filter(|peer| now.since(peer.advanced) < patience);
        let needs = getting_on.map(|peer| match peer.state {
            State::Snapshot { needs, .. } => needs,
            State::Probe { .. } | State::Replicate(_) => peer.matched,
        });
        needs.min().unwrap_or(Index(u64::MAX))
    }
}
