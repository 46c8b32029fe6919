//! Coverage marks: names of rare paths, counted for the simulator. `mark!("name")` costs nothing in a build without debug
//! assertions, which every shipped build is.

#[cfg(debug_assertions)]
use std::{cell::RefCell, collections::BTreeMap};

/// Says that this path was taken.
#[macro_export]
macro_rules! mark {
    ($name:literal) => {
        #[cfg(debug_assertions)]
        $crate::marks::hit($name)
    };
}

#[cfg(debug_assertions)]
thread_local! {
    static HITS: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
}

/// Counts one mark of this thread.
#[cfg(debug_assertions)]
pub fn hit(name: &'static str) {
    HITS.with_borrow_mut(|hits| *hits.entry(name).or_default() += 1);
}

/// How often this thread has counted a mark since it last took them.
#[cfg(debug_assertions)]
pub fn hits(name: &str) -> u64 {
    HITS.with_borrow(|hits| hits.get(name).copied().unwrap_or(0))
}

/// What this thread has counted since it last took it.
#[cfg(debug_assertions)]
pub fn take() -> BTreeMap<&'static str, u64> {
    HITS.take()
}
