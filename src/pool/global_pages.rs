//! In the place of level 3 in a build for comparisons (feature `global-memory`): every block of a pool of buffers is
//! one of the global allocator, and goes back there.

use std::alloc::{alloc_zeroed, dealloc, Layout};
use std::ptr::NonNull;

/// Blocks of one pool, counted.
pub(super) struct Pages {
    given: usize,
    limit: usize,
}

impl Pages {
    pub(super) fn new(limit: usize) -> Self {
        Self { given: 0, limit }
    }

    /// What is given: the allocator does not tell what it has mapped.
    pub(super) fn mapped(&self) -> usize {
        self.given
    }

    /// Bytes of the blocks in use.
    pub(super) fn given(&self) -> usize {
        self.given
    }

    /// A block of zeroes. None: the limit is reached, or there is no memory.
    pub(super) fn take(&mut self, bytes: usize) -> Option<NonNull<u8>> {
        if self.given + bytes > self.limit {
            return None;
        }
        // SAFETY: no class is empty.
        let block = NonNull::new(unsafe { alloc_zeroed(layout(bytes)) })?;
        self.given += bytes;
        Some(block)
    }

    /// # Safety
    /// The block came from [`Pages::take`] for as many bytes, and nobody uses it.
    pub(super) unsafe fn give(&mut self, block: NonNull<u8>, bytes: usize) {
        self.given -= bytes;
        // SAFETY: the caller's promise.
        unsafe { dealloc(block.as_ptr(), layout(bytes)) };
    }

    /// Nothing lies here.
    pub(super) fn trim(&mut self) {}
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, 16).expect("no class is near the address space")
}
