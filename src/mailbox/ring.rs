//! A ring of four slots between one producer and one consumer.

use super::sync::{AtomicUsize, Ordering, UnsafeCell};

/// A power of two, so that the counters may wrap; a link never has more than three batches.
const SLOTS: usize = 4;

/// Bounded queue for one pushing and one popping thread; the two ends of a link keep that promise (`push` and `pop` are
/// each reachable from one owner only, through `&mut`).
pub(super) struct Ring<T> {
    /// How many were ever popped. Written by the consumer (release: the slot is empty again), read by the producer (acquire).
    popped: AtomicUsize,
    /// How many were ever pushed. Written by the producer (release: the slot is filled), read by the consumer (acquire).
    pushed: AtomicUsize,
    slots: [UnsafeCell<Option<T>>; SLOTS],
}

// SAFETY: a slot belongs to the producer while it is empty and to the consumer while it is filled; `pushed` and `popped`
// hand it over with release and acquire. The values themselves cross threads, so they must be `Send`.
unsafe impl<T: Send> Sync for Ring<T> {}
// SAFETY: it owns its values.
unsafe impl<T: Send> Send for Ring<T> {}

impl<T> Ring<T> {
    pub(super) fn new() -> Self {
        Self {
            popped: AtomicUsize::new(0),
            pushed: AtomicUsize::new(0),
            slots: std::array::from_fn(|_| UnsafeCell::new(None)),
        }
    }

    /// Producer only. Panics when full: a link has fewer batches than slots.
    pub(super) fn push(&self, value: T) {
        let pushed = self.pushed.load(Ordering::Relaxed);
        let popped = self.popped.load(Ordering::Acquire);
        assert!(pushed.wrapping_sub(popped) < SLOTS, "more values in a ring than a link has batches");
        self.slots[pushed % SLOTS].with_mut(|slot| {
            // SAFETY: the slot is outside `popped..pushed`, so it is the producer's, and there is one producer.
            unsafe { *slot = Some(value) }
        });
        self.pushed.store(pushed.wrapping_add(1), Ordering::Release);
    }

    /// Consumer only.
    pub(super) fn pop(&self) -> Option<T> {
        let popped = self.popped.load(Ordering::Relaxed);
        let pushed = self.pushed.load(Ordering::Acquire);
        if pushed == popped {
            return None;
        }
        let value = self.slots[popped % SLOTS].with_mut(|slot| {
            // SAFETY: the slot is inside `popped..pushed`, so it is the consumer's, and there is one consumer.
            unsafe { (*slot).take() }
        });
        self.popped.store(popped.wrapping_add(1), Ordering::Release);
        Some(value.expect("a slot between popped and pushed is filled"))
    }

    /// Nothing to pop. Consumer only: to anybody else it is out of date at once.
    pub(super) fn is_empty(&self) -> bool {
        self.pushed.load(Ordering::Acquire) == self.popped.load(Ordering::Relaxed)
    }
}
