//! Letting other nodes fetch this node's snapshots. One chunk is queued for a connection at a time: the next fetch is
//! taken up when it has left, so a receiver that does not read holds one chunk of memory and nothing else.

use log::{info, warn};
use mio::event::Event;
use mio::{Interest, Registry, Token};
use protocol::snapshot::{Chunk, Fetch, Gone, GoneReason, Transfer};
use protocol::NodeId;
use slab::Slab;

use super::rate::Rate;
use super::{Done, Next};
use crate::limits;
use crate::metrics::{Counter, Recorder};
use crate::net::peer::{PeerConnection, Turn};
use crate::server::peers::Fetcher;
use crate::snapshot::{self, Checked, Doubts, Snapshots};
use crate::time::{Span, Time};

/// Readiness of connection `key` is `Token(key + FIRST)`; the lower ones are the waker's and the fetching connection's.
const FIRST: usize = 2;

/// All connections over which others fetch.
pub(crate) struct Serving {
    registry: Registry,
    connections: Slab<Connection>,
    /// Of all connections together.
    rate: Rate,
    doubts: Doubts,
}

struct Connection {
    peer: NodeId,
    socket: PeerConnection,
    /// The snapshot that was asked for last.
    file: Option<snapshot::Serving>,
    /// The poll has said something, or there is more than one turn took.
    ready: bool,
    /// Closed once what is queued has left.
    closing: bool,
    /// Given up when nothing is asked for, or nothing is taken, until then.
    deadline: Time,
    /// When the raft thread was told last that this goes on.
    told: Time,
}

impl Serving {
    /// Sends at most so many bytes a second.
    pub(crate) fn new(registry: Registry, bytes_per_second: u64) -> Serving {
        Serving { registry, connections: Slab::new(), rate: Rate::new(bytes_per_second), doubts: Doubts::default() }
    }

    /// A member that was admitted wants a snapshot.
    pub(super) fn add(&mut self, now: Time, fetcher: Fetcher) {
        let Fetcher { node, mut socket } = fetcher;
        let full = self.connections.len() >= limits::SNAPSHOTS_SERVED_MAX;
        if full {
            refuse(&mut socket, GoneReason::Busy, "as many snapshots are being fetched from here as may be");
        }
        let slot = self.connections.vacant_entry();
        let token = Token(slot.key() + FIRST);
        match self.registry.register(socket.stream(), token, Interest::READABLE | Interest::WRITABLE) {
            Ok(()) => {
                let deadline = now + Span::millis(limits::SNAPSHOT_IDLE_MS);
                slot.insert(Connection {
                    peer: node,
                    socket,
                    file: None,
                    ready: true,
                    closing: full,
                    deadline,
                    told: Time(0),
                });
            }
            Err(error) => warn!("cannot serve a snapshot to node {node}: {error}"),
        }
    }

    /// Takes note of readiness.
    pub(super) fn ready(&mut self, event: &Event) {
        let key = event.token().0.checked_sub(FIRST);
        if let Some(connection) = key.and_then(|key| self.connections.get_mut(key)) {
            connection.ready = true;
        }
    }

    /// One chunk for each connection that wants one.
    pub(super) fn turn(
        &mut self,
        now: Time,
        snapshots: &mut Snapshots,
        recorder: &mut Recorder,
        done: &mut Vec<Done>,
    ) -> Next {
        let (mut next, before) = (Next::IDLE, done.len());
        let keys: Vec<usize> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            let connection = &mut self.connections[key];
            let peer = connection.peer;
            match connection.turn(now, snapshots, (&mut self.rate, &mut self.doubts), recorder, done) {
                Ok(wanted) => next = next.min(wanted),
                Err(why) => {
                    info!("node {peer} fetches no snapshot from here any more: {why}");
                    self.close(key);
                }
            }
        }
        next = next.min(self.check(now, done));
        for told in &done[before..] {
            if let Done::Damaged(last, _) = told {
                snapshots.doubt(*last);
            }
        }
        next
    }

    /// Reads on in a file that somebody doubts.
    fn check(&mut self, now: Time, done: &mut Vec<Done>) -> Next {
        if !self.doubts.is_checking() {
            return Next::IDLE;
        }
        if now >= self.rate.due() {
            let (bytes, end) = self.doubts.step();
            self.rate.spend(now, bytes);
            match end {
                Some(Checked { member, last, result: Ok(()) }) => warn!(
                    "node {member} began to fetch the snapshot at index {last} {} times; the file here is good: \
                     is that node's disk full, or failing?",
                    limits::SNAPSHOT_BEGUN_MAX
                ),
                Some(Checked { last, result: Err(error), .. }) => done.push(Done::Damaged(last, error.to_string())),
                None => {}
            }
        }
        Next::At(self.rate.due())
    }

    fn close(&mut self, key: usize) {
        let mut connection = self.connections.remove(key);
        if let Err(error) = self.registry.deregister(connection.socket.stream()) {
            warn!("cannot take a socket out of the poll: {error}");
        }
    }
}

impl Connection {
    /// What was queued goes out, then one fetch is answered. An error ends the connection.
    fn turn(
        &mut self,
        now: Time,
        snapshots: &Snapshots,
        (rate, doubts): (&mut Rate, &mut Doubts),
        recorder: &mut Recorder,
        done: &mut Vec<Done>,
    ) -> Result<Next, String> {
        if now >= self.deadline {
            return Err("it was silent for too long".to_owned());
        }
        if !self.ready {
            return Ok(Next::At(self.deadline));
        }
        if !self.socket.flush().map_err(text)? {
            self.ready = false;
            return Ok(Next::At(self.deadline));
        }
        if self.closing {
            return Err("it was refused".to_owned());
        }
        if now < rate.due() {
            return Ok(Next::At(rate.due().min(self.deadline)));
        }
        let Some(fetch) = self.next_fetch()? else { return Ok(Next::At(self.deadline)) };
        self.deadline = now + Span::millis(limits::SNAPSHOT_IDLE_MS);
        if fetch.offset == 0 && fetch.bytes_max > 0 {
            doubts.begun(snapshots, self.peer, fetch.last.index);
        }
        let bytes = self.answer(&fetch, snapshots, done);
        rate.spend(now, bytes);
        recorder.add(Counter::SnapshotBytesSent, bytes);
        if bytes > 0 && now >= self.told + Span::millis(limits::SNAPSHOT_SERVED_TOLD_MS) {
            self.told = now;
            done.push(Done::Served(self.peer, fetch.last.index));
        }
        Ok(Next::Now)
    }

    /// The next fetch, from what was read or from the socket.
    fn next_fetch(&mut self) -> Result<Option<Fetch>, String> {
        let mut turn = None;
        loop {
            if let Some(frame) = self.socket.next_frame(limits::SNAPSHOT_FRAME_BYTES_MAX).map_err(text)? {
                return match Transfer::decode(&frame).map_err(text)? {
                    Transfer::Fetch(fetch) => Ok(Some(fetch)),
                    other => Err(format!("it sent {}", other.kind())),
                };
            }
            match turn {
                Some(Turn::Closed) => return Err("it has closed the connection".to_owned()),
                Some(Turn::Drained) => {
                    self.ready = false;
                    return Ok(None);
                }
                Some(Turn::More) | None => turn = Some(self.socket.fill().map_err(text)?),
            }
        }
    }

    /// Queues the chunk, or why there is none; tells how many bytes of the file that is.
    fn answer(&mut self, fetch: &Fetch, snapshots: &Snapshots, done: &mut Vec<Done>) -> u64 {
        match self.read(fetch, snapshots) {
            Ok((summary, bytes)) => {
                self.socket.send_transfer(&Transfer::Chunk(Chunk {
                    index: summary.position.id.index,
                    offset: fetch.offset,
                    total: summary.bytes,
                    hash: summary.hash,
                    bytes: &bytes,
                }));
                bytes.len() as u64
            }
            Err((reason, why)) => {
                refuse(&mut self.socket, reason, &why);
                if reason == GoneReason::Unreadable {
                    done.push(Done::Damaged(fetch.last.index, why));
                }
                self.closing = true;
                0
            }
        }
    }

    fn read(
        &mut self,
        fetch: &Fetch,
        snapshots: &Snapshots,
    ) -> Result<(snapshot::Summary, Vec<u8>), (GoneReason, String)> {
        let asked_for =
            |summary: snapshot::Summary| (summary.position.id, summary.position.chain) == (fetch.last, fetch.chain);
        if !self.file.as_ref().is_some_and(|file| asked_for(file.summary())) {
            let opened = snapshot::Serving::open(snapshots, fetch.last.index);
            self.file = opened.ok().filter(|file| asked_for(file.summary()));
        }
        let Some(file) = &self.file else {
            let newest = snapshots.newest().map_or(0, |newest| newest.position.id.index.0);
            return Err((GoneReason::NotHere, format!("the newest snapshot here ends at index {newest}")));
        };
        let summary = file.summary();
        if fetch.offset > summary.bytes {
            return Err((GoneReason::BeyondEnd, format!("the file has {} bytes", summary.bytes)));
        }
        let bytes_max = (fetch.bytes_max as usize).min(limits::SNAPSHOT_CHUNK_BYTES_MAX);
        let bytes =
            file.read_at(fetch.offset, bytes_max).map_err(|error| (GoneReason::Unreadable, error.to_string()))?;
        Ok((summary, bytes))
    }
}

fn refuse(socket: &mut PeerConnection, reason: GoneReason, text: &str) {
    socket.send_transfer(&Transfer::Gone(Gone { reason, text }));
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
