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
        let mut snapshots = damaged.open().unwrap_or_else(|error| panic!("damage at {offset} is no error: {error}"));
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

/// A file of a later version of the format is whole: it is not set aside, and nothing older is used in its place.
#[test]
fn a_later_version_is_refused() {
    let (rig, [_, second], _) = two();
    let file = Disk::virtual_(rig.disk.clone()).open(&path(&second)).expect("it is there");
    let mut header = [0; 20];
    file.read_at(0, &mut header).expect("it can be read");
    header[8] = 2;
    let mut whole = vec![0; u32::from_le_bytes(header[12..16].try_into().expect("four")) as usize];
    file.read_at(0, &mut whole).expect("it can be read");
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&header[..16]), &whole[20..]);
    header[16..].copy_from_slice(&checksum.to_le_bytes());
    file.write_at(0, &header).expect("it can be written");
    let error = rig.open().expect_err("it is not thrown away");
    assert_eq!((error.exit_code(), error.to_string().contains("version 2")), (78, true), "{error}");
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

/// C-5: the log reaches back to the older of two good ones; one that was found damaged is none of them.
#[test]
fn c05_a_doubted_newest_does_not_push_the_good_one_before_it_out() {
    let (mut rig, [first, second], _) = two();
    let mut snapshots = rig.open().expect("good");
    rig.disk.flip_bits(&path(&second), second.bytes / 2, 1);
    snapshots.doubt(second.position.id.index);
    rig.fill(1, 20);
    let third = rig.take(&mut snapshots).expect("the disk works");
    assert_eq!(snapshots.prune(2).expect("the disk works"), 1);
    assert_eq!(snapshots.kept().collect::<Vec<_>>(), [first, third]);
    let aside = format!("{}.damaged", name(&path(&second)));
    assert_eq!(names(&rig.disk), [name(&path(&first)), aside, name(&path(&third))]);
}

/// It may be good, and all that there is.
#[test]
fn a_doubted_one_stays_until_there_are_enough_others() {
    let (mut rig, [first, second], _) = two();
    let mut snapshots = rig.open().expect("good");
    snapshots.doubt(first.position.id.index);
    snapshots.doubt(second.position.id.index);
    snapshots.doubt(Index(1_000)); // there is none
    rig.fill(1, 20);
    let third = rig.take(&mut snapshots).expect("the disk works");
    assert_eq!(snapshots.prune(2).expect("the disk works"), 0);
    assert_eq!(snapshots.kept().collect::<Vec<_>>(), [first, second, third]);
    rig.fill(1, 20);
    let fourth = rig.take(&mut snapshots).expect("the disk works");
    assert_eq!(snapshots.prune(2).expect("the disk works"), 2);
    assert_eq!(snapshots.kept().collect::<Vec<_>>(), [third, fourth]);
    // However many are doubted, they do not fill the disk.
    for _ in 0..5 {
        let newest = snapshots.newest().expect("there is one").position.id.index;
        snapshots.doubt(newest);
        rig.fill(1, 20);
        rig.take(&mut snapshots).expect("the disk works");
        snapshots.prune(2).expect("the disk works");
        assert!(snapshots.kept().count() <= 4 && names(&rig.disk).len() <= 6, "{:?}", names(&rig.disk));
    }
}

#[test]
fn of_those_that_were_set_aside_the_newest_stay() {
    let (mut rig, taken, _) = two();
    let mut snapshots = rig.open().expect("good");
    let mut all = taken.to_vec();
    for _ in 0..3 {
        rig.fill(1, 20);
        all.push(rig.take(&mut snapshots).expect("the disk works"));
    }
    for summary in &all {
        rig.disk.flip_bits(&path(summary), summary.bytes / 2, 1);
    }
    assert!(snapshots.load_newest(Some(CLUSTER)).expect("no error").is_none());
    let aside: Vec<String> = all[3..].iter().map(|summary| format!("{}.damaged", name(&path(summary)))).collect();
    assert_eq!(names(&rig.disk), aside);
    // What an earlier version left goes at a start.
    let disk = Disk::virtual_(rig.disk.clone());
    for index in 0..4 {
        disk.create(&dir().join(format!("snapshot-{index:016x}.damaged"))).expect("the disk works");
    }
    rig.open().expect("a start");
    assert_eq!(names(&rig.disk), aside);
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

/// Who begins to fetch a snapshot again and again may have found it damaged, or have a full disk: the file itself decides.
#[test]
fn a_doubted_file_is_read_through_before_anybody_believes_that_it_is_damaged() {
    let (rig, [_, second], _) = two();
    let snapshots = rig.open().expect("good");
    let (member, last) = (NodeId(2), second.position.id.index);
    let mut doubts = Doubts::default();
    let mut verdict = |snapshots: &Snapshots| {
        for _ in 1..crate::limits::SNAPSHOT_BEGUN_MAX {
            doubts.begun(snapshots, member, last);
            assert!(!doubts.is_checking());
        }
        doubts.begun(snapshots, member, last);
        let mut read = 0;
        while doubts.is_checking() {
            let (bytes, end) = doubts.step();
            read += bytes;
            if let Some(Checked { member: who, last: which, result }) = end {
                assert_eq!((who, which), (member, last));
                return (read, result);
            }
        }
        panic!("nothing was checked")
    };
    let (read, result) = verdict(&snapshots);
    result.expect("it is good");
    assert!(read > second.bytes / 2, "{read} of {} bytes", second.bytes);
    rig.disk.flip_bits(&path(&second), second.bytes / 2, 1);
    let (_, result) = verdict(&snapshots);
    assert!(matches!(result, Err(SnapshotError::Damaged { .. })), "{result:?}");
    doubts.begun(&snapshots, member, Index(1_000));
    assert!(!doubts.is_checking(), "there is none");
}
