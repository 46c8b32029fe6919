//! log level: what each node logs, and changes of it.

use std::process::ExitCode;

use client::{Cause, Client, Error};
use protocol::reply::Effect;
use protocol::request::LogLevel;
use serde_json::json;

use crate::args::{Globals, LogVerb, Output};
use crate::report::Report;
use crate::status::{self, Row};
use crate::{exit, output};

/// Asks every node, or the one that is wanted, and shows what each says. An error names those that say nothing;
/// `only_known` leaves out addresses that nobody answers at and no node names.
pub(crate) fn run(
    client: &mut Client,
    globals: &Globals,
    verb: &LogVerb,
    only_known: bool,
) -> Result<ExitCode, Report> {
    let LogVerb::Level { filter, node, reset } = verb;
    let wanted = match filter {
        Some(filter) => LogLevel::Change(filter),
        None if *reset => LogLevel::Reset,
        None => LogLevel::Show,
    };
    let mut silent = Vec::new();
    for row in rows(client, *node, only_known)? {
        match ask(client, &row, wanted)? {
            Some(filter) => {
                let text = match globals.output {
                    Output::Json => json!({ "node": row.id, "filter": filter }).to_string(),
                    Output::Text => format!("node {}: {filter}", row.name()),
                };
                match wanted {
                    LogLevel::Show => output::line(&text)?,
                    LogLevel::Change(_) | LogLevel::Reset => output::applied(&text)?,
                }
            }
            None => silent.push(row.name()),
        }
    }
    if silent.is_empty() {
        Ok(ExitCode::from(exit::DONE))
    } else {
        Err(not_all(&silent))
    }
}

/// What the node logs now; `None`: it says nothing.
fn ask(client: &mut Client, row: &Row, wanted: LogLevel<'_>) -> Result<Option<String>, Report> {
    if row.status.is_none() {
        return Ok(None);
    }
    match client.log_level(&row.address, wanted) {
        Ok(filter) => Ok(Some(filter)),
        Err(error) if matches!(error.cause, Cause::Answered | Cause::TooLong) => Err(of(&error)),
        Err(_) => Ok(None),
    }
}

/// Every node, or the one that is wanted; an error if nobody answers at all, or nobody knows that one.
fn rows(client: &mut Client, wanted: Option<u32>, only_known: bool) -> Result<Vec<Row>, Report> {
    let reports = client.status_all();
    let mut rows = status::rows(&reports, only_known);
    if rows.iter().all(|row| row.status.is_none()) {
        let error = reports.into_iter().find_map(|report| report.status.err()).expect("someone was asked");
        return Err(of(&error));
    }
    let Some(wanted) = wanted else { return Ok(rows) };
    rows.retain(|row| row.id == Some(wanted));
    if rows.is_empty() {
        let hint = "`raftkv status` shows which nodes there are".to_owned();
        return Err(Report { hint, ..Report::usage(format!("there is no node {wanted}")) });
    }
    Ok(rows)
}

fn of(error: &Error) -> Report {
    Report::of(error, "log level")
}

fn not_all(silent: &[String]) -> Report {
    let (nodes, verb) = if silent.len() == 1 { ("node", "does") } else { ("nodes", "do") };
    Report {
        name: "UNREACHABLE".to_owned(),
        exit: exit::NOT_APPLIED,
        effect: Effect::None,
        what: format!("{nodes} {} {verb} not answer; each other node's line stands above", silent.join(", ")),
        hint: "`raftkv status` shows which nodes are there; say it again when they are back".to_owned(),
        leader: None,
    }
}
