//! Levels that the threads of a server publish once per batch for whoever watches: plain stores on their side, plain loads
//! on the other. Each is true by itself, two of them may be of different moments; nothing is decided by them but words.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use protocol::{Index, NodeId};

use crate::limits;
use crate::time::Time;

/// All levels of a process.
pub(super) struct Gauges {
    /// When the raft thread last began an iteration.
    raft_turned: AtomicU64,
    peers: [PeerCells; limits::MEMBERS_MAX],
    /// Free credits, by io thread.
    credits: Box<[AtomicU64]>,
    stopping: AtomicBool,
}

/// What is known of one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PeerLevel {
    pub(super) node: NodeId,
    /// Unsent bytes of its connection; none = there is no connection.
    pub(super) queued: Option<u64>,
    /// On a leader: the last entry known to be durable there.
    pub(super) matched: Option<Index>,
}

/// Stands for "nothing" in a cell.
const NONE: u64 = u64::MAX;

struct PeerCells {
    node: AtomicU64,
    queued: AtomicU64,
    matched: AtomicU64,
}

impl Gauges {
    pub(super) fn new(now: Time, io_threads: u16, credits: u32) -> Gauges {
        let cells =
            |_| PeerCells { node: AtomicU64::new(NONE), queued: AtomicU64::new(NONE), matched: AtomicU64::new(NONE) };
        Gauges {
            raft_turned: AtomicU64::new(now.0),
            peers: std::array::from_fn(cells),
            credits: (0..io_threads).map(|_| AtomicU64::new(credits.into())).collect(),
            stopping: AtomicBool::new(false),
        }
    }

    pub(super) fn set_raft_turned(&self, now: Time) {
        self.raft_turned.store(now.0, Ordering::Relaxed);
    }

    pub(super) fn raft_turned(&self) -> Time {
        Time(self.raft_turned.load(Ordering::Relaxed))
    }

    /// Peers beyond the most members that can be are not shown.
    pub(super) fn set_peers(&self, levels: impl Iterator<Item = PeerLevel>) {
        let mut levels = levels.map(Some).chain(std::iter::repeat(None));
        for cells in &self.peers {
            let Some(Some(level)) = levels.next() else {
                cells.node.store(NONE, Ordering::Relaxed);
                continue;
            };
            cells.node.store(level.node.0.into(), Ordering::Relaxed);
            cells.queued.store(level.queued.unwrap_or(NONE), Ordering::Relaxed);
            cells.matched.store(level.matched.map_or(NONE, |index| index.0), Ordering::Relaxed);
        }
    }

    pub(super) fn peers(&self) -> Vec<PeerLevel> {
        let load = |cell: &AtomicU64| Some(cell.load(Ordering::Relaxed)).filter(|level| *level != NONE);
        let level = |cells: &PeerCells| {
            let node = NodeId(u32::try_from(load(&cells.node)?).ok()?);
            Some(PeerLevel { node, queued: load(&cells.queued), matched: load(&cells.matched).map(Index) })
        };
        self.peers.iter().filter_map(level).collect()
    }

    pub(super) fn set_credits(&self, io_loop: u16, free: u32) {
        self.credits[usize::from(io_loop)].store(free.into(), Ordering::Relaxed);
    }

    /// Free credits, by io thread.
    pub(super) fn credits(&self) -> impl Iterator<Item = u64> + '_ {
        self.credits.iter().map(|free| free.load(Ordering::Relaxed))
    }

    pub(super) fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_come_and_go() {
        let gauges = Gauges::new(Time(0), 1, 16);
        assert!(gauges.peers().is_empty());
        let level = |node, queued, matched| PeerLevel { node: NodeId(node), queued, matched };
        let two = [level(1, Some(0), Some(Index(7))), level(2, None, None)];
        gauges.set_peers(two.into_iter());
        assert_eq!(gauges.peers(), two);
        gauges.set_peers(two.into_iter().skip(1));
        assert_eq!(gauges.peers(), two[1..]);
        gauges.set_peers((0..99).map(|node| level(node, None, None)));
        assert_eq!(gauges.peers().len(), limits::MEMBERS_MAX);
    }
}
