//! Servers of the measurement's own: children of this process, on free loopback ports, in a directory that is emptied before.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use client::{Client, Settings};

use crate::child::{tied_to_this_process, Children};

/// How long a cluster may take to serve.
const PATIENCE: Duration = Duration::from_secs(120);

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
        match std::fs::remove_dir_all(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => std::fs::create_dir_all(dir)?,
        }
        let free: Vec<String> = free_addresses(2 * nodes as usize)?.iter().map(SocketAddr::to_string).collect();
        let addresses = free.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let mut servers = Servers { dir: dir.to_owned(), addresses, flags, children: Children::default() };
        for node in 0..nodes as usize {
            let child = servers.spawn(node)?;
            servers.children.push(child);
        }
        servers.wait_until_served()?;
        Ok(servers)
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
        self.children.kill(node)?;
        let start = Instant::now();
        let child = self.spawn(node)?;
        self.children.replace(node, child);
        self.wait_until_served()?;
        Ok(start.elapsed())
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

/// Addresses of loopback where nobody listens now.
pub(crate) fn free_addresses(count: usize) -> io::Result<Vec<SocketAddr>> {
    let held: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<io::Result<_>>()?;
    held.iter().map(TcpListener::local_addr).collect()
}
