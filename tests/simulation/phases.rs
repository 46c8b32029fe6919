//! The three phases of a seed: faults; then a quorum is healed and the rest stays as broken as it is; then all is healed.

use std::collections::BTreeSet;

use raftkv::raft;
use raftkv::time::{Span, Time};

use crate::clients::{Client, Mood};
use crate::node::ELECTION_TIMEOUT_MIN;
use crate::oracle::violated;
use crate::runs::{Features, COMPLETED_MIN};
use crate::world::{Event, World};

/// Faults go on until a seed has its dose, but no longer than this beyond their time.
const MORE_FAULTS_MAX: Span = Span::secs(240);
/// How often it is looked whether a seed has its dose.
pub const DOSE_LOOK_EVERY: Span = Span::secs(5);
/// A healed quorum elects and commits within so many election timeouts (I-24).
const ELECTION_TIMEOUTS: u64 = 20;
/// Messages of so many bytes hold one entry.
const ONE_ENTRY_BYTES: usize = 100;
/// Clients go on so long when everything is healed.
const LAST_WRITES: Span = Span::secs(2);
/// Everything is equal everywhere so long after everything was healed.
const CONVERGE_WITHIN: Span = Span::secs(60);
/// How often it is looked whether a phase is over.
const LOOK_EVERY: Span = Span::millis(50);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Whatever happens, nothing wrong may.
    Safety,
    /// A random quorum is healed; it must work, whatever the others do.
    Liveness(Quorum),
    /// All nodes are healed and must become equal.
    Equal { since: Time, executed_before: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// A bit per node.
    members: u64,
    since: Time,
    executed_before: u64,
    /// What all its nodes must have applied; known once a write was answered.
    target: Option<u64>,
}

impl World {
    pub fn mood(&self) -> Mood {
        match self.phase {
            Phase::Safety => Mood::Drawn,
            Phase::Liveness(_) => Mood::Patient,
            Phase::Equal { since, .. } if self.queue.now() < since + LAST_WRITES || !self.works() => Mood::Patient,
            Phase::Equal { .. } => Mood::Done,
        }
    }

    /// Whether faults still happen to a node.
    pub fn is_healed(&self, id: u32) -> bool {
        match self.phase {
            Phase::Safety => false,
            Phase::Liveness(quorum) => quorum.members >> id & 1 == 1,
            Phase::Equal { .. } => true,
        }
    }

    /// Whether a seed of full length has done what makes it count, or will not.
    pub fn has_its_dose(&self) -> bool {
        let is_late = self.elapsed() >= self.profile.turmoil + MORE_FAULTS_MAX;
        self.profile.is_short || is_late || (self.completed() >= COMPLETED_MIN && self.features().has_all())
    }

    pub fn features(&self) -> Features {
        Features {
            leader_change: self.oracle.leaders() > 1,
            power_loss: self.nodes.iter().any(|node| node.lost_unsynced),
            segment_roll: raftkv::marks::hits("wal: segment rolled") > 0,
            overwritten: self.oracle.overwritten > 0,
            compaction: raftkv::marks::hits("wal: segment removed") > 0,
        }
    }

    /// The safety phase is over.
    pub fn heal_quorum(&mut self) {
        (self.safety, self.completed_in_safety) = (self.elapsed(), self.completed());
        // Only all nodes together can form a cluster (C-17): a quorum cannot be asked to.
        // Nor is there always one beyond the promise.
        if self.oracle.commit_index() == 0 || self.profile.beyond {
            self.heal_all();
            return self.queue.after(LOOK_EVERY, Event::Check);
        }
        let is_whole = |id: &u32| self.can_run(*id) && !self.nodes[*id as usize].damage.harmed;
        let mut ids: Vec<u32> = (0..self.profile.nodes).filter(is_whole).collect();
        for i in (1..ids.len()).rev() {
            ids.swap(i, self.random.below(i as u64 + 1) as usize);
        }
        ids.truncate(self.profile.nodes as usize / 2 + 1);
        assert!(ids.len() > self.profile.nodes as usize / 2, "no more disks are harmed than may be");
        let members = ids.iter().fold(0, |members, id| members | 1 << id);
        let (since, executed_before) = (self.queue.now(), self.executed());
        self.phase = Phase::Liveness(Quorum { members, since, executed_before, target: None });
        let within = |a: &u32, b: &u32| members >> a & 1 == 1 && members >> b & 1 == 1;
        let rest = self.network.blocked().iter().copied().filter(|(a, b)| !within(a, b)).collect();
        self.heal(&ids, rest);
        self.queue.after(LOOK_EVERY, Event::Check);
    }

    fn heal_all(&mut self) {
        self.phase = Phase::Equal { since: self.queue.now(), executed_before: self.executed() };
        let ids: Vec<u32> = (0..self.profile.nodes).collect();
        self.heal(&ids, BTreeSet::new());
    }

    fn heal(&mut self, ids: &[u32], blocked: BTreeSet<(u32, u32)>) {
        self.network.healed.extend(ids);
        let lives: Vec<u32> = self.nodes.iter().map(|node| node.life).collect();
        self.network.partition(&mut self.queue, &lives, blocked);
        for id in ids {
            let node = &mut self.nodes[*id as usize];
            (node.paused_until, node.disk_hangs_until) = (Time(0), Time(0));
            node.empty_disk();
            let life = node.life;
            self.queue.after(Span::millis(1), Event::Synced { node: *id, life });
            self.queue.after(Span::millis(1), Event::Boot { node: *id });
            self.wake(*id, self.queue.now());
        }
    }

    /// Whether the run is over.
    pub fn check(&mut self) -> bool {
        match self.phase {
            Phase::Safety => unreachable!("the first check comes when a quorum is healed"),
            Phase::Liveness(quorum) => {
                if self.quorum_works(quorum) {
                    self.heal_all();
                }
            }
            Phase::Equal { since, .. } => {
                if self.has_converged(since) {
                    self.check_the_end();
                    return true;
                }
            }
        }
        self.queue.after(LOOK_EVERY, Event::Check);
        false
    }

    /// I-24: the quorum has answered a write, and all its nodes have applied it.
    fn quorum_works(&mut self, mut quorum: Quorum) -> bool {
        if quorum.target.is_none() && self.executed() > quorum.executed_before {
            quorum.target = Some(self.oracle.commit_index());
            self.phase = Phase::Liveness(quorum);
        }
        let members = self.nodes.iter().filter(|node| quorum.members >> node.id & 1 == 1);
        let applied: Vec<Option<u64>> =
            members.map(|node| node.process.as_ref().map(|process| process.replica.store().applied().0)).collect();
        let late = self.queue.now().since(quorum.since);
        let led_from_outside = self.nodes.iter().any(|node| {
            let raft = node.process.as_ref().and_then(|process| process.replica.raft());
            quorum.members >> node.id & 1 == 0 && raft.is_some_and(raft::Raft::is_leader)
        });
        // A leader that a quorum still hears is not deposed by those that do not, though it may be too broken to get a write
        // through; it is healed with everybody.
        if led_from_outside && late > ELECTION_TIMEOUT_MIN.times(ELECTION_TIMEOUTS) {
            return true;
        }
        // A member that has missed much, and gets it one entry at a time, one after the other, is needed for the first write.
        let is_one_by_one = self.profile.inflight_messages == 1 && self.profile.append_bytes <= ONE_ENTRY_BYTES;
        let catches_up = if is_one_by_one { CONVERGE_WITHIN } else { Span::ZERO };
        let Some(target) = quorum.target else {
            if late > ELECTION_TIMEOUT_MIN.times(ELECTION_TIMEOUTS) + catches_up {
                violated("I-24: a healed quorum answers writes", u32::MAX, format!("{quorum:?} applied {applied:?}"));
            }
            return false;
        };
        let all = applied.iter().all(|applied| applied.is_some_and(|applied| applied >= target));
        // Who has missed everything gets it one window per round trip.
        if !all && late > ELECTION_TIMEOUT_MIN.times(ELECTION_TIMEOUTS) + CONVERGE_WITHIN {
            violated("I-24: a healed quorum catches up", u32::MAX, format!("{quorum:?} applied {applied:?}"));
        }
        all
    }

    fn has_converged(&self, since: Time) -> bool {
        if self.profile.beyond {
            return self.queue.now() > since + LAST_WRITES;
        }
        let log_end = |node: &crate::node::Node| {
            let process = node.process.as_ref()?;
            let raft = process.replica.raft()?;
            // C-26: every credit comes back in the end.
            let settled = process.io.has_all_credits();
            let (last, applied) = (raft.last().index, process.replica.store().applied());
            (settled && last == applied && applied == raft.commit_index()).then_some(last)
        };
        let ends: Vec<_> = self.nodes.iter().filter(|node| self.can_run(node.id)).map(log_end).collect();
        let led = self.nodes.iter().any(|node| {
            node.process.as_ref().and_then(|process| process.replica.raft()).is_some_and(raft::Raft::is_leader)
        });
        let same = ends.iter().all(|end| end.is_some() && *end == ends[0]);
        let idle = self.clients.iter().all(Client::is_idle) && self.works();
        if self.queue.now() > since + CONVERGE_WITHIN {
            violated(
                "a healed cluster converges",
                u32::MAX,
                format!("log ends {ends:?}, led {led}, works {}, {:?}", self.works(), self.io_loops()),
            );
        }
        led && same && idle
    }

    /// Answered operations.
    fn completed(&self) -> u64 {
        self.clients.iter().map(|client| client.tally.executed + client.tally.read).sum()
    }

    fn executed(&self) -> u64 {
        self.clients.iter().map(|client| client.tally.executed).sum()
    }

    /// Whether a write was answered since all was healed.
    fn works(&self) -> bool {
        matches!(self.phase, Phase::Equal { executed_before, .. } if self.executed() > executed_before)
    }
}
