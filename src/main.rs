//! The face of raftkv: dispatch only.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use raftkv::config::{self, ServeArgs};
use raftkv::server;

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
    Serve(Box<ServeArgs>),
    /// Measure a cluster under load
    Bench(bench::BenchArgs),
    #[command(flatten)]
    Client(cli::ClientCommand),
}

const EXAMPLES: &str = "\
Examples:
  raftkv dev                       a local cluster of three nodes; Ctrl-C stops it, its data stays
  raftkv put hello raftkv          create a key
  raftkv get hello                 show it
  raftkv status                    one line per node
  raftkv serve --id 0 --data d0    one node by hand";

fn main() -> ExitCode {
    let Line { globals, command } = Line::parse();
    match command {
        Command::Serve(args) => serve(*args),
        Command::Bench(args) => bench::run(args, &environment(&globals)),
        Command::Client(command) => cli::run(command, &globals, Line::command()),
    }
}

fn environment(globals: &cli::Globals) -> bench::Environment {
    bench::Environment {
        endpoints: cli::endpoints(globals),
        timeout: globals.timeout,
        json: globals.output == cli::Output::Json,
    }
}

fn serve(args: ServeArgs) -> ExitCode {
    let exit_code = match config::load(args) {
        Ok(config) => server::serve(config),
        Err(error) => {
            eprintln!("raftkv: {error}");
            error.exit_code()
        }
    };
    ExitCode::from(u8::try_from(exit_code).expect("exit codes of the server fit a byte"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Line::command().debug_assert();
    }
}
