//! Why a snapshot cannot be taken, received or loaded.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use protocol::ClusterId;

use crate::kv::snapshot::{Damaged, Reason};

/// Why a snapshot cannot be taken, received or loaded. None of them harms the state machine or the log.
#[derive(Debug)]
pub enum SnapshotError {
    /// A file operation failed. A failed sync is not retried: the file is given up (C-6).
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
    /// The bytes are not, or no longer, what was written.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        damaged: Damaged,
    },
    /// It is a snapshot of another cluster.
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        cluster: ClusterId,
        /// Whose it should be.
        expected: ClusterId,
    },
    /// What was received is not what was offered.
    NotAsOffered {
        /// What differs.
        what: &'static str,
    },
    /// There is no such snapshot, or it was replaced by newer ones.
    Missing,
}

impl SnapshotError {
    /// The process's exit code, where this keeps a server from starting.
    pub fn exit_code(&self) -> i32 {
        match self {
            SnapshotError::Io { .. } | SnapshotError::NoSpace { .. } => 74,
            SnapshotError::Damaged { .. } | SnapshotError::Foreign { .. } => 78,
            SnapshotError::NotAsOffered { .. } | SnapshotError::Missing => 70,
        }
    }

    /// The file is not what it was, or the disk cannot read it: another snapshot may do. A file in a newer version of the
    /// format is none of this.
    pub(super) fn is_rot(&self) -> bool {
        match self {
            SnapshotError::Damaged { damaged, .. } => !matches!(damaged.reason, Reason::Version(_)),
            SnapshotError::Io { operation, .. } => *operation == READ,
            _ => false,
        }
    }

    /// To be used as `.map_err(SnapshotError::io("sync", path))`.
    pub(super) fn io<'a>(operation: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> SnapshotError + 'a {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                SnapshotError::NoSpace { operation, path: path.to_owned() }
            }
            _ => SnapshotError::Io { operation, path: path.to_owned(), source },
        }
    }

    pub(super) fn damaged(path: &Path, damaged: Damaged) -> SnapshotError {
        SnapshotError::Damaged { path: path.to_owned(), damaged }
    }
}

/// The operation that fails where a disk has rotten sectors.
pub(super) const READ: &str = "read";

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotError::Io { operation, path, source } => {
                write!(f, "cannot {operation} {}: {source}", path.display())
            }
            SnapshotError::NoSpace { operation, path } => {
                write!(f, "cannot {operation} {}: no space left", path.display())
            }
            SnapshotError::Damaged { path, damaged } => {
                write!(f, "{} is not a good snapshot: {damaged}", path.display())
            }
            SnapshotError::Foreign { path, cluster, expected } => write!(
                f,
                "{} is a snapshot of cluster {:016x}, not of {:016x}: it does not belong here",
                path.display(),
                cluster.0,
                expected.0
            ),
            SnapshotError::NotAsOffered { what } => {
                write!(f, "the received snapshot has another {what} than was offered")
            }
            SnapshotError::Missing => write!(f, "there is no such snapshot anymore"),
        }
    }
}

impl std::error::Error for SnapshotError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SnapshotError::Io { source, .. } => Some(source),
            SnapshotError::Damaged { damaged, .. } => Some(damaged),
            _ => None,
        }
    }
}
