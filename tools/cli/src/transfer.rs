//! import and export: one JSON object per line, in bounded memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use client::{Client, Completion, Error, ScanOptions, Submission, Token};
use protocol::command::Command;
use protocol::reply::{Effect, Status};
use protocol::request::{ReadMode, Request};
use serde_json::json;

use crate::args::{ExportArgs, Globals, ImportArgs, Output};
use crate::report::Report;
use crate::scan::range;
use crate::{exit, json, output, text};

/// Records in flight.
const DEPTH: usize = 256;
/// How long a record is tried where nobody says so: an import outlives elections.
const PATIENCE: Duration = Duration::from_secs(60);
/// Duplicates that are named.
const NAMED_MAX: usize = 5;

/// What has become of the records so far.
#[derive(Debug, Default)]
struct Tally {
    done: u64,
    bytes: u64,
    duplicates: u64,
    named: Vec<String>,
    failed: Option<(Vec<u8>, Error)>,
}

/// Records on their way. No two of them have the same key: repeated after an unknown outcome, or sent to another node,
/// an earlier record would overtake and replace a later one.
#[derive(Debug, Default)]
struct InFlight {
    keys: BTreeMap<u64, Vec<u8>>,
    busy: BTreeSet<Vec<u8>>,
}

impl InFlight {
    fn has_room(&self, key: &[u8]) -> bool {
        self.keys.len() < DEPTH && !self.busy.contains(key)
    }

    fn begin(&mut self, number: u64, key: &[u8]) {
        self.keys.insert(number, key.to_vec());
        self.busy.insert(key.to_vec());
    }

    fn end(&mut self, number: u64) -> Vec<u8> {
        let key = self.keys.remove(&number).expect("a record ends once");
        self.busy.remove(&key);
        key
    }
}

pub(crate) fn import(client: &mut Client, globals: &Globals, arguments: &ImportArgs) -> Result<ExitCode, Report> {
    let (input, size) = open(arguments.file.as_deref())?;
    let lines = lines_of(input);
    let timeout = Some(globals.timeout.unwrap_or(PATIENCE));
    let (mut tally, mut number, mut read) = (Tally::default(), 0_u64, 0_u64);
    let mut in_flight = InFlight::default();
    let mut progress = Progress::new(size);
    let wrong = loop {
        // Input may be slow: what was read before goes on meanwhile.
        let line = match lines.try_recv() {
            Err(TryRecvError::Empty) if client.pipeline().pending() > 0 => {
                settle(client, &mut tally, &mut in_flight)?;
                progress.show(tally.done, read);
                if tally.failed.is_some() {
                    break None;
                }
                continue;
            }
            Err(TryRecvError::Empty) => lines.recv().ok(),
            line => line.ok(),
        };
        number += 1;
        let line = match line {
            None => break None,
            Some(Err(error)) => break Some(format!("line {number}: {error}")),
            Some(Ok(line)) => line,
        };
        read += line.len() as u64;
        if line.trim().is_empty() {
            continue;
        }
        let (key, value) = match json::parse_record(line.trim_end()) {
            Ok(record) => record,
            Err(error) => break Some(format!("line {number}: {error}")),
        };
        let (key, value) = (key.as_slice(), value.as_slice());
        while !in_flight.has_room(key) && tally.failed.is_none() {
            settle(client, &mut tally, &mut in_flight)?;
            progress.show(tally.done, read);
        }
        if tally.failed.is_some() {
            break None;
        }
        let command = if arguments.create { Command::Put { key, value } } else { Command::Update { key, value } };
        let submission = Submission::new(Token(number), Request::Write(command));
        client.pipeline().submit(Submission { timeout, ..submission });
        tally.bytes += (key.len() + value.len()) as u64;
        in_flight.begin(number, key);
    };
    // What was read is finished, whatever came after it.
    while client.pipeline().pending() > 0 {
        settle(client, &mut tally, &mut in_flight)?;
        progress.show(tally.done, read);
    }
    progress.clear();
    conclude(globals, &tally, wrong, progress.started.elapsed())
}

/// Reads ahead on a thread of its own: a read from a pipe may wait for hours.
fn lines_of(mut input: Box<dyn BufRead + Send>) -> Receiver<std::io::Result<String>> {
    let (sender, lines) = std::sync::mpsc::sync_channel(DEPTH);
    std::thread::spawn(move || loop {
        let mut line = String::new();
        let read = match input.read_line(&mut line) {
            Ok(0) => return,
            Ok(_) => Ok(line),
            Err(error) => Err(error),
        };
        let failed = read.is_err();
        // Nobody listens any more: the import has ended.
        if sender.send(read).is_err() || failed {
            return;
        }
    });
    lines
}

fn open(file: Option<&Path>) -> Result<(Box<dyn BufRead + Send>, Option<u64>), Report> {
    match file.filter(|file| *file != Path::new("-")) {
        None => Ok((Box::new(BufReader::new(std::io::stdin())), None)),
        Some(path) => {
            let failed = |error| Report::usage(format!("the file `{}` cannot be read: {error}", path.display()));
            let file = File::open(path).map_err(failed)?;
            let size = file.metadata().map(|metadata| metadata.len()).ok();
            Ok((Box::new(BufReader::with_capacity(1 << 20, file)), size))
        }
    }
}

/// Waits for some ends and counts them.
fn settle(client: &mut Client, tally: &mut Tally, in_flight: &mut InFlight) -> Result<(), Report> {
    let mut done = |completion: Completion<'_>| {
        let key = in_flight.end(completion.token.0);
        match completion.result {
            Ok(_) => tally.done += 1,
            Err(error) if error.status == Status::Exists => {
                tally.duplicates += 1;
                if tally.named.len() < NAMED_MAX {
                    tally.named.push(text::show(&key));
                }
            }
            Err(error) => {
                tally.failed.get_or_insert((key, error));
            }
        }
    };
    let polled = client.pipeline().poll(Duration::from_millis(200), &mut done);
    polled
        .map(|_| ())
        .map_err(|error| Report::local(format!("this process cannot wait for its sockets: {error}"), Effect::Unknown))
}

fn conclude(globals: &Globals, tally: &Tally, wrong: Option<String>, took: Duration) -> Result<ExitCode, Report> {
    let rate = tally.done as f64 / took.as_secs_f64().max(1e-9);
    let code = if tally.duplicates > 0 { exit::CONFLICT } else { exit::DONE };
    let said = match globals.output {
        Output::Text => {
            let mut said = format!("imported {} keys in {:.1} s ({rate:.0}/s)", tally.done, took.as_secs_f64());
            if tally.duplicates > 0 {
                let more = if tally.duplicates > tally.named.len() as u64 { ", ..." } else { "" };
                let names = tally.named.join(", ");
                said.push_str(&format!("\nexisting keys left alone: {} ({names}{more})", tally.duplicates));
            }
            said
        }
        Output::Json => json!({
            "ok": tally.failed.is_none() && wrong.is_none() && tally.duplicates == 0,
            "imported": tally.done, "duplicates": tally.duplicates, "seconds": took.as_secs_f64(),
        })
        .to_string(),
    };
    match (trouble(tally, wrong), output::try_line(&said)) {
        // What went wrong with the records comes first, whether or not anybody reads the figures.
        (Some(report), _) => Err(report),
        (None, Err(error)) if error.kind() != ErrorKind::BrokenPipe => Err(unsaid(tally, &said, &error)),
        (None, _) => Ok(ExitCode::from(code)),
    }
}

/// Why not everything was imported.
fn trouble(tally: &Tally, wrong: Option<String>) -> Option<Report> {
    if let Some((key, error)) = &tally.failed {
        let mut report = Report::of(error, &text::name(key));
        report.what = format!("the record `{}` was not imported: {}", text::name(key), report.what);
        return Some(report);
    }
    let mut report = Report::usage(format!("{}; the lines before it were imported", wrong?));
    report.hint =
        r#"a line is {"key":"..","value":".."}, with {"b64":".."} for what is not UTF-8; import may be repeated"#
            .to_owned();
    Some(report)
}

fn unsaid(tally: &Tally, said: &str, error: &std::io::Error) -> Report {
    if tally.done == 0 {
        return Report::local(
            format!("nothing was imported, and standard output cannot be written: {error}"),
            Effect::None,
        );
    }
    Report { hint: "import may be repeated".to_owned(), ..Report::unsaid(said, error) }
}

pub(crate) fn export(client: &mut Client, globals: &Globals, arguments: &ExportArgs) -> Result<ExitCode, Report> {
    let prefix = arguments.prefix.as_deref().map(text::parse).transpose().map_err(Report::usage)?.unwrap_or_default();
    let (from, to) = range(&prefix, None, None);
    let mut options = ScanOptions { from, to, ..ScanOptions::default() };
    if arguments.local {
        options.read_mode = ReadMode::Local;
        options.only = client.pipeline().settings().endpoints.first().cloned();
    }
    let mut progress = Progress::new(None);
    let mut out = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
    let (mut count, mut bytes) = (0, 0);
    let mut scan = client.scan(options).map_err(|error| Report::of(&error, "export"))?;
    for item in &mut scan {
        let item = match item {
            Ok(item) => item,
            Err(error) => {
                output::check(out.flush())?;
                let mut report = Report::of(&error, "export");
                report.what = format!("the export is not complete, it ends after {count} keys: {}", report.what);
                return Err(report);
            }
        };
        output::check(writeln!(out, "{}", json::record(&item.key, &item.entry.value)))?;
        count += 1;
        bytes += item.entry.value.len() as u64;
        progress.show(count, bytes);
    }
    output::check(out.flush())?;
    progress.clear();
    let revision = scan.revision().map_or(0, |revision| revision.0);
    if arguments.local {
        match globals.output {
            Output::Text => eprintln!("keys of this node's own state: {count}; applied index {revision}"),
            Output::Json => eprintln!("{}", json!({ "ok": true, "keys": count, "applied_index": revision })),
        }
    }
    Ok(ExitCode::from(exit::DONE))
}

/// A bar on a terminal; nothing elsewhere.
struct Progress {
    started: Instant,
    shown: Option<Instant>,
    size: Option<u64>,
    terminal: bool,
}

const PROGRESS_EVERY: Duration = Duration::from_millis(100);

impl Progress {
    fn new(size: Option<u64>) -> Self {
        Self { started: Instant::now(), shown: None, size, terminal: std::io::stderr().is_terminal() }
    }

    fn show(&mut self, records: u64, bytes: u64) {
        let due = self.shown.is_none_or(|shown| shown.elapsed() >= PROGRESS_EVERY);
        if !self.terminal || !due {
            return;
        }
        self.shown = Some(Instant::now());
        eprint!("\r{}\x1b[K", bar(records, bytes, self.size, self.started.elapsed()));
    }

    fn clear(&self) {
        if self.shown.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}

fn bar(records: u64, bytes: u64, size: Option<u64>, took: Duration) -> String {
    let seconds = took.as_secs_f64().max(1e-9);
    let rate = records as f64 / seconds;
    let Some(size) = size.filter(|size| *size > 0) else {
        return format!("{records} keys  {rate:.0}/s");
    };
    let part = (bytes as f64 / size as f64).min(1.0);
    let filled = (part * 30.0) as usize;
    let left = if part > 0.0 { seconds * (1.0 - part) / part } else { 0.0 };
    format!(
        "[{}{}] {:3.0} %  {records} keys  {rate:.0}/s  {left:.0} s left",
        "#".repeat(filled),
        ".".repeat(30 - filled),
        part * 100.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_waits_for_the_earlier_one_of_its_key() {
        let mut in_flight = InFlight::default();
        in_flight.begin(1, b"a");
        assert!(in_flight.has_room(b"b") && !in_flight.has_room(b"a"));
        assert_eq!(in_flight.end(1), b"a");
        assert!(in_flight.has_room(b"a"));
        (0..DEPTH as u64).for_each(|number| in_flight.begin(number, &number.to_le_bytes()));
        assert!(!in_flight.has_room(b"a"));
    }

    #[test]
    fn the_bar_shows_part_rate_and_time_left() {
        let shown = bar(50, 500, Some(1000), Duration::from_secs(10));
        assert_eq!(shown, "[###############...............]  50 %  50 keys  5/s  10 s left");
        assert_eq!(bar(50, 500, None, Duration::from_secs(10)), "50 keys  5/s");
    }
}
