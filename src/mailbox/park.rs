//! Going to sleep without missing what arrives meanwhile.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::sync::{fence, AtomicBool, Ordering};

/// Ends a thread's sleep. Sticky: a wake before the sleep ends that sleep at once.
pub trait Wake: Send + Sync {
    /// Ends the sleep of the one thread that this belongs to, now or the next time it sleeps.
    fn wake(&self);
}

impl Wake for mio::Waker {
    fn wake(&self) {
        if let Err(error) = mio::Waker::wake(self) {
            // The eventfd cannot be written: the sleeper would never notice, and nothing can be done about it here.
            panic!("a thread cannot be woken: {error}");
        }
    }
}

/// Whether one thread sleeps, and how to wake it. One per sleeping thread; all its links share it.
pub struct Parking {
    /// The thread sleeps or is about to.
    parked: AtomicBool,
    wake: Arc<dyn Wake>,
}

impl Parking {
    /// For the thread that `wake` wakes.
    pub fn new(wake: Arc<dyn Wake>) -> Arc<Self> {
        Arc::new(Self { parked: AtomicBool::new(false), wake })
    }

    /// Says that its thread is about to sleep, and looks once more: `idle` must look at everything that could wake it,
    /// [`super::Receiver::is_empty`] of every receiver and [`super::Sender::can_flush`] of every sender. True: sleep,
    /// until woken. False: something is there, do not sleep. Call [`Parking::awake`] either way before looking again.
    #[must_use = "sleeping although something is there loses it"]
    pub fn may_sleep(&self, idle: impl FnOnce() -> bool) -> bool {
        self.parked.store(true, Ordering::Relaxed);
        // Between the flag and the last look; partner: the fence in `notify` (and in the drop of a taken batch).
        fence(Ordering::SeqCst);
        idle()
    }

    /// Says that its thread is awake again, and saves everybody the wake.
    pub fn awake(&self) {
        self.parked.store(false, Ordering::Relaxed);
    }

    /// Wakes the thread if it had said that it sleeps. Call it after publishing what the thread is to see.
    pub fn notify(&self) {
        // Between what was published and the flag; partner: the fence in `may_sleep`.
        fence(Ordering::SeqCst);
        self.notify_after_fence();
    }

    /// As [`Parking::notify`], for a caller that had its own fence after publishing.
    pub(super) fn notify_after_fence(&self) {
        // The load keeps the line shared while nobody sleeps; the swap lets one of several notifiers do the wake.
        if self.parked.load(Ordering::Relaxed) && self.parked.swap(false, Ordering::Relaxed) {
            self.wake.wake();
        }
    }
}

/// Sleep for a thread that has no poll to sleep in.
#[derive(Default)]
pub struct ThreadPark {
    /// A wake has come and no sleep has used it up.
    woken: Mutex<bool>,
    changed: Condvar,
}

impl ThreadPark {
    /// Sleeps until woken, or for `timeout`. A wake that came before ends it at once.
    pub fn sleep(&self, timeout: Option<Duration>) {
        let woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut woken = match timeout {
            None => self.changed.wait_while(woken, |woken| !*woken).unwrap_or_else(PoisonError::into_inner),
            Some(timeout) => {
                let (woken, _) = self
                    .changed
                    .wait_timeout_while(woken, timeout, |woken| !*woken)
                    .unwrap_or_else(PoisonError::into_inner);
                woken
            }
        };
        *woken = false;
    }
}

impl Wake for ThreadPark {
    fn wake(&self) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }
}
