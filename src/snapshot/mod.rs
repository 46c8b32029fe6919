//! Snapshot files: taking, keeping, serving, receiving and loading them. No threads: whoever drives this calls `step` until
//! it is done, and does other work in between; a step reads or writes one block (about 256 KiB, or one largest value).
//!
//! ```text
//! data directory
//!   snapshot-0000000000000abc                    a whole one: of the state after the entry at that index
//!   snapshot-0000000000000abc.taking             being written; removed at a start
//!   snapshot-<index>-<bytes>-<hash>.receiving    a part of what was offered; a transfer goes on behind it
//!   snapshot-0000000000000abc.damaged            set aside; for people to look at
//! ```
//!
//! A file gets its name when all of it is synced, and counts once the directory is synced too. The header is the truth;
//! the name only repeats it. Layout: [`crate::kv::snapshot`].

mod error;
mod inspect;
mod loading;
mod reading;
mod receiving;
mod serving;
mod taking;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use protocol::{ClusterId, Index};

use crate::disk::Disk;
use crate::kv::{Position, Restored};
use crate::limits;

use reading::Reading;

pub use error::SnapshotError;
pub use inspect::{inspect, show, verify, Report};
pub use loading::Loading;
pub use receiving::{Offer, Receiving};
pub use serving::{Checked, Doubts, Serving};
pub use taking::{Taker, Taking};

/// What a step led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<T> {
    /// There is more to do.
    More,
    /// It is done.
    Done(T),
    /// It cannot go on, and nothing of it is left: the view is gone (C-21).
    Abandoned,
}

/// One whole snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Whose state it is.
    pub cluster: ClusterId,
    /// The state is the one after this entry.
    pub position: Position,
    /// Bytes of the file.
    pub bytes: u64,
    /// Keys in it.
    pub keys: u64,
    /// Sessions in it.
    pub sessions: u64,
    /// Over the whole file; equal files have equal ones.
    pub hash: u64,
}

/// The snapshots in a directory. One thread owns it.
#[derive(Debug)]
pub struct Snapshots {
    disk: Disk,
    dir: PathBuf,
    /// Ascending by index.
    kept: Vec<Kept>,
}

#[derive(Debug)]
struct Kept {
    summary: Summary,
    path: PathBuf,
    /// It was found damaged, or could not be read: a start tries it all the same.
    doubted: bool,
}

impl Snapshots {
    /// Looks at what there is in `dir`, which is created if it does not exist: reads headers and footers, sets aside files
    /// whose header or footer is damaged, removes what was being taken, and parts of older ones that were being received.
    /// What it finds is durable when it returns.
    pub fn open(disk: &Disk, dir: &Path) -> Result<Snapshots, SnapshotError> {
        disk.create_dir(dir).map_err(SnapshotError::io("create", dir))?;
        let mut snapshots = Snapshots { disk: disk.clone(), dir: dir.to_owned(), kept: Vec::new() };
        for name in snapshots.names()? {
            let path = dir.join(&name);
            match name.rsplit_once('.') {
                None => match Reading::open(disk, path.clone()).and_then(|mut reading| reading.summary()) {
                    Ok(summary) => snapshots.kept.push(Kept { summary, path, doubted: false }),
                    Err(error) if error.is_rot() => snapshots.set_aside_file(&path, &error)?,
                    Err(error) => return Err(error),
                },
                Some((_, TAKING)) => disk.unlink(&path).map_err(SnapshotError::io("remove", &path))?,
                Some(_) => {}
            }
        }
        snapshots.kept.sort_by_key(|kept| kept.summary.position.id.index);
        snapshots.remove_parts_up_to_newest()?;
        snapshots.remove_surplus_damaged()?;
        // A process that was killed may have renamed a file and not synced the directory.
        snapshots.sync_dir()?;
        Ok(snapshots)
    }

    /// Reads the newest snapshot that can be read, all of it. Damaged ones are set aside, with a warning, and the one before
    /// is tried. One of another cluster than `cluster` is an error; `None` takes any, and the caller compares
    /// [`Summary::cluster`] before it uses it.
    pub fn load_newest(&mut self, cluster: Option<ClusterId>) -> Result<Option<(Summary, Restored)>, SnapshotError> {
        while let Some(Kept { summary, path, .. }) = self.kept.last() {
            let summary = *summary;
            if let Some(expected) = cluster.filter(|&cluster| cluster != summary.cluster) {
                return Err(SnapshotError::Foreign { path: path.clone(), cluster: summary.cluster, expected });
            }
            match Loading::begin(self, summary.position.id.index).and_then(Loading::run) {
                Ok(restored) => return Ok(Some((summary, restored))),
                Err(error) if error.is_rot() => self.set_aside(summary.position.id.index, &error)?,
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The newest one.
    pub fn newest(&self) -> Option<Summary> {
        self.kept.last().map(|kept| kept.summary)
    }

    /// All of them, from the oldest to the newest.
    pub fn kept(&self) -> impl DoubleEndedIterator<Item = Summary> + '_ {
        self.kept.iter().map(|kept| kept.summary)
    }

    /// The snapshot at `index` was found damaged, or could not be read. It is no longer one of those that
    /// [`Snapshots::prune`] keeps, but stays until there are enough others: it may be good, and all that there is.
    pub fn doubt(&mut self, index: Index) {
        let doubted = self.kept.iter_mut().rfind(|kept| kept.summary.position.id.index == index);
        if let Some(kept) = doubted {
            kept.doubted = true;
        }
    }

    /// Removes all but the newest `keep` that nobody doubts; once there are so many, sets those aside that somebody does.
    /// Returns how many that were.
    pub fn prune(&mut self, keep: usize) -> Result<usize, SnapshotError> {
        let mut surplus = 0;
        for doubted in [false, true] {
            let trusted = self.kept.iter().filter(|kept| !kept.doubted).count();
            let alike = self.kept.iter().filter(|kept| kept.doubted == doubted).count();
            let stay = if doubted && trusted >= keep { 0 } else { keep };
            for _ in stay..alike {
                self.remove_oldest(doubted)?;
                surplus += 1;
            }
        }
        if surplus > 0 {
            self.sync_dir()?;
        }
        Ok(surplus)
    }

    fn remove_oldest(&mut self, doubted: bool) -> Result<(), SnapshotError> {
        let place = self.kept.iter().position(|kept| kept.doubted == doubted).expect("the caller has counted them");
        let path = self.kept[place].path.clone();
        if doubted {
            log::warn!("{} was found damaged and is not needed any more: set aside", path.display());
            self.rename_damaged(&path)?;
        } else {
            self.disk.unlink(&path).map_err(SnapshotError::io("remove", &path))?;
        }
        self.kept.remove(place);
        Ok(())
    }

    /// Takes a snapshot that cannot be read out of the way, under another name; `why` is logged.
    pub fn set_aside(&mut self, index: Index, why: &SnapshotError) -> Result<(), SnapshotError> {
        let place = self.kept.iter().rposition(|kept| kept.summary.position.id.index == index);
        let kept = self.kept.remove(place.ok_or(SnapshotError::Missing)?);
        self.set_aside_file(&kept.path, why)
    }

    fn set_aside_file(&self, path: &Path, why: &SnapshotError) -> Result<(), SnapshotError> {
        log::warn!("{why}; it is set aside as .{DAMAGED} and an older one is used");
        self.rename_damaged(path)?;
        self.sync_dir()
    }

    fn rename_damaged(&self, path: &Path) -> Result<(), SnapshotError> {
        let mut aside = path.as_os_str().to_owned();
        aside.push(".");
        aside.push(DAMAGED);
        self.disk.rename(path, Path::new(&aside)).map_err(SnapshotError::io("rename", path))?;
        self.remove_surplus_damaged()
    }

    /// Of those that were set aside the newest stay; their names are ordered as their indexes are.
    fn remove_surplus_damaged(&self) -> Result<(), SnapshotError> {
        let mut damaged = self.names()?;
        damaged.retain(|name| name.rsplit_once('.').is_some_and(|(_, ending)| ending == DAMAGED));
        damaged.sort();
        for name in damaged.iter().rev().skip(limits::SNAPSHOTS_DAMAGED_KEPT) {
            let path = self.dir.join(name);
            self.disk.unlink(&path).map_err(SnapshotError::io("remove", &path))?;
        }
        Ok(())
    }

    /// A finished file gets its name, and then counts. On an error it is removed.
    fn adopt(&mut self, unfinished: &Path, summary: Summary) -> Result<(), SnapshotError> {
        let path = self.path_of(summary.position.id.index);
        let named = self.disk.rename(unfinished, &path).map_err(SnapshotError::io("rename", unfinished));
        let named = named.and_then(|()| sabotage!(SnapshotNameNotSynced, self.sync_dir(), Ok(())));
        if let Err(error) = named {
            let _ = self.disk.unlink(unfinished).or_else(|_| self.disk.unlink(&path));
            self.kept.retain(|kept| kept.path != path);
            return Err(error);
        }
        self.kept.retain(|kept| kept.path != path);
        let place = self.kept.partition_point(|kept| kept.summary.position.id.index <= summary.position.id.index);
        self.kept.insert(place, Kept { summary, path, doubted: false });
        Ok(())
    }

    fn path_of(&self, index: Index) -> PathBuf {
        self.dir.join(format!("{PREFIX}{:016x}", index.0))
    }

    fn find(&self, index: Index) -> Result<&Kept, SnapshotError> {
        self.kept.iter().rfind(|kept| kept.summary.position.id.index == index).ok_or(SnapshotError::Missing)
    }

    fn sync_dir(&self) -> Result<(), SnapshotError> {
        self.disk.sync_dir(&self.dir).map_err(SnapshotError::io("sync", &self.dir))
    }

    /// Names of the files that are ours.
    fn names(&self) -> Result<Vec<String>, SnapshotError> {
        let names = self.disk.list(&self.dir).map_err(SnapshotError::io("list", &self.dir))?;
        let names = names.into_iter().filter_map(|name| name.into_os_string().into_string().ok());
        Ok(names.filter(|name| name.starts_with(PREFIX)).collect())
    }

    /// The unfinished ones that were being received, with their index.
    fn parts(&self) -> Result<Vec<(Index, PathBuf)>, SnapshotError> {
        let part = |name: &String| {
            let stem = name.strip_prefix(PREFIX)?.strip_suffix(RECEIVING)?;
            let index = u64::from_str_radix(stem.get(..16)?, 16).ok()?;
            Some((Index(index), self.dir.join(name)))
        };
        Ok(self.names()?.iter().filter_map(part).collect())
    }

    fn remove_parts_up_to_newest(&self) -> Result<(), SnapshotError> {
        let Some(newest) = self.newest() else { return Ok(()) };
        for (_, path) in self.parts()?.into_iter().filter(|(index, _)| *index <= newest.position.id.index) {
            self.disk.unlink(&path).map_err(SnapshotError::io("remove", &path))?;
        }
        Ok(())
    }
}

const PREFIX: &str = "snapshot-";
const TAKING: &str = "taking";
const RECEIVING: &str = ".receiving";
const DAMAGED: &str = "damaged";
