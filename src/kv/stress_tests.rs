//! Reader threads beside the writer on real hardware: what sanitizers and Miri look at. Bounded by counts, without
//! clocks or sleeps.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::*;

const READERS: usize = 3;
const KEYS: u64 = 16;
const ENTRIES: u64 = if cfg!(miri) { 200 } else { 60_000 };
/// After so many entries a snapshot is installed that is somewhat newer than the list.
const ENTRIES_PER_LIST: u64 = ENTRIES / 60;
/// Pins that every reader must have had before the writer stops.
const PINS: u64 = if cfg!(miri) { 10 } else { 2_000 };

/// Entry r writes the value r to "left/k" and "right/k", or removes both, with k = r % KEYS.
fn names(number: u64) -> [Vec<u8>; 2] {
    ["left", "right"].map(|side| format!("{side}/{number:02}").into_bytes())
}

fn removes(revision: u64) -> bool {
    (revision / KEYS).is_multiple_of(3)
}

/// The revision that wrote `number`'s value as of `applied`.
fn expected(number: u64, applied: u64) -> Option<u64> {
    let revision = (0..=applied).rev().take(KEYS as usize).find(|revision| revision % KEYS == number)?;
    (revision > 0 && !removes(revision)).then_some(revision)
}

fn apply(store: &mut Store, revision: u64) {
    let [left, right] = names(revision % KEYS);
    let value = revision.to_le_bytes();
    let commands = if removes(revision) {
        [Command::Remove { key: &left }, Command::Remove { key: &right }]
    } else {
        [Command::Update { key: &left, value: &value }, Command::Update { key: &right, value: &value }]
    };
    store.apply_all(Index(revision), &commands, &mut Vec::new());
    store.publish(Index(revision));
}

fn number(found: Versioned<'_>) -> u64 {
    let value = u64::from_le_bytes(found.value.try_into().expect("eight bytes"));
    assert_eq!(found.revision, Index(value));
    value
}

/// What a snapshot at `revision` holds.
fn restored(revision: u64) -> Restored {
    let mut builder = Builder::new();
    let all = |side: usize| (0..KEYS).filter_map(move |k| Some((names(k)[side].clone(), expected(k, revision)?)));
    for (key, written) in all(0).chain(all(1)) {
        let (value, revision) = (written.to_le_bytes(), Index(written));
        let versioned = Versioned { value: &value, revision, create_revision: revision, version: 1 };
        builder.push(&Item { key: &key, versioned }).expect("ascending");
    }
    let id = protocol::EntryId { term: protocol::Term(1), index: Index(revision) };
    Restored {
        position: Position { id, ..Position::default() },
        format: protocol::format::Format { cluster: protocol::ClusterId(1), members: Vec::new() },
        sessions: Vec::new(),
        built: builder.finish(Index(revision)),
    }
}

/// Frees replaced lists as they come, as the bulk worker does.
fn free(lists: &std::sync::mpsc::Receiver<Retired>) -> usize {
    let free = |mut list: Retired| {
        while let Err(left) = list.try_free() {
            list = left;
            thread::yield_now(); // a reader was interrupted within a pin
        }
    };
    lists.iter().map(free).count()
}

/// All that is seen at `revision` is what the entries up to it left, whole.
fn check<'a>(
    revision: u64,
    salt: u64,
    get: impl Fn(&[u8]) -> Option<Versioned<'a>>,
    range: impl Iterator<Item = Item<'a>>,
) {
    let [left, right] = names(salt % KEYS);
    let pair = [get(&left), get(&right)].map(|found| found.map(number));
    assert_eq!(pair, [expected(salt % KEYS, revision); 2], "at {revision}");
    let seen: Vec<(Vec<u8>, u64)> = range.map(|item| (item.key.to_vec(), number(item.versioned))).collect();
    let all = |side: usize| (0..KEYS).filter_map(move |k| Some((names(k)[side].clone(), expected(k, revision)?)));
    assert_eq!(seen, all(0).chain(all(1)).collect::<Vec<_>>(), "at {revision}");
}

/// Stops the readers when it is dropped.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A view's id on its way to the readers.
#[derive(Default)]
struct Posted {
    revision: AtomicU64,
    serial: AtomicU64,
}

impl Posted {
    fn post(&self, view: ViewId) {
        self.revision.store(view.revision.0, Ordering::Relaxed);
        self.serial.store(view.serial, Ordering::Relaxed);
    }

    /// May be torn: then there is no such view.
    fn look(&self) -> ViewId {
        let (revision, serial) = (self.revision.load(Ordering::Relaxed), self.serial.load(Ordering::Relaxed));
        ViewId { boot: 1, revision: Index(revision), serial }
    }
}

fn read(mut reader: Reader, posted: &Posted, pins: &AtomicU64, at_views: &AtomicU64, stop: &AtomicBool) {
    let (mut last, mut salt) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        salt += 7;
        let pinned = reader.pin();
        let applied = pinned.applied().0;
        assert!(applied >= last, "applied went back from {last} to {applied}");
        last = applied;
        let view = posted.look();
        let at_view = pinned.at_view(view);
        check(applied, salt, |key| pinned.get(key), pinned.range(b"", None));
        if let Some(at_view) = at_view {
            check(view.revision.0, salt, |key| at_view.get(key), at_view.range(b"", None));
            at_views.fetch_add(1, Ordering::Relaxed);
        }
        pins.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn readers_beside_the_writer() {
    let mut store = Store::new();
    let empty = store.bytes();
    let posted = Posted::default();
    let stop = AtomicBool::new(false);
    let pins: [AtomicU64; READERS] = Default::default();
    let at_views: [AtomicU64; READERS] = Default::default();
    let (retire, retired) = std::sync::mpsc::channel();
    let freed = thread::scope(|scope| {
        let freeing = scope.spawn(move || free(&retired));
        let _stop_readers = Stop(&stop); // also when the writer fails
        for (pins, at_views) in pins.iter().zip(&at_views) {
            let (reader, posted, stop) = (store.reader(), &posted, &stop);
            scope.spawn(move || {
                // A reader that fails must not leave the writer waiting for its pins.
                let result = std::panic::catch_unwind(|| read(reader, posted, pins, at_views, stop));
                pins.fetch_add(PINS, Ordering::Relaxed);
                at_views.fetch_add(1, Ordering::Relaxed);
                result.unwrap();
            });
        }
        let busy = |counts: &[AtomicU64], least| counts.iter().any(|count| count.load(Ordering::Relaxed) < least);
        let mut view: Option<ViewId> = None;
        let mut revision = 0;
        while revision < ENTRIES || busy(&pins, PINS) || busy(&at_views, 1) {
            revision += 1;
            if revision.is_multiple_of(ENTRIES_PER_LIST) {
                revision += revision % 90;
                retire.send(store.replace(restored(revision))).expect("it is waiting for them");
                view = None; // it ended with its list
                continue;
            }
            apply(&mut store, revision);
            if revision.is_multiple_of(50) {
                match view.take() {
                    Some(view) => assert!(store.close_view(view)),
                    // Full: a reader was interrupted within a pin, and all that was closed since waits for it.
                    None => view = store.open_view(1).ok(),
                }
                view.into_iter().for_each(|view| posted.post(view));
            }
            if cfg!(miri) || store.backlog() > 100_000 {
                thread::yield_now(); // a reader was interrupted within a pin
            }
        }
        if let Some(view) = view {
            assert!(store.close_view(view));
        }
        drop(retire);
        freeing.join().expect("every list is left in the end")
    });
    assert!(freed >= 30, "{freed} lists were replaced");
    // Nobody reads anymore: everything goes.
    for key in (0..KEYS).flat_map(names) {
        let revision = store.applied().next();
        store.apply(revision, &Command::Remove { key: &key });
        store.publish(revision);
    }
    while store.backlog() > 0 || store.views().held_bytes > 0 {
        let before = (store.backlog(), store.views(), store.bytes());
        // What one call unlinks stays in the backlog until the next may free it: if all is still linked, the first moves nothing.
        store.publish(store.applied());
        store.publish(store.applied());
        assert_ne!((store.backlog(), store.views(), store.bytes()), before, "each two calls go on");
    }
    assert_eq!((store.bytes(), store.keys(), store.views()), (empty, 0, ViewCounts::default()));
}
