//! The committed test vectors: the encoder reproduces each byte for byte, the decoder accepts each. After a deliberate
//! change of a format, `RAFTKV_WRITE_VECTORS=1 cargo test -p raftkv-protocol --test vectors` writes them anew.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "the vectors are files")]

mod common;

use std::fmt::Write as _;
use std::path::PathBuf;

use common::{chained, OwnedBody, OwnedReply, OwnedRequest, OwnedTransfer, OwnedVersioned, Sample};
use raftkv_protocol::command::{BatchBuilder, Command, Operation};
use raftkv_protocol::format::{Format, Hello, HelloReply, Member, Purpose, Refusal};
use raftkv_protocol::kind::Kind;
use raftkv_protocol::message::{AppendEntries, AppendReply, Envelope, Message, RejectHint, SnapshotOffer};
use raftkv_protocol::receipt::{MemberTimes, Receipt, Stage};
use raftkv_protocol::reply::{
    Answer, Detail, Effect, Fate, MemberStatus, NodeStatus, Reason, RefusedOperation, ReplyHeader, Role, SessionTerms,
    Status, TakenSnapshot,
};
use raftkv_protocol::request::{ReadMode, RequestHeader, ViewId};
use raftkv_protocol::snapshot::{Fetch, GoneReason};
use raftkv_protocol::*;

/// A name, what it stands for, and its bytes.
struct Vector {
    name: &'static str,
    note: &'static str,
    bytes: Vec<u8>,
}

fn path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors").join(file)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "hex comes in pairs");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// The file as `vectors` give it.
fn text(title: &str, vectors: &[Vector]) -> String {
    let mut text = format!(
        "# {title}\n# One vector per line: name = bytes in hex. The comment before it says what it stands for.\n"
    );
    for vector in vectors {
        write!(text, "\n# {}\n{} = {}\n", vector.note, vector.name, hex(&vector.bytes)).unwrap();
    }
    text
}

/// The file's vectors, read as anyone would.
fn read(file: &str) -> Vec<(String, Vec<u8>)> {
    let text = std::fs::read_to_string(path(file)).expect("the vectors are committed");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once(" = ").map(|(name, bytes)| (name.to_owned(), unhex(bytes))).unwrap()).collect()
}

/// Compares the file with what the encoder gives (or writes it, if asked to).
fn check(file: &str, title: &str, vectors: &[Vector]) {
    if std::env::var_os("RAFTKV_WRITE_VECTORS").is_some() {
        std::fs::write(path(file), text(title, vectors)).unwrap();
    }
    let committed = read(file);
    let names: Vec<&str> = committed.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, vectors.iter().map(|vector| vector.name).collect::<Vec<_>>(), "{file}");
    for ((name, bytes), vector) in committed.iter().zip(vectors) {
        assert_eq!(hex(bytes), hex(&vector.bytes), "{file}: {name} is not encoded as committed");
    }
}

fn check_frames(file: &str, title: &str, samples: Vec<(&'static str, &'static str, Sample)>) -> Vec<Kind> {
    let vectors: Vec<Vector> =
        samples.iter().map(|(name, note, sample)| Vector { name, note, bytes: sample.encode() }).collect();
    check(file, title, &vectors);
    let committed = read(file);
    for ((name, bytes), (_, _, sample)) in committed.iter().zip(&samples) {
        assert_eq!(Sample::receive(bytes).as_ref(), Ok(sample), "{file}: {name}");
    }
    vectors.iter().map(|vector| Kind::from_wire(vector.bytes[12]).unwrap()).collect()
}

fn members(incarnations: [u64; 3]) -> Vec<Member> {
    let member = |(id, incarnation): (u32, u64)| Member {
        id: NodeId(id),
        incarnation: Incarnation(incarnation),
        client_address: format!("127.0.0.1:{}", 7400 + 10 * id),
        peer_address: format!("127.0.0.1:{}", 7401 + 10 * id),
    };
    (0..3).zip(incarnations).map(member).collect()
}

fn hellos() -> Vec<(&'static str, &'static str, Sample)> {
    let formatted = Hello {
        purpose: Purpose::Peer,
        cluster: ClusterId(0x1122_3344_5566_7788),
        node: NodeId(2),
        incarnation: Incarnation(0x0a0b_0c0d_0e0f_1011),
        ..Hello::client()
    };
    let unformatted = Hello { cluster: ClusterId(0), initial_members: members([0; 3]), ..formatted.clone() };
    let refusal = Refusal {
        version_min: 1,
        version_max: 1,
        reason: Reason::WrongCluster,
        text: "this is node 0 of cluster 1122334455667788".to_owned(),
    };
    vec![
        (
            "hello_client",
            "A client, protocol version 1, that does not care which cluster it meets.",
            Sample::Hello(Hello::client()),
        ),
        (
            "hello_peer",
            "Node 2 of cluster 0x1122334455667788, incarnation 0x0a0b0c0d0e0f1011.",
            Sample::Hello(formatted.clone()),
        ),
        (
            "hello_peer_unformatted",
            "The same node before there is a cluster, with its list of initial members.",
            Sample::Hello(unformatted),
        ),
        (
            "hello_reply",
            "The accepting side's own HELLO.",
            Sample::HelloReply(HelloReply::Accepted(Hello { purpose: Purpose::Client, ..formatted })),
        ),
        ("refusal", "Reason 15 (wrong cluster) and a text.", Sample::HelloReply(HelloReply::Refused(refusal))),
    ]
}

fn requests() -> Vec<(&'static str, &'static str, Sample)> {
    let header = RequestHeader { request: RequestId(1), deadline_ms: 5000, ..RequestHeader::default() };
    let all = RequestHeader {
        request: RequestId(0x0102_0304_0506_0708),
        session: SessionId(0x1112_1314_1516_1718),
        sequence: Sequence(0x2122_2324_2526_2728),
        deadline_ms: 0x3132_3334,
        explain: true,
        read_mode: ReadMode::Local,
    };
    let view = ViewId { boot: 0xb007, revision: Index(42), serial: 3 };
    let scan = |view, from: &[u8], to: &[u8], limit, keys_only, count_only| OwnedRequest::Scan {
        view,
        from: from.to_vec(),
        to: to.to_vec(),
        limit,
        keys_only,
        count_only,
    };
    let request = |request| Sample::Request(header, request);
    vec![
        (
            "put",
            "Request 1, deadline 5,000 ms: put hello = raftkv.",
            request(OwnedRequest::Put(b"hello".to_vec(), b"raftkv".to_vec())),
        ),
        ("update", "update hello = an empty value.", request(OwnedRequest::Update(b"hello".to_vec(), Vec::new()))),
        ("remove", "remove hello.", request(OwnedRequest::Remove(b"hello".to_vec()))),
        (
            "put_every_field",
            "put 00 ff = ff 00 with every header field set.",
            Sample::Request(all, OwnedRequest::Put(vec![0, 255], vec![255, 0])),
        ),
        (
            "increment_in_session",
            "Sequence 7 of session 42: increment hits by 1.",
            Sample::Request(
                RequestHeader { session: SessionId(42), sequence: Sequence(7), ..header },
                OwnedRequest::Increment(b"hits".to_vec(), 1),
            ),
        ),
        ("open_session", "Open a session.", request(OwnedRequest::OpenSession)),
        ("get", "get hello.", request(OwnedRequest::Get(b"hello".to_vec()))),
        (
            "get_every_field",
            "get hello with every header field set, local.",
            Sample::Request(all, OwnedRequest::Get(b"hello".to_vec())),
        ),
        (
            "scan_first",
            "First page: from a (included) to b (excluded), server's page size.",
            request(scan(None, b"a", b"b", 0, false, false)),
        ),
        (
            "scan_next",
            "Next page on view (0xb007, 42, 3) from am to the end, at most 100 keys, without values.",
            request(scan(Some(view), b"am", b"", 100, true, false)),
        ),
        ("scan_count", "Count all keys.", request(scan(None, b"", b"", 0, false, true))),
        ("close_view", "Close view (0xb007, 42, 3).", request(OwnedRequest::CloseView(view))),
        ("status", "The asked node's status.", request(OwnedRequest::Status)),
        ("snapshot_take", "Take a snapshot of the asked node's state.", request(OwnedRequest::TakeSnapshot)),
        ("log_level_show", "The asked node's log filter.", request(OwnedRequest::ShowLogLevel)),
        (
            "log_level_change",
            "From now on, its rooms raft and wal log at debug and at warn.",
            request(OwnedRequest::ChangeLogLevel("raft=debug,wal=warn".to_owned())),
        ),
        ("log_level_reset", "Back to what it was started with.", request(OwnedRequest::ResetLogLevel)),
    ]
}

fn replies() -> Vec<(&'static str, &'static str, Sample)> {
    let header = |status, reason, effect, revision| ReplyHeader {
        request: RequestId(1),
        status,
        reason,
        effect,
        revision: Index(revision),
    };
    let reply = |header, leader: Option<(u32, &str)>, body| {
        let leader = leader.map(|(node, address)| (NodeId(node), address.to_owned()));
        Sample::Reply(OwnedReply { header, leader, body, trailer: Vec::new() })
    };
    let value =
        |value: &[u8], revision| OwnedVersioned { value: value.to_vec(), revision, create_revision: 41, version: 2 };
    let page = OwnedBody::Page {
        view: Some(ViewId { boot: 0xb007, revision: Index(42), serial: 3 }),
        count: 2,
        items: vec![(b"a".to_vec(), value(b"1", 41)), (b"al".to_vec(), value(b"", 42))],
        resume: b"am".to_vec(),
    };
    let last_page = OwnedBody::Page { view: None, count: 0, items: Vec::new(), resume: Vec::new() };
    let message = |text: &str| OwnedBody::Message(text.to_owned());
    let with_trailer = OwnedReply {
        header: header(Status::Ok, Reason::None, Effect::Applied, 43),
        leader: Some((NodeId(0), "127.0.0.1:7400".to_owned())),
        body: OwnedBody::Empty,
        trailer: b"receipt".to_vec(),
    };
    use Effect::{Applied, None as Nothing, Unknown};
    vec![
        (
            "created",
            "Request 1 created a key at revision 42.",
            reply(header(Status::Created, Reason::None, Applied, 42), None, OwnedBody::Empty),
        ),
        (
            "updated",
            "Request 1 replaced a value at revision 43; with leader hint and trailer.",
            Sample::Reply(with_trailer),
        ),
        (
            "value",
            "The value raftkv: revision 42, created at 41, version 2; read at applied index 50.",
            reply(header(Status::Ok, Reason::None, Nothing, 50), None, OwnedBody::Value(value(b"raftkv", 42))),
        ),
        (
            "not_found",
            "No such key, read at applied index 50.",
            reply(header(Status::NotFound, Reason::None, Nothing, 50), None, OwnedBody::Empty),
        ),
        ("exists", "The key exists.", reply(header(Status::Exists, Reason::None, Nothing, 44), None, OwnedBody::Empty)),
        (
            "redirect",
            "Ask node 2.",
            reply(
                header(Status::Redirect, Reason::NotLeader, Nothing, 0),
                Some((2, "127.0.0.1:7420")),
                OwnedBody::Empty,
            ),
        ),
        (
            "no_leader",
            "Not executed: no leader is known.",
            reply(
                header(Status::NotExecuted, Reason::NoLeader, Nothing, 0),
                None,
                message("no leader: 1 of 3 nodes connected"),
            ),
        ),
        (
            "unknown",
            "The deadline passed; the outcome is unknown.",
            reply(header(Status::Unknown, Reason::Deadline, Unknown, 0), None, OwnedBody::Empty),
        ),
        (
            "bad_request",
            "Malformed, with a sentence.",
            reply(
                header(Status::BadRequest, Reason::Malformed, Nothing, 0),
                None,
                message("the bytes end inside `key`"),
            ),
        ),
        (
            "incremented",
            "The sum after an increment at revision 45 is -2.",
            reply(header(Status::Ok, Reason::None, Applied, 45), None, OwnedBody::Number(-2)),
        ),
        (
            "session",
            "Session 46 was opened: it lives 300,000 ms without use and has a window of 256.",
            reply(
                header(Status::Created, Reason::None, Applied, 46),
                None,
                OwnedBody::Session(SessionTerms { id: SessionId(46), ttl_ms: 300_000, window: 256 }),
            ),
        ),
        (
            "refused",
            "The third operation of a batch found its key at revision 40, which it did not expect.",
            reply(
                header(Status::ConditionFailed, Reason::RevisionMismatch, Nothing, 47),
                None,
                OwnedBody::Refused(RefusedOperation { position: 2, revision: Index(40) }),
            ),
        ),
        (
            "session_expired",
            "The session is gone: this attempt was not applied.",
            reply(header(Status::NotExecuted, Reason::SessionExpired, Nothing, 0), None, OwnedBody::Empty),
        ),
        (
            "fate_executed",
            "What was asked about was an increment, executed at revision 45, with the sum -2.",
            reply(
                header(Status::Ok, Reason::None, Nothing, 48),
                None,
                OwnedBody::Fate(Fate::Executed(Answer {
                    status: Status::Ok,
                    reason: Reason::None,
                    effect: Applied,
                    revision: Index(45),
                    detail: Detail::Number(-2),
                })),
            ),
        ),
        (
            "fate_never",
            "It was never executed and never will be.",
            reply(header(Status::Ok, Reason::None, Nothing, 48), None, OwnedBody::Fate(Fate::Never)),
        ),
        (
            "page",
            "Two keys of a view, and where the next page starts.",
            reply(header(Status::Ok, Reason::None, Nothing, 42), None, page),
        ),
        ("page_last", "An empty last page.", reply(header(Status::Ok, Reason::None, Nothing, 42), None, last_page)),
        (
            "node_status",
            "A leader's status.",
            reply(header(Status::Ok, Reason::None, Nothing, 50), None, OwnedBody::Status(Box::new(node_status()))),
        ),
        (
            "snapshot",
            "Node 2 has taken a snapshot that ends at (4, 50), of 8,192 bytes.",
            reply(
                header(Status::Ok, Reason::None, Nothing, 50),
                None,
                OwnedBody::Snapshot(TakenSnapshot {
                    node: NodeId(2),
                    last: EntryId { term: Term(4), index: Index(50) },
                    bytes: 8192,
                }),
            ),
        ),
    ]
}

fn node_status() -> NodeStatus {
    let member = |member: Member| MemberStatus {
        connected: member.id != NodeId(2),
        id: member.id,
        client_address: member.client_address,
        peer_address: member.peer_address,
    };
    NodeStatus {
        id: NodeId(0),
        name: "zero".to_owned(),
        cluster: ClusterId(0x1122_3344_5566_7788),
        role: Role::Leader,
        term: Term(4),
        leader: Some(NodeId(0)),
        commit_index: Index(51),
        applied_index: Index(50),
        durable_index: Index(52),
        uptime_ms: 60_000,
        keys: 12,
        members: members([0; 3]).into_iter().map(member).collect(),
        notes: vec!["node 2 is not connected".to_owned()],
        counters: vec![("puts".to_owned(), 30), ("gets".to_owned(), 7)],
    }
}

fn peer_messages() -> Vec<(&'static str, &'static str, Sample)> {
    let message = |message| {
        Sample::Envelope(Envelope {
            cluster: ClusterId(0x1122_3344_5566_7788),
            incarnation: Incarnation(0x0a0b_0c0d_0e0f_1011),
            from: NodeId(0),
            to: NodeId(1),
            term: Term(4),
            message,
        })
    };
    let last = EntryId { term: Term(3), index: Index(10) };
    let append = AppendEntries {
        round: Round(9),
        lease_span_us: 0,
        heartbeat: false,
        previous: last,
        previous_chain: Chain(0x0123_4567_89ab_cdef),
        commit: Index(10),
        digest_index: Index(8),
        digest: 0xd1,
        entries: entries(),
    };
    let heartbeat =
        AppendEntries { heartbeat: true, entries: Vec::new(), digest_index: Index(0), digest: 0, ..append.clone() };
    let reply = AppendReply {
        round: Round(9),
        lease_span_us: 0,
        matched: Index(12),
        reject: None,
        digest_index: Index(0),
        digest: 0,
        queue_us: 15,
        sync_us: 220,
    };
    let hint = RejectHint { rejected: Index(10), hint: EntryId { term: Term(2), index: Index(7) } };
    let format = Format { cluster: ClusterId(0x1122_3344_5566_7788), members: members([0xa0, 0xa1, 0xa2]) };
    vec![
        (
            "pre_vote",
            "Would node 1 vote for node 0 in term 4? Its last entry is (term 3, index 10).",
            message(Message::PreVote { last }),
        ),
        ("pre_vote_reply", "Yes.", message(Message::PreVoteReply { granted: true })),
        ("request_vote", "Vote for node 0 in term 4.", message(Message::RequestVote { last, transfer: false })),
        ("request_vote_reply", "No.", message(Message::RequestVoteReply { granted: false })),
        (
            "append_entries",
            "Round 9: a no-op (4, 11) and a put (4, 12) behind (3, 10), whose chain is 0123456789abcdef.",
            message(Message::AppendEntries(append)),
        ),
        ("heartbeat", "Round 9, nothing else.", message(Message::AppendEntries(heartbeat))),
        ("append_reply", "Matched up to 12; 15 us queued, 220 us syncing.", message(Message::AppendReply(reply))),
        (
            "append_reply_reject",
            "(3, 10) does not fit; try (2, 7).",
            message(Message::AppendReply(AppendReply { matched: Index(0), reject: Some(hint), ..reply })),
        ),
        ("read_index", "Context 77.", message(Message::ReadIndex { context: 77 })),
        (
            "read_index_reply",
            "Context 77: read index 12.",
            message(Message::ReadIndexReply { context: 77, index: Some(Index(12)) }),
        ),
        (
            "read_index_reply_none",
            "Context 77: ask again.",
            message(Message::ReadIndexReply { context: 77, index: None }),
        ),
        (
            "install_snapshot",
            "Node 0 has a snapshot of 5 MiB that ends with (3, 10), whose chain is 0123456789abcdef.",
            message(Message::InstallSnapshot(SnapshotOffer {
                last,
                chain: Chain(0x0123_4567_89ab_cdef),
                bytes: 5 << 20,
            })),
        ),
        ("timeout_now", "Campaign now.", message(Message::TimeoutNow)),
        (
            "format",
            "The cluster's birth certificate: three members with their incarnations.",
            message(Message::Format(format)),
        ),
    ]
}

fn transfers() -> Vec<(&'static str, &'static str, Sample)> {
    let last = EntryId { term: Term(4), index: Index(50) };
    let fetch = |offset, bytes_max| {
        let chain = Chain(0x0123_4567_89ab_cdef);
        Sample::Transfer(OwnedTransfer::Fetch(Fetch { last, chain, offset, bytes_max }))
    };
    let chunk = |offset, bytes: &[u8]| {
        let hash = 0xfeed_face_cafe_beef;
        Sample::Transfer(OwnedTransfer::Chunk { index: 50, offset, total: 8192, hash, bytes: bytes.to_vec() })
    };
    let gone = OwnedTransfer::Gone(GoneReason::NotHere, "the newest snapshot here ends at 60".to_owned());
    vec![
        ("fetch_nothing", "What file is the snapshot that ends at (4, 50), chain 0123456789abcdef?", fetch(0, 0)),
        ("chunk_empty", "One of 8,192 bytes, with hash feedfacecafebeef.", chunk(0, b"")),
        ("fetch", "At most 6 bytes from offset 4,096 on.", fetch(4096, 6)),
        ("chunk", "The bytes `raftkv`.", chunk(4096, b"raftkv")),
        ("gone", "Reason 1 (not here) and a text.", Sample::Transfer(gone)),
    ]
}

/// A no-op and a put behind (3, 10).
fn entries() -> Vec<Entry> {
    let mut put = Vec::new();
    Command::Put { key: b"hello", value: b"raftkv" }.encode(&mut put);
    let previous = EntryId { term: Term(3), index: Index(10) };
    chained(previous, Chain(0x0123_4567_89ab_cdef), vec![(1, Vec::new()), (0, put)])
}

#[test]
fn frames_are_encoded_as_committed() {
    let mut kinds = check_frames("hello.txt", "How a connection opens.", hellos());
    kinds.extend(check_frames("requests.txt", "Requests of a client.", requests()));
    kinds.extend(check_frames("replies.txt", "Replies of a server.", replies()));
    kinds.extend(check_frames("peer.txt", "Messages between nodes.", peer_messages()));
    kinds.extend(check_frames("snapshot.txt", "The transfer of a snapshot between two nodes.", transfers()));
    for kind in Kind::ALL {
        assert!(kinds.contains(kind), "{kind} has no test vector");
    }
}

#[test]
fn commands_are_encoded_as_committed() {
    let mut operations = BatchBuilder::default();
    assert!(operations.push(Operation::CompareAndSet { key: b"lock", expected: Index(0), value: b"me" }));
    assert!(operations.push(Operation::Increment { key: b"hits", by: -2 }));
    let batch = operations.batch().unwrap();
    let query = Command::QueryOutcome { session: SessionId(42), sequence: Sequence(7) };
    let commands = [
        ("put", "put hello = raftkv", Command::Put { key: b"hello", value: b"raftkv" }),
        ("update", "update hello = an empty value", Command::Update { key: b"hello", value: b"" }),
        ("remove", "remove hello", Command::Remove { key: b"hello" }),
        (
            "compare_and_set",
            "set hello = raftkv if its revision is 42",
            Command::CompareAndSet { key: b"hello", expected: Index(42), value: b"raftkv" },
        ),
        ("increment", "add -2 to hits", Command::Increment { key: b"hits", by: -2 }),
        ("batch", "set lock = me if lock does not exist, and add -2 to hits", Command::Batch(batch)),
        ("open_session", "open a session", Command::OpenSession),
        ("close_session", "close the session in the header", Command::CloseSession),
        ("keep_alive", "keep the session in the header", Command::KeepAlive),
        ("query_outcome", "what became of sequence 7 of session 42?", query),
    ];
    let vectors = commands.map(|(name, note, command)| {
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        Vector { name, note, bytes }
    });
    check("commands.txt", "Commands: the body of an entry, and the end of a WRITE.", &vectors);
    for ((_, bytes), (_, _, command)) in read("commands.txt").iter().zip(&commands) {
        assert_eq!(Command::decode(bytes), Ok(*command));
    }
}

fn receipts() -> [(&'static str, &'static str, Receipt); 2] {
    let write = Receipt {
        node: NodeId(1),
        stages: vec![(Stage::Decode, 12), (Stage::Queue, 31), (Stage::Propose, 18), (Stage::Quorum, 1204)],
        members: vec![
            MemberTimes { node: NodeId(1), durable_us: Some(812), queue_us: 20, sync_us: 790 },
            MemberTimes { node: NodeId(2), durable_us: Some(1204), queue_us: 12, sync_us: 700 },
            MemberTimes { node: NodeId(0), ..MemberTimes::default() },
        ],
        closed_by: Some(NodeId(2)),
    };
    let stages = vec![(Stage::Permission, 240), (Stage::Reply, 5), (Stage::Other(77), 1)];
    [
        (
            "write",
            "A write through node 1; node 2 closed the quorum, node 0 gave no word. The first four stages.",
            write,
        ),
        (
            "read",
            "A read at node 2, with a stage that this version has no name for.",
            Receipt { node: NodeId(2), stages, ..Receipt::default() },
        ),
    ]
}

#[test]
fn receipts_are_encoded_as_committed() {
    let encode = |receipt: &Receipt| {
        let mut bytes = Vec::new();
        receipt.encode(&mut bytes);
        bytes
    };
    let vectors: Vec<Vector> =
        receipts().iter().map(|(name, note, receipt)| Vector { name, note, bytes: encode(receipt) }).collect();
    check("receipts.txt", "Receipts, as they stand in a reply's trailer.", &vectors);
    for ((_, bytes), (name, _, receipt)) in read("receipts.txt").iter().zip(receipts()) {
        assert_eq!(Receipt::decode(bytes).as_ref(), Ok(&receipt), "{name}");
        assert_eq!(
            Receipt::decode(&[bytes.as_slice(), b"newer"].concat()),
            Ok(receipt),
            "{name}: what is newer is ignored"
        );
        for end in 0..bytes.len() {
            assert!(Receipt::decode(&bytes[..end]).is_err(), "{name}: cut at {end}");
        }
    }
}

#[test]
fn entries_are_encoded_as_committed() {
    let origin = Chain::origin(ClusterId(0x1122_3344_5566_7788));
    let vectors: Vec<Vector> = [
        ("noop", "Header of the no-op (4, 11) behind the chain 0123456789abcdef; it has no body."),
        ("put", "Header and body of the put (4, 12) behind it."),
    ]
    .into_iter()
    .zip(entries())
    .map(|((name, note), entry)| Vector { name, note, bytes: [&entry.header.encode()[..], &entry.body].concat() })
    .chain([Vector {
        name: "chain_origin",
        note: "Where the chain of cluster 0x1122334455667788 starts, as u64.",
        bytes: origin.0.to_le_bytes().to_vec(),
    }])
    .collect();
    check("entries.txt", "Log entries, on the wire and on disk.", &vectors);
    let committed = read("entries.txt");
    let mut chain = Chain(0x0123_4567_89ab_cdef);
    for (_, bytes) in &committed[..2] {
        let (header, body) = bytes.split_at(EntryHeader::BYTES);
        let header = EntryHeader::decode(header.try_into().unwrap()).unwrap();
        let entry = Entry { header, body: body.to_vec().into() };
        assert_eq!((entry.verify_body(), entry.verify_chain(chain)), (Ok(()), Ok(())));
        chain = entry.header.chain;
    }
}
