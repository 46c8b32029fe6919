//! Asking a thread to end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use crate::mailbox::Parking;

/// One thread's end, to be asked for once.
#[derive(Clone)]
pub struct StopSwitch {
    asked: Arc<AtomicBool>,
    parking: Arc<Parking>,
}

impl StopSwitch {
    /// For the thread that sleeps in `parking`.
    pub fn new(parking: Arc<Parking>) -> StopSwitch {
        StopSwitch { asked: Arc::new(AtomicBool::new(false)), parking }
    }

    /// Asks the thread to end, and wakes it. `notify` has the fence that makes a thread about to sleep see the flag.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::Release);
        self.parking.notify();
    }

    /// Whether it was asked to. To be looked at before sleeping, too.
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }
}
