//! Receipts.

use bytes::BufMut;

use crate::error::DecodeError;
use crate::ids::NodeId;
use crate::receipt::{MemberTimes, Receipt, Stage};
use crate::wire::{put_count, Fields};

const STAGE_BYTES: usize = 8;
const MEMBER_BYTES: usize = 20;

impl Stage {
    /// Its number.
    pub fn to_wire(self) -> u16 {
        match self {
            Self::Decode => 1,
            Self::Queue => 2,
            Self::Propose => 3,
            Self::Quorum => 4,
            Self::Apply => 5,
            Self::Held => 6,
            Self::Permission => 7,
            Self::Reply => 8,
            Self::Other(number) => number,
        }
    }

    /// The stage with this number.
    pub fn from_wire(number: u16) -> Self {
        Self::ALL.into_iter().find(|stage| stage.to_wire() == number).unwrap_or(Self::Other(number))
    }
}

impl Receipt {
    /// Appends it, as it stands in a reply's trailer.
    pub fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.node.0);
        out.put_u32_le(self.closed_by.unwrap_or_default().0);
        put_presence(out, self.closed_by.is_some());
        put_count(out, self.stages.len());
        for (stage, micros) in &self.stages {
            out.put_u16_le(stage.to_wire());
            out.put_u16_le(0);
            out.put_u32_le(*micros);
        }
        put_count(out, self.members.len());
        for member in &self.members {
            member.encode(out);
        }
    }

    /// Reads a trailer. What stands behind belongs to newer servers.
    pub fn decode(trailer: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::new(trailer);
        let node = NodeId(fields.u32("receipt node")?);
        let closer = NodeId(fields.u32("closing node")?);
        let closed_by = presence(&mut fields, closer, "closing node known")?;
        let count = fields.count(STAGE_BYTES, "stages")?;
        let mut stages = Vec::with_capacity(count);
        for _ in 0..count {
            let stage = Stage::from_wire(fields.u16("stage")?);
            fields.zeroes(2, "stage reserved")?;
            stages.push((stage, fields.u32("stage time")?));
        }
        let count = fields.count(MEMBER_BYTES, "receipt members")?;
        let mut members = Vec::with_capacity(count);
        for _ in 0..count {
            members.push(MemberTimes::decode(&mut fields)?);
        }
        Ok(Self { node, stages, members, closed_by })
    }
}

impl MemberTimes {
    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.node.0);
        out.put_u32_le(self.durable_us.unwrap_or_default());
        put_presence(out, self.durable_us.is_some());
        out.put_u32_le(self.queue_us);
        out.put_u32_le(self.sync_us);
    }

    fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let node = NodeId(fields.u32("receipt member")?);
        let durable_us = fields.u32("durable after")?;
        let durable_us = presence(fields, durable_us, "durable known")?;
        Ok(Self { node, durable_us, queue_us: fields.u32("queue time")?, sync_us: fields.u32("sync time")? })
    }
}

/// A flag and three reserved bytes.
fn put_presence(out: &mut impl BufMut, is_there: bool) {
    out.put_u8(u8::from(is_there));
    out.put_slice(&[0, 0, 0]);
}

/// Reads the flag that says whether `value`, read before it, is there; an absent one is 0.
fn presence<T: Default + PartialEq>(
    fields: &mut Fields<'_>,
    value: T,
    field: &'static str,
) -> Result<Option<T>, DecodeError> {
    let is_there = fields.boolean(field)?;
    fields.zeroes(3, field)?;
    match is_there {
        true => Ok(Some(value)),
        false if value == T::default() => Ok(None),
        false => Err(DecodeError::Reserved(field)),
    }
}
