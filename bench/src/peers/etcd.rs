//! etcd: a cluster of its own on loopback.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::cluster::Position;
use super::{spawn, version_of, wait_until_served};
use crate::child::Children;
use crate::load::Target;
use crate::process::Watched;
use crate::servers::free_addresses;

const PACKAGE: &str = "etcd-server";

/// Its name and version.
pub(super) fn version() -> io::Result<String> {
    Ok(version_of("etcd", PACKAGE)?.replace(" Version:", ""))
}

/// Its nodes, each with its files below one directory; they are killed when this is dropped.
pub(crate) struct Nodes {
    dir: PathBuf,
    clients: Vec<SocketAddr>,
    peers: Vec<SocketAddr>,
    pub(super) children: Children,
}

/// Starts so many nodes with their files in `dir`; the leader's address comes first.
pub(super) fn start(dir: &Path, nodes: usize) -> io::Result<(Target, Nodes)> {
    let mut cluster = Nodes::prepare(dir, nodes)?;
    (0..nodes).try_for_each(|node| cluster.start_node(node))?;
    let Nodes { clients, children, .. } = &mut cluster;
    let leader = wait_until_served("etcd", dir, children, || {
        clients.iter().copied().find(|address| Position::of(*address).is_ok_and(|position| position.leads))
    })?;
    let others = clients.iter().copied().filter(|address| *address != leader);
    let addresses = std::iter::once(leader).chain(others).collect();
    Ok((Target { addresses, watched: Watched::processes(children.pids()) }, cluster))
}

/// With the address of the node that leads now in front: the others take writes too, but send them on to it.
pub(super) fn leader_first(target: &Target) -> Target {
    let mut target = target.clone();
    let leads = |address: &SocketAddr| Position::of(*address).is_ok_and(|position| position.leads);
    if let Some(leader) = target.addresses.iter().position(leads) {
        target.addresses.swap(0, leader);
    }
    target
}

impl Nodes {
    /// Finds addresses; nothing runs yet.
    pub(super) fn prepare(dir: &Path, nodes: usize) -> io::Result<Nodes> {
        let (dir, children) = (dir.to_owned(), Children::default());
        Ok(Nodes { dir, clients: free_addresses(nodes)?, peers: free_addresses(nodes)?, children })
    }

    /// Where clients connect.
    pub(super) fn clients(&self) -> &[SocketAddr] {
        &self.clients
    }

    /// Starts a node that does not run; the first time in the order of their numbers. Waits for nothing.
    pub(super) fn start_node(&mut self, number: usize) -> io::Result<()> {
        let member = |(number, peer): (usize, &SocketAddr)| format!("n{number}=http://{peer}");
        let cluster = self.peers.iter().enumerate().map(member).collect::<Vec<_>>().join(",");
        let child = node(&self.dir, number, self.clients[number], self.peers[number], &cluster)?;
        self.children.place(number, child);
        Ok(())
    }
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

impl Position {
    /// What this node says of itself, through etcd's JSON gateway.
    pub(super) fn of(address: SocketAddr) -> io::Result<Position> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let head = format!("POST /v3/maintenance/status HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
        let body = "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
        stream.write_all(format!("{head}{body}").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(position_in(&answer))
    }
}

/// In an answer with its head: it leads if member and leader are the same.
fn position_in(answer: &str) -> Position {
    let object = answer.find('{').zip(answer.rfind('}')).and_then(|(start, end)| answer.get(start..=end));
    let status: Value = object.and_then(|object| serde_json::from_str(object).ok()).unwrap_or_default();
    let leader = status["leader"].as_str();
    let leads = leader.is_some_and(|leader| leader != "0") && leader == status["header"]["member_id"].as_str();
    let applied = status["raftAppliedIndex"].as_str().and_then(|index| index.parse().ok());
    Position { leads, applied: applied.unwrap_or(0) }
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
            let header = format!("HTTP/1.1 200 OK\r\n\r\n{{\"header\":{{\"member_id\":\"{member}\"}}");
            format!("{header},\"leader\":\"{leader}\",\"raftAppliedIndex\":\"5\"}}\n")
        };
        let position = |answer: &str| (position_in(answer).leads, position_in(answer).applied);
        assert_eq!(position(&answer("7", "7")), (true, 5));
        assert_eq!((position(&answer("7", "8")), position(&answer("0", "0"))), ((false, 5), (false, 5)));
        assert_eq!(position("{"), (false, 0));
    }

    /// What our client writes, etcd's own client reads.
    #[test]
    fn etcdctl_reads_what_the_driver_has_written() {
        for program in ["etcd", "etcdctl"] {
            if version_of(program, PACKAGE).is_err() {
                eprintln!("SKIPPED etcdctl_reads_what_the_driver_has_written: {program} is not installed");
                return;
            }
        }
        let dir = std::env::temp_dir().join(format!("raftkv-bench-etcd-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let (target, nodes) = start(&dir, 1).expect("etcd starts");
        let version = version().expect("it says so");
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
        let nobody = free_addresses(1).expect("a port")[0];
        let wrong_first = Target { addresses: vec![nobody, target.addresses[0]], ..target.clone() };
        assert_eq!(leader_first(&wrong_first).addresses, [target.addresses[0], nobody]);
        let found = measure_once::<dialect::Etcd>(&load, &target, timeout).expect("it can be read").measured;
        assert!(found.completed() > 100 && found.failures() == 0 && found.missing() == 0, "{found:?}");
        let more = Load { keys: 600, ..load };
        let partly = measure_once::<dialect::Etcd>(&more, &target, timeout).expect("it can be read").measured;
        assert!(partly.missing() > 10 && partly.missing() < partly.completed(), "{partly:?}");
        drop(nodes);
        std::fs::remove_dir_all(&dir).expect("it is ours");
    }
}
