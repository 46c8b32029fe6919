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
        let report = report(&cluster, &format!("{load} --duration 0.5"));
        assert!(report["completed"].as_u64() > Some(20), "{load}: {report}");
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
