//! One connection of the admin endpoints: a head is read, answered, and only then is the next one looked at, so that a
//! connection holds at most one head and one answer.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;

use mio::net::TcpStream;

use super::http::{self, Answer, Parsed, Request};
use crate::limits;
use crate::time::{Span, Time};

/// A connection.
pub(super) struct Connection {
    stream: TcpStream,
    stage: Stage,
    /// Bytes of a head, and what came with it.
    input: Vec<u8>,
    /// The answer under way.
    output: Vec<u8>,
    sent: usize,
    /// It is closed then, whatever it does until.
    deadline: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Waits for a head.
    Open,
    /// Sends an answer.
    Answering {
        /// It is the last one.
        is_last: bool,
    },
    /// The last answer is sent. What still comes is thrown away until the other side closes: closing with unread bytes
    /// would reset the connection, and the answer might be lost.
    Draining,
}

/// What a turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing more to do until the socket says so.
    Waits,
    /// More to do: it goes on after the others.
    More,
    /// Close it.
    Over,
}

/// What one read of the socket came to.
enum Filled {
    Some,
    Nothing,
    End,
}

impl Connection {
    pub(super) fn new(now: Time, stream: TcpStream) -> Connection {
        let deadline = now + Span::millis(limits::ADMIN_HEAD_MS);
        Connection { stream, stage: Stage::Open, input: Vec::new(), output: Vec::new(), sent: 0, deadline }
    }

    pub(super) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    pub(super) fn deadline(&self) -> Time {
        self.deadline
    }

    /// Goes on as far as the socket allows, through one request at most.
    pub(super) fn turn(&mut self, now: Time, answer: impl FnOnce(&Request) -> Answer) -> Turn {
        self.try_turn(now, answer).unwrap_or(Turn::Over)
    }

    fn try_turn(&mut self, now: Time, answer: impl FnOnce(&Request) -> Answer) -> io::Result<Turn> {
        if self.stage == Stage::Open {
            match self.read_head(now)? {
                Parsed::Incomplete => return Ok(Turn::Waits),
                Parsed::Request(request) => {
                    self.input.drain(..request.len);
                    self.begin_answer(now, &answer(&request), request.is_head, !request.keep_alive);
                }
                Parsed::Refused(status) => self.begin_answer(now, &Answer::refusal(status), false, true),
            }
        }
        if let Stage::Answering { is_last } = self.stage {
            if !self.flush()? {
                return Ok(Turn::Waits);
            }
            self.end_answer(now, is_last)?;
        }
        match self.stage {
            Stage::Draining => self.drain(),
            _ => Ok(Turn::More),
        }
    }

    /// Reads until a head is complete, or cannot become one. The first byte of a head starts its clock.
    fn read_head(&mut self, now: Time) -> io::Result<Parsed> {
        loop {
            let parsed = if self.input.is_empty() { Parsed::Incomplete } else { http::parse(&self.input) };
            if parsed != Parsed::Incomplete {
                return Ok(parsed);
            }
            let is_first = self.input.is_empty();
            match self.fill()? {
                Filled::Some if is_first => self.deadline = now + Span::millis(limits::ADMIN_HEAD_MS),
                Filled::Some => {}
                Filled::Nothing => return Ok(Parsed::Incomplete),
                Filled::End => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    fn fill(&mut self) -> io::Result<Filled> {
        let mut bytes = [0; 1024];
        let room = limits::ADMIN_HEAD_BYTES_MAX.saturating_sub(self.input.len()).clamp(1, bytes.len());
        match self.stream.read(&mut bytes[..room]) {
            Ok(0) => Ok(Filled::End),
            Ok(read) => {
                self.input.extend_from_slice(&bytes[..read]);
                Ok(Filled::Some)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Filled::Nothing),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Filled::Some),
            Err(error) => Err(error),
        }
    }

    fn begin_answer(&mut self, now: Time, answer: &Answer, is_head: bool, is_last: bool) {
        answer.write(is_head, !is_last, &mut self.output);
        self.stage = Stage::Answering { is_last };
        self.deadline = now + Span::millis(limits::ADMIN_ANSWER_MS);
    }

    /// True: the answer is sent.
    fn flush(&mut self) -> io::Result<bool> {
        while self.sent < self.output.len() {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn end_answer(&mut self, now: Time, is_last: bool) -> io::Result<()> {
        (self.output, self.sent) = (Vec::new(), 0);
        if is_last {
            self.stream.shutdown(Shutdown::Write)?;
            self.input = Vec::new();
            self.stage = Stage::Draining;
            self.deadline = now + Span::millis(limits::ADMIN_DRAIN_MS);
        } else {
            self.stage = Stage::Open;
            let patience_ms = if self.input.is_empty() { limits::ADMIN_IDLE_MS } else { limits::ADMIN_HEAD_MS };
            self.deadline = now + Span::millis(patience_ms);
        }
        Ok(())
    }

    /// Throws away what comes, a bounded amount per turn.
    fn drain(&mut self) -> io::Result<Turn> {
        for _ in 0..16 {
            self.input.clear();
            match self.fill()? {
                Filled::Some => {}
                Filled::Nothing => return Ok(Turn::Waits),
                Filled::End => return Ok(Turn::Over),
            }
        }
        Ok(Turn::More)
    }
}
