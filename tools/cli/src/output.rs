//! Standard output. A reader that goes away is no error: the process ends quietly.

use std::io::{self, Write};

use protocol::reply::Effect;

use crate::report::Report;

/// Turns a failed write into a report; a broken pipe ends the process with success.
pub(crate) fn check(written: io::Result<()>) -> Result<(), Report> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => {
            written.map_err(|error| Report::local(format!("standard output cannot be written: {error}"), Effect::None))
        }
    }
}

/// Writes one line.
pub(crate) fn line(text: &str) -> Result<(), Report> {
    let mut out = io::stdout().lock();
    check(writeln!(out, "{text}").and_then(|()| out.flush()))
}
