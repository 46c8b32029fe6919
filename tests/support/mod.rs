//! Real processes: a cluster of `raftkv serve` children on loopback, each test with its own ports and directory.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod load;

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The binary under test.
pub fn raftkv() -> &'static str {
    env!("CARGO_BIN_EXE_raftkv")
}

/// Ten ports for each of up to nine nodes, below the range that the system hands out to outgoing connections. The lock
/// on the slot's file keeps two tests, also of different processes, from sharing one.
#[derive(Debug)]
pub struct Ports {
    pub base: u16,
    _lock: File,
}

impl Ports {
    pub fn take() -> Ports {
        for slot in 0..120 {
            let path = std::env::temp_dir().join(format!("raftkv-test-ports-{slot}"));
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).expect("a lock file");
            // SAFETY: flock takes an open descriptor and touches no memory; `file` outlives the call.
            let taken = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0;
            let base = 20_000 + slot * 100;
            let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
            if taken && (0..9).all(|node| (0..3).all(|kind| free(base + node * 10 + kind))) {
                return Ports { base, _lock: file };
            }
        }
        panic!("no free range of ports");
    }

    pub fn client(&self, node: usize) -> String {
        format!("127.0.0.1:{}", self.base + 10 * u16::try_from(node).expect("a small cluster"))
    }

    pub fn peer(&self, node: usize) -> String {
        format!("127.0.0.1:{}", self.base + 10 * u16::try_from(node).expect("a small cluster") + 1)
    }

    pub fn admin(&self, node: usize) -> String {
        format!("127.0.0.1:{}", self.base + 10 * u16::try_from(node).expect("a small cluster") + 2)
    }
}

/// What surrounds a server process.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Environment variables for every node.
    pub env: Vec<(String, String)>,
    /// Extra flags for every node.
    pub flags: Vec<String>,
}

/// A cluster of children; all are killed and the directory is removed when it is dropped (kept after a failure).
#[derive(Debug)]
pub struct Cluster {
    pub size: usize,
    pub dir: PathBuf,
    pub ports: Ports,
    setup: Setup,
    children: Vec<Option<Child>>,
}

impl Cluster {
    /// Directory and ports, no process yet.
    pub fn prepare(name: &str, size: usize, setup: Setup) -> Cluster {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("a directory for the cluster");
        Cluster { size, dir, ports: Ports::take(), setup, children: (0..size).map(|_| None).collect() }
    }

    /// A running cluster with a leader.
    pub fn start(name: &str, size: usize) -> Cluster {
        let mut cluster = Cluster::prepare(name, size, Setup::default());
        cluster.start_all();
        cluster.wait_for_leader();
        cluster
    }

    /// Flags of every node from its next start on.
    pub fn set_flags(&mut self, flags: &[&str]) {
        self.setup.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    }

    pub fn start_all(&mut self) {
        for node in 0..self.size {
            if self.children[node].is_none() {
                self.start_node(node);
            }
        }
    }

    pub fn data(&self, node: usize) -> PathBuf {
        self.dir.join(format!("node-{node}"))
    }

    pub fn peers(&self) -> String {
        let list: Vec<_> = (0..self.size)
            .map(|node| format!("{node}={}/{}", self.ports.client(node), self.ports.peer(node)))
            .collect();
        list.join(",")
    }

    pub fn endpoints(&self) -> String {
        (0..self.size).map(|node| self.ports.client(node)).collect::<Vec<_>>().join(",")
    }

    /// The command of node `node`, not started.
    pub fn command(&self, node: usize) -> Command {
        let mut command = Command::new(raftkv());
        command.args(["serve", "--id", &node.to_string(), "--peers", &self.peers(), "--data"]).arg(self.data(node));
        command.args(&self.setup.flags).stdin(Stdio::null());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("RAFTKV_")) {
            command.env_remove(name);
        }
        command.envs(self.setup.env.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        command
    }

    pub fn start_node(&mut self, node: usize) {
        assert!(self.children[node].is_none(), "node {node} runs already");
        let log = |suffix: &str| {
            let path = self.dir.join(format!("node-{node}.{suffix}"));
            OpenOptions::new().create(true).append(true).open(path).expect("a log file")
        };
        let mut command = self.command(node);
        command.stdout(log("out")).stderr(log("err"));
        self.children[node] = Some(command.spawn().expect("the server starts"));
    }

    pub fn pid(&self, node: usize) -> u32 {
        self.children[node].as_ref().expect("the node runs").id()
    }

    pub fn is_running(&mut self, node: usize) -> bool {
        match &mut self.children[node] {
            Some(child) => child.try_wait().expect("a child can be asked").is_none(),
            None => false,
        }
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(&mut self, node: usize) {
        if let Some(mut child) = self.children[node].take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn signal(&self, node: usize, signal: i32) {
        let pid = i32::try_from(self.pid(node)).expect("pids fit");
        // SAFETY: kill takes a pid of a child that we still hold, so it cannot have been reused, and touches no memory.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "the node can be signalled");
    }

    /// Waits for the process to end by itself and gives its exit code.
    pub fn wait_exit(&mut self, node: usize, limit: Duration) -> Option<i32> {
        let mut child = self.children[node].take().expect("the node runs");
        let status = wait_for(limit, "the server ends", || child.try_wait().expect("a child can be asked"));
        status.code()
    }

    /// Runs the client and gives what it said.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        self.cli_at(&self.endpoints(), arguments)
    }

    pub fn cli_at(&self, endpoints: &str, arguments: &[&str]) -> Output {
        Command::new(raftkv())
            .args(["--endpoints", endpoints])
            .args(arguments)
            .stdin(Stdio::null())
            .env_remove("RAFTKV_ENDPOINTS")
            .output()
            .expect("the client runs")
    }

    /// `status -o json`, one object a node.
    pub fn status(&self) -> Vec<Value> {
        let output = self.cli(&["status", "-o", "json", "--timeout", "1s"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        serde_json::from_str::<Value>(&text)
            .ok()
            .and_then(|status| status["nodes"].as_array().cloned())
            .unwrap_or_default()
    }

    pub fn leader(&self) -> Option<usize> {
        let leads = |node: &&Value| node["role"] == "leader";
        let status = self.status();
        let newest = status.iter().filter(leads).max_by_key(|node| node["term"].as_u64());
        newest.and_then(|node| usize::try_from(node["id"].as_u64()?).ok())
    }

    pub fn wait_for_leader(&self) -> usize {
        wait_for(Duration::from_secs(20), "a leader", || self.leader())
    }

    /// Waits until every running node has applied what the leader has committed by now.
    pub fn wait_caught_up(&self) {
        wait_for(Duration::from_secs(60), "all nodes catch up", || {
            let status = self.status();
            let commit = status
                .iter()
                .filter(|node| node["role"] == "leader")
                .map(|node| node["commit_index"].as_u64())
                .max()??;
            let all =
                status.len() == self.size && status.iter().all(|node| node["applied_index"].as_u64() >= Some(commit));
            all.then_some(())
        });
    }

    /// Each node's own state, as `export --local` prints it.
    pub fn local_export(&self, node: usize) -> Vec<u8> {
        let output = self.cli_at(&self.ports.client(node), &["export", "--local"]);
        assert!(output.status.success(), "export of node {node}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in 0..self.size {
            self.kill(node);
        }
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "the cluster's directory is kept: {}", self.dir.display());
        } else {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// Asks `ready` until it has an answer; panics at the deadline. Between two looks it waits for a moment, not for an event.
pub fn wait_for<T>(limit: Duration, what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = ready() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} for: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Whether anything listens there.
pub fn listens(address: &str) -> bool {
    TcpStream::connect(address).is_ok()
}
