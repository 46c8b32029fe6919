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
const PAIRS: usize = 4;
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
        Some(end) if end.starts_with("stuck") => log_where_nobody_reads(end),
        Some(end) => log_and_die(end),
        None => {
            for end in ["panic", "abort", "fault", "killed", "exit", "synchronous"] {
                what_was_logged_before_the_end_is_written(end);
            }
            for end in ["repeated-panic", "repeated-fault", "repeated-killed", "repeated-exit"] {
                what_repeated_before_the_end_is_counted(end);
            }
            for (end, code) in [("stuck", 9), ("stuck-panic", 70), ("stuck-at-once", 74)] {
                a_reader_that_does_not_read_holds_nobody_up(end, code);
            }
            a_burst_fails_no_put();
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
    let synchronous = end == "synchronous";
    let options = Options { sinks: vec![Sink::file(path.into())], synchronous, ..Options::default() };
    logging::start(options).expect("it starts");
    logging::exit_on_panic();
    logging::exit_on_fatal_signals();
    let (end, repeats) = match end.strip_prefix("repeated-") {
        Some(end) => (end, true),
        None => (end, false),
    };
    for n in 1..=LAST_LINES {
        let n = if repeats { LAST_LINES } else { n };
        info!("last words, number {n}");
    }
    match end {
        "panic" => panic!("on purpose"),
        "abort" => std::process::abort(),
        "fault" => read_what_may_not_be_read(),
        // SAFETY: raise takes a signal's number and touches no memory.
        "killed" => drop(unsafe { libc::raise(libc::SIGSEGV) }),
        "synchronous" => logging::end_process_at_once(9),
        _ => logging::end_process(9),
    }
}

fn log_where_nobody_reads(end: &str) {
    logging::exit_on_panic();
    logging::start(Options::default()).expect("it starts");
    (0..100_000).for_each(|n| info!("line {n} into a full pipe"));
    let dropped = logging::dropped();
    println!("{dropped}");
    match end {
        "stuck-panic" => panic!("on purpose"),
        // As the log does when a sync has failed (C-6).
        "stuck-at-once" => {
            logging::say(format_args!("the log cannot be written: on purpose"));
            logging::end_process_at_once(74)
        }
        _ => logging::end_process(9),
    }
}

/// A full pipe stops the logging thread, which holds the lock of standard error meanwhile, and nobody else; the end of the
/// process does not wait for it for long either.
fn a_reader_that_does_not_read_holds_nobody_up(end: &str, code: i32) {
    let mut child = again(end).stderr(Stdio::piped()).spawn().expect("it starts");
    let ended = wait_for(Duration::from_secs(30), "it ends", || child.try_wait().expect("a child can be asked"));
    assert_eq!(ended.code(), Some(code), "{end}");
    let mut dropped = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut dropped).expect("it answers");
    assert!(dropped.trim().parse::<u64>().expect("a number") > 50_000, "{dropped} lines dropped");
    println!("{end}: {} of 100000 lines dropped and counted, nobody waited", dropped.trim());
}

fn read_what_may_not_be_read() {
    // SAFETY: a new page that nobody may read; the read faults before it yields a value, which is what is wanted.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let page = libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_NONE, flags, -1, 0);
        let _ = page.cast::<u8>().read_volatile();
    }
}

/// What a process has written that logs and ends so.
fn log_of_one_that_ends(end: &str) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("log");
    let mut child = again(end).env("LOGGING_FILE", &file).spawn().expect("it starts");
    let status = child.wait().expect("it ends");
    let (code, signal) = match end.trim_start_matches("repeated-") {
        "panic" => (Some(70), None),
        "abort" => (None, Some(libc::SIGABRT)),
        "fault" | "killed" => (None, Some(libc::SIGSEGV)),
        _ => (Some(9), None),
    };
    assert_eq!((status.code(), status.signal()), (code, signal), "{end}");
    std::fs::read_to_string(file).expect("the log")
}

fn what_repeated_before_the_end_is_counted(end: &str) {
    let text = log_of_one_that_ends(end);
    let lines: Vec<&str> = text.lines().collect();
    let counted = |line: &str| match line.split_once(" (repeated ") {
        Some((_, count)) => count.split(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0),
        None => 1,
    };
    assert_eq!(lines.iter().map(|line| counted(line)).sum::<u64>(), LAST_LINES, "{end}: {text}");
    assert!(lines.len() < 10, "{end}: {} lines", lines.len());
    println!("{end}: {LAST_LINES} equal lines are accounted for in {}", lines.len());
}

fn what_was_logged_before_the_end_is_written(end: &str) {
    let text = log_of_one_that_ends(end);
    assert_eq!(text.lines().count() as u64, LAST_LINES, "{end}: all lines, each once");
    assert!(text.ends_with(&format!("last words, number {LAST_LINES}\n")), "{end}");
    println!("{end}: all {LAST_LINES} queued lines are written");
}

// --- burst ---

/// A server, with a thread that logs, or two that only compute, when it is told to.
fn serve() {
    std::thread::spawn(|| {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let start = Instant::now();
            match line.as_str() {
                "log" => (0..LINES).for_each(|n| info!("line {n} of a burst: node {} and term {}", n % 7, n / 3)),
                time => compute(Duration::from_millis(time.parse().expect("milliseconds"))),
            }
            println!("{}", start.elapsed().as_micros());
        }
    });
    let args = Serve::parse().args;
    let reload = Box::new(|| Err("nobody reloads this".to_owned()));
    let hooks = raftkv::server::Hooks { status_as_json: cli::status_as_json, reload };
    std::process::exit(raftkv::server::serve(config::load(args).expect("a configuration"), hooks));
}

/// As many busy threads as a burst has: the one that logs, and the one that writes.
fn compute(time: Duration) {
    let compute = move || {
        let start = Instant::now();
        while start.elapsed() < time {}
    };
    let other = std::thread::spawn(compute);
    compute();
    other.join().expect("it ends");
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
    fn start(directory: &Path, log: &Path, ports: &Ports) -> Server {
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

    /// Processor time that the logging thread has used.
    fn writer_time(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("Linux");
        let stats = tasks.filter_map(|task| std::fs::read_to_string(task.expect("listed").path().join("stat")).ok());
        let stat = stats.into_iter().find(|stat| stat.contains("(log)")).expect("the logging thread");
        let times = stat.rsplit(')').next().expect("fields").split(' ').skip(12).take(2);
        let ticks: u64 = times.map(|time| time.parse::<u64>().expect("a number of ticks")).sum();
        Duration::from_millis(ticks * 10)
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

/// Alternates puts beside nothing, beside threads that only compute, and beside one that logs: no put fails and no line is
/// unaccounted for. The figures are printed, not judged: a test does not time.
fn a_burst_fails_no_put() {
    let directory = tempfile::tempdir().expect("a directory");
    let ports = Ports::take();
    // Elsewhere, so that it is not the disk's write-back of the text that the log's syncs wait for.
    let shared_memory = Path::new("/dev/shm");
    let log = if shared_memory.is_dir() { tempfile::tempdir_in(shared_memory) } else { tempfile::tempdir() };
    let log = log.expect("a directory");
    let mut server = Server::start(directory.path(), log.path(), &ports);
    let puts = 1_000;
    for pair in 0..PAIRS {
        let quiet = server.p99(puts);
        let handed_before = server.counter("log_lines") + server.counter("log_lines_dropped");
        let writer_before = server.writer_time();
        let (written_before, start) = (server.counter("log_lines"), Instant::now());
        server.order("log");
        let logging = server.p99(puts);
        let took = server.answer();
        wait_for(Duration::from_secs(60), "all lines are accounted for", || {
            let handed = server.counter("log_lines") + server.counter("log_lines_dropped") - handed_before;
            (handed >= LINES).then_some(())
        });
        let (written, drained) = (server.counter("log_lines") - written_before, start.elapsed());
        let writer = server.writer_time() - writer_before;
        server.order("2000");
        let computing = server.p99(puts);
        server.answer();
        println!(
            "pair {pair}: put p99 {quiet:?} quiet, {logging:?} with the burst, {computing:?} beside two computing threads; \
             {LINES} lines logged in {took:?}, {written} of them written by {drained:?} in {writer:?} of processor time, the others dropped and counted"
        );
    }
    let notices = std::fs::read_dir(log.path()).expect("listed").filter_map(|entry| {
        let path = entry.expect("listed").path();
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("log")).then_some(path)
    });
    let said =
        notices.map(|path| std::fs::read_to_string(path).expect("text")).any(|text| text.contains("lines dropped:"));
    assert_eq!(said, server.counter("log_lines_dropped") > 0, "what was dropped is said in the log itself");
}
