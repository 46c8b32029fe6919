//! What must always be true, checked after every step of every node, and every answer against the committed log.
//!
//! The oracle sees what a god would: all logs, all messages. It never tells anybody.

use std::collections::BTreeMap;

use protocol::format::Format;
use protocol::message::{Envelope, Message};
use protocol::{Entry, EntryId, Incarnation, Index, NodeId};
use raftkv::raft::{self, Raft};

use crate::history::Action;
use crate::model::Model;
use crate::promises::persisted_up_to;
use crate::recorder::{executed, Recorder};

/// Ends the run: an invariant does not hold.
#[track_caller]
pub fn violated(invariant: &str, node: u32, text: impl std::fmt::Display) -> ! {
    panic!("invariant=\"{invariant}\" node={node}: {text}")
}

#[derive(Default)]
pub struct Oracle {
    /// Index 1 is at 0.
    committed: Vec<Committed>,
    pub model: Model,
    pub recorder: Recorder,
    /// The cluster that something was committed in.
    pub formed: Option<Format>,
    /// How far a disk that was lost, or has forgotten, had held the log.
    lost: BTreeMap<u32, u64>,
    leaders: BTreeMap<u64, u32>,
    votes: BTreeMap<(u32, u64), NodeId>,
    seen: BTreeMap<u32, Seen>,
    /// The highest index at which an answered operation was executed: whoever asks later sees at least this.
    answered: u64,
    /// Suffixes of logs that another leader's entries replaced.
    pub overwritten: u64,
    /// Values of writes that their clients were told would never be executed.
    never: Vec<Vec<u8>>,
}

struct Committed {
    entry: Entry,
    /// The term in which it was first seen committed: leaders of later terms hold it.
    seen_in: u64,
}

/// One node as it was last seen.
#[derive(Default)]
struct Seen {
    /// The log as it was handed to the wal.
    log: Held,
    /// In this life.
    commit: u64,
    applied: u64,
    term: u64,
    /// Highest term that a message of this node shows: durable before it left.
    promised: u64,
    led: u64,
    /// The last entry that the disk holds for certain.
    durable: u64,
}

/// A part of a log.
#[derive(Default)]
pub struct Held {
    /// Index of the first entry.
    pub first: u64,
    pub entries: Vec<Entry>,
}

impl Held {
    fn end(&self) -> u64 {
        self.first.max(1) + self.entries.len() as u64
    }

    fn get(&self, index: u64) -> Option<&Entry> {
        self.entries.get(index.checked_sub(self.first.max(1))? as usize)
    }

    fn truncate(&mut self, end: u64) {
        self.entries.truncate(end.saturating_sub(self.first.max(1)) as usize);
    }
}

impl Oracle {
    pub fn commit_index(&self) -> u64 {
        self.committed.len() as u64
    }

    /// Terms that had a leader.
    pub fn leaders(&self) -> u64 {
        self.leaders.len() as u64
    }

    pub fn committed(&self, index: u64) -> &Entry {
        &self.committed[index as usize - 1].entry
    }

    /// A new process found this on its disk: a log behind `base`.
    pub fn booted(&mut self, node: u32, term: u64, vote: Option<NodeId>, base: EntryId, log: Held, applied: Index) {
        let seen = self.seen.entry(node).or_default();
        if term < seen.promised {
            violated("terms are never forgotten", node, format!("recovered term {term}, promised {}", seen.promised));
        }
        if let (Some(promised), Some(vote)) = (self.votes.get(&(node, term)), vote) {
            if *promised != vote {
                violated(
                    "votes are never forgotten",
                    node,
                    format!("recovered a vote for {vote}, gave it to {promised}"),
                );
            }
        }
        // A snapshot that was fetched, and not installed before the end of the process, takes the place of a log that differs at
        // its index (C-5): what was behind it in that log was never committed.
        let is_replaced = seen.log.get(base.index.0).is_some_and(|entry| entry.header.id != base);
        if log.end() - 1 < seen.durable && applied.0 < seen.durable && !is_replaced {
            let text = format!("durable up to {}, found up to {}", seen.durable, log.end() - 1);
            violated("D-1: what was durable is found again", node, text);
        }
        let newest = log.entries.last().map_or(0, |entry| entry.header.id.term.0);
        if newest > term {
            violated("C-7: no entry is of a later term than its node", node, format!("one of {newest}, term {term}"));
        }
        let committed = self.committed.get(base.index.0.wrapping_sub(1) as usize).map(|entry| entry.entry.header.id);
        if applied.0 > self.committed.len() as u64 || base.index > Index(0) && committed != Some(base) {
            violated("snapshots hold what is committed", node, format!("one up to {applied}, a log behind {base:?}"));
        }
        (seen.commit, seen.applied, seen.term) = (applied.0, applied.0, term);
        (seen.durable, seen.led, seen.log) = (applied.0.max(log.end() - 1), 0, log);
    }

    /// A node hands this to its wal.
    pub fn appended(&mut self, node: u32, append: &raft::Append) {
        let seen = self.seen.entry(node).or_default();
        if let Some(base) = append.base {
            raftkv::mark!("simulation: log restarted behind a snapshot");
            seen.log = Held { first: base.id.index.0 + 1, entries: Vec::new() };
            seen.durable = seen.durable.min(base.id.index.0);
        }
        for entry in &append.entries {
            let index = entry.header.id.index.0;
            if index > seen.log.end() {
                violated("I-14: logs have no gaps", node, format!("entry {index} after {}", seen.log.end() - 1));
            }
            let held = seen.log.get(index);
            let committed = self.committed.get(index as usize - 1);
            // Who has not heard of the term in which it was committed may still follow a leader of an earlier one.
            let bound = |committed: &Committed| {
                index <= seen.commit || seen.term.max(entry.header.id.term.0) >= committed.seen_in
            };
            let stays = committed.filter(|committed| bound(committed)).map(|committed| &committed.entry);
            if held.is_some() && held == stays && held != Some(entry) {
                violated("committed entries are never rewritten", node, format!("{:?}", entry.header));
            }
            self.overwritten += u64::from(held.is_some());
            seen.durable = seen.durable.min(index - 1);
            seen.log.truncate(index);
            seen.log.entries.push(entry.clone());
        }
    }

    /// The disk of a node has taken an append.
    pub fn persisted(&mut self, node: u32, append: &raft::Append) {
        let seen = self.seen.entry(node).or_default();
        let holds = |entry: &Entry| seen.log.get(entry.header.id.index.0) == Some(entry);
        seen.durable = seen.durable.max(persisted_up_to(append, holds));
    }

    /// I-23: a follower acknowledges only what is durable, and what its leader holds as well.
    pub fn acknowledged(&self, node: u32, leader: u32, term: u64, matched: u64) {
        let (Some(own), Some(other)) = (self.seen.get(&node), self.seen.get(&leader)) else { return };
        if matched > own.durable {
            violated(
                "I-23: what is acknowledged is durable",
                node,
                format!("{matched}, durable up to {}", own.durable),
            );
        }
        // Only while it leads; entries of its own term it never takes back.
        if (other.term, other.led) != (term, term) {
            return;
        }
        let id = |seen: &Seen| seen.log.get(matched).map(|entry| entry.header.id);
        if let (Some(own), Some(other)) = (id(own), id(other)) {
            if own != other {
                violated(
                    "I-23: what is acknowledged is the leader's",
                    node,
                    format!("{own:?}, the leader's is {other:?}"),
                );
            }
        }
    }

    /// A message leaves a node.
    pub fn sent(&mut self, envelope: &Envelope) {
        let (node, term) = (envelope.from.0, envelope.term.0);
        if envelope.to == envelope.from {
            violated("I-22: a node says nothing to itself", node, format!("{envelope:?}"));
        }
        if self.formed.is_some() && !self.is_member(node, envelope.incarnation) {
            violated("I-19: who is no member says nothing", node, format!("{envelope:?}"));
        }
        let seen = self.seen.entry(node).or_default();
        match &envelope.message {
            Message::PreVote { .. } | Message::PreVoteReply { .. } | Message::Format(_) => return,
            Message::RequestVoteReply { granted: true } => Self::vote(&mut self.votes, node, term, envelope.to),
            Message::RequestVote { .. } => Self::vote(&mut self.votes, node, term, envelope.from),
            Message::AppendEntries(_) => Self::leads(&mut self.leaders, node, term),
            _ => {}
        }
        seen.promised = seen.promised.max(term);
    }

    /// A node has taken a step.
    pub fn observe(&mut self, node: u32, raft: &Raft, applied: Index) {
        let (term, commit) = (raft.term().0, raft.commit_index().0);
        let seen = self.seen.entry(node).or_default();
        let was = (seen.term, seen.commit, seen.applied);
        let is = (term, commit, applied.0);
        if is.0 < was.0 || is.1 < was.1 || is.2 < was.2 || applied.0 > commit || commit > raft.last().index.0 {
            violated("term, commit, applied never fall; applied <= commit <= last", node, format!("{was:?} to {is:?}"));
        }
        let counted = raft.is_leader() && seen.led == term && commit > was.1;
        (seen.term, seen.commit, seen.applied) = is;
        if let Some(header) = seen.log.get(commit).map(|entry| &entry.header).filter(|_| counted) {
            if header.id.term.0 != term {
                violated("a leader commits entries of its own term", node, format!("{header:?} in term {term}"));
            }
        }
        for index in was.1 + 1..=commit {
            if index < seen.log.first && index <= self.committed.len() as u64 {
                continue; // it came with a snapshot
            }
            let Some(entry) = seen.log.get(index) else {
                violated("what is committed is in the log", node, format!("entry {index} of {}", seen.log.end() - 1));
            };
            match self.committed.get(index as usize - 1) {
                Some(known) if known.entry == *entry => {}
                Some(known) => violated(
                    "the committed prefix is the same everywhere",
                    node,
                    format!("{:?} here, {:?} elsewhere", entry.header, known.entry.header),
                ),
                None => {
                    self.model.apply(entry);
                    self.committed.push(Committed { entry: entry.clone(), seen_in: term });
                }
            }
        }
        if raft.is_leader() && seen.led < term {
            seen.led = term;
            Self::leads(&mut self.leaders, node, term);
            let must = self.committed.iter().take_while(|committed| committed.seen_in < term);
            for committed in must.skip(seen.log.first.max(1) as usize - 1) {
                if seen.log.get(committed.entry.header.id.index.0) != Some(&committed.entry) {
                    violated("a leader holds all that is committed", node, format!("{:?}", committed.entry.header));
                }
            }
        }
    }

    /// Whether this life of a node's disk belongs to the cluster.
    pub fn is_member(&self, node: u32, incarnation: Incarnation) -> bool {
        let is = |member: &protocol::format::Member| (member.id.0, member.incarnation) == (node, incarnation);
        self.formed.as_ref().is_some_and(|format| format.members.iter().any(is))
    }

    /// A node has a new, empty disk. What it said, and its votes, stay said.
    pub fn wiped(&mut self, node: u32) {
        self.forgets(node);
        self.seen.remove(&node);
    }

    /// A node's disk does not hold any more what it held.
    pub fn forgets(&mut self, node: u32) {
        let seen = self.seen.entry(node).or_default();
        self.lost.insert(node, std::mem::take(&mut seen.durable));
    }

    /// The last entry that a node's disk holds for certain.
    pub fn durable(&self, node: u32) -> u64 {
        self.seen.get(&node).map_or(0, |seen| seen.durable)
    }

    /// Whether a disk has, or had before it was lost, a committed entry.
    pub fn held(&self, node: u32, entry: &Entry) -> bool {
        let index = entry.header.id.index.0;
        let lost = self.lost.get(&node).is_some_and(|lost| index <= *lost);
        let holds = |seen: &Seen| index <= seen.durable && seen.log.get(index).is_none_or(|held| held == entry);
        lost || self.seen.get(&node).is_some_and(holds)
    }

    /// Whether a node that starts with this term and vote keeps the promises it has made.
    pub fn keeps_vote(&self, node: u32, term: u64, vote: Option<NodeId>) -> bool {
        let promised = self.seen.get(&node).map_or(0, |seen| seen.promised);
        let given = self.votes.get(&(node, term)).copied();
        term >= promised && (given.is_none() || given == vote)
    }

    /// Whether all that is durable at `node` is also durable at `other`.
    pub fn holds_all_of(&self, other: u32, node: u32) -> bool {
        let (Some(own), Some(theirs)) = (self.seen.get(&node), self.seen.get(&other)) else { return false };
        let end = own.durable;
        let committed = self.committed.get((end as usize).wrapping_sub(1)).map(|committed| &committed.entry);
        match (own.log.get(end).or(committed), theirs.log.get(end)) {
            _ if end > theirs.durable => false,
            (Some(own), Some(theirs)) => own == theirs,
            // It came with a snapshot of what is committed.
            _ => end <= self.commit_index(),
        }
    }

    /// What whoever asks now must see.
    pub fn floor(&self) -> u64 {
        self.answered
    }

    /// An operation was answered to have been executed at `index`, having been asked when the floor was `floor`.
    pub fn answered(&mut self, node: u32, index: u64, floor: u64, write: bool) {
        if index < floor || (write && index == floor) {
            violated("real-time order", node, format!("executed at {index}, after an answer from {floor}"));
        }
        if index > self.commit_index() {
            violated("only what is committed is answered", node, format!("{index} above {}", self.commit_index()));
        }
        self.answered = self.answered.max(index);
    }

    /// A client was told that this write was not executed and never will be. It shows by its values.
    pub fn never(&mut self, write: &Action) {
        match write {
            Action::Put { value, .. } | Action::Update { value, .. } | Action::CompareAndSet { value, .. } => {
                self.never.push(value.to_vec());
            }
            Action::Batch(writes) => writes.iter().for_each(|write| self.never(write)),
            _ => {}
        }
    }

    /// At the end: what was said never to be executed was not.
    pub fn check_never(&self) {
        for value in &self.never {
            if self.model.executed.contains_key(value) {
                violated("C-23: 503 means never", 0, String::from_utf8_lossy(value));
            }
        }
    }

    /// At the end: what clients were told is linearizable.
    pub fn check_history(&self) {
        let done = self.committed.iter().filter_map(|committed| {
            let index = committed.entry.header.id.index.0;
            Some((index, executed(&committed.entry, self.model.reply(index)?)?))
        });
        self.recorder.check(&done.collect());
    }

    fn vote(votes: &mut BTreeMap<(u32, u64), NodeId>, node: u32, term: u64, candidate: NodeId) {
        let first = *votes.entry((node, term)).or_insert(candidate);
        if first != candidate {
            violated("one vote per term", node, format!("term {term}: for {first}, then for {candidate}"));
        }
    }

    fn leads(leaders: &mut BTreeMap<u64, u32>, node: u32, term: u64) {
        let first = *leaders.entry(term).or_insert(node);
        if first != node {
            violated("one leader per term", node, format!("term {term} already has leader {first}"));
        }
    }
}
