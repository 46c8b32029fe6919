//! Replies.

use bytes::BufMut;

use super::outcome::{NUMBER_BYTES, REFUSED_BYTES, SESSION_BYTES};
use super::request::VIEW_BYTES;
use crate::entry::EntryId;
use crate::error::DecodeError;
use crate::frame::{self, Frame, Out, HEADER_BYTES};
use crate::ids::{Index, NodeId, RequestId, Term};
use crate::kind::Kind;
use crate::reply::{
    Effect, Fate, Item, LeaderHint, NodeStatus, Page, Reason, RefusedOperation, Reply, ReplyBody, ReplyHeader,
    SessionTerms, Status, TakenSnapshot, Versioned,
};
use crate::request::ViewId;
use crate::wire::{bytes_len, put_bytes, put_count, Fields};

/// Bytes of the reply header.
const REPLY_HEADER_BYTES: usize = 24;
/// Bytes of a page before its items: flags, reserved, view, count, number of items.
const PAGE_FIXED_BYTES: usize = 4 + VIEW_BYTES + 8 + 4;
/// Bytes of the three numbers of a value.
const HISTORY_BYTES: usize = 24;
/// Bytes of an item with empty key and value.
const ITEM_BYTES_MIN: usize = 4 + HISTORY_BYTES + 4;
/// Bytes of a taken snapshot.
const SNAPSHOT_BYTES: usize = 32;

const HAS_LEADER: u8 = 1;
const HAS_TRAILER: u8 = 2;
const HAS_VIEW: u8 = 1;

pub(super) const EMPTY: u8 = 0;
const MESSAGE: u8 = 1;
const VALUE: u8 = 2;
const PAGE: u8 = 3;
const NODE_STATUS: u8 = 4;
pub(super) const NUMBER: u8 = 5;
const SESSION: u8 = 6;
pub(super) const REFUSED: u8 = 7;
const FATE: u8 = 8;
const SNAPSHOT: u8 = 9;

impl Status {
    /// All statuses.
    pub const ALL: [Self; 12] = [
        Self::Ok,
        Self::Created,
        Self::Redirect,
        Self::BadRequest,
        Self::NotFound,
        Self::Exists,
        Self::ViewExpired,
        Self::ConditionFailed,
        Self::TooLarge,
        Self::Internal,
        Self::NotExecuted,
        Self::Unknown,
    ];

    /// The status with this number. An unknown one is an error: a client that guessed could take a failure for success.
    pub fn from_wire(number: u16) -> Result<Self, DecodeError> {
        let known = Self::ALL.into_iter().find(|status| *status as u16 == number);
        known.ok_or(DecodeError::Value { field: "status", value: number.into() })
    }
}

impl Reason {
    /// All reasons that have a name.
    pub const ALL: [Self; 25] = [
        Self::None,
        Self::NotLeader,
        Self::NoLeader,
        Self::Forming,
        Self::Replaced,
        Self::LeaderChanged,
        Self::Deadline,
        Self::Overload,
        Self::NoSpace,
        Self::KeyTooLarge,
        Self::ValueTooLarge,
        Self::FrameTooLarge,
        Self::Malformed,
        Self::UnknownKind,
        Self::Version,
        Self::WrongCluster,
        Self::Stopping,
        Self::EmptyKey,
        Self::Unsupported,
        Self::SessionExpired,
        Self::Forgotten,
        Self::Never,
        Self::RevisionMismatch,
        Self::NotANumber,
        Self::Overflow,
    ];

    /// The reason with this number; [`Reason::Other`] for a newer server's. Status and effect say what to do.
    pub fn from_wire(number: u16) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Other)
    }
}

impl Effect {
    /// The effect with this number; an unknown one is [`Effect::Unknown`], which promises nothing.
    pub fn from_wire(number: u8) -> Self {
        match number {
            0 => Self::None,
            1 => Self::Applied,
            _ => Self::Unknown,
        }
    }
}

impl<'a> Reply<'a> {
    /// Bytes of the whole frame.
    pub fn encoded_len(&self) -> usize {
        HEADER_BYTES + self.payload_len()
    }

    /// Appends the reply as a frame.
    pub fn encode(&self, out: &mut impl Out) {
        frame::write(Kind::Reply, self.payload_len(), out, |out| {
            let flags = [(self.leader.is_some(), HAS_LEADER), (!self.trailer.is_empty(), HAS_TRAILER)];
            out.put_u64_le(self.header.request.0);
            out.put_u16_le(self.header.status as u16);
            out.put_u16_le(self.header.reason as u16);
            out.put_u8(self.header.effect as u8);
            out.put_u8(self.body.number());
            out.put_u8(flags.iter().filter(|(set, _)| *set).map(|(_, bit)| bit).sum());
            out.put_u8(0);
            out.put_u64_le(self.header.revision.0);
            if let Some(leader) = &self.leader {
                out.put_u32_le(leader.node.0);
                put_bytes(out, leader.address.as_bytes());
            }
            if !self.trailer.is_empty() {
                put_bytes(out, self.trailer);
            }
            self.body.encode(out);
        });
    }

    /// Reads a reply frame.
    pub fn decode(frame: &Frame<'a>) -> Result<Self, DecodeError> {
        match frame.checked_kind()? {
            Kind::Reply => {}
            received => return Err(DecodeError::WrongKind { received }),
        }
        let mut fields = Fields::new(frame.payload());
        let request = RequestId(fields.u64("request id")?);
        let status = Status::from_wire(fields.u16("status")?)?;
        let reason = Reason::from_wire(fields.u16("reason")?);
        let effect = Effect::from_wire(fields.u8("effect")?);
        let body = fields.u8("body kind")?;
        let flags = fields.flags(HAS_LEADER | HAS_TRAILER, "reply flags")?;
        fields.zeroes(1, "reply reserved")?;
        let revision = Index(fields.u64("revision")?);
        let leader = (flags & HAS_LEADER != 0).then(|| LeaderHint::decode(&mut fields)).transpose()?;
        let trailer = if flags & HAS_TRAILER != 0 { fields.bytes("trailer")? } else { &[] };
        let body = ReplyBody::decode(body, &mut fields)?;
        fields.end()?;
        Ok(Self { header: ReplyHeader { request, status, reason, effect, revision }, leader, body, trailer })
    }

    fn payload_len(&self) -> usize {
        let leader = self.leader.as_ref().map_or(0, |leader| 4 + bytes_len(leader.address));
        let trailer = if self.trailer.is_empty() { 0 } else { bytes_len(self.trailer) };
        REPLY_HEADER_BYTES + leader + trailer + self.body.encoded_len()
    }
}

impl<'a> LeaderHint<'a> {
    fn decode(fields: &mut Fields<'a>) -> Result<Self, DecodeError> {
        Ok(Self { node: NodeId(fields.u32("leader")?), address: fields.text("leader address")? })
    }
}

impl<'a> ReplyBody<'a> {
    fn number(&self) -> u8 {
        match self {
            Self::Empty => EMPTY,
            Self::Message(_) => MESSAGE,
            Self::Value(_) => VALUE,
            Self::Page(_) => PAGE,
            Self::Status(_) => NODE_STATUS,
            Self::Number(_) => NUMBER,
            Self::Session(_) => SESSION,
            Self::Refused(_) => REFUSED,
            Self::Fate(_) => FATE,
            Self::Snapshot(_) => SNAPSHOT,
        }
    }

    fn encoded_len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Message(text) => bytes_len(text),
            Self::Value(versioned) => versioned.encoded_len(),
            Self::Page(page) => page.encoded_len(),
            Self::Status(status) => status.encoded_len(),
            Self::Number(_) => NUMBER_BYTES,
            Self::Session(_) => SESSION_BYTES,
            Self::Refused(_) => REFUSED_BYTES,
            Self::Fate(fate) => fate.encoded_len(),
            Self::Snapshot(_) => SNAPSHOT_BYTES,
        }
    }

    fn encode(&self, out: &mut impl BufMut) {
        match self {
            Self::Empty => {}
            Self::Message(text) => put_bytes(out, text.as_bytes()),
            Self::Value(versioned) => versioned.encode(out),
            Self::Page(page) => page.encode(out),
            Self::Status(status) => status.encode(out),
            Self::Number(number) => out.put_i64_le(*number),
            Self::Session(terms) => terms.encode(out),
            Self::Refused(refused) => refused.encode(out),
            Self::Fate(fate) => fate.encode(out),
            Self::Snapshot(taken) => taken.encode(out),
        }
    }

    fn decode(number: u8, fields: &mut Fields<'a>) -> Result<Self, DecodeError> {
        match number {
            EMPTY => Ok(Self::Empty),
            MESSAGE => fields.text("message").map(Self::Message),
            VALUE => Versioned::decode(fields).map(Self::Value),
            PAGE => Page::decode(fields).map(Self::Page),
            SNAPSHOT => TakenSnapshot::decode(fields).map(Self::Snapshot),
            NODE_STATUS => NodeStatus::decode(fields).map(|status| Self::Status(Box::new(status))),
            NUMBER => fields.u64("number").map(|number| Self::Number(number.cast_signed())),
            SESSION => SessionTerms::decode(fields).map(Self::Session),
            REFUSED => RefusedOperation::decode(fields).map(Self::Refused),
            FATE => Fate::decode(fields).map(Self::Fate),
            other => Err(DecodeError::Value { field: "body kind", value: other.into() }),
        }
    }
}

impl TakenSnapshot {
    fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.node.0);
        out.put_u32_le(0);
        out.put_u64_le(self.last.term.0);
        out.put_u64_le(self.last.index.0);
        out.put_u64_le(self.bytes);
    }

    fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let node = NodeId(fields.u32("snapshot node")?);
        fields.zeroes(4, "snapshot reserved")?;
        let last = EntryId { term: Term(fields.u64("snapshot term")?), index: Index(fields.u64("snapshot index")?) };
        Ok(Self { node, last, bytes: fields.u64("snapshot bytes")? })
    }
}

impl<'a> Versioned<'a> {
    fn encoded_len(&self) -> usize {
        HISTORY_BYTES + bytes_len(self.value)
    }

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u64_le(self.revision.0);
        out.put_u64_le(self.create_revision.0);
        out.put_u64_le(self.version);
        put_bytes(out, self.value);
    }

    fn decode(fields: &mut Fields<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            revision: Index(fields.u64("value revision")?),
            create_revision: Index(fields.u64("value create revision")?),
            version: fields.u64("value version")?,
            value: fields.bytes("value")?,
        })
    }
}

impl Item<'_> {
    /// Bytes that it takes in a page.
    pub fn encoded_len(&self) -> usize {
        bytes_len(self.key) + self.versioned.encoded_len()
    }
}

impl<'a> Page<'a> {
    fn encoded_len(&self) -> usize {
        PAGE_FIXED_BYTES + self.items.iter().map(Item::encoded_len).sum::<usize>() + bytes_len(self.resume)
    }

    fn encode(&self, out: &mut impl BufMut) {
        out.put_u8(if self.view.is_some() { HAS_VIEW } else { 0 });
        out.put_slice(&[0, 0, 0]);
        ViewId::encode_option(self.view.as_ref(), out);
        out.put_u64_le(self.count);
        put_count(out, self.items.len());
        for item in &self.items {
            put_bytes(out, item.key);
            item.versioned.encode(out);
        }
        put_bytes(out, self.resume);
    }

    fn decode(fields: &mut Fields<'a>) -> Result<Self, DecodeError> {
        let flags = fields.flags(HAS_VIEW, "page flags")?;
        fields.zeroes(3, "page reserved")?;
        let view = ViewId::decode_option(flags & HAS_VIEW != 0, fields)?;
        let count = fields.u64("key count")?;
        let items_len = fields.count(ITEM_BYTES_MIN, "items")?;
        let mut items = Vec::with_capacity(items_len);
        for _ in 0..items_len {
            items.push(Item { key: fields.bytes("key")?, versioned: Versioned::decode(fields)? });
        }
        Ok(Self { view, count, items, resume: fields.bytes("resume")? })
    }
}
