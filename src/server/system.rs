//! What the threads ask of the kernel: clocks, entropy, signals. The pure layers get the answers as arguments.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

use crate::limits;
use crate::time::Time;

/// Now, on the clock that counts suspend (C-14, C-25).
pub(super) fn now() -> Time {
    let mut at = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: `at` is valid for one timespec, which the call fills in completely when it returns 0, as it always does
    // for this clock on Linux; the assertion stands before the value is used.
    let at = unsafe {
        assert_eq!(libc::clock_gettime(libc::CLOCK_BOOTTIME, at.as_mut_ptr()), 0, "CLOCK_BOOTTIME exists");
        at.assume_init()
    };
    Time(at.tv_sec as u64 * 1_000_000_000 + at.tv_nsec as u64)
}

/// Milliseconds since the Unix epoch; for log time only (C-25).
pub(super) fn wall_clock_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// 64 bits of the kernel's entropy.
pub(super) fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    // SAFETY: the buffer is valid for the length that is passed.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    match usize::try_from(got) {
        Ok(n) if n == bytes.len() => Ok(u64::from_ne_bytes(bytes)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets so many connections wait to be accepted; the system may allow fewer (`net.core.somaxconn`).
pub(super) fn set_backlog(listener: &impl AsRawFd, connections: i32) -> io::Result<()> {
    // SAFETY: no pointers; the descriptor is open. A socket that listens already takes the new bound.
    match unsafe { libc::listen(listener.as_raw_fd(), connections) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets the process open as many files as it may, since each client is one; tells how many that is.
pub(super) fn raise_file_limit() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: all calls take a pointer to one valid rlimit. A refusal changes nothing; the last one tells what counts.
    let known = unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0
    };
    if known {
        usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX)
    } else {
        limits::OPEN_FILES_ASSUMED
    }
}

/// Signals for the server, blocked in every thread so that only [`Signals::wait_for_end`] takes them.
pub(super) struct Signals {
    set: libc::sigset_t,
}

impl Signals {
    /// Blocks SIGTERM, SIGINT and SIGHUP for this thread and those that it starts, and ignores SIGPIPE. Call before any thread
    /// is started.
    pub(super) fn block() -> Signals {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: `sigemptyset` initialises the set before anything reads it; all pointers are valid for their calls.
        let set = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
            libc::sigaddset(set.as_mut_ptr(), libc::SIGINT);
            libc::sigaddset(set.as_mut_ptr(), libc::SIGHUP);
            libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
            libc::signal(libc::SIGPIPE, libc::SIG_IGN);
            set.assume_init()
        };
        Signals { set }
    }

    /// Sleeps until SIGTERM or SIGINT arrives, and says which; each SIGHUP until then is `on_hangup`'s.
    pub(super) fn wait_for_end(&self, mut on_hangup: impl FnMut()) -> i32 {
        loop {
            match self.wait() {
                libc::SIGHUP => on_hangup(),
                signal => return signal,
            }
        }
    }

    fn wait(&self) -> i32 {
        let mut signal = 0;
        // SAFETY: the set is initialised, and `signal` is valid for one integer.
        let error = unsafe { libc::sigwait(&self.set, &mut signal) };
        assert_eq!(error, 0, "sigwait fails only for an invalid set");
        signal
    }
}

/// Turns SIGBUS into exit 74: a page of the mapped log cannot be read (a bad sector, or the file was cut by somebody else),
/// and what stands there is not known. The handler makes only async-signal-safe calls.
pub(super) fn exit_on_unreadable_map() {
    extern "C" fn handler(_: libc::c_int) {
        const WORDS: &[u8] =
            b"raftkv: a page of the mapped log cannot be read (SIGBUS): the disk failed, or the file was cut\n";
        crate::logging::flush_in_signal_handler();
        crate::logging::say_in_signal_handler(WORDS);
        crate::logging::end_process_at_once(crate::exit::IO)
    }
    let handler: extern "C" fn(libc::c_int) = handler;
    // SAFETY: the handler has the signature that sigaction wants without SA_SIGINFO, and lives for ever; a zeroed
    // sigaction is one without flags and with an empty mask.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        let result = libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
        assert_eq!(result, 0, "SIGBUS can be handled");
    }
}

/// The name of a signal that [`Signals::wait_for_end`] may return.
pub(super) fn signal_name(signal: i32) -> &'static str {
    match signal {
        libc::SIGTERM => "SIGTERM",
        libc::SIGINT => "SIGINT",
        _ => "a signal",
    }
}
