//! Which connections of a loop have replies to send, and what all of them owe together.

use super::clients::Client;
use crate::net::connections::Key;

/// Counted whenever a connection's replies grow, are sent, or are given up with it.
pub(super) struct Unsent {
    /// Connections that may have something to send, each once.
    pub(super) keys: Vec<Key>,
    /// Memory that the replies of all connections hold.
    bytes: usize,
    bytes_max: usize,
}

impl Unsent {
    pub(super) fn new(bytes_max: usize) -> Unsent {
        Unsent { keys: Vec::new(), bytes: 0, bytes_max }
    }

    /// The loop's clients have left so much untaken that nobody's further requests are taken.
    pub(super) fn is_spent(&self) -> bool {
        self.bytes >= self.bytes_max
    }

    /// A connection has, or may have, something to send.
    pub(super) fn note(&mut self, key: Key, client: &mut Client) {
        self.count(client);
        if !std::mem::replace(&mut client.is_unsent, true) {
            self.keys.push(key);
        }
    }

    /// What a connection owes has changed.
    pub(super) fn count(&mut self, client: &mut Client) {
        let held = client.connection.outgoing.held();
        self.bytes = self.bytes + held - std::mem::replace(&mut client.counted, held);
    }

    /// A connection is closed.
    pub(super) fn forget(&mut self, client: &Client) {
        self.bytes -= client.counted;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use mio::net::TcpListener;

    use super::*;
    use crate::net::connections::Connections;
    use crate::time::Time;

    #[test]
    fn what_is_owed_is_counted_until_it_is_sent_or_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let reply = vec![7; 1 << 20];
        let (mut clients, mut unsent) = (Connections::default(), Unsent::new(2 * reply.len()));
        let connect = |_| {
            let other = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("it waits");
            let (stream, _) = listener.accept().expect("it has connected");
            (clients.insert_with(|_| Client::new(Time(0), stream)), other)
        };
        let others: Vec<_> = (0..2).map(connect).collect();
        for (key, _) in &others {
            assert!(!unsent.is_spent());
            let client = clients.get_mut(*key).expect("it is there");
            client.connection.outgoing.out().extend_from_slice(&reply);
            unsent.note(*key, client);
            unsent.note(*key, client);
        }
        assert!(unsent.is_spent());
        assert_eq!(unsent.keys.len(), 2, "each once");
        let client = clients.get_mut(others[0].0).expect("it is there");
        std::thread::scope(|scope| {
            let mut other = &others[0].1;
            scope.spawn(move || other.read_exact(&mut vec![0; 1 << 20]).expect("a reply"));
            while !client.connection.flush().expect("the socket takes something") {
                std::thread::yield_now();
            }
        });
        unsent.count(client);
        assert!(!unsent.is_spent());
        assert_eq!(unsent.bytes, clients.get_mut(others[1].0).expect("it is there").connection.outgoing.held());
        for (key, _) in &others {
            unsent.forget(&clients.remove(*key).expect("it is there"));
        }
        assert_eq!(unsent.bytes, 0);
    }
}
