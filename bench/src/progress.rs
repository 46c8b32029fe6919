//! One line on a terminal while a load runs; nothing anywhere else.

use std::io::{IsTerminal, Write};
use std::time::Duration;

/// See the module.
pub(crate) struct Progress {
    name: String,
    whole: Duration,
    shown: Option<(Duration, u64)>,
    is_terminal: bool,
}

/// Between two looks.
const EVERY: Duration = Duration::from_millis(500);

impl Progress {
    pub(crate) fn new(name: &str, whole: Duration) -> Progress {
        Progress { name: name.to_owned(), whole, shown: None, is_terminal: std::io::stderr().is_terminal() }
    }

    /// How long to wait before the next look.
    pub(crate) fn pause(&self) -> Duration {
        if self.is_terminal {
            EVERY
        } else {
            Duration::MAX
        }
    }

    /// Shows how far it has come, and how fast it is now.
    pub(crate) fn show(&mut self, elapsed: Duration, completed: u64) {
        if !self.is_terminal {
            return;
        }
        let (at, whole) = (elapsed.as_secs_f64(), self.whole.as_secs_f64());
        self.write(&format!("{at:.1} of {whole:.1} s"), elapsed, completed);
    }

    /// Shows how many of how many are done, and how fast it is now.
    pub(crate) fn show_count(&mut self, elapsed: Duration, completed: u64, whole: u64) {
        self.write(&format!("{:.0} %", completed as f64 * 100.0 / whole.max(1) as f64), elapsed, completed);
    }

    fn write(&mut self, how_far: &str, elapsed: Duration, completed: u64) {
        let (then, before) = self.shown.unwrap_or_default();
        let rate = completed.saturating_sub(before) as f64 / elapsed.saturating_sub(then).as_secs_f64().max(1e-3);
        let name = &self.name;
        // A terminal that is gone takes nothing; the measurement goes on.
        let _ = write!(std::io::stderr(), "\r\x1b[K{name}  {how_far}  {rate:.0} /s");
        self.shown = Some((elapsed, completed));
    }

    /// Whether anybody looks.
    pub(crate) fn is_shown(&self) -> bool {
        self.is_terminal
    }

    /// Takes the line away.
    pub(crate) fn clear(&mut self) {
        if self.is_terminal && self.shown.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
