//! Fingers: where the writer's walks begin.
//!
//! The upper levels of a list are a search tree whose nodes lie anywhere: most of a walk from the head is spent there, a
//! cache line and a branch for each of some twenty nodes. The writer, which alone links and unlinks, keeps the tall nodes
//! in order in an array of its own, beside the first bytes of their keys: a binary search in a few dense cache lines ends
//! at the last tall node before a key, and only the levels below are walked. Readers know nothing of it.

use std::alloc::Layout;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use super::blocks::Blocks;
use super::node::{prefetch, Node, NodeRef, Wanted};
use super::warm::LANES;
use crate::kv::sync::FINGER_HEIGHT;

/// Fingers of a chunk at most: it is an array in which one more moves half of the others.
pub(super) const CHUNK: usize = if cfg!(loom) { 2 } else { 31 };

const CACHE_LINE: usize = 64;

/// All linked nodes that are taller than [`FINGER_HEIGHT`], in the order of their keys.
pub(super) struct Fingers {
    /// [`Wanted::prefix`] of each chunk's first key.
    firsts: Vec<u64>,
    /// None is empty.
    chunks: Vec<Owned>,
    /// Where chunks lie: in huge pages once they are many, as the nodes.
    blocks: Blocks,
}

// SAFETY: it is read by whoever owns the list, and nothing in it is bound to a thread.
unsafe impl Send for Fingers {}

struct Chunk {
    len: usize,
    /// [`Wanted::prefix`] of the keys.
    prefixes: [u64; CHUNK],
    nodes: [NonNull<Node>; CHUNK],
    heights: [u8; CHUNK],
}

/// A chunk, initialised, in a block of its [`Fingers`], which alone have it.
struct Owned(NonNull<Chunk>);

/// Where a finger is, or would be.
struct Place {
    chunk: usize,
    at: usize,
}

impl Fingers {
    /// The last tall node before the wanted key; the head if there is none. `head` says that nothing that is linked is freed
    /// during `'a`.
    pub(super) fn before<'a>(&self, head: NodeRef<'a>, wanted: &Wanted<'_>) -> NodeRef<'a> {
        let Place { chunk, at } = self.place(wanted);
        if at == 0 {
            return head; // of the first chunk, or there is none
        }
        // SAFETY: a finger is of a linked node (`Fingers::insert`), and `head` vouches for those.
        unsafe { NodeRef::new(self.chunks[chunk].nodes[at - 1]) }
    }

    /// The same for several keys, at most [`LANES`], whose memory is fetched beside each other's: in place of heads.
    pub(super) fn before_each<'a>(&self, wanted: &[Wanted<'_>], heads: &mut [NodeRef<'a>]) {
        let mut chunks = [0; LANES];
        for (chunks, wanted) in chunks.iter_mut().zip(wanted) {
            *chunks = self.count_chunks_before(wanted);
            if let Some(chunk) = chunks.checked_sub(1) {
                self.chunks[chunk].prefetch();
            }
        }
        for ((node, wanted), chunks) in heads.iter_mut().zip(wanted).zip(chunks) {
            if let Some(chunk) = chunks.checked_sub(1) {
                let chunk = &self.chunks[chunk];
                // Its first one comes before the key, so there is one.
                let before = chunk.nodes[chunk.count_before(wanted) - 1];
                // SAFETY: a finger is of a linked node (`Fingers::insert`), and the head vouches for those.
                *node = unsafe { NodeRef::new(before) };
            }
        }
    }

    /// Adds a node, unless it is too short. It is not among them.
    ///
    /// # Safety
    /// The node is linked, and [`Fingers::remove`] is called before it is not.
    pub(super) unsafe fn insert(&mut self, node: NodeRef<'_>) {
        if node.height() <= FINGER_HEIGHT {
            return;
        }
        let wanted = Wanted::new(node.key());
        let mut place = self.place(&wanted);
        if self.chunks.is_empty() {
            let chunk = self.new_chunk(node.pointer());
            self.chunks.push(chunk);
            self.firsts.push(wanted.prefix());
        }
        if self.chunks[place.chunk].len == CHUNK {
            // Keys that come in ascending order leave full chunks behind them.
            let is_last = place.chunk + 1 == self.chunks.len() && place.at == CHUNK;
            let kept = if is_last { CHUNK } else { CHUNK / 2 };
            let mut rest = self.new_chunk(node.pointer());
            self.chunks[place.chunk].split_off(kept, &mut rest);
            self.firsts.insert(place.chunk + 1, rest.prefixes[0]);
            self.chunks.insert(place.chunk + 1, rest);
            if place.at > kept || is_last {
                place = Place { chunk: place.chunk + 1, at: place.at - kept };
            }
        }
        self.chunks[place.chunk].insert(place.at, wanted.prefix(), node);
        self.firsts[place.chunk] = self.chunks[place.chunk].prefixes[0];
    }

    /// Takes a node out, if it is tall enough to be among them.
    pub(super) fn remove(&mut self, node: NodeRef<'_>) {
        if node.height() <= FINGER_HEIGHT {
            return;
        }
        let mut place = self.place(&Wanted::new(node.key()));
        if self.chunks[place.chunk].len == place.at {
            place = Place { chunk: place.chunk + 1, at: 0 };
        }
        let chunk = &mut self.chunks[place.chunk];
        assert!(chunk.nodes[place.at] == node.pointer(), "each tall node has a finger");
        chunk.remove(place.at);
        if chunk.len == 0 {
            self.drop_chunk(place.chunk);
            return;
        }
        self.firsts[place.chunk] = chunk.prefixes[0];
        // Two that are nearly empty become one.
        self.join(place.chunk);
        if let Some(previous) = place.chunk.checked_sub(1) {
            self.join(previous);
        }
    }

    /// Takes the fingers of the next chunk over, if both are few.
    fn join(&mut self, chunk: usize) {
        let len = |chunk: usize| self.chunks.get(chunk).map_or(CHUNK, |chunk| chunk.len);
        if len(chunk) + len(chunk + 1) <= CHUNK / 4 {
            let (kept, gone) = self.chunks.split_at_mut(chunk + 1);
            kept[chunk].append(&gone[0]);
            self.drop_chunk(chunk + 1);
        }
    }

    /// Without fingers. `any` fills the places that are none.
    fn new_chunk(&mut self, any: NonNull<Node>) -> Owned {
        let chunk = self.blocks.take(Layout::new::<Chunk>()).cast::<Chunk>();
        let empty = Chunk { len: 0, prefixes: [0; CHUNK], nodes: [any; CHUNK], heights: [0; CHUNK] };
        // SAFETY: the block is ours alone, and as large and as aligned as a chunk.
        unsafe { chunk.as_ptr().write(empty) };
        Owned(chunk)
    }

    fn drop_chunk(&mut self, chunk: usize) {
        self.firsts.remove(chunk);
        let Owned(chunk) = self.chunks.remove(chunk);
        // SAFETY: it came from these blocks, and nobody has it any more; it needs no drop.
        unsafe { self.blocks.give(chunk.cast(), Layout::new::<Chunk>()) };
    }

    /// The last node before the wanted key on each level from [`FINGER_HEIGHT`] to below `levels`; the head where there is none.
    /// A walk back over the fingers: to the last one that is tall enough for a level it is four times as far as for the one below,
    /// and only a quarter as many nodes need it.
    pub(super) fn passed<'a>(
        &self,
        head: NodeRef<'a>,
        wanted: &Wanted<'_>,
        levels: usize,
        mut passed: impl FnMut(usize, NodeRef<'a>),
    ) {
        assert!(levels > FINGER_HEIGHT, "lower levels are walked");
        let mut level = FINGER_HEIGHT;
        let Place { chunk, at } = self.place(wanted);
        let before = self.chunks.iter().take(chunk + 1).enumerate().rev();
        for (number, fingers) in before {
            let end = if number == chunk { at } else { fingers.len };
            for position in (0..end).rev() {
                while usize::from(fingers.heights[position]) > level {
                    // SAFETY: a finger is of a linked node (`Fingers::insert`), and `head` vouches for those.
                    passed(level, unsafe { NodeRef::new(fingers.nodes[position]) });
                    level += 1;
                    if level == levels {
                        return;
                    }
                }
            }
        }
        (level..levels).for_each(|level| passed(level, head));
    }

    /// Behind all fingers before the wanted key: never at the start of a chunk, but of the first one.
    fn place(&self, wanted: &Wanted<'_>) -> Place {
        let chunks = self.count_chunks_before(wanted);
        let chunk = chunks.saturating_sub(1);
        let at = match chunks {
            0 => 0,
            _ => self.chunks[chunk].count_before(wanted),
        };
        Place { chunk, at }
    }

    /// Chunks whose first key comes before the wanted one.
    fn count_chunks_before(&self, wanted: &Wanted<'_>) -> usize {
        count_before(&self.firsts, |chunk| self.chunks[chunk].node(0), wanted)
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> Vec<Vec<u8>> {
        let chunks = self.chunks.iter().zip(&self.firsts);
        let nodes = chunks.flat_map(|(chunk, first)| {
            assert_eq!(chunk.prefixes[0], *first);
            (0..chunk.len).map(|at| (chunk.prefixes[at], chunk.node(at)))
        });
        nodes
            .map(|(prefix, node)| {
                assert_eq!(prefix, Wanted::new(node.key()).prefix());
                node.key().to_vec()
            })
            .collect()
    }

    #[cfg(test)]
    pub(super) fn chunks(&self) -> usize {
        self.chunks.len()
    }
}

impl Chunk {
    fn node(&self, at: usize) -> NodeRef<'_> {
        assert!(at < self.len, "what lies behind is no finger");
        // SAFETY: a finger is of a linked node (`Fingers::insert`). It is read in this module only, which frees nothing, and
        // the one who does, the writer, owns the fingers and is in here meanwhile.
        unsafe { NodeRef::new(self.nodes[at]) }
    }

    /// Asks the processor to fetch what a search looks at.
    fn prefetch(&self) {
        let from: *const Self = self;
        (0..size_of::<[u64; CHUNK]>() + size_of::<usize>()).step_by(CACHE_LINE).for_each(|at| {
            prefetch(from.cast::<i8>().wrapping_add(at));
        });
    }

    fn count_before(&self, wanted: &Wanted<'_>) -> usize {
        count_before(&self.prefixes[..self.len], |at| self.node(at), wanted)
    }

    fn insert(&mut self, at: usize, prefix: u64, node: NodeRef<'_>) {
        self.prefixes.copy_within(at..self.len, at + 1);
        self.nodes.copy_within(at..self.len, at + 1);
        self.heights.copy_within(at..self.len, at + 1);
        let height = u8::try_from(node.height()).expect("LEVELS fits");
        (self.prefixes[at], self.nodes[at], self.heights[at]) = (prefix, node.pointer(), height);
        self.len += 1;
    }

    fn remove(&mut self, at: usize) {
        self.prefixes.copy_within(at + 1..self.len, at);
        self.nodes.copy_within(at + 1..self.len, at);
        self.heights.copy_within(at + 1..self.len, at);
        self.len -= 1;
    }

    /// Moves what is behind `kept` to `rest`, which is empty.
    fn split_off(&mut self, kept: usize, rest: &mut Self) {
        rest.append_from(self, kept);
        self.len = kept;
    }

    fn append(&mut self, other: &Self) {
        self.append_from(other, 0);
    }

    fn append_from(&mut self, other: &Self, first: usize) {
        let len = self.len + other.len - first;
        self.prefixes[self.len..len].copy_from_slice(&other.prefixes[first..other.len]);
        self.nodes[self.len..len].copy_from_slice(&other.nodes[first..other.len]);
        self.heights[self.len..len].copy_from_slice(&other.heights[first..other.len]);
        self.len = len;
    }
}

impl Default for Fingers {
    fn default() -> Self {
        Self { firsts: Vec::new(), chunks: Vec::new(), blocks: Blocks::new() }
    }
}

impl Drop for Fingers {
    fn drop(&mut self) {
        for Owned(chunk) in self.chunks.drain(..) {
            // SAFETY: as in `drop_chunk`.
            unsafe { self.blocks.give(chunk.cast(), Layout::new::<Chunk>()) };
        }
    }
}

impl Deref for Owned {
    type Target = Chunk;

    fn deref(&self) -> &Chunk {
        // SAFETY: initialised, and this one's alone until it is given back.
        unsafe { self.0.as_ref() }
    }
}

impl DerefMut for Owned {
    fn deref_mut(&mut self) -> &mut Chunk {
        // SAFETY: as above.
        unsafe { self.0.as_mut() }
    }
}

/// How many keys come before the wanted one: their prefixes are there, in order, and a key is looked at only where those are
/// equal.
fn count_before<'a>(prefixes: &[u64], node: impl Fn(usize) -> NodeRef<'a>, wanted: &Wanted<'_>) -> usize {
    let below = prefixes.partition_point(|prefix| *prefix < wanted.prefix());
    if prefixes.get(below) != Some(&wanted.prefix()) {
        return below;
    }
    let (mut from, mut to) = (below, prefixes.partition_point(|prefix| *prefix <= wanted.prefix()));
    while from < to {
        let middle = from.midpoint(to);
        if node(middle).key() < wanted.key() {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    from
}
