//! Decoding allocates in proportion to the bytes that are there, whatever lengths and counts they claim. Alone in its
//! binary, because it counts what the whole process allocates.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{raw_frame, Sample};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use raftkv_protocol::kind::Kind;

/// The system's allocator, adding up what is asked of it.
struct Counting;

static ASKED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are the system allocator's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; the pointer came from `alloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that decoding this frame asks for, and whether it succeeded. The test's own sample types copy what decoding
/// borrows, which is in proportion too.
fn asked(frame: &[u8]) -> usize {
    let before = ASKED.load(Ordering::Relaxed);
    let received = Sample::receive(frame);
    let asked = ASKED.load(Ordering::Relaxed) - before;
    drop(received);
    asked
}

#[test]
fn lying_lengths_and_counts_cost_nothing() {
    let mut runner = TestRunner::deterministic();
    for &kind in Kind::ALL {
        for _ in 0..30 {
            let payload = Sample::any(kind).new_tree(&mut runner).unwrap().current().encode().split_off(16);
            for at in 0..payload.len().saturating_sub(3) {
                for lie in [u32::MAX, 0x7fff_ffff, 0x00ff_ffff, 0x0001_0000] {
                    let mut payload = payload.clone();
                    payload[at..at + 4].copy_from_slice(&lie.to_le_bytes());
                    let frame = raw_frame(kind as u8, kind.head_bytes(), &payload);
                    let asked = asked(&frame);
                    assert!(asked <= 16 * frame.len() + 1024, "{kind}, offset {at}: {asked} bytes for {}", frame.len());
                }
            }
        }
    }
}
