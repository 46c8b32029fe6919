//! In the place of a heap in a build for comparisons (feature `global-memory`): every block is one of the global allocator,
//! on the thread that takes it and the one that frees it, with nothing in between.

use std::alloc::{alloc, dealloc, Layout};
use std::ptr::NonNull;

/// Stands for the global allocator.
#[derive(Clone, Debug)]
pub struct Heap;

/// A way to it.
pub struct Cache;

impl Heap {
    /// No limit is kept.
    pub fn new(_limit: usize) -> Self {
        Self
    }

    /// A way to it, for one more thread.
    pub fn cache(&self) -> Cache {
        Cache
    }
}

impl Cache {
    /// A block of at least `bytes`, at a multiple of 8. None: there is no memory.
    #[inline]
    pub fn alloc(&mut self, bytes: usize) -> Option<NonNull<u8>> {
        // SAFETY: the layout is not empty.
        NonNull::new(unsafe { alloc(layout(bytes)) })
    }

    /// Gives a block back.
    ///
    /// # Safety
    /// It came from [`Cache::alloc`] for as many `bytes`, and nobody uses it now or later.
    #[inline]
    pub unsafe fn free(&mut self, block: NonNull<u8>, bytes: usize) {
        // SAFETY: the caller's promise.
        unsafe { dealloc(block.as_ptr(), layout(bytes)) }
    }

    /// Unknown.
    pub fn mapped(&self) -> usize {
        0
    }

    /// Nothing lies here.
    pub fn trim(&mut self) {}
}

/// What was asked for: the allocator does not tell what it adds.
pub fn block_bytes(bytes: usize) -> usize {
    bytes
}

#[inline]
fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes.max(1), 8).expect("no block is near the address space")
}
