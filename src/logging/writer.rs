//! The thread that writes: the only one that waits for a terminal or a file.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};

use crossbeam_channel::Receiver;

use super::{Message, Target};

/// Where the lines end up. Rotation belongs here.
pub(super) enum Output {
    /// Standard error.
    Console(io::Stderr),
    /// An opened file.
    File(File),
}

impl Output {
    pub(super) fn open(target: &Target) -> io::Result<Output> {
        match target {
            Target::Console => Ok(Output::Console(io::stderr())),
            Target::File(path) => Ok(Output::File(OpenOptions::new().create(true).append(true).open(path)?)),
        }
    }

    /// A line that cannot be written is lost: there is nobody left to tell.
    fn write(&mut self, lines: &[u8]) {
        let _ = match self {
            Output::Console(stderr) => stderr.write_all(lines),
            Output::File(file) => file.write_all(lines),
        };
    }
}

/// Writes until every sender is gone: whatever is queued goes out in one write.
pub(super) fn run(mut output: Output, queue: &Receiver<Message>) {
    let mut lines = String::new();
    let mut dropped_before = 0;
    while let Ok(first) = queue.recv() {
        lines.clear();
        let mut flushed = Vec::new();
        for message in std::iter::once(first).chain(queue.try_iter()).take(1024) {
            match message {
                Message::Line(line) => lines.push_str(&line),
                Message::Flush(done) => flushed.push(done),
            }
        }
        let dropped = super::dropped();
        if dropped > dropped_before {
            lines.push_str(&format!(
                "({} lines dropped: more was logged than could be written)\n",
                dropped - dropped_before
            ));
            dropped_before = dropped;
        }
        output.write(lines.as_bytes());
        for done in flushed {
            let _ = done.try_send(()); // whoever waits may have given up
        }
    }
}
