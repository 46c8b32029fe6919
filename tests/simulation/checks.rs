//! What is looked at rarely, because it is dear: durability on copies of the disks, and the state at the end.

use protocol::message::{Envelope, Message};
use protocol::{Entry, Index};
use raftkv::disk::VirtualDisk;
use raftkv::wal::{LogBase, LogReader, ReadResult};

use crate::io_loop::IoLoop;
use crate::model::Stored;
use crate::node::{open, Opened, Process};
use crate::oracle::violated;
use crate::runs::Summary;
use crate::world::World;

impl World {
    /// Cuts the power of copies of all disks: a majority still holds the committed entry (I-8).
    pub fn check_durable(&mut self, seen_by: u32, index: u64) {
        let entry = self.oracle.committed(index).clone();
        let mut holders = 0;
        for id in 0..self.profile.nodes {
            if self.nodes[id as usize].damage.is_harmed() {
                holders += usize::from(self.oracle.held(id, &entry));
                continue;
            }
            let disk = self.nodes[id as usize].disk.duplicate();
            disk.power_cut(self.random.next());
            disk.set_free_space(None);
            holders += usize::from(self.holds_after_boot(id, disk, &entry));
        }
        if holders <= self.nodes.len() / 2 {
            violated(
                "what is committed is durable on a majority",
                seen_by,
                format!("{:?} on {holders}", entry.header.id),
            );
        }
    }

    pub fn holds_after_boot(&mut self, id: u32, disk: VirtualDisk, entry: &Entry) -> bool {
        let options = self.nodes[id as usize].wal_options(&self.profile);
        let Opened { wal, found, snapshot, .. } = match open(disk, options) {
            Ok(opened) => opened,
            Err(error) => violated("a node finds its disk as it left it", id, format!("{error:?}")),
        };
        let index = entry.header.id.index;
        // A snapshot is compared with the committed state where it is loaded.
        let covered = snapshot.is_some_and(|summary| summary.position.id.index >= index);
        covered || whole_log(&wal.reader(), found.base).iter().any(|held| held == entry)
    }

    /// I-7, I-23: what a message says of its sender would still be so if the power went now.
    pub fn check_promise_on_disk(&mut self, envelope: &Envelope) {
        let id = envelope.from.0;
        if self.nodes[id as usize].damage.is_harmed() {
            return;
        }
        let (vote, matched) = match &envelope.message {
            Message::RequestVoteReply { granted: true } => (Some(envelope.to), Index(0)),
            Message::RequestVote { .. } => (Some(envelope.from), Index(0)),
            Message::AppendReply(reply) => (None, reply.matched),
            _ => return,
        };
        let disk = self.nodes[id as usize].disk.duplicate();
        disk.power_cut(self.random.next());
        disk.set_free_space(None);
        let options = self.nodes[id as usize].wal_options(&self.profile);
        let Opened { found, .. } = match open(disk, options) {
            Ok(opened) => opened,
            Err(error) => violated("a node finds its disk as it left it", id, format!("{error:?}")),
        };
        raftkv::mark!("simulation: promise compared with the disk");
        let held = found.meta.hard_state;
        if held.term < envelope.term || (held.term == envelope.term && vote.is_some() && held.vote != vote) {
            violated("I-7: terms and votes are durable when they are told", id, format!("{held:?}, {envelope:?}"));
        }
        if found.last.index < matched {
            let text = format!("{matched:?} told, {:?} held", found.last);
            violated("I-23: what is acknowledged is durable", id, text);
        }
    }

    /// I-13, I-15, I-16: the state of a node is the one that the committed log makes, each sequence executed once.
    pub fn check_state(&self, id: u32) {
        let process = self.nodes[id as usize].process.as_ref().expect("it runs");
        let mut reader = process.replica.store().reader();
        let pinned = reader.pin();
        let applied = pinned.applied().0;
        let mut expected = self.oracle.model.range_at(b"", applied);
        for item in pinned.range(b"", None) {
            let (key, stored) = expected.next().unzip();
            let versioned = item.versioned;
            let same = |stored: &Stored| {
                let theirs = (versioned.revision.0, versioned.create_revision.0, versioned.version);
                stored.value == versioned.value && (stored.revision, stored.create_revision, stored.version) == theirs
            };
            if key.is_none_or(|key| key != item.key) || !stored.is_some_and(same) {
                violated("I-13: a snapshot is the state at its index", id, format!("{item:?} at {applied}"));
            }
        }
        if let Some((key, _)) = expected.next() {
            violated("I-13: a snapshot is the state at its index", id, format!("{key:?} is missing at {applied}"));
        }
    }

    pub fn check_the_end(&mut self) {
        self.oracle.check_never();
        self.oracle.check_history();
        for id in 0..self.profile.nodes {
            if self.nodes[id as usize].process.is_some() {
                self.check_state(id);
            }
        }
        if !self.profile.beyond {
            self.check_equal();
        }
    }

    fn check_equal(&mut self) {
        self.check_counters();
        let able = self.nodes.iter().filter(|node| self.can_run(node.id));
        let digests: Vec<u32> = able.filter_map(|node| node.process.as_ref()).map(session_digest).collect();
        if digests.iter().any(|digest| *digest != digests[0]) {
            violated("equal logs make equal sessions", u32::MAX, format!("{digests:?}"));
        }
        let all: Vec<(Vec<u8>, u64)> =
            self.oracle.model.all().map(|(key, stored)| (key.clone(), stored.revision)).collect();
        for node in self.nodes.iter().filter(|node| self.can_run(node.id)) {
            let process = node.process.as_ref().expect("all that can run do so at the end");
            let mut reader = process.replica.store().reader();
            let pinned = reader.pin();
            let held: Vec<(Vec<u8>, u64)> =
                pinned.range(b"", None).map(|item| (item.key.to_vec(), item.versioned.revision.0)).collect();
            if held != all || process.replica.store().keys() != all.len() as u64 {
                violated(
                    "equal logs make equal states",
                    node.id,
                    format!("{} keys, expected {}", held.len(), all.len()),
                );
            }
            for (key, _) in &all {
                let (found, stored) = (pinned.get(key), self.oracle.model.at(key, u64::MAX));
                if found.map(|found| found.value.to_vec()) != stored.map(|stored| stored.value.clone()) {
                    violated("equal logs make equal states", node.id, String::from_utf8_lossy(key));
                }
            }
        }
        let index = self.oracle.commit_index();
        self.check_durable(0, index);
    }

    pub fn io_loops(&self) -> Vec<Option<&IoLoop>> {
        self.nodes.iter().map(|node| node.process.as_ref().map(|process| &process.io)).collect()
    }

    pub fn summary(&self) -> Summary {
        let mut summary = Summary {
            trace: self.trace,
            events: self.events,
            simulated: self.elapsed(),
            safety: self.safety,
            completed_in_safety: self.completed_in_safety,
            committed: self.oracle.commit_index(),
            leader_changes: self.oracle.leaders().saturating_sub(1),
            features: self.features(),
            ..Summary::default()
        };
        for client in &self.clients {
            summary.executed += client.tally.executed;
            summary.read += client.tally.read;
            summary.unknown += client.tally.unknown;
            summary.not_executed += client.tally.not_executed;
            summary.copies += client.tally.copies;
            summary.asked_about += client.tally.asked_about;
        }
        let counters = self.counters();
        (summary.increments, summary.counters_exact) = (counters.times(), counters.is_exact());
        summary
    }
}

fn session_digest(process: &Process) -> u32 {
    process.replica.store().sessions().digest()
}

/// All entries of a log behind its base, through the code that serves lagging peers.
pub fn whole_log(reader: &LogReader, base: LogBase) -> Vec<Entry> {
    let mut log: Vec<Entry> = Vec::new();
    loop {
        let previous = log.last().map_or(base.id, |entry| entry.header.id);
        let chain = Some(log.last().map_or(base.chain, |entry| entry.header.chain));
        match reader.read(previous.index.next(), 1 << 20, previous, chain) {
            Ok(ReadResult::Entries(entries)) if !entries.is_empty() => log.extend(entries),
            _ => return log,
        }
    }
}
