//! Accepting, some at a time: who connects faster than sockets are accepted must not keep a thread from its other work.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};

/// What came of accepting once.
#[derive(Debug)]
pub enum Accepted {
    /// Nobody waits: the next one raises an event.
    All,
    /// More may wait, and raise no event: accept again in the next turn.
    More,
    /// Of those who wait, none can be accepted now; most likely, too many files are open. No event tells when that has
    /// passed: try again after a while.
    Failed(io::Error),
}

/// Takes waiting sockets, at most `at_most`.
pub fn accept(listener: &TcpListener, at_most: usize, mut take: impl FnMut(TcpStream, SocketAddr)) -> Accepted {
    for _ in 0..at_most {
        match listener.accept() {
            Ok((stream, from)) => take(stream, from),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Accepted::All,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Accepted::Failed(error),
        }
    }
    Accepted::More
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream as StdStream;

    use super::*;

    #[test]
    fn more_than_one_turn_takes_are_left_for_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let waiting: Vec<StdStream> = (0..7).map(|_| StdStream::connect(address).expect("there is room")).collect();
        let mut taken = Vec::new();
        assert!(matches!(accept(&listener, 4, |stream, _| taken.push(stream)), Accepted::More));
        assert_eq!(taken.len(), 4);
        assert!(matches!(accept(&listener, 4, |stream, _| taken.push(stream)), Accepted::All));
        assert_eq!(taken.len(), waiting.len());
        let mut others = taken.iter().map(|stream| stream.peer_addr().expect("it is connected"));
        assert!(waiting.iter().all(|stream| others.next() == stream.local_addr().ok()), "in the order they came");
    }
}
