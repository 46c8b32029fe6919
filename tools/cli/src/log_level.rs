//! log level: what each node logs, and changes of it.

use std::process::ExitCode;

use client::Client;
use protocol::reply::Effect;
use protocol::request::LogLevel;
use serde_json::json;

use crate::args::{Globals, LogVerb, Output};
use crate::report::Report;
use crate::{exit, output};

pub(crate) fn run(client: &mut Client, globals: &Globals, verb: &LogVerb) -> Result<ExitCode, Report> {
    let LogVerb::Level { filter, node, reset } = verb;
    let wanted = match filter {
        Some(filter) => LogLevel::Change(filter),
        None if *reset => LogLevel::Reset,
        None => LogLevel::Show,
    };
    for (id, address) in nodes(client, *node)? {
        let filter = client.log_level(&address, wanted).map_err(|error| Report::of(&error, "log level"))?;
        output::line(&match globals.output {
            Output::Json => json!({ "node": id, "filter": filter }).to_string(),
            Output::Text => format!("node {id}: {filter}"),
        })?;
    }
    Ok(ExitCode::from(exit::DONE))
}

/// Ids and addresses of the nodes that answer, or of the one that is wanted.
fn nodes(client: &mut Client, wanted: Option<u32>) -> Result<Vec<(u32, String)>, Report> {
    let mut nodes = Vec::new();
    let mut failed = None;
    for report in client.status_all() {
        match report.status {
            Ok(status) => nodes.push((status.id.0, report.address)),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    nodes.sort();
    nodes.dedup_by_key(|(id, _)| *id);
    nodes.retain(|(id, _)| wanted.is_none_or(|wanted| *id == wanted));
    match (nodes.is_empty(), wanted, failed) {
        (false, _, _) => Ok(nodes),
        (true, Some(wanted), _) => Err(Report::local(format!("node {wanted} does not answer"), Effect::None)),
        (true, None, Some(error)) => Err(Report::of(&error, "log level")),
        (true, None, None) => unreachable!("someone was asked"),
    }
}
