//! Where each setting comes from: a flag, a variable, a line of the file, or nowhere.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::ArgMatches;
use toml::de::{DeTable, DeValue};

use super::{ConfigError, Settings};

/// What `raftkv serve` takes: the settings, and the file with more of them.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ServeArgs {
    /// TOML file with any of the settings below
    #[arg(long, env = "RAFTKV_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The settings.
    #[command(flatten)]
    pub settings: Settings,
    /// Keys whose values stand in a variable.
    #[arg(skip)]
    variables: Vec<String>,
}

impl ServeArgs {
    /// Notes which of the settings stand in variables. `matches` are those of the command that these were parsed by.
    pub fn note_variables(&mut self, matches: &ArgMatches) {
        let in_variable = |key: &String| matches.value_source(&key.replace('-', "_")) == Some(ValueSource::EnvVariable);
        self.variables = Settings::keys().into_iter().filter(in_variable).collect();
    }
}

/// Where a setting was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// On the command line.
    Flag,
    /// In a variable.
    Variable,
    /// In the file.
    File {
        /// Which.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// Nowhere.
    Default,
}

/// The settings of all sources, and where each comes from.
#[derive(Clone, Debug, Default)]
pub(super) struct Typed {
    pub(super) settings: Settings,
    origins: BTreeMap<String, Origin>,
}

impl Typed {
    /// Flags win over variables, variables over the file.
    pub(super) fn read(args: ServeArgs) -> Result<Typed, ConfigError> {
        let mut typed = match &args.config {
            Some(path) => read_file(path)?,
            None => Typed::default(),
        };
        for (key, value) in args.settings.shown() {
            if value.is_some() {
                let origin = if args.variables.contains(&key) { Origin::Variable } else { Origin::Flag };
                typed.origins.insert(key, origin);
            }
        }
        typed.settings = args.settings.or(typed.settings);
        Ok(typed)
    }

    /// Where the setting comes from.
    pub(super) fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    /// The setting as it was typed: `--heartbeat`, `RAFTKV_HEARTBEAT`, or `heartbeat (raftkv.toml:7)`.
    pub(super) fn name(&self, key: &str) -> String {
        let origin = self.origin(key);
        match origin {
            Origin::File { .. } => format!("{key} ({origin})"),
            Origin::Variable => variable(key),
            Origin::Flag | Origin::Default => format!("--{key}"),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag => f.write_str("flag"),
            Origin::Variable => f.write_str("variable"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Default => f.write_str("default"),
        }
    }
}

/// The environment's name of a setting.
pub(super) fn variable(key: &str) -> String {
    format!("RAFTKV_{}", key.to_uppercase().replace('-', "_"))
}

fn read_file(path: &Path) -> Result<Typed, ConfigError> {
    let refused = |what: String| ConfigError::Refused(what);
    let text = std::fs::read_to_string(path)
        .map_err(|error| refused(format!("cannot read configuration file {}: {error}", path.display())))?;
    parse(path, &text).map_err(refused)
}

/// Reads the text of a file. Err: the file, the line, and what is wrong there.
pub(super) fn parse(path: &Path, text: &str) -> Result<Typed, String> {
    let at = |offset: usize| {
        let line = 1 + text[..offset.min(text.len())].bytes().filter(|byte| *byte == b'\n').count();
        Origin::File { path: path.to_owned(), line }
    };
    let table = DeTable::parse(text).map_err(|error| {
        let place = at(error.span().map_or(0, |span| span.start));
        format!("{place}: this is not TOML: {}", error.message())
    })?;
    let mut typed = Typed::default();
    for (key, value) in table.get_ref() {
        let origin = at(key.span().start);
        let key = key.get_ref().as_ref();
        let text = as_text(value.get_ref(), Settings::is_list(key));
        let read = text.map(|text| typed.settings.read(key, &text));
        match read {
            _ if !Settings::keys().iter().any(|known| known == key) => {
                return Err(format!("{origin}: there is no setting `{key}`{}", nearest(key)));
            }
            Ok(Some(Ok(()))) => {}
            Ok(Some(Err(why))) | Err(why) => return Err(format!("{origin}: {key}: {why}")),
            Ok(None) => unreachable!("known since above"),
        }
        typed.origins.insert(key.to_owned(), origin);
    }
    Ok(typed)
}

/// A value of the file as it would be typed on the command line; a list's items are separated by commas there.
fn as_text(value: &DeValue<'_>, is_list: bool) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.clone().into_owned()),
        DeValue::Integer(number) => Ok(number.to_string()),
        DeValue::Boolean(is_true) => Ok(is_true.to_string()),
        DeValue::Array(items) if is_list => {
            let items: Result<Vec<String>, String> = items.iter().map(|item| as_text(item.get_ref(), false)).collect();
            Ok(items?.join(","))
        }
        DeValue::Array(_) => Err("a list fits nowhere here; write one value".to_owned()),
        other => Err(format!("a {} fits nowhere here", other.type_str())),
    }
}

/// Words that name the known key most like this one.
fn nearest(key: &str) -> String {
    let typed = key.to_lowercase().replace('_', "-");
    let distance = |known: &String| strsim::damerau_levenshtein(known, &typed);
    let nearest = Settings::keys().into_iter().min_by_key(distance).expect("there are settings");
    if distance(&nearest) <= 2.max(typed.len() / 2) {
        format!("; did you mean `{nearest}`?")
    } else {
        "; `raftkv config template` lists them all".to_owned()
    }
}
