//! How often the threads of a server call the global allocator once they are warm: not at all for an operation. Its own
//! `main`: it starts itself again as the nodes of a cluster, whose allocator counts by the kind of the calling thread.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "real processes take real time")]

#[path = "support/counting.rs"]
mod counting;
mod support;

use std::process::{Child, Command as Process, Stdio};
use std::time::Duration;

use client::{Client, Completion, Pipeline, Settings, Submission, Token};
use counting::{Calls, Counting, Counts, COUNTS, HOT};
use protocol::command::Command;
use protocol::reply::NodeStatus;
use protocol::request::Request;
use raftkv::limits::RAFT_TAIL_BYTES_MAX;
use support::{wait_for, Ports};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Connections, and requests in flight on each.
const CONNECTIONS: usize = 8;
const DEPTH: usize = 16;
const KEYS: u64 = 1_000;
const VALUE: [u8; 256] = [7; 256];
const NODES: usize = 3;
/// What is counted, by all connections; and what is done before.
const OPERATIONS: u64 = 40_000;
const WARM_UP: u64 = 40_000;
/// Values with which the memory for recent entries is filled first, with a fifth more than it holds: until then it grows.
const FILLING: [u8; 3_900] = [7; 3_900];
const FILL: u64 = RAFT_TAIL_BYTES_MAX as u64 / FILLING.len() as u64 * 6 / 5;

/// Vectors that are used again and again meet a larger batch than any before: such calls come to an end, and there are a few
/// dozen such vectors.
const RARE: u64 = 40;
/// Of the log: a chunk of marks for each 512 of them, of which there is one every 4 KiB; and what is made with a segment.
const MARKED_BYTES: u64 = 512 * 4096;
const SEGMENT_BYTES: u64 = 16 << 20;
const SEGMENT_CALLS: u64 = 8;

fn main() {
    if std::env::var_os(COUNTS).is_some() {
        return counting::serve();
    }
    let cluster = Cluster::start();
    let mut probe = cluster.client();
    let mut connections = cluster.connections();
    run_all(&mut connections, 0, FILL, fill);
    for (name, request) in [("update", update as Make), ("get", get), ("insert", insert)] {
        run_all(&mut connections, 0, WARM_UP, request);
        let before = cluster.seen(&mut probe);
        run_all(&mut connections, WARM_UP, OPERATIONS, request);
        let calls = cluster.calls(); // first, because a status costs calls
        let after = cluster.seen(&mut probe);
        for node in 0..NODES {
            let seen = Seen { calls: calls[node], ..after[node] }.since(&before[node]);
            seen.show(name, node);
            seen.check(name, node);
        }
    }
}

/// What a node has counted.
#[derive(Clone, Copy)]
struct Seen {
    /// By kind, in the order of [`HOT`].
    calls: [Calls; 3],
    /// Bytes of the log.
    appended: u64,
}

impl Seen {
    fn since(&self, before: &Seen) -> Seen {
        Seen {
            calls: std::array::from_fn(|kind| self.calls[kind].since(&before.calls[kind])),
            appended: self.appended - before.appended,
        }
    }

    /// Timing decides how many operations a message carries, not how many calls it costs.
    fn check(&self, name: &str, node: usize) {
        let segments = self.appended / SEGMENT_BYTES + 1;
        let most =
            [("io", RARE), ("raft", RARE), ("wal", self.appended / MARKED_BYTES + SEGMENT_CALLS * segments + RARE)];
        for ((thread, most), calls) in most.into_iter().zip(&self.calls) {
            assert!(calls.taken <= most, "{name}: node {node}'s {thread}: {calls:?}, at most {most} are expected");
        }
        let [io, raft, wal] = &self.calls;
        let mapped = io.mapped + raft.mapped + wal.mapped;
        let inserts = if name == "insert" { OPERATIONS } else { 0 };
        assert!(mapped <= inserts / 1_000 + 1, "{name}: node {node} mapped {mapped} times");
    }

    fn show(&self, name: &str, node: usize) {
        let per = |calls: u64, number: u64| calls as f64 / number.max(1) as f64;
        for (kind, calls) in HOT.iter().zip(&self.calls) {
            println!(
                "{name:6} node {node} {:4}  taken {}: {:.4} an operation, given {:.4}; mapped {:.3} per 1,000",
                format!("{kind:?}").to_lowercase(),
                calls.taken,
                per(calls.taken, OPERATIONS),
                per(calls.given, OPERATIONS),
                per(calls.mapped * 1_000, OPERATIONS),
            );
        }
    }
}

type Make = fn(u64, &mut dyn FnMut(Request<'_>));

fn update(number: u64, submit: &mut dyn FnMut(Request<'_>)) {
    submit(Request::Write(Command::Update { key: &key(number % KEYS), value: &VALUE }));
}

fn fill(number: u64, submit: &mut dyn FnMut(Request<'_>)) {
    submit(Request::Write(Command::Update { key: &key(number % KEYS), value: &FILLING }));
}

fn insert(number: u64, submit: &mut dyn FnMut(Request<'_>)) {
    submit(Request::Write(Command::Put { key: &key(1_000_000 + number), value: &VALUE }));
}

fn get(number: u64, submit: &mut dyn FnMut(Request<'_>)) {
    submit(Request::Get { key: &key(number % KEYS) });
}

fn key(number: u64) -> [u8; 16] {
    let mut key = *b"key.............";
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

struct Cluster {
    _directory: tempfile::TempDir,
    ports: Ports,
    nodes: Vec<(Child, Counts)>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for (child, _) in &mut self.nodes {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Cluster {
    fn start() -> Cluster {
        let directory = tempfile::tempdir().expect("a directory");
        let ports = Ports::take();
        let peers: Vec<_> =
            (0..NODES).map(|node| format!("{node}={}/{}", ports.client(node), ports.peer(node))).collect();
        let start = |node: usize| {
            let path = directory.path().join(format!("counts-{node}"));
            let counts = Counts::create(&path);
            let child = Process::new(std::env::current_exe().expect("this binary"))
                .args(["--id", &node.to_string(), "--peers", &peers.join(","), "--log", "warn"])
                .args(["--snapshot-log-bytes", "1GiB", "--data"]) // none is taken meanwhile
                .arg(directory.path().join(format!("node-{node}")))
                .env(COUNTS, path)
                .stdin(Stdio::null())
                .spawn()
                .expect("it starts");
            (child, counts)
        };
        let nodes = (0..NODES).map(start).collect();
        Cluster { _directory: directory, ports, nodes }
    }

    fn settings(&self) -> Settings {
        let endpoints = (0..NODES).map(|node| self.ports.client(node)).collect();
        Settings { timeout: Duration::from_secs(20), ..Settings::new(endpoints) }
    }

    /// A client, once there is a leader.
    fn client(&self) -> Client {
        let mut client = Client::new(self.settings()).expect("a client");
        wait_for(Duration::from_secs(20), "a leader", || client.update(b"first", b"").ok());
        client
    }

    /// By node, in the order of [`HOT`].
    fn calls(&self) -> Vec<[Calls; 3]> {
        self.nodes.iter().map(|(_, counts)| HOT.map(|kind| counts.of(kind))).collect()
    }

    /// Every node, with its calls behind those of its status.
    fn seen(&self, probe: &mut Client) -> Vec<Seen> {
        let mut status = |node: usize| probe.status_of(&self.ports.client(node)).expect("a status");
        let statuses: Vec<_> = (0..NODES).map(&mut status).collect();
        let seen = |(calls, status): ([Calls; 3], NodeStatus)| {
            let counter = |name| status.counters.iter().find(|(counter, _)| counter == name).expect("a counter").1;
            Seen { calls, appended: counter("bytes_appended") }
        };
        self.calls().into_iter().zip(statuses).map(seen).collect()
    }

    /// Connections that stay.
    fn connections(&self) -> Vec<Pipeline> {
        (0..CONNECTIONS).map(|_| Pipeline::new(self.settings()).expect("a client")).collect()
    }
}

/// So many requests, spread over all connections; the first is number `first`.
fn run_all(connections: &mut [Pipeline], first: u64, count: u64, make: Make) {
    std::thread::scope(|scope| {
        for (place, pipeline) in connections.iter_mut().enumerate() {
            let numbers = (first..first + count).skip(place).step_by(CONNECTIONS);
            scope.spawn(move || run(pipeline, numbers, make));
        }
    });
}

fn run(pipeline: &mut Pipeline, mut numbers: impl Iterator<Item = u64>, make: Make) {
    let mut done = |completion: Completion<'_>| drop(completion.result.expect("every operation succeeds"));
    loop {
        while pipeline.pending() < DEPTH {
            let Some(number) = numbers.next() else { break };
            make(number, &mut |request| pipeline.submit(Submission::new(Token(number), request)));
        }
        if pipeline.pending() == 0 {
            return;
        }
        pipeline.poll(Duration::from_secs(1), &mut done).expect("the client can wait");
    }
}
