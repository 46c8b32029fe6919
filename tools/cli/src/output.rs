//! Standard output. A reader that goes away is no error: the process ends quietly.

use std::io::{self, ErrorKind, Write};

use protocol::reply::Effect;

use crate::report::Report;

/// Turns a failed write into a report; a broken pipe ends the process with success.
pub(crate) fn check(written: io::Result<()>) -> Result<(), Report> {
    or_report(written, |error| Report::local(format!("standard output cannot be written: {error}"), Effect::None))
}

/// Writes one line.
pub(crate) fn line(text: &str) -> Result<(), Report> {
    check(try_line(text))
}

/// Writes one line that tells what was applied. Where that cannot be written the report tells it: who reads "not applied"
/// would say it again.
pub(crate) fn applied(text: &str) -> Result<(), Report> {
    or_report(try_line(text), |error| Report::unsaid(text, error))
}

/// Writes one line, and leaves it to the caller what it means if that fails.
pub(crate) fn try_line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush())
}

fn or_report(written: io::Result<()>, report: impl FnOnce(&io::Error) -> Report) -> Result<(), Report> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        written => written.map_err(|error| report(&error)),
    }
}
