//! Memory that stands for a mapped file of the virtual disk: written through one pointer, read through slices.

use std::alloc::{alloc_zeroed, dealloc, handle_alloc_error, Layout};
use std::ptr::NonNull;

use super::PAGE_BYTES;

/// Zeroed memory of fixed size. Like a shared mapping it may be written while others read *other* parts of it.
#[derive(Debug)]
pub(super) struct Memory {
    start: NonNull<u8>,
    capacity: usize,
}

// SAFETY: plain bytes, owned by this value. All writes and copies out happen under the virtual disk's lock; slices are
// taken only through `Map::slice`, whose caller promises that nobody writes to that range.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// At least `capacity` bytes.
    pub(super) fn new(capacity: usize) -> Memory {
        let capacity = capacity.next_multiple_of(PAGE_BYTES as usize).max(PAGE_BYTES as usize);
        let layout = Self::layout(capacity);
        // SAFETY: the layout's size is not zero.
        let Some(start) = NonNull::new(unsafe { alloc_zeroed(layout) }) else { handle_alloc_error(layout) };
        Memory { start, capacity }
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn as_ptr(&self) -> *const u8 {
        self.start.as_ptr()
    }

    /// Copies `bytes` to `offset`. Only under the virtual disk's lock.
    pub(super) fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset.checked_add(bytes.len()).is_some_and(|end| end <= self.capacity));
        // SAFETY: inside the allocation; no other write runs at the same time (the lock), and no slice of this range
        // exists (the promise of `Map::slice`).
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.as_ptr().add(offset), bytes.len()) }
    }

    /// Fills `bytes` from `offset`. Only under the virtual disk's lock.
    pub(super) fn read(&self, offset: usize, bytes: &mut [u8]) {
        assert!(offset.checked_add(bytes.len()).is_some_and(|end| end <= self.capacity));
        // SAFETY: inside the allocation, and no write runs at the same time (the lock).
        unsafe { std::ptr::copy_nonoverlapping(self.start.as_ptr().add(offset), bytes.as_mut_ptr(), bytes.len()) }
    }

    fn layout(capacity: usize) -> Layout {
        Layout::from_size_align(capacity, PAGE_BYTES as usize).expect("files are far smaller than the address space")
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout in `new`, freed once.
        unsafe { dealloc(self.start.as_ptr(), Self::layout(self.capacity)) }
    }
}
