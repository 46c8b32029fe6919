//! Server processes: started, recognised, signalled.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::state::State;

/// Who a server process outlives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outlives {
    /// It goes on when its parent has ended: a cluster in the background.
    Parent,
    /// It ends with its parent, however that ends: a cluster in the foreground.
    Nobody,
}

/// A process of the cluster. The start time tells it from a later one with the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    /// The node's number.
    pub(super) id: u32,
    pub(super) pid: u32,
    /// In the kernel's clock ticks since boot.
    pub(super) start_time: u64,
}

impl Process {
    /// The process that has `pid` now.
    pub(super) fn of(id: u32, pid: u32) -> io::Result<Self> {
        let (_, start_time) = stat(pid)?;
        Ok(Self { id, pid, start_time })
    }

    /// It runs: neither gone, nor waiting to be reaped, nor replaced by another process with its pid. A process whose first
    /// thread has ended still runs while others have not: they hold its files, and with them the lock of its directory.
    pub(super) fn is_alive(&self) -> bool {
        let ended = |state| matches!(state, 'Z' | 'X') && threads(self.pid) <= 1;
        stat(self.pid).is_ok_and(|(state, start_time)| start_time == self.start_time && !ended(state))
    }

    /// Signals it, if it is still the same process.
    pub(super) fn signal(&self, signal: i32) {
        if let (true, Ok(pid)) = (self.is_alive(), i32::try_from(self.pid)) {
            // SAFETY: kill touches no memory of this process. That the pid is still ours was looked up just above; pids
            // are not given out again within that time.
            unsafe { libc::kill(pid, signal) };
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub(super) fn kill_and_wait(&self) {
        self.signal(libc::SIGKILL);
        while self.is_alive() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// State and start time of a process: fields 3 and 22 of `/proc/PID/stat`, counted behind the name in parentheses.
fn stat(pid: u32) -> io::Result<(char, u64)> {
    parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat"))?)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the kernel's stat line has another form"))
}

/// Threads that have not ended, the first one counted in any case.
fn threads(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

fn parse_stat(line: &str) -> Option<(char, u64)> {
    let mut fields = line.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

pub(super) fn log_path(dir: &Path, node: u32) -> PathBuf {
    dir.join(format!("node-{node}.log"))
}

/// The last lines of a node's log.
pub(super) fn log_tail(dir: &Path, node: u32) -> String {
    const BYTES: u64 = 2048;
    let read = || -> io::Result<String> {
        let mut file = File::open(log_path(dir, node))?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        Ok(lines[lines.len().saturating_sub(8)..].join("\n"))
    };
    read().unwrap_or_else(|error| format!("({error})"))
}

/// Starts the server of a node: this very program, with `serve`.
pub(super) fn spawn(dir: &Path, state: &State, node: u32, outlives: Outlives) -> io::Result<Child> {
    let log = OpenOptions::new().create(true).append(true).open(log_path(dir, node))?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["serve", "--id", &node.to_string(), "--peers", &state.peers(), "--data"]);
    command.arg(dir.join(format!("node-{node}")));
    // A cluster for development is described by its directory alone.
    for (name, _) in std::env::vars_os() {
        let settings = name
            .to_str()
            .is_some_and(|name| name.starts_with("RAFTKV_") && name != "RAFTKV_SABOTAGE" && name != "RAFTKV_LOG");
        if settings {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let parent = std::process::id();
    // SAFETY: between fork and exec only async-signal-safe calls are made (setsid, prctl, getppid), and nothing is
    // allocated or locked.
    unsafe {
        command.pre_exec(move || {
            // A session of its own: the terminal's Ctrl-C reaches the parent only.
            libc::setsid();
            if outlives == Outlives::Nobody {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) != 0 {
                    return Err(io::Error::last_os_error());
                }
                // The parent may have ended before that was set.
                if u32::try_from(libc::getppid()) != Ok(parent) {
                    return Err(io::Error::from_raw_os_error(libc::ESRCH));
                }
            }
            Ok(())
        });
    }
    command.spawn()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_behind_the_name() {
        let line = "42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20";
        assert_eq!(parse_stat(line), Some(('S', 777)));
        assert_eq!(parse_stat("42 (name"), None);
    }

    #[test]
    fn this_process_is_alive_and_a_pid_with_another_start_is_not() {
        let mut own = Process::of(0, std::process::id()).expect("this process");
        assert!(own.is_alive());
        own.start_time += 1;
        assert!(!own.is_alive(), "another process with the same pid");
    }

    #[test]
    fn a_child_that_ended_is_not_alive_before_it_is_reaped() {
        let mut child = Command::new("sleep").arg("1000").spawn().expect("sleep starts");
        let process = Process::of(0, child.id()).expect("the child");
        assert!(process.is_alive());
        process.kill_and_wait();
        assert!(!process.is_alive());
        child.wait().expect("reaped");
    }
}
