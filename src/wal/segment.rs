//! One segment file: made in one piece, written by one thread, read through its mapping by any.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use crate::disk::{Disk, Dropped, File, Map, PAGE_BYTES};

use super::marks::Marks;
use super::record::{self, Position, SegmentHeader};
use super::WalError;

/// The name that a segment has while it is being prepared: never part of the log.
const UNFINISHED_NAME: &str = "log-next.tmp";
/// How often the zeroes of a new segment are synced, in bytes: the log's own syncs must not wait long behind them.
const FILL_SYNC_BYTES: u64 = 1024 * 1024;

/// A segment that can be read. Shared by the writer and the readers; the file is unmapped when the last one lets go.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) header: SegmentHeader,
    pub(super) path: PathBuf,
    map: Map,
    /// Bytes before this never change again (C-1): the writer moves it up after a sync, never down.
    readable: AtomicU64,
    /// Where entries are.
    pub(super) marks: Marks,
}

/// The segment that is written. Only its owner writes to the file.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) segment: Arc<Segment>,
    pub(super) file: File,
    /// Where the next record goes.
    pub(super) end: u64,
}

/// The file name of a segment.
pub(super) fn file_name(sequence: u64) -> String {
    format!("log-{sequence:016}")
}

/// True for names of finished segments.
pub(super) fn is_segment(name: &Path) -> bool {
    let digits = name.to_str().and_then(|name| name.strip_prefix("log-"));
    digits.is_some_and(|digits| digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Makes a new segment, durable in every respect when this returns: zero-filled, with its header, under its name.
///
/// The zeroes are written in pieces of 4 KiB, because the page cache keeps the pieces in which a file was written: a
/// file filled by large writes is cached in large folios, and each sync of a small store into the map writes a whole one.
/// The name appears only when everything else is durable, so a file with a segment's name and a bad header is damage.
pub(super) fn create(disk: &Disk, dir: &Path, header: SegmentHeader) -> Result<Active, WalError> {
    let unfinished = dir.join(UNFINISHED_NAME);
    remove_unfinished(disk, dir)?;
    let file = disk.create(&unfinished).map_err(WalError::io("create", &unfinished))?;
    let zeroes = [0; PAGE_BYTES as usize];
    for offset in (0..header.bytes).step_by(PAGE_BYTES as usize) {
        if offset > 0 && offset % FILL_SYNC_BYTES == 0 {
            file.sync().map_err(WalError::io("sync", &unfinished))?;
        }
        file.write_at(offset, &zeroes).map_err(WalError::io("fill", &unfinished))?;
    }
    file.write_at(0, &header.encode()).map_err(WalError::io("write", &unfinished))?;
    file.sync().map_err(WalError::io("sync", &unfinished))?;
    let path = dir.join(file_name(header.sequence));
    disk.rename(&unfinished, &path).map_err(WalError::io("rename to", &path))?;
    sabotage!(NoDirectorySync, disk.sync_dir(dir), Ok(())).map_err(WalError::io("sync", dir))?;
    let map = file.map().map_err(WalError::io("map", &path))?;
    let segment = Segment::new(header, path, map, record::RECORDS_AT);
    Ok(Active { segment: Arc::new(segment), file, end: record::RECORDS_AT })
}

/// Removes what an interrupted `create` left.
pub(super) fn remove_unfinished(disk: &Disk, dir: &Path) -> Result<(), WalError> {
    let unfinished = dir.join(UNFINISHED_NAME);
    match disk.unlink(&unfinished) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(WalError::io("remove", &unfinished)),
    }
}

impl Segment {
    fn new(header: SegmentHeader, path: PathBuf, map: Map, readable: u64) -> Segment {
        let marks = Marks::new(header.bytes);
        Segment { header, path, map, readable: AtomicU64::new(readable), marks }
    }

    /// Opens a segment of an earlier life for reading. What it holds is durable, and what is read is what the disk
    /// holds (C-6). It is never written again (C-4).
    pub(super) fn open(disk: &Disk, path: PathBuf) -> Result<Segment, WalError> {
        let file = disk.open(&path).map_err(WalError::io("open", &path))?;
        let dropped = sabotage!(RecoveredNotSynced, file.drop_cache(), Ok(Dropped::Yes))
            .map_err(WalError::io("sync and re-read", &path))?;
        if dropped == Dropped::Unverified {
            log::warn!("{}: read through the page cache, which may differ from the disk", path.display());
        }
        let map = file.map().map_err(WalError::io("map", &path))?;
        let damaged = |reason: &str| WalError::Damaged { path: path.clone(), offset: 0, reason: reason.into() };
        // SAFETY: nobody writes to this file any more: the directory is locked, and a start never writes to the
        // segments it finds.
        let header = SegmentHeader::decode(unsafe { map.slice(0..map.size().min(record::RECORDS_AT)) });
        let header = header.map_err(|error| damaged(error.0))?;
        if map.size() != header.bytes {
            return Err(damaged("the file has not the length that its header says"));
        }
        Ok(Segment::new(header, path, map, header.bytes))
    }

    /// The bytes that never change again, from the start of the file.
    pub(super) fn bytes(&self) -> &[u8] {
        let readable = self.readable.load(Ordering::Acquire); // partner: `publish`
                                                              // SAFETY: C-1: the one writer writes only at or behind `readable`, and it only rises.
        unsafe { self.map.slice(0..readable) }
    }

    /// Everything before `end` is written and synced.
    pub(super) fn publish(&self, end: u64) {
        let before = self.readable.fetch_max(end, Ordering::Release); // partner: `bytes`
        assert!(before <= end && end <= self.header.bytes, "the readable part of a segment only grows");
    }

    /// Recovery's: the log ends here in this segment; the bytes behind are not part of it.
    pub(super) fn publish_cut(&self, end: u64) {
        self.readable.store(end, Ordering::Release); // partner: `bytes`
    }

    /// True if there is nothing behind the first Batch.
    pub(super) fn is_blank(&self) -> bool {
        let behind = record::RECORDS_AT + record::BATCH_BYTES;
        self.first_batch().is_none() || record::read(self.bytes(), self.salt(), behind).is_err()
    }

    pub(super) fn salt(&self) -> u64 {
        self.header.salt
    }

    pub(super) fn position(&self, offset: u64) -> Position {
        Position { segment: self.header.sequence, offset }
    }

    pub(super) fn damaged(&self, offset: u64, reason: impl Into<String>) -> WalError {
        WalError::Damaged { path: self.path.clone(), offset, reason: reason.into() }
    }

    /// The first Batch, if there is a valid one: without it the segment is not part of the log.
    pub(super) fn first_batch(&self) -> Option<record::Batch> {
        match record::read(self.bytes(), self.salt(), record::RECORDS_AT) {
            Ok((record::Record::Batch(batch), _)) if batch.segment == self.header.sequence => Some(batch),
            _ => None,
        }
    }
}

impl Active {
    /// Bytes that still fit.
    pub(super) fn room(&self) -> u64 {
        self.segment.header.bytes - self.end
    }
}
