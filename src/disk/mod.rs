//! The only way to files: create, open, map, write, read, sync, rename, unlink. Two variants behind one handle: the
//! operating system's files, and a virtual disk for tests and the simulator that forgets what was not synced.

use std::io;
use std::path::{Path, PathBuf};

mod virtual_disk;

pub use virtual_disk::VirtualDisk;

/// A handle to a disk. Cheap to clone, may be sent to other threads.
#[derive(Clone, Debug)]
pub struct Disk {
    inner: Inner,
}

#[derive(Clone, Debug)]
enum Inner {
    Real,
    Virtual(VirtualDisk),
}

/// What went through this disk since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls of `write_at`.
    pub writes: u64,
    /// Bytes handed to `write_at`.
    pub bytes_written: u64,
    /// Calls of `sync` and `sync_dir`.
    pub syncs: u64,
}

impl Disk {
    /// The operating system's files.
    pub fn real() -> Disk {
        Disk { inner: Inner::Real }
    }

    /// The files of a virtual disk.
    pub fn virtual_(disk: VirtualDisk) -> Disk {
        Disk { inner: Inner::Virtual(disk) }
    }

    /// Names of the files in a directory, sorted.
    pub fn list(&self, _dir: &Path) -> io::Result<Vec<PathBuf>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
