//! The parts of replies that tell of sessions and of what became of commands.

use bytes::BufMut;

use super::reply::{EMPTY, NUMBER, REFUSED};
use crate::error::DecodeError;
use crate::ids::{Index, SessionId};
use crate::reply::{Answer, Detail, Effect, Fate, Reason, RefusedOperation, SessionTerms, Status};
use crate::wire::Fields;

/// Bytes of the sum after an increment.
pub(super) const NUMBER_BYTES: usize = 8;
/// Bytes of a session's terms.
pub(super) const SESSION_BYTES: usize = 20;
/// Bytes of a refused operation.
pub(super) const REFUSED_BYTES: usize = 12;
/// Bytes of a fate before its answer.
const FATE_BYTES: usize = 4;
/// Bytes of an answer before its detail.
const ANSWER_BYTES: usize = 16;

const EXECUTED: u8 = 1;
const NEVER: u8 = 2;
const FORGOTTEN: u8 = 3;
const SESSION_EXPIRED: u8 = 4;

impl SessionTerms {
    pub(super) fn encode(&self, out: &mut impl BufMut) {
        out.put_u64_le(self.id.0);
        out.put_u64_le(self.ttl_ms);
        out.put_u32_le(self.window);
    }

    pub(super) fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: SessionId(fields.u64("opened session")?),
            ttl_ms: fields.u64("session time")?,
            window: fields.u32("session window")?,
        })
    }
}

impl RefusedOperation {
    pub(super) fn encode(&self, out: &mut impl BufMut) {
        out.put_u32_le(self.position);
        out.put_u64_le(self.revision.0);
    }

    pub(super) fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self { position: fields.u32("refused position")?, revision: Index(fields.u64("refused revision")?) })
    }
}

impl Fate {
    pub(super) fn encoded_len(&self) -> usize {
        match self {
            Self::Executed(answer) => FATE_BYTES + ANSWER_BYTES + answer.detail.encoded_len(),
            Self::Never | Self::Forgotten | Self::SessionExpired => FATE_BYTES,
        }
    }

    pub(super) fn encode(&self, out: &mut impl BufMut) {
        out.put_u8(match self {
            Self::Executed(_) => EXECUTED,
            Self::Never => NEVER,
            Self::Forgotten => FORGOTTEN,
            Self::SessionExpired => SESSION_EXPIRED,
        });
        out.put_bytes(0, 3);
        if let Self::Executed(answer) = self {
            answer.encode(out);
        }
    }

    pub(super) fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let fate = fields.u8("fate")?;
        fields.zeroes(3, "fate reserved")?;
        match fate {
            EXECUTED => Answer::decode(fields).map(Self::Executed),
            NEVER => Ok(Self::Never),
            FORGOTTEN => Ok(Self::Forgotten),
            SESSION_EXPIRED => Ok(Self::SessionExpired),
            other => Err(DecodeError::Value { field: "fate", value: other.into() }),
        }
    }
}

impl Answer {
    fn encode(&self, out: &mut impl BufMut) {
        out.put_u16_le(self.status as u16);
        out.put_u16_le(self.reason as u16);
        out.put_u8(self.effect as u8);
        out.put_u8(match self.detail {
            Detail::Nothing => EMPTY,
            Detail::Number(_) => NUMBER,
            Detail::Refused(_) => REFUSED,
        });
        out.put_bytes(0, 2);
        out.put_u64_le(self.revision.0);
        match &self.detail {
            Detail::Nothing => {}
            Detail::Number(number) => out.put_i64_le(*number),
            Detail::Refused(refused) => refused.encode(out),
        }
    }

    fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let status = Status::from_wire(fields.u16("answer status")?)?;
        let reason = Reason::from_wire(fields.u16("answer reason")?);
        let effect = Effect::from_wire(fields.u8("answer effect")?);
        let detail = fields.u8("answer body kind")?;
        fields.zeroes(2, "answer reserved")?;
        let revision = Index(fields.u64("answer revision")?);
        let detail = match detail {
            EMPTY => Detail::Nothing,
            NUMBER => Detail::Number(fields.u64("number")?.cast_signed()),
            REFUSED => Detail::Refused(RefusedOperation::decode(fields)?),
            other => return Err(DecodeError::Value { field: "answer body kind", value: other.into() }),
        };
        Ok(Self { status, reason, effect, revision, detail })
    }
}

impl Detail {
    fn encoded_len(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Number(_) => NUMBER_BYTES,
            Self::Refused(_) => REFUSED_BYTES,
        }
    }
}
