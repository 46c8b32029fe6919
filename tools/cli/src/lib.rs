//! The command line of raftkv's client, and local clusters for development.

use std::process::ExitCode;

mod args;

pub use args::{ClientCommand, Globals};

/// Runs one client command. `whole` is the complete command line of the binary; `completion` needs it.
pub fn run(command: ClientCommand, globals: &Globals, whole: clap::Command) -> ExitCode {
    let _ = (command, globals, whole);
    ExitCode::FAILURE
}
