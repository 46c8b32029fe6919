//! The load generator against real clusters: loads of every kind, and a leader that dies meanwhile.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "real processes")]

mod support;

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::{raftkv, wait_for, Cluster};

/// Runs a load and gives its report.
fn report(cluster: &Cluster, arguments: &str) -> Value {
    let line = format!("bench {arguments} --warm-up 0.1 --keys 500 -o json");
    let output = cluster.cli(&line.split(' ').collect::<Vec<_>>());
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one object")
}

fn applied(cluster: &Cluster) -> u64 {
    cluster.status().iter().filter_map(|node| node["applied_index"].as_u64()).max().unwrap_or(0)
}

#[test]
fn every_load_is_answered_and_measured() {
    let cluster = Cluster::start("bench", 3);
    let loads = [
        "put -c 4 -d 4",
        "update --spread zipfian --value-bytes 1..4000",
        "get -c 8 --threads 2",
        "mix --read 0.9 -d 8",
        "mix --ycsb d -d 4",
        "mix --ycsb e",
        "mix --ycsb f -c 2",
    ];
    for load in loads {
        let report = report(&cluster, &format!("{load} --duration 1"));
        assert!(report["completed"].as_u64() > Some(0), "{load}: {report}");
        assert_eq!((&report["ok"], &report["failed"]), (&true.into(), &0.into()), "{load}: {report}");
        let latency = |name: &str| report["latency_us"][name].as_f64().expect("a latency");
        assert!(latency("p50") > 10.0 && latency("p50") <= latency("p99.99"), "{load}: {report}");
        let cpu = report["runs"][0]["server_cpu_seconds"].as_array().expect("the servers are on this machine");
        assert_eq!(cpu.len(), 3, "{load}: every server is found");
    }
}

#[test]
fn an_open_loop_sends_what_was_due_and_repeats_are_all_reported() {
    let cluster = Cluster::start("bench-open", 1);
    let report = report(&cluster, "update --rate 400 -c 4 --duration 0.5 --repeats 3");
    let runs = report["runs"].as_array().expect("runs");
    assert_eq!(runs.len(), 3);
    for run in runs {
        let answered = run["completed"].as_u64().unwrap_or(0) + run["failed"].as_u64().unwrap_or(0);
        assert!((198..=201).contains(&answered), "{run}");
    }
}

#[test]
fn a_load_goes_on_at_the_next_leader() {
    let mut cluster = Cluster::start("bench-leader", 3);
    let load =
        ["--endpoints", &cluster.endpoints(), "bench", "update", "-c", "4", "--keys", "100", "--duration", "600"];
    let mut child =
        Command::new(raftkv()).args(load).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    let long = Duration::from_secs(30);
    let before = applied(&cluster);
    wait_for(long, "updates are applied", || (applied(&cluster) > before + 200).then_some(()));
    let leader = cluster.wait_for_leader();
    cluster.kill(leader);
    let at_kill = applied(&cluster);
    wait_for(long, "updates go on elsewhere", || (applied(&cluster) > at_kill + 500).then_some(()));
    child.kill().expect("it runs still");
    child.wait().expect("it has ended");
}

#[test]
fn the_speed_of_light_is_measured_without_a_server() {
    let dir = tempfile::tempdir().expect("a directory");
    let line = "bench limits --duration 1 --repeats 1 --loads 1x1,4x4 -o json --dir";
    let output =
        Command::new(raftkv()).args(line.split(' ')).arg(dir.path()).stdin(Stdio::null()).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("one object");
    let limits = report["limits"].as_array().expect("limits");
    assert!(
        limits.len() >= 8 && limits.iter().all(|limit| limit["latency_us"]["p50"].as_f64() > Some(0.0)),
        "{report}"
    );
    for load in report["skeleton"].as_array().expect("loads") {
        assert!(load["completed"].as_u64() > Some(0) && load["failed"] == 0, "{load}");
        assert!(load["server_cpu_us_per_op"].as_f64() > Some(0.0), "{load}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("it is there").count(), 0, "nothing is left behind");
}

#[test]
fn a_comparison_takes_turns_and_writes_a_page() {
    let dir = tempfile::tempdir().expect("a directory");
    let page = dir.path().join("page.html");
    let line =
        "bench compare --against skeleton --loads put:4x4,get:2 --duration 1 --warm-up 0.1 --keys 100 --repeats 2";
    let output = Command::new(raftkv())
        .args(line.split(' '))
        .args(["-o", "json", "--report"])
        .arg(&page)
        .arg("--dir")
        .arg(dir.path().join("files"))
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("one object");
    let (put, get) = (&report["loads"][0], &report["loads"][1]);
    assert_eq!(put["peers"].as_array().map(Vec::len), Some(2), "{put}");
    assert_eq!(get["peers"].as_array().map(Vec::len), Some(1), "the skeleton has no store: {get}");
    assert_eq!(get["left_out"], serde_json::json!(["skeleton"]), "and that is said: {get}");
    assert!(put["ratios"][0]["per_second"]["median"].as_f64() > Some(0.0), "{put}");
    assert_eq!(report["goals"], serde_json::json!([]), "no goal speaks of these loads");
    for peer in put["peers"].as_array().into_iter().flatten().chain(get["peers"].as_array().into_iter().flatten()) {
        assert_eq!(peer["runs"].as_array().map(Vec::len), Some(2), "{peer}");
        assert!(peer["completed"].as_u64() > Some(0) && peer["failed"] == 0, "{peer}");
    }
    let page = std::fs::read_to_string(page).expect("a page");
    assert!(page.contains("<svg") && page.contains("skeleton") && !page.contains("NaN"), "{page}");
    assert!(!dir.path().join("files").exists(), "nothing is left behind");
}

/// Runs a measurement that starts its own servers in a directory, which is gone afterwards, and gives its report.
fn own_report(arguments: &str) -> Value {
    own_report_of(Command::new(raftkv()), arguments)
}

/// The same of a command that ends as the binary under test.
fn own_report_of(mut command: Command, arguments: &str) -> Value {
    let dir = tempfile::tempdir().expect("a directory");
    let files = dir.path().join("files");
    let line = format!("bench {arguments} -o json --dir");
    let output = command
        .args(line.split(' '))
        .arg(&files)
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    assert!(!files.exists(), "{line}: nothing is left behind");
    serde_json::from_slice(&output.stdout).expect("one object")
}

/// Every load of every edge was answered; the edges with their numbers of loads, and all facts.
fn edges(report: &Value) -> (Vec<(String, usize)>, Value) {
    let mut facts = serde_json::Map::new();
    let mut edges = Vec::new();
    for edge in report["edges"].as_array().expect("edges") {
        let loads = edge["loads"].as_array().expect("loads");
        for load in loads {
            assert!(load["completed"].as_u64() > Some(0) && load["failed"] == 0, "{edge}");
            let at = |name: &str| load["latency_us"][name].as_f64().expect("a latency");
            assert!(at("p50") <= at("p99") && at("p99") <= at("p99.9") && at("p99.9") <= at("p100"), "{edge}");
            assert!(load["server_resident_bytes"].as_f64() > Some(1e6), "{edge}");
        }
        assert_eq!(edge["left_out"], serde_json::json!([]), "{edge}");
        edges.push((edge["edge"].as_str().expect("a name").to_owned(), loads.len()));
        facts.extend(edge["facts"].as_object().expect("facts").clone());
    }
    (edges, facts.into())
}

#[test]
fn edges_that_are_loads_are_all_answered() {
    let short = "--duration 0.3 --warm-up 0.2";
    let line = format!("edges --only one-client,connections,pipelines,hot-keys {short}");
    let report = own_report(&format!("{line} --connections 300 --pipelines 2x64"));
    let (loads, _) = edges(&report);
    let wanted = [("one-client", 2), ("connections", 2), ("pipelines", 2), ("hot-keys", 4)];
    assert_eq!(loads, wanted.map(|(edge, count)| (edge.to_owned(), count)));
    let connections = &report["edges"][1]["loads"][0];
    assert_eq!((&connections["connections"], &connections["depth"]), (&300.into(), &1.into()));
    let (values, _) = edges(&own_report(&format!("edges --only values {short}")));
    assert_eq!(values, [("values".to_owned(), 10)]);
}

#[test]
fn connections_that_the_limit_of_files_does_not_allow_are_left_out_and_said() {
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 400 && exec \"$0\" \"$@\"", raftkv()]);
    let line = "edges --only connections --connections 100,300 --duration 0.3 --warm-up 0.2";
    let edge = &own_report_of(limited, line)["edges"][0];
    let connections: Vec<_> =
        edge["loads"].as_array().expect("loads").iter().map(|load| &load["connections"]).collect();
    assert_eq!(connections, [100, 100], "{edge}");
    let left_out = edge["left_out"].as_array().expect("words");
    assert!(left_out.len() == 2 && left_out[0].as_str().is_some_and(|words| words.contains("400 files")), "{edge}");
}

#[test]
fn a_slow_follower_a_snapshot_and_many_keys_hold_nothing_up() {
    let report = own_report("edges --only slow-follower,snapshot,many-keys --keys 3000 --duration 0.5 --warm-up 0.2");
    let (loads, facts) = edges(&report);
    let wanted = [("slow-follower", 4), ("snapshot", 2), ("many-keys", 6)];
    assert_eq!(loads, wanted.map(|(edge, count)| (edge.to_owned(), count)));
    let positive = ["missed_entries", "caught_up_seconds", "leader_resident_bytes_before", "snapshots"];
    let more = ["fill_seconds", "resident_bytes_per_key", "follower_restart_seconds", "restart_seconds"];
    for name in positive.into_iter().chain(more) {
        assert!(facts[name].as_f64() > Some(0.0), "{name}: {facts}");
    }
    let peak = facts["leader_resident_peak_ratio"].as_f64().expect("a ratio");
    assert!((1.0..8.0).contains(&peak), "the leader keeps little for a follower that stands still: {facts}");
    let overhead = facts["resident_bytes_per_key"].as_f64().zip(facts["overhead_bytes_per_key"].as_f64());
    assert!(overhead.is_some_and(|(whole, overhead)| (whole - overhead - 80.0).abs() < 1e-6), "{facts}");
}

#[test]
fn fail_over_and_starts_are_timed_at_every_peer() {
    let has_etcd = Command::new("etcd").arg("--version").output().is_ok();
    let peers = if has_etcd { "raftkv,etcd" } else { "raftkv" };
    let report = own_report(&format!("failover --peers {peers} --repeats 1 --keys 300 --load 4x1"));
    let events = report["events"].as_array().expect("events");
    let names: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!(names, ["kill", "stop", "start-empty", "start-full"]);
    for event in events {
        let measured = event["peers"].as_array().expect("peers");
        assert_eq!(measured.len(), 1 + usize::from(has_etcd), "{event}");
        for peer in measured {
            let ms = peer["ms"][0].as_f64().expect("a time");
            assert!((0.1..60_000.0).contains(&ms), "{event}");
        }
        assert_eq!(event["ratios"].as_array().map(Vec::len), Some(usize::from(has_etcd)), "{event}");
    }
    // A leader that stands still is missed after an election timeout; one that died is missed at once.
    let stopped = events[1]["peers"][0]["ms"][0].as_f64().expect("a time");
    assert!(stopped > 500.0, "{report}");
}

#[test]
fn a_sweep_ends_when_the_servers_no_longer_keep_up() {
    let cluster = Cluster::start("bench-sweep", 1);
    let report = report(&cluster, "sweep update -c 4 -d 4 --parts 10,20,100000 --duration 1");
    let steps = report["steps"].as_array().expect("steps");
    assert_eq!(steps.len(), 3, "{report}");
    let rates: Vec<f64> = steps.iter().filter_map(|step| step["rate"].as_f64()).collect();
    assert!(rates.is_sorted(), "{rates:?}");
    assert!(report["sustained_per_second"].as_f64().is_none_or(|rate| rate <= rates[1]), "{report}");
}

#[test]
fn a_peer_that_is_not_installed_is_named_with_its_package() {
    let dir = tempfile::tempdir().expect("a directory");
    let output = Command::new(raftkv())
        .args(["bench", "compare", "--against", "etcd", "--loads", "put:1", "--dir"])
        .arg(dir.path().join("files"))
        .env("PATH", dir.path())
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && words.contains("etcd is not installed") && words.contains("etcd-server"),
        "{words}"
    );
}

#[test]
fn a_flamegraph_of_nobody_says_that_nobody_is_there() {
    let output = Command::new(raftkv())
        .args(["--endpoints", "127.0.0.1:1", "--timeout", "1s", "flamegraph", "--seconds", "1"])
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{words}");
    assert!(words.contains("UNREACHABLE") && words.contains("effect: not applied"), "{words}");
}
