//! A deterministic simulation of whole clusters: the real replica, log, state machine, codec and client machine, under a
//! virtual network, virtual disks and virtual time, in one thread.
//!
//! Every run follows from its seed. The tests run some short ones; `raftkv_sim.rs` is the same simulator as a command:
//!
//! ```text
//! cargo run --profile sim --example raftkv-sim -- --seed 7             one seed
//! cargo run --profile sim --example raftkv-sim -- --seeds 1000         so many fresh seeds, and a table of what they did
//! cargo run --profile sim --example raftkv-sim -- --minutes 5 --jobs 2
//! ```
//!
//! That it can fail is shown by the hunt (`hunt.rs`, `tools/long bugs`): deliberate bugs that it has to find.

mod bulk;
#[path = "../linearizability/by_index.rs"]
mod by_index;
mod checks;
mod clients;
#[path = "../linearizability/history.rs"]
#[allow(dead_code, reason = "histories of other systems have more kinds of operations")]
mod history;
mod io_loop;
mod model;
mod nemesis;
mod network;
mod node;
mod oracle;
mod phases;
mod profile;
mod promises;
mod queue;
mod random;
mod recorder;
mod runs;
mod trace;
mod transfers;
#[path = "../linearizability/wgl.rs"]
mod wgl;
mod wires;
mod world;

use std::sync::OnceLock;

use profile::Profile;
use runs::{run_all, Plan};

/// Seeds that always run.
const SEEDS: u64 = 60;

fn verbose() -> bool {
    static VERBOSE: OnceLock<bool> = OnceLock::new();
    *VERBOSE.get_or_init(|| std::env::var_os("RAFTKV_VERBOSE").is_some())
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

#[test]
fn seeds() {
    let first = number("RAFTKV_SEED");
    let count = number("RAFTKV_SEEDS").unwrap_or(if first.is_some() { 1 } else { SEEDS });
    let first = first.unwrap_or(0);
    let totals = run_all(Plan { first, seeds: Some(count), end: None, jobs: 2, profile: Profile::short });
    println!("{totals}");
    assert!(totals.gaps().is_empty(), "{:?}", totals.gaps());
    let failures = totals.failures;
    assert!(failures.is_empty(), "{} of {count} seeds failed; the first: {}", failures.len(), failures[0]);
}
