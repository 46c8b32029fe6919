//! The next segment, made before it is needed (C-2): by the bulk worker when it is asked in time, else by the writer.
//!
//! It is filled with zeroes at the pace of the log: half as much again as the log has used of its own segment. Filled in one go
//! it was some hundred milliseconds in which each sync of each log on that disk waited for the zeroes, and 99 of 100 writes
//! waited for one sync or the other.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::disk::{Disk, File, PAGE_BYTES};
use crate::limits;
use crate::random::SplitMix64;

use super::record::{Owner, SegmentHeader, BATCH_BYTES, RECORDS_AT};
use super::segment::{Active, Unfinished};
use super::WalError;

/// Prepares the next segment, from any thread.
#[derive(Clone, Debug)]
pub struct Preparer {
    workshop: Arc<Workshop>,
}

#[derive(Debug)]
struct Workshop {
    disk: Disk,
    dir: PathBuf,
    segment_bytes: u64,
    /// What is made is made under this lock: a writer that comes for a segment in the making waits for the step.
    next: Mutex<Next>,
    /// Bytes of the next segment that should be filled, and those that are. Hints that are looked at without the lock.
    wanted: AtomicU64,
    filled: AtomicU64,
    /// There was no space; nothing more is made before the log needs it.
    given_up: AtomicBool,
}

#[derive(Debug)]
struct Next {
    /// `None` until the cluster is formed.
    owner: Option<Owner>,
    sequence: u64,
    /// From one random start: no two segments of one life have the same.
    salts: SplitMix64,
    making: Option<Unfinished>,
    ready: Option<Active>,
    /// The last full segment's, still cached.
    full: Option<File>,
}

/// What is filled at a time, at least: each step costs a sync. An eighth of a small segment.
const STEP_BYTES: u64 = 128 * 1024;
/// And at most, when the log has run ahead.
const STEP_BYTES_MAX: u64 = 1024 * 1024;
/// Filled when there are no more bytes to be.
const READY: u64 = u64::MAX;

impl Preparer {
    pub(super) fn new(disk: &Disk, dir: PathBuf, segment_bytes: u64, salts: SplitMix64) -> Preparer {
        let next = Mutex::new(Next { owner: None, sequence: 0, salts, making: None, ready: None, full: None });
        let workshop = Workshop {
            disk: disk.clone(),
            dir,
            segment_bytes,
            next,
            wanted: AtomicU64::new(0),
            filled: AtomicU64::new(0),
            given_up: AtomicBool::new(false),
        };
        Preparer { workshop: Arc::new(workshop) }
    }

    /// True if the next segment is behind the log's pace: call [`Preparer::step`] on a thread that may wait for the disk.
    pub fn needed(&self) -> bool {
        let Workshop { wanted, filled, given_up, .. } = &*self.workshop;
        // Hints: the lock decides.
        filled.load(Ordering::Relaxed) < wanted.load(Ordering::Relaxed) && !given_up.load(Ordering::Relaxed)
    }

    /// Uncaches a full segment, if there is one; then one step towards the next segment, synced. Without space it is not asked for again: when the log needs it, it makes
    /// one, or fails. After any other error end the process (C-6).
    pub fn step(&self) -> Result<(), WalError> {
        let mut next = self.lock();
        if let Some(full) = next.full.take() {
            drop(next); // the log may come for its next segment meanwhile
            full.uncache();
            next = self.lock();
        }
        let result = self.make_some(&mut next);
        if let Err(WalError::NoSpace { .. }) = result {
            self.workshop.given_up.store(true, Ordering::Relaxed);
        }
        result
    }

    fn make_some(&self, next: &mut Next) -> Result<(), WalError> {
        if next.owner.is_none() || next.ready.is_some() {
            self.note_filled(READY);
            return Ok(());
        }
        let mut making = match next.making.take() {
            Some(making) => making,
            None => self.begin(next, 0, self.workshop.segment_bytes)?,
        };
        let behind = self.workshop.wanted.load(Ordering::Relaxed).saturating_sub(making.filled());
        making.fill(behind.max(self.step_bytes()).min(STEP_BYTES_MAX).next_multiple_of(PAGE_BYTES))?;
        if making.is_filled() {
            next.ready = Some(self.finish(making)?);
            self.note_filled(READY);
        } else {
            self.note_filled(making.filled());
            next.making = Some(making);
        }
        Ok(())
    }

    /// All steps that are left.
    pub fn prepare(&self) -> Result<(), WalError> {
        let is_unfinished = || {
            let next = self.lock();
            next.owner.is_some() && next.ready.is_none()
        };
        while is_unfinished() {
            self.step()?;
        }
        Ok(())
    }

    /// The log has used so many bytes of its segment.
    pub(super) fn keep_pace(&self, used: u64, of: u64) {
        let Workshop { segment_bytes, wanted, .. } = &*self.workshop;
        let share = u128::from(*segment_bytes) * u128::from(used) * 3 / 2 / u128::from(of);
        let bytes = u64::try_from(share).unwrap_or(u64::MAX).min(*segment_bytes);
        let steps = if bytes < *segment_bytes { bytes - bytes % self.step_bytes() } else { bytes };
        wanted.store(steps.max(1), Ordering::Relaxed);
    }

    /// From now on segments for this owner are made, beginning with this sequence.
    pub(super) fn start(&self, owner: Owner, sequence: u64) {
        let mut next = self.lock();
        (next.owner, next.sequence) = (Some(owner), sequence);
        (next.making, next.ready) = (None, None);
    }

    /// The next segment: the prepared one, or as much of it as there is, or a new one if that must hold an item of so many bytes
    /// and cannot, or none was begun. What is made here is waited for (always at a start, and when a cluster is formed), so it is
    /// small.
    pub(super) fn take(&self, item_bytes: u64) -> Result<Active, WalError> {
        self.take_from(&mut self.lock(), item_bytes)
    }

    /// The next segment takes over from `active`, which is synced. The last entries of that one are in Raft's memory for a while, so
    /// the pages in which they are cached are better used for the zeroes of the segment after the next.
    pub(super) fn take_over(&self, active: &mut Active, item_bytes: u64) -> Result<(), WalError> {
        let mut next = self.lock();
        let taken = self.take_from(&mut next, item_bytes)?;
        next.full = Some(std::mem::replace(active, taken).file); // one that nobody has come to stays cached
        Ok(())
    }

    fn take_from(&self, next: &mut Next, item_bytes: u64) -> Result<Active, WalError> {
        let needed = BATCH_BYTES + item_bytes;
        let urgent = self.workshop.segment_bytes.min(limits::SEGMENT_URGENT_BYTES);
        let ready = next.ready.take().filter(|active| active.room() >= needed);
        let making = next.making.take().filter(|making| ready.is_none() && making.room() >= needed);
        let active = match (ready, making) {
            (Some(active), _) => active,
            (None, Some(mut making)) => {
                // The log waits for it, so it ends where it has come to.
                making.shorten(urgent.max((RECORDS_AT + needed).next_multiple_of(PAGE_BYTES)));
                self.finish(making)?
            }
            (None, None) => {
                let making = self.begin(next, item_bytes, urgent)?;
                self.finish(making)?
            }
        };
        next.sequence += 1;
        self.note_filled(0);
        self.workshop.given_up.store(false, Ordering::Relaxed);
        self.workshop.wanted.store(1, Ordering::Relaxed);
        Ok(active)
    }

    fn begin(&self, next: &mut Next, item_bytes: u64, bytes_min: u64) -> Result<Unfinished, WalError> {
        let needed = (RECORDS_AT + BATCH_BYTES + item_bytes).next_multiple_of(PAGE_BYTES);
        let owner = next.owner.expect("segments are made for a formed cluster");
        let header =
            SegmentHeader { sequence: next.sequence, salt: next.salts.draw(), bytes: bytes_min.max(needed), owner };
        Unfinished::begin(&self.workshop.disk, &self.workshop.dir, header)
    }

    fn finish(&self, making: Unfinished) -> Result<Active, WalError> {
        making.finish(&self.workshop.disk, &self.workshop.dir)
    }

    fn step_bytes(&self) -> u64 {
        (self.workshop.segment_bytes / 8).clamp(PAGE_BYTES, STEP_BYTES)
    }

    fn note_filled(&self, bytes: u64) {
        self.workshop.filled.store(bytes, Ordering::Relaxed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Next> {
        self.workshop.next.lock().expect("no panic holds it")
    }
}
