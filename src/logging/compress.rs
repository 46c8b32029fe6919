//! Compression of rotated files, beside the logging thread: it takes a second for a large file, and lines must not wait
//! for it. A file appears under its compressed name when it is whole, and only then the original leaves; whatever a
//! killed process left is done again.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use flate2::write::GzEncoder;
use flate2::Compression;

use super::end::say;
use super::rotated::Rotated;
use super::COUNTERS;

pub(super) struct Compressor {
    rotated: Rotated,
    /// One run at a time; it takes all files that it finds.
    running: Option<JoinHandle<()>>,
    /// Something was put aside since that run began.
    again: bool,
}

impl Compressor {
    pub(super) fn new(rotated: Rotated) -> Compressor {
        Compressor { rotated, running: None, again: false }
    }

    /// There may be something to do.
    pub(super) fn start(&mut self) {
        self.again = true;
        self.tick();
    }

    /// Begins another run if one is wanted and none is under way.
    pub(super) fn tick(&mut self) {
        if !self.again || self.running.as_ref().is_some_and(|running| !running.is_finished()) {
            return;
        }
        self.again = false;
        let rotated = self.rotated.clone();
        let started = std::thread::Builder::new().name("log-gz".to_owned()).spawn(move || compress_all(&rotated));
        match started {
            Ok(running) => self.running = Some(running),
            Err(error) => failed(Path::new("(no thread)"), &error),
        }
    }
}

fn compress_all(rotated: &Rotated) {
    let files = match rotated.list() {
        Ok(files) => files,
        Err(error) => return failed(Path::new("(list of files)"), &error),
    };
    for file in files.iter().filter(|file| !file.is_compressed) {
        match compress(&file.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => failed(&file.path, &error),
            _ => {} // a file that is gone was too old to stay
        }
    }
}

fn compress(path: &Path) -> io::Result<()> {
    let (part, whole) = (with_ending(path, ".gz.part"), with_ending(path, ".gz"));
    let mut source = BufReader::new(File::open(path)?);
    let mut encoder = GzEncoder::new(File::create(&part)?, Compression::default());
    let written = io::copy(&mut source, &mut encoder).and_then(|_| encoder.finish());
    if let Err(error) = written.and_then(|_| fs::rename(&part, whole)) {
        let _ = fs::remove_file(&part);
        return Err(error);
    }
    fs::remove_file(path)
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn failed(path: &Path, error: &io::Error) {
    COUNTERS.failures.fetch_add(1, Ordering::Relaxed);
    say(format_args!("log: cannot compress {}: {error}", path.display()));
}
