//! An ordered map of many versions with one writer and lock-free readers: the skip list behind [`super::Store`].
//!
//! **Seeing.** The writer links all versions of an entry and then publishes `applied` (release). A reader that holds a
//! pin at revision R takes, per key, the newest version at or below R; a removal is a version. Nodes and versions that
//! are linked but not published are skipped by their revision (C-19).
//!
//! **Unlinking** (C-20). After publishing and a `fence(SeqCst)` the writer reads all slots; m is the lowest of them and
//! of `applied`. Every pin reads at m or above: if the writer saw its slot, R is at or above the slot; if not, the
//! reader's fence came after the writer's, so R is at least what was published. So a version that was superseded at
//! r2 <= m is wanted by no pin, only by views at a revision below r2, and is unlinked or hung on such a view (C-21).
//! A tombstone at or below m that is its key's only version says nothing anymore and goes with its node.
//!
//! **Freeing.** What was unlinked while A was applied is freed once every slot is above A, read after a later fence.
//! A reader whose slot is above A has acquired a revision above A, and with it the unlinking, before it walked; one
//! whose slot was still idle has its fence after the writer's, and sees the unlinking too. A walk starts at the head
//! and loads each pointer anew, so it cannot reach what it must see as unlinked; and all that it stands on has only
//! pointers to what was linked when the pin began, or later.
//!
//! **The writer's own walks** need not start at the head: it alone unlinks, so it may keep pointers to nodes until then. It
//! has fingers on the tall ones (`fingers.rs`), and the ends of the walks that [`Writer::warm`] made ([`Walked`]).

mod blocks;
mod builder;
#[cfg(all(test, not(loom)))]
mod finger_tests;
mod fingers;
mod list;
mod node;
mod reader;
mod replaced;
mod shared;
mod warm;

use std::mem;
use std::ptr::NonNull;

pub use builder::{Builder, Built, OutOfOrder};
pub use reader::{Pinned, Range, Reader, ViewPinned};
pub use replaced::ReplacedList;

use self::fingers::Fingers;
use self::list::{along, descend, free_unlinked, Estate, Heights, List, Retired, Unlinked};
use self::node::{Mark, Memory, NewVersion, Node, NodeRef, Version, VersionRef, Wanted};
use self::shared::Shared;
use self::warm::{Lanes, LANES};
use super::fifo::Fifo;
use super::operations::Write;
use super::sync::{fence, Arc, Ordering, FINGER_HEIGHT, LEVELS};
use super::view::{Purpose, ViewCounts, Views, ViewsFull};
use super::Versioned;
use crate::limits;
use protocol::request::ViewId;

/// The one writer: everything that changes the list, and the bookkeeping of what may be unlinked and freed.
pub(super) struct Writer {
    shared: Arc<Shared>,
    list: NonNull<List>,
    memory: Memory,
    /// Published.
    applied: u64,
    /// The newest revision that was written, published or not.
    written: u64,
    /// Commands since the last publication: reclaiming keeps pace with them.
    changes: usize,
    heights: Heights,
    fingers: Fingers,
    walked: Walked,
    superseded: Fifo<Superseded>,
    retired: Fifo<Retired>,
    views: Views<Held>,
}

/// The ends of the walks that [`Writer::warm`] made, for the changes that follow in the same order. All these nodes are
/// linked: what unlinks one forgets them all.
struct Walked {
    ways: [Way; LANES],
    /// Those of `ways` that were not asked for yet.
    left: std::ops::Range<usize>,
}

/// A walk's end.
#[derive(Clone, Copy)]
struct Way {
    /// Of its key.
    mark: Mark,
    /// The last node before the key on each of the lowest levels.
    before: [NonNull<Node>; FINGER_HEIGHT],
}

/// Where a key is, or would be.
struct Place<'a> {
    /// The last node before it on each of the lowest levels.
    before: [NodeRef<'a>; FINGER_HEIGHT],
    node: Option<NodeRef<'a>>,
}

/// The version below `by` was superseded by it. Both stay linked as long as this stands in its queue: only the records
/// of their own node unlink them, and those are taken in order.
struct Superseded {
    node: NonNull<Node>,
    by: NonNull<Version>,
}

/// A version that a view holds back. It stays linked until it is taken off that view.
struct Held {
    node: NonNull<Node>,
    version: NonNull<Version>,
}

// SAFETY: the pointers are to memory that only this writer frees, and nothing in it is bound to a thread.
unsafe impl Send for Writer {}

impl Writer {
    /// The writer of a list that nobody has seen yet.
    pub(super) fn over(built: Built) -> Self {
        let applied = built.applied().0;
        let (list, memory, fingers) = built.into_parts();
        // SAFETY: not published yet, so nothing of it is freed meanwhile.
        let head = unsafe { list.as_ref().head() }.pointer();
        Self {
            shared: Arc::new(Shared::new(list)),
            list,
            memory,
            applied,
            written: applied,
            changes: 0,
            heights: Heights::default(),
            fingers,
            walked: Walked { ways: [Way { mark: Mark::default(), before: [head; FINGER_HEIGHT] }; LANES], left: 0..0 },
            superseded: Fifo::default(),
            retired: Fifo::default(),
            views: Views::default(),
        }
    }

    /// Publishes `built` in place of the list, whose views end. What it shows must be newer.
    pub(super) fn replace(&mut self, built: Built) -> ReplacedList {
        let applied = built.applied().0;
        assert!(applied > self.applied, "a list of {applied} replaces one of {}", self.applied);
        assert!(self.written <= self.applied, "revision {} was written and not published", self.written);
        let (list, memory, fingers) = built.into_parts();
        self.views.close_all(&self.shared.views);
        self.shared.replace_root(list);
        self.walked.forget();
        let mut estate = Estate::new(mem::replace(&mut self.list, list), mem::replace(&mut self.memory, memory));
        estate.retired = mem::take(&mut self.retired);
        estate.fingers = Box::new(mem::replace(&mut self.fingers, fingers));
        // What these name stays linked, and is freed with the list.
        self.superseded = Fifo::default();
        let last = mem::replace(&mut self.applied, applied);
        (self.written, self.changes) = (applied, 0);
        ReplacedList::new(Arc::clone(&self.shared), last, estate)
    }

    pub(super) fn applied(&self) -> u64 {
        self.applied
    }

    /// Bytes of nodes and versions, retired ones included.
    pub(super) fn bytes(&self) -> usize {
        self.memory.bytes()
    }

    /// Old versions and nodes that are still to be unlinked or freed.
    pub(super) fn backlog(&self) -> usize {
        self.superseded.len() + self.retired.len()
    }

    pub(super) fn view_counts(&self) -> ViewCounts {
        self.views.counts()
    }

    /// Bytes that open views for snapshots hold back.
    pub(super) fn snapshot_held_bytes(&self) -> usize {
        self.views.snapshot_held_bytes()
    }

    pub(super) fn set_view_bytes_max(&mut self, bytes: usize) {
        self.views.set_bytes_max(bytes);
    }

    pub(super) fn reader(&self) -> Option<Reader> {
        Reader::new(Arc::clone(&self.shared))
    }

    /// The newest value of `key`, published or not.
    pub(super) fn newest(&self, key: &[u8]) -> Option<Versioned<'_>> {
        // SAFETY: `self` is borrowed during the lifetime of the result, so nothing is freed meanwhile.
        let head = unsafe { self.list().head() };
        let wanted = Wanted::new(key);
        let node = self.place(head, &wanted, None).node?;
        node.at(u64::MAX).map(VersionRef::versioned)
    }

    /// Walks to the first [`limits::WARM_KEYS`] of these keys, beside each other: call it before a batch of changes to them,
    /// which then find what they need near, and their places known.
    pub(super) fn warm<'k>(&mut self, mut keys: impl Iterator<Item = &'k [u8]>) {
        let list = self.list();
        // SAFETY: nothing is freed in this function.
        let head = unsafe { list.head() };
        let levels = list.levels().min(FINGER_HEIGHT);
        let mut lanes = Lanes::new(head, levels, &mut keys, |wanted, nodes| self.fingers.before_each(wanted, nodes));
        let ways = &mut self.walked.ways;
        for (lane, way) in ways.iter_mut().enumerate().take(lanes.len()) {
            *way = Way { mark: lanes.wanted(lane).mark(), before: [head.pointer(); FINGER_HEIGHT] };
        }
        lanes.walk(|lane, level, node| ways[lane].before[level] = node.pointer());
        self.walked.left = 0..lanes.len();
    }

    /// Asks `decide`, who is told the newest value, what to write to it at `revision`.
    pub(super) fn change<'w, R>(
        &mut self,
        revision: u64,
        key: &[u8],
        decide: impl FnOnce(Option<Versioned<'_>>) -> (R, Option<Write<'w>>),
    ) -> R {
        assert!(revision > self.applied, "revision {revision} is published already: {}", self.applied);
        assert!(revision >= self.written, "revision {revision} comes after {}", self.written);
        self.written = revision;
        self.changes += 1;
        // SAFETY: nothing is freed in this function.
        let head = unsafe { self.list().head() };
        let wanted = Wanted::new(key);
        let way = self.walked.take(wanted.mark());
        let Place { before, node } = self.place(head, &wanted, way);
        let value = node.and_then(|node| node.at(u64::MAX));
        let (result, write) = decide(value.map(VersionRef::versioned));
        if let Some(write) = write {
            let new = describe(revision, value, &write);
            match node {
                Some(node) => self.supersede(node, &new),
                None => self.insert(head, &before, &wanted, &new),
            }
        }
        result
    }

    /// C-19, then reclaims.
    pub(super) fn publish(&mut self, applied: u64) {
        assert!(applied >= self.applied, "applied went back from {} to {applied}", self.applied);
        assert!(
            applied >= sabotage!(HalfVisibleEntry, self.written, applied),
            "revision {} was written, {applied} is published",
            self.written
        );
        self.applied = applied;
        self.list().publish(applied);
        // Each change leaves at most a version to unlink, a version to free, a node to unlink and a node to free.
        let steps = limits::RECLAIM_STEPS + 4 * mem::take(&mut self.changes);
        self.reclaim(steps);
    }

    /// Whether there is something to unlink or free that no open view holds.
    pub(super) fn is_reclaiming(&self) -> bool {
        !self.superseded.is_empty() || !self.retired.is_empty() || self.views.any_closing()
    }

    pub(super) fn open_view(&mut self, boot: u64, purpose: Purpose) -> Result<ViewId, ViewsFull> {
        self.reclaim(limits::RECLAIM_STEPS); // closed views may have places to give back
        self.views.open(&self.shared.views, boot, self.applied, purpose)
    }

    pub(super) fn view_is_open(&self, view: ViewId) -> bool {
        self.views.is_open(view)
    }

    pub(super) fn close_view(&mut self, view: ViewId) -> bool {
        let was_open = self.views.close(&self.shared.views, view, self.applied);
        self.reclaim(limits::RECLAIM_STEPS);
        was_open
    }

    fn list<'a>(&self) -> &'a List {
        // SAFETY: the header is freed with `shared`, of which this writer has a share.
        unsafe { self.list.as_ref() }
    }

    fn supersede(&mut self, node: NodeRef<'_>, new: &NewVersion<'_>) {
        let version = self.memory.version(new, node.newest().map(VersionRef::pointer));
        // SAFETY: just made.
        node.set_newest(unsafe { VersionRef::new(version) });
        self.superseded.push(Superseded { node: node.pointer(), by: version });
    }

    /// Where `wanted` is. `way` is the end of a walk to it, or to a key with the same mark, since when nothing was unlinked.
    fn place<'a>(&self, head: NodeRef<'a>, wanted: &Wanted<'_>, way: Option<Way>) -> Place<'a> {
        if let Some(place) = way.and_then(|way| self.place_along(head, wanted, way)) {
            return place;
        }
        let levels = self.list().levels().min(FINGER_HEIGHT);
        let start = self.fingers.before(head, wanted);
        let mut before = [start; FINGER_HEIGHT];
        let behind = descend(start, levels, wanted, |level, node| before[level] = node);
        Place { before, node: behind.filter(|node| node.is(wanted)) }
    }

    /// The same from the end of `way`. What was inserted since lies between, and the changes of a batch are few; None: it is
    /// further, so the way is another key's.
    fn place_along<'a>(&self, head: NodeRef<'a>, wanted: &Wanted<'_>, way: Way) -> Option<Place<'a>> {
        // SAFETY: linked still (`Walked`), and `head` vouches for what is linked.
        let mut before = way.before.map(|node| unsafe { NodeRef::new(node) });
        let mut steps = 2 * LANES;
        let mut node = None;
        for level in (0..self.list().levels().min(FINGER_HEIGHT)).rev() {
            if !before[level].is_before(wanted) && before[level] != head {
                return None;
            }
            node = along(&mut before[level], level, wanted, &mut steps)?;
        }
        Some(Place { before, node: node.filter(|node| node.is(wanted)) })
    }

    fn insert(
        &mut self,
        head: NodeRef<'_>,
        lowest: &[NodeRef<'_>; FINGER_HEIGHT],
        wanted: &Wanted<'_>,
        new: &NewVersion<'_>,
    ) {
        assert!(new.version != 0, "a missing key is not removed");
        let height = self.heights.draw();
        let mut before = [head; LEVELS];
        before[..FINGER_HEIGHT].copy_from_slice(lowest);
        if height > FINGER_HEIGHT {
            self.fingers.passed(head, wanted, height, |level, node| before[level] = node);
        }
        let version = self.memory.version(new, None);
        let node = self.memory.node(wanted.key(), height, Some(version), |level| before[level].next(level));
        // SAFETY: just made.
        let node = unsafe { NodeRef::new(node) };
        self.list().raise(height);
        // From below, so that a node on any level is on all lower ones.
        for (level, before) in before.iter().enumerate().take(height) {
            before.set_next(level, Some(node));
        }
        // SAFETY: linked, and `unlink_node` removes it.
        unsafe { self.fingers.insert(node) };
    }

    /// Frees and unlinks what C-20 allows, in about `steps` steps.
    pub(super) fn reclaim(&mut self, mut steps: usize) {
        if !self.is_reclaiming() {
            return;
        }
        // Partner of the fence in `Reader::pin`: a pin that `oldest` misses sees all that was stored before this.
        fence(Ordering::SeqCst);
        let oldest = self.shared.oldest();
        let visible = oldest.min(self.applied);
        // First: what is retired below was unlinked after the fence, and must see another one before it is freed.
        self.free_retired(oldest, &mut steps);
        self.views.settle(oldest);
        self.unlink_superseded(visible, &mut steps);
        self.drain_views(visible, &mut steps);
    }

    fn free_retired(&mut self, oldest: u64, steps: &mut usize) {
        while *steps > 0 && self.retired.front().is_some_and(|retired| retired.applied < oldest) {
            let retired = self.retired.pop().expect("it has a front");
            // SAFETY: it was unlinked, before the fence, while `retired.applied` was applied, and every slot is above
            // that: no pin can reach it (module text). It was retired once.
            unsafe { free_unlinked(&mut self.memory, retired.what) };
            *steps -= 1;
        }
    }

    fn unlink_superseded(&mut self, visible: u64, steps: &mut usize) {
        while *steps > 0 {
            let Some(record) = self.superseded.front() else { return };
            // SAFETY: both are linked as long as the record stands, and nothing is freed in this function.
            let (node, by) = unsafe { (NodeRef::new(record.node), VersionRef::new(record.by)) };
            if by.revision() > visible {
                return;
            }
            self.superseded.pop();
            let old = by.older().expect("what was superseded is linked until its record is taken");
            self.let_go(node, by, old, visible);
            *steps -= 1;
        }
    }

    fn drain_views(&mut self, visible: u64, steps: &mut usize) {
        while *steps > 0 {
            let Some(held) = self.views.drain() else { return };
            // SAFETY: a held version, and so its node, is linked, and nothing is freed in this function.
            let (node, old) = unsafe { (NodeRef::new(held.node), VersionRef::new(held.version)) };
            let mut by = node.newest().expect("a linked node has a version");
            // Short, as a rule: the versions that readers or views need. A view walks once per key that it held.
            while let Some(older) = by.older().filter(|&older| older != old) {
                by = older;
                *steps = steps.saturating_sub(1);
            }
            self.let_go(node, by, old, visible);
            *steps = steps.saturating_sub(1);
        }
    }

    /// `old` lies right below `by`, which is visible to all pins. Hangs it on a view that needs it, or unlinks it.
    fn let_go(&mut self, node: NodeRef<'_>, by: VersionRef<'_>, old: VersionRef<'_>, visible: u64) {
        assert!(by.older() == Some(old), "a version is unlinked from the one above it");
        let needing = sabotage!(ViewHoldsNothing, self.views.needing(old.revision(), by.revision()), None);
        if let Some(place) = needing {
            let held = Held { node: node.pointer(), version: old.pointer() };
            self.views.hold(&self.shared.views, place, held, old.bytes(), self.applied);
            return;
        }
        by.set_older(old.older());
        self.retire(Unlinked::Version(old.pointer()));
        let only = node.newest() == Some(by) && by.older().is_none();
        if only && by.is_tombstone() && by.revision() <= visible {
            self.unlink_node(node);
        }
    }

    fn unlink_node(&mut self, node: NodeRef<'_>) {
        self.walked.forget();
        self.fingers.remove(node);
        let list = self.list();
        // SAFETY: nothing is freed in this function.
        let head = unsafe { list.head() };
        let wanted = Wanted::new(node.key());
        let unlink = |level, before: NodeRef<'_>| {
            if level < node.height() {
                assert!(before.next(level) == Some(node), "a node is linked on each of its levels");
                before.set_next(level, node.next(level));
            }
        };
        if node.height() > FINGER_HEIGHT {
            self.fingers.passed(head, &wanted, node.height(), unlink);
        }
        descend(self.fingers.before(head, &wanted), list.levels().min(FINGER_HEIGHT), &wanted, unlink);
        self.retire(Unlinked::Node(node.pointer()));
    }

    fn retire(&mut self, what: Unlinked) {
        self.retired.push(Retired { applied: self.applied, what });
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut estate = Estate::new(self.list, mem::take(&mut self.memory));
        estate.retired = mem::take(&mut self.retired);
        self.shared.inherit(estate);
    }
}

impl Walked {
    /// The next way to such a key. Those before it are left out: their changes were not made.
    fn take(&mut self, mark: Mark) -> Option<Way> {
        let at = self.ways[self.left.clone()].iter().position(|way| way.mark == mark)?;
        let way = self.ways[self.left.start + at];
        self.left.start += at + 1;
        Some(way)
    }

    fn forget(&mut self) {
        self.left = 0..0;
    }
}

/// The version that `write` makes of a key whose value is `old`.
fn describe<'w>(revision: u64, old: Option<VersionRef<'_>>, write: &'w Write<'_>) -> NewVersion<'w> {
    match write.value() {
        None => NewVersion { revision, create_revision: 0, version: 0, value: &[] },
        Some(value) => {
            let old = old.map(VersionRef::versioned);
            let create_revision = old.map_or(revision, |old| old.create_revision.0);
            NewVersion { revision, create_revision, version: 1 + old.map_or(0, |old| old.version), value }
        }
    }
}
