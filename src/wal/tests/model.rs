//! The log against a vector.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// Entries behind the last one, or replacing so many of the last ones under a new term.
    Push {
        replace: u64,
        sizes: Vec<usize>,
    },
    Commit,
    Idle,
    Prepare,
    PrepareSome,
    Restart,
    PowerCut(u64),
    Read {
        from: u64,
        bytes_max: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![4 => 0usize..40, 2 => 100usize..1500, 1 => 4000usize..30_000];
    let sizes = prop::collection::vec(size, 1..8);
    prop_oneof![
        6 => sizes.clone().prop_map(|sizes| Step::Push { replace: 0, sizes }),
        3 => (1u64..30, sizes).prop_map(|(replace, sizes)| Step::Push { replace, sizes }),
        6 => Just(Step::Commit),
        1 => Just(Step::Idle),
        1 => Just(Step::Prepare),
        2 => Just(Step::PrepareSome),
        1 => Just(Step::Restart),
        1 => any::<u64>().prop_map(Step::PowerCut),
        2 => (1u64..60, 1usize..5000).prop_map(|(from, bytes_max)| Step::Read { from, bytes_max }),
    ]
}

/// Runs the steps. A restart loses exactly what was pushed and not committed.
fn run(steps: &[Step]) {
    let mut rig = Rig::new();
    let mut durable = Vec::new();
    let mut term = 1;
    for step in steps {
        match step {
            Step::Push { replace, sizes } => {
                let keep = (rig.entries.len() as u64).saturating_sub(*replace);
                term += u64::from(*replace > 0);
                for (i, size) in sizes.iter().enumerate() {
                    rig.push(keep + i as u64, term, &vec![term as u8; *size]);
                }
            }
            Step::Commit => {
                let synced = rig.wal().commit().unwrap();
                if durable != rig.entries {
                    assert_eq!(synced.last, rig.entries.last().map(|entry| entry.header.id));
                }
                durable = rig.entries.clone();
            }
            Step::Idle => {
                rig.wal().idle().unwrap();
            }
            Step::Prepare => rig.wal().prepare_next().unwrap(),
            Step::PrepareSome => rig.wal().preparer().step().unwrap(),
            Step::Restart => {
                rig.entries = durable.clone();
                rig.reopen();
            }
            Step::PowerCut(seed) => {
                rig.entries = durable.clone();
                rig.disk.power_cut(*seed);
                rig.reopen();
            }
            Step::Read { from, bytes_max } => check_read(rig.wal(), &durable, *from, *bytes_max),
        }
    }
    rig.entries = durable;
    rig.reopen();
}

/// A read from the middle sees what is durable, whatever was replaced, and at most what was asked for.
fn check_read(wal: &Wal, durable: &[Entry], from: u64, bytes_max: usize) {
    let before = (from as usize - 1).checked_sub(1).map(|at| durable.get(at).map(|entry| entry.header));
    let (previous, chain) = match before {
        None => (EntryId::default(), Chain::origin(CLUSTER)),
        Some(Some(header)) => (header.id, header.chain),
        Some(None) => return,
    };
    let result = wal.reader().read(Index(from), bytes_max, previous, Some(chain)).unwrap();
    if from as usize > durable.len() {
        assert_eq!(result, ReadResult::Mismatch);
        return;
    }
    let ReadResult::Entries(entries) = result else { panic!("{result:?}") };
    let bytes: usize = entries.iter().map(Entry::encoded_len).sum();
    assert!(bytes <= bytes_max || entries.len() == 1);
    let end = from as usize - 1 + entries.len();
    assert_eq!(entries, durable[from as usize - 1..end]);
    if let Some(next) = durable.get(end) {
        assert!(bytes + next.encoded_len() > bytes_max, "more would have fitted");
    }
    let wrong = EntryId { term: previous.term.next(), ..previous };
    assert_eq!(wal.reader().read(Index(from), bytes_max, wrong, None).unwrap(), ReadResult::Mismatch);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_a_vector(steps in prop::collection::vec(step(), 1..60)) {
        run(&steps);
    }
}

#[test]
fn a_bounded_tail_ends_at_the_last_entry() {
    let mut rig = Rig::new();
    rig.options.tail_bytes = 3000;
    for i in 0..100u64 {
        rig.append(1 + i / 30, &[i as u8; 200]);
    }
    let recovered = rig.reopen();
    assert_eq!(recovered.tail.len(), 3000 / 264);
    rig.options.tail_bytes = 1;
    assert_eq!(rig.reopen().tail.len(), 1);
}

#[test]
fn a_group_is_one_write_and_one_sync() {
    let mut rig = Rig::new();
    let disk = Disk::virtual_(rig.disk.clone());
    rig.wal = None;
    let (wal, _) = Wal::open(&disk, Path::new(DIR), rig.options.clone()).unwrap();
    rig.wal = Some(wal);
    let before = disk.counters();
    for i in 0..50 {
        rig.push(i, 1, b"value");
    }
    let synced = rig.wal().commit().unwrap();
    let after = disk.counters();
    assert_eq!((after.writes - before.writes, after.syncs - before.syncs), (1, 1));
    assert_eq!((synced.syncs, synced.bytes), (1, after.bytes_written - before.bytes_written));
    assert_eq!(rig.wal().commit().unwrap(), Synced::default(), "nothing was pushed");
    assert_eq!(disk.counters(), after);
    let stats = rig.wal().write_stats();
    assert_eq!((stats.appended_bytes, stats.syncs), (synced.bytes, 1));
}

#[test]
fn a_segment_prepared_by_another_thread_costs_the_log_one_sync_more() {
    let mut rig = Rig::new();
    let preparer = rig.wal().preparer();
    assert!(preparer.needed());
    std::thread::spawn(move || preparer.prepare().unwrap()).join().unwrap();
    let preparer = rig.wal().preparer();
    assert!(!preparer.needed());
    let disk = rig.wal().disk.clone();
    let entries: Vec<Entry> = (0..20).map(|i| rig.next(i, 1, &[9; 1000])).collect();
    rig.wal().push(None, None, &entries).unwrap();
    let before = disk.counters();
    let synced = rig.wal().commit().unwrap();
    assert_eq!(synced.syncs, 2, "the group goes over the end of the segment");
    assert_eq!(disk.counters().syncs - before.syncs, 2, "nothing had to be prepared");
    assert!(preparer.needed());
    rig.reopen();
}

/// Zeroes are written as the log is, half as much again, so that no sync waits for many of them; and all are there in time.
#[test]
fn the_next_segment_is_filled_at_the_pace_of_the_log() {
    let mut rig = Rig::new();
    rig.options.segment_bytes = 4 << 20;
    rig.reopen();
    let preparer = rig.wal().preparer();
    let unfinished = Path::new(DIR).join("log-next.tmp");
    preparer.prepare().unwrap(); // the first segment was waited for, and is small
    rig.append(1, &[0; 2 << 20]);
    let used = |rig: &mut Rig| rig.wal().write_stats().appended_bytes;
    let (start, mut steps) = (used(&mut rig), 0);
    while rig.wal().disk.open(&unfinished).is_ok() || steps == 0 {
        rig.append(1, &[1; 20_000]);
        while preparer.needed() {
            let before = rig.wal().disk.counters();
            preparer.step().unwrap();
            let after = rig.wal().disk.counters();
            assert!(after.syncs - before.syncs <= 2, "a step is a sync, the last one two");
            steps += 1;
        }
        if let Ok(file) = rig.wal().disk.open(&unfinished) {
            let (filled, used) = (file.map().unwrap().size(), used(&mut rig) - start + (2 << 20));
            let pace = used * 3 / 2;
            assert!(filled + (256 << 10) >= pace.min(4 << 20), "{filled} bytes are filled when {used} are used");
            assert!(filled <= pace + (256 << 10), "{filled} bytes are filled when {used} are used");
        }
    }
    assert!(steps > 8, "{steps} steps");
    assert!(!preparer.needed());
    rig.reopen();
}

#[test]
fn each_full_segment_is_uncached_by_the_next_step() {
    let mut rig = Rig::new();
    rig.options.segment_bytes = 64 << 10;
    rig.reopen();
    let uncached = |rig: &mut Rig| rig.wal().disk.counters().uncached;
    let preparer = rig.wal().preparer();
    preparer.prepare().unwrap();
    assert_eq!(uncached(&mut rig), 0);
    let segments = |rig: &mut Rig| {
        let names = rig.wal().disk.list(Path::new(DIR)).unwrap();
        names.iter().filter(|name| name.to_str().unwrap().starts_with("log-0")).count() as u64
    };
    let first = segments(&mut rig);
    while segments(&mut rig) < first + 3 {
        rig.append(1, &[1; 10_000]);
        preparer.prepare().unwrap();
        // The next one was made beforehand, so there is one segment more than those that are full.
        assert_eq!(uncached(&mut rig), segments(&mut rig) - first, "of the full ones");
    }
    rig.reopen();
}

/// Nobody had time for it: the log takes what there is of it, a MiB at least.
#[test]
fn a_log_that_overtakes_its_next_segment_finishes_it() {
    let mut rig = Rig::new();
    rig.options.segment_bytes = 4 << 20;
    rig.reopen();
    rig.wal().preparer().step().unwrap();
    let begun = rig.wal().disk.counters().bytes_written;
    for _ in 0..12 {
        rig.append(1, &[1; 100_000]);
    }
    assert!(rig.wal().disk.open(&Path::new(DIR).join("log-next.tmp")).is_err(), "it has its name");
    let written = rig.wal().disk.counters().bytes_written - begun;
    assert!(written < (2 << 20) + (1 << 19), "{written} bytes: no more zeroes than a segment that is waited for has");
    assert!(rig.wal().preparer().needed(), "the one behind it is wanted");
    rig.reopen();
}

#[test]
fn an_entry_larger_than_a_segment_gets_a_segment_of_its_size() {
    let mut rig = Rig::new();
    rig.append(1, &vec![1; 3 * SEGMENT as usize]);
    rig.append(1, b"small");
    rig.wal().prepare_next().unwrap();
    rig.append(1, &vec![2; 7 * SEGMENT as usize]);
    rig.reopen();
}

#[test]
fn entries_that_break_the_rules_are_impossible() {
    let spoil: [fn(&mut Entry); 4] = [
        |entry| entry.header.chain.0 ^= 1,
        |entry| entry.header.id.index = Index(9),
        |entry| entry.header.id.index = Index(0),
        |entry| entry.body = Bytes::from_static(b"longer than before"),
    ];
    for spoil in spoil {
        let mut rig = Rig::new();
        for _ in 0..3 {
            rig.append(2, b"x");
        }
        let mut bad = rig.next(3, 2, b"y");
        spoil(&mut bad);
        let error = rig.wal().push(None, None, &[bad]).unwrap_err();
        assert_eq!(error.exit_code(), 70, "{error}");
        assert!(matches!(rig.wal().commit(), Err(WalError::Poisoned)));
    }
    let mut rig = Rig::new();
    rig.append(2, b"x");
    let lower = rig.next(1, 1, b"y");
    assert_eq!(rig.wal().push(None, None, &[lower]).unwrap_err().exit_code(), 70, "terms do not fall");
}
