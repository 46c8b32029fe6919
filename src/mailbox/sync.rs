//! The atomics of this room: the standard library's, or loom's when the room is model-checked (`--cfg loom`).

#[cfg(loom)]
pub(super) use loom::cell::UnsafeCell;
#[cfg(loom)]
pub(super) use loom::sync::atomic::{fence, AtomicBool, AtomicUsize, Ordering};

#[cfg(not(loom))]
pub(super) use cell::UnsafeCell;
#[cfg(not(loom))]
pub(super) use std::sync::atomic::{fence, AtomicBool, AtomicUsize, Ordering};

#[cfg(not(loom))]
mod cell {
    /// The standard cell behind loom's interface.
    #[derive(Debug)]
    pub(in super::super) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(in super::super) fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        pub(in super::super) fn with_mut<R>(&self, use_it: impl FnOnce(*mut T) -> R) -> R {
            use_it(self.0.get())
        }
    }
}
