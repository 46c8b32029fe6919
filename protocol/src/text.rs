//! What people read: names of statuses, reasons, effects, purposes and roles.

use std::fmt;

use crate::format::Purpose;
use crate::reply::{Effect, Reason, Role, Status};

impl Status {
    /// Its number on the wire.
    pub fn code(self) -> u16 {
        self as u16
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Ok => "ok",
            Self::Created => "created",
            Self::Redirect => "redirect",
            Self::BadRequest => "bad request",
            Self::NotFound => "not found",
            Self::Exists => "exists",
            Self::ViewExpired => "view expired",
            Self::ConditionFailed => "condition failed",
            Self::TooLarge => "too large",
            Self::Internal => "internal error",
            Self::NotExecuted => "not executed",
            Self::Unknown => "outcome unknown",
        };
        write!(f, "{} {name}", self.code())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "no particular reason",
            Self::NotLeader => "this node is not the leader",
            Self::NoLeader => "no leader is known",
            Self::Forming => "the cluster is not formed yet",
            Self::Replaced => "another leader's entry was committed in its place",
            Self::LeaderChanged => "the leader changed while the request was under way",
            Self::Deadline => "the deadline passed",
            Self::Overload => "the server is overloaded",
            Self::NoSpace => "the disk is nearly full",
            Self::KeyTooLarge => "the key is too long",
            Self::ValueTooLarge => "the value is too long",
            Self::FrameTooLarge => "the frame is too long",
            Self::Malformed => "the frame cannot be decoded",
            Self::UnknownKind => "the server does not know this kind of request",
            Self::Version => "no common protocol version",
            Self::WrongCluster => "the server belongs to another cluster",
            Self::Stopping => "the server is stopping",
            Self::EmptyKey => "the key is empty",
            Self::Unsupported => "the server does not support this",
            Self::SessionExpired => "the session has expired",
            Self::Forgotten => "the session no longer keeps this request's result",
            Self::Never => "the request was declared never executed when its outcome was asked for",
            Self::RevisionMismatch => "the key's revision is not the expected one",
            Self::NotANumber => "the value is not a decimal number of 64 bits",
            Self::Overflow => "the sum does not fit 64 bits",
            Self::Other => "a reason that this version does not know",
        })
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Applied => "applied",
            Self::Unknown => "unknown",
        })
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Peer => "peer",
            Self::Snapshot => "snapshot",
        })
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
            Self::Learner => "learner",
        })
    }
}
