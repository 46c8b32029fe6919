//! How to log.

use std::path::PathBuf;

use log::LevelFilter;

use super::{Filter, Pattern};
use crate::limits;

/// How to log. [`Default`]: lines of the default pattern at level info to standard error, asynchronously.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// What is logged at all.
    pub filter: Filter,
    /// Where lines go; each sink gets those of its level.
    pub sinks: Vec<Sink>,
    /// How a line is laid out where it is not JSON.
    pub pattern: Pattern,
    /// Write in the thread that logs, and let it wait.
    pub synchronous: bool,
}

/// One place where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sink {
    /// Where.
    pub output: Output,
    /// Nothing above this level, whatever the filter lets through.
    pub level: LevelFilter,
    /// How a line looks there.
    pub form: Form,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard error.
    Console,
    /// Appended to a file.
    File {
        /// The file that is written to; rotated ones lie beside it.
        path: PathBuf,
        /// When it is put aside.
        rotation: Rotation,
        /// Rotated files that stay; older ones are removed.
        keep: usize,
        /// Rotated files are compressed (gzip).
        compress: bool,
    },
}

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// By the pattern.
    #[default]
    Pattern,
    /// A JSON object.
    Json,
}

/// When a file is put aside and a new one begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rotation {
    /// Never by us; somebody else moves it away and sends SIGHUP.
    #[default]
    Never,
    /// Before it grows beyond so many bytes.
    Size(u64),
    /// At the first line of another hour (UTC).
    Hour,
    /// At the first line of another day (UTC).
    Day,
}

impl Sink {
    /// Standard error, everything.
    pub fn console() -> Sink {
        Sink { output: Output::Console, level: LevelFilter::Trace, form: Form::Pattern }
    }

    /// A file that is never rotated, everything.
    pub fn file(path: PathBuf) -> Sink {
        let output = Output::File { path, rotation: Rotation::Never, keep: limits::LOG_FILES_KEPT, compress: false };
        Sink { output, level: LevelFilter::Trace, form: Form::Pattern }
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            filter: Filter::default(),
            sinks: vec![Sink::console()],
            pattern: Pattern::default(),
            synchronous: false,
        }
    }
}
