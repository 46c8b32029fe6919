//! The thread for work that waits for the disk or takes long: an event loop of its own. Old log entries come first; then
//! each task under way gets one step per turn: the next segment, snapshots that are taken, served, fetched and loaded, and
//! what a replaced state leaves behind.

mod fetching;
mod rate;
mod serving;
mod taking;

use std::sync::Arc;
use std::time::Duration;

use log::warn;
use mio::{Events, Poll};
use protocol::{Index, NodeId};

use super::peers::Fetcher;
use super::raft_loop::WAKER;
use super::stop::StopSwitch;
use super::{system, wal_loop};
use crate::kv::{Restored, Retired};
use crate::limits;
use crate::mailbox::{Parking, Receiver, Sender};
use crate::metrics::{Counter, Recorder};
use crate::raft::{LogRead, LogReadResult, ReadLog};
use crate::replica::{NotTaken, SnapshotFile, TakeSnapshot};
use crate::snapshot::Snapshots;
use crate::time::{Span, Time};
use crate::wal::{LogReader, Preparer, ReadResult, WalError};
pub(super) use fetching::{Fetch, Fetching};
pub(super) use serving::Serving;
pub(super) use taking::Taking;

/// What the raft thread wants done.
pub(super) enum Job {
    /// Read old entries (C-9).
    ReadLog(ReadLog),
    /// Write a snapshot of the state that a view shows.
    Take(Box<TakeSnapshot>),
    /// Fetch another node's snapshot.
    Fetch(Box<Fetch>),
    /// Let a member fetch a snapshot over this connection.
    Serve(Box<Fetcher>),
    /// Free a replaced state once no reader is in it (C-20).
    Free(Retired),
    /// Free a state that nobody has seen.
    Drop(Box<Restored>),
}

/// What was done.
pub(super) enum Done {
    /// The entries, or why there are none.
    LogRead(LogRead),
    /// The snapshot that was taken; it is durable.
    Taken(Result<SnapshotFile, NotTaken>),
    /// The snapshot that was fetched, loaded, and the bytes of its file, which is durable; or why there is none.
    Fetched(Result<(Box<Restored>, u64), String>),
    /// A member has just been sent bytes of the snapshot that ends at this index.
    Served(NodeId, Index),
    /// The file of the snapshot that ends at this index cannot be read, or is not what it should be; in words.
    Damaged(Index, String),
}

/// What the thread is made of.
pub(super) struct BulkWorker {
    pub(super) reader: LogReader,
    pub(super) preparer: Preparer,
    pub(super) snapshots: Snapshots,
    pub(super) taking: Taking,
    pub(super) serving: Serving,
    pub(super) fetching: Fetching,
    pub(super) jobs: Receiver<Vec<Job>>,
    pub(super) done: Sender<Vec<Done>>,
    pub(super) poll: Poll,
    pub(super) parking: Arc<Parking>,
    pub(super) stop: StopSwitch,
    pub(super) recorder: Recorder,
}

/// When a task wants its next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Next {
    /// At once.
    Now,
    /// At this time, or when its socket is ready.
    At(Time),
}

impl Next {
    /// Not before something happens.
    pub(super) const IDLE: Next = Next::At(Time::NEVER);
}

impl BulkWorker {
    /// Until it is asked to stop.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(64);
        let mut retired: Vec<Retired> = Vec::new();
        let mut next = Next::Now;
        while !self.stop.is_asked() {
            self.sleep(&mut events, next);
            for event in events.iter().filter(|event| event.token() != WAKER) {
                self.serving.ready(event);
                self.fetching.ready(event);
            }
            self.take_jobs(&mut retired);
            self.prepare();
            next = self.turn(system::now(), &mut retired);
            self.done.flush();
        }
    }

    fn sleep(&mut self, events: &mut Events, next: Next) {
        let timeout = match next {
            Next::At(time) if self.may_sleep() => {
                Duration::from(time.since(system::now())).min(Duration::from_secs(60))
            }
            _ => Duration::ZERO,
        };
        if let Err(error) = self.poll.poll(events, Some(timeout)) {
            assert!(error.kind() == std::io::ErrorKind::Interrupted, "the bulk worker cannot poll: {error}");
            events.clear();
        }
        self.parking.awake();
    }

    fn may_sleep(&self) -> bool {
        let (jobs, done, stop, preparer) = (&self.jobs, &self.done, &self.stop, &self.preparer);
        self.parking.may_sleep(|| jobs.is_empty() && !done.can_flush() && !stop.is_asked() && !preparer.needed())
    }

    fn take_jobs(&mut self, retired: &mut Vec<Retired>) {
        while let Some(mut batch) = self.jobs.take() {
            for job in batch.drain(..) {
                match job {
                    Job::ReadLog(wanted) => {
                        self.recorder.count(Counter::LogReads);
                        self.done.batch().push(Done::LogRead(read_log(&self.reader, wanted)));
                    }
                    Job::Take(wanted) => self.taking.begin(&self.snapshots, *wanted, self.done.batch()),
                    Job::Fetch(wanted) => self.fetching.begin(system::now(), *wanted, self.done.batch()),
                    Job::Serve(fetcher) => self.serving.add(system::now(), *fetcher),
                    Job::Free(state) => retired.push(state),
                    Job::Drop(state) => drop(state),
                }
            }
        }
    }

    fn prepare(&self) {
        if !self.preparer.needed() {
            return;
        }
        match self.preparer.step() {
            Ok(()) => {}
            Err(error @ WalError::NoSpace { .. }) => {
                warn!("the log's next segment could not be prepared: {error}");
            }
            Err(error) => wal_loop::fail(&error),
        }
    }

    /// One step of everything that is under way.
    fn turn(&mut self, now: Time, retired: &mut Vec<Retired>) -> Next {
        let done = self.done.batch();
        let turns = [
            self.taking.turn(now, &mut self.snapshots, &mut self.recorder, done),
            self.serving.turn(now, &mut self.snapshots, &mut self.recorder, done),
            self.fetching.turn(now, &mut self.snapshots, &mut self.recorder, done),
            free(now, retired),
        ];
        turns.into_iter().min().unwrap_or(Next::IDLE)
    }
}

/// Frees what no reader is in any more; the others are looked at again.
fn free(now: Time, retired: &mut Vec<Retired>) -> Next {
    *retired = std::mem::take(retired).into_iter().filter_map(|state| state.try_free().err()).collect();
    match retired.as_slice() {
        [] => Next::IDLE,
        states if states.iter().any(Retired::is_left) => Next::Now,
        _ => Next::At(now + Span::millis(limits::RETIRED_LOOK_MS)),
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

#[cfg(test)]
mod tests;
