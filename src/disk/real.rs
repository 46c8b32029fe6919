//! The operating system's files.

use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::LockError;

/// The file that a running server holds locked.
const LOCK_FILE: &str = "LOCK";

pub(super) fn create_dir(dir: &Path) -> io::Result<()> {
    let parent = match dir.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) => Path::new("."),
        None => return Ok(()), // the root: nobody has created it
    };
    if !dir.is_dir() {
        create_dir(parent)?;
        match fs::create_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        return sync_dir(parent);
    }
    // An earlier start may have been killed between the directory and the sync of its name.
    match sync_dir(parent) {
        // It was not made by us: who makes it and syncs it afterwards may read its parent, on a file system that can be synced
        // (the root of a system may be one that cannot, with a disk mounted below it).
        Err(error) if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput) => Ok(()),
        synced => synced,
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}

pub(super) fn create(path: &Path) -> io::Result<fs::File> {
    OpenOptions::new().read(true).write(true).create_new(true).open(path)
}

pub(super) fn open(path: &Path) -> io::Result<fs::File> {
    OpenOptions::new().read(true).write(true).open(path)
}

pub(super) fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            names.push(PathBuf::from(entry.file_name()));
        }
    }
    names.sort();
    Ok(names)
}

pub(super) fn free_space(dir: &Path) -> io::Result<u64> {
    let path = CString::new(dir.as_os_str().as_bytes())?;
    let mut stat = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: `path` is a C string and `stat` is large enough; both live over the call.
    if unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it filled the structure (which was zeroed before, and zeroes are valid).
    let stat = unsafe { stat.assume_init() };
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

pub(super) fn lock_dir(dir: &Path) -> Result<fs::File, LockError> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(dir.join(LOCK_FILE))?;
    // SAFETY: flock on a descriptor that `file` keeps open.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(file);
    }
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::WouldBlock => Err(LockError::Held),
        _ => Err(LockError::Io(error)),
    }
}

/// Bytes that the calling thread made the kernel write to disk since it was started, page cache included;
/// `None` where the kernel does not tell.
pub fn thread_bytes_written() -> Option<u64> {
    let mut text = [0; 512]; // seven lines of a name and a number; no allocation, the log's thread asks under load
    let len = fs::File::open("/proc/thread-self/io").and_then(|mut file| file.read(&mut text)).ok()?;
    let text = std::str::from_utf8(&text[..len]).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_created_once_and_synced_each_time() {
        let base = std::env::temp_dir().join(format!("raftkv-create-dir-{}", std::process::id()));
        let dir = base.join("a").join("b");
        for _ in 0..2 {
            create_dir(&dir).expect("it can be created, and exist");
            assert!(dir.is_dir());
        }
        create_dir(Path::new("/")).expect("it exists");
        create_dir(Path::new(".")).expect("it exists");
        fs::remove_dir_all(&base).expect("it can be removed");
    }
}
