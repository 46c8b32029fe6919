//! `raftkv config`: a file to begin with, what is wrong with one, and what counts in the end.

use clap::{ArgMatches, Subcommand};
use serde_json::{json, Map, Value};

use super::logging::LogSinks;
use super::source::{ServeArgs, Typed};
use super::template::{descriptions, template, toml_value};
use super::value::{Peers, Setting as _};
use super::{check, for_node, ConfigError};
use crate::limits::{self, memory::Holder, memory::Shape};
use crate::server::Config;

/// What can be done with settings, without a server.
#[derive(Subcommand, Clone, Debug)]
pub enum ConfigCommand {
    /// Print a file with every setting, its meaning and its default
    Template,
    /// Say what is wrong with a file, flags and variables, if anything
    Check(Box<ServeArgs>),
    /// Show every setting as a server would have it
    Show {
        /// Say where each comes from: flag, variable, file and line, or default
        #[arg(long)]
        origin: bool,
        /// The sources.
        #[command(flatten)]
        args: Box<ServeArgs>,
    },
}

/// One setting as a server has it.
struct Effective {
    key: String,
    value: Option<String>,
    /// Where it comes from, in words.
    origin: String,
}

/// Runs one command; `matches` are those it was parsed from. Gives the text for standard output.
pub fn run(command: ConfigCommand, matches: &ArgMatches, as_json: bool) -> Result<String, ConfigError> {
    match command {
        ConfigCommand::Template => Ok(template().trim_end().to_owned()),
        ConfigCommand::Check(mut args) => {
            args.note_variables(matches);
            let config = check(&Typed::read(*args)?)?;
            Ok(if as_json { verdict_as_json(&config).to_string() } else { verdict(&config) })
        }
        ConfigCommand::Show { origin, mut args } => {
            args.note_variables(matches);
            let typed = Typed::read(*args)?;
            let effective = effective(&typed, &check(&typed)?);
            Ok(if as_json { show_as_json(&effective).to_string() } else { show(&effective, origin) })
        }
    }
}

fn verdict(config: &Config) -> String {
    let admin = config.listen_admin.map_or_else(|| "nowhere".to_owned(), |admin| admin.address.to_string());
    let warnings = config.warnings.iter().map(|warning| format!("warning: {warning}\n"));
    let verdict = format!(
        "all is well: node {} of {}, clients on {}, peers on {}, admin on {admin}, data in {}",
        config.id,
        config.members.len(),
        config.listen_client,
        config.listen_peer,
        config.data.display()
    );
    let holders = memory(config);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let lines = holders.iter().map(|Holder { what, bytes }| format!("\n  {:>8.1} MiB  {what}", mib(*bytes)));
    let sum = mib(holders.iter().map(|holder| holder.bytes).sum());
    let memory = format!("\nmemory beside the state, if clients do their worst: {sum:.1} MiB");
    warnings.chain([verdict, memory]).chain(lines).collect()
}

fn verdict_as_json(config: &Config) -> Value {
    let holders = memory(config);
    let by_holder = holders.iter().map(|Holder { what, bytes }| json!({ "what": what, "bytes": bytes }));
    json!({
        "ok": true,
        "id": config.id.0,
        "warnings": config.warnings,
        "memory_bytes_max": holders.iter().map(|holder| holder.bytes).sum::<u64>(),
        "memory_bytes_max_by_holder": by_holder.collect::<Vec<_>>(),
    })
}

/// What a node with these settings may hold beside its state.
fn memory(config: &Config) -> Vec<Holder> {
    limits::memory::holders(&Shape {
        io_threads: config.io_threads,
        members: config.members.len(),
        credits: config.credits,
        pool_bytes: config.pool_bytes as u64,
    })
}

fn effective(typed: &Typed, config: &Config) -> Vec<Effective> {
    let own = config.members.iter().find(|member| member.id == config.id).expect("a configuration names its own node");
    let typed_values = typed.settings.shown();
    let one = |(description, (key, typed_value)): (super::template::Description, (String, Option<String>))| {
        let value = match key.as_str() {
            "id" => Some(config.id.to_string()),
            "data" => Some(config.data.display().to_string()),
            "peers" => Some(Peers(config.members.clone()).show()),
            "listen-client" => Some(config.listen_client.to_string()),
            "listen-peer" => Some(config.listen_peer.to_string()),
            "listen-admin" => {
                Some(config.listen_admin.map_or_else(|| "off".to_owned(), |admin| admin.address.to_string()))
            }
            "advertise-client" => Some(own.client_address.clone()),
            "advertise-peer" => Some(own.peer_address.clone()),
            "log-file" => typed.settings.log_file.as_ref().map(|file| for_node(file, config.id).display().to_string()),
            "log-sinks" => Some(LogSinks(config.logging.sinks.clone()).show()),
            _ => typed_value.or_else(|| description.default_value().map(str::to_owned)),
        };
        let origin = typed.origin(&key);
        let follows = if key == "log-sinks" && typed.settings.log_file.is_some() { Some("log-file") } else { None };
        let origin = match follows {
            Some(short) => format!("{short} ({})", typed.origin(short)),
            None => origin.to_string(),
        };
        Effective { key, value, origin }
    };
    descriptions().into_iter().zip(typed_values).map(one).collect()
}

fn show(effective: &[Effective], with_origin: bool) -> String {
    let line = |setting: &Effective| match &setting.value {
        // What it is short for counts; beside that a file must not say it again.
        Some(value) if setting.key == "log-file" => format!("#log-file = {}", toml_value(value)),
        Some(value) => format!("{} = {}", setting.key, toml_value(value)),
        None => format!("#{} is not set", setting.key),
    };
    let lines: Vec<String> = effective.iter().map(line).collect();
    if !with_origin {
        return lines.join("\n");
    }
    let short = |line: &&String| line.len() <= 60;
    let width = lines.iter().filter(short).map(String::len).max().unwrap_or(0);
    let with_origin = |(line, setting): (&String, &Effective)| format!("{line:<width$}  # {}", setting.origin);
    lines.iter().zip(effective).map(with_origin).collect::<Vec<_>>().join("\n")
}

fn show_as_json(effective: &[Effective]) -> Value {
    let one = |setting: &Effective| (setting.key.clone(), json!({ "value": setting.value, "origin": setting.origin }));
    Value::Object(effective.iter().map(one).collect::<Map<_, _>>())
}
