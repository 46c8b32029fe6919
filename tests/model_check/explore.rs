//! Breadth-first search through all states, each looked at once.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::panic::{catch_unwind, AssertUnwindSafe};

use super::digest::Digest;
use super::world::{Event, World};

/// What was seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Explored {
    pub states: usize,
    /// States in which an event made a node a leader, or committed something.
    pub leaders: usize,
    pub commits: usize,
    /// Events on the longest shortest way.
    pub depth: usize,
    /// Whether nothing is left within the bounds.
    pub complete: bool,
}

/// What must not be, and the shortest way there.
#[derive(Debug)]
pub struct Violation {
    what: String,
    way: Vec<String>,
}

/// Where a state was first reached from, and by what.
type Origins = BTreeMap<Digest, Option<(Digest, Event)>>;

/// Looks at up to `states_max` states from `start` on.
pub fn explore(start: World, states_max: usize) -> Result<Explored, Violation> {
    let mut explored = Explored { complete: true, ..Explored::default() };
    let mut origins = Origins::new();
    let first = start.digest();
    origins.insert(first, None);
    let mut frontier = VecDeque::from([(start.clone(), first, 0)]);
    while let Some((world, digest, depth)) = frontier.pop_front() {
        explored.states += 1;
        explored.depth = depth;
        for event in world.events() {
            let next = follow(&world, event).map_err(|what| {
                let mut events = way_to(&origins, digest);
                events.push(event);
                Violation { what, way: in_words(start.clone(), events) }
            })?;
            // What changes nothing but itself away leads nowhere that is not reached without it.
            if next.only_lost_since(&world) {
                continue;
            }
            let reached = next.digest();
            if origins.contains_key(&reached) {
                continue;
            }
            if origins.len() >= states_max {
                explored.complete = false;
                continue;
            }
            explored.leaders += usize::from(next.leaders() > world.leaders());
            explored.commits += usize::from(next.commits() > world.commits());
            origins.insert(reached, Some((digest, event)));
            frontier.push_back((next, reached, depth + 1));
        }
    }
    Ok(explored)
}

/// One event; an assertion of the code under test is a violation like any other.
fn follow(world: &World, event: Event) -> Result<World, String> {
    let mut next = world.clone();
    let taken = catch_unwind(AssertUnwindSafe(|| next.take(event)));
    match taken {
        Ok(result) => result.map(|()| next),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            Err(text.unwrap_or("a panic without words").to_owned())
        }
    }
}

fn way_to(origins: &Origins, mut digest: Digest) -> Vec<Event> {
    let mut way = Vec::new();
    while let Some(Some((before, event))) = origins.get(&digest) {
        way.push(*event);
        digest = *before;
    }
    way.reverse();
    way
}

fn in_words(mut world: World, events: Vec<Event>) -> Vec<String> {
    let describe = |event| {
        let text = world.describe(event);
        if let Ok(next) = follow(&world, event) {
            world = next;
        }
        text
    };
    events.into_iter().map(describe).collect()
}

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Explored { states, leaders, commits, depth, complete } = self;
        let all = if *complete { "all within the bounds" } else { "the nearest ones" };
        write!(f, "{states} states, {all}; {depth} events deep; {leaders} elections, {commits} commits")
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, after {} events:", self.what, self.way.len())?;
        self.way.iter().try_for_each(|event| writeln!(f, "  {event}"))
    }
}
