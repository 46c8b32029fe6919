//! Linearizability by log index, in linear time: the log is claimed to be the order, and every claim is checked.
//!
//! * A model replay of the log reproduces each answer at the index that its reply names.
//! * What ended before something else began stands before it in the log; two writes never share an index.
//! * Every entry of the log was asked for: by the operation that was answered with its index, or by one whose end is
//!   unknown, which stands there once at most. What was said not to be executed does not stand there.
//!
//! A history that passes is linearizable, with the log as the witness.

use std::collections::BTreeMap;

use super::history::{Action, Answer, End, Found, History, Key, Moment, Operation, Value};

/// What was executed, at which index.
pub type Log = BTreeMap<u64, Action>;

/// Checks a history against the log. Err: what does not fit.
pub fn check(history: &History, log: &Log) -> Result<(), String> {
    let mut owners = answered_entries(history, log)?;
    unanswered_entries(history, log, &mut owners)?;
    let (model, answers) = replay(log);
    for operation in &history.operations {
        let End::Answered { index, answer, .. } = &operation.end else { continue };
        let index = index.ok_or("an answer without an index")?;
        let expected = match answers.get(&index) {
            Some(expected) if operation.action.writes() => expected.clone(),
            _ => model.read(&operation.action, index),
        };
        if !says(answer, &expected) {
            return Err(format!("{} at {index}, where it is {expected:?}", brief(operation)));
        }
    }
    real_time(history, &owners)
}

fn brief(operation: &Operation) -> String {
    format!("client {} asked {:?} and was told {:?}", operation.client, operation.action, operation.end)
}

/// Which operation each index belongs to, as the answers say.
fn answered_entries(history: &History, log: &Log) -> Result<BTreeMap<u64, usize>, String> {
    let mut owners = BTreeMap::new();
    for (number, operation) in history.operations.iter().enumerate().filter(|(_, op)| op.action.writes()) {
        let End::Answered { index: Some(index), .. } = operation.end else { continue };
        if log.get(&index) != Some(&operation.action) {
            return Err(format!("{} at {index}, where the log holds {:?}", brief(operation), log.get(&index)));
        }
        if let Some(other) = owners.insert(index, number) {
            let other = brief(&history.operations[other]);
            return Err(format!("two operations executed at {index}: {}, and {other}", brief(operation)));
        }
    }
    Ok(owners)
}

/// Gives the entries that nobody was told about to operations whose end is unknown. Equal actions are given out in order:
/// if any way fits the real time, this one does.
fn unanswered_entries(history: &History, log: &Log, owners: &mut BTreeMap<u64, usize>) -> Result<(), String> {
    let mut unknown: BTreeMap<&Action, Vec<usize>> = BTreeMap::new();
    for (number, operation) in history.by_begin().into_iter().rev() {
        if operation.end == End::Unknown {
            unknown.entry(&operation.action).or_default().push(number);
        }
    }
    for (index, action) in log {
        if owners.contains_key(index) {
            continue;
        }
        let Some(owner) = unknown.get_mut(action).and_then(Vec::pop) else {
            return Err(format!("{action:?} was executed at {index}: not asked for, or once too often, or denied"));
        };
        owners.insert(*index, owner);
    }
    Ok(())
}

/// Where an operation stands in the order: reads behind the write of their index.
type Position = (u64, bool);

/// Nothing that began after an end stands before it.
fn real_time(history: &History, owners: &BTreeMap<u64, usize>) -> Result<(), String> {
    let mut positions: Vec<Option<Position>> = history.operations.iter().map(read_position).collect();
    for (index, owner) in owners {
        positions[*owner] = Some((*index, false));
    }
    let mut ends: Vec<(Moment, Position, usize)> = Vec::new();
    for (number, operation) in history.operations.iter().enumerate() {
        ends.extend(operation.ended().zip(positions[number]).map(|(at, position)| (at, position, number)));
    }
    ends.sort_unstable();
    let mut ends = ends.into_iter().peekable();
    let mut floor: Option<(Position, usize)> = None;
    for (number, operation) in history.by_begin() {
        let position = positions[number];
        while let Some((_, ended, before)) = ends.next_if(|(at, ..)| *at < operation.begin) {
            floor = floor.max(Some((ended, before)));
        }
        // A page of an older view answers for the view's moment, not for its own.
        let bound = !matches!(operation.action, Action::Page { view: Some(_), .. });
        if let (true, Some(position), Some((floor, before))) = (bound, position, floor) {
            if position < floor {
                let before = brief(&history.operations[before]);
                return Err(format!("{} at {}, after an end at {}: {before}", brief(operation), position.0, floor.0));
            }
        }
    }
    Ok(())
}

fn read_position(operation: &Operation) -> Option<Position> {
    match operation.end {
        End::Answered { index: Some(index), .. } if !operation.action.writes() => Some((index, true)),
        _ => None,
    }
}

/// Whether an answer says what it should, in as far as it says anything.
fn says(answer: &Answer, expected: &Answer) -> bool {
    match (answer, expected) {
        (Answer::Done, expected) => {
            !matches!(expected, Answer::Exists | Answer::NotFound | Answer::Mismatch | Answer::Refused { .. })
        }
        (Answer::Found(found), Answer::Found(expected)) => is_same(found, expected),
        (Answer::Page { items, resume }, Answer::Page { items: expected, resume: next }) => {
            let same = |(found, expected): (&(Key, Found), &(Key, Found))| {
                found.0 == expected.0 && is_same(&found.1, &expected.1)
            };
            items.len() == expected.len() && resume == next && items.iter().zip(expected).all(same)
        }
        _ => answer == expected,
    }
}

fn is_same(found: &Found, expected: &Found) -> bool {
    let fits = |told: Option<u64>, is: Option<u64>| told.is_none() || told == is;
    found.value == expected.value
        && fits(found.revision, expected.revision)
        && fits(found.create_revision, expected.create_revision)
        && fits(found.version, expected.version)
}

/// The state at every index, as a child would write it.
#[derive(Default)]
pub struct Model {
    keys: BTreeMap<Key, Vec<(u64, Option<Found>)>>,
}

fn replay(log: &Log) -> (Model, BTreeMap<u64, Answer>) {
    let mut model = Model::default();
    let answers = log.iter().map(|(index, action)| (*index, model.execute(*index, action))).collect();
    (model, answers)
}

impl Model {
    /// What a read at an index is answered.
    pub fn read(&self, action: &Action, index: u64) -> Answer {
        match action {
            Action::Get { key } => self.at(key, index).map_or(Answer::NotFound, Answer::Found),
            Action::Page { from, limit, view } => {
                let at = view.unwrap_or(index);
                let keys = self.keys.range(from.clone()..).map(|(key, _)| key);
                let mut all = keys.filter_map(|key| Some((key.clone(), self.at(key, at)?)));
                let items = all.by_ref().take(*limit).collect();
                Answer::Page { items, resume: all.next().map(|(key, _)| key) }
            }
            // A write without an entry: no answer is right.
            _ => Answer::Page { items: Vec::new(), resume: None },
        }
    }

    fn at(&self, key: &Key, index: u64) -> Option<Found> {
        let versions = self.keys.get(key)?;
        let after = versions.partition_point(|(written, _)| *written <= index);
        versions[..after].last()?.1.clone()
    }

    /// Executes the entry at an index, above all before it.
    pub fn execute(&mut self, index: u64, action: &Action) -> Answer {
        if let Action::Batch(actions) = action {
            return self.batch(index, actions);
        }
        let keys = action.keys();
        let old = self.at(keys[0], u64::MAX);
        match outcome(action, old.as_ref()) {
            Ok((answer, value)) => {
                self.write(index, keys[0], old, value);
                answer
            }
            Err(refusal) => refusal,
        }
    }

    fn batch(&mut self, index: u64, actions: &[Action]) -> Answer {
        let touched: Vec<Key> = actions.iter().flat_map(Action::keys).cloned().collect();
        let before: Vec<_> = touched.iter().map(|key| (key.clone(), self.keys.get(key).cloned())).collect();
        for (position, action) in actions.iter().enumerate() {
            let answer = self.execute(index, action);
            if is_refusal(&answer) {
                for (key, versions) in before {
                    self.keys.insert(key, versions.unwrap_or_default());
                }
                return Answer::Refused { position, answer: Box::new(answer) };
            }
        }
        Answer::Done
    }

    fn write(&mut self, index: u64, key: &Key, old: Option<Found>, value: Option<Value>) {
        let found = value.map(|value| Found {
            value,
            revision: Some(index),
            create_revision: old.as_ref().map_or(Some(index), |old| old.create_revision),
            version: Some(old.as_ref().and_then(|old| old.version).unwrap_or(0) + 1),
        });
        self.keys.entry(key.clone()).or_default().push((index, found));
    }
}

fn is_refusal(answer: &Answer) -> bool {
    matches!(answer, Answer::Exists | Answer::NotFound | Answer::Mismatch)
}

/// What a single-key write answers and leaves behind, or why it is refused.
fn outcome(action: &Action, old: Option<&Found>) -> Result<(Answer, Option<Value>), Answer> {
    let made = |value: &Value| (if old.is_some() { Answer::Updated } else { Answer::Created }, Some(value.clone()));
    match action {
        Action::Put { .. } if old.is_some() => Err(Answer::Exists),
        Action::Put { value, .. } | Action::Update { value, .. } => Ok(made(value)),
        Action::Remove { .. } if old.is_none() => Err(Answer::NotFound),
        Action::Remove { .. } => Ok((Answer::Removed, None)),
        Action::CompareAndSet { expected, value, .. } => {
            let held = old.and_then(|old| old.revision).unwrap_or(0);
            if held == *expected {
                Ok(made(value))
            } else {
                Err(Answer::Mismatch)
            }
        }
        Action::Increment { by, .. } => {
            let number = old.map_or(Some(0), |old| std::str::from_utf8(&old.value).ok()?.parse::<i64>().ok());
            let sum = number.and_then(|number| number.checked_add(*by)).ok_or(Answer::Mismatch)?;
            Ok((Answer::Number(sum), Some(sum.to_string().into())))
        }
        Action::Append { value, .. } => {
            let held = old.map_or(&[][..], |old| &old.value);
            Ok(made(&[held, value].concat().into()))
        }
        Action::Replace { expected, value, .. } => match old {
            Some(old) if old.value == *expected => Ok(made(value)),
            _ => Err(Answer::Mismatch),
        },
        Action::Batch(_) | Action::Get { .. } | Action::Page { .. } => unreachable!("not a single-key write"),
    }
}
