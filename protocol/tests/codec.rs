//! Properties that hold for every kind in the table.

mod common;

use bytes::{BufMut, Bytes};
use common::{raw_frame, Refused, Sample, MAX};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use raftkv_protocol::frame::{needed, split};
use raftkv_protocol::kind::Kind;
use raftkv_protocol::message::{Envelope, Message};
use raftkv_protocol::request::Request;
use raftkv_protocol::{DecodeError, EntryHeader, FrameError};

/// Runs `check` on `cases` samples of each kind.
fn for_every_kind(cases: u32, check: impl Fn(Kind, Sample)) {
    for &kind in Kind::ALL {
        let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
        let result = runner.run(&Sample::any(kind), |sample| {
            check(kind, sample);
            Ok(())
        });
        result.unwrap_or_else(|failure| panic!("{kind}: {failure}"));
    }
}

#[test]
fn every_kind_round_trips() {
    for_every_kind(300, |kind, sample| {
        let bytes = sample.encode();
        assert_eq!(bytes.len(), sample.encoded_len(), "the length is known before encoding");
        assert_eq!(needed(&bytes[..4], MAX), Ok(bytes.len()));
        let (frame, consumed) = split(&bytes, bytes.len()).unwrap().unwrap();
        assert_eq!((frame.kind(), consumed), (Ok(kind), bytes.len()));
        assert_eq!(Sample::receive(&bytes).unwrap(), sample);
    });
}

#[test]
fn frames_are_as_the_specification_says() {
    for_every_kind(20, |kind, sample| {
        let bytes = sample.encode();
        assert_eq!(bytes, raw_frame(kind as u8, kind.head_bytes(), &bytes[16..]));
    });
}

#[test]
fn encoding_appends() {
    for_every_kind(10, |_, sample| {
        let mut out = b"before".to_vec();
        sample.encode_to(&mut out);
        assert_eq!(&out[..6], b"before");
        assert_eq!(out[6..], sample.encode());
    });
}

#[test]
fn a_stream_split_anywhere_yields_the_same_frames() {
    let mut samples = Vec::new();
    for &kind in Kind::ALL {
        let mut runner = TestRunner::deterministic();
        samples.push(Sample::any(kind).new_tree(&mut runner).unwrap().current());
    }
    let stream: Vec<u8> = samples.iter().flat_map(Sample::encode).collect();
    for cut in 0..=stream.len() {
        let mut received = Vec::new();
        let mut start = 0;
        for end in [cut, stream.len()] {
            while let Some((frame, consumed)) = split(&stream[start..end], MAX).unwrap() {
                received.push(Sample::decode(&frame).unwrap());
                start += consumed;
            }
        }
        assert_eq!(received, samples, "cut at {cut}");
    }
}

#[test]
fn a_truncated_frame_needs_more() {
    for_every_kind(5, |_, sample| {
        let bytes = sample.encode();
        for cut in 0..bytes.len() {
            assert_eq!(split(&bytes[..cut], MAX), Ok(None), "cut at {cut}");
            assert!(needed(&bytes[..cut], MAX).unwrap() > cut);
        }
    });
}

#[test]
fn a_truncated_payload_is_an_error() {
    for_every_kind(20, |kind, sample| {
        let bytes = sample.encode();
        for cut in 16..bytes.len() {
            let frame = raw_frame(kind as u8, kind.head_bytes(), &bytes[16..cut]);
            assert!(matches!(Sample::receive(&frame), Err(Refused::Decode(_))), "cut at {cut}");
        }
    });
}

#[test]
fn a_longer_payload_is_an_error_where_it_is_not_left_to_newer_versions() {
    for_every_kind(20, |kind, sample| {
        let mut bytes = sample.encode();
        bytes.push(0);
        let frame = raw_frame(kind as u8, kind.head_bytes(), &bytes[16..]);
        let received = Sample::receive(&frame);
        let is_status = matches!(&sample, Sample::Reply(reply) if matches!(reply.body, common::OwnedBody::Status(_)));
        if is_status || matches!(kind, Kind::Hello | Kind::HelloReply | Kind::Refusal) {
            assert_eq!(received, Ok(sample));
        } else if kind == Kind::Write {
            assert!(matches!(received, Err(Refused::Decode(DecodeError::BodyChecksum { .. }))));
        } else {
            assert_eq!(received, Err(Refused::Decode(DecodeError::Trailing(1))));
        }
    });
}

#[test]
fn every_flipped_bit_is_noticed() {
    for_every_kind(40, |_, sample| {
        let good = sample.encode();
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            match Sample::receive(&bytes) {
                Ok(_) => panic!("bit {bit} may flip unnoticed"),
                Err(Refused::NeedMore) => panic!("bit {bit} makes the receiver wait"),
                Err(_) => {}
            }
        }
    });
}

#[test]
fn flipped_bits_of_entries_are_noticed_by_decoding_or_by_the_chain() {
    let mut seen_by_chain = 0;
    let mut runner = TestRunner::deterministic();
    for _ in 0..20 {
        let sample = Sample::any(Kind::AppendEntries).new_tree(&mut runner).unwrap().current();
        let good = sample.encode();
        let entries_at = 16 + raftkv_protocol::message::APPEND_ENTRIES_HEAD_BYTES;
        for bit in entries_at * 8..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            match Sample::receive(&bytes) {
                Err(Refused::Decode(_)) => {}
                Err(Refused::Chain(_)) => seen_by_chain += 1,
                other => panic!("bit {bit}: {other:?}"),
            }
        }
    }
    assert!(seen_by_chain > 0, "log time, session and sequence are vouched for by the chain alone");
}

#[test]
fn an_encoder_without_bodies_and_the_bodies_make_the_whole_frame() {
    for_every_kind(20, |_, sample| {
        let Sample::Envelope(envelope) = &sample else { return };
        let mut parts = Vec::new();
        envelope.encode_head(&mut parts);
        assert_eq!(parts.len(), envelope.encoded_head_len());
        for entry in envelope.entries() {
            parts.put_slice(&entry.header.encode());
            parts.put_slice(&entry.body);
        }
        assert_eq!(parts, sample.encode());
    });
}

#[test]
fn bodies_share_the_read_buffer() {
    let mut bodies = 0;
    let mut runner = TestRunner::deterministic();
    for _ in 0..20 {
        let sample = Sample::any(Kind::AppendEntries).new_tree(&mut runner).unwrap().current();
        let buffer = Bytes::from(sample.encode());
        let (frame, _) = split(&buffer, MAX).unwrap().unwrap();
        let envelope = Envelope::decode(&frame, |body| buffer.slice_ref(body)).unwrap();
        for entry in envelope.entries().iter().filter(|entry| !entry.body.is_empty()) {
            assert!(buffer.as_ptr_range().contains(&entry.body.as_ptr()));
            bodies += 1;
        }
    }
    assert!(bodies > 0);
}

#[test]
fn entries_lie_in_the_vector_that_is_handed_in() {
    let mut runner = TestRunner::deterministic();
    let mut filled = 0;
    for _ in 0..50 {
        let bytes = Sample::any(Kind::AppendEntries).new_tree(&mut runner).unwrap().current().encode();
        let (frame, _) = split(&bytes, MAX).unwrap().unwrap();
        let mut spare = Vec::with_capacity(1_000);
        let place = spare.as_ptr();
        let envelope = Envelope::decode_with(&frame, &mut spare, Bytes::copy_from_slice).unwrap();
        assert_eq!(Envelope::decode(&frame, Bytes::copy_from_slice).as_ref(), Ok(&envelope));
        let Message::AppendEntries(append) = envelope.message else { unreachable!("a sample of its kind") };
        let (holder, other) =
            if append.entries.is_empty() { (&spare, &append.entries) } else { (&append.entries, &spare) };
        assert_eq!((holder.as_ptr(), other.capacity()), (place, 0));
        filled += append.entries.len();
    }
    assert!(filled > 0);
}

#[test]
fn a_write_brings_the_entry_body_as_it_is() {
    let mut runner = TestRunner::deterministic();
    for _ in 0..50 {
        let sample = Sample::any(Kind::Write).new_tree(&mut runner).unwrap().current();
        let Sample::Request(header, request) = &sample else { unreachable!("WRITE is a request") };
        let bytes = sample.encode();
        let (frame, _) = split(&bytes, MAX).unwrap().unwrap();
        let incoming = Request::decode(&frame).unwrap();
        let Request::Write(command) = request.borrow() else { unreachable!("WRITE carries a command") };
        let mut body = Vec::new();
        command.encode(&mut body);
        assert_eq!(body.len(), command.encoded_len());
        assert_eq!(incoming.command, body);
        assert_eq!(incoming.command_checksum, raftkv_protocol::Entry::checksum(&body));
        assert_eq!(Request::id(&frame), Some(header.request));
        assert_eq!(Request::id_of_prefix(&bytes[..24]), Some(header.request));
    }
}

#[test]
fn each_kind_is_at_home_on_one_side_only() {
    for_every_kind(5, |kind, sample| {
        let bytes = sample.encode();
        let (frame, _) = split(&bytes, MAX).unwrap().unwrap();
        let wrong = Err(DecodeError::WrongKind { received: kind });
        let homes = [
            raftkv_protocol::format::Hello::decode(&frame).map(|_| ()),
            raftkv_protocol::format::HelloReply::decode(&frame).map(|_| ()),
            Request::decode(&frame).map(|_| ()),
            raftkv_protocol::reply::Reply::decode(&frame).map(|_| ()),
            Envelope::decode(&frame, Bytes::copy_from_slice).map(|_| ()),
            raftkv_protocol::snapshot::Transfer::decode(&frame).map(|_| ()),
        ];
        assert_eq!(homes.iter().filter(|home| home.is_ok()).count(), 1);
        assert_eq!(homes.iter().filter(|home| **home == wrong).count(), 5);
    });
}

#[test]
fn entry_headers_round_trip_and_refuse_what_is_reserved() {
    let mut runner = TestRunner::deterministic();
    for _ in 0..20 {
        let sample = Sample::any(Kind::AppendEntries).new_tree(&mut runner).unwrap().current();
        let Sample::Envelope(Envelope { message: Message::AppendEntries(append), .. }) = sample else { continue };
        for entry in &append.entries {
            let bytes = entry.header.encode();
            assert_eq!(EntryHeader::decode(&bytes), Ok(entry.header));
            for reserved in [41, 42, 43, 52, 53, 54, 55] {
                let mut bytes = bytes;
                bytes[reserved] = 1;
                assert!(matches!(EntryHeader::decode(&bytes), Err(DecodeError::Reserved(_))), "byte {reserved}");
            }
            for kind in [0, 4, 255] {
                let mut bytes = bytes;
                bytes[40] = kind;
                assert_eq!(EntryHeader::decode(&bytes), Err(DecodeError::UnknownEntryKind(kind)));
            }
        }
    }
}

proptest! {
    #![proptest_config(Config { cases: 20_000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Sample::receive(&bytes);
        let _ = raftkv_protocol::format::Hello::recognise(&bytes);
        let _ = raftkv_protocol::command::Command::decode(&bytes);
        let _ = raftkv_protocol::format::Format::decode(&bytes);
    }

    #[test]
    fn arbitrary_payloads_never_panic(kind: u8, payload in proptest::collection::vec(any::<u8>(), 0..300)) {
        let head = Kind::from_wire(kind).ok().and_then(Kind::head_bytes);
        let _ = Sample::receive(&raw_frame(kind, head, &payload));
    }

    #[test]
    fn damaged_payloads_behind_a_good_checksum_never_panic(
        which in 0..Kind::ALL.len(),
        seed: [u8; 32],
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let kind = Kind::ALL[which];
        let rng = proptest::test_runner::TestRng::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, &seed);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let mut payload = Sample::any(kind).new_tree(&mut runner).unwrap().current().encode().split_off(16);
        for (at, byte) in damage.iter().filter(|_| !payload.is_empty()).collect::<Vec<_>>() {
            let at = at.index(payload.len());
            payload[at] = *byte;
        }
        let _ = Sample::receive(&raw_frame(kind as u8, kind.head_bytes(), &payload));
    }
}

#[test]
fn lengths_are_checked_before_anything_else() {
    let max = 1000;
    for (length, expected) in [
        (0, FrameError::TooShort { length: 0 }),
        (11, FrameError::TooShort { length: 11 }),
        (997, FrameError::TooLong { length: 997, max }),
        (u32::MAX, FrameError::TooLong { length: u32::MAX, max }),
    ] {
        assert_eq!(split(&length.to_le_bytes(), max), Err(expected));
        assert_eq!(needed(&length.to_le_bytes(), max), Err(expected));
    }
    assert_eq!(split(&996_u32.to_le_bytes(), max), Ok(None));
    assert_eq!(needed(&996_u32.to_le_bytes(), max), Ok(max));
    assert_eq!(needed(&[], max), Ok(16));
    assert_eq!(needed(&[255, 255, 255], max), Ok(16));
}
