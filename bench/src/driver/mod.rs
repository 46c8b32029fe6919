//! The load generator's engine: one thread, many connections. Each turn of its loop waits once, reads each connection that has
//! something once, answers go into histograms and new requests into the connections' buffers, and each buffer is written once.
//! Nothing is allocated for a request.

mod connection;
#[cfg(test)]
mod tests;
mod timer;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use crate::dialect::{Answer, Dialect, Request};
use crate::measured::Measured;
use crate::workload::{put_key, Ask, Generator, Kind};
use connection::{Connection, Filled, Waiting};
use timer::Timer;

/// What one thread does.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    /// Addresses of the servers; all connections begin with the first one.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) connections: usize,
    /// Requests in flight per connection: a closed loop.
    pub(crate) depth: usize,
    /// Requests a second, all connections of this thread together: an open loop.
    pub(crate) rate: Option<f64>,
    pub(crate) key_bytes: usize,
    /// A request without an answer for so long is lost, and its connection with it.
    pub(crate) timeout: Duration,
    /// When answers begin to count.
    pub(crate) start: Instant,
    /// When they cease to; none: when the generator has no more to ask, and all is answered.
    pub(crate) end: Option<Instant>,
}

/// Drives `share`; `completed` follows along, for those who watch. What is answered between start and end counts; in an open
/// loop what was due then.
pub(crate) fn drive<D: Dialect>(share: &Share, generator: Generator, completed: &AtomicU64) -> io::Result<Measured> {
    Driver::<D>::new(share, generator)?.run(completed)
}

/// Requests of an open loop that may be under way: beyond, the server is hopelessly slower than the rate, and what is due waits
/// here.
const PENDING_MAX: usize = 100_000;
/// How long an open loop waits for what is under way when nothing more is due.
const GRACE: Duration = Duration::from_secs(1);
/// What a closed loop has waited for so long when it ends, and for longer than for any answer before, counts as failed.
const OVERDUE: Duration = Duration::from_secs(1);
/// Pause before a lost connection is opened again.
const REDIAL: Duration = Duration::from_millis(10);
/// Between two looks for lost requests; also the longest wait of a turn.
const SWEEP: Duration = Duration::from_millis(100);
const READ_BYTES: usize = 256 * 1024;
const EVENTS: usize = 1024;
const TIMER: Token = Token(usize::MAX);

/// One place for a connection.
struct Line<D> {
    open: Option<Connection<D>>,
    /// Where the next dial goes.
    target: usize,
    /// An address that a server named.
    hint: Option<SocketAddr>,
    /// It has something to be written, and is in `dirty`.
    is_dirty: bool,
}

struct Driver<'a, D> {
    share: &'a Share,
    generator: Generator,
    poll: Poll,
    timer: Timer,
    lines: Vec<Line<D>>,
    /// Lines that have something to be written.
    dirty: Vec<usize>,
    /// Lines whose sockets may have more to read.
    unread: VecDeque<usize>,
    /// Lines to be opened, each with its time.
    closed: VecDeque<(u64, usize)>,
    measured: Measured,
    value: Vec<u8>,
    key: Vec<u8>,
    began: Instant,
    /// Of the driver's clock, in nanoseconds: when it was last read.
    now: u64,
    start: u64,
    end: u64,
    /// Of an open loop: when the next request is due, and the line that it goes to.
    due: f64,
    next_line: usize,
    /// Requests under way.
    pending: usize,
    exhausted: bool,
    swept: u64,
    /// When an answer came last.
    answered_at: u64,
    completed: u64,
}

impl<'a, D: Dialect> Driver<'a, D> {
    fn new(share: &'a Share, generator: Generator) -> io::Result<Self> {
        let poll = Poll::new()?;
        let timer = Timer::new(TIMER, poll.registry())?;
        let began = Instant::now();
        let since = |at: Instant| u64::try_from(at.saturating_duration_since(began).as_nanos()).unwrap_or(u64::MAX);
        let line = |_| Line { open: None, target: 0, hint: None, is_dirty: false };
        Ok(Self {
            share,
            timer,
            lines: (0..share.connections).map(line).collect(),
            dirty: Vec::new(),
            unread: VecDeque::new(),
            closed: (0..share.connections).map(|line| (0, line)).collect(),
            measured: Measured::default(),
            value: (0..generator.value_bytes_max().min(D::VALUE_BYTES_MAX)).map(|at| b'a' + (at % 26) as u8).collect(),
            key: Vec::new(),
            began,
            now: 0,
            start: since(share.start),
            end: share.end.map_or(u64::MAX, since),
            due: 0.0,
            next_line: 0,
            pending: 0,
            exhausted: false,
            swept: 0,
            answered_at: 0,
            completed: 0,
            generator,
            poll,
        })
    }

    fn run(mut self, completed: &AtomicU64) -> io::Result<Measured> {
        let mut events = Events::with_capacity(EVENTS);
        let mut buffer = vec![0; READ_BYTES];
        while !self.has_ended() {
            self.dial();
            let patience = self.patience()?;
            match self.poll.poll(&mut events, Some(patience)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            self.tick();
            for _ in 0..self.unread.len() {
                self.unread.pop_front().into_iter().for_each(|line| self.read(line, &mut buffer));
            }
            for event in events.iter().filter(|event| event.token() != TIMER) {
                let line = event.token().0;
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    self.read(line, &mut buffer);
                }
                if event.is_read_closed() {
                    self.unread.push_back(line);
                }
                self.mark(line);
            }
            self.submit_due();
            self.flush();
            self.sweep();
            completed.store(self.completed, Ordering::Relaxed);
        }
        self.give_up();
        Ok(self.measured)
    }

    fn tick(&mut self) {
        self.now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    }

    fn has_ended(&self) -> bool {
        match (self.share.end, self.share.rate) {
            (None, _) => {
                let is_silent = self.now > self.answered_at + nanos(self.share.timeout + GRACE);
                self.exhausted && self.pending == 0 || is_silent
            }
            (Some(_), None) => self.now >= self.end,
            (Some(_), Some(_)) => self.now >= self.end && (self.pending == 0 || self.now >= self.end + nanos(GRACE)),
        }
    }

    /// How long nothing has to be done if no socket has news; less than a millisecond is the timer's.
    fn patience(&mut self) -> io::Result<Duration> {
        if !self.unread.is_empty() {
            return Ok(Duration::ZERO);
        }
        let mut until = self.end.max(self.now + 1).min(self.now + nanos(SWEEP));
        if let Some((when, _)) = self.closed.front() {
            until = until.min(*when);
        }
        if self.share.rate.is_some() && (self.due as u64) < self.end && self.pending < PENDING_MAX {
            until = until.min(self.due as u64);
            self.tick();
            let wait = Duration::from_nanos(until.saturating_sub(self.now));
            if wait.is_zero() {
                return Ok(wait);
            }
            self.timer.wake_after(wait)?;
        }
        let wait = Duration::from_nanos(until.saturating_sub(self.now));
        Ok(Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(0) + 1))
    }

    /// Opens the lines whose time has come.
    fn dial(&mut self) {
        while self.closed.front().is_some_and(|(when, _)| *when <= self.now) {
            let Some((_, index)) = self.closed.pop_front() else { return };
            let line = &mut self.lines[index];
            let address = line.hint.take().unwrap_or(self.share.addresses[line.target % self.share.addresses.len()]);
            match Connection::dial(address, Token(index), self.poll.registry(), self.now) {
                Ok(mut connection) => {
                    self.begin(&mut connection);
                    self.lines[index].open = Some(connection);
                    self.mark(index);
                }
                Err(error) => self.lose(index, &error.to_string()),
            }
        }
    }

    /// Of a closed loop: its first requests, as soon as it takes any.
    fn begin(&mut self, connection: &mut Connection<D>) {
        if self.share.rate.is_none() && connection.takes_requests() && !connection.has_begun {
            connection.has_begun = true;
            (0..self.share.depth).for_each(|_| self.submit_next(connection, self.now));
        }
    }

    /// It has something to be written.
    fn mark(&mut self, index: usize) {
        if !std::mem::replace(&mut self.lines[index].is_dirty, true) {
            self.dirty.push(index);
        }
    }

    /// One read of one connection, and all that follows from it.
    fn read(&mut self, index: usize, buffer: &mut Vec<u8>) {
        let Some(mut connection) = self.lines[index].open.take() else { return };
        let (filled, length) = connection.receive(buffer);
        self.tick();
        let parsed = connection.parse(&buffer[..length], |connection, slot, answer| {
            self.answered(connection, slot, answer);
        });
        self.begin(&mut connection);
        let has_left = connection.leaving.is_some() && connection.slots.len() == 0;
        self.lines[index].open = Some(connection);
        self.mark(index);
        match (parsed, filled) {
            (Err(broken), _) => self.lose(index, &broken.0),
            (_, Filled::Ended(why)) => self.lose(index, &why),
            _ if has_left => self.lose(index, ""),
            (_, Filled::More) => self.unread.push_back(index),
            (_, Filled::Drained) => {}
        }
    }

    fn answered(&mut self, connection: &mut Connection<D>, slot: u32, answer: Answer) {
        let Some(waiting) = connection.slots.free(slot) else {
            return self.measured.failed("an answer to nothing that was asked".to_owned());
        };
        self.pending -= 1;
        self.answered_at = self.now;
        let goes_on = waiting.ask.kind == Kind::ReadThenUpdate && !waiting.second && answer == Answer::Done;
        if goes_on {
            self.submit(connection, Waiting { second: true, sent: self.now, ..waiting });
        } else {
            self.count(&waiting, answer, connection);
        }
        if !goes_on && self.share.rate.is_none() && connection.takes_requests() && self.now < self.end {
            self.submit_next(connection, self.now);
        }
    }

    fn count(&mut self, waiting: &Waiting, answer: Answer, connection: &mut Connection<D>) {
        if let Answer::Elsewhere { leader, .. } = &answer {
            use std::net::ToSocketAddrs as _;
            let named = leader.as_ref().and_then(|leader| leader.to_socket_addrs().ok()?.next());
            connection.leaving.get_or_insert(named);
        }
        let at = if self.share.rate.is_some() { waiting.due } else { self.now };
        if at < self.start || at >= self.end {
            return;
        }
        match answer {
            Answer::Done | Answer::Missing => {
                self.completed += 1;
                let latency = Duration::from_nanos(self.now - waiting.due);
                self.measured.succeeded(waiting.ask.kind, latency, answer == Answer::Missing);
                if self.now >= self.end {
                    self.measured.was_late();
                }
            }
            Answer::Failed(why) | Answer::Elsewhere { why, .. } => self.measured.failed(why),
        }
    }

    /// The generator's next request onto this connection.
    fn submit_next(&mut self, connection: &mut Connection<D>, due: u64) {
        match self.generator.next() {
            Some(ask) => self.submit(connection, Waiting { ask, due, sent: self.now, second: false }),
            None => self.exhausted = true,
        }
    }

    fn submit(&mut self, connection: &mut Connection<D>, waiting: Waiting) {
        let Ask { kind, key, value_bytes, keys } = waiting.ask;
        let kind = match kind {
            Kind::ReadThenUpdate if waiting.second => Kind::Update,
            Kind::ReadThenUpdate => Kind::Read,
            kind => kind,
        };
        self.key.clear();
        put_key(&mut self.key, key, self.share.key_bytes);
        let writes = matches!(kind, Kind::Create | Kind::Update);
        let value = if writes { &self.value[..self.value.len().min(value_bytes as usize)] } else { &[] };
        let slot = connection.slots.take(waiting);
        connection.dialect.ask(slot, &Request { kind, key: &self.key, value, keys }, &mut connection.out);
        self.pending += 1;
    }

    /// Of an open loop: all that is due, over the connections in turn.
    fn submit_due(&mut self) {
        let Some(rate) = self.share.rate else { return };
        while (self.due as u64) <= self.now && (self.due as u64) < self.end && self.pending < PENDING_MAX {
            let Some(index) = self.next_ready_line() else { return };
            let Some(mut connection) = self.lines[index].open.take() else { return };
            self.submit_next(&mut connection, self.due as u64);
            self.lines[index].open = Some(connection);
            self.mark(index);
            self.due += 1e9 / rate;
        }
    }

    fn next_ready_line(&mut self) -> Option<usize> {
        let count = self.lines.len();
        let takes = |line: &Line<D>| line.open.as_ref().is_some_and(Connection::takes_requests);
        let offset = (0..count).find(|offset| takes(&self.lines[(self.next_line + offset) % count]))?;
        let index = (self.next_line + offset) % count;
        self.next_line = index + 1;
        Some(index)
    }

    fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for index in dirty.drain(..) {
            self.lines[index].is_dirty = false;
            if let Some(Err(error)) = self.lines[index].open.as_mut().map(Connection::flush) {
                self.lose(index, &error.to_string());
            }
        }
        // Lines that were marked meanwhile stand in the new list.
        dirty.append(&mut self.dirty);
        self.dirty = dirty;
    }

    /// The connection is over: what it had under way has failed, and it is opened again, elsewhere if it did not end on purpose.
    fn lose(&mut self, index: usize, why: &str) {
        let line = &mut self.lines[index];
        let mut pause = nanos(REDIAL);
        match line.open.as_mut().and_then(|connection| connection.leaving) {
            Some(Some(leader)) => {
                line.hint = Some(leader);
                pause = 0;
            }
            _ => line.target += 1,
        }
        if let Some(mut connection) = line.open.take() {
            let counts = self.now >= self.start && self.now < self.end;
            let lost = connection.slots.clear();
            self.pending -= lost;
            (0..lost).filter(|_| counts).for_each(|_| self.measured.failed(format!("connection lost: {why}")));
        }
        self.closed.push_back((self.now + pause, index));
    }

    /// Ends connections with requests that nobody answers.
    fn sweep(&mut self) {
        if self.now < self.swept + nanos(SWEEP) {
            return;
        }
        self.swept = self.now;
        let oldest = self.now.saturating_sub(nanos(self.share.timeout));
        for index in 0..self.lines.len() {
            let silent = |connection: &Connection<D>| {
                let never_opened = !connection.dialect.is_ready() && connection.dialled < oldest;
                never_opened || connection.slots.iter().any(|waiting| waiting.sent < oldest)
            };
            if self.lines[index].open.as_ref().is_some_and(silent) {
                self.lose(index, "no answer within the time-out");
            }
        }
    }

    /// What is under way at the end: in a closed loop what has waited for long, in an open one all that was due, sent or not.
    fn give_up(&mut self) {
        let overdue = nanos(OVERDUE).max(self.measured.latencies().max());
        let latest = if self.share.rate.is_some() { self.end } else { self.end.saturating_sub(overdue) };
        let open = self.lines.iter().filter_map(|line| line.open.as_ref());
        let waiting = open.flat_map(|connection| connection.slots.iter());
        let overdue = waiting.filter(|waiting| waiting.due >= self.start.min(latest) && waiting.due < latest).count();
        self.measured.failed_times("not answered before the end".to_owned(), overdue as u64);
        if let Some(rate) = self.share.rate {
            let left = (self.end as f64 - self.due.max(self.start as f64)).max(0.0);
            let unsent = (left * rate / 1e9) as u64;
            self.measured.failed_times("due and never sent: more than is taken".to_owned(), unsent);
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
