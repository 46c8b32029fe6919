//! Blocks of a heap against a model; what comes back where; the bounds of what lies idle.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "blocks change threads")]

use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::mpsc;
use std::thread;

use proptest::prelude::*;

use super::class::{class_bytes, CLASSES, CLASS_BYTES_MAX};
use super::heap::{block_bytes, Cache, Heap, Levels};
use super::pages::SPAN_BYTES;

/// A block with the byte that all of it was filled with.
struct Filled {
    block: NonNull<u8>,
    bytes: usize,
    mark: u8,
}

// SAFETY: nobody else knows the block.
unsafe impl Send for Filled {}

impl Filled {
    fn take(cache: &mut Cache, bytes: usize, mark: u8) -> Option<Self> {
        let block = cache.alloc(bytes)?;
        assert_eq!(block.addr().get() % 8, 0);
        // SAFETY: the block is ours, and at least as long.
        unsafe { block.as_ptr().write_bytes(mark, bytes) };
        Some(Self { block, bytes, mark })
    }

    /// Nobody else wrote to it meanwhile.
    fn give(self, cache: &mut Cache) {
        // SAFETY: filled by `take`, ours until it is given back here.
        unsafe {
            let contents = std::slice::from_raw_parts(self.block.as_ptr(), self.bytes);
            assert!(contents.iter().all(|&byte| byte == self.mark), "a block was written to by another one's owner");
            cache.free(self.block, self.bytes);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Take {
        cache: usize,
        bytes: usize,
        count: usize,
    },
    /// Oldest or newest first.
    Give {
        cache: usize,
        count: usize,
        oldest: bool,
    },
    Trim {
        cache: usize,
    },
    Renew {
        cache: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bytes = prop_oneof![6 => 1..400usize, 3 => 1..20_000usize, 1 => 1..2 * CLASS_BYTES_MAX];
    let take = (0..2usize, bytes, 1..200usize).prop_map(|(cache, bytes, count)| {
        let count = count.min(400_000 / bytes).max(1);
        Step::Take { cache, bytes, count }
    });
    let give =
        (0..2usize, 1..300usize, any::<bool>()).prop_map(|(cache, count, oldest)| Step::Give { cache, count, oldest });
    let trim = (0..2usize).prop_map(|cache| Step::Trim { cache });
    let renew = (0..2usize).prop_map(|cache| Step::Renew { cache });
    prop::collection::vec(prop_oneof![8 => take, 8 => give, 1 => trim, 1 => renew], 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 128 }))]

    #[test]
    fn blocks_never_overlap_and_every_byte_is_counted_where_it_lies(steps in steps()) {
        let heap = Heap::new(usize::MAX);
        let mut caches = [heap.cache(), heap.cache()];
        let mut used: std::collections::VecDeque<Filled> = Default::default();
        for (mark, step) in steps.into_iter().enumerate() {
            match step {
                Step::Take { cache, bytes, count } => used.extend(
                    (0..count).map(|_| Filled::take(&mut caches[cache], bytes, mark as u8).expect("no limit"))
                ),
                Step::Give { cache, count, oldest } => for _ in 0..count {
                    let block = if oldest { used.pop_front() } else { used.pop_back() };
                    let Some(block) = block else { break };
                    block.give(&mut caches[cache]);
                },
                Step::Trim { cache } => caches[cache].trim(),
                Step::Renew { cache } => caches[cache] = heap.cache(),
            }
            let in_use: usize = used.iter().map(|filled| block_bytes(filled.bytes)).sum();
            let Levels { mapped, given, depot } = heap.levels();
            prop_assert_eq!(given, in_use + depot + caches.iter().map(Cache::bytes).sum::<usize>());
            prop_assert!(mapped >= given);
        }
        used.into_iter().for_each(|filled| filled.give(&mut caches[0]));
        drop(caches);
        heap.cache().trim();
        prop_assert_eq!(heap.levels(), Levels::default());
    }
}

/// The normal case of the server: one thread takes, another one gives back.
#[test]
fn blocks_go_back_on_another_thread() {
    let heap = Heap::new(usize::MAX);
    let rounds = if cfg!(miri) { 300 } else { 50_000 };
    let (to_other, blocks) = mpsc::sync_channel(1000);
    let mut cache = heap.cache();
    let mut others = heap.cache();
    let other = thread::spawn(move || blocks.into_iter().for_each(|filled: Filled| filled.give(&mut others)));
    let mut most = 0;
    for round in 0..rounds {
        let filled = Filled::take(&mut cache, 40 + round % 3 * 100, round as u8).expect("no limit");
        to_other.send(filled).expect("it listens");
        if round % 1000 == 0 {
            most = most.max(heap.levels().mapped);
        }
    }
    drop(to_other);
    other.join().expect("no panic");
    // At most 1,000 are on their way, and the depot hands them round: no more is mapped for more rounds.
    assert!(most <= SPAN_BYTES, "{most} bytes are mapped");
    drop(cache);
    heap.cache().trim();
    assert_eq!(heap.levels(), Levels::default());
}

#[test]
fn the_limit_is_exact_and_what_comes_back_can_be_had_again() {
    let heap = Heap::new(10 * class_bytes(4) + 300_000);
    let mut cache = heap.cache();
    let blocks: Vec<Filled> = std::iter::from_fn(|| Filled::take(&mut cache, class_bytes(4), 1)).take(10).collect();
    assert_eq!(blocks.len(), 10);
    // The cache holds a magazine full of small blocks.
    cache.trim();
    let large = Filled::take(&mut cache, 299_000, 2).expect("in whole pages it is below the limit");
    assert!(Filled::take(&mut cache, 299_000, 3).is_none());
    assert!(Filled::take(&mut cache, 4096, 3).is_none());
    large.give(&mut cache);
    Filled::take(&mut cache, 299_000, 4).expect("it came back").give(&mut cache);
    blocks.into_iter().for_each(|filled| filled.give(&mut cache));
    assert!(heap.levels().given <= 10 * class_bytes(4) + 300_000);
}

#[test]
fn spans_go_back_to_the_system_and_a_few_stay() {
    let heap = Heap::new(usize::MAX);
    let mut cache = heap.cache();
    let spans = if cfg!(miri) { 3 } else { 64 };
    let count = spans * SPAN_BYTES / 1024;
    let mut blocks: Vec<Filled> = (0..count).map(|_| Filled::take(&mut cache, 1024, 9).expect("no limit")).collect();
    let full = heap.levels().mapped;
    assert!((count * 1024..=count * 1024 / 100 * 102 + SPAN_BYTES).contains(&full), "{full} bytes are mapped");
    // Going up and down by a span's worth maps and unmaps nothing.
    for _ in 0..3 {
        let some = blocks.split_off(blocks.len() - SPAN_BYTES / 1024);
        some.into_iter().for_each(|filled| filled.give(&mut cache));
        assert_eq!(heap.levels().mapped, full);
        blocks.extend((0..SPAN_BYTES / 1024).map(|_| Filled::take(&mut cache, 1024, 8).expect("no limit")));
        assert!(heap.levels().mapped <= full);
    }
    blocks.into_iter().for_each(|filled| filled.give(&mut cache));
    drop(cache);
    // One idle span, and those that blocks in the depot lie in.
    let left = heap.levels();
    assert!(left.mapped <= 3 * SPAN_BYTES, "{left:?}");
    heap.cache().trim();
    assert_eq!(heap.levels(), Levels::default());
}

/// The keys and values of a store: what a span's description, and what is left over in slabs, come to.
#[test]
fn small_blocks_cost_little_more_than_themselves() {
    let heap = Heap::new(usize::MAX);
    let mut cache = heap.cache();
    let count: u64 = if cfg!(miri) { 1000 } else { 500_000 };
    let sizes = |number: u64| [40 + 8 * (number.trailing_ones() as usize / 2), 40 + 64];
    let blocks: Vec<Filled> =
        (0..count).flat_map(sizes).map(|bytes| Filled::take(&mut cache, bytes, 5).expect("no limit")).collect();
    let asked: usize = blocks.iter().map(|filled| filled.bytes).sum();
    let mapped = heap.levels().mapped;
    println!(
        "{:.1} bytes a key, {:.1} of them lost",
        mapped as f64 / count as f64,
        (mapped - asked) as f64 / count as f64
    );
    assert!(mapped < asked + asked / 50 + SPAN_BYTES, "{mapped} bytes are mapped for {asked}");
    blocks.into_iter().for_each(|filled| filled.give(&mut cache));
}

/// What one class took can be used by another.
#[test]
fn slabs_that_are_empty_serve_any_class() {
    let heap = Heap::new(usize::MAX);
    let mut cache = heap.cache();
    for class in 0..CLASSES {
        let bytes = class_bytes(class);
        let blocks: Vec<Filled> =
            (0..200_000 / bytes + 1).map(|_| Filled::take(&mut cache, bytes, class as u8).expect("no limit")).collect();
        blocks.into_iter().for_each(|filled| filled.give(&mut cache));
        cache.trim();
        assert_eq!(heap.levels().given, 0);
    }
    assert_eq!(heap.levels().mapped, 0);
}

/// Free pages are found again wherever they lie, also behind many spans whose pages are too few.
#[test]
fn pages_that_came_free_are_used_wherever_they_lie() {
    const SMALL: usize = 1024;
    const LARGE: usize = 4352;
    let heap = Heap::new(usize::MAX);
    let mut cache = heap.cache();
    let mut spans: BTreeMap<usize, BTreeMap<usize, Filled>> = BTreeMap::new();
    for _ in 0..60 * SPAN_BYTES / SMALL {
        let filled = Filled::take(&mut cache, SMALL, 3).expect("no limit");
        let address = filled.block.addr().get();
        spans.entry(address / SPAN_BYTES).or_default().insert(address, filled);
    }
    // A slab at the front of each comes free, in this order; too short for what follows.
    let slab_blocks = (spans.values().next().expect("a span").len() / 51).max(1);
    for blocks in spans.values_mut() {
        for _ in 0..slab_blocks {
            blocks.pop_first().expect("a full span").1.give(&mut cache);
        }
        cache.trim();
    }
    // All but one block of the first ones follow.
    let emptied = spans.len() - 20;
    for blocks in spans.values_mut().take(emptied) {
        while blocks.len() > 1 {
            blocks.pop_first().expect("several").1.give(&mut cache);
        }
    }
    cache.trim();
    let before = heap.levels().mapped;
    let large: Vec<Filled> = (0..(emptied / 2) * SPAN_BYTES / LARGE)
        .map(|_| Filled::take(&mut cache, LARGE, 4).expect("no limit"))
        .collect();
    let grown = (heap.levels().mapped - before) / SPAN_BYTES;
    assert!(grown <= 2, "{grown} spans were mapped beside {emptied} that are nearly empty");
    large.into_iter().for_each(|filled| filled.give(&mut cache));
    spans.into_values().flatten().for_each(|(_, filled)| filled.give(&mut cache));
}

#[test]
#[should_panic(expected = "bytes did not come back")]
fn a_lost_block_is_noticed_at_the_end() {
    let heap = Heap::new(usize::MAX);
    let _lost = heap.cache().alloc(100).expect("no limit");
    drop(heap);
}

#[test]
#[should_panic(expected = "was not given")]
fn a_block_that_comes_back_as_another_class_is_noticed() {
    let heap = Heap::new(usize::MAX);
    let mut cache = heap.cache();
    let block = cache.alloc(100).expect("no limit");
    // SAFETY: it is not used; the length is wrong on purpose, which the pages notice before they touch anything.
    unsafe { cache.free(block, 200) };
    cache.trim();
}
