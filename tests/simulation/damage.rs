//! Damage that outlives processes: rot, pages that went astray, disks that were wiped, disks that come back from a backup.
//!
//! In normal mode no more disks are harmed than a cluster can lose, so that the last good copy of nothing is among them. What
//! nobody can notice, the rot of a log's last write (C-3) and an old disk, only happens while a majority of the others holds
//! all that is forgotten, and no vote is. Beyond the promise (`--beyond`) any disk may be harmed, but not all are wiped: then
//! nobody would know that there was a cluster.

use std::collections::BTreeSet;
use std::path::Path;

use raftkv::disk::VirtualDisk;
use raftkv::time::Span;

use crate::node::{open, Opened, DATA};
use crate::oracle::violated;
use crate::world::{Event, World};

/// What is wrong with a node's disk.
#[derive(Default)]
pub struct Damage {
    /// Something on it is, or may be, not what was written: it may be refused.
    pub harmed: bool,
    /// The files that were harmed since a start found them good; snapshots, since ever.
    files: BTreeSet<String>,
    /// One snapshot is all that covers the log, and none was taken since: the log restarted behind it, or another one was set
    /// aside.
    pub is_covered_once: bool,
    /// A start has made both meta files: before, a first start may have lost its power between the two.
    has_meta_twins: bool,
    /// A page has gone astray, or will: older bytes that look good may be there, so nothing else goes wrong with this disk.
    astray: bool,
    /// Bytes that the log had written when its last write was harmed: a start takes it for a torn end until there is a Batch
    /// behind it (C-3).
    uncovered: Option<u64>,
    pub out: Option<Out>,
    backup: Option<VirtualDisk>,
}

/// Why a node has no part in its cluster any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Out {
    /// It does not start: its disk was refused (78), or would have forgotten what the others need.
    Off,
    /// Its disk is a new one: whoever was formed with the one before refuses it (C-17).
    Wiped,
    /// It runs, and does not hold any more what it acknowledged: its leader does not bring it up to date.
    Forgetful,
}

impl Damage {
    /// Whether it counts as lost.
    pub fn is_harmed(&self) -> bool {
        self.harmed || self.out.is_some()
    }

    /// Whether a start may say that it cannot believe this disk: one meta file has its twin once both were made, one snapshot
    /// the one before it and the log.
    pub fn excuses_refusal(&self) -> bool {
        let harmed = |kind: &str| self.files.iter().filter(|file| file.starts_with(kind)).count();
        harmed("log-") > 0
            || harmed("meta-") > usize::from(self.has_meta_twins)
            || harmed("snapshot-") > usize::from(!self.is_covered_once)
    }

    /// A start has believed it: the log is good, and the meta files were made equal. Where a harmed snapshot was set aside, one
    /// is left until the next is taken.
    pub fn started(&mut self, disk: &VirtualDisk) {
        let there = |file: &String| disk.files().iter().any(|(path, _)| path == &Path::new(DATA).join(file));
        self.files.retain(|file| file.starts_with("snapshot-"));
        let before = self.files.len();
        self.files.retain(there);
        self.is_covered_once |= self.files.len() < before;
        self.has_meta_twins = true;
    }

    /// Notes a harmed file; snapshots by the name that they will have.
    fn harm(&mut self, file: &str) {
        let name = file.strip_suffix(".taking").or(file.strip_suffix(".receiving")).unwrap_or(file);
        self.files.insert(name.to_owned());
        self.harmed = true;
    }

    pub fn is_off(&self) -> bool {
        self.out == Some(Out::Off)
    }
}

impl World {
    /// Whether a node's disk may be harmed, or is already.
    pub fn may_harm(&self, id: u32) -> bool {
        let lost = self.nodes.iter().filter(|node| node.id != id && node.damage.is_harmed()).count();
        let is_one_too_many = lost + 1 > (self.nodes.len() - 1) / 2;
        self.nodes[id as usize].damage.out.is_none() && (self.profile.beyond || !is_one_too_many)
    }

    /// Whether a node belongs to the cluster and can start.
    pub fn can_run(&self, id: u32) -> bool {
        let node = &self.nodes[id as usize];
        match node.damage.out {
            None => true,
            Some(Out::Wiped) => {
                let incarnation = node.process.as_ref().map(|process| process.wal.meta().incarnation);
                self.oracle.formed.is_none() || incarnation.is_some_and(|own| self.oracle.is_member(id, own))
            }
            Some(Out::Off | Out::Forgetful) => false,
        }
    }

    pub fn rot(&mut self, id: u32, file: &str, offset: u64, seed: u64) {
        let may = self.may_harm(id);
        let node = &mut self.nodes[id as usize];
        if !may || node.damage.astray {
            return;
        }
        let Some(in_last_write) = node.disk.rot(&Path::new(DATA).join(file), offset, seed) else { return };
        raftkv::mark!("simulation: rot");
        node.damage.harm(file);
        if in_last_write && is_log(file) {
            node.damage.uncovered = Some(node.written());
        }
    }

    pub fn misdirect(&mut self, id: u32, seed: u64) {
        let may = self.may_harm(id);
        let node = &mut self.nodes[id as usize];
        if may && !node.damage.harmed {
            node.disk.misdirect(seed);
            (node.damage.harmed, node.damage.astray) = (true, true);
        }
    }

    /// A node's disk has been written to.
    pub fn note_written_pages(&mut self, id: u32) {
        let node = &mut self.nodes[id as usize];
        if let Some(path) = node.disk.take_astray() {
            raftkv::mark!("simulation: page astray");
            let file = path.file_name().expect("it is a file's").to_string_lossy().into_owned();
            node.damage.harm(&file);
            if is_log(&file) {
                node.damage.uncovered = Some(node.written());
            }
        } else if node.damage.uncovered.is_some_and(|written| node.written() > written) {
            node.damage.uncovered = None;
        }
    }

    pub fn wipe(&mut self, id: u32, back_after: Span) {
        if self.may_harm(id) && self.may_replace(id) {
            self.crash(id, true, back_after);
            self.replace_disk(id);
        }
    }

    pub fn back_up(&mut self, id: u32, seed: u64) {
        let node = &mut self.nodes[id as usize];
        let copy = node.disk.duplicate();
        copy.power_cut(seed);
        copy.set_free_space(None);
        node.damage.backup = Some(copy);
    }

    /// Whether it may be that a node starts again with the disk of its backup.
    pub fn may_restore(&self, id: u32) -> bool {
        let damage = &self.nodes[id as usize].damage;
        damage.backup.is_some() && !damage.harmed && self.may_harm(id) && self.others_hold(id)
    }

    /// The node starts again with the disk of its backup, unless that breaks what no cluster can bear.
    pub fn restore(&mut self, id: u32, back_after: Span) {
        let may = self.may_restore(id);
        let Some(backup) = self.nodes[id as usize].damage.backup.take().filter(|_| may) else { return };
        let options = self.nodes[id as usize].wal_options(&self.profile);
        let opened = open(backup.duplicate(), options);
        let Opened { found, .. } = opened.unwrap_or_else(|error| {
            violated("a node finds its disk as it left it", id, format!("in a backup: {error:?}"))
        });
        let hard_state = found.meta.hard_state;
        if found.meta.format.is_some() && self.oracle.keeps_vote(id, hard_state.term.0, hard_state.vote) {
            raftkv::mark!("simulation: disk restored from a backup");
            self.crash(id, true, back_after);
            self.nodes[id as usize].disk = backup;
            self.forgets(id);
        }
    }

    /// Before a start: what the last write of the log brought may be gone, and the node cannot notice.
    pub fn examine(&mut self, id: u32) {
        if self.nodes[id as usize].damage.uncovered.take().is_none() {
            return;
        }
        let options = self.nodes[id as usize].wal_options(&self.profile);
        let disk = self.nodes[id as usize].disk.duplicate();
        disk.set_free_space(None);
        let Ok(Opened { found, .. }) = open(disk, options) else { return };
        let hard_state = found.meta.hard_state;
        let keeps_vote = self.oracle.keeps_vote(id, hard_state.term.0, hard_state.vote);
        if keeps_vote && found.last.index.0 >= self.oracle.durable(id) {
            return;
        }
        raftkv::mark!("simulation: the last write of a log is lost");
        if keeps_vote && self.others_hold(id) {
            self.forgets(id);
        } else {
            self.nodes[id as usize].damage.out = Some(Out::Off);
        }
    }

    /// A start has refused the disk of a node that was harmed.
    pub fn refused(&mut self, id: u32) {
        raftkv::mark!("simulation: damage refused");
        self.nodes[id as usize].damage.out = Some(Out::Off);
        let is_forming = self.oracle.formed.is_none();
        if self.may_replace(id) && (is_forming || self.random.chance(500)) {
            self.replace_disk(id);
            self.queue.after(Span::millis(self.random.between(10, 1_000)), Event::Boot { node: id });
        }
    }

    /// Some disk must know that there is a cluster.
    fn may_replace(&self, id: u32) -> bool {
        let wiped = |node: &&crate::node::Node| node.id != id && node.damage.out == Some(Out::Wiped);
        self.nodes.iter().filter(wiped).count() + 1 < self.nodes.len()
    }

    fn replace_disk(&mut self, id: u32) {
        raftkv::mark!("simulation: disk replaced");
        let node = &mut self.nodes[id as usize];
        node.disk = VirtualDisk::new();
        node.disk_is_full = false;
        node.damage = Damage { out: Some(Out::Wiped), ..Damage::default() };
        self.oracle.wiped(id);
    }

    fn forgets(&mut self, id: u32) {
        self.nodes[id as usize].damage.out = Some(Out::Forgetful);
        self.oracle.forgets(id);
    }

    /// Whether a majority, without this node, holds all that it does.
    fn others_hold(&self, id: u32) -> bool {
        let holds = |node: &&crate::node::Node| {
            node.id != id && !node.damage.is_harmed() && self.oracle.holds_all_of(node.id, id)
        };
        self.nodes.iter().filter(holds).count() > self.nodes.len() / 2
    }
}

fn is_log(file: &str) -> bool {
    file.starts_with("log-")
}
