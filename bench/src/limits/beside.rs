//! What this machine can do at best, in one line that stands beside every report: a figure means little without it.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{json, Value};

use super::{disk, wake, Limit};
use crate::measured::percentile_us;

/// Of each of the three; with the file that is filled before, a second in all.
const DURATION: Duration = Duration::from_millis(200);
/// The smallest append of the table.
const APPEND_BYTES: usize = 512;

/// The three things that a durable, replicated write waits for: p50 and p99, in microseconds.
pub(crate) struct Beside {
    sync: [f64; 2],
    round_trip: [f64; 2],
    wake: [f64; 2],
}

/// Measured once in this process, on a file in `dir` that is removed; to be called when nothing is loaded. None: it cannot be
/// written there.
pub(crate) fn beside(dir: &Path) -> Option<&'static Beside> {
    static MEASURED: OnceLock<Option<Beside>> = OnceLock::new();
    MEASURED.get_or_init(|| measure(dir).ok()).as_ref()
}

/// For the foot of a table; empty if there is none.
pub(crate) fn foot(dir: &Path) -> String {
    beside(dir).map_or(String::new(), |beside| format!("  {beside}\n"))
}

/// For programs; null if there is none.
pub(crate) fn as_json(dir: &Path) -> Value {
    let pair = |[p50, p99]: [f64; 2]| json!({ "p50_us": p50, "p99_us": p99 });
    beside(dir).map_or(
        Value::Null,
        |beside| json!({ "sync": pair(beside.sync), "round_trip": pair(beside.round_trip), "wake": pair(beside.wake) }),
    )
}

fn measure(dir: &Path) -> io::Result<Beside> {
    let dir = dir.join(format!("raftkv-bench-beside-{}", std::process::id()));
    std::fs::create_dir(&dir)?;
    let sync = disk::appends(&dir, DURATION, APPEND_BYTES, 1);
    std::fs::remove_dir_all(&dir)?;
    let figures = |limit: &Limit| {
        let at = |percentile| limit.latencies.as_ref().map_or(0.0, |latencies| percentile_us(latencies, percentile));
        [at(50.0), at(99.0)]
    };
    Ok(Beside {
        sync: figures(&sync?),
        round_trip: figures(&wake::round_trip(DURATION)?),
        wake: figures(&wake::wake(DURATION)?),
    })
}

impl fmt::Display for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Beside { sync, round_trip, wake } = self;
        write!(
            f,
            "at best here, p50 (p99): a sync of {APPEND_BYTES} B {:.0} us ({:.0}), a round trip {:.0} us ({:.0}), a wake \
             {:.0} us ({:.0})",
            sync[0], sync[1], round_trip[0], round_trip[1], wake[0], wake[1]
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_line_and_leaves_nothing() {
        let dir = std::env::temp_dir().join(format!("raftkv-beside-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let line = beside(&dir).expect("it can be written there").to_string();
        assert!(line.starts_with("at best here") && !line.contains('\n') && !line.contains(" 0 us"), "{line}");
        assert!(as_json(&dir)["sync"]["p50_us"].as_f64().is_some_and(|us| us > 0.0));
        std::fs::remove_dir(&dir).expect("it is empty");
    }
}
