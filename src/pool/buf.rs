//! A buffer while it is written, and after.

use std::fmt;
use std::ops::{Bound, Deref, RangeBounds};
use std::sync::Arc;

use bytes::Bytes;

use super::Shared;

/// Memory of a pool; goes back to it when dropped.
struct Storage {
    pool: Arc<Shared>,
    /// Emptied only by `drop`.
    bytes: Box<[u8]>,
}

/// A buffer with one owner, filled from the front. Its contents are `..len`.
pub struct BufMut {
    storage: Storage,
    len: usize,
}

/// A part of a buffer that nobody writes any more. Clones and slices share it; it goes back with the last of them.
#[derive(Clone)]
pub struct Buf {
    storage: Arc<Storage>,
    start: usize,
    end: usize,
}

impl BufMut {
    pub(super) fn new(pool: Arc<Shared>, bytes: Box<[u8]>) -> Self {
        Self { storage: Storage { pool, bytes }, len: 0 }
    }

    /// How much it can hold.
    pub fn capacity(&self) -> usize {
        self.storage.bytes.len()
    }

    /// The unfilled rest. Holds left-overs of earlier use; say with [`BufMut::advance`] how much was written.
    pub fn spare_mut(&mut self) -> &mut [u8] {
        &mut self.storage.bytes[self.len..]
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
        self.storage.bytes.copy_within(count..self.len, 0);
        self.len -= count;
    }

    /// Ends writing; the contents become shareable.
    pub fn freeze(self) -> Buf {
        Buf { start: 0, end: self.len, storage: Arc::new(self.storage) }
    }
}

impl Deref for BufMut {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.storage.bytes[..self.len]
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
        Self { storage: Arc::clone(&self.storage), start: self.start + from, end: self.start + to }
    }

    /// What of the pool it keeps from being used again: the whole buffer, however small the slice (C-27).
    pub fn pinned(&self) -> usize {
        self.storage.bytes.len()
    }
}

impl Deref for Buf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.storage.bytes[self.start..self.end]
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

impl Drop for Storage {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.bytes));
    }
}
