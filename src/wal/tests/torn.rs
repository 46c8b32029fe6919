//! T-95: whatever a power cut leaves of the last write, recovery ends at a record boundary and keeps what was synced.

use super::*;

const SECTOR: u64 = 512;

/// A log whose last write, three entries, was not synced.
struct Torn {
    rig: Rig,
    path: PathBuf,
    /// The file when the write had not begun.
    before: Vec<u8>,
    /// And when all of it had reached the disk.
    after: Vec<u8>,
    /// The bytes that the write changed.
    start: u64,
    end: u64,
}

impl Torn {
    fn new(body_sizes: [usize; 3]) -> Torn {
        let mut rig = Rig::new();
        rig.options.segment_bytes = 4 * SEGMENT;
        rig.reopen();
        for size in [0, 40, 300, 8] {
            rig.append(1, &vec![0xA5; size]);
        }
        rig.wal().idle().unwrap();
        let (start, path) = (rig.end(), Rig::segment_path(rig.end().segment));
        let before = rig.disk.contents(&path).unwrap();
        for (i, size) in body_sizes.iter().enumerate() {
            rig.push(4 + i as u64, 2, &vec![0xB0 + i as u8; *size]);
        }
        rig.wal().commit().unwrap();
        let (end, after) = (rig.end(), rig.disk.contents(&path).unwrap());
        assert_eq!(start.segment, end.segment);
        rig.wal = None;
        Torn { rig, path, before, after, start: start.offset, end: end.offset }
    }

    /// Starts with these bytes in the last segment, on a disk of its own; tells how many of the three entries are left.
    fn start_with(&self, bytes: &[u8]) -> usize {
        let disk = self.rig.disk.duplicate();
        disk.overwrite(&self.path, 0, bytes);
        let options = Options { random: 5, ..self.rig.options.clone() };
        let (_, recovered) = Wal::open(&Disk::virtual_(disk), Path::new(DIR), options).unwrap();
        let left = recovered.tail.len().checked_sub(4).expect("what was synced stays");
        check_recovered(&recovered, &self.rig.entries[..4 + left]);
        left
    }

    fn changed(&self, range: std::ops::Range<u64>) -> bool {
        let range = range.start as usize..range.end as usize;
        self.before[range.clone()] != self.after[range]
    }
}

#[test]
fn t95_torn_tail_at_each_byte() {
    let torn = Torn::new([40, 16, 24]);
    let mut seen = [0; 4];
    for at in torn.start as usize..torn.end as usize {
        let mut cut = torn.after.clone();
        cut[at..].copy_from_slice(&torn.before[at..]);
        seen[torn.start_with(&cut)] += 1;
        let mut zeroed = torn.after.clone();
        zeroed[at..at + 8].fill(0);
        seen[torn.start_with(&zeroed)] += 1;
        let mut garbled = torn.after.clone();
        garbled[at] ^= 1 << (at % 8);
        let left = torn.start_with(&garbled);
        assert!(left < 3, "a flipped bit at {at} was believed");
        seen[left] += 1;
        let mut head_lost = torn.before.clone();
        head_lost[at..].copy_from_slice(&torn.after[at..]);
        let left = torn.start_with(&head_lost);
        assert!(left == 0 || !torn.changed(torn.start..at as u64), "entries behind a hole at {at}");
    }
    assert!(seen.iter().all(|count| *count > 0), "each length occurs: {seen:?}");
    assert_eq!(torn.start_with(&torn.after), 3);
    assert_eq!(torn.start_with(&torn.before), 0);
}

#[test]
fn t95_torn_tail_each_subset_of_sectors() {
    let torn = Torn::new([1700, 900, 2000]);
    let first = torn.start / SECTOR;
    let sectors = torn.end.div_ceil(SECTOR) - first;
    assert!((9..=12).contains(&sectors), "{sectors} sectors");
    let mut seen = [0; 4];
    for subset in 0..1u64 << sectors {
        let mut bytes = torn.before.clone();
        for sector in (0..sectors).filter(|sector| subset >> sector & 1 == 1) {
            let range = ((first + sector) * SECTOR) as usize..((first + sector + 1) * SECTOR) as usize;
            bytes[range.clone()].copy_from_slice(&torn.after[range]);
        }
        seen[torn.start_with(&bytes)] += 1;
    }
    assert!(seen.iter().all(|count| *count > 0), "each length occurs: {seen:?}");
    assert_eq!(seen[3], 1, "all sectors are needed for all entries");
}

/// Below D nothing is cut: every damaged byte is refused, in the last segment and in those before.
#[test]
fn t95_damage_below_the_watermark_is_refused() {
    let mut rig = Rig::new();
    for i in 0..220 {
        rig.append(1, &vec![i; 8 * (i as usize % 5)]); // no padding: each byte counts
    }
    rig.wal().idle().unwrap();
    let end = rig.end();
    rig.wal = None;
    let idle_batch = end.offset - record::BATCH_BYTES;
    let mut refused = 0;
    for sequence in 1..=end.segment {
        let path = Rig::segment_path(sequence);
        let last = if sequence == end.segment { idle_batch } else { SEGMENT };
        let zero_end = rig.disk.contents(&path).unwrap()[..last as usize].iter().rposition(|byte| *byte != 0).unwrap();
        for at in (0..64).chain(record::RECORDS_AT..=zero_end as u64) {
            if (60..64).contains(&at) {
                continue; // reserved in the segment header
            }
            let disk = rig.disk.duplicate();
            disk.flip_bits(&path, at, 0x10);
            let options = Options { random: 5, ..rig.options.clone() };
            let error = Wal::open(&Disk::virtual_(disk), Path::new(DIR), options).expect_err("damage is refused");
            assert_eq!(error.exit_code(), 78, "{error}");
            refused += 1;
        }
    }
    assert!(refused > 20_000 && end.segment > 2, "{refused} places in {} segments", end.segment);
    // The Batch that carries D is not covered itself: without it the log is whole all the same.
    rig.disk.flip_bits(&Rig::segment_path(end.segment), idle_batch + 9, 1);
    rig.reopen();
}

#[test]
fn damage_says_what_to_do() {
    let mut rig = Rig::new();
    rig.append(1, b"value");
    rig.wal().idle().unwrap();
    let at = record::RECORDS_AT + 2 * record::BATCH_BYTES + 10;
    rig.disk.flip_bits(&Rig::segment_path(1), at, 1);
    let error = rig.open().unwrap_err();
    let WalError::Damaged { offset, .. } = &error else { panic!("{error}") };
    assert_eq!(*offset, record::RECORDS_AT + 2 * record::BATCH_BYTES);
    assert!(error.to_string().contains("log-0000000000000001 is damaged at offset 4256"), "{error}");
}

#[test]
fn zeroes_below_the_watermark_are_damage_too() {
    let mut rig = Rig::new();
    rig.append(1, &[7; 600]);
    rig.append(1, &[8; 600]);
    let path = Rig::segment_path(1);
    rig.disk.overwrite(&path, record::RECORDS_AT, &vec![0; 512]);
    assert_eq!(rig.open().unwrap_err().exit_code(), 78);
}
