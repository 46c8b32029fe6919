//! An io loop that is turned by hand, with clients on loopback and nobody behind it.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::AtomicUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::Events;
use protocol::command::Command;
use protocol::request::RequestHeader;
use protocol::NodeId;

use super::super::super::raft_loop::IoLink;
use super::super::super::settings::Config;
use super::super::super::Wiring;
use super::*;
use crate::kv::Store;
use crate::logging;
use crate::replica::Published;
use crate::server::system;

struct Rig {
    io: IoLoop,
    events: Events,
    /// What the raft thread would hold.
    _links: Vec<IoLink>,
    address: std::net::SocketAddr,
}

impl Rig {
    fn new() -> Rig {
        let config = settings();
        let published = Arc::new(Published::new(system::now()));
        let mut wiring = Wiring::new(config, system::now(), published, 16).expect("polls");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a listener");
        let address = listener.local_addr().expect("an address");
        let counts: Arc<[AtomicUsize]> = Arc::new([AtomicUsize::new(0)]);
        let readers = vec![Store::new().reader()];
        let (links, mut parts) = wiring.io_threads(readers, mio::net::TcpListener::from_std(listener), &counts);
        let mut io = IoLoop::new(parts.remove(0));
        io.listen();
        Rig { io, events: Events::with_capacity(16), _links: links, address }
    }

    /// A client whose HELLO was answered.
    fn client(&mut self) -> (TcpStream, Key) {
        let before: Vec<Key> = self.io.clients.iter_mut().map(|(key, _)| key).collect();
        let mut stream = TcpStream::connect(self.address).expect("a listener");
        let mut hello = Vec::new();
        Hello::client().encode(&mut hello);
        stream.write_all(&hello).expect("a socket");
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            self.io.turn(&mut self.events);
            let new =
                self.io.clients.iter_mut().find(|(key, client)| client.stage == Stage::Open && !before.contains(key));
            if let Some((key, _)) = new {
                return (stream, key);
            }
            assert!(Instant::now() < deadline, "nobody answers a HELLO");
        }
    }

    fn in_flight(&mut self, key: Key) -> u32 {
        self.io.clients.get_mut(key).expect("a client").in_flight
    }
}

/// So many writes, in one write.
fn send(stream: &mut TcpStream, writes: u32) {
    let mut frames = Vec::new();
    for number in 1..=writes {
        let header = RequestHeader { request: RequestId(number.into()), ..RequestHeader::default() };
        Wire::Write(Command::Put { key: b"key", value: b"" }).encode(&header, &mut frames);
    }
    stream.write_all(&frames).expect("a socket");
}

/// Of a node that is alone; nothing of it but the bounds for clients is used.
fn settings() -> Config {
    let nowhere = "127.0.0.1:0".parse().expect("an address");
    Config {
        id: NodeId(0),
        name: String::new(),
        data: "/nowhere".into(),
        members: Vec::new(),
        listen_client: nowhere,
        listen_peer: nowhere,
        listen_admin: None,
        io_threads: 1,
        election_timeout_min: Span::millis(limits::ELECTION_TIMEOUT_MIN_MS),
        heartbeat: Span::millis(limits::HEARTBEAT_MS),
        logging: logging::Options::default(),
        segment_bytes: limits::SEGMENT_BYTES.default,
        key_bytes_max: limits::KEY_BYTES_MAX,
        value_bytes_max: limits::VALUE_BYTES_MAX,
        credits: limits::CREDITS,
        pool_bytes: limits::POOL_BYTES.default as usize,
        snapshot_log_bytes: limits::SNAPSHOT_LOG_BYTES.default,
        snapshot_bytes_per_second: limits::SNAPSHOT_BYTES_PER_SECOND.default,
        warnings: Vec::new(),
    }
}

#[test]
fn a_deep_pipeline_leaves_the_others_their_turn() {
    let mut rig = Rig::new();
    let ((mut greedy, greedy_key), (mut modest, modest_key)) = (rig.client(), rig.client());
    let most = limits::CLIENT_FRAMES_PER_TURN;
    send(&mut greedy, 2 * most + 7);
    send(&mut modest, 1);
    let (mut taken, mut full_turns) = (0, 0);
    let deadline = Instant::now() + Duration::from_secs(10);
    while taken < 2 * most + 7 || rig.in_flight(modest_key) == 0 {
        rig.io.turn(&mut rig.events);
        let now = rig.in_flight(greedy_key);
        assert!(now - taken <= most, "{} requests in a turn", now - taken);
        full_turns += u32::from(now - taken == most);
        taken = now;
        assert!(Instant::now() < deadline, "{taken} requests were taken");
    }
    assert!(full_turns > 0, "it had more than a turn's worth");
    // What was left came without another event, and now the loop may sleep.
    assert!(rig.io.readable.is_empty());
}
