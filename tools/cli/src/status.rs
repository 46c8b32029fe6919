//! status: first whether all is well and what is not, then one table of all nodes.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::process::ExitCode;

use client::{Client, NodeReport};
use protocol::reply::{NodeStatus, Role};
use serde_json::{json, Value};

use crate::args::{Globals, Output};
use crate::report::Report;
use crate::{exit, output, table};

/// A healthy node is at most this far behind: the nodes are not asked at the same moment.
const BEHIND_MAX: u64 = 10_000;

/// Which fields the JSON has, and what they mean. Fields may be added; the number rises when one leaves or changes its meaning.
const SCHEMA: u32 = 1;

/// One row: what is known of a node.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) id: Option<u32>,
    pub(crate) address: String,
    /// None: it does not answer.
    pub(crate) status: Option<NodeStatus>,
}

impl Row {
    /// Its number, or its address where nobody knows that.
    pub(crate) fn name(&self) -> String {
        self.id.map_or_else(|| self.address.clone(), |id| id.to_string())
    }
}

pub(crate) fn run(client: &mut Client, globals: &Globals, only_known: bool) -> Result<ExitCode, Report> {
    let reports = client.status_all();
    let answered = reports.iter().any(|report| report.status.is_ok());
    if !answered {
        let error = reports.into_iter().find_map(|report| report.status.err()).expect("someone was asked");
        return Err(Report::of(&error, "status"));
    }
    let rows = rows(&reports, only_known);
    match globals.output {
        Output::Json => output::line(&as_json(&rows).to_string())?,
        Output::Text => {
            let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            output::line(&as_text(&rows, colour))?;
        }
    }
    Ok(ExitCode::from(exit::DONE))
}

/// First whether all is well and what is not, then the table.
fn as_text(rows: &[Row], colour: bool) -> String {
    let headline = match problems(rows).as_slice() {
        [] => paint("all is well", "32", colour),
        problems => paint(&problems.join("\n"), "33", colour),
    };
    format!("{headline}\n{}", as_table(rows).trim_end())
}

fn paint(text: &str, code: &str, colour: bool) -> String {
    if colour {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// Nodes by id; `only_known` leaves out addresses that nobody answers at and nobody names.
pub(crate) fn rows(reports: &[NodeReport], only_known: bool) -> Vec<Row> {
    let mut named = BTreeMap::new();
    for member in reports.iter().filter_map(|report| report.status.as_ref().ok()).flat_map(|status| &status.members) {
        named.insert(member.client_address.clone(), member.id.0);
    }
    let row = |report: &NodeReport| {
        let status = report.status.as_ref().ok().cloned();
        let id = status.as_ref().map(|status| status.id.0).or_else(|| named.get(&report.address).copied());
        (id.is_some() || !only_known).then(|| Row { id, address: report.address.clone(), status })
    };
    let mut rows: Vec<Row> = reports.iter().filter_map(row).collect();
    // One node may be asked under two addresses.
    rows.sort_by_key(|row| (row.id.is_none(), row.id, row.status.is_none()));
    rows.dedup_by(|later, first| later.id.is_some() && later.id == first.id);
    rows
}

fn problems(rows: &[Row]) -> Vec<String> {
    let statuses: Vec<&NodeStatus> = rows.iter().filter_map(|row| row.status.as_ref()).collect();
    let members = statuses.iter().map(|status| status.members.len()).max().unwrap_or(0).max(1);
    let quorum = members / 2 + 1;
    let mut problems = Vec::new();
    let formed = statuses.iter().any(|status| status.cluster.0 != 0);
    let leads = statuses.iter().any(|status| status.role == Role::Leader);
    if formed && !leads {
        let answer = statuses.len();
        let why = if answer < quorum {
            format!(": {answer} of {members} nodes answer, a quorum is {quorum}")
        } else {
            String::new()
        };
        problems.push(format!("no leader{why}"));
    }
    let down: Vec<String> = rows.iter().filter(|row| row.status.is_none()).map(Row::name).collect();
    if !down.is_empty() {
        problems.push(format!("down: {} {}", if down.len() == 1 { "node" } else { "nodes" }, down.join(", ")));
    }
    let committed = statuses.iter().map(|status| status.commit_index.0).max().unwrap_or(0);
    for status in &statuses {
        let behind = committed.saturating_sub(status.applied_index.0);
        if behind > BEHIND_MAX {
            problems.push(format!("node {}: catching up, {behind} entries behind", status.id));
        }
    }
    for status in statuses {
        for note in &status.notes {
            if !problems.iter().any(|known| known.ends_with(note.as_str())) {
                problems.push(format!("node {}: {note}", status.id));
            }
        }
    }
    problems
}

fn role(row: &Row) -> &'static str {
    match row.status.as_ref().map(|status| status.role) {
        None => "down",
        Some(Role::Leader) => "leader",
        Some(Role::Follower) => "follower",
        Some(Role::Candidate) => "candidate",
        Some(Role::Learner) => "learner",
    }
}

/// One node as `status -o json` shows it among all.
pub(crate) fn node_as_json(status: &NodeStatus) -> Value {
    let own = status.members.iter().find(|member| member.id == status.id);
    let address = own.map_or_else(String::new, |member| member.client_address.clone());
    row_as_json(&Row { id: Some(status.id.0), address, status: Some(status.clone()) })
}

fn as_json(rows: &[Row]) -> Value {
    let nodes: Vec<Value> = rows.iter().map(row_as_json).collect();
    json!({ "schema": SCHEMA, "nodes": nodes, "problems": problems(rows) })
}

fn row_as_json(row: &Row) -> Value {
    let mut object = json!({ "schema": SCHEMA, "id": row.id, "role": role(row), "address": row.address });
    if let (Some(status), Some(fields)) = (&row.status, object.as_object_mut()) {
        let connected = status.members.iter().filter(|member| member.connected).map(|member| member.id.0);
        let more = json!({
            "term": status.term.0,
            "commit_index": status.commit_index.0,
            "applied_index": status.applied_index.0,
            "durable_index": status.durable_index.0,
            "leader": status.leader.map(|leader| leader.0),
            "uptime_ms": status.uptime_ms,
            "name": status.name,
            "cluster": format!("{:016x}", status.cluster.0),
            "keys": status.keys,
            "notes": status.notes,
            "connected": connected.collect::<Vec<_>>(),
            "counters": status.counters.iter().cloned().collect::<BTreeMap<String, u64>>(),
        });
        fields.extend(more.as_object().cloned().unwrap_or_default());
    }
    object
}

fn as_table(rows: &[Row]) -> String {
    let heading = ["id", "role", "term", "commit", "applied", "durable", "leader", "keys", "address", "uptime"];
    let cells = |row: &Row| {
        let dash = || "-".to_owned();
        let number =
            |value: fn(&NodeStatus) -> u64| row.status.as_ref().map_or_else(dash, |status| value(status).to_string());
        vec![
            row.id.map_or_else(|| "?".to_owned(), |id| id.to_string()),
            role(row).to_owned(),
            number(|status| status.term.0),
            number(|status| status.commit_index.0),
            number(|status| status.applied_index.0),
            number(|status| status.durable_index.0),
            row.status.as_ref().and_then(|status| status.leader).map_or_else(dash, |leader| leader.to_string()),
            number(|status| status.keys),
            row.address.clone(),
            row.status.as_ref().map_or_else(dash, |status| uptime(status.uptime_ms)),
        ]
    };
    table::render(&heading, &[0, 2, 3, 4, 5, 6, 7, 9], &rows.iter().map(cells).collect::<Vec<_>>())
}

fn uptime(ms: u64) -> String {
    match ms / 1000 {
        seconds if seconds < 60 => format!("{}.{} s", seconds, ms % 1000 / 100),
        seconds if seconds < 3600 => format!("{} m {} s", seconds / 60, seconds % 60),
        seconds if seconds < 86_400 => format!("{} h {} m", seconds / 3600, seconds % 3600 / 60),
        seconds => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use protocol::reply::MemberStatus;
    use protocol::{ClusterId, NodeId, Term};

    use super::*;

    fn member(id: u32) -> MemberStatus {
        MemberStatus { id: NodeId(id), client_address: format!("h:{id}"), ..MemberStatus::default() }
    }

    fn node(id: u32, role: Role) -> NodeReport {
        let status = NodeStatus {
            id: NodeId(id),
            role,
            term: Term(3),
            cluster: ClusterId(1),
            leader: Some(NodeId(0)),
            members: (0..3).map(member).collect(),
            uptime_ms: 61_500,
            ..NodeStatus::default()
        };
        NodeReport { address: format!("h:{id}"), status: Ok(status) }
    }

    fn down(address: &str) -> NodeReport {
        let error = client::Error {
            status: protocol::reply::Status::NotExecuted,
            reason: protocol::reply::Reason::None,
            effect: protocol::reply::Effect::None,
            cause: client::Cause::Unreachable,
            leader: None,
            endpoint: None,
            message: String::new(),
            attempts: 0,
            more: client::More::Nothing,
        };
        NodeReport { address: address.to_owned(), status: Err(error) }
    }

    #[test]
    fn a_healthy_cluster_is_well() {
        let reports = [node(1, Role::Follower), node(0, Role::Leader), node(2, Role::Follower)];
        let rows = rows(&reports, true);
        assert_eq!(problems(&rows), Vec::<String>::new());
        let text = as_text(&rows, false);
        assert!(text.starts_with("all is well\nid  role"), "{text}");
        assert!(as_text(&rows, true).starts_with("\x1b[32mall is well\x1b[0m\n"));
        let table = as_table(&rows);
        assert!(table.lines().nth(1).is_some_and(|line| line.starts_with(" 0  leader ")), "{table}");
        assert!(table.contains("1 m 1 s"));
    }

    #[test]
    fn down_nodes_are_shown_by_number_and_strangers_only_if_asked_for() {
        let reports = [node(0, Role::Follower), down("h:1"), down("h:2"), down("h:9")];
        let known = rows(&reports, true);
        assert_eq!(known.iter().map(|row| row.id).collect::<Vec<_>>(), [Some(0), Some(1), Some(2)]);
        assert_eq!(problems(&known), ["no leader: 1 of 3 nodes answer, a quorum is 2", "down: nodes 1, 2"]);
        assert_eq!(rows(&reports, false).len(), 4);
        let object = as_json(&known);
        assert_eq!(object["nodes"][1]["role"], "down");
        assert_eq!(object["nodes"][1]["id"], 1);
        assert_eq!(object["nodes"][0]["role"], "follower");
        assert_eq!((&object["schema"], &object["nodes"][0]["schema"]), (&json!(1), &json!(1)));
    }
}
