//! The face of raftkv: dispatch only.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory, FromArgMatches as _, Parser, Subcommand};
use raftkv::config::{self, ConfigCommand, ServeArgs};
use raftkv::logging;
use raftkv::server::{self, Hooks};
use raftkv::snapshot;

/// A strongly consistent, replicated key-value store on Raft
#[derive(Parser)]
#[command(name = "raftkv", version, before_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
struct Line {
    #[command(flatten)]
    globals: cli::Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one node of a cluster
    #[command(before_help = SERVE_EXAMPLES)]
    Serve(Box<ServeArgs>),
    /// Begin, check and show a node's settings
    #[command(subcommand, before_help = CONFIG_EXAMPLES)]
    Config(ConfigCommand),
    /// Measure a cluster under load
    #[command(before_help = BENCH_EXAMPLES)]
    Bench(bench::BenchArgs),
    /// Draw where a node's processor time goes, under the load that it has now
    #[command(before_help = FLAMEGRAPH_EXAMPLES)]
    Flamegraph(bench::flamegraph::FlamegraphArgs),
    /// Take a snapshot of a node's state; look into snapshot files
    #[command(before_help = SNAPSHOT_EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
    Snapshot(SnapshotArgs),
    #[command(flatten)]
    Client(cli::ClientCommand),
}

#[derive(clap::Args)]
struct SnapshotArgs {
    #[command(subcommand)]
    verb: SnapshotVerb,
}

#[derive(Subcommand)]
enum SnapshotVerb {
    /// Let a node write its state to a file in its data directory now
    Take(cli::TakeArgs),
    /// Show what a file says of itself in its header and footer
    Inspect {
        /// A file of a node's data directory
        file: PathBuf,
    },
    /// Read all of a file and compare every checksum; exit code 9 if it is damaged
    Verify {
        /// A file of a node's data directory
        file: PathBuf,
    },
}

const EXAMPLES: &str = "\
Examples:
  raftkv dev                       a local cluster of three nodes; Ctrl-C stops it, its data stays
  raftkv put hello raftkv          create a key
  raftkv get hello                 show it
  raftkv status                    one line per node
  raftkv serve --id 0 --data d0    one node by hand";

const SERVE_EXAMPLES: &str = "\
Examples:
  raftkv serve --id 0 --data data-0        a cluster of this node alone, on ports 7400, 7401
  raftkv serve --config node-0.toml        flags are its keys: election-timeout = \"2s\"
  RAFTKV_DATA=data-0 raftkv serve --id 0   and variables; flags win over these, these over the file

Three nodes, one terminal each, with the same --peers and their own --id and --data:
  PEERS=0=127.0.0.1:7400/127.0.0.1:7401,1=127.0.0.1:7410/127.0.0.1:7411,2=127.0.0.1:7420/127.0.0.1:7421
  raftkv serve --id 0 --data data-0 --peers $PEERS";

const CONFIG_EXAMPLES: &str = "\
Examples:
  raftkv config template > raftkv.toml               every setting, with its meaning and its default
  raftkv config check --config raftkv.toml --id 0    exit code 78 and why, if it cannot be used
  raftkv config show --config raftkv.toml --id 0 --origin";

const BENCH_EXAMPLES: &str = "\
Examples:
  raftkv bench put                   one connection, one request in flight: latency
  raftkv bench put -c 8 -d 16        eight connections, sixteen in flight on each: throughput
  raftkv bench get -c 8 -d 16        linearizable reads
  raftkv bench update --rate 5000    an open loop: latencies count from when each request was due
  raftkv bench mix --ycsb b -c 64    a mix of reads and updates
  raftkv bench compare --repeats 5   beside the speed of light, etcd and Redis, all started here
  raftkv bench sweep get --report sweep.html
  raftkv bench limits                what this machine can do at all
  raftkv bench storage --dir .       what the disk can do; needs no cluster
  raftkv bench restart               start a server with a million keys, again and again
  raftkv bench snapshot              what a snapshot costs those who write meanwhile";

const FLAMEGRAPH_EXAMPLES: &str = "\
Examples:
  raftkv flamegraph                            the leader, for ten seconds, into flamegraph.svg
  raftkv flamegraph --node 1 --seconds 30 --out follower.svg";

const SNAPSHOT_EXAMPLES: &str = "\
Examples:
  raftkv snapshot take                                    the leader writes one now; --node N: that node
  raftkv snapshot inspect d0/snapshot-00000000000186a0    whose state it is, at which index, how large
  raftkv snapshot verify d0/snapshot-00000000000186a0     read it all; exit code 9 if a byte is wrong";

fn main() -> ExitCode {
    let parsed = Line::command().try_get_matches().and_then(|matches| Ok((Line::from_arg_matches(&matches)?, matches)));
    let (Line { globals, command }, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) if error.use_stderr() && wants_json(std::env::args_os()) => {
            return cli::usage_as_json(&one_line(&error.to_string()));
        }
        Err(error) => error.exit(),
    };
    let as_json = globals.output == cli::Output::Json;
    match command {
        Command::Serve(mut args) => {
            args.note_variables(last_command(&matches));
            serve(*args, as_json)
        }
        Command::Config(command) => match config::run(command, last_command(&matches), as_json) {
            Ok(text) => cli::print(&text),
            Err(error) => refuse(error.exit_code(), "CONFIG", &error.to_string(), as_json),
        },
        Command::Bench(args) => bench::run(args, &environment(&globals)),
        Command::Flamegraph(args) => bench::flamegraph::run(&args, &environment(&globals)),
        Command::Snapshot(args) => run_snapshot(&args.verb, &globals),
        Command::Client(command) => cli::run(command, &globals, Line::command()),
    }
}

/// What was matched by the innermost command.
fn last_command(matches: &ArgMatches) -> &ArgMatches {
    matches.subcommand().map_or(matches, |(_, inner)| last_command(inner))
}

/// Whether `-o json` was typed, on a command line that cannot be read otherwise.
fn wants_json(arguments: impl Iterator<Item = OsString>) -> bool {
    let mut after_flag = false;
    for argument in arguments {
        let is_form = argument == "json" && after_flag;
        if is_form || ["-ojson", "-o=json", "--output=json"].iter().any(|form| argument == *form) {
            return true;
        }
        after_flag = argument == "-o" || argument == "--output";
    }
    false
}

/// The first paragraph of clap's words: what is wrong, without the usage behind it.
fn one_line(words: &str) -> String {
    match words.strip_prefix("error: ") {
        Some(words) => words.lines().map(str::trim).take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" "),
        None => "a command is missing".to_owned(),
    }
}

fn environment(globals: &cli::Globals) -> bench::Environment {
    bench::Environment {
        endpoints: cli::endpoints(globals),
        timeout: globals.timeout(),
        json: globals.output == cli::Output::Json,
        fail: cli::not_measured,
    }
}

fn run_snapshot(verb: &SnapshotVerb, globals: &cli::Globals) -> ExitCode {
    let report = match verb {
        SnapshotVerb::Take(arguments) => return cli::take_snapshot(arguments, globals),
        SnapshotVerb::Inspect { file } => snapshot::inspect(file),
        SnapshotVerb::Verify { file } => snapshot::verify(file),
    };
    ExitCode::from(snapshot::show(report, globals.output == cli::Output::Json))
}

fn serve(args: ServeArgs, as_json: bool) -> ExitCode {
    let config = match config::load(args.clone()) {
        Ok(config) => config,
        Err(error) => return refuse(error.exit_code(), "CONFIG", &error.to_string(), as_json),
    };
    // Flags and variables stay as they were at the start; the file is read anew.
    let reload = Box::new(move || config::load(args.clone()).map_err(|error| error.to_string()));
    match server::serve(config, Hooks { status_as_json: cli::status_as_json, reload }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(error.exit_code, "START", &error.text, as_json),
    }
}

/// Says why a server is not started, or would not be: as last words, because the log may hold standard error by now.
fn refuse(exit: i32, name: &str, why: &str, as_json: bool) -> ExitCode {
    if as_json {
        let object = serde_json::json!({ "ok": false, "code": name, "exit": exit, "message": why });
        logging::say_whole(&object.to_string());
    } else {
        logging::say(format_args!("{why}"));
    }
    exit_code(exit)
}

fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).expect("exit codes of the server fit a byte"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_that_cannot_be_read_is_refused_in_the_form_it_asks_for() {
        let typed = |line: &str| wants_json(line.split(' ').map(OsString::from));
        for line in ["get -o json", "-ojson get", "get --output=json", "--output json"] {
            assert!(typed(line), "{line}");
        }
        for line in ["get", "put json -o", "get -o text", "put -o text json"] {
            assert!(!typed(line), "{line}");
        }
        let words = |line: &[&str]| one_line(&Line::try_parse_from(line).err().expect("refused").to_string());
        assert_eq!(words(&["raftkv", "put", "k"]), "the following required arguments were not provided: <VALUE>");
        assert_eq!(words(&["raftkv"]), "a command is missing");
    }

    #[test]
    fn every_command_s_help_begins_with_examples() {
        let mut line = Line::command();
        line.build();
        for command in line.get_subcommands().filter(|command| command.get_name() != "help") {
            let help = command.clone().render_help().to_string();
            assert!(help.starts_with("Examples:\n  "), "{}: {help}", command.get_name());
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Line::command().debug_assert();
    }
}
