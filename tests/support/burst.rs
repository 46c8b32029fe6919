//! A server that logs as much as it is told to, in a process of its own: whoever includes this is started again with
//! [`ROLE`] set, and calls [`serve`] then.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use client::{Client, Settings};
use log::info;
use raftkv::config::{self, ServeArgs};

use crate::support::{wait_for, Ports};

/// The variable that says which part a process plays.
pub const ROLE: &str = "LOGGING_ROLE";
/// Lines of one burst.
pub const LINES: u64 = 1_000_000;

#[derive(Parser)]
struct Serve {
    #[command(flatten)]
    args: ServeArgs,
}

/// This binary as another process.
pub fn again(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.env(ROLE, role).stderr(Stdio::null()).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// A server, with a thread that logs, or two that only compute, for as many milliseconds as it is told to. 0 ms of logging
/// are one burst.
pub fn serve() {
    std::thread::spawn(|| {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let (what, time) = line.split_once(' ').expect("what, and for how long");
            let (start, time) = (Instant::now(), Duration::from_millis(time.parse().expect("milliseconds")));
            let lines = if what == "log" { log_for(start, time) } else { compute_for(start, time) };
            println!("{} {lines}", start.elapsed().as_micros());
        }
    });
    let args = Serve::parse().args;
    let reload = Box::new(|| Err("nobody reloads this".to_owned()));
    let hooks = raftkv::server::Hooks { status_as_json: cli::status_as_json, reload };
    raftkv::server::serve(config::load(args).expect("a configuration"), hooks).expect("it starts");
}

fn log_for(start: Instant, time: Duration) -> u64 {
    let mut lines = 0;
    while lines == 0 || start.elapsed() < time {
        (0..LINES).for_each(|n| info!("line {n} of a burst: node {} and term {}", n % 7, n / 3));
        lines += LINES;
    }
    lines
}

/// As many busy threads as logging has: the one that logs, and the one that writes.
fn compute_for(start: Instant, time: Duration) -> u64 {
    let compute = move || while start.elapsed() < time {};
    let other = std::thread::spawn(compute);
    compute();
    other.join().expect("it ends");
    0
}

/// Its process, and what it answered.
pub struct Server {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    client: Client,
    address: String,
    puts: u64,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// A cluster of one, that logs into a file in `log`.
    pub fn start(directory: &Path, log: &Path, ports: &Ports) -> Server {
        let peers = format!("0={}/{}", ports.client(0), ports.peer(0));
        let sink = format!("file={},rotate=64MiB", log.join("log").display());
        let mut child = again("serve")
            .args(["--id", "0", "--peers", &peers, "--log-sinks", &sink, "--data"])
            .arg(directory.join("data"))
            .spawn()
            .expect("it starts");
        let (orders, answers) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let address = ports.client(0);
        let client = Client::new(Settings { timeout: Duration::from_secs(10), ..Settings::new(vec![address.clone()]) });
        let client = client.expect("a client");
        let mut server = Server { child, orders, answers: BufReader::new(answers), client, address, puts: 0 };
        wait_for(Duration::from_secs(20), "a leader", || server.client.update(b"first", b"").ok());
        server
    }

    /// Begins work: `log` or `compute`, for so long.
    pub fn order(&mut self, what: &str, time: Duration) {
        writeln!(self.orders, "{what} {}", time.as_millis()).expect("it listens");
    }

    /// Waits for the ordered work: how long it took, and how many lines were logged.
    pub fn answer(&mut self) -> (Duration, u64) {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("it answers");
        let (micros, lines) = line.trim().split_once(' ').expect("two numbers");
        (Duration::from_micros(micros.parse().expect("a number")), lines.parse().expect("a number"))
    }

    /// One of the counters in its status.
    pub fn counter(&mut self, name: &str) -> u64 {
        let status = self.client.status_of(&self.address).expect("a status");
        status.counters.iter().find(|(counter, _)| counter == name).expect("a counter").1
    }

    /// Puts one key after the other for as long as `more` says so, given how many there were; how long each took, sorted.
    pub fn puts(&mut self, mut more: impl FnMut(usize) -> bool) -> Vec<Duration> {
        let mut times = Vec::new();
        while more(times.len()) {
            self.puts += 1;
            let (key, start) = (format!("key {}", self.puts), Instant::now());
            self.client.put(key.as_bytes(), b"value").expect("every put succeeds");
            times.push(start.elapsed());
        }
        times.sort();
        times
    }
}
