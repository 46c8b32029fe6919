//! Three nodes, the messages under way, and what must always hold.

use std::fmt;

use protocol::message::{Envelope, Message};
use protocol::EntryId;
use raftkv::time::{Span, Time};

use super::digest::{fold, Digest, Names, LONG, OWN_NAMES};
use super::known::{Everything, Happening, Held, Map, Outcome};
use super::letters::{Letter, Letters};
use super::node::{Disk, Node, Step, NODES};

/// As often as anybody likes.
pub const ANY: u8 = u8::MAX;

/// How much of everything there may be, on any way. Messages may be late and lost without any bound.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    /// No campaign for a higher term.
    pub term: u64,
    /// No proposal behind this index. The entry with which a term begins may lie one behind.
    pub index: u64,
    /// Appends of a node under way that change its disk: what would make another one waits, or is lost.
    pub writes: usize,
    pub left: Left,
}

/// How often each of these may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Timeouts and silences.
    pub timeouts: u8,
    pub heartbeats: u8,
    pub crashes: u8,
    pub reconnects: u8,
}

/// What can happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message arrives; a copy stays under way.
    Deliver(Letter),
    /// Something else happens to a node.
    Step { node: u8, step: Step },
}

/// A cluster, by numbers that [`Model`] knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct World {
    pub nodes: [u32; NODES],
    pub history: u32,
    pub left: Left,
    /// All that was ever sent and can still matter: any of it may arrive at any time, again and again, or never.
    pub network: Letters,
}

/// What was, and must stay so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct History {
    /// Who led each term.
    led: Vec<Option<usize>>,
    /// What was seen committed, from index 1 on, and in which term it was seen first.
    committed: Vec<(Held, u64)>,
}

/// All that can be said about worlds.
pub struct Model {
    pub known: Everything,
    bounds: Bounds,
    commit_notice: Span,
    histories: Vec<(History, Vec<Digest>)>,
    histories_by_digest: Map<Digest, u32>,
}

impl Model {
    /// Worlds within bounds, in which nodes may be seen under these names.
    pub fn new(bounds: Bounds, commit_notice: Span, names: &[Names]) -> Self {
        let (histories, histories_by_digest) = (Vec::new(), Map::default());
        let known = Everything::new(names.to_vec());
        Self { known, bounds, commit_notice, histories, histories_by_digest }
    }

    /// A cluster that has just been formed.
    pub fn formed(&mut self) -> World {
        let notice = self.commit_notice;
        let mut boot = |id| self.known.number_node(Node::boot(id, Time(0) + LONG, Disk::default(), notice), 0);
        let nodes = [boot(0), boot(1), boot(2)];
        let led = vec![None; self.bounds.term as usize + 1];
        let history = self.number_history(History { led, committed: Vec::new() });
        World { nodes, history, left: self.bounds.left, network: Letters::default() }
    }

    pub fn leaders(&self, world: &World) -> usize {
        self.history(world).led.iter().flatten().count()
    }

    pub fn commits(&self, world: &World) -> usize {
        self.history(world).committed.len()
    }

    fn history(&self, world: &World) -> &History {
        &self.histories[world.history as usize].0
    }

    /// How much has happened to its nodes, about.
    pub fn age(&self, world: &World) -> usize {
        world.nodes.iter().map(|node| self.known.node(*node).age).sum()
    }

    /// How many different histories there were.
    pub fn histories(&self) -> usize {
        self.histories.len()
    }

    /// The digest of nodes and history under each of the names.
    pub fn digests<'a>(&'a self, world: &'a World) -> impl Iterator<Item = Digest> + 'a {
        (0..self.known.names().len()).map(move |position| {
            let nodes = world.nodes.iter().map(|node| self.known.node(*node).digests[position]);
            fold(self.histories[world.history as usize].1[position], nodes.fold(0, Digest::wrapping_add))
        })
    }

    /// Of all worlds that differ in names only, one: its nodes and history, and its messages.
    pub fn canonical(&self, world: &World) -> (Digest, Letters) {
        let digests = self.digests(world).enumerate();
        let (position, digest) = digests.min_by_key(|(_, digest)| *digest).expect("nodes have names");
        (digest, world.network.iter().map(|letter| self.known.letter(letter).classes[position]).collect())
    }

    /// Everything that can happen next.
    pub fn events(&self, world: &World, events: &mut Vec<Event>) {
        events.clear();
        events.extend(world.network.iter().map(Event::Deliver));
        for id in 0..NODES {
            self.steps(world, id, &mut |step| events.push(Event::Step { node: id as u8, step }));
        }
    }

    fn steps(&self, world: &World, id: usize, push: &mut dyn FnMut(Step)) {
        let (node, left) = (self.known.node(world.nodes[id]), &world.left);
        if !node.writes.is_empty() {
            push(Step::Persist);
        }
        if left.crashes > 0 {
            (0..=node.writes.len() as u8).for_each(|written| push(Step::Crash { written, meta: false }));
            let halves = node.writes.iter().enumerate().filter(|(_, both)| **both);
            halves.for_each(|(written, _)| push(Step::Crash { written: written as u8, meta: true }));
        }
        if left.timeouts > 0 && (node.leads || node.term < self.bounds.term) {
            push(Step::Timeout);
        }
        if left.timeouts > 0 && node.follows {
            push(Step::Silence);
        }
        if left.timeouts > 0 && !node.leads && !node.writes.is_empty() {
            push(Step::TimeoutOnHungDisk);
        }
        if left.heartbeats > 0 && (node.leads || node.campaigns) {
            push(Step::Heartbeat);
        }
        if node.leads && self.commit_notice > Span::ZERO {
            push(Step::Notice);
        }
        if node.leads && (node.log.len() as u64) < self.bounds.index {
            push(Step::Propose);
        }
        if left.reconnects > 0 {
            (0..NODES).filter(|peer| *peer != id).for_each(|peer| push(Step::Reconnect(peer as u8)));
        }
    }

    /// Lets something happen to `before`, which makes `after`. False: it leads nowhere new, since nothing happened but that a
    /// message is gone, or a bound is nearer; all of it may as well be late. Err: what does not hold afterwards.
    pub fn take(&mut self, before: &World, event: Event, after: &mut World) -> Result<bool, String> {
        let (id, happening) = match event {
            Event::Deliver(letter) => (self.known.letter(letter).to, Happening::Hears(letter)),
            Event::Step { node, step } => (usize::from(node), Happening::Takes(step)),
        };
        let outcome = self.known.outcome(before.nodes[id], happening)?;
        let same = outcome.node == before.nodes[id];
        if same && outcome.sent.is_within(&before.network) {
            return Ok(false);
        }
        let Outcome { node, sent } = *outcome;
        if self.known.node(node).writes.len() > self.bounds.writes {
            return Ok(false);
        }
        *after = *before;
        sent.iter().for_each(|letter| after.network.insert(letter));
        after.nodes[id] = node;
        after.left.spend(event);
        self.forget_letters(after);
        if !same {
            self.check(after, id)?;
        }
        Ok(true)
    }

    fn forget_letters(&self, world: &mut World) {
        let World { nodes, network, .. } = world;
        network.retain(|letter| {
            let letter = self.known.letter(letter);
            let [from, to] = [letter.from, letter.to].map(|id| self.known.node(nodes[id]));
            to.may_mind(&letter.envelope, from, self.bounds.term)
        });
    }

    /// What an event is, in words.
    pub fn describe(&self, event: Event) -> String {
        let letter = match event {
            Event::Step { node, step } => return format!("node {node}: {step:?}"),
            Event::Deliver(letter) => letter,
        };
        let Envelope { from, to, term, message, .. } = &self.known.letter(letter).envelope;
        let text = match message {
            Message::AppendEntries(append) => {
                let ids: Vec<EntryId> = append.entries.iter().map(|entry| entry.header.id).collect();
                format!("AppendEntries behind {:?}: {ids:?}, commit {}", append.previous, append.commit)
            }
            Message::AppendReply(reply) => format!("AppendReply matched {} reject {:?}", reply.matched, reply.reject),
            other => format!("{other:?}"),
        };
        format!("{from} -> {to} in term {term}: {text}")
    }

    fn check(&mut self, world: &mut World, id: usize) -> Result<(), String> {
        let mut history = self.history(world).clone();
        self.check_leader(world, id, &mut history)?;
        self.check_logs(world, id)?;
        self.check_commit(world, id, &mut history)?;
        if history != *self.history(world) {
            world.history = self.number_history(history);
        }
        Ok(())
    }

    fn check_leader(&self, world: &World, id: usize, history: &mut History) -> Result<(), String> {
        let node = self.known.node(world.nodes[id]);
        if !node.leads {
            return Ok(());
        }
        let term = node.term;
        let led = *history.led[term as usize].get_or_insert(id);
        if led != id {
            return Err(format!("nodes {led} and {id} both lead term {term}"));
        }
        for (position, (entry, seen_in)) in history.committed.iter().enumerate() {
            if *seen_in < term && node.log.get(position) != Some(entry) {
                let entry = self.known.entries[usize::from(*entry)].0;
                return Err(format!("node {id} leads term {term} without the committed entry {entry:?}"));
            }
        }
        Ok(())
    }

    fn check_logs(&self, world: &World, id: usize) -> Result<(), String> {
        let log = &self.known.node(world.nodes[id]).log;
        let entry = |held: &Held| self.known.entries[usize::from(*held)].0;
        for other in world.nodes {
            let pairs = || log.iter().zip(&self.known.node(other).log);
            let first_difference = pairs().position(|(own, other)| own != other);
            let same_again = |from| pairs().skip(from).any(|(own, other)| entry(own) == entry(other));
            if first_difference.is_some_and(same_again) {
                let log: Vec<EntryId> = log.iter().map(entry).collect();
                return Err(format!("logs differ before an entry that they share: node {id}, {log:?}"));
            }
        }
        Ok(())
    }

    fn check_commit(&self, world: &World, id: usize, history: &mut History) -> Result<(), String> {
        let node = self.known.node(world.nodes[id]);
        let name = |held: Held| self.known.entries[usize::from(held)].0;
        for position in 0..node.commit {
            let Some(entry) = node.log.get(position).copied() else {
                return Err(format!("node {id} has committed entry {}, which it does not hold", position + 1));
            };
            match history.committed.get(position) {
                Some((known, _)) if *known == entry => {}
                Some((known, _)) => {
                    return Err(format!("committed twice: {:?}, and at node {id} {:?}", name(*known), name(entry)));
                }
                None => {
                    let holds = |node: &&u32| self.known.node(**node).disk.get(position) == Some(&entry);
                    let holders = world.nodes.iter().filter(holds).count();
                    if holders <= NODES / 2 {
                        return Err(format!("node {id} has committed {:?}, durable on {holders} nodes", name(entry)));
                    }
                    history.committed.push((entry, node.term));
                }
            }
        }
        Ok(())
    }

    fn number_history(&mut self, history: History) -> u32 {
        let under = |names: &Names| {
            let led = history.led.iter().map(|led| led.map_or(0, |node| names[node] as Digest + 1));
            let committed =
                history.committed.iter().flat_map(|(held, term)| [Digest::from(*held), Digest::from(*term)]);
            led.chain(committed).fold(9, fold)
        };
        let own = under(&OWN_NAMES);
        if let Some(number) = self.histories_by_digest.get(&own) {
            return *number;
        }
        let digests = self.known.names().iter().map(under).collect();
        let number = u32::try_from(self.histories.len()).expect("there are few histories");
        self.histories_by_digest.insert(own, number);
        self.histories.push((history, digests));
        number
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { term, index, writes, left } = self;
        write!(f, "term {term}, index {index}, {writes} writes under way")?;
        let amounts = [left.timeouts, left.heartbeats, left.crashes, left.reconnects];
        for (amount, what) in amounts.iter().zip(["timeouts", "heartbeats", "crashes", "reconnects"]) {
            match *amount {
                ANY => write!(f, ", any {what}")?,
                amount => write!(f, ", {amount} {what}")?,
            }
        }
        Ok(())
    }
}

impl Left {
    /// Whether everything may happen at least as often as with `other`.
    pub fn covers(&self, other: &Self) -> bool {
        let amounts = |left: &Self| [left.timeouts, left.heartbeats, left.crashes, left.reconnects];
        amounts(self).iter().zip(amounts(other)).all(|(own, other)| *own >= other)
    }

    fn spend(&mut self, event: Event) {
        let bound = match event {
            Event::Deliver(_) => return,
            Event::Step { step, .. } => match step {
                Step::Crash { .. } => &mut self.crashes,
                Step::Timeout | Step::TimeoutOnHungDisk | Step::Silence => &mut self.timeouts,
                Step::Heartbeat => &mut self.heartbeats,
                Step::Reconnect(_) => &mut self.reconnects,
                Step::Persist | Step::Notice | Step::Propose => return,
            },
        };
        if *bound != ANY {
            *bound -= 1;
        }
    }
}
