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
//! What it is worth, tried by hand with 120 seeds for each change. Found: a vote that leaves before it is durable; commit not
//! clamped to what was matched, and match not to this term (C-11); a leader that counts itself before its sync; completions
//! that count whatever was handed over (C-10); reads without a round, before an own entry is committed, or before they are
//! applied (C-18); votes for a shorter log; a stale append that truncates; 503 at step-down (C-23); a credit returned twice
//! (C-26). Not found: entries of older terms committed by counting (paper figure 8; the scenarios cover it, T-31).

mod bulk;
mod checks;
mod clients;
mod io_loop;
mod model;
mod nemesis;
mod network;
mod node;
mod oracle;
mod phases;
mod profile;
mod queue;
mod random;
mod runs;
mod trace;
mod transfers;
mod wires;
mod world;

use std::sync::OnceLock;

use profile::Profile;
#[cfg(feature = "sabotage")]
use runs::run;
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

/// The simulator must see what it is for: it finds each broken promise within a few seeds.
#[cfg(feature = "sabotage")]
mod sabotage {
    use super::*;
    use raftkv::sabotage::{arm, Bug};
    use raftkv::time::Span;

    const SEEDS_AT_MOST: u64 = 40;

    fn find(bug: Bug) {
        arm(Some(bug));
        let line = (0..SEEDS_AT_MOST).find_map(|seed| {
            let drawn = Profile::short(seed);
            // Power cuts are where these two differ from an honest node.
            let profile = Profile {
                nodes: 3,
                power_cuts: true,
                all_at_once: true,
                turmoil: Span::secs(10),
                fault_every: Span::millis(500),
                ..drawn
            };
            run(profile).err()
        });
        // Found by what it breaks, not by an assertion of the sabotaged code.
        let line = line.expect("a violation is found");
        assert!(!line.contains("no assertion fails"), "{line}");
        println!("{line}");
    }

    #[test]
    fn sabotage_dropped_sync_is_found() {
        find(Bug::DroppedSync);
    }

    #[test]
    fn sabotage_answer_before_sync_is_found() {
        find(Bug::AnswerBeforeSync);
    }
}
