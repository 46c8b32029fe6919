//! One operation on its way, and how long its attempts last.

use protocol::reply::Reason;

use super::contract::{ConnectionId, EndpointId, Kind, Own, Span, Time, Token};
use super::numbering::Number;
use crate::error::Cause;

/// Longest patience with one attempt of a numbered write.
const ATTEMPT_MAX: Span = Span(16_000_000_000);

/// Whose operation it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Caller(Token),
    Own(Own),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Operation {
    pub(super) what: What,
    pub(super) kind: Kind,
    /// Once it has one, it keeps it.
    pub(super) number: Option<Number>,
    pub(super) deadline: Time,
    pub(super) only: Option<EndpointId>,
    pub(super) attempts: u32,
    /// Answers that sent it elsewhere; they slow down.
    pub(super) refusals: u32,
    /// An attempt may have been executed.
    pub(super) uncertain: bool,
    /// Not to be sent before then.
    pub(super) not_before: Time,
    /// The connection of the attempt under way, and when it was sent.
    pub(super) attempt: Option<(ConnectionId, Time)>,
    /// What the last attempt met.
    pub(super) reason: Reason,
    pub(super) cause: Cause,
    pub(super) endpoint: Option<EndpointId>,
}

impl Operation {
    pub(super) fn new(now: Time, what: What, kind: Kind, deadline: Time, only: Option<EndpointId>) -> Self {
        Self {
            what,
            kind,
            number: None,
            deadline,
            only,
            attempts: 0,
            refusals: 0,
            uncertain: false,
            not_before: now,
            attempt: None,
            reason: Reason::None,
            cause: Cause::Deadline,
            endpoint: None,
        }
    }

    /// It may be sent again, whatever became of it.
    pub(super) fn may_repeat(&self) -> bool {
        self.kind != Kind::Write || self.number.is_some()
    }

    /// When an attempt that nobody answers is given up for another, elsewhere. A write's patience doubles: it is not lost
    /// on a busy cluster, and must not make it busier.
    pub(super) fn attempt_end(&self, since: Time, patience: Span) -> Time {
        match (self.kind, self.number) {
            (Kind::Read, _) => since.plus(patience),
            (Kind::Repeatable, None) if matches!(self.what, What::Own(_)) => since.plus(patience),
            (_, Some(_)) => since.plus(Span(doubled(patience, self.attempts - 1, ATTEMPT_MAX))),
            (Kind::Repeatable | Kind::Write, None) => Time(u64::MAX),
        }
    }
}

/// `first`, doubled `times` times, at most `most`; in nanoseconds.
pub(super) fn doubled(first: Span, times: u32, most: Span) -> u64 {
    first.0.saturating_mul(1_u64.checked_shl(times).unwrap_or(u64::MAX)).min(most.0)
}
