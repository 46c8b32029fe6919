//! The list itself: a head, a tower per key, a chain of versions per node; and what it takes to free it all.

use std::ptr::NonNull;

use super::node::{Memory, Node, NodeRef, Version};
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
        mut passed: impl FnMut(usize, NodeRef<'a>),
    ) -> Option<NodeRef<'a>> {
        let mut node = head;
        let mut behind: Option<NodeRef<'a>> = None;
        for level in (0..self.height.load(Ordering::Relaxed)).rev() {
            let mut next = node.next(level);
            // A node that the level above stopped at need not be compared again.
            while let Some(nearer) = next.filter(|&next| Some(next) != behind && next.key() < key) {
                node = nearer;
                next = node.next(level);
            }
            behind = next;
            passed(level, node);
        }
        behind
    }

    /// Writer only: makes room for a tower. Relaxed, it is a hint.
    pub(super) fn raise(&self, height: usize) {
        if height > self.height.load(Ordering::Relaxed) {
            self.height.store(height, Ordering::Relaxed);
        }
    }
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

/// A list with all memory that was ever taken for it, when its writer is gone.
pub(super) struct Estate {
    pub(super) list: NonNull<List>,
    pub(super) retired: Fifo<Retired>,
    pub(super) memory: Memory,
}

// SAFETY: it owns what it points to, and none of that is bound to a thread.
unsafe impl Send for Estate {}

impl Estate {
    /// Frees everything.
    ///
    /// # Safety
    /// Nobody reads the list, now or later, and all reads happened before this.
    pub(super) unsafe fn free(mut self) {
        while let Some(retired) = self.retired.pop() {
            // SAFETY: the caller's promise; what is retired is no longer linked, so it is freed here only.
            unsafe { free_unlinked(&mut self.memory, retired.what) };
        }
        // SAFETY: a leaked Box, taken back once.
        let list = unsafe { Box::from_raw(self.list.as_ptr()) };
        let mut next = Some(list.head);
        while let Some(node) = next {
            // SAFETY: linked, so not freed yet; its successor is loaded before it is freed.
            unsafe {
                next = NodeRef::new(node).next(0).map(NodeRef::pointer);
                free_with_versions(&mut self.memory, node);
            }
        }
        let left = self.memory.bytes();
        assert!(left == 0, "{left} bytes of the skip list were lost");
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
