//! Redis: RESP, answered in the order of the requests.

use std::collections::VecDeque;

use super::{Answer, Broken, Dialect, Request, Step};
use crate::workload::Kind;

/// See the module.
pub(crate) struct Redis {
    /// Slots of the requests under way, in order.
    asked: VecDeque<u32>,
}

impl Dialect for Redis {
    const VALUE_BYTES_MAX: u32 = 1024 * 1024;

    fn new() -> Self {
        Self { asked: VecDeque::new() }
    }

    fn greet(&mut self, _: &mut Vec<u8>) {}

    fn is_ready(&self) -> bool {
        true
    }

    fn ask(&mut self, slot: u32, request: &Request<'_>, out: &mut Vec<u8>) {
        self.asked.push_back(slot);
        let Request { kind, key, value, .. } = *request;
        if matches!(kind, Kind::Create | Kind::Update) {
            out.extend_from_slice(b"*3\r\n$3\r\nSET\r\n");
            put_string(out, key);
            put_string(out, value);
        } else {
            out.extend_from_slice(b"*2\r\n$3\r\nGET\r\n");
            put_string(out, key);
        }
    }

    fn next(&mut self, input: &[u8], _: &mut Vec<u8>) -> Result<Step, Broken> {
        let Some(end) = input.windows(2).position(|pair| pair == b"\r\n") else { return Ok(Step::More) };
        let (line, mut bytes) = (&input[..end], end + 2);
        let text = || String::from_utf8_lossy(&line[1..]).into_owned();
        let answer = match line.first() {
            Some(b'+') => Answer::Done,
            Some(b'-') => Answer::Failed(text()),
            Some(b'$') if line == b"$-1" => Answer::Missing,
            Some(b'$') => {
                let length: usize = text().parse().map_err(|_| Broken("a length that is no number".into()))?;
                bytes = bytes.saturating_add(length).saturating_add(2);
                if input.len() < bytes {
                    return Ok(Step::More);
                }
                Answer::Done
            }
            _ => return Err(Broken("it does not speak RESP".into())),
        };
        let slot = self.asked.pop_front().ok_or_else(|| Broken("an answer to nothing that was asked".into()))?;
        Ok(Step::Answered { bytes, slot, answer })
    }

    fn knows(kind: Kind) -> bool {
        kind != Kind::Scan
    }
}

fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'$');
    put_number(out, bytes.len());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// In decimal.
fn put_number(out: &mut Vec<u8>, number: usize) {
    let start = out.len();
    let mut rest = number;
    loop {
        out.push(b'0' + (rest % 10) as u8);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out[start..].reverse();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_are_resp() {
        let mut redis = Redis::new();
        let mut out = Vec::new();
        redis.ask(4, &Request { kind: Kind::Update, key: b"key", value: b"0123456789", keys: 0 }, &mut out);
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$10\r\n0123456789\r\n");
        out.clear();
        for slot in [5, 6, 7] {
            redis.ask(slot, &Request { kind: Kind::Read, key: b"key", value: b"", keys: 0 }, &mut out);
        }
        assert!(out.starts_with(b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n"));
        let mut said: &[u8] = b"+OK\r\n$3\r\nabc\r\n$-1\r\n-ERR no\r\n";
        let mut answers = Vec::new();
        while let Ok(Step::Answered { bytes, slot, answer }) = redis.next(said, &mut Vec::new()) {
            answers.push((slot, answer));
            said = &said[bytes..];
        }
        let failed = Answer::Failed("ERR no".to_owned());
        assert_eq!(answers, [(4, Answer::Done), (5, Answer::Done), (6, Answer::Missing), (7, failed)]);
        for part in [&b""[..], b"$3", b"$3\r\nab", b"$3\r\nabc\r"] {
            assert_eq!(redis.next(part, &mut Vec::new()), Ok(Step::More));
        }
        for wrong in [&b"HTTP/1.1\r\n"[..], b"$x\r\n", b"+nobody asked\r\n"] {
            assert!(redis.next(wrong, &mut Vec::new()).is_err());
        }
    }
}
