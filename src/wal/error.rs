//! Why the log cannot be used.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why the log cannot be used. Each ends the process, with [`WalError::exit_code`].
#[derive(Debug)]
pub enum WalError {
    /// Another process has the directory.
    Locked {
        /// The data directory.
        dir: PathBuf,
    },
    /// A file operation failed; it is never retried (C-6).
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The disk is full.
    NoSpace {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
    },
    /// An earlier call failed; nothing is accepted any more (C-6).
    Poisoned,
    /// The files belong to another node, cluster or version, or some are missing.
    Refused {
        /// What is wrong, in words for the operator.
        reason: String,
    },
    /// Something that was synced cannot be read as it was written.
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// The caller broke the rules: a gap, a wrong chain, entries before the Format.
    Impossible {
        /// What was seen.
        reason: String,
    },
}

impl WalError {
    /// The process's exit code for this error.
    pub fn exit_code(&self) -> i32 {
        match self {
            WalError::Locked { .. } => 73,
            WalError::Io { .. } | WalError::NoSpace { .. } | WalError::Poisoned => 74,
            WalError::Refused { .. } | WalError::Damaged { .. } => 78,
            WalError::Impossible { .. } => 70,
        }
    }

    /// To be used as `.map_err(WalError::io("sync", path))`.
    pub(super) fn io<'a>(operation: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> WalError + 'a {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                WalError::NoSpace { operation, path: path.to_owned() }
            }
            _ => WalError::Io { operation, path: path.to_owned(), source },
        }
    }

    pub(super) fn refused(reason: impl Into<String>) -> WalError {
        WalError::Refused { reason: reason.into() }
    }

    pub(super) fn impossible(reason: impl Into<String>) -> WalError {
        WalError::Impossible { reason: reason.into() }
    }
}

impl fmt::Display for WalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WalError::Locked { dir } => {
                write!(f, "{} is in use by another server: stop it, or give this one a directory of its own", dir.display())
            }
            WalError::Io { operation, path, source } => write!(f, "cannot {operation} {}: {source}", path.display()),
            WalError::NoSpace { operation, path } => {
                write!(f, "cannot {operation} {}: no space left; free some and start again", path.display())
            }
            WalError::Poisoned => write!(f, "the log failed before and takes nothing any more"),
            WalError::Refused { reason } => write!(f, "{reason}"),
            WalError::Damaged { path, offset, reason } => write!(
                f,
                "{} is damaged at offset {offset}: {reason}. This was written and synced before, so nothing is cut off; \
                 this node must not vote with it. Replace the disk and let a new node take this one's place",
                path.display()
            ),
            WalError::Impossible { reason } => write!(f, "impossible: {reason}"),
        }
    }
}

impl std::error::Error for WalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            WalError::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
