//! Servers of the measurement's own: children of this process, on free loopback ports, in a directory that is emptied before.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use client::{Cause, Client, Settings};
use protocol::reply::{Status, TakenSnapshot};

use crate::child::{tied_to_this_process, Children, Signal};
use crate::random::Random;
use crate::scratch;

/// How long a cluster may take to serve.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long it may refuse to take a snapshot: ten million keys take two minutes.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(600);
/// Before it is asked again.
const SNAPSHOT_PAUSE: Duration = Duration::from_millis(100);

/// A cluster; its processes are killed when it is dropped, its files stay.
pub struct Servers {
    dir: PathBuf,
    /// Client and peer address of each node.
    addresses: Vec<(String, String)>,
    flags: Vec<String>,
    children: Children,
}

impl Servers {
    /// Starts `nodes` servers on empty directories below `dir` and waits until they serve.
    pub fn start(dir: &Path, nodes: u32, flags: &[&str]) -> io::Result<Servers> {
        let mut servers = Servers::prepare(dir, nodes, flags)?;
        (0..nodes as usize).try_for_each(|node| servers.start_node(node))?;
        servers.wait_until_served()?;
        Ok(servers)
    }

    /// Claims `dir` and finds addresses; nothing runs yet.
    pub(crate) fn prepare(dir: &Path, nodes: u32, flags: &[&str]) -> io::Result<Servers> {
        scratch::claim(dir)?;
        let free: Vec<String> = free_addresses(2 * nodes as usize)?.iter().map(SocketAddr::to_string).collect();
        let addresses = free.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Ok(Servers { dir: dir.to_owned(), addresses, flags, children: Children::default() })
    }

    /// Starts a node that does not run; the first time in the order of their numbers. Waits for nothing.
    pub(crate) fn start_node(&mut self, node: usize) -> io::Result<()> {
        let child = self.spawn(node)?;
        self.children.place(node, child);
        Ok(())
    }

    /// Kills a node and waits until it is gone.
    pub(crate) fn kill(&mut self, node: usize) -> io::Result<()> {
        self.children.kill(node)
    }

    /// Sends a node a signal.
    pub(crate) fn signal(&self, node: usize, signal: Signal) -> io::Result<()> {
        self.children.signal(node, signal)
    }

    /// The process of a node.
    pub(crate) fn pid(&self, node: usize) -> u32 {
        self.children.pids()[node]
    }

    /// Where clients connect.
    pub fn endpoints(&self) -> Vec<String> {
        self.addresses.iter().map(|(client, _)| client.clone()).collect()
    }

    /// The directory of node `node`.
    pub fn data(&self, node: usize) -> PathBuf {
        self.dir.join(format!("node-{node}"))
    }

    /// A client that waits for this cluster for a while.
    pub fn client(&self) -> io::Result<Client> {
        Client::new(Settings { timeout: PATIENCE, ..Settings::new(self.endpoints()) })
    }

    /// Kills node `node` and starts it again; tells how long it took from exec until it answered a read, linearizable if the
    /// node is alone.
    pub fn restart(&mut self, node: usize) -> io::Result<Duration> {
        self.kill(node)?;
        let start = Instant::now();
        self.start_node(node)?;
        self.wait_until_served()?;
        Ok(start.elapsed())
    }

    /// Lets the leader take a snapshot, however long that takes: a request that waits behind another snapshot passes its deadline,
    /// or is told to come again.
    pub(crate) fn take_snapshot(&self) -> io::Result<TakenSnapshot> {
        let (mut client, start) = (self.client()?, Instant::now());
        loop {
            match client.take_snapshot(None) {
                Err(error) if may_come_again(&error) && start.elapsed() < SNAPSHOT_PATIENCE => {
                    std::thread::sleep(SNAPSHOT_PAUSE);
                }
                taken => return taken.map_err(|error| io::Error::other(error.to_string())),
            }
        }
    }

    fn spawn(&self, node: usize) -> io::Result<Child> {
        let member = |(id, (client, peer)): (usize, &(String, String))| format!("{id}={client}/{peer}");
        let peers: Vec<String> = self.addresses.iter().enumerate().map(member).collect();
        let log = File::create(self.dir.join(format!("node-{node}.log")))?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["serve", "--id", &node.to_string(), "--peers", &peers.join(","), "--data"])
            .arg(self.data(node))
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        tied_to_this_process(&mut command).spawn()
    }

    /// Until a linearizable read is answered.
    fn wait_until_served(&self) -> io::Result<()> {
        let mut client = self.client()?;
        client
            .get(b"anything")
            .map(|_| ())
            .map_err(|error| io::Error::other(format!("the servers do not serve: {error}")))
    }
}

/// Whether a node is there that has not done it yet; anything else will not get better.
fn may_come_again(error: &client::Error) -> bool {
    matches!(error.status, Status::NotExecuted | Status::Unknown)
        && matches!(error.cause, Cause::Answered | Cause::Deadline)
}

/// Ports lie below those that the system gives to outgoing connections (from 32768): a client's connection could otherwise hold
/// the port of a server that is started again.
const FIRST_PORT: u16 = 12_000;
/// A node's port for people is two above its port for clients.
const PORT_STRIDE: u16 = 4;
const PORTS: u64 = 1_900;

/// Addresses of loopback where nobody listens now, nor two ports above.
pub(crate) fn free_addresses(count: usize) -> io::Result<Vec<SocketAddr>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut random = Random::new(now.as_nanos() as u64 ^ u64::from(std::process::id()));
    let mut held: Vec<[TcpListener; 2]> = Vec::new();
    for _ in 0..PORTS {
        if held.len() == count {
            break;
        }
        let port = FIRST_PORT + PORT_STRIDE * random.below(PORTS) as u16;
        let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        if let (Ok(own), Ok(above)) = (bind(port), bind(port + 2)) {
            held.push([own, above]);
        }
    }
    if held.len() < count {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "no free ports"));
    }
    held.iter().map(|[own, _]| own.local_addr()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_free_different_and_not_those_of_connections() {
        let addresses = free_addresses(40).expect("free ports");
        let ports: std::collections::BTreeSet<u16> = addresses.iter().map(SocketAddr::port).collect();
        assert!(ports.len() == 40 && ports.iter().all(|port| (12_000..20_000).contains(port)), "{ports:?}");
        let listener = TcpListener::bind(addresses[0]);
        assert!(listener.is_ok(), "{listener:?}");
    }
}
