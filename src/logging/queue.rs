//! The queue between the threads that log and the one that writes: bounded, without locks, dropping when full.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::OnceLock;
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;

use super::COUNTERS;
use crate::limits;

/// One line as [`super::record::encode`] wrote it. Short ones lie in the queue itself, so that handing one over allocates
/// nothing.
pub(super) enum Slot {
    Short { len: u16, bytes: [u8; limits::LOG_SHORT_LINE_BYTES] },
    Long(Box<[u8]>),
}

impl Slot {
    fn new(line: &[u8]) -> Slot {
        if line.len() > limits::LOG_SHORT_LINE_BYTES {
            return Slot::Long(line.into());
        }
        let mut bytes = [0; limits::LOG_SHORT_LINE_BYTES];
        bytes[..line.len()].copy_from_slice(line);
        Slot::Short { len: line.len() as u16, bytes }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Slot::Short { len, bytes } => &bytes[..usize::from(*len)],
            Slot::Long(bytes) => bytes,
        }
    }
}

pub(super) struct Queue {
    slots: ArrayQueue<Slot>,
    /// Set once by the thread that writes.
    writer: OnceLock<Writer>,
    /// The writer is about to sleep, or sleeps.
    asleep: AtomicBool,
    /// Somebody waits for the next sweeps.
    flush_wanted: AtomicBool,
    reopen_wanted: AtomicBool,
    /// Passes over the queue that the writer has completed, each with everything written that it found.
    sweeps: AtomicU64,
    /// Lines that the writer has taken, and sweeps: grows while it is not stuck.
    moved: AtomicU64,
}

struct Writer {
    thread: Thread,
    /// The kernel's number of it.
    number: libc::c_long,
}

impl Queue {
    pub(super) fn new(lines: usize) -> Queue {
        Queue {
            slots: ArrayQueue::new(lines),
            writer: OnceLock::new(),
            asleep: AtomicBool::new(false),
            flush_wanted: AtomicBool::new(false),
            reopen_wanted: AtomicBool::new(false),
            sweeps: AtomicU64::new(0),
            moved: AtomicU64::new(0),
        }
    }

    /// Hands a line over, or drops and counts it. Never waits.
    pub(super) fn push(&self, line: &[u8]) {
        if self.slots.push(Slot::new(line)).is_err() {
            self.drop_one();
        }
        self.wake();
    }

    /// Whether a line that came now would be dropped.
    pub(super) fn is_full(&self) -> bool {
        self.slots.is_full()
    }

    /// Counts a line that is not handed over.
    pub(super) fn drop_one(&self) {
        COUNTERS.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn ask_to_reopen(&self) {
        self.reopen_wanted.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Waits until what was pushed before is written; gives up when nothing has moved for `patience`, or after
    /// [`limits::LOG_FLUSH_MS_MAX`]. Calls nothing that a signal handler may not: an atomic, the clock, a futex (`unpark`)
    /// and `poll`. In the writer itself it does nothing.
    pub(super) fn flush(&self, patience: Duration) -> bool {
        let Some(writer) = self.writer.get() else { return false };
        if writer.number == current_thread_number() {
            return false;
        }
        self.flush_wanted.store(true, Ordering::SeqCst);
        // The sweep that is under way may have passed what was pushed last; the one after it has not.
        let wanted = self.sweeps.load(Ordering::SeqCst) + 2;
        let start = Instant::now();
        let (mut moved, mut moved_at) = (self.moved.load(Ordering::Relaxed), start);
        while self.sweeps.load(Ordering::SeqCst) < wanted {
            let now = Instant::now();
            let moved_now = self.moved.load(Ordering::Relaxed);
            if moved_now != moved {
                (moved, moved_at) = (moved_now, now);
            }
            if now - moved_at > patience || now - start > Duration::from_millis(limits::LOG_FLUSH_MS_MAX) {
                return false;
            }
            self.flush_wanted.store(true, Ordering::SeqCst);
            self.wake();
            // SAFETY: poll without descriptors touches no memory; it only waits for a millisecond.
            unsafe { libc::poll(std::ptr::null_mut(), 0, 1) };
        }
        true
    }

    /// Pairs with `sleep`: either the writer sees what was stored before this, or this sees that it sleeps.
    fn wake(&self) {
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            if let Some(writer) = self.writer.get() {
                writer.thread.unpark();
            }
        }
    }
}

/// The writer's side.
impl Queue {
    /// Says who writes: the calling thread.
    pub(super) fn attach(&self) {
        let _ = self.writer.set(Writer { thread: thread::current(), number: current_thread_number() });
    }

    pub(super) fn pop(&self) -> Option<Slot> {
        self.moved.fetch_add(1, Ordering::Relaxed);
        self.slots.pop()
    }

    pub(super) fn len_max(&self) -> usize {
        self.slots.capacity()
    }

    pub(super) fn take_reopen(&self) -> bool {
        self.reopen_wanted.swap(false, Ordering::SeqCst)
    }

    /// Whether somebody waits for everything to be written. Asked before a sweep, which then writes all that it finds.
    pub(super) fn take_flush(&self) -> bool {
        self.flush_wanted.swap(false, Ordering::SeqCst)
    }

    /// Everything that was found is written.
    pub(super) fn swept(&self) {
        self.sweeps.fetch_add(1, Ordering::SeqCst);
    }

    /// Sleeps until there is something to do, at most `limit`.
    pub(super) fn sleep(&self, limit: Duration) {
        self.asleep.store(true, Ordering::Relaxed);
        std::sync::atomic::fence(Ordering::SeqCst);
        let wanted = self.flush_wanted.load(Ordering::SeqCst) || self.reopen_wanted.load(Ordering::SeqCst);
        if !wanted && self.slots.is_empty() {
            thread::park_timeout(limit);
        }
        self.asleep.store(false, Ordering::Relaxed);
    }
}

fn current_thread_number() -> libc::c_long {
    // SAFETY: the call has no argument and no precondition.
    unsafe { libc::syscall(libc::SYS_gettid) }
}
