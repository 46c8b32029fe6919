//! The list itself: a head, a tower per key, a chain of versions per node; and what it takes to free it all.

use std::ptr::NonNull;

use super::fingers::Fingers;
use super::node::{Memory, Node, NodeRef, Version, Wanted};
use crate::kv::fifo::Fifo;
use crate::kv::sync::{AtomicU64, AtomicUsize, Ordering, LEVELS};

/// A published list.
pub(super) struct List {
    /// Everything up to here may be seen (C-19).
    applied: AtomicU64,
    /// Levels in use. A hint: a reader that sees it late starts lower, or finds nothing on a level.
    height: AtomicUsize,
    /// A node without a key, as tall as can be.
    head: NonNull<Node>,
}

impl List {
    /// An empty list, applied up to 0.
    pub(super) fn new(memory: &mut Memory) -> NonNull<List> {
        let head = memory.node(&[], LEVELS, None, |_| None);
        let list = List { applied: AtomicU64::new(0), height: AtomicUsize::new(1), head };
        NonNull::from(Box::leak(Box::new(list)))
    }

    /// Acquire, partner of [`List::publish`]: all versions up to it are linked, and all that was unlinked at an earlier
    /// revision is out of sight.
    pub(super) fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    /// Writer only. Release, partner of [`List::applied`].
    pub(super) fn publish(&self, applied: u64) {
        self.applied.store(applied, Ordering::Release);
    }

    /// Where every walk begins.
    ///
    /// # Safety
    /// During `'a`, nothing is freed that is linked now or will be: the caller is the writer and frees nothing
    /// meanwhile, or has had a pin since before this call and keeps it during `'a`.
    pub(super) unsafe fn head<'a>(&self) -> NodeRef<'a> {
        // SAFETY: the head is freed with the list, and the caller vouches for the list.
        unsafe { NodeRef::new(self.head) }
    }

    /// The first node at or behind `key`. Tells `passed` the last node before `key` on each level in use.
    pub(super) fn seek<'a>(
        &self,
        head: NodeRef<'a>,
        key: &[u8],
        passed: impl FnMut(usize, NodeRef<'a>),
    ) -> Option<NodeRef<'a>> {
        descend(head, self.levels(), &Wanted::new(key), passed)
    }

    /// Levels in use, at least 1. A hint.
    pub(super) fn levels(&self) -> usize {
        self.height.load(Ordering::Relaxed)
    }

    /// Writer only: makes room for a tower. Relaxed, it is a hint.
    pub(super) fn raise(&self, height: usize) {
        if height > self.height.load(Ordering::Relaxed) {
            self.height.store(height, Ordering::Relaxed);
        }
    }
}

/// The first node at or behind the wanted key, from `node` on, which comes before it, or is the head, and is taller than
/// `levels - 1`. Tells `passed` the last node before the key on each of these levels.
pub(super) fn descend<'a>(
    mut node: NodeRef<'a>,
    levels: usize,
    wanted: &Wanted<'_>,
    mut passed: impl FnMut(usize, NodeRef<'a>),
) -> Option<NodeRef<'a>> {
    let mut behind: Option<NodeRef<'a>> = None;
    for level in (0..levels).rev() {
        let mut next = node.next(level);
        // A node that the level above stopped at need not be compared again.
        while let Some(nearer) = next.filter(|&next| Some(next) != behind && next.is_before(wanted)) {
            node = nearer;
            next = node.next(level);
        }
        behind = next;
        passed(level, node);
    }
    behind
}

/// Moves `node` to the last node before the wanted key on `level`, and says what comes behind it. None: that takes more than
/// `steps`, of which those that it takes are taken away.
pub(super) fn along<'a>(
    node: &mut NodeRef<'a>,
    level: usize,
    wanted: &Wanted<'_>,
    steps: &mut usize,
) -> Option<Option<NodeRef<'a>>> {
    let mut next = node.next(level);
    while let Some(nearer) = next.filter(|next| next.is_before(wanted)) {
        *steps = steps.checked_sub(1)?;
        *node = nearer;
        next = node.next(level);
    }
    Some(next)
}

/// Something that was unlinked and waits until nobody can be reading it (C-20).
pub(super) struct Retired {
    /// What was applied when it was unlinked.
    pub(super) applied: u64,
    pub(super) what: Unlinked,
}

pub(super) enum Unlinked {
    Version(NonNull<Version>),
    /// With its one version, a tombstone.
    Node(NonNull<Node>),
}

/// The heights of towers: 1 with probability 3/4, 2 with 3/16 and so on.
pub(super) struct Heights {
    /// State of a xorshift generator.
    random: u64,
}

impl Default for Heights {
    fn default() -> Self {
        Self { random: 0x9E37_79B9_7F4A_7C15 }
    }
}

impl Heights {
    pub(super) fn draw(&mut self) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let zeros = (self.random >> 16).trailing_zeros() as usize; // the low bits of a xorshift are its weakest
        (1 + zeros / 2).min(LEVELS)
    }
}

/// A list with all memory that was ever taken for it, without a writer.
pub(super) struct Estate {
    list: NonNull<List>,
    /// The first node that is not freed yet.
    next: Option<NonNull<Node>>,
    pub(super) retired: Fifo<Retired>,
    pub(super) memory: Memory,
    /// Its writer's, which are many: freed with the rest, and not where the list was replaced.
    pub(super) fingers: Box<Fingers>,
}

// SAFETY: it owns what it points to, and none of that is bound to a thread.
unsafe impl Send for Estate {}

impl Estate {
    /// `memory` is where all of `list` came from.
    pub(super) fn new(list: NonNull<List>, memory: Memory) -> Self {
        // SAFETY: the header lives as long as this estate, or as what shares it (`Shared::root`).
        let head = unsafe { list.as_ref().head };
        Self { list, next: Some(head), retired: Fifo::default(), memory, fingers: Box::default() }
    }

    /// The list's header.
    pub(super) fn list(&self) -> &List {
        // SAFETY: freed with this estate only.
        unsafe { self.list.as_ref() }
    }

    pub(super) fn list_pointer(&self) -> NonNull<List> {
        self.list
    }

    /// Frees everything but the header, at most `steps` nodes or retired things now; true when it is done.
    ///
    /// # Safety
    /// Nobody reads the list, now or later, and all reads happened before this.
    pub(super) unsafe fn free_some(&mut self, steps: usize) -> bool {
        for _ in 0..steps {
            if let Some(retired) = self.retired.pop() {
                // SAFETY: the caller's promise; what is retired is no longer linked, so it is freed here only.
                unsafe { free_unlinked(&mut self.memory, retired.what) };
            } else if let Some(node) = self.next {
                // SAFETY: linked, so not freed yet; its successor is loaded before it is freed.
                unsafe {
                    self.next = NodeRef::new(node).next(0).map(NodeRef::pointer);
                    free_with_versions(&mut self.memory, node);
                }
            } else {
                break;
            }
        }
        let done = self.retired.is_empty() && self.next.is_none();
        let left = self.memory.bytes();
        assert!(!done || left == 0, "{left} bytes of the skip list were lost");
        done
    }

    /// Frees what is left, and the header.
    ///
    /// # Safety
    /// As for [`Estate::free_some`]; and nobody looks at the header, now or later.
    pub(super) unsafe fn free(mut self) {
        // SAFETY: passed on.
        let done = unsafe { self.free_some(usize::MAX) };
        assert!(done, "nothing is left");
        // SAFETY: a leaked Box, taken back once.
        drop(unsafe { Box::from_raw(self.list.as_ptr()) });
    }
}

/// # Safety
/// Nobody reads it, now or later, and it is freed once.
pub(super) unsafe fn free_unlinked(memory: &mut Memory, what: Unlinked) {
    // SAFETY: passed on.
    unsafe {
        match what {
            Unlinked::Version(version) => memory.free_version(version),
            Unlinked::Node(node) => free_with_versions(memory, node),
        }
    }
}

/// # Safety
/// Nobody reads the node or a version in its chain, now or later, and they are freed once.
unsafe fn free_with_versions(memory: &mut Memory, node: NonNull<Node>) {
    // SAFETY: not freed yet; a version's successor is loaded before it is freed.
    unsafe {
        let mut version = NodeRef::new(node).newest();
        while let Some(newer) = version {
            version = newer.older();
            memory.free_version(newer.pointer());
        }
        memory.free_node(node);
    }
}
