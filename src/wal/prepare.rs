//! The next segment, made before it is needed (C-2): by the bulk worker when it is asked in time, else by the writer.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::disk::{Disk, PAGE_BYTES};
use crate::limits;
use crate::random::SplitMix64;

use super::record::{Owner, SegmentHeader, BATCH_BYTES, RECORDS_AT};
use super::segment::{self, Active};
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
    /// What is made is made under this lock: a writer that comes for a segment in the making waits for it.
    next: Mutex<Next>,
    /// Lets everybody see without the lock that there is something to do.
    needed: AtomicBool,
}

#[derive(Debug)]
struct Next {
    /// `None` until the cluster is formed.
    owner: Option<Owner>,
    sequence: u64,
    /// From one random start: no two segments of one life have the same.
    salts: SplitMix64,
    ready: Option<Active>,
}

impl Preparer {
    pub(super) fn new(disk: &Disk, dir: PathBuf, segment_bytes: u64, salts: SplitMix64) -> Preparer {
        let next = Mutex::new(Next { owner: None, sequence: 0, salts, ready: None });
        let (disk, needed) = (disk.clone(), AtomicBool::new(false));
        Preparer { workshop: Arc::new(Workshop { disk, dir, segment_bytes, next, needed }) }
    }

    /// True if the next segment is not ready: call [`Preparer::prepare`] on a thread that may wait for the disk.
    pub fn needed(&self) -> bool {
        self.workshop.needed.load(Ordering::Relaxed) // a hint: the lock decides
    }

    /// Prepares the next segment, durably, unless it is ready. After an error other than
    /// [`WalError::NoSpace`] end the process (C-6); without space the log itself fails when it needs the segment.
    pub fn prepare(&self) -> Result<(), WalError> {
        let mut next = self.lock();
        if next.owner.is_some() && next.ready.is_none() {
            next.ready = Some(self.make(&mut next, 0, self.workshop.segment_bytes)?);
        }
        self.workshop.needed.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// The disk is full: does not ask for the next segment again. When the log needs one it makes one, or fails.
    pub fn give_up(&self) {
        self.workshop.needed.store(false, Ordering::Relaxed);
    }

    /// From now on segments for this owner are made, beginning with this sequence.
    pub(super) fn start(&self, owner: Owner, sequence: u64) {
        let mut next = self.lock();
        (next.owner, next.sequence, next.ready) = (Some(owner), sequence, None);
    }

    /// The next segment: the prepared one, or a new one if it must hold an item of so many bytes and cannot. What is made
    /// here is waited for (at a start, and when a cluster is formed), so it is small.
    pub(super) fn take(&self, item_bytes: u64) -> Result<Active, WalError> {
        let mut next = self.lock();
        let active = match next.ready.take().filter(|active| active.room() >= BATCH_BYTES + item_bytes) {
            Some(active) => active,
            None => self.make(&mut next, item_bytes, self.workshop.segment_bytes.min(limits::SEGMENT_URGENT_BYTES))?,
        };
        next.sequence += 1;
        self.workshop.needed.store(true, Ordering::Relaxed);
        Ok(active)
    }

    fn make(&self, next: &mut Next, item_bytes: u64, bytes_min: u64) -> Result<Active, WalError> {
        let needed = (RECORDS_AT + BATCH_BYTES + item_bytes).next_multiple_of(PAGE_BYTES);
        let owner = next.owner.expect("segments are made for a formed cluster");
        let header =
            SegmentHeader { sequence: next.sequence, salt: next.salts.draw(), bytes: bytes_min.max(needed), owner };
        segment::create(&self.workshop.disk, &self.workshop.dir, header)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Next> {
        self.workshop.next.lock().expect("no panic holds it")
    }
}
