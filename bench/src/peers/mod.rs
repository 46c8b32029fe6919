//! Stores to be compared with, as children of this process: the same generator, the same workload, the same disk.

pub(crate) mod cluster;
mod etcd;
mod redis;

use std::io;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::child::{tied_to_this_process, Children};
use crate::dialect::{self, Dialect};
use crate::load::{fill, leader_first, measure_once, Load, Target};
use crate::report::Run;
use crate::servers::Servers;
use crate::skeleton::{Skeleton, Sync};
use crate::workload::Kind;

/// Who can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// This store, three nodes
    Raftkv,
    /// The speed of light: three processes that only move and sync bytes
    Skeleton,
    /// etcd, three nodes
    Etcd,
    /// Redis, one node, every write synced
    Redis,
}

/// A peer that runs; its processes are killed when it is dropped.
pub(crate) struct Running {
    pub(crate) peer: Peer,
    /// What it is, with its version.
    pub(crate) version: String,
    pub(crate) target: Target,
    _processes: Processes,
}

#[allow(dead_code, reason = "kept for their drop alone")]
enum Processes {
    Own(Servers),
    Skeleton(Skeleton),
    Etcd(etcd::Nodes),
    Redis(Children),
}

/// How long a peer may take to serve.
const PATIENCE: Duration = Duration::from_secs(60);

impl Peer {
    /// As typed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Peer::Raftkv => "raftkv",
            Peer::Skeleton => "skeleton",
            Peer::Etcd => "etcd",
            Peer::Redis => "redis",
        }
    }

    /// Whether it can be asked for all that a load asks for; sizes too.
    pub(crate) fn takes(self, load: &Load) -> bool {
        fn takes<D: Dialect>(load: &Load) -> bool {
            load.value_bytes.max <= D::VALUE_BYTES_MAX
                && Kind::ALL.into_iter().all(|kind| !load.mix.asks(kind) || D::knows(kind))
        }
        match self {
            Peer::Raftkv => takes::<dialect::Raftkv>(load),
            Peer::Skeleton => takes::<dialect::Skeleton>(load),
            Peer::Etcd => takes::<dialect::Etcd>(load),
            Peer::Redis => takes::<dialect::Redis>(load),
        }
    }

    /// What it is, with its version; fails if it is not installed.
    pub(crate) fn version(self) -> io::Result<String> {
        Ok(match self {
            Peer::Raftkv => format!("raftkv {}, three nodes", env!("CARGO_PKG_VERSION")),
            Peer::Skeleton => "skeleton, three processes".to_owned(),
            Peer::Etcd => format!("{}, three nodes", etcd::version()?),
            Peer::Redis => format!("{}, one node, appendfsync always", redis::version()?),
        })
    }

    /// Starts it on an empty directory and waits until it serves.
    pub(crate) fn start(self, dir: &Path) -> io::Result<Running> {
        let dir = dir.join(self.name());
        std::fs::create_dir_all(&dir)?;
        let version = self.version()?;
        let (target, processes) = match self {
            Peer::Raftkv => {
                let servers = Servers::start(&dir, 3, &[])?;
                (leader_first(&servers.endpoints(), PATIENCE)?, Processes::Own(servers))
            }
            Peer::Skeleton => {
                let skeleton = Skeleton::start(&dir, Sync::Fdatasync)?;
                (skeleton.target.clone(), Processes::Skeleton(skeleton))
            }
            Peer::Etcd => {
                let (target, nodes) = etcd::start(&dir, 3)?;
                (target, Processes::Etcd(nodes))
            }
            Peer::Redis => {
                let (target, children) = redis::start(&dir)?;
                (target, Processes::Redis(children))
            }
        };
        Ok(Running { peer: self, version, target, _processes: processes })
    }
}

impl Running {
    /// Writes every key of the set once.
    pub(crate) fn fill(&self, load: &Load, timeout: Duration) -> io::Result<()> {
        match self.peer {
            Peer::Raftkv => fill::<dialect::Raftkv>(load, &self.target, timeout),
            Peer::Skeleton => Ok(()),
            Peer::Etcd => fill::<dialect::Etcd>(load, &self.target, timeout),
            Peer::Redis => fill::<dialect::Redis>(load, &self.target, timeout),
        }
    }

    /// One run.
    pub(crate) fn measure(&self, load: &Load, timeout: Duration) -> io::Result<Run> {
        match self.peer {
            // Its driver follows redirects.
            Peer::Raftkv => measure_once::<dialect::Raftkv>(load, &self.target, timeout),
            Peer::Skeleton => measure_once::<dialect::Skeleton>(load, &self.target, timeout),
            Peer::Etcd => measure_once::<dialect::Etcd>(load, &etcd::leader_first(&self.target), timeout),
            Peer::Redis => measure_once::<dialect::Redis>(load, &self.target, timeout),
        }
    }
}

/// Starts a program of a package; says which package if it is not there.
fn spawn(command: &mut Command, package: &str) -> io::Result<Child> {
    tied_to_this_process(command).spawn().map_err(|error| not_there(error, command, package))
}

/// The first line of what a program says of its version.
fn version_of(program: &str, package: &str) -> io::Result<String> {
    let mut command = Command::new(program);
    let said = command.arg("--version").output().map_err(|error| not_there(error, &command, package))?;
    Ok(String::from_utf8_lossy(&said.stdout).lines().next().unwrap_or_default().trim().to_owned())
}

fn not_there(error: io::Error, command: &Command, package: &str) -> io::Error {
    let program = command.get_program().to_string_lossy().into_owned();
    if error.kind() != io::ErrorKind::NotFound {
        return io::Error::new(error.kind(), format!("{program} cannot be started: {error}"));
    }
    let how = format!("`RUNLEVEL=1 apt-get install {package}` brings it without starting a service");
    io::Error::new(io::ErrorKind::NotFound, format!("{program} is not installed; {how}, or leave it out of --against"))
}

/// Asks until there is an answer. Fails when a process has ended, or at the deadline.
fn wait_until_served<T>(
    what: &str,
    dir: &Path,
    children: &mut Children,
    mut ask: impl FnMut() -> Option<T>,
) -> io::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if children.ended().is_some() || Instant::now() >= deadline {
            return Err(io::Error::other(format!("{what} does not serve; its words are in {}", dir.display())));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
