//! What must hold after each step, whatever happened (paper figure 3, and the durability rules of C-7, C-10, C-11, C-18).

use std::collections::BTreeMap;

use protocol::message::{Envelope, Message};
use protocol::{Chain, EntryId, Index, NodeId, Term};
use raftkv::raft::ReadState;

use super::node::Node;

#[derive(Debug, Default)]
pub struct Checker {
    /// Who led which term.
    pub leaders: BTreeMap<Term, NodeId>,
    /// Every entry that ever was handed to a disk: the chain covers all before it, so this is log matching.
    chains: BTreeMap<EntryId, Chain>,
    /// What was committed, and the term of whoever first knew.
    pub committed: Vec<(EntryId, Term)>,
    /// Each node's commit index and term as last seen, in this life.
    seen: BTreeMap<NodeId, (Index, Term, u64)>,
    /// Reads under way: who was asked, and the commit index at that moment.
    pub asked: BTreeMap<u64, (u32, Index)>,
}

impl Checker {
    pub fn top(&self) -> Index {
        Index(self.committed.len() as u64)
    }

    pub fn entry_handed(&mut self, id: EntryId, chain: Chain) {
        let known = *self.chains.entry(id).or_insert(chain);
        assert_eq!(known, chain, "log matching: {id:?} is two different entries");
    }

    /// After a node was run.
    pub fn node(&mut self, node: &Node, all: &[Node]) {
        let Some(raft) = &node.raft else { return };
        let id = node.settings.id;
        if node.stop.is_some() {
            return;
        }
        let (commit, term) = (raft.commit_index(), raft.term());
        let before = self.seen.insert(id, (commit, term, node.lives));
        if let Some((old_commit, old_term, _)) = before.filter(|(_, _, life)| *life == node.lives) {
            assert!(commit >= old_commit, "node {id}: commit index fell from {old_commit} to {commit}");
            assert!(term >= old_term, "node {id}: term fell");
        }
        assert!(raft.applied_index() <= commit && commit <= raft.last().index, "node {id}: applied <= commit <= last");
        assert!(raft.durable_index() <= node.durable.last().index, "node {id} calls durable what is not");
        let durable = raft.durable_index();
        // While a restart of the log is on its way to the disk, what was committed before it is durable.
        if durable >= node.handed.base.id.index && durable >= node.durable.base.id.index {
            let (on_disk, handed) = (node.durable.position(durable), node.handed.position(durable));
            assert_eq!(on_disk, handed, "node {id}: what counts as durable is on disk");
        }
        assert_eq!(
            node.applied.len() as u64,
            raft.applied_index().0,
            "node {id}: the state machine is where Raft says"
        );
        if raft.is_leader() {
            self.leader(node, term);
        }
        self.committed_prefix(node, commit, term, all);
    }

    fn leader(&mut self, node: &Node, term: Term) {
        let id = node.settings.id;
        let news = !self.leaders.contains_key(&term);
        let known = *self.leaders.entry(term).or_insert(id);
        assert_eq!(known, id, "one leader per term: {term}");
        if !news {
            return;
        }
        // Leader completeness: whatever was committed in an earlier term.
        for (index, (entry, _)) in self.committed.iter().enumerate().filter(|(_, (_, by))| *by < term) {
            let index = Index(index as u64 + 1);
            if index >= node.handed.base.id.index {
                let own = node.handed.position(index).map(|(id, _)| id);
                assert_eq!(own, Some(*entry), "leader completeness: node {id} leads term {term}");
            }
        }
    }

    fn committed_prefix(&mut self, node: &Node, commit: Index, term: Term, all: &[Node]) {
        let id = node.settings.id;
        for index in self.top().0 + 1..=commit.0 {
            // In the log, or in the snapshot that has taken its place.
            let applied = || node.applied.get(usize::try_from(index - 1).expect("small"));
            let entry = node.handed.at(Index(index)).or_else(applied).expect("committed entries are here").header.id;
            self.committed.push((entry, term));
            let holders = all.iter().filter(|node| node.holds(entry)).count();
            let puppets = all.iter().any(|node| node.puppet);
            assert!(
                puppets || holders > all.len() / 2,
                "node {id}: {entry:?} is committed and {holders} disks hold it"
            );
        }
        if commit > Index(0) {
            let own = node.handed.position(commit).map(|(id, _)| id);
            let (entry, _) = self.committed[usize::try_from(commit.0).expect("small") - 1];
            assert_eq!(own, Some(entry), "state machine safety: node {id} at {commit}");
        }
        for (position, entry) in node.applied.iter().enumerate().rev().take(8) {
            assert_eq!(entry.header.id, self.committed[position].0, "node {id} applied something else");
        }
    }

    /// A message leaves: what it says must already be on its sender's disk.
    pub fn leaves(&self, envelope: &Envelope, all: &[Node]) {
        let sender = &all[envelope.from.0 as usize];
        let disk = &sender.durable.hard_state;
        let term = envelope.term;
        let vote_durable = |vote: NodeId| disk.term > term || (disk.term == term && disk.vote == Some(vote));
        match &envelope.message {
            Message::PreVote { .. } | Message::PreVoteReply { granted: true } => return,
            Message::RequestVote { .. } => assert!(vote_durable(envelope.from), "asks before its own vote is durable"),
            Message::RequestVoteReply { granted: true } => {
                assert!(vote_durable(envelope.to), "grants before the vote is durable: {envelope:?}");
            }
            Message::AppendEntries(append) if !append.heartbeat => {
                let (previous, chain) = sender.handed.before(append.previous.index.next());
                assert_eq!((append.previous, append.previous_chain), (previous, chain), "not its own log");
                for (entry, index) in append.entries.iter().zip(append.previous.index.0 + 1..) {
                    assert_eq!(
                        Some(entry),
                        sender.handed.at(Index(index)),
                        "a leader sends its own log, without holes"
                    );
                }
            }
            Message::AppendReply(reply) if reply.matched > Index(0) => {
                let held = sender.durable.position(reply.matched).map(|(id, _)| id);
                let covered = reply.matched <= sender.durable.base.id.index;
                assert!(held.is_some() || covered, "acknowledges before durable: {envelope:?}");
                let leader = &all[envelope.to.0 as usize];
                let leads = leader.raft.as_ref().is_some_and(|raft| raft.is_leader() && raft.term() == term);
                let theirs = leader.handed.position(reply.matched).map(|(id, _)| id);
                let compared = leads && held.is_some() && theirs.is_some();
                assert!(!compared || held == theirs, "acknowledges another entry than the leader's: {envelope:?}");
            }
            Message::InstallSnapshot(offer) => {
                let held = sender.snapshots.iter().any(|snapshot| snapshot.offer() == *offer);
                assert!(held, "offers what is not on its disk: {envelope:?}");
                let committed = self.committed.get(usize::try_from(offer.last.index.0).expect("small") - 1);
                assert_eq!(committed.map(|(id, _)| *id), Some(offer.last), "a snapshot ends with a committed entry");
            }
            _ => {}
        }
        assert!(disk.term >= term, "speaks in a term that is not durable: {envelope:?}");
    }

    /// A read index covers everything that was committed when it was asked for (C-18).
    pub fn read_answered(&mut self, node: NodeId, read: &ReadState) {
        let (_, asked) = self.asked.remove(&read.token).expect("each read is answered once");
        if let Ok(index) = read.result {
            assert!(index >= asked, "stale read at node {node}: {index} when {asked} was committed");
        }
    }
}
