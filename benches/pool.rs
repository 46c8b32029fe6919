//! Memory as a server uses it: one thread allocates, another one frees. Blocks of the sizes of nodes, versions and small
//! commands, in batches of 64, over the ring of a mailbox; first from a heap's caches, then from the process's allocator
//! (preload another one to measure that: `LD_PRELOAD=libjemalloc.so.2`).
//!
//! ```text
//! cargo bench --bench pool
//! ```
//!
//! Nanoseconds of processor time of both threads per block, allocated, written to and freed; medians of five alternated
//! rounds. An empty row, which only hands the batches over, is to be taken off.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "a benchmark has threads and a clock")]

use std::alloc::{alloc, dealloc, Layout};
use std::ptr::NonNull;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use raftkv::pool::{Cache, Heap};

const BLOCKS: usize = 4_000_000;
const BATCH: usize = 64;
/// Batches on their way, at most.
const TRAVELLING: usize = 64;
const ROUNDS: usize = 5;
const SIZES: [usize; 8] = [40, 48, 104, 296, 40, 104, 552, 1064];

/// Blocks with their sizes, on their way to who frees them.
struct Batch(Vec<(NonNull<u8>, usize)>);

// SAFETY: the blocks are the batch's alone.
unsafe impl Send for Batch {}

/// Where blocks come from and go to, for one thread.
trait Memory: Send + 'static {
    fn take(&mut self, bytes: usize) -> NonNull<u8>;
    /// # Safety
    /// `block` came from the other thread's `take` for as many bytes.
    unsafe fn give(&mut self, block: NonNull<u8>, bytes: usize);
}

struct Nothing;

struct System;

impl Memory for Nothing {
    fn take(&mut self, _bytes: usize) -> NonNull<u8> {
        NonNull::dangling()
    }
    unsafe fn give(&mut self, _block: NonNull<u8>, _bytes: usize) {}
}

impl Memory for System {
    fn take(&mut self, bytes: usize) -> NonNull<u8> {
        // SAFETY: no size is 0.
        touched(NonNull::new(unsafe { alloc(layout(bytes)) }).expect("there is memory"))
    }
    unsafe fn give(&mut self, block: NonNull<u8>, bytes: usize) {
        // SAFETY: the caller's promise.
        unsafe { dealloc(block.as_ptr(), layout(bytes)) }
    }
}

impl Memory for Cache {
    fn take(&mut self, bytes: usize) -> NonNull<u8> {
        touched(self.alloc(bytes).expect("there is memory"))
    }
    unsafe fn give(&mut self, block: NonNull<u8>, bytes: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.free(block, bytes) }
    }
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, 8).expect("small")
}

fn touched(block: NonNull<u8>) -> NonNull<u8> {
    // SAFETY: a block of at least eight bytes, ours.
    unsafe { block.cast::<u64>().write(7) };
    block
}

fn main() {
    let mut rows = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        let heap = Heap::new(usize::MAX);
        rows[0].push(round(Nothing, Nothing));
        rows[1].push(round(heap.cache(), heap.cache()));
        rows[2].push(round(System, System));
    }
    for (name, mut row) in ["handing over", "caches of a heap", "the process's allocator"].into_iter().zip(rows) {
        row.sort_unstable();
        println!(
            "{name:24} {:>5.1} ns, from {:.1} to {:.1}",
            row[ROUNDS / 2] as f64 / 10.0,
            row[0] as f64 / 10.0,
            row[ROUNDS - 1] as f64 / 10.0
        );
    }
}

/// Tenths of a nanosecond per block.
fn round(mut takes: impl Memory, mut gives: impl Memory) -> u64 {
    let (full, filled) = mpsc::sync_channel::<Batch>(TRAVELLING);
    let (empty, emptied) = mpsc::sync_channel::<Batch>(TRAVELLING + 2);
    (0..TRAVELLING).for_each(|_| empty.send(Batch(Vec::with_capacity(BATCH))).expect("it has room"));
    let before = processor_time();
    let freeing = thread::spawn(move || {
        for mut batch in filled {
            // SAFETY: taken by the other thread's memory for as many bytes.
            batch.0.drain(..).for_each(|(block, bytes)| unsafe { gives.give(block, bytes) });
            if empty.send(batch).is_err() {
                return;
            }
        }
    });
    for batch in 0..BLOCKS / BATCH {
        let mut travelling = emptied.recv().expect("it comes back");
        travelling.0.extend((0..BATCH).map(|block| {
            let bytes = SIZES[(batch + block) % SIZES.len()];
            (takes.take(bytes), bytes)
        }));
        full.send(travelling).expect("it listens");
    }
    drop(full);
    freeing.join().expect("no panic");
    (processor_time() - before).as_nanos() as u64 * 10 / BLOCKS as u64
}

/// What all threads have used.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists, and `time` is where the call writes.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    assert_eq!(failed, 0, "a process has a clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
