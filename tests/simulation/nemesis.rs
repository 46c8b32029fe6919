//! What goes wrong in the world, and when.

use std::collections::{BTreeSet, VecDeque};

use raftkv::time::Span;

use crate::profile::Profile;
use crate::random::Random;
use crate::schedule::{record, Deed, ScheduledFault};
use crate::world::{World, START};

/// Disks are harmed when so much of the time of faults is over.
const HARM_BEHIND_PERCENT: u64 = 50;

pub struct Nemesis {
    profile: Profile,
    random: Random,
    faults: Vec<Fault>,
    /// So many leaders more are struck as soon as they are elected.
    chased: u32,
    /// What to do instead of drawing it.
    schedule: Option<VecDeque<ScheduledFault>>,
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
    Chase,
    ClockJump,
    FailedSync,
    HungDisk,
    FullDisk,
    Rot,
    Misdirect,
    Wipe,
    OldDisk,
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
            (profile.chases, Fault::Chase),
            (profile.clock_jumps, Fault::ClockJump),
            (profile.failed_syncs, Fault::FailedSync),
            (profile.hung_disks, Fault::HungDisk),
            (profile.full_disks, Fault::FullDisk),
            (profile.rot, Fault::Rot),
            (profile.misdirected, Fault::Misdirect),
            (profile.wipes, Fault::Wipe),
            (profile.old_disks, Fault::OldDisk),
        ];
        let faults = classes.into_iter().filter(|(on, _)| *on).map(|(_, fault)| fault).collect();
        Self {
            profile: profile.clone(),
            random: Random::of(profile.seed, "nemesis"),
            faults,
            chased: 0,
            schedule: None,
        }
    }

    /// Does what a schedule says, and nothing else.
    pub fn of_schedule(profile: &Profile, schedule: Vec<ScheduledFault>) -> Self {
        Self { schedule: Some(schedule.into()), ..Self::new(profile) }
    }

    /// Does one thing, or what is due of a schedule; returns when to come again.
    pub fn strike(&mut self, world: &mut World) -> Span {
        let now = world.queue.now().since(START);
        if let Some(schedule) = &mut self.schedule {
            while schedule.front().is_some_and(|fault| fault.at <= now) {
                let due = schedule.pop_front().expect("looked at");
                due.deed.commit(world);
                record(due);
            }
            return schedule.front().map_or(self.profile.turmoil, |next| Span(next.at.0 - now.0));
        }
        if !self.faults.is_empty() {
            let fault = self.random.pick(&self.faults.clone());
            let node = self.victim(world);
            self.commit(fault, node, world);
        }
        Span(1_000_000 + self.random.around(self.profile.fault_every.0))
    }

    /// A leader was elected; returns when to strike it, if it is being chased.
    pub fn elected(&mut self) -> Option<Span> {
        self.chased = self.chased.checked_sub(1)?;
        // Any part of a leader's first steps may be its last: from less than a message's way to more than a heartbeat.
        let scale = 1_000 << self.random.between(4, 17);
        Some(Span(self.random.around(scale)))
    }

    /// Strikes a leader that is chased with what this seed has.
    pub fn strike_elected(&mut self, node: u32, world: &mut World) {
        let ends_a_term = |fault: &Fault| {
            use Fault::{CutOff, HungDisk, Kill, Partition, Pause, PowerCut};
            matches!(fault, CutOff | HungDisk | Kill | Partition | Pause | PowerCut)
        };
        let faults: Vec<Fault> = self.faults.iter().copied().filter(ends_a_term).collect();
        if !faults.is_empty() {
            let fault = self.random.pick(&faults);
            self.commit(fault, node, world);
        }
    }

    fn commit(&mut self, fault: Fault, node: u32, world: &mut World) {
        let at = world.queue.now().since(START);
        for deed in self.deeds(fault, node, world) {
            deed.commit(world);
            record(ScheduledFault { at, deed });
        }
    }

    fn deeds(&mut self, fault: Fault, node: u32, world: &World) -> Vec<Deed> {
        let back_after = Span::millis(self.random.pick(&[1, 100, 700, 3_000]));
        let nodes = self.profile.nodes;
        let deed = match fault {
            Fault::Kill => Deed::Crash { node, power: false, back_after },
            Fault::PowerCut if self.random.chance(500) => Deed::Crash { node, power: true, back_after },
            Fault::PowerCut => Deed::PowerGoesInSync { node, back_after },
            Fault::AllAtOnce => {
                let power = self.profile.power_cuts;
                let mut crash = |node| {
                    let back_after = Span::millis(self.random.below(500));
                    Deed::Crash { node, power, back_after }
                };
                return (0..nodes).map(&mut crash).collect();
            }
            Fault::Partition => {
                let blocked = self.blocked(node);
                let mut deeds = Vec::new();
                // Noticed at once by both ends, or by nobody until a timeout.
                if self.random.chance(500) {
                    deeds.extend(blocked.iter().map(|(from, to)| Deed::Close { from: *from, to: *to }));
                }
                deeds.push(Deed::Block(blocked));
                return deeds;
            }
            Fault::CutOff => {
                // All its peers notice, its clients do not: they ask on while the others elect (C-15, C-18).
                let mut deeds = vec![Deed::CloseAll { node }];
                if self.random.chance(500) {
                    let others = (0..nodes).filter(|id| *id != node);
                    deeds.push(Deed::Block(others.flat_map(|id| [(id, node), (node, id)]).collect()));
                }
                return deeds;
            }
            Fault::Heal => Deed::Block(BTreeSet::new()),
            Fault::Chase => {
                self.chased = self.random.pick(&[1, 3, 10]);
                return Vec::new();
            }
            Fault::Pause => Deed::Pause { node, span: Span::millis(self.random.pick(&[5, 200, 1_000, 4_000])) },
            Fault::Reset => match self.random.below(u64::from(nodes)) as u32 {
                peer if peer == node => Deed::ResetClients { node },
                peer => Deed::Close { from: node, to: peer },
            },
            Fault::FailedSync if world.nodes[node as usize].process.is_none() => return Vec::new(),
            Fault::FailedSync => Deed::FailSync { node, nth: self.random.between(1, 4) },
            // For longer than an election, or until it is killed: syncs do not return, and nothing says so (C-13).
            Fault::HungDisk => Deed::HangDisk { node, span: Span::millis(self.random.pick(&[300, 2_000, 30_000])) },
            Fault::FullDisk => Deed::FillDisk { node },
            Fault::Rot | Fault::Misdirect | Fault::Wipe | Fault::OldDisk => {
                return self.harm(fault, world, back_after).unwrap_or_default();
            }
            Fault::ClockJump => {
                let hours = self.random.between(0, 48) as i64 - 24;
                Deed::ClockJump { node, ms: hours * 3_600_000 }
            }
        };
        vec![deed]
    }

    /// Something for a disk that may be harmed; none if there is no such disk, or it is too early: a cluster of three that has
    /// lost a disk needs both others, so that nothing is overwritten any more.
    fn harm(&mut self, fault: Fault, world: &World, back_after: Span) -> Option<Vec<Deed>> {
        let early = world.elapsed() < Span(self.profile.turmoil.0 / 100 * HARM_BEHIND_PERCENT);
        if early && !self.profile.early_harm && !self.profile.beyond {
            return None;
        }
        let may: Vec<u32> = (0..self.profile.nodes).filter(|id| world.may_harm(*id)).collect();
        let node = *may.get(self.random.below(may.len() as u64) as usize)?;
        let seed = self.random.next();
        Some(match fault {
            Fault::Rot => {
                let mut deeds = vec![self.rot(node, world)?];
                // It is found by the next start.
                if self.random.chance(300) {
                    deeds.push(Deed::Crash { node, power: self.random.chance(500), back_after });
                }
                deeds
            }
            Fault::Misdirect => vec![Deed::Misdirect { node, seed }],
            Fault::Wipe => vec![Deed::Wipe { node, back_after }],
            _ => match may.into_iter().find(|id| world.may_restore(*id)) {
                Some(node) if self.random.chance(700) => vec![Deed::Restore { node, back_after }],
                _ => vec![Deed::BackUp { node, seed }],
            },
        })
    }

    /// One file of each kind is as likely as another: there are few meta files, and much depends on them.
    fn rot(&mut self, node: u32, world: &World) -> Option<Deed> {
        let kind = self.random.pick(&["log-", "log-", "meta-", "snapshot-"]);
        let files = world.nodes[node as usize].disk.files();
        let named = files.iter().filter_map(|(path, bytes)| Some((path.file_name()?.to_str()?, *bytes)));
        let alike: Vec<(&str, u64)> = named.filter(|(name, _)| name.starts_with(kind)).collect();
        let (file, bytes) = *alike.get(self.random.below(alike.len() as u64) as usize)?;
        // Of a meta file the beginning is used.
        let offset = self.random.below(if kind == "meta-" { bytes.min(300) } else { bytes });
        Some(Deed::Rot { node, file: file.to_owned(), offset, seed: self.random.next() })
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
