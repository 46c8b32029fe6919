//! Linearizability by search (Wing and Gong 1993, with Lowe's memoisation 2017): is there *any* order that explains the
//! answers and respects real time? No log index is believed; a revision is a token that is only compared for equality.
//!
//! A history is linearizable if its parts over disjoint keys are (Herlihy and Wing), so each key is searched alone, and keys
//! that a batch names together are searched together. Pages are not looked at: leaving out reads accepts no less.
//!
//! An operation with an unknown end may be taken at any moment after its begin, or never. Of two ways to the same state
//! behind the same answered operations, the one that used fewer of those can do all that the other can: only such ways are
//! followed. And none on which a value is gone that somebody has yet to be told ([`Needed`]).

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::history::{Action, Answer, End, History, Key, Moment, Operation, Value};
use super::needed::{Needed, Writer};

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
        Some(held) => number(&held.value)?,
    };
    number.checked_add(by)
}

fn number(value: &Value) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok()
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

/// The values that somebody was told; none where a value can matter without being told.
fn values_seen<'a>(part: &[&'a Operation]) -> Option<BTreeSet<&'a Value>> {
    let by_value = |action: &Action| matches!(action, Action::Append { .. } | Action::Replace { .. });
    if part.iter().any(|operation| by_value(&operation.action)) {
        return None;
    }
    let told = |operation: &&'a Operation| match &operation.end {
        End::Answered { answer: Answer::Found(found), .. } => Some(&found.value),
        _ => None,
    };
    Some(part.iter().filter_map(told).collect())
}

/// Writes of values that nobody was told, and that are no numbers, are alike: all that can matter is that the key exists.
fn without_unseen_value(action: &Action, seen: Option<&BTreeSet<&Value>>) -> Action {
    match (action, seen) {
        (Action::Put { value, .. } | Action::Update { value, .. }, Some(seen)) if !seen.contains(value) => {
            plain(action)
        }
        _ => action.clone(),
    }
}

/// The action without its value, unless that is a number.
fn plain(action: &Action) -> Action {
    let mut action = action.clone();
    if let Action::Put { value, .. } | Action::Update { value, .. } = &mut action {
        if number(value).is_none() {
            *value = Value::from("\0 not seen by anybody");
        }
    }
    action
}

/// The search through one part.
struct Search<'a> {
    /// Answered operations, by the moment of their end.
    answered: Vec<Call<'a>>,
    /// Operations with an unknown end, equal ones together.
    unknown: Vec<Unknown>,
    needed: Needed,
    /// For each answered operation: those that had begun before its end and ended no earlier; itself first.
    open: Vec<Vec<usize>>,
    /// Where it has been: with which sets of unknown operations used.
    been: BTreeMap<Place, Vec<Rc<Used>>>,
    /// The farthest place.
    best: Option<Place>,
    /// Operations tried so far.
    steps: usize,
}

struct Call<'a> {
    operation: &'a Operation,
    index: Option<u64>,
    answer: Option<&'a Answer>,
    end: Moment,
}

/// Equal operations with an unknown end.
struct Unknown {
    action: Action,
    /// The same as it counts when nobody is to be told its value any more, if that can be.
    plain: Option<Action>,
    /// When they begin, in order, and their numbers.
    each: Vec<(Moment, usize)>,
}

impl Unknown {
    /// Of equal ones, the earliest that is left can do whatever the others can: they are taken in order.
    fn first_left(&self, used: &Used) -> Option<(Moment, usize)> {
        self.each.iter().find(|(_, number)| !used.contains(number)).copied()
    }

    fn any_left(&self, used: &Used) -> bool {
        self.each.last().is_some_and(|(_, number)| !used.contains(number))
    }
}

impl Place {
    fn is_behind(&self, position: usize) -> bool {
        position < self.next || self.ahead.contains(&position)
    }

    /// The place behind an answered operation that leads to `state`.
    fn behind(&self, position: usize, state: Rc<State>) -> Place {
        let mut place = Place { state, ..self.clone() };
        let ahead = Rc::make_mut(&mut place.ahead);
        ahead.insert(position);
        while ahead.remove(&place.next) {
            place.next += 1;
        }
        place
    }
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

/// A place on the way that is being tried, with what is left to try from there.
struct Stage {
    place: Place,
    /// The last one first.
    left: Vec<(Place, Rc<Used>)>,
    /// What some number of unknown operations in a row makes of the place. One more is taken when nothing else is left.
    unknown: Vec<(Rc<State>, Rc<Used>)>,
}

fn equal(action: Action, mut each: Vec<(Moment, usize)>, seen: &Option<BTreeSet<&Value>>) -> Unknown {
    each.sort_unstable();
    let can_be_plain = |value: &Value| seen.is_some() && number(value).is_none();
    let plain = match &action {
        Action::Put { value, .. } | Action::Update { value, .. } if can_be_plain(value) => Some(plain(&action)),
        _ => None,
    };
    Unknown { action, plain, each }
}

impl<'a> Search<'a> {
    fn new(part: &[&'a Operation]) -> Self {
        let mut answered = Vec::new();
        let mut unknown: BTreeMap<Action, Vec<(Moment, usize)>> = BTreeMap::new();
        let seen = values_seen(part);
        for (number, operation) in part.iter().enumerate() {
            match &operation.end {
                End::Answered { at, index, answer } => {
                    answered.push(Call { operation, index: *index, answer: Some(answer), end: *at });
                }
                _ => {
                    let action = without_unseen_value(&operation.action, seen.as_ref());
                    unknown.entry(action).or_default().push((operation.begin, number));
                }
            }
        }
        answered.sort_by_key(|call| call.end);
        let unknown: Vec<Unknown> = unknown.into_iter().map(|(action, each)| equal(action, each, &seen)).collect();
        let actions: Vec<&Action> = unknown.iter().map(|equal| &equal.action).collect();
        let needed = Needed::new(answered.iter().map(|call| call.operation), &actions);
        let open_at = |position: usize| {
            let end = answered[position].end;
            (position..answered.len()).filter(|later| answered[*later].operation.begin < end).collect()
        };
        let open = (0..answered.len()).map(open_at).collect();
        Self { answered, unknown, needed, open, been: BTreeMap::new(), best: None, steps: 0 }
    }

    /// Depth first.
    fn run(mut self, steps_max: usize) -> Verdict {
        let mut path: Vec<Stage> = Vec::new();
        self.enter(&mut path, Place { next: 0, ahead: Rc::default(), state: Rc::default() }, Rc::default());
        loop {
            let Some(stage) = path.last_mut() else {
                return Verdict::Not(self.how_far());
            };
            if stage.place.next == self.answered.len() {
                return Verdict::Linearizable;
            }
            if self.steps > steps_max {
                return Verdict::Undecided;
            }
            if let Some((place, used)) = stage.left.pop() {
                self.enter(&mut path, place, used);
            } else if stage.unknown.is_empty() {
                path.pop();
            } else {
                self.one_more_unknown(stage);
            }
        }
    }

    /// Goes on from a place, unless that was tried before with no more used.
    fn enter(&mut self, path: &mut Vec<Stage>, place: Place, used: Rc<Used>) {
        let been = self.been.entry(place.clone()).or_default();
        if been.iter().any(|earlier| earlier.is_subset(&used)) {
            return;
        }
        been.push(used.clone());
        if self.best.as_ref().is_none_or(|best| best.next < place.next) {
            self.best = Some(place.clone());
        }
        let mut left = Vec::new();
        let alone = self.answered_next(&place, &place.state, &used, &mut left);
        left.reverse();
        let unknown = if alone { Vec::new() } else { vec![(place.state.clone(), used.clone())] };
        path.push(Stage { place, left, unknown });
    }

    /// Where the answered operations that may be next lead, if the state before them is `state`. One that only looks, and sees
    /// what it was answered without telling more of it, is taken at once and alone, which the answer says: whatever order
    /// explains the rest explains it with this one in front, too.
    fn answered_next(
        &mut self,
        place: &Place,
        state: &Rc<State>,
        used: &Rc<Used>,
        left: &mut Vec<(Place, Rc<Used>)>,
    ) -> bool {
        let Some(open) = self.open.get(place.next) else { return true };
        for position in open.iter().copied().filter(|position| !place.ahead.contains(position)) {
            self.steps += 1;
            let call = &self.answered[position];
            let Some(after) = step(state, &call.operation.action, call.index, call.answer) else { continue };
            let same = after == **state;
            let before = state;
            let state = if same { state.clone() } else { Rc::new(after) };
            let next = place.behind(position, state);
            if same && call.only_looks() {
                left.clear();
                left.push((next, used.clone()));
                return true;
            }
            if !self.loses(before, &call.operation.action, &next, used) {
                left.push((next, used.clone()));
            }
        }
        false
    }

    /// Whether an action that leads to a place replaces a value that somebody has yet to be told.
    fn loses(&self, before: &State, action: &Action, place: &Place, used: &Used) -> bool {
        action.keys().into_iter().any(|key| {
            let held = before.get(key);
            let stays = |held: &Cell| place.state.get(key).is_some_and(|cell| cell.value == held.value);
            held.is_some_and(|held| !stays(held) && self.must_stay(key, held, place, used))
        })
    }

    /// Whether a value that is held is yet to be told, and nothing is left to write it again.
    fn must_stay(&self, key: &Key, held: &Cell, place: &Place, used: &Used) -> bool {
        let left = |writer| match writer {
            Writer::Answered(position) => !place.is_behind(position),
            Writer::Unknown(kind) => self.unknown[kind].any_left(used),
        };
        self.needed.is_lost(key, &held.value, |position| !place.is_behind(position), left)
    }

    /// Takes one more unknown operation than before, each that may be next, and then an answered one. Ways to the same state
    /// that use no less are left out.
    fn one_more_unknown(&mut self, stage: &mut Stage) {
        let mut reached: BTreeMap<State, Vec<Rc<Used>>> = BTreeMap::new();
        for (state, used) in std::mem::take(&mut stage.unknown) {
            let place = Place { state, ..stage.place.clone() };
            for (after, number) in self.unknown_next(&place, &used) {
                let sets = reached.entry(after).or_default();
                let mut used = Used::clone(&used);
                used.insert(number);
                if !sets.iter().any(|earlier| earlier.is_subset(&used)) {
                    sets.push(Rc::new(used));
                }
            }
        }
        let mut left = Vec::new();
        for (state, sets) in reached {
            let place = Place { state: Rc::new(state), ..stage.place.clone() };
            for used in sets {
                let before = self.been.entry(place.clone()).or_default();
                if before.iter().any(|earlier| earlier.is_subset(&used)) {
                    continue;
                }
                before.push(used.clone());
                let mut next = Vec::new();
                self.answered_next(&place, &place.state, &used, &mut next);
                left.append(&mut next);
                stage.unknown.push((place.state.clone(), used));
            }
        }
        left.reverse();
        stage.left = left;
    }

    /// What each unknown operation that may be next makes of a place, and its number. Of those whose value nobody is to be
    /// told any more one is tried: whatever is done with another can be done with it.
    fn unknown_next(&mut self, place: &Place, used: &Used) -> Vec<(State, usize)> {
        let end = self.answered[place.next].end;
        let stay = |(key, held): &(&Key, &Cell)| self.must_stay(key, held, place, used);
        let bound: Vec<&Key> = place.state.iter().filter(stay).map(|(key, _)| key).collect();
        let (mut next, mut alike, mut steps) = (Vec::new(), BTreeSet::new(), 0);
        for equal in &self.unknown {
            let Some((_, number)) = equal.first_left(used).filter(|(begin, _)| *begin < end) else { continue };
            if equal.action.keys().iter().any(|key| bound.contains(key)) {
                continue;
            }
            let spent = equal.plain.as_ref().filter(|_| self.is_spent(&equal.action, place));
            if spent.is_some_and(|plain| !alike.insert(plain)) {
                continue;
            }
            steps += 1;
            let Some(after) = step(&place.state, spent.unwrap_or(&equal.action), None, None) else { continue };
            let mut taken = used.clone();
            taken.insert(number);
            if self.leads_on(&equal.action, &after, place, &taken) {
                next.push((after, number));
            }
        }
        self.steps += steps;
        next
    }

    /// Whether nobody is to be told any more what an action writes.
    fn is_spent(&self, action: &Action, place: &Place) -> bool {
        let (Action::Put { key, value } | Action::Update { key, value }) = action else { return false };
        self.needed.readers(key, value).iter().rev().all(|reader| place.is_behind(*reader))
    }

    /// A value that must stay until it is told, to nobody who is open yet: the operation that ends first comes before whoever
    /// it is told, so it has to find it and to leave it.
    fn leads_on(&self, action: &Action, state: &State, place: &Place, used: &Used) -> bool {
        let (Action::Put { key, value } | Action::Update { key, value }) = action else { return true };
        let first = &self.answered[place.next];
        let Some(held) = state.get(key).filter(|held| held.value == *value) else { return true };
        if first.operation.action.keys() != [key] || !self.must_stay(key, held, place, used) {
            return true;
        }
        let to_come = |reader: &&usize| !place.is_behind(**reader);
        let is_open = |reader: &usize| self.answered[*reader].operation.begin < first.end;
        let mut readers = self.needed.readers(key, value).iter().filter(to_come);
        readers.any(is_open) || step(state, &first.operation.action, first.index, first.answer).as_ref() == Some(state)
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
