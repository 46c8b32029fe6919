//! Sinks under virtual time and in trouble; whole processes are in `tests/logging.rs`.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use log::{Level, LevelFilter};
use tempfile::TempDir;

use super::options::{Form, Output, Rotation, Sink};
use super::pattern::Pattern;
use super::record::Line;
use super::sinks::Sinks;

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3_600 * SECOND;
/// 2026-11-23T22:00:00Z.
const START: u64 = 1_795_471_200 * SECOND;

/// Sinks in a directory of their own, under a clock that stands where it is put.
struct Bench {
    directory: TempDir,
    sinks: Sinks,
    now: u64,
}

impl Bench {
    fn new(sinks: impl FnOnce(&Path) -> Vec<Sink>) -> Bench {
        let directory = tempfile::tempdir().expect("a directory");
        let pattern: Pattern = "%H:%M:%S %{level} %{message}".parse().expect("a pattern");
        let sinks = Sinks::open(sinks(directory.path()), pattern, START).expect("they open");
        Bench { directory, sinks, now: START }
    }

    fn one(rotation: Rotation, keep: usize, compress: bool) -> Bench {
        Bench::new(|directory| vec![file(directory, "log", rotation, keep, compress)])
    }

    fn say(&mut self, level: Level, message: &str) {
        let line = Line { at: self.now, level, thread: "t", logger: "l", module: "m", file: "f", line: 1, message };
        self.sinks.line(&line);
    }

    /// What one turn of the logging thread does.
    fn turn(&mut self) {
        self.sinks.tick(self.now);
        self.sinks.write();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.directory.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).expect("a directory");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("listed").file_name().into_string().expect("text")).collect();
        names.sort();
        names
    }
}

fn file(directory: &Path, name: &str, rotation: Rotation, keep: usize, compress: bool) -> Sink {
    let output = Output::File { path: directory.join(name), rotation, keep, compress };
    Sink { output, level: LevelFilter::Trace, form: Form::Pattern }
}

fn count(name: &str) -> u64 {
    super::counters().iter().find(|(counter, _)| *counter == name).expect("a counter").1
}

#[test]
fn each_sink_takes_its_levels_in_its_form() {
    let mut bench = Bench::new(|directory| {
        let errors = Sink { level: LevelFilter::Warn, ..file(directory, "errors", Rotation::Never, 0, false) };
        let json = Sink { form: Form::Json, ..file(directory, "json", Rotation::Never, 0, false) };
        vec![errors, json, file(directory, "all", Rotation::Never, 0, false)]
    });
    bench.say(Level::Debug, "one");
    bench.say(Level::Warn, "two");
    bench.turn();
    assert_eq!(bench.read("errors"), "22:00:00 WARN two\n");
    assert_eq!(bench.read("all"), "22:00:00 DEBUG one\n22:00:00 WARN two\n");
    let json = bench.read("json");
    let messages: Vec<String> = json
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["message"].to_string())
        .collect();
    assert_eq!(messages, ["\"one\"", "\"two\""]);
}

#[test]
fn a_repeated_message_is_one_line_with_its_count() {
    let mut bench = Bench::one(Rotation::Never, 0, false);
    for _ in 0..42 {
        bench.say(Level::Info, "again");
        bench.now += SECOND / 100;
    }
    bench.say(Level::Warn, "again");
    bench.say(Level::Warn, "other");
    bench.say(Level::Warn, "other");
    bench.turn();
    let so_far =
        "22:00:00 INFO again\n22:00:00 INFO again (repeated 41 times)\n22:00:00 WARN again\n22:00:00 WARN other\n";
    assert_eq!(bench.read("log"), so_far, "the count waits for more");
    bench.now += 5 * SECOND;
    bench.turn();
    assert_eq!(bench.read("log"), format!("{so_far}22:00:00 WARN other (repeated 1 time)\n"), "but not for ever");
    bench.say(Level::Warn, "other");
    bench.sinks.finish(bench.now);
    assert!(bench.read("log").ends_with("22:00:05 WARN other (repeated 1 time)\n"), "the end tells it too");
}

#[test]
fn rotation_by_size_keeps_the_newest_files() {
    let mut bench = Bench::one(Rotation::Size(100), 3, false);
    for n in 0..40 {
        bench.say(Level::Info, &format!("line {n:02}")); // 22 bytes: four fit
        bench.turn();
    }
    assert_eq!(bench.names(), ["log", "log.000007", "log.000008", "log.000009"]);
    let lines: Vec<String> = bench.names().iter().rev().map(|name| bench.read(name)).collect();
    assert!(lines.iter().all(|text| text.len() == 88), "{lines:?}");
    assert!(bench.read("log.000007").starts_with("22:00:00 INFO line 24\n"));
    assert!(bench.read("log").ends_with("line 39\n"));
}

#[test]
fn one_batch_is_cut_where_the_size_says() {
    let mut bench = Bench::one(Rotation::Size(100), 100, false);
    for n in 0..40 {
        bench.say(Level::Info, &format!("line {n:02}"));
    }
    bench.turn();
    assert_eq!(bench.names().len(), 10);
    assert_eq!(bench.read("log.000001").len(), 88);
}

#[test]
fn rotation_by_hour_names_files_by_their_lines() {
    let mut bench = Bench::one(Rotation::Hour, 8, false);
    for minutes in [0, 59, 60, 61, 60 * 5] {
        bench.now = START + minutes * 60 * SECOND;
        bench.say(Level::Info, &format!("minute {minutes}"));
    }
    bench.turn();
    assert_eq!(bench.names(), ["log", "log.2026-11-23T22", "log.2026-11-23T23"]);
    assert_eq!(bench.read("log.2026-11-23T22"), "22:00:00 INFO minute 0\n22:59:00 INFO minute 59\n");
    assert_eq!(bench.read("log.2026-11-23T23"), "23:00:00 INFO minute 60\n23:01:00 INFO minute 61\n");
    assert_eq!(bench.read("log"), "03:00:00 INFO minute 300\n");
}

#[test]
fn rotation_by_day_keeps_the_newest_days() {
    let mut bench = Bench::one(Rotation::Day, 2, false);
    for day in 0..5 {
        bench.now = START + day * 24 * HOUR;
        bench.say(Level::Info, &format!("day {day}"));
    }
    bench.turn();
    assert_eq!(bench.names(), ["log", "log.2026-11-25", "log.2026-11-26"]);
    assert_eq!(bench.read("log.2026-11-26"), "22:00:00 INFO day 3\n");
}

#[test]
fn a_clock_that_goes_back_overwrites_nothing() {
    let mut bench = Bench::one(Rotation::Hour, 8, false);
    for (hours, message) in [(0, "a"), (2, "b"), (1, "late"), (3, "c")] {
        bench.now = START + hours * HOUR;
        bench.say(Level::Info, message);
    }
    bench.turn();
    assert_eq!(bench.read("log.2026-11-24T00"), "00:00:00 INFO b\n23:00:00 INFO late\n");
    // An hour that is over, rotated by a process whose clock was behind: the name is taken.
    File::create(bench.directory.path().join("log.2026-11-24T01")).expect("a file");
    bench.now = START + 4 * HOUR;
    bench.say(Level::Info, "d");
    bench.turn();
    assert_eq!(bench.read("log.2026-11-24T01"), "");
    assert_eq!(bench.read("log.2026-11-24T01-002"), "01:00:00 INFO c\n");
}

#[test]
fn a_restart_goes_on_with_the_file_and_rotates_what_is_old() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log");
    fs::write(&path, "from yesterday\n").expect("written");
    let yesterday = std::time::UNIX_EPOCH + Duration::from_nanos(START - 24 * HOUR);
    File::options().write(true).open(&path).expect("there").set_modified(yesterday).expect("it can be set");
    let mut bench = Bench::new(|_| vec![file(directory.path(), "log", Rotation::Day, 8, false)]);
    bench.say(Level::Info, "today");
    bench.turn();
    assert_eq!(fs::read_to_string(directory.path().join("log.2026-11-22")).expect("rotated"), "from yesterday\n");
    assert_eq!(fs::read_to_string(&path).expect("new"), "22:00:00 INFO today\n");
}

#[test]
fn rotated_files_are_compressed_also_those_of_an_earlier_life() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("log.000041"), "left by a killed process\n").expect("written");
    fs::write(directory.path().join("log.000041.gz.part"), "half").expect("written");
    fs::write(directory.path().join("log.old"), "not ours\n").expect("written");
    let mut bench = Bench::new(|_| vec![file(directory.path(), "log", Rotation::Size(100), 8, true)]);
    for n in 0..9 {
        bench.say(Level::Info, &format!("line {n:02}"));
    }
    bench.turn();
    let names = ["log", "log.000041.gz", "log.000042.gz", "log.000043.gz", "log.old"];
    let deadline = Instant::now() + Duration::from_secs(20);
    let listed = || {
        let entries = fs::read_dir(directory.path()).expect("a directory");
        let mut names: Vec<_> = entries.map(|entry| entry.expect("listed").file_name()).collect();
        names.sort();
        names
    };
    while listed() != names {
        assert!(Instant::now() < deadline, "{:?}", listed());
        std::thread::park_timeout(Duration::from_millis(2));
        bench.turn();
    }
    let unpacked = |name: &str| {
        let mut text = String::new();
        let file = File::open(directory.path().join(name)).expect("there");
        flate2::read::GzDecoder::new(file).read_to_string(&mut text).expect("a whole gzip file");
        text
    };
    assert_eq!(unpacked("log.000041.gz"), "left by a killed process\n");
    assert!(unpacked("log.000042.gz").starts_with("22:00:00 INFO line 00\n"));
}

#[test]
fn half_a_line_of_a_killed_process_stays_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("log"), "22:00:00 INFO whole\n22:00:00 INFO ha").expect("written");
    let mut bench = Bench::new(|_| vec![file(directory.path(), "log", Rotation::Never, 8, false)]);
    bench.say(Level::Info, "next");
    bench.say(Level::Info, "and next");
    bench.turn();
    let text = fs::read_to_string(directory.path().join("log")).expect("there");
    assert_eq!(text, "22:00:00 INFO whole\n22:00:00 INFO ha\n22:00:00 INFO next\n22:00:00 INFO and next\n");
}

#[test]
fn a_file_that_was_moved_away_is_begun_anew_when_asked_or_after_a_second() {
    let mut bench = Bench::one(Rotation::Never, 8, false);
    let (path, moved) = (bench.directory.path().join("log"), bench.directory.path().join("moved"));
    bench.say(Level::Info, "old");
    bench.turn();
    fs::rename(&path, &moved).expect("moved");
    bench.sinks.reopen(bench.now);
    bench.say(Level::Info, "new");
    bench.turn();
    assert_eq!(bench.read("moved"), "22:00:00 INFO old\n");
    assert_eq!(bench.read("log"), "22:00:00 INFO the log's files are opened anew\n22:00:00 INFO new\n");
    fs::rename(&path, &moved).expect("moved");
    bench.now += SECOND;
    bench.turn();
    bench.say(Level::Info, "newest");
    bench.turn();
    assert_eq!(bench.read("log"), "22:00:01 INFO newest\n");
}

#[test]
fn a_directory_that_vanished_is_survived_counted_and_found_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let inside = directory.path().join("inside");
    fs::create_dir(&inside).expect("made");
    let mut bench = Bench::new(|_| vec![file(&inside, "log", Rotation::Size(1_000), 8, false)]);
    bench.say(Level::Info, "before");
    bench.turn();
    fs::remove_dir_all(&inside).expect("removed");
    let (failures, lost) = (count("log_failures"), count("log_lines_lost"));
    for n in 0..20 {
        bench.now += SECOND;
        bench.turn();
        bench.say(Level::Info, &format!("into nothing {n}"));
    }
    bench.turn();
    assert!(count("log_failures") >= failures + 20, "opening failed each second");
    assert!(count("log_lines_lost") >= lost + 20);
    fs::create_dir(&inside).expect("made");
    bench.now += SECOND;
    bench.turn();
    bench.say(Level::Info, "after");
    bench.turn();
    bench.turn();
    let text = fs::read_to_string(inside.join("log")).expect("begun anew");
    assert!(text.starts_with("22:00:21 INFO after\n"), "{text}");
    assert!(text.contains("can be written again: 20 lines were lost"), "{text}");
}

/// A small file system of its own; none where the process may not mount.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount(bytes: usize) -> Option<SmallDisk> {
        let directory = tempfile::tempdir().expect("a directory");
        let options = format!("size={bytes}");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(directory.path())
            .stderr(std::process::Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then(|| SmallDisk(directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_survived_and_no_line_continues_a_torn_one() {
    let Some(disk) = SmallDisk::mount(64 << 10) else {
        eprintln!("not shown here: this process may not mount a file system");
        return;
    };
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, vec![0; 40 << 10]).expect("it fits");
    let mut bench = Bench::new(|_| vec![file(disk.0.path(), "log", Rotation::Never, 8, false)]);
    let lost = count("log_lines_lost");
    for n in 0..2_000 {
        bench.say(Level::Info, &format!("line {n}"));
    }
    bench.turn();
    assert!(count("log_lines_lost") > lost, "the disk is full");
    fs::remove_file(&ballast).expect("removed");
    bench.say(Level::Info, "there is room again");
    bench.turn();
    bench.turn();
    bench.turn();
    let text = fs::read_to_string(disk.0.path().join("log")).expect("there");
    let (whole, rest) = text.split_once("\n22:00:00 INFO there is room again\n").expect("on a line of its own");
    assert!(whole.len() >= 16 << 10, "it was filled");
    let is_whole = |(n, line): (usize, &str)| line == format!("22:00:00 INFO line {n}");
    let not_whole = whole.lines().enumerate().filter(|line| !is_whole(*line)).count();
    assert!(not_whole <= 1, "one line is torn at most");
    assert!(rest.contains("lines were lost"), "{rest}");
}

#[test]
fn a_device_without_room_loses_lines_and_counts_them() {
    let full = Output::File { path: "/dev/full".into(), rotation: Rotation::Never, keep: 0, compress: false };
    let mut bench = Bench::new(|directory| {
        let sink = Sink { output: full, ..file(directory, "x", Rotation::Never, 0, false) };
        vec![sink, file(directory, "log", Rotation::Never, 0, false)]
    });
    let lost = count("log_lines_lost");
    for n in 0..10 {
        bench.say(Level::Info, &format!("line {n}"));
        bench.turn();
    }
    assert!(count("log_lines_lost") >= lost + 10);
    assert_eq!(bench.read("log").lines().count(), 10, "the other sink has them all");
}
