//! Samples of every kind of frame, and a second, independent writer of frames.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use raftkv_protocol::command::{BatchBuilder, Command, Operation};
use raftkv_protocol::error::{ChainError, DecodeError, FrameError};
use raftkv_protocol::format::{Format, Hello, HelloReply, Member, Purpose, Refusal};
use raftkv_protocol::frame::{split, Frame};
use raftkv_protocol::kind::{Group, Kind};
use raftkv_protocol::message::{AppendEntries, AppendReply, Envelope, Message, RejectHint, SnapshotOffer};
use raftkv_protocol::reply::{
    Answer, Detail, Effect, Fate, Item, LeaderHint, MemberStatus, NodeStatus, Page, Reason, RefusedOperation, Reply,
    ReplyBody, ReplyHeader, Role, SessionTerms, Status, TakenSnapshot, Versioned,
};
use raftkv_protocol::request::{LogLevel, ReadMode, Request, RequestHeader, Scan, ViewId};
use raftkv_protocol::snapshot::{Chunk, Fetch, Gone, GoneReason, Transfer};
use raftkv_protocol::*;

pub const MAX: usize = 16 * 1024 * 1024;

/// One value of any kind, owning what the protocol's types borrow.
#[derive(Clone, Debug, PartialEq)]
pub enum Sample {
    Hello(Hello),
    HelloReply(HelloReply),
    Request(RequestHeader, OwnedRequest),
    Reply(OwnedReply),
    Envelope(Envelope),
    Transfer(OwnedTransfer),
}

#[derive(Clone, Debug, PartialEq)]
pub enum OwnedTransfer {
    Fetch(Fetch),
    Chunk { index: u64, offset: u64, total: u64, hash: u64, bytes: Vec<u8> },
    Gone(GoneReason, String),
}

#[derive(Clone, Debug, PartialEq)]
pub enum OwnedRequest {
    Put(Vec<u8>, Vec<u8>),
    Update(Vec<u8>, Vec<u8>),
    Remove(Vec<u8>),
    CompareAndSet(Vec<u8>, u64, Vec<u8>),
    Increment(Vec<u8>, i64),
    Batch(BatchBuilder),
    OpenSession,
    CloseSession,
    KeepAlive,
    QueryOutcome(u64, u64),
    Get(Vec<u8>),
    Scan { view: Option<ViewId>, from: Vec<u8>, to: Vec<u8>, limit: u32, keys_only: bool, count_only: bool },
    CloseView(ViewId),
    Status,
    TakeSnapshot,
    ShowLogLevel,
    ChangeLogLevel(String),
    ResetLogLevel,
}

#[derive(Clone, Debug, PartialEq)]
pub struct OwnedReply {
    pub header: ReplyHeader,
    pub leader: Option<(NodeId, String)>,
    pub body: OwnedBody,
    pub trailer: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum OwnedBody {
    Empty,
    Message(String),
    Value(OwnedVersioned),
    Page { view: Option<ViewId>, count: u64, items: Vec<(Vec<u8>, OwnedVersioned)>, resume: Vec<u8> },
    Status(Box<NodeStatus>),
    Number(i64),
    Session(SessionTerms),
    Refused(RefusedOperation),
    Fate(Fate),
    Snapshot(TakenSnapshot),
}

#[derive(Clone, Debug, PartialEq)]
pub struct OwnedVersioned {
    pub value: Vec<u8>,
    pub revision: u64,
    pub create_revision: u64,
    pub version: u64,
}

/// All that can be wrong with received bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Refused {
    NeedMore,
    Frame(FrameError),
    Decode(DecodeError),
    Chain(ChainError),
}

impl Sample {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_to(&mut out);
        out
    }

    pub fn encode_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hello(hello) => hello.encode(out),
            Self::HelloReply(reply) => reply.encode(out),
            Self::Request(header, request) => request.borrow().encode(header, out),
            Self::Reply(reply) => reply.borrow().encode(out),
            Self::Envelope(envelope) => envelope.encode(out),
            Self::Transfer(transfer) => transfer.borrow().encode(out),
        }
    }

    pub fn encoded_len(&self) -> usize {
        match self {
            Self::Hello(hello) => hello.encoded_len(),
            Self::HelloReply(reply) => reply.encoded_len(),
            Self::Request(_, request) => request.borrow().encoded_len(),
            Self::Reply(reply) => reply.borrow().encoded_len(),
            Self::Envelope(envelope) => envelope.encoded_len(),
            Self::Transfer(transfer) => transfer.borrow().encoded_len(),
        }
    }

    /// Decodes by the frame's kind, as the two ends of a connection would between them.
    pub fn decode(frame: &Frame<'_>) -> Result<Self, DecodeError> {
        match Group::of(frame.number()) {
            Some(Group::Hello) if frame.number() == Kind::Hello as u8 => Hello::decode(frame).map(Self::Hello),
            Some(Group::Hello) => HelloReply::decode(frame).map(Self::HelloReply),
            Some(Group::Reply) => Reply::decode(frame).map(|reply| Self::Reply(OwnedReply::of(&reply))),
            Some(Group::Peer) => Envelope::decode(frame, Bytes::copy_from_slice).map(Self::Envelope),
            Some(Group::Snapshot) => {
                Transfer::decode(frame).map(|transfer| Self::Transfer(OwnedTransfer::of(&transfer)))
            }
            Some(Group::Request) | None => {
                let incoming = Request::decode(frame)?;
                Ok(Self::Request(incoming.header, OwnedRequest::of(&incoming.request)))
            }
        }
    }

    /// Everything a receiver does with bytes that should be one frame, the chain included.
    pub fn receive(bytes: &[u8]) -> Result<Self, Refused> {
        let (frame, _) = split(bytes, MAX).map_err(Refused::Frame)?.ok_or(Refused::NeedMore)?;
        let sample = Self::decode(&frame).map_err(Refused::Decode)?;
        if let Self::Envelope(Envelope { message: Message::AppendEntries(append), .. }) = &sample {
            append.verify_chain().map_err(Refused::Chain)?;
        }
        Ok(sample)
    }

    /// Any value of one kind. Exhaustive: a new kind does not compile before it has samples.
    pub fn any(kind: Kind) -> BoxedStrategy<Self> {
        match kind {
            Kind::Hello => hello().prop_map(Self::Hello).boxed(),
            Kind::HelloReply => hello().prop_map(|hello| Self::HelloReply(HelloReply::Accepted(hello))).boxed(),
            Kind::Refusal => refusal().prop_map(|refusal| Self::HelloReply(HelloReply::Refused(refusal))).boxed(),
            Kind::Write
            | Kind::Get
            | Kind::Scan
            | Kind::CloseView
            | Kind::Status
            | Kind::SnapshotTake
            | Kind::LogLevel => {
                (request_header(), request(kind)).prop_map(|(header, request)| Self::Request(header, request)).boxed()
            }
            Kind::Reply => reply().prop_map(Self::Reply).boxed(),
            Kind::PreVote
            | Kind::PreVoteReply
            | Kind::RequestVote
            | Kind::RequestVoteReply
            | Kind::AppendEntries
            | Kind::AppendReply
            | Kind::ReadIndex
            | Kind::ReadIndexReply
            | Kind::InstallSnapshot
            | Kind::TimeoutNow
            | Kind::Format => envelope(kind).prop_map(Self::Envelope).boxed(),
            Kind::SnapshotFetch | Kind::SnapshotChunk | Kind::SnapshotGone => {
                transfer(kind).prop_map(Self::Transfer).boxed()
            }
        }
    }
}

impl OwnedTransfer {
    pub fn borrow(&self) -> Transfer<'_> {
        match self {
            Self::Fetch(fetch) => Transfer::Fetch(*fetch),
            Self::Chunk { index, offset, total, hash, bytes } => {
                Transfer::Chunk(Chunk { index: Index(*index), offset: *offset, total: *total, hash: *hash, bytes })
            }
            Self::Gone(reason, text) => Transfer::Gone(Gone { reason: *reason, text }),
        }
    }

    pub fn of(transfer: &Transfer<'_>) -> Self {
        match *transfer {
            Transfer::Fetch(fetch) => Self::Fetch(fetch),
            Transfer::Chunk(Chunk { index, offset, total, hash, bytes }) => {
                Self::Chunk { index: index.0, offset, total, hash, bytes: bytes.to_vec() }
            }
            Transfer::Gone(Gone { reason, text }) => Self::Gone(reason, text.to_owned()),
        }
    }
}

impl OwnedRequest {
    pub fn borrow(&self) -> Request<'_> {
        match self {
            Self::Put(key, value) => Request::Write(Command::Put { key, value }),
            Self::Update(key, value) => Request::Write(Command::Update { key, value }),
            Self::Remove(key) => Request::Write(Command::Remove { key }),
            Self::CompareAndSet(key, expected, value) => {
                Request::Write(Command::CompareAndSet { key, expected: Index(*expected), value })
            }
            Self::Increment(key, by) => Request::Write(Command::Increment { key, by: *by }),
            Self::Batch(operations) => Request::Write(Command::Batch(operations.batch().expect("it is not empty"))),
            Self::OpenSession => Request::Write(Command::OpenSession),
            Self::CloseSession => Request::Write(Command::CloseSession),
            Self::KeepAlive => Request::Write(Command::KeepAlive),
            Self::QueryOutcome(session, sequence) => {
                Request::Write(Command::QueryOutcome { session: SessionId(*session), sequence: Sequence(*sequence) })
            }
            Self::Get(key) => Request::Get { key },
            Self::Scan { view, from, to, limit, keys_only, count_only } => Request::Scan(Scan {
                view: *view,
                from,
                to,
                limit: *limit,
                keys_only: *keys_only,
                count_only: *count_only,
            }),
            Self::CloseView(view) => Request::CloseView(*view),
            Self::Status => Request::Status,
            Self::TakeSnapshot => Request::TakeSnapshot,
            Self::ShowLogLevel => Request::LogLevel(LogLevel::Show),
            Self::ChangeLogLevel(filter) => Request::LogLevel(LogLevel::Change(filter)),
            Self::ResetLogLevel => Request::LogLevel(LogLevel::Reset),
        }
    }

    pub fn of(request: &Request<'_>) -> Self {
        match *request {
            Request::Write(Command::Put { key, value }) => Self::Put(key.to_vec(), value.to_vec()),
            Request::Write(Command::Update { key, value }) => Self::Update(key.to_vec(), value.to_vec()),
            Request::Write(Command::Remove { key }) => Self::Remove(key.to_vec()),
            Request::Write(Command::CompareAndSet { key, expected, value }) => {
                Self::CompareAndSet(key.to_vec(), expected.0, value.to_vec())
            }
            Request::Write(Command::Increment { key, by }) => Self::Increment(key.to_vec(), by),
            Request::Write(Command::Batch(batch)) => {
                let mut operations = BatchBuilder::default();
                assert_eq!(batch.operations().filter(|it| operations.push(*it)).count(), batch.count() as usize);
                Self::Batch(operations)
            }
            Request::Write(Command::OpenSession) => Self::OpenSession,
            Request::Write(Command::CloseSession) => Self::CloseSession,
            Request::Write(Command::KeepAlive) => Self::KeepAlive,
            Request::Write(Command::QueryOutcome { session, sequence }) => Self::QueryOutcome(session.0, sequence.0),
            Request::Get { key } => Self::Get(key.to_vec()),
            Request::Scan(scan) => Self::Scan {
                view: scan.view,
                from: scan.from.to_vec(),
                to: scan.to.to_vec(),
                limit: scan.limit,
                keys_only: scan.keys_only,
                count_only: scan.count_only,
            },
            Request::CloseView(view) => Self::CloseView(view),
            Request::Status => Self::Status,
            Request::TakeSnapshot => Self::TakeSnapshot,
            Request::LogLevel(LogLevel::Show) => Self::ShowLogLevel,
            Request::LogLevel(LogLevel::Change(filter)) => Self::ChangeLogLevel(filter.to_owned()),
            Request::LogLevel(LogLevel::Reset) => Self::ResetLogLevel,
        }
    }
}

impl OwnedReply {
    pub fn borrow(&self) -> Reply<'_> {
        let body = match &self.body {
            OwnedBody::Empty => ReplyBody::Empty,
            OwnedBody::Message(text) => ReplyBody::Message(text),
            OwnedBody::Value(versioned) => ReplyBody::Value(versioned.borrow()),
            OwnedBody::Page { view, count, items, resume } => ReplyBody::Page(Page {
                view: *view,
                count: *count,
                items: items.iter().map(|(key, value)| Item { key, versioned: value.borrow() }).collect(),
                resume,
            }),
            OwnedBody::Status(status) => ReplyBody::Status(status.clone()),
            OwnedBody::Number(number) => ReplyBody::Number(*number),
            OwnedBody::Session(terms) => ReplyBody::Session(*terms),
            OwnedBody::Refused(refused) => ReplyBody::Refused(*refused),
            OwnedBody::Fate(fate) => ReplyBody::Fate(*fate),
            OwnedBody::Snapshot(taken) => ReplyBody::Snapshot(*taken),
        };
        let leader = self.leader.as_ref().map(|(node, address)| LeaderHint { node: *node, address });
        Reply { header: self.header, leader, body, trailer: &self.trailer }
    }

    pub fn of(reply: &Reply<'_>) -> Self {
        let body = match &reply.body {
            ReplyBody::Empty => OwnedBody::Empty,
            ReplyBody::Message(text) => OwnedBody::Message((*text).to_owned()),
            ReplyBody::Value(versioned) => OwnedBody::Value(OwnedVersioned::of(versioned)),
            ReplyBody::Page(page) => OwnedBody::Page {
                view: page.view,
                count: page.count,
                items: page.items.iter().map(|i| (i.key.to_vec(), OwnedVersioned::of(&i.versioned))).collect(),
                resume: page.resume.to_vec(),
            },
            ReplyBody::Status(status) => OwnedBody::Status(status.clone()),
            ReplyBody::Number(number) => OwnedBody::Number(*number),
            ReplyBody::Session(terms) => OwnedBody::Session(*terms),
            ReplyBody::Refused(refused) => OwnedBody::Refused(*refused),
            ReplyBody::Fate(fate) => OwnedBody::Fate(*fate),
            ReplyBody::Snapshot(taken) => OwnedBody::Snapshot(*taken),
        };
        let leader = reply.leader.map(|hint| (hint.node, hint.address.to_owned()));
        Self { header: reply.header, leader, body, trailer: reply.trailer.to_vec() }
    }
}

impl OwnedVersioned {
    fn borrow(&self) -> Versioned<'_> {
        Versioned {
            value: &self.value,
            revision: Index(self.revision),
            create_revision: Index(self.create_revision),
            version: self.version,
        }
    }

    fn of(versioned: &Versioned<'_>) -> Self {
        Self {
            value: versioned.value.to_vec(),
            revision: versioned.revision.0,
            create_revision: versioned.create_revision.0,
            version: versioned.version,
        }
    }
}

/// Writes a frame as `docs/protocol.md` describes it, without the code under test: any kind, any payload.
pub fn raw_frame(kind: u8, head: Option<usize>, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(12 + payload.len()).unwrap();
    let covered = 8 + head.unwrap_or(payload.len()).min(payload.len());
    let mut frame = Vec::new();
    frame.extend(length.to_le_bytes());
    frame.extend([0; 4]);
    frame.extend(u32::try_from(covered).unwrap().to_le_bytes());
    frame.extend([kind, 0, 0, 0]);
    frame.extend(payload);
    let sum = crc32c_slow(length, &frame[8..8 + covered]);
    frame[4..8].copy_from_slice(&sum.to_le_bytes());
    frame
}

/// CRC-32C bit by bit, continued from `crc`.
pub fn crc32c_slow(crc: u32, bytes: &[u8]) -> u32 {
    let mut state = !crc;
    for byte in bytes {
        state ^= u32::from(*byte);
        for _ in 0..8 {
            state = if state & 1 == 1 { (state >> 1) ^ 0x82f6_3b78 } else { state >> 1 };
        }
    }
    !state
}

/// Entries behind `previous`, with bodies, checksums and chain as a leader makes them.
pub fn chained(previous: EntryId, previous_chain: Chain, parts: Vec<(u64, Vec<u8>)>) -> Vec<Entry> {
    let (mut id, mut chain) = (previous, previous_chain);
    let mut entries = Vec::new();
    for (term_step, body) in parts {
        id = EntryId { term: Term(id.term.0 + term_step), index: id.index.next() };
        let mut header = EntryHeader {
            id,
            log_time: LogTime(1_700_000_000_000 + id.index.0),
            session: SessionId(term_step),
            sequence: Sequence(body.len() as u64),
            kind: if body.is_empty() { EntryKind::Noop } else { EntryKind::Command },
            flags: 0,
            body_len: u32::try_from(body.len()).unwrap(),
            body_checksum: Entry::checksum(&body),
            chain: Chain(0),
        };
        header.chain = header.chain_after(chain);
        chain = header.chain;
        entries.push(Entry { header, body: body.into() });
    }
    entries
}

prop_compose! {
    fn member()(id: u32, incarnation: u64, client_address in ".{0,24}", peer_address in ".{0,24}") -> Member {
        Member { id: NodeId(id), incarnation: Incarnation(incarnation), client_address, peer_address }
    }
}

prop_compose! {
    fn hello()(
        versions: (u16, u16),
        feature_level: u32,
        purpose in prop::sample::select(vec![Purpose::Client, Purpose::Peer, Purpose::Snapshot]),
        cluster: u64,
        node: u32,
        incarnation: u64,
        initial_members in vec(member(), 0..4),
    ) -> Hello {
        Hello {
            version_min: versions.0,
            version_max: versions.1,
            feature_level,
            purpose,
            cluster: ClusterId(cluster),
            node: NodeId(node),
            incarnation: Incarnation(incarnation),
            initial_members,
        }
    }
}

prop_compose! {
    fn refusal()(version_min: u16, version_max: u16, reason in reason(), text in ".{0,80}") -> Refusal {
        Refusal { version_min, version_max, reason, text }
    }
}

fn reason() -> impl Strategy<Value = Reason> {
    prop::sample::select(Reason::ALL.to_vec())
}

prop_compose! {
    fn view()(boot: u64, revision: u64, serial: u64) -> ViewId {
        ViewId { boot, revision: Index(revision), serial }
    }
}

prop_compose! {
    fn request_header()(request: u64, session: u64, sequence: u64, deadline_ms: u32, explain: bool, local: bool) -> RequestHeader {
        RequestHeader {
            request: RequestId(request),
            session: SessionId(session),
            sequence: Sequence(sequence),
            deadline_ms,
            explain,
            read_mode: if local { ReadMode::Local } else { ReadMode::Linearizable },
        }
    }
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..20)
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..60)
}

fn request(kind: Kind) -> BoxedStrategy<OwnedRequest> {
    match kind {
        Kind::Write => prop_oneof![
            (key(), value()).prop_map(|(key, value)| OwnedRequest::Put(key, value)),
            (key(), value()).prop_map(|(key, value)| OwnedRequest::Update(key, value)),
            key().prop_map(OwnedRequest::Remove),
            (key(), any::<u64>(), value()).prop_map(|(key, at, value)| OwnedRequest::CompareAndSet(key, at, value)),
            (key(), any::<i64>()).prop_map(|(key, by)| OwnedRequest::Increment(key, by)),
            vec(operation(), 1..6).prop_map(batch),
            Just(OwnedRequest::OpenSession),
            Just(OwnedRequest::CloseSession),
            Just(OwnedRequest::KeepAlive),
            any::<(u64, u64)>().prop_map(|(session, sequence)| OwnedRequest::QueryOutcome(session, sequence)),
        ]
        .boxed(),
        Kind::Get => key().prop_map(OwnedRequest::Get).boxed(),
        Kind::Scan => (option::of(view()), key(), key(), any::<(u32, bool, bool)>())
            .prop_map(|(view, from, to, (limit, keys_only, count_only))| OwnedRequest::Scan {
                view,
                from,
                to,
                limit,
                keys_only,
                count_only,
            })
            .boxed(),
        Kind::CloseView => view().prop_map(OwnedRequest::CloseView).boxed(),
        Kind::Status => Just(OwnedRequest::Status).boxed(),
        Kind::SnapshotTake => Just(OwnedRequest::TakeSnapshot).boxed(),
        Kind::LogLevel => prop_oneof![
            Just(OwnedRequest::ShowLogLevel),
            ".{0,40}".prop_map(OwnedRequest::ChangeLogLevel),
            Just(OwnedRequest::ResetLogLevel),
        ]
        .boxed(),
        other => panic!("{other} is not a request"),
    }
}

type OwnedOperation = (u8, Vec<u8>, u64, Vec<u8>);

fn operation() -> impl Strategy<Value = OwnedOperation> {
    (0..5_u8, key(), any::<u64>(), value())
}

fn batch(operations: Vec<OwnedOperation>) -> OwnedRequest {
    let mut builder = BatchBuilder::default();
    for (kind, key, number, value) in &operations {
        let pushed = builder.push(match kind {
            0 => Operation::Put { key, value },
            1 => Operation::Update { key, value },
            2 => Operation::Remove { key },
            3 => Operation::CompareAndSet { key, expected: Index(*number), value },
            _ => Operation::Increment { key, by: number.cast_signed() },
        });
        assert!(pushed);
    }
    OwnedRequest::Batch(builder)
}

prop_compose! {
    fn refused()(position: u32, revision: u64) -> RefusedOperation {
        RefusedOperation { position, revision: Index(revision) }
    }
}

fn detail() -> impl Strategy<Value = Detail> {
    prop_oneof![Just(Detail::Nothing), any::<i64>().prop_map(Detail::Number), refused().prop_map(Detail::Refused),]
}

prop_compose! {
    fn answer()(
        status in prop::sample::select(Status::ALL.to_vec()),
        reason in reason(),
        effect in prop::sample::select(vec![Effect::None, Effect::Applied, Effect::Unknown]),
        revision: u64,
        detail in detail(),
    ) -> Answer {
        Answer { status, reason, effect, revision: Index(revision), detail }
    }
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        3 => answer().prop_map(Fate::Executed),
        1 => prop::sample::select(vec![Fate::Never, Fate::Forgotten, Fate::SessionExpired]),
    ]
}

prop_compose! {
    fn versioned()(value in value(), revision: u64, create_revision: u64, version: u64) -> OwnedVersioned {
        OwnedVersioned { value, revision, create_revision, version }
    }
}

prop_compose! {
    fn node_status()(
        ids: (u32, u64, u64, Option<u32>),
        name in ".{0,10}",
        role in prop::sample::select(vec![Role::Follower, Role::Candidate, Role::Leader, Role::Learner]),
        numbers: [u64; 5],
        members in vec((member(), any::<bool>()), 0..4),
        notes in vec(".{0,30}", 0..3),
        counters in vec((".{0,12}", any::<u64>()), 0..4),
    ) -> NodeStatus {
        let member = |(member, connected): (Member, bool)| MemberStatus {
            id: member.id,
            client_address: member.client_address,
            peer_address: member.peer_address,
            connected,
        };
        NodeStatus {
            id: NodeId(ids.0),
            name,
            cluster: ClusterId(ids.1),
            role,
            term: Term(ids.2),
            leader: ids.3.map(NodeId),
            commit_index: Index(numbers[0]),
            applied_index: Index(numbers[1]),
            durable_index: Index(numbers[2]),
            uptime_ms: numbers[3],
            keys: numbers[4],
            members: members.into_iter().map(member).collect(),
            notes,
            counters,
        }
    }
}

fn body() -> impl Strategy<Value = OwnedBody> {
    prop_oneof![
        Just(OwnedBody::Empty),
        ".{0,60}".prop_map(OwnedBody::Message),
        versioned().prop_map(OwnedBody::Value),
        (option::of(view()), any::<u64>(), vec((key(), versioned()), 0..5), key())
            .prop_map(|(view, count, items, resume)| OwnedBody::Page { view, count, items, resume }),
        node_status().prop_map(|status| OwnedBody::Status(Box::new(status))),
        any::<i64>().prop_map(OwnedBody::Number),
        any::<(u64, u64, u32)>().prop_map(|(id, ttl_ms, window)| {
            OwnedBody::Session(SessionTerms { id: SessionId(id), ttl_ms, window })
        }),
        refused().prop_map(OwnedBody::Refused),
        fate().prop_map(OwnedBody::Fate),
        (any::<u32>(), entry_id(), any::<u64>()).prop_map(|(node, last, bytes)| OwnedBody::Snapshot(TakenSnapshot {
            node: NodeId(node),
            last,
            bytes
        })),
    ]
}

prop_compose! {
    fn reply()(
        request: u64,
        status in prop::sample::select(Status::ALL.to_vec()),
        reason in reason(),
        effect in prop::sample::select(vec![Effect::None, Effect::Applied, Effect::Unknown]),
        revision: u64,
        leader in option::of((any::<u32>(), ".{0,24}")),
        body in body(),
        trailer in key(),
    ) -> OwnedReply {
        let leader = leader.map(|(node, address)| (NodeId(node), address));
        let header = ReplyHeader { request: RequestId(request), status, reason, effect, revision: Index(revision) };
        OwnedReply { header, leader, body, trailer }
    }
}

prop_compose! {
    fn entry_id()(term: u64, index: u64) -> EntryId {
        EntryId { term: Term(term), index: Index(index) }
    }
}

prop_compose! {
    fn append_entries()(
        numbers: [u64; 5],
        previous in (0..1000_u64, 0..1000_u64),
        previous_chain: u64,
        heartbeat: bool,
        parts in vec((0..3_u64, value()), 0..6),
    ) -> AppendEntries {
        let previous = EntryId { term: Term(previous.0), index: Index(previous.1) };
        let parts = if heartbeat { Vec::new() } else { parts };
        AppendEntries {
            round: Round(numbers[0]),
            lease_span_us: numbers[1],
            heartbeat,
            previous,
            previous_chain: Chain(previous_chain),
            commit: Index(numbers[2]),
            digest_index: Index(numbers[3]),
            digest: numbers[4],
            entries: chained(previous, Chain(previous_chain), parts),
        }
    }
}

prop_compose! {
    fn append_reply()(
        numbers: [u64; 5],
        times: (u32, u32),
        reject in option::of((any::<u64>(), entry_id())),
    ) -> AppendReply {
        AppendReply {
            round: Round(numbers[0]),
            lease_span_us: numbers[1],
            matched: Index(numbers[2]),
            reject: reject.map(|(rejected, hint)| RejectHint { rejected: Index(rejected), hint }),
            digest_index: Index(numbers[3]),
            digest: numbers[4],
            queue_us: times.0,
            sync_us: times.1,
        }
    }
}

fn message(kind: Kind) -> BoxedStrategy<Message> {
    match kind {
        Kind::PreVote => entry_id().prop_map(|last| Message::PreVote { last }).boxed(),
        Kind::PreVoteReply => any::<bool>().prop_map(|granted| Message::PreVoteReply { granted }).boxed(),
        Kind::RequestVote => {
            (entry_id(), any::<bool>()).prop_map(|(last, transfer)| Message::RequestVote { last, transfer }).boxed()
        }
        Kind::RequestVoteReply => any::<bool>().prop_map(|granted| Message::RequestVoteReply { granted }).boxed(),
        Kind::AppendEntries => append_entries().prop_map(Message::AppendEntries).boxed(),
        Kind::AppendReply => append_reply().prop_map(Message::AppendReply).boxed(),
        Kind::ReadIndex => any::<u64>().prop_map(|context| Message::ReadIndex { context }).boxed(),
        Kind::ReadIndexReply => any::<(u64, Option<u64>)>()
            .prop_map(|(context, index)| Message::ReadIndexReply { context, index: index.map(Index) })
            .boxed(),
        Kind::InstallSnapshot => (any::<(u64, u64)>(), 1_u64.., any::<u64>())
            .prop_map(|((term, chain), index, bytes)| {
                let last = EntryId { term: Term(term), index: Index(index) };
                Message::InstallSnapshot(SnapshotOffer { last, chain: Chain(chain), bytes })
            })
            .boxed(),
        Kind::TimeoutNow => Just(Message::TimeoutNow).boxed(),
        Kind::Format => (any::<u64>(), vec(member(), 0..5))
            .prop_map(|(cluster, members)| Message::Format(Format { cluster: ClusterId(cluster), members }))
            .boxed(),
        other => panic!("{other} is not a peer message"),
    }
}

fn transfer(kind: Kind) -> BoxedStrategy<OwnedTransfer> {
    match kind {
        Kind::SnapshotFetch => (entry_id(), any::<(u64, u64, u32)>())
            .prop_map(|(last, (chain, offset, bytes_max))| {
                OwnedTransfer::Fetch(Fetch { last, chain: Chain(chain), offset, bytes_max })
            })
            .boxed(),
        Kind::SnapshotChunk => (any::<(u64, u32, u32, u64)>(), value())
            .prop_map(|((index, offset, behind, hash), bytes)| {
                let offset = u64::from(offset);
                let total = offset + bytes.len() as u64 + u64::from(behind);
                OwnedTransfer::Chunk { index, offset, total, hash, bytes }
            })
            .boxed(),
        Kind::SnapshotGone => (prop::sample::select(GoneReason::ALL.to_vec()), ".{0,60}")
            .prop_map(|(reason, text)| OwnedTransfer::Gone(reason, text))
            .boxed(),
        other => panic!("{other} is no part of a transfer"),
    }
}

fn envelope(kind: Kind) -> impl Strategy<Value = Envelope> {
    (any::<(u64, u64, u32, u32, u64)>(), message(kind)).prop_map(|(ids, message)| {
        // The entries of an AppendEntries have terms up to its sender's.
        let term = match &message {
            Message::AppendEntries(append) => {
                append.entries.last().map_or(ids.4, |last| last.header.id.term.0 + ids.4 % 3)
            }
            Message::InstallSnapshot(offer) => offer.last.term.0.max(ids.4),
            _ => ids.4,
        };
        Envelope {
            cluster: ClusterId(ids.0),
            incarnation: Incarnation(ids.1),
            from: NodeId(ids.2),
            to: NodeId(ids.3),
            term: Term(term),
            message,
        }
    })
}
