//! Reading a snapshot for another node.

use std::path::PathBuf;

use protocol::Index;

use crate::disk::File;

use super::error::READ;
use super::{SnapshotError, Snapshots, Summary};

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
