//! The leader: one loop over all its sockets. Each turn takes what every client has sent as one batch.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::journal::Journal;
use crate::dialect::skeleton::HEAD_BYTES;

const LISTENER: Token = Token(usize::MAX);
const EVENTS: usize = 4096;
const READ_BYTES: usize = 256 * 1024;
/// Longest record; what is longer comes from nobody we know.
const RECORD_BYTES_MAX: usize = 128 * 1024;

/// A socket with what could not be written yet.
struct Link {
    stream: TcpStream,
    out: Vec<u8>,
    written: usize,
    /// Received bytes of something that is not here as a whole.
    rest: Vec<u8>,
}

struct Follower {
    link: Link,
    durable: u64,
}

/// A record that waits for its second copy.
struct Pending {
    /// It ends there in the order of all bytes.
    end: u64,
    client: usize,
    slot: [u8; 4],
}

struct Leader {
    poll: Poll,
    followers: Vec<Follower>,
    /// By token, behind the followers'.
    clients: Vec<Option<Link>>,
    unread: Vec<Token>,
    batch: Vec<u8>,
    /// Bytes of all batches.
    taken: u64,
    pending: VecDeque<Pending>,
    dirty: Vec<usize>,
    journal: Journal,
}

/// Serves clients, until it is killed.
pub(super) fn serve(listener: TcpListener, followers: &[SocketAddr], journal: Journal) -> io::Result<()> {
    let poll = Poll::new()?;
    let mut links = Vec::new();
    for (number, address) in followers.iter().enumerate() {
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nonblocking(true)?;
        links.push(Follower { link: Link::new(TcpStream::from_std(stream), Token(number), &poll)?, durable: 0 });
    }
    listener.set_nonblocking(true)?;
    let mut listener = mio::net::TcpListener::from_std(listener);
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let leader = Leader {
        poll,
        followers: links,
        clients: Vec::new(),
        unread: Vec::new(),
        batch: Vec::new(),
        taken: 0,
        pending: VecDeque::new(),
        dirty: Vec::new(),
        journal,
    };
    leader.run(&listener)
}

impl Leader {
    fn run(mut self, listener: &mio::net::TcpListener) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let patience = (!self.unread.is_empty()).then_some(std::time::Duration::ZERO);
            match self.poll.poll(&mut events, patience) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            for token in std::mem::take(&mut self.unread) {
                self.read(token, &mut buffer)?;
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(listener)?,
                    token => self.read(token, &mut buffer)?,
                }
            }
            self.replicate()?;
            self.answer();
        }
    }

    fn accept(&mut self, listener: &mio::net::TcpListener) -> io::Result<()> {
        while let Ok((stream, _)) = listener.accept() {
            let token = Token(self.followers.len() + self.clients.len());
            self.clients.push(Some(Link::new(stream, token, &self.poll)?));
        }
        Ok(())
    }

    /// One read of one socket; a client that is gone is forgotten, a follower that is gone ends the skeleton.
    fn read(&mut self, token: Token, buffer: &mut [u8]) -> io::Result<()> {
        let Some(client) = token.0.checked_sub(self.followers.len()) else {
            return self.read_follower(token, buffer);
        };
        let Some(link) = self.clients.get_mut(client).and_then(Option::as_mut) else { return Ok(()) };
        let Ok((length, is_full)) = link.receive(buffer) else {
            self.clients[client] = None;
            return Ok(());
        };
        if is_full {
            self.unread.push(token);
        }
        self.dirty.push(client);
        let kept = self.take_records(client, &buffer[..length]);
        match &mut self.clients[client] {
            Some(link) if kept <= RECORD_BYTES_MAX => link.rest.extend_from_slice(&buffer[length - kept..length]),
            link => *link = None,
        }
        Ok(())
    }

    /// Whole records go into the batch; how many bytes are left.
    fn take_records(&mut self, client: usize, mut input: &[u8]) -> usize {
        while let Some(length) = input.first_chunk::<4>() {
            let whole = u32::from_le_bytes(*length) as usize + 4;
            if !(HEAD_BYTES..=RECORD_BYTES_MAX).contains(&whole) {
                return usize::MAX;
            }
            let Some(record) = input.get(..whole) else { break };
            self.batch.extend_from_slice(record);
            let slot = [record[4], record[5], record[6], record[7]];
            self.pending.push_back(Pending { end: self.taken + self.batch.len() as u64, client, slot });
            input = &input[whole..];
        }
        input.len()
    }

    fn read_follower(&mut self, token: Token, buffer: &mut [u8]) -> io::Result<()> {
        let follower = &mut self.followers[token.0];
        follower.link.flush()?;
        let (length, is_full) = follower.link.receive(buffer)?;
        if is_full {
            self.unread.push(token);
        }
        let (acknowledgements, rest) = buffer[..length].as_chunks::<8>();
        if let Some(last) = acknowledgements.last() {
            follower.durable = u64::from_le_bytes(*last);
        }
        follower.link.rest.extend_from_slice(rest);
        Ok(())
    }

    /// The batch to the followers, then into the own journal.
    fn replicate(&mut self) -> io::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        for follower in &mut self.followers {
            follower.link.out.extend_from_slice(&self.batch);
            follower.link.flush()?;
        }
        self.journal.append(&self.batch)?;
        self.taken += self.batch.len() as u64;
        self.batch.clear();
        Ok(())
    }

    /// What two of three have made durable.
    fn answer(&mut self) {
        let mut durable: Vec<u64> = self.followers.iter().map(|follower| follower.durable).collect();
        durable.push(self.journal.durable);
        durable.sort_unstable();
        let committed = durable[durable.len() / 2];
        while self.pending.front().is_some_and(|pending| pending.end <= committed) {
            let Some(pending) = self.pending.pop_front() else { break };
            if let Some(Some(link)) = self.clients.get_mut(pending.client) {
                link.out.extend_from_slice(&pending.slot);
                self.dirty.push(pending.client);
            }
        }
        for client in std::mem::take(&mut self.dirty) {
            if let Some(Some(link)) = self.clients.get_mut(client) {
                if link.flush().is_err() {
                    self.clients[client] = None;
                }
            }
        }
    }
}

impl Link {
    fn new(mut stream: TcpStream, token: Token, poll: &Poll) -> io::Result<Link> {
        stream.set_nodelay(true)?;
        poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Link { stream, out: Vec::new(), written: 0, rest: Vec::new() })
    }

    /// One read behind what is left of the read before: the bytes in `buffer`, and whether the socket may have more.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<(usize, bool)> {
        let kept = self.rest.len();
        buffer[..kept].copy_from_slice(&self.rest);
        self.rest.clear();
        match self.stream.read(&mut buffer[kept..]) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => Ok((kept + length, kept + length == buffer.len())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok((kept, false)),
            Err(error) => Err(error),
        }
    }

    /// One write of what is queued, if there is anything.
    fn flush(&mut self) -> io::Result<()> {
        if self.written == self.out.len() {
            return Ok(());
        }
        match self.stream.write(&self.out[self.written..]) {
            Ok(length) => self.written += length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        }
        Ok(())
    }
}
