//! A random driver: messages are lost, repeated and reordered, links cut, disks held, nodes killed with any part of what
//! was on the way to the disk. After each step the net's checker looks at everything; in the end all faults stop, and
//! within twenty election timeouts all nodes are equal and no read still waits.

use bytes::Bytes;
use protocol::message::Message;
use raftkv::raft::{Input, Installed};
use raftkv::random::SplitMix64;
use raftkv::time::Span;

use super::net::Net;
use super::node::{Image, ET};

#[derive(Clone, Debug)]
pub struct Dice(SplitMix64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1)))
    }

    pub fn roll(&mut self) -> u64 {
        self.0.draw()
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % bound as u64).expect("below a usize")
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.roll().is_multiple_of(n)
    }

    fn node(&mut self, net: &Net) -> u32 {
        u32::try_from(self.below(net.nodes.len())).expect("few nodes")
    }
}

/// How often, in a thousand steps, each kind of accident happens in one run; each run draws its own.
struct Rates {
    lose: u64,
    repeat: u64,
    reorder: bool,
    crash: u64,
    cut: u64,
    slow_disk: u64,
    snapshot: u64,
}

impl Rates {
    fn draw(dice: &mut Dice) -> Self {
        let mut rate = |most: u64| if dice.one_in(3) { 0 } else { dice.roll() % most };
        Self {
            lose: rate(100),
            repeat: rate(100),
            crash: rate(12),
            cut: rate(20),
            slow_disk: rate(900),
            snapshot: rate(60),
            reorder: rate(2) == 1,
        }
    }
}

fn deliver(net: &mut Net, dice: &mut Dice, rates: &Rates) {
    if net.flight.is_empty() {
        return;
    }
    let position = if rates.reorder { dice.below(net.flight.len()) } else { 0 };
    let repeat = dice.roll() % 1000 < rates.repeat;
    let (_, envelope) = if repeat { net.flight[position].clone() } else { net.flight.remove(position) };
    if repeat && net.flight.len() > 200 {
        net.flight.truncate(100);
    }
    if dice.roll() % 1000 >= rates.lose {
        net.arrive(envelope);
    }
}

/// Several inputs before the core is asked what follows, as a thread would hand them in: messages, a completed write, the
/// clock.
fn deliver_batch(net: &mut Net, dice: &mut Dice) {
    let to = dice.node(net);
    if !net.node(to).alive() {
        return;
    }
    let (most, mut inputs) = (dice.below(5), Vec::new());
    net.flight.retain(|(_, envelope)| {
        let take = envelope.to.0 == to && inputs.len() < most;
        if take {
            inputs.push(Input::Message(envelope.clone()));
        }
        !take
    });
    if dice.one_in(2) {
        if let Some(completed) = net.complete(to) {
            inputs.insert(dice.below(inputs.len() + 1), completed);
        }
    }
    inputs.push(Input::Tick);
    net.inputs(to, inputs);
}

fn crash_or_restart(net: &mut Net, dice: &mut Dice) {
    let node = dice.node(net);
    if net.node(node).alive() {
        let pending = net.node(node).pending.len();
        let (appends, entries) = (dice.below(pending + 1), dice.below(4));
        net.crash_with(node, appends, if dice.one_in(2) { None } else { Some(entries) });
    } else {
        let tail = dice.below(6);
        let down = net.node_mut(node);
        down.tail = tail;
        // The log reaches back to the older of two snapshots, unless it was restarted behind the newer.
        down.newest_rotten =
            down.snapshots.len() == 2 && down.durable.base.id.index <= down.snapshots[0].end.id.index && dice.one_in(4);
        net.restart(node);
    }
}

/// A snapshot is taken, or the fetch of one goes on, ends or fails.
fn snapshot(net: &mut Net, dice: &mut Dice) {
    let node = dice.node(net);
    if !net.node(node).alive() {
        return;
    }
    match (net.node(node).fetch.is_some(), dice.below(4)) {
        (false, _) => drop(net.snapshot(node)),
        (true, 0) => net.fail_fetch(node),
        (true, 1) => net.serve(node),
        (true, _) => drop(net.end_fetch(node)),
    }
}

fn cut_or_heal(net: &mut Net, dice: &mut Dice) {
    let (a, b) = (dice.node(net), dice.node(net));
    if a == b {
        return;
    }
    if dice.one_in(2) {
        net.heal(a, b);
    } else {
        net.cut(a, b);
    }
}

/// Time passes for one node: it may be the slow one, or the fast one.
fn tick(net: &mut Net, dice: &mut Dice) {
    let node = dice.node(net);
    if !net.node(node).alive() {
        return;
    }
    let wait = net.raft(node).next_deadline().since(net.clock(node));
    let step = Span(dice.roll() % (2 * wait.0.min(ET.0) + 1_000_000));
    if dice.one_in(4) {
        net.now += step;
    } else {
        net.node_mut(node).ahead = net.node(node).ahead + step;
    }
    net.input(node, Input::Tick);
}

fn step(net: &mut Net, dice: &mut Dice, rates: &Rates) {
    if dice.roll() % 1000 < rates.crash {
        crash_or_restart(net, dice);
    }
    if dice.roll() % 1000 < rates.cut {
        cut_or_heal(net, dice);
    }
    if dice.roll() % 1000 < rates.snapshot {
        snapshot(net, dice);
    }
    let node = dice.node(net);
    match dice.below(16) {
        0..8 => deliver(net, dice, rates),
        8 => deliver_batch(net, dice),
        9..12 => {
            if net.node(node).alive() && dice.roll() % 1000 >= rates.slow_disk {
                net.persist(node);
                net.answer_wish(node);
            }
        }
        12 => tick(net, dice),
        13 => {
            // Any leader, the deposed ones that do not know it included.
            if net.node(node).alive() && net.raft(node).is_leader() {
                let _ = net.propose_bytes(node, Bytes::from(vec![b'x'; dice.below(120)]));
            }
        }
        14 => {
            if net.node(node).alive() {
                net.read(node);
            }
        }
        _ => {
            if let Some(leader) = net.leader() {
                let _ = net.propose_bytes(leader, Bytes::from(vec![b'y'; dice.below(120)]));
            }
        }
    }
}

/// No more accidents: everybody lives, all links are up, disks and messages are quick.
fn calm(net: &mut Net) {
    for node in net.ids() {
        if !net.node(node).alive() {
            net.restart(node);
        }
    }
    for a in net.ids() {
        for b in a + 1..net.size() {
            net.heal(a, b);
        }
    }
    net.latency = Span::millis(1);
    net.run(ET.times(20));
}

/// What a run came to.
#[derive(Debug, Default)]
struct Sum {
    committed: u64,
    terms: usize,
    reads: usize,
    /// Snapshots that took a state machine's place, and logs that they restarted.
    installed: usize,
    restarted: usize,
}

fn run(seed: u64, steps: usize) -> Sum {
    let mut dice = Dice::new(seed);
    let nodes = [3, 3, 5, 2, 1][dice.below(5)];
    let rates = Rates::draw(&mut dice);
    let (window, bytes) = (1 + dice.below(4), 100 + dice.below(600));
    let patience = Span(1 + dice.roll() % ET.times(4).0);
    let mut net = Net::with(&vec![Image::default(); nodes], |settings| {
        settings.seed = seed;
        settings.inflight_messages_max = window;
        settings.inflight_bytes_max = bytes * 2;
        settings.append_bytes_max = bytes;
        settings.tail_bytes_max = bytes;
        settings.uncommitted_bytes_max = 4000;
        settings.snapshot_patience = patience;
    });
    for position in 0..steps {
        step(&mut net, &mut dice, &rates);
        if position % 64 == 0 {
            net.sent.clear();
        }
        for node in &net.nodes {
            assert_eq!(node.stop, None, "seed {seed}, step {position}");
        }
    }
    let before = net.checker.committed.len();
    calm(&mut net);
    let leader = net.leader().unwrap_or_else(|| panic!("seed {seed}: no leader after twenty calm election timeouts"));
    net.propose(leader, "goes on").unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
    net.run(ET);
    net.assert_converged();
    assert!(net.checker.committed.len() > before, "seed {seed}: goes on");
    assert!(net.checker.asked.is_empty(), "seed {seed}: reads wait for ever: {:?}", net.checker.asked);
    assert!(
        net.flight.iter().all(|(_, envelope)| !matches!(envelope.message, Message::PreVote { .. })),
        "seed {seed}: peace"
    );
    let reads = net.nodes.iter().flat_map(|node| &node.reads).filter(|read| read.result.is_ok()).count();
    let restarted = net.installed.iter().filter(|installed| **installed == Installed::Restarted).count();
    let installed = net.installed.iter().filter(|installed| **installed != Installed::Ignored).count();
    Sum { committed: net.checker.top().0, terms: net.checker.leaders.len(), reads, installed, restarted }
}

/// Many seeds; RAFT_SEED repeats one, RAFT_SEEDS sets how many (from RAFT_SEED on, if both are set).
#[test]
fn random_accidents_break_nothing() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let (first, count) = (number("RAFT_SEED"), number("RAFT_SEEDS"));
    let seeds = match first {
        Some(seed) => seed..seed + count.unwrap_or(1),
        None => 0..count.unwrap_or(1500),
    };
    let mut sum = Sum::default();
    let count = seeds.clone().count();
    for seed in seeds {
        let result = std::panic::catch_unwind(|| run(seed, 3000));
        let Ok(one) = result else { panic!("seed {seed} failed: repeat with RAFT_SEED={seed}") };
        sum.committed += one.committed;
        sum.terms += one.terms;
        sum.reads += one.reads;
        sum.installed += one.installed;
        sum.restarted += one.restarted;
    }
    println!("{count} runs: {sum:?}");
    assert!(
        count == 1 || sum.committed > 10 * count as u64 && sum.terms > 3 * count && sum.reads > 10 * count,
        "{sum:?}"
    );
    assert!(count < 50 || sum.restarted > count / 10, "snapshots restart logs: {sum:?}");
}
