//! How fast a log can be made durable here, for each way of writing it: what one synced append costs, and how many bytes
//! the kernel writes for it. The ways take turns in rounds, so that a change of the machine's mood meets them all.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use hdrhistogram::Histogram;
use memmap2::MmapRaw;

use crate::machine;

/// Bytes of each file that is written to.
const FILE_BYTES: u64 = 32 * 1024 * 1024;
/// Pieces in which a file is filled beforehand: the page cache keeps them as folios of that size.
const SMALL_FILL: usize = 4 * 1024;
const LARGE_FILL: usize = 1024 * 1024;
const APPEND_BYTES: [usize; 2] = [512, 4096];

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Directory on the disk to measure; files of 32 MiB are written there and removed.
    #[arg(long, default_value = ".")]
    pub dir: PathBuf,
    /// Rounds in which the ways of writing take turns.
    #[arg(long, default_value_t = 10)]
    pub rounds: u32,
    /// Synced appends per way and round.
    #[arg(long, default_value_t = 300)]
    pub appends: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// pwrite into a file that is also mapped, then fdatasync.
    Write { fill: usize },
    /// A store into the shared mapping, then msync.
    Store { fill: usize },
    /// pwrite with O_DIRECT and O_DSYNC.
    Direct,
}

const WAYS: [Way; 5] = [
    Way::Write { fill: SMALL_FILL },
    Way::Write { fill: LARGE_FILL },
    Way::Store { fill: SMALL_FILL },
    Way::Store { fill: LARGE_FILL },
    Way::Direct,
];

/// One way with one size, and what was measured of it.
struct Case {
    way: Way,
    append_bytes: usize,
    file: File,
    path: PathBuf,
    map: MmapRaw,
    /// Where the next append goes.
    at: u64,
    nanoseconds: Histogram<u64>,
    /// Median of each round, in nanoseconds.
    round_medians: Vec<u64>,
    bytes_written: u64,
}

/// Measures, prints, removes its files.
pub fn run(args: &Args, in_json: bool) -> io::Result<()> {
    let mut cases = Vec::new();
    for append_bytes in APPEND_BYTES {
        for way in WAYS {
            match Case::new(&args.dir, way, append_bytes) {
                Ok(case) => cases.push(case),
                Err(error) if way == Way::Direct => eprintln!("{}: left out, {error}", way.name()),
                Err(error) => return Err(error),
            }
        }
    }
    for _ in 0..args.rounds {
        for case in &mut cases {
            case.round(args.appends)?;
        }
    }
    if in_json {
        println!("{}", json(&cases, args));
    } else {
        print!("{}", table(&cases, args));
    }
    Ok(())
}

impl Case {
    fn new(dir: &Path, way: Way, append_bytes: usize) -> io::Result<Case> {
        let path = dir.join(format!("raftkv-bench-{}-{}-{append_bytes}", std::process::id(), way.file_name()));
        let filled = fill(&path, way.fill());
        let file = filled.and_then(|file| match way {
            Way::Direct => {
                OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT | libc::O_DSYNC).open(&path)
            }
            _ => Ok(file),
        });
        let mapped = file.and_then(|file| Ok((memmap2::MmapOptions::new().map_raw(&file)?, file)));
        let (map, file) = mapped.inspect_err(|_| remove(&path))?;
        Ok(Case {
            way,
            append_bytes,
            file,
            path,
            map,
            at: 0,
            nanoseconds: histogram(),
            round_medians: Vec::new(),
            bytes_written: 0,
        })
    }

    fn round(&mut self, appends: u32) -> io::Result<()> {
        let mut aligned = vec![0xA5u8; self.append_bytes + 4096];
        let start = aligned.as_ptr().align_offset(4096);
        let bytes = &mut aligned[start..start + self.append_bytes];
        let mut nanoseconds = histogram();
        let written_before = bytes_written();
        for i in 0..appends {
            bytes[..4].copy_from_slice(&i.to_le_bytes());
            let begin = Instant::now();
            self.append(bytes)?;
            nanoseconds.saturating_record(begin.elapsed().as_nanos() as u64);
            self.at = (self.at + self.append_bytes as u64) % FILE_BYTES;
        }
        self.bytes_written += bytes_written().saturating_sub(written_before);
        self.round_medians.push(nanoseconds.value_at_quantile(0.5));
        self.nanoseconds.add(&nanoseconds).expect("same precision");
        Ok(())
    }

    /// One durable append at `at`.
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        match self.way {
            Way::Write { .. } => {
                self.file.write_all_at(bytes, self.at)?;
                self.file.sync_data()
            }
            Way::Store { .. } => {
                assert!(self.at as usize + bytes.len() <= self.map.len());
                // SAFETY: inside the mapping of a file that is filled and that nobody else knows.
                unsafe {
                    let to = self.map.as_mut_ptr().add(self.at as usize);
                    std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
                }
                self.map.flush_range(self.at as usize, bytes.len())
            }
            Way::Direct => self.file.write_all_at(bytes, self.at),
        }
    }

    fn bytes_per_sync(&self) -> u64 {
        self.bytes_written / self.nanoseconds.len().max(1)
    }

    fn microseconds(&self, quantile: f64) -> f64 {
        self.nanoseconds.value_at_quantile(quantile) as f64 / 1000.0
    }

    fn round_median_range(&self) -> (f64, f64) {
        let medians = self.round_medians.iter().map(|ns| *ns as f64 / 1000.0);
        medians.fold((f64::MAX, 0.0), |(low, high), us| (low.min(us), high.max(us)))
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

impl Way {
    fn fill(self) -> usize {
        match self {
            Way::Write { fill } | Way::Store { fill } => fill,
            Way::Direct => LARGE_FILL,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Way::Write { fill: SMALL_FILL } => "pwrite + fdatasync, filled by 4 KiB",
            Way::Write { .. } => "pwrite + fdatasync, filled by 1 MiB",
            Way::Store { fill: SMALL_FILL } => "store + msync, filled by 4 KiB",
            Way::Store { .. } => "store + msync, filled by 1 MiB",
            Way::Direct => "O_DIRECT + O_DSYNC",
        }
    }

    fn file_name(self) -> String {
        let kind = match self {
            Way::Write { .. } => "write",
            Way::Store { .. } => "store",
            Way::Direct => "direct",
        };
        format!("{kind}-{}", self.fill())
    }
}

/// Nanoseconds up to a minute, three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("these bounds are allowed")
}

/// A file of zeroes, written in pieces of `piece` bytes and synced.
fn fill(path: &Path, piece: usize) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    let zeroes = vec![0u8; piece];
    for offset in (0..FILE_BYTES).step_by(piece) {
        file.write_all_at(&zeroes, offset)?;
    }
    file.sync_all()?;
    Ok(file)
}

fn remove(path: &Path) {
    let _ = std::fs::remove_file(path); // it may not exist; nothing depends on it
}

/// What the kernel counts as written to disk by this process, dirtied page cache included; 0 if it does not tell.
fn bytes_written() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes:"));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

fn table(cases: &[Case], args: &Args) -> String {
    let mut text =
        format!("{}; {} rounds of {} synced appends\n\n", machine::description(&args.dir), args.rounds, args.appends);
    text +=
        "bytes  way                                    p50 us  rounds' p50      p99 us  p99.9 us  written per sync\n";
    for case in cases {
        let (low, high) = case.round_median_range();
        text += &format!(
            "{:>5}  {:<36}  {:>7.1}  {:>6.1}..{:<7.1} {:>7.1}  {:>8.1}  {:>16}\n",
            case.append_bytes,
            case.way.name(),
            case.microseconds(0.5),
            low,
            high,
            case.microseconds(0.99),
            case.microseconds(0.999),
            case.bytes_per_sync()
        );
    }
    text
}

fn json(cases: &[Case], args: &Args) -> serde_json::Value {
    let results: Vec<serde_json::Value> = cases
        .iter()
        .map(|case| {
            let (low, high) = case.round_median_range();
            serde_json::json!({
                "way": case.way.name(),
                "append_bytes": case.append_bytes,
                "p50_us": case.microseconds(0.5),
                "p50_us_lowest_round": low,
                "p50_us_highest_round": high,
                "p99_us": case.microseconds(0.99),
                "p99_9_us": case.microseconds(0.999),
                "bytes_written_per_sync": case.bytes_per_sync(),
            })
        })
        .collect();
    serde_json::json!({
        "machine": machine::description(&args.dir),
        "rounds": args.rounds,
        "appends_per_round": args.appends,
        "results": results,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_writes_what_it_appends_and_leaves_nothing_behind() {
        let dir = std::env::temp_dir().join(format!("raftkv-bench-test-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        for way in WAYS {
            let Ok(mut case) = Case::new(&dir, way, 512) else { continue };
            case.round(3).unwrap();
            assert_eq!((case.at, case.nanoseconds.len(), case.round_medians.len()), (3 * 512, 3, 1));
            assert!(case.microseconds(0.5) > 0.1);
            let bytes = std::fs::read(&case.path).unwrap();
            assert_eq!(bytes[512..516], 1u32.to_le_bytes(), "{}", way.name());
            assert_eq!((bytes[3 * 512 - 1], bytes[3 * 512]), (0xA5, 0));
        }
        std::fs::remove_dir(&dir).unwrap();
    }
}
