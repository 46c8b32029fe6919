//! Names of the files that were put aside: `raftkv.log.000017` (size), `raftkv.log.2026-11-23T22`, `raftkv.log.2026-11-23`
//! (`-002` and so on behind it if that is taken), each with `.gz` when compressed. A name is given once and never changes,
//! so that neither a restart nor a compression under way can mistake one file for another. Files with other names are
//! nobody's business here.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::limits;

/// The rotated files of one log.
#[derive(Clone)]
pub(super) struct Rotated {
    directory: PathBuf,
    /// The log's own name and a dot.
    prefix: String,
    keep: usize,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RotatedFile {
    pub(super) path: PathBuf,
    pub(super) is_compressed: bool,
    /// The name behind the prefix, without `.gz`.
    suffix: String,
}

const COMPRESSED: &str = ".gz";

impl Rotated {
    pub(super) fn new(log: &Path, keep: usize) -> Rotated {
        let directory = match log.parent() {
            Some(directory) if !directory.as_os_str().is_empty() => directory.to_owned(),
            _ => PathBuf::from("."),
        };
        let name = log.file_name().unwrap_or_default().to_string_lossy();
        Rotated { directory, prefix: format!("{name}."), keep }
    }

    /// All of them, oldest first.
    pub(super) fn list(&self) -> io::Result<Vec<RotatedFile>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(suffix) = name.to_str().and_then(|name| name.strip_prefix(&self.prefix)) else { continue };
            let (suffix, is_compressed) = match suffix.strip_suffix(COMPRESSED) {
                Some(suffix) => (suffix, true),
                None => (suffix, false),
            };
            if is_rotated(suffix) {
                files.push(RotatedFile { path: entry.path(), is_compressed, suffix: suffix.to_owned() });
            }
        }
        files.sort_by(|a, b| order(&a.suffix).cmp(&order(&b.suffix)));
        Ok(files)
    }

    /// A name for the next one: that of its period, or else the next number.
    pub(super) fn free_name(&self, period: Option<String>) -> io::Result<PathBuf> {
        let taken = self.list()?;
        let suffix = match period {
            None => {
                let newest = taken.iter().filter_map(|file| number(&file.suffix, 6)).max().unwrap_or(0);
                let next = newest.checked_add(1).filter(|next| *next <= limits::LOG_FILE_NUMBER_MAX);
                let next = next.ok_or_else(|| io::Error::other("no number is left for a rotated file"))?;
                format!("{next:06}")
            }
            Some(period) => {
                let is_free = |name: &String| taken.iter().all(|file| file.suffix != *name);
                let second = (2..).map(|n| format!("{period}-{n:03}"));
                std::iter::once(period.clone()).chain(second).find(is_free).expect("there are enough numbers")
            }
        };
        Ok(self.directory.join(format!("{}{suffix}", self.prefix)))
    }

    /// Removes the oldest until as many are left as may stay.
    pub(super) fn prune(&self) -> io::Result<()> {
        let files = self.list()?;
        for file in &files[..files.len().saturating_sub(self.keep)] {
            match fs::remove_file(&file.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Oldest first: numbers by their size, then periods by their time, and the files of one period by the number behind it.
fn order(suffix: &str) -> (Option<&str>, usize, &str) {
    (period_of(suffix), suffix.len(), suffix)
}

/// The date in front, with its hour if it has one.
fn period_of(suffix: &str) -> Option<&str> {
    let date = suffix.get(..10).filter(|date| is_shaped(date, "0000-00-00"))?;
    Some(suffix.get(..13).filter(|hour| is_shaped(&hour[10..], "T00")).unwrap_or(date))
}

/// Whether there are digits where the shape has zeroes, and the same characters elsewhere.
fn is_shaped(text: &str, shape: &str) -> bool {
    text.len() == shape.len()
        && text.bytes().zip(shape.bytes()).all(|(byte, shape)| match shape {
            b'0' => byte.is_ascii_digit(),
            _ => byte == shape,
        })
}

/// A number as we write it: at least `width` digits, and no zero in front of more.
fn number(text: &str, width: usize) -> Option<u64> {
    let number = text.parse().ok().filter(|number| (1..=limits::LOG_FILE_NUMBER_MAX).contains(number))?;
    (format!("{number:0width$}") == text).then_some(number)
}

/// A number, or a date, with an hour or without, with a number behind it or without.
fn is_rotated(suffix: &str) -> bool {
    match period_of(suffix) {
        Some(period) => {
            let behind = &suffix[period.len()..];
            behind.is_empty() || behind.strip_prefix('-').is_some_and(|n| number(n, 3).is_some_and(|n| n >= 2))
        }
        None => number(suffix, 6).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_we_give_are_ours() {
        for ours in [
            "000001",
            "999999",
            "1234567",
            "2026-11-23",
            "2026-11-23T22",
            "2026-11-23-002",
            "2026-11-23T22-017",
            "2026-11-23T22-1000",
        ] {
            assert!(is_rotated(ours), "{ours}");
        }
        for other in [
            "",
            "1",
            "old",
            "000000",
            "00000x",
            "+00001",
            "0000001",
            "20261123",
            "18446744073709551615",
            "99999999999999999999",
            "2026-11",
            "2026-11-23T",
            "2026-11-23-",
            "2026-11-23-001",
            "2026-11-23-0002",
            "2026-11-23T22-x",
            "2026-11-23T2-002",
            "2026-11-2\u{e4}",
            "000001.part",
        ] {
            assert!(!is_rotated(other), "{other}");
        }
    }

    #[test]
    fn the_oldest_leave_first_and_foreign_files_stay() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |suffix: &str| directory.path().join(format!("log.{suffix}"));
        let ours = ["999999", "1000000.gz", "2026-11-23", "2026-11-23-999", "2026-11-23-1000", "2026-11-24T07"];
        let foreign = ["20261123", "0000007", "old"];
        ours.iter().chain(&foreign).for_each(|suffix| fs::write(path(suffix), "x").expect("written"));
        let rotated = Rotated::new(&directory.path().join("log"), 2);
        let listed: Vec<PathBuf> = rotated.list().expect("listed").into_iter().map(|file| file.path).collect();
        assert_eq!(listed, ours.map(path));
        assert_eq!(rotated.free_name(None).expect("a number"), path("1000001"));
        rotated.prune().expect("pruned");
        assert_eq!(ours.map(|suffix| path(suffix).exists()), [false, false, false, false, true, true]);
        assert!(foreign.iter().all(|suffix| path(suffix).exists()), "{foreign:?}");
    }

    #[test]
    fn the_last_number_is_followed_by_none() {
        let directory = tempfile::tempdir().expect("a directory");
        let last = directory.path().join(format!("log.{}", limits::LOG_FILE_NUMBER_MAX));
        fs::write(last, "x").expect("written");
        let rotated = Rotated::new(&directory.path().join("log"), 2);
        assert!(rotated.free_name(None).is_err());
    }
}
