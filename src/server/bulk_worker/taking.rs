//! Taking a snapshot while writes go on: one block per turn, at a bounded rate, so that the log's syncs and the look-ups of
//! clients keep disk and processors.

use log::{info, warn};

use super::rate::Rate;
use super::{Done, Next};
use crate::kv::Reader;
use crate::limits;
use crate::metrics::{Counter, Recorder};
use crate::replica::{NotTaken, SnapshotFile, TakeSnapshot};
use crate::snapshot::{self, Progress, Snapshots, Summary, Taker};
use crate::time::Time;

/// At most one snapshot that is being taken.
pub(crate) struct Taking {
    reader: Reader,
    taker: Taker,
    rate: Rate,
    active: Option<snapshot::Taking>,
}

impl Taking {
    /// Reads the state with `reader` and writes at most so many bytes a second.
    pub(crate) fn new(reader: Reader, taker: Taker, bytes_per_second: u64) -> Taking {
        Taking { reader, taker, rate: Rate::new(bytes_per_second), active: None }
    }

    /// Begins; the raft thread asks for one at a time.
    pub(super) fn begin(&mut self, snapshots: &Snapshots, wanted: TakeSnapshot, done: &mut Vec<Done>) {
        assert!(self.active.is_none(), "one snapshot is taken at a time");
        match snapshot::Taking::begin(snapshots, self.taker, wanted.contents, wanted.view) {
            Ok(taking) => self.active = Some(taking),
            Err(error) => done.push(Done::Taken(Err(NotTaken::Failed(error.to_string())))),
        }
    }

    /// Writes one block.
    pub(super) fn turn(
        &mut self,
        now: Time,
        snapshots: &mut Snapshots,
        recorder: &mut Recorder,
        done: &mut Vec<Done>,
    ) -> Next {
        let Some(taking) = &mut self.active else { return Next::IDLE };
        if now < self.rate.due() {
            return Next::At(self.rate.due());
        }
        let before = taking.bytes();
        let result = taking.step(snapshots, &mut self.reader);
        let written = taking.bytes() - before;
        self.rate.spend(now, written);
        recorder.add(Counter::SnapshotBytesWritten, written);
        let end = match result {
            Ok(Progress::More) => return Next::At(self.rate.due()),
            Ok(Progress::Done(summary)) => {
                recorder.count(Counter::SnapshotsTaken);
                Ok(keep(snapshots, &summary))
            }
            Ok(Progress::Abandoned) => {
                recorder.count(Counter::SnapshotsAbandoned);
                warn!("a snapshot was abandoned: what was overwritten meanwhile took too much memory");
                Err(NotTaken::Abandoned)
            }
            Err(error) => Err(NotTaken::Failed(error.to_string())),
        };
        self.active = None;
        done.push(Done::Taken(end));
        Next::IDLE
    }
}

/// It counts; those that are not needed any more go. The log reaches back to the older one of the two that stay.
fn keep(snapshots: &mut Snapshots, summary: &Summary) -> SnapshotFile {
    let Summary { position, bytes, keys, .. } = *summary;
    info!("took a snapshot at index {}: {keys} keys, {bytes} bytes", position.id.index);
    prune(snapshots);
    SnapshotFile { position, bytes }
}

/// Removes all but the newest snapshots.
pub(super) fn prune(snapshots: &mut Snapshots) {
    if let Err(error) = snapshots.prune(limits::SNAPSHOTS_KEPT) {
        warn!("an old snapshot cannot be removed: {error}");
    }
}
