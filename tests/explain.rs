//! `raftkv explain` on real clusters: each stage of one request, each member's part, and who closed the quorum.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "real processes")]

mod support;

use std::time::Duration;

use serde_json::Value;
use support::{wait_for, Cluster};

const LONG: Duration = Duration::from_secs(30);

const WRITE_STAGES: [&str; 7] = ["apply", "decode", "held", "propose", "queue", "quorum", "reply"];
const READ_STAGES: [&str; 4] = ["decode", "permission", "queue", "reply"];

fn explain(cluster: &Cluster, arguments: &[&str]) -> Value {
    let output = cluster.cli(&[&["-o", "json", "explain"], arguments].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    serde_json::from_slice(&output.stdout).expect("one object")
}

/// The stages' names, and their sum in microseconds, which the round trip holds.
fn stages(explained: &Value) -> (Vec<&str>, u64) {
    let stages = explained["receipt"]["stages_us"].as_object().unwrap_or_else(|| panic!("a receipt: {explained}"));
    let sum = stages.values().map(|us| us.as_u64().expect("a number")).sum();
    assert!(sum <= explained["round_trip_us"].as_u64().expect("a number"), "{explained}");
    let mut names: Vec<&str> = stages.keys().map(String::as_str).collect();
    names.sort_unstable();
    (names, sum)
}

/// After which times there was the word of a member, in microseconds.
fn durable(explained: &Value) -> Vec<u64> {
    let members = explained["receipt"]["members"].as_array().expect("members");
    members.iter().filter_map(|member| member["durable_us"].as_u64()).collect()
}

#[test]
fn a_write_tells_of_its_stages_and_of_every_member() {
    let cluster = Cluster::start("explain-write", 3);
    cluster.wait_caught_up();
    let leader = cluster.wait_for_leader();
    for (arguments, did) in [
        (&["put", "k", "v"][..], "created"),
        (&["update", "k", "w"], "updated"),
        (&["update", "new", "w"], "created"),
        (&["remove", "k"], "removed"),
    ] {
        let explained = explain(&cluster, arguments);
        assert_eq!(explained["did"], did);
        assert_eq!(stages(&explained).0, WRITE_STAGES);
        let receipt = &explained["receipt"];
        assert_eq!(receipt["node"], leader);
        let members = receipt["members"].as_array().expect("members");
        let durable = durable(&explained);
        assert_eq!(members.len(), 3, "{explained}");
        assert!(durable.len() >= 2 && durable.is_sorted(), "in the order of their words: {explained}");
        assert_eq!(receipt["closed_by"], members[1]["node"], "the second word of three: {explained}");
        for (member, durable_us) in members.iter().zip(&durable) {
            let sync_us = member["sync_us"].as_u64().expect("a number");
            assert!(sync_us > 0 && sync_us <= *durable_us, "{explained}");
        }
        assert!(receipt["stages_us"]["quorum"].as_u64() >= Some(durable[1]), "{explained}");
    }
    // On a busy machine a disk may take longer than the answer waits.
    wait_for(LONG, "the times of all three", || {
        (durable(&explain(&cluster, &["update", "new", "w"])).len() == 3).then_some(())
    });
    let refused = cluster.cli(&["explain", "put", "new", "v"]);
    assert_eq!(refused.status.code(), Some(4), "as put itself");

    let leader = explain(&cluster, &["update", "new", "x"])["receipt"]["node"].as_u64().expect("a node");
    let other = cluster.ports.client((leader as usize + 1) % 3);
    let redirected = cluster.cli_at(&other, &["explain", "update", "new", "y", "--no-redirect"]);
    let words = String::from_utf8_lossy(&redirected.stderr);
    assert_eq!(redirected.status.code(), Some(5), "{words}");
    assert!(words.contains("302"), "as update itself: {words}");
}

#[test]
fn a_read_tells_of_its_permission_on_whichever_node() {
    let cluster = Cluster::start("explain-read", 3);
    assert!(cluster.cli(&["put", "k", "v"]).status.success());
    for node in 0..3 {
        let output = cluster.cli_at(&cluster.ports.client(node), &["-o", "json", "explain", "get", "k"]);
        let explained: Value = serde_json::from_slice(&output.stdout).expect("one object");
        assert_eq!(stages(&explained).0, READ_STAGES);
        assert_eq!(explained["receipt"]["node"], node);
    }
    assert_eq!(cluster.cli(&["explain", "get", "missing"]).status.code(), Some(3));
}

/// The answer waits for a member that is there, and not for one that is gone.
#[test]
fn a_member_that_is_gone_has_no_times() {
    let mut cluster = Cluster::start("explain-gone", 3);
    cluster.wait_caught_up();
    let leader = cluster.wait_for_leader();
    let gone = (0..3).find(|node| *node != leader).expect("a follower");
    cluster.kill(gone);
    let explained = explain(&cluster, &["put", "k", "v"]);
    let members = explained["receipt"]["members"].as_array().expect("members");
    assert_eq!((members.len(), &members[2]["node"]), (3, &Value::from(gone)), "{explained}");
    assert_eq!(members[2]["durable_us"], Value::Null);
    assert_eq!(explained["receipt"]["closed_by"], members[1]["node"]);
    let text = cluster.cli(&["explain", "update", "k", "v"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    for words in ["updated k (revision ", "closed the quorum", "no word in time", "a majority had it on disk"] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn a_cluster_of_one_closes_its_own_quorum() {
    let cluster = Cluster::start("explain-alone", 1);
    let explained = explain(&cluster, &["put", "k", "v"]);
    assert_eq!(explained["receipt"]["closed_by"], 0);
    assert_eq!(stages(&explained).0, WRITE_STAGES);
}
