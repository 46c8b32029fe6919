//! HELLO, its answers, members and Format.

use byteorder::{ByteOrder, LittleEndian};
use bytes::BufMut;

use crate::error::DecodeError;
use crate::format::{Format, Hello, HelloReply, Member, Purpose, Refusal};
use crate::frame::{self, Frame, Out, HEADER_BYTES};
use crate::ids::{ClusterId, Incarnation, NodeId};
use crate::kind::{Group, Kind};
use crate::reply::Reason;
use crate::wire::{bytes_len, put_bytes, put_count, Fields};

/// With what the payload of every HELLO, HELLO_REPLY and REFUSAL begins. The line end shows a transfer that rewrites text.
const MAGIC: &[u8; 8] = b"RAFTKV\r\n";
/// Bytes of a HELLO before its member list.
const HELLO_FIXED_BYTES: usize = 40;
/// Bytes of a REFUSAL before its text.
const REFUSAL_FIXED_BYTES: usize = 16;
/// Bytes of a member with two empty addresses.
const MEMBER_BYTES_MIN: usize = 20;

impl Purpose {
    /// The purpose with this number.
    pub fn from_wire(number: u8) -> Result<Self, DecodeError> {
        match number {
            1 => Ok(Self::Client),
            2 => Ok(Self::Peer),
            3 => Ok(Self::Snapshot),
            other => Err(DecodeError::Value { field: "purpose", value: other.into() }),
        }
    }
}

impl Hello {
    /// The largest frame accepted before both sides know each other, in bytes.
    pub const FRAME_BYTES_MAX: usize = 64 * 1024;

    /// Looks at the first bytes of a connection, as many as there are: [`DecodeError::NotRaftkv`] as soon as they cannot
    /// be the beginning of a HELLO or of an answer to one. Any protocol that begins with text shows itself by its length.
    pub fn recognise(bytes: &[u8]) -> Result<(), DecodeError> {
        let length = bytes.get(..4).map(LittleEndian::read_u32);
        let length_fits = length.is_none_or(|length| (length as usize) <= Self::FRAME_BYTES_MAX - 4);
        let kind_fits = bytes.get(12).is_none_or(|&kind| Group::of(kind) == Some(Group::Hello));
        let magic = bytes.get(HEADER_BYTES..).unwrap_or(&[]);
        let magic_fits = magic.iter().zip(MAGIC).all(|(received, expected)| received == expected);
        if length_fits && kind_fits && magic_fits {
            Ok(())
        } else {
            Err(DecodeError::NotRaftkv)
        }
    }

    /// Bytes of the whole frame.
    pub fn encoded_len(&self) -> usize {
        HEADER_BYTES + self.payload_len()
    }

    /// Appends a HELLO frame.
    pub fn encode(&self, out: &mut impl Out) {
        self.encode_as(Kind::Hello, out);
    }

    /// Reads a HELLO frame. Bytes behind the known fields belong to a newer version and are left alone.
    pub fn decode(frame: &Frame<'_>) -> Result<Self, DecodeError> {
        match frame.checked_kind()? {
            Kind::Hello => Self::decode_payload(frame.payload()),
            received => Err(DecodeError::WrongKind { received }),
        }
    }

    fn payload_len(&self) -> usize {
        HELLO_FIXED_BYTES + members_len(&self.initial_members)
    }

    fn encode_as(&self, kind: Kind, out: &mut impl Out) {
        frame::write(kind, self.payload_len(), out, |out| {
            out.put_slice(MAGIC);
            out.put_u16_le(self.version_min);
            out.put_u16_le(self.version_max);
            out.put_u32_le(self.feature_level);
            out.put_u8(self.purpose as u8);
            out.put_slice(&[0, 0, 0]);
            out.put_u32_le(self.node.0);
            out.put_u64_le(self.cluster.0);
            out.put_u64_le(self.incarnation.0);
            put_members(out, &self.initial_members);
        });
    }

    fn decode_payload(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::new(payload);
        magic(&mut fields)?;
        let version_min = fields.u16("version min")?;
        let version_max = fields.u16("version max")?;
        let feature_level = fields.u32("feature level")?;
        let purpose = Purpose::from_wire(fields.u8("purpose")?)?;
        fields.take(3, "reserved")?;
        Ok(Self {
            version_min,
            version_max,
            feature_level,
            purpose,
            node: NodeId(fields.u32("node")?),
            cluster: ClusterId(fields.u64("cluster")?),
            incarnation: Incarnation(fields.u64("incarnation")?),
            initial_members: members(&mut fields)?,
        })
    }
}

impl HelloReply {
    /// Bytes of the whole frame.
    pub fn encoded_len(&self) -> usize {
        match self {
            Self::Accepted(hello) => hello.encoded_len(),
            Self::Refused(refusal) => refusal.encoded_len(),
        }
    }

    /// Appends a HELLO_REPLY or REFUSAL frame.
    pub fn encode(&self, out: &mut impl Out) {
        match self {
            Self::Accepted(hello) => hello.encode_as(Kind::HelloReply, out),
            Self::Refused(refusal) => refusal.encode(out),
        }
    }

    /// Reads a HELLO_REPLY or REFUSAL frame.
    pub fn decode(frame: &Frame<'_>) -> Result<Self, DecodeError> {
        match frame.checked_kind()? {
            Kind::HelloReply => Hello::decode_payload(frame.payload()).map(Self::Accepted),
            Kind::Refusal => Refusal::decode_payload(frame.payload()).map(Self::Refused),
            received => Err(DecodeError::WrongKind { received }),
        }
    }
}

impl Refusal {
    /// Bytes of the whole frame.
    pub fn encoded_len(&self) -> usize {
        HEADER_BYTES + self.payload_len()
    }

    /// Appends a REFUSAL frame.
    pub fn encode(&self, out: &mut impl Out) {
        frame::write(Kind::Refusal, self.payload_len(), out, |out| {
            out.put_slice(MAGIC);
            out.put_u16_le(self.version_min);
            out.put_u16_le(self.version_max);
            out.put_u16_le(self.reason as u16);
            out.put_u16_le(0);
            put_bytes(out, self.text.as_bytes());
        });
    }

    fn payload_len(&self) -> usize {
        REFUSAL_FIXED_BYTES + bytes_len(&self.text)
    }

    fn decode_payload(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::new(payload);
        magic(&mut fields)?;
        let version_min = fields.u16("version min")?;
        let version_max = fields.u16("version max")?;
        let reason = Reason::from_wire(fields.u16("reason")?);
        fields.take(2, "reserved")?;
        let text = fields.text("text")?.to_owned();
        Ok(Self { version_min, version_max, reason, text })
    }
}

impl Format {
    /// Bytes that [`Format::encode`] appends.
    pub fn encoded_len(&self) -> usize {
        8 + members_len(&self.members)
    }

    /// Appends the Format: cluster id, number of members, members. Not a frame: it rides in FORMAT and in the meta files.
    pub fn encode(&self, out: &mut impl BufMut) {
        out.put_u64_le(self.cluster.0);
        put_members(out, &self.members);
    }

    /// Reads a whole Format; nothing may be left over.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::new(bytes);
        let cluster = ClusterId(fields.u64("cluster")?);
        let members = members(&mut fields)?;
        fields.end()?;
        Ok(Self { cluster, members })
    }
}

fn magic(fields: &mut Fields<'_>) -> Result<(), DecodeError> {
    if fields.take(MAGIC.len(), "magic")? == MAGIC {
        Ok(())
    } else {
        Err(DecodeError::NotRaftkv)
    }
}

fn members_len(members: &[Member]) -> usize {
    let addresses = |member: &Member| member.client_address.len() + member.peer_address.len();
    4 + members.iter().map(|member| MEMBER_BYTES_MIN + addresses(member)).sum::<usize>()
}

fn put_members(out: &mut impl BufMut, members: &[Member]) {
    put_count(out, members.len());
    for member in members {
        out.put_u32_le(member.id.0);
        out.put_u64_le(member.incarnation.0);
        put_bytes(out, member.client_address.as_bytes());
        put_bytes(out, member.peer_address.as_bytes());
    }
}

fn members(fields: &mut Fields<'_>) -> Result<Vec<Member>, DecodeError> {
    let count = fields.count(MEMBER_BYTES_MIN, "members")?;
    let mut members = Vec::with_capacity(count);
    for _ in 0..count {
        members.push(Member {
            id: NodeId(fields.u32("member id")?),
            incarnation: Incarnation(fields.u64("member incarnation")?),
            client_address: fields.text("member client address")?.to_owned(),
            peer_address: fields.text("member peer address")?.to_owned(),
        });
    }
    Ok(members)
}
