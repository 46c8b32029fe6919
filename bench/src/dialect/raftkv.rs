//! raftkv's own protocol, without sessions: what is lost is counted as failed, not repeated.

use protocol::command::Command;
use protocol::format::{negotiate, Hello, HelloReply};
use protocol::frame::{self, Frame};
use protocol::reply::{Reason, Reply, ReplyBody, Status};
use protocol::request::{Request as Frames, RequestHeader, Scan, ViewId};
use protocol::RequestId;

use super::{Answer, Broken, Dialect, Request, Step};
use crate::workload::Kind;

/// Largest frame accepted: a page of a scan or a value.
const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Request ids are slots + 1; this one is of requests whose answers nobody waits for.
const UNATTENDED: RequestId = RequestId(u64::MAX);

/// See the module.
pub(crate) struct Raftkv {
    welcome: bool,
}

impl Dialect for Raftkv {
    const VALUE_BYTES_MAX: u32 = 1024 * 1024;

    fn new() -> Self {
        Self { welcome: false }
    }

    fn greet(&mut self, out: &mut Vec<u8>) {
        Hello::client().encode(out);
    }

    fn is_ready(&self) -> bool {
        self.welcome
    }

    fn ask(&mut self, slot: u32, request: &Request<'_>, out: &mut Vec<u8>) {
        let header = RequestHeader { request: RequestId(u64::from(slot) + 1), ..RequestHeader::default() };
        let Request { kind, key, value, keys } = *request;
        let asked = match kind {
            Kind::Create => Frames::Write(Command::Put { key, value }),
            Kind::Update => Frames::Write(Command::Update { key, value }),
            Kind::Read | Kind::ReadThenUpdate => Frames::Get { key },
            Kind::Scan => {
                Frames::Scan(Scan { view: None, from: key, to: &[], limit: keys, keys_only: false, count_only: false })
            }
        };
        asked.encode(&header, out);
    }

    fn next(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Step, Broken> {
        let split = frame::split(input, FRAME_BYTES_MAX).map_err(|error| Broken(error.to_string()))?;
        let Some((frame, bytes)) = split else { return Ok(Step::More) };
        if !self.welcome {
            self.welcome(&frame)?;
            return Ok(Step::Passed { bytes });
        }
        let reply = Reply::decode(&frame).map_err(|error| Broken(error.to_string()))?;
        match reply.header.request {
            UNATTENDED => Ok(Step::Passed { bytes }),
            RequestId(0) => Err(Broken(what_was_said(&reply))),
            RequestId(id) => {
                if let Some(view) = opened_view(&reply) {
                    let header = RequestHeader { request: UNATTENDED, ..RequestHeader::default() };
                    Frames::CloseView(view).encode(&header, out);
                }
                let slot = u32::try_from(id - 1).map_err(|_| Broken("an answer to nothing that was asked".into()))?;
                Ok(Step::Answered { bytes, slot, answer: answer(&reply) })
            }
        }
    }

    fn knows(_: Kind) -> bool {
        true
    }
}

impl Raftkv {
    fn welcome(&mut self, frame: &Frame<'_>) -> Result<(), Broken> {
        match HelloReply::decode(frame) {
            Ok(HelloReply::Accepted(theirs)) if negotiate(&Hello::client(), &theirs).is_ok() => {
                self.welcome = true;
                Ok(())
            }
            Ok(HelloReply::Refused(refusal)) => Err(Broken(refusal.text)),
            _ => Err(Broken("it does not speak this protocol".into())),
        }
    }
}

/// The view that a scan's page pinned: it is given back at once.
fn opened_view(reply: &Reply<'_>) -> Option<ViewId> {
    match &reply.body {
        ReplyBody::Page(page) => page.view,
        _ => None,
    }
}

fn answer(reply: &Reply<'_>) -> Answer {
    match (reply.header.status, reply.header.reason) {
        (Status::Ok | Status::Created, _) => Answer::Done,
        (Status::NotFound, _) => Answer::Missing,
        (Status::Redirect, _) | (_, Reason::NoLeader | Reason::Stopping) => Answer::Elsewhere {
            why: what_was_said(reply),
            leader: reply.leader.map(|leader| leader.address.to_owned()),
        },
        _ => Answer::Failed(what_was_said(reply)),
    }
}

fn what_was_said(reply: &Reply<'_>) -> String {
    match (&reply.body, reply.header.reason) {
        (ReplyBody::Message(text), _) => (*text).to_owned(),
        (_, Reason::None) => reply.header.status.to_string(),
        (_, reason) => format!("{}: {reason}", reply.header.status),
    }
}

#[cfg(test)]
mod tests {
    use protocol::reply::{Effect, LeaderHint, ReplyHeader};
    use protocol::{Index, NodeId};

    use super::*;

    fn welcomed() -> Raftkv {
        let mut dialect = Raftkv::new();
        let (mut said, mut out) = (Vec::new(), Vec::new());
        dialect.greet(&mut out);
        assert!(frame::split(&out, 1024).expect("a frame").is_some() && !dialect.is_ready());
        HelloReply::Accepted(Hello::client()).encode(&mut said);
        assert_eq!(dialect.next(&said[..said.len() - 1], &mut out), Ok(Step::More));
        assert_eq!(dialect.next(&said, &mut out), Ok(Step::Passed { bytes: said.len() }));
        assert!(dialect.is_ready());
        dialect
    }

    fn reply(request: u64, status: Status, reason: Reason, leader: Option<LeaderHint<'_>>) -> Vec<u8> {
        let header =
            ReplyHeader { request: RequestId(request), status, reason, effect: Effect::None, revision: Index(0) };
        let mut bytes = Vec::new();
        Reply { header, leader, body: ReplyBody::Empty, trailer: &[] }.encode(&mut bytes);
        bytes
    }

    #[test]
    fn answers_find_their_slots_and_say_where_the_leader_is() {
        let mut dialect = welcomed();
        let mut out = Vec::new();
        let next = |dialect: &mut Raftkv, bytes: &[u8]| match dialect.next(bytes, &mut Vec::new()) {
            Ok(Step::Answered { slot, answer, .. }) => (slot, answer),
            other => panic!("{other:?}"),
        };
        dialect.ask(6, &Request { kind: Kind::Create, key: b"k", value: b"v", keys: 0 }, &mut out);
        let (frame, _) = frame::split(&out, 1024).expect("a frame").expect("whole");
        assert_eq!(Frames::id(&frame), Some(RequestId(7)));
        assert_eq!(next(&mut dialect, &reply(7, Status::Created, Reason::None, None)), (6, Answer::Done));
        assert_eq!(next(&mut dialect, &reply(1, Status::NotFound, Reason::None, None)), (0, Answer::Missing));
        let hint = LeaderHint { node: NodeId(1), address: "127.0.0.1:7410" };
        let (_, elsewhere) = next(&mut dialect, &reply(1, Status::Redirect, Reason::NotLeader, Some(hint)));
        assert!(
            matches!(&elsewhere, Answer::Elsewhere { leader: Some(leader), .. } if leader == hint.address),
            "{elsewhere:?}"
        );
        let (_, failed) = next(&mut dialect, &reply(1, Status::Exists, Reason::None, None));
        assert_eq!(failed, Answer::Failed("409 exists".to_owned()));
    }

    #[test]
    fn damage_and_strangers_break_the_connection() {
        let mut damaged = reply(1, Status::Ok, Reason::None, None);
        *damaged.last_mut().expect("not empty") ^= 1;
        assert!(welcomed().next(&damaged, &mut Vec::new()).is_err());
        assert!(welcomed().next(&reply(0, Status::TooLarge, Reason::FrameTooLarge, None), &mut Vec::new()).is_err());
        assert!(Raftkv::new().next(b"HTTP/1.1 400 Bad Request\r\n", &mut Vec::new()).is_err());
    }
}
