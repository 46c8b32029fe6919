//! The thread that writes: the only one that waits for a terminal or a file.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use log::Level;

use super::queue::Queue;
use super::record::Line;
use super::sinks::Sinks;
use crate::limits;

/// Starts the thread.
pub(super) fn start(queue: Queue, sinks: Sinks) -> io::Result<Arc<Queue>> {
    let queue = Arc::new(queue);
    let own = Arc::clone(&queue);
    std::thread::Builder::new().name("log".to_owned()).spawn(move || run(&own, sinks))?;
    Ok(queue)
}

/// Writes for as long as the process lives: whatever is queued goes out in as few writes as its sinks allow.
fn run(queue: &Queue, mut sinks: Sinks) {
    queue.attach();
    let mut dropped_before = super::dropped();
    loop {
        if queue.take_reopen() {
            sinks.reopen(super::now());
        }
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
        sinks.tick(now);
        sinks.write();
        queue.swept();
        queue.sleep(Duration::from_millis(limits::LOG_TICK_MS));
    }
}
