//! explain: one request, and where its time went.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use client::{Client, Explained};
use protocol::command::Command;
use protocol::receipt::{MemberTimes, Receipt, Stage};
use protocol::request::Request;
use serde_json::{json, Map, Value};

use crate::args::{ExplainVerb, Globals, Output};
use crate::report::Report;
use crate::{exit, json, output, snapshot, table, text};

/// Writes ask the leader and reads the first node that answers, so that no redirect is in the figures; connections are open
/// by then. With --no-redirect they ask who was named. Without a session, so that opening one is not in them either.
pub(crate) fn run(client: &mut Client, globals: &Globals, verb: &ExplainVerb) -> Result<ExitCode, Report> {
    let (key, value) = text::parse_both(verb.key(), verb.value().unwrap_or_default()).map_err(Report::usage)?;
    let (request, did) = match verb {
        ExplainVerb::Put { .. } => (Request::Write(Command::Put { key: &key, value: &value }), "created"),
        ExplainVerb::Update { .. } => (Request::Write(Command::Update { key: &key, value: &value }), "updated"),
        ExplainVerb::Remove { .. } => (Request::Write(Command::Remove { key: &key }), "removed"),
        ExplainVerb::Get { .. } => (Request::Get { key: &key }, "read"),
    };
    let reports = client.status_all();
    let address = match request {
        Request::Get { .. } => None,
        _ if globals.no_redirect => None,
        _ => snapshot::leader(&reports),
    };
    let start = Instant::now();
    let explained = client.explain(request, address.as_deref());
    let round_trip = start.elapsed();
    let explained = explained.map_err(|error| Report::of(&error, &text::show(&key)))?;
    let did = if explained.created { "created" } else { did };
    let text = match globals.output {
        Output::Json => as_json(did, &key, &explained, round_trip).to_string(),
        Output::Text => as_text(did, &key, &explained, round_trip),
    };
    match request {
        Request::Get { .. } => output::line(&text)?,
        _ => output::applied(&text)?,
    }
    Ok(ExitCode::from(exit::DONE))
}

fn as_text(did: &str, key: &[u8], explained: &Explained, round_trip: Duration) -> String {
    let total = round_trip.as_micros();
    let head = format!("{did} {} (revision {})", text::show(key), explained.revision);
    let Some(receipt) = &explained.receipt else {
        return format!("{head} in {total} us; no receipt: the node was explaining another request, say it again");
    };
    let inside = inside(receipt);
    let way = total.saturating_sub(inside.into());
    let node = receipt.node;
    let head = format!("{head} in {total} us: {inside} us in node {node}, {way} us on the way there and back");
    let stages: Vec<Vec<String>> = receipt
        .stages
        .iter()
        .map(|(stage, us)| vec![stage.name().to_owned(), us.to_string(), meaning(*stage).to_owned()])
        .collect();
    let stages = table::render(&["stage", "us", "until"], &[1], &stages);
    if receipt.members.is_empty() {
        return format!("{head}\n\n{}", stages.trim_end());
    }
    let members: Vec<Vec<String>> = receipt.members.iter().map(|member| member_row(receipt, member)).collect();
    let members = table::render(&["node", "durable after", "queue", "sync", ""], &[0, 1, 2, 3], &members);
    format!("{head}\n\n{stages}\n{}", members.trim_end())
}

fn member_row(receipt: &Receipt, member: &MemberTimes) -> Vec<String> {
    let leads = member.node == receipt.node;
    let closes = receipt.closed_by == Some(member.node);
    let words = match (member.durable_us, leads, closes) {
        (None, _, _) => "no word in time",
        (_, true, true) => "leads; closed the quorum",
        (_, true, false) => "leads",
        (_, false, true) => "closed the quorum",
        (_, false, false) => "",
    };
    let of = |us: u32| if member.durable_us.is_some() { us.to_string() } else { "-".to_owned() };
    let durable = of(member.durable_us.unwrap_or_default());
    vec![member.node.to_string(), durable, of(member.queue_us), of(member.sync_us), words.to_owned()]
}

/// What ends a stage.
fn meaning(stage: Stage) -> &'static str {
    match stage {
        Stage::Decode => "it was decoded, from the wake that brought it",
        Stage::Queue => "the raft thread took it",
        Stage::Propose => "it was on its way to the log and to the followers",
        Stage::Quorum => "a majority had it on disk",
        Stage::Apply => "it was executed",
        Stage::Held => "the other nodes' times were there; only explained requests wait for them",
        Stage::Permission => "a majority had confirmed the leader, and what is shown was new enough",
        Stage::Reply => "the answer was written",
        Stage::Other(_) => "?",
    }
}

fn inside(receipt: &Receipt) -> u64 {
    receipt.stages.iter().map(|(_, us)| u64::from(*us)).sum()
}

fn as_json(did: &str, key: &[u8], explained: &Explained, round_trip: Duration) -> Value {
    let round_trip = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
    let receipt = explained.receipt.as_ref().map(receipt_as_json);
    json!({
        "ok": true, "did": did, "key": json::from_bytes(key), "revision": explained.revision.0,
        "round_trip_us": round_trip, "receipt": receipt,
    })
}

fn receipt_as_json(receipt: &Receipt) -> Value {
    let stages = receipt.stages.iter().map(|(stage, us)| (stage.name().to_owned(), json!(us)));
    let member = |member: &MemberTimes| {
        json!({
            "node": member.node.0, "durable_us": member.durable_us, "queue_us": member.queue_us, "sync_us": member.sync_us,
        })
    };
    json!({
        "node": receipt.node.0,
        "stages_us": stages.collect::<Map<_, _>>(),
        "members": receipt.members.iter().map(member).collect::<Vec<_>>(),
        "closed_by": receipt.closed_by.map(|node| node.0),
    })
}

#[cfg(test)]
mod tests {
    use protocol::{Index, NodeId};

    use super::*;

    #[test]
    fn a_receipt_says_where_the_time_went_and_who_closed_the_quorum() {
        let member = |node, durable_us| MemberTimes { node: NodeId(node), durable_us, queue_us: 20, sync_us: 700 };
        let receipt = Receipt {
            node: NodeId(1),
            stages: vec![(Stage::Decode, 12), (Stage::Quorum, 1204), (Stage::Reply, 4)],
            members: vec![member(1, Some(812)), member(2, Some(1204)), member(0, None)],
            closed_by: Some(NodeId(2)),
        };
        let round_trip = Duration::from_micros(1500);
        let explained = Explained { created: true, revision: Index(12), receipt: Some(receipt) };
        let text = as_text("created", b"k", &explained, round_trip);
        assert!(text.starts_with("created k (revision 12) in 1500 us: 1220 us in node 1, 280 us on the way"), "{text}");
        assert!(text.contains("\nquorum  1204  a majority had it on disk\n"), "{text}");
        assert!(text.contains("\n   2           1204     20   700  closed the quorum\n"), "{text}");
        assert!(text.ends_with("\n   0              -      -     -  no word in time"), "{text}");
        let none = Explained { receipt: None, ..explained };
        assert!(as_text("created", b"k", &none, round_trip).contains("in 1500 us; no receipt: "));
    }
}
