//! Where small bodies that came over a socket lie until their entries leave memory.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::limits::{ARENA_BLOCKS_MAX, ARENA_BYTES, COPIED_COMMAND_BYTES_MAX};

/// Blocks that are looked at before another one is allocated: the oldest are free first, unless somebody holds on to one.
const LOOKS: usize = 4;

/// One thread's: bytes lie one behind the other in blocks of [`ARENA_BYTES`]. A block whose contents were all dropped, by
/// whichever threads, is filled again.
#[derive(Debug, Default)]
pub(super) struct Arena {
    /// Being filled.
    block: Option<BytesMut>,
    /// Filled, oldest first; each knows whether anything in it is held.
    filled: VecDeque<BytesMut>,
    /// Blocks that were begun since the arena settled last.
    begun: usize,
}

impl Arena {
    /// Copies bytes out of a read buffer: small ones into a block, so that they pin neither the buffer nor an allocation
    /// of their own (C-27).
    pub(super) fn keep(&mut self, bytes: &[u8]) -> Bytes {
        if bytes.len() > COPIED_COMMAND_BYTES_MAX {
            return Bytes::copy_from_slice(bytes);
        }
        let mut block = match self.block.take() {
            Some(block) if block.capacity() >= bytes.len() => block,
            full => self.next(full),
        };
        block.extend_from_slice(bytes);
        let kept = block.split().freeze();
        self.block = Some(block);
        kept
    }

    /// Call it about once a second: of the blocks that lie free, as many stay as were begun since the last call, and one.
    pub(super) fn settle(&mut self) {
        let most = std::mem::take(&mut self.begun) + 1;
        let mut free = 0;
        self.filled.retain_mut(|block| {
            let is_free = is_free(block);
            free += usize::from(is_free);
            !is_free || free <= most
        });
    }

    /// Keeps nothing: blocks are freed when the last of what lies in them is dropped.
    pub(super) fn let_go(&mut self) {
        *self = Arena::default();
    }

    /// A block to fill, in the place of one that is full.
    #[cold]
    fn next(&mut self, full: Option<BytesMut>) -> BytesMut {
        self.begun += 1;
        self.filled.extend(full);
        if self.filled.len() > ARENA_BLOCKS_MAX {
            self.filled.pop_front();
        }
        let free = self.filled.iter_mut().take(LOOKS).position(is_free);
        let block = free.and_then(|place| self.filled.remove(place));
        block.unwrap_or_else(|| BytesMut::with_capacity(ARENA_BYTES))
    }
}

/// Whether nothing in it is held; then all of it can be filled.
fn is_free(block: &mut BytesMut) -> bool {
    block.try_reclaim(ARENA_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of which so many fill a block.
    const PART: [u8; ARENA_BYTES / 32] = [7; ARENA_BYTES / 32];

    fn fill(arena: &mut Arena) -> Vec<Bytes> {
        (0..32).map(|_| arena.keep(&PART)).collect()
    }

    #[test]
    fn small_bytes_lie_behind_each_other_and_large_ones_alone() {
        let mut arena = Arena::default();
        let small: Vec<Bytes> = (0..20).map(|n| arena.keep(&[n; COPIED_COMMAND_BYTES_MAX])).collect();
        for (n, bytes) in (0..).zip(&small) {
            assert_eq!(bytes[..], [n; COPIED_COMMAND_BYTES_MAX]);
        }
        assert_eq!(small[1].as_ptr() as usize - small[0].as_ptr() as usize, COPIED_COMMAND_BYTES_MAX);
        let before = arena.block.as_ref().map(BytesMut::capacity);
        let large = arena.keep(&[7; COPIED_COMMAND_BYTES_MAX + 1]);
        assert_eq!(large[..], [7; COPIED_COMMAND_BYTES_MAX + 1]);
        assert_eq!(arena.block.as_ref().map(BytesMut::capacity), before, "it has an allocation of its own");
        assert!(arena.keep(&[]).is_empty());
    }

    #[test]
    fn a_block_is_filled_again_when_nothing_in_it_is_held() {
        let mut arena = Arena::default();
        let mut first = fill(&mut arena);
        let second = fill(&mut arena);
        let place = first[0].as_ptr();
        first.drain(1..);
        let third = fill(&mut arena);
        assert!(second.iter().chain(&third).all(|bytes| bytes[..] == PART && bytes.as_ptr() != place));
        assert_eq!(first[0][..], PART, "one that is held is left alone");
        drop(first);
        let last = arena.keep(&[9]);
        assert_eq!((last.as_ptr(), &last[..]), (place, &[9][..]));
    }

    #[test]
    fn one_that_is_held_for_long_keeps_no_others_back() {
        let mut arena = Arena::default();
        let held = fill(&mut arena);
        let places: Vec<_> = (0..100).map(|_| fill(&mut arena)[0].as_ptr()).collect();
        assert!(places[2..].iter().all(|place| places[..2].contains(place)));
        assert!(held.iter().all(|bytes| bytes[..] == PART));
    }

    #[test]
    fn what_a_burst_took_is_given_back() {
        let mut arena = Arena::default();
        let held: Vec<_> = (0..50).map(|_| fill(&mut arena)).collect();
        arena.settle();
        assert_eq!(arena.filled.len(), 49, "nothing is free");
        drop(held);
        arena.settle();
        assert_eq!(arena.filled.len(), 1);
    }

    #[test]
    fn it_knows_a_bounded_number_of_blocks() {
        let mut arena = Arena::default();
        let held: Vec<_> = (0..ARENA_BLOCKS_MAX + 10).map(|_| fill(&mut arena)).collect();
        assert_eq!(arena.filled.len(), ARENA_BLOCKS_MAX);
        assert!(held.iter().flatten().all(|bytes| bytes[..] == PART));
        arena.let_go();
        assert!(held.iter().flatten().all(|bytes| bytes[..] == PART));
    }
}
