//! Commands: the body of an entry, and the end of a WRITE frame.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | kind: see the constants |
//! | 1 | 1 | flags (0) |
//! | 2 | 2 | reserved (0) |
//! | 4 | 4 | key length; batch: number of operations; session commands: 0 |
//! | 8 | 4 | value length (0 where there is no value) |
//! | 12 | 8 | compare-and-set: expected revision; increment: what to add, in two's complement; else left out |
//! | - | - | key, then value; batch: its operations, each as such a command; query: session, sequence |

use bytes::BufMut;

use crate::command::{Batch, Command, Operation, Operations, BATCH_OPERATIONS_MAX};
use crate::error::DecodeError;
use crate::ids::{Index, Sequence, SessionId};
use crate::wire::{put_count, Fields};

/// Bytes that all commands begin with.
const COMMAND_HEADER_BYTES: usize = 12;
/// Bytes of an expected revision or a summand.
const NUMBER_BYTES: usize = 8;
/// Bytes of a query behind its header.
const QUERY_BYTES: usize = 16;

const PUT: u8 = 1;
const UPDATE: u8 = 2;
const REMOVE: u8 = 3;
const COMPARE_AND_SET: u8 = 4;
const INCREMENT: u8 = 5;
const BATCH: u8 = 6;
const OPEN_SESSION: u8 = 7;
const CLOSE_SESSION: u8 = 8;
const KEEP_ALIVE: u8 = 9;
const QUERY_OUTCOME: u8 = 10;

impl<'a> Command<'a> {
    /// Bytes that [`Command::encode`] appends.
    pub fn encoded_len(&self) -> usize {
        match self {
            Self::Batch(batch) => COMMAND_HEADER_BYTES + batch.encoded.len(),
            Self::OpenSession | Self::CloseSession | Self::KeepAlive => COMMAND_HEADER_BYTES,
            Self::QueryOutcome { .. } => COMMAND_HEADER_BYTES + QUERY_BYTES,
            _ => self.operation().map_or(0, |operation| operation.encoded_len()),
        }
    }

    /// Appends the command.
    pub fn encode(&self, out: &mut impl BufMut) {
        match self {
            Self::Batch(batch) => {
                put_head(out, BATCH, batch.count as usize, 0);
                out.put_slice(batch.encoded);
            }
            Self::OpenSession => put_head(out, OPEN_SESSION, 0, 0),
            Self::CloseSession => put_head(out, CLOSE_SESSION, 0, 0),
            Self::KeepAlive => put_head(out, KEEP_ALIVE, 0, 0),
            Self::QueryOutcome { session, sequence } => {
                put_head(out, QUERY_OUTCOME, 0, 0);
                out.put_u64_le(session.0);
                out.put_u64_le(sequence.0);
            }
            _ => {
                if let Some(operation) = self.operation() {
                    operation.encode(out);
                }
            }
        }
    }

    /// Reads a whole command; nothing may be left over.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::new(bytes);
        let kind = fields.u8("command kind")?;
        if !(PUT..=QUERY_OUTCOME).contains(&kind) {
            return Err(DecodeError::UnknownCommand(kind));
        }
        if (PUT..=INCREMENT).contains(&kind) {
            let operation = Operation::decode_after(kind, &mut fields)?;
            fields.end()?;
            return Ok(operation.into());
        }
        fields.zeroes(3, "command flags")?;
        let count = fields.u32("operation count")?;
        fields.zeroes(4, "command reserved")?;
        if kind == BATCH {
            return Batch::decode(count, fields).map(Self::Batch);
        }
        if count != 0 {
            return Err(DecodeError::Reserved("operation count of a session command"));
        }
        let command = match kind {
            OPEN_SESSION => Self::OpenSession,
            CLOSE_SESSION => Self::CloseSession,
            KEEP_ALIVE => Self::KeepAlive,
            _ => Self::QueryOutcome {
                session: SessionId(fields.u64("queried session")?),
                sequence: Sequence(fields.u64("queried sequence")?),
            },
        };
        fields.end()?;
        Ok(command)
    }
}

impl<'a> Operation<'a> {
    /// Bytes that it takes as a command, and in a batch.
    pub fn encoded_len(&self) -> usize {
        let number = match self {
            Self::CompareAndSet { .. } | Self::Increment { .. } => NUMBER_BYTES,
            Self::Put { .. } | Self::Update { .. } | Self::Remove { .. } => 0,
        };
        COMMAND_HEADER_BYTES + number + self.key().len() + self.value().len()
    }

    pub(crate) fn encode(&self, out: &mut impl BufMut) {
        let kind = match self {
            Self::Put { .. } => PUT,
            Self::Update { .. } => UPDATE,
            Self::Remove { .. } => REMOVE,
            Self::CompareAndSet { .. } => COMPARE_AND_SET,
            Self::Increment { .. } => INCREMENT,
        };
        put_head(out, kind, self.key().len(), self.value().len());
        match self {
            Self::CompareAndSet { expected, .. } => out.put_u64_le(expected.0),
            Self::Increment { by, .. } => out.put_i64_le(*by),
            Self::Put { .. } | Self::Update { .. } | Self::Remove { .. } => {}
        }
        out.put_slice(self.key());
        out.put_slice(self.value());
    }

    /// Reads what follows the kind.
    fn decode_after(kind: u8, fields: &mut Fields<'a>) -> Result<Self, DecodeError> {
        fields.zeroes(3, "command flags")?;
        let key_len = fields.u32("key length")? as usize;
        let value_len = fields.u32("value length")? as usize;
        let number = if kind >= COMPARE_AND_SET { fields.u64("expected revision or summand")? } else { 0 };
        let key = fields.take(key_len, "key")?;
        let value = fields.take(value_len, "value")?;
        match kind {
            PUT => Ok(Self::Put { key, value }),
            UPDATE => Ok(Self::Update { key, value }),
            COMPARE_AND_SET => Ok(Self::CompareAndSet { key, expected: Index(number), value }),
            REMOVE if value.is_empty() => Ok(Self::Remove { key }),
            INCREMENT if value.is_empty() => Ok(Self::Increment { key, by: number.cast_signed() }),
            REMOVE => Err(DecodeError::Value { field: "value length of a removal", value: value_len as u64 }),
            _ => Err(DecodeError::Value { field: "value length of an increment", value: value_len as u64 }),
        }
    }

    /// Reads one operation of a batch.
    fn decode_next(fields: &mut Fields<'a>) -> Result<Self, DecodeError> {
        match fields.u8("operation kind")? {
            kind @ PUT..=INCREMENT => Self::decode_after(kind, fields),
            other => Err(DecodeError::Value { field: "operation kind", value: other.into() }),
        }
    }
}

impl<'a> Batch<'a> {
    /// Checks the operations, so that [`Batch::operations`] cannot fail.
    fn decode(count: u32, mut fields: Fields<'a>) -> Result<Self, DecodeError> {
        if count == 0 || count as usize > BATCH_OPERATIONS_MAX {
            return Err(DecodeError::Value { field: "operation count", value: count.into() });
        }
        let encoded = fields.rest();
        for _ in 0..count {
            Operation::decode_next(&mut fields)?;
        }
        fields.end()?;
        Ok(Self { encoded, count })
    }
}

impl<'a> Iterator for Operations<'a> {
    type Item = Operation<'a>;

    fn next(&mut self) -> Option<Operation<'a>> {
        if self.first.is_some() || self.rest.is_empty() {
            return self.first.take();
        }
        let mut fields = Fields::new(self.rest);
        let operation = Operation::decode_next(&mut fields).expect("a batch is checked when it is made");
        self.rest = fields.rest();
        Some(operation)
    }
}

fn put_head(out: &mut impl BufMut, kind: u8, key_len: usize, value_len: usize) {
    out.put_u8(kind);
    out.put_slice(&[0, 0, 0]);
    put_count(out, key_len);
    put_count(out, value_len);
}
