//! The settings described: as a file to begin with, and as a page of the documentation.

use clap::Command;

use super::settings::Settings;
use super::source::variable;
use crate::server::RELOADABLE;

/// One setting in words.
pub(super) struct Description {
    pub(super) key: String,
    /// What it is, without its default.
    pub(super) help: String,
    /// What counts if nothing is said: a value, or words.
    pub(super) default: Option<String>,
    /// What `--help` calls its value.
    pub(super) form: String,
}

/// Values that stand in the template where there is no default that could.
const EXAMPLES: &[(&str, &str)] = &[
    ("id", "0"),
    ("name", "paris-1"),
    ("listen-client", "127.0.0.1:7400"),
    ("listen-peer", "127.0.0.1:7401"),
    ("listen-admin", "127.0.0.1:7402"),
    ("advertise-client", "127.0.0.1:7400"),
    ("advertise-peer", "127.0.0.1:7401"),
    ("log-file", "/var/log/raftkv/node-{id}.log"),
    ("log-pattern", "%Y-%m-%dT%H:%M:%S.%6fZ %{level:5} %{thread} %{logger}: %{message}"),
];

/// What a file cannot do without: these lines are to be edited.
const ESSENTIAL: &[(&str, &str)] = &[
    ("data", "\"/var/lib/raftkv/node-{id}\""),
    (
        "peers",
        "[\n  \"0=127.0.0.1:7400/127.0.0.1:7401\",\n  \"1=127.0.0.1:7410/127.0.0.1:7411\",\n  \
         \"2=127.0.0.1:7420/127.0.0.1:7421\",\n]",
    ),
];

/// All settings, in the order of the help.
pub(super) fn descriptions() -> Vec<Description> {
    let command = <Settings as clap::Args>::augment_args(Command::new("serve"));
    let describe = |argument: &clap::Arg| {
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let (help, default) = match help.rsplit_once(" [default: ") {
            Some((help, default)) => (help.to_owned(), Some(default.trim_end_matches(']').to_owned())),
            None => (help, None),
        };
        let form = argument.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
        let key = argument.get_long().expect("every setting has a long flag").to_owned();
        Description { key, help, default, form: form.unwrap_or_default() }
    };
    command.get_arguments().map(describe).collect()
}

/// A value as the file writes it: numbers and truth values bare, all else in quotes.
pub(super) fn toml_value(text: &str) -> String {
    if text.parse::<u64>().is_ok() || text.parse::<bool>().is_ok() {
        text.to_owned()
    } else {
        toml::Value::String(text.to_owned()).to_string()
    }
}

impl Description {
    /// The default, where it is a value and not words.
    pub(super) fn default_value(&self) -> Option<&str> {
        self.default.as_deref().filter(|default| !default.contains(' '))
    }

    fn is_reloadable(&self) -> bool {
        RELOADABLE.contains(&self.key.as_str())
    }
}

/// A file with every setting: what is essential to be edited, the rest commented out with its default.
pub(super) fn template() -> String {
    let mut text = "\
# Settings of a raftkv node. Every key is also a flag and a variable: `heartbeat` is --heartbeat and RAFTKV_HEARTBEAT.
# Flags win over variables, variables over this file. The same file may serve all nodes: {id} in a path is the node's
# number, and a node finds its number by its address in `peers` where --id or RAFTKV_ID does not say it.
#   raftkv config check --config FILE     what is wrong with it, if anything
#   raftkv config show --config FILE --origin
"
    .to_owned();
    for description in descriptions() {
        let key = &description.key;
        text.push('\n');
        for line in wrap(&description.help, 116) {
            text.push_str(&format!("# {line}\n"));
        }
        if let Some(words) = description.default.as_deref().filter(|_| description.default_value().is_none()) {
            text.push_str(&format!("# Default: {words}\n"));
        }
        if description.is_reloadable() {
            text.push_str("# SIGHUP reloads it.\n");
        }
        match ESSENTIAL.iter().find(|(essential, _)| essential == key) {
            Some((_, value)) => text.push_str(&format!("{key} = {value}\n")),
            None => text.push_str(&format!("#{key} = {}\n", toml_value(example(&description)))),
        }
    }
    text
}

fn example(description: &Description) -> &str {
    let example = EXAMPLES.iter().find(|(key, _)| *key == description.key).map(|(_, example)| *example);
    example
        .or(description.default_value())
        .expect("a setting without a default value has an example; add it to EXAMPLES")
}

/// The table of docs/configuration.md.
#[cfg_attr(not(test), allow(dead_code, reason = "the page is checked in; a test keeps it equal to this"))]
pub(super) fn markdown() -> String {
    let mut text = "| key | value | default | SIGHUP | what |\n|---|---|---|---|---|\n".to_owned();
    for description in descriptions() {
        let reloads = if description.is_reloadable() { "reloads" } else { "restart" };
        let default = description.default.as_deref().unwrap_or("none");
        let Description { key, form, help, .. } = &description;
        text.push_str(&format!("| `{key}` | `{form}` | {default} | {reloads} | {help} |\n"));
    }
    text.push_str(&format!(
        "\nThe flag of `heartbeat` is `--heartbeat`, its variable `{}`; likewise for all.\n",
        variable("heartbeat")
    ));
    text
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("begun with one");
        if !line.is_empty() && line.len() + 1 + word.len() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
