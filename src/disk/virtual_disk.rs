//! A disk in memory that keeps a cache image and a durable image of each file, and of the directory, and mixes them at
//! a power cut: of what was not synced, any pages and any names may survive.
//!
//! Used by one thread at a time in the simulator; the lock makes it `Send`.

mod inode;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::memory::Memory;
use super::{Dropped, LockError, PAGE_BYTES};
use crate::random::SplitMix64;
use inode::Inode;

const PAGE: usize = PAGE_BYTES as usize;
/// What a disk writes at once.
const SECTOR: usize = 512;

/// A disk whose power can be cut. Clones share the same files.
#[derive(Clone, Debug, Default)]
pub struct VirtualDisk {
    state: Arc<Mutex<State>>,
}

/// An open file. Fails after a power cut.
#[derive(Debug)]
pub(super) struct Handle {
    disk: VirtualDisk,
    inode: u64,
    generation: u64,
    _opened: Arc<()>,
}

/// A locked directory.
#[derive(Debug)]
pub(super) struct Lock {
    disk: VirtualDisk,
    dir: PathBuf,
    generation: u64,
}

#[derive(Debug, Default)]
struct State {
    /// Power cuts so far: handles of an earlier life fail.
    generation: u64,
    operations: u64,
    crash_at: Option<u64>,
    crashed: bool,
    /// Countdowns: the operation that takes one to zero fails.
    fail_sync: Option<u64>,
    fail_write: Option<u64>,
    /// The next sync of a file with pages to write puts one of them in the wrong place, drawn from this.
    misdirect: Option<u64>,
    /// The file in which a page went astray, until somebody asks.
    astray: Option<u64>,
    free_space: Option<u64>,
    read_only: bool,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    /// What a process sees.
    names: BTreeMap<PathBuf, u64>,
    /// What survives a power cut for certain.
    durable_names: BTreeMap<PathBuf, u64>,
    /// What happened to names since the last `sync_dir`, in order.
    name_changes: Vec<NameChange>,
    locks: BTreeSet<PathBuf>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Link { path: PathBuf, inode: u64 },
    Unlink { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf, inode: u64 },
}

impl VirtualDisk {
    /// An empty disk.
    pub fn new() -> VirtualDisk {
        VirtualDisk::default()
    }

    /// Cuts the power: of everything that was not synced, a part drawn from `seed` survives, page by page (some torn at
    /// 512 bytes) and name by name. Handles and locks of before end; `crash_at` and the fault switches are cleared.
    /// Tells how many pages had not been synced.
    pub fn power_cut(&self, seed: u64) -> usize {
        let mut random = SplitMix64::new(seed);
        let mut state = self.lock();
        let unsynced = state.inodes.values().map(|inode| inode.dirty.len()).sum();
        state.cut_names(&mut random);
        for inode in state.inodes.values_mut() {
            inode.cut(&mut random);
            inode.opened = Arc::default();
        }
        state.forget_unnamed();
        state.generation += 1;
        (state.crash_at, state.crashed, state.fail_sync, state.fail_write) = (None, false, None, None);
        state.misdirect = None;
        state.locks.clear();
        unsynced
    }

    /// Disk operations so far: every call that changes something, and every sync.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// The `operation`-th disk operation of this disk (1 = its first) and everything after it fails, as if the power
    /// was gone. Then call `power_cut`, which gives the power back.
    pub fn crash_at(&self, operation: u64) {
        self.lock().crash_at = Some(operation);
    }

    /// The `nth` sync from now (1 = the next) fails with EIO and leaves its pages clean: a later sync succeeds, the
    /// cache has the new bytes, the durable image keeps the old ones.
    pub fn fail_sync(&self, nth: u64) {
        self.lock().fail_sync = Some(nth);
    }

    /// The `nth` write from now (1 = the next) fails with EIO and changes nothing.
    pub fn fail_write(&self, nth: u64) {
        self.lock().fail_write = Some(nth);
    }

    /// From now on files can grow by at most this many bytes in total; `None` = without limit.
    pub fn set_free_space(&self, bytes: Option<u64>) {
        self.lock().free_space = bytes;
    }

    /// From now on every change fails with EROFS, and so does a sync that has something to write: what a file system does
    /// once it cannot trust its disk. Reads go on.
    pub fn set_read_only(&self, read_only: bool) {
        self.lock().read_only = read_only;
    }

    /// All files with their lengths, as a process sees them.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.lock();
        state.names.iter().map(|(path, inode)| (path.clone(), state.inodes[inode].size as u64)).collect()
    }

    /// Rot: of the durable image of a file, around `offset`, up to 64 bits flip, or a sector becomes zeroes or garbage. A
    /// process sees it at once, or, as long as the page cache holds what was there, not. Both are drawn from `seed`. Tells
    /// whether the file's last sync had written there; none where there is no durable byte to rot.
    pub fn rot(&self, path: &Path, offset: u64, seed: u64) -> Option<bool> {
        let mut state = self.lock();
        state.inode_at(path)?.rot(offset as usize, &mut SplitMix64::new(seed))
    }

    /// A page of the next sync is written to another place of its file, both drawn from `seed`: what was there is gone, and
    /// where it belongs the disk keeps what it had. The page cache shows neither.
    pub fn misdirect(&self, seed: u64) {
        self.lock().misdirect = Some(seed);
    }

    /// The file in which a page has gone astray since the last time this was asked.
    pub fn take_astray(&self) -> Option<PathBuf> {
        let mut state = self.lock();
        let inode = state.astray.take()?;
        state.names.iter().find(|(_, named)| **named == inode).map(|(path, _)| path.clone())
    }

    /// Flips bits of one byte of a file, in the cache and durably (bit rot).
    pub fn flip_bits(&self, path: &Path, offset: u64, mask: u8) {
        let byte = self.contents(path).expect("the file exists")[offset as usize];
        self.overwrite(path, offset, &[byte ^ mask]);
    }

    /// Replaces bytes of a file behind everybody's back, in the cache and durably.
    pub fn overwrite(&self, path: &Path, offset: u64, bytes: &[u8]) {
        let mut state = self.lock();
        let inode = state.inode_at(path).expect("the file exists");
        assert!(offset as usize + bytes.len() <= inode.size, "within the file");
        inode.memory.write(offset as usize, bytes);
        for (i, byte) in bytes.iter().enumerate() {
            let at = offset as usize + i;
            inode.durable_page(at / PAGE)[at % PAGE] = *byte;
        }
    }

    /// The bytes of a file as a process sees them.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let mut state = self.lock();
        let inode = state.inode_at(path)?;
        let mut bytes = vec![0; inode.size];
        inode.memory.read(0, &mut bytes);
        Some(bytes)
    }

    /// A disk of its own with the same files, durable and cached, and the same unsynced changes.
    pub fn duplicate(&self) -> VirtualDisk {
        let state = self.lock();
        let copy = State {
            generation: 0,
            inodes: state.inodes.iter().map(|(id, inode)| (*id, inode.duplicate())).collect(),
            next_inode: state.next_inode,
            names: state.names.clone(),
            durable_names: state.durable_names.clone(),
            name_changes: state.name_changes.clone(),
            free_space: state.free_space,
            ..State::default()
        };
        VirtualDisk { state: Arc::new(Mutex::new(copy)) }
    }

    pub(super) fn create(&self, path: &Path) -> io::Result<Handle> {
        let mut state = self.lock();
        state.change()?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = state.next_inode;
        state.next_inode += 1;
        state.inodes.insert(inode, Inode::new());
        state.names.insert(path.to_owned(), inode);
        state.name_changes.push(NameChange::Link { path: path.to_owned(), inode });
        Ok(self.handle(&state, inode))
    }

    pub(super) fn open(&self, path: &Path) -> io::Result<Handle> {
        self.lock().writable()?;
        self.open_to_read(path)
    }

    pub(super) fn open_to_read(&self, path: &Path) -> io::Result<Handle> {
        let state = self.lock();
        state.powered()?;
        let inode = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.handle(&state, inode))
    }

    fn handle(&self, state: &State, inode: u64) -> Handle {
        let opened = state.inodes[&inode].opened.clone();
        Handle { disk: self.clone(), inode, generation: state.generation, _opened: opened }
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.change()?;
        let inode = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), inode);
        state.name_changes.push(NameChange::Rename { from: from.to_owned(), to: to.to_owned(), inode });
        Ok(())
    }

    pub(super) fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.change()?;
        state.names.remove(path).ok_or(io::ErrorKind::NotFound)?;
        state.name_changes.push(NameChange::Unlink { path: path.to_owned() });
        Ok(())
    }

    pub(super) fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.operation()?;
        state.count_down_sync()?;
        let changes = std::mem::take(&mut state.name_changes);
        let (here, elsewhere) = changes.into_iter().partition(|change| change.dir() == Some(dir));
        state.name_changes = elsewhere;
        let here: Vec<NameChange> = here;
        for change in here {
            change.apply(&mut state.durable_names);
        }
        state.forget_unnamed();
        Ok(())
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.lock();
        state.powered()?;
        let here = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(here.filter_map(|path| path.file_name().map(PathBuf::from)).collect())
    }

    pub(super) fn free_space(&self) -> u64 {
        self.lock().free_space.unwrap_or(u64::MAX)
    }

    pub(super) fn lock_dir(&self, dir: &Path) -> Result<Lock, LockError> {
        let mut state = self.lock();
        state.powered()?;
        if !state.locks.insert(dir.to_owned()) {
            return Err(LockError::Held);
        }
        Ok(Lock { disk: self.clone(), dir: dir.to_owned(), generation: state.generation })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding the disk")
    }
}

impl Handle {
    pub(super) fn size(&self) -> io::Result<u64> {
        self.with(|inode| inode.size as u64)
    }

    pub(super) fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.change()?;
        if count_down(&mut state.fail_write) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let State { free_space, inodes, generation, .. } = &mut *state;
        let inode = self.find(inodes, *generation)?;
        let end = offset as usize + bytes.len();
        let growth = end.saturating_sub(inode.size) as u64;
        if let Some(free) = free_space {
            *free = free.checked_sub(growth).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOSPC))?;
        }
        inode.grow(end);
        inode.memory.write(offset as usize, bytes);
        inode.dirty.extend(offset as usize / PAGE..end.div_ceil(PAGE));
        Ok(())
    }

    pub(super) fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.with(|inode| {
            if offset as usize + bytes.len() > inode.size {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            inode.memory.read(offset as usize, bytes);
            Ok(())
        })?
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.operation()?;
        let failed = state.count_down_sync();
        let writable = state.writable();
        let State { inodes, generation, misdirect, astray, .. } = &mut *state;
        let inode = self.find(inodes, *generation)?;
        if !inode.dirty.is_empty() {
            writable?;
        }
        if failed.is_err() {
            let unwritten = std::mem::take(&mut inode.dirty);
            inode.stale.extend(unwritten); // as Linux does: the pages are called clean although they were not written
            return failed;
        }
        let there = misdirect.and_then(|seed| inode.draw_misdirection(&mut SplitMix64::new(seed)));
        let kept = there.map(|(page, _)| inode.durable_page(page).to_vec());
        inode.write_back();
        if let (Some((page, wrong)), Some(kept)) = (there, kept) {
            inode.put_astray(page, wrong, &kept);
            (*misdirect, *astray) = (None, Some(self.inode));
        }
        Ok(())
    }

    /// The file has just been synced.
    pub(super) fn drop_cache(&self) -> io::Result<Dropped> {
        self.with(|inode| {
            if Arc::strong_count(&inode.memory) == 1 {
                inode.forget_cache();
                return Ok(Dropped::Yes);
            }
            match inode.is_what_the_disk_holds() {
                true => Ok(Dropped::Verified),
                false => Err(io::Error::new(io::ErrorKind::InvalidData, "the page cache differs from the disk")),
            }
        })?
    }

    pub(super) fn memory(&self) -> io::Result<Arc<Memory>> {
        self.with(|inode| inode.memory.clone())
    }

    fn with<T>(&self, f: impl FnOnce(&mut Inode) -> T) -> io::Result<T> {
        let mut state = self.disk.lock();
        state.powered()?;
        let generation = state.generation;
        Ok(f(self.find(&mut state.inodes, generation)?))
    }

    fn find<'a>(&self, inodes: &'a mut BTreeMap<u64, Inode>, generation: u64) -> io::Result<&'a mut Inode> {
        if self.generation != generation {
            return Err(io::Error::other("this handle is from before a power cut"));
        }
        inodes.get_mut(&self.inode).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Ok(mut state) = self.disk.state.lock() {
            if state.generation == self.generation {
                state.locks.remove(&self.dir);
            }
        }
    }
}

impl State {
    fn powered(&self) -> io::Result<()> {
        if self.crashed {
            return Err(io::Error::other("the power is gone"));
        }
        Ok(())
    }

    fn operation(&mut self) -> io::Result<()> {
        if self.crash_at.is_some_and(|at| self.operations + 1 >= at) {
            self.crashed = true;
        }
        self.powered()?;
        self.operations += 1;
        Ok(())
    }

    fn writable(&self) -> io::Result<()> {
        if self.read_only {
            return Err(io::Error::from_raw_os_error(libc::EROFS));
        }
        Ok(())
    }

    /// An operation that changes a file or a name.
    fn change(&mut self) -> io::Result<()> {
        self.operation()?;
        self.writable()
    }

    fn count_down_sync(&mut self) -> io::Result<()> {
        if count_down(&mut self.fail_sync) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        Ok(())
    }

    fn inode_at(&mut self, path: &Path) -> Option<&mut Inode> {
        let inode = self.names.get(path)?;
        self.inodes.get_mut(inode)
    }

    /// Either a prefix of the changes survives (as on a journaling file system) or any subset (as on others).
    fn cut_names(&mut self, random: &mut SplitMix64) {
        let changes = std::mem::take(&mut self.name_changes);
        let prefix = random.below(2) == 0;
        let kept = random.below(changes.len() as u64 + 1) as usize;
        for (i, change) in changes.into_iter().enumerate() {
            if if prefix { i < kept } else { random.below(2) == 0 } {
                change.apply(&mut self.durable_names);
            }
        }
        self.names = self.durable_names.clone();
    }

    fn forget_unnamed(&mut self) {
        let changed = self.name_changes.iter().filter_map(|change| match change {
            NameChange::Link { inode, .. } | NameChange::Rename { inode, .. } => Some(*inode),
            NameChange::Unlink { .. } => None,
        });
        let named: BTreeSet<u64> =
            self.names.values().chain(self.durable_names.values()).copied().chain(changed).collect();
        self.inodes.retain(|id, inode| named.contains(id) || inode.is_open());
    }
}

impl NameChange {
    fn dir(&self) -> Option<&Path> {
        match self {
            NameChange::Link { path, .. } | NameChange::Unlink { path } => path.parent(),
            NameChange::Rename { to, .. } => to.parent(),
        }
    }

    fn apply(self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            NameChange::Link { path, inode } => {
                names.insert(path, inode);
            }
            NameChange::Unlink { path } => {
                names.remove(&path);
            }
            NameChange::Rename { from, to, inode } => {
                names.remove(&from);
                names.insert(to, inode);
            }
        }
    }
}

fn count_down(counter: &mut Option<u64>) -> bool {
    let Some(left) = counter else { return false };
    *left -= 1;
    let now = *left == 0;
    if now {
        *counter = None;
    }
    now
}
