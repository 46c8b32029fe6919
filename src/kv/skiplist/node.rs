//! Nodes and versions: their layout in memory and the only ways to touch them.
//!
//! A node is one block, header, tower and key; a version is one block, header and value:
//!
//! ```text
//!  Node     newest 8 | prefix 8 | key length 4 | height 1 + 3 | next[0] 8 | ... | next[height - 1] 8 | key
//!  Version  revision 8 | create revision 8 | version 8 | older 8 | value length 4 + 4 | value
//! ```
//!
//! With a quarter of the nodes of each level on the next, a tower has 4/3 pointers on average: 24 + 10.7 + 40 = 74.7
//! bytes for a key with one version, besides the key and the value themselves. Blocks are multiples of 8 bytes up to 256,
//! and up to 1/16 larger than what was asked for above (module `pool`).
//!
//! **Why a reference stays good.** [`NodeRef`] and [`VersionRef`] point to memory that is not freed during their
//! lifetime. The first one of a walk is the list's head, made by an `unsafe` call whose caller promises just that: it
//! is the writer, which frees nothing meanwhile, or it holds a pin. Everything else is reached by loading a pointer,
//! and what is linked at the time of a load was not unlinked before the pin (module `skiplist`, "Freeing"), so it
//! lives as long as the pin.

use std::alloc::Layout;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use super::blocks::Blocks;
use crate::kv::sync::{Alive, AtomicPtr, Ordering};
use crate::kv::Versioned;
use crate::pool::block_bytes;
use protocol::Index;

/// A key, and the list of what it was.
#[repr(C)]
pub(super) struct Node {
    alive: Alive,
    /// The newest version; null in the list's head only.
    newest: AtomicPtr<Version>,
    /// [`Wanted::prefix`] of the key: most comparisons end here, in the cache line that a walk needs anyway.
    prefix: u64,
    key_bytes: u32,
    /// Pointers in the tower, at least 1.
    height: u8,
}

/// One value of a key, or its removal.
#[repr(C)]
pub(super) struct Version {
    alive: Alive,
    revision: u64,
    create_revision: u64,
    /// Writes since the key was created; 0 marks a tombstone.
    version: u64,
    /// The version before this one, if somebody may still need it.
    older: AtomicPtr<Version>,
    value_bytes: u32,
}

/// What a new version says.
pub(super) struct NewVersion<'a> {
    pub(super) revision: u64,
    pub(super) create_revision: u64,
    /// 0 for a tombstone.
    pub(super) version: u64,
    pub(super) value: &'a [u8],
}

impl<'a> NewVersion<'a> {
    /// A value that was written before, somewhere else.
    pub(super) fn of(versioned: &Versioned<'a>) -> Self {
        Self {
            revision: versioned.revision.0,
            create_revision: versioned.create_revision.0,
            version: versioned.version,
            value: versioned.value,
        }
    }
}

/// A key that is looked for.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'k> {
    key: &'k [u8],
    prefix: u64,
}

impl<'k> Wanted<'k> {
    pub(super) fn new(key: &'k [u8]) -> Self {
        Self { key, prefix: Self::prefix_of(key) }
    }

    pub(super) fn key(&self) -> &'k [u8] {
        self.key
    }

    /// The first eight bytes as a number, filled up with zeroes: if two differ, their keys differ in the same way.
    pub(super) fn prefix(&self) -> u64 {
        self.prefix
    }

    pub(super) fn mark(&self) -> Mark {
        let end = self.key.last_chunk().copied().unwrap_or_default();
        Mark { prefix: self.prefix, bytes: self.key.len(), end }
    }

    fn prefix_of(key: &[u8]) -> u64 {
        let mut first = [0; 8];
        let len = key.len().min(first.len());
        first[..len].copy_from_slice(&key[..len]);
        u64::from_be_bytes(first)
    }
}

/// What tells most keys apart without looking at them: prefix, length and last eight bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    prefix: u64,
    bytes: usize,
    end: [u8; 8],
}

/// A node that is not freed during `'a`.
#[derive(Clone, Copy)]
pub(super) struct NodeRef<'a> {
    node: NonNull<Node>,
    life: PhantomData<&'a Node>,
}

/// A version that is not freed during `'a`.
#[derive(Clone, Copy)]
pub(super) struct VersionRef<'a> {
    version: NonNull<Version>,
    life: PhantomData<&'a Version>,
}

impl PartialEq for NodeRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.node == other.node
    }
}

impl PartialEq for VersionRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.version == other.version
    }
}

impl<'a> NodeRef<'a> {
    /// # Safety
    /// `node` came from [`Memory::node`] and is not freed during `'a`.
    pub(super) unsafe fn new(node: NonNull<Node>) -> Self {
        Self { node, life: PhantomData }
    }

    pub(super) fn pointer(self) -> NonNull<Node> {
        self.node
    }

    fn header(self) -> &'a Node {
        // SAFETY: the node lives during 'a and its header is initialised; all that changes in it is atomic.
        let header = unsafe { self.node.as_ref() };
        header.alive.read();
        header
    }

    fn tower(self, level: usize) -> &'a AtomicPtr<Node> {
        assert!(level < usize::from(self.header().height), "a tower is not taller than its node");
        // SAFETY: the tower begins behind the header and has `height` initialised pointers, `level` is one of them, and
        // the node's pointer was made for the whole allocation.
        unsafe { &*self.node.as_ptr().add(1).cast::<AtomicPtr<Node>>().add(level) }
    }

    pub(super) fn height(self) -> usize {
        usize::from(self.header().height)
    }

    pub(super) fn key(self) -> &'a [u8] {
        let header = self.header();
        // SAFETY: the key lies behind the tower, `key_bytes` long, and is never written again.
        unsafe {
            let key = self.node.as_ptr().add(1).cast::<AtomicPtr<Node>>().add(usize::from(header.height)).cast::<u8>();
            std::slice::from_raw_parts(key, header.key_bytes as usize)
        }
    }

    /// Whether its key comes before the wanted one.
    #[inline]
    pub(super) fn is_before(self, wanted: &Wanted<'_>) -> bool {
        let prefix = self.header().prefix;
        prefix < wanted.prefix || prefix == wanted.prefix && self.key() < wanted.key
    }

    /// Whether its key is the wanted one. Another one differs in its prefix as a rule, and its key is not looked at.
    pub(super) fn is(self, wanted: &Wanted<'_>) -> bool {
        self.header().prefix == wanted.prefix && self.key() == wanted.key
    }

    /// The next node on `level`. Acquire, partner of [`NodeRef::set_next`]: its header, tower and key are initialised.
    pub(super) fn next(self, level: usize) -> Option<NodeRef<'a>> {
        let next = NonNull::new(self.tower(level).load(Ordering::Acquire))?;
        // SAFETY: it is linked, so it lives as long as this one (module text).
        Some(unsafe { NodeRef::new(next) })
    }

    /// Asks the processor to fetch what a walk on `level` reads of the node: its header and one pointer of its tower,
    /// which lie in one cache line or two.
    pub(super) fn prefetch(self, level: usize) {
        let tower = self.node.as_ptr().wrapping_add(1).cast::<AtomicPtr<Node>>();
        prefetch(self.node.as_ptr().cast());
        prefetch(tower.wrapping_add(level).cast());
    }

    /// The same for what is read of the node that a walk ends at: its key, and the header of its newest version.
    pub(super) fn prefetch_found(self) {
        let header = self.header();
        let tower = self.node.as_ptr().wrapping_add(1).cast::<AtomicPtr<Node>>();
        prefetch(tower.wrapping_add(usize::from(header.height)).cast());
        prefetch(header.newest.load(Ordering::Relaxed).cast());
    }

    /// Writer only. Release, partner of [`NodeRef::next`]; also when a node is unlinked, because whoever loads this
    /// pointer may have loaded no other one to `next`.
    pub(super) fn set_next(self, level: usize, next: Option<NodeRef<'_>>) {
        self.tower(level).store(raw(next.map(|next| next.node)), Ordering::Release);
    }

    /// The newest version; None in the head only. Acquire, partner of [`NodeRef::set_newest`]: this version, and all
    /// older ones, are initialised.
    pub(super) fn newest(self) -> Option<VersionRef<'a>> {
        let newest = NonNull::new(self.header().newest.load(Ordering::Acquire))?;
        // SAFETY: it is linked, so it lives as long as the node does for us (module text).
        Some(unsafe { VersionRef::new(newest) })
    }

    /// Writer only. Release, partner of [`NodeRef::newest`].
    pub(super) fn set_newest(self, version: VersionRef<'_>) {
        self.header().newest.store(version.version.as_ptr(), Ordering::Release);
    }

    /// What the key is at `revision`: its newest version at or below it, unless that is a tombstone.
    pub(super) fn at(self, revision: u64) -> Option<VersionRef<'a>> {
        let mut version = self.newest();
        while let Some(newer) = version.filter(|version| version.revision() > revision) {
            version = newer.older();
        }
        version.filter(|version| !version.is_tombstone())
    }
}

impl<'a> VersionRef<'a> {
    /// # Safety
    /// `version` came from [`Memory::version`] and is not freed during `'a`.
    pub(super) unsafe fn new(version: NonNull<Version>) -> Self {
        Self { version, life: PhantomData }
    }

    pub(super) fn pointer(self) -> NonNull<Version> {
        self.version
    }

    fn header(self) -> &'a Version {
        // SAFETY: the version lives during 'a and is initialised; only `older` changes, and it is atomic.
        let header = unsafe { self.version.as_ref() };
        header.alive.read();
        header
    }

    pub(super) fn revision(self) -> u64 {
        self.header().revision
    }

    pub(super) fn is_tombstone(self) -> bool {
        self.header().version == 0
    }

    /// Bytes of its block.
    pub(super) fn bytes(self) -> usize {
        block_bytes(version_layout(self.header().value_bytes as usize).size())
    }

    /// The next older version that is still linked. Relaxed is enough: whoever holds this version got it through an
    /// acquire of `newest`, and every older one was initialised before that `newest` was stored; unlinking only ever
    /// replaces a version by an older one.
    pub(super) fn older(self) -> Option<VersionRef<'a>> {
        let older = NonNull::new(self.header().older.load(Ordering::Relaxed))?;
        // SAFETY: it is linked, so it lives as long as this one does for us (module text).
        Some(unsafe { VersionRef::new(older) })
    }

    /// Writer only: unlinks what was between. Relaxed, see [`VersionRef::older`].
    pub(super) fn set_older(self, older: Option<VersionRef<'_>>) {
        self.header().older.store(raw(older.map(|older| older.version)), Ordering::Relaxed);
    }

    pub(super) fn versioned(self) -> Versioned<'a> {
        let header = self.header();
        // SAFETY: the value lies behind the header, `value_bytes` long, and is never written again.
        let value = unsafe {
            std::slice::from_raw_parts(self.version.as_ptr().add(1).cast::<u8>(), header.value_bytes as usize)
        };
        Versioned {
            value,
            revision: Index(header.revision),
            create_revision: Index(header.create_revision),
            version: header.version,
        }
    }
}

#[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
pub(super) fn prefetch(address: *const i8) {
    // SAFETY: a hint; it faults on no address and changes nothing.
    unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address) }
}

#[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
pub(super) fn prefetch(_address: *const i8) {}

fn raw<T>(pointer: Option<NonNull<T>>) -> *mut T {
    pointer.map_or(ptr::null_mut(), NonNull::as_ptr)
}

fn node_layout(height: usize, key_bytes: usize) -> Layout {
    // The tower needs no padding: Node holds an AtomicPtr, so its size is a multiple of a pointer's alignment.
    let bytes = size_of::<Node>() + height * size_of::<AtomicPtr<Node>>() + key_bytes;
    Layout::from_size_align(bytes, align_of::<Node>()).expect("a key is far below isize::MAX")
}

fn version_layout(value_bytes: usize) -> Layout {
    Layout::from_size_align(size_of::<Version>() + value_bytes, align_of::<Version>())
        .expect("a value is far below isize::MAX")
}

/// Allocates and frees nodes and versions, and counts their bytes. The writer's own, or that of whoever frees its list.
pub(super) struct Memory {
    /// Of the blocks that are taken.
    bytes: usize,
    blocks: Blocks,
}

impl Default for Memory {
    fn default() -> Self {
        Self { bytes: 0, blocks: Blocks::new() }
    }
}

impl Memory {
    /// Bytes of the blocks that are taken and were not given back: what was asked for, rounded up to their classes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A node whose tower points to `next(level)`, not linked yet.
    pub(super) fn node<'n>(
        &mut self,
        key: &[u8],
        height: usize,
        newest: Option<NonNull<Version>>,
        next: impl Fn(usize) -> Option<NodeRef<'n>>,
    ) -> NonNull<Node> {
        let node = self.take(node_layout(height, key.len())).cast::<Node>();
        let header = Node {
            alive: Alive::new(),
            newest: AtomicPtr::new(raw(newest)),
            prefix: Wanted::prefix_of(key),
            key_bytes: u32::try_from(key.len()).expect("limits.rs bounds a key"),
            height: u8::try_from(height).expect("LEVELS fits"),
        };
        // SAFETY: the allocation is ours alone and as long as header, tower and key; each part is written where
        // `NodeRef` reads it, with the alignment that `node_layout` gave.
        unsafe {
            node.as_ptr().write(header);
            let tower = node.as_ptr().add(1).cast::<AtomicPtr<Node>>();
            for level in 0..height {
                tower.add(level).write(AtomicPtr::new(raw(next(level).map(NodeRef::pointer))));
            }
            ptr::copy_nonoverlapping(key.as_ptr(), tower.add(height).cast::<u8>(), key.len());
        }
        node
    }

    /// A version on top of `older`, not linked yet.
    pub(super) fn version(&mut self, new: &NewVersion<'_>, older: Option<NonNull<Version>>) -> NonNull<Version> {
        let version = self.take(version_layout(new.value.len())).cast::<Version>();
        let header = Version {
            alive: Alive::new(),
            revision: new.revision,
            create_revision: new.create_revision,
            version: new.version,
            older: AtomicPtr::new(raw(older)),
            value_bytes: u32::try_from(new.value.len()).expect("limits.rs bounds a value"),
        };
        // SAFETY: the allocation is ours alone and as long as header and value, in that order.
        unsafe {
            version.as_ptr().write(header);
            ptr::copy_nonoverlapping(new.value.as_ptr(), version.as_ptr().add(1).cast::<u8>(), new.value.len());
        }
        version
    }

    /// # Safety
    /// The node came from this `Memory`, is freed once, and nobody reads it now or later.
    pub(super) unsafe fn free_node(&mut self, node: NonNull<Node>) {
        // SAFETY: not freed before.
        let header = unsafe { node.as_ref() };
        let layout = node_layout(usize::from(header.height), header.key_bytes as usize);
        header.alive.end();
        // SAFETY: allocated with this layout; the caller vouches for the rest. Atomics need no drop.
        unsafe { self.give(node.cast(), layout) }
    }

    /// # Safety
    /// The version came from this `Memory`, is freed once, and nobody reads it now or later.
    pub(super) unsafe fn free_version(&mut self, version: NonNull<Version>) {
        // SAFETY: not freed before.
        let header = unsafe { version.as_ref() };
        let layout = version_layout(header.value_bytes as usize);
        header.alive.end();
        // SAFETY: allocated with this layout; the caller vouches for the rest.
        unsafe { self.give(version.cast(), layout) }
    }

    fn take(&mut self, layout: Layout) -> NonNull<u8> {
        self.bytes += block_bytes(layout.size());
        self.blocks.take(layout)
    }

    /// # Safety
    /// `memory` came from [`Memory::take`] with this layout and is used by nobody.
    unsafe fn give(&mut self, memory: NonNull<u8>, layout: Layout) {
        self.bytes -= block_bytes(layout.size());
        // SAFETY: passed on.
        unsafe { self.blocks.give(memory, layout) };
        self.blocks.trim(self.bytes);
    }
}
