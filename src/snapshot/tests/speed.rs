//! How fast a state is loaded from a real file. `RAFTKV_SNAPSHOT_KEYS=1000000` with a release build is the goal's measure:
//! at most 3 s.

use std::time::Duration;

use super::*;

#[test]
fn a_large_state_is_taken_and_loaded_on_a_real_disk() {
    let keys: u32 = std::env::var("RAFTKV_SNAPSHOT_KEYS").map_or(20_000, |keys| keys.parse().expect("a number"));
    let home = tempfile::tempdir().expect("a place for files");
    let mut rig = Rig::new();
    rig.fill(keys, 256);
    let disk = Disk::real();
    let mut snapshots = Snapshots::open(&disk, home.path()).expect("an empty directory");
    let mut took = Vec::new();
    let taken = timed(&mut took, || rig.take(&mut snapshots).expect("the disk works"));
    assert_eq!(taken.keys, u64::from(keys));
    let mut snapshots = timed(&mut took, || Snapshots::open(&disk, home.path()).expect("good"));
    let (summary, restored) = timed(&mut took, || snapshots.load_newest(Some(CLUSTER)).expect("good").expect("one"));
    let mut store = timed(&mut took, || Store::restore(restored));
    println!("{keys} keys, {} bytes: taken, opened, loaded, restored in {took:?}", summary.bytes);
    assert_eq!((summary, store.keys()), (taken, u64::from(keys)));
    assert_eq!(store.get(&7u32.to_be_bytes()).map(|found| found.value.len()), Some(256));
    store.publish(store.applied().next());
    let report = verify(&home.path().join(format!("snapshot-{:016x}", summary.position.id.index.0))).expect("good");
    assert_eq!(report.json()["keys"], keys);
}

/// Elapsed, and of that on a processor.
type Took = (Duration, Duration);

#[allow(clippy::disallowed_types, reason = "a measurement has a clock")]
fn timed<T>(took: &mut Vec<Took>, run: impl FnOnce() -> T) -> T {
    let (start, start_on_cpu) = (std::time::Instant::now(), on_cpu());
    let result = run();
    took.push((start.elapsed(), on_cpu() - start_on_cpu));
    result
}

/// What this thread has had of a processor; 0 where the kernel does not tell.
#[allow(clippy::disallowed_methods, reason = "no file of ours")]
fn on_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split_whitespace().next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}
