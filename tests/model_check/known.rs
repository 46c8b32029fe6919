//! What was seen once and has a number since: nodes, messages, and what becomes of a node when something happens to it.
//!
//! A node depends on nothing but itself and what it is told, so the real `Raft` runs once for each pair of the two, and a
//! search over whole clusters only looks up numbers.
#![allow(clippy::disallowed_types, reason = "looked up by digest, never iterated")]

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::panic::{catch_unwind, AssertUnwindSafe};

use protocol::message::{Envelope, Message};
use protocol::{Chain, Entry, EntryId};
use raftkv::raft::Role;

use raftkv::time::Time;

use super::digest::{digest, fold, text, Digest, Names, Reading, OWN_NAMES};
use super::letters::{Letter, Letters, LETTERS_MAX};
use super::node::{Node, Step};

/// An entry, as far as it can differ, by its number.
pub type Held = u8;
/// What happens to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    Hears(Letter),
    Takes(Step),
}

/// What becomes of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub node: u32,
    pub sent: Letters,
}

/// A node as it once was, with what whole clusters ask of it.
pub struct Known {
    node: Node,
    pub digests: Vec<Digest>,
    /// How much had happened to it when it was first seen.
    pub age: usize,
    pub term: u64,
    pub disk_term: u64,
    pub disk_voted: bool,
    pub leads: bool,
    pub campaigns: bool,
    pub follows: bool,
    pub commit: usize,
    pub log: Vec<Held>,
    pub disk: Vec<Held>,
    /// Of each write under way: whether it brings a term or vote *and* entries.
    pub writes: Vec<bool>,
}

/// A message that was sent once.
pub struct Sent {
    pub envelope: Envelope,
    /// What it is under each of the names. Such a number may be of a message that was never sent.
    pub classes: Vec<Letter>,
    pub from: usize,
    pub to: usize,
}

pub struct Everything {
    pub nodes: Vec<Known>,
    pub letters: Vec<Sent>,
    pub entries: Vec<(EntryId, Chain)>,
    /// As what nodes may be seen: the first keeps their names.
    names: Vec<Names>,
    nodes_by_digest: Map<Digest, u32>,
    letters_by_digest: Map<Digest, Letter>,
    classes: Map<Digest, Letter>,
    outcomes: Map<u64, Result<Outcome, String>>,
}

/// For keys that are digests, or as good.
pub type Map<K, V> = HashMap<K, V, BuildHasherDefault<Plain>>;

/// The key's low half, spread.
#[derive(Default)]
pub struct Plain(u64);

impl Hasher for Plain {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are numbers");
    }

    fn write_u64(&mut self, key: u64) {
        let spread = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = spread ^ (spread >> 32);
    }

    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }
}

impl Everything {
    /// Nothing, seen under these names.
    pub fn new(names: Vec<Names>) -> Self {
        assert_eq!(names[0], OWN_NAMES);
        let (nodes, letters, entries) = (Vec::new(), Vec::new(), Vec::new());
        let (nodes_by_digest, letters_by_digest, outcomes) = (Map::default(), Map::default(), Map::default());
        let classes = Map::default();
        Self { nodes, letters, entries, names, nodes_by_digest, letters_by_digest, classes, outcomes }
    }

    pub fn names(&self) -> &[Names] {
        &self.names
    }

    /// The node with this number.
    pub fn node(&self, number: u32) -> &Known {
        &self.nodes[number as usize]
    }

    /// The message with this number.
    pub fn letter(&self, letter: Letter) -> &Sent {
        &self.letters[usize::from(letter)]
    }

    /// What becomes of a node. Err: what does not hold afterwards; an assertion of the code under test is such a thing too.
    pub fn outcome(&mut self, node: u32, happening: Happening) -> Result<&Outcome, String> {
        let key = u64::from(node) << 32 | u64::from(code(happening));
        if !self.outcomes.contains_key(&key) {
            let outcome = self.find_out(node, happening);
            self.outcomes.insert(key, outcome);
        }
        self.outcomes[&key].as_ref().map_err(String::clone)
    }

    fn find_out(&mut self, number: u32, happening: Happening) -> Result<Outcome, String> {
        let (mut node, mut sent) = (self.node(number).node.clone(), Vec::new());
        let taken = catch_unwind(AssertUnwindSafe(|| match happening {
            Happening::Hears(letter) => node.hear(self.letter(letter).envelope.clone(), &mut sent),
            Happening::Takes(step) => node.take(step, &mut sent),
        }));
        match taken {
            Ok(result) => result?,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
                return Err(text.unwrap_or("a panic without words").to_owned());
            }
        }
        let sent = sent.into_iter().map(|envelope| self.number_letter(envelope)).collect();
        Ok(Outcome { node: self.number_node(node, self.node(number).age + 1), sent })
    }

    /// The number of a node, to which so much has happened.
    pub fn number_node(&mut self, node: Node, age: usize) -> u32 {
        let writes = node.writes();
        let text = text(&(&node.raft, &writes, &node.disk));
        let sequences: Vec<u64> = writes.iter().map(|write| write.sequence.0).collect();
        let under = |names: &Names| {
            let reading = Reading { now: node.clock, writes: &sequences, names: *names };
            fold(names[node.id] as Digest, digest(&text, reading))
        };
        let own = under(&OWN_NAMES);
        if let Some(number) = self.nodes_by_digest.get(&own) {
            return *number;
        }
        let digests = self.names.iter().map(under).collect();
        let number = u32::try_from(self.nodes.len()).expect("there are fewer nodes than states");
        let (log, disk) = (self.number_entries(&node.log), self.number_entries(&node.disk.log));
        self.nodes_by_digest.insert(own, number);
        self.nodes.push(Known {
            digests,
            age,
            term: node.raft.term().0,
            disk_term: node.disk.hard_state.term.0,
            disk_voted: node.disk.hard_state.vote.is_some(),
            leads: node.raft.is_leader(),
            campaigns: matches!(node.raft.role(), Role::Candidate(_)),
            follows: !node.raft.is_leader() && node.raft.leader().is_some(),
            commit: usize::try_from(node.raft.commit_index().0).expect("logs are short"),
            log,
            disk,
            writes: writes.iter().map(|write| write.hard_state.is_some() && !write.entries.is_empty()).collect(),
            node,
        });
        number
    }

    fn number_letter(&mut self, envelope: Envelope) -> Letter {
        let text = text(&envelope);
        let under = |names: &Names| digest(&text, Reading { now: Time(0), writes: &[], names: *names });
        let own = under(&OWN_NAMES);
        if let Some(letter) = self.letters_by_digest.get(&own) {
            return *letter;
        }
        let classes = self.names.iter().map(under).map(|digest| {
            let next = Letter::try_from(self.classes.len()).expect("there are few different messages");
            assert!(usize::from(next) < LETTERS_MAX, "there are fewer different messages");
            *self.classes.entry(digest).or_insert(next)
        });
        let classes = classes.collect();
        let letter = Letter::try_from(self.letters.len()).expect("there are few different messages");
        self.letters_by_digest.insert(own, letter);
        let (from, to) = (envelope.from.0 as usize, envelope.to.0 as usize);
        self.letters.push(Sent { envelope, classes, from, to });
        letter
    }

    fn number_entries(&mut self, log: &[Entry]) -> Vec<Held> {
        let mut number = |entry: &Entry| {
            let held = (entry.header.id, entry.header.chain);
            let position = self.entries.iter().position(|known| *known == held).unwrap_or_else(|| {
                self.entries.push(held);
                self.entries.len() - 1
            });
            Held::try_from(position).expect("there are few different entries")
        };
        log.iter().map(&mut number).collect()
    }
}

impl Known {
    /// Whether a message from `sender` to this node may still change anything, if no term is higher than `last_term`. Terms on
    /// disks do not fall. So whoever knows of a later term, durably, does not look at answers about an earlier one; who does not
    /// lead or campaign in its durable term never will; and what could only be answered matters as the answer would.
    pub fn may_mind(&self, envelope: &Envelope, sender: &Known, last_term: u64) -> bool {
        let (durable, term) = (self.disk_term, envelope.term.0);
        let in_durable = term == durable && self.term == durable;
        match envelope.message {
            Message::PreVoteReply { granted: true } => term > durable,
            Message::PreVoteReply { .. } => term > durable || term == durable && durable < last_term,
            Message::RequestVoteReply { .. } => term > durable || in_durable && self.campaigns,
            Message::AppendReply(_) => term > durable || in_durable && self.leads,
            // In the last term, nobody asks for another one.
            Message::PreVote { .. } => sender.disk_term < last_term,
            Message::RequestVote { .. } => {
                let voted = term < durable || term == durable && self.disk_voted;
                !voted || sender.disk_term < last_term || sender.campaigns
            }
            Message::AppendEntries(_) => term >= durable || sender.disk_term < last_term || sender.leads,
            _ => true,
        }
    }
}

fn code(happening: Happening) -> u32 {
    let step = match happening {
        Happening::Hears(letter) => return letter.into(),
        Happening::Takes(step) => step,
    };
    let code = match step {
        Step::Persist => 0,
        Step::Timeout => 1,
        Step::TimeoutOnHungDisk => 2,
        Step::Silence => 3,
        Step::Heartbeat => 4,
        Step::Notice => 5,
        Step::Propose => 6,
        Step::Reconnect(peer) => 0x100 + u32::from(peer),
        Step::Crash { written, meta } => 0x200 + 2 * u32::from(written) + u32::from(meta),
    };
    1 << 16 | code
}
