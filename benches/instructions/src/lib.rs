//! The hot path's parts, each made ready and then done so many times: to be counted in instructions (`.ci/instructions`, which the gate
//! checks), and to be timed (`cargo bench --package raftkv-instructions`).
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "a benchmark wires threads' parts by hand")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use protocol::command::Command;
use protocol::format::{Format, Member};
use protocol::reply::{Effect, Reason, Reply, ReplyBody, ReplyHeader, Status};
use protocol::request::{Request, RequestHeader};
use protocol::{
    frame, Chain, ClusterId, Entry, EntryHeader, EntryId, EntryKind, Incarnation, Index, LogTime, NodeId, RequestId,
    Sequence, SessionId, Term,
};
use raftkv::disk::{Disk, VirtualDisk};
use raftkv::kv::sessions::Origin;
use raftkv::kv::Store;
use raftkv::mailbox::{link, Parking, ThreadPark};
use raftkv::metrics::{Measure, Metrics};
use raftkv::pool::Pool;
use raftkv::random::SplitMix64;
use raftkv::wal::{Options, Wal};

/// Commands of one entry's batch, items of a mailbox's batch, entries of a group.
const BATCH: u64 = 16;
const KEYS: u64 = 10_000;
const VALUE: [u8; 256] = [7; 256];
/// Entries of the log that is recovered.
const RECOVERED: u64 = 1_000;
const CLUSTER: ClusterId = ClusterId(1);

/// Does a part so many times; once.
pub type Run = Box<dyn FnMut(u64)>;

/// A part.
#[derive(Clone, Copy)]
pub struct Case {
    /// What it is called in `counts.txt`.
    pub name: &'static str,
    /// Makes it ready.
    pub ready: fn() -> Run,
    /// Two numbers of times, far enough apart that their difference tells.
    pub times: [u64; 2],
}

/// All parts.
pub const CASES: [Case; 13] = [
    Case { name: "decode-request", ready: decode_request, times: [1_000, 3_000] },
    Case { name: "encode-reply", ready: encode_reply, times: [1_000, 5_000] },
    Case { name: "entry-header", ready: entry_header, times: [1_000, 5_000] },
    Case { name: "pool-take-give", ready: pool_take_give, times: [1_000, 10_000] },
    Case { name: "mailbox-16", ready: mailbox, times: [1_000, 10_000] },
    Case { name: "measure", ready: measure, times: [1_000, 10_000] },
    Case { name: "list-insert", ready: list_insert, times: [10_000, 20_000] },
    Case { name: "list-update", ready: list_update, times: [1_000, 10_000] },
    Case { name: "list-get", ready: list_get, times: [1_000, 10_000] },
    Case { name: "apply-session", ready: apply_session, times: [1_000, 5_000] },
    Case { name: "wal-append", ready: wal_append, times: [1_600, 3_200] },
    Case { name: "wal-group-of-1", ready: wal_group_of_1, times: [200, 1_000] },
    Case { name: "recover-entry", ready: recover_entry, times: [2_000, 6_000] },
];

// --- codec ---

/// A frame of an update in a session: cut out, decoded, its command's checksum verified.
fn decode_request() -> Run {
    let header = RequestHeader {
        request: RequestId(7),
        session: SessionId(1),
        sequence: Sequence(7),
        ..RequestHeader::default()
    };
    let mut bytes = Vec::new();
    Request::Write(update(&key(7))).encode(&header, &mut bytes);
    Box::new(move |times| {
        for _ in 0..times {
            let (frame, _) = frame::split(black_box(&bytes), 1 << 20).expect("a frame").expect("whole");
            black_box(Request::decode(&frame).expect("a request"));
        }
    })
}

/// The answer to an update.
fn encode_reply() -> Run {
    let mut out = Vec::new();
    Box::new(move |times| {
        for number in 0..times {
            let header = ReplyHeader {
                request: RequestId(number),
                status: Status::Ok,
                reason: Reason::None,
                effect: Effect::Applied,
                revision: Index(number),
            };
            out.clear();
            Reply { header, leader: None, body: ReplyBody::Empty, trailer: &[] }.encode(black_box(&mut out));
        }
    })
}

/// To the wire and back, with the chain.
fn entry_header() -> Run {
    let mut chain = Chain::origin(CLUSTER);
    Box::new(move |times| {
        for number in 1..=times {
            let header = entry(number, chain, &Bytes::new()).header;
            let decoded = EntryHeader::decode(black_box(&header.encode())).expect("a header");
            decoded.verify_chain(chain).expect("its chain");
            chain = decoded.chain;
        }
    })
}

// --- memory, mailbox, metrics ---

fn pool_take_give() -> Run {
    let pool = Pool::new(1 << 24);
    let mut buffers = pool.buffers();
    Box::new(move |times| {
        for _ in 0..times {
            let buffer = buffers.take(black_box(1_000)).expect("a buffer");
            buffers.give(buffer);
        }
    })
}

/// A batch of sixteen numbers there, and the empty vector back.
fn mailbox() -> Run {
    let parking = || Parking::new(Arc::new(ThreadPark::default()));
    let (mut sender, mut receiver) = link::<Vec<u64>>(parking(), parking());
    Box::new(move |times| {
        for _ in 0..times {
            sender.batch().extend(0..BATCH);
            sender.flush();
            let mut batch = receiver.take().expect("it has arrived");
            batch.drain(..).for_each(|number| _ = black_box(number));
        }
    })
}

/// One value into a histogram.
fn measure() -> Run {
    let metrics = Metrics::default();
    let mut recorder = metrics.recorder();
    Box::new(move |times| {
        (0..times).for_each(|number| recorder.measure(Measure::SyncUs, black_box(number)));
    })
}

// --- state machine ---

fn list_insert() -> Run {
    Box::new(move |times| {
        filled(times);
    })
}

fn list_update() -> Run {
    let mut store = filled(KEYS);
    Box::new(move |times| {
        write_all(&mut store, times, |number| mixed(number) % KEYS);
    })
}

fn list_get() -> Run {
    let store = filled(KEYS);
    let mut reader = store.reader();
    Box::new(move |times| {
        let numbers: Vec<u64> = (0..times).map(|number| mixed(number) % KEYS).collect();
        for batch in numbers.chunks(BATCH as usize) {
            let pinned = reader.pin();
            let keys: Vec<[u8; 16]> = batch.iter().map(|number| key(*number)).collect();
            pinned.warm(keys.iter().map(<[u8; 16]>::as_slice));
            for key in &keys {
                black_box(pinned.get(key).expect("it is there"));
            }
        }
    })
}

/// A committed entry's command decoded and executed once, its result kept, published in batches.
fn apply_session() -> Run {
    let mut store = filled(KEYS);
    let opened = store.applied().next();
    let origin = move |sequence| Origin { session: SessionId(opened.0), sequence, log_time: LogTime(1) };
    let none = Origin { session: SessionId(0), ..origin(Sequence(0)) };
    store.execute(opened, none, &Command::OpenSession);
    Box::new(move |times| {
        let mut body = Vec::new();
        for number in 1..=times {
            body.clear();
            update(&key(mixed(number) % KEYS)).encode(&mut body);
            let command = Command::decode(black_box(&body)).expect("a command");
            let revision = Index(opened.0 + number);
            black_box(store.execute(revision, origin(Sequence(number)), &command));
            if number % BATCH == 0 {
                store.publish(revision);
            }
        }
    })
}

/// A store with so many keys, inserted in a random order.
fn filled(keys: u64) -> Store {
    let mut store = Store::new();
    write_all(&mut store, keys, |number| number.wrapping_mul(7_919) % keys);
    store
}

/// So many updates, in entries of [`BATCH`].
fn write_all(store: &mut Store, times: u64, number: impl Fn(u64) -> u64) {
    let numbers: Vec<u64> = (0..times).map(number).collect();
    for batch in numbers.chunks(BATCH as usize) {
        let revision = store.applied().next();
        let keys: Vec<[u8; 16]> = batch.iter().map(|number| key(*number)).collect();
        store.warm(keys.iter().map(<[u8; 16]>::as_slice));
        for key in &keys {
            store.apply(revision, &update(key));
        }
        store.publish(revision);
    }
}

// --- log ---

/// Entries made, pushed, encoded and written to a virtual disk, sixteen in a group.
fn wal_append() -> Run {
    Box::new(move |times| {
        append(&VirtualDisk::new(), times, BATCH);
    })
}

/// The same, one in a group.
fn wal_group_of_1() -> Run {
    Box::new(move |times| {
        append(&VirtualDisk::new(), times, 1);
    })
}

/// Read, verified and replayed at a start.
fn recover_entry() -> Run {
    let disk = VirtualDisk::new();
    append(&disk, RECOVERED, BATCH);
    Box::new(move |times| {
        for _ in 0..times / RECOVERED {
            black_box(open(&disk.duplicate()));
        }
    })
}

fn append(disk: &VirtualDisk, entries: u64, group: u64) {
    let mut wal = open(disk);
    let member = Member {
        id: NodeId(0),
        incarnation: Incarnation(1),
        client_address: "node0:7400".to_owned(),
        peer_address: "node0:7401".to_owned(),
    };
    wal.push(None, Some(&Format { cluster: CLUSTER, members: vec![member] }), &[]).expect("a Format");
    wal.commit().expect("it is written");
    let mut body = Vec::new();
    update(&key(7)).encode(&mut body);
    let body = Bytes::from(body);
    let mut chain = Chain::origin(CLUSTER);
    let mut batch = Vec::new();
    for index in 1..=entries {
        batch.push(entry(index, chain, &body));
        chain = batch.last().expect("pushed").header.chain;
        if index % group == 0 {
            wal.push(None, None, &batch).expect("consecutive entries");
            wal.commit().expect("they are written");
            batch.clear();
        }
    }
}

fn open(disk: &VirtualDisk) -> Wal {
    let options = Options { segment_bytes: 1 << 20, ..Options::new(NodeId(0), 7) };
    Wal::open(&Disk::virtual_(disk.clone()), Path::new("/node"), options).expect("a directory").0
}

fn entry(index: u64, previous: Chain, body: &Bytes) -> Entry {
    let mut header = EntryHeader {
        id: EntryId { term: Term(1), index: Index(index) },
        log_time: LogTime(1_000),
        session: SessionId(0),
        sequence: Sequence(0),
        kind: EntryKind::Command,
        flags: 0,
        body_len: body.len() as u32,
        body_checksum: Entry::checksum(body),
        chain: Chain(0),
    };
    header.chain = header.chain_after(previous);
    Entry { header, body: body.clone() }
}

// --- what is written ---

fn update(key: &[u8]) -> Command<'_> {
    Command::Update { key, value: &VALUE }
}

fn key(number: u64) -> [u8; 16] {
    let mut key = *b"key.............";
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

fn mixed(number: u64) -> u64 {
    SplitMix64::new(number).draw()
}
