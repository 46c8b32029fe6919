//! Snapshots between real processes: a follower whose entries are gone, transfers that are killed, files that rot, disks that
//! must not fill up, and strangers at the port. Somebody writes during all of it, and nothing acknowledged is lost.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "real processes take real time")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use protocol::format::{Format, Hello, HelloReply, Purpose};
use protocol::frame;
use protocol::snapshot::{Fetch, GoneReason, Transfer};
use protocol::{Chain, ClusterId, EntryId, Incarnation, Index, NodeId, Term};
use support::load::{Ledger, Load};
use support::{raftkv, wait_for, Cluster, Setup};

const LONG: Duration = Duration::from_secs(60);
/// No snapshots but those that a test asks for.
const BY_HAND: [&str; 2] = ["--snapshot-log-bytes", "1GiB"];

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Small segments, so that a log is soon cut off, and these flags.
fn cluster(name: &str, size: usize, flags: &[&str]) -> Cluster {
    let small = ["--segment-bytes", "80KiB", "--value-bytes-max", "4KiB"];
    let flags = small.iter().chain(flags).map(|flag| (*flag).to_owned()).collect();
    let mut cluster = Cluster::prepare(name, size, Setup { flags, ..Setup::default() });
    cluster.start_all();
    cluster.wait_for_leader();
    cluster
}

fn take(cluster: &Cluster, node: usize) -> u64 {
    let taken = cluster.cli_at(&cluster.ports.client(node), &["snapshot", "take", "-o", "json", "--timeout", "60s"]);
    assert!(taken.status.success(), "{}", text(&taken.stderr));
    let said: serde_json::Value = serde_json::from_slice(&taken.stdout).expect("JSON");
    assert_eq!(said["node"].as_u64(), Some(node as u64), "the asked node took it: {said}");
    said["index"].as_u64().expect("an index")
}

fn file_of(cluster: &Cluster, node: usize, index: u64) -> PathBuf {
    cluster.data(node).join(format!("snapshot-{index:016x}"))
}

fn names(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).expect("a data directory");
    let mut names: Vec<String> =
        names.map(|item| item.expect("a file").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Whether the oldest files of a node's log are gone.
fn is_cut_off(cluster: &Cluster, node: usize) -> bool {
    !names(&cluster.data(node)).contains(&"log-0000000000000001".to_owned())
}

fn counter(cluster: &Cluster, node: usize, name: &str) -> u64 {
    let status = cluster.status();
    let status = status.iter().find(|status| status["id"].as_u64() == Some(node as u64));
    status.and_then(|status| status["counters"][name].as_u64()).unwrap_or(0)
}

/// Updates so many keys with values of 4,000 bytes.
fn fill(cluster: &Cluster, keys: u32) {
    let value = "v".repeat(4000);
    let lines: String =
        (0..keys).map(|number| format!("{{\"key\":\"fill/{number}\",\"value\":\"{value}\"}}\n")).collect();
    let file = cluster.dir.join("fill.ndjson");
    std::fs::write(&file, lines).expect("a file for the input");
    let imported = cluster.cli(&["import", &file.display().to_string(), "--timeout", "60s"]);
    assert!(imported.status.success(), "{}", text(&imported.stderr));
}

/// Takes snapshots on these nodes until nobody waits for a node that is down any more, so that their logs begin behind what
/// it has seen; the last one is of two megabytes.
fn cut_off(cluster: &Cluster, nodes: &[usize]) {
    wait_for(LONG, "the logs are cut off", || {
        fill(cluster, 25);
        for node in nodes {
            take(cluster, *node);
        }
        nodes.iter().all(|node| is_cut_off(cluster, *node)).then_some(())
    });
    fill(cluster, 500);
    for node in nodes {
        take(cluster, *node);
    }
}

/// Updates of a few keys, so that the log grows and the state does not; until it is dropped.
fn updates(cluster: &Cluster) -> Killed {
    let load = ["--endpoints", &cluster.endpoints(), "bench", "update", "-d", "16", "--keys", "200", "--value-bytes"];
    let mut command = Command::new(raftkv());
    command.args(load).args(["500", "--duration", "600"]).stdout(Stdio::null()).stderr(Stdio::null());
    Killed(command.spawn().expect("the load starts"))
}

/// The ledger's promises, without the keys that others wrote.
fn check(ledger: &Ledger, cluster: &Cluster) {
    assert!(!ledger.acknowledged.is_empty(), "nothing was written meanwhile");
    ledger.check(cluster);
}

/// The size of what has been received so far.
fn received(cluster: &Cluster, node: usize) -> Option<u64> {
    let dir = cluster.data(node);
    let part = names(&dir).into_iter().find(|name| name.ends_with(".receiving"))?;
    Some(std::fs::metadata(dir.join(part)).ok()?.len())
}

#[test]
fn a_follower_whose_entries_are_gone_comes_back_through_a_snapshot() {
    let mut cluster = cluster("snapshot-install", 3, &["--snapshot-log-bytes", "128KiB"]);
    let load = Load::start(&cluster, "k", 1, u64::MAX);
    load.wait_for_more(100, LONG);
    let leader = cluster.wait_for_leader();
    let away = (leader + 1) % 3;
    cluster.kill(away);
    let others = [leader, (leader + 2) % 3];
    let updates = updates(&cluster);
    for node in others {
        wait_for(LONG, "the log is cut off", || is_cut_off(&cluster, node).then_some(()));
    }
    cluster.start_node(away);
    wait_for(LONG, "a snapshot is installed", || (counter(&cluster, away, "snapshots_installed") > 0).then_some(()));
    load.wait_for_more(100, LONG);
    drop(updates);
    check(&load.finish(), &cluster);
    for node in 0..3 {
        cluster.kill(node);
    }
    cluster.start_all();
    cluster.wait_for_leader();
    cluster.wait_caught_up();
    let first = cluster.local_export(0);
    assert!((1..3).all(|node| cluster.local_export(node) == first), "a restart changes nothing");
}

/// The receiver is killed in the middle; what it had is not fetched again.
#[test]
fn a_receiver_that_is_killed_goes_on_where_it_was() {
    let mut cluster = cluster("snapshot-resume", 3, &[&BY_HAND[..], &["--snapshot-bytes-per-second", "1MiB"]].concat());
    let leader = cluster.wait_for_leader();
    let away = (leader + 1) % 3;
    cluster.kill(away);
    let load = Load::start(&cluster, "k", 4, u64::MAX);
    cut_off(&cluster, &[leader, (leader + 2) % 3]);
    cluster.start_node(away);
    let had = wait_for(LONG, "half of the file is there", || received(&cluster, away).filter(|bytes| *bytes > 1 << 20));
    cluster.kill(away);
    let had = received(&cluster, away).map_or(0, |bytes| bytes.max(had));
    cluster.start_node(away);
    wait_for(LONG, "a snapshot is installed", || (counter(&cluster, away, "snapshots_installed") > 0).then_some(()));
    let kept = counter(&cluster, away, "snapshot_bytes_kept");
    assert!(kept > 512 * 1024 && kept <= had, "of {had} bytes {kept} were kept");
    load.wait_for_more(10, LONG);
    check(&load.finish(), &cluster);
}

/// The sender is killed in the middle, and is the only one that can lead afterwards: the transfer goes on behind what had
/// arrived before.
#[test]
fn a_sender_that_is_killed_serves_the_rest_when_it_is_back() {
    let flags = [&BY_HAND[..], &["--snapshot-bytes-per-second", "1MiB"]].concat();
    let mut cluster = cluster("snapshot-sender", 3, &flags);
    let leader = cluster.wait_for_leader();
    let (away, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.kill(away);
    let load = Load::start(&cluster, "k", 4, u64::MAX);
    cut_off(&cluster, &[leader]);
    cluster.kill(other);
    cluster.start_node(away);
    let had = wait_for(LONG, "half of the file is there", || received(&cluster, away).filter(|bytes| *bytes > 1 << 20));
    cluster.kill(leader);
    cluster.start_node(leader);
    wait_for(LONG, "a snapshot is installed", || (counter(&cluster, away, "snapshots_installed") > 0).then_some(()));
    let kept = counter(&cluster, away, "snapshot_bytes_kept");
    assert!(kept >= had / 2, "of {had} bytes {kept} were kept");
    cluster.start_node(other);
    load.wait_for_more(10, LONG);
    check(&load.finish(), &cluster);
}

/// The leader that offered the snapshot is gone for good; the next one offers its own.
#[test]
fn a_change_of_the_leader_during_a_transfer_is_survived() {
    let flags = [&BY_HAND[..], &["--snapshot-bytes-per-second", "1MiB"]].concat();
    let mut cluster = cluster("snapshot-leader", 3, &flags);
    let leader = cluster.wait_for_leader();
    let (away, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.kill(away);
    let load = Load::start(&cluster, "k", 4, u64::MAX);
    cut_off(&cluster, &[leader, other]);
    cluster.start_node(away);
    wait_for(LONG, "a part of the file is there", || received(&cluster, away).filter(|bytes| *bytes > 1 << 19));
    cluster.kill(leader);
    wait_for(LONG, "a snapshot is installed", || (counter(&cluster, away, "snapshots_installed") > 0).then_some(()));
    load.wait_for_more(10, LONG);
    cluster.start_node(leader);
    check(&load.finish(), &cluster);
}

#[test]
fn a_snapshot_taken_by_hand_on_any_node_can_be_verified() {
    let cluster = cluster("snapshot-take", 3, &BY_HAND);
    let load = Load::start(&cluster, "k", 16, u64::MAX);
    load.wait_for_more(200, LONG);
    for node in 0..3 {
        let file = file_of(&cluster, node, take(&cluster, node));
        let verify = |file: &Path| {
            Command::new(raftkv()).args(["snapshot", "verify"]).arg(file).output().expect("the verb runs")
        };
        let verified = verify(&file);
        assert!(verified.status.success(), "{}: {}", file.display(), text(&verified.stderr));
        let rotten = cluster.dir.join("rotten");
        std::fs::copy(&file, &rotten).expect("a copy");
        flip(&rotten);
        assert_eq!(verify(&rotten).status.code(), Some(9));
    }
    let by_number = cluster.cli(&["snapshot", "take", "--node", "2"]);
    assert!(text(&by_number.stdout).contains("node 2"), "{}{}", text(&by_number.stdout), text(&by_number.stderr));
    check(&load.finish(), &cluster);
}

/// Flips one bit in the middle of a file.
fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).expect("a snapshot");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(path, bytes).expect("it can be written");
}

#[test]
fn a_rotten_snapshot_costs_nothing_and_two_are_refused_in_words() {
    let mut cluster = cluster("snapshot-rot", 1, &BY_HAND);
    let load = Load::start(&cluster, "k", 16, u64::MAX);
    load.wait_for_more(100, LONG);
    fill(&cluster, 500);
    let older = take(&cluster, 0);
    load.wait_for_more(100, LONG);
    fill(&cluster, 500);
    let newer = take(&cluster, 0);
    assert!(older < newer);
    wait_for(LONG, "the log is cut off", || is_cut_off(&cluster, 0).then_some(()));
    load.wait_for_more(100, LONG);
    let ledger = load.finish();
    let before = cluster.local_export(0);
    cluster.kill(0);
    flip(&file_of(&cluster, 0, newer));
    cluster.start_node(0);
    cluster.wait_for_leader();
    assert!(cluster.local_export(0) == before, "the state is another one");
    check(&ledger, &cluster);
    let logged = std::fs::read_to_string(cluster.dir.join("node-0.err")).expect("a log");
    assert!(logged.contains("damaged"), "a warning names the file: {logged}");
    assert!(names(&cluster.data(0)).iter().any(|name| name.ends_with(".damaged")));
    cluster.kill(0);
    flip(&file_of(&cluster, 0, older));
    let refused = cluster.command(0).output().expect("the server runs");
    assert_eq!(refused.status.code(), Some(78), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("damaged"), "it says why: {}", text(&refused.stderr));
}

/// A child that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn bytes_in(dir: &Path) -> u64 {
    names(dir).iter().filter_map(|name| std::fs::metadata(dir.join(name)).ok()).map(|metadata| metadata.len()).sum()
}

/// Updates of the same keys, for as long as it takes to fill the first disk many times over: what a node keeps is bounded by
/// its state and its settings, not by what was written.
#[test]
fn under_constant_load_the_disk_does_not_fill_up() {
    let threshold = 256 * 1024;
    let cluster = cluster("snapshot-disk", 3, &["--snapshot-log-bytes", "256KiB"]);
    let _updates = updates(&cluster);
    let mut largest = [0; 3];
    wait_for(Duration::from_secs(120), "every node takes thirty snapshots", || {
        for (node, largest) in largest.iter_mut().enumerate() {
            *largest = bytes_in(&cluster.data(node)).max(*largest);
        }
        (0..3).all(|node| counter(&cluster, node, "snapshots_taken") >= 30).then_some(())
    });
    // Two snapshots of 200 keys and one that is being taken; the log back to the older one, which is two thresholds, and as
    // much again for what comes while one is written and for a follower that is waited for; the segments in which both ends
    // lie, the next one, one to be removed; the meta files.
    let snapshot = 200 * (500 + 100);
    let bound = 3 * snapshot + 2 * 3 * threshold + 4 * 80 * 1024 + 2 * 64 * 1024;
    for (node, largest) in largest.iter().enumerate() {
        let appended = counter(&cluster, node, "bytes_appended");
        assert!(*largest <= bound, "node {node} kept {largest} bytes, bound {bound}");
        assert!(appended > 3 * bound, "node {node} appended only {appended} bytes");
    }
}

/// Who is in the cluster, as node 0's meta file says: what a hostile peer could have overheard.
fn format_of(cluster: &Cluster) -> Format {
    let meta = std::fs::read(cluster.data(0).join("meta-a")).expect("a meta file");
    let len = u32::from_le_bytes(meta[64..68].try_into().expect("four bytes")) as usize;
    Format::decode(&meta[72..72 + len]).expect("a Format")
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the port is open");
    stream.set_read_timeout(Some(LONG)).expect("a socket takes a timeout");
    stream
}

fn hello(cluster: ClusterId, node: u32, incarnation: Incarnation) -> Vec<u8> {
    let hello = Hello { purpose: Purpose::Snapshot, cluster, node: NodeId(node), incarnation, ..Hello::client() };
    let mut out = Vec::new();
    hello.encode(&mut out);
    out
}

/// One frame, or none if the connection ends first.
fn read_frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 4];
    stream.read_exact(&mut bytes).ok()?;
    let length = u32::from_le_bytes(bytes[..4].try_into().expect("four bytes")) as usize;
    assert!(length < 1 << 20, "a frame of {length} bytes");
    bytes.resize(4 + length, 0);
    stream.read_exact(&mut bytes[4..]).ok()?;
    Some(bytes)
}

fn ends(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn strangers_on_a_snapshot_connection_harm_nobody() {
    let mut cluster = cluster("snapshot-hostile", 3, &BY_HAND);
    let load = Load::start(&cluster, "k", 4, u64::MAX);
    load.wait_for_more(50, LONG);
    let index = take(&cluster, 0);
    let format = format_of(&cluster);
    let incarnation = format.members[1].incarnation;
    let port = cluster.ports.peer(0);

    let foreign = [
        hello(ClusterId(format.cluster.0 ^ 1), 1, incarnation),
        hello(format.cluster, 1, Incarnation(incarnation.0 ^ 1)),
        hello(format.cluster, 77, incarnation),
        hello(ClusterId(0), 1, incarnation),
    ];
    for hello in foreign {
        let mut stream = connect(&port);
        stream.write_all(&hello).expect("it is read");
        let frame = read_frame(&mut stream).expect("an answer");
        let (frame, _) = frame::split(&frame, 1 << 20).expect("a frame").expect("whole");
        assert!(matches!(HelloReply::decode(&frame), Ok(HelloReply::Refused(_))), "a stranger is refused");
        assert!(ends(&mut stream));
    }

    let admitted = || {
        let mut stream = connect(&port);
        stream.write_all(&hello(format.cluster, 1, incarnation)).expect("it is read");
        let frame = read_frame(&mut stream).expect("an answer");
        let (frame, _) = frame::split(&frame, 1 << 20).expect("a frame").expect("whole");
        assert!(matches!(HelloReply::decode(&frame), Ok(HelloReply::Accepted(_))), "a member is let in");
        stream
    };
    let garbage =
        [vec![0; 4096], vec![0xff; 4096], u32::MAX.to_le_bytes().to_vec(), b"GET / HTTP/1.1\r\n\r\n".to_vec()];
    for bytes in garbage {
        let mut stream = admitted();
        let _ = stream.write_all(&bytes); // it may be closed before all of it is read
        assert!(ends(&mut stream), "garbage ends its connection");
    }

    let ask = |fetch: Fetch| {
        let mut stream = admitted();
        let mut out = Vec::new();
        Transfer::Fetch(fetch).encode(&mut out);
        stream.write_all(&out).expect("it is read");
        let frame = read_frame(&mut stream).expect("an answer");
        let (frame, _) = frame::split(&frame, 1 << 20).expect("a frame").expect("whole");
        match Transfer::decode(&frame).expect("a part of a transfer") {
            Transfer::Gone(gone) => gone.reason,
            other => panic!("{other:?} for {fetch:?}"),
        }
    };
    let last = EntryId { term: Term(u64::MAX), index: Index(index) };
    let unknown = Fetch { last, chain: Chain(1), offset: 0, bytes_max: u32::MAX };
    assert_eq!(ask(unknown), GoneReason::NotHere, "another entry");
    let (last, chain) = position_in(&file_of(&cluster, 0, index));
    for offset in [u64::MAX, 1 << 40] {
        let beyond = Fetch { last, chain, offset, bytes_max: u32::MAX };
        assert_eq!(ask(beyond), GoneReason::BeyondEnd, "{offset}");
    }

    // Silent ones take all the places; the others are told so, and Raft does not notice.
    let silent: Vec<TcpStream> = (0..40).map(|_| connect(&port)).collect();
    let members: Vec<TcpStream> = (0..8).map(|_| admitted()).collect();
    load.wait_for_more(50, LONG);
    drop((silent, members));
    assert!((0..3).all(|node| cluster.is_running(node)), "a server ended");
    check(&load.finish(), &cluster);
}

/// Where a snapshot ends, as its header says (`src/kv/snapshot`).
fn position_in(file: &Path) -> (EntryId, Chain) {
    let bytes = std::fs::read(file).expect("a snapshot");
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    (EntryId { term: Term(number(48)), index: Index(number(56)) }, Chain(number(64)))
}
