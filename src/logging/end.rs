//! The process's last words: panics, fatal signals, and its end.

use std::fmt;
use std::io::{self, Write as _};
use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::time::Duration;

use super::front::{Front, Route};
use super::FRONT;
use crate::exit;

/// How long an end waits for the log.
const PATIENCE: Duration = Duration::from_millis(200);

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
