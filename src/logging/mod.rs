//! The asynchronous sink behind `log` and `env_logger`'s filters: a thread that logs formats its line, hands it to a
//! bounded queue and goes on; one writer thread writes. When the queue is full the line is dropped and counted, and the
//! writer says how many are missing. Nothing here ever blocks the thread that logs.
//!
//! `flush` waits, for a bounded time, until everything logged before it is written: the end of a process calls it, and
//! so does the hook that turns a panic in any thread into exit code 70.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "the sink has a clock, a thread and a file")]

mod line;
mod writer;

use std::cell::RefCell;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::OnceLock;
use std::time::Duration;
use std::{fmt, io};

use crossbeam_channel::{bounded, Sender};
use log::{Log, Metadata, Record};

use crate::{exit, limits};

/// Where lines go.
#[derive(Clone, Debug)]
pub enum Target {
    /// Standard error.
    Console,
    /// Appended to this file.
    File(PathBuf),
}

/// How to log.
#[derive(Clone, Debug)]
pub struct Options {
    /// As `env_logger` reads it: `info`, `info,raftkv::raft=debug`, ...
    pub filter: String,
    /// Where lines go.
    pub target: Target,
}

/// What travels to the writer.
enum Message {
    /// One line with its end.
    Line(String),
    /// Answered once everything before it is written.
    Flush(Sender<()>),
}

/// What `log`'s macros reach.
struct Sink {
    filter: env_logger::Logger,
    queue: Sender<Message>,
}

static SINK: OnceLock<Sink> = OnceLock::new();
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Starts the writer thread and makes it the process's logger. The first call counts; later ones change nothing.
pub fn start(options: Options) -> io::Result<()> {
    if SINK.get().is_some() {
        return Ok(());
    }
    let output = writer::Output::open(&options.target)?;
    let (queue, lines) = bounded(limits::LOG_LINES_QUEUED_MAX);
    std::thread::Builder::new().name("log".to_owned()).spawn(move || writer::run(output, &lines))?;
    let filter = env_logger::Builder::new().parse_filters(&options.filter).build();
    let level = filter.filter();
    if SINK.set(Sink { filter, queue }).is_ok() {
        let sink = SINK.get().expect("just set");
        if log::set_logger(sink).is_ok() {
            log::set_max_level(level);
        }
    }
    Ok(())
}

/// Lines dropped so far because the queue was full.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Waits until everything logged so far is written, at most `patience`. True if it was.
pub fn flush(patience: Duration) -> bool {
    let Some(sink) = SINK.get() else { return true };
    let (done, wait) = bounded(1);
    sink.queue.send_timeout(Message::Flush(done), patience).is_ok() && wait.recv_timeout(patience).is_ok()
}

/// From here on, a panic in any thread prints where and why, flushes the log and ends the process with exit code 70:
/// a thread of a server that is gone without the others noticing is worse than no server.
pub fn exit_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("?");
        say(format_args!("thread `{name}` stopped on an impossible state: {panic}"));
        if std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
            say(format_args!("{}", std::backtrace::Backtrace::force_capture()));
        }
        end_process(exit::IMPOSSIBLE);
    }));
}

/// The process's last words, straight to standard error; nobody may be there to read them.
pub fn say(words: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "raftkv: {words}");
}

/// Ends the process at once, with what was logged written if that is possible within a moment. No destructor runs.
pub fn end_process(code: i32) -> ! {
    flush(Duration::from_millis(200));
    end_process_at_once(code)
}

/// Ends the process at once: what was logged and not written yet is lost, and so is everything else in memory (C-6).
pub fn end_process_at_once(code: i32) -> ! {
    // SAFETY: `_exit` ends the process without running anything of ours; it has no precondition.
    unsafe { libc::_exit(code) }
}

impl Log for Sink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.filter.matches(record) && self.queue.try_send(Message::Line(line::format(record))).is_err() {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {
        flush(Duration::from_secs(1));
    }
}

thread_local! {
    /// This thread's name, looked up once.
    static THREAD: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The name under which this thread's lines appear.
fn with_thread_name<R>(use_name: impl FnOnce(&dyn fmt::Display) -> R) -> R {
    THREAD.with_borrow_mut(|name| {
        let name = name.get_or_insert_with(|| std::thread::current().name().unwrap_or("?").to_owned());
        use_name(name)
    })
}
