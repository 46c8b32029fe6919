//! The same log on the operating system's files.

use std::os::unix::fs::FileExt;

use super::*;

fn options(starts: u64) -> Options {
    Options { segment_bytes: 64 * 1024, tail_bytes: 1 << 20, ..Options::new(NODE, starts * 77 + 1) }
}

#[test]
fn a_log_on_real_files() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("deep/er");
    let mut entries: Vec<Entry> = Vec::new();
    for start in 1..5u64 {
        let (mut wal, recovered) = Wal::open(&Disk::real(), &dir, options(start)).unwrap();
        check_recovered(&recovered, &entries);
        wal.push(None, Some(&format()), &[]).unwrap();
        wal.commit().unwrap();
        assert_eq!(read_all(&wal.reader(), 10_000), entries);
        for i in 0..100u64 {
            entries.truncate(entries.len() - (i % 3) as usize % (entries.len() + 1));
            let term = start * 100 + i;
            entries.push(entry(entries.last(), term, &vec![i as u8; 40 * i as usize]));
            wal.push(Some(voted(term, None)), None, &entries[entries.len() - 1..]).unwrap();
            if i % 4 == 0 {
                wal.commit().unwrap();
            }
        }
        wal.commit().unwrap();
        assert_eq!(read_all(&wal.reader(), 10_000), entries);
        wal.idle().unwrap();
        let stats = wal.write_stats();
        assert!(stats.appended_bytes > 100_000 && stats.syncs >= 26, "{stats:?}");
    }
}

#[test]
fn a_second_server_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let first = Wal::open(&Disk::real(), dir.path(), options(1)).unwrap();
    let error = Wal::open(&Disk::real(), dir.path(), options(2)).unwrap_err();
    assert_eq!(error.exit_code(), 73);
    assert!(error.to_string().contains("in use by another server"), "{error}");
    drop(first);
    Wal::open(&Disk::real(), dir.path(), options(3)).unwrap();
}

#[test]
fn a_torn_tail_and_damage_on_real_files() {
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, _) = Wal::open(&Disk::real(), dir.path(), options(1)).unwrap();
    wal.push(None, Some(&format()), &[]).unwrap();
    wal.commit().unwrap();
    let mut entries: Vec<Entry> = Vec::new();
    for _ in 0..3 {
        entries.push(entry(entries.last(), 1, &[1; 1000]));
        wal.push(None, None, &entries[entries.len() - 1..]).unwrap();
        wal.commit().unwrap();
    }
    let end = wal.writer.as_ref().unwrap().end();
    drop(wal);
    let path = dir.path().join(segment::file_name(end.segment));
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0; 100], end.offset - 500).unwrap();
    let (wal, recovered) = Wal::open(&Disk::real(), dir.path(), options(2)).unwrap();
    check_recovered(&recovered, &entries[..2]);
    drop(wal);
    file.write_all_at(&[0; 100], end.offset - 2500).unwrap();
    let error = Wal::open(&Disk::real(), dir.path(), options(3)).unwrap_err();
    assert_eq!(error.exit_code(), 78, "{error}");
}

#[test]
fn no_space_is_told_from_other_errors() {
    let error = |number| WalError::io("write", Path::new("x"))(std::io::Error::from_raw_os_error(number));
    assert!(matches!(error(libc::ENOSPC), WalError::NoSpace { .. }));
    assert!(matches!(error(libc::EDQUOT), WalError::NoSpace { .. }));
    assert!(matches!(error(libc::EIO), WalError::Io { .. }));
}

/// A small append dirties a piece of the fill, or two, and not a large folio: what the kernel counts for this thread stays
/// near it.
#[test]
fn an_append_writes_about_a_piece_of_the_fill() {
    let dir = tempfile::tempdir().unwrap();
    let (mut wal, _) = Wal::open(&Disk::real(), dir.path(), options(1)).unwrap();
    wal.push(None, Some(&format()), &[]).unwrap();
    wal.commit().unwrap();
    let before = wal.write_stats();
    let mut entries: Vec<Entry> = Vec::new();
    for _ in 0..100 {
        entries.push(entry(entries.last(), 1, &[1; 300]));
        wal.push(None, None, &entries[entries.len() - 1..]).unwrap();
        wal.commit().unwrap();
    }
    let after = wal.write_stats();
    let (Some(before_bytes), Some(after_bytes)) = (before.disk_bytes, after.disk_bytes) else { return };
    if after_bytes == 0 {
        return; // a file system without accounting (tmpfs)
    }
    let per_sync = (after_bytes - before_bytes) / (after.syncs - before.syncs);
    assert!(per_sync <= limits::DISK_BYTES_PER_SYNC + 4096, "{per_sync} bytes per sync");
}
