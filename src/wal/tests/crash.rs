//! A crash at every disk operation, then a power cut: what was acknowledged is there, and what is there was pushed.

use super::*;

/// What a process did until the disk failed.
struct Life {
    rig: Rig,
    /// What the last successful commit acknowledged.
    entries: Vec<Entry>,
    hard_state: HardState,
    formed: bool,
    /// The group that was being committed.
    in_flight: Vec<Entry>,
    in_flight_state: HardState,
}

impl Life {
    /// Runs the whole workload on a disk that fails at its `crash_at`-th operation; true if it did not come to that.
    fn run(crash_at: Option<u64>) -> (Life, bool) {
        let mut life = Life {
            rig: Rig::on(VirtualDisk::new()),
            entries: Vec::new(),
            hard_state: HardState::default(),
            formed: false,
            in_flight: Vec::new(),
            in_flight_state: HardState::default(),
        };
        if let Some(operation) = crash_at {
            life.rig.disk.crash_at(operation);
        }
        let whole = life.workload().is_ok();
        life.rig.wal = None;
        (life, whole)
    }

    fn workload(&mut self) -> Result<(), WalError> {
        self.rig.open()?;
        self.rig.wal().push(None, Some(&format()), &[])?;
        self.rig.wal().commit()?;
        self.formed = true;
        self.group(Some(voted(1, Some(0))), 0, 1, &[0, 300])?;
        self.group(None, 2, 1, &[900, 20, 5000, 100])?;
        self.rig.wal().idle()?;
        self.group(None, 6, 1, &[6000, 6000, 9000])?; // goes over the end of a segment
        self.group(Some(voted(2, None)), 5, 2, &[0, 10])?; // replaces
        self.rig.wal().preparer().step()?;
        self.rig.wal().preparer().step()?;
        self.group(Some(voted(3, Some(2))), 7, 2, &[])?; // only a vote
        self.group(None, 7, 3, &[0, 12_000, 7000])?;
        self.rig.open()?;
        self.group(None, 4, 4, &[0, 40, 40])?;
        self.rig.wal().idle()?;
        self.rig.wal().prepare_next()?;
        self.group(None, 7, 4, &[800; 30])
    }

    fn group(&mut self, state: Option<HardState>, after: u64, term: u64, sizes: &[usize]) -> Result<(), WalError> {
        self.in_flight.clear();
        for (i, size) in sizes.iter().enumerate() {
            let body = vec![(self.rig.entries.len() as u64 * 7 + term) as u8; *size];
            let entry = self.rig.next(after + i as u64, term, &body);
            self.in_flight.push(entry);
        }
        self.in_flight_state = state.unwrap_or(self.hard_state);
        let entries = self.in_flight.clone();
        self.rig.wal().push(state, None, &entries)?;
        self.rig.wal().commit()?;
        (self.entries, self.hard_state) = (self.rig.entries.clone(), self.in_flight_state);
        self.in_flight.clear();
        Ok(())
    }

    /// What was acknowledged, then any number of the entries in flight.
    fn check(&self, recovered: &Recovered, entries: &[Entry]) {
        assert!(
            [self.hard_state, self.in_flight_state].contains(&recovered.meta.hard_state),
            "{:?}: neither acknowledged nor in flight",
            recovered.meta.hard_state
        );
        assert!(recovered.meta.format.is_some() || !self.formed);
        let mut possible = self.entries.clone();
        if possible == entries {
            return;
        }
        for entry in &self.in_flight {
            possible.truncate(entry.header.id.index.0 as usize - 1);
            possible.push(entry.clone());
            if possible == entries {
                // Meta is complete before the entries that need it (C-7).
                assert_eq!(recovered.meta.hard_state, self.in_flight_state);
                return;
            }
        }
        panic!("acknowledged {}, in flight {}: {} found", self.entries.len(), self.in_flight.len(), entries.len());
    }
}

/// Starts, checks, and shows that what was found is durable: a second power cut changes nothing, and one more entry
/// can be appended and found again.
fn check_start(life: &Life, disk: &VirtualDisk, seed: u64) {
    let mut rig = Rig::on(disk.clone());
    rig.options = life.rig.options.clone();
    rig.starts = seed + 100;
    let recovered = rig.open().unwrap_or_else(|error| panic!("{error}"));
    rig.entries = read_all(&rig.wal().reader(), usize::MAX);
    check_recovered(&recovered, &rig.entries.clone());
    life.check(&recovered, &rig.entries);
    disk.power_cut(seed + 1);
    let again = rig.reopen();
    assert_eq!(
        (again.meta.hard_state, again.meta.incarnation),
        (recovered.meta.hard_state, recovered.meta.incarnation)
    );
    if recovered.meta.format.is_some() {
        rig.append(9, b"after the crash");
        disk.power_cut(seed + 2);
        rig.reopen();
    }
}

#[test]
fn a_crash_at_each_operation_loses_nothing_acknowledged() {
    let (life, whole) = Life::run(None);
    assert!(whole);
    let operations = life.rig.disk.operations();
    assert!(operations > 100, "{operations} operations");
    for operation in 1..=operations {
        let (life, whole) = Life::run(Some(operation));
        assert!(!whole);
        for seed in 0..6 {
            let disk = life.rig.disk.duplicate();
            disk.power_cut(operation * 1000 + seed);
            check_start(&life, &disk, seed);
        }
        let killed = life.rig.disk.duplicate(); // kill -9: the page cache stays
        check_start(&life, &killed, operation);
    }
}

#[test]
fn a_crash_during_recovery_loses_nothing_either() {
    let (life, _) = Life::run(None);
    let operations = life.rig.disk.operations();
    let mut random = Random(1);
    let mut recoveries_crashed = 0;
    for operation in (1..=operations).step_by(3) {
        let (life, _) = Life::run(Some(operation));
        for seed in 0..3 {
            let disk = life.rig.disk.duplicate();
            disk.power_cut(operation * 1000 + seed);
            for attempt in 0..4 {
                disk.crash_at(disk.operations() + 1 + random.below(30));
                let mut rig = Rig::on(disk.clone());
                (rig.options, rig.starts) = (life.rig.options.clone(), attempt + 50);
                recoveries_crashed += u64::from(rig.open().is_err());
                drop(rig);
                disk.power_cut(random.below(1 << 40));
            }
            check_start(&life, &disk, seed);
        }
    }
    assert!(recoveries_crashed > 100, "{recoveries_crashed} recoveries crashed");
}

/// C-6: a failed sync leaves its pages clean. The start must not believe the page cache.
#[test]
fn a_failed_sync_ends_the_log_and_the_restart_reads_the_disk() {
    for failing in 1..=3 {
        let mut rig = Rig::new();
        rig.append(1, b"before");
        let path = Rig::segment_path(rig.end().segment);
        rig.push(1, 1, b"lost");
        let state = (failing > 1).then(|| voted(7, Some(1)));
        rig.wal().push(state, None, &[]).unwrap();
        rig.disk.fail_sync(failing);
        let error = rig.wal().commit().unwrap_err();
        assert_eq!(error.exit_code(), 74, "{error}");
        assert!(error.to_string().contains("sync"), "{error}");
        // Never retried, although a second sync would succeed.
        assert!(matches!(rig.wal().commit(), Err(WalError::Poisoned)));
        assert!(matches!(rig.wal().push(None, None, &[]), Err(WalError::Poisoned)));
        assert!(matches!(rig.wal().idle(), Err(WalError::Poisoned)));
        let cached = rig.disk.contents(&path).unwrap();
        let in_cache = cached.windows(4).any(|bytes| bytes == b"lost");
        assert_eq!(in_cache, failing != 2, "the page cache has what the disk lost");
        rig.entries.truncate(1);
        let recovered = rig.reopen();
        let duplicate = rig.disk.duplicate();
        duplicate.power_cut(failing);
        rig.disk.power_cut(failing);
        assert_eq!(rig.reopen().meta, recovered.meta, "what the start believed was on the disk");
    }
}

#[test]
fn a_cache_that_cannot_be_dropped_and_differs_is_an_error() {
    let mut rig = Rig::new();
    rig.append(1, b"before");
    rig.push(1, 1, b"lost");
    rig.disk.fail_sync(1);
    rig.wal().commit().unwrap_err();
    let someone_maps_it = rig.wal().reader();
    let error = rig.open().unwrap_err();
    assert_eq!(error.exit_code(), 74, "{error}");
    drop(someone_maps_it);
    rig.entries.truncate(1);
    rig.reopen();
}

/// T-99: no space is an error of its own, and nothing acknowledged is lost.
#[test]
fn t99_no_space() {
    let mut rig = Rig::new();
    rig.append(1, b"before");
    rig.disk.set_free_space(Some(SEGMENT - 1));
    assert!(matches!(rig.wal().preparer().prepare(), Err(WalError::NoSpace { .. })), "the next segment does not fit");
    rig.append(1, b"the current one is preallocated");
    let entry = rig.next(2, 1, &[7; 18_000]);
    rig.wal().push(None, None, &[entry]).unwrap();
    let error = rig.wal().commit().unwrap_err();
    assert!(matches!(error, WalError::NoSpace { .. }), "{error}");
    assert_eq!(error.exit_code(), 74);
    rig.entries.truncate(2);
    assert!(matches!(rig.open(), Err(WalError::NoSpace { .. })), "a start needs a new segment (C-4)");
    rig.disk.set_free_space(None);
    rig.reopen();
    // A new disk without room for the meta files.
    let mut rig = Rig::on(VirtualDisk::new());
    rig.disk.set_free_space(Some(100));
    assert!(matches!(rig.open(), Err(WalError::NoSpace { .. })));
    rig.disk.set_free_space(None);
    rig.open().unwrap();
}

/// T-104: a file system that turns read-only, as after an error of its journal: the log ends with 74 (D-3), a start on it
/// too, and is not mistaken about what it found; with a file system that takes writes again all is there.
#[test]
fn t104_a_file_system_that_turns_read_only() {
    let mut rig = Rig::new();
    rig.append(1, b"before");
    rig.push(1, 1, b"never acknowledged");
    rig.disk.set_read_only(true);
    let error = rig.wal().commit().unwrap_err();
    assert!(matches!(error, WalError::Io { operation: "write", .. }), "{error}");
    assert_eq!(error.exit_code(), 74);
    assert!(matches!(rig.wal().commit(), Err(WalError::Poisoned)), "nothing is tried again on these files");
    for start in 0..2 {
        let error = rig.open().unwrap_err();
        assert!(matches!(error, WalError::Io { .. }), "start {start}: {error}");
        assert!(error.to_string().contains("Read-only file system"), "{error}");
    }
    rig.disk.set_read_only(false);
    rig.entries.truncate(1);
    rig.reopen();
    rig.append(1, b"after");
    rig.reopen();
}

#[test]
fn a_failed_write_ends_the_log() {
    let mut rig = Rig::new();
    rig.append(1, b"before");
    rig.push(1, 1, b"lost");
    rig.disk.fail_write(1);
    assert_eq!(rig.wal().commit().unwrap_err().exit_code(), 74);
    assert!(matches!(rig.wal().commit(), Err(WalError::Poisoned)));
    rig.entries.truncate(1);
    rig.reopen();
}

/// The test-only switch that drops the sync is found by a power cut.
#[cfg(feature = "sabotage")]
#[test]
fn dropped_syncs_lose_what_was_acknowledged() {
    let mut lost = 0;
    for seed in 0..20 {
        let mut rig = Rig::new();
        rig.reopen();
        crate::sabotage::arm(Some(crate::sabotage::Bug::DroppedSync));
        for _ in 0..10 {
            rig.append(1, &[1; 700]);
        }
        crate::sabotage::arm(None);
        rig.disk.power_cut(seed);
        lost += u64::from(!matches!(rig.open(), Ok(recovered) if recovered.last.index.0 == 10));
    }
    assert!(lost > 10, "{lost} of 20 cuts lost something");
}
