//! Real processes: a write of a session is executed once, however often and wherever it is sent.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "real processes take real time")]

mod support;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use client::{Client, Number, Settings};
use protocol::command::Command;
use protocol::format::{Hello, HelloReply};
use protocol::frame;
use protocol::reply::{Fate, Reason, Reply, ReplyBody, Status};
use protocol::request::{Request, RequestHeader};
use protocol::{RequestId, Sequence, SessionId};
use support::{wait_for, Cluster};

const LONG: Duration = Duration::from_secs(60);
const FRAME_BYTES_MAX: usize = 1 << 20;

/// A client without any sense: it sends what it is told, where it is told, as often as it is told.
struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// A reply, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    request: u64,
    status: Status,
    reason: Reason,
    revision: u64,
    body: Brought,
    leader: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Brought {
    Nothing,
    Number(i64),
    Session(SessionId),
    Fate(Fate),
}

impl Wire {
    /// A connection whose HELLO was answered; none if nobody is there.
    fn open(address: &str) -> Option<Wire> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(Duration::from_millis(500))).ok()?;
        let mut wire = Wire { stream, buffer: Vec::new() };
        let mut hello = Vec::new();
        Hello::client().encode(&mut hello);
        wire.stream.write_all(&hello).ok()?;
        let answer = wire.next_frame()?;
        let (frame, _) = frame::split(&answer, FRAME_BYTES_MAX).ok()??;
        matches!(HelloReply::decode(&frame), Ok(HelloReply::Accepted(_))).then_some(wire)
    }

    fn send(&mut self, request: u64, number: Number, command: Command<'_>) -> Option<()> {
        let Number { session, sequence } = number;
        let request = RequestId(request);
        let header = RequestHeader { request, session, sequence, deadline_ms: 3_000, ..RequestHeader::default() };
        let mut frame = Vec::new();
        Request::Write(command).encode(&header, &mut frame);
        self.stream.write_all(&frame).ok()
    }

    /// The next reply; none if the connection has ended or nothing comes for half a second.
    fn next_reply(&mut self) -> Option<Told> {
        let bytes = self.next_frame()?;
        let (frame, _) = frame::split(&bytes, FRAME_BYTES_MAX).expect("a good frame").expect("a whole one");
        let reply = Reply::decode(&frame).expect("a reply");
        let body = match reply.body {
            ReplyBody::Number(sum) => Brought::Number(sum),
            ReplyBody::Session(terms) => Brought::Session(terms.id),
            ReplyBody::Fate(fate) => Brought::Fate(fate),
            _ => Brought::Nothing,
        };
        let header = reply.header;
        let leader = reply.leader.map(|leader| leader.address.to_owned());
        let (request, revision) = (header.request.0, header.revision.0);
        Some(Told { request, status: header.status, reason: header.reason, revision, body, leader })
    }

    fn next_frame(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some((_, length)) = frame::split(&self.buffer, FRAME_BYTES_MAX).expect("good frames") {
                return Some(self.buffer.drain(..length).collect());
            }
            let mut part = [0; 16 * 1024];
            match self.stream.read(&mut part) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.buffer.extend_from_slice(&part[..count]),
            }
        }
    }
}

/// Asks around until somebody answers the command for certain.
fn ask(addresses: &[String], number: Number, command: Command<'_>) -> Told {
    let mut turn = 0;
    wait_for(LONG, "an answer", || {
        turn += 1;
        let mut wire = Wire::open(&addresses[turn % addresses.len()])?;
        wire.send(1, number, command)?;
        let told = wire.next_reply()?;
        is_final(&told).then_some(told)
    })
}

/// It says what became of the request, not only of this attempt.
fn is_final(told: &Told) -> bool {
    !matches!(told.status, Status::Redirect | Status::NotExecuted | Status::Unknown)
}

fn nobody() -> Number {
    Number { session: SessionId(0), sequence: Sequence(0) }
}

fn open_session(addresses: &[String]) -> SessionId {
    match ask(addresses, nobody(), Command::OpenSession).body {
        Brought::Session(id) => id,
        other => panic!("no session: {other:?}"),
    }
}

fn addresses(cluster: &Cluster) -> Vec<String> {
    (0..cluster.size).map(|node| cluster.ports.client(node)).collect()
}

/// One session's increments of one key, a window at a time, about every fifth request twice or to another node as well.
struct Incrementer {
    addresses: Vec<String>,
    session: SessionId,
    key: &'static [u8],
    /// By address; opened when wanted.
    wires: BTreeMap<usize, Wire>,
    leader: usize,
    random: u64,
    requests: u64,
    copies: u64,
    /// The first answer to each sequence.
    answers: BTreeMap<u64, (Brought, u64)>,
}

const WINDOW: u64 = 64;

impl Incrementer {
    fn new(cluster: &Cluster, key: &'static [u8], seed: u64) -> Incrementer {
        let addresses = addresses(cluster);
        let session = open_session(&addresses);
        let (wires, answers) = (BTreeMap::new(), BTreeMap::new());
        Incrementer { addresses, session, key, wires, leader: 0, random: seed, requests: 0, copies: 0, answers }
    }

    /// Sends `count` increments, and each again until it has its answer.
    fn run(&mut self, count: u64) {
        let first = self.answers.len() as u64 + 1;
        for begin in (first..first + count).step_by(WINDOW as usize) {
            let open: Vec<u64> = (begin..(begin + WINDOW).min(first + count)).collect();
            wait_for(LONG, "every increment of a window is answered", || self.round(&open));
        }
    }

    /// Sends what has no answer, and takes what comes.
    fn round(&mut self, open: &[u64]) -> Option<()> {
        let missing: Vec<u64> = open.iter().copied().filter(|sequence| !self.answers.contains_key(sequence)).collect();
        let mut expected = 0;
        for sequence in missing {
            expected += u64::from(self.send(self.leader, sequence));
            match self.draw(10) {
                0 => expected += u64::from(self.send(self.leader, sequence)),
                1 => {
                    let elsewhere = self.draw(self.addresses.len() as u64) as usize;
                    self.send(elsewhere, sequence);
                }
                _ => continue,
            }
            self.copies += 1;
        }
        if expected == 0 {
            self.leader = (self.leader + 1) % self.addresses.len();
        }
        self.take(open);
        open.iter().all(|sequence| self.answers.contains_key(sequence)).then_some(())
    }

    fn send(&mut self, node: usize, sequence: u64) -> bool {
        if !self.wires.contains_key(&node) {
            let Some(wire) = Wire::open(&self.addresses[node]) else { return false };
            self.wires.insert(node, wire);
        }
        let wire = self.wires.get_mut(&node).expect("just opened");
        self.requests += 1;
        let number = Number { session: self.session, sequence: Sequence(sequence) };
        let sent = wire.send(sequence, number, Command::Increment { key: self.key, by: 1 });
        if sent.is_none() {
            self.wires.remove(&node);
        }
        sent.is_some()
    }

    /// Reads until everything is answered or a connection says nothing more.
    fn take(&mut self, open: &[u64]) {
        let node = self.leader;
        while open.iter().any(|sequence| !self.answers.contains_key(sequence)) {
            let Some(told) = self.wires.get_mut(&node).and_then(Wire::next_reply) else {
                self.wires.remove(&node);
                self.leader = (node + 1) % self.addresses.len();
                return;
            };
            if is_final(&told) {
                // Whatever comes of a copy is the first answer again.
                let answer = (told.body, told.revision);
                assert_eq!(*self.answers.entry(told.request).or_insert(answer), answer, "sequence {}", told.request);
                assert!(matches!(told.status, Status::Ok | Status::Created), "{told:?}");
            } else if let Some(leader) = told.leader {
                // With what else it says: it would be taken for news when this node leads.
                self.wires.remove(&node);
                self.leader = self.addresses.iter().position(|address| *address == leader).unwrap_or(node);
                return;
            } else {
                assert!(!matches!(told.reason, Reason::SessionExpired | Reason::Forgotten | Reason::Never), "{told:?}");
            }
        }
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }
}

fn sum_of(cluster: &Cluster, key: &str) -> String {
    let output = cluster.cli(&["get", key]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// 50,000 increments by four clients that send every fifth request twice or elsewhere as well, while leaders are killed.
#[test]
fn t92_fifty_thousand_increments_through_copies_and_kills_make_the_exact_sum() {
    const CLIENTS: u64 = 4;
    const EACH: u64 = 12_500;
    let mut cluster = Cluster::start("increments", 3);
    let clients: Vec<_> = (1..=CLIENTS)
        .map(|seed| {
            let mut client = Incrementer::new(&cluster, b"sum", seed * 0x9e37_79b9);
            std::thread::spawn(move || {
                client.run(EACH);
                client
            })
        })
        .collect();
    let applied = |cluster: &Cluster| cluster.status().iter().filter_map(|node| node["applied_index"].as_u64()).max();
    let mut kills = 0;
    while clients.iter().any(|client| !client.is_finished()) && kills < 8 {
        let before = applied(&cluster).unwrap_or(0);
        wait_for(LONG, "progress, or the end", || {
            let finished = clients.iter().all(|client| client.is_finished());
            (finished || applied(&cluster) >= Some(before + 4_000)).then_some(())
        });
        let leader = cluster.wait_for_leader();
        cluster.kill(leader);
        cluster.start_node(leader);
        kills += 1;
    }
    let clients: Vec<Incrementer> = clients.into_iter().map(|client| client.join().expect("it ends")).collect();
    assert_eq!(sum_of(&cluster, "sum"), (CLIENTS * EACH).to_string());
    let mut sums: Vec<i64> = Vec::new();
    for client in &clients {
        let sum = |(body, _): &(Brought, u64)| if let Brought::Number(sum) = body { *sum } else { panic!("{body:?}") };
        sums.extend(client.answers.values().map(sum));
    }
    sums.sort_unstable();
    assert!(sums.into_iter().eq(1..=(CLIENTS * EACH) as i64), "every sum was answered to one increment");
    let (requests, copies) =
        clients.iter().fold((0, 0), |(requests, copies), client| (requests + client.requests, copies + client.copies));
    println!("{} increments: {requests} requests, {copies} drawn copies, {kills} kills", CLIENTS * EACH);
    assert!(copies * 100 >= 15 * CLIENTS * EACH, "{copies} copies");
    cluster.wait_caught_up();
    let first = cluster.local_export(0);
    assert!((1..3).all(|node| cluster.local_export(node) == first), "all nodes hold the same");
}

/// The reply is lost, the leader is killed, every node is restarted: the copy gets the first answer.
#[test]
fn t93_a_copy_after_a_leader_change_and_a_restart_of_all_gets_the_first_answer() {
    let mut cluster = Cluster::start("copies", 3);
    let addresses = addresses(&cluster);
    let session = open_session(&addresses);
    let number = |sequence| Number { session, sequence: Sequence(sequence) };
    let add = Command::Increment { key: b"k", by: 5 };
    let first = ask(&addresses, number(1), add);
    let refused = ask(&addresses, number(2), Command::Put { key: b"k", value: b"no" });
    assert_eq!((first.body, refused.status), (Brought::Number(5), Status::Exists));

    let leader = cluster.wait_for_leader();
    cluster.kill(leader);
    let again = ask(&addresses, number(1), add);
    assert_eq!((again.status, again.revision, again.body), (first.status, first.revision, first.body));

    cluster.start_node(leader);
    for node in 0..3 {
        cluster.kill(node);
    }
    cluster.start_all();
    cluster.wait_for_leader();
    assert!(cluster.cli(&["remove", "k"]).status.success());
    for (sequence, command, told) in [(1, add, &first), (2, Command::Put { key: b"k", value: b"no" }, &refused)] {
        let again = ask(&addresses, number(sequence), command);
        assert_eq!((again.status, again.revision, again.body), (told.status, told.revision, told.body));
    }
    assert_eq!(cluster.cli(&["get", "k"]).status.code(), Some(3), "nothing was executed again");
}

/// A request that is sent to every node over and over, each of which knows the leader, is executed once; the copies end as
/// redirects or as the first answer, and nothing goes on by itself afterwards.
#[test]
fn t94_a_request_that_is_sent_everywhere_over_and_over_does_not_circle() {
    let cluster = Cluster::start("circles", 3);
    let addresses = addresses(&cluster);
    let session = open_session(&addresses);
    let number = Number { session, sequence: Sequence(1) };
    let mut answers = Vec::new();
    for address in addresses.iter().cycle().take(30) {
        let mut wire = Wire::open(address).expect("it runs");
        for request in 1..=10 {
            wire.send(request, number, Command::Increment { key: b"once", by: 1 }).expect("it is taken");
        }
        let replies: Vec<Told> = (0..10).map(|_| wire.next_reply().expect("each copy is answered")).collect();
        answers.extend(replies.into_iter().filter(is_final).map(|told| (told.status, told.revision, told.body)));
    }
    assert!(answers.len() >= 100, "the leader's ten copies, ten times");
    assert!(answers.iter().all(|answer| *answer == answers[0] && answer.2 == Brought::Number(1)), "{answers:?}");
    assert_eq!(sum_of(&cluster, "once"), "1");
    let commit = |cluster: &Cluster| cluster.status().iter().filter_map(|node| node["commit_index"].as_u64()).max();
    cluster.wait_caught_up();
    let before = commit(&cluster);
    let start = Instant::now();
    wait_for(LONG, "some rounds of the leader", || (start.elapsed() > Duration::from_millis(300)).then_some(()));
    assert_eq!(commit(&cluster), before, "nothing is proposed by itself");
}

#[test]
fn c24_outcome_tells_what_became_of_a_request_and_never_is_kept() {
    let cluster = Cluster::start("outcome", 3);
    let addresses = addresses(&cluster);
    let session = open_session(&addresses);
    let number = |sequence| Number { session, sequence: Sequence(sequence) };
    let add = Command::Increment { key: b"k", by: 7 };
    ask(&addresses, number(1), add);
    let outcome = |sequence: u64| {
        let output = cluster.cli(&["-o", "json", "outcome", &format!("{session}/{sequence}")]);
        let object: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object");
        (object["outcome"].as_str().expect("a word").to_owned(), object["sum"].as_i64(), output.status.code())
    };
    assert_eq!(outcome(1), ("applied".to_owned(), Some(7), Some(0)));
    assert_eq!(outcome(2), ("never".to_owned(), None, Some(5)));
    // A copy that was under way comes after all.
    let late = wait_for(LONG, "an answer of the leader", || {
        let told = addresses.iter().find_map(|address| {
            let mut wire = Wire::open(address)?;
            wire.send(1, number(2), add)?;
            wire.next_reply().filter(|told| told.status != Status::Redirect)
        })?;
        Some((told.status, told.reason))
    });
    assert_eq!(late, (Status::NotExecuted, Reason::Never));
    assert_eq!(sum_of(&cluster, "k"), "7");
    let gone = cluster.cli(&["outcome", "999999/1"]);
    assert_eq!(gone.status.code(), Some(6), "{}", String::from_utf8_lossy(&gone.stdout));
}

#[test]
fn the_new_verbs_work_and_say_what_was_refused() {
    let cluster = Cluster::start("verbs", 1);
    let run = |words: &[&str]| {
        let output = cluster.cli(words);
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned())
    };
    assert_eq!(run(&["cas", "lock", "0", "me"]).0, Some(0));
    let (code, said) = run(&["cas", "lock", "0", "you"]);
    assert_eq!(code, Some(4));
    assert!(said.contains("error[REVISION_MISMATCH]: the key `lock` is at revision"), "{said}");
    assert_eq!(run(&["increment", "hits"]), (Some(0), "1".to_owned()));
    assert_eq!(run(&["increment", "hits", "-3"]), (Some(0), "-2".to_owned()));
    let (code, said) = run(&["increment", "lock"]);
    assert!(code == Some(4) && said.contains("error[NOT_A_NUMBER]"), "{said}");
    let file = cluster.dir.join("batch.jsonl");
    let batch = |lines: &str| {
        std::fs::write(&file, lines).expect("a file");
        run(&["batch", &file.display().to_string()])
    };
    let good = "{\"op\":\"increment\",\"key\":\"hits\",\"by\":2}\n{\"op\":\"remove\",\"key\":\"lock\"}\n";
    let (code, said) = batch(good);
    assert!(code == Some(0) && said.starts_with("applied 2 operations (revision "), "{said}");
    let (code, said) = batch(good);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("nothing was applied: line 2: there is no key `lock`"), "{said}");
    assert_eq!(sum_of(&cluster, "hits"), "0");
}

/// The library numbers on its own: four threads of it through kills of the leader, and the sum is exact.
#[test]
fn c24_the_librarys_increments_through_kills_are_exact_and_none_is_unknown() {
    let mut cluster = Cluster::start("library", 3);
    let endpoints = addresses(&cluster);
    let threads: Vec<_> = (0..4)
        .map(|seed| {
            let settings = Settings { timeout: LONG, seed, ..Settings::new(endpoints.clone()) };
            std::thread::spawn(move || {
                let mut client = Client::new(settings).expect("a client");
                for _ in 0..500 {
                    client.increment(b"library", 1).expect("it is executed, once");
                }
            })
        })
        .collect();
    for _ in 0..4 {
        let before = cluster.status().iter().filter_map(|node| node["applied_index"].as_u64()).max().unwrap_or(0);
        wait_for(LONG, "some increments, or the end", || {
            let applied = cluster.status().iter().filter_map(|node| node["applied_index"].as_u64()).max();
            (applied >= Some(before + 200) || threads.iter().all(|thread| thread.is_finished())).then_some(())
        });
        let leader = cluster.wait_for_leader();
        cluster.kill(leader);
        cluster.start_node(leader);
    }
    threads.into_iter().for_each(|thread| thread.join().expect("every increment is answered"));
    assert_eq!(sum_of(&cluster, "library"), "2000");
}
