//! etcd: two calls, Put and Range, as gRPC over HTTP/2, many streams on one connection. What etcd refuses comes without a message;
//! its words stand in header fields that are not decoded here.

use std::collections::VecDeque;

use super::http2::{
    call_headers, flag, kind, put_frame, put_head, put_settings, setting, Frame, FIRST_WINDOW, FRAME_BYTES_MAX,
    LAST_WINDOW, PREFACE,
};
use super::{Answer, Broken, Dialect, Request, Step};
use crate::workload::Kind;

/// See the module.
pub(crate) struct Etcd {
    put_headers: Vec<u8>,
    range_headers: Vec<u8>,
    /// The server's settings are here.
    is_open: bool,
    next_stream: u32,
    /// By slot.
    calls: Vec<Call>,
    /// Bytes of DATA that the server takes.
    window: i64,
    /// Frames that wait for the window, and of each call how many bytes and how many of them are DATA.
    held: VecDeque<u8>,
    held_calls: VecDeque<(usize, i64)>,
    /// Bytes of DATA that were received and not given back to the server's window.
    taken: u32,
}

/// The call in a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Call {
    /// 0: none.
    stream: u32,
    reads: bool,
    message: Message,
}

/// What came of the answer's message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Message {
    #[default]
    Nothing,
    /// Without a key.
    Empty,
    /// With one, or with what a Put says.
    Full,
}

/// Received bytes that are given back in one piece.
const GIVE_BACK: u32 = 1 << 20;
/// Bytes before a message: compressed or not, length.
const PREFIX_BYTES: usize = 5;

impl Dialect for Etcd {
    /// Such that key and value fit one frame.
    const VALUE_BYTES_MAX: u32 = 12 * 1024;

    fn new() -> Self {
        Self {
            put_headers: call_headers("/etcdserverpb.KV/Put"),
            range_headers: call_headers("/etcdserverpb.KV/Range"),
            is_open: false,
            next_stream: 1,
            calls: Vec::new(),
            window: FIRST_WINDOW,
            held: VecDeque::new(),
            held_calls: VecDeque::new(),
            taken: 0,
        }
    }

    fn greet(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(PREFACE);
        let ours =
            [(setting::HEADER_TABLE_SIZE, 0), (setting::ENABLE_PUSH, 0), (setting::INITIAL_WINDOW_SIZE, LAST_WINDOW)];
        put_settings(out, &ours);
        let more = LAST_WINDOW - FIRST_WINDOW as u32;
        put_frame(out, kind::WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
    }

    fn is_ready(&self) -> bool {
        self.is_open
    }

    fn ask(&mut self, slot: u32, request: &Request<'_>, out: &mut Vec<u8>) {
        let reads = !matches!(request.kind, Kind::Create | Kind::Update);
        let stream = self.next_stream;
        self.next_stream += 2;
        if self.calls.len() <= slot as usize {
            self.calls.resize(slot as usize + 1, Call::default());
        }
        self.calls[slot as usize] = Call { stream, reads, message: Message::Nothing };
        let headers = if reads { &self.range_headers } else { &self.put_headers };
        let start = out.len();
        put_frame(out, kind::HEADERS, flag::END_HEADERS, stream, headers);
        let data = put_message(out, stream, request.key, (!reads).then_some(request.value)) as i64;
        if self.held_calls.is_empty() && self.window >= data {
            self.window -= data;
        } else {
            self.held_calls.push_back((out.len() - start, data));
            self.held.extend(out.drain(start..));
        }
    }

    fn next(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Step, Broken> {
        let Some(frame) = Frame::split(input) else { return Ok(Step::More) };
        let bytes = frame.bytes();
        match frame.kind {
            kind::DATA => self.take_data(&frame, out),
            kind::SETTINGS if !frame.has(flag::ACK) => {
                self.is_open = true;
                let too_small = |(of, value)| of == setting::INITIAL_WINDOW_SIZE && value < FIRST_WINDOW as u32;
                if frame.settings().any(too_small) {
                    return Err(Broken("its streams have smaller windows than a request needs".into()));
                }
                put_frame(out, kind::SETTINGS, flag::ACK, 0, &[]);
            }
            kind::PING if !frame.has(flag::ACK) => put_frame(out, kind::PING, flag::ACK, 0, frame.payload),
            kind::WINDOW_UPDATE if frame.stream == 0 => {
                self.window += i64::from(frame.increment());
                self.release(out);
            }
            kind::GOAWAY => return Err(Broken("the server says goodbye".into())),
            _ => {}
        }
        let ends = matches!(frame.kind, kind::HEADERS | kind::DATA) && frame.has(flag::END_STREAM);
        let call = (ends || frame.kind == kind::RST_STREAM).then(|| self.end(frame.stream)).flatten();
        Ok(match call {
            Some((slot, call)) => Step::Answered { bytes, slot, answer: call.answer() },
            None => Step::Passed { bytes },
        })
    }

    fn knows(kind: Kind) -> bool {
        kind != Kind::Scan
    }
}

impl Etcd {
    fn find(&self, stream: u32) -> Option<usize> {
        self.calls.iter().position(|call| call.stream == stream)
    }

    fn end(&mut self, stream: u32) -> Option<(u32, Call)> {
        let slot = self.find(stream)?;
        Some((slot as u32, std::mem::take(&mut self.calls[slot])))
    }

    fn take_data(&mut self, frame: &Frame<'_>, out: &mut Vec<u8>) {
        self.taken += frame.payload.len() as u32;
        if self.taken >= GIVE_BACK {
            put_frame(out, kind::WINDOW_UPDATE, 0, 0, &self.taken.to_be_bytes());
            self.taken = 0;
        }
        let message = if frame.has(flag::PADDED) { frame.payload.get(1..).unwrap_or(&[]) } else { frame.payload };
        let Some(slot) = self.find(frame.stream) else { return };
        let call = &mut self.calls[slot];
        if call.message == Message::Nothing && message.len() >= PREFIX_BYTES {
            let is_full = !call.reads || has_keys(&message[PREFIX_BYTES..]);
            call.message = if is_full { Message::Full } else { Message::Empty };
        }
    }

    /// Sends what the window takes by now.
    fn release(&mut self, out: &mut Vec<u8>) {
        while let Some((bytes, data)) = self.held_calls.front().copied().filter(|(_, data)| *data <= self.window) {
            self.held_calls.pop_front();
            self.window -= data;
            out.extend(self.held.drain(..bytes));
        }
    }
}

impl Call {
    fn answer(&self) -> Answer {
        match self.message {
            Message::Full => Answer::Done,
            Message::Empty => Answer::Missing,
            Message::Nothing => Answer::Failed("etcd refused it".to_owned()),
        }
    }
}

/// Appends a DATA frame with a PutRequest, or without a value a RangeRequest (linearizable: nothing else is said); its length.
fn put_message(out: &mut Vec<u8>, stream: u32, key: &[u8], value: Option<&[u8]>) -> usize {
    const KEY: u8 = 1 << 3 | 2;
    const VALUE: u8 = 2 << 3 | 2;
    let field = |bytes: &[u8]| 1 + varint_bytes(bytes.len()) + bytes.len();
    let message = field(key) + value.map_or(0, field);
    assert!(PREFIX_BYTES + message <= FRAME_BYTES_MAX, "keys and values have bounds");
    put_head(out, PREFIX_BYTES + message, kind::DATA, flag::END_STREAM, stream);
    out.push(0);
    out.extend_from_slice(&(message as u32).to_be_bytes());
    for (tag, bytes) in [(KEY, Some(key)), (VALUE, value)] {
        if let Some(bytes) = bytes {
            out.push(tag);
            put_varint(out, bytes.len());
            out.extend_from_slice(bytes);
        }
    }
    PREFIX_BYTES + message
}

/// Whether a RangeResponse, of which at least the beginning is here, has a key behind its header.
fn has_keys(message: &[u8]) -> bool {
    const HEADER: u8 = 1 << 3 | 2;
    const KEYS: u8 = 2 << 3 | 2;
    let behind = match message {
        [HEADER, length, rest @ ..] if *length < 128 => rest.get(usize::from(*length)..),
        _ => Some(message),
    };
    // A message that is cut off within its header goes on: it has more than that.
    behind.is_none_or(|behind| behind.first() == Some(&KEYS))
}

fn varint_bytes(number: usize) -> usize {
    (1..).find(|bytes| number >> (7 * bytes) == 0).expect("numbers end")
}

fn put_varint(out: &mut Vec<u8>, mut number: usize) {
    while number >= 128 {
        out.push(number as u8 | 128);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> (Etcd, Vec<u8>) {
        let (mut etcd, mut out, mut said) = (Etcd::new(), Vec::new(), Vec::new());
        etcd.greet(&mut out);
        assert!(out.starts_with(PREFACE) && !etcd.is_ready());
        out.clear();
        put_settings(&mut said, &[]);
        assert_eq!(etcd.next(&said, &mut out), Ok(Step::Passed { bytes: said.len() }));
        assert!(etcd.is_ready() && Frame::split(&out).is_some_and(|frame| frame.has(flag::ACK)));
        out.clear();
        (etcd, out)
    }

    fn ask(etcd: &mut Etcd, slot: u32, kind: Kind, out: &mut Vec<u8>) {
        etcd.ask(slot, &Request { kind, key: b"key", value: &[b'v'; 200], keys: 0 }, out);
    }

    /// Ends a stream with this message, in bytes.
    fn answer(stream: u32, message: Option<&[u8]>) -> Vec<u8> {
        let mut said = Vec::new();
        if let Some(message) = message {
            let mut data = vec![0, 0, 0, 0, message.len() as u8];
            data.extend_from_slice(message);
            put_frame(&mut said, kind::DATA, 0, stream, &data);
        }
        put_frame(&mut said, kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &[0x88]);
        said
    }

    fn take(etcd: &mut Etcd, said: &[u8]) -> Vec<(u32, Answer)> {
        let (mut at, mut answers) = (0, Vec::new());
        loop {
            match etcd.next(&said[at..], &mut Vec::new()).expect("it makes sense") {
                Step::More => return answers,
                Step::Passed { bytes } => at += bytes,
                Step::Answered { bytes, slot, answer } => {
                    at += bytes;
                    answers.push((slot, answer));
                }
            }
        }
    }

    #[test]
    fn a_put_is_headers_and_a_message_and_answers_come_in_any_order() {
        let (mut etcd, mut out) = opened();
        ask(&mut etcd, 0, Kind::Update, &mut out);
        let headers = Frame::split(&out).expect("a frame");
        assert_eq!((headers.kind, headers.stream, headers.flags), (kind::HEADERS, 1, flag::END_HEADERS));
        let data = Frame::split(&out[headers.bytes()..]).expect("a frame");
        assert_eq!((data.kind, data.flags), (kind::DATA, flag::END_STREAM));
        assert_eq!(data.payload[..10], [0, 0, 0, 0, 208, 10, 3, b'k', b'e', b'y']);
        assert_eq!(data.payload[10..14], [18, 200, 1, b'v']);
        ask(&mut etcd, 1, Kind::Read, &mut out);
        ask(&mut etcd, 2, Kind::Read, &mut out);
        let found = answer(5, Some(&[10, 1, 7, 18, 2, 0, 0]));
        assert_eq!(take(&mut etcd, &found), [(2, Answer::Done)]);
        assert_eq!(take(&mut etcd, &answer(3, Some(&[10, 1, 7]))), [(1, Answer::Missing)]);
        assert_eq!(take(&mut etcd, &answer(1, None)), [(0, Answer::Failed("etcd refused it".to_owned()))]);
        assert_eq!(take(&mut etcd, &answer(1, None)), [], "a stream ends once");
    }

    #[test]
    fn what_the_window_does_not_take_waits_in_order() {
        let (mut etcd, mut out) = opened();
        let calls = 400;
        (0..calls).for_each(|slot| ask(&mut etcd, slot, Kind::Update, &mut out));
        let sent = |out: &[u8]| {
            let (mut at, mut streams) = (0, Vec::new());
            while let Some(frame) = Frame::split(&out[at..]) {
                at += frame.bytes();
                if frame.kind == kind::DATA {
                    streams.push(frame.stream);
                }
            }
            assert_eq!(at, out.len(), "whole frames");
            streams
        };
        let first = sent(&out).len();
        assert_eq!(first, FIRST_WINDOW as usize / 213);
        let mut update = Vec::new();
        put_frame(&mut update, kind::WINDOW_UPDATE, 0, 0, &100_000_u32.to_be_bytes());
        etcd.next(&update, &mut out).expect("it makes sense");
        assert_eq!(sent(&out), (0..calls).map(|call| 2 * call + 1).collect::<Vec<_>>());
    }

    #[test]
    fn pings_are_answered() {
        let (mut etcd, mut out) = opened();
        let mut ping = Vec::new();
        put_frame(&mut ping, kind::PING, 0, 0, b"12345678");
        etcd.next(&ping, &mut out).expect("it makes sense");
        let echoed = Frame::split(&out).expect("a frame");
        assert_eq!((echoed.kind, echoed.flags, echoed.payload), (kind::PING, flag::ACK, &b"12345678"[..]));
    }
}
