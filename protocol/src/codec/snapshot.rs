//! The transfer of snapshots.

use bytes::BufMut;

use crate::entry::{Chain, EntryId};
use crate::error::DecodeError;
use crate::frame::{self, Frame, Out, HEADER_BYTES};
use crate::ids::{Index, Term};
use crate::kind::Kind;
use crate::snapshot::{Chunk, Fetch, Gone, GoneReason, Transfer, CHUNK_HEAD_BYTES};
use crate::wire::{bytes_len, put_bytes, Fields};

/// Bytes of a FETCH's payload.
const FETCH_BYTES: usize = 40;
/// Bytes of a GONE's payload before its text.
const GONE_FIXED_BYTES: usize = 4;

impl GoneReason {
    /// All reasons that have a name.
    pub const ALL: [Self; 4] = [Self::NotHere, Self::BeyondEnd, Self::Busy, Self::Unreadable];

    /// The reason with this number; [`GoneReason::Other`] for a newer version's.
    pub fn from_wire(number: u16) -> Self {
        Self::ALL.into_iter().find(|reason| *reason as u16 == number).unwrap_or(Self::Other)
    }
}

impl<'a> Transfer<'a> {
    /// The kind of frame that carries it.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Fetch(_) => Kind::SnapshotFetch,
            Self::Chunk(_) => Kind::SnapshotChunk,
            Self::Gone(_) => Kind::SnapshotGone,
        }
    }

    /// Bytes of the whole frame.
    pub fn encoded_len(&self) -> usize {
        HEADER_BYTES + self.payload_len()
    }

    /// Appends the frame.
    pub fn encode(&self, out: &mut impl Out) {
        frame::write(self.kind(), self.payload_len(), out, |out| match self {
            Self::Fetch(fetch) => fetch.encode(out),
            Self::Chunk(chunk) => chunk.encode(out),
            Self::Gone(gone) => {
                out.put_u16_le(gone.reason as u16);
                out.put_u16_le(0);
                put_bytes(out, gone.text.as_bytes());
            }
        });
    }

    /// Reads a frame of a snapshot's transfer.
    pub fn decode(frame: &Frame<'a>) -> Result<Self, DecodeError> {
        let kind = frame.checked_kind()?;
        let mut fields = Fields::new(frame.payload());
        match kind {
            Kind::SnapshotFetch => Fetch::decode(&mut fields).map(Self::Fetch),
            Kind::SnapshotChunk => Chunk::decode(&mut fields).map(Self::Chunk),
            Kind::SnapshotGone => Gone::decode(&mut fields).map(Self::Gone),
            received => Err(DecodeError::WrongKind { received }),
        }
    }

    fn payload_len(&self) -> usize {
        match self {
            Self::Fetch(_) => FETCH_BYTES,
            Self::Chunk(chunk) => CHUNK_HEAD_BYTES + chunk.bytes.len(),
            Self::Gone(gone) => GONE_FIXED_BYTES + bytes_len(gone.text),
        }
    }
}

impl Fetch {
    fn encode(&self, out: &mut impl BufMut) {
        out.put_u64_le(self.last.term.0);
        out.put_u64_le(self.last.index.0);
        out.put_u64_le(self.chain.0);
        out.put_u64_le(self.offset);
        out.put_u32_le(self.bytes_max);
        out.put_u32_le(0);
    }

    fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let fetch = Self {
            last: EntryId { term: Term(fields.u64("term")?), index: Index(fields.u64("index")?) },
            chain: Chain(fields.u64("chain")?),
            offset: fields.u64("offset")?,
            bytes_max: fields.u32("bytes max")?,
        };
        fields.zeroes(4, "fetch reserved")?;
        fields.end()?;
        Ok(fetch)
    }
}

impl<'a> Chunk<'a> {
    fn encode(&self, out: &mut impl BufMut) {
        out.put_u64_le(self.index.0);
        out.put_u64_le(self.offset);
        out.put_u64_le(self.total);
        out.put_u64_le(self.hash);
        out.put_u32_le(0);
        put_bytes(out, self.bytes);
    }

    fn decode(fields: &mut Fields<'a>) -> Result<Self, DecodeError> {
        let (index, offset) = (Index(fields.u64("index")?), fields.u64("offset")?);
        let (total, hash) = (fields.u64("total")?, fields.u64("hash")?);
        fields.zeroes(4, "chunk reserved")?;
        let bytes = fields.bytes("bytes")?;
        fields.end()?;
        match offset.checked_add(bytes.len() as u64) {
            Some(end) if end <= total => Ok(Self { index, offset, total, hash, bytes }),
            _ => Err(DecodeError::Value { field: "chunk offset", value: offset }),
        }
    }
}

impl<'a> Gone<'a> {
    fn decode(fields: &mut Fields<'a>) -> Result<Self, DecodeError> {
        let reason = GoneReason::from_wire(fields.u16("gone reason")?);
        fields.zeroes(2, "gone reserved")?;
        let text = fields.text("gone text")?;
        fields.end()?;
        Ok(Self { reason, text })
    }
}
