//! Memory in levels, each with its exact account: [`Heap`] gives raw blocks of any size, [`Pool`] buffers.
//!
//! ```text
//!     of a heap                                     of a pool of buffers
//!  1  Cache: its owner's magazines, two per class   Buffers: a few buffers of its thread      no atomics, no lock
//!  2  depot: full magazines for empty ones          lists of what came back, taken whole      one exchange
//!  3  pages: slabs of blocks in spans from the system                                         a mutex, seldom
//! ```
//!
//! A [`Pool`] has buffers of a few sizes with a budget in bytes. What is out is counted exactly; a pool that is exhausted
//! says so, and its caller leaves the socket unread. Each thread takes from [`Buffers`] of its own, and gives back there
//! what it has itself; dropping a buffer gives it back from any thread.
//!
//! A [`BufMut`] has one owner and is written; [`BufMut::freeze`] makes it a [`Buf`], which is shared, sliced and read,
//! and goes back when its last clone is dropped, on whatever thread that is.
//!
//! A growing heap takes spans that a thread of the server has touched before ([`keep_spans_ahead`]).
//!
//! The feature `global-memory` makes a build for comparisons, never shipped: every block of all levels is then one of the
//! global allocator (`tools/long pool`).

#[cfg(not(feature = "global-memory"))]
mod ahead;
mod buf;
mod buffers;
#[cfg(not(feature = "global-memory"))]
mod class;
#[cfg(not(feature = "global-memory"))]
mod depot;
#[cfg_attr(feature = "global-memory", path = "global_heap.rs")]
mod heap;
#[cfg_attr(feature = "global-memory", path = "global_pages.rs")]
mod pages;
mod returned;
mod sync;
#[cfg(not(feature = "global-memory"))]
mod system;

#[cfg(not(feature = "global-memory"))]
pub use ahead::{keep_spans_ahead, spans_ahead, SpansAhead};
pub use buf::{Buf, BufMut};
pub use buffers::{Buffers, Pool};
#[cfg(not(feature = "global-memory"))]
pub use heap::Levels;
pub use heap::{block_bytes, Cache, Heap};

#[cfg(all(test, not(loom), not(feature = "global-memory")))]
mod heap_tests;
#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom), not(feature = "global-memory")))]
mod tests;
