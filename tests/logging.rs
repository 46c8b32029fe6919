//! The text log of real servers: rotation by others, failing disks, levels at run time, kill -9, and what never stands in it.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "real processes take real time")]

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
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
    let stderr = |node: usize| cluster.dir.join(format!("node-{node}.err"));
    (0..2).for_each(|node| send_garbage(&cluster.ports.peer(node)));
    wait_for_text(&stderr(1), " DEBUG ");
    // What node 0 had to say of its garbage stands before its next line.
    assert_eq!(say(&["log", "level", "server=info", "--node", "0"]), "node 0: info,server=info\n");
    wait_for_text(&stderr(0), "a client changed what is logged");
    assert!(!read(&stderr(0)).contains(" DEBUG "), "the other node logs as before");
    assert_eq!(say(&["log", "level", "--reset", "--node", "0"]), "node 0: info\n");
    assert_eq!(say(&["log", "level", "--reset", "--node", "1"]), "node 1: info\n");
    let refused = cluster.cli(&["log", "level", "raft=loud"]);
    assert_eq!(refused.status.code(), Some(2), "{}", String::from_utf8_lossy(&refused.stderr));
    let nobody = cluster.cli(&["log", "level", "--node", "7"]);
    assert_eq!(nobody.status.code(), Some(2), "{}", String::from_utf8_lossy(&nobody.stderr));
    cluster.kill(0);
    for (arguments, told, silent) in [
        (
            &["log", "level", "raft=debug"][..],
            "node 1: info,raft=debug\nnode 2: info,raft=debug\n",
            "node 0 does not answer",
        ),
        (&["log", "level", "--node", "0"], "", "node 0 does not answer"),
        (&["log", "level", "--reset", "--node", "2"], "node 2: info\n", ""),
    ] {
        let output = cluster.cli(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(if silent.is_empty() { 0 } else { 5 }), "{arguments:?}: {stderr}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), told, "{arguments:?}");
        assert!(stderr.contains(silent), "{arguments:?}: {stderr}");
    }
}

/// Bytes that are no frame; waits until the node has closed the connection because of them.
fn send_garbage(address: &str) {
    let mut stranger = TcpStream::connect(address).expect("it listens");
    stranger.set_read_timeout(Some(LONG)).expect("a socket takes a timeout");
    // The node may have closed before it is given all.
    let _ = stranger.write_all(&b"canary-value-91bd ".repeat(20));
    match stranger.read_to_end(&mut Vec::new()) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the connection stays open: {error}"),
    }
}

/// What `log` says in the file counts from a SIGHUP on, also over what was changed at run time; without it, the default does.
#[test]
fn a_hangup_reloads_what_is_logged() {
    let mut cluster = Cluster::prepare("log-reload", 1, Setup::default());
    let file = cluster.dir.join("raftkv.toml");
    fs::write(&file, "log = \"warn\"\n").expect("a file");
    cluster.set_flags(&["--config", file.to_str().expect("UTF-8")]);
    cluster.start_all();
    cluster.wait_for_leader();
    let stderr = cluster.dir.join("node-0.err");
    let level = || {
        let shown = cluster.cli(&["log", "level"]);
        String::from_utf8_lossy(&shown.stdout).into_owned()
    };
    assert_eq!(level(), "node 0: warn\n");
    assert!(!read(&stderr).contains(" INFO "), "not wanted: {}", read(&stderr));
    assert!(cluster.cli(&["log", "level", "kv=trace"]).status.success());
    fs::write(&file, "log = \"info,server=debug\"\n").expect("a file");
    cluster.signal(0, libc::SIGHUP);
    wait_for_text(&stderr, "SIGHUP: reloaded: log; needs a restart: nothing");
    assert_eq!(level(), "node 0: info,server=debug\n");
    send_garbage(&cluster.ports.peer(0));
    wait_for_text(&stderr, " DEBUG ");
    fs::write(&file, "log = \"info,server=loud\"\n").expect("a file");
    cluster.signal(0, libc::SIGHUP);
    wait_for_text(&stderr, "nothing is changed: log (");
    assert_eq!(level(), "node 0: info,server=debug\n");
    fs::write(&file, "").expect("a file");
    cluster.signal(0, libc::SIGHUP);
    wait_for(LONG, "the default counts", || (level() == "node 0: info\n").then_some(()));
}

#[test]
fn a_server_goes_on_behind_half_a_line() {
    let name = "log-killed";
    let mut cluster = one(name, |logs| {
        ["--log", "trace", "--log-file", &logs.join("log").display().to_string()].map(String::from).to_vec()
    });
    let log = logs(name).join("log");
    wait_for_text(&log, "leads in term");
    cluster.kill(0);
    // As a power cut leaves it; that a kill leaves the same is shown by tests/logging_burst.rs.
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
    every_verb(&cluster, key, value);
    for address in [cluster.ports.client(leader), cluster.ports.peer(leader)] {
        send_garbage(&address);
    }
    assert_eq!(say_something(&cluster, "trace,mio=trace", &[0, 1, 2]), Some(0));
    cluster.kill(leader);
    cluster.wait_for_leader();
    assert_eq!(cluster.cli(&["update", key, value]).status.code(), Some(0));
    let others: Vec<usize> = (0..3).filter(|node| *node != leader).collect();
    assert_eq!(say_something(&cluster, "trace,mio=debug", &others), Some(5), "one node is down");
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

/// Changes what is logged, and waits for the line in which each of these nodes says so: it stands behind all that they logged
/// before. The command's exit code.
fn say_something(cluster: &Cluster, filter: &str, nodes: &[usize]) -> Option<i32> {
    let changed = cluster.cli(&["log", "level", filter]);
    for node in nodes {
        let stderr = cluster.dir.join(format!("node-{node}.err"));
        wait_for_text(&stderr, &format!("a client changed what is logged: {filter}"));
    }
    changed.status.code()
}

/// Each verb that carries a key or a value, done and refused.
fn every_verb(cluster: &Cluster, key: &str, value: &str) {
    let write = |name: &str, lines: &str| {
        let path = cluster.dir.join(name);
        fs::write(&path, lines).expect("a file");
        path.display().to_string()
    };
    let update = format!("{{\"op\":\"update\",\"key\":\"{key}\",\"value\":\"{value}\"}}\n");
    let count = format!("{{\"op\":\"increment\",\"key\":\"{key}\",\"by\":1}}\n");
    let good = write("good.jsonl", &update);
    let bad = write("bad.jsonl", &format!("{update}{count}"));
    let import = write("import.jsonl", &format!("{{\"key\":\"{key}\",\"value\":\"{value}\"}}\n"));
    let long = value.repeat(1_000);
    for (code, arguments) in [
        (0, &["put", key, value][..]),
        (4, &["put", key, value]),
        (0, &["update", key, value]),
        (0, &["get", key]),
        (0, &["scan", key]),
        (0, &["explain", "update", key, value]),
        (0, &["explain", "get", key]),
        (4, &["cas", key, "1", value]),
        (4, &["increment", key]),
        (0, &["batch", &good]),
        (4, &["batch", &bad]),
        (0, &["import", &import]),
        (4, &["import", "--create", &import]),
        (0, &["export", key]),
        (0, &["remove", key]),
        (3, &["remove", key]),
        (3, &["get", key]),
        (0, &["cas", key, "0", value]),
        (6, &["outcome", "1/1"]),
        (0, &["snapshot", "take"]),
        (8, &["put", key, &long]),
    ] {
        let output = cluster.cli(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn hex(text: &str) -> String {
    text.bytes().take(8).map(|byte| format!("{byte:02x}")).collect()
}
