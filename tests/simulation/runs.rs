//! Running seeds: one, many, for a while; what they amount to, and the line that says what went wrong.
#![allow(clippy::disallowed_types, reason = "how long real runs take is told, and bounded")]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{catch_unwind, set_hook, take_hook, AssertUnwindSafe};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use raftkv::time::Span;

use crate::profile::Profile;
use crate::schedule::{take_recorded, ScheduledFault};
use crate::trace::Trace;
use crate::world::{World, WHERE};

/// One seed in so many is run twice, and must be the same run.
const TWICE_EVERY: u64 = 50;
/// What a seed must have done to count.
const SAFETY_MIN: Span = Span::secs(120);
pub const COMPLETED_MIN: u64 = 2_000;
/// So many per mille of the seeds of a long run must count, and so many must have all of the [`Features`].
const DOSE_PERMILLE_MIN: u64 = 800;
const COUNTED: &str = "2,000 operations in at least 120 s of faults";
const ALL_FEATURES: &str = "all five of these";
/// A run of so many seeds is long: every mark must have been hit, every feature be common.
const LONG_RUN: u64 = 1_000;

/// Rare paths that a long run must take, in the sources (`mark!`) and in the simulator.
const MARKS: &[&str] = &[
    "kv: view abandoned",
    "kv: view of a snapshot abandoned",
    "raft: committed by the others before the own sync",
    "raft: overwritten while a sync was under way",
    "raft: snapshot taken while a follower lags behind it",
    "raft: stepped down because the disk hangs",
    "replica: writes held back for a snapshot",
    "simulation: damage refused",
    "simulation: disk replaced",
    "simulation: disk restored from a backup",
    "simulation: log restarted behind a snapshot",
    "simulation: no space at a start",
    "simulation: no space for the log",
    "simulation: page astray",
    "simulation: power lost during a start",
    "simulation: power lost while the log was written",
    "simulation: promise compared with the disk",
    "simulation: request copied when it was old",
    "simulation: rot found by a read",
    "simulation: session expired with a retry under way",
    "simulation: snapshot fetched",
    "simulation: snapshot taken",
    "simulation: sync failed",
    "simulation: transfer cut",
    "simulation: transfer resumed",
    "wal: segment removed",
    "wal: segment rolled",
    "wal: torn end cut",
];

/// The sum that counts increments.
const INCREMENTS: &str = "increments executed";

/// What a finished run amounts to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    pub trace: Trace,
    pub events: u64,
    pub simulated: Span,
    pub safety: Span,
    pub completed_in_safety: u64,
    pub committed: u64,
    pub executed: u64,
    pub read: u64,
    pub unknown: u64,
    pub not_executed: u64,
    /// Requests that were sent once more.
    pub copies: u64,
    /// Writes of unknown end whose end was found out by asking.
    pub asked_about: u64,
    /// Increments that were executed, as far as clients know.
    pub increments: u64,
    /// Of no increment it is unknown whether it was executed.
    pub counters_exact: bool,
    pub leader_changes: u64,
    pub features: Features,
    pub marks: BTreeMap<&'static str, u64>,
}

/// What most seeds should have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Features {
    pub leader_change: bool,
    /// The power went with unsynced bytes.
    pub power_loss: bool,
    pub segment_roll: bool,
    /// A log's end was replaced.
    pub overwritten: bool,
    pub compaction: bool,
}

impl Features {
    pub fn has_all(&self) -> bool {
        self.each().iter().all(|(_, has)| *has)
    }

    fn each(&self) -> [(&'static str, bool); 5] {
        [
            ("a leader change", self.leader_change),
            ("a power loss with unsynced bytes", self.power_loss),
            ("a segment roll", self.segment_roll),
            ("an overwritten suffix", self.overwritten),
            ("a compaction", self.compaction),
        ]
    }
}

/// What many runs amount to.
#[derive(Debug, Default)]
#[must_use]
pub struct Totals {
    pub seeds: u64,
    pub failures: Vec<String>,
    twice: u64,
    sums: BTreeMap<&'static str, u64>,
    seeds_with: BTreeMap<&'static str, u64>,
    marks: BTreeMap<&'static str, u64>,
    wall: Duration,
    jobs: u64,
}

impl Summary {
    fn counts(&self) -> bool {
        self.safety >= SAFETY_MIN && self.completed_in_safety >= COMPLETED_MIN
    }

    fn sums(&self) -> [(&'static str, u64); 12] {
        [
            ("events", self.events),
            ("simulated seconds", self.simulated.as_millis() / 1_000),
            ("entries committed", self.committed),
            ("writes answered", self.executed),
            ("reads answered", self.read),
            ("writes unknown", self.unknown),
            ("not executed", self.not_executed),
            ("leader changes", self.leader_changes),
            ("requests copied", self.copies),
            ("unknown ends found out by asking", self.asked_about),
            (INCREMENTS, self.increments),
            ("seeds whose counters are exact", self.counters_exact.into()),
        ]
    }
}

/// Runs one profile. Err: the line that says what went wrong, where, and how to see it again.
pub fn run(profile: Profile) -> Result<Summary, String> {
    run_scheduled(profile, None).0
}

/// The same, with the faults of a schedule, or drawn ones; and the faults that there were.
pub fn run_scheduled(
    profile: Profile,
    schedule: Option<Vec<ScheduledFault>>,
) -> (Result<Summary, String>, Vec<ScheduledFault>) {
    drop(take_recorded());
    let (seed, replay) = (profile.seed, replay(&profile));
    drop(raftkv::marks::take());
    quiet_panics();
    let result = catch_unwind(AssertUnwindSafe(|| World::new(profile, schedule).run()));
    let marks = raftkv::marks::take();
    let result = result.map(|summary| Summary { marks, ..summary }).map_err(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        let words = words.unwrap_or("a panic without words").replace('\n', " ");
        let at = WHERE.get();
        let text = match words.starts_with("invariant=") {
            true => words,
            false => {
                let place = LAST_PANIC.take().unwrap_or_default();
                format!("invariant=\"no assertion fails\" node={}: {words} at {place}", at.node as i32)
            }
        };
        format!("SIM FAIL seed={seed} commit={} step={} t={}ms {text}; replay: {replay}", commit(), at.step, at.ms)
    });
    (result, take_recorded())
}

/// Which seeds to run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub first: u64,
    /// So many at most.
    pub seeds: Option<u64>,
    /// No more once it has come.
    pub end: Option<Instant>,
    /// No more once so many increments were executed.
    pub increments: Option<u64>,
    /// Threads; each has a range of seeds of its own.
    pub jobs: u64,
    pub profile: fn(u64) -> Profile,
}

/// Runs the seeds of a plan; each failure is printed as it comes.
pub fn run_all(plan: Plan) -> Totals {
    let began = Instant::now();
    let share = plan.seeds.map_or(1 << 32, |seeds| seeds.div_ceil(plan.jobs));
    let mut totals = Totals::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.jobs)
            .map(|job| {
                let mine = plan.seeds.map_or(share, |seeds| share.min(seeds.saturating_sub(job * share)));
                let enough = plan.increments.map_or(u64::MAX, |increments| increments.div_ceil(plan.jobs));
                let more = move |totals: &Totals| {
                    let is_time = plan.end.is_none_or(|end| Instant::now() < end);
                    totals.seeds < mine && is_time && totals.sums.get(INCREMENTS).is_none_or(|sum| *sum < enough)
                };
                scope.spawn(move || run_seeds(plan.first.wrapping_add(job * share), plan.profile, more))
            })
            .collect();
        for thread in threads {
            totals.merge(thread.join().expect("failures are caught"));
        }
    });
    (totals.wall, totals.jobs) = (began.elapsed(), plan.jobs);
    totals
}

/// The deliberate bug that is armed in all threads.
pub static ARMED: OnceLock<String> = OnceLock::new();
/// The file of the scenario that is replayed.
pub static SCENARIO: OnceLock<String> = OnceLock::new();

/// The command that runs this again.
fn replay(profile: &Profile) -> String {
    let options =
        [(profile.beyond, " --beyond"), (profile.is_short, " --short"), (profile.increments, " --increments 1")];
    let options: String = options.into_iter().filter(|(on, _)| *on).map(|(_, option)| option).collect();
    let what = match SCENARIO.get() {
        Some(path) => format!("--scenario {path}"),
        None => format!("--seed {}{options}", profile.seed),
    };
    let (feature, bug) = match ARMED.get() {
        Some(bug) => (" --features sabotage", format!(" --bug {bug}")),
        None => ("", String::new()),
    };
    format!("cargo run --profile sim{feature} --example raftkv-sim -- {what}{bug}")
}

fn run_seeds(first: u64, profile: fn(u64) -> Profile, more: impl Fn(&Totals) -> bool) -> Totals {
    let mut totals = Totals::default();
    while more(&totals) {
        let seed = first + totals.seeds;
        let mut result = run(profile(seed));
        if let (Ok(summary), 0) = (&result, totals.seeds % TWICE_EVERY) {
            totals.twice += 1;
            let again = run(profile(seed)).map(|summary| summary.trace);
            if again.as_ref() != Ok(&summary.trace) {
                let (commit, replay) = (commit(), replay(&profile(seed)));
                let traces = format!("{:?}, then {again:?}", summary.trace);
                result = Err(format!(
                    "SIM FAIL seed={seed} commit={commit} invariant=\"a seed is one run\": {traces}; replay, twice: {replay}"
                ));
            }
        }
        totals.seeds += 1;
        match result {
            Ok(summary) => totals.add(&summary),
            Err(line) => {
                println!("{line}");
                totals.failures.push(line);
            }
        }
    }
    totals
}

impl Totals {
    fn add(&mut self, summary: &Summary) {
        for (name, number) in summary.sums() {
            *self.sums.entry(name).or_default() += number;
        }
        let whole = [(COUNTED, summary.counts()), (ALL_FEATURES, summary.features.has_all())];
        for (name, has) in summary.features.each().into_iter().chain(whole) {
            *self.seeds_with.entry(name).or_default() += u64::from(has);
        }
        for (name, hits) in &summary.marks {
            *self.marks.entry(name).or_default() += hits;
        }
    }

    /// Adds what another thread ran.
    fn merge(&mut self, other: Totals) {
        self.seeds += other.seeds;
        self.twice += other.twice;
        self.failures.extend(other.failures);
        for (mine, theirs) in
            [(&mut self.sums, other.sums), (&mut self.seeds_with, other.seeds_with), (&mut self.marks, other.marks)]
        {
            theirs.into_iter().for_each(|(name, number)| *mine.entry(name).or_default() += number);
        }
    }

    /// What a long run must have done and has not; empty for a short one.
    pub fn gaps(&self) -> Vec<String> {
        if self.seeds < LONG_RUN {
            return Vec::new();
        }
        let silent = MARKS.iter().filter(|name| !self.marks.contains_key(*name));
        let silent = silent.map(|name| format!("mark \"{name}\" was never hit"));
        let rare = self.seeds_with.iter().filter(|(_, seeds)| **seeds * 1_000 < self.seeds * DOSE_PERMILLE_MIN);
        silent.chain(rare.map(|(name, seeds)| format!("only {seeds} of {} seeds have {name}", self.seeds))).collect()
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, number: u64| writeln!(f, "  {name:<52} {number:>14}");
        line("seeds", self.seeds)?;
        line("  failed", self.failures.len() as u64)?;
        line("  run twice, with the same trace", self.twice)?;
        for (name, seeds) in &self.seeds_with {
            line(&format!("  with {name}"), *seeds)?;
        }
        for (name, number) in &self.sums {
            line(name, *number)?;
        }
        let unhit = MARKS.iter().filter(|name| !self.marks.contains_key(*name)).map(|name| (name, &0));
        for (name, hits) in self.marks.iter().chain(unhit) {
            line(&format!("mark {name}"), *hits)?;
        }
        let cpu = self.wall.as_millis() as u64 * self.jobs;
        line("wall seconds", self.wall.as_secs())?;
        line(
            "simulated seconds per second of a thread",
            self.sums.get("simulated seconds").unwrap_or(&0) * 1_000 / cpu.max(1),
        )
    }
}

thread_local! {
    /// File and line of this thread's last panic.
    static LAST_PANIC: Cell<Option<String>> = const { Cell::new(None) };
}

/// The line that is printed says all; a back-trace per failing seed would hide it.
fn quiet_panics() {
    static ONCE: OnceLock<()> = OnceLock::new();
    if !crate::verbose() {
        ONCE.get_or_init(|| {
            let _ = take_hook();
            set_hook(Box::new(|panic| LAST_PANIC.set(panic.location().map(ToString::to_string))));
        });
    }
}

fn commit() -> &'static str {
    static COMMIT: OnceLock<String> = OnceLock::new();
    COMMIT.get_or_init(|| {
        let output = Command::new("git").args(["describe", "--always", "--dirty"]).output();
        let text = output.ok().map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        text.filter(|text| !text.is_empty()).unwrap_or_else(|| "unknown".to_owned())
    })
}
