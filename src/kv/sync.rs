//! The atomics that the skip list runs on: the standard library's, or loom's under `cfg(loom)`, so that the shipped code
//! is what the model checker runs.

#[cfg(not(loom))]
mod real {
    pub(in crate::kv) use std::sync::atomic::{fence, AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
    pub(in crate::kv) use std::sync::Arc;

    /// Readers that may exist at a time.
    pub(in crate::kv) const READERS: usize = crate::limits::READERS_MAX;
    /// Views of clients that may exist at a time.
    pub(in crate::kv) const CLIENT_VIEWS: usize = crate::limits::VIEWS_MAX;
    /// Views that may exist at a time.
    pub(in crate::kv) const VIEWS: usize = CLIENT_VIEWS + crate::limits::SNAPSHOT_VIEWS_MAX;
    /// Levels of the skip list. With a quarter of each level's nodes on the next, 16 levels serve 4^16 keys.
    pub(in crate::kv) const LEVELS: usize = 16;
    /// Taller nodes have a finger: one in sixteen.
    pub(in crate::kv) const FINGER_HEIGHT: usize = 2;

    /// Watches, under loom only, that memory is not read once it was freed. Here it is nothing.
    pub(in crate::kv) struct Alive;

    impl Alive {
        pub(in crate::kv) fn new() -> Self {
            Self
        }
        #[inline(always)]
        pub(in crate::kv) fn read(&self) {}
        #[inline(always)]
        pub(in crate::kv) fn end(&self) {}
    }
}

#[cfg(loom)]
mod real {
    pub(in crate::kv) use loom::sync::atomic::{fence, AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
    pub(in crate::kv) use loom::sync::Arc;

    pub(in crate::kv) const READERS: usize = 2;
    pub(in crate::kv) const CLIENT_VIEWS: usize = 1;
    pub(in crate::kv) const VIEWS: usize = 2;
    pub(in crate::kv) const LEVELS: usize = 2;
    pub(in crate::kv) const FINGER_HEIGHT: usize = 1;

    /// Every look at a node or version is a read of its cell, and freeing it is a write: loom fails the model if the
    /// two race, and the assertion fails it if the read comes after.
    pub(in crate::kv) struct Alive(loom::cell::UnsafeCell<bool>);

    impl Alive {
        pub(in crate::kv) fn new() -> Self {
            Self(loom::cell::UnsafeCell::new(true))
        }
        pub(in crate::kv) fn read(&self) {
            // SAFETY: loom's cell itself reports a write at the same time.
            self.0.with(|alive| assert!(unsafe { *alive }, "read after free"));
        }
        pub(in crate::kv) fn end(&self) {
            // SAFETY: as above.
            self.0.with_mut(|alive| assert!(std::mem::replace(unsafe { &mut *alive }, false), "freed twice"));
        }
    }
}

pub(in crate::kv) use real::*;
