//! The thread for work that blocks or takes long: old log entries, the next segment, names of hosts.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use log::warn;
use protocol::NodeId;

use super::stop::StopSwitch;
use super::wal_loop;
use crate::mailbox::{Parking, Receiver, Sender, ThreadPark};
use crate::metrics::{Counter, Recorder};
use crate::raft::{LogRead, LogReadResult, ReadLog};
use crate::wal::{LogReader, Preparer, ReadResult, WalError};

/// What the raft thread wants done.
pub(super) enum Job {
    /// Read old entries (C-9).
    ReadLog(ReadLog),
    /// Find the address of a peer that is known by a name.
    Resolve(NodeId, String),
}

/// What was done.
pub(super) enum Done {
    /// The entries, or why there are none.
    LogRead(LogRead),
    /// The peer's address.
    Resolved(NodeId, io::Result<SocketAddr>),
}

/// What the thread is made of.
pub(super) struct BulkWorker {
    pub(super) reader: LogReader,
    pub(super) preparer: Preparer,
    pub(super) jobs: Receiver<Vec<Job>>,
    pub(super) done: Sender<Vec<Done>>,
    pub(super) sleep: Arc<ThreadPark>,
    pub(super) parking: Arc<Parking>,
    pub(super) stop: StopSwitch,
    pub(super) recorder: Recorder,
}

impl BulkWorker {
    /// Until it is asked to stop.
    pub(super) fn run(mut self) {
        while !self.stop.is_asked() {
            if self.preparer.needed() {
                self.prepare();
            }
            self.work();
            self.done.flush();
            let (jobs, done, stop, preparer) = (&self.jobs, &self.done, &self.stop, &self.preparer);
            let idle = || jobs.is_empty() && !done.can_flush() && !stop.is_asked() && !preparer.needed();
            if self.parking.may_sleep(idle) {
                self.sleep.sleep(None);
            }
            self.parking.awake();
        }
    }

    fn prepare(&self) {
        match self.preparer.prepare() {
            Ok(()) => {}
            Err(error @ WalError::NoSpace { .. }) => {
                warn!("the log's next segment could not be prepared: {error}");
                self.preparer.give_up();
            }
            Err(error) => wal_loop::fail(&error),
        }
    }

    fn work(&mut self) {
        while let Some(mut batch) = self.jobs.take() {
            for job in batch.drain(..) {
                let done = match job {
                    Job::ReadLog(wanted) => {
                        self.recorder.count(Counter::LogReads);
                        Done::LogRead(read_log(&self.reader, wanted))
                    }
                    Job::Resolve(node, address) => Done::Resolved(node, resolve(&address)),
                };
                self.done.batch().push(done);
            }
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

fn resolve(address: &str) -> io::Result<SocketAddr> {
    let mut addresses = address.to_socket_addrs()?;
    addresses.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{address} has no address")))
}
