//! The thread that owns the log's files: everything queued goes into one group, a group costs one sync, and what waits
//! for a sync rides in its append and leaves this thread only after it (C-10). A failed sync ends the process (C-6).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use log::warn;
use protocol::format::{Format, HardState};
use protocol::message::Envelope;
use protocol::Entry;

use super::stop::StopSwitch;
use super::system;
use crate::limits;
use crate::logging;
use crate::mailbox::{Parking, Receiver, Sender, ThreadPark};
use crate::metrics::{Counter, Measure, Recorder};
use crate::raft::{Append, AppendSequence, LogBase};
use crate::time::{Span, Time};
use crate::wal::{self, Preparer, Wal, WalError, WriteStats};

/// An append on its way to the wal.
pub(super) struct Queued {
    /// What to append.
    pub(super) append: Append,
    /// When the raft thread handed it over.
    pub(super) at: Time,
}

/// An append on its way back: durable.
pub(super) struct Persisted {
    /// Which append.
    pub(super) sequence: AppendSequence,
    /// May be sent now.
    pub(super) waiting: Vec<Envelope>,
    /// The append's vector, empty, to be used again.
    pub(super) entries: Vec<Entry>,
    /// From its hand-over to the start of its group, in microseconds.
    pub(super) queue_us: u32,
    /// The group's commit, in microseconds.
    pub(super) sync_us: u32,
}

/// What the thread is made of.
pub(super) struct WalLoop {
    pub(super) wal: Wal,
    /// Where the log may be cut off once the group is durable.
    pub(super) compact: Option<LogBase>,
    pub(super) appends: Receiver<Vec<Queued>>,
    pub(super) persisted: Sender<Vec<Persisted>>,
    pub(super) sleep: Arc<ThreadPark>,
    pub(super) parking: Arc<Parking>,
    /// Prepares segments; woken when the next one is wanted.
    pub(super) bulk_worker: Arc<Parking>,
    pub(super) stop: StopSwitch,
    pub(super) recorder: Recorder,
}

/// Part of an append that has joined the group.
struct InGroup {
    sequence: AppendSequence,
    waiting: Vec<Envelope>,
    entries: Vec<Entry>,
    at: Time,
}

impl WalLoop {
    /// Until it is asked to stop and nothing is queued.
    pub(super) fn run(mut self) {
        let mut written = WriteAmplification::new(self.wal.write_stats());
        let preparer = self.wal.preparer();
        let mut group = Vec::new();
        let mut queue = VecDeque::new();
        let mut last_commit = system::now();
        loop {
            self.take(&mut queue, &mut group);
            if group.is_empty() {
                if self.stop.is_asked() {
                    return;
                }
                self.rest(last_commit, &mut written);
                continue;
            }
            last_commit = self.commit(&mut group);
            self.wake_preparer(&preparer);
            written.look(&mut self.recorder, &self.wal, last_commit, false);
        }
    }

    /// Moves what is queued into the group, as much as one sync should carry. The batch vectors go back before the sync,
    /// so that they fill during it.
    fn take(&mut self, queue: &mut VecDeque<Queued>, group: &mut Vec<InGroup>) {
        while let Some(mut batch) = self.appends.take() {
            queue.extend(batch.drain(..));
        }
        let mut bytes = 0;
        while bytes < limits::WAL_GROUP_BYTES_MAX {
            let Some(Queued { append, at }) = queue.pop_front() else { return };
            let Append { sequence, hard_state, format, base, mut entries, compact, waiting } = append;
            bytes += entries.iter().map(Entry::encoded_len).sum::<usize>();
            self.recorder.count(Counter::Appends);
            self.recorder.add(Counter::EntriesAppended, entries.len() as u64);
            self.push(hard_state, format.as_ref(), base, &entries).unwrap_or_else(|error| fail(&error));
            entries.clear();
            group.push(InGroup { sequence, waiting, entries, at });
            self.compact = compact.or(self.compact);
        }
    }

    fn push(
        &mut self,
        hard_state: Option<HardState>,
        format: Option<&Format>,
        base: Option<LogBase>,
        entries: &[Entry],
    ) -> Result<(), WalError> {
        self.wal.push(hard_state, format, &[])?;
        if let Some(base) = base {
            self.wal.push_base(to_wal(base))?;
        }
        self.wal.push(None, None, entries)
    }

    /// What a durable snapshot covers leaves: at most one file, so that the next appends do not wait long.
    fn shorten(&mut self) {
        if let Some(base) = self.compact.take() {
            self.wal.compact(to_wal(base)).unwrap_or_else(|error| fail(&error));
        }
        self.wal.remove_oldest().unwrap_or_else(|error| fail(&error));
    }

    /// One commit for the group; everything that waited for it goes back to the raft thread.
    fn commit(&mut self, group: &mut Vec<InGroup>) -> Time {
        let start = system::now();
        let synced = self.wal.commit().unwrap_or_else(|error| fail(&error));
        let end = system::now();
        let sync_us = micros(end - start);
        self.recorder.add(Counter::Syncs, u64::from(synced.syncs));
        self.recorder.add(Counter::BytesAppended, synced.bytes);
        self.recorder.measure(Measure::SyncUs, u64::from(sync_us));
        self.recorder.measure(Measure::GroupAppends, group.len() as u64);
        for InGroup { sequence, waiting, entries, at } in group.drain(..) {
            let queue_us = micros(start - at);
            self.recorder.measure(Measure::QueueUs, u64::from(queue_us));
            self.persisted.batch().push(Persisted { sequence, waiting, entries, queue_us, sync_us });
        }
        self.persisted.flush();
        self.shorten();
        end
    }

    /// Nothing is queued: the empty Batch after a quiet while (C-3), else sleep.
    fn rest(&mut self, last_commit: Time, written: &mut WriteAmplification) {
        self.persisted.flush();
        let quiet_end = last_commit + Span::millis(limits::WAL_QUIET_MS);
        let timeout = if self.wal.wants_idle() {
            let now = system::now();
            if now >= quiet_end {
                self.wal.idle().unwrap_or_else(|error| fail(&error));
                written.look(&mut self.recorder, &self.wal, now, true);
                return;
            }
            Some(Duration::from(quiet_end - now))
        } else {
            None
        };
        let (appends, persisted, stop) = (&self.appends, &self.persisted, &self.stop);
        if self.parking.may_sleep(|| appends.is_empty() && !persisted.can_flush() && !stop.is_asked()) {
            self.sleep.sleep(timeout);
        }
        self.parking.awake();
    }

    fn wake_preparer(&self, preparer: &Preparer) {
        if preparer.needed() {
            self.bulk_worker.notify();
        }
    }
}

/// A position in the log's words: `raft` and `wal` do not know each other.
fn to_wal(base: LogBase) -> wal::LogBase {
    wal::LogBase { id: base.id, chain: base.chain, log_time: base.log_time }
}

/// The log cannot go on: the process ends before anything else leaves it (C-6).
pub(super) fn fail(error: &WalError) -> ! {
    logging::say(format_args!("the log cannot be written: {error}"));
    logging::end_process_at_once(error.exit_code())
}

fn micros(span: Span) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(u32::MAX)
}

/// Watches how many bytes the disk is made to write for those that were appended: a page cache with large folios turns
/// a small append into a megabyte, and a change of kernel or file system can bring that back at any time.
struct WriteAmplification {
    counted: WriteStats,
    looked: Time,
    warned: bool,
}

impl WriteAmplification {
    fn new(stats: WriteStats) -> WriteAmplification {
        WriteAmplification { counted: stats, looked: Time(0), warned: false }
    }

    /// Counts what was written since the last look, a few times a second at most (it reads a file of /proc).
    fn look(&mut self, recorder: &mut Recorder, wal: &Wal, now: Time, quiet: bool) {
        if !quiet && now - self.looked < Span::millis(500) {
            return;
        }
        self.looked = now;
        let stats = wal.write_stats();
        let since = |now: Option<u64>, before: Option<u64>| now.zip(before).map_or(0, |(now, before)| now - before);
        let written = since(stats.disk_bytes, self.counted.disk_bytes);
        let syncs = stats.syncs - self.counted.syncs;
        let appended = stats.appended_bytes - self.counted.appended_bytes;
        self.counted = stats;
        recorder.add(Counter::BytesWritten, written);
        let expected = appended + syncs * limits::DISK_BYTES_PER_SYNC;
        if syncs >= 16 && written > expected * 4 && !self.warned {
            self.warned = true;
            warn!(
                "{syncs} syncs of {appended} appended bytes made the disk write {written} bytes, where {expected} were \
                 expected: this kernel and file system are a bad pair for small appends"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use protocol::message::Message;
    use protocol::{ClusterId, Incarnation, NodeId, Term};

    use super::*;
    use crate::disk::{Disk, VirtualDisk};
    use crate::mailbox::link;
    use crate::metrics::Metrics;
    use crate::wal::Options;

    fn parking() -> (Arc<ThreadPark>, Arc<Parking>) {
        let sleep = Arc::new(ThreadPark::default());
        (sleep.clone(), Parking::new(sleep))
    }

    fn vote(term: u64) -> Queued {
        let envelope = Envelope {
            cluster: ClusterId(1),
            incarnation: Incarnation(1),
            from: NodeId(0),
            to: NodeId(1),
            term: Term(term),
            message: Message::RequestVoteReply { granted: true },
        };
        let hard_state = HardState { term: Term(term), vote: Some(NodeId(1)), lease_span_us: 0 };
        let append =
            Append { hard_state: Some(hard_state), waiting: vec![envelope], ..Append::empty(AppendSequence(term)) };
        Queued { append, at: system::now() }
    }

    #[test]
    fn c10_what_is_queued_is_one_group_and_comes_back_in_order_with_what_waited() {
        let disk = Disk::virtual_(VirtualDisk::new());
        let dir = Path::new("/data");
        let (wal, _) = Wal::open(&disk, dir, Options::new(NodeId(0), 7)).expect("a new directory");
        let ((sleep, own), (_, raft), (_, bulk)) = (parking(), parking(), parking());
        let (mut appends, appends_in) = link::<Vec<Queued>>(own.clone(), raft.clone());
        let (persisted, mut persisted_in) = link::<Vec<Persisted>>(raft, own.clone());
        for term in 1..=3 {
            appends.batch().push(vote(term));
        }
        appends.flush();
        let metrics = Metrics::default();
        let stop = StopSwitch::new(own.clone());
        stop.ask(); // ends once nothing is queued
        let recorder = metrics.recorder();
        WalLoop {
            wal,
            compact: None,
            appends: appends_in,
            persisted,
            sleep,
            parking: own,
            bulk_worker: bulk,
            stop,
            recorder,
        }
        .run();

        let batch = persisted_in.take().expect("all came back");
        let came_back: Vec<(u64, Term)> =
            batch.iter().map(|persisted| (persisted.sequence.0, persisted.waiting[0].term)).collect();
        assert_eq!(came_back, [(1, Term(1)), (2, Term(2)), (3, Term(3))]);
        assert_eq!(metrics.quantiles(Measure::GroupAppends, &[1.0]), [3], "one group");
        drop(batch);
        let (_, recovered) = Wal::open(&disk, dir, Options::new(NodeId(0), 8)).expect("the directory again");
        assert_eq!(recovered.meta.hard_state.term, Term(3));
    }
}
