//! The command line of raftkv's client, and local clusters for development.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a command line has clocks, processes and files"
)]

use std::process::ExitCode;

mod args;
mod batch;
mod dev;
mod examples;
mod exit;
mod explain;
mod json;
mod log_level;
mod outcome;
mod output;
mod report;
mod scan;
mod snapshot;
mod status;
mod table;
mod text;
mod transfer;
mod verbs;
mod watch;

use std::time::Duration;

use client::{Client, Settings};
use protocol::reply::Effect;

pub use args::{ClientCommand, Globals, Output};
use report::Report;
pub use snapshot::TakeArgs;
use verbs::Verb;

/// The local cluster of `raftkv dev`, as large as one can be.
const LOCAL_NODES: u16 = 9;
const LOCAL_BASE_PORT: u16 = 7400;
/// A cluster that is not there is reported after this.
const UNREACHABLE_PATIENCE: Duration = Duration::from_secs(2);

/// Shows a command line that cannot be read, as `-o json` wants it, and gives the exit code.
pub fn usage_as_json(what: &str) -> ExitCode {
    Report::usage(what).show(Output::Json)
}

/// Says why `bench` or `flamegraph` has nothing to report, and gives the exit code. `effect`: what is there of it if the error does
/// not tell.
pub fn not_measured(what: &str, error: &std::io::Error, effect: protocol::reply::Effect, as_json: bool) -> ExitCode {
    Report::not_measured(what, error, effect).show(if as_json { Output::Json } else { Output::Text })
}

/// Prints a result that is there already; a reader that has gone away is no error.
pub fn print(text: &str) -> ExitCode {
    output::line(text).map_or_else(|report| report.show(Output::Text), |()| ExitCode::SUCCESS)
}

/// A node's status as `raftkv status -o json` shows it among all nodes.
pub fn status_as_json(status: &protocol::reply::NodeStatus) -> String {
    status::node_as_json(status).to_string()
}

/// Runs one client command. `whole` is the complete command line of the binary; `completion` needs it.
pub fn run(command: ClientCommand, globals: &Globals, whole: clap::Command) -> ExitCode {
    dispatch(command, globals, whole).unwrap_or_else(|report| report.show(globals.output))
}

/// Lets a node take a snapshot of its state.
pub fn take_snapshot(arguments: &TakeArgs, globals: &Globals) -> ExitCode {
    let taken = connect(globals).and_then(|mut client| snapshot::take(&mut client, globals, arguments));
    taken.unwrap_or_else(|report| report.show(globals.output))
}

fn dispatch(command: ClientCommand, globals: &Globals, mut whole: clap::Command) -> Result<ExitCode, Report> {
    match command {
        ClientCommand::Dev(arguments) => return dev::run(&arguments, globals),
        ClientCommand::Completion { shell } => {
            let name = whole.get_name().to_owned();
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut whole, name, &mut script);
            output::check(std::io::Write::write_all(&mut std::io::stdout(), &script))?;
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    let mut settings = settings_of(globals, endpoints(globals))?;
    // What is explained is sent once; the opening of a session would stand in its figures.
    settings.sessions = !matches!(command, ClientCommand::Explain(_));
    let client = &mut client_with(settings)?;
    match command {
        ClientCommand::Explain(arguments) => explain::run(client, globals, &arguments.verb),
        ClientCommand::Put { key, value } => verbs::write(client, globals, Verb::Put, &key, Some(&value)),
        ClientCommand::Update { key, value } => verbs::write(client, globals, Verb::Update, &key, Some(&value)),
        ClientCommand::Remove { key } => verbs::write(client, globals, Verb::Remove, &key, None),
        ClientCommand::Get { key } => verbs::get(client, globals, &key),
        ClientCommand::Cas { key, revision, value } => verbs::cas(client, globals, &key, revision, &value),
        ClientCommand::Increment { key, by } => verbs::increment(client, globals, &key, by),
        ClientCommand::Batch { file } => batch::run(client, globals, file.as_deref()),
        ClientCommand::Outcome { number } => outcome::run(client, globals, number),
        ClientCommand::Scan(arguments) => scan::run(client, globals, &arguments),
        ClientCommand::Import(arguments) => transfer::import(client, globals, &arguments),
        ClientCommand::Export(arguments) => transfer::export(client, globals, &arguments),
        ClientCommand::Status { watch: None } => status::run(client, globals, globals.endpoints.is_empty()),
        ClientCommand::Status { watch: Some(interval) } => watch::run(globals, interval),
        ClientCommand::Log(arguments) => log_level::run(client, globals, &arguments.verb, globals.endpoints.is_empty()),
        ClientCommand::Dev(_) | ClientCommand::Completion { .. } => unreachable!("dispatched above"),
    }
}

/// The addresses to start from: as said, or the local cluster.
pub fn endpoints(globals: &Globals) -> Vec<String> {
    if !globals.endpoints.is_empty() {
        return globals.endpoints.clone();
    }
    (0..LOCAL_NODES).map(|node| format!("127.0.0.1:{}", LOCAL_BASE_PORT + 10 * node)).collect()
}

fn connect(globals: &Globals) -> Result<Client, Report> {
    client_of(globals, endpoints(globals))
}

fn client_of(globals: &Globals, endpoints: Vec<String>) -> Result<Client, Report> {
    client_with(settings_of(globals, endpoints)?)
}

fn client_with(settings: Settings) -> Result<Client, Report> {
    Client::new(settings).map_err(|error| Report::local(format!("no socket can be had: {error}"), Effect::None))
}

fn settings_of(globals: &Globals, endpoints: Vec<String>) -> Result<Settings, Report> {
    endpoints.iter().try_for_each(|endpoint| client::check_address(endpoint)).map_err(Report::usage)?;
    Ok(Settings {
        timeout: globals.timeout(),
        follow_redirects: !globals.no_redirect,
        unreachable_patience: Some(UNREACHABLE_PATIENCE.min(globals.timeout())),
        seed: u64::from(std::process::id()),
        ..Settings::new(endpoints)
    })
}
