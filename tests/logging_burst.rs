//! A burst of a million lines beside puts, and what a process that dies has written. Its own `main`: it starts itself
//! again as the process that logs.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "real processes take real time")]

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use client::{Client, Settings};
use log::info;
use raftkv::config::{self, ServeArgs};
use raftkv::logging::{self, Options, Sink};
use support::{wait_for, Ports};

const LINES: u64 = 1_000_000;
const PAIRS: usize = 3;
/// Logged by a process right before it dies; fewer than the queue holds.
const LAST_LINES: u64 = 5_000;

#[derive(Parser)]
struct Serve {
    #[command(flatten)]
    args: ServeArgs,
}

fn main() {
    match std::env::var("LOGGING_TEST").ok().as_deref() {
        Some("serve") => serve(),
        Some(end) => log_and_die(end),
        None => {
            for end in ["panic", "abort", "segv", "exit"] {
                what_was_logged_before_the_end_is_written(end);
            }
            a_burst_delays_no_put();
        }
    }
}

/// This binary as another process.
fn again(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.env("LOGGING_TEST", role).stderr(Stdio::null()).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

// --- ends ---

fn log_and_die(end: &str) {
    let path = std::env::var_os("LOGGING_FILE").expect("a file");
    let options = Options { sinks: vec![Sink::file(path.into())], ..Options::default() };
    logging::start(options).expect("it starts");
    logging::exit_on_panic();
    logging::exit_on_fatal_signals();
    for n in 1..=LAST_LINES {
        info!("last words, number {n}");
    }
    match end {
        "panic" => panic!("on purpose"),
        "abort" => std::process::abort(),
        // SAFETY: raise takes a signal's number and touches no memory.
        "segv" => drop(unsafe { libc::raise(libc::SIGSEGV) }),
        _ => logging::end_process(9),
    }
}

fn what_was_logged_before_the_end_is_written(end: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("log");
    let mut child = again(end).env("LOGGING_FILE", &file).spawn().expect("it starts");
    let status = child.wait().expect("it ends");
    let (code, signal) = match end {
        "panic" => (Some(70), None),
        "abort" => (None, Some(libc::SIGABRT)),
        "segv" => (None, Some(libc::SIGSEGV)),
        _ => (Some(9), None),
    };
    assert_eq!((status.code(), status.signal()), (code, signal), "{end}");
    let text = std::fs::read_to_string(file).expect("the log");
    assert_eq!(text.lines().count() as u64, LAST_LINES, "{end}: all lines, each once");
    assert!(text.ends_with(&format!("last words, number {LAST_LINES}\n")), "{end}");
    println!("{end}: all {LAST_LINES} queued lines are written");
}

// --- burst ---

/// A server, with a thread that logs, or only computes, when it is told to.
fn serve() {
    std::thread::spawn(|| {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let start = Instant::now();
            match line.as_str() {
                "log" => (0..LINES).for_each(|n| info!("line {n} of a burst: node {} and term {}", n % 7, n / 3)),
                _ => while start.elapsed() < Duration::from_millis(line.parse().expect("milliseconds")) {},
            }
            println!("{}", start.elapsed().as_micros());
        }
    });
    let args = Serve::parse().args;
    std::process::exit(raftkv::server::serve(config::load(args).expect("a configuration")));
}

struct Server {
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
    fn start(directory: &Path, ports: &Ports) -> Server {
        let peers = format!("0={}/{}", ports.client(0), ports.peer(0));
        let sink = format!("file={},rotate=64MiB", directory.join("log").display());
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

    fn order(&mut self, what: &str) {
        writeln!(self.orders, "{what}").expect("it listens");
    }

    /// How long the ordered work took.
    fn answer(&mut self) -> Duration {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("it answers");
        Duration::from_micros(line.trim().parse().expect("a number"))
    }

    fn counter(&mut self, name: &str) -> u64 {
        let status = self.client.status_of(&self.address).expect("a status");
        status.counters.iter().find(|(counter, _)| counter == name).expect("a counter").1
    }

    /// The 99th percentile of `n` puts, one after the other.
    fn p99(&mut self, n: usize) -> Duration {
        let mut times: Vec<Duration> = (0..n)
            .map(|_| {
                self.puts += 1;
                let (key, start) = (format!("key {}", self.puts), Instant::now());
                self.client.put(key.as_bytes(), b"value").expect("every put succeeds");
                start.elapsed()
            })
            .collect();
        times.sort();
        times[n * 99 / 100]
    }
}

/// Alternates puts beside nothing, beside a thread that only computes, and beside a thread that logs. No put fails, no line
/// is unaccounted for, and logging delays puts by no more than the processor it takes.
fn a_burst_delays_no_put() {
    let directory = tempfile::tempdir().expect("a directory");
    let ports = Ports::take();
    let mut server = Server::start(directory.path(), &ports);
    let puts = 2_000;
    let mut worst_excess = Duration::MAX;
    for pair in 0..PAIRS {
        let quiet = server.p99(puts);
        let handed_before = server.counter("log_lines") + server.counter("log_lines_dropped");
        let (written_before, start) = (server.counter("log_lines"), Instant::now());
        server.order("log");
        let logging = server.p99(puts);
        let took = server.answer();
        wait_for(Duration::from_secs(60), "all lines are accounted for", || {
            let handed = server.counter("log_lines") + server.counter("log_lines_dropped") - handed_before;
            (handed >= LINES).then_some(())
        });
        let (written, drained) = (server.counter("log_lines") - written_before, start.elapsed());
        server.order("2000");
        let computing = server.p99(puts);
        server.answer();
        println!(
            "pair {pair}: put p99 {quiet:?} quiet, {logging:?} with the burst, {computing:?} beside a computing thread; \
             {LINES} lines logged in {took:?}, {written} of them written by {drained:?}, the others dropped and counted"
        );
        worst_excess = worst_excess.min(logging.saturating_sub(quiet.max(computing)));
    }
    assert!(
        worst_excess < Duration::from_millis(20),
        "a thread that logs makes puts wait: {worst_excess:?} in every pair"
    );
    let notices = std::fs::read_dir(directory.path()).expect("listed").filter_map(|entry| {
        let path = entry.expect("listed").path();
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("log")).then_some(path)
    });
    let said =
        notices.map(|path| std::fs::read_to_string(path).expect("text")).any(|text| text.contains("lines dropped:"));
    assert_eq!(said, server.counter("log_lines_dropped") > 0, "what was dropped is said in the log itself");
}
