//! The thread for work that waits for the disk or takes long: an event loop of its own. Old log entries come first, then the
//! next segment.

use std::sync::Arc;
use std::time::Duration;

use log::warn;
use mio::{Events, Poll};

use super::stop::StopSwitch;
use super::wal_loop;
use crate::mailbox::{Parking, Receiver, Sender};
use crate::metrics::{Counter, Recorder};
use crate::raft::{LogRead, LogReadResult, ReadLog};
use crate::wal::{LogReader, Preparer, ReadResult, WalError};

/// What the raft thread wants done.
pub(super) enum Job {
    /// Read old entries (C-9).
    ReadLog(ReadLog),
}

/// What was done.
pub(super) enum Done {
    /// The entries, or why there are none.
    LogRead(LogRead),
}

/// What the thread is made of.
pub(super) struct BulkWorker {
    pub(super) reader: LogReader,
    pub(super) preparer: Preparer,
    pub(super) jobs: Receiver<Vec<Job>>,
    pub(super) done: Sender<Vec<Done>>,
    pub(super) poll: Poll,
    pub(super) parking: Arc<Parking>,
    pub(super) stop: StopSwitch,
    pub(super) recorder: Recorder,
}

impl BulkWorker {
    /// Until it is asked to stop.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(64);
        while !self.stop.is_asked() {
            self.sleep(&mut events);
            self.take_jobs();
            self.prepare();
            self.done.flush();
        }
    }

    fn sleep(&mut self, events: &mut Events) {
        let timeout = if self.may_sleep() { Duration::from_secs(60) } else { Duration::ZERO };
        if let Err(error) = self.poll.poll(events, Some(timeout)) {
            assert!(error.kind() == std::io::ErrorKind::Interrupted, "the bulk worker cannot poll: {error}");
        }
        self.parking.awake();
    }

    fn may_sleep(&self) -> bool {
        let (jobs, done, stop, preparer) = (&self.jobs, &self.done, &self.stop, &self.preparer);
        self.parking.may_sleep(|| jobs.is_empty() && !done.can_flush() && !stop.is_asked() && !preparer.needed())
    }

    fn take_jobs(&mut self) {
        while let Some(mut batch) = self.jobs.take() {
            for job in batch.drain(..) {
                match job {
                    Job::ReadLog(wanted) => {
                        self.recorder.count(Counter::LogReads);
                        self.done.batch().push(Done::LogRead(read_log(&self.reader, wanted)));
                    }
                }
            }
        }
    }

    fn prepare(&self) {
        if !self.preparer.needed() {
            return;
        }
        match self.preparer.prepare() {
            Ok(()) => {}
            Err(error @ WalError::NoSpace { .. }) => {
                warn!("the log's next segment could not be prepared: {error}");
                self.preparer.give_up();
            }
            Err(error) => wal_loop::fail(&error),
        }
    }
}

/// The wal's answer in Raft's words. What a mismatch means is Raft's to say: its term may have changed meanwhile.
fn read_log(reader: &LogReader, wanted: ReadLog) -> LogRead {
    let read = reader.read(wanted.from, wanted.bytes_max, wanted.previous, wanted.previous_chain);
    let result = match read.unwrap_or_else(|error| wal_loop::fail(&error)) {
        ReadResult::Entries(entries) => LogReadResult::Entries(entries),
        ReadResult::Compacted => LogReadResult::Compacted,
        ReadResult::Mismatch => LogReadResult::Mismatch,
    };
    LogRead { purpose: wanted.purpose, term: wanted.term, from: wanted.from, result }
}
