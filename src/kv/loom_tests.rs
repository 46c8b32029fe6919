//! Readers beside the writer under loom, on the shipped code:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release --lib kv::loom
//! ```
//!
//! Every look at a node or a version and every freeing passes its guard (`sync::Alive`), so that a model fails when
//! memory is read after it was freed, or at the same time. Loom sees all executions that the memory model allows, up
//! to the given number of preemptions; a list has two levels here, and there are two readers and two views at most.

use loom::thread;

use super::*;

fn model(preemptions: usize, run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(run);
}

fn update<'a>(key: &'a [u8], value: &'a [u8]) -> Command<'a> {
    Command::Update { key, value }
}

/// One published entry.
fn write(store: &mut Store, commands: &[Command<'_>]) {
    let revision = store.applied().next();
    store.apply_all(revision, commands, &mut Vec::new());
    store.publish(revision);
}

fn value<'a>(found: Option<Versioned<'a>>) -> Option<&'a [u8]> {
    found.map(|found| found.value)
}

/// What a pin may see of keys "a" and "b" if each entry wrote both, and entry r wrote the value [r].
fn sees_whole_entries(pinned: &Pinned<'_>) {
    let (a, b) = (value(pinned.get(b"a")), value(pinned.get(b"b")));
    let applied = [pinned.applied().0 as u8];
    assert_eq!((a, b), (Some(&applied[..]), Some(&applied[..])));
}

#[test]
fn an_entry_of_two_keys_is_seen_whole_or_not_at_all() {
    model(5, || {
        let mut store = Store::new();
        let mut reader = store.reader();
        let reading = thread::spawn(move || {
            let first = {
                let pinned = reader.pin();
                let applied = pinned.applied();
                let found = (value(pinned.get(b"a")).is_some(), value(pinned.get(b"b")).is_some());
                assert_eq!(found, (applied >= Index(1), applied >= Index(1)));
                assert_eq!(pinned.range(b"", None).count(), if applied >= Index(1) { 2 } else { 0 });
                applied
            };
            assert!(reader.pin().applied() >= first);
        });
        write(&mut store, &[update(b"b", &[1]), update(b"a", &[1])]);
        reading.join().unwrap();
    });
}

#[test]
fn updates_beside_a_reader() {
    model(5, || {
        let mut store = Store::new();
        write(&mut store, &[update(b"a", &[1]), update(b"b", &[1])]);
        let mut reader = store.reader();
        let reading = thread::spawn(move || sees_whole_entries(&reader.pin()));
        // The second frees what the first superseded, if nobody reads it.
        write(&mut store, &[update(b"a", &[2]), update(b"b", &[2])]);
        write(&mut store, &[update(b"a", &[3]), update(b"b", &[3])]);
        reading.join().unwrap();
    });
}

/// The same slot pins again: what its first pin read may be freed during its second.
#[test]
fn a_reader_that_pins_twice() {
    model(4, || {
        let mut store = Store::new();
        write(&mut store, &[update(b"a", &[1])]);
        let mut reader = store.reader();
        let reading = thread::spawn(move || {
            for _ in 0..2 {
                let pinned = reader.pin();
                assert_eq!(value(pinned.get(b"a")), Some(&[pinned.applied().0 as u8][..]));
            }
        });
        for revision in 2..5 {
            write(&mut store, &[update(b"a", &[revision])]);
        }
        reading.join().unwrap();
    });
}

#[test]
fn a_node_that_is_removed_and_freed_under_a_walk() {
    model(4, || {
        let mut store = Store::new();
        write(&mut store, &[update(b"a", &[1]), update(b"b", &[1]), update(b"c", &[1])]);
        let mut reader = store.reader();
        let reading = thread::spawn(move || {
            let pinned = reader.pin();
            let keys: Vec<&[u8]> = pinned.range(b"", None).map(|item| item.key).collect();
            let expected: &[&[u8]] = if pinned.applied() < Index(2) { &[b"a", b"b", b"c"] } else { &[b"a", b"c"] };
            assert_eq!(keys, expected);
        });
        write(&mut store, &[Command::Remove { key: b"b" }]); // unlinks the value, and then the node
        write(&mut store, &[]); // frees both
        reading.join().unwrap();
    });
}

/// A key that comes back while the node of its former life is on its way out.
#[test]
fn a_key_that_is_removed_and_created_again() {
    model(4, || {
        let mut store = Store::new();
        write(&mut store, &[update(b"b", &[1])]);
        let mut reader = store.reader();
        let reading = thread::spawn(move || {
            let pinned = reader.pin();
            let expected: Option<&[u8]> = match pinned.applied().0 {
                1 => Some(&[1]),
                2 => None,
                _ => Some(&[3]),
            };
            assert_eq!(value(pinned.get(b"b")), expected);
        });
        write(&mut store, &[Command::Remove { key: b"b" }]);
        write(&mut store, &[update(b"b", &[3])]);
        write(&mut store, &[]);
        reading.join().unwrap();
    });
}

/// A pin that finds the view open reads all of its revision, though the view is closed and its versions are unlinked
/// and freed at the same time.
#[test]
fn a_view_that_is_closed_under_its_reader() {
    model(4, || {
        let mut store = Store::new();
        write(&mut store, &[update(b"a", &[1])]);
        let mut reader = store.reader();
        let view = store.open_view(1).expect("the first");
        write(&mut store, &[update(b"a", &[2])]);
        let reading = thread::spawn(move || {
            let pinned = reader.pin();
            if let Some(at_view) = pinned.at_view(view) {
                assert_eq!(value(at_view.get(b"a")), Some(&[1][..]));
            }
        });
        assert!(store.close_view(view));
        write(&mut store, &[]);
        write(&mut store, &[]);
        reading.join().unwrap();
    });
}

/// A view's id reaches another thread before anything else does: at the view, all up to its revision is seen.
#[test]
fn a_view_that_is_opened_beside_a_pin() {
    model(4, || {
        let mut store = Store::new();
        let mut reader = store.reader();
        let view = ViewId { boot: 1, revision: Index(1), serial: sync::VIEWS as u64 }; // what the first one will be
        let reading = thread::spawn(move || {
            let pinned = reader.pin();
            if let Some(at_view) = pinned.at_view(view) {
                assert_eq!(value(at_view.get(b"a")), Some(&[1][..]));
            }
        });
        write(&mut store, &[update(b"a", &[1])]);
        assert_eq!(store.open_view(1), Ok(view));
        write(&mut store, &[update(b"a", &[2])]);
        reading.join().unwrap();
    });
}

/// Whoever is last frees it all; loom reports what is lost.
#[test]
fn the_store_goes_before_its_reader() {
    model(5, || {
        let mut store = Store::new();
        write(&mut store, &[update(b"a", &[1])]);
        let mut reader = store.reader();
        let reading = thread::spawn(move || {
            let pinned = reader.pin();
            assert_eq!(value(pinned.get(b"a")), Some(&[pinned.applied().0 as u8][..]));
        });
        write(&mut store, &[update(b"a", &[2])]);
        drop(store);
        reading.join().unwrap();
    });
}

/// The state after the entry at `applied`, as if from a file: "a" and "b" with that value.
fn restored(applied: u64) -> Restored {
    let value = [applied as u8];
    let versioned = Versioned { value: &value, revision: Index(applied), create_revision: Index(1), version: 1 };
    let mut builder = Builder::new();
    for key in [b"a", b"b"] {
        builder.push(&Item { key, versioned }).expect("ascending");
    }
    let id = protocol::EntryId { term: protocol::Term(1), index: Index(applied) };
    Restored {
        position: Position { id, ..Position::default() },
        format: protocol::format::Format { cluster: protocol::ClusterId(1), members: Vec::new() },
        sessions: Vec::new(),
        built: builder.finish(Index(applied)),
    }
}

/// The list is replaced and freed, by a third thread, while a reader pins twice: each pin sees one list whole.
#[test]
fn a_list_that_is_replaced_and_freed_beside_a_reader() {
    model(3, || {
        let mut store = Store::new();
        write(&mut store, &[update(b"a", &[1]), update(b"b", &[1])]);
        let mut reader = store.reader();
        let reading = thread::spawn(move || {
            sees_whole_entries(&reader.pin());
            sees_whole_entries(&reader.pin());
        });
        let retired = store.replace(restored(5));
        let freeing = thread::spawn(move || retired.try_free().is_ok());
        write(&mut store, &[update(b"a", &[6]), update(b"b", &[6])]);
        freeing.join().unwrap();
        reading.join().unwrap();
    });
}

/// At a view of the old list a pin sees that list's state, at one of the new list the new one's, or neither.
#[test]
fn views_of_a_list_that_is_replaced() {
    model(3, || {
        let mut store = Store::new();
        write(&mut store, &[update(b"a", &[1])]);
        let mut reader = store.reader();
        let old = store.open_view(1).expect("the first");
        write(&mut store, &[update(b"a", &[2])]);
        let new = ViewId { boot: 1, revision: Index(5), serial: 2 * sync::VIEWS as u64 }; // what the second one will be
        let reading = thread::spawn(move || {
            let pinned = reader.pin();
            if let Some(at_view) = pinned.at_view(old) {
                assert_eq!(value(at_view.get(b"a")), Some(&[1][..]));
            }
            if let Some(at_view) = pinned.at_view(new) {
                assert_eq!(value(at_view.get(b"a")), Some(&[5][..]));
            }
        });
        let retired = store.replace(restored(5));
        assert_eq!(store.open_view(1), Ok(new));
        write(&mut store, &[update(b"a", &[6])]);
        drop(retired.try_free());
        reading.join().unwrap();
    });
}
