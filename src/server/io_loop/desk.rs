//! What one io thread does with requests: refuses, answers what it can, asks for permissions, and hands writes on. Knows
//! connections only by key.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use log::info;
use protocol::command::Command;
use protocol::error::DecodeError;
use protocol::reply::{Reason, ReplyBody, Status};
use protocol::request::{Incoming, LogLevel, ReadMode, Request as Wire, RequestHeader, ViewId};
use protocol::{Index, Kind, RequestId};

use super::replies;
use super::scan::{Built, Wanted};
use crate::kv::{Pinned, Range, Reader};
use crate::limits;
use crate::logging;
use crate::mailbox::{Batch as _, Flush, Sender};
use crate::metrics::{Counter, Recorder};
use crate::net::connections::Key;
use crate::replica::{ConnectionId, Published, ReplyTo, Request};
use crate::server::arena::Arena;
use crate::server::raft_loop::Requests;
use crate::server::receipt::{Given, What};
use crate::server::settings::Live;
use crate::server::status::StatusSource;
use crate::server::system;
use crate::time::{Span, Time};

/// Where the kind stands in a frame.
const KIND_AT: usize = 12;

/// A read on its way.
#[derive(Debug)]
pub(super) struct ReadOp {
    pub(super) connection: Key,
    pub(super) request: RequestId,
    pub(super) want: Want,
    deadline: Time,
}

impl ReadOp {
    /// Of a look-up: the key.
    pub(super) fn key(&self) -> Option<&[u8]> {
        match &self.want {
            Want::Get(key) => Some(key),
            Want::Scan(_) => None,
        }
    }

    /// Of a range.
    pub(super) fn is_scan(&self) -> bool {
        matches!(self.want, Want::Scan(_))
    }
}

/// What is to be read.
#[derive(Debug)]
pub(super) enum Want {
    Get(Bytes),
    Scan(Wanted),
}

/// What one request needs beyond its frame.
pub(super) struct Asked<'a> {
    pub(super) now: Time,
    pub(super) connection: Key,
    pub(super) out: &'a mut Vec<u8>,
}

/// What became of a request right away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Its answer is written; it holds no credit.
    Answered,
    /// Its answer comes later; it holds a credit.
    Waits,
}

pub(super) struct Desk {
    pub(super) number: u16,
    pub(super) live: Arc<Live>,
    pub(super) published: Arc<Published>,
    pub(super) source: StatusSource,
    pub(super) recorder: Recorder,
    pub(super) requests: Sender<Requests>,
    /// Requests that may still be taken (C-26).
    pub(super) credits: u32,
    /// Bytes of the commands in the batch that is being filled.
    unsent_bytes: usize,
    /// Requests in it that hold no credit.
    uncredited: usize,
    /// Keys that scans have looked at in this iteration.
    looked: u64,
    /// Small commands lie here, one behind the other, for as long as Raft keeps their entries.
    commands: Arena,
    /// And here the keys of reads, until they are answered.
    keys: Arena,
    /// Linearizable reads of this iteration; one permission will do for all of them (C-18).
    collected: Vec<ReadOp>,
    /// Reads that wait for the permission with this token.
    waiting: BTreeMap<u64, Vec<ReadOp>>,
    /// No read that waits for a permission has its deadline before this.
    read_alarm: Time,
    /// Scans that wait for a view.
    views: BTreeMap<u64, ReadOp>,
    next_token: u64,
    spare: Vec<Vec<ReadOp>>,
    /// The receipt of an answer that has come, or is about to.
    pub(super) given: Option<Given>,
    /// A collected read that wants a receipt, and when this thread woke for it.
    explained: Option<(ReplyTo, Time)>,
}

/// What a desk is made of.
pub(super) struct DeskParts {
    pub(super) number: u16,
    pub(super) live: Arc<Live>,
    pub(super) source: StatusSource,
    pub(super) recorder: Recorder,
    pub(super) requests: Sender<Requests>,
}

impl Desk {
    pub(super) fn new(parts: DeskParts) -> Desk {
        let DeskParts { number, live, source, recorder, requests } = parts;
        let credits = source.config.credits;
        Desk {
            number,
            live,
            published: source.published.clone(),
            source,
            recorder,
            requests,
            credits,
            unsent_bytes: 0,
            uncredited: 0,
            looked: 0,
            commands: Arena::default(),
            keys: Arena::default(),
            collected: Vec::new(),
            waiting: BTreeMap::new(),
            read_alarm: Time::NEVER,
            views: BTreeMap::new(),
            next_token: 0,
            spare: Vec::new(),
            given: None,
            explained: None,
        }
    }

    /// Whether the frame that begins here may be taken now: reads and writes need a credit, and writes wait while too
    /// much is uncommitted (C-26). What goes to the raft thread waits while the batch is full. Whatever else a client says
    /// costs nothing that lasts.
    pub(super) fn may_take(&self, frame: &[u8]) -> bool {
        match frame.get(KIND_AT).map(|kind| Kind::from_wire(*kind)) {
            Some(Ok(Kind::Write)) => self.credits > 0 && !self.published.paused() && !self.is_full(),
            Some(Ok(Kind::Get | Kind::SnapshotTake)) => self.credits > 0,
            Some(Ok(Kind::Scan)) => self.credits > 0 && !self.is_full() && self.may_scan(),
            Some(Ok(Kind::CloseView)) => !self.is_full(),
            _ => true,
        }
    }

    /// Takes one decoded request. The caller has seen that there is a credit.
    pub(super) fn take(&mut self, asked: Asked<'_>, incoming: &Incoming<'_>, reader: &mut Reader) -> Taken {
        self.recorder.count(Counter::Requests);
        let Incoming { header, request, command, command_checksum } = incoming;
        if let Err((status, reason, text)) = self.check(header, request) {
            replies::refused(asked.out, header.request, status, reason, text);
            return Taken::Answered;
        }
        let deadline = deadline(asked.now, header);
        match *request {
            Wire::Write(_) => {
                let reply_to = self.reply_to(asked.connection, header.request);
                let body = self.commands.keep(command);
                self.unsent_bytes += body.len();
                let RequestHeader { session, sequence, .. } = *header;
                let body_checksum = *command_checksum;
                if header.explain {
                    self.requests.batch().explain(reply_to, What::Write, asked.now);
                }
                let propose = Request::Propose { reply_to, body, body_checksum, session, sequence, deadline };
                self.requests.batch().push(propose);
            }
            Wire::Get { key } => {
                let want = Want::Get(self.keys.keep(key));
                return self.read(asked, header, want, deadline, reader);
            }
            Wire::Scan(scan) => {
                let want = Want::Scan(Wanted::new(&scan, |key| self.keys.keep(key)));
                return self.read(asked, header, want, deadline, reader);
            }
            Wire::CloseView(view) => {
                self.uncredited += 1;
                self.requests.batch().push(Request::CloseView { view });
                replies::ok(asked.out, header.request);
                return Taken::Answered;
            }
            Wire::TakeSnapshot => {
                let reply_to = self.reply_to(asked.connection, header.request);
                self.requests.batch().push(Request::TakeSnapshot { reply_to, deadline });
            }
            Wire::LogLevel(wanted) => {
                log_level(asked.out, header.request, wanted);
                return Taken::Answered;
            }
            Wire::Status => {
                let status = self.source.status(asked.now);
                let applied = status.applied_index;
                replies::body(asked.out, header.request, applied, ReplyBody::Status(Box::new(status)));
                return Taken::Answered;
            }
        }
        self.credits -= 1;
        Taken::Waits
    }

    /// The others are not kept waiting by more scans than this in one iteration.
    pub(super) fn may_scan(&self) -> bool {
        self.looked < limits::SCANNED_KEYS_PER_TURN
    }

    /// The batch holds as much as one may: the raft thread is to take it first.
    fn is_full(&self) -> bool {
        self.unsent_bytes >= limits::IO_BATCH_BYTES_MAX || self.uncredited >= limits::IO_BATCH_UNCREDITED_MAX
    }

    /// Asks for one permission for all reads of this iteration, and sends what is collected. True: the batch was full, or
    /// enough was scanned, and that is over, so that what waited for it may be taken.
    pub(super) fn send(&mut self, now: Time) -> bool {
        if let Some(deadline) = self.collected.iter().map(|read| read.deadline).max() {
            let token = self.token();
            let collected = std::mem::replace(&mut self.collected, self.spare.pop().unwrap_or_default());
            self.waiting.insert(token, collected);
            if let Some((reply_to, woken)) = self.explained.take() {
                self.requests.batch().explain(reply_to, What::Read(token), woken);
            }
            self.requests.batch().push(Request::Read { io_loop: self.number, token, deadline });
        }
        let was_full = self.is_full() || !self.may_scan();
        self.looked = 0;
        if !self.requests.batch().is_empty() {
            self.requests.batch().note_turn(now);
        }
        if self.requests.flush() != Flush::Busy {
            (self.unsent_bytes, self.uncredited) = (0, 0);
        }
        was_full && !self.is_full()
    }

    /// The reads that waited for this permission; give the vector back with [`Desk::put_back`].
    pub(super) fn permitted(&mut self, token: u64) -> Vec<ReadOp> {
        self.waiting.remove(&token).unwrap_or_default()
    }

    /// When a read that waits for its permission may be late.
    pub(super) fn read_alarm(&self) -> Time {
        self.read_alarm
    }

    /// Takes out the reads whose deadline has passed: one permission stands for all reads of an iteration, and is asked
    /// for until the latest of their deadlines (C-26: each request has its own).
    pub(super) fn late_reads(&mut self, now: Time) -> Vec<ReadOp> {
        let mut late = Vec::new();
        if now < self.read_alarm {
            return late;
        }
        for reads in self.waiting.values_mut() {
            late.extend(reads.extract_if(.., |read| read.deadline <= now));
        }
        self.read_alarm = self.waiting.values().flatten().map(|read| read.deadline).min().unwrap_or(Time::NEVER);
        late
    }

    /// The receipt of this answer as it travels; empty without one, as a rule.
    pub(super) fn receipt(&mut self, reply_to: ReplyTo) -> Vec<u8> {
        let given = self.given.take_if(|given| given.reply_to == reply_to);
        given.map_or_else(Vec::new, |given| given.into_trailer(system::now()))
    }

    /// Keeps the capacity of a vector.
    pub(super) fn put_back(&mut self, mut reads: Vec<ReadOp>) {
        reads.clear();
        if self.spare.len() < 8 {
            self.spare.push(reads);
        }
    }

    /// The scan that waited for this view.
    pub(super) fn opened(&mut self, token: u64) -> Option<ReadOp> {
        self.views.remove(&token)
    }

    /// Looks up and writes the answer, or asks for a view. `Waits`: the read goes on, with its credit.
    pub(super) fn answer(&mut self, read: ReadOp, pinned: &Pinned<'_>, out: &mut Vec<u8>) -> Taken {
        let scan = match &read.want {
            Want::Get(key) => {
                let found = pinned.get(key);
                let receipt = self.receipt(self.reply_to(read.connection, read.request));
                replies::value(out, read.request, found, pinned.applied(), &receipt);
                return Taken::Answered;
            }
            Want::Scan(scan) => scan,
        };
        if let Some(view) = scan.view {
            self.answer_view(&read, scan, view, pinned, out);
            return Taken::Answered;
        }
        let built = self.page(scan, pinned.range(&scan.from, scan.end()));
        if built.is_last() {
            replies::page(out, read.request, built.into_page(None), pinned.applied());
            return Taken::Answered;
        }
        // The permission was there, so the view needs none of its own: it shows this state or a later one.
        let token = self.token();
        let open = Request::OpenView { io_loop: self.number, token, local: true, deadline: read.deadline };
        self.requests.batch().push(open);
        self.views.insert(token, read);
        Taken::Waits
    }

    fn page<'a>(&mut self, scan: &Wanted, range: Range<'a>) -> Built<'a> {
        let mut range = range.at_most(limits::PAGE_LOOKED_KEYS_MAX);
        let built = scan.build(&mut range);
        self.looked += range.looked();
        built.ends_at(range.rest())
    }

    /// A page of an open view.
    pub(super) fn answer_view(
        &mut self,
        read: &ReadOp,
        scan: &Wanted,
        view: ViewId,
        pinned: &Pinned<'_>,
        out: &mut Vec<u8>,
    ) {
        let Some(at) = pinned.at_view(view) else {
            let text = "the view has expired; start the scan again";
            return replies::refused(out, read.request, Status::ViewExpired, Reason::None, text);
        };
        let built = self.page(scan, at.range(&scan.from, scan.end()));
        let end = if built.is_last() { Request::CloseView { view } } else { Request::TouchView { view } };
        self.uncredited += 1;
        self.requests.batch().push(end);
        replies::page(out, read.request, built.into_page(Some(view)), at.revision());
    }

    /// A read that is taken now: local ones and pages of a view are answered, the others wait for permission.
    fn read(
        &mut self,
        asked: Asked<'_>,
        header: &RequestHeader,
        want: Want,
        deadline: Time,
        reader: &mut Reader,
    ) -> Taken {
        let on_view = matches!(&want, Want::Scan(scan) if scan.view.is_some());
        let read = ReadOp { connection: asked.connection, request: header.request, want, deadline };
        let taken = if header.read_mode == ReadMode::Local || on_view {
            self.answer(read, &reader.pin(), asked.out)
        } else {
            if header.explain {
                self.explained.get_or_insert((self.reply_to(asked.connection, header.request), asked.now));
            }
            self.read_alarm = self.read_alarm.min(deadline);
            self.collected.push(read);
            Taken::Waits
        };
        if taken == Taken::Waits {
            self.credits -= 1;
        }
        taken
    }

    /// What is refused before anything is done.
    fn check(&self, header: &RequestHeader, request: &Wire<'_>) -> Result<(), (Status, Reason, &'static str)> {
        check_session(header, request)?;
        match request {
            Wire::Write(command) => self.check_command(command),
            Wire::Get { key } => self.check_key(key),
            Wire::Scan(scan) if scan.from.len().max(scan.to.len()) > self.live.key_bytes_max() => {
                Err((Status::TooLarge, Reason::KeyTooLarge, "the range's keys are longer than this server accepts"))
            }
            Wire::Scan(_) | Wire::CloseView(_) | Wire::Status | Wire::TakeSnapshot | Wire::LogLevel(_) => Ok(()),
        }
    }

    fn check_command(&self, command: &Command<'_>) -> Result<(), (Status, Reason, &'static str)> {
        let mut bytes = 0;
        for operation in command.operations() {
            self.check_key(operation.key())?;
            bytes += operation.key().len() + operation.value().len();
            if operation.value().len() > self.live.value_bytes_max() {
                return Err((Status::TooLarge, Reason::ValueTooLarge, "the value is longer than this server accepts"));
            }
        }
        if bytes > self.live.key_bytes_max() + self.live.value_bytes_max() {
            return Err((Status::TooLarge, Reason::ValueTooLarge, "the batch is longer than one key and one value"));
        }
        Ok(())
    }

    fn check_key(&self, key: &[u8]) -> Result<(), (Status, Reason, &'static str)> {
        match key.len() {
            0 => Err((Status::BadRequest, Reason::EmptyKey, "a key has at least one byte")),
            len if len > self.live.key_bytes_max() => {
                Err((Status::TooLarge, Reason::KeyTooLarge, "the key is longer than this server accepts"))
            }
            _ => Ok(()),
        }
    }

    /// Call it about once a second: memory that was not used meanwhile goes back.
    pub(super) fn settle(&mut self) {
        self.commands.settle();
        self.keys.settle();
    }

    /// Nobody is connected: what lies ready for requests goes back.
    pub(super) fn let_go(&mut self) {
        self.commands.let_go();
        self.keys.let_go();
    }

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    fn reply_to(&self, connection: Key, request: RequestId) -> ReplyTo {
        let Key { slot, generation } = connection;
        ReplyTo { io_loop: self.number, connection: ConnectionId { slot, generation }, request }
    }
}

/// A request that cannot be decoded. True: the connection may go on.
pub(super) fn undecodable(out: &mut Vec<u8>, request: Option<RequestId>, error: &DecodeError) -> bool {
    replies::refused(out, request.unwrap_or_default(), Status::BadRequest, error.reason(), &error.to_string());
    request.is_some()
}

/// Shows or changes what this node logs.
fn log_level(out: &mut Vec<u8>, request: RequestId, wanted: LogLevel<'_>) {
    let filter = match wanted {
        LogLevel::Show => Ok(logging::filter()),
        LogLevel::Reset => Ok(logging::reset_filter()),
        LogLevel::Change(directives) => logging::change_filter(directives),
    };
    match filter {
        Ok(filter) => {
            if wanted != LogLevel::Show {
                info!("a client changed what is logged: {filter}");
            }
            replies::body(out, request, Index(0), ReplyBody::Message(&filter.to_string()));
        }
        Err(error) => replies::refused(out, request, Status::BadRequest, Reason::Malformed, &error.to_string()),
    }
}

/// Only writes have a session, and there they need both of its numbers or none.
fn check_session(header: &RequestHeader, request: &Wire<'_>) -> Result<(), (Status, Reason, &'static str)> {
    let wrong = |text| Err((Status::BadRequest, Reason::Malformed, text));
    match (request, header.session.0 != 0, header.sequence.0 != 0) {
        (_, false, true) => wrong("a sequence needs a session"),
        (Wire::Write(Command::OpenSession | Command::QueryOutcome { .. }), true, _) => {
            wrong("this command belongs to no session")
        }
        (Wire::Write(Command::CloseSession | Command::KeepAlive), true, false) => Ok(()),
        (Wire::Write(Command::CloseSession | Command::KeepAlive), ..) => wrong("it needs a session, and no sequence"),
        (Wire::Write(_), true, false) => wrong("a write of a session needs a sequence"),
        (Wire::Write(_), ..) | (_, false, false) => Ok(()),
        (_, true, _) => wrong("only writes have a session"),
    }
}

/// When the client stops waiting.
fn deadline(now: Time, header: &RequestHeader) -> Time {
    let asked = match header.deadline_ms {
        0 => limits::REQUEST_DEADLINE_MS_MAX,
        ms => u64::from(ms).min(limits::REQUEST_DEADLINE_MS_MAX),
    };
    now + Span::millis(asked)
}

/// What a read that was refused is told.
pub(super) fn refused_read(
    out: &mut Vec<u8>,
    read: &ReadOp,
    reason: Reason,
    leader: Option<protocol::NodeId>,
    published: &Published,
) {
    // A read is never redirected: any node can answer it once there is a leader.
    let reason = if reason == Reason::NotLeader { Reason::NoLeader } else { reason };
    replies::not_executed(out, read.request, reason, leader, published);
}

/// Nothing is shown that is older than the permission (C-18).
pub(super) fn assert_permitted(pinned: &Pinned<'_>, index: Index) {
    assert!(pinned.applied() >= index, "a read was permitted at {index}, but only {} is published", pinned.applied());
}
