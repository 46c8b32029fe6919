//! Names of the files that were put aside: `raftkv.log.000017` (size), `raftkv.log.2026-11-23T22`, `raftkv.log.2026-11-23`
//! (`-2` and so on behind it if that is taken), each with `.gz` when compressed. A name is given once and never changes,
//! so that neither a restart nor a compression under way can mistake one file for another. Files with other names are
//! nobody's business here.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

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
    /// What orders them, oldest first: the name behind the prefix, without `.gz`.
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
        files.sort_by(|a, b| a.suffix.cmp(&b.suffix));
        Ok(files)
    }

    /// A name for the next one: that of its period, or else the next number.
    pub(super) fn free_name(&self, period: Option<String>) -> io::Result<PathBuf> {
        let taken = self.list()?;
        let suffix = match period {
            None => {
                let numbers = taken.iter().filter_map(|file| file.suffix.parse::<u64>().ok());
                format!("{:06}", numbers.max().unwrap_or(0) + 1)
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

/// A number of six digits or more, or a date, with an hour or without, with a number behind it or without.
fn is_rotated(suffix: &str) -> bool {
    let shape: String = suffix.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let date = shape.strip_prefix("0000-00-00").map(|rest| rest.strip_prefix("T00").unwrap_or(rest));
    match date {
        Some(rest) => rest.is_empty() || rest.strip_prefix('-').is_some_and(|n| n.len() >= 3 && is_zeroes(n)),
        None => shape.len() >= 6 && is_zeroes(&shape),
    }
}

fn is_zeroes(shape: &str) -> bool {
    shape.chars().all(|c| c == '0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_we_give_are_ours() {
        for ours in ["000001", "1234567", "2026-11-23", "2026-11-23T22", "2026-11-23-002", "2026-11-23T22-017"] {
            assert!(is_rotated(ours), "{ours}");
        }
        for other in
            ["", "1", "old", "00000x", "2026-11", "2026-11-23T", "2026-11-23-", "2026-11-23T22-x", "000001.part"]
        {
            assert!(!is_rotated(other), "{other}");
        }
    }
}
