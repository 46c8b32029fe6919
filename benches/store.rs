//! The store alone, on one thread: random inserts, then gets and updates of random keys. What is measured is the skip
//! list and the memory that it lies in.
//!
//! ```text
//! cargo bench --bench store -- [--keys N] [--value-bytes N] [--no-huge-pages]
//! ```
//!
//! One line: nanoseconds of processor time per operation, and the resident size at the end. Compare two builds by
//! alternating them.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "a benchmark reads files of the system")]

use std::fs;
use std::time::Duration;

use protocol::command::Command;
use protocol::Index;
use raftkv::kv::Store;
use raftkv::random::SplitMix64;

/// Operations of each phase after the inserts.
const OPERATIONS: u64 = 1_000_000;
/// Commands of one entry, and gets under one pin.
const BATCH: u64 = 16;

struct Settings {
    keys: u64,
    value_bytes: usize,
}

fn main() {
    let settings = settings();
    let mut store = Store::new();
    let value = vec![7; settings.value_bytes];
    let numbers: Vec<u64> = shuffled(settings.keys);
    let insert = timed(&numbers, |batch| {
        write(&mut store, batch, &value, |key, value| Command::Put { key, value });
    });
    let some: Vec<u64> = (0..OPERATIONS).map(|number| mixed(number) % settings.keys).collect();
    let mut reader = store.reader();
    let mut found = 0;
    let get = timed(&some, |batch| {
        let pinned = reader.pin();
        for &number in batch {
            found += pinned.get(&key(number)).map_or(0, |found| u64::from(found.value[0]));
        }
    });
    assert_eq!(found, 7 * OPERATIONS, "every key is there");
    let update = timed(&some, |batch| {
        write(&mut store, batch, &value, |key, value| Command::Update { key, value });
    });
    let resident = resident_mib();
    let begun = processor_time();
    drop((reader, store));
    let ended = (processor_time() - begun).as_millis();
    println!(
        "keys {} value {} B: insert {insert} ns, get {get} ns, update {update} ns, resident {resident} MiB, freed in {ended} ms",
        settings.keys, settings.value_bytes
    );
}

fn settings() -> Settings {
    let mut settings = Settings { keys: 1_000_000, value_bytes: 256 };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|text| text.parse().ok()).expect("a number follows");
        match argument.as_str() {
            "--keys" => settings.keys = number(),
            "--value-bytes" => settings.value_bytes = number() as usize,
            "--no-huge-pages" => forbid_huge_pages(),
            _ => {} // cargo passes some of its own
        }
    }
    settings
}

fn forbid_huge_pages() {
    // SAFETY: PR_SET_THP_DISABLE takes four numbers and touches no memory.
    let done = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
    assert_eq!(done, 0, "huge pages cannot be forbidden");
}

/// Nanoseconds per number.
fn timed(numbers: &[u64], mut work: impl FnMut(&[u64])) -> u64 {
    let begun = processor_time();
    numbers.chunks(BATCH as usize).for_each(&mut work);
    (processor_time() - begun).as_nanos() as u64 / numbers.len() as u64
}

/// What this thread has used, the kernel's work for it included.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists, and `time` is where the call writes.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(failed, 0, "a thread has a clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// One entry.
fn write(store: &mut Store, numbers: &[u64], value: &[u8], command: for<'a> fn(&'a [u8], &'a [u8]) -> Command<'a>) {
    let revision = Index(store.applied().0 + 1);
    for &number in numbers {
        store.apply(revision, &command(&key(number), value));
    }
    store.publish(revision);
}

fn key(number: u64) -> [u8; 16] {
    let mut key = *b"key.............";
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

/// The numbers below `count`, in a random order.
fn shuffled(count: u64) -> Vec<u64> {
    let mut numbers: Vec<u64> = (0..count).collect();
    for last in (1..numbers.len()).rev() {
        numbers.swap(last, (mixed(last as u64) % (last as u64 + 1)) as usize);
    }
    numbers
}

fn mixed(number: u64) -> u64 {
    SplitMix64::new(number).draw()
}

fn resident_mib() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").expect("Linux tells");
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("the second field");
    pages * 4096 / (1024 * 1024)
}
