//! Where entries are in a segment (C-9): an append-only table that one thread fills and any may read, without a lock.
//!
//! A mark stands for the run of consecutive entries that starts at it. There is one wherever an entry does not follow
//! its predecessor in the file, and one at least every 4 KiB of a run. The newest mark at or below an index leads to
//! its entry, and the run is the newest up to the lowest index at which a later run begins.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::OnceLock;

use protocol::Index;

use super::record::{BASE_BYTES, RECORDS_AT};

/// Marks are allocated in pieces of this many.
const CHUNK: usize = 512;
/// Entries that follow each other get a mark when they are this many bytes behind the last one.
const SPACING_BYTES: u64 = 4096;
/// Set in a mark's offset when it is a Base.
const BASE_BIT: u64 = 1 << 63;
/// Set in a mark's offset when its entry follows the one before it in the file.
const CONTINUES_BIT: u64 = 1 << 62;

/// Where a run of entries starts, or where a Base is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Of the first entry; of a Base, its own.
    pub(super) index: Index,
    /// In the segment.
    pub(super) offset: u64,
    /// Nothing before this place belongs to the log any more (C-5).
    pub(super) is_base: bool,
    /// The run before goes on here: the mark only shortens the way.
    pub(super) continues: bool,
}

#[derive(Debug)]
pub(super) struct Marks {
    chunks: Vec<OnceLock<Box<[Slot]>>>,
    len: AtomicUsize,
}

/// Index, and offset with [`BASE_BIT`] and [`CONTINUES_BIT`].
type Slot = (AtomicU64, AtomicU64);

impl Marks {
    /// For a segment of this size.
    pub(super) fn new(segment_bytes: u64) -> Marks {
        let most = ((segment_bytes - RECORDS_AT) / BASE_BYTES) as usize + 1; // no record that gets a mark is smaller
        let chunks = std::iter::repeat_with(OnceLock::new).take(most.div_ceil(CHUNK)).collect();
        Marks { chunks, len: AtomicUsize::new(0) }
    }

    /// The writer's: notes the entry at `offset`, which follows the last noted one if its index does.
    pub(super) fn note_entry(&self, previous: Option<Index>, index: Index, offset: u64) {
        let last = self.last().filter(|mark| !mark.is_base);
        let continues = last.is_some() && previous.map(Index::next) == Some(index);
        if !continues || last.is_some_and(|mark| offset - mark.offset >= SPACING_BYTES) {
            self.push(Mark { index, offset, is_base: false, continues });
        }
    }

    /// The writer's: notes a Base.
    pub(super) fn note_base(&self, index: Index, offset: u64) {
        self.push(Mark { index, offset, is_base: true, continues: false });
    }

    /// The marks, newest first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = Mark> + '_ {
        let len = self.len.load(Ordering::Acquire); // partner: `push`
        (0..len).rev().map(|at| self.at(at))
    }

    /// The oldest mark.
    pub(super) fn first(&self) -> Option<Mark> {
        let len = self.len.load(Ordering::Acquire); // partner: `push`
        (len > 0).then(|| self.at(0))
    }

    fn last(&self) -> Option<Mark> {
        let len = self.len.load(Ordering::Acquire); // partner: `push`
        len.checked_sub(1).map(|at| self.at(at))
    }

    fn at(&self, at: usize) -> Mark {
        let chunk = self.chunks[at / CHUNK].get().expect("allocated before the length covers it");
        let (index, offset) = &chunk[at % CHUNK];
        let offset = offset.load(Ordering::Relaxed); // the length orders them
        Mark {
            index: Index(index.load(Ordering::Relaxed)),
            offset: offset & !(BASE_BIT | CONTINUES_BIT),
            is_base: offset & BASE_BIT != 0,
            continues: offset & CONTINUES_BIT != 0,
        }
    }

    fn push(&self, mark: Mark) {
        let len = self.len.load(Ordering::Relaxed); // only the writer changes it
        let chunk =
            self.chunks[len / CHUNK].get_or_init(|| std::iter::repeat_with(Slot::default).take(CHUNK).collect());
        let (index, offset) = &chunk[len % CHUNK];
        index.store(mark.index.0, Ordering::Relaxed);
        let flags = u64::from(mark.is_base) * BASE_BIT + u64::from(mark.continues) * CONTINUES_BIT;
        offset.store(mark.offset + flags, Ordering::Relaxed);
        self.len.store(len + 1, Ordering::Release); // partner: the readers' loads
    }
}
