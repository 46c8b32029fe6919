//! From one node to another, in pieces.

use super::*;
use crate::kv::snapshot::{Damaged, Reason};

pub(super) fn offer(summary: &Summary) -> Offer {
    let Position { id, chain, .. } = summary.position;
    Offer { last: id, chain, bytes: summary.bytes, hash: Some(summary.hash) }
}

/// Receives all that is missing, in pieces of so many bytes; also tells from which offset on.
pub(super) fn receive(
    source: &Serving,
    snapshots: &mut Snapshots,
    piece: usize,
) -> Result<(Summary, u64), SnapshotError> {
    let mut receiving = Receiving::begin_or_resume(snapshots, CLUSTER, offer(&source.summary()))?;
    let from = resume(&mut receiving)?;
    while !receiving.is_whole() {
        let bytes = source.read_at(receiving.wants(), piece)?;
        receiving.push(receiving.wants(), &bytes)?;
    }
    Ok((receiving.finish(snapshots)?, from))
}

fn resume(receiving: &mut Receiving) -> Result<u64, SnapshotError> {
    loop {
        if let Progress::Done(offset) = receiving.step()? {
            assert_eq!(offset, receiving.wants());
            return Ok(offset);
        }
    }
}

/// A node with a snapshot to give, and an empty one.
fn pair() -> (Rig, Serving, Rig, Snapshots) {
    let mut from = Rig::new();
    let mut snapshots = from.open().expect("an empty directory");
    from.fill(2_000, 300);
    let index = from.take(&mut snapshots).expect("the disk works").position.id.index;
    let serving = Serving::open(&snapshots, index).expect("it was taken");
    let to = Rig::new();
    let received = to.open().expect("an empty directory");
    (from, serving, to, received)
}

#[test]
fn what_is_served_is_received_in_pieces_of_any_size() {
    let (mut from, serving, _, _) = pair();
    let state = from.state();
    for piece in [1, 7, 4_096, 300_000, 10_000_000] {
        let to = Rig::new();
        let mut snapshots = to.open().expect("an empty directory");
        // One byte at a time would take all day: only the beginning.
        if piece < 100 {
            let mut receiving =
                Receiving::begin_or_resume(&snapshots, CLUSTER, offer(&serving.summary())).expect("new");
            while receiving.wants() < 2_000 {
                let bytes = serving.read_at(receiving.wants(), piece).expect("the disk works");
                receiving.push(receiving.wants(), &bytes).expect("it is good");
            }
        }
        let (summary, _) = receive(&serving, &mut snapshots, piece.max(1_000)).expect("the disk works");
        assert_eq!((summary, snapshots.newest()), (serving.summary(), Some(summary)));
        to.disk.power_cut(piece as u64);
        let mut snapshots = to.open().expect("good");
        let (_, restored) = snapshots.load_newest(Some(CLUSTER)).expect("good").expect("one");
        assert_eq!(state_of(restored), state);
    }
    assert_eq!(serving.read_at(serving.total_bytes(), 100).expect("nothing is there"), Vec::<u8>::new());
    assert_eq!(serving.read_at(u64::MAX, 100).expect("nothing is there"), Vec::<u8>::new());
}

#[test]
fn a_transfer_goes_on_where_it_was() {
    let (_, serving, to, mut snapshots) = pair();
    let half = serving.total_bytes() / 2;
    let mut receiving = Receiving::begin_or_resume(&snapshots, CLUSTER, offer(&serving.summary())).expect("new");
    while receiving.wants() < half {
        receiving.push(receiving.wants(), &serving.read_at(receiving.wants(), 50_000).unwrap()).expect("it is good");
    }
    let received = receiving.wants();
    drop(receiving);
    let (summary, from) = receive(&serving, &mut snapshots, 50_000).expect("the disk works");
    assert!((half / 2..=received).contains(&from), "from {from}, {received} were received");
    assert_eq!(summary, serving.summary());
    assert_eq!(names(&to.disk).len(), 1, "nothing else is left");
}

/// What a power cut left of the file, however garbled, does no harm.
#[test]
fn a_garbled_part_is_received_again_from_there() {
    let (_, serving, to, mut snapshots) = pair();
    let mut receiving = Receiving::begin_or_resume(&snapshots, CLUSTER, offer(&serving.summary())).expect("new");
    let some = serving.total_bytes() as usize - 1_000;
    receiving.push(0, &serving.read_at(0, some).unwrap()).expect("it is good");
    drop(receiving);
    let part = dir().join(&names(&to.disk)[0]);
    let mut last = u64::MAX;
    for offset in [some as u64 - 1, some as u64 / 2, 1_000, 90, 3] {
        to.disk.flip_bits(&part, offset, 4);
        let mut receiving = Receiving::begin_or_resume(&snapshots, CLUSTER, offer(&serving.summary())).expect("good");
        let from = resume(&mut receiving).expect("damage in a part is no error");
        assert!(from <= offset && from <= last, "from {from}, damaged at {offset}");
        last = from;
    }
    assert_eq!(last, 0);
    assert_eq!(receive(&serving, &mut snapshots, 50_000).expect("the disk works").0, serving.summary());
}

#[test]
fn damage_on_the_way_is_noticed_and_nothing_is_left() {
    let (_, serving, to, mut snapshots) = pair();
    let whole = serving.read_at(0, usize::MAX).expect("the disk works");
    for offset in (0..whole.len()).step_by(997).chain(whole.len() - 64..whole.len()) {
        let mut garbled = whole.clone();
        garbled[offset] ^= 1 << (offset % 8);
        let mut receiving = Receiving::begin_or_resume(&snapshots, CLUSTER, offer(&serving.summary())).expect("new");
        let error = receiving.push(0, &garbled).expect_err("it is noticed");
        assert!(matches!(error, SnapshotError::Damaged { .. }), "{error}");
        assert_eq!(names(&to.disk), Vec::<String>::new());
        assert!(receiving.push(0, &whole).is_err(), "it was given up");
        assert!(receiving.finish(&mut snapshots).is_err());
        assert_eq!(snapshots.newest(), None);
    }
}

#[test]
fn only_what_was_offered_is_taken() {
    let (_, serving, to, mut snapshots) = pair();
    let whole = serving.read_at(0, usize::MAX).expect("the disk works");
    let good = offer(&serving.summary());
    let (other, chain) = (EntryId { term: Term(9), ..good.last }, Chain(good.chain.0 + 1));
    let cases = [
        (Offer { last: other, ..good }, "position"),
        (Offer { chain, ..good }, "position"),
        (Offer { bytes: good.bytes + 1, ..good }, "length"),
        (Offer { bytes: good.bytes - 1, ..good }, "length"),
        (Offer { hash: Some(1), ..good }, "hash"),
    ];
    for (offer, what) in cases {
        let mut receiving = Receiving::begin_or_resume(&snapshots, CLUSTER, offer).expect("new");
        let error = receiving.push(0, &whole).expect_err("it is something else");
        assert!(error.to_string().contains(what), "{error}");
        assert_eq!(names(&to.disk), Vec::<String>::new());
    }
    let mut receiving = Receiving::begin_or_resume(&snapshots, ClusterId(2), good).expect("new");
    let error = receiving.push(0, &whole).expect_err("another cluster's");
    assert!(matches!(error, SnapshotError::Foreign { cluster: CLUSTER, expected: ClusterId(2), .. }), "{error}");
    for offset in [1, good.bytes, u64::MAX] {
        let mut receiving = Receiving::begin_or_resume(&snapshots, CLUSTER, good).expect("new");
        assert!(receiving.push(offset, &whole[..100]).is_err(), "not the bytes that are wanted");
    }
    let mut receiving = Receiving::begin_or_resume(&snapshots, CLUSTER, good).expect("new");
    receiving.push(0, &whole[..1_000]).expect("good so far");
    assert!(receiving.finish(&mut snapshots).is_err(), "not all is there");
    // A part that is for another offer, even one of another cluster, is not mixed with this one.
    let mut receiving = Receiving::begin_or_resume(&snapshots, CLUSTER, good).expect("new");
    receiving.push(0, &whole[..1_000]).expect("good so far");
    let unknown = Offer { hash: None, ..good };
    let mut other = Receiving::begin_or_resume(&snapshots, CLUSTER, unknown).expect("new");
    assert_eq!(resume(&mut other).expect("nothing to check"), 0);
    assert_eq!(names(&to.disk).len(), 1);
    other.push(0, &whole).expect("a hash that is not known is not compared");
    assert_eq!(other.finish(&mut snapshots).expect("whole"), serving.summary());
}

/// A snapshot that is served while it is replaced and pruned.
#[test]
fn parts_and_files_that_are_superseded_go() {
    let (mut from, serving, to, snapshots) = pair();
    let mut receiving = Receiving::begin_or_resume(&snapshots, CLUSTER, offer(&serving.summary())).expect("new");
    receiving.push(0, &serving.read_at(0, 1_000).unwrap()).expect("good so far");
    drop(receiving);
    let mut opened = to.open().expect("a start");
    assert_eq!(names(&to.disk).len(), 1, "a start keeps the part");
    from.fill(1, 1);
    let mut source = from.open().expect("good");
    let newer = from.take(&mut source).expect("the disk works");
    let serving_newer = Serving::open(&source, newer.position.id.index).expect("it is there");
    assert_eq!(receive(&serving_newer, &mut opened, 50_000).expect("good").1, 0);
    assert_eq!(names(&to.disk).len(), 1, "the part of the older one is gone");
    assert!(matches!(Serving::open(&opened, serving.summary().position.id.index), Err(SnapshotError::Missing)));
    let stale = Damaged { offset: 0, reason: Reason::Checksum };
    let why = SnapshotError::Damaged { path: dir().to_owned(), damaged: stale };
    assert!(matches!(opened.set_aside(Index(1), &why), Err(SnapshotError::Missing)));
    opened.set_aside(newer.position.id.index, &why).expect("the disk works");
    assert_eq!(opened.newest(), None);
}
