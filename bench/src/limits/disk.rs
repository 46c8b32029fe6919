//! What a synced append costs, alone and beside others, what the disk writes for it, and how fast it takes large pieces.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{json, Value};

use super::Limit;
use crate::measured::histogram;
use crate::process;

/// Bytes of each file; filled in pieces of a page, as the servers' log is.
const FILE_BYTES: u64 = 32 * 1024 * 1024;
const PIECE_BYTES: usize = 4096;
const APPENDS: [usize; 2] = [512, 4096];
const WRITERS: usize = 3;
const SEQUENTIAL: [usize; 2] = [64 * 1024, 1024 * 1024];

/// All of it, on files in `dir`.
pub(super) fn measure(dir: &Path, duration: Duration) -> io::Result<Vec<Limit>> {
    let mut limits = Vec::new();
    for writers in [1, WRITERS] {
        for bytes in APPENDS {
            limits.push(appends(dir, duration, bytes, writers)?);
        }
    }
    for bytes in SEQUENTIAL {
        limits.push(sequential(dir, duration, bytes)?);
    }
    Ok(limits)
}

/// So many threads, each with a file of its own.
pub(super) fn appends(dir: &Path, duration: Duration, bytes: usize, writers: usize) -> io::Result<Limit> {
    let files: Vec<File> =
        (0..writers).map(|writer| filled(&dir.join(format!("append-{writer}")))).collect::<io::Result<_>>()?;
    let device = process::device_of_directory(dir)?;
    let before = process::disk(device);
    let mut latencies = histogram();
    std::thread::scope(|scope| {
        let running: Vec<_> = files.iter().map(|file| scope.spawn(move || append(file, bytes, duration))).collect();
        for thread in running {
            let one = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            latencies.add(&one).expect("histograms of the same shape add up");
        }
        io::Result::Ok(())
    })?;
    let written = before.zip(process::disk(device));
    let per_sync = |now: u64, before: u64| now.saturating_sub(before) as f64 / latencies.len().max(1) as f64;
    let (flushes, disk_bytes) = written
        .map_or((None, None), |(before, now)| (Some(per_sync(now.0, before.0)), Some(per_sync(now.1, before.1))));
    let amplification = disk_bytes.map(|disk| disk / bytes as f64);
    let note = match (flushes, disk_bytes, amplification) {
        (Some(flushes), Some(disk), Some(times)) => {
            format!("{disk:.0} B written ({times:.1}x), {flushes:.2} flushes a sync; whole machine")
        }
        _ => String::new(),
    };
    Ok(Limit {
        name: format!(
            "pwrite {bytes} B + fdatasync, {}",
            if writers == 1 { "alone".to_owned() } else { format!("{writers} at once") }
        ),
        latencies: Some(latencies),
        note,
        numbers: json!({
            "append_bytes": bytes, "writers": writers, "disk_bytes_per_sync": disk_bytes, "flushes_per_sync": flushes,
            "write_amplification": amplification,
        }),
    })
}

fn append(file: &File, bytes: usize, duration: Duration) -> io::Result<Histogram<u64>> {
    let mut latencies = histogram();
    let (piece, end) = (vec![0xA5; bytes], Instant::now() + duration);
    let mut at = 0;
    while Instant::now() < end {
        let begin = Instant::now();
        file.write_all_at(&piece, at)?;
        file.sync_data()?;
        latencies.saturating_record(begin.elapsed().as_nanos() as u64);
        at = (at + bytes as u64) % (FILE_BYTES - bytes as u64);
    }
    Ok(latencies)
}

/// Large pieces, each synced.
fn sequential(dir: &Path, duration: Duration, bytes: usize) -> io::Result<Limit> {
    let file = filled(&dir.join("sequential"))?;
    let begin = Instant::now();
    let latencies = append(&file, bytes, duration)?;
    let per_second = latencies.len() as f64 * bytes as f64 / begin.elapsed().as_secs_f64();
    let numbers: Value = json!({ "append_bytes": bytes, "bytes_per_second": per_second });
    let (name, note) = (format!("pwrite {} KiB + fdatasync", bytes / 1024), format!("{:.0} MB/s", per_second / 1e6));
    Ok(Limit { name, latencies: Some(latencies), note, numbers })
}

/// A file of zeroes, synced.
fn filled(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    let zeroes = [0; PIECE_BYTES];
    for offset in (0..FILE_BYTES).step_by(PIECE_BYTES) {
        file.write_all_at(&zeroes, offset)?;
    }
    file.sync_all()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appends_are_timed_and_counted() {
        let dir = std::env::temp_dir().join(format!("raftkv-bench-limits-test-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let limit = appends(&dir, Duration::from_millis(50), 512, 2).expect("it can be measured");
        let latencies = limit.latencies.expect("latencies");
        assert!(!latencies.is_empty() && latencies.min() > 100, "{} of {}", limit.name, latencies.len());
        let bandwidth = sequential(&dir, Duration::from_millis(50), 64 * 1024).expect("it can be measured");
        assert!(bandwidth.numbers["bytes_per_second"].as_f64() > Some(0.0));
        std::fs::remove_dir_all(&dir).expect("it is ours");
    }
}
