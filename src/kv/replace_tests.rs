//! Lists that are built from sorted items, and that replace another one beside its readers.

use std::collections::BTreeMap;

use proptest::prelude::*;
use protocol::format::Format;
use protocol::{ClusterId, EntryId, Term};

use super::*;

fn item<'a>(key: &'a [u8], value: &'a [u8], revision: u64) -> Item<'a> {
    let versioned = Versioned { value, revision: Index(revision), create_revision: Index(1.min(revision)), version: 3 };
    Item { key, versioned }
}

/// A state at `applied`, as if from a file.
fn restored(applied: u64, items: &[Item<'_>]) -> Restored {
    let mut builder = Builder::new();
    for item in items {
        builder.push(item).expect("ascending");
    }
    let id = EntryId { term: Term(1), index: Index(applied) };
    Restored {
        position: Position { id, ..Position::default() },
        format: Format { cluster: ClusterId(1), members: Vec::new() },
        sessions: Vec::new(),
        built: builder.finish(Index(applied)),
    }
}

fn write(store: &mut Store, command: Command<'_>) {
    let revision = store.applied().next();
    store.apply(revision, &command);
    store.publish(revision);
}

fn update<'a>(key: &'a [u8], value: &'a [u8]) -> Command<'a> {
    Command::Update { key, value }
}

/// Frees a replaced list, which nobody reads; counts the calls.
fn free(mut retired: Retired) -> usize {
    for calls in 1.. {
        retired = match retired.try_free() {
            Ok(()) => return calls,
            Err(left) => left,
        };
        assert!(retired.is_left(), "nobody reads it");
    }
    unreachable!()
}

#[test]
fn items_come_in_ascending_order_only() {
    let mut builder = Builder::new();
    builder.push(&item(b"", b"the empty key is the first", 1)).expect("nothing is before it");
    assert_eq!(builder.push(&item(b"", b"again", 1)), Err(OutOfOrder));
    builder.push(&item(b"b", b"", 2)).expect("above");
    for key in [&b""[..], b"a", b"azzz", b"b"] {
        assert_eq!(builder.push(&item(key, b"", 3)), Err(OutOfOrder));
    }
    builder.push(&item(b"b\0", b"", 3)).expect("the nearest key above");
    assert_eq!(builder.keys(), 3);
    let built = builder.finish(Index(3));
    assert_eq!((built.applied(), built.keys()), (Index(3), 3));
    assert!(built.bytes() > 0);
}

#[test]
#[should_panic(expected = "a value of revision 4 in a list of 3")]
fn a_value_from_the_future_is_impossible() {
    let mut builder = Builder::new();
    builder.push(&item(b"a", b"", 4)).expect("the first");
    builder.finish(Index(3));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// A restored store is like one that was written: same look-ups, same ranges, and it goes on the same way.
    #[test]
    fn a_built_list_reads_and_changes_like_a_written_one(
        keys in proptest::collection::btree_map(proptest::collection::vec(any::<u8>(), 0..4), 0..50u8, 0..120),
        changed in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..4), any::<bool>()), 0..60),
    ) {
        let keys: BTreeMap<Vec<u8>, Vec<u8>> =
            keys.into_iter().map(|(key, length)| (key, vec![length; usize::from(length)])).collect();
        let items: Vec<Item<'_>> = keys.iter().map(|(key, value)| item(key, value, 7)).collect();
        let mut store = Store::restore(restored(9, &items));
        let empty = Store::new().bytes();
        prop_assert_eq!((store.applied(), store.keys()), (Index(9), keys.len() as u64));
        let mut reader = store.reader();
        {
            let pinned = reader.pin();
            prop_assert_eq!(pinned.applied(), Index(9));
            prop_assert_eq!(pinned.range(b"", None).collect::<Vec<_>>(), items.clone());
            for item in &items {
                prop_assert_eq!(pinned.get(item.key), Some(item.versioned));
            }
        }
        let mut model = keys.clone();
        for (key, keeps) in changed.into_iter().chain(keys.keys().map(|key| (key.clone(), false))) {
            let (expected, command) = match (keeps, model.contains_key(&key)) {
                (true, old) => (if old { Outcome::Updated } else { Outcome::Created }, update(&key, b"new")),
                (false, old) => (if old { Outcome::Removed } else { Outcome::NotFound }, Command::Remove { key: &key }),
            };
            let revision = store.applied().next();
            prop_assert_eq!(store.apply(revision, &command), expected);
            store.publish(revision);
            if keeps { model.insert(key, b"new".to_vec()) } else { model.remove(&key) };
            let pinned = reader.pin();
            let seen: Vec<(Vec<u8>, Vec<u8>)> =
                pinned.range(b"", None).map(|item| (item.key.to_vec(), item.versioned.value.to_vec())).collect();
            prop_assert_eq!(seen, model.clone().into_iter().collect::<Vec<_>>());
        }
        for key in model.keys() {
            write(&mut store, Command::Remove { key });
        }
        while store.backlog() > 0 {
            store.publish(store.applied());
        }
        prop_assert_eq!((store.bytes(), store.keys()), (empty, 0));
    }
}

#[test]
fn a_list_that_is_replaced_stays_whole_for_its_pins_and_no_longer() {
    let mut store = Store::new();
    for round in 0..3u8 {
        for key in 0..10u8 {
            write(&mut store, update(&[key], &[round; 30]));
        }
    }
    let (mut early, mut late) = (store.reader(), store.reader());
    let pinned = early.pin();
    let applied = pinned.applied();
    write(&mut store, update(&[0], b"supersedes what the pin sees"));
    write(&mut store, Command::Remove { key: &[1] });
    let retired = store.replace(restored(100, &[item(b"a", b"new", 90), item(b"b", b"new", 100)]));
    assert_eq!((store.applied(), store.keys()), (Index(100), 2));
    assert_eq!(store.get(b"a").map(|found| found.revision), Some(Index(90)));
    let bytes = retired.bytes();
    let retired = retired.try_free().expect_err("a pin is in it");
    assert!(!retired.is_left());
    assert_eq!(retired.bytes(), bytes);
    {
        let pinned = late.pin();
        assert_eq!(pinned.applied(), Index(100));
        assert_eq!(pinned.range(b"", None).map(|item| item.key.to_vec()).collect::<Vec<_>>(), [b"a", b"b"]);
        assert_eq!(pinned.get(&[0]), None);
    }
    assert_eq!(pinned.applied(), applied);
    assert_eq!(pinned.range(b"", None).count(), 10);
    assert!(pinned.range(b"", None).all(|item| item.versioned.value == [2; 30]));
    drop(pinned);
    let pinned = early.pin();
    assert_eq!(pinned.applied(), Index(100));
    assert_eq!(free(retired), 1, "the pins that there are look at the new list");
    assert_eq!(pinned.range(b"", None).count(), 2);
    drop(pinned);
    write(&mut store, update(b"c", b"goes on"));
    assert_eq!(early.pin().range(b"", None).count(), 3);
}

#[test]
fn a_replaced_list_is_freed_in_bounded_steps() {
    let steps = crate::limits::REPLACED_LIST_STEPS;
    let mut store = Store::new();
    for number in 0..3 * steps as u64 {
        write(&mut store, update(&number.to_be_bytes(), b"value"));
    }
    let mut retired = store.replace(restored(1 << 40, &[]));
    let bytes = retired.bytes();
    retired = retired.try_free().expect_err("it is long");
    assert!(retired.is_left());
    assert!(retired.bytes() > bytes / 2 && retired.bytes() < bytes, "{} of {bytes}", retired.bytes());
    assert_eq!(free(retired), 3, "the head is a node too");
}

/// The views of the old list end; those of the new one are its own, and no pin takes one list's view for the other's.
#[test]
fn views_end_with_their_list() {
    let mut store = Store::new();
    write(&mut store, update(b"a", b"old"));
    let client = store.open_view(1).expect("the first");
    let snapshot = store.open_snapshot_view(1, false).expect("the first");
    assert!(store.view_is_open(client) && store.view_is_open(snapshot));
    write(&mut store, update(b"a", b"newer"));
    assert!(store.views().held_bytes > 0);
    let (mut early, mut late, mut middle) = (store.reader(), store.reader(), store.reader());
    let pinned = early.pin();
    let at_view = pinned.at_view(client).expect("open");
    let retired = store.replace(restored(50, &[item(b"a", b"restored", 40)]));
    assert_eq!(store.views(), ViewCounts::default());
    assert!(!store.view_is_open(client) && !store.close_view(client) && !store.close_view(snapshot));
    assert!(pinned.at_view(client).is_none(), "closed");
    assert_eq!(at_view.get(b"a").map(|found| found.value), Some(&b"old"[..]), "whole as long as the pin");
    assert!(late.pin().at_view(client).is_none());
    let opened = store.open_view(1).expect("all places are free");
    assert!(![client, snapshot].contains(&opened) && opened.revision == Index(50));
    assert!(pinned.at_view(opened).is_none(), "the pin is of the old list");
    write(&mut store, update(b"a", b"after"));
    let at_new = middle.pin();
    assert_eq!(at_new.at_view(opened).expect("open").get(b"a").map(|found| found.value), Some(&b"restored"[..]));
    drop(at_new);
    drop(pinned);
    free(retired);
}

#[test]
fn a_snapshot_s_view_has_places_and_a_limit_of_its_own() {
    let mut store = Store::new();
    store.set_view_bytes_max(1_000);
    for key in 0..20u8 {
        write(&mut store, update(&[key], &[1; 100]));
    }
    while store.open_view(1).is_ok() {}
    let first = store.open_snapshot_view(1, false).expect("clients take no places of snapshots");
    assert_eq!(store.snapshot_held_bytes(), 0);
    for key in 0..20u8 {
        write(&mut store, update(&[key], &[2; 100]));
        assert!(store.snapshot_held_bytes() <= 1_000);
    }
    assert!(!store.view_is_open(first), "abandoned");
    assert_eq!((store.snapshot_held_bytes(), store.views().snapshots_abandoned), (0, 1));
    let patient = store.open_snapshot_view(1, true).expect("there are two places");
    for key in 0..20u8 {
        write(&mut store, update(&[key], &[3; 100]));
    }
    assert!(store.view_is_open(patient));
    assert!(store.snapshot_held_bytes() > 2_000, "who opened it holds writes back");
    let mut reader = store.reader();
    assert!(reader.pin().at_view(patient).expect("open").range(b"", None).all(|item| item.versioned.value == [2; 100]));
    assert!(store.close_view(patient));
    assert_eq!((store.snapshot_held_bytes(), store.views().snapshots_abandoned), (0, 1));
}

#[test]
#[should_panic(expected = "a list of 3 replaces one of 3")]
fn a_snapshot_that_is_not_newer_is_impossible() {
    let mut store = Store::new();
    (0..3).for_each(|_| write(&mut store, update(b"a", b"1")));
    store.replace(restored(3, &[]));
}

/// Every byte comes back, whoever is last; `Estate` asserts it.
#[test]
fn store_readers_and_replaced_lists_may_go_in_any_order() {
    for order in 0..6 {
        let mut store = Store::new();
        (0..20u8).for_each(|key| write(&mut store, update(&[key], &[key; 50])));
        let mut reader = store.reader();
        let pinned = reader.pin();
        let first = store.replace(restored(30, &[item(b"a", b"1", 3)]));
        let second = store.replace(restored(40, &[item(b"b", b"1", 3)]));
        let unused = restored(50, &[item(b"c", b"1", 3)]);
        match order {
            0 => drop((store, first, second, unused)),
            1 => drop((first, store)),
            2 => drop((second.try_free().expect_err("the pin is older"), store)),
            3 => drop(Builder::new()),
            4 => {
                drop(pinned);
                assert_eq!((free(second), free(first)), (1, 1));
                drop((reader, store));
                continue;
            }
            _ => {
                drop(pinned);
                drop(reader);
                drop(store);
                assert_eq!(free(first), 1);
                continue;
            }
        }
        assert_eq!(pinned.range(b"", None).count(), 20);
    }
}
