//! A node's status, as a reply's body. Bytes behind the known fields belong to a newer version and are left alone.

use bytes::BufMut;

use crate::error::DecodeError;
use crate::ids::{ClusterId, Index, NodeId, Term};
use crate::reply::{MemberStatus, NodeStatus, Role};
use crate::wire::{bytes_len, put_bytes, put_count, Fields};

/// Bytes before the name: id, role, leader known, reserved, leader, five indexes and times, cluster, keys.
const STATUS_FIXED_BYTES: usize = 4 + 1 + 1 + 2 + 4 + 7 * 8;
/// Bytes of a member with empty addresses.
const MEMBER_BYTES_MIN: usize = 4 + 1 + 4 + 4;
/// Bytes of an empty note.
const NOTE_BYTES_MIN: usize = 4;
/// Bytes of a counter with an empty name.
const COUNTER_BYTES_MIN: usize = 4 + 8;

impl Role {
    /// The role with this number.
    pub fn from_wire(number: u8) -> Result<Self, DecodeError> {
        match number {
            0 => Ok(Self::Follower),
            1 => Ok(Self::Candidate),
            2 => Ok(Self::Leader),
            3 => Ok(Self::Learner),
            other => Err(DecodeError::Value { field: "role", value: other.into() }),
        }
    }
}

impl NodeStatus {
    pub(crate) fn encoded_len(&self) -> usize {
        let member = |member: &MemberStatus| MEMBER_BYTES_MIN + member.client_address.len() + member.peer_address.len();
        STATUS_FIXED_BYTES
            + bytes_len(&self.name)
            + 4
            + self.members.iter().map(member).sum::<usize>()
            + 4
            + self.notes.iter().map(bytes_len).sum::<usize>()
            + 4
            + self.counters.iter().map(|(name, _)| COUNTER_BYTES_MIN + name.len()).sum::<usize>()
    }

    pub(crate) fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.id.0);
        out.put_u8(self.role as u8);
        out.put_u8(u8::from(self.leader.is_some()));
        out.put_u16_le(0);
        out.put_u32_le(self.leader.unwrap_or_default().0);
        out.put_u64_le(self.cluster.0);
        out.put_u64_le(self.term.0);
        out.put_u64_le(self.commit_index.0);
        out.put_u64_le(self.applied_index.0);
        out.put_u64_le(self.durable_index.0);
        out.put_u64_le(self.uptime_ms);
        out.put_u64_le(self.keys);
        put_bytes(out, self.name.as_bytes());
        put_count(out, self.members.len());
        for member in &self.members {
            out.put_u32_le(member.id.0);
            out.put_u8(u8::from(member.connected));
            put_bytes(out, member.client_address.as_bytes());
            put_bytes(out, member.peer_address.as_bytes());
        }
        put_count(out, self.notes.len());
        for note in &self.notes {
            put_bytes(out, note.as_bytes());
        }
        put_count(out, self.counters.len());
        for (name, count) in &self.counters {
            put_bytes(out, name.as_bytes());
            out.put_u64_le(*count);
        }
    }

    pub(crate) fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let id = NodeId(fields.u32("node")?);
        let role = Role::from_wire(fields.u8("role")?)?;
        let leader_known = fields.boolean("leader known")?;
        fields.zeroes(2, "status reserved")?;
        let leader = NodeId(fields.u32("leader")?);
        if !leader_known && leader != NodeId(0) {
            return Err(DecodeError::Reserved("absent leader"));
        }
        let status = Self {
            id,
            role,
            leader: leader_known.then_some(leader),
            cluster: ClusterId(fields.u64("cluster")?),
            term: Term(fields.u64("term")?),
            commit_index: Index(fields.u64("commit index")?),
            applied_index: Index(fields.u64("applied index")?),
            durable_index: Index(fields.u64("durable index")?),
            uptime_ms: fields.u64("uptime")?,
            keys: fields.u64("keys")?,
            name: fields.text("name")?.to_owned(),
            members: members(fields)?,
            notes: notes(fields)?,
            counters: counters(fields)?,
        };
        let newer = fields.rest().len();
        fields.take(newer, "fields of a newer version")?;
        Ok(status)
    }
}

fn members(fields: &mut Fields<'_>) -> Result<Vec<MemberStatus>, DecodeError> {
    let count = fields.count(MEMBER_BYTES_MIN, "members")?;
    let mut members = Vec::with_capacity(count);
    for _ in 0..count {
        members.push(MemberStatus {
            id: NodeId(fields.u32("member id")?),
            connected: fields.boolean("member connected")?,
            client_address: fields.text("member client address")?.to_owned(),
            peer_address: fields.text("member peer address")?.to_owned(),
        });
    }
    Ok(members)
}

fn notes(fields: &mut Fields<'_>) -> Result<Vec<String>, DecodeError> {
    let count = fields.count(NOTE_BYTES_MIN, "notes")?;
    (0..count).map(|_| fields.text("note").map(str::to_owned)).collect()
}

fn counters(fields: &mut Fields<'_>) -> Result<Vec<(String, u64)>, DecodeError> {
    let count = fields.count(COUNTER_BYTES_MIN, "counters")?;
    (0..count).map(|_| Ok((fields.text("counter name")?.to_owned(), fields.u64("counter")?))).collect()
}
