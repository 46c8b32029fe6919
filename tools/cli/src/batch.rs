//! batch: operations from JSON lines, all or none.

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use client::{Client, More};
use protocol::command::{BatchBuilder, Operation, BATCH_OPERATIONS_MAX};
use protocol::Index;
use serde_json::{json, Value};

use crate::args::{Globals, Output};
use crate::report::Report;
use crate::{exit, json, output};

/// One line, with bytes of its own.
struct Line {
    what: What,
    key: Vec<u8>,
    value: Vec<u8>,
}

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
    let written = client.batch(batch).map_err(|error| refused(&error))?;
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

/// Which operation stands in the way of the whole.
fn refused(error: &client::Error) -> Report {
    match error.more {
        More::Refused(refused) => {
            let subject = format!("of operation {}", refused.position + 1);
            let mut report = Report::of(error, &subject);
            report.what = format!("nothing was applied: operation {}: {}", refused.position + 1, report.what);
            report
        }
        _ => Report::of(error, "batch"),
    }
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
    lines.map(|(line, number)| parse_line(line).map_err(|error| format!("line {number}: {error}"))).collect()
}

fn parse_line(line: &str) -> Result<Line, String> {
    let object: Value = serde_json::from_str(line).map_err(|error| format!("not JSON: {error}"))?;
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
    Ok(Line { what, key: bytes("key")?, value: if has_value { bytes("value")? } else { Vec::new() } })
}

impl Line {
    fn operation(&self) -> Operation<'_> {
        let Self { what, key, value } = self;
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
    fn malformed_lines_are_named_with_what_is_wrong() {
        for (text, word) in [
            ("{", "line 1: not JSON"),
            ("\n{\"op\":\"put\",\"key\":\"a\"}", "line 2: no \"value\""),
            ("{\"op\":\"push\",\"key\":\"a\"}", "\"push\" is no operation"),
            ("{\"op\":\"cas\",\"key\":\"a\",\"revision\":-1,\"value\":\"\"}", "\"revision\" is no revision"),
            ("{\"op\":\"increment\",\"key\":\"a\",\"by\":1.5}", "\"by\" is no number"),
            ("{\"key\":\"a\"}", "no \"op\""),
        ] {
            let error = parse(text).map(|_| ()).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
