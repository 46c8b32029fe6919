//! Histories of an imaginary store that is linearizable: each operation is executed at one moment between its begin and end.

use raftkv::random::SplitMix64;

use super::by_index::{Log, Model};
use super::history::{Action, Answer, Found, History, Key, Value};

/// A generated history, and what was executed.
pub struct Generated {
    pub history: History,
    pub log: Log,
}

/// What a generated history is like.
#[derive(Clone, Debug)]
pub struct Shape {
    clients: usize,
    operations: usize,
    keys: u64,
    /// Different values; 0: every write has one of its own.
    values: u64,
    verbs: &'static [Verb],
    /// Whether reads tell revisions.
    revisions: bool,
    /// Per mille of operations whose end is unknown; as many are not executed.
    lost: u64,
    /// Whether what was sent once more is executed once more.
    copies: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Put,
    Update,
    Remove,
    CompareAndSet,
    Increment,
    Batch,
    Get,
    Page,
}

impl Shape {
    /// Everything, at length.
    pub fn broad() -> Self {
        use Verb::{Batch, CompareAndSet, Get, Increment, Page, Put, Remove, Update};
        let verbs = &[Put, Update, Update, Remove, CompareAndSet, Increment, Batch, Get, Get, Get, Page];
        Self { clients: 6, operations: 120, keys: 5, values: 0, verbs, revisions: true, lost: 80, copies: true }
    }

    /// Updates and reads, so that a value tells who wrote it.
    pub fn unique_values() -> Self {
        let verbs = &[Verb::Update, Verb::Update, Verb::Remove, Verb::Get, Verb::Get, Verb::Get];
        Self { clients: 5, operations: 200, keys: 3, values: 0, verbs, revisions: false, lost: 50, copies: false }
    }

    /// At length, on one key, where a quarter of the ends are unknown.
    pub fn forgetful() -> Self {
        use Verb::{Get, Put, Remove, Update};
        let verbs = &[Put, Update, Update, Remove, Get, Get, Get];
        Self { clients: 8, operations: 3_000, keys: 1, values: 0, verbs, revisions: true, lost: 150, copies: false }
    }

    /// So small that every order can be tried.
    pub fn tiny() -> Self {
        use Verb::{Batch, CompareAndSet, Get, Increment, Put, Remove, Update};
        let verbs = &[Put, Update, Update, Remove, CompareAndSet, Increment, Batch, Get, Get, Get];
        Self { clients: 3, operations: 7, keys: 2, values: 2, verbs, revisions: true, lost: 120, copies: true }
    }

    /// The same, where nothing depends on revisions.
    pub fn tiny_without_revisions() -> Self {
        use Verb::{Batch, Get, Increment, Put, Remove, Update};
        let verbs = &[Put, Update, Update, Remove, Increment, Batch, Get, Get, Get];
        Self { revisions: false, verbs, ..Self::tiny() }
    }
}

/// What a client is doing.
enum Client {
    Idle,
    Asked(usize),
    Executed(usize, u64, Answer),
}

/// Makes the history of a seed.
pub fn generate(seed: u64, shape: &Shape) -> Generated {
    let mut random = Random::new(seed);
    let mut clients: Vec<Client> = (0..shape.clients).map(|_| Client::Idle).collect();
    let (mut history, mut log, mut model) = (History::default(), Log::new(), Model::default());
    let mut index = 0;
    // Writes that were sent once more: each may be executed, and nobody is told.
    let mut copies: Vec<Action> = Vec::new();
    while history.operations.len() < shape.operations {
        if !copies.is_empty() && random.below(1000) < shape.lost {
            let action = copies.swap_remove(random.below(copies.len() as u64) as usize);
            index += 1;
            model.execute(index, &action);
            log.insert(index, action);
        }
        let number = random.below(clients.len() as u64) as usize;
        let client = &mut clients[number];
        *client = match std::mem::replace(client, Client::Idle) {
            Client::Idle => Client::Asked(history.begin(number as u32, action(&mut random, shape, index))),
            // Whoever is not executed, or never told, asks something else.
            Client::Asked(operation) if random.below(1000) < shape.lost => match random.below(3) {
                0 => {
                    history.not_executed(operation);
                    Client::Idle
                }
                1 => {
                    history.asked_again(operation);
                    let action = &history.operations[operation].action;
                    copies.extend((shape.copies && action.writes()).then(|| action.clone()));
                    if shape.copies {
                        Client::Asked(operation)
                    } else {
                        Client::Idle
                    }
                }
                _ => Client::Idle,
            },
            Client::Asked(operation) => {
                let action = history.operations[operation].action.clone();
                let answer = if action.writes() {
                    index += 1;
                    log.insert(index, action.clone());
                    model.execute(index, &action)
                } else {
                    model.read(&action, index)
                };
                Client::Executed(operation, index, told(answer, shape))
            }
            Client::Executed(operation, index, answer) => {
                if random.below(1000) >= shape.lost {
                    history.answered(operation, Some(index), answer);
                }
                Client::Idle
            }
        };
    }
    Generated { history, log }
}

fn told(answer: Answer, shape: &Shape) -> Answer {
    match answer {
        Answer::Found(found) if !shape.revisions => Answer::Found(Found::bare(found.value)),
        answer => answer,
    }
}

fn action(random: &mut Random, shape: &Shape, index: u64) -> Action {
    let verb = random.pick(shape.verbs);
    match verb {
        Verb::Batch => {
            let writes = [Verb::Put, Verb::Update, Verb::Update, Verb::Remove, Verb::Increment];
            let count = 1 + random.below(3);
            Action::Batch((0..count).map(|_| single(random.pick(&writes), random, shape, index)).collect())
        }
        Verb::Page => Action::Page { from: key(random, shape), limit: 1 + random.below(4) as usize, view: None },
        verb => single(verb, random, shape, index),
    }
}

fn single(verb: Verb, random: &mut Random, shape: &Shape, index: u64) -> Action {
    let (key, value) = (key(random, shape), value(random, shape));
    match verb {
        Verb::Put => Action::Put { key, value },
        Verb::Update => Action::Update { key, value },
        Verb::Remove => Action::Remove { key },
        Verb::CompareAndSet => Action::CompareAndSet { key, expected: random.below(index.min(8) + 1), value },
        Verb::Increment => Action::Increment { key, by: random.below(5) as i64 - 2 },
        Verb::Get => Action::Get { key },
        Verb::Batch | Verb::Page => unreachable!("not of one key"),
    }
}

fn key(random: &mut Random, shape: &Shape) -> Key {
    format!("key-{}", random.below(shape.keys)).into()
}

fn value(random: &mut Random, shape: &Shape) -> Value {
    let number = if shape.values == 0 { random.next() >> 16 } else { random.below(shape.values) };
    // Text that is no number, unless it is to be counted on.
    let prefix = if number % 3 == 0 { "" } else { "v" };
    format!("{prefix}{number}").into()
}

/// Seeded, so that a history can be made again.
pub struct Random(SplitMix64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed))
    }

    pub fn next(&mut self) -> u64 {
        self.0.draw()
    }

    /// From 0 to `bound`, without it.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}
