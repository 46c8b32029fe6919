//! What a client asks: a random mix of reads and writes over few keys, or mostly increments.

use std::collections::BTreeMap;

use crate::history::{Action, Key, Value};
use crate::operation::PAGE;
use crate::profile::Profile;
use crate::random::Random;

/// Keys that are only ever counted up, by one; behind them is one that batches count up, twice each.
const COUNTERS: u64 = 2;
/// How their names begin.
const COUNTER: &str = "count";

pub struct Workload {
    random: Random,
    client: u32,
    keys: u64,
    value_bytes: usize,
    verbs: &'static [Verb],
    /// The revision that each key was last seen at.
    revisions: BTreeMap<Key, u64>,
    drawn: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Put,
    Update,
    Remove,
    CompareAndSet,
    Increment,
    Batch,
    CountTwice,
    Get,
    GetCounter,
    Scan,
}

use Verb::{Batch, CompareAndSet, CountTwice, Get, GetCounter, Increment, Put, Remove, Scan, Update};

const PLAIN: &[Verb] = &[Put, Update, Update, Remove, Get, Get, Scan];
const MIXED: &[Verb] = &[
    Put,
    Put,
    Update,
    Update,
    Update,
    Remove,
    Remove,
    CompareAndSet,
    CompareAndSet,
    Increment,
    Batch,
    CountTwice,
    Get,
    Get,
    Get,
    Get,
    Get,
    Get,
    GetCounter,
    Scan,
    Scan,
];
const COUNTING: &[Verb] =
    &[Increment, Increment, Increment, Increment, Increment, Increment, CountTwice, GetCounter, Update, Get];

impl Workload {
    /// Without a session the end of a write may stay unknown for ever: then only what a search bears in numbers is asked.
    pub fn new(profile: &Profile, client: u32, has_session: bool) -> Self {
        Self {
            random: Random::of(profile.seed, &format!("workload {client}")),
            client,
            keys: profile.keys,
            value_bytes: profile.value_bytes as usize,
            verbs: match (profile.increments, has_session) {
                (true, _) => COUNTING,
                (false, true) => MIXED,
                (false, false) => PLAIN,
            },
            revisions: BTreeMap::new(),
            drawn: 0,
        }
    }

    /// What is asked next.
    pub fn draw(&mut self) -> Action {
        self.drawn += 1;
        let verb = self.random.pick(self.verbs);
        let (number, counter) = (self.random.below(self.keys), self.random.below(COUNTERS + 1));
        let counter_name = |number: u64| Key::from(format!("{COUNTER} {number}"));
        let one_more = |key| Action::Increment { key, by: 1 };
        match verb {
            Verb::Increment => one_more(counter_name(counter % COUNTERS)),
            Verb::CountTwice => Action::Batch(vec![one_more(counter_name(COUNTERS)); 2]),
            Verb::GetCounter => Action::Get { key: counter_name(counter) },
            Verb::Scan => Action::Page { from: Key::from(""), limit: PAGE as usize, view: None },
            // A pair of keys, so that not all of them hang together.
            Verb::Batch => {
                let verbs = [Put, Update, Update, Update, Remove, CompareAndSet, Increment];
                let count = 1 + self.random.below(3);
                let mut part = |part: u64| {
                    let verb = self.random.pick(&verbs);
                    self.single(verb, name((number & !1) + (part & 1).min(self.keys - 1)), part)
                };
                Action::Batch((0..count).map(&mut part).collect())
            }
            verb => self.single(verb, name(number), 0),
        }
    }

    fn single(&mut self, verb: Verb, key: Key, part: u64) -> Action {
        let mut value = format!("client {} operation {} part {part}", self.client, self.drawn).into_bytes();
        value.resize(value.len().max(self.value_bytes), b'.');
        let value = Value::from(value);
        match verb {
            Verb::Put => Action::Put { key, value },
            Verb::Update => Action::Update { key, value },
            Verb::Remove => Action::Remove { key },
            Verb::CompareAndSet => {
                let known = self.revisions.get(&key).copied().unwrap_or(0);
                let expected = if self.random.chance(150) { known.saturating_sub(1) } else { known };
                Action::CompareAndSet { key, expected, value }
            }
            // Mostly of what is no number.
            Verb::Increment => Action::Increment { key, by: 1 },
            Verb::Get => Action::Get { key },
            Verb::Batch | Verb::CountTwice | Verb::GetCounter | Verb::Scan => unreachable!("not of one key"),
        }
    }

    /// A key has a revision, or none.
    pub fn saw(&mut self, key: &Key, revision: u64) {
        self.revisions.insert(key.clone(), revision);
    }
}

/// What a write adds to each counter if it succeeds.
pub fn counted(action: &Action) -> Vec<(Key, i64)> {
    match action {
        Action::Increment { key, by } if key.starts_with(COUNTER.as_bytes()) => vec![(key.clone(), *by)],
        Action::Batch(actions) => actions.iter().flat_map(counted).collect(),
        _ => Vec::new(),
    }
}

fn name(number: u64) -> Key {
    format!("key {number:03}").into()
}
