//! The client's exit codes: documented, tested, never renumbered.

use protocol::reply::{Reason, Status};

/// Done.
pub(crate) const DONE: u8 = 0;
/// Anything that has no code of its own.
pub(crate) const OTHER: u8 = 1;
/// Bad usage, or a request that makes no sense.
pub(crate) const USAGE: u8 = 2;
/// No such key.
pub(crate) const NOT_FOUND: u8 = 3;
/// The key exists, or a condition did not hold.
pub(crate) const CONFLICT: u8 = 4;
/// Not applied, safe to retry.
pub(crate) const NOT_APPLIED: u8 = 5;
/// Outcome unknown.
pub(crate) const UNKNOWN: u8 = 6;
/// Too large, or overloaded, or out of space.
pub(crate) const LIMIT: u8 = 8;

/// The exit code of an answer.
pub(crate) fn code(status: Status, reason: Reason) -> u8 {
    match status {
        Status::Ok | Status::Created => DONE,
        Status::BadRequest => USAGE,
        Status::NotFound => NOT_FOUND,
        Status::Exists | Status::ConditionFailed => CONFLICT,
        Status::Redirect => NOT_APPLIED,
        Status::NotExecuted if matches!(reason, Reason::Overload | Reason::NoSpace) => LIMIT,
        Status::NotExecuted => NOT_APPLIED,
        Status::Unknown => UNKNOWN,
        Status::TooLarge => LIMIT,
        Status::ViewExpired | Status::Internal => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_these_for_ever() {
        let table = [
            (Status::Ok, Reason::None, 0),
            (Status::Created, Reason::None, 0),
            (Status::Redirect, Reason::NotLeader, 5),
            (Status::BadRequest, Reason::EmptyKey, 2),
            (Status::NotFound, Reason::None, 3),
            (Status::Exists, Reason::None, 4),
            (Status::ViewExpired, Reason::None, 1),
            (Status::ConditionFailed, Reason::None, 4),
            (Status::TooLarge, Reason::ValueTooLarge, 8),
            (Status::Internal, Reason::None, 1),
            (Status::NotExecuted, Reason::NoLeader, 5),
            (Status::NotExecuted, Reason::Forming, 5),
            (Status::NotExecuted, Reason::Deadline, 5),
            (Status::NotExecuted, Reason::Overload, 8),
            (Status::NotExecuted, Reason::NoSpace, 8),
            (Status::Unknown, Reason::Deadline, 6),
        ];
        for (status, reason, expected) in table {
            assert_eq!(code(status, reason), expected, "{status:?} {reason:?}");
        }
    }
}
