//! Entry headers: the same 64 bytes on the wire and on disk. The table stands at [`EntryHeader`].

use byteorder::{ByteOrder, LittleEndian};
use twox_hash::XxHash3_64;

use crate::entry::{Chain, Entry, EntryHeader, EntryId, EntryKind};
use crate::error::{ChainError, DecodeError};
use crate::ids::{Index, LogTime, Sequence, SessionId, Term};

/// Where the chain stands; it covers everything before it.
const CHAIN_AT: usize = 56;

impl EntryKind {
    /// The kind with this number.
    pub fn from_wire(number: u8) -> Result<Self, DecodeError> {
        match number {
            1 => Ok(Self::Noop),
            2 => Ok(Self::Command),
            3 => Ok(Self::Configuration),
            other => Err(DecodeError::UnknownEntryKind(other)),
        }
    }
}

impl EntryHeader {
    /// Bytes of an encoded header.
    pub const BYTES: usize = 64;

    /// The header as it stands before the body.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        LittleEndian::write_u64(&mut bytes[0..8], self.id.term.0);
        LittleEndian::write_u64(&mut bytes[8..16], self.id.index.0);
        LittleEndian::write_u64(&mut bytes[16..24], self.log_time.0);
        LittleEndian::write_u64(&mut bytes[24..32], self.session.0);
        LittleEndian::write_u64(&mut bytes[32..40], self.sequence.0);
        bytes[40] = self.kind as u8;
        bytes[41] = self.flags;
        LittleEndian::write_u32(&mut bytes[44..48], self.body_len);
        LittleEndian::write_u32(&mut bytes[48..52], self.body_checksum);
        LittleEndian::write_u64(&mut bytes[CHAIN_AT..], self.chain.0);
        bytes
    }

    /// Reads a header: known kind, no flags, reserved bytes zero. Says nothing about body and chain.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Result<Self, DecodeError> {
        let kind = EntryKind::from_wire(bytes[40])?;
        if bytes[41] != 0 {
            return Err(DecodeError::Reserved("entry flags"));
        }
        if bytes[42..44] != [0; 2] || bytes[52..CHAIN_AT] != [0; 4] {
            return Err(DecodeError::Reserved("entry reserved"));
        }
        Ok(Self {
            id: EntryId {
                term: Term(LittleEndian::read_u64(&bytes[0..8])),
                index: Index(LittleEndian::read_u64(&bytes[8..16])),
            },
            log_time: LogTime(LittleEndian::read_u64(&bytes[16..24])),
            session: SessionId(LittleEndian::read_u64(&bytes[24..32])),
            sequence: Sequence(LittleEndian::read_u64(&bytes[32..40])),
            kind,
            flags: bytes[41],
            body_len: LittleEndian::read_u32(&bytes[44..48]),
            body_checksum: LittleEndian::read_u32(&bytes[48..52]),
            chain: Chain(LittleEndian::read_u64(&bytes[CHAIN_AT..])),
        })
    }

    /// The chain of this entry behind an entry with chain `previous` (C-8): what `self.chain` has to be. Every field of
    /// the header but the chain itself goes into it, the body by its checksum.
    pub fn chain_after(&self, previous: Chain) -> Chain {
        Chain(XxHash3_64::oneshot_with_seed(previous.0, &self.encode()[..CHAIN_AT]))
    }

    /// Verifies that this entry continues the chain `previous`.
    pub fn verify_chain(&self, previous: Chain) -> Result<(), ChainError> {
        let computed = self.chain_after(previous);
        if computed == self.chain {
            return Ok(());
        }
        Err(ChainError { id: self.id, received: self.chain, computed })
    }
}

impl Entry {
    /// The checksum of a body: CRC-32C.
    pub fn checksum(body: &[u8]) -> u32 {
        crc32c::crc32c(body)
    }

    /// Bytes of the entry on the wire: header and body.
    pub fn encoded_len(&self) -> usize {
        EntryHeader::BYTES + self.body.len()
    }

    /// Verifies the body against the header's length and checksum.
    pub fn verify_body(&self) -> Result<(), DecodeError> {
        if self.body.len() as u64 != u64::from(self.header.body_len) {
            return Err(DecodeError::Value { field: "body length", value: self.header.body_len.into() });
        }
        verify_body(&self.header, &self.body)
    }

    /// Verifies that this entry continues the chain `previous`.
    pub fn verify_chain(&self, previous: Chain) -> Result<(), ChainError> {
        self.header.verify_chain(previous)
    }
}

/// Verifies a body's checksum.
pub(crate) fn verify_body(header: &EntryHeader, body: &[u8]) -> Result<(), DecodeError> {
    let computed = Entry::checksum(body);
    if computed == header.body_checksum {
        return Ok(());
    }
    Err(DecodeError::BodyChecksum { received: header.body_checksum, computed })
}
