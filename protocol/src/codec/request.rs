//! Requests.

use byteorder::{ByteOrder, LittleEndian};
use bytes::BufMut;

use crate::command::Command;
use crate::entry::Entry;
use crate::error::DecodeError;
use crate::frame::{self, Frame, Out, HEADER_BYTES};
use crate::ids::{Index, RequestId, Sequence, SessionId};
use crate::kind::{Group, Kind};
use crate::request::{
    Incoming, LogLevel, ReadMode, Request, RequestHeader, Scan, ViewId, REQUEST_HEADER_BYTES, WRITE_HEAD_BYTES,
};
use crate::wire::{bytes_len, put_bytes, Fields};

/// Bytes of a view id.
pub(crate) const VIEW_BYTES: usize = 24;
/// Bytes of a LOG_LEVEL before its filter.
const LOG_LEVEL_FIXED_BYTES: usize = 4;
/// Bytes of a scan before its keys.
const SCAN_FIXED_BYTES: usize = 8 + VIEW_BYTES;

const EXPLAIN: u8 = 1;
const HAS_VIEW: u8 = 1;
const KEYS_ONLY: u8 = 2;
const COUNT_ONLY: u8 = 4;

impl ReadMode {
    /// The mode with this number.
    pub fn from_wire(number: u8) -> Result<Self, DecodeError> {
        match number {
            0 => Ok(Self::Linearizable),
            1 => Ok(Self::Local),
            other => Err(DecodeError::Value { field: "read mode", value: other.into() }),
        }
    }
}

impl RequestHeader {
    fn encode(&self, out: &mut impl BufMut) {
        out.put_u64_le(self.request.0);
        out.put_u64_le(self.session.0);
        out.put_u64_le(self.sequence.0);
        out.put_u32_le(self.deadline_ms);
        out.put_u8(if self.explain { EXPLAIN } else { 0 });
        out.put_u8(self.read_mode as u8);
        out.put_u16_le(0);
    }

    fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let header = Self {
            request: RequestId(fields.u64("request id")?),
            session: SessionId(fields.u64("session id")?),
            sequence: Sequence(fields.u64("sequence")?),
            deadline_ms: fields.u32("deadline")?,
            explain: fields.flags(EXPLAIN, "request flags")? & EXPLAIN != 0,
            read_mode: ReadMode::from_wire(fields.u8("read mode")?)?,
        };
        fields.zeroes(2, "request reserved")?;
        Ok(header)
    }
}

impl<'a> Request<'a> {
    /// The kind of frame that carries it.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Write(_) => Kind::Write,
            Self::Get { .. } => Kind::Get,
            Self::Scan(_) => Kind::Scan,
            Self::CloseView(_) => Kind::CloseView,
            Self::Status => Kind::Status,
            Self::TakeSnapshot => Kind::SnapshotTake,
            Self::LogLevel(_) => Kind::LogLevel,
        }
    }

    /// Bytes of the whole frame.
    pub fn encoded_len(&self) -> usize {
        HEADER_BYTES + self.payload_len()
    }

    /// Appends the request as a frame.
    pub fn encode(&self, header: &RequestHeader, out: &mut impl Out) {
        frame::write(self.kind(), self.payload_len(), out, |out| {
            header.encode(out);
            match self {
                Self::Write(command) => put_command(out, command),
                Self::Get { key } => put_bytes(out, key),
                Self::Scan(scan) => scan.encode(out),
                Self::CloseView(view) => view.encode(out),
                Self::Status | Self::TakeSnapshot => {}
                Self::LogLevel(wanted) => wanted.encode(out),
            }
        });
    }

    /// Reads a request frame. The command of a write is verified against its checksum. If this fails, the frame's
    /// [`Request::id`] says which request to refuse.
    pub fn decode(frame: &Frame<'a>) -> Result<Incoming<'a>, DecodeError> {
        let kind = frame.checked_kind()?;
        if kind.group() != Group::Request {
            return Err(DecodeError::WrongKind { received: kind });
        }
        let mut fields = Fields::new(frame.payload());
        let header = RequestHeader::decode(&mut fields)?;
        if kind == Kind::Write {
            return decode_write(header, fields);
        }
        let request = match kind {
            Kind::Get => Self::Get { key: fields.bytes("key")? },
            Kind::Scan => Self::Scan(Scan::decode(&mut fields)?),
            Kind::CloseView => Self::CloseView(ViewId::decode(&mut fields)?),
            Kind::Status => Self::Status,
            Kind::SnapshotTake => Self::TakeSnapshot,
            Kind::LogLevel => Self::LogLevel(LogLevel::decode(&mut fields)?),
            received => return Err(DecodeError::WrongKind { received }),
        };
        fields.end()?;
        Ok(Incoming { header, request, command: &[], command_checksum: 0 })
    }

    /// The request id of any frame of the request range, also of one that cannot be decoded.
    pub fn id(frame: &Frame<'_>) -> Option<RequestId> {
        if Group::of(frame.number()) != Some(Group::Request) {
            return None;
        }
        frame.payload().get(..8).map(|id| RequestId(LittleEndian::read_u64(id)))
    }

    /// The request id in the first bytes of a frame that is too long to be read whole: whom to tell before closing.
    /// Nothing vouches for these bytes; a wrong id does no harm, since the connection ends.
    pub fn id_of_prefix(bytes: &[u8]) -> Option<RequestId> {
        let id = bytes.get(HEADER_BYTES..HEADER_BYTES + 8)?;
        (Group::of(bytes[12]) == Some(Group::Request)).then(|| RequestId(LittleEndian::read_u64(id)))
    }

    fn payload_len(&self) -> usize {
        match self {
            Self::Write(command) => WRITE_HEAD_BYTES + command.encoded_len(),
            Self::Get { key } => REQUEST_HEADER_BYTES + bytes_len(key),
            Self::Scan(scan) => REQUEST_HEADER_BYTES + SCAN_FIXED_BYTES + bytes_len(scan.from) + bytes_len(scan.to),
            Self::CloseView(_) => REQUEST_HEADER_BYTES + VIEW_BYTES,
            Self::Status | Self::TakeSnapshot => REQUEST_HEADER_BYTES,
            Self::LogLevel(wanted) => REQUEST_HEADER_BYTES + LOG_LEVEL_FIXED_BYTES + bytes_len(wanted.parts().1),
        }
    }
}

/// Appends the command behind its checksum.
fn put_command(out: &mut impl Out, command: &Command<'_>) {
    let start = out.written().len();
    out.put_u32_le(0);
    command.encode(out);
    let (checksum, command) = out.written()[start..].split_at_mut(4);
    LittleEndian::write_u32(checksum, Entry::checksum(command));
}

fn decode_write<'a>(header: RequestHeader, mut fields: Fields<'a>) -> Result<Incoming<'a>, DecodeError> {
    let received = fields.u32("command checksum")?;
    let command = fields.rest();
    let computed = Entry::checksum(command);
    if received != computed {
        return Err(DecodeError::BodyChecksum { received, computed });
    }
    let request = Request::Write(Command::decode(command)?);
    Ok(Incoming { header, request, command, command_checksum: computed })
}

impl<'a> LogLevel<'a> {
    /// The action's number and the filter, empty where there is none.
    fn parts(&self) -> (u8, &'a str) {
        match *self {
            Self::Show => (0, ""),
            Self::Change(filter) => (1, filter),
            Self::Reset => (2, ""),
        }
    }

    fn encode(&self, out: &mut impl BufMut) {
        let (action, filter) = self.parts();
        out.put_u8(action);
        out.put_slice(&[0, 0, 0]);
        put_bytes(out, filter.as_bytes());
    }

    fn decode(fields: &mut Fields<'a>) -> Result<Self, DecodeError> {
        let action = fields.u8("log level action")?;
        fields.zeroes(3, "log level reserved")?;
        let filter = fields.text("filter")?;
        match (action, filter) {
            (0, "") => Ok(Self::Show),
            (1, filter) => Ok(Self::Change(filter)),
            (2, "") => Ok(Self::Reset),
            (0 | 2, _) => Err(DecodeError::Reserved("filter")),
            (other, _) => Err(DecodeError::Value { field: "log level action", value: other.into() }),
        }
    }
}

impl ViewId {
    pub(crate) fn encode(&self, out: &mut impl BufMut) {
        out.put_u64_le(self.boot);
        out.put_u64_le(self.revision.0);
        out.put_u64_le(self.serial);
    }

    pub(crate) fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            boot: fields.u64("view boot")?,
            revision: Index(fields.u64("view revision")?),
            serial: fields.u64("view serial")?,
        })
    }

    /// A view, or zeroes.
    pub(crate) fn encode_option(view: Option<&Self>, out: &mut impl BufMut) {
        match view {
            Some(view) => view.encode(out),
            None => out.put_bytes(0, VIEW_BYTES),
        }
    }

    /// What [`ViewId::encode_option`] wrote, given whether there is one.
    pub(crate) fn decode_option(present: bool, fields: &mut Fields<'_>) -> Result<Option<Self>, DecodeError> {
        if present {
            return Self::decode(fields).map(Some);
        }
        fields.zeroes(VIEW_BYTES, "absent view")?;
        Ok(None)
    }
}

impl<'a> Scan<'a> {
    fn encode(&self, out: &mut impl BufMut) {
        let flags = [(self.view.is_some(), HAS_VIEW), (self.keys_only, KEYS_ONLY), (self.count_only, COUNT_ONLY)];
        out.put_u8(flags.iter().filter(|(set, _)| *set).map(|(_, bit)| bit).sum());
        out.put_slice(&[0, 0, 0]);
        out.put_u32_le(self.limit);
        ViewId::encode_option(self.view.as_ref(), out);
        put_bytes(out, self.from);
        put_bytes(out, self.to);
    }

    fn decode(fields: &mut Fields<'a>) -> Result<Self, DecodeError> {
        let flags = fields.flags(HAS_VIEW | KEYS_ONLY | COUNT_ONLY, "scan flags")?;
        fields.zeroes(3, "scan reserved")?;
        let limit = fields.u32("limit")?;
        let view = ViewId::decode_option(flags & HAS_VIEW != 0, fields)?;
        Ok(Self {
            view,
            from: fields.bytes("from")?,
            to: fields.bytes("to")?,
            limit,
            keys_only: flags & KEYS_ONLY != 0,
            count_only: flags & COUNT_ONLY != 0,
        })
    }
}
