//! A client's connection. Reading draws on the pool, and only while bytes are there that are no whole frame yet; writing
//! collects replies and sends them in one go.

use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use mio::net::TcpStream;
use protocol::frame::{self, Frame, FrameError};
use socket2::{SockRef, TcpKeepalive};

use crate::limits::{CLIENT_KEEPALIVE_INTERVAL_S, CLIENT_KEEPALIVE_PROBES, CLIENT_KEEPALIVE_S, CLIENT_OUT_BYTES_KEPT};
use crate::pool::{BufMut, Buffers};

/// A stream with what was received and what is to be sent.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// Received and not taken.
    pub incoming: Incoming,
    /// To be sent.
    pub outgoing: Outgoing,
}

/// What came of reading once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// Bytes came, and more may be there.
    Some,
    /// Bytes came, and there were no more: the next ones raise an event, unless the end was announced already.
    SomeAndDrained,
    /// The socket is empty.
    Drained,
    /// The client has closed its direction.
    Closed,
    /// The pool is exhausted; the socket was not read.
    NoBuffer,
}

/// Received bytes; holds no buffer while it is empty.
#[derive(Debug, Default)]
pub struct Incoming {
    buffer: Option<BufMut>,
    /// Bytes at the front of the buffer that were taken.
    taken: usize,
}

/// Replies on their way out.
#[derive(Debug, Default)]
pub struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
}

impl Connection {
    /// Takes over a connected stream.
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, incoming: Incoming::default(), outgoing: Outgoing::default() }
    }

    /// For registration with a poll.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Replies leave at once, and a client that has vanished without an end is noticed.
    pub fn set_options(&self) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(CLIENT_KEEPALIVE_S))
            .with_interval(Duration::from_secs(CLIENT_KEEPALIVE_INTERVAL_S))
            .with_retries(CLIENT_KEEPALIVE_PROBES);
        SockRef::from(&self.stream).set_tcp_keepalive(&keepalive)
    }

    /// Reads once. Take all frames after it. `frame_bytes_max` bounds what a buffer is taken for.
    pub fn fill(&mut self, buffers: &mut Buffers, frame_bytes_max: usize) -> io::Result<Filled> {
        let Some(buffer) = self.incoming.room(buffers, frame_bytes_max) else {
            return Ok(Filled::NoBuffer);
        };
        loop {
            let room = buffer.spare_mut().len();
            match self.stream.read(buffer.spare_mut()) {
                Ok(0) => return Ok(Filled::Closed),
                Ok(n) => {
                    buffer.advance(n);
                    // Of a stream, less than there was room for is all there was (epoll(7), edge-triggered).
                    return Ok(if n < room { Filled::SomeAndDrained } else { Filled::Some });
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Filled::Drained),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends as much as the socket takes. True: nothing is left; false: go on when the socket is writable.
    pub fn flush(&mut self) -> io::Result<bool> {
        let Outgoing { bytes, sent } = &mut self.outgoing;
        while *sent < bytes.len() {
            match self.stream.write(&bytes[*sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => *sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // A slow reader may never be done: what it has taken is dropped all the same. Less is moved than was
                    // sent since the last time.
                    if *sent > bytes.len() / 2 {
                        bytes.drain(..*sent);
                        *sent = 0;
                    }
                    return Ok(false);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.clear();
        bytes.shrink_to(CLIENT_OUT_BYTES_KEPT);
        *sent = 0;
        Ok(true)
    }
}

impl Incoming {
    /// The next whole frame.
    pub fn next_frame(&mut self, frame_bytes_max: usize) -> Result<Option<Frame<'_>>, FrameError> {
        let Some(buffer) = &self.buffer else { return Ok(None) };
        match frame::split(&buffer[self.taken..], frame_bytes_max)? {
            Some((frame, whole)) => {
                self.taken += whole;
                Ok(Some(frame))
            }
            None => Ok(None),
        }
    }

    /// The bytes that no frame was made of yet.
    pub fn untaken(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], |buffer| &buffer[self.taken..])
    }

    /// Gives the buffer back if all of it was taken.
    pub fn release(&mut self, buffers: &mut Buffers) {
        if self.untaken().is_empty() {
            self.taken = 0;
            if let Some(buffer) = self.buffer.take() {
                buffers.give(buffer);
            }
        }
    }

    /// A buffer with room for the rest of the frame that has begun.
    fn room(&mut self, buffers: &mut Buffers, frame_bytes_max: usize) -> Option<&mut BufMut> {
        self.release(buffers);
        // A wrong length is reported by `next_frame`; here it only must not take a buffer.
        let needed = frame::needed(self.untaken(), frame_bytes_max).unwrap_or(frame::HEADER_BYTES);
        match &mut self.buffer {
            Some(buffer) if buffer.capacity() >= needed => buffer.consume(self.taken),
            _ => {
                let mut larger = buffers.take(needed)?;
                larger.fill(self.untaken());
                if let Some(smaller) = self.buffer.replace(larger) {
                    buffers.give(smaller);
                }
            }
        }
        self.taken = 0;
        self.buffer.as_mut()
    }
}

impl Outgoing {
    /// Where replies are appended.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Bytes that are not sent.
    pub fn unsent(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Bytes of memory that unsent replies take: room that was sent from stays until all of them are sent.
    pub fn held(&self) -> usize {
        if self.unsent() == 0 {
            0
        } else {
            self.bytes.capacity()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream as StdStream};

    use protocol::request::{Request, RequestHeader};
    use protocol::RequestId;

    use super::*;
    use crate::limits::CLIENT_OUT_BYTES_MAX;
    use crate::pool::Pool;

    const FRAME_MAX: usize = 64 * 1024;

    fn pair() -> (Connection, StdStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let client = StdStream::connect(listener.local_addr().expect("bound")).expect("connect");
        let (accepted, _) = listener.accept().expect("accept");
        accepted.set_nonblocking(true).expect("non-blocking");
        (Connection::new(TcpStream::from_std(accepted)), client)
    }

    fn fill_something(connection: &mut Connection, buffers: &mut Buffers) -> Filled {
        loop {
            match connection.fill(buffers, FRAME_MAX).expect("read") {
                Filled::Drained => std::thread::yield_now(),
                Filled::Some | Filled::SomeAndDrained => return Filled::Some,
                other => return other,
            }
        }
    }

    #[test]
    fn frames_cut_anywhere_arrive_and_the_buffer_goes_back() {
        let (mut connection, mut client) = pair();
        let pool = Pool::new(1 << 20);
        let mut buffers = pool.buffers();
        let key = vec![b'k'; 20_000];
        let mut bytes = Vec::new();
        for request in 1..=3 {
            let header = RequestHeader { request: RequestId(request), ..RequestHeader::default() };
            Request::Get { key: &key }.encode(&header, &mut bytes);
        }
        let mut seen = Vec::new();
        for piece in bytes.chunks(7_777) {
            client.write_all(piece).expect("write");
            assert_eq!(fill_something(&mut connection, &mut buffers), Filled::Some);
            while let Some(frame) = connection.incoming.next_frame(FRAME_MAX).expect("good frames") {
                let incoming = Request::decode(&frame).expect("a request");
                assert_eq!(incoming.request, Request::Get { key: &key });
                seen.push(incoming.header.request.0);
            }
        }
        connection.incoming.release(&mut buffers);
        assert_eq!(seen, [1, 2, 3]);
        assert_eq!(pool.used(), 0);
        drop(client);
        assert_eq!(fill_something(&mut connection, &mut buffers), Filled::Closed);
    }

    #[test]
    fn a_read_that_leaves_room_has_drained_the_socket() {
        let (mut connection, mut client) = pair();
        let pool = Pool::new(1 << 20);
        let mut buffers = pool.buffers();
        client.write_all(b"little").expect("write");
        let filled = loop {
            match connection.fill(&mut buffers, FRAME_MAX).expect("read") {
                Filled::Drained => std::thread::yield_now(),
                other => break other,
            }
        };
        assert_eq!(filled, Filled::SomeAndDrained);
        assert_eq!(connection.fill(&mut buffers, FRAME_MAX).expect("read"), Filled::Drained);
    }

    #[test]
    fn without_a_buffer_the_socket_is_left_alone() {
        let (mut connection, mut client) = pair();
        client.write_all(b"something").expect("write");
        let mut empty = Pool::new(0).buffers();
        assert_eq!(connection.fill(&mut empty, FRAME_MAX).expect("no error"), Filled::NoBuffer);
        assert_eq!(fill_something(&mut connection, &mut Pool::new(1 << 20).buffers()), Filled::Some);
        assert_eq!(connection.incoming.untaken(), b"something");
    }

    #[test]
    fn what_the_socket_does_not_take_is_kept() {
        let (mut connection, mut client) = pair();
        let reply = vec![7; 8 << 20];
        connection.outgoing.out().extend_from_slice(&reply);
        assert!(!connection.flush().expect("write"));
        assert!(connection.outgoing.unsent() > 0);
        let reader = std::thread::spawn(move || {
            let mut all = vec![0; 8 << 20];
            client.read_exact(&mut all).expect("read");
            all
        });
        while !connection.flush().expect("write") {
            std::thread::yield_now();
        }
        assert!(reader.join().expect("no panic") == reply);
        assert_eq!(connection.outgoing.unsent(), 0);
    }

    #[test]
    fn a_client_that_vanishes_is_asked_whether_it_is_there() {
        let (mut connection, _client) = pair();
        connection.set_options().expect("a socket takes options");
        let socket = SockRef::from(&*connection.stream());
        assert!(socket.keepalive().expect("an option") && socket.tcp_nodelay().expect("an option"));
        assert_eq!(socket.tcp_keepalive_time().expect("an option").as_secs(), CLIENT_KEEPALIVE_S);
        assert_eq!(socket.tcp_keepalive_interval().expect("an option").as_secs(), CLIENT_KEEPALIVE_INTERVAL_S);
        assert_eq!(socket.tcp_keepalive_retries().expect("an option"), CLIENT_KEEPALIVE_PROBES);
    }

    #[test]
    fn a_slow_reader_that_is_never_done_costs_no_more_than_what_it_owes() {
        let (mut connection, mut client) = pair();
        // Small ones, so that the sockets never take all that is to be sent.
        SockRef::from(&*connection.stream()).set_send_buffer_size(32 * 1024).expect("a socket has a buffer");
        SockRef::from(&client).set_recv_buffer_size(32 * 1024).expect("a socket has a buffer");
        let reply = vec![7; 256 * 1024];
        let mut some = vec![0; 8 * 1024];
        let (mut through, mut largest) = (0, 0);
        while through < 32 * CLIENT_OUT_BYTES_MAX {
            while connection.outgoing.unsent() < CLIENT_OUT_BYTES_MAX {
                connection.outgoing.out().extend_from_slice(&reply);
            }
            assert!(!connection.flush().expect("write"), "the client is slow");
            largest = largest.max(connection.outgoing.bytes.capacity());
            through += client.read(&mut some).expect("read");
        }
        assert!(largest <= 4 * (CLIENT_OUT_BYTES_MAX + reply.len()), "{largest} bytes for {CLIENT_OUT_BYTES_MAX}");
    }
}
