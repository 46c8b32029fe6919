//! etcd: a cluster of its own on loopback.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::{spawn, version, wait_until_served};
use crate::child::Children;
use crate::load::Target;
use crate::process::Watched;
use crate::servers::free_addresses;

const PACKAGE: &str = "etcd-server";

/// Starts so many nodes with their files in `dir`; the leader's address comes first.
pub(super) fn start(dir: &Path, nodes: usize) -> io::Result<(String, Target, Children)> {
    let version = version("etcd", PACKAGE)?.replace(" Version:", "");
    let (clients, peers) = (free_addresses(nodes)?, free_addresses(nodes)?);
    let member = |(number, peer): (usize, &SocketAddr)| format!("n{number}=http://{peer}");
    let cluster = peers.iter().enumerate().map(member).collect::<Vec<_>>().join(",");
    let mut children = Children::default();
    for number in 0..nodes {
        children.push(node(dir, number, clients[number], peers[number], &cluster)?);
    }
    let leader = wait_until_served("etcd", dir, &mut children, || {
        clients.iter().copied().find(|address| leads(*address).unwrap_or(false))
    })?;
    let others = clients.iter().copied().filter(|address| *address != leader);
    let addresses = std::iter::once(leader).chain(others).collect();
    Ok((version, Target { addresses, watched: Watched::processes(children.pids()) }, children))
}

fn node(dir: &Path, number: usize, client: SocketAddr, peer: SocketAddr, cluster: &str) -> io::Result<Child> {
    let (client, peer) = (format!("http://{client}"), format!("http://{peer}"));
    let mut command = Command::new("etcd");
    command.args(["--name", &format!("n{number}"), "--data-dir"]).arg(dir.join(format!("n{number}")));
    command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
    command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    command.args(["--initial-cluster", cluster, "--initial-cluster-state", "new"]);
    command.args(["--snapshot-count", "100000", "--log-level", "error", "--quota-backend-bytes", "8589934592"]);
    let said = File::create(dir.join(format!("n{number}.said")))?;
    command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
    spawn(&mut command, PACKAGE)
}

/// Whether this node says of itself that it leads, through etcd's JSON gateway.
fn leads(address: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let head = format!("POST /v3/maintenance/status HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    stream.write_all(format!("{head}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(names_itself(&answer))
}

/// In an answer with its head: member and leader are the same.
fn names_itself(answer: &str) -> bool {
    let object = answer.find('{').zip(answer.rfind('}')).and_then(|(start, end)| answer.get(start..=end));
    let status: Value = object.and_then(|object| serde_json::from_str(object).ok()).unwrap_or_default();
    let leader = status["leader"].as_str();
    leader.is_some_and(|leader| leader != "0") && leader == status["header"]["member_id"].as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect;
    use crate::load::{fill, measure_once, Load};
    use crate::workload::{put_key, Kind, Mix};

    #[test]
    fn a_leader_is_known_by_its_own_words() {
        let answer = |member: &str, leader: &str| {
            format!("HTTP/1.1 200 OK\r\n\r\n{{\"header\":{{\"member_id\":\"{member}\"}},\"leader\":\"{leader}\"}}\n")
        };
        assert!(names_itself(&answer("7", "7")));
        assert!(!names_itself(&answer("7", "8")) && !names_itself(&answer("0", "0")) && !names_itself("{"));
    }

    /// What our client writes, etcd's own client reads.
    #[test]
    fn etcdctl_reads_what_the_driver_has_written() {
        for program in ["etcd", "etcdctl"] {
            if version(program, PACKAGE).is_err() {
                eprintln!("SKIPPED etcdctl_reads_what_the_driver_has_written: {program} is not installed");
                return;
            }
        }
        let dir = std::env::temp_dir().join(format!("raftkv-bench-etcd-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let (version, target, children) = start(&dir, 1).expect("etcd starts");
        assert!(version.starts_with("etcd 3."), "{version}");
        let load = Load {
            keys: 300,
            connections: 2,
            depth: 8,
            duration: Duration::from_millis(500),
            warm_up: Duration::ZERO,
            ..Load::of("get", Mix::only(Kind::Read))
        };
        let timeout = Duration::from_secs(10);
        fill::<dialect::Etcd>(&load, &target, timeout).expect("all keys are written");
        let mut key = Vec::new();
        put_key(&mut key, 299, load.key_bytes);
        let mut etcdctl = Command::new("etcdctl");
        etcdctl.env("ETCDCTL_API", "3").args([
            "--endpoints",
            &target.addresses[0].to_string(),
            "get",
            "--print-value-only",
        ]);
        let said = etcdctl.arg(String::from_utf8_lossy(&key).into_owned()).output().expect("etcdctl runs");
        let value = String::from_utf8_lossy(&said.stdout);
        assert!(value.trim_end().len() == 256 && value.starts_with("abcdef"), "{value}");
        let found = measure_once::<dialect::Etcd>(&load, &target, timeout).expect("it can be read").measured;
        assert!(found.completed() > 100 && found.failures() == 0 && found.missing() == 0, "{found:?}");
        let more = Load { keys: 600, ..load };
        let partly = measure_once::<dialect::Etcd>(&more, &target, timeout).expect("it can be read").measured;
        assert!(partly.missing() > 10 && partly.missing() < partly.completed(), "{partly:?}");
        drop(children);
        std::fs::remove_dir_all(&dir).expect("it is ours");
    }
}
