use std::path::Path;

use super::*;

/// Two pages: the first synced as ones, then both written as twos and not synced.
fn half_written() -> (VirtualDisk, &'static Path) {
    let (disk, path) = (VirtualDisk::new(), Path::new("/dir/file"));
    let file = disk.create(path).unwrap();
    file.write_at(0, &[1; PAGE]).unwrap();
    file.sync().unwrap();
    disk.sync_dir(Path::new("/dir")).unwrap();
    file.write_at(0, &[2; 2 * PAGE]).unwrap();
    (disk, path)
}

#[test]
fn a_power_cut_loses_tears_and_keeps_what_was_not_synced() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let (disk, path) = half_written();
        assert_eq!(disk.power_cut(seed), 2, "pages were not synced");
        let bytes = disk.contents(path).unwrap();
        let first = &bytes[..PAGE];
        assert!(first.chunks(SECTOR).all(|sector| sector == [1; SECTOR] || sector == [2; SECTOR]));
        assert!(bytes[PAGE..].chunks(SECTOR).all(|sector| sector == [0; SECTOR] || sector == [2; SECTOR]));
        let twos = first.chunks(SECTOR).filter(|sector| sector[0] == 2).count();
        seen.insert(match twos {
            0 => "lost",
            8 => "kept",
            _ => "torn",
        });
        let file = disk.open(path).unwrap();
        assert_eq!(file.drop_cache().unwrap(), Dropped::Yes);
        assert_eq!(disk.contents(path).unwrap(), bytes, "the cache shows what the disk holds");
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["kept", "lost", "torn"]);
}

#[test]
fn rot_is_on_the_disk_and_in_the_cache_at_once_or_later() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let (disk, path) = (VirtualDisk::new(), Path::new("/dir/file"));
        let file = disk.create(path).unwrap();
        file.write_at(0, &[1; 2 * PAGE]).unwrap();
        file.sync().unwrap();
        file.write_at(PAGE as u64, &[2; PAGE]).unwrap();
        file.sync().unwrap();
        assert_eq!(disk.rot(path, 5 * PAGE as u64, seed), None, "there is nothing");
        assert_eq!(disk.rot(path, 1_000, seed), Some(false), "the last sync wrote the other page");
        seen.insert(disk.contents(path).unwrap()[..PAGE] == [1; PAGE]);
        assert_eq!(file.drop_cache().unwrap(), Dropped::Yes);
        let bytes = disk.contents(path).unwrap();
        assert_eq!(bytes[..SECTOR], [1; SECTOR], "of another sector");
        assert_eq!(bytes[PAGE..], [2; PAGE], "of another page");
        file.sync().unwrap(); // which writes nothing
        assert_eq!(disk.rot(path, PAGE as u64, seed), Some(true), "it is the last write still");
    }
    assert_eq!(seen.len(), 2);
}

#[test]
fn a_misdirected_page_is_missing_where_it_belongs_and_harms_another() {
    for seed in 0..100 {
        let (disk, path) = (VirtualDisk::new(), Path::new("/dir/file"));
        let file = disk.create(path).unwrap();
        file.write_at(0, &[1; 4 * PAGE]).unwrap();
        file.sync().unwrap();
        disk.sync_dir(Path::new("/dir")).unwrap();
        file.write_at(PAGE as u64, &[2; PAGE]).unwrap();
        disk.misdirect(seed);
        file.sync().unwrap();
        assert_eq!(disk.take_astray().as_deref(), Some(path));
        assert_eq!(disk.take_astray(), None);
        assert_eq!(disk.contents(path).unwrap()[PAGE..2 * PAGE], [2; PAGE], "the cache does not know");
        assert_eq!(file.drop_cache().unwrap(), Dropped::Yes);
        let bytes = disk.contents(path).unwrap();
        let holds = |page: usize| bytes[page * PAGE];
        assert_eq!(holds(1), 1);
        assert_eq!([0, 2, 3].into_iter().filter(|page| holds(*page) == 2).count(), 1);
        file.write_at(0, &[3; PAGE]).unwrap();
        file.sync().unwrap();
        assert_eq!(disk.take_astray(), None, "it was one page");
    }
}

#[test]
fn a_failed_sync_leaves_the_cache_ahead_of_the_disk_until_it_is_dropped() {
    let (disk, path) = half_written();
    let file = disk.open(path).unwrap();
    disk.fail_sync(1);
    file.sync().unwrap_err();
    file.sync().expect("the pages are called clean");
    assert_eq!(disk.contents(path).unwrap()[..PAGE], [2; PAGE]);
    let map = file.memory().unwrap();
    assert_eq!(file.drop_cache().unwrap_err().kind(), io::ErrorKind::InvalidData, "a mapped file is compared");
    drop(map);
    assert_eq!(file.drop_cache().unwrap(), Dropped::Yes);
    let bytes = disk.contents(path).unwrap();
    assert_eq!(bytes[..PAGE], [1; PAGE]);
    assert!(bytes[PAGE..].iter().all(|byte| *byte == 0));
}

#[test]
fn an_open_file_can_be_read_when_another_has_its_name_or_none() {
    let (disk, dir) = (VirtualDisk::new(), Path::new("/d"));
    let write = |path: &Path, byte: u8| {
        let file = disk.create(path).unwrap();
        file.write_at(0, &[byte; 100]).unwrap();
        file.sync().unwrap();
        disk.sync_dir(dir).unwrap();
    };
    let (name, next) = (dir.join("a"), dir.join("b"));
    write(&name, 1);
    let first = disk.open(&name).unwrap();
    write(&next, 2);
    disk.rename(&next, &name).unwrap();
    disk.sync_dir(dir).unwrap();
    let second = disk.open(&name).unwrap();
    disk.unlink(&name).unwrap();
    disk.sync_dir(dir).unwrap();
    for (file, byte) in [(&first, 1), (&second, 2)] {
        let mut bytes = [0; 100];
        file.read_at(0, &mut bytes).unwrap();
        assert_eq!(bytes, [byte; 100]);
    }
    disk.power_cut(1);
    assert!(first.read_at(0, &mut [0; 1]).is_err(), "the power ends who had it open");
    assert!(disk.open(&name).is_err());
}
