//! The only way to files: create, open, map, write, read, sync, rename, unlink. Two variants behind one handle: the
//! operating system's files, and a virtual disk for tests and the simulator that forgets what was not synced.
//!
//! Written data is durable after [`File::sync`], a created, renamed or removed name after [`Disk::sync_dir`].
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "this is the only way to files")]

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Arc;

mod cache;
mod memory;
mod real;
mod virtual_disk;

pub use real::thread_bytes_written;
pub use virtual_disk::VirtualDisk;

/// The unit in which the kernel caches, and in which a power cut keeps or loses bytes.
pub const PAGE_BYTES: u64 = 4096;

/// A handle to a disk. Cheap to clone, may be sent to other threads.
#[derive(Clone, Debug)]
pub struct Disk {
    inner: Inner,
    counts: Arc<Counts>,
}

#[derive(Clone, Debug)]
enum Inner {
    Real,
    Virtual(VirtualDisk),
}

#[derive(Debug, Default)]
struct Counts {
    writes: AtomicU64,
    bytes_written: AtomicU64,
    syncs: AtomicU64,
    uncached: AtomicU64,
}

/// What went through a disk handle and its clones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls of [`File::write_at`].
    pub writes: u64,
    /// Bytes handed to [`File::write_at`].
    pub bytes_written: u64,
    /// Calls of [`File::sync`] and [`Disk::sync_dir`].
    pub syncs: u64,
    /// Calls of [`File::uncache`].
    pub uncached: u64,
}

/// An open file. All its calls take a position, so it can be shared.
#[derive(Debug)]
pub struct File {
    inner: FileInner,
    counts: Arc<Counts>,
}

#[derive(Debug)]
enum FileInner {
    Real(std::fs::File),
    Virtual(virtual_disk::Handle),
}

/// A file's bytes in memory, as the page cache has them. Stays valid after the file is closed or unlinked.
#[derive(Debug)]
pub struct Map {
    inner: MapInner,
    len: u64,
}

#[derive(Debug)]
enum MapInner {
    Empty,
    Real(memmap2::MmapRaw),
    Virtual(Arc<memory::Memory>),
}

/// What [`File::drop_cache`] achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// Nothing of the file is cached: what is read next comes from the disk.
    Yes,
    /// Some pages could not be dropped; they were read around the cache and are what the disk holds.
    Verified,
    /// Some pages could not be dropped and the file system cannot be read around its cache.
    Unverified,
}

/// Why a directory could not be locked.
#[derive(Debug)]
pub enum LockError {
    /// Another process (or handle) holds it.
    Held,
    /// The lock file cannot be opened or locked.
    Io(io::Error),
}

/// An exclusive lock on a directory, released when it is dropped or its process ends.
#[derive(Debug)]
pub struct DirLock {
    _inner: LockInner,
}

#[derive(Debug)]
enum LockInner {
    Real { _file: std::fs::File },
    Virtual { _lock: virtual_disk::Lock },
}

impl Disk {
    /// The operating system's files.
    pub fn real() -> Disk {
        Disk { inner: Inner::Real, counts: Arc::default() }
    }

    /// The files of a virtual disk.
    pub fn virtual_(disk: VirtualDisk) -> Disk {
        Disk { inner: Inner::Virtual(disk), counts: Arc::default() }
    }

    /// What went through this handle and its clones so far.
    pub fn counters(&self) -> Counters {
        Counters {
            writes: self.counts.writes.load(Relaxed),
            bytes_written: self.counts.bytes_written.load(Relaxed),
            syncs: self.counts.syncs.load(Relaxed),
            uncached: self.counts.uncached.load(Relaxed),
        }
    }

    /// Creates a directory and what is missing above it, durably. Fine if it exists.
    pub fn create_dir(&self, dir: &Path) -> io::Result<()> {
        match &self.inner {
            Inner::Real => real::create_dir(dir),
            Inner::Virtual(_) => Ok(()), // directories exist by themselves there
        }
    }

    /// Creates a file for reading and writing; it must not exist.
    pub fn create(&self, path: &Path) -> io::Result<File> {
        let inner = match &self.inner {
            Inner::Real => FileInner::Real(real::create(path)?),
            Inner::Virtual(disk) => FileInner::Virtual(disk.create(path)?),
        };
        Ok(File { inner, counts: self.counts.clone() })
    }

    /// Opens a file for reading and writing; it must exist.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        let inner = match &self.inner {
            Inner::Real => FileInner::Real(real::open(path)?),
            Inner::Virtual(disk) => FileInner::Virtual(disk.open(path)?),
        };
        Ok(File { inner, counts: self.counts.clone() })
    }

    /// Opens a file for reading only; it must exist.
    pub fn open_to_read(&self, path: &Path) -> io::Result<File> {
        let inner = match &self.inner {
            Inner::Real => FileInner::Real(std::fs::File::open(path)?),
            Inner::Virtual(disk) => FileInner::Virtual(disk.open_to_read(path)?),
        };
        Ok(File { inner, counts: self.counts.clone() })
    }

    /// Renames within one directory, replacing what is there.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        debug_assert_eq!(from.parent(), to.parent(), "renames stay in their directory");
        match &self.inner {
            Inner::Real => std::fs::rename(from, to),
            Inner::Virtual(disk) => disk.rename(from, to),
        }
    }

    /// Removes a name.
    pub fn unlink(&self, path: &Path) -> io::Result<()> {
        match &self.inner {
            Inner::Real => std::fs::remove_file(path),
            Inner::Virtual(disk) => disk.unlink(path),
        }
    }

    /// Makes the names in a directory durable.
    pub fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.counts.syncs.fetch_add(1, Relaxed);
        match &self.inner {
            Inner::Real => std::fs::File::open(dir)?.sync_all(),
            Inner::Virtual(disk) => disk.sync_dir(dir),
        }
    }

    /// The files in a directory, sorted; names only.
    pub fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        match &self.inner {
            Inner::Real => real::list(dir),
            Inner::Virtual(disk) => disk.list(dir),
        }
    }

    /// Bytes that an unprivileged process can still add below `dir`.
    pub fn free_space(&self, dir: &Path) -> io::Result<u64> {
        match &self.inner {
            Inner::Real => real::free_space(dir),
            Inner::Virtual(disk) => Ok(disk.free_space()),
        }
    }

    /// Locks a directory, which must exist, against every other process and handle.
    pub fn lock_dir(&self, dir: &Path) -> Result<DirLock, LockError> {
        let inner = match &self.inner {
            Inner::Real => LockInner::Real { _file: real::lock_dir(dir)? },
            Inner::Virtual(disk) => LockInner::Virtual { _lock: disk.lock_dir(dir)? },
        };
        Ok(DirLock { _inner: inner })
    }
}

impl File {
    /// The file's length in bytes.
    pub fn size(&self) -> io::Result<u64> {
        match &self.inner {
            FileInner::Real(file) => Ok(file.metadata()?.len()),
            FileInner::Virtual(handle) => handle.size(),
        }
    }

    /// Writes all of `bytes` at `offset`; the file grows if it must. Not durable before [`File::sync`].
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.counts.writes.fetch_add(1, Relaxed);
        self.counts.bytes_written.fetch_add(bytes.len() as u64, Relaxed);
        match &self.inner {
            FileInner::Real(file) => std::os::unix::fs::FileExt::write_all_at(file, bytes, offset),
            FileInner::Virtual(handle) => handle.write_at(offset, bytes),
        }
    }

    /// Fills all of `bytes` from `offset`; an error if the file ends before.
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        match &self.inner {
            FileInner::Real(file) => std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset),
            FileInner::Virtual(handle) => handle.read_at(offset, bytes),
        }
    }

    /// Makes all written bytes, and the length, durable (fdatasync). After an error nothing is known about any of the
    /// bytes written since the last success, and a second try that succeeds proves nothing (C-6).
    pub fn sync(&self) -> io::Result<()> {
        self.counts.syncs.fetch_add(1, Relaxed);
        match &self.inner {
            FileInner::Real(file) => file.sync_data(),
            FileInner::Virtual(handle) => handle.sync(),
        }
    }

    /// Syncs, then makes sure that what is read from now on is what the disk holds, not what the page cache believes
    /// (C-6): drops the cache and, where that does not work, compares it with the disk. An error of kind `InvalidData`
    /// if they differ. To be called before the file is mapped.
    pub fn drop_cache(&self) -> io::Result<Dropped> {
        self.sync()?;
        match &self.inner {
            FileInner::Real(file) => cache::drop_cache(file),
            FileInner::Virtual(handle) => handle.drop_cache(),
        }
    }

    /// Lets the kernel have the memory in which it caches what is synced of the file; who reads it again reads the disk. Not
    /// of pages that someone's mapping has touched. A hint.
    pub fn uncache(&self) {
        self.counts.uncached.fetch_add(1, Relaxed);
        if let FileInner::Real(file) = &self.inner {
            cache::uncache(file);
        }
    }

    /// Maps the file as long as it is now. A mapped file must never be made shorter.
    pub fn map(&self) -> io::Result<Map> {
        let len = self.size()?;
        let inner = match &self.inner {
            _ if len == 0 => MapInner::Empty,
            FileInner::Real(file) => MapInner::Real(memmap2::MmapOptions::new().map_raw_read_only(file)?),
            FileInner::Virtual(handle) => MapInner::Virtual(handle.memory()?),
        };
        Ok(Map { inner, len })
    }
}

impl Map {
    /// Bytes that are mapped.
    pub fn size(&self) -> u64 {
        self.len
    }

    /// The bytes of `range`.
    ///
    /// # Safety
    ///
    /// Nobody writes to this range of the file, through any handle, while the slice lives.
    pub unsafe fn slice(&self, range: Range<u64>) -> &[u8] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} is not within {} bytes", self.len);
        let start: *const u8 = match &self.inner {
            MapInner::Empty => return &[],
            MapInner::Real(map) => map.as_ptr(),
            MapInner::Virtual(memory) => memory.as_ptr(),
        };
        let (offset, len) = (range.start as usize, (range.end - range.start) as usize);
        // SAFETY: the range is inside the mapping, which lives as long as `self`; the caller promises that no byte of
        // it changes. A file is never made shorter, so no page of it can vanish.
        unsafe { std::slice::from_raw_parts(start.add(offset), len) }
    }
}

impl From<io::Error> for LockError {
    fn from(error: io::Error) -> Self {
        LockError::Io(error)
    }
}
