//! Peer messages.

use bytes::{BufMut, Bytes};

use super::entry::verify_body;
use crate::entry::{Chain, Entry, EntryHeader, EntryId};
use crate::error::{ChainError, DecodeError};
use crate::format::Format;
use crate::frame::{self, Frame, Out, HEADER_BYTES};
use crate::ids::{ClusterId, Incarnation, Index, NodeId, Round, Term};
use crate::kind::{Group, Kind};
use crate::message::{
    AppendEntries, AppendReply, Envelope, Message, RejectHint, SnapshotOffer, APPEND_ENTRIES_HEAD_BYTES,
    ENVELOPE_HEADER_BYTES,
};
use crate::wire::{put_count, Fields};
use crate::{VERSION_MAX, VERSION_MIN};

const HEARTBEAT: u8 = 1;

impl Envelope {
    /// Bytes of the whole frame, entries and their bodies included.
    pub fn encoded_len(&self) -> usize {
        let entries: usize = self.entries().iter().map(Entry::encoded_len).sum();
        self.encoded_head_len() + entries
    }

    /// Bytes that [`Envelope::encode_head`] appends.
    pub fn encoded_head_len(&self) -> usize {
        HEADER_BYTES + ENVELOPE_HEADER_BYTES + self.message.head_len()
    }

    /// The entries that follow the head; empty for all messages but AppendEntries.
    pub fn entries(&self) -> &[Entry] {
        match &self.message {
            Message::AppendEntries(append) => &append.entries,
            _ => &[],
        }
    }

    /// Appends the whole frame.
    pub fn encode(&self, out: &mut impl Out) {
        self.encode_head(out);
        for entry in self.entries() {
            out.put_slice(&entry.header.encode());
            out.put_slice(&entry.body);
        }
    }

    /// Appends the frame up to the entries. The caller sends, after it and in order, for each of
    /// [`Envelope::entries`]: `entry.header.encode()`, then `entry.body`. So bodies go out by a vectored write, uncopied.
    /// Of all messages but AppendEntries this is the whole frame.
    pub fn encode_head(&self, out: &mut impl Out) {
        frame::write(self.message.kind(), self.encoded_len() - HEADER_BYTES, out, |out| {
            out.put_u64_le(self.cluster.0);
            out.put_u64_le(self.incarnation.0);
            out.put_u32_le(self.from.0);
            out.put_u32_le(self.to.0);
            out.put_u64_le(self.term.0);
            out.put_u16_le(VERSION_MAX);
            out.put_bytes(0, 6);
            self.message.encode_head(out);
        });
    }

    /// Reads a peer message. `keep` turns an entry's body, a part of the frame, into what the entry holds: a slice of the
    /// shared read buffer (`|body| buffer.slice_ref(body)`) or a copy (`Bytes::copy_from_slice`).
    ///
    /// Of AppendEntries it verifies the structure, each body's checksum, that indexes follow `previous` one by one, that
    /// terms never fall and stay within the sender's. The chain, which vouches for the entries' headers, is Raft's to
    /// verify: [`AppendEntries::verify_chain`].
    pub fn decode(frame: &Frame<'_>, keep: impl FnMut(&[u8]) -> Bytes) -> Result<Self, DecodeError> {
        Self::decode_with(frame, &mut Vec::new(), keep)
    }

    /// The same. A message with entries takes `spare`, which is empty, for them: its memory serves again.
    pub fn decode_with(
        frame: &Frame<'_>,
        spare: &mut Vec<Entry>,
        keep: impl FnMut(&[u8]) -> Bytes,
    ) -> Result<Self, DecodeError> {
        let kind = frame.checked_kind()?;
        if kind.group() != Group::Peer {
            return Err(DecodeError::WrongKind { received: kind });
        }
        let mut fields = Fields::new(frame.payload());
        let cluster = ClusterId(fields.u64("cluster")?);
        let incarnation = Incarnation(fields.u64("incarnation")?);
        let from = NodeId(fields.u32("from")?);
        let to = NodeId(fields.u32("to")?);
        let term = Term(fields.u64("term")?);
        let version = fields.u16("version")?;
        if !(VERSION_MIN..=VERSION_MAX).contains(&version) {
            return Err(DecodeError::Version(version));
        }
        fields.zeroes(6, "envelope reserved")?;
        let message = Message::decode(kind, term, &mut fields, spare, keep)?;
        fields.end()?;
        Ok(Self { cluster, incarnation, from, to, term, message })
    }
}

impl Message {
    /// Bytes between envelope header and entries.
    fn head_len(&self) -> usize {
        match self {
            Self::PreVote { .. } => 16,
            Self::PreVoteReply { .. } | Self::RequestVoteReply { .. } | Self::ReadIndex { .. } => 8,
            Self::RequestVote { .. } | Self::ReadIndexReply { .. } => 24,
            Self::AppendEntries(_) => APPEND_ENTRIES_HEAD_BYTES - ENVELOPE_HEADER_BYTES,
            Self::AppendReply(_) => 80,
            Self::InstallSnapshot(_) => 32,
            Self::TimeoutNow => 0,
            Self::Format(format) => format.encoded_len(),
        }
    }

    fn encode_head(&self, out: &mut impl BufMut) {
        match self {
            Self::PreVote { last } => put_entry_id(out, *last),
            Self::PreVoteReply { granted } | Self::RequestVoteReply { granted } => put_flag(out, *granted),
            Self::RequestVote { last, transfer } => {
                put_entry_id(out, *last);
                put_flag(out, *transfer);
            }
            Self::AppendEntries(append) => append.encode_head(out),
            Self::AppendReply(reply) => reply.encode(out),
            Self::ReadIndex { context } => out.put_u64_le(*context),
            Self::ReadIndexReply { context, index } => {
                out.put_u64_le(*context);
                out.put_u64_le(index.unwrap_or_default().0);
                put_flag(out, index.is_some());
            }
            Self::InstallSnapshot(offer) => {
                put_entry_id(out, offer.last);
                out.put_u64_le(offer.chain.0);
                out.put_u64_le(offer.bytes);
            }
            Self::TimeoutNow => {}
            Self::Format(format) => format.encode(out),
        }
    }

    fn decode(
        kind: Kind,
        term: Term,
        fields: &mut Fields<'_>,
        spare: &mut Vec<Entry>,
        keep: impl FnMut(&[u8]) -> Bytes,
    ) -> Result<Self, DecodeError> {
        Ok(match kind {
            Kind::PreVote => Self::PreVote { last: entry_id(fields)? },
            Kind::PreVoteReply => Self::PreVoteReply { granted: flag(fields, "granted")? },
            Kind::RequestVote => Self::RequestVote { last: entry_id(fields)?, transfer: flag(fields, "transfer")? },
            Kind::RequestVoteReply => Self::RequestVoteReply { granted: flag(fields, "granted")? },
            Kind::AppendEntries => Self::AppendEntries(AppendEntries::decode(term, fields, spare, keep)?),
            Kind::AppendReply => Self::AppendReply(AppendReply::decode(fields)?),
            Kind::ReadIndex => Self::ReadIndex { context: fields.u64("context")? },
            Kind::ReadIndexReply => {
                let context = fields.u64("context")?;
                let index = Index(fields.u64("read index")?);
                Self::ReadIndexReply { context, index: present(fields, index, "read index known")? }
            }
            Kind::InstallSnapshot => Self::InstallSnapshot(SnapshotOffer::decode(term, fields)?),
            Kind::TimeoutNow => Self::TimeoutNow,
            Kind::Format => {
                let format = Format::decode(fields.rest())?;
                fields.take(fields.rest().len(), "format")?;
                Self::Format(format)
            }
            received => return Err(DecodeError::WrongKind { received }),
        })
    }
}

impl SnapshotOffer {
    /// A leader's snapshot covers something, and nothing from a term behind the leader's own.
    fn decode(term: Term, fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let last = entry_id(fields)?;
        if last.index == Index(0) {
            return Err(DecodeError::Value { field: "last index of a snapshot", value: 0 });
        }
        if last.term > term {
            return Err(DecodeError::Term { from: Term(0), to: term, received: last.term });
        }
        Ok(Self { last, chain: Chain(fields.u64("chain")?), bytes: fields.u64("snapshot bytes")? })
    }
}

impl AppendEntries {
    /// Verifies that the entries continue the chain from `previous_chain` on (C-8). With it every bit of the entries'
    /// headers is vouched for.
    pub fn verify_chain(&self) -> Result<(), ChainError> {
        let mut previous = self.previous_chain;
        for entry in &self.entries {
            entry.verify_chain(previous)?;
            previous = entry.header.chain;
        }
        Ok(())
    }

    fn encode_head(&self, out: &mut impl BufMut) {
        out.put_u64_le(self.round.0);
        out.put_u64_le(self.lease_span_us);
        put_entry_id(out, self.previous);
        out.put_u64_le(self.previous_chain.0);
        out.put_u64_le(self.commit.0);
        out.put_u64_le(self.digest_index.0);
        out.put_u64_le(self.digest);
        out.put_u8(if self.heartbeat { HEARTBEAT } else { 0 });
        out.put_slice(&[0, 0, 0]);
        put_count(out, self.entries.len());
    }

    fn decode(
        term: Term,
        fields: &mut Fields<'_>,
        spare: &mut Vec<Entry>,
        keep: impl FnMut(&[u8]) -> Bytes,
    ) -> Result<Self, DecodeError> {
        let mut append = Self {
            round: Round(fields.u64("round")?),
            lease_span_us: fields.u64("lease span")?,
            previous: entry_id(fields)?,
            previous_chain: Chain(fields.u64("previous chain")?),
            commit: Index(fields.u64("commit")?),
            digest_index: Index(fields.u64("digest index")?),
            digest: fields.u64("digest")?,
            heartbeat: fields.flags(HEARTBEAT, "append flags")? & HEARTBEAT != 0,
            entries: Vec::new(),
        };
        fields.zeroes(3, "append reserved")?;
        let count = fields.count(EntryHeader::BYTES, "entries")?;
        if append.heartbeat && count > 0 {
            return Err(DecodeError::Value { field: "entries of a heartbeat", value: count as u64 });
        }
        if count > 0 {
            append.entries = std::mem::take(spare);
            append.take_entries(count, term, fields, keep)?;
        }
        Ok(append)
    }

    /// Reads consecutive entries behind `previous`, of terms up to `term`.
    fn take_entries(
        &mut self,
        count: usize,
        term: Term,
        fields: &mut Fields<'_>,
        mut keep: impl FnMut(&[u8]) -> Bytes,
    ) -> Result<(), DecodeError> {
        self.entries.clear();
        self.entries.reserve(count);
        let mut previous = self.previous;
        for _ in 0..count {
            let (header, body) = entry(fields)?;
            let expected = previous.index.0.checked_add(1).map(Index);
            let expected = expected.ok_or(DecodeError::Value { field: "previous index", value: u64::MAX })?;
            if header.id.index != expected {
                return Err(DecodeError::Index { expected, received: header.id.index });
            }
            if header.id.term < previous.term || header.id.term > term {
                return Err(DecodeError::Term { from: previous.term, to: term, received: header.id.term });
            }
            previous = header.id;
            self.entries.push(Entry { header, body: keep(body) });
        }
        Ok(())
    }
}

/// Reads one entry and verifies its body.
fn entry<'a>(fields: &mut Fields<'a>) -> Result<(EntryHeader, &'a [u8]), DecodeError> {
    let header = fields.take(EntryHeader::BYTES, "entry header")?;
    let header = EntryHeader::decode(header.try_into().expect("as many bytes were taken as a header has"))?;
    let body = fields.take(header.body_len as usize, "entry body")?;
    verify_body(&header, body)?;
    Ok((header, body))
}

impl AppendReply {
    fn encode(&self, out: &mut impl BufMut) {
        out.put_u64_le(self.round.0);
        out.put_u64_le(self.lease_span_us);
        out.put_u64_le(self.matched.0);
        out.put_u64_le(self.digest_index.0);
        out.put_u64_le(self.digest);
        out.put_u32_le(self.queue_us);
        out.put_u32_le(self.sync_us);
        let hint = self.reject.unwrap_or_default();
        out.put_u64_le(hint.rejected.0);
        put_entry_id(out, hint.hint);
        put_flag(out, self.reject.is_some());
    }

    fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            round: Round(fields.u64("round")?),
            lease_span_us: fields.u64("lease span")?,
            matched: Index(fields.u64("matched")?),
            digest_index: Index(fields.u64("digest index")?),
            digest: fields.u64("digest")?,
            queue_us: fields.u32("queue time")?,
            sync_us: fields.u32("sync time")?,
            reject: {
                let hint = RejectHint { rejected: Index(fields.u64("rejected")?), hint: entry_id(fields)? };
                present(fields, hint, "rejected flag")?
            },
        })
    }
}

fn put_entry_id(out: &mut impl BufMut, id: EntryId) {
    out.put_u64_le(id.term.0);
    out.put_u64_le(id.index.0);
}

fn entry_id(fields: &mut Fields<'_>) -> Result<EntryId, DecodeError> {
    Ok(EntryId { term: Term(fields.u64("term")?), index: Index(fields.u64("index")?) })
}

/// A yes or no, and seven reserved bytes.
fn put_flag(out: &mut impl BufMut, flag: bool) {
    out.put_u8(u8::from(flag));
    out.put_bytes(0, 7);
}

fn flag(fields: &mut Fields<'_>, field: &'static str) -> Result<bool, DecodeError> {
    let flag = fields.boolean(field)?;
    fields.zeroes(7, field)?;
    Ok(flag)
}

/// Reads the flag that says whether `value`, read before it, is there; an absent one must be all zeroes.
fn present<T: Default + PartialEq>(
    fields: &mut Fields<'_>,
    value: T,
    field: &'static str,
) -> Result<Option<T>, DecodeError> {
    match flag(fields, field)? {
        true => Ok(Some(value)),
        false if value == T::default() => Ok(None),
        false => Err(DecodeError::Reserved(field)),
    }
}
