//! put, update, get, remove, cas, increment.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use client::{Client, Error, Written};
use protocol::Index;
use serde_json::json;

use crate::args::{Globals, Output};
use crate::report::Report;
use crate::{exit, json, output, text};

/// Which write.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verb {
    Put,
    Update,
    Remove,
}

pub(crate) fn write(
    client: &mut Client,
    globals: &Globals,
    verb: Verb,
    key: &str,
    value: Option<&str>,
) -> Result<ExitCode, Report> {
    let (key, value) = text::parse_both(key, value.unwrap_or_default()).map_err(Report::usage)?;
    let written = match verb {
        Verb::Put => client.put(&key, &value),
        Verb::Update => client.update(&key, &value),
        Verb::Remove => client.remove(&key),
    };
    let written: Written = written.map_err(|error: Error| Report::of(&error, &text::show(&key)))?;
    let did = match (verb, written.created) {
        (Verb::Put, _) | (Verb::Update, true) => "created",
        (Verb::Update, false) => "updated",
        (Verb::Remove, _) => "removed",
    };
    show_written(globals, did, &key, written)
}

pub(crate) fn cas(
    client: &mut Client,
    globals: &Globals,
    key: &str,
    revision: u64,
    value: &str,
) -> Result<ExitCode, Report> {
    let (key, value) = text::parse_both(key, value).map_err(Report::usage)?;
    let written = client.compare_and_set(&key, Index(revision), &value);
    let written = written.map_err(|error| Report::of(&error, &text::show(&key)))?;
    show_written(globals, if written.created { "created" } else { "updated" }, &key, written)
}

pub(crate) fn increment(client: &mut Client, globals: &Globals, key: &str, by: i64) -> Result<ExitCode, Report> {
    let key = text::parse(key).map_err(Report::usage)?;
    let (sum, written) = client.increment(&key, by).map_err(|error| Report::of(&error, &text::show(&key)))?;
    match globals.output {
        Output::Text => output::applied(&sum.to_string())?,
        Output::Json => {
            let revision = written.revision.0;
            let object = json!({ "ok": true, "did": "incremented", "key": json::from_bytes(&key), "sum": sum, "revision": revision });
            output::applied(&object.to_string())?;
        }
    }
    Ok(ExitCode::from(exit::DONE))
}

fn show_written(globals: &Globals, did: &str, key: &[u8], written: Written) -> Result<ExitCode, Report> {
    match globals.output {
        Output::Text => output::applied(&format!("{did} {} (revision {})", text::show(key), written.revision))?,
        Output::Json => {
            let object =
                json!({ "ok": true, "did": did, "key": json::from_bytes(key), "revision": written.revision.0 });
            output::applied(&object.to_string())?;
        }
    }
    Ok(ExitCode::from(exit::DONE))
}

pub(crate) fn get(client: &mut Client, globals: &Globals, key: &str) -> Result<ExitCode, Report> {
    let key = text::parse(key).map_err(Report::usage)?;
    let entry = client.get(&key).map_err(|error| Report::of(&error, &text::show(&key)))?;
    let Some(entry) = entry else {
        let report = Report {
            name: "NOT_FOUND".to_owned(),
            exit: exit::NOT_FOUND,
            effect: protocol::reply::Effect::None,
            what: format!("there is no key `{}`", text::show(&key)),
            hint: "`raftkv scan` lists keys".to_owned(),
            leader: None,
        };
        return Err(report);
    };
    match globals.output {
        Output::Text => {
            let mut out = std::io::stdout().lock();
            // A pipe gets exactly the bytes; a person's prompt begins on a line of its own.
            let newline: &[u8] = if out.is_terminal() { b"\n" } else { b"" };
            let written = out.write_all(&entry.value).and_then(|()| out.write_all(newline)).and_then(|()| out.flush());
            output::check(written)?;
        }
        Output::Json => {
            let object = json!({
                "ok": true,
                "key": json::from_bytes(&key),
                "value": json::from_bytes(&entry.value),
                "revision": entry.revision.0,
                "create_revision": entry.create_revision.0,
                "version": entry.version,
            });
            output::line(&object.to_string())?;
        }
    }
    Ok(ExitCode::from(exit::DONE))
}
