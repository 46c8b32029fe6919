//! A writer in the background that remembers exactly what it was told, and a check of the nodes against it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use client::{Completion, Pipeline, Settings, Submission, Token};
use protocol::command::Command;
use protocol::reply::Effect;
use protocol::request::Request;
use serde_json::Value;

use super::Cluster;

/// What a writer was told about each of its keys.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Acknowledged: must be everywhere, for ever.
    pub acknowledged: BTreeMap<String, String>,
    /// Unknown: may be there.
    pub unknown: BTreeMap<String, String>,
    /// Refused for certain: must be nowhere.
    pub refused: BTreeMap<String, String>,
    /// When each acknowledgement came.
    pub times: Vec<Instant>,
}

/// A running writer of unique keys.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    thread: JoinHandle<Ledger>,
}

impl Load {
    /// Starts writing `PREFIX/NUMBER` with `depth` requests in flight, until it is stopped or `count` were acknowledged.
    pub fn start(cluster: &Cluster, prefix: &str, depth: usize, count: u64) -> Load {
        let endpoints = (0..cluster.size).map(|node| cluster.ports.client(node)).collect();
        let prefix = prefix.to_owned();
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&acknowledged));
        let thread = std::thread::spawn(move || write(endpoints, &prefix, depth, count, &stopped, &counter));
        Load { stop, acknowledged, thread }
    }

    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Acquire)
    }

    /// Waits until more writes were acknowledged than now, `n` more; gives the time that took.
    pub fn wait_for_more(&self, n: u64, limit: Duration) -> Duration {
        let (start, before) = (Instant::now(), self.acknowledged());
        super::wait_for(limit, "acknowledged writes", || (self.acknowledged() >= before + n).then_some(()));
        start.elapsed()
    }

    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    pub fn finish(self) -> Ledger {
        self.stop.store(true, Ordering::Release);
        self.thread.join().expect("the writer ends")
    }
}

fn write(
    endpoints: Vec<String>,
    prefix: &str,
    depth: usize,
    count: u64,
    stop: &AtomicBool,
    acknowledged: &AtomicU64,
) -> Ledger {
    let settings = Settings { timeout: Duration::from_secs(10), ..Settings::new(endpoints) };
    let mut pipeline = Pipeline::new(settings).expect("a client");
    let mut ledger = Ledger::default();
    let (mut next, mut told) = (0_u64, 0_u64);
    loop {
        let ending = stop.load(Ordering::Acquire) || next >= count;
        while !ending && pipeline.pending() < depth && next < count {
            let (key, value) = (format!("{prefix}/{next:07}"), format!("value {next}"));
            let command = Command::Put { key: key.as_bytes(), value: value.as_bytes() };
            pipeline.submit(Submission::new(Token(next), Request::Write(command)));
            next += 1;
        }
        if ending && pipeline.pending() == 0 {
            return ledger;
        }
        let mut done = |completion: Completion<'_>| {
            let number = completion.token.0;
            let (key, value) = (format!("{prefix}/{number:07}"), format!("value {number}"));
            let list = match completion.result {
                Ok(_) => {
                    told += 1;
                    ledger.times.push(Instant::now());
                    &mut ledger.acknowledged
                }
                Err(error) if error.effect == Effect::None => &mut ledger.refused,
                Err(_) => &mut ledger.unknown,
            };
            assert!(list.insert(key, value).is_none(), "told twice about {number}");
        };
        pipeline.poll(Duration::from_millis(20), &mut done).expect("the client can wait");
        acknowledged.store(told, Ordering::Release);
    }
}

/// A node's own state as `export --local` says it.
pub fn parse_export(text: &[u8]) -> BTreeMap<String, String> {
    let text = std::str::from_utf8(text).expect("the keys and values of these tests are text");
    let line = |line: &str| {
        let object: Value = serde_json::from_str(line).expect("one JSON object a line");
        let part = |name: &str| object[name].as_str().expect("text").to_owned();
        (part("key"), part("value"))
    };
    text.lines().map(line).collect()
}

impl Ledger {
    /// Every node holds every acknowledged write, no refused one, and all nodes hold the same.
    pub fn check(&self, cluster: &Cluster) {
        cluster.wait_caught_up();
        let first = cluster.local_export(0);
        let state = parse_export(&first);
        for (key, value) in &self.acknowledged {
            assert_eq!(state.get(key), Some(value), "an acknowledged write is lost: {key}");
        }
        for key in self.refused.keys() {
            assert!(!state.contains_key(key), "a write that was refused as not applied is there: {key}");
        }
        for node in 1..cluster.size {
            let other = cluster.local_export(node);
            if other != first {
                std::fs::write(cluster.dir.join("export-0"), &first).expect("a file");
                std::fs::write(cluster.dir.join(format!("export-{node}")), &other).expect("a file");
                panic!("nodes 0 and {node} differ; see export-* in {}", cluster.dir.display());
            }
        }
    }
}
