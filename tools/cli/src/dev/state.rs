//! What is known of a local cluster between two commands: `cluster.json` in its directory, changed under a lock.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use serde_json::{json, Value};

use super::process::Process;

/// A cluster: how it was made, and the processes that were started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) nodes: u32,
    pub(super) base_port: u16,
    processes: Vec<Process>,
}

/// The state, with the lock that keeps other commands away.
#[derive(Debug)]
pub(super) struct Locked {
    dir: PathBuf,
    state: State,
    _lock: File,
}

const STATE: &str = "cluster.json";
const LOCK: &str = "cluster.lock";

impl State {
    /// The state in `dir`, without the lock. None: no cluster was made there.
    pub(super) fn read(dir: &Path) -> io::Result<Option<Self>> {
        let text = match fs::read_to_string(dir.join(STATE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        let broken = || io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged", dir.join(STATE).display()));
        parse(&text).ok_or_else(broken).map(Some)
    }

    /// The state in `dir`, under its lock.
    pub(super) fn open(dir: &Path) -> io::Result<Option<Locked>> {
        if Self::read(dir)?.is_none() {
            return Ok(None);
        }
        let lock = lock(dir)?;
        let state = Self::read(dir)?;
        Ok(state.map(|state| Locked { dir: dir.to_owned(), state, _lock: lock }))
    }

    /// The state in `dir`, made new if there is none.
    pub(super) fn open_or_make(dir: &Path, nodes: u32, base_port: u16) -> io::Result<Locked> {
        fs::create_dir_all(dir)?;
        // Processes get absolute paths: they may be looked for from elsewhere.
        let dir = dir.canonicalize()?;
        let lock = lock(&dir)?;
        let found = Self::read(&dir)?;
        // A cluster that never started (its ports were taken, say) holds nobody to its numbers.
        let has_data = |state: &Self| (0..state.nodes).any(|node| dir.join(format!("node-{node}")).exists());
        let found = found.filter(|state| !state.processes.is_empty() || has_data(state));
        let is_new = found.is_none();
        let state = found.unwrap_or(Self { nodes, base_port, processes: Vec::new() });
        let locked = Locked { dir, state, _lock: lock };
        if is_new {
            locked.write()?;
        }
        Ok(locked)
    }

    pub(super) fn client_port(&self, node: u32) -> u16 {
        self.base_port + 10 * u16::try_from(node).expect("few nodes")
    }

    pub(super) fn endpoint(&self, node: u32) -> String {
        format!("127.0.0.1:{}", self.client_port(node))
    }

    pub(super) fn endpoints(&self) -> Vec<String> {
        (0..self.nodes).map(|node| self.endpoint(node)).collect()
    }

    /// As `--peers` wants it.
    pub(super) fn peers(&self) -> String {
        let peer = |node| format!("{node}={}/127.0.0.1:{}", self.endpoint(node), self.client_port(node) + 1);
        (0..self.nodes).map(peer).collect::<Vec<_>>().join(",")
    }

    /// The process that was started last for this node and was not stopped by us, alive or not.
    pub(super) fn noted(&self, node: u32) -> Option<Process> {
        self.processes.iter().copied().find(|process| process.id == node)
    }

    /// Its process, if it is alive.
    pub(super) fn running(&self, node: u32) -> Option<Process> {
        self.noted(node).filter(Process::is_alive)
    }
}

impl Locked {
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// A node has a new process.
    pub(super) fn note(&mut self, process: Process) -> io::Result<()> {
        self.state.processes.retain(|known| known.id != process.id);
        self.state.processes.push(process);
        self.write()
    }

    /// All nodes were stopped.
    pub(super) fn forget_all(&mut self) -> io::Result<()> {
        self.state.processes.clear();
        self.write()
    }

    /// The cluster is gone.
    pub(super) fn remove(self) -> io::Result<()> {
        fs::remove_file(self.dir.join(STATE))?;
        fs::remove_file(self.dir.join(LOCK))
    }

    fn write(&self) -> io::Result<()> {
        let process =
            |process: &Process| json!({ "id": process.id, "pid": process.pid, "start_time": process.start_time });
        let processes: Vec<Value> = self.state.processes.iter().map(process).collect();
        let object = json!({ "nodes": self.state.nodes, "base_port": self.state.base_port, "processes": processes });
        let new = self.dir.join("cluster.json.new");
        let mut file = File::create(&new)?;
        writeln!(file, "{object}")?;
        fs::rename(new, self.dir.join(STATE))
    }
}

fn lock(dir: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(dir.join(LOCK))?;
    // SAFETY: flock takes a descriptor that `file` keeps open, and touches no memory.
    let result = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) };
    if result == 0 {
        Ok(file)
    } else {
        Err(io::Error::last_os_error())
    }
}

fn parse(text: &str) -> Option<State> {
    let object: Value = serde_json::from_str(text).ok()?;
    let process = |value: &Value| {
        Some(Process {
            id: u32::try_from(value["id"].as_u64()?).ok()?,
            pid: u32::try_from(value["pid"].as_u64()?).ok()?,
            start_time: value["start_time"].as_u64()?,
        })
    };
    let nodes = u32::try_from(object["nodes"].as_u64()?).ok().filter(|nodes| (1..=9).contains(nodes))?;
    let base_port = u16::try_from(object["base_port"].as_u64()?).ok().filter(|port| port.checked_add(100).is_some())?;
    let processes = object["processes"].as_array()?.iter().map(process).collect::<Option<_>>()?;
    Some(State { nodes, base_port, processes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_survives_between_commands() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(State::read(dir.path()).expect("readable"), None, "nothing was made");
        let process = Process { id: 1, pid: 77, start_time: 5 };
        let mut locked = State::open_or_make(dir.path(), 3, 7400).expect("made");
        locked.note(Process { id: 1, pid: 6, start_time: 1 }).expect("written");
        locked.note(process).expect("written");
        drop(locked);
        let locked = State::open(dir.path()).expect("readable").expect("made before");
        assert_eq!((locked.state().nodes, locked.state().base_port), (3, 7400));
        assert_eq!(locked.state().noted(1), Some(process), "the newest process counts");
        assert_eq!(locked.state().noted(0), None);
        assert_eq!(
            locked.state().peers(),
            "0=127.0.0.1:7400/127.0.0.1:7401,1=127.0.0.1:7410/127.0.0.1:7411,2=127.0.0.1:7420/127.0.0.1:7421"
        );
    }

    #[test]
    fn a_cluster_that_never_started_can_be_made_anew_with_other_numbers() {
        let dir = tempfile::tempdir().expect("a directory");
        drop(State::open_or_make(dir.path(), 3, 7400).expect("made"));
        let numbers = |nodes, port| {
            let locked = State::open_or_make(dir.path(), nodes, port).expect("made");
            (locked.state().nodes, locked.state().base_port)
        };
        assert_eq!(numbers(5, 7600), (5, 7600));
        fs::create_dir(dir.path().join("node-0")).expect("a directory");
        assert_eq!(numbers(3, 7400), (5, 7600), "there is data");
    }

    #[test]
    fn a_damaged_state_is_an_error_and_not_an_empty_cluster() {
        let dir = tempfile::tempdir().expect("a directory");
        for text in [
            "",
            "{}",
            "{\"nodes\":0,\"base_port\":7400,\"processes\":[]}",
            "{\"nodes\":3,\"base_port\":65530,\"processes\":[]}",
        ] {
            fs::write(dir.path().join(STATE), text).expect("written");
            assert!(State::read(dir.path()).is_err(), "{text}");
        }
    }
}
