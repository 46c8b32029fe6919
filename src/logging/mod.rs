//! The text log: behind `log` and `env_logger`, in front of several sinks.
//!
//! ```text
//!  any thread                                             the logging thread
//!  log::info!(..) -> env_logger of this thread: its       pops, joins repeated lines, lays each line out
//!    filter, its buffer; Target::Pipe -> queue.push  ==>  for each sink (pattern or JSON), writes, rotates
//! ```
//!
//! `env_logger` filters and formats the message; its pipe is a slot of a bounded queue. A thread that logs never waits: a
//! full queue drops the line and counts it, and the count is itself logged. Each thread has its own `env_logger`, so that
//! not even the pipe's mutex is shared; when the levels change, each thread makes itself a new one. A line of usual length
//! costs the calling thread no allocation.
//!
//! `flush` waits, as long as something moves and for a bounded time, until everything logged before it is written: the end of a process calls it, the
//! hook that turns a panic in any thread into exit code 70, and the handler of fatal signals.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "the sink has a clock, a thread and files")]

mod compress;
mod end;
mod file;
mod filter;
mod front;
mod options;
mod pattern;
mod queue;
mod record;
mod rotated;
mod sinks;
mod writer;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use end::{
    end_process, end_process_at_once, exit_on_fatal_signals, exit_on_panic, flush_in_signal_handler, say,
    say_in_signal_handler, say_whole,
};
pub use filter::{Filter, FilterError};
pub use options::{Form, Options, Output, Rotation, Sink};
pub use pattern::{Pattern, PatternError};

use front::{Front, Route};
use queue::Queue;
use sinks::Sinks;

/// The process's logger. Leaked by being static: threads may log until the last moment.
static FRONT: OnceLock<Front> = OnceLock::new();

/// What the log counts about itself.
struct Counters {
    /// Lines that were handed to the sinks.
    lines: AtomicU64,
    /// Lines dropped because the queue was full.
    dropped: AtomicU64,
    /// Lines that a sink could not write.
    lost: AtomicU64,
    /// Operations on a sink that failed: writing, opening, rotating, compressing.
    failures: AtomicU64,
}

static COUNTERS: Counters = Counters {
    lines: AtomicU64::new(0),
    dropped: AtomicU64::new(0),
    lost: AtomicU64::new(0),
    failures: AtomicU64::new(0),
};

/// Opens the sinks, starts the logging thread (unless the log is synchronous) and makes this the process's logger. The
/// first call counts; later ones change nothing.
pub fn start(options: Options) -> io::Result<()> {
    if FRONT.get().is_some() {
        return Ok(());
    }
    let Options { filter, sinks, pattern, synchronous } = options;
    let level = sinks.iter().map(|sink| sink.level).max().unwrap_or(log::LevelFilter::Off);
    let sinks = Sinks::open(sinks, pattern, now())?;
    let route = if synchronous {
        Route::Direct(Mutex::new(sinks))
    } else {
        Route::Queue(writer::start(Queue::new(crate::limits::LOG_LINES_QUEUED_MAX), sinks)?)
    };
    if FRONT.set(Front::new(route, filter, level)).is_ok() {
        let front = FRONT.get().expect("just set");
        if log::set_logger(front).is_ok() {
            front.apply_level();
        }
    }
    Ok(())
}

/// Lines dropped so far because the queue was full.
pub fn dropped() -> u64 {
    COUNTERS.dropped.load(Ordering::Relaxed)
}

/// What the log counts about itself, by the names of the metrics.
pub fn counters() -> [(&'static str, u64); 4] {
    let Counters { lines, dropped, lost, failures } = &COUNTERS;
    [("log_lines", lines), ("log_lines_dropped", dropped), ("log_lines_lost", lost), ("log_failures", failures)]
        .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
}

/// The filter in force.
pub fn filter() -> Filter {
    FRONT.get().map(Front::filter).unwrap_or_default()
}

/// Changes levels from now on: directives of `text` replace those for the same names, the others stay. Gives the filter
/// that is in force now.
pub fn change_filter(text: &str) -> Result<Filter, FilterError> {
    let change: Filter = text.parse()?;
    match FRONT.get() {
        Some(front) => front.change(|filter| filter.with(&change)),
        None => Ok(change),
    }
}

/// Puts another filter in force, as if the log had been started with it (a configuration was read anew).
pub fn set_filter(filter: Filter) {
    if let Some(front) = FRONT.get() {
        front.set(filter);
    }
}

/// Goes back to the filter that the log was started with, and gives it.
pub fn reset_filter() -> Filter {
    FRONT.get().map(Front::reset).unwrap_or_default()
}

/// Opens all files anew, soon: somebody has moved them away (SIGHUP).
pub fn reopen() {
    match FRONT.get().map(Front::route) {
        Some(Route::Queue(queue)) => queue.ask_to_reopen(),
        Some(Route::Direct(sinks)) => sinks.lock().unwrap_or_else(|held| held.into_inner()).reopen(now()),
        None => {}
    }
}

/// Waits until everything logged so far is written, also the count of a line that repeats. True if it was; false if nothing
/// moved for `patience`, or after [`crate::limits::LOG_FLUSH_MS_MAX`].
pub fn flush(patience: Duration) -> bool {
    match FRONT.get().map(Front::route) {
        Some(Route::Queue(queue)) => queue.flush(patience),
        Some(Route::Direct(sinks)) => match sinks.try_lock() {
            Ok(mut sinks) => {
                sinks.finish(now());
                true
            }
            Err(_) => false,
        },
        None => true,
    }
}

/// Nanoseconds since the Unix epoch.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
