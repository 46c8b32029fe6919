//! What goes wrong in the world, and when.

use std::collections::BTreeSet;

use raftkv::time::Span;

use crate::profile::Profile;
use crate::random::Random;
use crate::world::World;

pub struct Nemesis {
    profile: Profile,
    random: Random,
    faults: Vec<Fault>,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill,
    PowerCut,
    AllAtOnce,
    Partition,
    Heal,
    Pause,
    Reset,
    CutOff,
    ClockJump,
    FailedSync,
    HungDisk,
    FullDisk,
}

impl Nemesis {
    pub fn new(profile: &Profile) -> Self {
        let classes = [
            (profile.kills, Fault::Kill),
            (profile.power_cuts, Fault::PowerCut),
            (profile.all_at_once, Fault::AllAtOnce),
            (profile.partitions, Fault::Partition),
            (profile.partitions, Fault::Heal),
            (profile.pauses, Fault::Pause),
            (profile.resets, Fault::Reset),
            (profile.resets, Fault::CutOff),
            (profile.clock_jumps, Fault::ClockJump),
            (profile.failed_syncs, Fault::FailedSync),
            (profile.hung_disks, Fault::HungDisk),
            (profile.full_disks, Fault::FullDisk),
        ];
        let faults = classes.into_iter().filter(|(on, _)| *on).map(|(_, fault)| fault).collect();
        Self { profile: profile.clone(), random: Random::of(profile.seed, "nemesis"), faults }
    }

    /// Does one thing; returns when to come again.
    pub fn strike(&mut self, world: &mut World) -> Span {
        if !self.faults.is_empty() {
            let fault = self.random.pick(&self.faults.clone());
            self.commit(fault, world);
        }
        Span(1_000_000 + self.random.around(self.profile.fault_every.0))
    }

    fn commit(&mut self, fault: Fault, world: &mut World) {
        let victim = self.victim(world);
        let back_after = Span::millis(self.random.pick(&[1, 100, 700, 3_000]));
        match fault {
            Fault::Kill => world.crash(victim, false, back_after),
            Fault::PowerCut if self.random.chance(500) => world.crash(victim, true, back_after),
            Fault::PowerCut => world.nodes[victim as usize].power_goes_in_sync = Some(back_after),
            Fault::AllAtOnce => {
                let power = self.profile.power_cuts;
                for id in 0..self.profile.nodes {
                    let back_after = Span::millis(self.random.below(500));
                    world.crash(id, power, back_after);
                }
            }
            Fault::Partition => {
                let blocked = self.blocked(victim);
                // Noticed at once by both ends, or by nobody until a timeout.
                if self.random.chance(500) {
                    for (from, to) in &blocked {
                        world.network.close(&mut world.queue, *from, *to, false);
                    }
                }
                self.partition(world, blocked);
            }
            Fault::CutOff => {
                // All its peers notice, its clients do not: they ask on while the others elect (C-15, C-18).
                world.network.close_all_of(&mut world.queue, victim, false);
                if self.random.chance(500) {
                    let others = (0..self.profile.nodes).filter(|id| *id != victim);
                    let blocked = others.flat_map(|id| [(id, victim), (victim, id)]).collect();
                    self.partition(world, blocked);
                }
            }
            Fault::Heal => self.partition(world, BTreeSet::new()),
            Fault::Pause => {
                let until = world.queue.now() + Span::millis(self.random.pick(&[5, 200, 1_000, 4_000]));
                world.nodes[victim as usize].paused_until = until;
            }
            Fault::Reset => {
                let peer = self.random.below(u64::from(self.profile.nodes)) as u32;
                if peer == victim {
                    world.reset_clients_of(victim);
                } else {
                    world.network.close(&mut world.queue, victim, peer, false);
                }
            }
            Fault::FailedSync => {
                let node = &mut world.nodes[victim as usize];
                if node.process.is_some() {
                    node.disk.fail_sync(self.random.between(1, 4));
                    node.disk_fails = true;
                }
            }
            Fault::HungDisk => {
                // For longer than an election, or until it is killed: syncs do not return, and nothing says so (C-13).
                let span = Span::millis(self.random.pick(&[300, 2_000, 30_000]));
                world.nodes[victim as usize].disk_hangs_until = world.queue.now() + span;
            }
            Fault::FullDisk => world.nodes[victim as usize].fill_disk(),
            Fault::ClockJump => {
                let hours = self.random.between(0, 48) as i64 - 24;
                world.nodes[victim as usize].wall_clock += hours * 3_600_000;
            }
        }
    }

    fn partition(&mut self, world: &mut World, blocked: BTreeSet<(u32, u32)>) {
        let lives: Vec<u32> = world.nodes.iter().map(|node| node.life).collect();
        world.network.partition(&mut world.queue, &lives, blocked);
    }

    /// Half of the time the leader, because most of what can go wrong goes wrong there.
    fn victim(&mut self, world: &World) -> u32 {
        let leads = |node: &&crate::node::Node| {
            node.process.as_ref().and_then(|process| process.replica.raft()).is_some_and(|raft| raft.is_leader())
        };
        let leader = world.nodes.iter().find(leads).map(|node| node.id);
        let any = self.random.below(u64::from(self.profile.nodes)) as u32;
        leader.filter(|_| self.random.chance(500)).unwrap_or(any)
    }

    /// Which directions a partition blocks. Half of the shapes also come with one direction only.
    fn blocked(&mut self, victim: u32) -> BTreeSet<(u32, u32)> {
        let nodes = self.profile.nodes;
        let shape = self.random.below(7);
        let one_way = self.random.chance(300);
        let halves = self.random.next();
        let directed = self.random.next();
        let mut blocked = BTreeSet::new();
        for from in 0..nodes {
            for to in (0..nodes).filter(|to| *to != from) {
                let apart = |a: u32, b: u32| halves >> a & 1 != halves >> b & 1;
                let (near, far) = ((victim + 1) % nodes, (victim + nodes - 1) % nodes);
                let cut = match shape {
                    0 => from == victim || to == victim,
                    1 => apart(from, to),
                    // A bridge: only the victim hears both halves.
                    2 => apart(from, to) && from != victim && to != victim,
                    // A ring: everybody hears two others.
                    3 => (from + 1) % nodes != to && (to + 1) % nodes != from,
                    // The victim, often the leader, with too few others: one of three, two of five.
                    4 => {
                        let inside = |id| id == victim || (nodes >= 5 && id == near);
                        inside(from) != inside(to)
                    }
                    // All but one direction of a path of three.
                    5 => to == victim && from != far,
                    _ => directed >> (from * nodes + to) & 3 == 0,
                };
                let cut = cut && !(one_way && shape < 5 && halves >> from & 1 == 0);
                if cut {
                    blocked.insert((from, to));
                }
            }
        }
        blocked
    }
}
