//! What the foreground waits for: a child that ended, or a signal to stop.

use std::mem::MaybeUninit;

/// Why the wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// SIGCHLD.
    Child,
    /// SIGINT, SIGTERM or SIGHUP.
    Stop,
}

/// The signals, blocked: only [`Signals::wait`] takes them.
pub(super) struct Signals {
    set: libc::sigset_t,
}

impl Signals {
    /// Call while this is the only thread. Processes started afterwards begin with nothing blocked.
    pub(super) fn block() -> Self {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises the set before it is used; all pointers are valid for their calls.
        let set = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGCHLD] {
                libc::sigaddset(set.as_mut_ptr(), signal);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
            set.assume_init()
        };
        Self { set }
    }

    pub(super) fn wait(&self) -> Event {
        let mut signal = 0;
        // SAFETY: the set is initialised and `signal` valid for one integer.
        let error = unsafe { libc::sigwait(&self.set, &mut signal) };
        assert_eq!(error, 0, "sigwait fails only for an invalid set");
        if signal == libc::SIGCHLD {
            Event::Child
        } else {
            Event::Stop
        }
    }
}
