//! Writes that came while the leader's uncommitted bytes were at their bound (C-26).
//!
//! They are not in the log: they wait in order until something commits, and their credits stay out, so that soon no client
//! of any loop is read. Nothing is refused for lack of space, and the queue is bounded by the credits there are.

use std::collections::VecDeque;

use super::effects::ReplyTo;
use crate::raft::Proposal;
use crate::time::Time;

/// A write that could not be proposed yet.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) reply_to: ReplyTo,
    pub(super) proposal: Proposal,
    pub(super) deadline: Time,
}

/// First come, first proposed.
#[derive(Debug, Default)]
pub(super) struct ParkedWrites {
    queue: VecDeque<Parked>,
}

impl ParkedWrites {
    pub(super) fn push(&mut self, parked: Parked) {
        self.queue.push_back(parked);
    }

    pub(super) fn pop(&mut self) -> Option<Parked> {
        self.queue.pop_front()
    }

    /// Back to the head: it still does not fit.
    pub(super) fn put_back(&mut self, parked: Parked) {
        self.queue.push_front(parked);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes out what has waited until its deadline; it was never in the log.
    pub(super) fn expire(&mut self, now: Time, expired: &mut Vec<ReplyTo>) {
        self.queue.retain(|parked| {
            if parked.deadline <= now {
                expired.push(parked.reply_to);
            }
            parked.deadline > now
        });
    }

    pub(super) fn next_deadline(&self) -> Time {
        self.queue.iter().map(|parked| parked.deadline).min().unwrap_or(Time::NEVER)
    }
}
