//! The text log of real servers: rotation by others, failing disks, levels at run time, kill -9, and what never stands in it.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "real processes take real time")]

mod support;

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use support::{wait_for, Cluster, Setup};

const LONG: Duration = Duration::from_secs(30);

/// One node that logs as the flags say, with a leader.
fn one(name: &str, flags: impl FnOnce(&Path) -> Vec<String>) -> Cluster {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-logs-{}", std::process::id()));
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).expect("a directory for the log");
    let mut cluster = Cluster::prepare(name, 1, Setup { flags: flags(&directory), ..Setup::default() });
    cluster.start_all();
    cluster.wait_for_leader();
    cluster
}

fn logs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-logs-{}", std::process::id()))
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

fn wait_for_text(path: &Path, text: &str) {
    wait_for(LONG, text, || read(path).contains(text).then_some(()));
}

fn counter(cluster: &Cluster, name: &str) -> u64 {
    cluster.status()[0]["counters"][name].as_u64().expect("a counter")
}

fn put_works(cluster: &Cluster, key: &str) {
    let put = cluster.cli(&["put", key, "value"]);
    assert!(put.status.success(), "{}", String::from_utf8_lossy(&put.stderr));
}

#[test]
fn a_hangup_opens_the_files_anew() {
    let name = "log-hangup";
    let cluster = one(name, |logs| vec!["--log-file".into(), logs.join("log").display().to_string()]);
    let (log, moved) = (logs(name).join("log"), logs(name).join("moved"));
    wait_for_text(&log, "listens for clients");
    fs::rename(&log, &moved).expect("moved");
    cluster.signal(0, libc::SIGHUP);
    wait_for_text(&log, "opened anew");
    assert!(read(&moved).contains("listens for clients") && !read(&moved).contains("opened anew"));
    put_works(&cluster, "after");
    fs::remove_dir_all(logs(name)).expect("removed");
}

#[test]
fn a_full_disk_under_the_log_does_not_stop_the_server() {
    let cluster = one("log-full", |_| vec!["--log-sinks".into(), "file=/dev/full,level=debug".into()]);
    put_works(&cluster, "key");
    wait_for(LONG, "lost lines are counted", || (counter(&cluster, "log_lines_lost") > 0).then_some(()));
    assert!(counter(&cluster, "log_failures") > 0);
    let stderr = read(&cluster.dir.join("node-0.err"));
    assert!(stderr.contains("log: cannot write /dev/full: No space left on device"), "{stderr}");
    assert!(stderr.lines().count() < 10, "it is said once, not with every line: {stderr}");
    put_works(&cluster, "another");
}

#[test]
fn a_vanished_directory_under_the_log_does_not_stop_the_server() {
    let name = "log-vanished";
    let cluster = one(name, |logs| vec!["--log-file".into(), logs.join("log").display().to_string()]);
    fs::remove_dir_all(logs(name)).expect("removed");
    let stderr = cluster.dir.join("node-0.err");
    wait_for_text(&stderr, "log: cannot open");
    put_works(&cluster, "key");
    wait_for(LONG, "it is counted", || (counter(&cluster, "log_failures") > 0).then_some(()));
    fs::create_dir(logs(name)).expect("made again");
    wait_for(LONG, "the file is begun anew", || logs(name).join("log").exists().then_some(()));
    cluster.signal(0, libc::SIGHUP);
    wait_for_text(&logs(name).join("log"), "opened anew");
    fs::remove_dir_all(logs(name)).expect("removed");
}

#[test]
fn levels_change_at_run_time_on_one_node() {
    let mut cluster = Cluster::start("log-levels", 3);
    let say = |arguments: &[&str]| {
        let output = cluster.cli(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(say(&["log", "level"]), "node 0: info\nnode 1: info\nnode 2: info\n");
    assert_eq!(say(&["log", "level", "server=debug", "--node", "1"]), "node 1: info,server=debug\n");
    assert_eq!(say(&["log", "level"]), "node 0: info\nnode 1: info,server=debug\nnode 2: info\n");
    assert_eq!(say(&["-o", "json", "log", "level", "--node", "1"]), "{\"filter\":\"info,server=debug\",\"node\":1}\n");
    let garbage = |node: usize| {
        let mut peer = TcpStream::connect(cluster.ports.peer(node)).expect("it listens");
        peer.write_all(&[0; 64]).expect("sent");
    };
    let debug = |node: usize| read(&cluster.dir.join(format!("node-{node}.err"))).contains(" DEBUG ");
    (0..2).for_each(garbage);
    wait_for(LONG, "a line at debug", || debug(1).then_some(()));
    assert!(!debug(0), "the other node logs as before");
    assert_eq!(say(&["log", "level", "--reset", "--node", "1"]), "node 1: info\n");
    let refused = cluster.cli(&["log", "level", "raft=loud"]);
    assert_eq!(refused.status.code(), Some(2), "{}", String::from_utf8_lossy(&refused.stderr));
    let nobody = cluster.cli(&["log", "level", "--node", "7"]);
    assert_ne!(nobody.status.code(), Some(0));
    cluster.kill(0);
}

#[test]
fn a_killed_server_leaves_whole_lines_and_goes_on_behind_half_a_one() {
    let name = "log-killed";
    let mut cluster = one(name, |logs| {
        ["--log", "trace", "--log-file", &logs.join("log").display().to_string()].map(String::from).to_vec()
    });
    let log = logs(name).join("log");
    wait_for_text(&log, "leads in term");
    cluster.kill(0);
    // The kernel finishes a write that it began; what a power cut leaves is cut here by hand.
    let text = read(&log);
    fs::write(&log, &text[..text.len() - 10]).expect("cut");
    cluster.start_node(0);
    cluster.wait_for_leader();
    let after = read(&log);
    let lines: Vec<&str> = after.lines().collect();
    assert!(lines.iter().all(|line| line.len() > 28 && line.as_bytes()[10] == b'T'), "each line begins with a time");
    assert!(after[text.len() - 10..].starts_with("\n2"), "the cut line ends where it was cut");
    fs::remove_dir_all(logs(name)).expect("removed");
}

/// Also at trace, lines name nodes and indexes, never what clients store.
#[test]
fn no_key_and_no_value_stands_in_a_line() {
    let flags = ["--log", "trace", "--value-bytes-max", "4KiB"].map(String::from).to_vec();
    let setup = Setup { flags, ..Setup::default() };
    let mut cluster = Cluster::prepare("log-secrets", 3, setup);
    cluster.start_all();
    let leader = cluster.wait_for_leader();
    let (key, value) = ("canary-key-7f3a", "canary-value-91bd");
    for arguments in [
        &["put", key, value][..],
        &["put", key, value],
        &["update", key, value],
        &["get", key],
        &["scan", key],
        &["remove", key],
        &["remove", key],
    ] {
        cluster.cli(arguments);
    }
    let too_long = cluster.cli(&["put", key, &value.repeat(1_000)]);
    assert_eq!(too_long.status.code(), Some(8), "refused");
    for address in [cluster.ports.client(leader), cluster.ports.peer(leader)] {
        let mut hostile = TcpStream::connect(address).expect("it listens");
        hostile.write_all(value.repeat(20).as_bytes()).expect("sent");
    }
    cluster.kill(leader);
    cluster.wait_for_leader();
    cluster.cli(&["update", key, value]);
    for node in 0..3 {
        let text = read(&cluster.dir.join(format!("node-{node}.err")));
        assert!(text.contains("leads in term"), "node {node} logs");
        for canary in
            ["canary", &hex(key), &hex(value), &format!("{:?}", &value.as_bytes()[..6]).replace(['[', ']'], "")]
        {
            assert!(!text.contains(canary), "node {node} logged {canary}: {text}");
        }
    }
}

fn hex(text: &str) -> String {
    text.bytes().take(8).map(|byte| format!("{byte:02x}")).collect()
}
