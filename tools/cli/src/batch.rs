//! batch: operations from JSON lines, all or none.

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use client::{Client, More};
use protocol::command::{BatchBuilder, Operation, BATCH_OPERATIONS_MAX};
use protocol::reply::{Reason, Status};
use protocol::Index;
use serde_json::{json, Map, Value};

use crate::args::{Globals, Output};
use crate::report::Report;
use crate::{exit, json, output, text};

/// One line, with bytes of its own.
struct Line {
    /// Which line of the input it is, from 1 on.
    number: usize,
    what: What,
    key: Vec<u8>,
    value: Vec<u8>,
}

const HINT_TOO_LARGE: &str =
    "all keys and values of a batch together are as long as one key and one value at most: split the batch";

enum What {
    Put,
    Update,
    Remove,
    CompareAndSet(u64),
    Increment(i64),
}

pub(crate) fn run(client: &mut Client, globals: &Globals, file: Option<&Path>) -> Result<ExitCode, Report> {
    let lines = parse(&read(file)?).map_err(Report::usage)?;
    let mut builder = BatchBuilder::default();
    for line in &lines {
        if !builder.push(line.operation()) {
            return Err(Report::usage(format!("a batch has at most {BATCH_OPERATIONS_MAX} operations")));
        }
    }
    let Some(batch) = builder.batch() else { return Err(Report::usage("there is no operation")) };
    let written = client.batch(batch).map_err(|error| refused(&error, &lines))?;
    match globals.output {
        Output::Text => {
            output::applied(&format!("applied {} operations (revision {})", lines.len(), written.revision))?
        }
        Output::Json => {
            let object =
                json!({ "ok": true, "did": "applied", "operations": lines.len(), "revision": written.revision.0 });
            output::applied(&object.to_string())?;
        }
    }
    Ok(ExitCode::from(exit::DONE))
}

/// Which line stands in the way of the whole.
fn refused(error: &client::Error, lines: &[Line]) -> Report {
    let line = match error.more {
        More::Refused(refused) => lines.get(refused.position as usize),
        More::Nothing | More::Number(_) => None,
    };
    let Some(line) = line else {
        let report = Report::of(error, "batch");
        return match (error.status, error.reason) {
            (Status::TooLarge, reason) if reason != Reason::KeyTooLarge => {
                Report { hint: HINT_TOO_LARGE.to_owned(), ..report }
            }
            _ => report,
        };
    };
    let mut report = Report::of(error, &text::show(&line.key));
    report.what = format!("nothing was applied: line {}: {}", line.number, report.what);
    report
}

fn read(file: Option<&Path>) -> Result<String, Report> {
    let mut text = String::new();
    match file.filter(|file| *file != Path::new("-")) {
        None => std::io::stdin().lock().read_to_string(&mut text).map(|_| text),
        Some(path) => std::fs::read_to_string(path),
    }
    .map_err(|error| Report::usage(format!("the operations cannot be read: {error}")))
}

fn parse(text: &str) -> Result<Vec<Line>, String> {
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    lines.map(|(line, number)| parse_line(line, number).map_err(|error| format!("line {number}: {error}"))).collect()
}

fn parse_line(line: &str, number: usize) -> Result<Line, String> {
    let object: Map<String, Value> =
        serde_json::from_str(line).map_err(|error| format!("not a JSON object: {error}"))?;
    let part = |name: &str| object.get(name).ok_or_else(|| format!("no \"{name}\""));
    let bytes = |name: &str| json::to_bytes(part(name)?).map_err(|error| format!("\"{name}\": {error}"));
    let op = part("op")?;
    let (what, has_value) = match op.as_str() {
        Some("put") => (What::Put, true),
        Some("update") => (What::Update, true),
        Some("remove") => (What::Remove, false),
        Some("cas") => {
            let revision = part("revision")?.as_u64().ok_or("\"revision\" is no revision")?;
            (What::CompareAndSet(revision), true)
        }
        Some("increment") => (What::Increment(part("by")?.as_i64().ok_or("\"by\" is no number of 64 bits")?), false),
        _ => return Err(format!("{op} is no operation: put, update, remove, cas or increment")),
    };
    // A mistyped name would be left out silently, and something else be applied than was meant.
    let known = |name: &&String| match name.as_str() {
        "op" | "key" => true,
        "value" => has_value,
        "revision" => matches!(what, What::CompareAndSet(_)),
        "by" => matches!(what, What::Increment(_)),
        _ => false,
    };
    if let Some(unknown) = object.keys().find(|name| !known(name)) {
        return Err(format!("{op} has no field \"{unknown}\""));
    }
    Ok(Line { number, what, key: bytes("key")?, value: if has_value { bytes("value")? } else { Vec::new() } })
}

impl Line {
    fn operation(&self) -> Operation<'_> {
        let Self { number: _, what, key, value } = self;
        match *what {
            What::Put => Operation::Put { key, value },
            What::Update => Operation::Update { key, value },
            What::Remove => Operation::Remove { key },
            What::CompareAndSet(revision) => Operation::CompareAndSet { key, expected: Index(revision), value },
            What::Increment(by) => Operation::Increment { key, by },
        }
    }
}

#[cfg(test)]
mod tests {
    use client::Cause;
    use protocol::reply::{Effect, RefusedOperation};

    use super::*;

    #[test]
    fn every_operation_has_its_line() {
        let text = r#"
            {"op":"put","key":"a","value":"1"}
            {"op":"update","key":{"b64":"AP8="},"value":"2"}

            {"op":"remove","key":"c"}
            {"op":"cas","key":"d","revision":42,"value":"3"}
            {"op":"increment","key":"e","by":-7}
        "#;
        let lines = parse(text).expect("five operations");
        let operations: Vec<Operation<'_>> = lines.iter().map(Line::operation).collect();
        let expected = [
            Operation::Put { key: b"a", value: b"1" },
            Operation::Update { key: &[0, 255], value: b"2" },
            Operation::Remove { key: b"c" },
            Operation::CompareAndSet { key: b"d", expected: Index(42), value: b"3" },
            Operation::Increment { key: b"e", by: -7 },
        ];
        assert_eq!(operations, expected);
    }

    #[test]
    fn a_refusal_names_the_line_of_the_input_and_its_key() {
        let lines = parse("\n{\"op\":\"put\",\"key\":\"a\",\"value\":\"1\"}\n\n{\"op\":\"remove\",\"key\":\"b\"}")
            .expect("two");
        let refusal = |status, position| client::Error {
            status,
            reason: Reason::None,
            effect: Effect::None,
            cause: Cause::Answered,
            leader: None,
            endpoint: None,
            message: String::new(),
            attempts: 1,
            more: More::Refused(RefusedOperation { position, revision: Index(0) }),
        };
        for (status, position, exit, what) in [
            (Status::Exists, 0, 4, "nothing was applied: line 2: the key `a` exists"),
            (Status::NotFound, 1, 3, "nothing was applied: line 4: there is no key `b`"),
        ] {
            let report = refused(&refusal(status, position), &lines);
            assert_eq!((report.exit, report.what.as_str()), (exit, what));
        }
    }

    #[test]
    fn malformed_lines_are_named_with_what_is_wrong() {
        for (text, word) in [
            ("{", "line 1: not a JSON object"),
            ("\"put\"", "line 1: not a JSON object"),
            ("\n{\"op\":\"put\",\"key\":\"a\"}", "line 2: no \"value\""),
            ("{\"op\":\"push\",\"key\":\"a\"}", "\"push\" is no operation"),
            ("{\"op\":\"cas\",\"key\":\"a\",\"revision\":-1,\"value\":\"\"}", "\"revision\" is no revision"),
            ("{\"op\":\"increment\",\"key\":\"a\",\"by\":1.5}", "\"by\" is no number"),
            ("{\"key\":\"a\"}", "no \"op\""),
            (
                "{\"op\":\"put\",\"key\":\"a\",\"value\":\"1\",\"valeu\":\"2\"}",
                "line 1: \"put\" has no field \"valeu\"",
            ),
            ("{\"op\":\"remove\",\"key\":\"a\",\"value\":\"1\"}", "\"remove\" has no field \"value\""),
        ] {
            let error = parse(text).map(|_| ()).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
