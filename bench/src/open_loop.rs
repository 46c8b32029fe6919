//! An open loop: requests are sent when they are due, and each latency counts from then, so that a server that stalls is
//! charged for everybody who would have come meanwhile (no coordinated omission).

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use client::{Completion, Pipeline, Settings, Submission, Token};

use crate::load::{count, Keys, Load};
use crate::report::Measured;

/// Requests of one connection that may be under way: beyond, the server is hopelessly slower than the rate.
const PENDING_MAX: usize = 100_000;
/// A poll waits for whole milliseconds; shorter waits are slept, a piece at a time.
const NAP: Duration = Duration::from_micros(200);

/// One connection's loop, until `end`; what completes between `start` and `end` counts.
pub(crate) fn drive(
    load: &Load,
    rate: f64,
    settings: Settings,
    keys: &mut Keys,
    start: Instant,
    end: &AtomicBool,
) -> io::Result<Measured> {
    let mut measured = Measured::default();
    let mut pipeline = Pipeline::new(settings)?;
    let value = vec![b'v'; load.value_bytes];
    let interval = Duration::try_from_secs_f64(f64::from(load.connections) / rate.max(0.001)).unwrap_or(Duration::MAX);
    let mut due_at: BTreeMap<u64, Instant> = BTreeMap::new();
    let (mut due, mut number) = (Instant::now(), 0);
    while !end.load(Ordering::Relaxed) {
        while due <= Instant::now() && due_at.len() < PENDING_MAX {
            pipeline.submit(Submission::new(Token(number), load.verb.request(keys.next(), &value)));
            due_at.insert(number, due);
            number += 1;
            due += interval;
        }
        pipeline.poll(wait(due), &mut |Completion { token, result }| {
            let was_due = due_at.remove(&token.0).expect("each request completes once");
            if was_due >= start {
                count(&mut measured, result, was_due.elapsed());
            }
        })?;
    }
    let given_up = due_at.values().filter(|due| **due >= start && due.elapsed() > Duration::from_secs(1)).count();
    (0..given_up).for_each(|_| measured.failed("not answered within a second before the end".to_owned()));
    Ok(measured)
}

/// How long to poll; what is less than a poll can wait is slept here.
fn wait(due: Instant) -> Duration {
    let left = due.saturating_duration_since(Instant::now());
    if left >= Duration::from_millis(1) {
        return left.min(Duration::from_millis(20));
    }
    std::thread::sleep(left.min(NAP));
    Duration::ZERO
}
