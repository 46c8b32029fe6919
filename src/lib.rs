//! raftkv: a strongly consistent, replicated key-value store on Raft.
//!
//! Layers, lowest first; nothing imports upward or sideways (`tests/layers.rs` checks it):
//!
//! ```text
//!  0  protocol                           nothing of ours
//!  1  limits, time, exit, marks, random  nothing
//!  1  sabotage                           nothing
//!  1  disk pool mailbox metrics logging  limits, time
//!  2  raft      protocol time limits
//!  2  kv        protocol pool limits
//!  2  wal       protocol disk limits
//!  2  net       protocol pool limits
//!  3  replica   raft kv protocol time limits
//!  3  snapshot  kv disk protocol limits
//!  4  server    everything above; it has no logic of its own
//!  5  main      config logging server, tools, bench
//! ```

#[cfg(all(feature = "sabotage", not(debug_assertions)))]
compile_error!(
    "the `sabotage` feature breaks promises on purpose and is for tests only: it cannot be built for release"
);

#[macro_use]
pub mod sabotage;

pub mod config;
pub mod disk;
pub mod exit;
pub mod kv;
pub mod limits;
pub mod logging;
pub mod mailbox;
pub mod marks;
pub mod metrics;
pub mod net;
pub mod pool;
pub mod raft;
pub mod random;
pub mod replica;
pub mod server;
pub mod snapshot;
pub mod time;
pub mod wal;
