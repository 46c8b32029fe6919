//! Linearizability by search (Wing and Gong 1993, with Lowe's memoisation 2017): is there *any* order that explains the
//! answers and respects real time? No log index is believed; a revision is a token that is only compared for equality.
//!
//! A history is linearizable if its parts over disjoint keys are (Herlihy and Wing), so each key is searched alone, and keys
//! that a batch names together are searched together. Pages are not looked at: leaving out reads accepts no less.
//!
//! An operation with an unknown end may be taken at any moment after its begin, or never. Of two ways to the same state
//! behind the same answered operations, the one that used fewer of those can do all that the other can: only such ways are
//! followed.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::history::{Action, Answer, End, History, Key, Moment, Operation, Value};

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Linearizable,
    /// No order explains the answers; the text says how far the best one came.
    Not(String),
    /// The search was ended before it was complete: to be taken for a failure.
    Undecided,
}

/// Searches a whole history, at most `steps_max` steps for each part of it.
pub fn check(history: &History, steps_max: usize) -> Verdict {
    let mut verdict = Verdict::Linearizable;
    for part in parts(history) {
        match Search::new(&part).run(steps_max) {
            Verdict::Linearizable => {}
            not @ Verdict::Not(_) => return not,
            Verdict::Undecided => verdict = Verdict::Undecided,
        }
    }
    verdict
}

/// One key as one way of linearization knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    value: Value,
    /// None: nobody was told it yet.
    revision: Option<u64>,
}

/// The keys that have a value.
pub type State = BTreeMap<Key, Cell>;

/// What an operation leaves behind if it may end as it did; None if it may not. Without an answer: what it leaves behind if
/// it does anything.
pub fn step(state: &State, action: &Action, index: Option<u64>, answer: Option<&Answer>) -> Option<State> {
    match (action, answer) {
        (Action::Get { key }, answer) => read(state, key, answer?),
        (Action::Batch(actions), answer) => batch(state, actions, index, answer),
        (_, Some(Answer::Exists | Answer::NotFound | Answer::Mismatch)) => {
            let refusal = refusal(state, action)?;
            (refusal.is_none() || refusal.as_ref() == answer).then(|| state.clone())
        }
        _ => write(state, action, index, answer),
    }
}

fn read(state: &State, key: &Key, answer: &Answer) -> Option<State> {
    let Answer::Found(found) = answer else {
        return (*answer == Answer::NotFound && !state.contains_key(key)).then(|| state.clone());
    };
    let held = state.get(key).filter(|held| held.value == found.value)?;
    match (held.revision, found.revision) {
        (Some(held), Some(told)) => (held == told).then(|| state.clone()),
        (Some(_), None) | (None, None) => Some(state.clone()),
        (None, told) => {
            let mut state = state.clone();
            state.insert(key.clone(), Cell { value: found.value.clone(), revision: told });
            Some(state)
        }
    }
}

/// Some(None): it may be refused, because its version is one that nobody was told. None: it would not be refused.
fn refusal(state: &State, action: &Action) -> Option<Option<Answer>> {
    let held = state.get(action.keys()[0]);
    let refused = match action {
        Action::Put { .. } => held.is_some().then_some(Answer::Exists),
        Action::Remove { .. } => held.is_none().then_some(Answer::NotFound),
        Action::CompareAndSet { expected, .. } => match held {
            Some(Cell { revision: None, .. }) if *expected != 0 => return Some(None),
            _ => (held.map_or(Some(0), |held| held.revision) != Some(*expected)).then_some(Answer::Mismatch),
        },
        Action::Increment { by, .. } => sum(held, *by).is_none().then_some(Answer::Mismatch),
        Action::Replace { expected, .. } => held.is_none_or(|held| held.value != *expected).then_some(Answer::Mismatch),
        _ => None,
    };
    refused.map(Some)
}

fn sum(held: Option<&Cell>, by: i64) -> Option<i64> {
    let number = match held {
        None => 0,
        Some(held) => std::str::from_utf8(&held.value).ok()?.parse::<i64>().ok()?,
    };
    number.checked_add(by)
}

fn write(state: &State, action: &Action, index: Option<u64>, answer: Option<&Answer>) -> Option<State> {
    if let Some(Some(_)) = refusal(state, action) {
        return None;
    }
    let key = action.keys()[0];
    let held = state.get(key);
    let (made, value) = match action {
        Action::Put { value, .. }
        | Action::Update { value, .. }
        | Action::CompareAndSet { value, .. }
        | Action::Replace { value, .. } => (created_or_updated(held), Some(value.clone())),
        Action::Append { value, .. } => {
            let whole = [held.map_or(&[][..], |held| &held.value), value].concat();
            (created_or_updated(held), Some(whole.into()))
        }
        Action::Remove { .. } => (Answer::Removed, None),
        Action::Increment { by, .. } => {
            let sum = sum(held, *by)?;
            (Answer::Number(sum), Some(sum.to_string().into()))
        }
        Action::Batch(_) | Action::Get { .. } | Action::Page { .. } => return None,
    };
    if answer.is_some_and(|answer| *answer != made && *answer != Answer::Done) {
        return None;
    }
    let mut state = state.clone();
    match value {
        Some(value) => state.insert(key.clone(), Cell { value, revision: index }),
        None => state.remove(key),
    };
    Some(state)
}

fn created_or_updated(held: Option<&Cell>) -> Answer {
    if held.is_some() {
        Answer::Updated
    } else {
        Answer::Created
    }
}

fn batch(state: &State, actions: &[Action], index: Option<u64>, answer: Option<&Answer>) -> Option<State> {
    let done = match answer {
        Some(Answer::Refused { position, answer }) => {
            let before = batch(state, actions.get(..*position)?, index, None)?;
            step(&before, actions.get(*position)?, index, Some(answer))?;
            return Some(state.clone());
        }
        Some(Answer::Done) | None => actions,
        Some(_) => return None,
    };
    done.iter().try_fold(state.clone(), |state, action| write(&state, action, index, None))
}

/// The operations that count, by groups of keys that depend on each other; in order of their begin.
fn parts(history: &History) -> Vec<Vec<&Operation>> {
    let mut group_of: BTreeMap<&Key, usize> = BTreeMap::new();
    let mut groups: Vec<BTreeSet<&Key>> = Vec::new();
    let counts = |operation: &&Operation| match operation.end {
        End::NotExecuted => false,
        End::Unknown => operation.action.writes(),
        End::Answered { .. } => !operation.action.keys().is_empty(),
    };
    for operation in history.operations.iter().filter(counts) {
        let mut joint: BTreeSet<&Key> = operation.action.keys().into_iter().collect();
        for key in joint.clone() {
            if let Some(group) = group_of.get(key) {
                joint.append(&mut groups[*group]);
            }
        }
        group_of.extend(joint.iter().map(|key| (*key, groups.len())));
        groups.push(joint);
    }
    let mut parts: BTreeMap<usize, Vec<&Operation>> = BTreeMap::new();
    for operation in history.operations.iter().filter(counts) {
        let key = operation.action.keys().into_iter().next();
        if let Some(group) = key.and_then(|key| group_of.get(key)) {
            parts.entry(*group).or_default().push(operation);
        }
    }
    parts.into_values().collect()
}

/// The search through one part.
struct Search<'a> {
    /// Answered operations, by the moment of their end.
    answered: Vec<Call<'a>>,
    unknown: Vec<Call<'a>>,
    /// For each answered operation: those that had begun before its end and ended no earlier; itself first.
    open: Vec<Vec<usize>>,
    /// Where it has been: with which sets of unknown operations used.
    been: BTreeMap<Place, Vec<Rc<Used>>>,
    /// The farthest place.
    best: Option<Place>,
}

struct Call<'a> {
    operation: &'a Operation,
    index: Option<u64>,
    answer: Option<&'a Answer>,
    end: Moment,
}

impl Call<'_> {
    /// Whether it leaves any state that it fits as it was: a read, or what was refused.
    fn only_looks(&self) -> bool {
        let refused =
            matches!(self.answer, Some(Answer::Exists | Answer::NotFound | Answer::Mismatch | Answer::Refused { .. }));
        refused || !self.operation.action.writes()
    }
}

/// Which operations with an unknown end were taken.
type Used = BTreeSet<usize>;

/// What has been linearized, and the state it made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// All answered operations before this one are linearized, and it is not.
    next: usize,
    /// Later ones that are linearized, too.
    ahead: Rc<BTreeSet<usize>>,
    state: Rc<State>,
}

/// One operation that may be next.
#[derive(Clone, Copy)]
enum Candidate {
    Answered(usize),
    Unknown(usize),
}

impl<'a> Search<'a> {
    fn new(part: &[&'a Operation]) -> Self {
        let (mut answered, mut unknown) = (Vec::new(), Vec::new());
        for operation in part {
            match &operation.end {
                End::Answered { at, index, answer } => {
                    answered.push(Call { operation, index: *index, answer: Some(answer), end: *at });
                }
                _ => unknown.push(Call { operation, index: None, answer: None, end: Moment::MAX }),
            }
        }
        answered.sort_by_key(|call| call.end);
        let open_at = |position: usize| {
            let end = answered[position].end;
            (position..answered.len()).filter(|later| answered[*later].operation.begin < end).collect()
        };
        let open = (0..answered.len()).map(open_at).collect();
        Self { answered, unknown, open, been: BTreeMap::new(), best: None }
    }

    /// Depth first; every place with what it has still to try.
    fn run(mut self, steps_max: usize) -> Verdict {
        let start = Place { next: 0, ahead: Rc::default(), state: Rc::default() };
        let mut path: Vec<(Place, Rc<Used>, Vec<Candidate>)> = Vec::new();
        self.enter(&mut path, start, Rc::default());
        let mut steps = 0;
        loop {
            let Some((place, used, candidates)) = path.last_mut() else {
                return Verdict::Not(self.how_far());
            };
            if place.next == self.answered.len() {
                return Verdict::Linearizable;
            }
            let Some(candidate) = candidates.pop() else {
                path.pop();
                continue;
            };
            steps += 1;
            if steps > steps_max {
                return Verdict::Undecided;
            }
            let (place, used) = (place.clone(), used.clone());
            if let Some((place, used)) = self.take(&place, &used, candidate) {
                self.enter(&mut path, place, used);
            }
        }
    }

    /// Goes on from a place, unless that was tried before with no more used.
    fn enter(&mut self, path: &mut Vec<(Place, Rc<Used>, Vec<Candidate>)>, place: Place, used: Rc<Used>) {
        let been = self.been.entry(place.clone()).or_default();
        if been.iter().any(|earlier| earlier.is_subset(&used)) {
            return;
        }
        been.push(used.clone());
        if self.best.as_ref().is_none_or(|best| best.next < place.next) {
            self.best = Some(place.clone());
        }
        let candidates = self.candidates(&place, &used);
        path.push((place, used, candidates));
    }

    /// What may be next, the last one to be tried first. One that only looks, and sees what it was answered without telling
    /// more of it, can be taken at once and alone: whatever order explains the rest explains it with this one in front, too.
    fn candidates(&self, place: &Place, used: &Used) -> Vec<Candidate> {
        let Some(open) = self.open.get(place.next) else { return Vec::new() };
        let open = open.iter().copied().filter(|position| !place.ahead.contains(position));
        let mut answered = Vec::new();
        for position in open {
            let call = &self.answered[position];
            match step(&place.state, &call.operation.action, call.index, call.answer) {
                Some(state) if call.only_looks() && state == *place.state => {
                    return vec![Candidate::Answered(position)];
                }
                Some(_) => answered.push(Candidate::Answered(position)),
                None => {}
            }
        }
        let end = self.answered[place.next].end;
        let begun = |number: &usize| self.unknown[*number].operation.begin < end && !used.contains(number);
        let unknown = (0..self.unknown.len()).filter(begun).map(Candidate::Unknown);
        unknown.chain(answered.into_iter().rev()).collect()
    }

    fn take(&self, place: &Place, used: &Rc<Used>, candidate: Candidate) -> Option<(Place, Rc<Used>)> {
        let mut place = place.clone();
        match candidate {
            Candidate::Unknown(number) => {
                let call = &self.unknown[number];
                let state = step(&place.state, &call.operation.action, None, None)?;
                let mut used = Used::clone(used);
                used.insert(number);
                place.state = Rc::new(state);
                Some((place, Rc::new(used)))
            }
            Candidate::Answered(position) => {
                let call = &self.answered[position];
                let state = step(&place.state, &call.operation.action, call.index, call.answer)?;
                if state != *place.state {
                    place.state = Rc::new(state);
                }
                let ahead = Rc::make_mut(&mut place.ahead);
                ahead.insert(position);
                while ahead.remove(&place.next) {
                    place.next += 1;
                }
                Some((place, used.clone()))
            }
        }
    }

    fn how_far(&self) -> String {
        let Some(best) = &self.best else { return "no operation".to_owned() };
        let Operation { client, action, end, .. } = &self.answered[best.next].operation;
        format!(
            "after {} of {} operations nothing explains client {client}'s {action:?}, {end:?}; one state there: {:?}",
            best.next,
            self.answered.len(),
            best.state
        )
    }
}
