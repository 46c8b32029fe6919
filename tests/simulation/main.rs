//! A deterministic simulation of whole clusters: the real replica, log, state machine, codec and client machine, under a
//! virtual network, virtual disks and virtual time, in one thread.
//!
//! Every run follows from its seed. The tests run some short ones; `raftkv_sim.rs` is the same simulator as a command:
//!
//! ```text
//! cargo run --profile sim --example raftkv-sim -- --seed 7             one seed
//! cargo run --profile sim --example raftkv-sim -- --seeds 1000         so many fresh seeds, and a table of what they did
//! cargo run --profile sim --example raftkv-sim -- --minutes 5 --jobs 2
//! cargo run --profile sim --example raftkv-sim -- --beyond --seeds 100 more harm than is promised to be borne
//! ```
//!
//! That it can fail is shown by the hunt (`hunt.rs`, `tools/long bugs`): deliberate bugs that it has to find.

mod bulk;
#[path = "../linearizability/by_index.rs"]
mod by_index;
mod checks;
mod clients;
mod counters;
mod damage;
#[path = "../linearizability/history.rs"]
#[allow(dead_code, reason = "histories of other systems have more kinds of operations")]
mod history;
mod io_loop;
mod model;
#[path = "../linearizability/needed.rs"]
mod needed;
mod nemesis;
mod network;
mod node;
mod operation;
mod oracle;
mod phases;
mod profile;
mod promises;
mod queue;
mod random;
mod recorder;
mod runs;
mod scenario;
mod schedule;
#[cfg(feature = "sabotage")]
mod shrink;
mod trace;
mod transfers;
#[path = "../linearizability/wgl.rs"]
mod wgl;
mod wires;
mod workload;
mod world;

use std::sync::OnceLock;

use profile::Profile;
use runs::{run_all, run_scheduled, Plan};
use scenario::Scenario;

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
    let totals =
        run_all(Plan { first, seeds: Some(count), end: None, increments: None, jobs: 2, profile: Profile::short });
    println!("{totals}");
    assert!(totals.gaps().is_empty(), "{:?}", totals.gaps());
    let failures = totals.failures;
    assert!(failures.is_empty(), "{} of {count} seeds failed; the first: {}", failures.len(), failures[0]);
}

#[test]
fn beyond_the_promise_no_answer_is_wrong() {
    let count = number("RAFTKV_SEEDS").unwrap_or(SEEDS / 3);
    let first = number("RAFTKV_SEED").unwrap_or(0);
    let profile = Profile::short_beyond;
    let totals = run_all(Plan { first, seeds: Some(count), end: None, increments: None, jobs: 2, profile });
    println!("{totals}");
    let failures = totals.failures;
    assert!(failures.is_empty(), "{} of {count} seeds failed; the first: {}", failures.len(), failures[0]);
}

/// Copied, sent elsewhere, given up and asked about: in the end each counter is the sum of its increments.
#[test]
fn every_increment_counts_once() {
    let plan =
        Plan { first: 0, seeds: None, end: None, increments: Some(4_000), jobs: 2, profile: Profile::short_counting };
    let totals = run_all(plan);
    println!("{totals}");
    assert!(totals.failures.is_empty(), "the first: {}", totals.failures[0]);
}

#[test]
fn a_recorded_schedule_makes_the_same_run() {
    for seed in 0..5 {
        let profile = Profile::short(seed);
        let (drawn, schedule) = run_scheduled(profile.clone(), None);
        let text = Scenario { profile, schedule, bug: None }.to_string();
        let scenario = Scenario::parse(&text).expect("it is what was written");
        assert_eq!(scenario.to_string(), text);
        let (again, replayed) = run_scheduled(scenario.profile, Some(scenario.schedule.clone()));
        let (drawn, again) = (drawn.expect("the seed passes"), again.expect("and so does its replay"));
        assert_eq!(replayed, scenario.schedule, "seed {seed}");
        let counts = |summary: &runs::Summary| (summary.committed, summary.executed, summary.read, summary.unknown);
        assert_eq!(counts(&drawn), counts(&again), "seed {seed}");
    }
}

/// Shrunken failures of the past, and of deliberate bugs: none of them fails now, unless its bug is there.
#[test]
fn scenarios_and_their_sabotage() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/simulation/scenarios");
    let mut count = 0;
    for item in std::fs::read_dir(folder).expect("there are scenarios") {
        let path = item.expect("the folder can be listed").path();
        let text = std::fs::read_to_string(&path).expect("it can be read");
        let scenario = Scenario::parse(&text).unwrap_or_else(|line| panic!("{}: {line}", path.display()));
        let (result, _) = run_scheduled(scenario.profile.clone(), Some(scenario.schedule.clone()));
        result.unwrap_or_else(|line| panic!("{}: {line}", path.display()));
        #[cfg(feature = "sabotage")]
        if let Some(bug) = &scenario.bug {
            raftkv::sabotage::arm(Some(raftkv::sabotage::Bug::named(bug).expect("it is a bug")));
            let (result, _) = run_scheduled(scenario.profile, Some(scenario.schedule));
            raftkv::sabotage::arm(None);
            println!("{}: {}", path.display(), result.expect_err("its bug is there"));
        }
        count += 1;
    }
    assert!(count > 0);
}

#[cfg(feature = "sabotage")]
mod sabotage {
    use raftkv::sabotage::{arm, Bug};

    use super::*;
    use shrink::{invariant, shrink};

    #[test]
    fn sabotage_is_shrunk_to_a_few_faults() {
        let bug = Bug::ReadWithoutRound;
        arm(Some(bug));
        let profile = (0..100).map(Profile::short).find(|profile| runs::run(profile.clone()).is_err());
        let profile = profile.expect("a seed finds it");
        let (_, drawn) = run_scheduled(profile.clone(), None);
        let shrunk = shrink(profile, Some(bug.name().to_owned()), 300).expect("it fails again");
        println!(
            "{} of {} faults left, {} runs: {}",
            shrunk.scenario.schedule.len(),
            drawn.len(),
            shrunk.runs,
            shrunk.line
        );
        println!("{}", shrunk.scenario);
        let scenario = Scenario::parse(&shrunk.scenario.to_string()).expect("it is what was written");
        let (again, _) = run_scheduled(scenario.profile.clone(), Some(scenario.schedule.clone()));
        assert_eq!(invariant(&again.expect_err("it fails from its text")), invariant(&shrunk.line));
        assert!(scenario.schedule.len() <= 6, "{} faults are left of {}", scenario.schedule.len(), drawn.len());
        arm(None);
        let (honest, _) = run_scheduled(scenario.profile, Some(scenario.schedule));
        honest.expect("without the bug nothing is wrong");
    }
}
