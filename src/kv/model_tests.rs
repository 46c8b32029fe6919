//! The store against a model that keeps every revision whole.

use std::collections::BTreeMap;
use std::ops::Bound;

use proptest::prelude::*;

use super::*;

/// Keys and what they were, at one revision: value, revision, create revision, version.
type State = BTreeMap<Vec<u8>, (Vec<u8>, u64, u64, u64)>;

#[derive(Clone, Debug)]
enum Change {
    Put(u8, u8),
    Update(u8, u8),
    Remove(u8),
}

#[derive(Clone, Debug)]
enum Step {
    /// One entry.
    Entry(Vec<Change>),
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
        3 => key.prop_map(Change::Remove),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let bound = || (0..13u8).prop_map(name);
    prop_oneof![
        12 => proptest::collection::vec(change(), 0..4).prop_map(Step::Entry),
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
            let (key, value) = match change {
                Change::Put(key, value) | Change::Update(key, value) => {
                    (name(*key), vec![*value; usize::from(*value % 50)])
                }
                Change::Remove(key) => (name(*key), Vec::new()),
            };
            let old = state.get(&key).map(|old| (old.2, old.3));
            let (create, version) = old.unwrap_or((revision, 0));
            let (command, outcome) = match (change, old.is_some()) {
                (Change::Put(..), true) => (Command::Put { key: &key, value: &value }, Outcome::Exists),
                (Change::Put(..), false) => (Command::Put { key: &key, value: &value }, Outcome::Created),
                (Change::Update(..), true) => (Command::Update { key: &key, value: &value }, Outcome::Updated),
                (Change::Update(..), false) => (Command::Update { key: &key, value: &value }, Outcome::Created),
                (Change::Remove(_), true) => (Command::Remove { key: &key }, Outcome::Removed),
                (Change::Remove(_), false) => (Command::Remove { key: &key }, Outcome::NotFound),
            };
            assert_eq!(self.store.apply(Index(revision), &command), outcome);
            match outcome {
                Outcome::Removed => drop(state.remove(&key)),
                Outcome::Created | Outcome::Updated => {
                    drop(state.insert(key.clone(), (value.clone(), revision, create, version + 1)));
                }
                Outcome::Exists | Outcome::NotFound => {}
            }
            assert_eq!(self.store.get(&key), state.get(&key).map(found));
        }
        assert_eq!(self.store.keys(), state.len() as u64);
        self.store.publish(Index(revision));
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
