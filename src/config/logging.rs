//! The settings of the text log: `log`, `log-file`, `log-sinks`, `log-pattern`, `log-sync`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use log::LevelFilter;
use protocol::NodeId;

use super::source::Typed;
use super::value::{Misread, Setting};
use super::{for_node, refuse, ConfigError, Size};
use crate::limits;
use crate::logging::{FilterError, Form, Options, Output, PatternError, Rotation, Sink};

/// Sinks with their options, all separated by commas or semicolons: `console` or `file=PATH` begins one, and behind it
/// may stand `level=LEVEL`, `json`, and for files `rotate=SIZE`, `rotate=hour`, `rotate=day`, `keep=N`, `gzip`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSinks(pub Vec<Sink>);

/// Fills in defaults and refuses what cannot work.
pub(super) fn options(typed: &Typed, id: NodeId) -> Result<Options, ConfigError> {
    let settings = &typed.settings;
    let wrong = |key: &str, error: &dyn fmt::Display| ConfigError::Refused(format!("{}: {error}", typed.name(key)));
    let mut options = Options { synchronous: settings.log_sync == Some(true), ..Options::default() };
    if let Some(text) = &settings.log {
        options.filter = text.parse().map_err(|error: FilterError| wrong("log", &error))?;
    }
    if let Some(text) = &settings.log_pattern {
        options.pattern = text.parse().map_err(|error: PatternError| wrong("log-pattern", &error))?;
    }
    options.sinks = match (&settings.log_file, &settings.log_sinks) {
        (Some(_), Some(_)) => {
            let (file, sinks) = (typed.name("log-file"), typed.name("log-sinks"));
            return refuse(format!("{file} is short for one sink; name it in {sinks} instead, as file=PATH"));
        }
        (Some(path), None) => vec![Sink::file(path.clone())],
        (None, Some(LogSinks(sinks))) => sinks.clone(),
        (None, None) => vec![Sink::console()],
    };
    for sink in &mut options.sinks {
        if let Output::File { path, .. } = &mut sink.output {
            *path = for_node(path, id);
        }
    }
    check_sinks(&options.sinks).map_err(|error| wrong("log-sinks", &error))?;
    Ok(options)
}

fn check_sinks(sinks: &[Sink]) -> Result<(), String> {
    if sinks.len() > limits::LOG_SINKS_MAX {
        return Err(format!("there can be {} sinks, not {}", limits::LOG_SINKS_MAX, sinks.len()));
    }
    let mut paths = Vec::new();
    for sink in sinks {
        let Output::File { path, rotation, keep, .. } = &sink.output else { continue };
        if *keep > limits::LOG_FILES_KEPT_MAX {
            return Err(format!("keep={keep}: a number of files is from 0 to {}", limits::LOG_FILES_KEPT_MAX));
        }
        let sizes = limits::LOG_ROTATE_BYTES;
        if matches!(rotation, Rotation::Size(bytes) if *bytes < sizes.min || *bytes > sizes.max) {
            return Err(rotation_bounds());
        }
        if paths.contains(&path) {
            return Err(format!("{} is named twice", path.display()));
        }
        paths.push(path);
    }
    Ok(())
}

impl FromStr for LogSinks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut sinks: Vec<Sink> = Vec::new();
        for word in text.split([',', ';']).map(str::trim).filter(|word| !word.is_empty()) {
            match (word.split_once('=').unwrap_or((word, "")), sinks.last_mut()) {
                (("console", ""), _) => sinks.push(Sink::console()),
                (("file", path), _) if !path.is_empty() => sinks.push(Sink::file(PathBuf::from(path))),
                (_, Some(sink)) => option(sink, word)?,
                (_, None) => return Err(format!("`{word}` is not a sink; it begins with console or file=PATH")),
            }
        }
        if sinks.is_empty() {
            return Err(
                "no sink; write for example console,level=warn,file=/var/log/raftkv.log,rotate=64MiB".to_owned()
            );
        }
        Ok(LogSinks(sinks))
    }
}

fn option(sink: &mut Sink, word: &str) -> Result<(), String> {
    let (name, value) = word.split_once('=').unwrap_or((word, ""));
    match (name, value, &mut sink.output) {
        ("json", "", _) => sink.form = Form::Json,
        ("level", level, _) => sink.level = level.parse().map_err(|_| format!("`{level}` is not a level"))?,
        ("gzip", "", Output::File { compress, .. }) => *compress = true,
        ("keep", number, Output::File { keep, .. }) => {
            let most = limits::LOG_FILES_KEPT_MAX;
            *keep = number.parse().map_err(|_| format!("keep={number}: a number of files is from 0 to {most}"))?;
        }
        ("rotate", "hour", Output::File { rotation, .. }) => *rotation = Rotation::Hour,
        ("rotate", "day", Output::File { rotation, .. }) => *rotation = Rotation::Day,
        ("rotate", size, Output::File { rotation, .. }) => *rotation = Rotation::Size(size_of(size)?),
        _ => {
            return Err(format!(
                "`{word}` says nothing about a sink; there are level, json, and for files rotate, keep, gzip"
            ))
        }
    }
    Ok(())
}

fn size_of(text: &str) -> Result<u64, String> {
    let Size(bytes) = Size::read(text).map_err(|misread| match misread {
        Misread::Shape(words) => format!("{words}, or hour, or day"),
        Misread::Range => rotation_bounds(),
    })?;
    Ok(bytes)
}

fn rotation_bounds() -> String {
    let sizes = limits::LOG_ROTATE_BYTES;
    format!("rotate must be from {} to {}, or hour, or day", Size(sizes.min), Size(sizes.max))
}

impl Setting for LogSinks {
    const IS_LIST: bool = true;

    fn read(text: &str) -> Result<Self, Misread> {
        text.parse().map_err(Misread::Shape)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for LogSinks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for Sink { output, level, form } in &self.0 {
            match output {
                Output::Console => write!(f, "{comma}console")?,
                Output::File { path, .. } => write!(f, "{comma}file={}", path.display())?,
            }
            comma = ",";
            if *level != LevelFilter::Trace {
                write!(f, ",level={}", level.as_str().to_ascii_lowercase())?;
            }
            if *form == Form::Json {
                f.write_str(",json")?;
            }
            let Output::File { rotation, keep, compress, .. } = output else { continue };
            match rotation {
                Rotation::Never => {}
                Rotation::Size(bytes) => write!(f, ",rotate={}", Size(*bytes))?,
                Rotation::Hour => f.write_str(",rotate=hour")?,
                Rotation::Day => f.write_str(",rotate=day")?,
            }
            if *keep != limits::LOG_FILES_KEPT {
                write!(f, ",keep={keep}")?;
            }
            if *compress {
                f.write_str(",gzip")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::source::parse;
    use super::*;

    /// Of node 7, as a file named `f` says.
    fn given(text: &str) -> Result<Options, String> {
        options(&parse(Path::new("f"), text)?, NodeId(7)).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_said_is_info_on_the_console() {
        assert_eq!(given(""), Ok(Options::default()));
    }

    #[test]
    fn several_sinks_each_with_its_own_level_form_and_rotation() {
        let text = "console,level=warn,file=a-{id}.log,rotate=1MiB,keep=3,gzip,file=b.log,level=debug,json,rotate=day";
        let sinks = given(&format!("log-sinks = \"{text}\"")).expect("valid").sinks;
        let file = |path: &str, rotation, keep, compress| Output::File { path: path.into(), rotation, keep, compress };
        assert_eq!(sinks.len(), 3);
        assert_eq!(sinks[0], Sink { level: LevelFilter::Warn, ..Sink::console() });
        assert_eq!(sinks[1].output, file("a-7.log", Rotation::Size(1 << 20), 3, true));
        assert_eq!(sinks[2].output, file("b.log", Rotation::Day, limits::LOG_FILES_KEPT, false));
        assert_eq!((sinks[2].level, sinks[2].form), (LevelFilter::Debug, Form::Json));
        let list = "log-sinks = [\"console,level=warn\", \"file=a-{id}.log,rotate=1MiB,keep=3,gzip\", \
                    \"file=b.log,level=debug,json,rotate=day\"]";
        assert_eq!(given(list).expect("a list will do").sinks, sinks);
        assert_eq!(text.parse::<LogSinks>().expect("sinks").to_string(), text, "shown as it can be typed");
        assert_eq!(text.replace(",file", "; file").parse::<LogSinks>().expect("sinks").to_string(), text);
    }

    #[test]
    fn what_is_no_sink_is_refused() {
        for text in [
            "",
            "json",
            "console=x",
            "file=",
            "syslog",
            "console,gzip",
            "file=x,rotate=week",
            "file=x,keep=many",
            "console,level=5",
        ] {
            assert!(text.parse::<LogSinks>().is_err(), "{text}");
        }
        let refused = |text: &str| given(text).expect_err(text);
        for text in ["file=x,rotate=1KiB", "file=x,keep=5000", "file=x,file=x", &"console,".repeat(9)] {
            let error = refused(&format!("\nlog-sinks = \"{text}\""));
            assert!(error.starts_with("log-sinks (f:2): "), "{error}");
        }
        assert!(refused("log-file = \"x\"\nlog-sinks = \"console\"").contains("log-sinks (f:2) instead"));
        assert!(refused("log = \"raft=loud\"").contains("log (f:1): `loud` is not a level"));
        assert!(refused("log-pattern = \"%{colour}\"").contains("`%{colour}` is not known"));
    }
}
