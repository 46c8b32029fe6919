//! What the writer and the readers share: the root, the readers' slots, the table of views.

use std::ptr::NonNull;
use std::sync::Mutex;

use super::list::{Estate, List};
use crate::kv::sync::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering, READERS};
use crate::kv::view::ViewTable;

/// A slot that pins nothing.
const IDLE: u64 = u64::MAX;

/// Lives as long as the store and every reader.
pub(super) struct Shared {
    /// The one published root (C-19).
    root: AtomicPtr<List>,
    slots: [Slot; READERS],
    /// Slots that were ever taken: the writer looks at no others.
    slots_used: AtomicUsize,
    pub(super) views: ViewTable,
    /// What the store leaves behind when it is dropped, and what is left of replaced lists: at least their headers, some
    /// thirty bytes each. Locked when one is added, never by a reader that reads.
    estates: Mutex<Vec<Estate>>,
}

/// One reader's announcement. Alone on its cache lines (two, because they are fetched in pairs): its reader writes it
/// with every pin.
#[repr(align(128))]
pub(super) struct Slot {
    /// A revision that its reader may be reading at or above, or `IDLE`.
    revision: AtomicU64,
    taken: AtomicBool,
}

impl Shared {
    pub(super) fn new(root: NonNull<List>) -> Self {
        let slot = |_| Slot { revision: AtomicU64::new(IDLE), taken: AtomicBool::new(false) };
        Self {
            root: AtomicPtr::new(root.as_ptr()),
            slots: std::array::from_fn(slot),
            slots_used: AtomicUsize::new(0),
            views: ViewTable::new(),
            estates: Mutex::new(Vec::new()),
        }
    }

    /// The published root. Acquire, partner of the release with which a list is published: its `applied` and its head
    /// are set.
    ///
    /// The header lives as long as `self`, even if the list is replaced. C-19 has a reader look at `root.applied`
    /// *before* its slot protects anything; if a replaced list's header went with its nodes, this could happen: the
    /// reader loads the root, its slot is idle, it is interrupted; the writer replaces the root, finds every slot above
    /// and frees the list; the reader loads `applied` from freed memory.
    pub(super) fn root(&self) -> &List {
        // SAFETY: made from a Box that is freed only when `self` is dropped.
        unsafe { &*self.root.load(Ordering::Acquire) }
    }

    /// Writer only: a list that was built elsewhere becomes the root. Release, partner of [`Shared::root`]: its `applied`
    /// is set, above the old one's, and the views of the old one are closed; who sees the new root sees that too.
    pub(super) fn replace_root(&self, root: NonNull<List>) {
        self.root.store(root.as_ptr(), Ordering::Release);
    }

    pub(super) fn slot(&self, slot: usize) -> &Slot {
        &self.slots[slot]
    }

    /// Takes a free slot.
    pub(super) fn take_slot(&self) -> Option<usize> {
        let slot = self.slots.iter().position(Slot::take)?;
        // Relaxed: only the thread that owns the store takes slots (the store is not Sync). Another one that looks at them,
        // to free a replaced list, and misses this one, has its fence before that of the new reader's first pin.
        self.slots_used.fetch_max(slot + 1, Ordering::Relaxed);
        Some(slot)
    }

    /// The lowest announced revision; MAX if nobody reads. The caller's `fence(SeqCst)` stands between what it
    /// published and this: a pin that is missed here sees all that was before the fence.
    pub(super) fn oldest(&self) -> u64 {
        let used = self.slots_used.load(Ordering::Relaxed);
        self.slots[..used].iter().map(Slot::announced).min().unwrap_or(IDLE)
    }

    /// The last owner of `self` frees what is left.
    pub(super) fn inherit(&self, estate: Estate) {
        self.estates.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(estate);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let estates = self.estates.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
        for estate in estates.drain(..) {
            // SAFETY: the store, every reader and every replaced list are gone, since each owns a share of `self`. Their
            // last uses happened before this: the count of shares is released and acquired.
            unsafe { estate.free() };
        }
    }
}

impl Slot {
    /// Announces a pin. Release, partner of [`Slot::announced`]: reads of an earlier pin come before what the writer
    /// frees once it has seen this one. A `fence(SeqCst)` follows, partner of the writer's.
    pub(super) fn announce(&self, revision: u64) {
        self.revision.store(revision, Ordering::Release);
    }

    /// Ends a pin. Release, partner of [`Slot::announced`]: its reads come before what the writer frees then.
    pub(super) fn retract(&self) {
        self.revision.store(IDLE, Ordering::Release);
    }

    /// Acquire, partner of [`Slot::announce`] and [`Slot::retract`].
    fn announced(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Acquire, partner of [`Slot::release`]: the former owner has retracted.
    fn take(&self) -> bool {
        self.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Release, partner of [`Slot::take`].
    pub(super) fn release(&self) {
        self.retract();
        self.taken.store(false, Ordering::Release);
    }
}
