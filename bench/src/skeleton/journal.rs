//! A file to which batches are appended, round and round.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::Sync;

/// Bytes of the file; filled in pieces of a page, as the servers' segments are, so that a small append dirties a page only.
const FILE_BYTES: u64 = 64 * 1024 * 1024;
const PIECE_BYTES: usize = 4096;

/// See the module.
pub(super) struct Journal {
    file: File,
    sync: Sync,
    at: u64,
    /// Bytes made durable since it was opened.
    pub(super) durable: u64,
}

impl Journal {
    /// Makes the file, full of zeroes and synced.
    pub(super) fn new(path: &Path, sync: Sync) -> io::Result<Journal> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        let file = options.open(path)?;
        let zeroes = [0; PIECE_BYTES];
        for offset in (0..FILE_BYTES).step_by(PIECE_BYTES) {
            file.write_all_at(&zeroes, offset)?;
        }
        file.sync_all()?;
        let file = match sync {
            Sync::Dsync => OpenOptions::new().write(true).custom_flags(libc::O_DSYNC).open(path)?,
            Sync::Fdatasync | Sync::None => file,
        };
        Ok(Journal { file, sync, at: 0, durable: 0 })
    }

    /// Makes a batch durable.
    pub(super) fn append(&mut self, batch: &[u8]) -> io::Result<()> {
        if self.at + batch.len() as u64 > FILE_BYTES {
            self.at = 0;
        }
        self.file.write_all_at(batch, self.at)?;
        if self.sync == Sync::Fdatasync {
            self.file.sync_data()?;
        }
        self.at += batch.len() as u64;
        self.durable += batch.len() as u64;
        Ok(())
    }
}
