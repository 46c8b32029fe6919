//! Frames: how a byte stream is cut into pieces, before anyone looks at what they mean.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | length: bytes that follow this field, at least 12 |
//! | 4 | 4 | checksum: CRC-32C of `covered` bytes from offset 8 on, continued from `length` as if that were the CRC so far |
//! | 8 | 4 | covered: at least 8, at most length - 4 |
//! | 12 | 1 | kind |
//! | 13 | 1 | flags (0) |
//! | 14 | 2 | reserved (0) |
//! | 16 | - | payload |

use byteorder::{ByteOrder, LittleEndian};
use bytes::{BufMut, BytesMut};

use crate::command::{BATCH_OPERATIONS_MAX, OPERATION_HEAD_BYTES_MAX};
use crate::error::DecodeError;
pub use crate::error::FrameError;
use crate::kind::Kind;

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 16;
/// The smallest length field: a frame without payload.
pub const LENGTH_MIN: u32 = (HEADER_BYTES - LENGTH_BYTES) as u32;

/// Bytes of the length field, which `length` does not count.
const LENGTH_BYTES: usize = 4;
/// Where the covered bytes begin.
const COVERED_FROM: usize = 8;
/// Covered bytes of a frame without payload: `covered`, kind, flags, reserved.
const COVERED_MIN: u32 = (HEADER_BYTES - COVERED_FROM) as u32;

/// The largest frame that clients and servers exchange, given the largest key and value: one value with its key and a
/// second key (a scan's range, a page's `resume`), the heads of a batch's operations, and 1 KiB for headers and addresses.
pub const fn client_frame_bytes_max(key_bytes_max: usize, value_bytes_max: usize) -> usize {
    let heads = BATCH_OPERATIONS_MAX * OPERATION_HEAD_BYTES_MAX;
    HEADER_BYTES + 1024 + heads + 2 * key_bytes_max + value_bytes_max
}

/// A growing buffer that frames are appended to. The checksum stands before the bytes that it covers, so it is filled
/// in last, and what was written must be reachable again.
pub trait Out: BufMut {
    /// Everything written so far.
    fn written(&mut self) -> &mut [u8];
}

impl Out for Vec<u8> {
    fn written(&mut self) -> &mut [u8] {
        self
    }
}

impl Out for BytesMut {
    fn written(&mut self) -> &mut [u8] {
        self
    }
}

/// One frame of a buffer, its checksum verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    number: u8,
    covered: u32,
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The kind's number, known or not.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// What the frame is. [`DecodeError::UnknownKind`] for a newer version's kind.
    pub fn kind(&self) -> Result<Kind, DecodeError> {
        Kind::from_wire(self.number)
    }

    /// What follows the frame header.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The kind, after a check that the checksum covers what that kind prescribes.
    pub(crate) fn checked_kind(&self) -> Result<Kind, DecodeError> {
        let kind = self.kind()?;
        let head = kind.head_bytes().unwrap_or(self.payload.len());
        let expected = COVERED_MIN + u32::try_from(head).expect("heads and received payloads are shorter than 4 GiB");
        if self.covered != expected {
            return Err(DecodeError::Covered { covered: self.covered, expected });
        }
        Ok(kind)
    }
}

/// How many bytes the frame at the start of `bytes` has in all: how large a buffer a reader needs. With fewer than four
/// bytes at hand it is [`HEADER_BYTES`], which every frame has.
pub fn needed(bytes: &[u8], max: usize) -> Result<usize, FrameError> {
    let Some(length) = bytes.get(..LENGTH_BYTES) else {
        return Ok(HEADER_BYTES);
    };
    let length = LittleEndian::read_u32(length);
    if length < LENGTH_MIN {
        return Err(FrameError::TooShort { length });
    }
    match usize::try_from(length).ok().and_then(|length| length.checked_add(LENGTH_BYTES)) {
        Some(whole) if whole <= max => Ok(whole),
        _ => Err(FrameError::TooLong { length, max }),
    }
}

/// Cuts the first frame off `bytes`: the frame and the number of bytes it takes. `None`: more bytes are needed.
/// `max` is the largest whole frame accepted, in bytes. Damage is reported as soon as the bytes that show it are there.
pub fn split(bytes: &[u8], max: usize) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let whole = needed(bytes, max)?;
    let Some(header) = bytes.get(..HEADER_BYTES) else {
        return Ok(None);
    };
    let length = LittleEndian::read_u32(header);
    let covered = LittleEndian::read_u32(&header[8..]);
    if covered < COVERED_MIN || covered > length - 4 {
        return Err(FrameError::Covered { covered, length });
    }
    let Some(sum_over) = bytes.get(COVERED_FROM..COVERED_FROM + covered as usize) else {
        return Ok(None);
    };
    let received = LittleEndian::read_u32(&header[4..]);
    let computed = crc32c::crc32c_append(length, sum_over);
    if received != computed {
        return Err(FrameError::Checksum { received, computed });
    }
    if header[13..HEADER_BYTES] != [0, 0, 0] {
        return Err(FrameError::Reserved);
    }
    Ok(bytes.get(HEADER_BYTES..whole).map(|payload| (Frame { number: header[12], covered, payload }, whole)))
}

/// Appends a frame: its header, then what `payload` writes. `payload_len` counts the whole payload; of a kind with a
/// head, `payload` may write the head alone (the rest follows by another way), of all others it writes everything.
pub(crate) fn write<B: Out>(kind: Kind, payload_len: usize, out: &mut B, payload: impl FnOnce(&mut B)) {
    let start = out.written().len();
    let head = kind.head_bytes().unwrap_or(payload_len);
    let length = u32::try_from(payload_len + HEADER_BYTES - LENGTH_BYTES).expect("a frame is shorter than 4 GiB");
    let covered = COVERED_MIN + u32::try_from(head).expect("a head is shorter than its frame");
    out.put_u32_le(length);
    out.put_u32_le(0);
    out.put_u32_le(covered);
    out.put_u8(kind as u8);
    out.put_slice(&[0, 0, 0]);
    payload(out);
    let frame = &mut out.written()[start..];
    assert!(
        frame.len() == HEADER_BYTES + payload_len || frame.len() == HEADER_BYTES + head,
        "a {kind} frame has the length that was announced"
    );
    let checksum = crc32c::crc32c_append(length, &frame[COVERED_FROM..COVERED_FROM + covered as usize]);
    LittleEndian::write_u32(&mut frame[4..8], checksum);
}
