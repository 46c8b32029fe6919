//! A node's side of its clients: what an io loop does, without sockets. The codec, the credits' rules (C-26) and the reader
//! are the real ones.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use protocol::reply::{Effect, Item, LeaderHint, Page, Reason, Reply, ReplyBody, ReplyHeader, Status};
use protocol::request::{Request as ClientRequest, RequestHeader, ViewId};
use protocol::{split, Index, NodeId, RequestId};
use raftkv::kv::{Executed, Reader};
use raftkv::replica::{Completion, ConnectionId, Published, ReplyTo, Request, WriteResult};
use raftkv::time::{Span, Time};

use crate::oracle::violated;

/// Generous: the simulator's frames are small.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// The deadline of a request that names none.
const DEADLINE_MAX: Span = Span::secs(10);

pub struct IoLoop {
    /// The generation of each slot in use.
    open: BTreeMap<u32, u32>,
    generation: u32,
    credits: u32,
    credits_max: u32,
    /// Bytes that nobody reads because there is no credit: first come, first served.
    unread: VecDeque<(ConnectionId, Vec<u8>)>,
    reads: BTreeMap<u64, Get>,
    /// Scans that wait for their view.
    scans: BTreeMap<u64, Scan>,
    /// What the loop itself asks: views to touch and to close.
    asks: Vec<Request>,
    tokens: u64,
    reader: Reader,
}

struct Get {
    reply_to: ReplyTo,
    key: Vec<u8>,
}

#[derive(Clone)]
struct Scan {
    reply_to: ReplyTo,
    from: Vec<u8>,
    limit: usize,
}

/// An encoded reply on its way out.
pub struct Outgoing {
    pub connection: ConnectionId,
    pub frame: Vec<u8>,
}

impl std::fmt::Debug for IoLoop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let reads: Vec<u64> = self.reads.keys().copied().collect();
        write!(f, "{} of {} credits, reads {reads:?}, {} unread", self.credits, self.credits_max, self.unread.len())
    }
}

impl IoLoop {
    pub fn new(reader: Reader, credits: u32) -> Self {
        Self {
            open: BTreeMap::new(),
            generation: 0,
            credits,
            credits_max: credits,
            unread: VecDeque::new(),
            reads: BTreeMap::new(),
            scans: BTreeMap::new(),
            asks: Vec::new(),
            tokens: 0,
            reader,
        }
    }

    pub fn accept(&mut self) -> ConnectionId {
        self.generation += 1;
        // Slots are used again as soon as they are free: late completions must not reach the new connection.
        let slot = (0..).find(|slot| !self.open.contains_key(slot)).expect("connections are few");
        self.open.insert(slot, self.generation);
        ConnectionId { slot, generation: self.generation }
    }

    pub fn close(&mut self, connection: ConnectionId) {
        if self.open.get(&connection.slot) == Some(&connection.generation) {
            self.open.remove(&connection.slot);
        }
    }

    pub fn is_open(&self, connection: ConnectionId) -> bool {
        self.open.get(&connection.slot) == Some(&connection.generation)
    }

    pub fn has_all_credits(&self) -> bool {
        self.credits == self.credits_max
    }

    /// Whether there is something to read and a credit to read it with.
    pub fn wants_to_run(&self, published: &Published) -> bool {
        !self.asks.is_empty() || (self.credits > 0 && !self.unread.is_empty() && !published.paused())
    }

    pub fn receive(&mut self, connection: ConnectionId, frame: Vec<u8>) {
        self.unread.push_back((connection, frame));
    }

    /// Decodes what there are credits for.
    pub fn requests(&mut self, now: Time, published: &Published, out: &mut Vec<Outgoing>) -> Vec<Request> {
        let mut requests = Vec::new();
        while self.credits > 0 && !published.paused() {
            let Some((connection, frame)) = self.unread.pop_front() else { break };
            if self.is_open(connection) {
                self.credits -= 1;
                requests.extend(self.decode(now, connection, &frame, out));
            }
        }
        requests.append(&mut self.asks);
        requests
    }

    /// What is to be asked of the replica; none if the answer is here.
    fn decode(
        &mut self,
        now: Time,
        connection: ConnectionId,
        bytes: &[u8],
        out: &mut Vec<Outgoing>,
    ) -> Option<Request> {
        let (frame, _) = split(bytes, FRAME_BYTES_MAX).expect("undamaged").expect("whole");
        let incoming = ClientRequest::decode(&frame).expect("the client sends what the server understands");
        let RequestHeader { request, session, sequence, deadline_ms, .. } = incoming.header;
        let span = Span::millis(u64::from(deadline_ms));
        let deadline = now + if span == Span::ZERO { DEADLINE_MAX } else { span };
        let reply_to = ReplyTo { io_loop: 0, connection, request };
        Some(match incoming.request {
            ClientRequest::Write(_) => Request::Propose {
                reply_to,
                body: Bytes::copy_from_slice(incoming.command),
                body_checksum: incoming.command_checksum,
                session,
                sequence,
                deadline,
            },
            ClientRequest::Get { key } => {
                self.tokens += 1;
                self.reads.insert(self.tokens, Get { reply_to, key: key.to_vec() });
                Request::Read { io_loop: 0, token: self.tokens, deadline }
            }
            ClientRequest::Scan(ask) => {
                let scan = Scan { reply_to, from: ask.from.to_vec(), limit: ask.limit as usize };
                if let Some(view) = ask.view {
                    self.give_back(1);
                    self.asks.push(Request::TouchView { view });
                    self.page(&scan, view, out);
                    return None;
                }
                self.tokens += 1;
                self.scans.insert(self.tokens, scan);
                Request::OpenView { io_loop: 0, token: self.tokens, local: false, deadline }
            }
            other => panic!("the simulator's clients do not ask {other:?}"),
        })
    }

    pub fn complete(&mut self, completion: Completion, published: &Published, out: &mut Vec<Outgoing>) {
        match completion {
            Completion::Credit(credits) => self.give_back(credits),
            Completion::Snapshot { .. } => unreachable!("no client asks for a snapshot"),
            Completion::View { token, result } => {
                self.give_back(1);
                let scan = self.scans.remove(&token).expect("each view is answered once");
                match result {
                    Ok(view) => self.page(&scan, view, out),
                    Err((reason, leader)) => {
                        let request = scan.reply_to.request;
                        let header = header(request, Status::NotExecuted, reason, Effect::None, Index(0));
                        self.reply(scan.reply_to, header, leader, ReplyBody::Empty, published, out);
                    }
                }
            }
            Completion::Write { reply_to, result, credit } => {
                if credit {
                    self.give_back(1);
                }
                self.reply(
                    reply_to,
                    written(reply_to.request, result),
                    leader_of(result),
                    brought(result),
                    published,
                    out,
                );
            }
            Completion::Read { token, result } => {
                self.give_back(1);
                let get = self.reads.remove(&token).expect("each read is answered once");
                match result {
                    Ok(index) => self.look_up(&get, index, published, out),
                    Err((reason, leader)) => {
                        let header = header(get.reply_to.request, Status::NotExecuted, reason, Effect::None, Index(0));
                        self.reply(get.reply_to, header, leader, ReplyBody::Empty, published, out);
                    }
                }
            }
        }
    }

    fn look_up(&mut self, get: &Get, index: Index, published: &Published, out: &mut Vec<Outgoing>) {
        let request = get.reply_to.request;
        let pinned = self.reader.pin();
        let applied = pinned.applied();
        assert!(applied >= index, "C-18: permitted at {index}, but only {applied} is published");
        let mut frame = Vec::new();
        match pinned.get(&get.key) {
            Some(found) => {
                let value = found;
                let header = header(request, Status::Ok, Reason::None, Effect::None, applied);
                Reply { header, leader: None, body: ReplyBody::Value(value), trailer: &[] }.encode(&mut frame);
            }
            None => {
                let header = header(request, Status::NotFound, Reason::None, Effect::None, applied);
                Reply { header, leader: None, body: ReplyBody::Empty, trailer: &[] }.encode(&mut frame);
            }
        }
        drop(pinned);
        let _ = published;
        self.send(get.reply_to.connection, frame, out);
    }

    /// One page of a view. The view ends with its last page, or with its client.
    fn page(&mut self, scan: &Scan, view: ViewId, out: &mut Vec<Outgoing>) {
        let request = scan.reply_to.request;
        let mut frame = Vec::new();
        let pinned = self.reader.pin();
        let mut ends = true;
        match pinned.at_view(view) {
            Some(pinned) => {
                let mut range = pinned.range(&scan.from, None);
                let items: Vec<Item<'_>> = range.by_ref().take(scan.limit).collect();
                let next = range.next();
                ends = next.is_none();
                let page = Page {
                    view: (!ends).then_some(view),
                    count: items.len() as u64,
                    items,
                    resume: next.as_ref().map_or(&[], |item| item.key),
                };
                let header = header(request, Status::Ok, Reason::None, Effect::None, view.revision);
                Reply { header, leader: None, body: ReplyBody::Page(page), trailer: &[] }.encode(&mut frame);
            }
            None => {
                let header = header(request, Status::ViewExpired, Reason::None, Effect::None, Index(0));
                Reply { header, leader: None, body: ReplyBody::Empty, trailer: &[] }.encode(&mut frame);
            }
        }
        drop(pinned);
        if ends || !self.is_open(scan.reply_to.connection) {
            self.asks.push(Request::CloseView { view });
        }
        self.send(scan.reply_to.connection, frame, out);
    }

    fn reply(
        &self,
        reply_to: ReplyTo,
        header: ReplyHeader,
        leader: Option<NodeId>,
        body: ReplyBody<'_>,
        published: &Published,
        out: &mut Vec<Outgoing>,
    ) {
        let address = leader.and_then(|id| published.client_address(id));
        let hint = leader.zip(address.as_deref()).map(|(node, address)| LeaderHint { node, address });
        let mut frame = Vec::new();
        Reply { header, leader: hint, body, trailer: &[] }.encode(&mut frame);
        self.send(reply_to.connection, frame, out);
    }

    fn send(&self, connection: ConnectionId, frame: Vec<u8>, out: &mut Vec<Outgoing>) {
        if self.is_open(connection) {
            out.push(Outgoing { connection, frame });
        }
    }

    fn give_back(&mut self, credits: u32) {
        self.credits += credits;
        if self.credits > self.credits_max {
            violated("C-26: a credit comes back once", u32::MAX, format!("{} of {}", self.credits, self.credits_max));
        }
    }
}

fn header(request: RequestId, status: Status, reason: Reason, effect: Effect, revision: Index) -> ReplyHeader {
    ReplyHeader { request, status, reason, effect, revision }
}

fn written(request: RequestId, result: WriteResult) -> ReplyHeader {
    match result {
        WriteResult::Done(outcome, revision) => {
            let answer = Executed { outcome, revision }.answer();
            header(request, answer.status, answer.reason, answer.effect, answer.revision)
        }
        WriteResult::Fate(_, revision) => header(request, Status::Ok, Reason::None, Effect::None, revision),
        WriteResult::NotExecuted { reason: Reason::NotLeader, leader: Some(_) } => {
            header(request, Status::Redirect, Reason::NotLeader, Effect::None, Index(0))
        }
        WriteResult::NotExecuted { reason, .. } => header(request, Status::NotExecuted, reason, Effect::None, Index(0)),
        WriteResult::Unknown { reason } => header(request, Status::Unknown, reason, Effect::Unknown, Index(0)),
    }
}

fn brought(result: WriteResult) -> ReplyBody<'static> {
    match result {
        WriteResult::Done(outcome, revision) => Executed { outcome, revision }.body(),
        WriteResult::Fate(fate, _) => ReplyBody::Fate(fate.into()),
        WriteResult::NotExecuted { .. } | WriteResult::Unknown { .. } => ReplyBody::Empty,
    }
}

fn leader_of(result: WriteResult) -> Option<NodeId> {
    match result {
        WriteResult::NotExecuted { leader, .. } => leader,
        _ => None,
    }
}
