//! One io thread: its own poll and its clients' sockets. In each iteration: poll; take what came back from the raft
//! thread; read and decode; ask one permission for all reads and send one batch; one write per connection with replies.
//!
//! Only the reading of a client's socket can refuse work (C-26): a request takes a credit when it is decoded, and without
//! a credit, a buffer or room for replies the connection waits in a FIFO and its socket stays unread.

mod clients;
mod desk;
mod replies;
mod scan;
mod unsent;

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use log::warn;
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use super::gauges::Gauges;
use super::raft_loop::{Completions, Requests, WAKER};
use super::settings::Live;
use super::status::StatusSource;
use super::stop::StopSwitch;
use super::system;
use crate::kv::Reader;
use crate::limits;
use crate::mailbox::{Parking, Receiver, Sender};
use crate::metrics::{Counter, Measure, Recorder};
use crate::net::accept::{accept, Accepted};
use crate::net::connections::{Connections, Key};
use crate::pool::{Buffers, Pool};
use crate::replica::Completion;
use crate::time::{Span, Time};
use clients::Client;
use desk::{Desk, DeskParts};
use unsent::Unsent;

/// Readiness of the listener (io-0 only).
const LISTENER: Token = Token(0);
/// Readiness of the connection in slot `n` is `Token(n + FIRST_CONNECTION)`.
const FIRST_CONNECTION: usize = 2;

/// Where an io thread's sockets come from.
pub(super) enum Source {
    /// Io-0 accepts, and hands each socket to the loop with the fewest connections.
    Listener {
        /// Not registered yet.
        listener: TcpListener,
        /// To io-1, io-2, ...
        others: Vec<Sender<Vec<TcpStream>>>,
    },
    /// The others are given theirs.
    HandedOver(Receiver<Vec<TcpStream>>),
}

/// What an io thread is made of.
pub(super) struct Parts {
    /// Which of the io threads; the `io_loop` of its requests.
    pub(super) number: u16,
    /// Its waker is registered as [`WAKER`].
    pub(super) poll: Poll,
    pub(super) parking: Arc<Parking>,
    pub(super) requests: Sender<Requests>,
    pub(super) completions: Receiver<Completions>,
    pub(super) source: Source,
    /// Open connections of each io thread.
    pub(super) connections: Arc<[AtomicUsize]>,
    /// How many may be open, over all io threads.
    pub(super) clients_max: usize,
    pub(super) reader: Reader,
    /// Shared by all io threads.
    pub(super) pool: Pool,
    pub(super) status_source: StatusSource,
    pub(super) live: Arc<Live>,
    pub(super) recorder: Recorder,
    pub(super) gauges: Arc<Gauges>,
    pub(super) stop: StopSwitch,
}

/// Until it is asked to stop.
pub(super) fn run(parts: Parts) {
    IoLoop::new(parts).run();
}

struct IoLoop {
    poll: Poll,
    parking: Arc<Parking>,
    stop: StopSwitch,
    source: Source,
    completions: Receiver<Completions>,
    counts: Arc<[AtomicUsize]>,
    clients_max: usize,
    reader: Reader,
    buffers: Buffers,
    /// The largest frame that a client may send.
    frame_bytes_max: usize,
    clients: Connections<Client>,
    desk: Desk,
    /// The listener may have something to accept.
    acceptable: bool,
    /// It has, but it could not be accepted: when to try again.
    accept_again: Time,
    /// Connections that may have something to read.
    readable: Vec<Key>,
    /// Connections with replies to send.
    unsent: Unsent,
    /// Connections that wait for a credit, a buffer, or room; each once, in the order in which they came.
    paused: VecDeque<Key>,
    /// Since they were last looked at, something has come back that paused connections wait for.
    resumable: bool,
    /// Paused connections are being tried again.
    resuming: bool,
    /// When connections are looked at for their patience.
    next_sweep: Time,
    gauges: Arc<Gauges>,
    /// Completions in hand; empty between iterations.
    taken: Vec<Completion>,
}

impl IoLoop {
    fn new(parts: Parts) -> IoLoop {
        let Parts { number, requests, status_source, live, recorder, .. } = parts;
        let frame_bytes_max = live.frame_bytes_max();
        let desk = Desk::new(DeskParts { number, live, source: status_source, recorder, requests });
        IoLoop {
            poll: parts.poll,
            parking: parts.parking,
            stop: parts.stop,
            source: parts.source,
            completions: parts.completions,
            counts: parts.connections,
            clients_max: parts.clients_max,
            reader: parts.reader,
            buffers: parts.pool.buffers(),
            frame_bytes_max,
            clients: Connections::default(),
            desk,
            acceptable: false,
            accept_again: Time::NEVER,
            readable: Vec::new(),
            unsent: Unsent::new(limits::IO_UNSENT_BYTES_MAX),
            paused: VecDeque::new(),
            resumable: false,
            resuming: false,
            next_sweep: Time(0),
            gauges: parts.gauges,
            taken: Vec::new(),
        }
    }

    fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        self.listen();
        while !self.stop.is_asked() {
            self.turn(&mut events);
        }
        self.finish(&mut events);
    }

    fn listen(&mut self) {
        if let Source::Listener { listener, .. } = &mut self.source {
            let registered = self.poll.registry().register(listener, LISTENER, Interest::READABLE);
            registered.unwrap_or_else(|error| panic!("the listener cannot be polled: {error}"));
            self.acceptable = true;
        }
    }

    /// One iteration.
    fn turn(&mut self, events: &mut Events) {
        self.sleep(events);
        let now = system::now();
        events.iter().filter(|event| event.token() != WAKER).for_each(|event| self.ready(event));
        self.take_completions();
        self.adopt(now);
        self.frame_bytes_max = self.desk.live.frame_bytes_max();
        self.resume_paused(now);
        self.measured(Measure::DecodeUs, !self.readable.is_empty(), |this| this.read_clients(now));
        self.resumable |= self.desk.send(now) && !self.paused.is_empty();
        self.refuse_late_reads(now);
        self.measured(Measure::ReplyUs, !self.unsent.keys.is_empty(), |this| this.flush_clients(now));
        self.gauges.set_credits(self.desk.number, self.desk.credits);
        self.sweep(now);
    }

    /// Does it, and measures how long that takes if there is something to do.
    fn measured(&mut self, measure: Measure, has_work: bool, work: impl FnOnce(&mut IoLoop)) {
        if !has_work {
            return work(self);
        }
        let begun = system::now();
        work(self);
        self.desk.recorder.measure(measure, system::now().since(begun).as_micros());
    }

    /// Everybody who is owed an answer may still get it, for a moment; nothing new is read.
    fn finish(&mut self, events: &mut Events) {
        let end = system::now() + Span::millis(limits::STOP_PATIENCE_MS);
        self.readable.clear();
        self.paused.clear();
        loop {
            let now = system::now();
            self.take_completions();
            self.flush_clients(now);
            let owed = self.clients.iter_mut().any(|(_, client)| client.is_owed_something());
            if !owed || now >= end {
                return;
            }
            if let Err(error) = self.poll.poll(events, Some(Duration::from_millis(5))) {
                warn!("an io thread cannot poll while it stops: {error}");
                return;
            }
            events.iter().filter(|event| event.token() != WAKER).for_each(|event| self.ready(event));
        }
    }

    fn sleep(&mut self, events: &mut Events) {
        let busy = self.acceptable || !self.readable.is_empty() || !self.unsent.keys.is_empty() || self.resumable;
        let alarm = self.desk.read_alarm();
        let timeout = if busy || !self.may_sleep() {
            Some(Duration::ZERO)
        } else if alarm != Time::NEVER {
            let left = Duration::from(alarm - system::now()).max(Duration::from_millis(1));
            let look_ms = if self.paused.is_empty() { limits::SWEEP_MS } else { limits::PAUSED_LOOK_MS };
            Some(left.min(Duration::from_millis(look_ms)))
        } else if !self.paused.is_empty() {
            // Buffers come back, and the bound of uncommitted bytes is left, without a wake.
            Some(Duration::from_millis(limits::PAUSED_LOOK_MS))
        } else if !self.clients.is_empty() {
            Some(Duration::from_millis(limits::SWEEP_MS))
        } else {
            None
        };
        let timeout = match self.accept_again {
            Time::NEVER => timeout,
            again => {
                let left = Duration::from(again.since(system::now())).max(Duration::from_millis(1));
                Some(timeout.unwrap_or(left).min(left))
            }
        };
        match timeout {
            Some(Duration::ZERO) => {}
            Some(_) => self.buffers.rest(),
            None => {
                self.buffers.trim();
                self.desk.let_go();
            }
        }
        if let Err(error) = self.poll.poll(events, timeout) {
            if error.kind() != io::ErrorKind::Interrupted {
                panic!("an io thread cannot poll: {error}");
            }
            events.clear();
        }
        self.parking.awake();
    }

    fn may_sleep(&self) -> bool {
        self.parking.may_sleep(|| {
            let handed_over = match &self.source {
                Source::Listener { others, .. } => others.iter().any(Sender::can_flush),
                Source::HandedOver(sockets) => !sockets.is_empty(),
            };
            !handed_over && self.completions.is_empty() && !self.desk.requests.can_flush() && !self.stop.is_asked()
        })
    }

    fn ready(&mut self, event: &Event) {
        let Some(slot) = event.token().0.checked_sub(FIRST_CONNECTION) else {
            self.acceptable = true;
            return;
        };
        let Some(key) = self.clients.key_of(slot) else { return };
        if let Some(client) = self.clients.get_mut(key) {
            client.ends |= event.is_read_closed() || event.is_error();
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.note_readable(key);
        }
        if event.is_writable() {
            self.note_unsent(key);
        }
    }

    /// New sockets: accepted here, or handed over by io-0.
    fn adopt(&mut self, now: Time) {
        let mut adopted = Vec::new();
        match &mut self.source {
            Source::Listener { listener, others } => {
                if std::mem::take(&mut self.acceptable) || now >= self.accept_again {
                    self.accept_again = Time::NEVER;
                    let (accepted, refused) = hand_out(listener, others, &self.counts, self.clients_max, &mut adopted);
                    self.desk.recorder.add(Counter::ClientConnectionsRefused, refused);
                    match accepted {
                        Accepted::All => {}
                        Accepted::More => self.acceptable = true,
                        Accepted::Failed(error) => {
                            self.accept_again = now + Span::millis(limits::ACCEPT_RETRY_MS);
                            warn!("cannot accept a client: {error}");
                        }
                    }
                }
                for other in others {
                    other.flush();
                }
            }
            Source::HandedOver(sockets) => {
                while let Some(mut batch) = sockets.take() {
                    adopted.append(&mut batch);
                }
            }
        }
        for stream in adopted {
            self.add(now, stream);
        }
    }

    fn add(&mut self, now: Time, stream: TcpStream) {
        if self.clients.len() >= limits::CLIENT_CONNECTIONS_MAX {
            self.desk.recorder.count(Counter::ClientConnectionsRefused);
            self.counts[usize::from(self.desk.number)].fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let registry = self.poll.registry();
        let mut registered = Ok(());
        let key = self.clients.insert_with(|key| {
            let mut client = Client::new(now, stream);
            let token = Token(key.slot as usize + FIRST_CONNECTION);
            let (options, stream) = (client.connection.set_options(), client.connection.stream());
            registered =
                options.and_then(|()| registry.register(stream, token, Interest::READABLE | Interest::WRITABLE));
            client
        });
        self.desk.recorder.count(Counter::ClientConnections);
        match registered {
            Ok(()) => self.note_readable(key),
            Err(error) => {
                warn!("cannot use a client's connection: {error}");
                self.close(key);
            }
        }
    }

    fn note_readable(&mut self, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if !std::mem::replace(&mut client.is_readable, true) {
            self.readable.push(key);
        }
    }

    fn note_unsent(&mut self, key: Key) {
        if let Some(client) = self.clients.get_mut(key) {
            self.unsent.note(key, client);
        }
    }

    fn close(&mut self, key: Key) {
        if let Some(mut client) = self.clients.remove(key) {
            self.desk.credits += client.postponed.len() as u32;
            self.unsent.forget(&client);
            let _ = self.poll.registry().deregister(client.connection.stream()); // closing does the same
            self.counts[usize::from(self.desk.number)].fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Takes waiting sockets; each goes to the loop with the fewest connections. What is beyond `clients_max` is closed, and
/// counted.
fn hand_out(
    listener: &TcpListener,
    others: &mut [Sender<Vec<TcpStream>>],
    counts: &[AtomicUsize],
    clients_max: usize,
    adopted: &mut Vec<TcpStream>,
) -> (Accepted, u64) {
    let mut refused = 0;
    let accepted = accept(listener, limits::CLIENT_ACCEPTS_PER_TURN, |stream, _| {
        if counts.iter().map(|count| count.load(Ordering::Relaxed)).sum::<usize>() >= clients_max {
            refused += 1;
            return;
        }
        let fewest = (0..counts.len()).min_by_key(|i| counts[*i].load(Ordering::Relaxed)).unwrap_or(0);
        counts[fewest].fetch_add(1, Ordering::Relaxed);
        match fewest.checked_sub(1) {
            None => adopted.push(stream),
            Some(other) => others[other].batch().push(stream),
        }
    });
    (accepted, refused)
}
