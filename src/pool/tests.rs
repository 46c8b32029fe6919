#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "buffers change threads")]
use std::collections::VecDeque;

use bytes::Bytes;
use proptest::prelude::*;

use super::pages::SPAN_BYTES;
use super::*;
use crate::limits::{POOL_CLASS_BYTES, POOL_KEPT};
use crate::random::SplitMix64;

#[test]
fn an_exhausted_pool_says_so_and_recovers() {
    let pool = Pool::new(4 * POOL_CLASS_BYTES[0]);
    let mut buffers = pool.buffers();
    let mut out: Vec<BufMut> = (0..4).map(|_| buffers.take(1).expect("within the budget")).collect();
    assert!(buffers.take(1).is_none());
    assert_eq!(pool.used(), pool.budget());
    out.pop();
    assert!(buffers.take(1).is_some());
    assert!(buffers.take(POOL_CLASS_BYTES[3] + 1).is_none(), "no class is that large");
}

#[test]
fn kept_buffers_of_one_size_make_room_for_another() {
    let pool = Pool::new(POOL_CLASS_BYTES[1]);
    let mut buffers = pool.buffers();
    let small: Vec<BufMut> = (0..4).map(|_| buffers.take(1).expect("within the budget")).collect();
    drop(small);
    assert_eq!(pool.used(), 0);
    assert!(buffers.take(POOL_CLASS_BYTES[1] - 64).is_some());
    assert!(pool.allocated() <= pool.budget());
}

#[test]
fn slices_share_their_buffer_and_the_last_one_gives_it_back() {
    let pool = Pool::new(POOL_CLASS_BYTES[0]);
    let mut buffers = pool.buffers();
    let mut buffer = buffers.take(10).expect("within the budget");
    assert_eq!(buffer.fill(b"hello raftkv"), 12);
    buffer.consume(6);
    let buffer = buffer.freeze();
    assert_eq!(&*buffer, b"raftkv");
    let slice = buffer.slice(4..);
    drop(buffer);
    assert_eq!(pool.used(), POOL_CLASS_BYTES[0]);
    assert_eq!(slice.pinned(), POOL_CLASS_BYTES[0]);
    let bytes = Bytes::from(slice.slice(1..2));
    drop(slice);
    assert_eq!(&bytes[..], b"v");
    std::thread::spawn(move || drop(bytes)).join().expect("no panic");
    assert_eq!(pool.used(), 0);
}

#[test]
#[should_panic(expected = "inside of its buffer")]
fn a_slice_outside_is_refused() {
    let pool = Pool::new(POOL_CLASS_BYTES[0]);
    let mut buffers = pool.buffers();
    let buffer = buffers.take(1).expect("within the budget").freeze();
    let _ = buffer.slice(..1);
}

#[test]
fn a_thread_that_waits_keeps_nothing_from_the_others() {
    let pool = Pool::new(4 * POOL_CLASS_BYTES[0]);
    let (mut one, mut other) = (pool.buffers(), pool.buffers());
    let taken: Vec<BufMut> = (0..4).map(|_| one.take(1).expect("within the budget")).collect();
    taken.into_iter().for_each(|buffer| one.give(buffer));
    assert_eq!((pool.used(), pool.allocated()), (0, pool.budget()));
    assert!(other.take(1).is_none(), "a busy thread has them");
    one.rest();
    let taken: Vec<BufMut> = (0..4).map(|_| other.take(1).expect("given back")).collect();
    assert_eq!(pool.used(), pool.budget());
    drop(taken);
    other.settle();
    assert_eq!(pool.allocated(), pool.budget(), "it was asked for");
    other.settle();
    assert_eq!((pool.used(), pool.allocated()), (0, 0), "and then it was not");
}

/// A budget's worth of each size after the other: what lies idle of one is unmapped for the next, and all of it in the end.
#[test]
fn what_is_mapped_follows_what_is_given() {
    let pool = Pool::new(64 << 20);
    let mut buffers = pool.buffers();
    let most = pool.budget() * 8 / 7 + SPAN_BYTES; // seven of the third size fill a span, with an eighth left over
    for class in [3, 0, 1, 3, 2, 0, 3] {
        let held: Vec<BufMut> = std::iter::from_fn(|| buffers.take(POOL_CLASS_BYTES[class] - 64)).collect();
        assert!((pool.allocated()..=most).contains(&pool.mapped()), "class {class}: {} mapped", pool.mapped());
        drop(held);
    }
    buffers.settle();
    buffers.settle();
    assert_eq!((pool.allocated(), pool.mapped()), (0, 0));
}

/// Mixed sizes that come and go in any order, at the budget: half as much again is mapped, at most.
#[test]
fn mixed_sizes_scatter_within_bounds() {
    let pool = Pool::new(64 << 20);
    let mut buffers = pool.buffers();
    let (mut held, mut random, mut most) = (Vec::new(), SplitMix64::new(7), 0);
    for _ in 0..if cfg!(miri) { 200 } else { 100_000 } {
        let class = [0, 0, 0, 0, 1, 1, 2, 3][random.below(8) as usize];
        match buffers.take(POOL_CLASS_BYTES[class] - 64) {
            Some(buffer) => held.push(buffer),
            None => {
                (0..8.min(held.len())).for_each(|_| drop(held.swap_remove(random.below(held.len() as u64) as usize)))
            }
        }
        most = most.max(pool.mapped());
    }
    assert!(most <= pool.budget() * 3 / 2, "{most} mapped for {}", pool.budget());
}

#[test]
fn buffers_outlive_their_pool_and_those_who_took_them() {
    let pool = Pool::new(1 << 20);
    let mut buffers = pool.buffers();
    let mut written = buffers.take(10).expect("within the budget");
    written.fill(b"still here");
    let frozen = written.freeze();
    let kept = buffers.take(10).expect("within the budget");
    buffers.give(kept);
    drop((pool, buffers));
    let clone = frozen.slice(6..);
    drop(frozen);
    assert_eq!(std::thread::spawn(move || clone.to_vec()).join().expect("no panic"), b"here");
}

#[derive(Clone, Debug)]
enum Step {
    Take { thread: usize, bytes: usize },
    Freeze,
    Slice,
    Give { thread: usize },
    Drop,
    Rest { thread: usize },
    Trim { thread: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = prop_oneof![4 => 1..16_000usize, 2 => 1..70_000usize, 1 => 1..1_200_000usize];
    prop_oneof![
        6 => (0..2usize, bytes).prop_map(|(thread, bytes)| Step::Take { thread, bytes }),
        2 => Just(Step::Freeze),
        2 => Just(Step::Slice),
        3 => (0..2usize).prop_map(|thread| Step::Give { thread }),
        3 => Just(Step::Drop),
        1 => (0..2usize).prop_map(|thread| Step::Rest { thread }),
        1 => (0..2usize).prop_map(|thread| Step::Trim { thread }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]

    /// Whatever is taken and given back where: contents stay, the account is exact, the budget holds, nothing is lost.
    #[test]
    fn buffers_keep_their_contents_and_the_account_is_exact(steps in prop::collection::vec(step(), 1..200)) {
        let pool = Pool::new(4 << 20);
        let mut threads = [pool.buffers(), pool.buffers()];
        let mut written: VecDeque<(BufMut, u8)> = VecDeque::new();
        let mut frozen: VecDeque<(Buf, u8)> = VecDeque::new();
        let mut frozen_bytes: VecDeque<(Vec<Buf>, usize)> = VecDeque::new();
        for (mark, step) in steps.into_iter().enumerate() {
            let mark = mark as u8;
            match step {
                Step::Take { thread, bytes } => match threads[thread].take(bytes) {
                    Some(mut buffer) => {
                        prop_assert!(buffer.capacity() >= bytes && buffer.is_empty());
                        prop_assert_eq!(buffer.fill(&vec![mark; bytes]), bytes);
                        written.push_back((buffer, mark));
                    }
                    None => {
                        let most = POOL_CLASS_BYTES[3];
                        let busy: usize = (0..4).map(|class| POOL_KEPT[class] * POOL_CLASS_BYTES[class]).sum();
                        prop_assert!(bytes > most - 64 || pool.used() + busy + most > pool.budget());
                    }
                },
                Step::Freeze => if let Some((buffer, mark)) = written.pop_front() {
                    let pinned = buffer.capacity() + 64;
                    let buffer = buffer.freeze();
                    prop_assert_eq!(buffer.pinned(), pinned);
                    frozen_bytes.push_back((vec![buffer.clone()], pinned));
                    frozen.push_back((buffer, mark));
                },
                Step::Slice => if let (Some((buffer, mark)), Some((clones, _))) = (frozen.back(), frozen_bytes.back_mut()) {
                    let slice = buffer.slice(buffer.len() / 2..);
                    prop_assert!(slice.iter().all(|byte| byte == mark));
                    clones.push(slice);
                },
                Step::Give { thread } => if let Some((buffer, mark)) = written.pop_back() {
                    prop_assert!(buffer.iter().all(|&byte| byte == mark));
                    threads[thread].give(buffer);
                },
                Step::Drop => if let Some((buffer, mark)) = frozen.pop_front() {
                    prop_assert!(buffer.iter().all(|&byte| byte == mark));
                    drop(buffer);
                    frozen_bytes.pop_front();
                } else {
                    written.pop_front();
                },
                Step::Rest { thread } => threads[thread].rest(),
                Step::Trim { thread } => threads[thread].trim(),
            }
            let used: usize = written.iter().map(|(buffer, _)| buffer.capacity() + 64).sum::<usize>()
                + frozen_bytes.iter().map(|(_, pinned)| pinned).sum::<usize>();
            prop_assert_eq!(pool.used(), used);
            prop_assert!((used..=pool.budget()).contains(&pool.allocated()));
        }
        drop((written, frozen, frozen_bytes));
        threads.iter_mut().for_each(Buffers::trim);
        prop_assert_eq!((pool.used(), pool.allocated()), (0, 0));
    }
}

/// Taken on one thread, shared, and dropped on others: the normal case of a large command.
#[test]
fn buffers_go_round_between_threads() {
    let pool = Pool::new(64 * POOL_CLASS_BYTES[0]);
    let mut buffers = pool.buffers();
    let rounds = if cfg!(miri) { 50 } else { 20_000u32 };
    let channels: Vec<_> = (0..2).map(|_| std::sync::mpsc::sync_channel::<Buf>(8)).collect();
    let (to, others): (Vec<_>, Vec<_>) = channels.into_iter().unzip();
    let read = |from: std::sync::mpsc::Receiver<Buf>| {
        std::thread::spawn(move || from.iter().map(|buffer| u64::from(buffer[0]) + u64::from(buffer[3])).sum::<u64>())
    };
    let readers: Vec<_> = others.into_iter().map(read).collect();
    for round in 0..rounds {
        let mut buffer = buffers.take(100).expect("at most 18 are out");
        buffer.fill(&round.to_le_bytes());
        let buffer = buffer.freeze();
        to.iter().for_each(|to| to.send(buffer.clone()).expect("it listens"));
    }
    drop(to);
    let expected: u64 =
        (0..rounds).map(|round| u64::from(round.to_le_bytes()[0]) + u64::from(round.to_le_bytes()[3])).sum();
    readers.into_iter().for_each(|reader| assert_eq!(reader.join().expect("no panic"), expected));
    assert_eq!(pool.used(), 0);
    assert!(pool.allocated() <= 32 * POOL_CLASS_BYTES[0], "what comes back is used again");
}
