//! The client's promise that a test can break: "not applied" only if no earlier attempt had an unknown end (C-24).

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

thread_local! {
    static HERE: Cell<bool> = const { Cell::new(false) };
}
static EVERYWHERE: AtomicBool = AtomicBool::new(false);

/// Breaks it in this thread, or not.
pub fn arm(armed: bool) {
    HERE.set(armed);
}

/// Breaks it in the whole process, or not.
pub fn arm_everywhere(armed: bool) {
    EVERYWHERE.store(armed, Ordering::Relaxed);
}

/// Whether it is forgotten that an earlier attempt may have been executed.
pub(crate) fn forgets() -> bool {
    HERE.get() || EVERYWHERE.load(Ordering::Relaxed)
}
