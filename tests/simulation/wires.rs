//! Connections between clients and nodes.

use client::machine::ConnectionId as ClientConnection;
use raftkv::replica::ConnectionId;
use raftkv::time::{Span, Time};

use crate::clients::{Client, Wire};
use crate::io_loop::Outgoing;
use crate::oracle::Oracle;
use crate::world::{Event, World};

/// A client's connection to a node.
pub struct ClientWire {
    pub client: u32,
    pub connection: ClientConnection,
    pub node: u32,
    life: u32,
    server: ConnectionId,
    last_arrival: [Time; 2],
}

type MachineTime = client::machine::Time;

impl World {
    pub fn client(&mut self, number: u32, f: impl FnOnce(&mut Client, MachineTime, &mut Oracle, &mut Vec<Wire>)) {
        let now = client::machine::Time(self.queue.now().0);
        let mood = self.mood();
        let mut wires = Vec::new();
        let client = &mut self.clients[number as usize];
        f(client, now, &mut self.oracle, &mut wires);
        client.run(now, &mut self.oracle, mood, &mut wires);
        if let Some(time) = client.next_deadline(mood) {
            let time = time.max(client::machine::Time(now.0 + 1));
            if time < client.next_run {
                client.next_run = time;
                self.queue.at(Time(time.0), Event::ClientRun { client: number });
            }
        }
        for wire in wires {
            self.wire(number, wire);
        }
    }

    /// What happens to a client that sleeps, happens when it wakes.
    pub fn for_the_awake(&mut self, event: Event) -> Option<Event> {
        let client = match &event {
            Event::ClientRun { client }
            | Event::ClientConnect { client, .. }
            | Event::ClientReply { client, .. }
            | Event::ClientClosed { client, .. } => *client,
            _ => return Some(event),
        };
        let now = client::machine::Time(self.queue.now().0);
        match self.clients[client as usize].asleep(now) {
            None => Some(event),
            Some(until) => {
                self.queue.at(Time(until.0), event);
                None
            }
        }
    }

    pub fn wire(&mut self, client: u32, wire: Wire) {
        let delay = Span(20_000 + self.random.around(self.profile.delay.0));
        match wire {
            Wire::Connect { connection, node } => {
                self.queue.after(delay, Event::ClientConnect { client, connection, node });
            }
            Wire::Disconnect { connection } => self.drop_wire(client, connection),
            Wire::Break { connection, seen } => {
                self.drop_wire(client, connection);
                self.queue.at(Time(seen.0), Event::ClientClosed { client, connection });
            }
            Wire::Send { connection, frame } => {
                let time = self.queue.now() + delay;
                if let Some(wire) = self.find_wire(client, connection) {
                    let time = in_order(&mut wire.last_arrival[0], time);
                    self.queue.at(time, Event::ClientFrame { client, connection, frame });
                }
            }
        }
    }

    pub fn client_connect(&mut self, client: u32, connection: ClientConnection, id: u32) {
        let node = &mut self.nodes[id as usize];
        let life = node.life;
        let Some(process) = &mut node.process else {
            return self.queue.after(Span::millis(1), Event::ClientClosed { client, connection });
        };
        let server = process.io.accept();
        let last_arrival = [self.queue.now(); 2];
        self.wires.push(ClientWire { client, connection, node: id, life, server, last_arrival });
        self.client(client, |client, now, oracle, wires| client.connected(now, connection, oracle, wires));
    }

    pub fn client_frame(&mut self, client: u32, connection: ClientConnection, frame: Vec<u8>) {
        let Some(wire) = self.find_wire(client, connection) else { return };
        let (id, life, server) = (wire.node, wire.life, wire.server);
        let node = &mut self.nodes[id as usize];
        if let Some(process) = node.process.as_mut().filter(|_| node.life == life) {
            process.io.receive(server, frame);
            let delay = Span(self.random.below(20_000));
            self.wake(id, self.queue.now() + delay);
        }
    }

    pub fn send_reply(&mut self, id: u32, outgoing: Outgoing) {
        let delay = Span(20_000 + self.random.around(self.profile.delay.0));
        let time = self.queue.now() + delay;
        let wire = self.wires.iter_mut().find(|wire| wire.node == id && wire.server == outgoing.connection);
        if let Some(wire) = wire {
            let time = in_order(&mut wire.last_arrival[1], time);
            let (client, connection) = (wire.client, wire.connection);
            self.queue.at(time, Event::ClientReply { client, connection, frame: outgoing.frame });
        }
    }

    pub fn client_closed(&mut self, client: u32, connection: ClientConnection) {
        self.drop_wire(client, connection);
        self.client(client, |client, now, oracle, wires| client.closed(now, connection, oracle, wires));
    }

    pub fn drop_wire(&mut self, client: u32, connection: ClientConnection) {
        let Some(at) = self.wires.iter().position(|wire| wire.client == client && wire.connection == connection) else {
            return;
        };
        let wire = self.wires.swap_remove(at);
        let node = &mut self.nodes[wire.node as usize];
        if let Some(process) = node.process.as_mut().filter(|_| node.life == wire.life) {
            process.io.close(wire.server);
        }
    }

    pub fn find_wire(&mut self, client: u32, connection: ClientConnection) -> Option<&mut ClientWire> {
        self.wires.iter_mut().find(|wire| wire.client == client && wire.connection == connection)
    }
}

/// Bytes of one connection arrive in order.
fn in_order(last: &mut Time, time: Time) -> Time {
    *last = time.max(*last + Span(1));
    *last
}
