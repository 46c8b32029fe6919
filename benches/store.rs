//! The store alone, on one thread: random inserts, then gets and updates of random keys. What is measured is the skip
//! list and the memory that it lies in.
//!
//! ```text
//! cargo bench --bench store -- [--keys N] [--value-bytes N] [--no-huge-pages] [--alike] [--one-by-one] [--crossbeam]
//! ```
//!
//! One line: nanoseconds of processor time per operation, and the resident size at the end. Compare two builds by
//! alternating them. Keys differ in their first eight bytes, with `--alike` only behind them. Sixteen are looked for beside each
//! other, as the server does, with `--one-by-one` each for itself. `--crossbeam` does the same with the list of that crate: keys
//! and values in boxes, without versions, so with less to do.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "a benchmark reads files of the system")]

use std::fs;
use std::time::Duration;

use crossbeam_skiplist::SkipMap;
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
    /// Keys begin alike.
    alike: bool,
    one_by_one: bool,
    crossbeam: bool,
}

fn main() {
    let settings = settings();
    let line = if settings.crossbeam { crossbeam(&settings) } else { raftkv(&settings) };
    let Settings { keys, value_bytes, .. } = settings;
    println!("keys {keys} value {value_bytes} B: {line}");
}

fn raftkv(settings: &Settings) -> String {
    let mut store = Store::new();
    let value = vec![7; settings.value_bytes];
    let put: Make = |key, value| Command::Put { key, value };
    let insert = timed(&shuffled(settings.keys), |batch| write(settings, &mut store, batch, &value, put));
    let some = some(settings);
    let mut reader = store.reader();
    let mut found = 0;
    let get = timed(&some, |batch| {
        let keys = keys(settings, batch);
        let pinned = reader.pin();
        if !settings.one_by_one {
            pinned.warm(keys.iter().map(<[u8; 16]>::as_slice));
        }
        for key in &keys[..batch.len()] {
            found += pinned.get(key).map_or(0, |found| u64::from(found.value[0]));
        }
    });
    assert_eq!(found, 7 * OPERATIONS, "every key is there");
    let update: Make = |key, value| Command::Update { key, value };
    let update = timed(&some, |batch| write(settings, &mut store, batch, &value, update));
    let resident = resident_mib();
    let begun = processor_time();
    drop((reader, store));
    let ended = (processor_time() - begun).as_millis();
    format!("insert {insert} ns, get {get} ns, update {update} ns, resident {resident} MiB, freed in {ended} ms")
}

fn crossbeam(settings: &Settings) -> String {
    let map: SkipMap<Box<[u8]>, Box<[u8]>> = SkipMap::new();
    let value = vec![7; settings.value_bytes];
    let write = |batch: &[u64]| {
        for key in &keys(settings, batch)[..batch.len()] {
            map.insert(Box::from(key.as_slice()), Box::from(value.as_slice()));
        }
    };
    let insert = timed(&shuffled(settings.keys), write);
    let some = some(settings);
    let mut found = 0;
    let get = timed(&some, |batch| {
        for key in &keys(settings, batch)[..batch.len()] {
            found += map.get(key.as_slice()).map_or(0, |found| u64::from(found.value()[0]));
        }
    });
    assert_eq!(found, 7 * OPERATIONS, "every key is there");
    let update = timed(&some, write);
    let resident = resident_mib();
    format!("insert {insert} ns, get {get} ns, update {update} ns, resident {resident} MiB")
}

fn settings() -> Settings {
    let mut settings =
        Settings { keys: 1_000_000, value_bytes: 256, alike: false, one_by_one: false, crossbeam: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|text| text.parse().ok()).expect("a number follows");
        match argument.as_str() {
            "--keys" => settings.keys = number(),
            "--value-bytes" => settings.value_bytes = number() as usize,
            "--alike" => settings.alike = true,
            "--one-by-one" => settings.one_by_one = true,
            "--crossbeam" => settings.crossbeam = true,
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

type Make = for<'a> fn(&'a [u8], &'a [u8]) -> Command<'a>;

/// One entry.
fn write(settings: &Settings, store: &mut Store, numbers: &[u64], value: &[u8], command: Make) {
    let revision = Index(store.applied().0 + 1);
    let keys = keys(settings, numbers);
    let keys = &keys[..numbers.len()];
    if !settings.one_by_one {
        store.warm(keys.iter().map(<[u8; 16]>::as_slice));
    }
    for key in keys {
        store.apply(revision, &command(key, value));
    }
    store.publish(revision);
}

/// The keys of a batch.
fn keys(settings: &Settings, numbers: &[u64]) -> [[u8; 16]; BATCH as usize] {
    std::array::from_fn(|position| {
        let number = numbers.get(position).copied().unwrap_or_default().to_be_bytes();
        let mut key = *b"key.............";
        key[8..].copy_from_slice(&number);
        if !settings.alike {
            key.rotate_left(8);
        }
        key
    })
}

/// Random keys, each of which is there.
fn some(settings: &Settings) -> Vec<u64> {
    (0..OPERATIONS).map(|number| mixed(number) % settings.keys).collect()
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
