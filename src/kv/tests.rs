//! Tests of the store as a whole.

use protocol::command::{BatchBuilder, Operation};

use super::*;

#[test]
fn outcomes_and_numbers() {
    let mut store = Store::new();
    let put = |value| Command::Put { key: b"k", value };
    let update = |value| Command::Update { key: b"k", value };
    let remove = Command::Remove { key: b"k" };
    /// Command, its outcome, and what the key is then: value, create revision, version.
    type Step<'a> = (Command<'a>, Outcome, Option<(&'a [u8], u64, u64)>);
    let steps: [Step<'_>; 9] = [
        (remove, Outcome::NotFound, None),
        (put(b"a"), Outcome::Created, Some((b"a", 2, 1))),
        (put(b"b"), Outcome::Exists, Some((b"a", 2, 1))),
        (update(b"c"), Outcome::Updated, Some((b"c", 2, 2))),
        (update(b""), Outcome::Updated, Some((b"", 2, 3))),
        (remove, Outcome::Removed, None),
        (remove, Outcome::NotFound, None),
        (update(b"d"), Outcome::Created, Some((b"d", 8, 1))),
        (remove, Outcome::Removed, None),
    ];
    let mut reader = store.reader();
    let mut written = 0;
    for (revision, (command, outcome, expected)) in (1..).zip(steps) {
        assert_eq!(store.apply(Index(revision), &command), outcome, "{command:?}");
        if !matches!(outcome, Outcome::Exists | Outcome::NotFound) {
            written = revision;
        }
        let expected = expected.map(|(value, create_revision, version)| Versioned {
            value,
            revision: Index(written),
            create_revision: Index(create_revision),
            version,
        });
        assert_eq!(store.get(b"k"), expected);
        store.publish(Index(revision));
        let pinned = reader.pin();
        assert_eq!((pinned.applied(), pinned.get(b"k")), (Index(revision), expected));
        assert_eq!(store.keys(), u64::from(expected.is_some()));
    }
}

#[test]
fn compare_and_set_asks_for_the_keys_revision() {
    let mut store = Store::new();
    let cas = |expected, value| Command::CompareAndSet { key: b"k", expected: Index(expected), value };
    let steps: [(Command<'_>, Outcome); 7] = [
        (cas(7, b"a"), Outcome::Mismatch(Index(0))),
        (cas(0, b"b"), Outcome::Created),
        (cas(0, b"c"), Outcome::Mismatch(Index(2))),
        (cas(2, b"d"), Outcome::Updated),
        (cas(2, b"e"), Outcome::Mismatch(Index(4))),
        (Command::Remove { key: b"k" }, Outcome::Removed),
        (cas(4, b"f"), Outcome::Mismatch(Index(0))),
    ];
    for (command, outcome) in steps {
        assert_eq!(write(&mut store, command), outcome, "{command:?}");
    }
}

#[test]
fn increments_add_to_text_and_never_wrap() {
    let mut store = Store::new();
    let add = |by| Command::Increment { key: b"k", by };
    let sum = |sum, created| Outcome::Number { sum, created };
    assert_eq!(write(&mut store, add(-5)), sum(-5, true));
    assert_eq!(store.get(b"k").map(|found| (found.value, found.version)), Some((&b"-5"[..], 1)));
    assert_eq!(write(&mut store, add(i64::MAX)), sum(i64::MAX - 5, false));
    assert_eq!(write(&mut store, add(6)), Outcome::Overflow);
    assert_eq!(write(&mut store, add(5)), sum(i64::MAX, false));
    assert_eq!(write(&mut store, update(b"k", b"five")), Outcome::Updated);
    assert_eq!(write(&mut store, add(1)), Outcome::NotANumber);
    assert_eq!(store.get(b"k").map(|found| (found.value, found.version)), Some((&b"five"[..], 4)));
}

fn batch(operations: &[Operation<'_>]) -> BatchBuilder {
    let mut builder = BatchBuilder::default();
    assert!(operations.iter().all(|operation| builder.push(*operation)));
    builder
}

#[test]
fn a_batch_is_applied_whole_or_not_at_all_and_its_operations_see_each_other() {
    let mut store = Store::new();
    let mut reader = store.reader();
    let (put_a, add_b) = (Operation::Put { key: b"a", value: b"1" }, Operation::Increment { key: b"b", by: 2 });
    let none = Operation::CompareAndSet { key: b"a", expected: Index(0), value: b"2" };
    let remove_a = Operation::Remove { key: b"a" };
    let refused = |position, why| Outcome::BatchRefused { position, why };
    let first = Index(4);
    let steps: [(&[Operation<'_>], Outcome); 6] = [
        (&[put_a, add_b, put_a], refused(2, Refusal::Exists)),
        (&[remove_a], refused(0, Refusal::NotFound)),
        (&[put_a, none], refused(1, Refusal::Mismatch(Index(3)))), // the put before it made this very revision
        (&[put_a, remove_a, none, Operation::Increment { key: b"a", by: 3 }, add_b, add_b], Outcome::BatchApplied),
        (&[add_b, Operation::Increment { key: b"a", by: i64::MAX }], refused(1, Refusal::Overflow)),
        (
            &[Operation::Update { key: b"a", value: b"x" }, Operation::Increment { key: b"a", by: 1 }],
            refused(1, Refusal::NotANumber),
        ),
    ];
    for (operations, outcome) in steps {
        let before = reader.pin();
        let keys: Vec<_> = before.range(b"", None).map(|item| item.key.to_vec()).collect();
        let operations = batch(operations);
        let revision = store.applied().next();
        assert_eq!(store.apply(revision, &Command::Batch(operations.batch().unwrap())), outcome);
        assert_eq!(before.range(b"", None).map(|item| item.key.to_vec()).collect::<Vec<_>>(), keys, "not published");
        drop(before);
        store.publish(revision);
    }
    let found = |value, version| Versioned { value, revision: first, create_revision: first, version };
    assert_eq!(store.get(b"a"), Some(found(&b"5"[..], 2)), "created anew after its removal");
    assert_eq!(store.get(b"b"), Some(found(&b"4"[..], 2)));
    assert_eq!(store.keys(), 2);
}

fn update<'a>(key: &'a [u8], value: &'a [u8]) -> Command<'a> {
    Command::Update { key, value }
}

/// One entry with one command, published.
fn write(store: &mut Store, command: Command<'_>) -> Outcome {
    let revision = store.applied().next();
    let outcome = store.apply(revision, &command);
    store.publish(revision);
    outcome
}

/// Lets entries without writes pass until there is nothing left to reclaim.
fn settle(store: &mut Store) {
    for _ in 0..1_000 {
        store.publish(store.applied().next());
    }
}

fn key(number: u64) -> [u8; 16] {
    let mut key = *b"key/0000........";
    key[8..].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    key
}

const MANY: u64 = if cfg!(miri) { 50 } else { 5_000 };

#[test]
fn unpublished_entries_are_not_seen() {
    let mut store = Store::new();
    let mut reader = store.reader();
    let mut outcomes = Vec::new();
    write(&mut store, update(b"a", b"1"));
    store.apply_all(Index(2), &[update(b"a", b"2"), update(b"b", b"2"), update(b"a", b"3")], &mut outcomes);
    assert_eq!(outcomes, [Outcome::Updated, Outcome::Created, Outcome::Updated]);
    {
        let pinned = reader.pin();
        assert_eq!(pinned.get(b"a").map(|found| found.value), Some(&b"1"[..]));
        assert_eq!(pinned.get(b"b"), None);
        assert_eq!(pinned.range(b"", None).count(), 1);
        store.publish(Index(2));
        assert_eq!(pinned.get(b"b"), None, "a pin stays at its revision");
    }
    let pinned = reader.pin();
    assert_eq!(pinned.get(b"a").map(|found| (found.value, found.version)), Some((&b"3"[..], 3)));
    assert_eq!(pinned.get(b"b").map(|found| found.value), Some(&b"2"[..]));
}

#[test]
#[should_panic(expected = "is published already")]
fn a_published_revision_is_not_written_again() {
    let mut store = Store::new();
    write(&mut store, update(b"a", b"1"));
    store.apply(Index(1), &update(b"a", b"2"));
}

#[test]
#[should_panic(expected = "applied went back")]
fn applied_never_goes_back() {
    let mut store = Store::new();
    store.publish(Index(2));
    store.publish(Index(1));
}

/// What a pin may look at stays; when it ends, all of it goes, in bounded steps.
#[test]
fn a_pin_holds_old_versions_back_and_no_longer() {
    let mut store = Store::new();
    write(&mut store, update(b"a", &[0; 100]));
    let bytes = store.bytes();
    let mut reader = store.reader();
    let pinned = reader.pin();
    for number in 0..MANY {
        write(&mut store, update(b"a", &[number as u8; 100]));
    }
    assert_eq!(pinned.get(b"a").map(|found| found.value), Some(&[0; 100][..]));
    assert_eq!(store.backlog(), MANY, "the pin's revision and all above it are kept");
    assert!(store.bytes() > bytes + 100 * MANY);
    drop(pinned);
    while store.backlog() > 0 {
        let before = store.bytes();
        store.publish(store.applied().next());
        assert!(before - store.bytes() <= 200 * crate::limits::RECLAIM_STEPS as u64, "in bounded steps");
    }
    assert_eq!(store.bytes(), bytes);
    assert_eq!(reader.pin().get(b"a").map(|found| found.version), Some(MANY + 1));
}

/// Tombstones go with their nodes: an emptied store is as small as a new one.
#[test]
fn removed_keys_leave_nothing_behind() {
    let mut store = Store::new();
    let empty = store.bytes();
    for number in 0..MANY {
        write(&mut store, update(&key(number), b"value"));
    }
    let full = store.bytes();
    for number in 0..MANY {
        assert_eq!(write(&mut store, Command::Remove { key: &key(number) }), Outcome::Removed);
    }
    assert!(store.bytes() < empty + full / 4, "reclaiming keeps pace with the writes");
    settle(&mut store);
    assert_eq!((store.bytes(), store.keys(), store.backlog()), (empty, 0, 0));
    assert_eq!(store.reader().pin().range(b"", None).count(), 0);
}

/// A view keeps one version per key that was overwritten, none of those written after it, and blocks no others.
#[test]
fn a_view_holds_exactly_what_it_needs() {
    let mut store = Store::new();
    for number in 0..10 {
        write(&mut store, update(&key(number), &[7; 48]));
    }
    let before = store.bytes();
    let view = store.open_view(1).expect("the first");
    for round in 0..MANY {
        write(&mut store, update(&key(round % 5), &[8; 48]));
        write(&mut store, update(b"new", &[9; 48]));
    }
    write(&mut store, Command::Remove { key: &key(0) });
    settle(&mut store);
    let version = (size_of_version() + 48) as u64;
    assert_eq!(store.views(), ViewCounts { open: 1, held_bytes: 5 * version, abandoned: 0, snapshots_abandoned: 0 });
    assert_eq!(store.backlog(), 0);
    let tombstone = 48; // one of the five is a tombstone and has no value
    let new_node = node_bytes(&mut store, b"new");
    assert_eq!(store.bytes(), before + 5 * version - tombstone + new_node + version);
    let mut reader = store.reader();
    {
        let pinned = reader.pin();
        let at_view = pinned.at_view(view).expect("open");
        assert_eq!(at_view.revision(), Index(10));
        assert_eq!(at_view.range(b"", None).count(), 10);
        assert!(at_view.range(b"", None).all(|item| item.versioned.value == [7; 48]));
        assert_eq!(at_view.get(b"new"), None);
        assert_eq!(pinned.range(b"", None).count(), 10, "nine and the new one");
    }
    assert!(store.close_view(view));
    assert!(!store.close_view(view));
    assert!(reader.pin().at_view(view).is_none());
    settle(&mut store);
    assert_eq!(store.views(), ViewCounts::default());
    write(&mut store, Command::Remove { key: b"new" });
    write(&mut store, update(&key(0), &[7; 48]));
    settle(&mut store);
    assert!(store.bytes().abs_diff(before) < 200, "only the height of one tower may differ");
}

/// Besides its value; a version whose value is a multiple of 8 long is not rounded up.
fn size_of_version() -> usize {
    40
}

/// Bytes of the node of `key`: what its removal gives back, besides a version.
fn node_bytes(store: &mut Store, key: &[u8]) -> u64 {
    let value = store.get(key).expect("it exists").value.to_vec();
    let before = store.bytes();
    write(store, Command::Remove { key });
    settle(store);
    let bytes = before - store.bytes() - (size_of_version() + value.len()) as u64;
    // Written again, until its tower is as tall as it was.
    loop {
        write(store, update(key, &value));
        if store.bytes() == before {
            return bytes;
        }
        write(store, Command::Remove { key });
        settle(store);
    }
}

/// The versions of a view that closes go to another view that needs them.
#[test]
fn views_inherit_from_each_other() {
    let mut store = Store::new();
    write(&mut store, update(b"a", b"old"));
    let views = [store.open_view(1).expect("one"), store.open_view(1).expect("two")];
    assert_ne!(views[0], views[1]);
    write(&mut store, update(b"b", b"1"));
    let third = store.open_view(1).expect("three");
    write(&mut store, update(b"a", b"new"));
    settle(&mut store);
    let held = store.views().held_bytes;
    assert!(held > 0);
    let mut reader = store.reader();
    for (closed, left) in [(third, 2), (views[1], 1), (views[0], 0)] {
        let pinned = reader.pin();
        let at_view = pinned.at_view(closed).expect("open");
        assert!(store.close_view(closed));
        settle(&mut store);
        assert_eq!(at_view.get(b"a").map(|found| found.value), Some(&b"old"[..]), "whole as long as the pin");
        drop(pinned);
        settle(&mut store);
        assert_eq!(
            store.views(),
            ViewCounts {
                open: left,
                held_bytes: if left > 0 { held } else { 0 },
                abandoned: 0,
                snapshots_abandoned: 0
            }
        );
        let pinned = reader.pin();
        assert!(pinned.at_view(closed).is_none());
        for view in views.iter().take(left) {
            let at_view = pinned.at_view(*view).expect("open");
            assert_eq!(at_view.get(b"a").map(|found| found.value), Some(&b"old"[..]));
            assert_eq!(at_view.get(b"b"), None);
        }
    }
}

#[test]
fn a_view_that_holds_too_much_is_abandoned() {
    let mut store = Store::new();
    store.set_view_bytes_max(1_000);
    for number in 0..20 {
        write(&mut store, update(&key(number), &[1; 100]));
    }
    settle(&mut store);
    let before = store.bytes();
    let view = store.open_view(1).expect("the first");
    for number in 0..20 {
        write(&mut store, update(&key(number), &[2; 100]));
        settle(&mut store);
        assert!(store.views().held_bytes <= 1_200);
    }
    assert_eq!(store.views(), ViewCounts { open: 0, held_bytes: 0, abandoned: 1, snapshots_abandoned: 0 });
    assert!(store.reader().pin().at_view(view).is_none());
    assert!(!store.close_view(view));
    assert_eq!(store.bytes(), before);
}

#[test]
fn views_are_few_and_their_ids_are_not_reused() {
    let mut store = Store::new();
    let mut reader = store.reader();
    let first: Vec<ViewId> =
        std::iter::from_fn(|| store.open_view(7).ok()).take(crate::limits::VIEWS_MAX + 1).collect();
    assert_eq!(first.len(), crate::limits::VIEWS_MAX);
    assert_eq!(store.open_view(7), Err(ViewsFull));
    let pinned = reader.pin();
    assert!(store.close_view(first[3]));
    assert_eq!(store.open_view(7), Err(ViewsFull), "somebody may still read at it");
    drop(pinned);
    let again = store.open_view(7).expect("the place is free, with no entry in between");
    let pinned = reader.pin();
    assert!(pinned.at_view(first[3]).is_none());
    assert!(pinned.at_view(again).is_some());
    assert!(pinned.at_view(ViewId { boot: 8, ..again }).is_none());
    assert!(pinned.at_view(ViewId { revision: Index(1), ..again }).is_none());
    assert!(pinned.at_view(ViewId { serial: 0, ..again }).is_none());
}

/// A store whose readers live on, and the other way round; with all kinds of things that are not freed yet. That every
/// byte comes back is asserted by whoever is last.
#[test]
fn store_and_readers_may_go_in_any_order() {
    for order in 0..3 {
        let mut store = Store::new();
        for number in 0..20 {
            write(&mut store, update(&key(number % 10), b"value"));
        }
        let (mut first, mut second) = (store.reader(), store.reader());
        store.open_view(1).expect("the first");
        let pinned = first.pin();
        write(&mut store, update(&key(1), b"other"));
        write(&mut store, Command::Remove { key: &key(2) });
        store.apply(store.applied().next(), &update(b"unpublished", b""));
        match order {
            0 => drop(store),
            1 => {
                drop(pinned);
                drop(first);
                drop(store);
                let pinned = second.pin();
                assert_eq!(pinned.get(&key(1)).map(|found| found.value), Some(&b"other"[..]));
                assert_eq!(pinned.range(b"", None).count(), 9);
                continue;
            }
            _ => {
                drop(second);
                drop(pinned);
                drop(first);
                continue;
            }
        }
        assert_eq!(pinned.get(&key(1)).map(|found| found.value), Some(&b"value"[..]));
        assert_eq!(pinned.range(b"", None).count(), 10);
    }
}

#[test]
fn reader_slots_are_given_back() {
    let mut store = Store::new();
    for round in 1..=3 {
        let readers: Vec<Reader> = (0..crate::limits::READERS_MAX).map(|_| store.reader()).collect();
        write(&mut store, update(b"a", b"1"));
        assert!(readers.into_iter().all(|mut reader| reader.pin().applied() == Index(round)));
    }
}

/// The aim is 80 bytes at most.
#[test]
fn keys_may_be_fetched_in_any_number_and_nothing_changes() {
    let mut store = Store::new();
    for number in 0..2_000 {
        let update = Command::Update { key: &key(2 * number), value: b"v" };
        store.apply(Index(number + 1), &update);
    }
    store.publish(Index(2_000));
    let mut reader = store.reader();
    let pinned = reader.pin();
    for count in [0, 1, 2, 15, 16, 17, 33, 64] {
        let numbers: Vec<u64> = (0..count).map(|number| number * 97 % 4_100).collect();
        let keys: Vec<[u8; 16]> = numbers.iter().map(|number| key(*number)).collect();
        store.warm(keys.iter().map(|key| &key[..]));
        pinned.warm(keys.iter().map(|key| &key[..]));
        for (number, key) in numbers.iter().zip(&keys) {
            assert_eq!(pinned.get(key).is_some(), number % 2 == 0 && *number < 4_000, "{number}");
        }
    }
    let mut empty = Store::new();
    empty.warm([&b"a"[..], b"b", b"c"].into_iter());
    assert_eq!(empty.get(b"a"), None);
}

#[test]
fn bytes_per_key() {
    let mut store = Store::new();
    let keys = if cfg!(miri) { 500 } else { 100_000 };
    for number in 0..keys {
        write(&mut store, Command::Put { key: &key(number), value: &[1; 64] });
    }
    let overhead = store.bytes() as f64 / keys as f64 - 80.0;
    println!("{overhead:.1} bytes besides key and value");
    assert_eq!(store.keys(), keys);
    assert!((68.0..if cfg!(miri) { 88.0 } else { 75.5 }).contains(&overhead), "{overhead:.1} bytes per key");
}

/// A page of a view must not walk for ever over what was written since.
#[test]
fn c21_a_range_ends_after_so_many_keys_shown_or_not() {
    let mut store = Store::new();
    let mut reader = store.reader();
    let write = |store: &mut Store, revision: u64, key: u64| {
        store.apply(Index(revision), &Command::Update { key: &key.to_be_bytes(), value: b"v" });
        store.publish(Index(revision));
    };
    for key in 0..5 {
        write(&mut store, key + 1, key * 100);
    }
    let view = store.open_view(1).expect("the first");
    for key in 0..60 {
        write(&mut store, 6 + key, 200 + key % 50 + 1);
    }
    let pinned = reader.pin();
    let at = pinned.at_view(view).expect("it is open");
    let (mut from, mut pages, mut found) = (Vec::new(), 0, Vec::new());
    loop {
        let mut range = at.range(&from, None).at_most(10);
        found.extend(range.by_ref().map(|item| item.key.to_vec()));
        pages += 1;
        assert!(range.looked() <= 10);
        let Some(rest) = range.rest() else { break };
        assert_eq!(range.looked(), 10, "it goes on as long as it may");
        from = rest.to_vec();
    }
    let keys: Vec<Vec<u8>> = (0..5u64).map(|key| (key * 100).to_be_bytes().to_vec()).collect();
    assert_eq!((found, pages), (keys, 6), "5 keys and 50 that the view does not show");
    let end = 250u64.to_be_bytes();
    let mut range = at.range(&200u64.to_be_bytes(), Some(&end)).at_most(50);
    assert_eq!((range.by_ref().count(), range.rest()), (1, None), "what is behind the end is no rest");
}
