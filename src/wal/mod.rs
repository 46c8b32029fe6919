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
use std::sync::Arc;

use protocol::format::{Format, HardState};
use protocol::{Chain, Entry, EntryId, Incarnation, Index, LogTime, NodeId, Term};

use crate::disk::{self, DirLock, Disk, LockError, PAGE_BYTES};
use crate::limits;
use crate::random::SplitMix64;

mod error;
mod marks;
mod meta;
mod prepare;
mod reader;
mod record;
mod recovery;
mod segment;
#[cfg(test)]
mod tests;
mod tip;
mod writer;

pub use error::WalError;
pub use prepare::Preparer;
pub use reader::{LogReader, ReadResult};

use meta::MetaFiles;
use reader::View;
use record::Owner;
use writer::{Group, Start, Writer};

/// How to open a log.
#[derive(Clone, Debug)]
pub struct Options {
    /// Size of a segment, in bytes; a multiple of 4096. An entry that does not fit gets a segment of its own size.
    pub segment_bytes: u64,
    /// How many bytes of the newest entries [`Recovered::tail`] holds at most (one entry at least).
    pub tail_bytes: usize,
    /// Whose data directory this is to be.
    pub node: NodeId,
    /// From the system's entropy, new at each start: salts and the incarnation are drawn from it.
    pub random: u64,
    /// The position of the newest durable snapshot, which is laid over the log (C-5).
    pub snapshot: Option<LogBase>,
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

/// How much reaches the disk for what was appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteStats {
    /// Bytes appended to the log, headers included.
    pub appended_bytes: u64,
    /// Syncs of the log.
    pub syncs: u64,
    /// Bytes that the calling thread made the kernel write to disk since it was started, whatever for; `None` where the
    /// kernel does not tell. The log's share is the difference of two looks.
    pub disk_bytes: Option<u64>,
}

/// A data directory, locked, and whose it is; its log is not looked at yet.
#[derive(Debug)]
pub struct Directory {
    disk: Disk,
    path: PathBuf,
    meta: MetaFiles,
    salts: SplitMix64,
    lock: DirLock,
}

/// The log of one node. One thread owns it.
#[derive(Debug)]
pub struct Wal {
    disk: Disk,
    dir: PathBuf,
    meta: MetaFiles,
    /// `None` until the cluster is formed: no segment exists before.
    writer: Option<Writer>,
    group: Group,
    /// What the next commit stores in the meta files before it writes entries.
    next_meta: Option<Meta>,
    poisoned: bool,
    view: Arc<View>,
    preparer: Preparer,
    stats: WriteStats,
    _lock: DirLock,
}

impl Options {
    /// For this node, with the usual sizes; `random` comes from the system's entropy.
    pub fn new(node: NodeId, random: u64) -> Options {
        Options {
            segment_bytes: limits::SEGMENT_BYTES.default,
            tail_bytes: limits::RECOVERED_TAIL_BYTES,
            node,
            random,
            snapshot: None,
        }
    }
}

impl Directory {
    /// Creates `dir` if it does not exist, locks it, and reads its meta files, or makes them on a new disk.
    pub fn open(disk: &Disk, dir: &Path, options: &Options) -> Result<Directory, WalError> {
        disk.create_dir(dir).map_err(WalError::io("create", dir))?;
        let lock = disk.lock_dir(dir).map_err(|error| match error {
            LockError::Held => WalError::Locked { dir: dir.to_owned() },
            LockError::Io(source) => WalError::io("lock", dir)(source),
        })?;
        let mut salts = SplitMix64::new(options.random);
        let meta = open_meta(disk, dir, options, &mut salts)?;
        Ok(Directory { disk: disk.clone(), path: dir.to_owned(), meta, salts, lock })
    }

    /// What the meta files hold.
    pub fn meta(&self) -> &Meta {
        self.meta.meta()
    }
}

impl Wal {
    /// Opens the log in `dir`, which is created if it does not exist, and recovers what it holds: [`Directory::open`], then
    /// [`Wal::open_in`].
    pub fn open(disk: &Disk, dir: &Path, options: Options) -> Result<(Wal, Recovered), WalError> {
        Wal::open_in(Directory::open(disk, dir, &options)?, options)
    }

    /// Recovers the log of a directory. When this returns, everything in `Recovered` is durable and the identity may be shown
    /// to others (C-4, C-17).
    pub fn open_in(directory: Directory, options: Options) -> Result<(Wal, Recovered), WalError> {
        assert!(
            options.segment_bytes.is_multiple_of(PAGE_BYTES) && options.segment_bytes >= 2 * PAGE_BYTES,
            "segments consist of pages, one of them the header's"
        );
        let Directory { disk, path: dir, meta, salts, lock } = directory;
        let preparer = Preparer::new(&disk, dir.clone(), options.segment_bytes, salts);
        let mut wal = Wal {
            disk,
            dir,
            meta,
            writer: None,
            group: Group::default(),
            next_meta: None,
            poisoned: false,
            view: Arc::default(),
            preparer,
            stats: WriteStats::default(),
            _lock: lock,
        };
        let recovered = wal.recover(&options)?;
        Ok((wal, recovered))
    }

    /// Adds to the group that the next [`Wal::commit`] makes durable. Nothing is written yet. Entries at or below the
    /// last one replace everything from there on. An error means a broken rule: exit 70.
    pub fn push(
        &mut self,
        hard_state: Option<HardState>,
        format: Option<&Format>,
        entries: &[Entry],
    ) -> Result<(), WalError> {
        self.refuse_if_poisoned()?;
        if hard_state.is_some() || format.is_some() {
            self.push_meta(hard_state, format)?;
        }
        if entries.is_empty() {
            return Ok(());
        }
        let Some(writer) = &self.writer else {
            return Err(WalError::impossible("entries before the cluster's Format is durable"));
        };
        let pushed = self.group.add_entries(writer, entries);
        self.poison_on_error(pushed)
    }

    /// Adds a restart of the log behind `base` to the group: a snapshot that ends there is durable (C-5).
    pub fn push_base(&mut self, base: LogBase) -> Result<(), WalError> {
        self.refuse_if_poisoned()?;
        if self.writer.is_none() {
            return Err(WalError::impossible("a Base before the cluster's Format is durable"));
        }
        self.group.add_base(base);
        Ok(())
    }

    /// Makes the group durable: meta first if it changed (C-7), then one write and one sync for all its entries.
    /// After an error the log refuses everything: end the process with the error's exit code (C-6).
    pub fn commit(&mut self) -> Result<Synced, WalError> {
        self.refuse_if_poisoned()?;
        let committed = self.commit_group();
        self.group.clear();
        self.poison_on_error(committed)
    }

    /// To be called after 10 ms without a commit: writes and syncs one empty Batch (C-3), once; then does nothing
    /// until the next commit. True if it wrote.
    pub fn idle(&mut self) -> Result<bool, WalError> {
        self.refuse_if_poisoned()?;
        match &mut self.writer {
            Some(writer) if writer.unconfirmed() && self.group.items.is_empty() => {
                let written = writer.write(&[]);
                let written = self.poison_on_error(written)?;
                self.count(written);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// True if `idle` has something to do.
    pub fn wants_idle(&self) -> bool {
        self.writer.as_ref().is_some_and(Writer::unconfirmed)
    }

    /// The log begins behind `base` from now on: a durable snapshot ends there, or behind. Readers find nothing at or before
    /// it, and [`Wal::remove_oldest`] removes what it covers.
    pub fn compact(&mut self, base: LogBase) -> Result<(), WalError> {
        self.refuse_if_poisoned()?;
        let last = self.writer.as_ref().map_or(Index(0), Writer::last);
        if base.id.index > last {
            self.poisoned = true;
            return Err(WalError::impossible(format!(
                "the log ends at {last} and is to begin behind {}",
                base.id.index
            )));
        }
        self.view.set_base(base);
        self.view.set_cut(base.id.index);
        if let Some(writer) = &mut self.writer {
            writer.compact(base);
        }
        Ok(())
    }

    /// Removes the oldest segment if it holds nothing behind the log's beginning (C-5): one unlink and one sync of the
    /// directory. Tells whether it did.
    pub fn remove_oldest(&mut self) -> Result<bool, WalError> {
        self.refuse_if_poisoned()?;
        let removed = self.remove_oldest_segment();
        self.poison_on_error(removed)
    }

    /// What the meta files hold.
    pub fn meta(&self) -> &Meta {
        self.meta.meta()
    }

    /// A handle that prepares the next segment on another thread. Without one, it is prepared when it is needed.
    pub fn preparer(&self) -> Preparer {
        self.preparer.clone()
    }

    /// Prepares the next segment on this thread, unless it is ready.
    pub fn prepare_next(&mut self) -> Result<(), WalError> {
        self.preparer.prepare()
    }

    /// A handle that reads old entries on another thread.
    pub fn reader(&self) -> LogReader {
        LogReader { view: self.view.clone() }
    }

    /// Bytes and syncs so far. Ask on the thread that commits: `disk_bytes` is the calling thread's.
    pub fn write_stats(&self) -> WriteStats {
        WriteStats { disk_bytes: disk::thread_bytes_written(), ..self.stats }
    }

    fn recover(&mut self, options: &Options) -> Result<Recovered, WalError> {
        segment::remove_unfinished(&self.disk, &self.dir)?;
        let segments = recovery::open_segments(&self.disk, &self.dir)?;
        let meta = self.meta.meta().clone();
        let Some(owner) = owner(&meta) else {
            self.discard_interrupted_formation(&segments)?;
            return Ok(Recovered::empty(meta));
        };
        if segments.is_empty() {
            return Err(WalError::refused(format!(
                "{} belongs to a formed cluster, but its log files are missing: votes and entries are lost. Let a new \
                 node take this one's place",
                self.dir.display()
            )));
        }
        recovery::check_owner(&segments, owner)?;
        let replayed = recovery::replay(&segments, &self.view, options.snapshot, options.tail_bytes)?;
        let recovered = Recovered {
            meta,
            base: replayed.tip.base,
            runs: replayed.tip.runs.clone(),
            last: replayed.tip.last.id,
            last_chain: replayed.tip.last.chain,
            last_log_time: replayed.tip.last.log_time,
            tail: replayed.tail,
        };
        // What was prepared and not used is prepared anew: the next one by being replaced, the others go.
        let next = replayed.end.segment + 1;
        for unused in segments.iter().rev().filter(|segment| segment.header.sequence > next) {
            self.remove_file(&unused.path)?;
        }
        drop(segments);
        self.preparer.start(owner, next);
        let start = Start {
            tip: replayed.tip,
            before: replayed.before,
            end: replayed.end,
            batch_number: replayed.batch_number,
            restart: replayed.restart,
        };
        self.writer = Some(Writer::start(start, self.view.clone(), self.preparer.clone())?);
        Ok(recovered)
    }

    /// The first segment is made before the meta files name the cluster, and the next may be prepared by then: a crash in
    /// between leaves them, without entries.
    fn discard_interrupted_formation(&self, segments: &[Arc<segment::Segment>]) -> Result<(), WalError> {
        for segment in segments.iter().rev() {
            if !segment.is_blank() {
                return Err(WalError::refused(format!(
                    "{} has entries, but the meta files say that this node belongs to no cluster yet: they are from \
                     another time or place",
                    segment.path.display()
                )));
            }
            self.remove_file(&segment.path)?;
        }
        Ok(())
    }

    fn push_meta(&mut self, hard_state: Option<HardState>, format: Option<&Format>) -> Result<(), WalError> {
        let next = self.next_meta.get_or_insert_with(|| self.meta.meta().clone());
        if let Some(hard_state) = hard_state {
            let old = next.hard_state;
            let votes_again = hard_state.term == old.term && old.vote.is_some() && hard_state.vote != old.vote;
            if hard_state.term < old.term || hard_state.lease_span_us < old.lease_span_us || votes_again {
                let reason = format!("{hard_state:?} after {:?}", next.hard_state);
                self.poisoned = true;
                return Err(WalError::impossible(reason));
            }
            next.hard_state = hard_state;
        }
        match (format, &next.format) {
            (Some(new), Some(old)) if new != old => {
                self.poisoned = true;
                Err(WalError::impossible("a second, different Format"))
            }
            (Some(new), _) => {
                next.format = Some(new.clone());
                Ok(())
            }
            (None, _) => Ok(()),
        }
    }

    fn commit_group(&mut self) -> Result<Synced, WalError> {
        let mut synced = Synced { last: self.group.last(), ..Synced::default() };
        let next_meta = self.next_meta.take().filter(|meta| meta != self.meta.meta());
        sabotage!(EntriesBeforeMeta: {
            if let (Some(writer), false) = (&mut self.writer, self.group.items.is_empty()) {
                writer.write(&self.group.items)?;
                self.group.items.clear();
            }
        });
        if let Some(meta) = next_meta {
            if let (None, Some(owner)) = (&self.writer, owner(&meta)) {
                self.begin_log(owner)?;
            }
            synced.syncs += self.meta.store(meta)?; // C-7: complete before any entry is written
        }
        if let (Some(writer), false) = (&mut self.writer, self.group.items.is_empty()) {
            let written = writer.write(&self.group.items)?;
            self.count(written);
            (synced.bytes, synced.syncs) = (written.bytes, synced.syncs + written.syncs);
        }
        Ok(synced)
    }

    /// Makes the first segment of a cluster that is being formed.
    fn begin_log(&mut self, owner: Owner) -> Result<(), WalError> {
        self.preparer.start(owner, 1);
        let base = recovery::origin(owner);
        let start = Start {
            tip: tip::Tip::at(base),
            before: base,
            end: record::Position::default(),
            batch_number: 0,
            restart: false,
        };
        self.view.publish(base.id.index, Some(base));
        self.writer = Some(Writer::start(start, self.view.clone(), self.preparer.clone())?);
        Ok(())
    }

    fn remove_oldest_segment(&mut self) -> Result<bool, WalError> {
        let index = self.view.cut();
        let Some((oldest, next)) = self.view.oldest() else { return Ok(false) };
        // A log that was never cut off needs no snapshot, and must not come to need one.
        let covered =
            index > Index(0) && next.is_some_and(|mark| mark.index <= if mark.is_base { index } else { index.next() });
        if covered {
            crate::mark!("wal: segment removed");
            self.view.remove_oldest();
            self.remove_file(&oldest.path)?;
        }
        Ok(covered)
    }

    fn remove_file(&self, path: &Path) -> Result<(), WalError> {
        self.disk.unlink(path).map_err(WalError::io("remove", path))?;
        self.disk.sync_dir(&self.dir).map_err(WalError::io("sync", &self.dir))
    }

    fn count(&mut self, written: writer::Written) {
        self.stats.appended_bytes += written.bytes;
        self.stats.syncs += u64::from(written.syncs);
    }

    fn refuse_if_poisoned(&self) -> Result<(), WalError> {
        if self.poisoned {
            return Err(WalError::Poisoned);
        }
        Ok(())
    }

    fn poison_on_error<T>(&mut self, result: Result<T, WalError>) -> Result<T, WalError> {
        self.poisoned |= result.is_err();
        result
    }
}

impl Recovered {
    fn empty(meta: Meta) -> Recovered {
        Recovered {
            meta,
            base: LogBase::default(),
            runs: Vec::new(),
            last: EntryId::default(),
            last_chain: Chain::default(),
            last_log_time: LogTime::default(),
            tail: Vec::new(),
        }
    }
}

fn owner(meta: &Meta) -> Option<Owner> {
    let format = meta.format.as_ref()?;
    Some(Owner { cluster: format.cluster, node: meta.node, incarnation: meta.incarnation })
}

/// Reads the meta files, or creates them on a new disk, with a new incarnation (C-17).
fn open_meta(disk: &Disk, dir: &Path, options: &Options, salts: &mut SplitMix64) -> Result<MetaFiles, WalError> {
    if !MetaFiles::missing(disk, dir)? {
        let meta = MetaFiles::open(disk, dir)?;
        let theirs = meta.meta().node;
        if theirs != options.node {
            return Err(WalError::refused(format!(
                "{} is the data directory of node {theirs}, this is node {}: give each node its own",
                dir.display(),
                options.node
            )));
        }
        return Ok(meta);
    }
    let names = disk.list(dir).map_err(WalError::io("list", dir))?;
    if let Some(segment) = names.iter().find(|name| segment::is_segment(name)) {
        return Err(WalError::refused(format!(
            "{} has a log file ({}) but no meta files: this node's term and vote are lost, and guessing them could elect \
             two leaders. Let a new node take this one's place",
            dir.display(),
            segment.display()
        )));
    }
    let incarnation = Incarnation(salts.draw().max(1));
    let meta = Meta { node: options.node, incarnation, hard_state: HardState::default(), format: None };
    MetaFiles::create(disk, dir, meta)
}
