//! Search through all states, until nothing is left.
//!
//! The network only grows (see [`World`](super::world::World)), so of two states with the same nodes and history the one with
//! more messages, and no bound nearer, can do all that the other can: only that one is looked at. Young clusters are looked at
//! first, so that most of what leads to a state is known before it is looked at itself.

use std::fmt;

use super::digest::Digest;
use super::known::Map;
use super::letters::Letters;
use super::shorten::shorten;
use super::world::{Event, Model, World};

/// What was seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Explored {
    /// States that were found, and those among them that no other covers.
    pub found: usize,
    pub kept: usize,
    /// Clusters that differ in a node or in history; each has the states that differ in messages and bounds.
    pub clusters: usize,
    /// Events that led somewhere, new or not.
    pub events: usize,
    /// New states in which an event made a node a leader, or committed something.
    pub leaders: usize,
    pub commits: usize,
    /// Different nodes, messages and histories.
    pub parts: [usize; 3],
    /// The most messages under way.
    pub messages: usize,
    /// Whether nothing is left within the bounds.
    pub complete: bool,
}

/// What must not be, and a way there.
#[derive(Debug)]
pub struct Violation {
    what: String,
    way: Vec<String>,
}

/// Finds up to `states_max` states from `start` on.
pub fn explore(model: &mut Model, start: &World, states_max: usize) -> Result<Explored, Violation> {
    let mut search = Search::new();
    let mut explored = Explored { complete: true, ..Explored::default() };
    search.reach(model, start, None);
    let (mut events, mut next) = (Vec::new(), World::default());
    while let Some(number) = search.pop() {
        if search.states.len() >= states_max {
            explored.complete = false;
            break;
        }
        let world = search.state(number).world;
        model.events(&world, &mut events);
        for event in events.iter().copied() {
            match model.take(&world, event, &mut next) {
                Err(_) => return Err(Violation::new(model, start, search.way_to(number, event))),
                Ok(false) => continue,
                Ok(true) => explored.events += 1,
            }
            if search.reach(model, &next, Some((number, event))) {
                explored.leaders += usize::from(model.leaders(&next) > model.leaders(&world));
                explored.commits += usize::from(model.commits(&next) > model.commits(&world));
            }
            if search.state(number).covered {
                break;
            }
        }
    }
    explored.parts = [model.known.nodes.len(), model.known.letters.len(), model.histories()];
    Ok(search.counted(explored))
}

struct State {
    world: World,
    /// The world's messages, as its cluster's canonical names name them.
    letters: Letters,
    origin: Option<(u32, Event)>,
    /// Another state of the same cluster can do all that this one can.
    covered: bool,
}

struct Search {
    states: Vec<State>,
    /// Of each cluster, the states that no other covers.
    clusters: Map<Digest, Vec<u32>>,
    /// States to look at, by age; none is younger than `youngest`.
    waiting: Vec<Vec<u32>>,
    youngest: usize,
}

impl Search {
    fn new() -> Self {
        Self { states: Vec::new(), clusters: Map::default(), waiting: Vec::new(), youngest: 0 }
    }

    fn state(&self, number: u32) -> &State {
        &self.states[number as usize]
    }

    /// Notes a state. False: another one covers it.
    fn reach(&mut self, model: &Model, world: &World, origin: Option<(u32, Event)>) -> bool {
        let (cluster, letters) = model.canonical(world);
        let (left, states) = (world.left, &mut self.states);
        let rivals = self.clusters.entry(cluster).or_default();
        let covers = |rival: &State| rival.world.left.covers(&left) && letters.is_within(&rival.letters);
        if rivals.iter().any(|rival| covers(&states[*rival as usize])) {
            return false;
        }
        rivals.retain(|rival| {
            let rival = &mut states[*rival as usize];
            rival.covered = left.covers(&rival.world.left) && rival.letters.is_within(&letters);
            !rival.covered
        });
        let number = u32::try_from(states.len()).expect("there are fewer states");
        rivals.push(number);
        states.push(State { world: *world, letters, origin, covered: false });
        let age = model.age(world);
        self.youngest = self.youngest.min(age);
        self.waiting.resize(self.waiting.len().max(age + 1), Vec::new());
        self.waiting[age].push(number);
        true
    }

    /// The next state to look at.
    fn pop(&mut self) -> Option<u32> {
        loop {
            match self.waiting.get_mut(self.youngest)?.pop() {
                Some(number) if self.state(number).covered => {}
                Some(number) => return Some(number),
                None => self.youngest += 1,
            }
        }
    }

    fn way_to(&self, mut number: u32, last: Event) -> Vec<Event> {
        let mut way = vec![last];
        while let Some((before, event)) = self.state(number).origin {
            way.push(event);
            number = before;
        }
        way.reverse();
        way
    }

    fn counted(&self, explored: Explored) -> Explored {
        let kept = self.states.iter().filter(|state| !state.covered).count();
        let messages = self.states.iter().map(|state| state.letters.len()).max().unwrap_or(0);
        Explored { found: self.states.len(), kept, clusters: self.clusters.len(), messages, ..explored }
    }
}

impl Violation {
    fn new(model: &mut Model, start: &World, way: Vec<Event>) -> Self {
        let (way, what) = shorten(model, start, way);
        Self { what, way: way.into_iter().map(|event| model.describe(event)).collect() }
    }
}

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Explored { found, kept, clusters, events, leaders, commits, parts, messages, complete } = self;
        let [nodes, letters, histories] = parts;
        let end = if *complete { "complete: nothing left" } else { "INCOMPLETE" };
        write!(f, "{end}; {found} states, {kept} not covered, of {clusters} clusters; {events} events; ")?;
        write!(f, "{nodes} nodes, {letters} messages, {histories} histories, up to {messages} messages under way; ")?;
        write!(f, "{leaders} elections, {commits} commits")
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, after {} events:", self.what, self.way.len())?;
        self.way.iter().try_for_each(|event| writeln!(f, "  {event}"))
    }
}
