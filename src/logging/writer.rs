//! The thread that writes: the only one that waits for a terminal or a file.

use std::io;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use log::Level;

use super::queue::Queue;
use super::record::Line;
use super::sinks::Sinks;
use crate::limits;

/// Starts the thread, and waits until it has said that it is there: a flush finds it from then on, however soon the
/// process ends.
pub(super) fn start(queue: Queue, sinks: Sinks) -> io::Result<Arc<Queue>> {
    let queue = Arc::new(queue);
    let own = Arc::clone(&queue);
    let attached = Arc::new(Barrier::new(2));
    let there = Arc::clone(&attached);
    std::thread::Builder::new().name("log".to_owned()).spawn(move || {
        own.attach();
        there.wait();
        run(&own, sinks);
    })?;
    attached.wait();
    Ok(queue)
}

/// Writes for as long as the process lives: whatever is queued goes out in as few writes as its sinks allow.
fn run(queue: &Queue, mut sinks: Sinks) {
    yield_to_others();
    let mut dropped_before = super::dropped();
    loop {
        if queue.take_reopen() {
            sinks.reopen(super::now());
        }
        let flush = queue.take_flush();
        for _ in 0..queue.len_max() {
            let Some(slot) = queue.pop() else { break };
            if let Some(line) = Line::decode(slot.bytes()) {
                sinks.line(&line);
            }
        }
        let (now, dropped) = (super::now(), super::dropped());
        if dropped > dropped_before {
            let lost = dropped - dropped_before;
            sinks.notice(now, Level::Warn, &format!("{lost} lines dropped: more was logged than could be written"));
            dropped_before = dropped;
        }
        if flush {
            sinks.finish(now);
        } else {
            sinks.tick(now);
            sinks.write();
        }
        queue.swept();
        queue.sleep(Duration::from_millis(limits::LOG_TICK_MS));
    }
}

/// Lets the threads that serve clients go first: this one wakes up often, and must not preempt them each time. A refusal
/// changes nothing.
fn yield_to_others() {
    // SAFETY: sched_setscheduler reads one valid sched_param; 0 is the calling thread for both calls.
    unsafe {
        let param = libc::sched_param { sched_priority: 0 };
        libc::sched_setscheduler(0, libc::SCHED_BATCH, &param);
        libc::setpriority(libc::PRIO_PROCESS, 0, limits::LOG_NICENESS);
    }
}
