//! What the speed-of-light skeleton speaks: a length, a slot, and bytes to be kept. Nothing is checked and nothing is stored.
//!
//! | request | | answer | |
//! |---|---|---|---|
//! | 0 | length of all that follows (u32) | 0 | slot (u32) |
//! | 4 | slot (u32) | | |
//! | 8 | the record | | |

use super::{Answer, Broken, Dialect, Request, Step};
use crate::workload::Kind;

/// Bytes before the record.
pub(crate) const HEAD_BYTES: usize = 8;
/// Bytes of an answer.
pub(crate) const ANSWER_BYTES: usize = 4;

/// See the module.
pub(crate) struct Skeleton;

impl Dialect for Skeleton {
    const VALUE_BYTES_MAX: u32 = 64 * 1024;

    fn new() -> Self {
        Self
    }

    fn greet(&mut self, _: &mut Vec<u8>) {}

    fn is_ready(&self) -> bool {
        true
    }

    fn ask(&mut self, slot: u32, request: &Request<'_>, out: &mut Vec<u8>) {
        let record = request.key.len() + request.value.len();
        let length = u32::try_from(HEAD_BYTES - 4 + record).expect("keys and values have bounds");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&slot.to_le_bytes());
        out.extend_from_slice(request.key);
        out.extend_from_slice(request.value);
    }

    fn next(&mut self, input: &[u8], _: &mut Vec<u8>) -> Result<Step, Broken> {
        let Some(slot) = input.first_chunk::<ANSWER_BYTES>() else { return Ok(Step::More) };
        Ok(Step::Answered { bytes: ANSWER_BYTES, slot: u32::from_le_bytes(*slot), answer: Answer::Done })
    }

    fn knows(kind: Kind) -> bool {
        matches!(kind, Kind::Create | Kind::Update)
    }
}
