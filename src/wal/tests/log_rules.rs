//! The schedules behind the contracts of the log, as tests.

use super::record::{write_batch, write_entry, Batch, Position, BATCH_BYTES, RECORDS_AT};
use super::*;

/// C-4: of an unsynced batch with entries 10, 11, 12 only the last two reach the disk. The node takes another entry 10
/// of the same size; the leftovers must not come back behind it.
#[test]
fn c4_leftovers_in_the_same_place_do_not_replay() {
    let mut rig = Rig::new();
    rig.options.segment_bytes = 16 * 4096;
    rig.reopen();
    for _ in 0..9 {
        rig.append(2, &[9; 16]);
    }
    let start = rig.end();
    let path = Rig::segment_path(start.segment);
    let before = rig.disk.contents(&path).unwrap();
    for index in 9..12 {
        rig.push(index, 2, &[2; 4096 - 72]);
    }
    rig.wal().commit().unwrap();
    let after = rig.disk.contents(&path).unwrap();
    let mut mixed = after.clone();
    let entry_11 = (start.offset + BATCH_BYTES + 4096) as usize;
    mixed[..entry_11].copy_from_slice(&before[..entry_11]);
    rig.disk.overwrite(&path, 0, &mixed);
    rig.entries.truncate(9);
    rig.reopen();
    rig.append(3, &[3; 4096 - 72]);
    let recovered = rig.reopen();
    assert_eq!(recovered.last, EntryId { term: Term(3), index: Index(10) });
    // Not even when the leftovers lie right behind the new entry in its new segment (T-100).
    rig.append(3, b"x");
    rig.wal().idle().unwrap();
    let end = rig.end();
    let leftovers = &after[entry_11..entry_11 + 8192];
    rig.disk.overwrite(&Rig::segment_path(end.segment), end.offset, leftovers);
    rig.reopen();
}

/// C-4: a start goes on in a new segment whose first Batch carries the cut, durably, before it returns.
#[test]
fn c4_a_start_ends_in_a_new_segment() {
    let mut rig = Rig::new();
    rig.append(1, b"x");
    let cut = rig.end();
    rig.reopen();
    let segment = rig.wal().view.newest().unwrap();
    assert_eq!(segment.header.sequence, cut.segment + 1);
    assert_eq!(segment.first_batch().unwrap().synced_to, cut);
    rig.disk.power_cut(4);
    rig.reopen();
    assert_eq!(rig.end(), Position { segment: cut.segment + 2, offset: RECORDS_AT + BATCH_BYTES });
}

/// T-100: a segment that was prepared in an old file full of valid records, and was not used.
#[test]
fn t100_a_stale_recycled_segment_gives_nothing() {
    let mut rig = Rig::new();
    for _ in 0..5 {
        rig.append(1, b"old");
    }
    let old = rig.disk.contents(&Rig::segment_path(1)).unwrap();
    rig.wal().prepare_next().unwrap();
    let prepared = Rig::segment_path(rig.end().segment + 1);
    let own_header = rig.disk.contents(&prepared).unwrap();
    rig.disk.overwrite(&prepared, 0, &old);
    rig.disk.overwrite(&prepared, 0, &own_header[..4096]);
    rig.reopen();
    rig.append(1, b"new");
    rig.reopen();
}

/// C-2: records inside a client's value are never records, not even for the scan that looks for Batches.
#[test]
fn c2_a_forged_record_in_a_value() {
    let mut rig = Rig::new();
    rig.options.segment_bytes = 16 * 4096;
    rig.reopen();
    rig.append(1, b"x");
    let at = rig.end();
    // The forger knows everything but the salt: the place, the Batch's number, the chain.
    let far = Position { segment: at.segment, offset: at.offset + 9000 };
    let last = rig.entries.last().unwrap().clone();
    let before = LogBase { id: last.header.id, chain: last.header.chain, log_time: last.header.log_time };
    let evil = entry(Some(&last), 1, b"evil");
    let mut value = Vec::new();
    while value.len() < 8000 {
        let offset = at.offset + BATCH_BYTES + record::ENTRY_PREFIX_BYTES + value.len() as u64;
        let batch = Batch { segment: at.segment, number: 4, synced_to: far, before };
        write_batch(&mut value, 12345, offset, &batch);
        write_entry(&mut value, 12345, offset + BATCH_BYTES, &evil);
    }
    rig.append(1, &value);
    rig.reopen();
    // And when the value's own header is lost, so that the scan goes through it.
    let mut rig_torn = Rig::on(rig.disk.duplicate());
    rig_torn.options = rig.options.clone();
    let path = Rig::segment_path(at.segment);
    rig_torn.disk.overwrite(&path, at.offset, &[0; 8]);
    rig_torn.starts = 70;
    // The segment behind says that this was synced, so it is damage; without that segment it would be cut.
    assert_eq!(rig_torn.open().unwrap_err().exit_code(), 78);
    let disk = Disk::virtual_(rig_torn.disk.clone());
    disk.unlink(&Rig::segment_path(at.segment + 1)).unwrap();
    rig_torn.entries = rig.entries[..1].to_vec();
    rig_torn.reopen();
}

/// C-3: after quiet one empty Batch says that the last write was synced, once; from then on its damage is seen.
#[test]
fn c3_one_empty_batch_after_quiet() {
    let mut rig = Rig::new();
    assert!(!rig.wal().wants_idle());
    rig.append(1, &[1; 64]);
    let end = rig.end();
    let rot_last_entry = |disk: &VirtualDisk| disk.flip_bits(&Rig::segment_path(end.segment), end.offset - 8, 1);
    let unconfirmed = rig.disk.duplicate();
    rot_last_entry(&unconfirmed);
    assert_eq!(Rig::on(unconfirmed).open().unwrap().last.index, Index(0), "taken for a torn write: C-3 says so");
    assert!(rig.wal().wants_idle() && rig.wal().idle().unwrap());
    assert_eq!(rig.end().offset, end.offset + BATCH_BYTES);
    assert!(!rig.wal().wants_idle() && !rig.wal().idle().unwrap(), "once");
    rot_last_entry(&rig.disk);
    assert_eq!(rig.open().unwrap_err().exit_code(), 78);
}

/// Builds the log of C-5's schedule: 1 to 600 in term 2, then 400 to 500 again in term 3.
fn rig_of_c5() -> (Rig, LogBase) {
    let mut rig = Rig::new();
    for index in 0..600 {
        rig.push(index, 2, &[2; 100]);
        if index % 7 == 0 {
            rig.wal().commit().unwrap();
        }
    }
    rig.wal().commit().unwrap();
    for index in 399..500 {
        rig.push(index, 3, &[3; 100]);
    }
    rig.wal().commit().unwrap();
    let last = rig.entries.last().unwrap().header;
    (rig, LogBase { id: last.id, chain: last.chain, log_time: last.log_time })
}

/// C-5: stale entries behind the snapshot must not survive because what replaced them is covered by it.
#[test]
fn c5_a_snapshot_is_laid_over_the_whole_log() {
    let (mut rig, snapshot) = rig_of_c5();
    rig.reopen();
    rig.options.snapshot = Some(snapshot);
    rig.reopen();
    // Segments leave at the oldest end, one at a time; at each step the log says the same.
    loop {
        let removed_before = rig.disk.operations();
        let Some((oldest, Some(next))) = rig.wal().view.oldest() else { break };
        if next.index > Index(501) {
            break;
        }
        rig.wal = None;
        Disk::virtual_(rig.disk.clone()).unlink(&oldest.path).unwrap();
        drop(oldest);
        assert!(rig.disk.operations() > removed_before);
        let recovered = rig.open().unwrap();
        assert_eq!((recovered.last, recovered.last_chain), (snapshot.id, snapshot.chain));
        assert!(recovered.base.id.index < Index(501), "{:?}", recovered.base);
        let kept: Vec<Entry> = rig.entries[recovered.base.id.index.0 as usize..].to_vec();
        check_recovered(&recovered, &kept);
        if !kept.is_empty() {
            let base = recovered.base;
            let first = base.id.index.next();
            let read = rig.wal().reader().read(first, usize::MAX, base.id, Some(base.chain)).unwrap();
            assert_eq!(read, ReadResult::Entries(kept));
        }
    }
    rig.append(3, b"goes on");
    let recovered = rig.open().unwrap();
    assert_eq!(recovered.last.index, Index(501));
}

#[test]
fn c5_segments_leave_when_a_snapshot_covers_them() {
    let (mut rig, snapshot) = rig_of_c5();
    assert!(!rig.wal().remove_oldest().unwrap(), "without a snapshot");
    rig.wal().compact(snapshot).unwrap();
    let reader = rig.wal().reader();
    let mut removed = 0;
    loop {
        let read = reader.read(Index(2), 100, rig.entries[0].header.id, None).unwrap();
        assert_eq!(read, ReadResult::Compacted, "whether its file is still there or not");
        if !rig.wal().remove_oldest().unwrap() {
            break;
        }
        removed += 1;
    }
    assert!(removed > 4, "{removed}");
    rig.append(3, b"behind");
    let behind = rig.entries.last().unwrap().clone();
    let read = reader.read(Index(501), 100, snapshot.id, Some(snapshot.chain)).unwrap();
    assert_eq!(read, ReadResult::Entries(vec![behind.clone()]));
    rig.disk.power_cut(1);
    let error = rig.open().unwrap_err();
    assert_eq!(error.exit_code(), 78, "without the snapshot this is no log");
    rig.options.snapshot = Some(snapshot);
    let recovered = rig.open().unwrap();
    assert_eq!((recovered.last, recovered.last_chain), (behind.header.id, behind.header.chain));
}

#[test]
fn c5_a_log_that_conflicts_or_ends_earlier_is_dropped_and_one_that_begins_later_is_refused() {
    let (rig, snapshot) = rig_of_c5();
    let other = |change: fn(&mut LogBase)| {
        let mut twin = Rig::on(rig.disk.duplicate());
        twin.options = rig.options.clone();
        let mut at = snapshot;
        change(&mut at);
        twin.options.snapshot = Some(at);
        twin.starts = 900;
        (twin, at)
    };
    for change in [
        (|at| at.id.term = Term(4)) as fn(&mut LogBase),
        |at| at.chain.0 += 1,
        |at| at.id.index = Index(700),
        |at| at.id = EntryId { term: Term(2), index: Index(450) },
    ] {
        let (mut twin, at) = other(change);
        let recovered = twin.open().unwrap();
        assert_eq!((recovered.last, recovered.base.id, recovered.tail.len()), (at.id, at.id, 0));
        // The Base on disk keeps the dropped log dropped.
        twin.disk.power_cut(2);
        assert_eq!(twin.open().unwrap().last, at.id);
        let read = twin.wal().reader().read(at.id.index, 100, EntryId::default(), None).unwrap();
        assert_eq!(read, ReadResult::Compacted);
        // Entries go on behind it.
        let before =
            Entry { header: EntryHeader { id: at.id, chain: at.chain, ..rig.entries[0].header }, body: Bytes::new() };
        let next = entry(Some(&before), 5, b"x");
        twin.wal().push(None, None, std::slice::from_ref(&next)).unwrap();
        twin.wal().commit().unwrap();
        assert_eq!(twin.open().unwrap().tail, std::slice::from_ref(&next));
        let read = twin.wal().reader().read(next.header.id.index, 100, at.id, Some(at.chain)).unwrap();
        assert_eq!(read, ReadResult::Entries(vec![next]));
        // The log begins behind `at` now: an older snapshot does not reach it.
        twin.options.snapshot = Some(LogBase { id: EntryId { term: Term(2), index: Index(399) }, ..snapshot });
        assert_eq!(twin.open().unwrap_err().exit_code(), 78);
        twin.options.snapshot = None;
        assert_eq!(twin.open().unwrap_err().exit_code(), 78);
    }
}

/// Starts that nothing was written after leave segments without entries; they keep nothing behind them from leaving.
#[test]
fn c5_segments_without_entries_leave_with_those_before() {
    let mut rig = Rig::new();
    for index in 0..120 {
        rig.push(index, 1, &[1; 100]);
    }
    rig.wal().commit().unwrap();
    for _ in 0..3 {
        rig.reopen();
    }
    let after_empty_starts = rig.end().segment;
    for index in 120..240 {
        rig.push(index, 1, &[1; 100]);
        rig.wal().commit().unwrap();
    }
    let snapshot = base_at(&rig, 200);
    rig.wal().compact(snapshot).unwrap();
    rig.options.snapshot = Some(snapshot);
    // After each step the log says the same; after some of them its oldest segment has no entries.
    let (mut removed, mut began_empty) = (0, 0);
    loop {
        let removes = rig.wal().remove_oldest().unwrap();
        rig.disk.power_cut(1);
        let recovered = rig.open().unwrap();
        assert_eq!((recovered.last, recovered.last_chain), (header_of(&rig, 240).id, header_of(&rig, 240).chain));
        let kept: Vec<Entry> = rig.entries[recovered.base.id.index.0 as usize..].to_vec();
        let base = recovered.base;
        let read = rig.wal().reader().read(base.id.index.next(), usize::MAX, base.id, Some(base.chain)).unwrap();
        assert_eq!(read, ReadResult::Entries(kept));
        rig.wal().compact(snapshot).unwrap();
        if !removes {
            break;
        }
        removed += 1;
        let oldest = rig.wal().view.oldest().unwrap().0;
        began_empty += usize::from(oldest.marks.first().is_none());
    }
    let oldest = rig.wal().view.oldest().unwrap().0.header.sequence;
    assert!(
        oldest >= after_empty_starts && began_empty >= 2 && removed > 4,
        "{oldest} {after_empty_starts} {began_empty} {removed}"
    );
}

fn header_of(rig: &Rig, index: usize) -> EntryHeader {
    rig.entries[index - 1].header
}

/// Where a log begins of which this entry is the last that left.
fn base_at(rig: &Rig, index: usize) -> LogBase {
    let EntryHeader { id, chain, log_time, .. } = header_of(rig, index);
    LogBase { id, chain, log_time }
}

/// A node that lives long sees many terms; of those that were compacted away nothing stays in memory.
#[test]
fn what_is_compacted_takes_no_memory() {
    let mut rig = Rig::new();
    for term in 1..=300 {
        rig.append(term, &[1; 50]);
        let base = base_at(&rig, (term as usize).saturating_sub(9).max(1));
        rig.wal().compact(base).unwrap();
        rig.options.snapshot = Some(base);
        rig.wal().remove_oldest().unwrap();
        let runs = rig.wal().writer.as_ref().unwrap().runs();
        assert!(runs <= 10, "{runs} terms are remembered after {term}");
    }
    // What is behind the base can still be replaced, down to it.
    rig.push(292, 301, &[1; 50]);
    rig.wal().commit().unwrap();
    assert_eq!(rig.wal().writer.as_ref().unwrap().runs(), 2);
    let recovered = rig.open().unwrap();
    assert_eq!((recovered.last, recovered.last_chain), (header_of(&rig, 293).id, header_of(&rig, 293).chain));
    let base = base_at(&rig, 293);
    rig.wal().compact(base).unwrap();
    assert_eq!(rig.wal().writer.as_ref().unwrap().runs(), 0, "nothing is behind the base");
    rig.append(302, &[1; 50]);
}

/// redisraft#43: a log that begins behind the newest snapshot is refused, whatever lies in the gap; so is one without any.
#[test]
fn t88_a_log_gap_at_restart_is_refused() {
    let mut rig = Rig::new();
    for index in 0..200 {
        rig.push(index, 1, &[1; 100]);
        rig.wal().commit().unwrap();
    }
    let (snapshot, later) = (base_at(&rig, 20), base_at(&rig, 120));
    rig.wal().compact(later).unwrap();
    while rig.wal().remove_oldest().unwrap() {}
    for refused in [Some(snapshot), None] {
        rig.options.snapshot = refused;
        let error = rig.open().unwrap_err();
        assert_eq!(error.exit_code(), 78, "{error}");
        assert!(error.to_string().contains("the log begins behind index"), "{error}");
    }
    rig.options.snapshot = Some(later);
    let recovered = rig.open().unwrap();
    assert!(recovered.base.id.index <= later.id.index && recovered.last.index == Index(200));
}

/// The older of two snapshots serves as well as the newer, as long as the log was cut off behind the older (C-5).
#[test]
fn c5_the_log_reaches_back_to_the_older_of_two_snapshots() {
    let (mut rig, newer) = rig_of_c5();
    let older = base_at(&rig, 430);
    rig.wal().compact(older).unwrap();
    while rig.wal().remove_oldest().unwrap() {}
    for snapshot in [newer, older] {
        rig.options.snapshot = Some(snapshot);
        let recovered = rig.open().unwrap();
        assert_eq!((recovered.last, recovered.last_chain), (newer.id, newer.chain));
        assert!(recovered.base.id.index <= older.id.index, "what is between them can be applied: {:?}", recovered.base);
        let read = rig.wal().reader().read(Index(431), usize::MAX, older.id, Some(older.chain)).unwrap();
        assert_eq!(read, ReadResult::Entries(rig.entries[430..].to_vec()));
    }
}

/// A start that cannot verify what is before the newest snapshot does not let it go (C-5): should that snapshot rot, the older
/// one needs it. It leaves when the log is cut off again, even where the start left it.
#[test]
fn c5_a_start_leaves_what_the_older_snapshot_needs() {
    let mut rig = Rig::new();
    for index in 0..250 {
        rig.push(index, 2, &[2; 100]);
    }
    rig.wal().commit().unwrap();
    // The first entry of the segment that will be the oldest replaces others, so what was before it is not known.
    rig.reopen();
    for index in 200..500 {
        rig.push(index, 3, &[3; 100]);
        rig.wal().commit().unwrap();
    }
    let (older, newer) = (base_at(&rig, 210), base_at(&rig, 450));
    rig.wal().compact(older).unwrap();
    while rig.wal().remove_oldest().unwrap() {}
    for start in 0..3 {
        rig.options.snapshot = Some(newer);
        assert_eq!(rig.open().unwrap().base.id, newer.id, "what is before cannot be verified");
        assert!(!rig.wal().remove_oldest().unwrap(), "start {start}");
        rig.options.snapshot = Some(older);
        assert_eq!(rig.open().unwrap().last.index, Index(500), "the older one reaches the log");
        assert!(!rig.wal().remove_oldest().unwrap(), "start {start}");
    }
    rig.options.snapshot = Some(newer);
    rig.open().unwrap();
    rig.wal().compact(newer).unwrap();
    assert!(rig.wal().remove_oldest().unwrap(), "there is a third one by now");
}

#[test]
fn c5_a_base_in_a_group_restarts_the_log() {
    let (mut rig, snapshot) = rig_of_c5();
    let mut base = snapshot;
    base.id.index = Index(5000);
    rig.wal().push_base(base).unwrap();
    let before =
        Entry { header: EntryHeader { id: base.id, chain: base.chain, ..rig.entries[0].header }, body: Bytes::new() };
    let first = entry(Some(&before), 3, b"first");
    let second = entry(Some(&first), 3, b"second");
    rig.wal().push(None, None, &[first.clone(), second.clone()]).unwrap();
    rig.wal().commit().unwrap();
    rig.options.snapshot = Some(base);
    let recovered = rig.open().unwrap();
    assert_eq!((recovered.base.id, recovered.last, &recovered.tail), (base.id, second.header.id, &vec![first, second]));
}

/// C-2: sequences have no holes, and the header counts, not the name.
#[test]
fn c2_a_hole_in_the_sequence_is_refused_and_names_do_not_matter() {
    let (mut rig, _) = rig_of_c5();
    rig.wal = None;
    let disk = Disk::virtual_(rig.disk.clone());
    let (two, three, aside) = (Rig::segment_path(2), Rig::segment_path(3), Rig::segment_path(9_000));
    for (from, to) in [(&two, &aside), (&three, &two), (&aside, &three)] {
        disk.rename(from, to).unwrap();
    }
    rig.reopen();
    rig.wal = None;
    disk.unlink(&two).unwrap();
    let error = rig.open().unwrap_err();
    assert_eq!(error.exit_code(), 78);
    assert!(error.to_string().contains("the log has a hole"), "{error}");
}

#[test]
fn missing_log_files_are_refused() {
    let mut rig = Rig::new();
    rig.append(1, b"x");
    rig.wal = None;
    let disk = Disk::virtual_(rig.disk.clone());
    let copy = rig.disk.duplicate();
    disk.unlink(&Rig::segment_path(1)).unwrap();
    let error = rig.open().unwrap_err();
    assert_eq!((error.exit_code(), error.to_string().contains("log files are missing")), (78, true), "{error}");
    // The oldest one alone.
    let mut rig = Rig::on(copy);
    rig.open().unwrap();
    rig.wal = None;
    Disk::virtual_(rig.disk.clone()).unlink(&Rig::segment_path(1)).unwrap();
    assert_eq!(rig.open().unwrap_err().exit_code(), 78);
}

#[test]
fn a_shortened_segment_is_refused() {
    let mut rig = Rig::new();
    rig.append(1, b"x");
    rig.wal = None;
    let path = Rig::segment_path(1);
    let bytes = rig.disk.contents(&path).unwrap();
    let disk = Disk::virtual_(rig.disk.clone());
    disk.unlink(&path).unwrap();
    let file = disk.create(&path).unwrap();
    file.write_at(0, &bytes[..bytes.len() - 4096]).unwrap();
    drop(file);
    assert_eq!(rig.open().unwrap_err().exit_code(), 78);
}

/// T-103: a segment of another cluster, node or disk, with the right sequence and name.
#[test]
fn t103_another_nodes_segment_is_refused_by_name() {
    let mut rig = Rig::new();
    rig.append(1, b"x");
    let path = Rig::segment_path(1);
    let header = rig.wal().view.newest().unwrap().header;
    rig.wal = None;
    type Change = fn(&mut record::SegmentHeader);
    let changes: [(&str, Change); 3] = [
        ("belongs to cluster 78, this is cluster 77", |header| header.owner.cluster = ClusterId(78)),
        ("belongs to node 3, this is node 2", |header| header.owner.node = NodeId(3)),
        ("belongs to incarnation 9", |header| header.owner.incarnation = Incarnation(9)),
    ];
    for (message, change) in changes {
        let mut twin = Rig::on(rig.disk.duplicate());
        let mut header = header;
        change(&mut header);
        twin.disk.overwrite(&path, 0, &header.encode());
        let error = twin.open().unwrap_err();
        assert_eq!(error.exit_code(), 78);
        assert!(error.to_string().contains(message), "{error}");
    }
}

/// C-8: entries with perfect checksums that do not continue the chain.
#[test]
fn c8_a_broken_chain_is_refused() {
    let mut rig = Rig::new();
    rig.append(1, b"x");
    let at = rig.end();
    let header = rig.wal().view.newest().unwrap().header;
    let last = rig.entries[0].clone();
    let mut stranger = entry(Some(&last), 1, b"stranger");
    stranger.header.chain.0 ^= 1;
    let mut bytes = Vec::new();
    let before = LogBase { id: last.header.id, chain: last.header.chain, log_time: last.header.log_time };
    let batch = Batch { segment: at.segment, number: 3, synced_to: at, before };
    write_batch(&mut bytes, header.salt, at.offset, &batch);
    write_entry(&mut bytes, header.salt, at.offset + BATCH_BYTES, &stranger);
    rig.wal = None;
    rig.disk.overwrite(&Rig::segment_path(1), at.offset, &bytes);
    let error = rig.open().unwrap_err();
    assert_eq!((error.exit_code(), error.to_string().contains("chain")), (78, true), "{error}");
}

/// C-9: readers on other threads, while the log is replaced from below, see each time a whole log of some moment.
#[test]
fn c9_readers_beside_the_writer() {
    let mut rig = Rig::new();
    for index in 0..20 {
        rig.push(index, 1, &[1; 50]);
    }
    rig.wal().commit().unwrap();
    let fixed = rig.entries[..10].to_vec();
    let reader = rig.wal().reader();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (reader, fixed, stop) = (reader.clone(), fixed.clone(), stop.clone());
            std::thread::spawn(move || {
                let (before, mut reads) = (fixed[8].header, 0);
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    match reader.read(Index(10), usize::MAX, before.id, Some(before.chain)).unwrap() {
                        ReadResult::Entries(entries) => {
                            assert_eq!(entries[0], fixed[9]);
                            for pair in entries.windows(2) {
                                pair[1].verify_chain(pair[0].header.chain).unwrap();
                                assert_eq!(pair[1].header.id.index, pair[0].header.id.index.next());
                            }
                            reads += 1;
                        }
                        other => panic!("{other:?}"),
                    }
                }
                reads
            })
        })
        .collect();
    let mut random = Random(9);
    for term in 2..2000 {
        let after = 10 + random.below(rig.entries.len() as u64 - 9);
        for i in 0..random.below(6) {
            rig.push(after + i, term, &vec![term as u8; random.below(900) as usize]);
        }
        rig.wal().commit().unwrap();
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let reads: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert!(reads > 0);
    rig.reopen();
}

/// C-9: what lies right behind the log's beginning is found, also while the beginning moves up to it and segments leave.
#[test]
fn c9_a_reader_right_behind_the_base_beside_compaction() {
    let mut rig = Rig::new();
    let reader = rig.wal().reader();
    beside(
        move |at: &LogBase| reader.read(at.id.index.next(), 100, at.id, Some(at.chain)).unwrap(),
        |read| matches!(read, ReadResult::Entries(_)),
        |aim| {
            for round in 0..500 {
                for _ in 0..3 {
                    rig.push(rig.entries.len() as u64, 1, &[1; 6000]);
                }
                rig.wal().commit().unwrap();
                let header = header_of(&rig, rig.entries.len() - 1);
                let base = LogBase { id: header.id, chain: header.chain, log_time: header.log_time };
                aim(base);
                rig.wal().compact(base).unwrap();
                while rig.wal().remove_oldest().unwrap() {}
                assert!(round < 10 || rig.wal().view.oldest().unwrap().0.header.sequence > 3);
            }
        },
    );
}

/// C-9: an entry that a restart of the log covers is there until it is compacted: at no moment is it another one.
#[test]
fn c9_a_reader_beside_a_restart_of_the_log() {
    let mut rig = Rig::new();
    rig.append(1, b"first");
    let reader = rig.wal().reader();
    beside(
        move |at: &LogBase| {
            reader.read(at.id.index, 100, EntryId { index: at.id.index.previous(), ..at.id }, None).unwrap()
        },
        |read| !matches!(read, ReadResult::Mismatch),
        |aim| {
            let mut last = rig.entries[0].clone();
            for _ in 0..20_000 {
                let next = entry(Some(&last), 1, b"covered");
                let at = next.header;
                rig.wal().push(None, None, &[next]).unwrap();
                rig.wal().commit().unwrap();
                aim(LogBase { id: at.id, chain: at.chain, log_time: at.log_time });
                let id = EntryId { index: at.id.index.next(), ..at.id };
                let base = LogBase { id, chain: Chain(at.chain.0 + 1), log_time: at.log_time };
                rig.wal().push_base(base).unwrap();
                rig.wal().commit().unwrap();
                last = Entry { header: EntryHeader { id, chain: base.chain, ..at }, body: Bytes::new() };
            }
        },
    );
}

/// Runs `write`, which says what to aim at; meanwhile another thread reads there, and what it finds must be good as long as
/// the aim is the same.
fn beside<R, G, W>(read: R, is_good: G, write: W)
where
    R: Fn(&LogBase) -> ReadResult + Send + 'static,
    G: Fn(&ReadResult) -> bool + Send + 'static,
    W: FnOnce(&dyn Fn(LogBase)),
{
    let aim = Arc::new(std::sync::Mutex::new(None));
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (theirs, stopped) = (aim.clone(), stop.clone());
    let thread = std::thread::spawn(move || {
        let mut reads = 0u64;
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            let Some(at): Option<LogBase> = *theirs.lock().unwrap() else { continue };
            let found = read(&at);
            assert!(is_good(&found) || *theirs.lock().unwrap() != Some(at), "{found:?} at {at:?}");
            reads += 1;
        }
        reads
    });
    write(&|at| *aim.lock().unwrap() = Some(at));
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(thread.join().unwrap() > 0);
}

/// Record by record: what is written is read, at its own place and with its own salt only.
#[test]
fn a_record_is_one_only_where_it_was_written() {
    let one = entry(None, 1, b"some value");
    let (salt, offset) = (99, 4096 + 80);
    let mut bytes = vec![0; offset as usize];
    write_entry(&mut bytes, salt, offset, &one);
    let (found, end) = record::read(&bytes, salt, offset).unwrap();
    assert_eq!(found, record::Record::Entry(one.header, &one.body));
    assert_eq!((end, end % 8), (bytes.len() as u64, 0));
    assert!(record::read(&bytes, salt + 1, offset).is_err());
    bytes.splice(0..0, [0; 8]);
    assert!(record::read(&bytes, salt, offset + 8).is_err(), "the same bytes, eight further");
    assert!(record::read(&bytes, salt, u64::MAX - 3).is_err());
}
