//! The persistent log: append-only mapped segments (C-1...C-5) and the two meta files (C-7). No threads: `server` gives
//! [`Wal`] to the wal thread, a [`Preparer`] and a [`LogReader`] to the bulk worker.
//!
//! ```text
//! data directory
//!   LOCK                      held while a server runs
//!   meta-a, meta-b            term, vote, Format, identity; written one after the other
//!   log-0000000000000001 ...  segments
//! ```

use std::path::{Path, PathBuf};

use protocol::format::{Format, HardState};
use protocol::{Chain, Entry, EntryId, Incarnation, Index, LogTime, NodeId, Term};

use crate::disk::Disk;

/// How to open a log.
#[derive(Clone, Debug)]
pub struct Options {
    /// Size of a segment, in bytes; a multiple of 4096.
    pub segment_bytes: u64,
    /// How many bytes of the newest entries [`Recovered::tail`] holds at most (one entry at least).
    pub tail_bytes: usize,
    /// Whose data directory this is to be.
    pub node: NodeId,
    /// From the system's entropy, new at each start: salts and the incarnation are drawn from it.
    pub random: u64,
    /// The position of the newest durable snapshot, which is laid over the log (C-5).
    pub snapshot: Option<LogBase>,
    /// Breaks durability on purpose: commits report success without a sync. For tests that must notice.
    #[cfg(feature = "sabotage")]
    pub drop_syncs: bool,
}

/// The position before a log's first entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogBase {
    /// Term and index; zeroes at the very start.
    pub id: EntryId,
    /// The chain there.
    pub chain: Chain,
    /// The log time there.
    pub log_time: LogTime,
}

/// What the meta files hold (C-7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Whose directory this is.
    pub node: NodeId,
    /// This life of its disk.
    pub incarnation: Incarnation,
    /// Term, vote and lease span.
    pub hard_state: HardState,
    /// The cluster, once formed.
    pub format: Option<Format>,
}

/// What [`Wal::open`] found.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// Identity and hard state.
    pub meta: Meta,
    /// The position before the first entry.
    pub base: LogBase,
    /// First index of each term's entries, ascending.
    pub runs: Vec<(Term, Index)>,
    /// The last entry; `base.id` if there is none.
    pub last: EntryId,
    /// The chain at the last entry.
    pub last_chain: Chain,
    /// The log time of the last entry.
    pub last_log_time: LogTime,
    /// The newest entries, consecutive, ending at `last`; bounded by [`Options::tail_bytes`].
    pub tail: Vec<Entry>,
}

/// What one [`Wal::commit`] made durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Synced {
    /// The last entry that was written; `None` if the group had no entries.
    pub last: Option<EntryId>,
    /// Bytes appended to the log, headers included.
    pub bytes: u64,
    /// Syncs that it took (log and meta).
    pub syncs: u32,
}

/// The log of one node. One thread owns it.
#[derive(Debug)]
pub struct Wal {
    stats: WriteStats,
}

/// Prepares the next segment, from any thread.
#[derive(Clone, Debug)]
pub struct Preparer {}

/// Reads old entries, from any thread (C-9).
#[derive(Clone, Debug)]
pub struct LogReader {}

/// What a read of old entries gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadResult {
    /// Consecutive entries from the one asked for; at least one.
    Entries(Vec<Entry>),
    /// The entry asked for, or the one before it, is no longer in the log.
    Compacted,
    /// The entry before is another one than expected: exit 70.
    Mismatch,
}

/// How much reaches the disk for what was appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteStats {
    /// Bytes appended to the log.
    pub appended_bytes: u64,
    /// Syncs of the log.
    pub syncs: u64,
    /// Bytes that the committing thread made the kernel write; `None` where the kernel does not tell.
    pub disk_bytes: Option<u64>,
}

/// Why the log cannot be used. Each ends the process: [`WalError::exit_code`].
#[derive(Debug)]
pub enum WalError {
    /// Another process has the directory.
    Locked {
        /// The data directory.
        dir: PathBuf,
    },
    /// A file operation failed; never retried (C-6).
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The disk is full.
    NoSpace {
        /// The file that could not grow.
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
    /// The caller broke the rules (a gap, a wrong chain).
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
}

impl std::fmt::Display for WalError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for WalError {}

impl Wal {
    /// Opens the log in `dir`, which is created if it does not exist, and recovers what it holds. When this returns,
    /// everything in `Recovered` is durable and the identity may be shown to others (C-4, C-17).
    pub fn open(_disk: &Disk, _dir: &Path, _options: Options) -> Result<(Wal, Recovered), WalError> {
        Err(WalError::Poisoned)
    }

    /// Adds to the group that the next [`Wal::commit`] makes durable. Nothing is written yet.
    pub fn push(
        &mut self,
        _hard_state: Option<HardState>,
        _format: Option<&Format>,
        _entries: &[Entry],
    ) -> Result<(), WalError> {
        Err(WalError::Poisoned)
    }

    /// Makes the group durable: meta first if it changed (C-7), then one write and one sync for all its entries.
    /// After an error the log refuses everything: end the process with the error's exit code (C-6).
    pub fn commit(&mut self) -> Result<Synced, WalError> {
        Err(WalError::Poisoned)
    }

    /// To be called after 10 ms without a commit: writes and syncs one empty Batch (C-3), once; then does nothing
    /// until the next commit. True if it wrote.
    pub fn idle(&mut self) -> Result<bool, WalError> {
        Err(WalError::Poisoned)
    }

    /// True if `idle` has something to do.
    pub fn wants_idle(&self) -> bool {
        false
    }

    /// A handle that prepares the next segment on another thread. Without one, the segment is prepared when it is needed.
    pub fn preparer(&self) -> Preparer {
        Preparer {}
    }

    /// A handle that reads old entries on another thread.
    pub fn reader(&self) -> LogReader {
        LogReader {}
    }

    /// Bytes and syncs so far. `disk_bytes` counts what the thread that calls this wrote, so call it on the committing one.
    pub fn write_stats(&self) -> WriteStats {
        self.stats
    }
}

impl Preparer {
    /// True if the next segment is not ready.
    pub fn needed(&self) -> bool {
        false
    }

    /// Prepares the next segment unless it is ready.
    pub fn prepare(&self) -> Result<(), WalError> {
        Ok(())
    }
}

impl LogReader {
    /// Entries from `from` on, of at most `bytes_max` bytes (one entry at least), durable ones only. `previous` is what
    /// the caller believes is before `from`; its chain is checked if given.
    pub fn read(
        &self,
        _from: Index,
        _bytes_max: usize,
        _previous: EntryId,
        _previous_chain: Option<Chain>,
    ) -> Result<ReadResult, WalError> {
        Ok(ReadResult::Compacted)
    }
}
