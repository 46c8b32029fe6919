//! Bytes from a client's and from a peer's socket.

use bytes::Bytes;
use protocol::format::{Hello, HelloReply};
use protocol::kind::Kind;
use protocol::message::Envelope;
use protocol::reply::Reply;
use protocol::request::Request;
use protocol::snapshot::Transfer;
use protocol::{split, Frame};

use super::Input;

/// The largest frame that is accepted.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// Requests as a server sees them, and replies as a client does. The first byte says how: 0 = the rest is the stream; else it
/// is the payload of a frame of that kind, whose header is made right, because a fuzzer guesses no checksums.
pub fn client_frame(data: &[u8]) {
    each_frame(data, |frame| {
        let _ = Reply::decode(frame);
        let _ = Request::decode(frame);
    });
}

/// What one node says to another.
pub fn peer_frame(data: &[u8]) {
    each_frame(data, |frame| {
        let _ = Hello::decode(frame);
        let _ = HelloReply::decode(frame);
        let _ = Transfer::decode(frame);
        let Ok(envelope) = Envelope::decode(frame, Bytes::copy_from_slice) else { return };
        // What was understood is said again in the same words.
        let mut again = Vec::new();
        envelope.encode(&mut again);
        let (frame, _) = split(&again, usize::MAX).expect("it was encoded").expect("it is whole");
        assert_eq!(Envelope::decode(&frame, Bytes::copy_from_slice).as_ref(), Ok(&envelope));
    });
}

fn each_frame(data: &[u8], decode: impl Fn(&Frame<'_>)) {
    let mut input = Input(data);
    let kind = input.byte();
    let framed;
    let mut stream = input.0;
    if kind != 0 {
        framed = frame(kind, stream);
        stream = &framed;
    }
    while let Ok(Some((frame, taken))) = split(stream, FRAME_BYTES_MAX) {
        decode(&frame);
        stream = &stream[taken..];
    }
}

/// A frame with a right header.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let head = Kind::from_wire(kind).ok().and_then(Kind::head_bytes).unwrap_or(payload.len()).min(payload.len());
    let length = u32::try_from(payload.len()).expect("an input is small") + 12;
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(&(8 + head as u32).to_le_bytes());
    frame.extend_from_slice(&[kind, 0, 0, 0]);
    frame.extend_from_slice(payload);
    let checksum = crc32c::crc32c_append(length, &frame[8..16 + head]);
    frame[4..8].copy_from_slice(&checksum.to_le_bytes());
    frame
}
