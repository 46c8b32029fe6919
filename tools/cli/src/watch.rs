//! status --watch: the same again and again.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use crate::args::{Globals, Output};
use crate::report::Report;
use crate::{connect, output, status};

/// Cursor to the top left corner, and everything behind it cleared: less flicker than clearing first.
const TOP: &str = "\x1b[H\x1b[J";

/// Looks every `interval` until the process is interrupted or nobody reads any more. On a terminal each look is drawn over
/// the last one; elsewhere they follow each other, an empty line between two (none with JSON: one object per line). A cluster
/// that does not answer is shown as such, and looked at again.
pub(crate) fn run(globals: &Globals, interval: Duration) -> Result<ExitCode, Report> {
    let redraws = std::io::stdout().is_terminal() && globals.output == Output::Text;
    let mut is_first = true;
    loop {
        if redraws {
            output::check(std::io::Write::write_all(&mut std::io::stdout(), TOP.as_bytes()))?;
        } else if !is_first && globals.output == Output::Text {
            output::line("")?;
        }
        is_first = false;
        // A new client for each look: none of them remembers that a node was not there.
        let look =
            connect(globals).and_then(|mut client| status::run(&mut client, globals, globals.endpoints.is_empty()));
        if let Err(report) = look {
            if report.is_usage() {
                return Err(report);
            }
            let _ = report.show(globals.output);
        }
        std::thread::sleep(interval);
    }
}
