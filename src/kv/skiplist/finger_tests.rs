//! The writer's fingers and the ways that it keeps from `warm`, beside a model.

use std::collections::BTreeMap;

use super::*;
use crate::random::SplitMix64;
use protocol::Index;

type Model = BTreeMap<Vec<u8>, u64>;

/// Keys of three kinds: any bytes, those that begin alike, and short ones.
fn key(number: u64) -> Vec<u8> {
    match number % 3 {
        0 => number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes().repeat(2),
        1 => format!("customers/{number:08}").into_bytes(),
        _ => format!("{number:x}").into_bytes(),
    }
}

struct Rig {
    writer: Writer,
    model: Model,
    revision: u64,
}

impl Rig {
    fn new() -> Self {
        let built = Builder::new().finish(Index(0));
        Self { writer: Writer::over(built), model: Model::new(), revision: 0 }
    }

    /// Writes the revision to the key, or removes it.
    fn change(&mut self, key: &[u8], remove: bool) {
        self.revision += 1;
        let value = self.revision.to_be_bytes();
        let found = self.writer.change(self.revision, key, |old| {
            let write = if remove { old.map(|_| Write::Tombstone) } else { Some(Write::Value(&value)) };
            (old.map(|old| u64::from_be_bytes(old.value.try_into().unwrap())), write)
        });
        assert_eq!(found, self.model.get(key).copied(), "{key:?}");
        if remove {
            self.model.remove(key);
        } else {
            self.model.insert(key.to_vec(), self.revision);
        }
    }

    fn publish(&mut self) {
        self.writer.publish(self.revision);
    }

    /// All that is found is what the model says, and the fingers are the tall nodes.
    fn check(&self) {
        for (key, value) in &self.model {
            let newest = self.writer.newest(key).expect("it is there");
            assert_eq!(newest.value, value.to_be_bytes(), "{key:?}");
        }
        check_fingers(self.writer.list(), &self.writer.fingers);
    }
}

fn check_fingers(list: &List, fingers: &Fingers) {
    // SAFETY: nothing is freed meanwhile.
    let head = unsafe { list.head() };
    let tall = std::iter::successors(head.next(FINGER_HEIGHT), |node| node.next(FINGER_HEIGHT));
    let tall: Vec<Vec<u8>> = tall.map(|node| node.key().to_vec()).collect();
    assert!(tall.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(fingers.keys(), tall);
}

#[test]
fn every_tall_node_has_a_finger_whatever_comes_and_goes() {
    let mut random = SplitMix64::new(7);
    let mut rig = Rig::new();
    let keys = if cfg!(miri) { 300 } else { 60_000 };
    let rounds = if cfg!(miri) { 4 } else { 10 };
    for round in 0..rounds {
        // Mostly more at first, mostly fewer then, nearly nothing at the end.
        let removes = [0, 2, 4, 8, 10, 10, 5, 0, 9, 10][round];
        for _ in 0..keys / 2 {
            let key = key(random.below(keys));
            rig.change(&key, random.below(10) < removes);
            if random.below(8) == 0 {
                rig.publish();
            }
        }
        rig.publish();
        rig.check();
    }
    for key in rig.model.clone().into_keys() {
        rig.change(&key, true);
    }
    rig.publish();
    while rig.writer.is_reclaiming() {
        rig.writer.reclaim(1_000);
    }
    assert_eq!((rig.writer.fingers.keys().len(), rig.writer.fingers.chunks()), (0, 0));
}

/// The ways are hints: changes to other keys, in another order, copies left out and keys removed between are found as well.
#[test]
fn changes_find_their_keys_whatever_was_warmed() {
    let mut random = SplitMix64::new(11);
    let mut rig = Rig::new();
    let rounds = if cfg!(miri) { 60 } else { 20_000 };
    for round in 0..rounds {
        let range = if round % 2 == 0 { 40 } else { 4_000 };
        let count = random.below(LANES as u64 + 4);
        let warmed: Vec<Vec<u8>> = (0..count).map(|_| key(random.below(range))).collect();
        rig.writer.warm(warmed.iter().map(Vec::as_slice));
        for key_warmed in &warmed {
            match random.below(8) {
                0 => {}                                            // its change is not made
                1 => rig.change(&key(random.below(range)), false), // another one is
                2 => rig.publish(),                                // what was removed may go
                3 => rig.change(key_warmed, true),
                _ => rig.change(key_warmed, false),
            }
        }
        if random.below(2) == 0 {
            rig.publish();
        }
        if round % 1_000 == 0 {
            rig.check();
        }
    }
    rig.check();
}

/// A copy of a command is not executed again, and a batch was not looked for: a way may be met by another key. The list is not
/// walked from there to that.
#[test]
fn a_way_to_another_key_is_given_up() {
    let mut rig = Rig::new();
    let key = |number: u64| format!("customers/{number:06}/name").into_bytes();
    let keys = if cfg!(miri) { 200 } else { 20_000 };
    for number in 0..keys {
        rig.change(&key(2 * number), false);
    }
    rig.publish();
    let (near, far) = (key(41), key(2 * keys - 1));
    rig.writer.warm([&near[..], &far].into_iter());
    for number in 1..LANES as u64 {
        rig.change(&key(40).repeat(number as usize + 1), false); // between, each behind the last one
    }
    // SAFETY: nothing is freed meanwhile.
    let head = unsafe { rig.writer.list().head() };
    let way = rig.writer.walked.take(Wanted::new(&near).mark()).expect("it was warmed");
    let place = rig.writer.place_along(head, &Wanted::new(&near), way).expect("what was inserted since is little");
    assert!(place.node.is_none() && place.before[0].next(0).is_some_and(|node| node.key() == key(42)));
    let wanted = Wanted::new(&far);
    assert!(rig.writer.place_along(head, &wanted, way).is_none(), "it is walked no further than a batch inserts");
    let place = rig.writer.place(head, &wanted, Some(way));
    assert!(place.node.is_none() && place.before[0].key() == key(2 * keys - 2));
    assert!(rig.writer.walked.take(Wanted::new(&key(40)).mark()).is_none(), "nobody asked for it");
    assert!(rig.writer.walked.take(Wanted::new(&far).mark()).is_some());
}

/// Keys that come in order leave full chunks, not half-full ones.
#[test]
fn a_built_list_has_its_fingers_in_full_chunks() {
    let keys: u64 = if cfg!(miri) { 200 } else { 100_000 };
    let mut builder = Builder::new();
    for number in 0..keys {
        let versioned = Versioned { value: b"v", revision: Index(1), create_revision: Index(1), version: 1 };
        builder.push(&crate::kv::Item { key: &number.to_be_bytes(), versioned }).unwrap();
    }
    let mut writer = Writer::over(builder.finish(Index(1)));
    check_fingers(writer.list(), &writer.fingers);
    let fingers = writer.fingers.keys().len();
    assert!(writer.fingers.chunks() <= fingers.div_ceil(fingers::CHUNK), "{fingers}");
    // The writer that it was given to goes on with them.
    for number in 0..keys / 2 {
        let write = |_: Option<Versioned<'_>>| ((), Some(Write::Tombstone));
        writer.change(2, &(2 * number).to_be_bytes(), write);
    }
    writer.publish(2);
    check_fingers(writer.list(), &writer.fingers);
    assert!(writer.fingers.keys().len() < fingers);
}
