//! Spans that are mapped and touched before somebody needs them.
//!
//! The first touch of a huge page clears two megabytes, for 0.1 to 0.3 ms; on a virtual machine whose host has yet to find that
//! memory, for 3 to 6 ms. If that is the thread that executes writes, everybody who waits for one waits for that too. So a
//! thread that has nothing else to do touches the next spans while the last one fills up. Nobody ever waits for it: who finds no
//! span ready maps one.
//!
//! One supply serves all heaps of the process, as the system below it does.

use std::ptr::NonNull;
use std::sync::{Condvar, Mutex, MutexGuard};

use super::pages::SPAN_BYTES;
use super::system::{self, SYSTEM_PAGE_BYTES};
use crate::limits;

/// Spans in a heap from which on its next ones are asked for here, so that a small state stays small.
pub(super) const ASKING_SPANS_MIN: usize = 4;

/// Spans that lie ready at a time.
const READY_MAX: usize = limits::AHEAD_BYTES_MAX / SPAN_BYTES;

/// The process's supply.
pub(super) static SUPPLY: Supply = Supply::new();

/// Spans that lie ready, and how often one did not.
pub(super) struct Supply {
    state: Mutex<State>,
    /// There is less than there should be.
    short: Condvar,
}

/// How often a heap has asked for a span that was touched ahead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpansAhead {
    /// Times that it was there.
    pub ready: u64,
    /// Times that it was not: whoever asked has touched its span itself.
    pub late: u64,
}

struct State {
    ready: Vec<Touched>,
    /// Nothing is mapped before somebody asks.
    is_asked: bool,
    /// The system had no memory for one; nobody tries again before the next is asked for.
    is_refused: bool,
    asked: SpansAhead,
}

/// A mapped span of zeroes, nobody else's, and aligned to its length.
struct Touched(NonNull<u8>);

// SAFETY: it owns what it points to, which is bound to no thread.
unsafe impl Send for Touched {}

impl Supply {
    const fn new() -> Self {
        let asked = SpansAhead { ready: 0, late: 0 };
        let state = State { ready: Vec::new(), is_asked: false, is_refused: false, asked };
        Self { state: Mutex::new(state), short: Condvar::new() }
    }

    /// A span of zeroes that is touched already, if one is ready. It is the caller's, to be unmapped.
    pub(super) fn take(&self) -> Option<NonNull<u8>> {
        let mut state = self.state();
        let taken = state.ready.pop();
        match taken {
            Some(_) => state.asked.ready += 1,
            None => state.asked.late += 1,
        }
        (state.is_asked, state.is_refused) = (true, false);
        drop(state);
        self.short.notify_one();
        taken.map(|Touched(span)| span)
    }

    /// Waits until there is less than there should be, and maps and touches one more.
    fn fill_one(&self) {
        let is_enough = |state: &mut State| !state.is_asked || state.is_refused || state.ready.len() >= READY_MAX;
        // Others take and ask meanwhile.
        drop(self.short.wait_while(self.state(), is_enough).unwrap_or_else(|_| unreachable!("nobody panics under it")));
        let touched = touched();
        let mut state = self.state();
        state.is_refused = touched.is_none();
        state.ready.extend(touched);
    }

    fn asked(&self) -> SpansAhead {
        self.state().asked
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|_| unreachable!("nobody panics under it"))
    }
}

/// None: the system has no more.
fn touched() -> Option<Touched> {
    let span = system::map(SPAN_BYTES, SPAN_BYTES)?;
    system::advise_huge(span, SPAN_BYTES);
    for page in 0..SPAN_BYTES / SYSTEM_PAGE_BYTES {
        // SAFETY: just mapped, so long, and nobody else's.
        unsafe { span.add(page * SYSTEM_PAGE_BYTES).write_volatile(0) };
    }
    Some(Touched(span))
}

/// Keeps spans ready for all heaps of the process, for ever: a thread's work.
pub fn keep_spans_ahead() -> ! {
    loop {
        SUPPLY.fill_one();
    }
}

/// How often a growing heap has found a span ready.
pub fn spans_ahead() -> SpansAhead {
    SUPPLY.asked()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// What a test has not taken goes back with it.
    impl Drop for Supply {
        fn drop(&mut self) {
            for Touched(span) in std::mem::take(&mut self.state().ready) {
                // SAFETY: mapped by `touched`, and taken by nobody.
                unsafe { system::unmap(span, SPAN_BYTES) };
            }
        }
    }

    /// Ours since it was taken.
    struct Taken(NonNull<u8>);

    // SAFETY: it owns what it points to, which is bound to no thread.
    unsafe impl Send for Taken {}

    impl Drop for Taken {
        fn drop(&mut self) {
            // SAFETY: mapped so long, and nobody else's.
            unsafe { system::unmap(self.0, SPAN_BYTES) };
        }
    }

    #[test]
    fn what_was_asked_for_once_lies_ready_the_next_times() {
        let supply = Supply::new();
        assert!(supply.take().is_none(), "nobody has filled it");
        (0..READY_MAX).for_each(|_| supply.fill_one());
        let spans: Vec<Taken> = (0..READY_MAX).map(|_| Taken(supply.take().expect("ready"))).collect();
        assert!(supply.take().is_none(), "so many and no more");
        assert_eq!(supply.asked(), SpansAhead { ready: READY_MAX as u64, late: 2 });
        for Taken(span) in &spans {
            assert_eq!(span.addr().get() % SPAN_BYTES, 0);
            // SAFETY: mapped, so long, and read by nobody else.
            let bytes = unsafe { std::slice::from_raw_parts(span.as_ptr(), SPAN_BYTES) };
            assert!(bytes.iter().all(|byte| *byte == 0));
        }
    }

    /// Each span is one thread's, and whoever goes on asking gets one.
    #[test]
    fn threads_that_take_beside_one_that_fills_get_a_span_each() {
        const TAKERS: usize = 3;
        const EACH: usize = 20;
        let supply = Supply::new();
        let mut all: Vec<Taken> = std::thread::scope(|scope| {
            let take = || {
                let mut taken = Vec::new();
                while taken.len() < EACH {
                    match supply.take() {
                        Some(span) => taken.push(Taken(span)),
                        None => std::thread::yield_now(),
                    }
                }
                taken
            };
            let takers: Vec<_> = (0..TAKERS).map(|_| scope.spawn(take)).collect();
            (0..TAKERS * EACH).for_each(|_| supply.fill_one());
            takers.into_iter().flat_map(|taker| taker.join().expect("it ends")).collect()
        });
        all.sort_by_key(|taken| taken.0);
        assert_eq!(all.len(), TAKERS * EACH);
        let mut pairs = all.windows(2);
        assert!(pairs.all(|pair| pair[1].0.addr().get() - pair[0].0.addr().get() >= SPAN_BYTES), "no two overlap");
    }
}
