//! A timer that wakes the poll to the microsecond; the poll's own time-out counts in milliseconds.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

/// A timerfd.
pub(super) struct Timer(OwnedFd);

impl Timer {
    /// A timer that makes `token` readable.
    pub(super) fn new(token: Token, registry: &Registry) -> io::Result<Timer> {
        // SAFETY: no pointers; the result is checked.
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that was just made and that nobody else has.
        let timer = Timer(unsafe { OwnedFd::from_raw_fd(fd) });
        registry.register(&mut SourceFd(&timer.0.as_raw_fd()), token, Interest::READABLE)?;
        Ok(timer)
    }

    /// Wakes once, after this long.
    pub(super) fn wake_after(&self, wait: Duration) -> io::Result<()> {
        let nanoseconds = wait.as_nanos().clamp(1, 1_000_000_000);
        let value = libc::timespec {
            tv_sec: (nanoseconds / 1_000_000_000) as libc::time_t,
            tv_nsec: (nanoseconds % 1_000_000_000) as libc::c_long,
        };
        let once = libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        // SAFETY: an open descriptor, a valid structure that lives over the call, and no old value wanted.
        let result = unsafe { libc::timerfd_settime(self.0.as_raw_fd(), 0, &once, std::ptr::null_mut()) };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}
