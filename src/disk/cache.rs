//! Not believing the page cache (C-6). After a failed fsync the kernel calls the lost pages clean, and a restarted
//! process still reads the lost bytes from the cache. Dropping skips pages that are dirty or mapped by someone, so what
//! is still cached afterwards is compared with the disk by direct reads.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

use super::{Dropped, PAGE_BYTES};

/// Pages compared by one read.
const COMPARED_PAGES: u64 = 64;

/// Clean pages that nobody has mapped leave the cache.
pub(super) fn uncache(file: &File) {
    // SAFETY: an advice on an open descriptor; it touches no memory.
    let failed = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    if failed != 0 {
        log::debug!("the file system takes no advice on its cache: {}", io::Error::from_raw_os_error(failed));
    }
}

/// `file` has just been synced.
pub(super) fn drop_cache(file: &File) -> io::Result<Dropped> {
    uncache(file);
    let resident = resident_pages(file)?;
    if !resident.contains(&true) {
        return Ok(Dropped::Yes);
    }
    compare_with_disk(file, &resident)
}

/// Which pages of the file are in the page cache.
fn resident_pages(file: &File) -> io::Result<Vec<bool>> {
    let len = file.metadata()?.len() as usize;
    if len == 0 {
        return Ok(Vec::new());
    }
    let map = memmap2::MmapOptions::new().map_raw_read_only(file)?;
    let mut pages = vec![0u8; len.div_ceil(PAGE_BYTES as usize)];
    // SAFETY: the range is one whole mapping and `pages` has a byte for each of its pages.
    if unsafe { libc::mincore(map.as_mut_ptr().cast(), len, pages.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(pages.into_iter().map(|page| page & 1 != 0).collect())
}

fn compare_with_disk(file: &File, resident: &[bool]) -> io::Result<Dropped> {
    let Some(direct) = open_direct(file)? else {
        log::warn!(
            "the page cache of a log file cannot be dropped and its file system has no O_DIRECT: \
             what is read may not be what the disk holds"
        );
        return Ok(Dropped::Unverified);
    };
    compare(&direct, file, resident)
}

/// Compares the pages that are cached; `direct` reads the disk, `file` the cache.
fn compare(direct: &File, file: &File, resident: &[bool]) -> io::Result<Dropped> {
    let mut on_disk = Aligned::new();
    let mut cached = vec![0u8; (COMPARED_PAGES * PAGE_BYTES) as usize];
    for (chunk, pages) in (0u64..).zip(resident.chunks(COMPARED_PAGES as usize)) {
        if !pages.contains(&true) {
            continue;
        }
        let offset = chunk * COMPARED_PAGES * PAGE_BYTES;
        let len = match read_full(direct, on_disk.bytes(), offset) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(Dropped::Unverified),
            len => len?,
        };
        let cached_len = read_full(file, &mut cached, offset)?;
        if cached[..cached_len] != on_disk.bytes()[..len] {
            let message = format!(
                "the page cache differs from the disk within 256 KiB of offset {offset}, and someone keeps it cached"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
    }
    Ok(Dropped::Verified)
}

/// The same file around the cache; `None` where the file system cannot.
fn open_direct(file: &File) -> io::Result<Option<File>> {
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    match OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path) {
        Ok(direct) => Ok(Some(direct)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOENT | libc::EOPNOTSUPP)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn read_full(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if done % PAGE_BYTES as usize != 0 {
            break; // the end of the file; a direct read could not go on from here
        }
    }
    Ok(done)
}

/// A buffer at an address that direct reads accept.
struct Aligned {
    memory: Vec<u8>,
    start: usize,
}

impl Aligned {
    fn new() -> Aligned {
        let memory = vec![0u8; ((COMPARED_PAGES + 1) * PAGE_BYTES) as usize];
        let start = memory.as_ptr().align_offset(PAGE_BYTES as usize);
        Aligned { memory, start }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + (COMPARED_PAGES * PAGE_BYTES) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_file_is_read_from_the_disk_and_a_mapped_one_is_compared() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, vec![7u8; 3 * 4096 + 5]).unwrap();
        let file = super::super::real::open(&path).unwrap();
        file.sync_data().unwrap();
        let dropped = drop_cache(&file).unwrap();
        assert!(matches!(dropped, Dropped::Yes | Dropped::Verified | Dropped::Unverified));
        if dropped == Dropped::Yes {
            assert!(!resident_pages(&file).unwrap().contains(&true));
        }
        let all = vec![true; 4];
        assert_ne!(compare_with_disk(&file, &all).unwrap(), Dropped::Yes);
    }

    /// Where the cache is all that there is of a file.
    fn is_memory(dir: &std::path::Path) -> bool {
        let types = std::fs::read_to_string("/proc/mounts").unwrap();
        let mounted = |line: &&str| line.split(' ').nth(1).is_some_and(|at| dir.starts_with(at));
        let nearest = types.lines().filter(mounted).max_by_key(|line| line.split(' ').nth(1).map(str::len));
        nearest.is_some_and(|line| matches!(line.split(' ').nth(2), Some("tmpfs" | "ramfs")))
    }

    #[test]
    fn an_uncached_file_says_what_it_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, vec![7u8; 64 * 4096]).unwrap();
        let file = super::super::real::open(&path).unwrap();
        file.sync_data().unwrap();
        let cached = |pages: Vec<bool>| pages.into_iter().filter(|&cached| cached).count();
        let before = cached(resident_pages(&file).unwrap());
        uncache(&file);
        let after = cached(resident_pages(&file).unwrap());
        assert!(after < before || before == 0 || is_memory(dir.path()), "{before} pages before, {after} after");
        assert_eq!(std::fs::read(&path).unwrap(), vec![7u8; 64 * 4096]);
    }

    #[test]
    fn a_cache_that_differs_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let (cached, on_disk) = (dir.path().join("cached"), dir.path().join("on_disk"));
        let mut bytes = vec![7u8; 300 * 4096];
        std::fs::write(&cached, &bytes).unwrap();
        bytes[290 * 4096] = 8;
        std::fs::write(&on_disk, &bytes).unwrap();
        let (cached, on_disk) = (File::open(cached).unwrap(), File::open(on_disk).unwrap());
        let mut resident = vec![true; 300];
        assert_eq!(compare(&on_disk, &cached, &resident).unwrap_err().kind(), io::ErrorKind::InvalidData);
        resident[256..].fill(false);
        assert_eq!(compare(&on_disk, &cached, &resident).unwrap(), Dropped::Verified);
    }
}
