//! Reading a snapshot for another node.

use std::path::PathBuf;

use protocol::{Index, NodeId};

use crate::disk::File;
use crate::kv::snapshot::Piece;
use crate::limits;

use super::error::READ;
use super::reading::Reading;
use super::{SnapshotError, Snapshots, Summary};

/// What members say about a snapshot by beginning it again and again from its first byte: one that was broken off is gone on
/// with, so they found what they got damaged, or cannot keep it (their disk is full, or fails). So the file is read through
/// before anybody believes that it is damaged.
#[derive(Debug, Default)]
pub struct Doubts {
    /// The last snapshot of each member, and how often it began it; members are few and were admitted.
    begun: Vec<(NodeId, Index, u32)>,
    checking: Option<Checking>,
}

/// A file that is read through.
#[derive(Debug)]
struct Checking {
    member: NodeId,
    last: Index,
    reading: Reading,
}

/// A doubted snapshot was read through.
#[derive(Debug)]
pub struct Checked {
    /// Who began it once too often.
    pub member: NodeId,
    /// Where the snapshot ends.
    pub last: Index,
    /// What is wrong with it.
    pub result: Result<(), SnapshotError>,
}

impl Doubts {
    /// A member begins to fetch the snapshot at `last` from its first byte. Begins to check the file, if that was once too often
    /// and none is being checked; then it is counted anew.
    pub fn begun(&mut self, snapshots: &Snapshots, member: NodeId, last: Index) {
        if !self.count(member, last) || self.checking.is_some() {
            return;
        }
        // One that was removed meanwhile is in nobody's way.
        let Ok(kept) = snapshots.find(last) else { return };
        if let Ok(reading) = Reading::open(&snapshots.disk, kept.path.clone()) {
            self.checking = Some(Checking { member, last, reading });
        }
    }

    /// One more. True if it was one too many; then it is counted anew.
    fn count(&mut self, member: NodeId, last: Index) -> bool {
        let place = self.begun.iter().position(|(node, ..)| *node == member).unwrap_or_else(|| {
            self.begun.push((member, last, 0));
            self.begun.len() - 1
        });
        let (_, index, times) = &mut self.begun[place];
        *times = if *index == last { *times + 1 } else { 1 };
        *index = last;
        let is_doubted = *times >= limits::SNAPSHOT_BEGUN_MAX;
        if is_doubted {
            *times = 0;
        }
        is_doubted
    }

    /// A file is to be read on.
    pub fn is_checking(&self) -> bool {
        self.checking.is_some()
    }

    /// Reads one piece of it. Tells how many bytes that was, and how it ended, if it did.
    pub fn step(&mut self) -> (u64, Option<Checked>) {
        let Some(Checking { member, last, reading }) = &mut self.checking else { return (0, None) };
        let (member, last, before) = (*member, *last, reading.offset());
        let result = match reading.next() {
            Ok(Piece::End(_)) => Ok(()),
            Ok(_) => return (reading.offset() - before, None),
            Err(error) => Err(error),
        };
        self.checking = None;
        (0, Some(Checked { member, last, result }))
    }
}

/// A snapshot that is read by others. Stays readable when newer ones have replaced it.
#[derive(Debug)]
pub struct Serving {
    file: File,
    path: PathBuf,
    summary: Summary,
}

impl Serving {
    /// The snapshot at `index`.
    pub fn open(snapshots: &Snapshots, index: Index) -> Result<Self, SnapshotError> {
        let kept = snapshots.find(index)?;
        let file = snapshots.disk.open_to_read(&kept.path).map_err(SnapshotError::io("open", &kept.path))?;
        Ok(Self { file, path: kept.path.clone(), summary: kept.summary })
    }

    /// What is served.
    pub fn summary(&self) -> Summary {
        self.summary
    }

    /// Bytes of the file.
    pub fn total_bytes(&self) -> u64 {
        self.summary.bytes
    }

    /// The bytes from `offset`, `max` of them or fewer at the end; none behind it. They are not checked here: the receiver
    /// does.
    pub fn read_at(&self, offset: u64, max: usize) -> Result<Vec<u8>, SnapshotError> {
        let left = self.summary.bytes.saturating_sub(offset);
        let mut bytes = vec![0; max.min(usize::try_from(left).unwrap_or(max))];
        if !bytes.is_empty() {
            self.file.read_at(offset, &mut bytes).map_err(SnapshotError::io(READ, &self.path))?;
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_that_a_member_begins_again_and_again_is_doubted() {
        let mut doubts = Doubts::default();
        let mut begin = |member, last| doubts.count(NodeId(member), Index(last));
        for _ in 0..2 {
            for _ in 1..limits::SNAPSHOT_BEGUN_MAX {
                assert!(!begin(1, 10) && !begin(2, 10));
            }
            assert!(begin(1, 10) && begin(2, 10), "each member is counted by itself");
        }
        for last in 10..100 {
            assert!(!begin(1, last), "another one each time");
        }
    }
}
