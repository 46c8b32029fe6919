//! Connections between nodes. Like TCP, one connection of a pair delivers in order and loses nothing: a partition holds
//! bytes back until it heals or the connection times out. A profile may ask for worse: loss, doubles, overtaking, and
//! bytes of an old connection that arrive after a new one is up.

use std::collections::{BTreeMap, BTreeSet};

use raftkv::time::{Span, Time};

use crate::profile::Profile;
use crate::queue::Queue;
use crate::random::Random;
use crate::world::Event;

pub type NodeNumber = u32;

/// How long bytes may stay unacknowledged before the kernel gives a connection up.
const USER_TIMEOUT: Span = Span::secs(2);

/// How much longer a message may take that takes longer than others.
const STRAGGLER: Span = Span::secs(2);

pub struct Network {
    profile: Profile,
    random: Random,
    links: BTreeMap<(NodeNumber, NodeNumber), Link>,
    /// Directed: from, to.
    blocked: BTreeSet<(NodeNumber, NodeNumber)>,
    /// Nodes to which nothing bad happens any more.
    pub healed: BTreeSet<NodeNumber>,
}

/// The connections of one pair of nodes, one after the other.
#[derive(Default)]
struct Link {
    /// Counts connections; the newest may be closed.
    connection: u64,
    open: bool,
    /// By the lower (0) and the higher (1) node as the receiver.
    last_arrival: [Time; 2],
    held: [Vec<Vec<u8>>; 2],
}

impl Network {
    pub fn new(profile: &Profile) -> Self {
        Self {
            profile: profile.clone(),
            random: Random::of(profile.seed, "network"),
            links: BTreeMap::new(),
            blocked: BTreeSet::new(),
            healed: BTreeSet::new(),
        }
    }

    /// Opens a new connection of a pair, unless something is in the way. Returns its number.
    pub fn open(&mut self, a: NodeNumber, b: NodeNumber) -> Option<u64> {
        if self.is_blocked(a, b) || self.is_blocked(b, a) {
            return None;
        }
        let link = self.links.entry(pair(a, b)).or_default();
        if link.open {
            return None;
        }
        link.connection += 1;
        link.open = true;
        link.held = Default::default();
        Some(link.connection)
    }

    pub fn is_current(&self, a: NodeNumber, b: NodeNumber, connection: u64) -> bool {
        self.links.get(&pair(a, b)).is_some_and(|link| link.connection == connection)
    }

    /// Bytes of an older connection are taken too, if the profile says so.
    pub fn may_deliver(&self, a: NodeNumber, b: NodeNumber, connection: u64) -> bool {
        self.is_current(a, b, connection) || (self.profile.reorder && !self.are_healed(a, b))
    }

    /// The first bytes of a connection: without them there is none, so they are not lost or doubled.
    pub fn send_first(
        &mut self,
        queue: &mut Queue<Event>,
        from: NodeNumber,
        to: NodeNumber,
        life: u32,
        frame: Vec<u8>,
    ) {
        self.transmit(queue, from, to, life, frame);
    }

    pub fn send(&mut self, queue: &mut Queue<Event>, from: NodeNumber, to: NodeNumber, to_life: u32, frame: Vec<u8>) {
        if self.links.get(&pair(from, to)).is_none_or(|link| !link.open) {
            return;
        }
        if self.is_blocked(from, to) {
            return self.hold(queue, from, to, frame);
        }
        let (loss, duplicates) =
            if self.are_healed(from, to) { (0, 0) } else { (self.profile.loss, self.profile.duplicates) };
        if self.random.chance(loss) {
            return;
        }
        if self.random.chance(duplicates) {
            self.transmit(queue, from, to, to_life, frame.clone());
        }
        self.transmit(queue, from, to, to_life, frame);
    }

    /// Ends the pair's connection. Both ends notice in their time; silently: only when a timeout tells them.
    pub fn close(&mut self, queue: &mut Queue<Event>, a: NodeNumber, b: NodeNumber, silent: bool) {
        let Some(link) = self.links.get_mut(&pair(a, b)) else { return };
        if !std::mem::take(&mut link.open) {
            return;
        }
        let connection = link.connection;
        for (at, peer) in [(a, b), (b, a)] {
            let patience = if silent { USER_TIMEOUT.0 } else { 0 };
            let delay = Span(patience + self.random.around(self.profile.delay.0));
            let time = (queue.now() + delay).max(link.last_arrival[side(at, peer)]);
            queue.at(time, Event::Lost { at, peer, connection });
        }
        queue.after(Span::millis(self.random.between(5, 150)), Event::Dial { a, b });
    }

    pub fn close_all_of(&mut self, queue: &mut Queue<Event>, node: NodeNumber, silent: bool) {
        let pairs: Vec<_> = self.links.keys().copied().filter(|(a, b)| *a == node || *b == node).collect();
        for (a, b) in pairs {
            self.close(queue, a, b, silent);
        }
    }

    /// Blocks exactly these directions; others heal.
    pub fn partition(&mut self, queue: &mut Queue<Event>, lives: &[u32], blocked: BTreeSet<(NodeNumber, NodeNumber)>) {
        let healed: Vec<_> = self.blocked.difference(&blocked).copied().collect();
        self.blocked = blocked;
        for (from, to) in healed {
            let Some(link) = self.links.get_mut(&pair(from, to)) else { continue };
            let held = std::mem::take(&mut link.held[side(to, from)]);
            let open = link.open;
            for frame in held.into_iter().filter(|_| open) {
                self.transmit(queue, from, to, lives[to as usize], frame);
            }
        }
    }

    /// Ends a connection whose bytes have been held back for too long.
    pub fn time_out(&mut self, queue: &mut Queue<Event>, from: NodeNumber, to: NodeNumber, connection: u64) {
        if self.is_current(from, to, connection) && self.is_blocked(from, to) {
            self.close(queue, from, to, false);
        }
    }

    /// Directed: from, to.
    pub fn blocked(&self) -> &BTreeSet<(NodeNumber, NodeNumber)> {
        &self.blocked
    }

    fn are_healed(&self, a: NodeNumber, b: NodeNumber) -> bool {
        self.healed.contains(&a) && self.healed.contains(&b)
    }

    fn is_blocked(&self, from: NodeNumber, to: NodeNumber) -> bool {
        self.blocked.contains(&(from, to))
    }

    fn hold(&mut self, queue: &mut Queue<Event>, from: NodeNumber, to: NodeNumber, frame: Vec<u8>) {
        let link = self.links.get_mut(&pair(from, to)).expect("the caller has seen it");
        let held = &mut link.held[side(to, from)];
        if held.is_empty() {
            queue.after(USER_TIMEOUT, Event::UserTimeout { from, to, connection: link.connection });
        }
        held.push(frame);
    }

    fn transmit(&mut self, queue: &mut Queue<Event>, from: NodeNumber, to: NodeNumber, to_life: u32, frame: Vec<u8>) {
        let mut delay = Span(20_000 + self.random.around(self.profile.delay.0));
        if !self.are_healed(from, to) && self.random.chance(self.profile.stragglers) {
            delay = Span(delay.0 + self.random.below(STRAGGLER.0));
        }
        let in_order = !self.profile.reorder || self.are_healed(from, to);
        let link = self.links.get_mut(&pair(from, to)).expect("the caller has seen it");
        let mut time = queue.now() + delay;
        let last = &mut link.last_arrival[side(to, from)];
        if in_order {
            time = time.max(*last);
        }
        *last = time.max(*last) + Span(1);
        queue.at(time, Event::Frame { from, to, to_life, connection: link.connection, frame });
    }
}

fn pair(a: NodeNumber, b: NodeNumber) -> (NodeNumber, NodeNumber) {
    (a.min(b), a.max(b))
}

/// Which end of its link a node is.
fn side(node: NodeNumber, peer: NodeNumber) -> usize {
    usize::from(node > peer)
}
