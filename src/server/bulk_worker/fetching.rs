//! Fetching a snapshot from another node: connect, say HELLO, ask what file it is, pull it, load it. Whatever goes wrong is
//! told to the raft thread, and what was received stays: the next attempt goes on behind it. One at a time.

use std::net::SocketAddr;

use log::{debug, info};
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use protocol::format::{negotiate, Hello, HelloReply};
use protocol::snapshot::{self as wire, Transfer};
use protocol::NodeId;

use super::taking::prune;
use super::{Done, Next};
use crate::limits;
use crate::metrics::{Counter, Recorder};
use crate::net::peer::{PeerConnection, Turn};
use crate::server::peers;
use crate::snapshot::{Loading, Offer, Progress, Receiving, Snapshots, Summary};
use crate::time::{Span, Time};

/// Readiness of the connection; token 1 is the thread's waker, the connections of those that fetch here lie above.
const TOKEN: Token = Token(0);

/// What is to be fetched, and from where.
pub(crate) struct Fetch {
    /// Who offered it.
    pub(crate) from: NodeId,
    /// Its peer port.
    pub(crate) address: SocketAddr,
    /// This node's HELLO, of purpose Snapshot.
    pub(crate) hello: Hello,
    /// The offer; the file's hash is not known yet.
    pub(crate) offer: Offer,
}

/// At most one snapshot on its way to this node.
pub(crate) struct Fetching {
    registry: Registry,
    active: Option<Active>,
}

struct Active {
    fetch: Fetch,
    stage: Stage,
}

enum Stage {
    /// Bytes are on their way.
    Transfer(Box<Link>),
    /// All bytes are here and durable; the state is being made of them.
    Loading(Box<Loading>, Summary),
}

/// The connection and what it has brought so far.
struct Link {
    socket: PeerConnection,
    step: Step,
    /// The poll has said something, or there is more than one turn took.
    ready: bool,
    /// Given up when nothing arrives until then.
    deadline: Time,
}

enum Step {
    /// TCP has not answered.
    Connecting,
    /// The answer to HELLO is missing.
    Greeting,
    /// What file it is was asked.
    Describing,
    /// What an earlier attempt left is being checked; the file has so many bytes.
    Resuming(Receiving, u64),
    /// Bytes come; all up to this offset are asked for.
    Pulling { receiving: Receiving, asked: u64, total: u64 },
}

/// What a turn led to.
enum Turned {
    Again(Next),
    /// All bytes are here and durable.
    Received(Summary),
}

impl Fetching {
    pub(crate) fn new(registry: Registry) -> Fetching {
        Fetching { registry, active: None }
    }

    /// Begins; one that is under way is given up for it.
    pub(super) fn begin(&mut self, now: Time, fetch: Fetch, done: &mut Vec<Done>) {
        self.drop_active();
        info!("fetching the snapshot at index {} from node {}", fetch.offer.last.index, fetch.from);
        match self.connect(now, fetch.address) {
            Ok(link) => self.active = Some(Active { fetch, stage: Stage::Transfer(Box::new(link)) }),
            Err(error) => done.push(failed(&fetch, &error)),
        }
    }

    /// Takes note of readiness.
    pub(super) fn ready(&mut self, event: &Event) {
        if event.token() != TOKEN {
            return;
        }
        if let Some(Active { stage: Stage::Transfer(link), .. }) = &mut self.active {
            link.ready = true;
        }
    }

    /// One step.
    pub(super) fn turn(
        &mut self,
        now: Time,
        snapshots: &mut Snapshots,
        recorder: &mut Recorder,
        done: &mut Vec<Done>,
    ) -> Next {
        let Some(Active { fetch, stage }) = &mut self.active else { return Next::IDLE };
        let turned = match stage {
            Stage::Transfer(link) => match link.turn(now, fetch, snapshots, recorder) {
                Ok(Turned::Again(next)) => return next,
                Ok(Turned::Received(summary)) => {
                    prune(snapshots);
                    Loading::begin(snapshots, summary.position.id.index).map_err(text).map(|loading| (loading, summary))
                }
                Err(why) => Err(why),
            },
            Stage::Loading(loading, summary) => match loading.step() {
                Ok(Progress::Done(restored)) => {
                    done.push(Done::Fetched(Ok((Box::new(restored), summary.bytes))));
                    self.active = None;
                    return Next::IDLE;
                }
                Ok(_) => return Next::Now,
                Err(error) => Err(error.to_string()),
            },
        };
        match turned {
            Ok((loading, summary)) => {
                self.end_transfer();
                let active = self.active.as_mut().expect("it was there");
                active.stage = Stage::Loading(Box::new(loading), summary);
                Next::Now
            }
            Err(why) => {
                done.push(failed(fetch, &why));
                self.drop_active();
                Next::IDLE
            }
        }
    }

    fn connect(&mut self, now: Time, address: SocketAddr) -> Result<Link, String> {
        let stream = TcpStream::connect(address).map_err(text)?;
        let mut socket = PeerConnection::new(stream);
        peers::set_options(socket.stream()).map_err(text)?;
        self.registry.register(socket.stream(), TOKEN, Interest::READABLE | Interest::WRITABLE).map_err(text)?;
        let deadline = now + Span::millis(limits::PEER_GREETING_MS);
        Ok(Link { socket, step: Step::Connecting, ready: false, deadline })
    }

    /// Closes the connection, if there is one.
    fn end_transfer(&mut self) {
        if let Some(Active { stage: Stage::Transfer(link), .. }) = &mut self.active {
            if let Err(error) = self.registry.deregister(link.socket.stream()) {
                debug!("cannot take a socket out of the poll: {error}");
            }
        }
    }

    fn drop_active(&mut self) {
        self.end_transfer();
        self.active = None;
    }
}

/// What a frame brought.
enum Taken {
    /// The other side's HELLO fits.
    Greeted,
    /// What file it is.
    Described(Offer),
    /// So many bytes of it.
    Bytes(u64),
}

impl Link {
    fn turn(
        &mut self,
        now: Time,
        fetch: &Fetch,
        snapshots: &mut Snapshots,
        recorder: &mut Recorder,
    ) -> Result<Turned, String> {
        if matches!(self.step, Step::Resuming(..)) {
            self.deadline = now + Span::millis(limits::SNAPSHOT_IDLE_MS);
            return self.resume(fetch, snapshots, recorder);
        }
        if now >= self.deadline {
            return Err("it was silent for too long".to_owned());
        }
        if !self.ready || matches!(self.step, Step::Connecting) && !self.greet(fetch)? {
            return Ok(Turned::Again(Next::At(self.deadline)));
        }
        self.transfer(now, fetch, snapshots, recorder)
    }

    /// Says HELLO once TCP has answered. False: it has not.
    fn greet(&mut self, fetch: &Fetch) -> Result<bool, String> {
        let stream = self.socket.stream();
        if let Some(error) = stream.take_error().map_err(text)? {
            return Err(error.to_string());
        }
        match stream.peer_addr() {
            Ok(_) => {
                self.socket.send_hello(&fetch.hello);
                self.step = Step::Greeting;
                Ok(true)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotConnected => {
                self.ready = false;
                Ok(false)
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Checks one block of what an earlier attempt left; then asks for the rest.
    fn resume(&mut self, fetch: &Fetch, snapshots: &mut Snapshots, recorder: &mut Recorder) -> Result<Turned, String> {
        let Step::Resuming(receiving, _) = &mut self.step else { unreachable!("the caller has looked") };
        let Progress::Done(offset) = receiving.step().map_err(text)? else { return Ok(Turned::Again(Next::Now)) };
        if offset > 0 {
            recorder.add(Counter::SnapshotBytesKept, offset);
            info!("{offset} bytes of the snapshot at index {} are here already", fetch.offer.last.index);
        }
        let Step::Resuming(receiving, total) = std::mem::replace(&mut self.step, Step::Describing) else {
            unreachable!("it was there")
        };
        self.step = Step::Pulling { receiving, asked: offset, total };
        self.go_on(fetch, snapshots)
    }

    /// Sends what is queued and takes what has arrived.
    fn transfer(
        &mut self,
        now: Time,
        fetch: &Fetch,
        snapshots: &mut Snapshots,
        recorder: &mut Recorder,
    ) -> Result<Turned, String> {
        self.socket.flush().map_err(text)?;
        let turn = self.socket.fill().map_err(text)?;
        while let Some(taken) = self.take_frame(fetch)? {
            self.deadline = now + Span::millis(limits::SNAPSHOT_IDLE_MS);
            match taken {
                Taken::Greeted => {
                    self.step = Step::Describing;
                    self.ask(fetch, 0, 0);
                }
                Taken::Described(offer) => {
                    let receiving = Receiving::begin_or_resume(snapshots, fetch.hello.cluster, offer).map_err(text)?;
                    self.step = Step::Resuming(receiving, offer.bytes);
                    return Ok(Turned::Again(Next::Now));
                }
                Taken::Bytes(bytes) => {
                    recorder.add(Counter::SnapshotBytesReceived, bytes);
                    let turned = self.go_on(fetch, snapshots)?;
                    if matches!(turned, Turned::Received(_)) {
                        return Ok(turned);
                    }
                }
            }
        }
        self.socket.flush().map_err(text)?;
        match turn {
            Turn::Closed => Err("it has closed the connection".to_owned()),
            Turn::More => Ok(Turned::Again(Next::Now)),
            Turn::Drained => {
                self.ready = false;
                Ok(Turned::Again(Next::At(self.deadline)))
            }
        }
    }

    fn take_frame(&mut self, fetch: &Fetch) -> Result<Option<Taken>, String> {
        let greeting = matches!(self.step, Step::Greeting);
        let bytes_max = if greeting { Hello::FRAME_BYTES_MAX } else { limits::SNAPSHOT_FRAME_BYTES_MAX };
        let Some(frame) = self.socket.next_frame(bytes_max).map_err(text)? else { return Ok(None) };
        if greeting {
            check_greeting(fetch, HelloReply::decode(&frame).map_err(text)?)?;
            return Ok(Some(Taken::Greeted));
        }
        let chunk = match Transfer::decode(&frame).map_err(text)? {
            Transfer::Chunk(chunk) if chunk.index == fetch.offer.last.index => chunk,
            Transfer::Gone(gone) => return Err(gone.text.to_owned()),
            other => return Err(format!("it sent an unexpected {}", other.kind())),
        };
        match &mut self.step {
            Step::Describing => {
                Ok(Some(Taken::Described(Offer { bytes: chunk.total, hash: Some(chunk.hash), ..fetch.offer })))
            }
            Step::Pulling { receiving, .. } => {
                receiving.push(chunk.offset, chunk.bytes).map_err(text)?;
                Ok(Some(Taken::Bytes(chunk.bytes.len() as u64)))
            }
            _ => Err("it sent a chunk that was not asked for".to_owned()),
        }
    }

    /// Asks for more, as much as may be under way; finishes when all is there.
    fn go_on(&mut self, fetch: &Fetch, snapshots: &mut Snapshots) -> Result<Turned, String> {
        let Step::Pulling { receiving, asked, total } = &mut self.step else {
            unreachable!("bytes come while it pulls")
        };
        if receiving.is_whole() {
            let Step::Pulling { receiving, .. } = std::mem::replace(&mut self.step, Step::Describing) else {
                unreachable!("as above")
            };
            return receiving.finish(snapshots).map(Turned::Received).map_err(text);
        }
        let chunk = limits::SNAPSHOT_CHUNK_BYTES_MAX as u64;
        let (mut offset, until) = (*asked, receiving.wants() + limits::SNAPSHOT_FETCH_BYTES_MAX);
        *asked = (*total).min(offset + until.saturating_sub(offset) / chunk * chunk);
        let asked = *asked;
        while offset < asked {
            self.ask(fetch, offset, limits::SNAPSHOT_CHUNK_BYTES_MAX);
            offset += chunk;
        }
        self.ready = true; // what was asked for is to be sent
        Ok(Turned::Again(Next::Now))
    }

    fn ask(&mut self, fetch: &Fetch, offset: u64, bytes_max: usize) {
        let bytes_max = u32::try_from(bytes_max).expect("a chunk is small");
        let Offer { last, chain, .. } = fetch.offer;
        self.socket.send_transfer(&Transfer::Fetch(wire::Fetch { last, chain, offset, bytes_max }));
    }
}

/// The other side is the node that made the offer, in this node's cluster.
fn check_greeting(fetch: &Fetch, reply: HelloReply) -> Result<(), String> {
    let theirs = match reply {
        HelloReply::Accepted(hello) => hello,
        HelloReply::Refused(refusal) => return Err(refusal.text),
    };
    negotiate(&fetch.hello, &theirs).map_err(text)?;
    if theirs.node != fetch.from {
        return Err(format!("node {} answers at its address", theirs.node));
    }
    if theirs.cluster != fetch.hello.cluster {
        return Err(format!("it belongs to cluster {:016x}", theirs.cluster.0));
    }
    Ok(())
}

fn failed(fetch: &Fetch, why: &str) -> Done {
    let Fetch { from, offer, .. } = fetch;
    let why = format!("cannot fetch the snapshot at index {} from node {from}: {why}", offer.last.index);
    Done::Fetched(Err(why))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
