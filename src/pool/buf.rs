//! A buffer while it is written, and after.

use std::fmt;
use std::ops::{Bound, Deref, RangeBounds};
use std::ptr::NonNull;
use std::sync::atomic::{fence, AtomicUsize, Ordering};

use bytes::Bytes;

use super::buffers::{contents_of, Block, Head, HEAD_BYTES};

/// A buffer with one owner, filled from the front. Its contents are `..len`.
pub struct BufMut {
    block: Block,
    len: usize,
}

/// A part of a buffer that nobody writes any more. Clones and slices share it; it goes back with the last of them.
pub struct Buf {
    /// Counts its clones.
    head: NonNull<Head>,
    start: usize,
    end: usize,
}

// SAFETY: what is shared is only read, and the count of clones is atomic.
unsafe impl Send for Buf {}
// SAFETY: as above.
unsafe impl Sync for Buf {}

impl BufMut {
    pub(super) fn new(block: Block) -> Self {
        Self { block, len: 0 }
    }

    pub(super) fn into_block(self) -> Block {
        self.block
    }

    /// How much it can hold.
    pub fn capacity(&self) -> usize {
        self.block.contents().len()
    }

    /// The unfilled rest. Holds left-overs of earlier use; say with [`BufMut::advance`] how much was written.
    pub fn spare_mut(&mut self) -> &mut [u8] {
        &mut self.block.contents_mut()[self.len..]
    }

    /// Counts `written` more bytes of the rest as contents.
    pub fn advance(&mut self, written: usize) {
        assert!(written <= self.capacity() - self.len, "more was written than the buffer holds");
        self.len += written;
    }

    /// Appends as much of `bytes` as fits; how much did.
    pub fn fill(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.capacity() - self.len);
        self.spare_mut()[..count].copy_from_slice(&bytes[..count]);
        self.len += count;
        count
    }

    /// Forgets the first `count` bytes and moves the others to the front.
    pub fn consume(&mut self, count: usize) {
        self.block.contents_mut().copy_within(count..self.len, 0);
        self.len -= count;
    }

    /// Ends writing; the contents become shareable.
    pub fn freeze(self) -> Buf {
        let head = self.block.into_raw();
        // SAFETY: the block is ours until the result is; relaxed, since nobody else knows it yet.
        unsafe { head.as_ref() }.shares.store(1, Ordering::Relaxed);
        Buf { head, start: 0, end: self.len }
    }
}

impl Deref for BufMut {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.block.contents()[..self.len]
    }
}

impl Buf {
    /// A part of it that shares the buffer. Panics outside of it.
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Self {
        let from = match range.start_bound() {
            Bound::Included(&from) => from,
            Bound::Excluded(&before) => before + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(&last) => last + 1,
            Bound::Excluded(&to) => to,
            Bound::Unbounded => self.len(),
        };
        assert!(from <= to && to <= self.len(), "a slice lies inside of its buffer");
        let mut slice = self.clone();
        (slice.start, slice.end) = (self.start + from, self.start + to);
        slice
    }

    /// What of the pool it keeps from being used again: the whole buffer, however small the slice (C-27).
    pub fn pinned(&self) -> usize {
        self.block().len() + HEAD_BYTES
    }

    fn block(&self) -> &[u8] {
        // SAFETY: the block is in use as long as one of its clones is, and nobody writes to it anymore.
        unsafe { contents_of(self.head).as_ref() }
    }

    fn shares(&self) -> &AtomicUsize {
        // SAFETY: as above.
        unsafe { &self.head.as_ref().shares }
    }
}

impl Clone for Buf {
    fn clone(&self) -> Self {
        // Relaxed: this clone keeps the block meanwhile. A count cannot overflow: a clone is as large as it.
        self.shares().fetch_add(1, Ordering::Relaxed);
        Self { head: self.head, start: self.start, end: self.end }
    }
}

impl Deref for Buf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.block()[self.start..self.end]
    }
}

impl AsRef<[u8]> for Buf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Buf> for Bytes {
    /// Allocates a handle: for large commands only.
    fn from(buf: Buf) -> Self {
        Bytes::from_owner(buf)
    }
}

impl fmt::Debug for BufMut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BufMut({} of {})", self.len, self.capacity())
    }
}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buf({} of {})", self.len(), self.pinned())
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        // Release, partner of the acquire below: what this clone read comes before what the next owner writes.
        if self.shares().fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        fence(Ordering::Acquire);
        // SAFETY: this was the last clone, so nobody else uses the block.
        drop(unsafe { Block::from_raw(self.head) });
    }
}
