//! Replaying the segments at a start: what the log says, and where it ends (C-1...C-5, C-8).
//!
//! D is the largest `synced_to` of any valid Batch. What cannot be read below D is damage and refused. At or behind D
//! the log ends at the first bad record, whatever lies behind it: pages of a write that was not synced reach the disk
//! in any order.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use protocol::{Chain, Entry, EntryHeader, Index};

use crate::disk::Disk;

use super::reader::View;
use super::record::{self, Batch, Owner, Position, Record, RECORDS_AT};
use super::segment::{self, Segment};
use super::tip::Tip;
use super::{LogBase, WalError};

/// What the segments say.
#[derive(Debug)]
pub(super) struct Replayed {
    pub(super) tip: Tip,
    /// The last position that the records say, before the snapshot was laid over it.
    pub(super) before: LogBase,
    /// Where the log ends: the cut.
    pub(super) end: Position,
    /// Number of the last Batch.
    pub(super) batch_number: u64,
    /// The newest entries.
    pub(super) tail: Vec<Entry>,
    /// The log conflicts with the snapshot or ends before it: it restarts at the snapshot (C-5).
    pub(super) restart: bool,
}

/// Opens all segments of a directory, ordered by the sequence in their headers (C-2).
pub(super) fn open_segments(disk: &Disk, dir: &std::path::Path) -> Result<Vec<Arc<Segment>>, WalError> {
    let names = disk.list(dir).map_err(WalError::io("list", dir))?;
    let paths: Vec<PathBuf> =
        names.iter().filter(|name| segment::is_segment(name)).map(|name| dir.join(name)).collect();
    let mut segments = Vec::with_capacity(paths.len());
    for path in paths {
        segments.push(Arc::new(Segment::open(disk, path)?));
    }
    segments.sort_by_key(|segment| segment.header.sequence);
    for pair in segments.windows(2) {
        if pair[1].header.sequence != pair[0].header.sequence + 1 {
            return Err(WalError::refused(format!(
                "the log has a hole: {} is segment {} and {} is segment {}. Bring the missing file back, or let a new \
                 node take this one's place",
                pair[0].path.display(),
                pair[0].header.sequence,
                pair[1].path.display(),
                pair[1].header.sequence
            )));
        }
    }
    Ok(segments)
}

/// Refuses segments of another cluster, node or disk (T-103).
pub(super) fn check_owner(segments: &[Arc<Segment>], owner: Owner) -> Result<(), WalError> {
    for segment in segments {
        let theirs = segment.header.owner;
        let (what, ours, theirs) = match theirs {
            theirs if theirs.cluster != owner.cluster => ("cluster", owner.cluster.0, theirs.cluster.0),
            theirs if theirs.node != owner.node => ("node", owner.node.0.into(), theirs.node.0.into()),
            theirs if theirs.incarnation != owner.incarnation => {
                ("incarnation", owner.incarnation.0, theirs.incarnation.0)
            }
            _ => continue,
        };
        let path = segment.path.display();
        return Err(WalError::refused(format!(
            "{path} belongs to {what} {theirs}, this is {what} {ours}: the file was copied from elsewhere; take it away"
        )));
    }
    Ok(())
}

/// Replays `segments`, which hold at least one, adding those that are part of the log to `view`.
pub(super) fn replay(
    segments: &[Arc<Segment>],
    view: &View,
    snapshot: Option<LogBase>,
    tail_bytes: usize,
) -> Result<Replayed, WalError> {
    let oldest = &segments[0];
    let first = oldest
        .first_batch()
        .ok_or_else(|| oldest.damaged(RECORDS_AT, "the oldest segment of the log does not begin with a Batch"))?;
    let mut replay = Replay {
        view,
        tip: Tip::at(first.before),
        batch_number: first.number - 1,
        tail: Tail::new(tail_bytes),
        snapshot,
        may_begin_lower: oldest.header.sequence > 1,
        at_snapshot: None,
        first: None,
    };
    for (i, segment) in segments.iter().enumerate() {
        view.add_segment(segment.clone());
        // The successor's first Batch says where this one ends, and that it was synced up to there (C-2).
        let successor = segments.get(i + 1).and_then(|next| Some((next, next.first_batch()?)));
        let end = match successor {
            Some((next, batch)) => replay.whole_segment(segment, next, &batch)?,
            None => replay.last_segment(segment, &segments[i + 1..])?,
        };
        segment.publish_cut(end);
        if successor.is_none() {
            return replay.finish(segment.position(end));
        }
    }
    unreachable!("the last segment has no successor")
}

struct Replay<'a> {
    view: &'a View,
    tip: Tip,
    batch_number: u64,
    tail: Tail,
    snapshot: Option<LogBase>,
    /// Older segments have left, so entries may replace some that were in them.
    may_begin_lower: bool,
    /// The newest entry at or below the snapshot's index.
    at_snapshot: Option<EntryHeader>,
    /// The first entry, while nothing is known of the position before it.
    first: Option<EntryHeader>,
}

impl Replay<'_> {
    /// A segment with a successor is good up to its end, or damaged.
    fn whole_segment(&mut self, segment: &Arc<Segment>, next: &Segment, batch: &Batch) -> Result<u64, WalError> {
        let end = batch.synced_to;
        if end.segment != segment.header.sequence || end.offset > segment.header.bytes {
            let reason = format!("its first Batch continues segment {} at {}", end.segment, end.offset);
            return Err(next.damaged(RECORDS_AT, reason));
        }
        let mut offset = RECORDS_AT;
        while offset < end.offset {
            let (record, record_end) = record::read(segment.bytes(), segment.salt(), offset)
                .map_err(|error| segment.damaged(offset, error.0))?;
            self.take(segment, offset, record)?;
            offset = record_end;
        }
        if offset != end.offset {
            return Err(segment.damaged(end.offset, "the next segment says that this one ends inside a record"));
        }
        Ok(offset)
    }

    /// The last segment is cut at the first bad record, unless a sync had covered it (C-3).
    fn last_segment(&mut self, segment: &Arc<Segment>, behind: &[Arc<Segment>]) -> Result<u64, WalError> {
        let mut offset = RECORDS_AT;
        let reason = loop {
            match record::read(segment.bytes(), segment.salt(), offset) {
                Ok((record, end)) => {
                    self.take(segment, offset, record)?;
                    offset = end;
                }
                Err(error) => {
                    sabotage!(HoleSkipped: {
                        if let Some((next, _)) = record::find_batch(segment.bytes(), segment.salt(), offset + 8) {
                            offset = next;
                            continue;
                        }
                    });
                    break error.0;
                }
            }
        };
        let cut = segment.position(offset);
        let here = largest_synced_to(segment, offset);
        let later = behind.iter().filter_map(|segment| largest_synced_to(segment, RECORDS_AT)).max();
        match here.max(later) {
            Some(synced_to) if sabotage!(DamageIsCut, synced_to > cut, false) => Err(segment.damaged(
                offset,
                format!("{reason}, below offset {} of segment {}", synced_to.offset, synced_to.segment),
            )),
            _ => {
                if segment.bytes().get(offset as usize).is_some_and(|byte| *byte != 0) {
                    crate::mark!("wal: torn end cut");
                }
                Ok(offset)
            }
        }
    }

    fn take(&mut self, segment: &Arc<Segment>, offset: u64, record: Record<'_>) -> Result<(), WalError> {
        match record {
            Record::Batch(batch) => self.batch(segment, offset, &batch),
            Record::Base(base) => {
                segment.marks.note_base(base.id.index, offset);
                self.tip = Tip::at(base);
                self.tail.clear();
                (self.at_snapshot, self.first, self.may_begin_lower) = (None, None, false);
                Ok(())
            }
            Record::Entry(header, body) => self.entry(segment, offset, header, body),
        }
    }

    fn batch(&mut self, segment: &Segment, offset: u64, batch: &Batch) -> Result<(), WalError> {
        let here = segment.position(offset);
        let fits = batch.segment == segment.header.sequence
            && batch.number == self.batch_number + 1
            && batch.synced_to <= here
            && sabotage!(ReplaySkipsCovered, batch.before == self.tip.last, true);
        if !fits {
            return Err(segment.damaged(offset, format!("{batch:?} does not follow Batch {}", self.batch_number)));
        }
        self.batch_number = batch.number;
        Ok(())
    }

    fn entry(&mut self, segment: &Arc<Segment>, offset: u64, header: EntryHeader, body: &[u8]) -> Result<(), WalError> {
        let index = header.id.index;
        sabotage!(ReplaySkipsCovered: {
            if index <= self.tip.last.id.index && self.snapshot.is_some_and(|snapshot| index <= snapshot.id.index) {
                return Ok(());
            }
        });
        if index <= self.tip.base.id.index && self.may_begin_lower {
            self.begin_below(header);
        }
        let previous = match self.tip.chain_before(index) {
            Some(chain) => Some(chain),
            None => self.view.header(index.previous())?.map(|header| header.chain),
        };
        if previous.is_none() && index != self.tip.base.id.index.next() {
            return Err(segment.damaged(offset, format!("entry {index} follows entry {}", self.tip.last.id.index)));
        }
        self.tip.check(&header, previous).map_err(|reason| segment.damaged(offset, reason))?;
        let follows = (!self.tip.runs.is_empty()).then_some(self.tip.last.id.index);
        segment.marks.note_entry(follows, index, offset);
        self.tip.append(&header);
        self.tail.append(index, segment, offset, body.len());
        if self.snapshot.is_some_and(|snapshot| snapshot.id.index >= index) {
            self.at_snapshot = Some(header);
        }
        Ok(())
    }

    /// The entry replaces everything that is left, and entries that left with older segments.
    fn begin_below(&mut self, header: EntryHeader) {
        let mut base = LogBase::default();
        base.id.index = header.id.index.previous();
        self.tip = Tip { base, base_known: false, runs: Vec::new(), last: base };
        self.tail.clear();
        (self.at_snapshot, self.first) = (None, Some(header));
    }

    fn finish(mut self, end: Position) -> Result<Replayed, WalError> {
        let before = self.tip.last;
        self.view.set_cut(self.tip.base.id.index);
        let restart = self.lay_snapshot()?;
        if restart {
            self.tail.clear();
            self.tip = Tip::at(self.snapshot.expect("only a snapshot makes the log restart"));
        }
        self.view.publish(self.tip.last.id.index, Some(self.tip.base));
        let tail = self.tail.into_entries()?;
        Ok(Replayed { tip: self.tip, before, end, batch_number: self.batch_number, tail, restart })
    }

    /// Lays the snapshot over what the log says (C-5). True if the log is to be dropped.
    fn lay_snapshot(&mut self) -> Result<bool, WalError> {
        let begin = self.tip.base.id.index;
        let Some(snapshot) = self.snapshot else {
            return match begin {
                Index(0) if self.tip.base_known => Ok(false),
                _ => Err(WalError::refused(format!("the log begins behind index {begin} and there is no snapshot"))),
            };
        };
        if begin > snapshot.id.index {
            return Err(WalError::refused(format!(
                "the log begins behind index {begin}, but the newest snapshot ends at {}",
                snapshot.id.index
            )));
        }
        if self.tip.last.id.index < snapshot.id.index {
            return Ok(true);
        }
        let continues = match begin == snapshot.id.index {
            true if self.tip.base_known => (self.tip.base.id, self.tip.base.chain) == (snapshot.id, snapshot.chain),
            true => self.first.is_some_and(|header| header.verify_chain(snapshot.chain).is_ok()),
            false => self.at_snapshot.is_some_and(|header| (header.id, header.chain) == (snapshot.id, snapshot.chain)),
        };
        let continues = sabotage!(ReplaySkipsCovered, continues, true);
        let continues = sabotage!(ConflictSurvivesStart, continues, true);
        if continues && !self.tip.base_known {
            self.begin_at(snapshot);
        }
        Ok(!continues)
    }

    /// What is before the snapshot cannot be verified; the log begins at the snapshot.
    fn begin_at(&mut self, snapshot: LogBase) {
        self.tip.runs.retain(|run| run.1 > snapshot.id.index);
        let first = snapshot.id.index.next();
        let term_goes_on = self.tip.last.id.index >= first && self.tip.runs.first().is_none_or(|run| run.1 > first);
        if term_goes_on {
            self.tip.runs.insert(0, (snapshot.id.term, first));
        }
        (self.tip.base, self.tip.base_known) = (snapshot, true);
        self.tail.drop_below(first);
    }
}

/// The largest `synced_to` of the valid Batches at or behind `from`.
fn largest_synced_to(segment: &Segment, from: u64) -> Option<Position> {
    let (mut largest, mut from) = (None, from);
    while let Some((offset, batch)) = record::find_batch(segment.bytes(), segment.salt(), from) {
        largest = largest.max(Some(batch.synced_to));
        from = offset + 8;
    }
    largest
}

/// Where the newest entries are.
struct Tail {
    bytes_max: usize,
    bytes: usize,
    places: VecDeque<Place>,
}

struct Place {
    index: Index,
    segment: Arc<Segment>,
    offset: u64,
    bytes: usize,
}

impl Tail {
    fn new(bytes_max: usize) -> Tail {
        Tail { bytes_max, bytes: 0, places: VecDeque::new() }
    }

    fn clear(&mut self) {
        self.places.clear();
        self.bytes = 0;
    }

    fn append(&mut self, index: Index, segment: &Arc<Segment>, offset: u64, body_len: usize) {
        while self.places.back().is_some_and(|place| place.index >= index) {
            self.bytes -= self.places.pop_back().map_or(0, |place| place.bytes);
        }
        let bytes = EntryHeader::BYTES + body_len;
        self.bytes += bytes;
        self.places.push_back(Place { index, segment: segment.clone(), offset, bytes });
        while self.bytes > self.bytes_max && self.places.len() > 1 {
            self.pop_front();
        }
    }

    fn drop_below(&mut self, first: Index) {
        while self.places.front().is_some_and(|place| place.index < first) {
            self.pop_front();
        }
    }

    fn pop_front(&mut self) {
        if let Some(place) = self.places.pop_front() {
            self.bytes -= place.bytes;
        }
    }

    fn into_entries(self) -> Result<Vec<Entry>, WalError> {
        let read = |place: Place| {
            let segment = place.segment;
            match record::read(segment.bytes(), segment.salt(), place.offset) {
                Ok((Record::Entry(header, body), _)) => Ok(Entry { header, body: Bytes::copy_from_slice(body) }),
                _ => Err(segment.damaged(place.offset, "an entry cannot be read a second time")),
            }
        };
        self.places.into_iter().map(read).collect()
    }
}

/// Where the chain of a formed cluster begins.
pub(super) fn origin(owner: Owner) -> LogBase {
    LogBase { chain: Chain::origin(owner.cluster), ..LogBase::default() }
}
