//! Walks to several keys at once, so that the memory each of them needs is fetched beside the others'.
//!
//! A walk through a list that is larger than the processor's caches waits for memory at each node. The next node of a walk is
//! known only when the last one is there, but walks to different keys know nothing of each other: here each makes one step
//! while the next nodes of the others are on their way. The walk that follows finds everything near.

use super::list::List;
use super::node::{NodeRef, Wanted};
use crate::limits;

/// Keys whose ways are fetched together.
pub(super) const LANES: usize = limits::WARM_KEYS;

/// One walk, at `node` on `level`, about to look at `next`.
#[derive(Clone, Copy)]
struct Lane<'a, 'k> {
    wanted: Wanted<'k>,
    node: NodeRef<'a>,
    next: Option<NodeRef<'a>>,
    level: usize,
}

impl<'a> Lane<'a, '_> {
    /// One step to the right or down. False: it has arrived.
    fn step(&mut self) -> bool {
        match self.next {
            Some(next) if next.is_before(&self.wanted) => self.node = next,
            next => {
                if self.level == 0 {
                    next.into_iter().for_each(NodeRef::prefetch_newest);
                    return false;
                }
                self.level -= 1;
            }
        }
        self.next = self.node.next(self.level);
        self.next.into_iter().for_each(NodeRef::prefetch);
        true
    }
}

/// Brings into the processor's caches what [`List::seek`] touches on its way to each of the keys. Changes nothing.
pub(super) fn warm<'a, 'k>(list: &List, head: NodeRef<'a>, mut keys: impl Iterator<Item = &'k [u8]>) {
    let level = list.levels() - 1;
    loop {
        let mut lanes: [Option<Lane<'a, 'k>>; LANES] = std::array::from_fn(|_| {
            keys.next().map(|key| Lane { wanted: Wanted::new(key), node: head, next: head.next(level), level })
        });
        if lanes[1].is_none() {
            return; // nothing to do beside a single walk
        }
        let mut walking = true;
        while walking {
            walking = false;
            for lane in &mut lanes {
                let goes_on = lane.as_mut().is_some_and(Lane::step);
                walking |= goes_on;
                if !goes_on {
                    *lane = None;
                }
            }
        }
    }
}
