//! Commands: the body of an entry, and the end of a WRITE frame.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | kind: 1 put, 2 update, 3 remove |
//! | 1 | 1 | flags (0) |
//! | 2 | 2 | reserved (0) |
//! | 4 | 4 | key length |
//! | 8 | 4 | value length (remove: 0) |
//! | 12 | - | key, then value |

use bytes::BufMut;

use crate::command::Command;
use crate::error::DecodeError;
use crate::wire::{put_count, Fields};

/// Bytes before the key.
const COMMAND_HEADER_BYTES: usize = 12;

const PUT: u8 = 1;
const UPDATE: u8 = 2;
const REMOVE: u8 = 3;

impl<'a> Command<'a> {
    /// The key that it writes.
    pub fn key(&self) -> &'a [u8] {
        match *self {
            Self::Put { key, .. } | Self::Update { key, .. } | Self::Remove { key } => key,
        }
    }

    /// The value that it writes; empty for a removal.
    pub fn value(&self) -> &'a [u8] {
        match *self {
            Self::Put { value, .. } | Self::Update { value, .. } => value,
            Self::Remove { .. } => &[],
        }
    }

    /// Bytes that [`Command::encode`] appends.
    pub fn encoded_len(&self) -> usize {
        COMMAND_HEADER_BYTES + self.key().len() + self.value().len()
    }

    /// Appends the command.
    pub fn encode(&self, out: &mut impl BufMut) {
        let kind = match self {
            Self::Put { .. } => PUT,
            Self::Update { .. } => UPDATE,
            Self::Remove { .. } => REMOVE,
        };
        out.put_u8(kind);
        out.put_slice(&[0, 0, 0]);
        put_count(out, self.key().len());
        put_count(out, self.value().len());
        out.put_slice(self.key());
        out.put_slice(self.value());
    }

    /// Reads a whole command; nothing may be left over.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::new(bytes);
        let kind = fields.u8("command kind")?;
        if !(PUT..=REMOVE).contains(&kind) {
            return Err(DecodeError::UnknownCommand(kind));
        }
        fields.zeroes(3, "command flags")?;
        let key_len = fields.u32("key length")? as usize;
        let value_len = fields.u32("value length")? as usize;
        let key = fields.take(key_len, "key")?;
        let value = fields.take(value_len, "value")?;
        fields.end()?;
        match kind {
            PUT => Ok(Self::Put { key, value }),
            UPDATE => Ok(Self::Update { key, value }),
            _ if value.is_empty() => Ok(Self::Remove { key }),
            _ => Err(DecodeError::Value { field: "value length of a removal", value: value_len as u64 }),
        }
    }
}
