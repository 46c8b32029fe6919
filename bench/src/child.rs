//! Children of a measurement: they end with it, whatever ends it.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

/// What a process cannot refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// It ends at once.
    Kill,
    /// It stands still, with its memory and its connections.
    Stop,
    /// It goes on.
    Continue,
}

/// Processes that are killed when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Children(Vec<Child>);

impl Children {
    /// Takes one.
    pub(crate) fn push(&mut self, child: Child) {
        self.0.push(child);
    }

    /// Kills one; its place is another's then.
    pub(crate) fn kill(&mut self, number: usize) -> io::Result<()> {
        self.0[number].kill()?;
        self.0[number].wait().map(drop)
    }

    /// Puts one in the place of one that was killed, or behind the last.
    pub(crate) fn place(&mut self, number: usize, child: Child) {
        match self.0.get_mut(number) {
            Some(place) => *place = child,
            None => self.0.push(child),
        }
    }

    /// Sends one a signal. It is a child that nobody has waited for, so that its id is nobody else's.
    pub(crate) fn signal(&self, number: usize, signal: Signal) -> io::Result<()> {
        let number_of = match signal {
            Signal::Kill => libc::SIGKILL,
            Signal::Stop => libc::SIGSTOP,
            Signal::Continue => libc::SIGCONT,
        };
        // SAFETY: no pointers; the process is ours.
        match unsafe { libc::kill(self.0[number].id() as libc::pid_t, number_of) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Their ids.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.0.iter().map(Child::id).collect()
    }

    /// The first one that has ended, by its place.
    pub(crate) fn ended(&mut self) -> Option<usize> {
        self.0.iter_mut().position(|child| matches!(child.try_wait(), Ok(Some(_))))
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Lets the system kill what this command starts when this thread ends, so that nothing is left behind after a kill.
pub(crate) fn tied_to_this_process(command: &mut Command) -> &mut Command {
    let end_with_parent = || {
        // SAFETY: prctl with these arguments touches no memory; it may be called between fork and exec.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure makes one system call, allocates nothing and takes no lock.
    unsafe { command.pre_exec(end_with_parent) }
}
