//! Which writes are proposed together.
//!
//! Each group of writes that is proposed costs a sync on every node, two messages for every follower and a turn of every
//! thread on the way. Under many clients with one write each, whose answers come a few at a time, and so their next writes,
//! the groups would stay as small as these. So while a group is under way what comes waits for it to be committed, and makes
//! one group then; but not for long, and not once it is many. A write that comes alone waits for nothing.

use std::collections::VecDeque;

use protocol::Index;

use crate::limits;
use crate::replica::Request;
use crate::time::{Span, Time};

/// A leader's writes that are not proposed yet, and the groups that are under way. The requests' credits bound them (C-26).
#[derive(Debug, Default)]
pub(in crate::server) struct Proposals {
    waiting: Vec<Request>,
    /// Of their commands.
    waiting_bytes: usize,
    /// When the first of those that wait came to this thread's mailbox.
    since: Time,
    /// The last entry of each group that is not committed.
    groups: VecDeque<Index>,
    /// The last group was proposed then.
    proposed: Time,
}

impl Proposals {
    /// Call once before the requests of a turn. `commit`: a leader's.
    pub(in crate::server) fn note_commit(&mut self, commit: Option<Index>) {
        match commit {
            Some(commit) => {
                while self.groups.front().is_some_and(|last| *last <= commit) {
                    self.groups.pop_front();
                }
            }
            None => self.groups.clear(),
        }
    }

    /// Whether writes that come now wait.
    pub(in crate::server) fn wait(&self, now: Time) -> bool {
        let is_free = self.groups.len() < limits::PROPOSED_GROUPS_MAX;
        let are_many = self.waiting.len() >= limits::PROPOSALS_WAITING_MAX
            || self.waiting_bytes >= limits::PROPOSALS_WAITING_BYTES_MAX;
        !is_free && now < self.latest() && !are_many
    }

    /// A write that waits. `since`: when its batch came.
    pub(in crate::server) fn push(&mut self, request: Request, since: Time) {
        if self.waiting.is_empty() {
            self.since = since;
        }
        if let Request::Propose { body, .. } = &request {
            self.waiting_bytes += body.len();
        }
        self.waiting.push(request);
    }

    /// Since when there have been any that wait.
    pub(in crate::server) fn since(&self) -> Option<Time> {
        (!self.waiting.is_empty()).then_some(self.since)
    }

    /// Those that have waited, in order.
    pub(in crate::server) fn take(&mut self) -> std::vec::Drain<'_, Request> {
        self.waiting_bytes = 0;
        self.waiting.drain(..)
    }

    /// A group that ends at this entry was proposed.
    pub(in crate::server) fn note_proposed(&mut self, now: Time, last: Index) {
        self.groups.push_back(last);
        self.proposed = now;
    }

    /// When those that wait are proposed at the latest.
    pub(in crate::server) fn deadline(&self) -> Time {
        if self.waiting.is_empty() {
            Time::NEVER
        } else {
            self.latest()
        }
    }

    fn latest(&self) -> Time {
        self.proposed + Span::micros(limits::PROPOSALS_WAIT_US)
    }
}

#[cfg(test)]
mod tests {
    use protocol::{RequestId, Sequence, SessionId};

    use super::*;
    use crate::replica::ReplyTo;

    const AT: Time = Time(1_000_000_000);

    fn write(request: u64) -> Request {
        write_of(request, 0)
    }

    fn write_of(request: u64, bytes: usize) -> Request {
        Request::Propose {
            reply_to: ReplyTo { request: RequestId(request), ..ReplyTo::default() },
            body: vec![0; bytes].into(),
            body_checksum: 0,
            session: SessionId(0),
            sequence: Sequence(0),
            deadline: AT + Span::millis(1_000),
        }
    }

    fn number(request: &Request) -> u64 {
        match request {
            Request::Propose { reply_to, .. } => reply_to.request.0,
            other => panic!("{other:?}"),
        }
    }

    /// With a group up to entry 5 under way, and two writes that wait.
    fn waiting() -> Proposals {
        let mut proposals = Proposals::default();
        proposals.note_commit(Some(Index(3)));
        assert!(!proposals.wait(AT), "nothing is under way");
        proposals.note_proposed(AT, Index(5));
        for request in [1, 2] {
            assert!(proposals.wait(AT));
            proposals.push(write(request), AT + Span::micros(request));
        }
        proposals
    }

    #[test]
    fn what_comes_while_a_group_is_under_way_goes_when_it_is_committed() {
        let mut proposals = waiting();
        proposals.note_commit(Some(Index(4)));
        assert!(proposals.wait(AT), "a part of the group is not the group");
        proposals.note_commit(Some(Index(5)));
        assert!(!proposals.wait(AT));
        assert_eq!(proposals.since(), Some(AT + Span::micros(1)));
        assert_eq!(proposals.take().map(|request| number(&request)).collect::<Vec<_>>(), [1, 2]);
        assert_eq!((proposals.since(), proposals.deadline()), (None, Time::NEVER));
    }

    #[test]
    fn nobody_waits_long() {
        let proposals = waiting();
        let latest = AT + Span::micros(limits::PROPOSALS_WAIT_US);
        assert_eq!(proposals.deadline(), latest);
        assert!(!proposals.wait(latest));
    }

    #[test]
    fn enough_do_not_wait() {
        let mut proposals = waiting();
        (2..limits::PROPOSALS_WAITING_MAX as u64).for_each(|request| {
            assert!(proposals.wait(AT), "{request} wait");
            proposals.push(write(request), AT);
        });
        assert!(!proposals.wait(AT));
        let mut proposals = waiting();
        proposals.push(write_of(3, limits::PROPOSALS_WAITING_BYTES_MAX - 1), AT);
        assert!(proposals.wait(AT));
        proposals.push(write_of(4, 1), AT);
        assert!(!proposals.wait(AT), "large ones are many sooner");
        assert_eq!(proposals.take().len(), 4);
        assert!(proposals.wait(AT), "and none are left");
    }

    /// What waits is answered by where the leader is, at once.
    #[test]
    fn nothing_waits_for_a_leader_that_is_none_any_more() {
        let mut proposals = waiting();
        proposals.note_commit(None);
        assert!(!proposals.wait(AT));
        // Nor do the groups of its last term count when it leads again.
        proposals.note_commit(Some(Index(3)));
        assert!(!proposals.wait(AT));
    }
}
