//! An io loop's clients: reading, pausing, answering, sending, and losing patience.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use log::debug;
use mio::net::TcpStream;
use protocol::format::{negotiate, Hello, HelloReply, Purpose, Refusal};
use protocol::reply::{Reason, Status};
use protocol::request::Request as Wire;
use protocol::{ClusterId, Frame, FrameError, Incarnation, RequestId};

use super::desk::{self, Asked, ReadOp, Taken, Want};
use super::{replies, IoLoop};
use crate::limits;
use crate::metrics::Counter;
use crate::net::connection::{Connection, Filled};
use crate::net::connections::Key;
use crate::replica::{Completion, ReplyTo};
use crate::time::{Span, Time};

/// One client.
pub(super) struct Client {
    pub(super) connection: Connection,
    stage: Stage,
    /// Requests whose answers are not written.
    in_flight: u32,
    /// Reads that are permitted and wait for room among the unsent replies; each holds a credit.
    pub(super) postponed: VecDeque<ReadOp>,
    /// It is in the list of readable connections.
    pub(super) is_readable: bool,
    /// It is in the list of connections with replies.
    pub(super) is_unsent: bool,
    /// Bytes that its replies hold, as counted among those of its loop.
    pub(super) counted: usize,
    /// It is in the FIFO of paused connections.
    is_paused: bool,
    /// It waits there for a buffer, and may hold a smaller one: its patience runs on, or those that wait for each other's
    /// buffers would wait for ever.
    is_starved: bool,
    /// The poll has told of its end, or of an error: it is read until that is seen, since no other event follows.
    pub(super) ends: bool,
    /// It will send nothing more.
    read_closed: bool,
    /// When the HELLO, or the frame that has begun, must be complete.
    patience_end: Time,
    /// When some of the unsent replies must have been taken.
    silence_end: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The HELLO is missing.
    Greeting,
    /// Requests are welcome.
    Open,
    /// Nothing more is read; closed when everything is sent.
    Closing,
}

/// Why the frames of a connection were not all taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopped {
    /// All were.
    No,
    /// It waits in the FIFO.
    Paused,
    /// The others have their turn; it is in the list of readable connections.
    Turn,
    /// It is closed or about to be.
    Ended,
}

impl Client {
    pub(super) fn new(now: Time, stream: TcpStream) -> Client {
        Client {
            connection: Connection::new(stream),
            stage: Stage::Greeting,
            in_flight: 0,
            postponed: VecDeque::new(),
            is_readable: false,
            is_unsent: false,
            counted: 0,
            is_paused: false,
            is_starved: false,
            ends: false,
            read_closed: false,
            patience_end: now + Span::millis(limits::CLIENT_PATIENCE_MS),
            silence_end: Time::NEVER,
        }
    }

    /// An answer is missing or not sent.
    pub(super) fn is_owed_something(&self) -> bool {
        self.in_flight > 0 || self.connection.outgoing.unsent() > 0
    }

    /// There is no buffer for what it sends: a frame that has begun must be complete in time all the same.
    fn starve(&mut self, now: Time) {
        self.is_starved = true;
        if self.patience_end == Time::NEVER && !self.connection.incoming.untaken().is_empty() {
            self.patience_end = now + Span::millis(limits::CLIENT_PATIENCE_MS);
        }
    }

    /// It has used up its patience, or takes none of its replies; that ends sooner while others wait for it.
    fn is_late(&self, now: Time, others_wait: bool) -> bool {
        let waits_for_us = self.is_paused && !self.is_starved;
        let cut_short = limits::CLIENT_SILENCE_MS - limits::CLIENT_SILENCE_SPENT_MS;
        let silence_end_before = if others_wait { now + Span::millis(cut_short) } else { now };
        self.patience_end <= now && !waits_for_us || self.silence_end <= silence_end_before
    }

    /// `is_spent`: the loop's clients owe it too much already.
    fn has_room(&self, is_spent: bool) -> bool {
        !is_spent && self.postponed.is_empty() && self.connection.outgoing.unsent() < limits::CLIENT_OUT_BYTES_MAX
    }

    /// It has taken all its replies, and others have not: no event tells when its postponed reads may go on.
    fn waits_for_others(&self) -> bool {
        !self.postponed.is_empty() && self.connection.outgoing.unsent() == 0
    }

    /// Everything it asked for is answered and sent, and nothing more will come.
    fn is_done(&self) -> bool {
        (self.read_closed || self.stage == Stage::Closing) && !self.is_owed_something()
    }
}

impl IoLoop {
    pub(super) fn read_clients(&mut self, now: Time) {
        // Those that become readable meanwhile go behind them: their turn is the next one.
        let readable = self.readable.len();
        for position in 0..readable {
            let key = self.readable[position];
            if let Some(client) = self.clients.get_mut(key) {
                client.is_readable = false;
                self.read_client(now, key);
            }
        }
        self.readable.drain(..readable);
    }

    /// Lets paused connections go on, in their order: first what is buffered, then the socket.
    pub(super) fn resume_paused(&mut self, now: Time) {
        self.resumable = false;
        self.resuming = true;
        for _ in 0..self.paused.len() {
            let Some(key) = self.paused.pop_front() else { break };
            let Some(client) = self.clients.get_mut(key) else { continue };
            if client.waits_for_others() {
                self.unsent.note(key, client); // answers if there is room now
                self.paused.push_back(key);
                continue;
            }
            (client.is_paused, client.is_starved) = (false, false);
            self.read_client(now, key);
        }
        self.resuming = false;
    }

    /// Takes frames and reads the socket, in turns with the others.
    fn read_client(&mut self, now: Time, key: Key) {
        let mut left = limits::CLIENT_FRAMES_PER_TURN;
        for _ in 0..limits::CLIENT_READS_PER_TURN {
            if self.take_frames(now, key, &mut left) != Stopped::No {
                return;
            }
            let Some(client) = self.clients.get_mut(key) else { return };
            match client.connection.fill(&mut self.buffers, self.frame_bytes_max) {
                Ok(Filled::Some) => {}
                Ok(Filled::SomeAndDrained) if client.ends => {}
                Ok(Filled::SomeAndDrained) => {
                    if self.take_frames(now, key, &mut left) == Stopped::No {
                        self.drained(now, key);
                    }
                    return;
                }
                Ok(Filled::Drained) => return self.drained(now, key),
                Ok(Filled::Closed) => {
                    client.read_closed = true;
                    return self.close_if_done(key);
                }
                Ok(Filled::NoBuffer) => {
                    client.starve(now);
                    return self.pause(key, Counter::BuffersPaused);
                }
                Err(error) => {
                    debug!("lost a client: {error}");
                    return self.close(key);
                }
            }
        }
        if self.take_frames(now, key, &mut left) == Stopped::No {
            self.note_readable(key);
        }
    }

    /// The socket is empty: an idle connection holds no buffer, one that has begun a frame must go on.
    fn drained(&mut self, now: Time, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.connection.incoming.release(&mut self.buffers);
        if client.stage == Stage::Greeting {
            return;
        }
        if client.connection.incoming.untaken().is_empty() {
            client.patience_end = Time::NEVER;
        } else if client.patience_end == Time::NEVER {
            client.patience_end = now + Span::millis(limits::CLIENT_PATIENCE_MS);
        }
    }

    /// At most `left` of what is buffered.
    fn take_frames(&mut self, now: Time, key: Key, left: &mut u32) -> Stopped {
        loop {
            let Some(client) = self.clients.get_mut(key) else { return Stopped::Ended };
            if client.stage == Stage::Closing {
                return Stopped::Ended;
            }
            if client.connection.incoming.untaken().is_empty() {
                return Stopped::No;
            }
            if *left == 0 {
                self.note_readable(key);
                return Stopped::Turn;
            }
            if !client.has_room(self.unsent.is_spent()) || !self.desk.may_take(client.connection.incoming.untaken()) {
                self.pause(key, Counter::CreditsPaused);
                return Stopped::Paused;
            }
            let Connection { incoming, outgoing, .. } = &mut client.connection;
            if client.stage == Stage::Greeting && Hello::recognise(incoming.untaken()).is_err() {
                self.desk.recorder.count(Counter::ClientConnectionsRefused);
                self.close(key);
                return Stopped::Ended;
            }
            let frame_bytes_max = match client.stage {
                Stage::Greeting => Hello::FRAME_BYTES_MAX,
                _ => self.frame_bytes_max,
            };
            let before = outgoing.unsent();
            match incoming.next_frame(frame_bytes_max) {
                Ok(None) => return Stopped::No,
                Err(error) => {
                    self.refuse_frame(key, &error);
                    return Stopped::Ended;
                }
                Ok(Some(frame)) => {
                    *left -= 1;
                    client.patience_end = Time::NEVER;
                    let out = outgoing.out();
                    client.stage = match client.stage {
                        Stage::Greeting => greet(out, &frame, self.desk.published.cluster()),
                        stage => match Wire::decode(&frame) {
                            Ok(request) => {
                                let asked = Asked { now, connection: key, out };
                                if self.desk.take(asked, &request, &mut self.reader) == Taken::Waits {
                                    client.in_flight += 1;
                                }
                                stage
                            }
                            Err(error) if desk::undecodable(out, Wire::id(&frame), &error) => stage,
                            Err(_) => Stage::Closing,
                        },
                    };
                }
            }
            // One that is refused without a word has nothing to send, and is closed where that shows: no event would end it.
            if outgoing.unsent() > before || client.stage == Stage::Closing {
                self.note_unsent(key);
            }
        }
    }

    /// The stream can no longer be cut into frames: say why, and close.
    fn refuse_frame(&mut self, key: Key, error: &FrameError) {
        self.desk.recorder.count(Counter::ClientConnectionsRefused);
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.stage == Stage::Greeting {
            return self.close(key);
        }
        let request = Wire::id_of_prefix(client.connection.incoming.untaken()).unwrap_or(RequestId(0));
        let status = if error.reason() == Reason::FrameTooLarge { Status::TooLarge } else { Status::BadRequest };
        replies::refused(client.connection.outgoing.out(), request, status, error.reason(), &error.to_string());
        client.stage = Stage::Closing;
        self.note_unsent(key);
    }

    /// Into the FIFO; counted when it is not there already.
    fn pause(&mut self, key: Key, why: Counter) {
        if !self.resuming {
            self.desk.recorder.count(why);
        }
        let Some(client) = self.clients.get_mut(key) else { return };
        if !std::mem::replace(&mut client.is_paused, true) {
            self.paused.push_back(key);
        }
    }

    /// Answers from the raft thread.
    pub(super) fn take_completions(&mut self) {
        let mut taken = std::mem::take(&mut self.taken);
        while let Some(mut batch) = self.completions.take() {
            taken.append(&mut batch.completions);
            self.desk.given = batch.given.take().or(self.desk.given.take());
        }
        let credits = self.desk.credits;
        for completion in taken.drain(..) {
            match completion {
                Completion::Write { reply_to, result, credit } => {
                    self.desk.credits += u32::from(credit);
                    let ReplyTo { connection, request, .. } = reply_to;
                    let key = Key { slot: connection.slot, generation: connection.generation };
                    if let Some(client) = self.clients.get_mut(key) {
                        client.in_flight -= 1;
                        let receipt = self.desk.receipt(reply_to);
                        let out = client.connection.outgoing.out();
                        replies::write(out, request, &result, &self.desk.published, &receipt);
                        self.note_unsent(key);
                    }
                }
                Completion::Credit(credits) => self.desk.credits += credits,
                Completion::Read { token, result: Ok(index) } => self.answer_reads(token, index),
                Completion::Read { token, result: Err((reason, leader)) } => {
                    let mut reads = self.desk.permitted(token);
                    for read in reads.drain(..) {
                        self.refuse_read(&read, reason, leader);
                    }
                    self.desk.put_back(reads);
                }
                Completion::Snapshot { reply_to, result } => {
                    self.desk.credits += 1;
                    let ReplyTo { connection, request, .. } = reply_to;
                    let key = Key { slot: connection.slot, generation: connection.generation };
                    if let Some(client) = self.clients.get_mut(key) {
                        client.in_flight -= 1;
                        let out = client.connection.outgoing.out();
                        replies::snapshot(out, request, self.desk.source.config.id, result, &self.desk.published);
                        self.note_unsent(key);
                    }
                }
                Completion::View { token, result } => {
                    if let Some(read) = self.desk.opened(token) {
                        self.answer_scan(read, result);
                    }
                }
            }
        }
        self.taken = taken;
        self.resumable |= self.desk.credits > credits && !self.paused.is_empty();
    }

    /// Answers all reads of a permission at one pinned state; a client that has not taken its earlier replies gets its
    /// answer when it has.
    fn answer_reads(&mut self, token: u64, index: protocol::Index) {
        let mut reads = self.desk.permitted(token);
        let IoLoop { reader, clients, desk, unsent, .. } = self;
        let pinned = reader.pin();
        desk::assert_permitted(&pinned, index);
        pinned.warm(reads.iter().filter_map(ReadOp::key));
        for read in reads.drain(..) {
            let key = read.connection;
            let Some(client) = clients.get_mut(key) else {
                desk.credits += 1;
                continue;
            };
            let is_enough = read.is_scan() && !desk.may_scan();
            if is_enough || !client.has_room(unsent.is_spent()) {
                client.postponed.push_back(read);
                if is_enough || client.waits_for_others() {
                    unsent.note(key, client);
                }
                continue;
            }
            if desk.answer(read, &pinned, client.connection.outgoing.out()) == Taken::Answered {
                client.in_flight -= 1;
                desk.credits += 1;
                unsent.note(key, client);
            }
        }
        drop(pinned);
        self.desk.put_back(reads);
    }

    pub(super) fn refuse_late_reads(&mut self, now: Time) {
        for read in self.desk.late_reads(now) {
            let reason = if self.desk.published.leader().is_some() { Reason::Deadline } else { Reason::NoLeader };
            self.refuse_read(&read, reason, None);
        }
    }

    fn refuse_read(&mut self, read: &ReadOp, reason: Reason, leader: Option<protocol::NodeId>) {
        self.desk.credits += 1;
        let Some(client) = self.clients.get_mut(read.connection) else { return };
        client.in_flight -= 1;
        desk::refused_read(client.connection.outgoing.out(), read, reason, leader, &self.desk.published);
        self.note_unsent(read.connection);
    }

    /// The first page of a scan whose view is open now.
    fn answer_scan(
        &mut self,
        read: ReadOp,
        result: Result<protocol::request::ViewId, (Reason, Option<protocol::NodeId>)>,
    ) {
        let view = match result {
            Ok(view) => view,
            Err((reason, leader)) => return self.refuse_read(&read, reason, leader),
        };
        self.desk.credits += 1;
        let Some(client) = self.clients.get_mut(read.connection) else {
            return self.desk.requests.batch().push(crate::replica::Request::CloseView { view });
        };
        client.in_flight -= 1;
        if let Want::Scan(scan) = &read.want {
            let out = client.connection.outgoing.out();
            self.desk.answer_view(&read, scan, view, &self.reader.pin(), out);
        }
        self.note_unsent(read.connection);
    }

    /// One write for every connection with replies; what was postponed follows as there is room.
    pub(super) fn flush_clients(&mut self, now: Time) {
        let was_spent = self.unsent.is_spent();
        let mut keys = std::mem::take(&mut self.unsent.keys);
        for key in keys.drain(..) {
            self.flush_client(now, key);
        }
        // What was noted meanwhile has its turn in the next iteration; the capacity stays.
        keys.append(&mut self.unsent.keys);
        self.unsent.keys = keys;
        self.resumable |= was_spent && !self.unsent.is_spent() && !self.paused.is_empty();
    }

    fn flush_client(&mut self, now: Time, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.is_unsent = false;
        if !self.send_replies(now, key) {
            return;
        }
        if self.owes_postponed(key) {
            if self.unsent.is_spent() {
                return self.pause(key, Counter::CreditsPaused);
            }
            self.answer_postponed(key);
            if !self.send_replies(now, key) {
                return;
            }
            if self.owes_postponed(key) {
                // However fast it reads, the others have their turn before it gets more.
                return self.note_unsent(key);
            }
        }
        if self.clients.get_mut(key).is_some_and(|client| client.is_paused) {
            self.resumable = true;
        }
        self.close_if_done(key);
    }

    /// Sends what the socket takes. True: nothing is left; false: the connection goes on when its socket is writable, or is
    /// closed.
    fn send_replies(&mut self, now: Time, key: Key) -> bool {
        let Some(client) = self.clients.get_mut(key) else { return false };
        let before = client.connection.outgoing.unsent();
        let flushed = client.connection.flush();
        self.unsent.count(client);
        match flushed {
            Ok(true) => {
                client.silence_end = Time::NEVER;
                true
            }
            Ok(false) => {
                if client.silence_end == Time::NEVER || client.connection.outgoing.unsent() < before {
                    client.silence_end = now + Span::millis(limits::CLIENT_SILENCE_MS);
                }
                false
            }
            Err(error) => {
                debug!("lost a client: {error}");
                self.close(key);
                false
            }
        }
    }

    fn owes_postponed(&mut self, key: Key) -> bool {
        self.clients.get_mut(key).is_some_and(|client| !client.postponed.is_empty())
    }

    /// As `answer_reads`, for the first of those that were postponed: as many as there is room for, and as one turn may have.
    fn answer_postponed(&mut self, key: Key) {
        let IoLoop { reader, clients, desk, .. } = self;
        let Some(client) = clients.get_mut(key) else { return };
        let pinned = reader.pin();
        for _ in 0..limits::CLIENT_POSTPONED_PER_TURN {
            let is_enough = client.postponed.front().is_some_and(ReadOp::is_scan) && !desk.may_scan();
            if is_enough || client.connection.outgoing.unsent() >= limits::CLIENT_OUT_BYTES_MAX {
                break;
            }
            let Some(read) = client.postponed.pop_front() else { break };
            if desk.answer(read, &pinned, client.connection.outgoing.out()) == Taken::Answered {
                client.in_flight -= 1;
                desk.credits += 1;
            }
        }
    }

    fn close_if_done(&mut self, key: Key) {
        if self.clients.get_mut(key).is_some_and(|client| client.is_done()) {
            self.close(key);
        }
    }

    /// Once a second: closes connections that have used up their patience.
    pub(super) fn sweep(&mut self, now: Time) {
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + Span::millis(limits::SWEEP_MS);
        let others_wait = self.unsent.is_spent();
        let is_late = |(key, client): (Key, &mut Client)| client.is_late(now, others_wait).then_some(key);
        let late: Vec<Key> = self.clients.iter_mut().filter_map(is_late).collect();
        for key in late {
            self.desk.recorder.count(Counter::ClientConnectionsRefused);
            self.close(key);
        }
        self.buffers.settle();
        self.desk.settle();
    }
}

/// Answers the first frame.
fn greet(out: &mut Vec<u8>, frame: &Frame<'_>, cluster: ClusterId) -> Stage {
    let Ok(hello) = Hello::decode(frame) else { return Stage::Closing };
    let ours = Hello { cluster, incarnation: Incarnation(0), ..Hello::client() };
    let refusal = if hello.purpose != Purpose::Client {
        Some((Reason::Unsupported, "this port is for clients; peers have another one".to_owned()))
    } else if let Err(error) = negotiate(&ours, &hello) {
        Some((Reason::Version, error.to_string()))
    } else if hello.cluster != ClusterId(0) && hello.cluster != cluster {
        Some((Reason::WrongCluster, format!("this node belongs to cluster {:016x}", cluster.0)))
    } else {
        None
    };
    match refusal {
        Some((reason, text)) => {
            HelloReply::Refused(Refusal::new(reason, text)).encode(out);
            Stage::Closing
        }
        None => {
            HelloReply::Accepted(ours).encode(out);
            Stage::Open
        }
    }
}
