//! The faults of a run, one by one, as they were committed: recorded always, replayed on demand, and written as text.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use raftkv::time::Span;

use crate::world::World;

/// A fault and when it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduledFault {
    /// Since the start of the run.
    pub at: Span,
    pub deed: Deed,
}

/// What is done to the world; all that was drawn is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    Crash {
        node: u32,
        power: bool,
        back_after: Span,
    },
    PowerGoesInSync {
        node: u32,
        back_after: Span,
    },
    /// The connection of two nodes ends.
    Close {
        from: u32,
        to: u32,
    },
    /// All connections with peers end.
    CloseAll {
        node: u32,
    },
    /// From now on these directions are blocked, and no others.
    Block(BTreeSet<(u32, u32)>),
    Pause {
        node: u32,
        span: Span,
    },
    ResetClients {
        node: u32,
    },
    /// The sync after so many fails.
    FailSync {
        node: u32,
        nth: u64,
    },
    HangDisk {
        node: u32,
        span: Span,
    },
    FillDisk {
        node: u32,
    },
    ClockJump {
        node: u32,
        ms: i64,
    },
    /// Bits of a file rot, around a byte of it.
    Rot {
        node: u32,
        file: String,
        offset: u64,
        seed: u64,
    },
    /// A page of the next sync goes astray.
    Misdirect {
        node: u32,
        seed: u64,
    },
    Wipe {
        node: u32,
        back_after: Span,
    },
    BackUp {
        node: u32,
        seed: u64,
    },
    /// It starts again with what its backup has.
    Restore {
        node: u32,
        back_after: Span,
    },
}

thread_local! {
    static RECORDED: RefCell<Vec<ScheduledFault>> = const { RefCell::new(Vec::new()) };
}

/// Notes a fault of this thread's run.
pub fn record(fault: ScheduledFault) {
    RECORDED.with_borrow_mut(|recorded| recorded.push(fault));
}

/// The faults of this thread's run so far; from now on another one is recorded.
pub fn take_recorded() -> Vec<ScheduledFault> {
    RECORDED.take()
}

impl Deed {
    pub fn commit(&self, world: &mut World) {
        let now = world.queue.now();
        match *self {
            Deed::Crash { node, power, back_after } => world.crash(node, power, back_after),
            Deed::PowerGoesInSync { node, back_after } => {
                world.nodes[node as usize].power_goes_in_sync = Some(back_after);
            }
            Deed::Close { from, to } => world.network.close(&mut world.queue, from, to, false),
            Deed::CloseAll { node } => world.network.close_all_of(&mut world.queue, node, false),
            Deed::Block(ref blocked) => {
                let lives: Vec<u32> = world.nodes.iter().map(|node| node.life).collect();
                world.network.partition(&mut world.queue, &lives, blocked.clone());
            }
            Deed::Pause { node, span } => world.nodes[node as usize].paused_until = now + span,
            Deed::ResetClients { node } => world.reset_clients_of(node),
            Deed::FailSync { node, nth } => {
                let node = &mut world.nodes[node as usize];
                // A schedule that was cut may find no process here.
                if node.process.is_some() {
                    node.disk.fail_sync(nth);
                    node.disk_fails = true;
                }
            }
            Deed::HangDisk { node, span } => world.nodes[node as usize].disk_hangs_until = now + span,
            Deed::FillDisk { node } => world.nodes[node as usize].fill_disk(),
            Deed::ClockJump { node, ms } => world.nodes[node as usize].wall_clock += ms,
            Deed::Rot { node, ref file, offset, seed } => world.rot(node, file, offset, seed),
            Deed::Misdirect { node, seed } => world.misdirect(node, seed),
            Deed::Wipe { node, back_after } => world.wipe(node, back_after),
            Deed::BackUp { node, seed } => world.back_up(node, seed),
            Deed::Restore { node, back_after } => world.restore(node, back_after),
        }
    }
}

/// One line: nanoseconds since the start, then the deed.
impl fmt::Display for ScheduledFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.at.0)?;
        match &self.deed {
            Deed::Crash { node, power: false, back_after } => write!(f, "kill {node} back {}", back_after.0),
            Deed::Crash { node, power: true, back_after } => write!(f, "power-cut {node} back {}", back_after.0),
            Deed::PowerGoesInSync { node, back_after } => write!(f, "power-cut-in-sync {node} back {}", back_after.0),
            Deed::Close { from, to } => write!(f, "close {from} {to}"),
            Deed::CloseAll { node } => write!(f, "close-all {node}"),
            Deed::Block(blocked) => {
                f.write_str("block")?;
                blocked.iter().try_for_each(|(from, to)| write!(f, " {from}>{to}"))
            }
            Deed::Pause { node, span } => write!(f, "pause {node} for {}", span.0),
            Deed::ResetClients { node } => write!(f, "reset-clients {node}"),
            Deed::FailSync { node, nth } => write!(f, "fail-sync {node} nth {nth}"),
            Deed::HangDisk { node, span } => write!(f, "hang-disk {node} for {}", span.0),
            Deed::FillDisk { node } => write!(f, "fill-disk {node}"),
            Deed::ClockJump { node, ms } => write!(f, "clock-jump {node} ms {ms}"),
            Deed::Rot { node, file, offset, seed } => write!(f, "rot {node} {file} at {offset} seed {seed}"),
            Deed::Misdirect { node, seed } => write!(f, "misdirect {node} seed {seed}"),
            Deed::Wipe { node, back_after } => write!(f, "wipe {node} back {}", back_after.0),
            Deed::BackUp { node, seed } => write!(f, "back-up {node} seed {seed}"),
            Deed::Restore { node, back_after } => write!(f, "restore {node} back {}", back_after.0),
        }
    }
}

impl ScheduledFault {
    /// Reads the line that it is written as; none if it is no such line.
    pub fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (at, words) = words.split_first()?;
        let node = |word: &str| word.parse::<u32>().ok();
        let span = |word: &str| word.parse().ok().map(Span);
        let deed = match *words {
            ["kill", id, "back", back] => Deed::Crash { node: node(id)?, power: false, back_after: span(back)? },
            ["power-cut", id, "back", back] => Deed::Crash { node: node(id)?, power: true, back_after: span(back)? },
            ["power-cut-in-sync", id, "back", back] => {
                Deed::PowerGoesInSync { node: node(id)?, back_after: span(back)? }
            }
            ["close", from, to] => Deed::Close { from: node(from)?, to: node(to)? },
            ["close-all", id] => Deed::CloseAll { node: node(id)? },
            ["block", ref pairs @ ..] => {
                let pair = |word: &&str| word.split_once('>').and_then(|(from, to)| Some((node(from)?, node(to)?)));
                Deed::Block(pairs.iter().map(pair).collect::<Option<_>>()?)
            }
            ["pause", id, "for", length] => Deed::Pause { node: node(id)?, span: span(length)? },
            ["reset-clients", id] => Deed::ResetClients { node: node(id)? },
            ["fail-sync", id, "nth", nth] => Deed::FailSync { node: node(id)?, nth: nth.parse().ok()? },
            ["hang-disk", id, "for", length] => Deed::HangDisk { node: node(id)?, span: span(length)? },
            ["fill-disk", id] => Deed::FillDisk { node: node(id)? },
            ["rot", id, file, "at", offset, "seed", seed] => Deed::Rot {
                node: node(id)?,
                file: file.to_owned(),
                offset: offset.parse().ok()?,
                seed: seed.parse().ok()?,
            },
            ["misdirect", id, "seed", seed] => Deed::Misdirect { node: node(id)?, seed: seed.parse().ok()? },
            ["wipe", id, "back", back] => Deed::Wipe { node: node(id)?, back_after: span(back)? },
            ["back-up", id, "seed", seed] => Deed::BackUp { node: node(id)?, seed: seed.parse().ok()? },
            ["restore", id, "back", back] => Deed::Restore { node: node(id)?, back_after: span(back)? },
            ["clock-jump", id, "ms", ms] => Deed::ClockJump { node: node(id)?, ms: ms.parse().ok()? },
            _ => return None,
        };
        Some(Self { at: span(at)?, deed })
    }
}
