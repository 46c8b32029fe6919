//! Makes a failing run small: the profile milder, switch by switch, and of its faults as few as still break the same
//! invariant (Zeller and Hildebrandt's ddmin, 2002).

use crate::profile::Profile;
use crate::runs::{run_scheduled, Summary};
use crate::scenario::{numbers, set, Scenario};
use crate::schedule::ScheduledFault;

/// What each number is tried to be: milder than anything that is drawn.
const MILD: &[(&str, u64)] = &[
    ("clients", 1),
    ("clients", 2),
    ("keys", 1),
    ("nodes", 3),
    ("loss", 0),
    ("duplicates", 0),
    ("stragglers", 0),
    ("reorder", 0),
    ("slow_sync", 0),
    ("drift_ppm", 0),
    ("delay", 100_000),
    ("sync", 50_000),
    ("value_bytes", 10),
    ("inflight_messages", 64),
    ("append_bytes", 100_000),
    ("tail_bytes", 1_000_000),
    ("uncommitted_bytes", 1_000_000),
    ("credits", 64),
];

/// Seeds behind a failing one that are tried with fewer nodes.
const NEIGHBOURS: u64 = 20;

/// What a failing run was made of, and what is left.
#[derive(Debug)]
pub struct Shrunk {
    pub scenario: Scenario,
    /// The line that says what went wrong.
    pub line: String,
    pub runs: usize,
}

/// Shrinks a run that fails; none if it does not. It takes `runs_max` runs at most.
pub fn shrink(profile: Profile, bug: Option<String>, runs_max: usize) -> Option<Shrunk> {
    let (result, schedule) = run_scheduled(profile.clone(), None);
    let line = result.err()?;
    let mut shrinking = Shrinking { invariant: invariant(&line).to_owned(), line, runs: 1, runs_max };
    let mut scenario = Scenario { profile, schedule, bug };
    // Another run may break the same invariant for another reason: only a bug that is known to be there is looked for in it.
    if scenario.bug.is_some() {
        shrinking.smaller_cluster(&mut scenario);
    }
    shrinking.fewer_faults(&mut scenario);
    shrinking.milder(&mut scenario);
    shrinking.fewer_faults(&mut scenario);
    Some(Shrunk { scenario, line: shrinking.line, runs: shrinking.runs })
}

/// The invariant that a failing run's line names.
pub fn invariant(line: &str) -> &str {
    line.split_once("invariant=\"").and_then(|(_, rest)| rest.split_once('"')).map_or(line, |(name, _)| name)
}

struct Shrinking {
    invariant: String,
    line: String,
    runs: usize,
    runs_max: usize,
}

impl Shrinking {
    /// Whether the scenario still breaks the same invariant.
    fn still_fails(&mut self, profile: &Profile, schedule: &[ScheduledFault]) -> bool {
        if self.runs >= self.runs_max {
            return false;
        }
        self.runs += 1;
        let result: Result<Summary, String> = run_scheduled(profile.clone(), Some(schedule.to_vec())).0;
        match result {
            Err(line) if invariant(&line) == self.invariant => {
                self.line = line;
                true
            }
            _ => false,
        }
    }

    /// Lets the seed, or one of its neighbours, draw faults for fewer nodes: what strikes all nodes at once is as many faults as
    /// there are nodes, and names them all, so that nothing else could leave one out.
    fn smaller_cluster(&mut self, scenario: &mut Scenario) {
        let is = &scenario.profile;
        let smaller = [3, 5].into_iter().filter(|nodes| *nodes < is.nodes);
        let tries = smaller.flat_map(|nodes| (is.seed..=is.seed + NEIGHBOURS).map(move |seed| (nodes, seed)));
        for (nodes, seed) in tries.collect::<Vec<_>>() {
            if self.runs >= self.runs_max {
                return;
            }
            self.runs += 1;
            let profile = Profile { nodes, seed, ..scenario.profile.clone() };
            match run_scheduled(profile.clone(), None) {
                (Err(line), schedule) if invariant(&line) == self.invariant => {
                    (scenario.profile, scenario.schedule, self.line) = (profile, schedule, line);
                    return;
                }
                _ => {}
            }
        }
    }

    /// Leaves out ever smaller parts of the schedule.
    fn fewer_faults(&mut self, scenario: &mut Scenario) {
        let mut parts = 2;
        while !scenario.schedule.is_empty() {
            let size = scenario.schedule.len().div_ceil(parts);
            let without = |from: usize| {
                let (before, rest) = scenario.schedule.split_at(from);
                [before, &rest[size.min(rest.len())..]].concat()
            };
            let starts = (0..scenario.schedule.len()).step_by(size);
            let smaller: Vec<Vec<ScheduledFault>> = starts.map(without).collect();
            match smaller.into_iter().find(|schedule| self.still_fails(&scenario.profile, schedule)) {
                Some(schedule) => {
                    scenario.schedule = schedule;
                    parts = (parts - 1).max(2);
                }
                None if size > 1 => parts = (parts * 2).min(scenario.schedule.len()),
                None if self.without_a_pair(scenario) => {}
                None => return,
            }
        }
    }

    /// Leaves out two faults that only matter together, as a partition and its end do.
    fn without_a_pair(&mut self, scenario: &mut Scenario) -> bool {
        let count = scenario.schedule.len();
        let pairs = (0..count).flat_map(|first| (first + 1..count).map(move |second| (first, second)));
        for (first, second) in pairs {
            let mut schedule = scenario.schedule.clone();
            schedule.remove(second);
            schedule.remove(first);
            if self.still_fails(&scenario.profile, &schedule) {
                scenario.schedule = schedule;
                return true;
            }
        }
        false
    }

    fn milder(&mut self, scenario: &mut Scenario) {
        for (name, number) in MILD {
            let is = numbers(&scenario.profile).iter().find(|(own, _)| own == name).map(|(_, is)| *is);
            let mut profile = scenario.profile.clone();
            // Fewer nodes than the schedule names would be another scenario.
            let fits =
                *name != "nodes" || is.is_some_and(|is| is > *number) && names_below(&scenario.schedule, *number);
            if fits
                && is != Some(*number)
                && set(&mut profile, name, *number)
                && self.still_fails(&profile, &scenario.schedule)
            {
                scenario.profile = profile;
            }
        }
    }
}

/// Whether a schedule only names nodes below this one.
fn names_below(schedule: &[ScheduledFault], nodes: u64) -> bool {
    use crate::schedule::Deed;
    let below = |id: u32| u64::from(id) < nodes;
    schedule.iter().all(|fault| match &fault.deed {
        Deed::Close { from, to } => below(*from) && below(*to),
        Deed::Block(blocked) => blocked.iter().all(|(from, to)| below(*from) && below(*to)),
        Deed::Crash { node, .. }
        | Deed::PowerGoesInSync { node, .. }
        | Deed::CloseAll { node }
        | Deed::Pause { node, .. }
        | Deed::ResetClients { node }
        | Deed::FailSync { node, .. }
        | Deed::HangDisk { node, .. }
        | Deed::FillDisk { node }
        | Deed::Rot { node, .. }
        | Deed::Misdirect { node, .. }
        | Deed::Wipe { node, .. }
        | Deed::BackUp { node, .. }
        | Deed::Restore { node, .. }
        | Deed::ClockJump { node, .. } => below(*node),
    })
}
