//! The store against a model that keeps every revision whole.

use std::collections::BTreeMap;
use std::ops::Bound;

use proptest::prelude::*;
use protocol::command::{BatchBuilder, Operation};

use super::*;

/// Keys and what they were, at one revision: value, revision, create revision, version.
type State = BTreeMap<Vec<u8>, (Vec<u8>, u64, u64, u64)>;

#[derive(Clone, Debug)]
enum Change {
    Put(u8, u8),
    Update(u8, u8),
    Remove(u8),
    CompareAndSet(u8, Expected, u8),
    Increment(u8, i64),
}

/// What revision a compare-and-set expects.
#[derive(Clone, Copy, Debug)]
enum Expected {
    Absent,
    Present,
    Exactly(u64),
}

#[derive(Clone, Debug)]
enum Step {
    /// One entry, whose changes succeed or not each for itself.
    Entry(Vec<Change>),
    /// One entry, all or nothing.
    Batch(Vec<Change>),
    /// Holds a pin over so many of the steps that follow.
    Pin(usize),
    OpenView,
    CloseView(usize),
    /// Everything that can be read must be as the model says.
    Range(Vec<u8>, Option<Vec<u8>>),
}

fn change() -> impl Strategy<Value = Change> {
    let key = 0..12u8;
    prop_oneof![
        2 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Change::Put(key, value)),
        4 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Change::Update(key, value)),
        3 => key.clone().prop_map(Change::Remove),
        2 => (key.clone(), expected(), any::<u8>()).prop_map(|(key, at, value)| Change::CompareAndSet(key, at, value)),
        2 => (key, prop_oneof![-3..3i64, Just(i64::MAX), Just(i64::MIN)]).prop_map(|(key, by)| Change::Increment(key, by)),
    ]
}

fn expected() -> impl Strategy<Value = Expected> {
    prop_oneof![
        2 => Just(Expected::Absent),
        3 => Just(Expected::Present),
        1 => (0..100u64).prop_map(Expected::Exactly),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let bound = || (0..13u8).prop_map(name);
    prop_oneof![
        12 => proptest::collection::vec(change(), 0..4).prop_map(Step::Entry),
        6 => proptest::collection::vec(change(), 1..5).prop_map(Step::Batch),
        2 => (1..20usize).prop_map(Step::Pin),
        1 => Just(Step::OpenView),
        1 => (0..8usize).prop_map(Step::CloseView),
        2 => (bound(), proptest::option::of(bound())).prop_map(|(from, to)| Step::Range(from, to)),
    ]
}

/// Short and long keys, prefixes of each other, the empty one, with bytes above 127: order is bytewise.
fn name(number: u8) -> Vec<u8> {
    match number {
        0 => Vec::new(),
        1..5 => vec![b'a'; usize::from(number)],
        5..9 => vec![0xFF, number],
        _ => vec![number; 40],
    }
}

struct Model {
    store: Store,
    /// State after each revision.
    history: Vec<State>,
    views: Vec<ViewId>,
}

impl Model {
    fn newest(&self) -> &State {
        self.history.last().expect("it begins with revision 0")
    }

    fn entry(&mut self, changes: &[Change]) {
        let revision = self.history.len() as u64;
        let mut state = self.newest().clone();
        for change in changes {
            let owned = change.owned(&state);
            let outcome = change_state(&mut state, revision, &owned);
            let command = owned.borrow().into();
            assert_eq!(self.store.apply(Index(revision), &command), outcome, "{command:?}");
            assert_eq!(self.store.get(&owned.key), state.get(&owned.key).map(found));
        }
        self.publish(state);
    }

    fn batch(&mut self, changes: &[Change]) {
        let revision = self.history.len() as u64;
        let before = self.newest().clone();
        let mut state = before.clone();
        let mut builder = BatchBuilder::default();
        let mut expected = Outcome::BatchApplied;
        for (position, change) in (0..).zip(changes) {
            let owned = change.owned(&state);
            assert!(builder.push(owned.borrow()));
            let why = match change_state(&mut state, revision, &owned) {
                _ if expected != Outcome::BatchApplied => continue,
                Outcome::Exists => Refusal::Exists,
                Outcome::NotFound => Refusal::NotFound,
                Outcome::Mismatch(at) => Refusal::Mismatch(at),
                Outcome::NotANumber => Refusal::NotANumber,
                Outcome::Overflow => Refusal::Overflow,
                _ => continue,
            };
            expected = Outcome::BatchRefused { position, why };
        }
        if expected != Outcome::BatchApplied {
            state = before;
        }
        let batch = builder.batch().expect("it has a change");
        assert_eq!(self.store.apply(Index(revision), &Command::Batch(batch)), expected, "{changes:?}");
        for change in changes {
            let key = change.owned(&state).key;
            assert_eq!(self.store.get(&key), state.get(&key).map(found));
        }
        self.publish(state);
    }

    fn publish(&mut self, state: State) {
        assert_eq!(self.store.keys(), state.len() as u64);
        self.store.publish(Index(self.history.len() as u64));
        self.history.push(state);
    }

    fn check_views(&self, pinned: &Pinned<'_>) {
        for view in &self.views {
            let at_view = pinned.at_view(*view).expect("it is open");
            let state = &self.history[view.revision.0 as usize];
            check(state, b"", None, at_view.range(b"", None), |key| at_view.get(key));
        }
    }

    /// Takes the steps; a pin is held on the stack while the steps under it are taken.
    fn run(&mut self, mut steps: &[Step]) {
        while let Some((step, rest)) = steps.split_first() {
            steps = rest;
            match step {
                Step::Entry(changes) => self.entry(changes),
                Step::Batch(changes) => self.batch(changes),
                Step::OpenView => self.views.extend(self.store.open_view(1)),
                Step::CloseView(view) if *view < self.views.len() => {
                    let view = self.views.swap_remove(*view);
                    assert!(self.store.close_view(view));
                    assert!(self.store.reader().pin().at_view(view).is_none());
                }
                Step::CloseView(_) => {}
                Step::Range(from, to) => {
                    let mut reader = self.store.reader();
                    let pinned = reader.pin();
                    check(self.newest(), from, to.as_deref(), pinned.range(from, to.as_deref()), |key| pinned.get(key));
                    self.check_views(&pinned);
                }
                Step::Pin(count) => {
                    let (under, after) = steps.split_at((*count).min(steps.len()));
                    let mut reader = self.store.reader();
                    let pinned = reader.pin();
                    let revision = pinned.applied().0;
                    assert_eq!(revision, self.history.len() as u64 - 1);
                    let open = self.views.clone();
                    let at_views: Vec<_> = open.iter().map(|view| pinned.at_view(*view).expect("it is open")).collect();
                    self.run(under);
                    let state = &self.history[revision as usize];
                    check(state, b"", None, pinned.range(b"", None), |key| pinned.get(key));
                    // Those that were closed meanwhile are still whole.
                    for at_view in at_views {
                        let state = &self.history[at_view.revision().0 as usize];
                        check(state, b"", None, at_view.range(b"", None), |key| at_view.get(key));
                    }
                    self.check_views(&pinned);
                    steps = after;
                }
            }
        }
    }
}

/// A change with everything in it decided.
struct Owned {
    key: Vec<u8>,
    value: Vec<u8>,
    expected: u64,
    by: i64,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    Put,
    Update,
    Remove,
    CompareAndSet,
    Increment,
}

impl Change {
    fn owned(&self, state: &State) -> Owned {
        let (what, key, value, by) = match *self {
            Self::Put(key, value) => (What::Put, key, value, 0),
            Self::Update(key, value) => (What::Update, key, value, 0),
            Self::Remove(key) => (What::Remove, key, 0, 0),
            Self::CompareAndSet(key, _, value) => (What::CompareAndSet, key, value, 0),
            Self::Increment(key, by) => (What::Increment, key, 0, by),
        };
        let key = name(key);
        // Half of the values are numbers.
        let value = if value < 128 { value.to_string().into_bytes() } else { vec![value; usize::from(value % 50)] };
        let expected = match self {
            Self::CompareAndSet(_, Expected::Present, _) => state.get(&key).map_or(0, |found| found.1),
            Self::CompareAndSet(_, Expected::Exactly(revision), _) => *revision,
            _ => 0,
        };
        Owned { key, value, expected, by, what }
    }
}

impl Owned {
    fn borrow(&self) -> Operation<'_> {
        let Self { key, value, expected, by, .. } = self;
        match self.what {
            What::Put => Operation::Put { key, value },
            What::Update => Operation::Update { key, value },
            What::Remove => Operation::Remove { key },
            What::CompareAndSet => Operation::CompareAndSet { key, expected: Index(*expected), value },
            What::Increment => Operation::Increment { key, by: *by },
        }
    }
}

/// What one operation does to a whole map.
fn change_state(state: &mut State, revision: u64, change: &Owned) -> Outcome {
    let old = state.get(&change.key).cloned();
    let written = if old.is_some() { Outcome::Updated } else { Outcome::Created };
    let (value, outcome) = match change.what {
        What::Put if old.is_some() => return Outcome::Exists,
        What::Put | What::Update => (change.value.clone(), written),
        What::Remove => {
            state.remove(&change.key);
            return if old.is_some() { Outcome::Removed } else { Outcome::NotFound };
        }
        What::CompareAndSet => {
            let at = old.as_ref().map_or(0, |old| old.1);
            if at != change.expected {
                return Outcome::Mismatch(Index(at));
            }
            (change.value.clone(), written)
        }
        What::Increment => {
            let text = old.as_ref().map_or("0", |old| std::str::from_utf8(&old.0).unwrap_or("none"));
            let Ok(number) = text.parse::<i128>() else { return Outcome::NotANumber };
            let sum = number + i128::from(change.by);
            let Ok(sum) = i64::try_from(sum) else { return Outcome::Overflow };
            (sum.to_string().into_bytes(), Outcome::Number { sum, created: old.is_none() })
        }
    };
    let (create, version) = old.map_or((revision, 0), |old| (old.2, old.3));
    state.insert(change.key.clone(), (value, revision, create, version + 1));
    outcome
}

fn found(value: &(Vec<u8>, u64, u64, u64)) -> Versioned<'_> {
    let (value, revision, create_revision, version) = value;
    Versioned { value, revision: Index(*revision), create_revision: Index(*create_revision), version: *version }
}

fn check<'a>(
    state: &State,
    from: &[u8],
    to: Option<&[u8]>,
    range: Range<'a>,
    get: impl Fn(&[u8]) -> Option<Versioned<'a>>,
) {
    let empty = to.is_some_and(|to| to <= from);
    let to = to.map_or(Bound::Unbounded, Bound::Excluded);
    let expected: Vec<Item<'_>> = if empty {
        Vec::new()
    } else {
        let items = state.range::<[u8], _>((Bound::Included(from), to));
        items.map(|(key, value)| Item { key, versioned: found(value) }).collect()
    };
    assert_eq!(range.collect::<Vec<_>>(), expected);
    for key in (0..13).map(name) {
        assert_eq!(get(&key), state.get(&key).map(found));
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 3 } else { 400 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn agrees_with_the_model(steps in proptest::collection::vec(step(), 1..if cfg!(miri) { 40 } else { 150 })) {
        let mut model = Model { store: Store::new(), history: vec![State::new()], views: Vec::new() };
        let empty = model.store.bytes();
        model.run(&steps);
        // In the end all comes back.
        for view in std::mem::take(&mut model.views) {
            assert!(model.store.close_view(view));
        }
        model.entry(&(0..12).map(Change::Remove).collect::<Vec<_>>());
        for _ in 0..50 {
            model.entry(&[]);
        }
        assert_eq!((model.store.bytes(), model.store.backlog()), (empty, 0));
        assert_eq!(model.store.views(), ViewCounts::default());
    }
}
