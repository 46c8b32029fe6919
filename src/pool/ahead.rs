//! Spans that are mapped and touched before somebody needs them.
//!
//! The first touch of a huge page clears two megabytes, for 0.1 to 0.3 ms; on a virtual machine whose host has yet to find that
//! memory, for 3 to 6 ms. If that is the thread that executes writes, everybody who waits for one waits for that too. So a
//! thread that has nothing else to do touches the next spans while the last one fills up. Nobody waits for a span of its: who finds
//! none ready maps one. (Inside the system, who maps or unmaps memory beside a touch may wait until it is over.)
//!
//! One supply serves all lists of the process, as the system below it does. What lies ready in it is not given back when the
//! system runs out of memory: it is no more than the next two spans.

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
    /// Nothing is mapped before somebody asks, nor again after the system had no memory before somebody asks again.
    is_asked: bool,
    asked: SpansAhead,
}

/// A mapped span of zeroes, nobody else's, and aligned to its length.
struct Touched(NonNull<u8>);

// SAFETY: it owns what it points to, which is bound to no thread.
unsafe impl Send for Touched {}

impl Supply {
    const fn new() -> Self {
        let asked = SpansAhead { ready: 0, late: 0 };
        Self { state: Mutex::new(State { ready: Vec::new(), is_asked: false, asked }), short: Condvar::new() }
    }

    /// A span of zeroes that is touched already, if one is ready. It is the caller's, to be unmapped.
    pub(super) fn take(&self) -> Option<NonNull<u8>> {
        let mut state = self.state();
        let taken = state.ready.pop();
        match taken {
            Some(_) => state.asked.ready += 1,
            None => state.asked.late += 1,
        }
        state.is_asked = true;
        drop(state);
        self.short.notify_one();
        taken.map(|Touched(span)| span)
    }

    /// Waits until there is less than there should be, and makes one more.
    fn fill_one(&self, make: impl FnOnce() -> Option<Touched>) {
        let is_enough = |state: &mut State| !state.is_asked || state.ready.len() >= READY_MAX;
        let waited = self.short.wait_while(self.state(), is_enough);
        waited.unwrap_or_else(|_| unreachable!("nobody panics under it")).is_asked = false;
        // Others take and ask meanwhile.
        let made = make();
        let mut state = self.state();
        state.is_asked |= made.is_some();
        state.ready.extend(made);
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

/// Keeps spans ready for all lists of the process, for ever: a thread's work.
pub fn keep_spans_ahead() -> ! {
    loop {
        SUPPLY.fill_one(touched);
    }
}

/// How often a growing list has found a span ready.
pub fn spans_ahead() -> SpansAhead {
    SUPPLY.asked()
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "spans change threads")]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread::ScopedJoinHandle;
    use std::time::{Duration, Instant};

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    /// What a test has not taken goes back with it.
    impl Drop for Supply {
        fn drop(&mut self) {
            std::mem::take(&mut self.state().ready).into_iter().for_each(|Touched(span)| drop(Taken(span)));
        }
    }

    /// Ours since it was taken.
    struct Taken(NonNull<u8>);

    impl Taken {
        fn bytes(&mut self) -> &mut [u8] {
            // SAFETY: mapped so long, all of it zero or written by a test, and nobody else's.
            unsafe { std::slice::from_raw_parts_mut(self.0.as_ptr(), SPAN_BYTES) }
        }
    }

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
        (0..READY_MAX).for_each(|_| supply.fill_one(touched));
        let spans: Vec<Taken> = (0..READY_MAX).map(|_| Taken(supply.take().expect("ready"))).collect();
        assert!(supply.take().is_none(), "so many and no more");
        assert_eq!(supply.asked(), SpansAhead { ready: READY_MAX as u64, late: 2 });
        for mut span in spans {
            assert_eq!(span.0.addr().get() % SPAN_BYTES, 0);
            assert_eq!(span.bytes().iter().position(|byte| *byte != 0), None);
        }
    }

    /// Asks until whoever fills has ended, so that a test that fails does not wait for it.
    struct Ends<'s>(&'s Supply, ScopedJoinHandle<'s, ()>);

    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            while !self.1.is_finished() {
                drop(self.0.take().map(Taken));
                std::thread::yield_now();
            }
        }
    }

    /// Whoever fills sleeps until somebody asks: at first, when enough lies ready, and after the system had no memory.
    #[test]
    fn nothing_is_mapped_that_nobody_asks_for() {
        let supply = Supply::new();
        let is_out_of_memory = AtomicBool::new(true);
        let (fills, filled) = std::sync::mpsc::channel();
        let fill = || {
            // Two that the system refuses, then all there is room for, then one more.
            for _ in 0..2 + READY_MAX + 1 {
                supply.fill_one(|| {
                    let made = (!is_out_of_memory.load(Ordering::Relaxed)).then(touched).flatten();
                    let _ = fills.send(()); // the test may have failed
                    made
                });
            }
        };
        std::thread::scope(|scope| {
            let _ends = Ends(&supply, scope.spawn(fill));
            let comes = |why: &str| filled.recv_timeout(LONG).expect(why);
            let until = |is_so: fn(&State) -> bool| {
                let deadline = Instant::now() + LONG;
                while !is_so(&supply.state()) {
                    assert!(Instant::now() < deadline);
                    std::thread::yield_now();
                }
            };
            assert!(filled.try_recv().is_err(), "nobody has asked");
            for _ in 0..2 {
                assert!(supply.take().is_none());
                comes("it is tried for who asked");
                until(|state| !state.is_asked);
                assert!(filled.try_recv().is_err(), "what was refused is not tried again by itself");
            }
            is_out_of_memory.store(false, Ordering::Relaxed);
            assert!(supply.take().is_none());
            (0..READY_MAX).for_each(|_| comes("there is memory again"));
            until(|state| state.ready.len() == READY_MAX);
            assert!(filled.try_recv().is_err(), "enough lies ready");
            drop(Taken(supply.take().expect("ready")));
            comes("one was taken");
        });
    }

    /// Each span is one thread's, and whoever goes on asking gets one.
    #[test]
    fn threads_that_take_beside_one_that_fills_get_a_span_each() {
        const TAKERS: u8 = 3;
        const EACH: usize = 20;
        let supply = Supply::new();
        let deadline = Instant::now() + LONG;
        let next = || loop {
            match supply.take() {
                Some(span) => return Taken(span),
                None => std::thread::yield_now(),
            }
            assert!(Instant::now() < deadline, "nobody fills");
        };
        let take = |mark: u8| {
            let mut last = None;
            for _ in 0..EACH {
                let mut span = next();
                let marks = span.bytes().iter_mut().step_by(SYSTEM_PAGE_BYTES);
                marks.for_each(|byte| assert_eq!(std::mem::replace(byte, mark), 0, "it is somebody else's"));
                // The one before it is still ours.
                let before: Option<Taken> = last.replace(span);
                let is_ours =
                    |mut span: Taken| span.bytes().iter().step_by(SYSTEM_PAGE_BYTES).all(|byte| *byte == mark);
                assert!(before.is_none_or(is_ours), "it is somebody else's");
            }
        };
        std::thread::scope(|scope| {
            let takers: Vec<_> = (1..=TAKERS).map(|mark| scope.spawn(move || take(mark))).collect();
            while !takers.iter().all(ScopedJoinHandle::is_finished) {
                let is_short = |state: &State| state.is_asked && state.ready.len() < READY_MAX;
                // Only this thread fills, so what is short stays so.
                if is_short(&supply.state()) {
                    supply.fill_one(touched);
                }
                std::thread::yield_now();
            }
        });
    }
}
