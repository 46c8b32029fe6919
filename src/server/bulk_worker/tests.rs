//! Two bulk workers' halves on loopback sockets and virtual disks, turned by hand.

use std::net::TcpListener;
use std::path::Path;

use mio::net::TcpStream;
use protocol::command::Command;
use protocol::format::{Format, Hello, HelloReply, Purpose};
use protocol::{Chain, ClusterId, EntryId, Incarnation, LogTime, Term};

use super::*;
use crate::disk::{Disk, VirtualDisk};
use crate::kv::{Contents, Position, Store};
use crate::metrics::Metrics;
use crate::net::peer::PeerConnection;
use crate::snapshot::{self, Offer, Progress, Summary, Taker};

const CLUSTER: ClusterId = ClusterId(7);
const FROM: NodeId = NodeId(0);

/// A node that has a snapshot and serves it, and one that has nothing.
struct Rig {
    metrics: Metrics,
    store: Store,
    sender: Snapshots,
    receiver_disk: Disk,
    receiver: Snapshots,
    listener: TcpListener,
    /// Bytes a second that the sender sends.
    rate: u64,
}

fn directory(disk: &Disk) -> Snapshots {
    Snapshots::open(disk, Path::new("/data")).expect("a directory")
}

/// Takes a snapshot of `store` as it is.
fn take(store: &mut Store, snapshots: &mut Snapshots, boot: u64) -> Summary {
    let index = store.applied();
    let position = Position { id: EntryId { term: Term(2), index }, chain: Chain(index.0 * 3), log_time: LogTime(5) };
    let format = Format { cluster: CLUSTER, members: Vec::new() };
    let view = store.open_snapshot_view(boot, false).expect("a free view");
    let contents = Contents { position, format, sessions: Vec::new() };
    let taker = Taker { node: FROM, incarnation: Incarnation(3) };
    let mut reader = store.reader();
    let mut taking = snapshot::Taking::begin(snapshots, taker, contents, view).expect("a file");
    loop {
        match taking.step(snapshots, &mut reader).expect("a good disk") {
            Progress::Done(summary) => {
                assert!(store.close_view(view));
                return summary;
            }
            Progress::More => {}
            Progress::Abandoned => panic!("the view is open"),
        }
    }
}

fn write(store: &mut Store, keys: std::ops::Range<u64>) {
    for number in keys {
        let value = vec![b'v'; 4000];
        let key = format!("key-{number:06}");
        let revision = store.applied().next();
        store.apply(revision, &Command::Update { key: key.as_bytes(), value: &value });
        store.publish(revision);
    }
}

impl Rig {
    /// With about two megabytes.
    fn new() -> Rig {
        let mut store = Store::new();
        write(&mut store, 0..500);
        let mut sender = directory(&Disk::virtual_(VirtualDisk::new()));
        take(&mut store, &mut sender, 1);
        let receiver_disk = Disk::virtual_(VirtualDisk::new());
        let receiver = directory(&receiver_disk);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        Rig { metrics: Metrics::default(), store, sender, receiver_disk, receiver, listener, rate: 1 << 30 }
    }

    fn offer(&self) -> Offer {
        let newest = self.sender.newest().expect("one was taken");
        Offer { last: newest.position.id, chain: newest.position.chain, bytes: newest.bytes, hash: None }
    }

    /// One connection, until the fetch ends (what came of it) or at least so many bytes have come (none).
    fn fetch(&mut self, offer: Offer, bytes_max: u64) -> Option<Result<(Box<Restored>, u64), String>> {
        let mut polls = [Poll::new(), Poll::new()].map(|poll| poll.expect("a poll"));
        let registry = |poll: &Poll| poll.registry().try_clone().expect("a registry");
        let mut serving = Serving::new(registry(&polls[0]), self.rate);
        let mut fetching = Fetching::new(registry(&polls[1]));
        let (mut recorder, mut done, mut events) = (self.metrics.recorder(), Vec::new(), Events::with_capacity(8));
        let address = self.listener.local_addr().expect("bound");
        fetching.begin(system::now(), Fetch { from: FROM, address, hello: hello(NodeId(1)), offer }, &mut done);
        let (stream, _) = self.listener.accept().expect("it connects");
        stream.set_nonblocking(true).expect("non-blocking");
        let mut stranger = Some(PeerConnection::new(TcpStream::from_std(stream)));
        let before = self.metrics.total(Counter::SnapshotBytesReceived);
        while self.metrics.total(Counter::SnapshotBytesReceived) - before < bytes_max {
            if let Some(fetcher) = stranger.take_if(greeted).map(|socket| Fetcher { node: NodeId(1), socket }) {
                serving.add(system::now(), fetcher);
            }
            for poll in &mut polls {
                poll.poll(&mut events, Some(Duration::ZERO)).expect("it polls");
                for event in &events {
                    serving.ready(event);
                    fetching.ready(event);
                }
            }
            fetching.turn(system::now(), &mut self.receiver, &mut recorder, &mut done);
            serving.turn(system::now(), &mut self.sender, &mut recorder, &mut done);
            for done in done.drain(..) {
                if let Done::Fetched(result) = done {
                    return Some(result);
                }
            }
        }
        None
    }

    /// What the receiver's process leaves to the next.
    fn restart_receiver(&mut self) {
        self.receiver = directory(&self.receiver_disk);
    }

    fn kept(&self) -> u64 {
        self.metrics.total(Counter::SnapshotBytesKept)
    }
}

fn hello(node: NodeId) -> Hello {
    Hello { purpose: Purpose::Snapshot, cluster: CLUSTER, node, incarnation: Incarnation(1), ..Hello::client() }
}

/// Plays the raft thread: reads the HELLO and answers it.
fn greeted(socket: &mut PeerConnection) -> bool {
    socket.fill().expect("it is open");
    let Some(frame) = socket.next_frame(Hello::FRAME_BYTES_MAX).expect("a frame") else { return false };
    assert_eq!(Hello::decode(&frame).expect("a HELLO").purpose, Purpose::Snapshot);
    socket.send_hello_reply(&HelloReply::Accepted(hello(FROM)));
    true
}

fn state(store: &Store) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut reader = store.reader();
    let pinned = reader.pin();
    let items = pinned.range(b"", None).map(|item| (item.key.to_vec(), item.versioned.value.to_vec()));
    items.collect()
}

#[test]
fn a_snapshot_arrives_whole_and_becomes_the_same_state() {
    let mut rig = Rig::new();
    let (restored, bytes) = rig.fetch(rig.offer(), u64::MAX).expect("it ends").expect("it succeeds");
    assert_eq!(rig.receiver.newest(), rig.sender.newest());
    assert_eq!(bytes, rig.offer().bytes);
    assert!(state(&Store::restore(*restored)) == state(&rig.store));
    assert_eq!(rig.metrics.total(Counter::SnapshotBytesReceived), bytes);
    assert_eq!(rig.kept(), 0);
}

#[test]
fn a_transfer_that_broke_off_goes_on_where_it_was() {
    let mut rig = Rig::new();
    let offer = rig.offer();
    assert!(rig.fetch(offer, offer.bytes / 2).is_none(), "it breaks off");
    rig.restart_receiver();
    let received = rig.metrics.total(Counter::SnapshotBytesReceived);
    let (restored, _) = rig.fetch(offer, u64::MAX).expect("it ends").expect("it succeeds");
    assert!(rig.kept() >= offer.bytes / 4, "{} of {} bytes were kept", rig.kept(), offer.bytes);
    assert_eq!(rig.metrics.total(Counter::SnapshotBytesReceived) - received, offer.bytes - rig.kept());
    assert!(state(&Store::restore(*restored)) == state(&rig.store));
    assert_eq!(rig.receiver.newest(), rig.sender.newest());
}

#[test]
fn another_file_of_the_same_offer_begins_anew() {
    let mut rig = Rig::new();
    let offer = rig.offer();
    assert!(rig.fetch(offer, offer.bytes / 2).is_none(), "it breaks off");
    // The same entry, by another process: the file's header differs, and so does its hash.
    rig.sender = directory(&Disk::virtual_(VirtualDisk::new()));
    take(&mut rig.store, &mut rig.sender, 2);
    let same = rig.sender.newest().expect("it was taken");
    assert_eq!((same.position.id, same.bytes), (offer.last, offer.bytes));
    let (restored, _) = rig.fetch(offer, u64::MAX).expect("it ends").expect("it succeeds");
    assert!(state(&Store::restore(*restored)) == state(&rig.store));
    assert_eq!(rig.kept(), 0);
}

#[test]
fn a_snapshot_that_is_gone_and_one_of_another_chain_are_refused_in_words() {
    let mut rig = Rig::new();
    let offer = rig.offer();
    let gone = Offer { last: EntryId { term: Term(2), index: offer.last.index.next() }, ..offer };
    let why = rig.fetch(gone, u64::MAX).expect("it ends").err().expect("it fails");
    assert!(why.contains("the newest snapshot here ends at index 500"), "{why}");
    let other = Offer { chain: Chain(1), ..offer };
    assert!(rig.fetch(other, u64::MAX).expect("it ends").is_err());
    assert_eq!(rig.receiver.newest(), None);
}

#[test]
fn a_sender_keeps_to_its_rate() {
    let mut rig = Rig::new();
    let offer = rig.offer();
    rig.rate = 4 * offer.bytes;
    let start = system::now();
    rig.fetch(offer, u64::MAX).expect("it ends").expect("it succeeds");
    // All but the last chunk are paid for before the last one leaves.
    assert!(system::now() - start >= Span::millis(150), "{:?}", system::now() - start);
}

#[test]
fn a_replaced_state_is_freed_once_its_readers_have_left() {
    let mut rig = Rig::new();
    let (restored, _) = rig.fetch(rig.offer(), u64::MAX).expect("it ends").expect("it succeeds");
    let mut store = Store::new();
    let mut reader = store.reader();
    let pinned = reader.pin();
    let mut retired = vec![store.replace(*restored)];
    let now = system::now();
    assert_eq!(free(now, &mut retired), Next::At(now + Span::millis(limits::RETIRED_LOOK_MS)));
    drop(pinned);
    for _ in 0..1000 {
        if free(now, &mut retired) == Next::IDLE {
            return;
        }
    }
    panic!("it is never freed");
}
