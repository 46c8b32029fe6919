//! The few building blocks that all payloads consist of: little-endian integers, `bytes` (u32 length, then the bytes) and
//! `text` (`bytes` that are UTF-8).

use byteorder::{ByteOrder, LittleEndian};
use bytes::BufMut;

use crate::error::DecodeError;

/// Bytes of the length before `bytes` and `text`.
pub(crate) const LENGTH_BYTES: usize = 4;

/// Reads fields in order; every failure names its field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `count` bytes.
    pub(crate) fn take(&mut self, count: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(DecodeError::Truncated(field))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.take(1, field).map(|bytes| bytes[0])
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.take(2, field).map(LittleEndian::read_u16)
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.take(4, field).map(LittleEndian::read_u32)
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.take(8, field).map(LittleEndian::read_u64)
    }

    /// A byte of which only the bits in `known` may be set.
    pub(crate) fn flags(&mut self, known: u8, field: &'static str) -> Result<u8, DecodeError> {
        let flags = self.u8(field)?;
        if flags & !known == 0 {
            Ok(flags)
        } else {
            Err(DecodeError::Reserved(field))
        }
    }

    /// A byte that is 0 or 1.
    pub(crate) fn boolean(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(DecodeError::Value { field, value: other.into() }),
        }
    }

    /// Bytes that must be zero.
    pub(crate) fn zeroes(&mut self, count: usize, field: &'static str) -> Result<(), DecodeError> {
        let bytes = self.take(count, field)?;
        if bytes.iter().all(|&byte| byte == 0) {
            Ok(())
        } else {
            Err(DecodeError::Reserved(field))
        }
    }

    pub(crate) fn bytes(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let length = self.u32(field)?;
        self.take(usize::try_from(length).map_err(|_| DecodeError::Truncated(field))?, field)
    }

    pub(crate) fn text(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes(field)?).map_err(|_| DecodeError::Utf8(field))
    }

    /// A count of elements of at least `element_bytes_min` each: safe to allocate for, because the bytes must be there.
    pub(crate) fn count(&mut self, element_bytes_min: usize, field: &'static str) -> Result<usize, DecodeError> {
        let count = self.u32(field)?;
        match usize::try_from(count) {
            Ok(fits) if fits <= self.rest.len() / element_bytes_min => Ok(fits),
            _ => Err(DecodeError::Count { field, count: count.into() }),
        }
    }

    /// Nothing may be left.
    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Trailing(self.rest.len()))
        }
    }
}

/// Appends `bytes` or `text`.
pub(crate) fn put_bytes(out: &mut impl BufMut, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.put_slice(bytes);
}

/// Appends the number of elements of a list.
pub(crate) fn put_count(out: &mut impl BufMut, count: usize) {
    out.put_u32_le(u32::try_from(count).expect("frames are shorter than 4 GiB"));
}

/// Bytes that [`put_bytes`] takes.
pub(crate) fn bytes_len(bytes: impl AsRef<[u8]>) -> usize {
    LENGTH_BYTES + bytes.as_ref().len()
}
