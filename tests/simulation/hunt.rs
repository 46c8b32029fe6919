//! The hunt for deliberate bugs (`sabotage.rs`): what shows that the simulator can fail.
//!
//! A bug is *found* if fresh seeds of the one default profile violate an invariant, in each of several disjoint ranges, while
//! the same seeds are clean without the bug. There is no seed list, profile or scenario for any bug.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use raftkv::sabotage::{self, Bug};

use crate::profile::Profile;
use crate::runs::run;

/// Ranges lie so far apart that none reaches the next.
const RANGE_SEEDS: u64 = 1 << 24;
const BEGIN: &str = "<!-- hunt: begin -->\n";
const END: &str = "<!-- hunt: end -->\n";
const HEAD: &str =
    "| bug | what it breaks | found | seeds: median, worst | seconds: median, worst | caught by | replay | src |\n\
                    |---|---|---|---|---|---|---|---|\n";

/// Why the simulator does not find a bug, and what does.
const ELSEWHERE: &[(Bug, &str)] = &[
    (Bug::OneCopyMeta, "one file must rot before the next store; `src/wal/tests/meta_rules.rs`"),
    (
        Bug::TornBodyAccepted,
        "a body longer than a sector, torn and not cut before; `t95_torn_tail_each_subset_of_sectors`",
    ),
    (Bug::DamageIsCut, "the log must rot where nothing was replaced; `t95_damage_below_the_watermark_is_refused`"),
    (
        Bug::CompactedToNewest,
        "the newest of two snapshots must rot and be read again; `c05_a_rotten_newest_snapshot_costs_nothing`",
    ),
    (
        Bug::ConflictSurvivesInstall,
        "a deposed leader's tail must reach beyond a snapshot of the others; `t82_snapshot_to_a_lagging_or_conflicting_follower`",
    ),
    (
        Bug::HoleSkipped,
        "behind a torn end there is no whole Batch: one group is written at a time, and replay compares a Batch with what it follows",
    ),
    (
        Bug::ConflictSurvivesStart,
        "the power must go between an installed snapshot and the log's restart behind it; \
         `c5_a_log_that_conflicts_or_ends_earlier_is_dropped_*`",
    ),
    (Bug::ReadByOldRound, "one read per lost leader is wrong; `t69_rounds_of_an_earlier_term_do_not_confirm`"),
    (
        Bug::ReplyByIndexOnly,
        "replaced and committed in one step; `c23_another_terms_entry_at_the_index_means_not_executed`",
    ),
    (
        Bug::SecondFormatTaken,
        "a second Format only exists where another rule was broken before; \
         `c17_a_format_is_taken_only_from_a_current_connection_*`",
    ),
    (Bug::IncarnationIgnored, "a disk must be replaced; `a_replaced_disk_is_refused_until_a_membership_change`"),
];

/// What to hunt, and how long.
pub struct Hunt {
    pub bugs: Vec<Bug>,
    pub first_seed: u64,
    pub ranges: usize,
    /// Processor time of one thread for one range.
    pub dose: Duration,
    pub jobs: u64,
    pub profile: fn(u64) -> Profile,
    /// The file whose table gets the rows; those of the current sources stay and are not hunted again.
    pub report: Option<PathBuf>,
}

/// What became of one range.
enum Catch {
    /// The failing seed, the invariant, how many seeds it took and how long; the others and itself are clean without the bug.
    Found {
        seed: u64,
        invariant: String,
        seeds: u64,
        took: Duration,
    },
    NotFound {
        seeds: u64,
    },
    /// A seed fails without the bug, too.
    Unclean(String),
}

struct Task {
    bug: Bug,
    first: u64,
}

struct Hunted {
    bug: Bug,
    catches: Vec<Catch>,
}

impl Hunt {
    /// Hunts all; true if each bug was found in each range.
    pub fn run(mut self) -> bool {
        let sources = sources();
        if let Some(report) = &self.report {
            let text = std::fs::read_to_string(report).expect("the report can be read");
            self.bugs.retain(|bug| {
                !text.lines().any(|line| is_row(line, *bug) && line.ends_with(&format!("| {sources} |")))
            });
        }
        let ranges = self.bugs.iter().flat_map(|bug| std::iter::repeat_n(*bug, self.ranges));
        let tasks = ranges.zip(0..).map(|(bug, place)| Task { bug, first: self.first_seed + place * RANGE_SEEDS });
        let tasks = Mutex::new(tasks);
        let done: Mutex<Vec<Hunted>> = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..self.jobs {
                scope.spawn(|| loop {
                    let Some(task) = tasks.lock().expect("no thread panics").next() else { return };
                    let catch = self.range(&task);
                    self.note(&mut done.lock().expect("no thread panics"), task.bug, catch, &sources);
                });
            }
        });
        let done = done.into_inner().expect("no thread panics");
        done.iter().all(|hunted| hunted.catches.iter().all(|catch| matches!(catch, Catch::Found { .. })))
    }

    fn range(&self, task: &Task) -> Catch {
        let began = processor_time();
        let mut seeds = 0;
        let failure = loop {
            if processor_time() - began > self.dose {
                return Catch::NotFound { seeds };
            }
            let seed = task.first + seeds;
            seeds += 1;
            if let Err(line) = with(task.bug, || run((self.profile)(seed))) {
                break (seed, line);
            }
        };
        let took = processor_time() - began;
        let clean = (task.first..task.first + seeds).try_for_each(|seed| run((self.profile)(seed)).map(drop));
        match clean {
            Ok(()) => Catch::Found { seed: failure.0, invariant: invariant(&failure.1), seeds, took },
            Err(line) => Catch::Unclean(line),
        }
    }

    /// Notes a range; the last of its bug is told, and written to the report.
    fn note(&self, done: &mut Vec<Hunted>, bug: Bug, catch: Catch, sources: &str) {
        let place = done.iter().position(|hunted| hunted.bug == bug).unwrap_or(done.len());
        if place == done.len() {
            done.push(Hunted { bug, catches: Vec::new() });
        }
        let hunted = &mut done[place];
        hunted.catches.push(catch);
        if hunted.catches.len() < self.ranges {
            return;
        }
        let row = hunted.row(sources);
        print!("{row}");
        if let Some(report) = &self.report {
            let text = std::fs::read_to_string(report).expect("the report can be read");
            std::fs::write(report, with_row(&text, bug, &row)).expect("the report can be written");
        }
    }
}

impl Hunted {
    /// One line of the table.
    fn row(&self, sources: &str) -> String {
        let (mut seeds, mut took, mut by, mut replay, mut missed) = (Vec::new(), Vec::new(), Vec::new(), None, 0);
        for catch in &self.catches {
            match catch {
                Catch::Found { seed, invariant, seeds: needed, took: needed_time } => {
                    seeds.push(*needed);
                    took.push(needed_time.as_secs());
                    if !by.contains(invariant) {
                        by.push(invariant.clone());
                    }
                    replay = replay.or(Some(*seed));
                }
                Catch::NotFound { seeds } => missed += seeds,
                Catch::Unclean(line) => by.push(format!("FAILS WITHOUT THE BUG: {line}")),
            }
        }
        let found = seeds.len();
        if missed > 0 {
            let elsewhere = ELSEWHERE.iter().find(|(bug, _)| *bug == self.bug).map(|(_, why)| format!(": {why}"));
            by.push(format!("missed in {missed} seeds{}", elsewhere.unwrap_or_default()));
        }
        let (seeds, took) = (median_and_worst(seeds), median_and_worst(took));
        let replay = replay.map_or_else(|| "-".to_owned(), |seed| seed.to_string());
        format!(
            "| {} | {} | {found} of {} | {seeds} | {took} | {} | {replay} | {sources} |\n",
            self.bug.name(),
            self.bug.breaks(),
            self.catches.len(),
            by.join("; ")
        )
    }
}

fn median_and_worst(mut numbers: Vec<u64>) -> String {
    numbers.sort_unstable();
    match numbers.last() {
        Some(worst) => format!("{}, {worst}", numbers[numbers.len() / 2]),
        None => "-".to_owned(),
    }
}

/// Arms a bug in the whole process.
pub fn arm_everywhere(bug: Bug) {
    sabotage::arm_everywhere(bug);
    client::sabotage::arm_everywhere(bug == Bug::UncertainIsDefinite);
}

/// Runs it with a bug armed in this thread.
fn with<T>(bug: Bug, run: impl FnOnce() -> T) -> T {
    sabotage::arm(Some(bug));
    client::sabotage::arm(bug == Bug::UncertainIsDefinite);
    let result = run();
    sabotage::arm(None);
    client::sabotage::arm(false);
    result
}

/// The invariant that a failure's line names; of an assertion, where it stands.
fn invariant(line: &str) -> String {
    let named = line.split_once("invariant=\"").and_then(|(_, rest)| rest.split_once('"'));
    match named {
        Some(("no assertion fails", rest)) => {
            let place = rest.split_once("; replay").and_then(|(words, _)| words.rsplit_once(" at ")).map(|(_, at)| at);
            format!("assertion at {}", place.unwrap_or("an unknown place"))
        }
        Some((name, _)) => name.to_owned(),
        None => line.replace('|', "/"),
    }
}

fn is_row(line: &str, bug: Bug) -> bool {
    line.starts_with(&format!("| {} |", bug.name()))
}

/// The text with this row in its table, in the order of the bugs; the table is made if there is none.
fn with_row(text: &str, bug: Bug, row: &str) -> String {
    let (before, rest) = text.split_once(BEGIN).unwrap_or((text, ""));
    let (table, after) = rest.split_once(END).unwrap_or(("", ""));
    let mut new = String::from(before);
    let _ = write!(new, "{BEGIN}{HEAD}");
    for known in Bug::ALL {
        let old = table.lines().find(|line| is_row(line, *known)).map(|line| format!("{line}\n"));
        new.push_str(&if *known == bug { row.to_owned() } else { old.unwrap_or_default() });
    }
    new + END + after
}

/// Of this thread: what a search takes does not depend on what else the machine does.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells it");
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("the first number is the time on a processor"))
}

/// What was hunted in: the tree of the sources, as git names it.
fn sources() -> String {
    let output = std::process::Command::new("git").args(["rev-parse", "--short=7", "HEAD:src"]).output();
    output.map_or_else(|_| "unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
