//! Round trips, every truncation, every flipped bit, and forgeries whose checksums are right.

use std::collections::BTreeMap;

use proptest::prelude::*;
use protocol::command::Command;
use protocol::format::{Format, Member};
use protocol::{Chain, ClusterId, EntryId, Incarnation, Index, LogTime, NodeId, Sequence, SessionId, Term};

use super::*;
use crate::kv::sessions::Origin;
use crate::kv::{Item, Session, Store, Versioned};

/// What a file says.
#[derive(Debug, PartialEq, Eq)]
struct File {
    header: Header,
    items: Vec<(Vec<u8>, Value)>,
    sessions: Vec<Session>,
    footer: Footer,
}

/// Value, revision, create revision, version.
type Value = (Vec<u8>, u64, u64, u64);

fn header() -> Header {
    let member = |id| Member {
        id: NodeId(id),
        incarnation: Incarnation(7 + u64::from(id)),
        client_address: "a:1".to_owned(),
        peer_address: String::new(),
    };
    Header {
        node: NodeId(3),
        incarnation: Incarnation(10),
        boot: 0x0123_4567_89AB_CDEF,
        position: Position {
            id: EntryId { term: Term(4), index: Index(1_000) },
            chain: Chain(u64::MAX - 1),
            log_time: LogTime(1_700_000_000_000),
        },
        format: Format { cluster: ClusterId(0xABCD), members: vec![member(0), member(3)] },
    }
}

fn item<'a>(key: &'a [u8], (value, revision, create_revision, version): &'a Value) -> Item<'a> {
    let (revision, create_revision) = (Index(*revision), Index(*create_revision));
    Item { key, versioned: Versioned { value, revision, create_revision, version: *version } }
}

/// Encodes as `snapshot::Taking` does; items in the order given.
fn encode<'a>(items: impl Iterator<Item = Item<'a>>, sessions: &[Session]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = Encoder::begin(&header(), &mut out);
    let (mut items, mut sessions) = (items, sessions.iter());
    while encoder.items(&mut items, &mut out) > 0 {}
    while encoder.sessions(&mut sessions, &mut out) > 0 {}
    let footer = encoder.finish(&mut out);
    assert_eq!(footer.bytes, out.len() as u64);
    out
}

/// Decodes as the file's readers do.
fn decode(bytes: &[u8]) -> Result<File, Damaged> {
    let mut decoder = Decoder::new();
    let (mut header, mut items, mut sessions) = (None, Vec::new(), Vec::new());
    loop {
        let wants = decoder.wants();
        assert!((1..=BLOCK_BODY_BYTES_MAX).contains(&wants), "bounded, whatever the bytes say: {wants}");
        let from = decoder.offset() as usize;
        let next = bytes.get(from..from + wants).ok_or_else(|| decoder.truncated())?;
        match decoder.take(next)? {
            Piece::Part => {}
            Piece::Header(read) => header = Some(read),
            Piece::Items(block) => items.extend(block.map(|item| {
                let Versioned { value, revision, create_revision, version } = item.versioned;
                (item.key.to_vec(), (value.to_vec(), revision.0, create_revision.0, version))
            })),
            Piece::Sessions(block) => sessions.extend(block),
            Piece::End(footer) => {
                assert_eq!(decoder.wants(), 0);
                if decoder.offset() != bytes.len() as u64 {
                    return Err(Damaged { offset: decoder.offset(), reason: Reason::Trailing });
                }
                let header = header.expect("the header comes first");
                return Ok(File { header, items, sessions, footer });
            }
        }
    }
}

/// So many sessions, some of which have results.
fn some_sessions(count: u64) -> Vec<Session> {
    let mut store = Store::new();
    let origin = Origin { log_time: LogTime(1), ..Origin::default() };
    for id in 1..=count {
        store.execute(Index(id), origin, &Command::OpenSession);
        store.publish(Index(id));
    }
    for id in (1..=count).step_by(3) {
        let origin = Origin { session: SessionId(id), sequence: Sequence(id), ..origin };
        store.execute(Index(count + 1), origin, &Command::Update { key: b"k", value: b"v" });
    }
    store.capture_sessions().iter().map(|session| (**session).clone()).collect()
}

fn value() -> impl Strategy<Value = Value> {
    (proptest::collection::vec(any::<u8>(), 0..200), 1..=1_000u64, any::<u64>(), 1..u64::MAX)
        .prop_map(|(value, revision, create, version)| (value, revision, create % revision + 1, version))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_encoded_is_decoded(
        items in proptest::collection::btree_map(proptest::collection::vec(any::<u8>(), 0..6), value(), 0..700),
        huge in proptest::option::of(0..1_000usize),
        count in prop_oneof![Just(0), Just(1), 2..600u64],
    ) {
        let mut items: BTreeMap<Vec<u8>, Value> = items;
        if let Some(shorter) = huge {
            items.insert(vec![5; limits::KEY_BYTES_MAX], (vec![6; limits::VALUE_BYTES_MAX - shorter], 1_000, 1, 1));
        }
        let sessions = some_sessions(count);
        let bytes = encode(items.iter().map(|(key, value)| item(key, value)), &sessions);
        let file = decode(&bytes).expect("it was just encoded");
        prop_assert_eq!(file.header, header());
        prop_assert_eq!((file.footer.keys, file.footer.sessions), (items.len() as u64, count));
        prop_assert_eq!(file.items, items.into_iter().collect::<Vec<_>>());
        prop_assert_eq!(file.sessions, sessions);
        // The footer can be read alone.
        let mut decoder = Decoder::new();
        let (fixed, rest) = bytes.split_at(decoder.wants());
        decoder.take(fixed).expect("good");
        decoder.take(&rest[..decoder.wants()]).expect("good");
        prop_assert_eq!(decoder.footer_ahead(&bytes[bytes.len() - FOOTER_BYTES..]), Ok(file.footer));
    }

    #[test]
    fn any_bytes_are_refused_within_bounds(bytes in proptest::collection::vec(any::<u8>(), 0..400), begins_well: bool) {
        let good = encode(std::iter::empty(), &[]);
        let begin = if begins_well { &good[..good.len() - FOOTER_BYTES] } else { &good[..12] };
        prop_assert!(decode(&[begin, &bytes].concat()).is_err());
    }
}

/// A file with all that a file can have.
fn small() -> Vec<u8> {
    let values = [(b"v".to_vec(), 9, 2, 3), (Vec::new(), 1_000, 1_000, 1)];
    let keys: [&[u8]; 2] = [b"", b"key"];
    encode(keys.iter().zip(&values).map(|(key, value)| item(key, value)), &some_sessions(2))
}

#[test]
fn every_truncation_is_refused() {
    let bytes = small();
    assert_eq!(decode(&bytes).expect("whole").items.len(), 2);
    for length in 0..bytes.len() {
        let error = decode(&bytes[..length]).expect_err("it is cut");
        assert_eq!(error.reason, Reason::Truncated, "at {length}");
        assert!(error.offset <= length as u64, "{error} at {length}");
    }
    assert_eq!(decode(&[&bytes[..], &[0]].concat()).expect_err("longer").reason, Reason::Trailing);
}

#[test]
fn every_flipped_bit_is_refused() {
    let bytes = small();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let error = decode(&flipped).expect_err("a flipped bit is noticed");
        assert!(error.offset <= bit as u64 / 8, "{error}, bit {bit}");
        match bit / 8 {
            0..8 => assert_eq!(error.reason, Reason::NotASnapshot),
            // C-5: rot in the version is rot, and costs nothing but this one snapshot.
            _ => assert!(!matches!(error.reason, Reason::NotASnapshot | Reason::Version(_)), "{error}"),
        }
    }
}

#[test]
fn a_later_version_is_told_by_its_number() {
    let mut bytes = small();
    bytes[8] = 2;
    let length = u32::from_le_bytes(bytes[12..16].try_into().expect("four")) as usize;
    let checksum = super::header_checksum(&bytes[..length]);
    bytes[16..20].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(decode(&bytes).expect_err("another version").reason, Reason::Version(2));
}

/// Blocks with good checksums that no honest node writes.
#[test]
fn forgeries_with_good_checksums_are_refused() {
    let good: Value = (b"value".to_vec(), 10, 10, 1);
    let refused = |items: &[(&[u8], &Value)], reason: Reason| {
        let bytes = encode(items.iter().map(|(key, value)| item(key, value)), &[]);
        assert_eq!(decode(&bytes).expect_err("a forgery").reason, reason);
    };
    refused(&[(b"b", &good), (b"a", &good)], Reason::OutOfOrder);
    refused(&[(b"a", &good), (b"a", &good)], Reason::OutOfOrder);
    refused(&[(b"a", &(Vec::new(), 1_001, 1, 1))], Reason::Field("revision"));
    refused(&[(b"a", &(Vec::new(), 5, 6, 1))], Reason::Field("revision"));
    refused(&[(b"a", &(Vec::new(), 5, 0, 1))], Reason::Field("revision"));
    refused(&[(b"a", &(Vec::new(), 5, 5, 0))], Reason::Field("version"));
    let length = Reason::Length("length of a key or value");
    refused(&[(&[1; limits::KEY_BYTES_MAX + 1], &good)], length);
    refused(&[(b"a", &(vec![0; limits::VALUE_BYTES_MAX + 1], 5, 5, 1))], length);
    // Out of order over the end of a block.
    let keys: Vec<[u8; 4]> = (1..=limits::SNAPSHOT_BLOCK_KEYS as u32).chain([7]).map(u32::to_be_bytes).collect();
    let items: Vec<(&[u8], &Value)> = keys.iter().map(|key| (&key[..], &good)).collect();
    refused(&items, Reason::OutOfOrder);
}

#[test]
fn sessions_that_nobody_can_have_are_refused() {
    let refused = |sessions: &[Session], reason| {
        let bytes = encode(std::iter::empty(), sessions);
        assert_eq!(decode(&bytes).expect_err("a forgery").reason, reason);
    };
    let mut sessions = some_sessions(3);
    refused(&[sessions[1].clone(), sessions[1].clone()], Reason::Field("id of a session"));
    sessions.reverse();
    refused(&sessions, Reason::Field("id of a session"));
    refused(&some_sessions(1_001), Reason::Field("id of a session"));
}

#[test]
fn blocks_in_another_order_or_of_another_file_are_refused() {
    let good: Value = (b"value".to_vec(), 10, 10, 1);
    let mut out = Vec::new();
    let mut encoder = Encoder::begin(&header(), &mut out);
    assert_eq!(encoder.sessions(&mut some_sessions(1).iter(), &mut out), 1);
    assert_eq!(encoder.items(&mut [item(b"a", &good)].into_iter(), &mut out), 1);
    encoder.finish(&mut out);
    assert_eq!(decode(&out).expect_err("items come first").reason, Reason::Kind);

    let encoded = |header: &Header| {
        let mut blocks = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
        let mut encoder = Encoder::begin(header, &mut blocks[0]);
        encoder.items(&mut [item(b"a", &good)].into_iter(), &mut blocks[1]);
        encoder.items(&mut [item(b"b", &good)].into_iter(), &mut blocks[2]);
        encoder.finish(&mut blocks[3]);
        blocks
    };
    let ours = encoded(&header());
    let theirs = encoded(&Header { boot: 1, ..header() });
    decode(&ours.concat()).expect("good");
    let mixes: [Vec<&Vec<u8>>; 5] = [
        vec![&ours[0], &ours[2], &ours[1], &ours[3]],
        vec![&ours[0], &ours[1], &theirs[2], &ours[3]],
        vec![&ours[0], &ours[1], &ours[2], &theirs[3]],
        vec![&ours[0], &ours[1], &ours[3]],
        vec![&ours[0], &ours[1], &ours[1], &ours[3]],
    ];
    for mix in mixes {
        let bytes: Vec<u8> = mix.into_iter().flatten().copied().collect();
        assert_eq!(decode(&bytes).expect_err("mixed").reason, Reason::Checksum);
    }
}

/// The footer of a file whose blocks are fewer, or others, than it says.
#[test]
fn a_footer_that_lies_is_refused() {
    let mut out = Vec::new();
    let mut encoder = Encoder::begin(&header(), &mut out);
    let good: Value = (b"value".to_vec(), 10, 10, 1);
    let start = out.len();
    encoder.items(&mut [item(b"a", &good)].into_iter(), &mut out);
    let block = out[start..].to_vec();
    let mut other = Vec::new();
    let mut without = Encoder::begin(&header(), &mut other);
    assert_eq!(other, out[..start]);
    // The same number of blocks, another one.
    without.items(&mut [item(b"b", &good)].into_iter(), &mut other);
    let mut footer = Vec::new();
    without.finish(&mut footer);
    let bytes = [&out[..start], &block, &footer].concat();
    assert_eq!(decode(&bytes).expect_err("another file's hash").reason, Reason::Footer);
}

/// After damage, the same place can be read again: a transfer goes on there.
#[test]
fn a_decoder_goes_back_to_what_was_whole() {
    let bytes = small();
    let mut decoder = Decoder::new();
    let mut whole = vec![0];
    while decoder.wants() > 0 {
        let from = decoder.offset() as usize;
        let next = bytes[from..from + decoder.wants()].to_vec();
        let mut damaged = next.clone();
        *damaged.last_mut().expect("it wants some") ^= 1;
        // The last byte of a part is not always a checksum's: then the damage shows with the rest, in the same block.
        let seen = decoder.take(&damaged).is_err();
        if !seen {
            decoder.rewind();
        }
        let last = *whole.last().expect("it begins with 0");
        assert_eq!(decoder.offset(), last, "at {from}");
        // Again, now all that is between.
        while (decoder.offset() as usize) < from + next.len() {
            let from = decoder.offset() as usize;
            let wants = decoder.wants();
            let piece = decoder.take(&bytes[from..from + wants]).expect("good");
            if !matches!(piece, Piece::Part) {
                whole.push(decoder.offset());
            }
        }
    }
    assert_eq!(whole.len(), 5, "the start, header, items, sessions, footer: {whole:?}");
}
