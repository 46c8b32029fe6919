//! snapshot take: lets a node write its state to a file now.

use std::process::ExitCode;

use client::{Client, NodeReport};
use protocol::reply::Effect;
use serde_json::json;

use crate::args::{Globals, Output};
use crate::report::Report;
use crate::{exit, output};

/// Arguments of `snapshot take`.
#[derive(clap::Args, Clone, Debug)]
pub struct TakeArgs {
    /// Number of the node that takes it [default: the leader, or the only one of --endpoints]
    #[arg(long, value_name = "N")]
    pub node: Option<u32>,
}

pub(crate) fn take(client: &mut Client, globals: &Globals, arguments: &TakeArgs) -> Result<ExitCode, Report> {
    let address = match (arguments.node, globals.endpoints.as_slice()) {
        (Some(node), _) => Some(address_of(client, node)?),
        (None, [only]) => Some(only.clone()),
        (None, _) => leader(&client.status_all()),
    };
    let taken = client.take_snapshot(address.as_deref()).map_err(|error| not_taken(&error))?;
    let (node, index, bytes) = (taken.node, taken.last.index, taken.bytes);
    let file = format!("snapshot-{:016x}", index.0);
    match globals.output {
        Output::Text => output::applied(&format!(
            "node {node} took a snapshot of everything up to revision {index}: {bytes} bytes, {file} in its data directory"
        ))?,
        Output::Json => {
            let object = json!({
                "ok": true, "node": node.0, "index": index.0, "term": taken.last.term.0, "bytes": bytes, "file": file,
            });
            output::applied(&object.to_string())?;
        }
    }
    Ok(ExitCode::from(exit::DONE))
}

/// A snapshot changes no key: one that nobody has heard the end of may be taken all the same, and another does no harm.
fn not_taken(error: &client::Error) -> Report {
    let report = Report::of(error, "snapshot");
    if report.effect != Effect::Unknown {
        return report;
    }
    let hint = "it may be on its way still: a large state takes longer, --timeout gives it that; it may be taken again";
    Report { hint: hint.to_owned(), ..report }
}

/// Where the leader is, if somebody knows.
pub(crate) fn leader(reports: &[NodeReport]) -> Option<String> {
    let leads =
        |report: &&NodeReport| report.status.as_ref().is_ok_and(|status| status.role == protocol::reply::Role::Leader);
    reports.iter().find(leads).map(|report| report.address.clone())
}

fn address_of(client: &mut Client, node: u32) -> Result<String, Report> {
    let reports = client.status_all();
    let statuses = reports.iter().filter_map(|report| report.status.as_ref().ok());
    let member = statuses.flat_map(|status| &status.members).find(|member| member.id.0 == node);
    member.map(|member| member.client_address.clone()).ok_or_else(|| {
        Report::usage(format!("nobody who answers knows a node {node}; `raftkv status` shows the members"))
    })
}
