//! What is logged at all: `info,raft=debug`. The filtering is `env_logger`'s; this is its list of directives, checked and
//! changeable.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use log::LevelFilter;

use crate::limits;

/// Levels by the logger's name; the longest name that a logger begins with decides, and the empty one stands for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    levels: BTreeMap<String, LevelFilter>,
}

/// Why a text is no filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilterError {
    /// This is not a level.
    Level(String),
    /// This is not a logger's name.
    Name(String),
    /// More, or longer, than a filter may be.
    TooLong,
}

/// What our loggers' names begin with.
const OWN: &str = "raftkv";

impl Filter {
    /// These levels, and `change`'s where it names the same.
    pub fn with(&self, change: &Filter) -> Result<Filter, FilterError> {
        let mut levels = self.levels.clone();
        levels.extend(change.levels.iter().map(|(name, level)| (name.clone(), *level)));
        Filter { levels }.checked()
    }

    /// Tells `env_logger`. A room's bare name stands for the room (`raft` for `raftkv::raft`) beside a crate's; but `raft`
    /// alone would be the beginning of all our names.
    pub(super) fn build(&self) -> env_logger::Builder {
        let mut builder = env_logger::Builder::new();
        builder.filter_level(LevelFilter::Off);
        for (name, level) in &self.levels {
            if name.is_empty() {
                builder.filter_level(*level);
                continue;
            }
            if !OWN.starts_with(name) || name == OWN {
                builder.filter_module(name, *level);
            }
            if !name.starts_with(OWN) {
                builder.filter_module(&format!("{OWN}::{name}"), *level);
            }
        }
        builder
    }

    fn checked(self) -> Result<Filter, FilterError> {
        let bytes: usize = self.levels.keys().map(String::len).sum();
        if self.levels.len() > limits::LOG_DIRECTIVES_MAX || bytes > limits::LOG_FILTER_BYTES_MAX {
            return Err(FilterError::TooLong);
        }
        Ok(self)
    }
}

impl Default for Filter {
    /// Info, for all.
    fn default() -> Filter {
        Filter { levels: BTreeMap::from([(String::new(), LevelFilter::Info)]) }
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    /// Directives separated by commas: LEVEL or NAME=LEVEL. `env_logger` takes NAME alone, too, for all of its lines; here a
    /// mistyped level would then silence everything else.
    fn from_str(text: &str) -> Result<Filter, FilterError> {
        if text.len() > limits::LOG_FILTER_BYTES_MAX {
            return Err(FilterError::TooLong);
        }
        let mut levels = BTreeMap::new();
        for directive in text.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
            let (name, level) = match directive.split_once('=') {
                Some((name, level)) => (name.trim(), parse_level(level.trim())?),
                None => ("", parse_level(directive)?),
            };
            if directive.contains('=') && name.is_empty() || !name.chars().all(is_part_of_name) {
                return Err(FilterError::Name(directive.to_owned()));
            }
            levels.insert(name.to_owned(), level);
        }
        if levels.is_empty() {
            return Err(FilterError::Level(text.to_owned()));
        }
        Filter { levels }.checked()
    }
}

fn parse_level(text: &str) -> Result<LevelFilter, FilterError> {
    text.parse().map_err(|_| FilterError::Level(text.to_owned()))
}

fn is_part_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':' || c == '-'
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (name, level) in &self.levels {
            let level = level.as_str().to_ascii_lowercase();
            match name.as_str() {
                "" => write!(f, "{comma}{level}")?,
                name => write!(f, "{comma}{name}={level}")?,
            }
            comma = ",";
        }
        Ok(())
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FilterError::Level(text) => {
                write!(f, "`{text}` is not a level; write off, error, warn, info, debug or trace, or NAME=LEVEL,...")
            }
            FilterError::Name(text) => {
                write!(f, "`{text}` does not name a logger; write for example raft=debug or mio=trace")
            }
            FilterError::TooLong => {
                let (directives, bytes) = (limits::LOG_DIRECTIVES_MAX, limits::LOG_FILTER_BYTES_MAX);
                write!(f, "a filter has at most {directives} directives and {bytes} bytes")
            }
        }
    }
}

impl std::error::Error for FilterError {}

#[cfg(test)]
mod tests {
    use log::{Level, Log, Metadata};

    use super::*;

    fn filter(text: &str) -> Filter {
        text.parse().expect("a filter")
    }

    #[test]
    fn directives_are_read_and_written() {
        for text in ["info", "off", "warn,mio=trace", "debug,raft=trace,raftkv::wal=off"] {
            assert_eq!(filter(text).to_string(), text);
        }
        assert_eq!(filter(" info , raft = trace ").to_string(), "info,raft=trace");
        assert_eq!(filter("info,info,DEBUG").to_string(), "debug", "the last one counts");
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for text in ["", ",", "raft=loud", "=debug", "a b", "info/secret", "raft=debug=info"] {
            assert!(text.parse::<Filter>().is_err(), "{text}");
        }
        for text in ["verbose", "inof", "info,raft"] {
            let error = text.parse::<Filter>().expect_err(text).to_string();
            assert!(error.contains("is not a level; write off, error, warn, info, debug or trace"), "{error}");
        }
        let long = "x".repeat(limits::LOG_FILTER_BYTES_MAX + 1);
        assert_eq!(long.parse::<Filter>(), Err(FilterError::TooLong));
        let many: Vec<String> = (0..=limits::LOG_DIRECTIVES_MAX).map(|i| format!("m{i}=info")).collect();
        assert_eq!(many.join(",").parse::<Filter>(), Err(FilterError::TooLong));
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let changed = filter("info,wal=warn").with(&filter("raft=debug")).expect("short");
        assert_eq!(changed.to_string(), "info,raft=debug,wal=warn");
        assert_eq!(changed.with(&filter("error")).expect("short").to_string(), "error,raft=debug,wal=warn");
    }

    #[test]
    fn a_room_s_bare_name_stands_for_the_room() {
        let logger = filter("warn,raft=debug,mio=trace").build().build();
        let enabled = |target, level| logger.enabled(&Metadata::builder().target(target).level(level).build());
        assert!(enabled("raftkv::raft::election", Level::Debug));
        assert!(!enabled("raftkv::wal", Level::Info));
        assert!(enabled("mio::poll", Level::Trace));
    }
}
