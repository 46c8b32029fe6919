//! Reading old entries, from any thread (C-9).
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use bytes::Bytes;
use protocol::{Chain, Entry, EntryHeader, EntryId, Index};

use super::marks::Mark;
use super::record::{self, NotARecord, Record};
use super::segment::Segment;
use super::{LogBase, WalError};

/// Reads old entries, from any thread (C-9).
#[derive(Clone, Debug)]
pub struct LogReader {
    pub(super) view: Arc<View>,
}

/// What a read of old entries gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadResult {
    /// Consecutive entries from the one asked for; at least one.
    Entries(Vec<Entry>),
    /// The entry asked for, or the one before it, is not in the log any more.
    Compacted,
    /// The entry before is another one than expected, or nothing is there yet: exit 70, unless the term has changed since.
    Mismatch,
}

/// What the writer publishes for readers.
#[derive(Debug, Default)]
pub(super) struct View {
    /// Oldest first. Changes only when a segment begins or leaves, so the lock is never waited for in practice.
    segments: RwLock<VecDeque<Arc<Segment>>>,
    /// Index of the last durable entry.
    last: AtomicU64,
    base: RwLock<LogBase>,
    /// Segments may leave that hold nothing behind this index: where the log was cut off last. Not where it begins for
    /// readers if a start could not verify what is before its snapshot: the snapshot before that needs it (C-5).
    cut: AtomicU64,
}

/// Where an entry is, and how far the run it is in is the newest.
struct Found {
    segment: Arc<Segment>,
    mark: Mark,
    /// The first index behind the mark that was written again later.
    bound: Index,
}

impl View {
    pub(super) fn add_segment(&self, segment: Arc<Segment>) {
        self.segments.write().expect("no panic holds it").push_back(segment);
    }

    /// Takes the oldest segment out.
    pub(super) fn remove_oldest(&self) -> Option<Arc<Segment>> {
        self.segments.write().expect("no panic holds it").pop_front()
    }

    /// The oldest segment, and where the entries behind it begin: the first mark of the segments behind it, of which some
    /// may have none.
    pub(super) fn oldest(&self) -> Option<(Arc<Segment>, Option<Mark>)> {
        let segments = self.segments.read().expect("no panic holds it");
        let next = segments.iter().skip(1).find_map(|segment| segment.marks.first());
        Some((segments.front()?.clone(), next))
    }

    #[cfg(test)]
    pub(super) fn newest(&self) -> Option<Arc<Segment>> {
        self.segments.read().expect("no panic holds it").back().cloned()
    }

    /// After the sync; `base` only if it changed.
    pub(super) fn publish(&self, last: Index, base: Option<LogBase>) {
        if let Some(base) = base {
            self.set_base(base);
        }
        self.last.store(last.0, Ordering::Release); // partner: `read_once`; the marks are visible with it
    }

    /// The log restarts behind `base`. Before the mark that hides what is covered: whoever finds an entry hidden finds it
    /// covered.
    pub(super) fn restart(&self, base: LogBase) {
        self.publish(base.id.index, Some(base));
        self.set_cut(base.id.index);
    }

    /// What is at or before `index` may leave the disk.
    pub(super) fn set_cut(&self, index: Index) {
        self.cut.store(index.0, Ordering::Relaxed); // of the wal thread alone
    }

    pub(super) fn cut(&self) -> Index {
        Index(self.cut.load(Ordering::Relaxed))
    }

    /// Nothing at or before `base` is in the log.
    pub(super) fn set_base(&self, base: LogBase) {
        *self.base.write().expect("no panic holds it") = base;
    }

    /// The position before the first entry.
    pub(super) fn base(&self) -> LogBase {
        *self.base.read().expect("no panic holds it")
    }

    /// The header of the newest entry at `index`.
    pub(super) fn header(&self, index: Index) -> Result<Option<EntryHeader>, WalError> {
        let Some(found) = self.find(index) else { return Ok(None) };
        let mut header = None;
        found.walk(index, |segment, offset| {
            header = Some(record::read_entry_header(segment.bytes(), segment.salt(), offset)?.0);
            Ok(false)
        })?;
        Ok(header)
    }

    /// The newest mark at or below `index`: all marks behind it are above, so nothing behind it wrote the entry again.
    fn find(&self, index: Index) -> Option<Found> {
        let segments = self.segments.read().expect("no panic holds it");
        let mut bound = Index(u64::MAX);
        for segment in segments.iter().rev() {
            for mark in segment.marks.newest_first() {
                if mark.is_base {
                    return None;
                }
                if mark.index <= index {
                    return Some(Found { segment: segment.clone(), mark, bound });
                }
                if !mark.continues {
                    bound = sabotage!(OverwrittenIsRead, bound.min(mark.index), bound);
                }
            }
        }
        None
    }
}

impl Found {
    /// Calls `visit` with the place of the entry at `from` and of those behind it, as far as this run is the newest
    /// and `visit` returns true.
    fn walk<F>(&self, from: Index, mut visit: F) -> Result<(), WalError>
    where
        F: FnMut(&Segment, u64) -> Result<bool, NotARecord>,
    {
        let (segment, mut offset, mut index) = (&*self.segment, self.mark.offset, self.mark.index);
        while index < self.bound && offset < segment.bytes().len() as u64 {
            let damaged = |error: NotARecord| segment.damaged(offset, error.0);
            match record::read_entry_header(segment.bytes(), segment.salt(), offset) {
                Ok((_, end)) => {
                    if index >= from && !visit(segment, offset).map_err(damaged)? {
                        return Ok(());
                    }
                    (offset, index) = (end, index.next());
                }
                Err(error) => match record::read(segment.bytes(), segment.salt(), offset) {
                    Ok((Record::Batch(_), end)) => offset = end, // between the entries of a run
                    // The log restarts here, and the mark that says so is not there yet: the run ends before it.
                    Ok((Record::Base(_), _)) => return Ok(()),
                    _ => return Err(damaged(error)),
                },
            }
        }
        Ok(())
    }
}

impl LogReader {
    /// Entries from `from` on, of at most `bytes_max` bytes with headers (but one entry at least), durable ones only.
    /// `previous` is what the caller believes is before `from`; its chain is checked if given.
    pub fn read(
        &self,
        from: Index,
        bytes_max: usize,
        previous: EntryId,
        previous_chain: Option<Chain>,
    ) -> Result<ReadResult, WalError> {
        // The log may be written again from below, or begin later, while it is read; what is found then is from two times,
        // and the second look finds one. What is wrong twice is wrong.
        match self.read_once(from, bytes_max, previous, previous_chain) {
            Ok(ReadResult::Entries(entries)) => Ok(ReadResult::Entries(entries)),
            Ok(ReadResult::Compacted | ReadResult::Mismatch) | Err(_) => {
                self.read_once(from, bytes_max, previous, previous_chain)
            }
        }
    }

    fn read_once(
        &self,
        from: Index,
        bytes_max: usize,
        previous: EntryId,
        previous_chain: Option<Chain>,
    ) -> Result<ReadResult, WalError> {
        let last = Index(self.view.last.load(Ordering::Acquire)); // partner: `publish`
                                                                  // Before the base: an entry that is not found any more is covered by the base that is read then.
        let before = self.view.header(from.previous());
        let base = self.view.base();
        if from <= base.id.index {
            return Ok(ReadResult::Compacted);
        }
        if previous.index.next() != from || from > last {
            return Ok(ReadResult::Mismatch);
        }
        let (before_id, before_chain) = match before? {
            _ if previous.index == base.id.index => (base.id, base.chain),
            Some(header) => (header.id, header.chain),
            None => return Ok(ReadResult::Compacted),
        };
        if before_id != previous || previous_chain.is_some_and(|chain| chain != before_chain) {
            return Ok(ReadResult::Mismatch);
        }
        let entries = self.collect(from, last, bytes_max, before_chain)?;
        Ok(if entries.is_empty() { ReadResult::Mismatch } else { ReadResult::Entries(entries) })
    }

    fn collect(&self, from: Index, last: Index, bytes_max: usize, before: Chain) -> Result<Vec<Entry>, WalError> {
        let (mut entries, mut bytes, mut chain, mut next) = (Vec::new(), 0usize, before, from);
        let mut full = false;
        while !full && next <= last {
            let Some(found) = self.view.find(next) else { break };
            let run_start = next;
            found.walk(next, |segment, offset| {
                let (Record::Entry(header, body), _) = record::read(segment.bytes(), segment.salt(), offset)? else {
                    return Err(NotARecord("no entry begins here"));
                };
                let size = EntryHeader::BYTES + body.len();
                // Another chain: the log was written again meanwhile; what there is so far is whole.
                full = header.verify_chain(chain).is_err() || (!entries.is_empty() && bytes + size > bytes_max);
                if full || header.id.index != next || next > last {
                    return Ok(false);
                }
                (bytes, chain, next) = (bytes + size, header.chain, next.next());
                entries.push(Entry { header, body: Bytes::copy_from_slice(body) });
                Ok(true)
            })?;
            if next == run_start {
                break;
            }
        }
        Ok(entries)
    }
}
