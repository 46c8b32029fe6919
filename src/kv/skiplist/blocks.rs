//! Where nodes and versions lie: blocks of a heap of the list's own (module `pool`), in huge pages once it has grown. A
//! walk touches a node per step; on pages of 4 KiB nearly every one would miss the TLB too, beside the cache.
//!
//! Under loom it is loom's allocator, and nothing is given back before the end, so that a read after free meets its
//! guard and not chaos.

use std::alloc::{handle_alloc_error, Layout};
use std::ptr::NonNull;

#[cfg(loom)]
use loom::alloc::{alloc, dealloc};

#[cfg(not(loom))]
use crate::pool::{Cache, Heap};

/// While no more is mapped, nothing is trimmed.
#[cfg(not(loom))]
const TRIM_MAPPED_MIN: usize = 8 * 1024 * 1024;

#[cfg(not(loom))]
pub(super) struct Blocks {
    cache: Cache,
    /// The heap is looked at when so many bytes are left.
    trim_at: usize,
}

#[cfg(not(loom))]
impl Blocks {
    pub(super) fn new() -> Self {
        Self { cache: Heap::new(usize::MAX).cache(), trim_at: 0 }
    }

    /// A block, which the size of a list's state alone bounds.
    pub(super) fn take(&mut self, layout: Layout) -> NonNull<u8> {
        assert!(layout.align() <= 8, "blocks lie at multiples of 8");
        self.cache.alloc(layout.size()).unwrap_or_else(|| handle_alloc_error(layout))
    }

    /// # Safety
    /// `block` came from [`Blocks::take`] with this layout and is used by nobody.
    pub(super) unsafe fn give(&mut self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: passed on; all blocks of a list come from its one heap.
        unsafe { self.cache.free(block, layout.size()) };
    }

    /// Call with the bytes that are taken. Each time that they have halved, what magazines hold goes back to its spans,
    /// since a single block keeps a whole span from the system; so does all of it when nothing is left.
    pub(super) fn trim(&mut self, bytes: usize) {
        self.trim_at = self.trim_at.max(bytes / 2);
        if bytes <= self.trim_at {
            self.trim_at = bytes / 2;
            if bytes == 0 || self.cache.mapped() > TRIM_MAPPED_MIN {
                self.cache.trim();
            }
        }
    }
}

#[cfg(loom)]
#[derive(Default)]
pub(super) struct Blocks {
    ended: Vec<(NonNull<u8>, Layout)>,
}

#[cfg(loom)]
impl Blocks {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn take(&mut self, layout: Layout) -> NonNull<u8> {
        // SAFETY: the layout has a header in it, so its size is not 0.
        NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
    }

    /// # Safety
    /// As for the heap's.
    pub(super) unsafe fn give(&mut self, block: NonNull<u8>, layout: Layout) {
        self.ended.push((block, layout));
    }

    pub(super) fn trim(&mut self, _bytes: usize) {}
}

#[cfg(loom)]
impl Drop for Blocks {
    fn drop(&mut self) {
        for (block, layout) in self.ended.drain(..) {
            // SAFETY: what `give` took, once.
            unsafe { dealloc(block.as_ptr(), layout) };
        }
    }
}
