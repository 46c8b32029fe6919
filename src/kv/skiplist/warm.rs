//! Walks to several keys at once, so that the memory each of them needs is fetched beside the others'.
//!
//! A walk through a list that is larger than the processor's caches waits for memory at each node. The next node of a walk is
//! known only when the last one is there, but walks to different keys know nothing of each other: here each makes one step
//! while the next nodes of the others are on their way.

use std::array;

use super::node::{NodeRef, Wanted};
use crate::limits;

/// Keys that are walked to together.
pub(super) const LANES: usize = limits::WARM_KEYS;

/// Walks, each at a node on a level, about to look at the next one.
pub(super) struct Lanes<'a, 'k> {
    len: usize,
    wanted: [Wanted<'k>; LANES],
    node: [NodeRef<'a>; LANES],
    next: [Option<NodeRef<'a>>; LANES],
    level: [usize; LANES],
}

impl<'a, 'k> Lanes<'a, 'k> {
    /// Walks to the first [`LANES`] of these keys, on the lowest `levels` levels, each from the head, or from where `start`
    /// says: a node before the key that is taller than `levels - 1`.
    pub(super) fn new(
        head: NodeRef<'a>,
        levels: usize,
        keys: &mut impl Iterator<Item = &'k [u8]>,
        start: impl FnOnce(&[Wanted<'k>], &mut [NodeRef<'a>]),
    ) -> Self {
        let mut lanes = Self {
            len: 0,
            wanted: [Wanted::new(&[]); LANES],
            node: [head; LANES],
            next: [None; LANES],
            level: [levels - 1; LANES],
        };
        for (lane, key) in keys.take(LANES).enumerate() {
            lanes.wanted[lane] = Wanted::new(key);
            lanes.len = lane + 1;
        }
        let len = lanes.len;
        start(&lanes.wanted[..len], &mut lanes.node[..len]);
        lanes.node[..len].iter().for_each(|node| node.prefetch(levels - 1));
        for lane in 0..lanes.len {
            lanes.look(lane);
        }
        lanes
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn wanted(&self, lane: usize) -> &Wanted<'k> {
        &self.wanted[lane]
    }

    /// Walks them all to their ends. Tells `passed`, with the lane, the last node before its key on each level.
    pub(super) fn walk(&mut self, mut passed: impl FnMut(usize, usize, NodeRef<'a>)) {
        // Lanes that have not arrived, in any order.
        let mut walking: [usize; LANES] = array::from_fn(|lane| lane);
        let mut count = self.len;
        while count > 0 {
            let mut at = 0;
            while at < count {
                let lane = walking[at];
                if self.step(lane, &mut passed) {
                    at += 1;
                } else {
                    count -= 1;
                    walking[at] = walking[count];
                }
            }
        }
    }

    /// One step to the right, or down past all levels that stop at the same node. False: it has arrived.
    fn step(&mut self, lane: usize, passed: &mut impl FnMut(usize, usize, NodeRef<'a>)) -> bool {
        let next = self.next[lane];
        if let Some(next) = next.filter(|next| next.is_before(&self.wanted[lane])) {
            self.node[lane] = next;
            self.look(lane);
            return true;
        }
        loop {
            let level = self.level[lane];
            passed(lane, level, self.node[lane]);
            if level == 0 {
                next.into_iter().for_each(NodeRef::prefetch_found);
                return false;
            }
            self.level[lane] = level - 1;
            if self.node[lane].next(level - 1) != next {
                self.look(lane);
                return true;
            }
        }
    }

    fn look(&mut self, lane: usize) {
        let level = self.level[lane];
        self.next[lane] = self.node[lane].next(level);
        self.next[lane].into_iter().for_each(|next| next.prefetch(level));
    }
}
