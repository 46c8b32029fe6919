//! Directories that benchmarks fill, empty and remove: only those that they have made themselves, whatever `--dir` says.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

/// Says whose directory it is.
const MARK: &str = "made-by-raftkv-bench";

/// Makes a directory, or empties one that an earlier benchmark has made. One with anything else in it is an error: what is there
/// is not ours to remove.
pub(crate) fn claim(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let mark = dir.join(MARK);
    let names = fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    if !names.is_empty() && !mark.exists() {
        let text = format!(
            "{} has files that no benchmark made, and is left as it is: name a directory that is empty or does not exist",
            dir.display()
        );
        return Err(io::Error::new(ErrorKind::AlreadyExists, text));
    }
    fs::write(&mark, "What is in this directory is removed by the next benchmark that is told to use it.\n")?;
    for path in names.iter().filter(|path| **path != mark) {
        match fs::symlink_metadata(path)?.is_dir() {
            true => fs::remove_dir_all(path)?,
            false => fs::remove_file(path)?,
        }
    }
    Ok(())
}

/// Removes a directory that was claimed.
pub(crate) fn remove(dir: &Path) -> io::Result<()> {
    claim(dir)?; // which empties it, if it still is ours
    fs::remove_file(dir.join(MARK))?;
    match fs::remove_dir(dir) {
        // The working directory, by the name of `.`: it is empty, which is all that was asked for.
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_have_put_there_is_left_alone() {
        let dir = std::env::temp_dir().join(format!("raftkv-scratch-{}", std::process::id()));
        let (theirs, own) = (dir.join("theirs"), dir.join("a/b/own"));
        fs::create_dir_all(&theirs).expect("a directory");
        fs::write(theirs.join("precious"), "for years").expect("a file");
        for refused in [claim(&theirs), remove(&theirs)] {
            let error = refused.expect_err("it is not ours");
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
            assert!(error.to_string().contains("name a directory that is empty"), "{error}");
        }
        assert_eq!(fs::read(theirs.join("precious")).expect("it is there"), b"for years");

        claim(&own).expect("it is made");
        fs::create_dir(own.join("node-0")).expect("a directory");
        fs::write(own.join("node-0/log"), "x").expect("a file");
        std::os::unix::fs::symlink(&theirs, own.join("link")).expect("a link");
        claim(&own).expect("it is emptied");
        assert_eq!(fs::read_dir(&own).expect("it is there").count(), 1, "only the mark is left");
        assert!(theirs.join("precious").exists(), "links are not followed");
        remove(&own).expect("it is removed");
        assert!(!own.exists());
        claim(&own).expect("one that is gone is made again");
        fs::remove_dir_all(&dir).expect("it is the test's");
    }
}
