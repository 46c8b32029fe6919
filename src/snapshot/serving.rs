//! Reading a snapshot for another node.

use std::path::PathBuf;

use protocol::{Index, NodeId};

use crate::disk::File;
use crate::limits;

use super::error::READ;
use super::{SnapshotError, Snapshots, Summary};

/// How often members have begun the same snapshot from its first byte. One that was broken off is gone on with, so who begins
/// again and again found what it got damaged.
#[derive(Debug, Default)]
pub struct Beginnings {
    /// The last snapshot of each member, and how often; members are few and were admitted.
    of: Vec<(NodeId, Index, u32)>,
}

impl Beginnings {
    /// One more. True if it was one too many; then it is counted anew.
    pub fn note(&mut self, member: NodeId, last: Index) -> bool {
        let place = self.of.iter().position(|(node, ..)| *node == member).unwrap_or_else(|| {
            self.of.push((member, last, 0));
            self.of.len() - 1
        });
        let (_, index, times) = &mut self.of[place];
        *times = if *index == last { *times + 1 } else { 1 };
        *index = last;
        let is_damaged = *times >= limits::SNAPSHOT_BEGUN_MAX;
        if is_damaged {
            *times = 0;
        }
        is_damaged
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
    fn a_snapshot_that_a_member_begins_again_and_again_is_damaged() {
        let mut beginnings = Beginnings::default();
        let mut begin = |member, last| beginnings.note(NodeId(member), Index(last));
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
