//! The two meta files (C-7), and whose directory it is.

use super::*;

const A: &str = "meta-a";
const B: &str = "meta-b";

/// A node that voted for 1 in term 5, after term 4.
fn rig_that_voted() -> Rig {
    let mut rig = Rig::new();
    for state in [voted(4, Some(0)), voted(5, None), voted(5, Some(1))] {
        rig.wal().push(Some(state), None, &[]).unwrap();
        let synced = rig.wal().commit().unwrap();
        assert_eq!((synced.syncs, synced.last), (2, None), "both files, nothing else");
    }
    rig.wal = None;
    rig
}

fn used_bytes(rig: &Rig, name: &str) -> u64 {
    let bytes = rig.disk.contents(&Rig::file(name)).unwrap();
    u32::from_le_bytes(bytes[12..16].try_into().unwrap()).into()
}

/// C-7: one file rots; with alternating slots the other would say term 4, and the node would vote again in term 5.
#[test]
fn either_file_may_rot_at_any_byte() {
    let rig = rig_that_voted();
    for (rotten, other) in [(A, B), (B, A)] {
        for at in 0..used_bytes(&rig, rotten) {
            let disk = rig.disk.duplicate();
            disk.flip_bits(&Rig::file(rotten), at, 0x04);
            let mut twin = Rig::on(disk);
            let recovered = twin.open().unwrap();
            assert_eq!(recovered.meta.hard_state, voted(5, Some(1)));
            assert_eq!(recovered.meta.format, Some(format()));
            assert_eq!(
                twin.disk.contents(&Rig::file(rotten)),
                twin.disk.contents(&Rig::file(other)),
                "the rotten one is rewritten"
            );
            // So the other one may go next.
            twin.disk.flip_bits(&Rig::file(other), at, 0x04);
            assert_eq!(twin.open().unwrap().meta, recovered.meta);
        }
    }
}

#[test]
fn both_files_bad_is_refused_and_never_term_0() {
    let rig = rig_that_voted();
    for at in (0..used_bytes(&rig, A)).step_by(7) {
        let mut twin = Rig::on(rig.disk.duplicate());
        twin.disk.flip_bits(&Rig::file(A), at, 1);
        twin.disk.flip_bits(&Rig::file(B), at, 1);
        let error = twin.open().unwrap_err();
        assert_eq!(error.exit_code(), 78);
        assert!(error.to_string().contains("neither meta-a nor meta-b"), "{error}");
    }
}

/// A write of either file that is torn at any byte: before it, both say the old state, so nothing new was released.
#[test]
fn a_torn_write_of_either_file_says_the_old_or_the_new_state() {
    let rig = rig_that_voted();
    let old = [A, B].map(|name| rig.disk.contents(&Rig::file(name)).unwrap());
    let mut later = Rig::on(rig.disk.duplicate());
    later.open().unwrap();
    later.wal().push(Some(voted(6, Some(2))), None, &[]).unwrap();
    later.wal().commit().unwrap();
    let new = later.disk.contents(&Rig::file(A)).unwrap();
    for at in 0..used_bytes(&rig, A) as usize {
        for (torn, rest) in [(A, &old[1]), (B, &new)] {
            let mut twin = Rig::on(rig.disk.duplicate());
            let other = if torn == A { B } else { A };
            twin.disk.overwrite(&Rig::file(torn), 0, &new[..at]);
            twin.disk.overwrite(&Rig::file(other), 0, rest);
            let state = twin.open().unwrap().meta.hard_state;
            let allowed = if torn == A { vec![voted(5, Some(1)), voted(6, Some(2))] } else { vec![voted(6, Some(2))] };
            assert!(allowed.contains(&state), "{torn} torn at {at}: {state:?}");
        }
    }
}

#[test]
fn a_missing_file_is_made_again_and_two_missing_files_are_refused() {
    for missing in [A, B] {
        let mut rig = rig_that_voted();
        let disk = Disk::virtual_(rig.disk.clone());
        disk.unlink(&Rig::file(missing)).unwrap();
        assert_eq!(rig.open().unwrap().meta.hard_state, voted(5, Some(1)));
        assert_eq!(rig.disk.contents(&Rig::file(A)), rig.disk.contents(&Rig::file(B)));
    }
    let mut rig = rig_that_voted();
    let disk = Disk::virtual_(rig.disk.clone());
    disk.unlink(&Rig::file(A)).unwrap();
    disk.unlink(&Rig::file(B)).unwrap();
    let error = rig.open().unwrap_err();
    assert_eq!(error.exit_code(), 78);
    assert!(error.to_string().contains("no meta files"), "{error}");
}

#[test]
fn another_nodes_directory_is_refused_by_name() {
    let mut rig = rig_that_voted();
    rig.options.node = NodeId(0);
    let error = rig.open().unwrap_err();
    assert_eq!(error.exit_code(), 78);
    assert_eq!(error.to_string(), "/node is the data directory of node 2, this is node 0: give each node its own");
}

#[test]
fn the_incarnation_is_drawn_once() {
    let mut rig = Rig::on(VirtualDisk::new());
    let first = rig.open().unwrap().meta.incarnation;
    assert_ne!(first, Incarnation(0));
    rig.disk.power_cut(3);
    assert_eq!(rig.open().unwrap().meta.incarnation, first, "it was durable before it could be shown (C-17)");
    let mut other = Rig::on(VirtualDisk::new());
    other.starts = 55;
    assert_ne!(other.open().unwrap().meta.incarnation, first);
}

#[test]
fn terms_do_not_fall_votes_do_not_change_and_the_format_stays() {
    for bad in [voted(4, Some(1)), voted(5, Some(0)), voted(5, None)] {
        let mut rig = rig_that_voted();
        rig.open().unwrap();
        assert_eq!(rig.wal().push(Some(bad), None, &[]).unwrap_err().exit_code(), 70);
    }
    let mut rig = rig_that_voted();
    rig.open().unwrap();
    rig.wal().push(Some(voted(5, Some(1))), Some(&format()), &[]).unwrap();
    assert_eq!(rig.wal().commit().unwrap(), Synced::default(), "nothing changed");
    let other = Format { cluster: ClusterId(78), ..format() };
    assert_eq!(rig.wal().push(None, Some(&other), &[]).unwrap_err().exit_code(), 70);
}

#[test]
fn a_group_with_a_vote_and_entries_is_three_syncs() {
    let mut rig = Rig::new();
    let entry = rig.next(0, 3, b"x");
    rig.wal().push(Some(voted(3, Some(2))), None, &[]).unwrap();
    rig.wal().push(None, None, &[entry]).unwrap();
    assert_eq!(rig.wal().commit().unwrap().syncs, 3);
    rig.append(3, b"y");
    let recovered = rig.reopen();
    assert_eq!(recovered.meta.hard_state, voted(3, Some(2)));
}

#[test]
fn nothing_enters_the_log_before_the_format() {
    let mut rig = Rig::on(VirtualDisk::new());
    rig.open().unwrap();
    assert!(!rig.wal().wants_idle() && !rig.wal().idle().unwrap());
    let entry = rig.next(0, 1, b"x");
    assert_eq!(rig.wal().push(None, None, &[entry]).unwrap_err().exit_code(), 70);
}

/// A crash between the first segment and the meta files leaves an unformatted node with a segment; it forms again.
#[test]
fn an_interrupted_formation_is_started_over() {
    let mut rig = Rig::on(VirtualDisk::new());
    rig.open().unwrap();
    let unformatted = rig.disk.duplicate();
    rig.wal().push(None, Some(&format()), &[]).unwrap();
    rig.wal().commit().unwrap();
    let meta = unformatted.contents(&Rig::file(A)).unwrap();
    for name in [A, B] {
        rig.disk.overwrite(&Rig::file(name), 0, &meta);
    }
    assert_eq!(rig.open().unwrap().meta.format, None);
    assert_eq!(rig.disk.contents(&Rig::segment_path(1)), None);
    rig.wal().push(None, Some(&format()), &[]).unwrap();
    rig.wal().commit().unwrap();
    rig.append(1, b"x");
    rig.reopen();
    // But a log with entries does not belong to an unformatted node.
    for name in [A, B] {
        rig.disk.overwrite(&Rig::file(name), 0, &meta);
    }
    assert_eq!(rig.open().unwrap_err().exit_code(), 78);
}
