//! Synced before answered, as the kernel saw it: `strace` records the system calls of three nodes while one client writes,
//! and no reply may leave before syncs that cover its entry have returned on two of them. (kill -9 cannot show this:
//! the page cache survives it.)
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "real processes take real time")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use client::{Client, Settings};
use support::{wait_for, Cluster, Setup};

const LONG: Duration = Duration::from_secs(30);

/// One system call of one thread.
#[derive(Debug)]
struct Call {
    /// Seconds, wall clock of this machine, when it was entered.
    entered: f64,
    /// The same, when it returned.
    returned: f64,
    name: String,
    /// First argument, a descriptor for all calls that are recorded.
    fd: i64,
    /// All arguments as strace prints them.
    arguments: String,
    ok: bool,
}

/// `1700000000.123456 pwrite64(7, "..."..., 512, 4096) = 512 <0.000123>`
fn parse(line: &str) -> Option<Call> {
    let (stamp, rest) = line.split_once(' ')?;
    let entered: f64 = stamp.parse().ok()?;
    let (name, rest) = rest.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(") = ").or_else(|| rest.rsplit_once(") "))?;
    let took: f64 = result.rsplit_once('<')?.1.strip_suffix('>')?.parse().ok()?;
    let digits: String = arguments.chars().take_while(char::is_ascii_digit).collect();
    Some(Call {
        entered,
        returned: entered + took,
        name: name.trim().to_owned(),
        fd: digits.parse().unwrap_or(-1),
        arguments: arguments.to_owned(),
        ok: !result.trim_start_matches("= ").trim_start().starts_with('-'),
    })
}

/// The calls of each thread of one node, in order.
fn threads(folder: &Path, node: usize) -> Vec<Vec<Call>> {
    let belongs = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&format!("trace-{node}.")))
    };
    let files = fs::read_dir(folder).expect("the folder of traces").map(|item| item.expect("a trace").path());
    files
        .filter(belongs)
        .map(|path| String::from_utf8_lossy(&fs::read(path).expect("a trace")).lines().filter_map(parse).collect())
        .collect()
}

/// For each key: when a sync that covers its log write had returned on this node.
fn synced_at(calls: &[Vec<Call>], keys: &[String]) -> BTreeMap<String, f64> {
    let mut synced = BTreeMap::new();
    for thread in calls {
        let mut written: Vec<(i64, String)> = Vec::new();
        for call in thread.iter().filter(|call| call.ok) {
            match call.name.as_str() {
                "pwrite64" | "pwritev" | "pwritev2" => {
                    let inside = keys.iter().filter(|key| call.arguments.contains(key.as_str()));
                    written.extend(inside.map(|key| (call.fd, key.clone())));
                }
                "fdatasync" | "fsync" => {
                    for (_, key) in written.extract_if(.., |(fd, _)| *fd == call.fd) {
                        synced.entry(key).or_insert(call.returned);
                    }
                }
                _ => {}
            }
        }
    }
    synced
}

/// For each key: when its reply left this node, if this node answered it. The reply is the next thing that the thread
/// writes to the socket from which it read the request; the client has one request in flight.
fn answered_at(calls: &[Vec<Call>], keys: &[String]) -> BTreeMap<String, f64> {
    let mut answered = BTreeMap::new();
    for thread in calls {
        let mut waiting: Option<(i64, String)> = None;
        for call in thread.iter().filter(|call| call.ok) {
            match call.name.as_str() {
                "read" | "readv" | "recvfrom" | "recvmsg" => {
                    if let Some(key) = keys.iter().find(|key| call.arguments.contains(key.as_str())) {
                        waiting = Some((call.fd, key.clone()));
                    }
                }
                "write" | "writev" | "sendto" | "sendmsg" => {
                    if let Some((_, key)) = waiting.take_if(|(fd, _)| *fd == call.fd) {
                        answered.entry(key).or_insert(call.entered);
                    }
                }
                _ => {}
            }
        }
    }
    answered
}

/// What the traces say about `keys`: how many replies, and which of them left too early.
#[derive(Debug)]
struct Verdict {
    replies: usize,
    early: Vec<String>,
}

fn judge(folder: &Path, nodes: usize, leader: usize, keys: &[String]) -> Verdict {
    let calls: Vec<_> = (0..nodes).map(|node| threads(folder, node)).collect();
    let synced: Vec<_> = calls.iter().map(|calls| synced_at(calls, keys)).collect();
    // Followers read the keys from the leader's socket and answer on it, too: the client's are those of the leader.
    let answered = answered_at(&calls[leader], keys);
    let covered = |key: &String, time: f64| {
        synced.iter().filter(|synced| synced.get(key).is_some_and(|synced| *synced <= time)).count()
    };
    let early = answered.iter().filter(|(key, time)| covered(key, **time) < nodes / 2 + 1);
    Verdict { replies: answered.len(), early: early.map(|(key, _)| key.clone()).collect() }
}

fn attach(cluster: &Cluster, node: usize) -> Child {
    let calls =
        "trace=read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg,pwrite64,pwritev,pwritev2,fdatasync,fsync,msync";
    let said = fs::File::create(cluster.dir.join(format!("strace-{node}.err"))).expect("a file for strace's words");
    Command::new("strace")
        .args([
            "-ff",
            "-ttt",
            "-T",
            "-s",
            "4096",
            "-e",
            calls,
            "-e",
            "signal=none",
            "-p",
            &cluster.pid(node).to_string(),
        ])
        .arg("-o")
        .arg(cluster.dir.join(format!("trace-{node}")))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(said)
        .spawn()
        .expect("strace starts")
}

fn have_strace() -> bool {
    let found = Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let have = found.is_ok_and(|status| status.success());
    if !have {
        println!("SKIPPED strace order check: strace is not installed");
    }
    have
}

/// Writes `count` keys one after the other on a traced cluster of three and judges the traces.
fn trace_writes(name: &str, count: usize, setup: Setup) -> Verdict {
    let mut cluster = Cluster::prepare(name, 3, setup);
    cluster.start_all();
    let leader = cluster.wait_for_leader();
    let mut tracers: Vec<Child> = (0..3).map(|node| attach(&cluster, node)).collect();
    for node in 0..3 {
        let said = cluster.dir.join(format!("strace-{node}.err"));
        wait_for(LONG, "strace attaches", || {
            fs::read_to_string(&said).unwrap_or_default().contains("attached").then_some(())
        });
    }
    let keys: Vec<String> = (0..count).map(|number| format!("ordered-{number:06}")).collect();
    let settings = Settings { timeout: LONG, ..Settings::new(vec![cluster.ports.client(leader)]) };
    let mut client = Client::new(settings).expect("a client");
    for key in &keys {
        client.update(key.as_bytes(), b"value").expect("a healthy cluster writes");
    }
    for node in 0..3 {
        cluster.signal(node, libc::SIGTERM);
        cluster.wait_exit(node, LONG);
    }
    for tracer in &mut tracers {
        wait_for(LONG, "strace ends", || tracer.try_wait().expect("strace can be asked"));
    }
    judge(&cluster.dir, 3, leader, &keys)
}

#[test]
fn no_reply_leaves_before_two_syncs_that_cover_it() {
    if !have_strace() {
        return;
    }
    let verdict = trace_writes("strace-order", 1000, Setup::default());
    println!("{} replies, {} before two covering syncs", verdict.replies, verdict.early.len());
    assert_eq!(verdict.replies, 1000, "the traces show every reply");
    assert!(verdict.early.is_empty(), "replies that left too early: {:?}", verdict.early);
}

#[cfg(feature = "sabotage")]
mod sabotage {
    use super::*;

    fn broken(how: &str) -> Verdict {
        let setup = Setup { env: vec![("RAFTKV_SABOTAGE".to_owned(), how.to_owned())], ..Setup::default() };
        trace_writes(&format!("strace-{how}"), 50, setup)
    }

    #[test]
    fn sabotage_a_dropped_sync_is_seen() {
        if have_strace() {
            let verdict = broken("drop-sync");
            assert!(!verdict.early.is_empty(), "the order check cannot fail: {verdict:?}");
        }
    }

    #[test]
    fn sabotage_an_early_answer_is_seen() {
        if have_strace() {
            let verdict = broken("answer-early");
            assert!(!verdict.early.is_empty(), "the order check cannot fail: {verdict:?}");
        }
    }
}

#[test]
fn the_order_check_reads_strace() {
    let call = parse(r#"1700000000.5 pwrite64(7, "ab\0k1"..., 512, 4096) = 512 <0.25>"#).expect("a call");
    assert_eq!((call.name.as_str(), call.fd, call.ok, call.returned), ("pwrite64", 7, true, 1_700_000_000.75));
    let failed = parse("1700000000.5 fdatasync(7) = -1 EIO (Input/output error) <0.1>").expect("a call");
    assert!(!failed.ok);
    let lines = |text: &str| vec![text.lines().filter_map(parse).collect::<Vec<_>>()];
    let keys = ["k1".to_owned()];
    let wal = lines("1.0 pwrite64(7, \"k1\", 2, 0) = 2 <0.1>\n2.0 fdatasync(8) = 0 <0.1>\n3.0 fdatasync(7) = 0 <0.5>");
    assert_eq!(synced_at(&wal, &keys).get("k1"), Some(&3.5), "only a sync of the same file covers the write");
    let io =
        lines("1.0 read(9, \"k1\", 64) = 2 <0.0>\n2.0 write(4, \"x\", 1) = 1 <0.0>\n3.0 write(9, \"x\", 1) = 1 <0.0>");
    assert_eq!(answered_at(&io, &keys).get("k1"), Some(&3.0), "the reply goes to the socket of the request");
}
