//! One non-blocking connection: what is on its way out, the tail of what came in, and the requests that wait for answers.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::dialect::{Answer, Broken, Dialect, Step};
use crate::workload::Ask;

/// A request that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) ask: Ask,
    /// When it was due: in a closed loop when it was sent. Nanoseconds of the driver's clock.
    pub(super) due: u64,
    /// When it was put into bytes.
    pub(super) sent: u64,
    /// The second request of two that count as one.
    pub(super) second: bool,
}

/// Slots for the requests under way; an answer names its slot.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: Vec<Option<Waiting>>,
    free: Vec<u32>,
}

impl Slots {
    /// Slots in use.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Takes a free slot.
    pub(super) fn take(&mut self, waiting: Waiting) -> u32 {
        match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(waiting);
                slot
            }
            None => {
                self.slots.push(Some(waiting));
                self.slots.len() as u32 - 1
            }
        }
    }

    /// Frees a slot; none if it was not in use.
    pub(super) fn free(&mut self, slot: u32) -> Option<Waiting> {
        let waiting = self.slots.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        Some(waiting)
    }

    /// All that wait.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Waiting> {
        self.slots.iter().flatten()
    }

    /// Frees all; how many were in use.
    pub(super) fn clear(&mut self) -> usize {
        let count = self.len();
        self.slots.clear();
        self.free.clear();
        count
    }
}

/// How a read went.
pub(super) enum Filled {
    /// The socket may have more.
    More,
    /// The socket is empty; an event tells when there is more.
    Drained,
    /// The connection has ended, or never began; why.
    Ended(String),
}

/// See the module.
pub(super) struct Connection<D> {
    stream: TcpStream,
    pub(super) dialect: D,
    pub(super) out: Vec<u8>,
    written: usize,
    /// Received bytes of something that is not here as a whole.
    rest: Vec<u8>,
    pub(super) slots: Slots,
    /// Its server takes no more requests: it ends when all are answered, and the next one goes there, if it is known.
    pub(super) leaving: Option<Option<SocketAddr>>,
    /// When it was dialled, by the driver's clock.
    pub(super) dialled: u64,
    /// Its first requests are under way.
    pub(super) has_begun: bool,
}

/// Largest unfinished thing that a connection may have received, in bytes.
const REST_BYTES_MAX: usize = 32 * 1024 * 1024;

impl<D: Dialect> Connection<D> {
    /// Begins to connect.
    pub(super) fn dial(address: SocketAddr, token: Token, registry: &Registry, now: u64) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        let _ = stream.set_nodelay(true); // a socket that refuses it is slower, not wrong
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let (mut dialect, mut out) = (D::new(), Vec::new());
        dialect.greet(&mut out);
        let (slots, rest) = (Slots::default(), Vec::new());
        Ok(Self { stream, dialect, out, written: 0, rest, slots, leaving: None, dialled: now, has_begun: false })
    }

    /// Whether requests may be put on it.
    pub(super) fn takes_requests(&self) -> bool {
        self.leaving.is_none() && self.dialect.is_ready()
    }

    /// One read, behind what is left of the read before; how many bytes `buffer` holds then.
    pub(super) fn receive(&mut self, buffer: &mut Vec<u8>) -> (Filled, usize) {
        let kept = self.rest.len();
        if buffer.len() < 2 * kept {
            buffer.resize(2 * kept, 0);
        }
        buffer[..kept].copy_from_slice(&self.rest);
        match self.stream.read(&mut buffer[kept..]) {
            Ok(0) => (Filled::Ended("the connection ended".to_owned()), kept),
            Ok(received) if kept + received == buffer.len() => (Filled::More, kept + received),
            Ok(received) => (Filled::Drained, kept + received),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (Filled::More, kept),
            Err(error) if is_not_yet(&error) => (Filled::Drained, kept),
            Err(error) => (Filled::Ended(error.to_string()), kept),
        }
    }

    /// Calls `each` with every answer in what was received, in order, and keeps what is not whole.
    pub(super) fn parse(&mut self, input: &[u8], mut each: impl FnMut(&mut Self, u32, Answer)) -> Result<(), Broken> {
        let mut parsed = 0;
        while parsed < input.len() {
            match self.dialect.next(&input[parsed..], &mut self.out)? {
                Step::More => break,
                Step::Passed { bytes } => parsed += bytes,
                Step::Answered { bytes, slot, answer } => {
                    parsed += bytes;
                    each(self, slot, answer);
                }
            }
        }
        self.rest.clear();
        self.rest.extend_from_slice(&input[parsed..]);
        if self.rest.len() > REST_BYTES_MAX {
            return Err(Broken("an answer without end".into()));
        }
        Ok(())
    }

    /// One write of what is queued. The next event tells when the socket takes more.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.written == self.out.len() {
            return Ok(());
        }
        match self.stream.write(&self.out[self.written..]) {
            Ok(bytes) => self.written += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted || is_not_yet(&error) => {}
            Err(error) => return Err(error),
        }
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        }
        Ok(())
    }
}

/// Also while the connection is still opening.
fn is_not_yet(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Kind;

    #[test]
    fn slots_are_used_again_and_an_answer_counts_once() {
        let waiting =
            Waiting { ask: Ask { kind: Kind::Read, key: 1, value_bytes: 0, keys: 0 }, due: 1, sent: 1, second: false };
        let mut slots = Slots::default();
        assert_eq!((slots.take(waiting), slots.take(waiting)), (0, 1));
        assert!(slots.free(0).is_some() && slots.free(0).is_none() && slots.free(9).is_none());
        assert_eq!((slots.take(waiting), slots.len()), (0, 2));
        assert_eq!((slots.clear(), slots.len()), (2, 0));
    }
}
