//! Memory in levels, each with its exact account: [`Heap`] gives raw blocks of any size, [`Pool`] buffers.
//!
//! ```text
//!  1  Cache   one owner's magazines, two per size class     no atomics, no lock
//!  2  depot   full magazines change hands for empty ones    one compare-and-swap per magazine
//!  3  pages   slabs of blocks in spans from the system      a mutex, taken per magazine that the depot has not
//! ```
//!
//! A [`Pool`] has buffers of a few sizes with a budget in bytes. What is out is counted exactly; a pool that is exhausted says so, and
//! its caller leaves the socket unread.
//!
//! A [`BufMut`] has one owner and is written; [`BufMut::freeze`] makes it a [`Buf`], which is shared, sliced and read,
//! and goes back when its last clone is dropped, on whatever thread that is.

mod buf;
mod class;
mod depot;
mod heap;
mod pages;
mod sync;
mod system;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

pub use buf::{Buf, BufMut};
use crossbeam_queue::ArrayQueue;
pub use heap::{block_bytes, Cache, Heap, Levels};

use crate::limits::POOL_CLASS_BYTES;

/// Classes of buffer sizes.
const CLASSES: usize = POOL_CLASS_BYTES.len();
/// At most so many free buffers of a class are kept for reuse.
const KEPT_MAX: usize = 256;

/// A budget of buffers. Clones share it.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

/// What all buffers of a pool know.
struct Shared {
    /// Most bytes that may be allocated, free ones included.
    budget: usize,
    /// Bytes of all buffers that exist, in use or kept; never above `budget`.
    allocated: AtomicUsize,
    /// Bytes of the buffers that are in somebody's hands.
    used: AtomicUsize,
    /// Buffers to be used again, by class.
    kept: [ArrayQueue<Box<[u8]>>; CLASSES],
}

impl Pool {
    /// A pool of `bytes`.
    pub fn new(bytes: usize) -> Self {
        let kept = POOL_CLASS_BYTES.map(|size| ArrayQueue::new((bytes / size).clamp(1, KEPT_MAX)));
        let shared = Shared { budget: bytes, allocated: AtomicUsize::new(0), used: AtomicUsize::new(0), kept };
        Self { shared: Arc::new(shared) }
    }

    /// An empty buffer for at least `capacity_min` bytes. None: the budget is used up (come back when a buffer was
    /// dropped), or no class is that large.
    pub fn take(&self, capacity_min: usize) -> Option<BufMut> {
        let class = class_for(capacity_min)?;
        let size = POOL_CLASS_BYTES[class];
        let storage = match self.shared.kept[class].pop() {
            Some(storage) => storage,
            None if self.shared.reserve(size) => vec![0; size].into_boxed_slice(),
            None => return None,
        };
        self.shared.used.fetch_add(size, Ordering::Relaxed);
        Some(BufMut::new(Arc::clone(&self.shared), storage))
    }

    /// Bytes of the buffers in use: capacity, not contents.
    pub fn used(&self) -> usize {
        self.shared.used.load(Ordering::Relaxed)
    }

    /// Bytes that exist, in use or kept for reuse: never above the budget.
    pub fn allocated(&self) -> usize {
        self.shared.allocated.load(Ordering::Relaxed)
    }

    /// The bytes that this pool was made with.
    pub fn budget(&self) -> usize {
        self.shared.budget
    }
}

impl Shared {
    /// Counts `size` as allocated if the budget allows, giving up kept buffers of other classes for it.
    fn reserve(&self, size: usize) -> bool {
        loop {
            let grown = |allocated: usize| allocated.checked_add(size).filter(|&sum| sum <= self.budget);
            if self.allocated.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_ok() {
                return true;
            }
            let Some(storage) = self.kept.iter().rev().find_map(ArrayQueue::pop) else {
                return false;
            };
            self.release(storage);
        }
    }

    /// Takes back what a buffer held.
    fn give_back(&self, storage: Box<[u8]>) {
        let before = self.used.fetch_sub(storage.len(), Ordering::Relaxed);
        assert!(before >= storage.len(), "more bytes come back to a pool than it gave");
        let class = class_for(storage.len()).expect("a buffer came from a class");
        if let Err(storage) = self.kept[class].push(storage) {
            self.release(storage);
        }
    }

    /// Gives memory back to the system.
    fn release(&self, storage: Box<[u8]>) {
        let size = storage.len();
        drop(storage);
        self.allocated.fetch_sub(size, Ordering::Relaxed);
    }
}

/// The smallest class that holds so many bytes.
fn class_for(capacity: usize) -> Option<usize> {
    POOL_CLASS_BYTES.iter().position(|&size| size >= capacity)
}

#[cfg(all(test, not(loom)))]
mod heap_tests;
#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;
