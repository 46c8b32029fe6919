//! The admin thread: `/metrics`, `/livez`, `/readyz` and `/status` over HTTP, on a port of their own. It reads numbers that
//! the other threads publish, and none of them ever waits for it; whatever happens at its port costs this thread only.

mod connection;
mod http;
mod metrics;
mod pages;

use std::io;
use std::time::Duration;

use log::warn;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use super::system;
use crate::limits;
use crate::metrics::{Counter, Recorder};
use crate::time::Time;
use connection::{Connection, Turn};
pub(super) use pages::Pages;

/// Readiness of the listener; that of the connection in slot `n` is `Token(n)`.
const LISTENER: Token = Token(usize::MAX);

/// What the thread is made of.
pub(super) struct AdminLoop {
    poll: Poll,
    listener: TcpListener,
    connections: Slab<Connection>,
    /// Slots that may have something to do.
    ready: Vec<usize>,
    /// The listener may have something to accept.
    acceptable: bool,
    pages: Pages,
    recorder: Recorder,
}

impl AdminLoop {
    pub(super) fn new(mut listener: TcpListener, pages: Pages, recorder: Recorder) -> io::Result<AdminLoop> {
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let connections = Slab::with_capacity(limits::ADMIN_CONNECTIONS_MAX);
        Ok(AdminLoop { poll, listener, connections, ready: Vec::new(), acceptable: true, pages, recorder })
    }

    /// For as long as the process lives.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(2 * limits::ADMIN_CONNECTIONS_MAX);
        loop {
            self.sleep(&mut events);
            let now = system::now();
            for event in &events {
                match event.token() {
                    LISTENER => self.acceptable = true,
                    Token(slot) => self.note_ready(slot),
                }
            }
            self.accept(now);
            for slot in std::mem::take(&mut self.ready) {
                self.turn(now, slot);
            }
            self.close_late(now);
        }
    }

    fn sleep(&mut self, events: &mut Events) {
        let deadline = self.connections.iter().map(|(_, connection)| connection.deadline()).min();
        let timeout = match deadline {
            _ if !self.ready.is_empty() => Some(Duration::ZERO),
            // An accept that failed for want of files is tried again.
            _ if self.acceptable => Some(Duration::from_millis(limits::SWEEP_MS)),
            Some(deadline) => Some(Duration::from(deadline.since(system::now())).max(Duration::from_millis(1))),
            None => None,
        };
        if let Err(error) = self.poll.poll(events, timeout) {
            if error.kind() != io::ErrorKind::Interrupted {
                panic!("the admin thread cannot poll: {error}");
            }
            events.clear();
        }
    }

    fn note_ready(&mut self, slot: usize) {
        if self.connections.contains(slot) && !self.ready.contains(&slot) {
            self.ready.push(slot);
        }
    }

    fn accept(&mut self, now: Time) {
        while self.acceptable {
            match self.listener.accept() {
                Ok((stream, _)) => self.add(Connection::new(now, stream)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.acceptable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    warn!("cannot accept a connection to the admin port: {error}");
                    return;
                }
            }
        }
    }

    fn add(&mut self, connection: Connection) {
        self.make_room();
        let slot = self.connections.insert(connection);
        let stream = self.connections[slot].stream();
        match self.poll.registry().register(stream, Token(slot), Interest::READABLE | Interest::WRITABLE) {
            Ok(()) => self.note_ready(slot),
            Err(error) => {
                warn!("cannot use a connection to the admin port: {error}");
                self.close(slot);
            }
        }
    }

    /// The newest may be somebody who wants to know what is wrong: whoever would be closed first anyway makes room.
    fn make_room(&mut self) {
        if self.connections.len() < limits::ADMIN_CONNECTIONS_MAX {
            return;
        }
        let oldest = self.connections.iter().min_by_key(|(_, connection)| connection.deadline());
        if let Some((slot, _)) = oldest {
            self.recorder.count(Counter::AdminConnectionsClosed);
            self.close(slot);
        }
    }

    fn turn(&mut self, now: Time, slot: usize) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let (pages, recorder) = (&mut self.pages, &mut self.recorder);
        let turn = connection.turn(now, |request| {
            recorder.count(Counter::AdminRequests);
            pages.answer(now, request.page)
        });
        match turn {
            Turn::Waits => {}
            Turn::More => self.note_ready(slot),
            Turn::Over => self.close(slot),
        }
    }

    fn close_late(&mut self, now: Time) {
        let is_late = |(slot, connection): (usize, &Connection)| (connection.deadline() <= now).then_some(slot);
        let late: Vec<usize> = self.connections.iter().filter_map(is_late).collect();
        for slot in late {
            self.recorder.count(Counter::AdminConnectionsClosed);
            self.close(slot);
        }
    }

    fn close(&mut self, slot: usize) {
        let mut connection = self.connections.remove(slot);
        let _ = self.poll.registry().deregister(connection.stream()); // closing does the same
        self.ready.retain(|ready| *ready != slot);
    }
}
