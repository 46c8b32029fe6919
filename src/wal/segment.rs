//! One segment file: made in one piece, written by one thread, read through its mapping by any.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use crate::disk::{Disk, Dropped, File, Map};
use crate::limits;

use super::marks::Marks;
use super::record::{self, Position, SegmentHeader};
use super::WalError;

/// The name that a segment has while it is being prepared: never part of the log.
const UNFINISHED_NAME: &str = "log-next.tmp";
/// How often the zeroes of a segment that is waited for are synced, in bytes: other logs' syncs must not wait long behind them.
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

/// A new segment on its way: a file that is filled with zeroes, under a name that is no segment's.
///
/// The zeroes are written in small pieces ([`limits::SEGMENT_FILL_BYTES`]), because the page cache keeps the pieces in which
/// a file was written: a file filled by large writes is cached in large folios, and what is charged for a small append is a
/// whole one. Not in the smallest, which take twice the disk's time.
/// The name appears only when everything else is durable, so a file with a segment's name and a bad header is damage.
#[derive(Debug)]
pub(super) struct Unfinished {
    file: File,
    path: PathBuf,
    header: SegmentHeader,
    filled: u64,
}

impl Unfinished {
    /// An empty file, in place of what an interrupted one left.
    pub(super) fn begin(disk: &Disk, dir: &Path, header: SegmentHeader) -> Result<Unfinished, WalError> {
        let path = dir.join(UNFINISHED_NAME);
        remove_unfinished(disk, dir)?;
        let file = disk.create(&path).map_err(WalError::io("create", &path))?;
        Ok(Unfinished { file, path, header, filled: 0 })
    }

    /// Bytes that are filled so far.
    pub(super) fn filled(&self) -> u64 {
        self.filled
    }

    pub(super) fn is_filled(&self) -> bool {
        self.filled == self.header.bytes
    }

    /// Bytes that it will have room for.
    pub(super) fn room(&self) -> u64 {
        self.header.bytes - record::RECORDS_AT
    }

    /// At most so many bytes of zeroes more, synced unless they are the last.
    pub(super) fn fill(&mut self, bytes: u64) -> Result<(), WalError> {
        let zeroes = [0; limits::SEGMENT_FILL_BYTES as usize];
        let end = self.header.bytes.min(self.filled + bytes);
        while self.filled < end {
            let piece = limits::SEGMENT_FILL_BYTES.min(end - self.filled);
            self.file.write_at(self.filled, &zeroes[..piece as usize]).map_err(WalError::io("fill", &self.path))?;
            self.filled += piece;
        }
        if !self.is_filled() {
            self.file.sync().map_err(WalError::io("sync", &self.path))?;
        }
        Ok(())
    }

    /// Makes it shorter: as long as it is filled, or as `bytes`, if that is more.
    pub(super) fn shorten(&mut self, bytes: u64) {
        self.header.bytes = self.header.bytes.min(self.filled.max(bytes));
    }

    /// Fills what is left; durable in every respect when this returns: with its header, under its name.
    pub(super) fn finish(mut self, disk: &Disk, dir: &Path) -> Result<Active, WalError> {
        while !self.is_filled() {
            self.fill(FILL_SYNC_BYTES)?;
        }
        let Unfinished { file, path: unfinished, header, .. } = self;
        file.write_at(0, &header.encode()).map_err(WalError::io("write", &unfinished))?;
        file.sync().map_err(WalError::io("sync", &unfinished))?;
        let path = dir.join(file_name(header.sequence));
        disk.rename(&unfinished, &path).map_err(WalError::io("rename to", &path))?;
        sabotage!(NoDirectorySync, disk.sync_dir(dir), Ok(())).map_err(WalError::io("sync", dir))?;
        let map = file.map().map_err(WalError::io("map", &path))?;
        let segment = Segment::new(header, path, map, record::RECORDS_AT);
        Ok(Active { segment: Arc::new(segment), file, end: record::RECORDS_AT })
    }
}

/// Removes what an interrupted one left.
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
