//! Real processes on loopback: elections, kills, restarts, catch-up, and what a user sees of them.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "real processes take real time")]

mod support;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use support::load::Load;
use support::{raftkv, wait_for, Cluster, Setup};

const LONG: Duration = Duration::from_secs(30);

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_leader_is_killed_twenty_times_under_load() {
    let mut cluster = Cluster::start("leader-kills", 3);
    let load = Load::start(&cluster, "k", 16, u64::MAX);
    let mut gaps = Vec::new();
    for _ in 0..20 {
        load.wait_for_more(100, LONG);
        let leader = cluster.wait_for_leader();
        cluster.kill(leader);
        gaps.push(load.wait_for_more(1 + 16, LONG));
        cluster.start_node(leader);
        cluster.wait_caught_up();
    }
    let ledger = load.finish();
    gaps.sort();
    println!(
        "20 kills of the leader: first writes after median {:?}, worst {:?}; {} acknowledged, {} unknown",
        gaps[10],
        gaps[19],
        ledger.acknowledged.len(),
        ledger.unknown.len()
    );
    assert!(ledger.acknowledged.len() >= 20 * 100);
    ledger.check(&cluster);
}

#[test]
fn all_nodes_are_killed_at_once_ten_times() {
    let mut cluster = Cluster::start("all-kills", 3);
    let load = Load::start(&cluster, "k", 16, u64::MAX);
    for _ in 0..10 {
        load.wait_for_more(100, LONG);
        for node in 0..3 {
            cluster.kill(node);
        }
        cluster.start_all();
    }
    load.wait_for_more(100, LONG);
    load.finish().check(&cluster);
}

#[test]
fn a_follower_that_missed_fifty_thousand_writes_catches_up() {
    let mut cluster = Cluster::start("catch-up", 3);
    let leader = cluster.wait_for_leader();
    let away = (leader + 1) % 3;
    cluster.kill(away);
    let load = Load::start(&cluster, "k", 256, 50_000);
    wait_for(Duration::from_secs(120), "50,000 writes", || load.is_finished().then_some(()));
    cluster.start_node(away);
    let ledger = load.finish();
    assert_eq!(ledger.acknowledged.len(), 50_000, "refused {}, unknown {}", ledger.refused.len(), ledger.unknown.len());
    ledger.check(&cluster);
}

#[test]
fn two_of_three_down_acknowledges_nothing_and_recovers() {
    let mut cluster = Cluster::start("no-quorum", 3);
    assert!(cluster.cli(&["put", "before", "1"]).status.success());
    let leader = cluster.wait_for_leader();
    let followers = [(leader + 1) % 3, (leader + 2) % 3];
    for node in followers {
        cluster.kill(node);
    }
    let start = std::time::Instant::now();
    let refused = cluster.cli(&["put", "during", "1", "--timeout", "1s"]);
    assert!(start.elapsed() < Duration::from_secs(5), "the deadline holds");
    let code = refused.status.code();
    assert!(code == Some(5) || code == Some(6), "{code:?}: {}", text(&refused.stderr));
    let read = cluster.cli(&["get", "before", "--timeout", "1s"]);
    assert!(!read.status.success(), "a linearizable read needs a quorum");
    assert_eq!(
        text(&cluster.cli_at(&cluster.ports.client(leader), &["export", "--local", "before"]).stdout).lines().count(),
        1
    );
    for node in followers {
        cluster.start_node(node);
    }
    wait_for(LONG, "the cluster serves again", || {
        cluster.cli(&["update", "after", "1"]).status.success().then_some(())
    });
    cluster.wait_caught_up();
    assert_eq!(text(&cluster.cli(&["get", "before"]).stdout), "1");
    if code == Some(5) {
        assert_eq!(cluster.cli(&["get", "during"]).status.code(), Some(3), "not applied means never");
    }
}

/// The documented example: seven nodes, started one after the other by hand.
#[test]
fn seven_nodes_form_serve_lose_three_refuse_at_four_and_return() {
    let mut cluster = Cluster::prepare("seven", 7, Setup::default());
    cluster.start_node(0);
    let waiting = |cluster: &Cluster, words: &str| {
        wait_for(LONG, words, || {
            let said = text(&cluster.cli(&["status", "--timeout", "1s"]).stdout);
            said.contains(words).then_some(())
        });
    };
    waiting(&cluster, "waiting for 6 of 7: nodes 1, 2, 3, 4, 5, 6");
    assert_eq!(cluster.cli(&["put", "early", "1", "--timeout", "500ms"]).status.code(), Some(5), "not formed yet");
    cluster.start_node(1);
    waiting(&cluster, "waiting for 5 of 7: nodes 2, 3, 4, 5, 6");
    cluster.start_all();
    let leader = cluster.wait_for_leader();
    cluster.wait_caught_up();

    assert!(cluster.cli(&["put", "hello", "raftkv"]).status.success());
    assert_eq!(text(&cluster.cli(&["get", "hello"]).stdout), "raftkv");
    assert_eq!(cluster.cli(&["put", "hello", "twice"]).status.code(), Some(4), "put refuses an existing key");
    assert!(cluster.cli(&["update", "hello", "again"]).status.success());
    assert!(cluster.cli(&["remove", "hello"]).status.success());
    assert_eq!(cluster.cli(&["get", "hello"]).status.code(), Some(3));

    let follower = (leader + 1) % 7;
    let redirect = cluster.cli_at(&cluster.ports.client(follower), &["put", "x", "y", "--no-redirect"]);
    assert_eq!(redirect.status.code(), Some(5));
    assert!(text(&redirect.stderr).contains(&cluster.ports.client(leader)), "{}", text(&redirect.stderr));

    let down: Vec<usize> = (0..4).map(|step| (leader + step) % 7).collect();
    for node in &down[..3] {
        cluster.kill(*node);
    }
    wait_for(LONG, "four of seven serve", || {
        cluster.cli(&["update", "three-down", "1"]).status.success().then_some(())
    });
    cluster.kill(down[3]);
    let refused = cluster.cli(&["update", "four-down", "1", "--timeout", "2s"]);
    let code = refused.status.code();
    assert!(code == Some(5) || code == Some(6), "{code:?}: {}", text(&refused.stderr));
    let said = text(&cluster.cli(&["status", "--timeout", "1s"]).stdout);
    assert!(said.contains("quorum") || said.contains("no leader"), "status says why: {said}");
    cluster.start_all();
    wait_for(LONG, "seven serve again", || cluster.cli(&["update", "back", "1"]).status.success().then_some(()));
    cluster.wait_caught_up();
    let first = cluster.local_export(0);
    assert!((1..7).all(|node| cluster.local_export(node) == first));
}

#[test]
fn five_nodes_survive_two_kills_under_load() {
    let mut cluster = Cluster::start("five", 5);
    let load = Load::start(&cluster, "k", 16, u64::MAX);
    for _ in 0..3 {
        load.wait_for_more(50, LONG);
        let leader = cluster.wait_for_leader();
        let other = (leader + 2) % 5;
        cluster.kill(leader);
        cluster.kill(other);
        load.wait_for_more(50, LONG);
        cluster.start_all();
        cluster.wait_caught_up();
    }
    load.finish().check(&cluster);
}

#[test]
fn one_node_alone_serves_and_keeps_its_writes() {
    let mut cluster = Cluster::start("alone", 1);
    assert!(cluster.cli(&["put", "a", "1"]).status.success());
    cluster.kill(0);
    cluster.start_node(0);
    cluster.wait_for_leader();
    assert_eq!(text(&cluster.cli(&["get", "a"]).stdout), "1");
}

#[test]
fn a_second_server_on_the_same_directory_and_a_taken_port_are_refused() {
    let mut cluster = Cluster::start("refusals", 1);
    let again = cluster.command(0).output().expect("the second server runs");
    assert_eq!(again.status.code(), Some(73), "{}", text(&again.stderr));
    cluster.signal(0, libc::SIGTERM);
    assert_eq!(cluster.wait_exit(0, LONG), Some(0), "SIGTERM stops a server cleanly");
    let _held = std::net::TcpListener::bind(cluster.ports.client(0)).expect("the port is free now");
    let taken = cluster.command(0).output().expect("the server runs");
    assert_eq!(taken.status.code(), Some(73), "{}", text(&taken.stderr));
    assert!(text(&taken.stderr).contains(&cluster.ports.client(0)), "it names the port: {}", text(&taken.stderr));
}

#[test]
fn another_nodes_data_directory_is_refused_by_name() {
    let mut cluster = Cluster::start("wrong-data", 3);
    for node in 0..3 {
        cluster.kill(node);
    }
    std::fs::remove_dir_all(cluster.data(0)).expect("node 0 is stopped");
    std::fs::rename(cluster.data(1), cluster.data(0)).expect("node 1 is stopped");
    let refused = cluster.command(0).output().expect("the server runs");
    assert_eq!(refused.status.code(), Some(78), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("node 1"), "it names whose data that is: {}", text(&refused.stderr));
}

/// C-17: the disk of one node is replaced. The others refuse the new incarnation by name and go on serving.
#[test]
fn a_replaced_disk_is_refused_until_a_membership_change() {
    let mut cluster = Cluster::start("replaced-disk", 3);
    assert!(cluster.cli(&["put", "a", "1"]).status.success());
    cluster.kill(0);
    std::fs::remove_dir_all(cluster.data(0)).expect("node 0 is stopped");
    cluster.start_node(0);
    wait_for(LONG, "two of three serve", || cluster.cli(&["update", "b", "2"]).status.success().then_some(()));
    wait_for(LONG, "status names the stranger", || {
        let said = text(&cluster.cli(&["status", "--timeout", "1s"]).stdout);
        said.contains("refused node 0: its disk").then_some(())
    });
    let fresh = cluster.cli_at(&cluster.ports.client(0), &["export", "--local"]);
    assert!(!text(&fresh.stdout).contains("\"a\""), "the new disk got nothing");
    cluster.kill(1);
    let alone = cluster.cli(&["update", "c", "3", "--timeout", "1500ms"]);
    assert!(!alone.status.success(), "a replaced disk must not count for a majority");
}

/// A log file is cut while it is mapped, and then read: the process ends with 74 instead of showing bytes that are not
/// there. The other two go on.
#[test]
fn a_log_that_is_cut_under_its_map_ends_the_process_with_74() {
    let mut cluster = Cluster::start("sigbus", 3);
    let leader = cluster.wait_for_leader();
    let away = (leader + 1) % 3;
    cluster.kill(away);
    // More than the leader keeps in memory, so that the follower's entries are read from the log.
    let value = cluster.dir.join("value");
    std::fs::write(&value, vec![b'v'; 1 << 20]).expect("a file for the value");
    for number in 0..80 {
        let written = cluster.cli(&["update", &format!("k{number}"), &format!("@{}", value.display())]);
        assert!(written.status.success(), "{}", text(&written.stderr));
    }
    for item in std::fs::read_dir(cluster.data(leader)).expect("the data directory") {
        let path = item.expect("a file").path();
        // Not the one that is being made, which holds nothing and is about to get its name.
        let is_segment = |name: &str| name.starts_with("log-") && !name.ends_with(".tmp");
        if path.file_name().is_some_and(|name| is_segment(&name.to_string_lossy())) {
            let file = std::fs::OpenOptions::new().write(true).open(path).expect("a segment");
            file.set_len(4096).expect("it can be cut");
        }
    }
    cluster.start_node(away);
    assert_eq!(cluster.wait_exit(leader, LONG), Some(74));
    wait_for(LONG, "the others serve", || cluster.cli(&["update", "after", "1"]).status.success().then_some(()));
}

/// What comes out of a slow pipe is imported at once, not when the pipe ends or enough has come together.
#[test]
fn an_import_does_not_wait_for_more_input() {
    let cluster = Cluster::start("slow-import", 1);
    let mut import = Command::new(raftkv())
        .args(["--endpoints", &cluster.endpoints(), "import", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the client runs");
    let mut input = import.stdin.take().expect("a pipe");
    for key in ["first", "second"] {
        writeln!(input, "{{\"key\":\"{key}\",\"value\":\"v\"}}").expect("the import reads");
        wait_for(LONG, "the record is there", || cluster.cli(&["get", key]).status.success().then_some(()));
    }
    drop(input);
    let output = import.wait_with_output().expect("the import ends");
    assert!(text(&output.stdout).starts_with("imported 2 keys"), "{}", text(&output.stdout));
}

/// A generated stand-in for `tools/real-input`: package-like keys and many-line values, imported while the leader is killed
/// twice and restarted; afterwards each node's own state equals the input, byte for byte.
#[test]
fn an_import_through_two_kills_of_the_leader_is_complete_on_each_node() {
    let mut cluster = Cluster::start("import", 3);
    let record = |number: u32| {
        let name = format!("package-{:05}", number.wrapping_mul(2_654_435_761) % 100_000);
        let lines: Vec<String> =
            (0..number % 30).map(|line| format!(" \u{fc}ber line {line} of \"{name}\"\t\\")).collect();
        let value = format!("Package: {name}\nVersion: 1.{number}\n{}", lines.join("\n"));
        (format!("{name}/1.{number}/amd64/1"), value)
    };
    let mut records: Vec<(String, String)> = (0..30_000).map(record).collect();
    let line = |(key, value): &(String, String)| serde_json::json!({ "key": key, "value": value }).to_string() + "\n";
    let file = cluster.dir.join("input.ndjson");
    std::fs::write(&file, records.iter().map(line).collect::<String>()).expect("a file for the input");
    let mut import = std::process::Command::new(support::raftkv())
        .args(["--endpoints", &cluster.endpoints(), "import"])
        .arg(&file)
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("the import starts");
    for part in [3, 6] {
        wait_for(LONG, "a part of the import", || {
            let keys = cluster.status().iter().filter_map(|node| node["keys"].as_u64()).max()?;
            (keys >= 3_000 * part).then_some(())
        });
        let leader = cluster.wait_for_leader();
        cluster.kill(leader);
        cluster.start_node(leader);
    }
    let ended =
        wait_for(Duration::from_secs(90), "the import ends", || import.try_wait().expect("a child can be asked"));
    assert!(ended.success(), "{ended}");
    cluster.wait_caught_up();
    records.sort();
    let expected: Vec<(String, String)> = records;
    for node in 0..3 {
        let exported = String::from_utf8(cluster.local_export(node)).expect("JSON is UTF-8");
        let parsed: Vec<(String, String)> = support::load::parse_export(exported.as_bytes()).into_iter().collect();
        assert!(parsed == expected, "node {node}: {} of {} keys", parsed.len(), expected.len());
        let keys: Vec<&str> = exported.lines().collect();
        assert_eq!(keys.len(), expected.len(), "each key once");
    }
}

/// `-o json` everywhere: the verbs of a local cluster print one object each.
#[test]
fn a_local_cluster_speaks_json() {
    let cluster = Cluster::prepare("dev-json", 3, Setup::default());
    let dir = cluster.dir.join("local");
    let dev = |verb: &[&str]| {
        let mut words = vec!["dev"];
        words.extend(verb);
        let (dir, port) = (dir.display().to_string(), cluster.ports.base.to_string());
        words.extend(["--dir", &dir, "-o", "json"]);
        if verb[0] == "start" {
            words.extend(["--base-port", &port]);
        }
        let output = cluster.cli(&words);
        assert!(output.status.success(), "{verb:?}: {}", text(&output.stderr));
        let object: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object");
        object
    };
    let started = dev(&["start"]);
    assert_eq!((started["ok"].as_bool(), started["started"].as_u64()), (Some(true), Some(3)));
    assert_eq!(dev(&["status"])["nodes"].as_array().map(Vec::len), Some(3));
    assert_eq!(dev(&["kill", "1"])["killed"], true);
    assert_eq!(dev(&["kill", "1"])["killed"], false);
    assert_eq!(dev(&["restart", "1"])["node"], 1);
    assert_eq!(dev(&["stop"])["stopped"], 3);
    assert_eq!(dev(&["wipe"])["ok"], true);
    assert!(!dir.exists());
}
