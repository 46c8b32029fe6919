//! One file of the log: appended to, rotated, and found again when somebody took it away. Time comes with the lines, so
//! that rotation is the same in virtual time. Nothing here ends the process: what cannot be written is lost, counted, and
//! said on standard error.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::UNIX_EPOCH;

use super::compress::Compressor;
use super::end::say;
use super::options::Rotation;
use super::rotated::Rotated;
use super::sinks::lines;
use super::COUNTERS;
use crate::limits;

const NANOS_PER_MS: u64 = 1_000_000;
const NANOS_PER_HOUR: u64 = 3_600_000 * NANOS_PER_MS;

pub(super) struct LogFile {
    path: PathBuf,
    rotation: Rotation,
    rotated: Rotated,
    compressor: Option<Compressor>,
    /// None while it cannot be opened.
    open: Option<Open>,
    /// Lines that are not written yet.
    buffer: Vec<u8>,
    /// When the file was last looked at, and when it may be rotated after that failed.
    looked: u64,
    rotate_after: u64,
    /// The newest moment that it was told.
    now: u64,
    health: Health,
}

struct Open {
    file: File,
    /// Device and inode: is it still what the path names?
    identity: (u64, u64),
    /// How long it is.
    bytes: u64,
    /// Hour or day of its lines; none before the first.
    period: Option<u64>,
    /// It ends in the middle of a line.
    torn: bool,
}

/// Whether lines arrive.
#[derive(Default)]
struct Health {
    /// Lines lost since they last did.
    lost: u64,
    /// When standard error was last told; none: all is well.
    said: Option<u64>,
    /// A line for the log itself.
    notice: Option<String>,
}

impl LogFile {
    pub(super) fn open(
        path: PathBuf,
        rotation: Rotation,
        keep: usize,
        compress: bool,
        now: u64,
    ) -> io::Result<LogFile> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let open = Open::new(&path, rotation).map_err(named)?;
        let rotated = Rotated::new(&path, keep);
        let mut file = LogFile {
            rotated,
            compressor: compress.then(|| Compressor::new(Rotated::new(&path, keep))),
            path,
            rotation,
            open: Some(open),
            buffer: Vec::with_capacity(limits::LOG_WRITE_BYTES),
            looked: now,
            rotate_after: 0,
            now,
            health: Health::default(),
        };
        file.compress(); // what an earlier life left
        Ok(file)
    }

    /// Takes a line, rotating before it if that is due.
    pub(super) fn line(&mut self, text: &[u8], at: u64) {
        self.now = self.now.max(at);
        if self.is_due(text.len(), at) {
            self.write();
            self.rotate(at);
        }
        if let Some(open) = &mut self.open {
            open.period = open.period.max(self.rotation.period(at));
        }
        self.buffer.extend_from_slice(text);
        if self.buffer.len() >= limits::LOG_WRITE_BYTES {
            self.write();
        }
    }

    /// Writes what it was given. What cannot be written is lost.
    pub(super) fn write(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let buffer = std::mem::take(&mut self.buffer);
        let written = match &mut self.open {
            Some(open) => open.append(&buffer),
            None => Err((0, io::Error::from(ErrorKind::NotFound))),
        };
        match written {
            Ok(()) => self.is_well(),
            Err((written, error)) => {
                let lost = lines(&buffer[written..]);
                self.health.lost += lost;
                COUNTERS.lost.fetch_add(lost, Ordering::Relaxed);
                self.failed("cannot write", &error);
            }
        }
        self.buffer = buffer;
        self.buffer.clear();
    }

    /// Looks, once a while, whether the path still names the open file; opens it anew if not.
    pub(super) fn tick(&mut self, now: u64) {
        self.now = self.now.max(now);
        if let Some(compressor) = &mut self.compressor {
            compressor.tick();
        }
        if now.abs_diff(self.looked) < limits::LOG_TICK_MS * NANOS_PER_MS {
            return;
        }
        self.looked = now;
        let named = std::fs::metadata(&self.path).map(|found| (found.dev(), found.ino())).ok();
        let is_there = self.open.as_ref().is_some_and(|open| Some(open.identity) == named);
        if !is_there {
            self.reopen(now);
        }
    }

    /// Opens the path anew; whatever was open is left as it is.
    pub(super) fn reopen(&mut self, now: u64) {
        self.write();
        self.now = self.now.max(now);
        match Open::new(&self.path, self.rotation) {
            Ok(open) => self.open = Some(open),
            Err(error) => {
                self.open = None;
                self.failed("cannot open", &error);
            }
        }
    }

    /// A line that the log should have about this file.
    pub(super) fn take_notice(&mut self) -> Option<String> {
        self.health.notice.take()
    }
}

impl LogFile {
    fn is_due(&self, more: usize, at: u64) -> bool {
        let Some(open) = &self.open else { return false };
        if at < self.rotate_after {
            return false;
        }
        match self.rotation {
            Rotation::Never => false,
            Rotation::Size(max) => {
                let there = open.bytes + self.buffer.len() as u64;
                there > 0 && there + more as u64 > max
            }
            // A clock that goes back does not begin an old period again.
            Rotation::Hour | Rotation::Day => open.period.is_some_and(|period| self.rotation.period(at) > Some(period)),
        }
    }

    /// Puts the file aside under its own name and begins a new one.
    fn rotate(&mut self, at: u64) {
        let start = self.open.as_ref().and_then(|open| self.rotation.start(open.period?));
        let renamed = self.rotated.free_name(start).and_then(|name| std::fs::rename(&self.path, name));
        if let Err(error) = renamed {
            self.rotate_after = at + limits::LOG_TICK_MS * NANOS_PER_MS;
            return self.failed("cannot rotate", &error);
        }
        self.reopen(at);
        if let Err(error) = self.rotated.prune() {
            self.failed("cannot remove old files beside", &error);
        }
        self.compress();
    }

    fn compress(&mut self) {
        if let Some(compressor) = &mut self.compressor {
            compressor.start();
        }
    }

    /// Tells standard error: at once, and then once a while for as long as it lasts.
    fn failed(&mut self, what: &str, error: &io::Error) {
        COUNTERS.failures.fetch_add(1, Ordering::Relaxed);
        let pause = limits::LOG_COMPLAINT_MS * NANOS_PER_MS;
        if self.health.said.is_none_or(|said| self.now.saturating_sub(said) >= pause) {
            self.health.said = Some(self.now);
            let lost = self.health.lost;
            say(format_args!("log: {what} {}: {error} ({lost} lines lost so far)", self.path.display()));
        }
    }

    fn is_well(&mut self) {
        if self.health.lost > 0 {
            let lost = std::mem::take(&mut self.health.lost);
            let notice = format!("{} can be written again: {lost} lines were lost", self.path.display());
            say(format_args!("log: {notice}"));
            self.health.notice = Some(notice);
        }
        self.health.said = None;
    }
}

impl Open {
    fn new(path: &PathBuf, rotation: Rotation) -> io::Result<Open> {
        let file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
        let found = file.metadata()?;
        let bytes = if found.is_file() { found.len() } else { 0 };
        let mut last = [b'\n'];
        if bytes > 0 {
            file.read_exact_at(&mut last, bytes - 1)?;
        }
        let modified = found.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let modified = u64::try_from(modified.as_nanos()).unwrap_or(u64::MAX);
        Ok(Open {
            file,
            identity: (found.dev(), found.ino()),
            bytes,
            period: if bytes > 0 { rotation.period(modified) } else { None },
            torn: last != [b'\n'],
        })
    }

    /// Appends lines; says how many bytes it got rid of if not all. The rest of a line that was torn off, by a full disk or
    /// by a process that was killed, is never continued: a new line begins.
    fn append(&mut self, text: &[u8]) -> Result<(), (usize, io::Error)> {
        if self.torn {
            self.append_bytes(b"\n").map_err(|(_, error)| (0, error))?;
            self.torn = false;
        }
        let appended = self.append_bytes(text);
        if let Err((written, _)) = &appended {
            self.torn = *written > 0 && text[written - 1] != b'\n';
        }
        appended
    }

    fn append_bytes(&mut self, text: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut written = 0;
        while written < text.len() {
            match self.file.write(&text[written..]) {
                Ok(0) => return Err((written, io::Error::from(ErrorKind::WriteZero))),
                Ok(n) => {
                    written += n;
                    self.bytes += n as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err((written, error)),
            }
        }
        Ok(())
    }
}

impl Rotation {
    /// Hour or day of a moment, counted from the epoch; none for a rotation that has no periods.
    fn period(self, at: u64) -> Option<u64> {
        match self {
            Rotation::Never | Rotation::Size(_) => None,
            Rotation::Hour => Some(at / NANOS_PER_HOUR),
            Rotation::Day => Some(at / (24 * NANOS_PER_HOUR)),
        }
    }

    /// How rotated files of a period are named: `2026-11-23T22`, `2026-11-23`.
    fn start(self, period: u64) -> Option<String> {
        let (nanos, format) = match self {
            Rotation::Never | Rotation::Size(_) => return None,
            Rotation::Hour => (NANOS_PER_HOUR, "%Y-%m-%dT%H"),
            Rotation::Day => (24 * NANOS_PER_HOUR, "%Y-%m-%d"),
        };
        Some(super::pattern::utc(period.saturating_mul(nanos)).strftime(format).to_string())
    }
}
