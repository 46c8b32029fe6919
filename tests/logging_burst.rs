//! A burst of a million lines beside puts, and what a process that dies has written. Its own `main`: it starts itself
//! again as the process that logs.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "real processes take real time")]

#[path = "support/burst.rs"]
mod burst;
mod support;

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::time::Duration;

use burst::{again, Server, LINES, ROLE};
use log::info;
use raftkv::logging::{self, Options, Sink};
use support::{wait_for, Ports};

/// Logged by a process right before it dies; fewer than the queue holds.
const LAST_LINES: u64 = 5_000;

fn main() {
    match std::env::var(ROLE).ok().as_deref() {
        Some("serve") => burst::serve(),
        Some("fixed-lines") => log_for_ever(),
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
            a_line_that_a_kill_cut_is_not_continued();
            a_burst_fails_no_put();
        }
    }
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

// --- kill -9 ---

/// Lines of equal length, as fast as they are taken.
fn log_for_ever() {
    let path = std::env::var_os("LOGGING_FILE").expect("a file");
    logging::start(Options { sinks: vec![Sink::file(path.into())], ..Options::default() }).expect("it starts");
    for n in 0_u64.. {
        info!("a line that is as long as the others, number {n:019}");
    }
}

/// Killed when it is dropped, whatever becomes of the test: it would log for ever.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("it ends");
    }
}

/// The file of the log is a pipe first: when it is full, the write that waits has given away a part of its lines, up to the
/// middle of one. The kill ends it there, and what the pipe holds is what a file would hold.
fn a_line_that_a_kill_cut_is_not_continued() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log");
    let name = std::ffi::CString::new(path.to_str().expect("UTF-8")).expect("no NUL");
    // SAFETY: mkfifo reads one path that ends with NUL.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0, "a pipe with a name");
    // Both ends, so that neither side waits for the other to open it.
    let mut pipe = std::fs::OpenOptions::new().read(true).write(true).open(&path).expect("it opens");
    let child = Killed(again("fixed-lines").env("LOGGING_FILE", &path).spawn().expect("it starts"));
    let full = wait_for(Duration::from_secs(30), "the pipe is full", || {
        let (held, room) = (bytes_in(&pipe), capacity(&pipe));
        if held < room && !is_writable(&pipe) {
            // A short write has left a page that the next one did not fit: no more comes, and no line need be cut. Begin anew.
            pipe.read_exact(&mut vec![0; held]).expect("as much as it holds");
        }
        (held == room).then_some(held)
    });
    drop(child);
    let mut cut = vec![0; full];
    pipe.read_exact(&mut cut).expect("as much as it holds");
    let end = |from: usize| from + 1 + cut[from..].iter().position(|byte| *byte == b'\n').expect("whole lines");
    let line = end(end(0)) - end(0);
    let last = 1 + cut.iter().rposition(|byte| *byte == b'\n').expect("whole lines");
    assert!(last < full, "the kill cut a line");
    std::fs::remove_file(&path).expect("removed");
    std::fs::write(&path, &cut).expect("a file that holds the same");
    let mut next = again("exit").env("LOGGING_FILE", &path).spawn().expect("it starts");
    assert_eq!(next.wait().expect("it ends").code(), Some(9));
    let text = std::fs::read(&path).expect("the log");
    assert!(text.starts_with(&cut) && text[full] == b'\n', "the cut line ends where it was cut");
    let after = String::from_utf8_lossy(&text[full + 1..]).into_owned();
    assert_eq!(after.lines().count() as u64, LAST_LINES, "all lines of the next life, each whole");
    assert!(after.lines().all(|line| line.as_bytes()[10] == b'T' && line.contains("last words, number ")), "{after}");
    println!("killed with {} bytes of a line of {line} written: the next start begins a new one", full - last);
}

fn bytes_in(pipe: &std::fs::File) -> usize {
    let mut held: libc::c_int = 0;
    // SAFETY: FIONREAD writes one integer.
    assert_eq!(unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &mut held) }, 0);
    usize::try_from(held).expect("not negative")
}

/// There is a page for the next write.
fn is_writable(pipe: &std::fs::File) -> bool {
    let mut asked = libc::pollfd { fd: pipe.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: one entry, for one descriptor that is open.
    unsafe { libc::poll(&mut asked, 1, 0) == 1 }
}

fn capacity(pipe: &std::fs::File) -> usize {
    // SAFETY: the call takes no pointer.
    let capacity = unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_GETPIPE_SZ) };
    usize::try_from(capacity).expect("a pipe has a size")
}

// --- burst ---

/// A million lines beside puts: no put fails, and every line is written or counted as dropped. How long the puts take is a
/// benchmark's matter (benches/logging.rs).
fn a_burst_fails_no_put() {
    let (directory, log) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let mut server = Server::start(directory.path(), log.path(), &Ports::take());
    let handed = |server: &mut Server| server.counter("log_lines") + server.counter("log_lines_dropped");
    let before = handed(&mut server);
    server.order("log", Duration::ZERO);
    server.puts(|done| done < 1_000);
    assert_eq!(server.answer().1, LINES);
    wait_for(Duration::from_secs(60), "all lines are accounted for", || {
        (handed(&mut server) - before >= LINES).then_some(())
    });
    let files = std::fs::read_dir(log.path()).expect("listed").map(|entry| entry.expect("listed").path());
    let said =
        files.map(|path| std::fs::read_to_string(path).expect("text")).any(|text| text.contains("lines dropped:"));
    assert_eq!(said, server.counter("log_lines_dropped") > 0, "what was dropped is said in the log itself");
    println!("{LINES} lines beside 1000 puts: {} dropped, all accounted for", server.counter("log_lines_dropped"));
}
