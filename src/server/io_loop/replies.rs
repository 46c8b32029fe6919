//! Answers in the protocol's words.

use protocol::reply::{
    Answer, Effect, LeaderHint, Page, Reason, Reply, ReplyBody, ReplyHeader, Status, TakenSnapshot, Versioned,
};
use protocol::{Index, NodeId, RequestId};

use crate::kv::Executed;
use crate::replica::{Published, SnapshotFile, WriteResult};

/// An answer without a value.
struct Plain<'a> {
    status: Status,
    reason: Reason,
    effect: Effect,
    revision: Index,
    leader: Option<LeaderHint<'a>>,
    text: &'a str,
}

/// The end of a write.
pub(super) fn write(
    out: &mut Vec<u8>,
    request: RequestId,
    result: &WriteResult,
    published: &Published,
    receipt: &[u8],
) {
    match *result {
        WriteResult::Done(outcome, revision) => done(out, request, Executed { outcome, revision }, receipt),
        WriteResult::Fate(fate, revision) => body(out, request, revision, ReplyBody::Fate(fate.into())),
        WriteResult::NotExecuted { reason, leader } => not_executed(out, request, reason, leader, published),
        WriteResult::Unknown { reason } => {
            let text = match reason {
                Reason::LeaderChanged => "the leader changed while the request was under way; it may have taken effect",
                _ => "the deadline passed before a majority had confirmed the request; it may have taken effect",
            };
            let plain = Plain { reason, effect: Effect::Unknown, text, ..Plain::of(Status::Unknown) };
            plain.encode(out, request);
        }
    }
}

fn done(out: &mut Vec<u8>, request: RequestId, executed: Executed, receipt: &[u8]) {
    let Answer { status, reason, effect, revision, .. } = executed.answer();
    let header = ReplyHeader { request, status, reason, effect, revision };
    Reply { header, leader: None, body: executed.body(), trailer: receipt }.encode(out);
}

/// Certainly not executed: a redirect if somebody else leads, else 503.
pub(super) fn not_executed(
    out: &mut Vec<u8>,
    request: RequestId,
    reason: Reason,
    leader: Option<NodeId>,
    published: &Published,
) {
    let address = leader.and_then(|node| published.client_address(node));
    let hint = leader.zip(address.as_deref()).map(|(node, address)| LeaderHint { node, address });
    let status = if reason == Reason::NotLeader && hint.is_some() { Status::Redirect } else { Status::NotExecuted };
    let text = match reason {
        Reason::NotLeader => "this node is not the leader",
        Reason::NoLeader => "no leader is known: an election is under way, or no majority is reachable",
        Reason::Forming => "the cluster is not formed yet: not all of its nodes have met",
        Reason::Replaced => "another leader's entry was committed in its place",
        Reason::Deadline => "the deadline passed before the request could begin",
        Reason::Overload => "too much is waiting",
        Reason::Stopping => "the server is stopping",
        _ => "the request was not executed",
    };
    Plain { reason, leader: hint, text, ..Plain::of(status) }.encode(out, request);
}

/// The request is refused before anything is done.
pub(super) fn refused(out: &mut Vec<u8>, request: RequestId, status: Status, reason: Reason, text: &str) {
    Plain { reason, text, ..Plain::of(status) }.encode(out, request);
}

/// Done, and there is nothing more to say.
pub(super) fn ok(out: &mut Vec<u8>, request: RequestId) {
    Plain::of(Status::Ok).encode(out, request);
}

/// A key's value as of `applied`.
pub(super) fn value(
    out: &mut Vec<u8>,
    request: RequestId,
    found: Option<Versioned<'_>>,
    applied: Index,
    receipt: &[u8],
) {
    let Some(found) = found else {
        return Plain { revision: applied, ..Plain::of(Status::NotFound) }.encode(out, request);
    };
    with_body(out, request, applied, ReplyBody::Value(found), receipt);
}

/// A page of a scan as of `revision`.
pub(super) fn page(out: &mut Vec<u8>, request: RequestId, page: Page<'_>, revision: Index) {
    body(out, request, revision, ReplyBody::Page(page));
}

/// A snapshot was taken, or why not.
pub(super) fn snapshot(
    out: &mut Vec<u8>,
    request: RequestId,
    node: NodeId,
    result: Result<SnapshotFile, Reason>,
    published: &Published,
) {
    match result {
        Ok(SnapshotFile { position, bytes }) => {
            let taken = TakenSnapshot { node, last: position.id, bytes };
            body(out, request, position.id.index, ReplyBody::Snapshot(taken));
        }
        Err(reason) => not_executed(out, request, reason, None, published),
    }
}

/// 200 with a body.
pub(super) fn body(out: &mut Vec<u8>, request: RequestId, revision: Index, body: ReplyBody<'_>) {
    with_body(out, request, revision, body, &[]);
}

fn with_body(out: &mut Vec<u8>, request: RequestId, revision: Index, body: ReplyBody<'_>, trailer: &[u8]) {
    let header = ReplyHeader { request, status: Status::Ok, reason: Reason::None, effect: Effect::None, revision };
    Reply { header, leader: None, body, trailer }.encode(out);
}

impl<'a> Plain<'a> {
    fn of(status: Status) -> Plain<'a> {
        Plain { status, reason: Reason::None, effect: Effect::None, revision: Index(0), leader: None, text: "" }
    }

    fn encode(self, out: &mut Vec<u8>, request: RequestId) {
        let Plain { status, reason, effect, revision, leader, text } = self;
        let header = ReplyHeader { request, status, reason, effect, revision };
        let body = if text.is_empty() { ReplyBody::Empty } else { ReplyBody::Message(text) };
        Reply { header, leader, body, trailer: &[] }.encode(out);
    }
}
