//! The atomics of the depot: the standard library's, or loom's when the room is model-checked (`--cfg loom`).

#[cfg(not(loom))]
mod real {
    pub(in super::super) use std::sync::atomic::{AtomicPtr, Ordering};

    /// Watches, under loom only, that one thread at a time touches what it lies in. Here it is nothing.
    pub(in super::super) struct Touched;

    impl Touched {
        pub(in super::super) fn new() -> Self {
            Self
        }
        #[inline(always)]
        pub(in super::super) fn touch(&self) {}
    }
}

#[cfg(loom)]
mod real {
    pub(in super::super) use loom::sync::atomic::{AtomicPtr, Ordering};

    /// Every touch is a write of its cell: loom fails the model if two of them race.
    pub(in super::super) struct Touched(loom::cell::UnsafeCell<()>);

    impl Touched {
        pub(in super::super) fn new() -> Self {
            Self(loom::cell::UnsafeCell::new(()))
        }
        pub(in super::super) fn touch(&self) {
            self.0.with_mut(|_| ());
        }
    }
}

pub(super) use real::*;
