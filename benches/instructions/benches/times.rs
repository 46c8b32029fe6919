//! The hot path's parts in time.
//!
//! ```text
//! cargo bench --package raftkv-instructions              all; with a part of a name behind `--`: those
//! ```
//!
//! A sample makes a part ready, does it as often as the larger number of its case, and takes it down; only the middle counts. The throughput
//! that is printed is that of single times.

use divan::counter::ItemsCount;
use raftkv_instructions::{Case, CASES};

fn main() {
    divan::main();
}

/// With a name that can be printed.
struct Named(Case);

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.name)
    }
}

#[divan::bench(args = CASES.map(Named), sample_count = 30, sample_size = 1)]
fn part(bencher: divan::Bencher<'_, '_>, Named(case): &Named) {
    let times = case.times[1];
    bencher.counter(ItemsCount::new(times)).with_inputs(case.ready).bench_local_refs(|run| run(times));
}
