//! Frames that arrive undamaged and still must not be believed: each with the error that names its fault.

mod common;

use bytes::Bytes;
use common::{chained, raw_frame, OwnedRequest, Refused, Sample, MAX};
use raftkv_protocol::command::{BatchBuilder, Command, Operation, BATCH_OPERATIONS_MAX};
use raftkv_protocol::error::{DecodeError, FrameError};
use raftkv_protocol::format::Hello;
use raftkv_protocol::frame::{client_frame_bytes_max, split};
use raftkv_protocol::kind::Kind;
use raftkv_protocol::message::{AppendEntries, AppendReply, Envelope, Message, RejectHint, SnapshotOffer};
use raftkv_protocol::receipt::Receipt;
use raftkv_protocol::reply::{Answer, Detail, Effect, Fate, Reason, Reply, ReplyBody, ReplyHeader, Status};
use raftkv_protocol::request::{Request, RequestHeader};
use raftkv_protocol::snapshot::{Chunk, Transfer};
use raftkv_protocol::*;

fn append() -> AppendEntries {
    let previous = EntryId { term: Term(3), index: Index(10) };
    AppendEntries {
        round: Round(7),
        lease_span_us: 0,
        heartbeat: false,
        previous,
        previous_chain: Chain(99),
        commit: Index(9),
        digest_index: Index(0),
        digest: 0,
        entries: chained(previous, Chain(99), vec![(0, b"one".to_vec()), (2, b"two".to_vec())]),
    }
}

fn envelope(term: u64, message: Message) -> Envelope {
    Envelope {
        cluster: ClusterId(1),
        incarnation: Incarnation(2),
        from: NodeId(0),
        to: NodeId(1),
        term: Term(term),
        message,
    }
}

fn receive(term: u64, append: AppendEntries) -> Result<Sample, Refused> {
    Sample::receive(&Sample::Envelope(envelope(term, Message::AppendEntries(append))).encode())
}

/// Frames the payload of `good` anew after `damage`.
fn damaged(good: &[u8], damage: impl FnOnce(&mut Vec<u8>)) -> Result<Sample, Refused> {
    let mut payload = good[16..].to_vec();
    damage(&mut payload);
    Sample::receive(&raw_frame(good[12], Kind::from_wire(good[12]).unwrap().head_bytes(), &payload))
}

fn encoded(request: Request<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    request.encode(&RequestHeader::default(), &mut out);
    out
}

fn decode_error(error: DecodeError) -> Result<Sample, Refused> {
    Err(Refused::Decode(error))
}

#[test]
fn good_entries_are_accepted() {
    assert!(receive(5, append()).is_ok());
}

#[test]
fn a_chunk_stays_within_its_file() {
    let chunk = |offset, total| {
        let chunk = Chunk { index: Index(5), offset, total, hash: 9, bytes: b"four" };
        let mut out = Vec::new();
        Transfer::Chunk(chunk).encode(&mut out);
        Sample::receive(&out).map(|_| ())
    };
    assert_eq!(chunk(10, 14), Ok(()));
    for (offset, total) in [(10, 13), (u64::MAX - 3, u64::MAX), (u64::MAX, u64::MAX), (1, 0)] {
        let refused = Err(Refused::Decode(DecodeError::Value { field: "chunk offset", value: offset }));
        assert_eq!(chunk(offset, total), refused, "{offset} of {total}");
    }
}

#[test]
fn entries_must_follow_one_by_one() {
    let mut gap = append();
    gap.entries.remove(0);
    let error = DecodeError::Index { expected: Index(11), received: Index(12) };
    assert_eq!(receive(5, gap), decode_error(error));

    let mut twice = append();
    twice.entries[1] = twice.entries[0].clone();
    let error = DecodeError::Index { expected: Index(12), received: Index(11) };
    assert_eq!(receive(5, twice), decode_error(error));
}

#[test]
fn indexes_do_not_wrap() {
    for index in [0, u64::MAX] {
        let mut last = append();
        last.previous.index = Index(u64::MAX);
        last.entries.truncate(1);
        last.entries[0].header.id.index = Index(index);
        assert_eq!(receive(5, last), decode_error(DecodeError::Value { field: "previous index", value: u64::MAX }));
    }
}

#[test]
fn terms_neither_fall_nor_exceed_the_senders() {
    let error = |from, to, received| DecodeError::Term { from: Term(from), to: Term(to), received: Term(received) };
    assert_eq!(receive(4, append()), decode_error(error(3, 4, 5)));

    let mut falls = append();
    falls.previous.term = Term(4);
    assert_eq!(receive(5, falls), decode_error(error(4, 5, 3)));
}

#[test]
fn a_wrong_chain_is_the_receivers_to_find() {
    let mut other = append();
    other.previous_chain = Chain(98);
    assert!(matches!(receive(5, other), Err(Refused::Chain(error)) if error.id.index == Index(11)));

    let mut second = append();
    second.entries[1].header.log_time = LogTime(1);
    assert!(matches!(receive(5, second), Err(Refused::Chain(error)) if error.id.index == Index(12)));
}

#[test]
fn a_heartbeat_has_no_entries() {
    let heartbeat = AppendEntries { heartbeat: true, ..append() };
    assert_eq!(receive(5, heartbeat), decode_error(DecodeError::Value { field: "entries of a heartbeat", value: 2 }));
}

#[test]
fn bodies_are_verified() {
    let mut swapped = append();
    swapped.entries[0].body = Bytes::from_static(b"two");
    assert!(matches!(receive(5, swapped), Err(Refused::Decode(DecodeError::BodyChecksum { .. }))));

    let entry = append().entries.remove(0);
    assert_eq!(entry.verify_body(), Ok(()));
    let longer = Entry { body: Bytes::from_static(b"longer"), ..entry.clone() };
    assert_eq!(longer.verify_body(), Err(DecodeError::Value { field: "body length", value: 3 }));
    let other = Entry { body: Bytes::from_static(b"owe"), ..entry };
    assert!(matches!(other.verify_body(), Err(DecodeError::BodyChecksum { .. })));
}

#[test]
fn the_checksum_must_cover_what_the_kind_prescribes() {
    let write = encoded(Request::Write(Command::Put { key: b"k", value: b"v" }));
    let length = write.len() - 16;
    let short = raw_frame(Kind::Write as u8, Some(20), &write[16..]);
    assert_eq!(Sample::receive(&short), decode_error(DecodeError::Covered { covered: 28, expected: 44 }));
    let long = raw_frame(Kind::Write as u8, None, &write[16..]);
    let covered = u32::try_from(length + 8).unwrap();
    assert_eq!(Sample::receive(&long), decode_error(DecodeError::Covered { covered, expected: 44 }));
    let get = encoded(Request::Get { key: b"key" });
    let short = raw_frame(Kind::Get as u8, Some(32), &get[16..]);
    assert_eq!(Sample::receive(&short), decode_error(DecodeError::Covered { covered: 40, expected: 47 }));
}

#[test]
fn covered_stays_within_the_frame() {
    for covered in [0_u32, 7, 9, u32::MAX] {
        let mut frame = raw_frame(Kind::TimeoutNow as u8, None, &[]);
        frame[8..12].copy_from_slice(&covered.to_le_bytes());
        assert_eq!(split(&frame, MAX), Err(FrameError::Covered { covered, length: 12 }));
    }
}

#[test]
fn flags_of_the_frame_header_are_refused() {
    for at in [13, 14, 15] {
        let mut frame = raw_frame(Kind::Status as u8, None, &[0; 32]);
        frame[at] = 1;
        let sum = common::crc32c_slow(44, &frame[8..]);
        frame[4..8].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(split(&frame, MAX), Err(FrameError::Reserved));
    }
}

#[test]
fn damage_is_told_before_the_frame_is_complete() {
    let sample = Sample::Envelope(envelope(5, Message::AppendEntries(append())));
    let mut frame = sample.encode();
    frame[40] ^= 1;
    assert!(split(&frame[..100], MAX).unwrap().is_none(), "the head is not there yet");
    assert!(matches!(split(&frame[..16 + 112], MAX), Err(FrameError::Checksum { .. })));
}

#[test]
fn unknown_kinds_have_names_and_tell_their_request() {
    let frame = raw_frame(0x7f, None, &[9; 40]);
    assert_eq!(Sample::receive(&frame), decode_error(DecodeError::UnknownKind(0x7f)));
    let (frame, _) = split(&frame, MAX).unwrap().unwrap();
    assert_eq!(Request::id(&frame), Some(RequestId(0x0909_0909_0909_0909)));

    let reply = raw_frame(Kind::Reply as u8, None, &[9; 40]);
    let (frame, _) = split(&reply, MAX).unwrap().unwrap();
    assert_eq!(Request::id(&frame), None);
    assert_eq!(Request::id_of_prefix(&reply), None);
    assert_eq!(Request::id_of_prefix(&reply[..20]), None);
}

#[test]
fn commands_are_exact() {
    let mut body = Vec::new();
    Command::Update { key: b"key", value: b"value" }.encode(&mut body);
    assert_eq!(Command::decode(&body), Ok(Command::Update { key: b"key", value: b"value" }));
    let with = |at: usize, byte: u8| {
        let mut body = body.clone();
        body[at] = byte;
        Command::decode(&body).map(|_| ()).unwrap_err()
    };
    for kind in [0, 11, 255] {
        assert_eq!(with(0, kind), DecodeError::UnknownCommand(kind));
    }
    assert_eq!(with(1, 1), DecodeError::Reserved("command flags"));
    assert_eq!(with(4, 200), DecodeError::Truncated("key"));
    assert_eq!(with(8, 6), DecodeError::Truncated("value"));
    assert_eq!(with(8, 4), DecodeError::Trailing(1));
    assert_eq!(with(0, 3), DecodeError::Value { field: "value length of a removal", value: 5 });
    assert_eq!(Command::decode(&[]), Err(DecodeError::Truncated("command kind")));
}

#[test]
fn increments_bring_no_value_and_session_commands_nothing() {
    let refused = |command: Command<'_>, damage: &dyn Fn(&mut Vec<u8>)| {
        let mut body = Vec::new();
        command.encode(&mut body);
        damage(&mut body);
        Command::decode(&body).map(|_| ()).unwrap_err()
    };
    let increment = Command::Increment { key: b"key", by: -1 };
    let field = "value length of an increment";
    let with_value = |body: &mut Vec<u8>| {
        body[8] = 1;
        body.push(b'v');
    };
    assert_eq!(refused(increment, &with_value), DecodeError::Value { field, value: 1 });
    for command in [Command::OpenSession, Command::CloseSession, Command::KeepAlive] {
        let counted = "operation count of a session command";
        assert_eq!(refused(command, &|body| body[4] = 1), DecodeError::Reserved(counted));
        assert_eq!(refused(command, &|body| body[8] = 1), DecodeError::Reserved("command reserved"));
        assert_eq!(refused(command, &|body| body.push(0)), DecodeError::Trailing(1));
    }
    let query = Command::QueryOutcome { session: SessionId(1), sequence: Sequence(2) };
    assert_eq!(refused(query, &|body| body.truncate(27)), DecodeError::Truncated("queried sequence"));
}

/// Whatever the bounds of keys and values: a batch of the most operations that are within them fits a frame.
#[test]
fn the_largest_batch_fits_the_largest_frame() {
    for (key_bytes_max, value_bytes_max) in [(1, 128), (64, 64), (1024, 1 << 20)] {
        let value = vec![b'v'; key_bytes_max + value_bytes_max - BATCH_OPERATIONS_MAX];
        let mut builder = BatchBuilder::default();
        for operation in 0..BATCH_OPERATIONS_MAX {
            let value: &[u8] = if operation == 0 { &value } else { &[] };
            assert!(builder.push(Operation::CompareAndSet { key: b"k", expected: Index(u64::MAX), value }));
        }
        let request = Request::Write(Command::Batch(builder.batch().unwrap()));
        let max = client_frame_bytes_max(key_bytes_max, value_bytes_max);
        assert!(request.encoded_len() <= max, "{} of {max} bytes", request.encoded_len());
    }
}

#[test]
fn batches_have_1_to_128_operations_and_nothing_else_in_them() {
    let mut builder = BatchBuilder::default();
    assert_eq!(builder.batch(), None, "an empty batch is none");
    for _ in 0..BATCH_OPERATIONS_MAX {
        assert!(builder.push(Operation::Remove { key: b"k" }));
    }
    assert!(!builder.push(Operation::Remove { key: b"k" }), "it is full");
    let batch = Command::Batch(builder.batch().unwrap());
    let mut body = Vec::new();
    batch.encode(&mut body);
    assert_eq!(Command::decode(&body), Ok(batch));
    assert_eq!(batch.operations().count(), BATCH_OPERATIONS_MAX);
    let with = |at: usize, byte: u8| {
        let mut body = body.clone();
        body[at] = byte;
        Command::decode(&body).map(|_| ()).unwrap_err()
    };
    let count = |value| DecodeError::Value { field: "operation count", value };
    assert_eq!([with(4, 0), with(4, 129)], [count(0), count(129)]);
    assert_eq!(with(4, 127), DecodeError::Trailing(13));
    assert_eq!(with(8, 1), DecodeError::Reserved("command reserved"));
    for kind in [0, 6, 7, 10] {
        let nested = DecodeError::Value { field: "operation kind", value: kind.into() };
        assert_eq!(with(12, kind), nested, "batches and session commands do not nest");
    }
    body.push(0);
    assert_eq!(Command::decode(&body), Err(DecodeError::Trailing(1)));
}

#[test]
fn fates_that_are_not_known_are_refused() {
    let header = ReplyHeader {
        request: RequestId(1),
        status: Status::Ok,
        reason: Reason::None,
        effect: Effect::None,
        revision: Index(9),
    };
    let detail = Detail::Number(-3);
    let answer =
        Answer { status: Status::Created, reason: Reason::None, effect: Effect::Applied, revision: Index(7), detail };
    let body = ReplyBody::Fate(Fate::Executed(answer));
    let mut good = Vec::new();
    Reply { header, leader: None, body, trailer: &[] }.encode(&mut good);
    assert!(damaged(&good, |_| {}).is_ok());
    assert_eq!(damaged(&good, |p| p[24] = 5), decode_error(DecodeError::Value { field: "fate", value: 5 }));
    assert_eq!(damaged(&good, |p| p[25] = 1), decode_error(DecodeError::Reserved("fate reserved")));
    assert_eq!(damaged(&good, |p| p[28] = 9), decode_error(DecodeError::Value { field: "status", value: 9 }));
    let field = "answer body kind";
    assert_eq!(damaged(&good, |p| p[33] = 2), decode_error(DecodeError::Value { field, value: 2 }));
}

#[test]
fn unknown_flags_and_modes_of_requests_are_refused() {
    let get = encoded(Request::Get { key: b"key" });
    assert_eq!(damaged(&get, |p| p[28] = 2), decode_error(DecodeError::Reserved("request flags")));
    assert_eq!(damaged(&get, |p| p[29] = 2), decode_error(DecodeError::Value { field: "read mode", value: 2 }));
    assert_eq!(damaged(&get, |p| p[30] = 1), decode_error(DecodeError::Reserved("request reserved")));
    let scan = encoded(Request::Scan(raftkv_protocol::request::Scan {
        view: None,
        from: b"a",
        to: b"",
        limit: 0,
        keys_only: false,
        count_only: false,
    }));
    assert_eq!(damaged(&scan, |p| p[32] = 8), decode_error(DecodeError::Reserved("scan flags")));
    assert_eq!(damaged(&scan, |p| p[40] = 1), decode_error(DecodeError::Reserved("absent view")));
}

#[test]
fn peer_messages_of_another_version_are_refused() {
    let message = Sample::Envelope(envelope(5, Message::TimeoutNow)).encode();
    for version in [VERSION_MIN - 1, VERSION_MAX + 1, u16::MAX] {
        let received = damaged(&message, |p| p[32..34].copy_from_slice(&version.to_le_bytes()));
        assert_eq!(received, decode_error(DecodeError::Version(version)));
    }
    assert_eq!(damaged(&message, |p| p[36] = 1), decode_error(DecodeError::Reserved("envelope reserved")));
}

#[test]
fn what_is_absent_is_zero() {
    let reply = Message::AppendReply(AppendReply {
        reject: Some(RejectHint { rejected: Index(4), hint: EntryId::default() }),
        ..AppendReply::default()
    });
    let reply = Sample::Envelope(envelope(5, reply)).encode();
    let flag = 40 + 72;
    assert_eq!(damaged(&reply, |p| p[flag] = 0), decode_error(DecodeError::Reserved("rejected flag")));
    assert_eq!(damaged(&reply, |p| p[flag] = 2), decode_error(DecodeError::Value { field: "rejected flag", value: 2 }));

    let index = Message::ReadIndexReply { context: 1, index: Some(Index(5)) };
    let index = Sample::Envelope(envelope(5, index)).encode();
    assert_eq!(damaged(&index, |p| p[56] = 0), decode_error(DecodeError::Reserved("read index known")));
}

#[test]
fn a_snapshot_covers_something_of_its_senders_past() {
    let last = EntryId { term: Term(5), index: Index(9) };
    let offer = Message::InstallSnapshot(SnapshotOffer { last, chain: Chain(1), bytes: 7 });
    let offer = Sample::Envelope(envelope(5, offer)).encode();
    let nothing = DecodeError::Value { field: "last index of a snapshot", value: 0 };
    assert_eq!(damaged(&offer, |p| p[48] = 0), decode_error(nothing));
    let newer = DecodeError::Term { from: Term(0), to: Term(5), received: Term(6) };
    assert_eq!(damaged(&offer, |p| p[40] = 6), decode_error(newer));
}

#[test]
fn a_log_level_says_what_is_wrong() {
    let header = RequestHeader::default();
    let encode = |request| Sample::Request(header, request).encode();
    let change = encode(OwnedRequest::ChangeLogLevel("raft=debug".to_owned()));
    let action = |value| decode_error(DecodeError::Value { field: "log level action", value });
    assert_eq!(damaged(&change, |p| p[32] = 3), action(3));
    assert_eq!(damaged(&change, |p| p[32] = 0), decode_error(DecodeError::Reserved("filter")));
    assert_eq!(damaged(&change, |p| p[33] = 1), decode_error(DecodeError::Reserved("log level reserved")));
    assert_eq!(damaged(&change, |p| p[40] = 0xff), decode_error(DecodeError::Utf8("filter")));
    assert_eq!(damaged(&change, |p| p[36] = 0xff), decode_error(DecodeError::Truncated("filter")));
}

#[test]
fn replies_of_a_newer_server() {
    let header = ReplyHeader {
        request: RequestId(1),
        status: Status::Redirect,
        reason: Reason::NotLeader,
        effect: Effect::None,
        revision: Index(0),
    };
    let reply = Reply { header, leader: None, body: ReplyBody::Message("go there"), trailer: &[] };
    let mut good = Vec::new();
    reply.encode(&mut good);
    let header_of = |received: Result<Sample, Refused>| match received {
        Ok(Sample::Reply(reply)) => reply.header,
        other => panic!("{other:?}"),
    };
    assert_eq!(header_of(damaged(&good, |p| p[10] = 200)).reason, Reason::Other);
    assert_eq!(header_of(damaged(&good, |p| p[12] = 3)).effect, Effect::Unknown);
    assert_eq!(damaged(&good, |p| p[8] = 1), decode_error(DecodeError::Value { field: "status", value: 257 }));
    assert_eq!(damaged(&good, |p| p[13] = 10), decode_error(DecodeError::Value { field: "body kind", value: 10 }));
    assert_eq!(damaged(&good, |p| p[14] = 4), decode_error(DecodeError::Reserved("reply flags")));
    assert_eq!(damaged(&good, |p| p[28] = 0xff), decode_error(DecodeError::Utf8("message")));
}

#[test]
fn a_hello_of_an_unknown_purpose_or_magic_is_refused() {
    let mut hello = Vec::new();
    Hello::client().encode(&mut hello);
    assert_eq!(damaged(&hello, |p| p[16] = 9), decode_error(DecodeError::Value { field: "purpose", value: 9 }));
    assert_eq!(damaged(&hello, |p| p[0] = b'r'), decode_error(DecodeError::NotRaftkv));
    assert!(damaged(&hello, |p| p[17] = 1).is_ok(), "reserved bytes of a HELLO are a newer version's");
}

#[test]
fn every_error_reads_as_a_sentence_and_maps_to_a_reason() {
    let errors = [
        (DecodeError::UnknownKind(0x7f), "0x7f", Reason::UnknownKind),
        (DecodeError::UnknownCommand(9), "command kind 9", Reason::UnknownKind),
        (DecodeError::Version(7), "version 7", Reason::Version),
        (DecodeError::Reserved("request flags"), "`request flags`", Reason::Unsupported),
        (DecodeError::Truncated("key"), "`key`", Reason::Malformed),
    ];
    for (error, part, reason) in errors {
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(error.reason(), reason);
    }
    assert_eq!(FrameError::TooLong { length: 5, max: 4 }.reason(), Reason::FrameTooLarge);
    assert_eq!(FrameError::Reserved.reason(), Reason::Malformed);
    assert_eq!(
        FrameError::TooLong { length: u32::MAX, max: 4 }.to_string(),
        "frame of 4294967299 bytes exceeds the limit of 4"
    );
}

#[test]
fn receipts_with_impossible_numbers_are_refused() {
    let mut good = Vec::new();
    Receipt::default().encode(&mut good);
    assert_eq!(good.len(), 20);
    assert!(Receipt::decode(&good).is_ok());
    let refused = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        Receipt::decode(&bytes).expect_err("refused")
    };
    assert_eq!(refused(4, 1), DecodeError::Reserved("closing node known"), "a node that is said not to be known");
    assert_eq!(refused(8, 2), DecodeError::Value { field: "closing node known", value: 2 });
    assert_eq!(refused(9, 1), DecodeError::Reserved("closing node known"));
    assert_eq!(refused(12, 1), DecodeError::Count { field: "stages", count: 1 }, "more stages than there are bytes");
    assert_eq!(refused(19, 255), DecodeError::Count { field: "receipt members", count: 255 << 24 });
}
