//! Files that are not what was written.

use super::*;
use crate::kv::snapshot::{Damaged, Reason};

/// A directory with two snapshots; also the state of each.
fn two() -> (Rig, [Summary; 2], [State; 2]) {
    let mut rig = Rig::new();
    let mut snapshots = rig.open().expect("an empty directory");
    rig.fill(20, 20);
    let (first, first_state) = (rig.take(&mut snapshots).expect("the disk works"), rig.state());
    rig.fill(30, 20);
    let (second, second_state) = (rig.take(&mut snapshots).expect("the disk works"), rig.state());
    (rig, [first, second], [first_state, second_state])
}

fn path(summary: &Summary) -> PathBuf {
    dir().join(format!("snapshot-{:016x}", summary.position.id.index.0))
}

/// Any flipped bit of the newest is noticed, at the opening or the loading; then the one before is used.
#[test]
fn a_damaged_newest_is_set_aside_for_the_one_before() {
    let (rig, [first, second], [state, _]) = two();
    let mut noticed_at_open = 0;
    for offset in 0..second.bytes {
        let disk = rig.disk.duplicate();
        disk.flip_bits(&path(&second), offset, 1 << (offset % 8));
        let damaged = Rig::on(disk);
        let opened = damaged.open();
        if (8..12).contains(&offset) {
            let error = opened.expect_err("a newer version of the format is not thrown away");
            assert_eq!(error.exit_code(), 78, "{error}");
            continue;
        }
        let mut snapshots = opened.expect("damage is no error");
        noticed_at_open += usize::from(snapshots.newest() == Some(first));
        let (loaded, restored) = snapshots.load_newest(Some(CLUSTER)).expect("the first is good").expect("it is there");
        assert_eq!(loaded, first, "a flipped bit at {offset} is noticed");
        assert_eq!(state_of(restored), state);
        let names = names(&damaged.disk);
        assert_eq!(names, [name(&path(&first)), format!("{}.damaged", name(&path(&second)))]);
        assert_eq!(damaged.open().expect("a start").newest(), Some(first), "what was set aside stays there");
    }
    assert!((100..500).contains(&noticed_at_open), "{noticed_at_open} bits of header and footer");
}

fn name(path: &Path) -> String {
    path.file_name().expect("it has one").to_string_lossy().into_owned()
}

/// Any shorter file, and a longer one.
#[test]
fn a_file_of_another_length_is_refused() {
    let (rig, [_, second], _) = two();
    let whole = rig.disk.contents(&path(&second)).expect("it is there");
    let disk = Disk::virtual_(VirtualDisk::new());
    for length in 0..whole.len() {
        let file = dir().join(format!("cut-{length}"));
        disk.create(&file).and_then(|cut| cut.write_at(0, &whole[..length])).expect("the disk works");
        let error = inspect::verify_on(&disk, &file).expect_err("it is cut");
        assert!(matches!(error, SnapshotError::Damaged { damaged: Damaged { reason: Reason::Truncated, .. }, .. }));
        let error = Reading::open(&disk, file).and_then(|mut file| file.summary()).expect_err("it is cut");
        assert!(error.is_rot(), "{error}");
    }
    let longer = [&whole[..], b"\0"].concat();
    let file = dir().join("longer");
    disk.create(&file).and_then(|file| file.write_at(0, &longer)).expect("the disk works");
    let error = inspect::verify_on(&disk, &file).expect_err("it is longer");
    let trailing = Damaged { offset: whole.len() as u64, reason: Reason::Trailing };
    assert!(matches!(error, SnapshotError::Damaged { damaged, .. } if damaged == trailing));
}

#[test]
fn when_both_are_damaged_there_is_none() {
    let (rig, [first, second], _) = two();
    rig.disk.flip_bits(&path(&first), first.bytes / 2, 1);
    rig.disk.flip_bits(&path(&second), second.bytes / 2, 1);
    let mut snapshots = rig.open().expect("headers and footers are good");
    assert_eq!(snapshots.kept().count(), 2);
    assert!(snapshots.load_newest(Some(CLUSTER)).expect("no error").is_none());
    assert_eq!(snapshots.newest(), None);
    assert_eq!(names(&rig.disk).len(), 2, "nothing is thrown away");
}

#[test]
fn another_cluster_s_snapshot_is_an_error() {
    let (rig, [_, second], _) = two();
    let mut snapshots = rig.open().expect("good");
    let error = snapshots.load_newest(Some(ClusterId(2))).err().expect("it is another's");
    assert!(matches!(error, SnapshotError::Foreign { expected: ClusterId(2), cluster: CLUSTER, .. }));
    assert_eq!(error.exit_code(), 78, "{error}");
    assert_eq!(snapshots.newest(), Some(second), "it stays where it is");
}

/// The header is the truth, not the name.
#[test]
fn a_file_by_another_name_is_what_its_header_says() {
    let (rig, [first, second], [_, state]) = two();
    let disk = Disk::virtual_(rig.disk.clone());
    let swapped = dir().join("snapshot-swapped");
    disk.rename(&path(&first), &swapped).expect("the disk works");
    disk.rename(&path(&second), &path(&first)).expect("the disk works");
    disk.rename(&swapped, &path(&second)).expect("the disk works");
    let mut snapshots = rig.open().expect("good");
    assert_eq!(snapshots.kept().collect::<Vec<_>>(), [first, second]);
    let (loaded, restored) = snapshots.load_newest(Some(CLUSTER)).expect("good").expect("one");
    assert_eq!(loaded, second);
    assert_eq!(state_of(restored), state);
}

#[test]
fn reports_say_what_a_file_is() {
    let (rig, [_, second], _) = two();
    let disk = Disk::virtual_(rig.disk.clone());
    let report = inspect::verify_on(&disk, &path(&second)).expect("good");
    let text = report.to_string();
    assert!(text.contains("index 53, term 1\n") && text.contains("keys         30\n"), "{text}");
    assert!(text.contains("members 0 1 2\n") && text.contains("node 1, incarnation 0000000000000011\n"), "{text}");
    assert_eq!(report.json()["keys"], 30);
    assert_eq!(report.json()["verified"], true);
    rig.disk.flip_bits(&path(&second), second.bytes / 2, 1);
    let error = inspect::verify_on(&disk, &path(&second)).expect_err("damaged");
    assert!(error.to_string().contains("does not match its checksum"), "{error}");
    let report = inspect::inspect_on(&disk, &path(&second)).expect("header and footer are good");
    assert_eq!(report.json()["verified"], false);
}
