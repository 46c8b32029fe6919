//! Three nodes of a peer that can be killed, stopped and started one by one.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use client::{Client, Settings};
use protocol::reply::Role;

use super::{etcd, Peer};
use crate::child::Signal;
use crate::dialect;
use crate::driver::{drive, Share};
use crate::load::{fill, resolve, Load, Target};
use crate::measured::Measured;
use crate::probe::first_write;
use crate::process::Watched;
use crate::scratch;
use crate::servers::Servers;
use crate::workload::Generator;

/// Nodes of a cluster.
pub(crate) const NODES: usize = 3;
/// How long nodes may take to be level, and to take a write.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at how far they are.
const LOOK: Duration = Duration::from_millis(20);

/// A cluster; its processes are killed when it is dropped, its files stay.
pub(crate) enum Cluster {
    Raftkv(Servers),
    Etcd(etcd::Nodes),
}

/// What a node says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) leads: bool,
    /// Index of the last entry that it has applied.
    pub(super) applied: u64,
}

/// The driver, in one peer's dialect.
pub(crate) type Drive = fn(&Share, Generator, &AtomicU64) -> io::Result<Measured>;

impl Cluster {
    /// Finds addresses and empties the directory; nothing runs yet.
    pub(crate) fn prepare(peer: Peer, dir: &Path) -> io::Result<Cluster> {
        let dir = dir.join(peer.name());
        scratch::claim(&dir)?;
        match peer {
            Peer::Raftkv => Servers::prepare(&dir, NODES as u32, &[]).map(Cluster::Raftkv),
            Peer::Etcd => etcd::Nodes::prepare(&dir, NODES).map(Cluster::Etcd),
            Peer::Skeleton | Peer::Redis => {
                let text = format!("{} elects no leader", peer.name());
                Err(io::Error::new(io::ErrorKind::Unsupported, text))
            }
        }
    }

    /// Starts all nodes; waits for nothing.
    pub(crate) fn start(&mut self) -> io::Result<()> {
        (0..NODES).try_for_each(|node| self.start_node(node))
    }

    /// Starts a node that does not run; waits for nothing.
    pub(crate) fn start_node(&mut self, node: usize) -> io::Result<()> {
        match self {
            Cluster::Raftkv(servers) => servers.start_node(node),
            Cluster::Etcd(nodes) => nodes.start_node(node),
        }
    }

    /// Kills a node and waits until it is gone.
    pub(crate) fn kill(&mut self, node: usize) -> io::Result<()> {
        match self {
            Cluster::Raftkv(servers) => servers.kill(node),
            Cluster::Etcd(nodes) => nodes.children.kill(node),
        }
    }

    /// Sends a node a signal; waits for nothing.
    pub(crate) fn signal(&self, node: usize, signal: Signal) -> io::Result<()> {
        match self {
            Cluster::Raftkv(servers) => servers.signal(node, signal),
            Cluster::Etcd(nodes) => nodes.children.signal(node, signal),
        }
    }

    /// Where clients connect, by node.
    pub(crate) fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        match self {
            Cluster::Raftkv(servers) => servers.endpoints().iter().map(|endpoint| resolve(endpoint)).collect(),
            Cluster::Etcd(nodes) => Ok(nodes.clients().to_vec()),
        }
    }

    /// Time from `since` to the first acknowledged write of those that are sent from now on.
    pub(crate) fn first_write(&self, since: Instant) -> io::Result<Duration> {
        match self {
            Cluster::Raftkv(_) => first_write::<dialect::Raftkv>(&self.addresses()?, since, PATIENCE),
            Cluster::Etcd(_) => first_write::<dialect::Etcd>(&self.addresses()?, since, PATIENCE),
        }
    }

    /// Writes every key of the load's set once.
    pub(crate) fn fill(&self, load: &Load, timeout: Duration) -> io::Result<()> {
        let leader = self.level_leader()?;
        let mut addresses = self.addresses()?;
        addresses.swap(0, leader);
        let target = Target { addresses, watched: Watched::default() };
        match self {
            Cluster::Raftkv(_) => fill::<dialect::Raftkv>(load, &target, timeout),
            Cluster::Etcd(_) => fill::<dialect::Etcd>(load, &target, timeout),
        }
    }

    /// What drives a load on it.
    pub(crate) fn drive(&self) -> Drive {
        match self {
            Cluster::Raftkv(_) => drive::<dialect::Raftkv>,
            Cluster::Etcd(_) => drive::<dialect::Etcd>,
        }
    }

    /// Waits until every node has applied what any of them had, and tells which one leads.
    pub(crate) fn level_leader(&self) -> io::Result<usize> {
        let (deadline, mut newest) = (Instant::now() + PATIENCE, u64::MAX);
        while Instant::now() < deadline {
            let positions: Vec<Position> = (0..NODES).filter_map(|node| self.position(node).ok()).collect();
            let is_level = positions.len() == NODES && positions.iter().all(|position| position.applied >= newest);
            let mut leaders = (0..positions.len()).filter(|node| positions[*node].leads);
            if let (true, Some(leader), None) = (is_level, leaders.next(), leaders.next()) {
                return Ok(leader);
            }
            newest = positions.iter().map(|position| position.applied).max().unwrap_or(u64::MAX);
            std::thread::sleep(LOOK);
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "the nodes are not level, or none leads"))
    }

    fn position(&self, node: usize) -> io::Result<Position> {
        let servers = match self {
            Cluster::Etcd(nodes) => return Position::of(nodes.clients()[node]),
            Cluster::Raftkv(servers) => servers,
        };
        let endpoint = servers.endpoints()[node].clone();
        let mut client =
            Client::new(Settings { timeout: Duration::from_secs(1), ..Settings::new(vec![endpoint.clone()]) })?;
        let status = client.status_of(&endpoint).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Position { leads: status.role == Role::Leader, applied: status.applied_index.0 })
    }
}
