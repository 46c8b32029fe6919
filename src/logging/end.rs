//! The process's last words: panics, fatal signals, and its end.

use std::fmt::{self, Write as _};
use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::time::Duration;

use super::front::{Front, Route};
use super::FRONT;
use crate::{exit, limits};

/// How long an end waits for a log, or a standard error, that does not move.
const PATIENCE: Duration = Duration::from_millis(200);

/// From here on, a panic in any thread prints where and why, flushes the log and ends the process with exit code 70:
/// a thread of a server that is gone without the others noticing is worse than no server.
pub fn exit_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("?");
        say(format_args!("thread `{name}` stopped on an impossible state: {panic}"));
        if std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
            say_whole(&std::backtrace::Backtrace::force_capture().to_string());
        }
        end_process(exit::IMPOSSIBLE);
    }));
}

/// The process's last words, straight to standard error, cut at [`limits::LAST_WORDS_BYTES_MAX`]. Waits 200 ms at most,
/// whoever holds the lock of standard error and however stuck it is: if nobody reads there, they are lost.
pub fn say(words: fmt::Arguments<'_>) {
    let mut text = Words { bytes: [0; limits::LAST_WORDS_BYTES_MAX], len: 0 };
    // An error says that the words were cut; what fits is said.
    let _ = write!(text, "raftkv: {words}");
    text.bytes[text.len] = b'\n';
    say_in_signal_handler(&text.bytes[..=text.len]);
}

/// [`say`] for a signal handler, or for words in pieces: writes the bytes as they are, with `poll` and `write` alone. False:
/// they could not be written. No more than [`limits::LAST_WORDS_BYTES_MAX`] at once, or a pipe may take a part and wait.
pub fn say_in_signal_handler(words: &[u8]) -> bool {
    let mut stderr = libc::pollfd { fd: libc::STDERR_FILENO, events: libc::POLLOUT, revents: 0 };
    // SAFETY: poll gets one valid pollfd; write reads the bytes of the slice. Neither takes a lock of ours.
    unsafe {
        let ready = libc::poll(&mut stderr, 1, PATIENCE.as_millis() as libc::c_int);
        ready == 1
            && stderr.revents & libc::POLLOUT != 0
            && libc::write(libc::STDERR_FILENO, words.as_ptr().cast(), words.len()) > 0
    }
}

/// Last words of any length as they are, and a line's end, for as long as somebody takes them.
pub fn say_whole(text: &str) {
    let said = text.as_bytes().chunks(limits::LAST_WORDS_BYTES_MAX).all(say_in_signal_handler);
    if said {
        say_in_signal_handler(b"\n");
    }
}

/// Text in a fixed buffer, so that last words need neither memory nor a lock; one byte stays free for the line's end.
struct Words {
    bytes: [u8; limits::LAST_WORDS_BYTES_MAX],
    len: usize,
}

impl fmt::Write for Words {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fits = super::record::prefix(text, self.bytes.len() - 1 - self.len);
        self.bytes[self.len..][..fits.len()].copy_from_slice(fits.as_bytes());
        self.len += fits.len();
        if fits.len() < text.len() {
            return Err(fmt::Error);
        }
        Ok(())
    }
}

/// Ends the process, with what was logged written for as long as the sinks take it: within 200 ms if they are stuck, within
/// [`limits::LOG_FLUSH_MS_MAX`] in any case. No destructor runs.
pub fn end_process(code: i32) -> ! {
    super::flush(PATIENCE);
    end_process_at_once(code)
}

/// Ends the process at once: what was logged and not written yet is lost, and so is everything else in memory (C-6).
pub fn end_process_at_once(code: i32) -> ! {
    // SAFETY: `_exit` ends the process without running anything of ours; it has no precondition.
    unsafe { libc::_exit(code) }
}

/// Waits for the logging thread to write what is queued, for a moment. May be called in a signal handler; does nothing
/// for a synchronous log, which has nothing queued.
pub fn flush_in_signal_handler() {
    if let Some(Route::Queue(queue)) = FRONT.get().map(Front::route) {
        queue.flush(PATIENCE);
    }
}

/// Signals that end a process because of what it did itself. SIGBUS is the server's own: a page of the mapped log.
const FATAL: [libc::c_int; 4] = [libc::SIGSEGV, libc::SIGILL, libc::SIGFPE, libc::SIGABRT];

/// What was in force for each of them before.
static BEFORE: [OnceLock<libc::sigaction>; FATAL.len()] = [const { OnceLock::new() }; FATAL.len()];

/// From here on, a fatal signal first flushes the log, then does what it did before (as a rule: a core dump).
pub fn exit_on_fatal_signals() {
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_fatal_signal;
    for (signal, before) in FATAL.iter().zip(&BEFORE) {
        // SAFETY: the handler has the signature that sigaction wants with SA_SIGINFO, and lives for ever; a zeroed
        // sigaction has an empty mask. The old action is written whole when the call returns 0, and only then read.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            let mut old = MaybeUninit::<libc::sigaction>::uninit();
            if libc::sigaction(*signal, std::ptr::null(), old.as_mut_ptr()) == 0 {
                let _ = before.set(old.assume_init());
                libc::sigaction(*signal, &action, std::ptr::null_mut());
            }
        }
    }
}

/// Makes only async-signal-safe calls. A fault of our own happens again when this returns, and meets what was in force
/// before (Rust's own handler knows a stack that overflowed); a signal that somebody sent is sent again and ends the
/// process.
extern "C" fn on_fatal_signal(signal: libc::c_int, about: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    flush_in_signal_handler();
    let before = FATAL.iter().position(|fatal| *fatal == signal).and_then(|number| BEFORE[number].get());
    // SAFETY: `about` is the kernel's, valid during the handler; the old action was stored before the handler was
    // installed; sigaction, signal and raise are async-signal-safe.
    unsafe {
        match before {
            Some(before) if (*about).si_code > 0 => {
                libc::sigaction(signal, before, std::ptr::null_mut());
            }
            _ => {
                libc::signal(signal, libc::SIG_DFL);
                libc::raise(signal);
            }
        }
    }
}
