//! All sinks together: joins repeated lines, and gives each sink those of its level in its form.

use std::io::{self, Write as _};
use std::sync::atomic::Ordering;

use log::{Level, LevelFilter};

use super::file::LogFile;
use super::options::{Form, Output, Sink};
use super::pattern::{self, Pattern};
use super::record::Line;
use super::COUNTERS;
use crate::limits;

const NANOS_PER_MS: u64 = 1_000_000;

pub(super) struct Sinks {
    sinks: Vec<OpenSink>,
    pattern: Pattern,
    repeated: Repeated,
    /// One line, laid out.
    text: Vec<u8>,
}

struct OpenSink {
    level: LevelFilter,
    form: Form,
    place: Place,
}

enum Place {
    /// With what is not written yet.
    Console(Vec<u8>),
    File(Box<LogFile>),
}

/// The line before, and how often it came again.
#[derive(Default)]
struct Repeated {
    level: Option<Level>,
    thread: String,
    logger: String,
    module: String,
    file: String,
    line: u32,
    message: String,
    count: u64,
    /// When the first of `count` came, and the last.
    first: u64,
    last: u64,
}

impl Sinks {
    /// Opens them. A file that cannot be opened now is an error; later ones are survived.
    pub(super) fn open(sinks: Vec<Sink>, pattern: Pattern, now: u64) -> io::Result<Sinks> {
        let open = |Sink { output, level, form }| {
            let place = match output {
                Output::Console => Place::Console(Vec::new()),
                Output::File { path, rotation, keep, compress } => {
                    Place::File(Box::new(LogFile::open(path, rotation, keep, compress, now)?))
                }
            };
            Ok(OpenSink { level, form, place })
        };
        let sinks = sinks.into_iter().map(open).collect::<io::Result<_>>()?;
        Ok(Sinks { sinks, pattern, repeated: Repeated::default(), text: Vec::new() })
    }

    /// Takes one line. It is written at the latest by the next [`Sinks::write`]; one that repeats the line before is only
    /// counted.
    pub(super) fn line(&mut self, line: &Line<'_>) {
        COUNTERS.lines.fetch_add(1, Ordering::Relaxed);
        if self.repeated.is_again(line) {
            return;
        }
        self.say_repeated();
        self.repeated.begin(line);
        self.hand_out(line);
    }

    /// A line of the log about itself.
    pub(super) fn notice(&mut self, at: u64, level: Level, message: &str) {
        self.line(&Line {
            at,
            level,
            thread: "log",
            logger: "raftkv::logging",
            module: module_path!(),
            file: file!(),
            line: line!(),
            message,
        });
    }

    /// Time has come this far: repeated lines are told after a while, files are looked at.
    pub(super) fn tick(&mut self, now: u64) {
        if now.saturating_sub(self.repeated.first) >= limits::LOG_REPEAT_MS * NANOS_PER_MS {
            self.say_repeated();
        }
        let mut notices = Vec::new();
        for sink in &mut self.sinks {
            if let Place::File(file) = &mut sink.place {
                file.tick(now);
                notices.extend(file.take_notice());
            }
        }
        for notice in notices {
            self.notice(now, Level::Warn, &notice);
        }
    }

    /// Writes what it was given.
    pub(super) fn write(&mut self) {
        for sink in &mut self.sinks {
            match &mut sink.place {
                Place::Console(text) => write_console(text),
                Place::File(file) => file.write(),
            }
        }
    }

    /// Writes everything, also the count of a line that repeats.
    pub(super) fn finish(&mut self, now: u64) {
        self.say_repeated();
        self.tick(now);
        self.write();
    }

    /// Opens all files anew.
    pub(super) fn reopen(&mut self, now: u64) {
        self.say_repeated();
        self.write();
        let mut files = 0;
        for sink in &mut self.sinks {
            if let Place::File(file) = &mut sink.place {
                file.reopen(now);
                files += 1;
            }
        }
        if files > 0 {
            self.notice(now, Level::Info, "the log's files are opened anew");
        }
    }

    fn say_repeated(&mut self) {
        let Some((level, count)) = self.repeated.level.zip(self.repeated.take_count()) else { return };
        let times = if count == 1 { "time" } else { "times" };
        let repeated = std::mem::take(&mut self.repeated);
        let message = format!("{} (repeated {count} {times})", repeated.message);
        self.hand_out(&Line {
            at: repeated.last,
            level,
            thread: &repeated.thread,
            logger: &repeated.logger,
            module: &repeated.module,
            file: &repeated.file,
            line: repeated.line,
            message: &message,
        });
        self.repeated = repeated;
    }

    fn hand_out(&mut self, line: &Line<'_>) {
        let mut laid_out = None;
        for sink in &mut self.sinks {
            if line.level > sink.level {
                continue;
            }
            if laid_out != Some(sink.form) {
                self.text.clear();
                match sink.form {
                    Form::Pattern => self.pattern.render(line, &mut self.text),
                    Form::Json => pattern::render_json(line, &mut self.text),
                }
                laid_out = Some(sink.form);
            }
            match &mut sink.place {
                Place::Console(text) => {
                    text.extend_from_slice(&self.text);
                    if text.len() >= limits::LOG_WRITE_BYTES {
                        write_console(text);
                    }
                }
                Place::File(file) => file.line(&self.text, line.at),
            }
        }
    }
}

/// What nobody reads is lost and counted; there is nobody left to tell.
fn write_console(text: &mut Vec<u8>) {
    if !text.is_empty() && io::stderr().write_all(text).is_err() {
        COUNTERS.failures.fetch_add(1, Ordering::Relaxed);
        COUNTERS.lost.fetch_add(lines(text), Ordering::Relaxed);
    }
    text.clear();
}

/// How many lines end in there.
pub(super) fn lines(text: &[u8]) -> u64 {
    text.iter().filter(|byte| **byte == b'\n').count() as u64
}

impl Repeated {
    /// Counts the line if it says what the one before said.
    fn is_again(&mut self, line: &Line<'_>) -> bool {
        let again = self.level == Some(line.level) && self.message == line.message && self.logger == line.logger;
        if again {
            if self.count == 0 {
                self.first = line.at;
            }
            self.count += 1;
            self.last = line.at;
        }
        again
    }

    fn begin(&mut self, line: &Line<'_>) {
        self.level = Some(line.level);
        self.line = line.line;
        for (own, its) in [
            (&mut self.thread, line.thread),
            (&mut self.logger, line.logger),
            (&mut self.module, line.module),
            (&mut self.file, line.file),
            (&mut self.message, line.message),
        ] {
            own.clear();
            own.push_str(its);
        }
    }

    fn take_count(&mut self) -> Option<u64> {
        let count = std::mem::take(&mut self.count);
        (count > 0).then_some(count)
    }
}
