//! A connection between two nodes. It draws on nobody's pool (C-27): what it may hold is the peer's inflight window and
//! one largest frame in each direction, by the sizes in `limits`.
//!
//! Reading: one buffer per connection, frames are cut out of it in place. Writing: frame heads and small bodies are copied
//! into one buffer, larger bodies are kept by reference, and everything leaves in vectored writes.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};

use bytes::Bytes;
use mio::net::TcpStream;
use protocol::format::{Hello, HelloReply};
use protocol::frame::{self, Frame, FrameError};
use protocol::message::Envelope;
use protocol::snapshot::Transfer;

use crate::limits::{
    PEER_BODY_BY_REFERENCE_BYTES_MIN, PEER_FRAME_BYTES_MAX, PEER_QUEUE_BYTES_MAX, PEER_READ_BUFFER_BYTES,
    PEER_READ_BYTES_PER_TURN,
};

/// Slices in one vectored write.
const SLICES_MAX: usize = 64;

/// Both directions of one connection.
#[derive(Debug)]
pub struct PeerConnection {
    stream: TcpStream,
    incoming: Incoming,
    outgoing: Outgoing,
}

/// What came of a turn of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The socket is empty.
    Drained,
    /// There is more to read: take another turn without waiting for the socket.
    More,
    /// The other side has closed its direction.
    Closed,
}

/// Received bytes: `start..end` of `bytes` is not taken yet.
#[derive(Debug)]
struct Incoming {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

/// Bytes to send, in order: pieces, of which the copied ones lie one behind the other in `copied`.
#[derive(Debug, Default)]
struct Outgoing {
    pieces: VecDeque<Piece>,
    copied: Vec<u8>,
    /// Bytes of `copied` that were sent.
    copied_sent: usize,
    /// Bytes of the first piece that were sent.
    first_sent: usize,
    /// Bytes not sent.
    queued: usize,
}

#[derive(Debug)]
enum Piece {
    Copied(usize),
    Shared(Bytes),
}

impl PeerConnection {
    /// Takes over a connected, or connecting, stream.
    pub fn new(stream: TcpStream) -> PeerConnection {
        let incoming = Incoming { bytes: vec![0; PEER_READ_BUFFER_BYTES], start: 0, end: 0 };
        PeerConnection { stream, incoming, outgoing: Outgoing::default() }
    }

    /// For registration with a poll, and for socket options.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Reads what is there, as much as fits one turn. Take all frames with [`PeerConnection::next_frame`] after it: room for
    /// the next turn is made of what was taken.
    pub fn fill(&mut self) -> io::Result<Turn> {
        self.fill_until(false)
    }

    /// As [`PeerConnection::fill`], but a read that leaves room ends it: of a stream, less than there was room for is all there
    /// was, and the next bytes raise an event (epoll(7), edge-triggered). An end that was announced before raises none: call
    /// [`PeerConnection::fill`] from then on.
    pub fn fill_of_open_stream(&mut self) -> io::Result<Turn> {
        self.fill_until(true)
    }

    fn fill_until(&mut self, short_read: bool) -> io::Result<Turn> {
        self.incoming.make_room();
        let mut turn_bytes = 0;
        while self.incoming.end < self.incoming.bytes.len() {
            if turn_bytes >= PEER_READ_BYTES_PER_TURN {
                return Ok(Turn::More);
            }
            match self.stream.read(&mut self.incoming.bytes[self.incoming.end..]) {
                Ok(0) => return Ok(Turn::Closed),
                Ok(n) => {
                    self.incoming.end += n;
                    turn_bytes += n;
                    if short_read && self.incoming.end < self.incoming.bytes.len() {
                        return Ok(Turn::Drained);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Turn::Drained),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Turn::More)
    }

    /// The next whole frame that was received. `bytes_max` bounds it: small before HELLO.
    pub fn next_frame(&mut self, bytes_max: usize) -> Result<Option<Frame<'_>>, FrameError> {
        debug_assert!(bytes_max <= PEER_FRAME_BYTES_MAX);
        let Incoming { bytes, start, end } = &mut self.incoming;
        match frame::split(&bytes[*start..*end], bytes_max)? {
            Some((frame, whole)) => {
                *start += whole;
                Ok(Some(frame))
            }
            None => Ok(None),
        }
    }

    /// The received bytes that are not taken yet; before HELLO, to recognise a stranger early.
    pub fn untaken(&self) -> &[u8] {
        &self.incoming.bytes[self.incoming.start..self.incoming.end]
    }

    /// Queues a message. False: too much is queued already, and the message is dropped, which Raft survives.
    #[must_use]
    pub fn send(&mut self, envelope: &Envelope) -> bool {
        if self.outgoing.queued + envelope.encoded_len() > PEER_QUEUE_BYTES_MAX {
            return false;
        }
        self.outgoing.copy(|out| envelope.encode_head(out));
        for entry in envelope.entries() {
            self.outgoing.copy(|out| out.extend_from_slice(&entry.header.encode()));
            if entry.body.len() >= PEER_BODY_BY_REFERENCE_BYTES_MIN {
                self.outgoing.share(entry.body.clone());
            } else {
                self.outgoing.copy(|out| out.extend_from_slice(&entry.body));
            }
        }
        true
    }

    /// Queues the first frame of the side that connects.
    pub fn send_hello(&mut self, hello: &Hello) {
        self.outgoing.copy(|out| hello.encode(out));
    }

    /// Queues the first frame of the side that accepts.
    pub fn send_hello_reply(&mut self, reply: &HelloReply) {
        self.outgoing.copy(|out| reply.encode(out));
    }

    /// Bytes that wait to be sent.
    pub fn queued(&self) -> usize {
        self.outgoing.queued
    }

    /// Queues a frame of a snapshot's transfer. The caller bounds what it queues: a chunk only when nothing is queued.
    pub fn send_transfer(&mut self, transfer: &Transfer<'_>) {
        self.outgoing.copy(|out| transfer.encode(out));
    }

    /// Whether something is queued.
    pub fn wants_flush(&self) -> bool {
        self.outgoing.queued > 0
    }

    /// Sends as much as the socket takes. True: nothing is left; false: go on when the socket is writable.
    pub fn flush(&mut self) -> io::Result<bool> {
        while self.outgoing.queued > 0 {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let used = self.outgoing.slices(&mut slices);
            match self.stream.write_vectored(&slices[..used]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => self.outgoing.sent(n),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

impl Incoming {
    /// Moves the rest to the front, and grows for a frame that is larger than the buffer; shrinks when that has passed.
    fn make_room(&mut self) {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        // A wrong length is reported by `next_frame`; here it only must not allocate.
        let needed = frame::needed(&self.bytes[..self.end], PEER_FRAME_BYTES_MAX).unwrap_or(0);
        let wanted = needed.max(PEER_READ_BUFFER_BYTES);
        if wanted > self.bytes.len() || self.end == 0 && self.bytes.len() > PEER_READ_BUFFER_BYTES {
            self.bytes.resize(wanted, 0);
            self.bytes.shrink_to(wanted);
        }
    }
}

impl Outgoing {
    /// Appends bytes that `write` writes.
    fn copy(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.copied.len();
        write(&mut self.copied);
        let len = self.copied.len() - before;
        self.queued += len;
        match self.pieces.back_mut() {
            Some(Piece::Copied(last)) => *last += len,
            _ => self.pieces.push_back(Piece::Copied(len)),
        }
    }

    /// Appends bytes that stay where they are.
    fn share(&mut self, bytes: Bytes) {
        self.queued += bytes.len();
        self.pieces.push_back(Piece::Shared(bytes));
    }

    /// The first bytes to send; says how many slices are filled.
    fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES_MAX]) -> usize {
        let mut copied = &self.copied[self.copied_sent..];
        let mut skip = self.first_sent;
        let mut used = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            let bytes = match piece {
                Piece::Copied(len) => {
                    let (piece, rest) = copied.split_at(len - skip);
                    copied = rest;
                    piece
                }
                Piece::Shared(bytes) => &bytes[skip..],
            };
            skip = 0;
            *slice = IoSlice::new(bytes);
            used += 1;
        }
        used
    }

    /// Takes the first `n` bytes off.
    fn sent(&mut self, mut n: usize) {
        self.queued -= n;
        while n > 0 {
            let piece = self.pieces.front().expect("no more bytes are sent than are queued");
            let (len, is_copied) = match piece {
                Piece::Copied(len) => (*len, true),
                Piece::Shared(bytes) => (bytes.len(), false),
            };
            let step = n.min(len - self.first_sent);
            n -= step;
            self.first_sent += step;
            if is_copied {
                self.copied_sent += step;
            }
            if self.first_sent == len {
                self.pieces.pop_front();
                self.first_sent = 0;
            }
        }
        if self.copied_sent == self.copied.len() || self.copied_sent >= PEER_READ_BUFFER_BYTES {
            self.copied.drain(..self.copied_sent);
            self.copied_sent = 0;
            self.copied.shrink_to(PEER_FRAME_BYTES_MAX); // more had gathered behind a slow link
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream as StdStream};

    use protocol::message::{AppendEntries, Message};
    use protocol::{
        Chain, ClusterId, Entry, EntryHeader, EntryId, EntryKind, Incarnation, Index, LogTime, NodeId, Sequence,
        SessionId, Term,
    };

    use super::*;

    /// Two connected sockets; the second one blocks.
    fn pair() -> (PeerConnection, StdStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let blocking = StdStream::connect(listener.local_addr().expect("bound")).expect("connect");
        let (accepted, _) = listener.accept().expect("accept");
        accepted.set_nonblocking(true).expect("non-blocking");
        (PeerConnection::new(TcpStream::from_std(accepted)), blocking)
    }

    fn envelope(bodies: &[usize]) -> Envelope {
        let mut entries = Vec::new();
        for (i, len) in bodies.iter().enumerate() {
            let body = Bytes::from(vec![i as u8; *len]);
            let header = EntryHeader {
                id: EntryId { term: Term(1), index: Index(i as u64 + 1) },
                log_time: LogTime(5),
                session: SessionId(0),
                sequence: Sequence(0),
                kind: EntryKind::Command,
                flags: 0,
                body_len: *len as u32,
                body_checksum: crc32c::crc32c(&body),
                chain: Chain(0),
            };
            entries.push(Entry { header, body });
        }
        let append = AppendEntries {
            round: protocol::Round(1),
            lease_span_us: 0,
            heartbeat: false,
            previous: EntryId::default(),
            previous_chain: Chain(0),
            commit: Index(0),
            digest_index: Index(0),
            digest: 0,
            entries,
        };
        Envelope {
            cluster: ClusterId(9),
            incarnation: Incarnation(8),
            from: NodeId(0),
            to: NodeId(1),
            term: Term(1),
            message: Message::AppendEntries(append),
        }
    }

    /// Reads until one whole message is there.
    fn receive(connection: &mut PeerConnection) -> Envelope {
        loop {
            let turn = connection.fill().expect("read");
            if let Some(frame) = connection.next_frame(PEER_FRAME_BYTES_MAX).expect("a frame") {
                return Envelope::decode(&frame, Bytes::copy_from_slice).expect("a message");
            }
            assert_ne!(turn, Turn::Closed);
            std::thread::yield_now();
        }
    }

    #[test]
    fn messages_of_any_size_arrive_as_they_were_sent() {
        let (mut one, other) = pair();
        other.set_nonblocking(true).expect("non-blocking");
        let mut other = PeerConnection::new(TcpStream::from_std(other));
        for bodies in [&[][..], &[0, 1, 511, 512, 513], &[3_000, 10, 900_000, 10], &[1_000_000], &[1]] {
            let sent = envelope(bodies);
            assert!(one.send(&sent));
            let received = std::thread::scope(|scope| {
                let receiver = scope.spawn(|| receive(&mut other));
                while !one.flush().expect("write") {
                    std::thread::yield_now();
                }
                receiver.join().expect("received")
            });
            assert_eq!(received, sent);
            assert!(!one.wants_flush());
        }
        assert!(other.fill().is_ok());
        other.incoming.make_room();
        assert_eq!(other.incoming.bytes.len(), PEER_READ_BUFFER_BYTES, "the large frame's buffer is given back");
    }

    #[test]
    fn a_peer_that_does_not_read_costs_a_bounded_queue() {
        let (mut connection, _silent) = pair();
        let message = envelope(&[1_000_000]);
        let mut sent = 0;
        while connection.send(&message) {
            connection.flush().expect("write");
            sent += 1;
            assert!(sent < 1000, "the queue has no bound");
        }
        assert!(connection.outgoing.queued <= PEER_QUEUE_BYTES_MAX);
    }

    #[test]
    fn a_wrong_length_is_refused_without_allocating() {
        let (mut connection, mut other) = pair();
        other.write_all(&u32::MAX.to_le_bytes()).expect("write");
        loop {
            connection.fill().expect("read");
            match connection.next_frame(PEER_FRAME_BYTES_MAX) {
                Ok(None) => std::thread::yield_now(),
                Ok(Some(_)) => panic!("not a frame"),
                Err(error) => {
                    assert!(matches!(error, FrameError::TooLong { .. }), "{error}");
                    break;
                }
            }
        }
        connection.incoming.make_room();
        assert_eq!(connection.incoming.bytes.len(), PEER_READ_BUFFER_BYTES);
    }

    #[test]
    fn the_end_of_the_stream_is_seen() {
        let (mut connection, other) = pair();
        drop(other);
        while connection.fill().expect("read") != Turn::Closed {
            std::thread::yield_now();
        }
    }
}
