//! The raft thread's sockets: one connection per pair of nodes, dialled by the node with the higher id, and open for Raft
//! only after a HELLO in both directions was admitted (C-17). A new admitted connection of the same peer replaces the
//! old one; a peer without a connection is told to the replica at once (C-15).

mod dial;
mod watch;

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use log::{debug, info, warn};
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use protocol::format::{negotiate, Hello, HelloReply, Member, Purpose, Refusal};
use protocol::message::Envelope;
use protocol::reply::Reason;
use protocol::{ClusterId, NodeId};
use slab::Slab;

use super::arena::Arena;
use super::names::{self, LookUp};
use super::receipt::{Given, Trace};
use crate::limits;
use crate::metrics::{Counter, Metrics, Recorder};
use crate::net::accept::{accept, Accepted};
use crate::net::peer::{PeerConnection, Turn};
use crate::replica::{Completion, Input, Replica, ReplyTo};
use crate::time::{Span, Time};
use dial::Dial;
use watch::Watch;

/// Readiness of the listener.
pub(super) const LISTENER: Token = Token(0);
/// Readiness of connection `key` is `Token(key + FIRST_CONNECTION)`; token 1 is the thread's waker.
const FIRST_CONNECTION: usize = 2;

/// All peer sockets of this node.
pub(super) struct Peers {
    listener: TcpListener,
    registry: Registry,
    /// One per other member, by id.
    links: Vec<Link>,
    connections: Slab<Connection>,
    /// Connections that may have something to read.
    readable: Vec<usize>,
    /// Connections with something to send.
    unsent: Vec<usize>,
    /// Empty: takes the place of one of these two while it is gone through.
    spare: Vec<usize>,
    /// Small bodies of received entries lie here, one behind the other.
    arena: Arena,
    /// When the arena settles next.
    settles: Time,
    /// The listener may have something to accept.
    acceptable: bool,
    /// It has, but it could not be accepted: when to try again.
    accept_again: Time,
    /// Connections that want a snapshot; see [`Peers::take_fetchers`].
    fetchers: Vec<Fetcher>,
    /// Refusals and failures that were logged: each once.
    said: BTreeSet<String>,
    recorder: Recorder,
    /// Follows an explained request, of which the peers' messages tell a part.
    pub(super) trace: Trace,
}

/// The way to one other member.
struct Link {
    node: NodeId,
    /// Its admitted connection.
    connection: Option<usize>,
    /// None: the peer dials, because its id is higher.
    dial: Option<Dial>,
    watch: Watch,
}

struct Connection {
    socket: PeerConnection,
    stage: Stage,
    /// When a connection that is not up is given up.
    deadline: Time,
    /// The poll has told of its end, or of an error: it is read until that is seen.
    ends: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// This node dials; TCP has not answered.
    Connecting(NodeId),
    /// This node dialled and has said HELLO; the answer is missing.
    Asked(NodeId),
    /// Somebody connected; the HELLO is missing.
    Accepted,
    /// Admitted in both directions.
    Up(NodeId),
    /// Refused, and the refusal is not sent yet.
    Closing,
}

/// A member's connection that is to fetch a snapshot. It is in no poll; the answer to its HELLO is queued, and what it has
/// said since may have been read already.
pub(super) struct Fetcher {
    /// The member.
    pub(super) node: NodeId,
    /// The connection.
    pub(super) socket: PeerConnection,
}

/// The first frame of the other side.
enum Greeting {
    Hello(Hello),
    Answer(HelloReply),
}

impl Peers {
    /// Registers the listener. `members` may name this node; it is skipped.
    pub(super) fn new(
        own: NodeId,
        members: &[Member],
        mut listener: TcpListener,
        registry: Registry,
        seed: u64,
        metrics: &Metrics,
    ) -> io::Result<Peers> {
        registry.register(&mut listener, LISTENER, Interest::READABLE)?;
        let link = |member: &Member| Link {
            node: member.id,
            connection: None,
            dial: (member.id < own).then(|| Dial::new(member.peer_address.clone(), seed ^ u64::from(member.id.0))),
            watch: Watch::new(metrics.recorder_of(member.id.0)),
        };
        Ok(Peers {
            listener,
            registry,
            links: members.iter().filter(|member| member.id != own).map(link).collect(),
            connections: Slab::new(),
            readable: Vec::new(),
            unsent: Vec::new(),
            spare: Vec::new(),
            arena: Arena::default(),
            settles: Time(0),
            acceptable: true,
            accept_again: Time::NEVER,
            fetchers: Vec::new(),
            said: BTreeSet::new(),
            recorder: metrics.recorder(),
            trace: Trace::new(own),
        })
    }

    /// Takes note of readiness; nothing is read or written yet.
    pub(super) fn ready(&mut self, event: &Event) {
        if event.token() == LISTENER {
            self.acceptable = true;
            return;
        }
        let Some(key) = event.token().0.checked_sub(FIRST_CONNECTION) else { return };
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.ends |= event.is_read_closed() || event.is_error();
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            note(&mut self.readable, key);
        }
        if event.is_writable() {
            note(&mut self.unsent, key);
        }
    }

    /// There is more to read than one turn took.
    pub(super) fn wants_turn(&self) -> bool {
        self.acceptable || !self.readable.is_empty()
    }

    /// Accepts, and reads one turn of every readable connection; what is understood goes into the replica.
    pub(super) fn read(&mut self, now: Time, replica: &mut Replica) {
        if std::mem::take(&mut self.acceptable) {
            self.accept(now);
        }
        self.finish_dials(now, replica);
        let mut readable = std::mem::replace(&mut self.readable, std::mem::take(&mut self.spare));
        for key in readable.drain(..) {
            if self.connections.contains(key) {
                self.read_connection(now, key, replica);
            }
        }
        self.spare = readable;
    }

    /// Queues a message, if its receiver is connected.
    pub(super) fn send(&mut self, envelope: &Envelope) {
        let link = self.links.iter_mut().find(|link| link.node == envelope.to);
        let sent = match link.and_then(|link| Some((link.connection?, link))) {
            Some((key, link)) => {
                note(&mut self.unsent, key);
                let sent = self.connections[key].socket.send(envelope);
                if sent {
                    link.watch.sent(envelope);
                }
                sent
            }
            None => false,
        };
        if !sent {
            self.recorder.count(Counter::PeerMessagesDropped);
        }
    }

    /// Each other member, with the unsent bytes of its connection, if there is one.
    pub(super) fn queued(&self) -> impl Iterator<Item = (NodeId, Option<u64>)> + '_ {
        let queued = |key: usize| self.connections[key].socket.queued() as u64;
        self.links.iter().map(move |link| (link.node, link.connection.map(queued)))
    }

    /// One vectored write for every connection with something to send.
    pub(super) fn flush(&mut self, now: Time, replica: &mut Replica) {
        let mut unsent = std::mem::replace(&mut self.unsent, std::mem::take(&mut self.spare));
        for key in unsent.drain(..) {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            if let Stage::Connecting(_) = connection.stage {
                note(&mut self.unsent, key); // `finish_dials` looks at it in the next iteration
                continue;
            }
            match connection.socket.flush() {
                Ok(true) if connection.stage == Stage::Closing => self.close(now, key, replica, "refused"),
                Ok(_) => {}
                Err(error) => self.close(now, key, replica, &error.to_string()),
            }
        }
        self.spare = unsent;
    }

    /// Dials what is due, gives up what took too long, and gives back memory that was not used.
    pub(super) fn timers(&mut self, now: Time, replica: &mut Replica, names: &mut Vec<LookUp>) {
        for key in self.late(now) {
            self.close(now, key, replica, "no answer in time");
        }
        if now >= self.settles {
            self.settles = now + Span::millis(limits::SWEEP_MS);
            self.arena.settle();
        }
        if now >= self.accept_again {
            self.accept_again = Time::NEVER;
            self.acceptable = true;
        }
        for i in 0..self.links.len() {
            let Link { node, connection, dial: Some(dial), .. } = &mut self.links[i] else { continue };
            if connection.is_some() || !dial.is_due(now) {
                continue;
            }
            match dial.start() {
                dial::Start::Connect(address) => {
                    let node = *node;
                    self.connect(now, node, address);
                }
                dial::Start::Resolve { address, again } => {
                    names.push(LookUp { purpose: names::Purpose::Peer(*node), address, again });
                }
            }
        }
    }

    /// A peer's name was looked up.
    pub(super) fn resolved(&mut self, now: Time, node: NodeId, address: io::Result<std::net::SocketAddr>) {
        match address {
            Ok(address) => self.connect(now, node, address),
            Err(error) => {
                self.say(format!("cannot resolve the address of node {node}: {error}"));
                self.dial_failed(now, node);
            }
        }
    }

    /// Closes the connection of a peer on the replica's wish.
    pub(super) fn disconnect(&mut self, now: Time, node: NodeId, replica: &mut Replica) {
        let link = self.links.iter().find(|link| link.node == node);
        if let Some(key) = link.and_then(|link| link.connection) {
            self.close(now, key, replica, "it does not belong to this cluster");
        }
    }

    /// The answer that [`Trace`] has kept, when it has all that its receipt is to tell.
    pub(super) fn release_explained(&mut self, now: Time) -> Option<(ReplyTo, Completion, Option<Given>)> {
        self.trace.release(now, self.links.iter().map(|link| (link.node, link.connection.is_some())))
    }

    /// Connections of members that want a snapshot: they belong to the bulk worker from here on.
    pub(super) fn take_fetchers(&mut self) -> std::vec::Drain<'_, Fetcher> {
        self.fetchers.drain(..)
    }

    /// When [`Peers::timers`] has something to do.
    pub(super) fn next_deadline(&self) -> Time {
        let dials = self.links.iter().filter(|link| link.connection.is_none()).filter_map(|link| link.dial.as_ref());
        let connections = self.connections.iter().map(|(_, connection)| connection.deadline);
        let others = [self.trace.next_deadline(), self.accept_again];
        dials.map(Dial::due).chain(connections).chain(others).min().unwrap_or(Time::NEVER)
    }

    /// Those who wait, some of them in each turn: whoever only connects must not keep this thread from its timers.
    fn accept(&mut self, now: Time) {
        let mut taken = Vec::new(); // allocates only when there is something
        let accepted = accept(&self.listener, limits::PEER_ACCEPTS_PER_TURN, |stream, from| taken.push((stream, from)));
        for (stream, from) in taken {
            self.make_room_for_a_stranger(&from.to_string());
            self.add(now, stream, Stage::Accepted);
        }
        match accepted {
            Accepted::All => {}
            Accepted::More => self.acceptable = true,
            Accepted::Failed(error) => {
                self.accept_again = now + Span::millis(limits::ACCEPT_RETRY_MS);
                self.say(format!("cannot accept a peer connection: {error}"));
            }
        }
    }

    /// Too many have connected and not said HELLO: the oldest goes, so that silence keeps no peer out.
    fn make_room_for_a_stranger(&mut self, from: &str) {
        let strangers = || self.connections.iter().filter(|(_, connection)| connection.stage == Stage::Accepted);
        if strangers().count() < limits::PEER_STRANGERS_MAX {
            return;
        }
        let oldest = strangers().min_by_key(|(_, connection)| connection.deadline).map(|(key, _)| key);
        self.drop_connection(oldest.expect("there are many"));
        self.say(format!("closed the oldest peer connection without a HELLO, for one from {from}: there are too many"));
    }

    fn connect(&mut self, now: Time, node: NodeId, address: std::net::SocketAddr) {
        match TcpStream::connect(address).map(|stream| self.add(now, stream, Stage::Connecting(node))) {
            Ok(true) => {}
            Ok(false) => self.dial_failed(now, node),
            Err(error) => {
                self.say(format!("cannot connect to node {node} at {address}: {error}"));
                self.dial_failed(now, node);
            }
        }
    }

    /// A new socket joins the poll. False: it could not.
    fn add(&mut self, now: Time, stream: TcpStream, stage: Stage) -> bool {
        let slot = self.connections.vacant_entry();
        let token = Token(slot.key() + FIRST_CONNECTION);
        let mut socket = PeerConnection::new(stream);
        let options = set_options(socket.stream());
        let registered = options
            .and_then(|()| self.registry.register(socket.stream(), token, Interest::READABLE | Interest::WRITABLE));
        match registered {
            Ok(()) => {
                let deadline = now + Span::millis(limits::PEER_GREETING_MS);
                slot.insert(Connection { socket, stage, deadline, ends: false });
                true
            }
            Err(error) => {
                self.say(format!("cannot use a peer connection: {error}"));
                false
            }
        }
    }

    /// Dialled connections of which the poll said something: TCP has answered, or failed.
    fn finish_dials(&mut self, now: Time, replica: &mut Replica) {
        let is_dialled = |key: &usize| {
            self.connections.get(*key).is_some_and(|connection| matches!(connection.stage, Stage::Connecting(_)))
        };
        let dialled: Vec<usize> = self.unsent.iter().chain(&self.readable).copied().filter(is_dialled).collect();
        for key in dialled {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            let Stage::Connecting(node) = connection.stage else { continue };
            let stream = connection.socket.stream();
            match stream.take_error().map(|error| (error, stream.peer_addr())) {
                Ok((None, Ok(_))) => {
                    connection.stage = Stage::Asked(node);
                    connection.socket.send_hello(&replica.hello());
                    note(&mut self.unsent, key);
                }
                Ok((None, Err(error))) if error.kind() == io::ErrorKind::NotConnected => {}
                Ok((Some(error), _)) | Ok((None, Err(error))) | Err(error) => {
                    self.close(now, key, replica, &error.to_string());
                }
            }
        }
    }

    fn read_connection(&mut self, now: Time, key: usize, replica: &mut Replica) {
        let connection = &mut self.connections[key];
        if matches!(connection.stage, Stage::Connecting(_)) {
            return;
        }
        let socket = &mut connection.socket;
        let filled = if connection.ends { socket.fill() } else { socket.fill_of_open_stream() };
        let turn = match filled {
            Ok(turn) => turn,
            Err(error) => return self.close(now, key, replica, &error.to_string()),
        };
        if let Err(why) = self.take_frames(now, key, replica) {
            self.say(format!("closed a peer connection: {why}"));
            return self.close(now, key, replica, &why);
        }
        match turn {
            Turn::Drained => {}
            Turn::More => note(&mut self.readable, key),
            Turn::Closed if self.connections.contains(key) => self.close(now, key, replica, "closed by the other side"),
            Turn::Closed => {}
        }
    }

    /// All whole frames that were received.
    fn take_frames(&mut self, now: Time, key: usize, replica: &mut Replica) -> Result<(), String> {
        while let Some(connection) = self.connections.get_mut(key) {
            match connection.stage {
                Stage::Up(peer) => {
                    let link =
                        self.links.iter_mut().find(|link| link.node == peer).expect("an admitted peer has a link");
                    let socket = &mut connection.socket;
                    let Peers { arena, recorder, trace, .. } = self;
                    return take_messages(now, socket, link, replica, arena, recorder, trace);
                }
                Stage::Accepted | Stage::Asked(_) => match take_greeting(connection)? {
                    Some(Greeting::Hello(hello)) => self.hello(now, key, hello, replica),
                    Some(Greeting::Answer(answer)) => self.answer(now, key, answer, replica),
                    None => return Ok(()),
                },
                Stage::Connecting(_) | Stage::Closing => return Ok(()),
            }
        }
        Ok(())
    }

    /// The HELLO of a node that has connected.
    fn hello(&mut self, now: Time, key: usize, hello: Hello, replica: &mut Replica) {
        let refusal = refuse(&hello, replica);
        let socket = &mut self.connections[key].socket;
        note(&mut self.unsent, key);
        if let Some((reason, text)) = refusal {
            socket.send_hello_reply(&HelloReply::Refused(Refusal::new(reason, text.clone())));
            self.connections[key].stage = Stage::Closing;
            if hello.purpose == Purpose::Peer {
                replica.step(now, Input::Refused { node: hello.node, text });
            }
            return;
        }
        socket.send_hello_reply(&HelloReply::Accepted(Hello { purpose: hello.purpose, ..replica.hello() }));
        match hello.purpose {
            Purpose::Snapshot => self.hand_over(key, hello.node),
            _ => self.up(now, key, hello, replica),
        }
    }

    /// The connection is to carry a snapshot: out of this thread's poll, into the bulk worker's.
    fn hand_over(&mut self, key: usize, node: NodeId) {
        if let Some(socket) = self.take_out(key) {
            self.fetchers.push(Fetcher { node, socket });
        }
    }

    /// The answer to this node's HELLO.
    fn answer(&mut self, now: Time, key: usize, answer: HelloReply, replica: &mut Replica) {
        let Stage::Asked(node) = self.connections[key].stage else { return };
        let refused = match answer {
            HelloReply::Accepted(hello) if hello.node != node => {
                format!("node {node}'s address is answered by node {}", hello.node)
            }
            HelloReply::Accepted(hello) => match (negotiate(&replica.hello(), &hello), replica.admit(&hello)) {
                (Ok(_), Ok(())) => return self.up(now, key, hello, replica),
                (Err(error), _) => error.to_string(),
                (_, Err(refusal)) => refusal.to_string(),
            },
            HelloReply::Refused(refusal) => format!("node {node} refused this node: {}", refusal.text),
        };
        replica.step(now, Input::Refused { node, text: refused.clone() });
        self.close(now, key, replica, &refused);
    }

    /// Admitted: from here on the connection carries Raft.
    fn up(&mut self, now: Time, key: usize, hello: Hello, replica: &mut Replica) {
        let node = hello.node;
        let Some(link) = self.links.iter_mut().find(|link| link.node == node) else {
            return self.close(now, key, replica, "not in the member list of this node's flags");
        };
        let replaced = link.connection.replace(key);
        if let Some(dial) = &mut link.dial {
            dial.succeeded();
        }
        let connection = &mut self.connections[key];
        connection.stage = Stage::Up(node);
        connection.deadline = Time::NEVER;
        if let Some(old) = replaced {
            self.drop_connection(old);
        }
        self.recorder.count(Counter::PeerConnections);
        info!("connected with node {node}");
        replica.step(now, Input::Connected(hello));
    }

    /// Ends a connection, whatever its stage, and tells the replica if a peer is lost with it.
    fn close(&mut self, now: Time, key: usize, replica: &mut Replica, why: &str) {
        let Some(connection) = self.connections.get(key) else { return };
        let stage = connection.stage;
        self.drop_connection(key);
        match stage {
            Stage::Up(node) => {
                info!("lost the connection with node {node}: {why}");
                if let Some(link) = self.links.iter_mut().find(|link| link.node == node) {
                    link.connection = None;
                    link.watch.lost();
                    if let Some(dial) = &mut link.dial {
                        dial.lost(now);
                    }
                }
                replica.step(now, Input::Disconnected(node));
            }
            Stage::Connecting(node) | Stage::Asked(node) => {
                debug!("no connection with node {node}: {why}");
                self.dial_failed(now, node);
            }
            Stage::Accepted | Stage::Closing => debug!("closed a peer connection: {why}"),
        }
    }

    fn drop_connection(&mut self, key: usize) {
        drop(self.take_out(key));
    }

    /// Forgets a connection; none if its socket cannot be taken out of the poll.
    fn take_out(&mut self, key: usize) -> Option<PeerConnection> {
        let mut socket = self.connections.remove(key).socket;
        match self.registry.deregister(socket.stream()) {
            Ok(()) => Some(socket),
            Err(error) => {
                warn!("cannot take a socket out of the poll: {error}");
                None
            }
        }
    }

    fn dial_failed(&mut self, now: Time, node: NodeId) {
        let link = self.links.iter_mut().find(|link| link.node == node);
        if let Some(dial) = link.and_then(|link| link.dial.as_mut()) {
            dial.failed(now);
        }
    }

    fn late(&self, now: Time) -> Vec<usize> {
        self.connections.iter().filter(|(_, connection)| connection.deadline <= now).map(|(key, _)| key).collect()
    }

    /// Logs a text once.
    fn say(&mut self, text: String) {
        if self.said.len() >= limits::PEER_COMPLAINTS_MAX {
            self.said.clear();
        }
        if self.said.insert(text.clone()) {
            warn!("{text}");
        }
    }
}

/// Why the node with this HELLO may not connect here.
fn refuse(hello: &Hello, replica: &Replica) -> Option<(Reason, String)> {
    let own = replica.hello();
    if hello.purpose == Purpose::Client {
        return Some((Reason::Unsupported, "this port is for peers; clients have another one".to_owned()));
    }
    if let Err(error) = negotiate(&own, hello) {
        return Some((Reason::Version, error.to_string()));
    }
    if let Err(refusal) = replica.admit(hello) {
        return Some((refusal.reason(), refusal.to_string()));
    }
    let may_fetch = hello.purpose != Purpose::Snapshot || own.cluster != ClusterId(0) && hello.cluster == own.cluster;
    (!may_fetch).then(|| (Reason::WrongCluster, "only members of a formed cluster fetch its snapshots".to_owned()))
}

/// Messages of an admitted peer.
fn take_messages(
    now: Time,
    socket: &mut PeerConnection,
    link: &mut Link,
    replica: &mut Replica,
    arena: &mut Arena,
    recorder: &mut Recorder,
    trace: &mut Trace,
) -> Result<(), String> {
    let peer = link.node;
    let mut spare = Vec::new();
    while let Some(frame) = socket.next_frame(limits::PEER_FRAME_BYTES_MAX).map_err(|error| error.to_string())? {
        recorder.count(Counter::PeerFrames);
        if spare.capacity() == 0 {
            spare = replica.spare();
        }
        let envelope = Envelope::decode_with(&frame, &mut spare, |body| arena.keep(body));
        let envelope = envelope.map_err(|error| format!("node {peer} sent what cannot be read: {error}"))?;
        if envelope.from != peer {
            return Err(format!("node {peer} sent a message as node {}", envelope.from));
        }
        link.watch.received(&envelope);
        trace.received(&envelope);
        replica.step(now, Input::Peer(envelope));
    }
    replica.give_back(spare);
    Ok(())
}

/// The first frame of a connection, if it is there.
fn take_greeting(connection: &mut Connection) -> Result<Option<Greeting>, String> {
    Hello::recognise(connection.socket.untaken()).map_err(|error| error.to_string())?;
    let asked = matches!(connection.stage, Stage::Asked(_));
    let frame = connection.socket.next_frame(Hello::FRAME_BYTES_MAX).map_err(|error| error.to_string())?;
    let Some(frame) = frame else { return Ok(None) };
    let greeting = if asked {
        HelloReply::decode(&frame).map(Greeting::Answer)
    } else {
        Hello::decode(&frame).map(Greeting::Hello)
    };
    greeting.map(Some).map_err(|error| error.to_string())
}

pub(super) fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(Duration::from_millis(limits::PEER_SILENCE_MS)))
}

/// Adds a key to a short list once.
fn note(keys: &mut Vec<usize>, key: usize) {
    if !keys.contains(&key) {
        keys.push(key);
    }
}
