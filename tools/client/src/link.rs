//! One connection: HELLO, frames out and in. Sockets are non-blocking; waiting is the pipeline's.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "this is where sockets are")]

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::ToSocketAddrs;

use mio::net::TcpStream;
use mio::{Interest, Registry};
use protocol::format::{negotiate, Hello, HelloReply};
use protocol::frame;
use protocol::kind::Kind;
use protocol::reply::Reply;
use protocol::RequestId;

use crate::machine::ConnectionId;

/// A connection, open or opening. Its HELLO is the first thing in the output.
#[derive(Debug)]
pub(crate) struct Link {
    id: ConnectionId,
    stream: TcpStream,
    welcome: bool,
    out: Outbox,
    input: Vec<u8>,
    filled: usize,
    parsed: usize,
    /// The socket said that it has nothing more.
    drained: bool,
    /// The other side has closed: read on until the end shows, no further event will tell.
    closing: bool,
}

/// Requests on their way out.
#[derive(Debug, Default)]
struct Outbox {
    bytes: Vec<u8>,
    written: usize,
    /// Where each queued request ends in `bytes`.
    ends: VecDeque<(usize, RequestId)>,
    /// The last request whose whole frame the system has taken.
    sent: RequestId,
}

/// What a connection brought.
#[derive(Debug)]
pub(crate) enum Arrived<'a> {
    /// Nothing more for now.
    Nothing,
    /// The server accepted the HELLO.
    Welcome,
    /// A reply.
    Reply(Reply<'a>),
}

/// The connection has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The other side does not speak raftkv, or no version that this one speaks.
    pub(crate) incompatible: bool,
}

const READ_BYTES: usize = 64 * 1024;

impl Link {
    /// Starts to connect to `address`; a name with several addresses is tried with the next one in each life.
    pub(crate) fn open(id: ConnectionId, address: &str, registry: &Registry) -> io::Result<Self> {
        let resolved: Vec<_> = address.to_socket_addrs()?.collect();
        let attempt = id.life.saturating_sub(1) as usize;
        let target = *resolved
            .get(attempt % resolved.len().max(1))
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))?;
        let mut stream = TcpStream::connect(target)?;
        let _ = stream.set_nodelay(true);
        let token = mio::Token(id.endpoint.0 as usize);
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let mut out = Outbox { bytes: Vec::with_capacity(READ_BYTES), ..Outbox::default() };
        Hello::client().encode(&mut out.bytes);
        let input = vec![0; READ_BYTES];
        Ok(Self { id, stream, welcome: false, out, input, filled: 0, parsed: 0, drained: false, closing: false })
    }

    pub(crate) fn id(&self) -> ConnectionId {
        self.id
    }

    /// The last request that may have arrived.
    pub(crate) fn sent(&self) -> RequestId {
        self.out.sent
    }

    /// An event said that the other side has closed.
    pub(crate) fn set_closing(&mut self) {
        self.closing = true;
    }

    /// Queues a request.
    pub(crate) fn push(&mut self, request: RequestId, encode: impl FnOnce(&mut Vec<u8>)) {
        self.out.push(request, encode);
    }

    /// Writes what is queued, as far as the socket takes it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush(&mut self.stream)
    }

    /// The next thing that the connection brings.
    pub(crate) fn next(&mut self, frame_bytes_max: usize) -> Result<Arrived<'_>, Ended> {
        let incompatible = |_| Ended { incompatible: true };
        loop {
            let unread = &self.input[self.parsed..self.filled];
            let whole = frame::needed(unread, frame_bytes_max).map_err(incompatible)?;
            if unread.len() >= whole && frame::split(unread, frame_bytes_max).map_err(incompatible)?.is_some() {
                let start = self.parsed;
                self.parsed += whole;
                return self.arrived(start, frame_bytes_max);
            }
            if self.drained {
                // The next event tells when there is more.
                self.drained = false;
                return Ok(Arrived::Nothing);
            }
            self.fill(whole)?;
        }
    }

    /// Reads once, into a buffer that holds at least a frame of `whole` bytes.
    fn fill(&mut self, whole: usize) -> Result<(), Ended> {
        if self.parsed > 0 {
            self.input.copy_within(self.parsed..self.filled, 0);
            (self.filled, self.parsed) = (self.filled - self.parsed, 0);
        }
        if self.input.len() < whole.max(self.filled + 1) {
            self.input.resize(whole.max(READ_BYTES), 0);
        }
        match self.stream.read(&mut self.input[self.filled..]) {
            Ok(0) => return Err(Ended { incompatible: false }),
            Ok(bytes) => {
                self.filled += bytes;
                // A short read has emptied the socket; the next event tells when there is more.
                self.drained = self.filled < self.input.len() && !self.closing;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_not_yet(&error) => self.drained = true,
            Err(_) => return Err(Ended { incompatible: false }),
        }
        Ok(())
    }

    fn arrived(&mut self, start: usize, frame_bytes_max: usize) -> Result<Arrived<'_>, Ended> {
        let split = frame::split(&self.input[start..self.filled], frame_bytes_max);
        let (frame, _) = split.ok().flatten().expect("looked at");
        let wrong = Err(Ended { incompatible: true });
        match frame.kind() {
            Ok(Kind::Reply) if self.welcome => Reply::decode(&frame).map(Arrived::Reply).or(wrong),
            Ok(_) if !self.welcome => match HelloReply::decode(&frame) {
                Ok(HelloReply::Accepted(theirs)) if negotiate(&Hello::client(), &theirs).is_ok() => {
                    self.welcome = true;
                    Ok(Arrived::Welcome)
                }
                _ => wrong,
            },
            _ => wrong,
        }
    }
}

impl Outbox {
    fn push(&mut self, request: RequestId, encode: impl FnOnce(&mut Vec<u8>)) {
        encode(&mut self.bytes);
        self.ends.push_back((self.bytes.len(), request));
    }

    fn flush(&mut self, stream: &mut impl Write) -> io::Result<()> {
        let result = self.write(stream);
        // Also after an error: what the system took before it may have arrived, and been executed.
        while self.ends.front().is_some_and(|(end, _)| *end <= self.written) {
            self.sent = self.ends.pop_front().expect("looked at").1;
        }
        if self.written == self.bytes.len() {
            self.bytes.clear();
            self.written = 0;
        }
        result
    }

    fn write(&mut self, stream: &mut impl Write) -> io::Result<()> {
        while self.written < self.bytes.len() {
            match stream.write(&self.bytes[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => self.written += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Also while the connection is still opening.
                Err(error) if is_not_yet(&error) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn is_not_yet(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, then fails.
    struct Breaks(usize);

    impl Write for Breaks {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            if taken == 0 {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn c23_a_frame_that_was_taken_before_the_connection_broke_counts_as_sent() {
        for (taken, sent) in [(0, 0), (9, 0), (10, 1), (19, 1), (20, 2), (29, 2)] {
            let mut out = Outbox::default();
            for request in 1..=3 {
                out.push(RequestId(request), |bytes| bytes.extend_from_slice(&[7; 10]));
            }
            out.flush(&mut Breaks(taken)).expect_err("it breaks");
            assert_eq!(out.sent, RequestId(sent), "after {taken} bytes");
        }
    }
}
