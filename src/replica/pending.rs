//! Writes that wait for their log index: a deque aligned with the log, and what each end of a wait means (C-23, C-26).
//!
//! | what happens | answer | credit |
//! |---|---|---|
//! | the entry is applied | done, with the outcome | with the answer |
//! | another term's entry is committed at its index | not executed: replaced | with the answer |
//! | a snapshot that covers its index takes the state machine's place | unknown: leader changed | with the answer |
//! | its leader steps down, and the index is not committed | unknown: leader changed | with the answer |
//! | the deadline passes | unknown: deadline | later, by one of the four above |

use std::collections::VecDeque;

use protocol::{EntryId, Index, Term};

use super::effects::ReplyTo;
use crate::time::Time;

/// The waiting writes. Slot `i` belongs to index `base + i`; an index that no client waits for has an empty slot.
#[derive(Debug)]
pub(super) struct Pending {
    base: Index,
    slots: VecDeque<Option<Write>>,
    /// No unanswered write has an earlier deadline. It may be too early, never too late.
    deadline_floor: Time,
    /// Slots that are not empty.
    count: usize,
}

#[derive(Clone, Copy, Debug)]
struct Write {
    term: Term,
    reply_to: ReplyTo,
    deadline: Time,
    /// Its client was told "unknown" at the deadline; only the credit is still owed.
    answered: bool,
}

/// How one wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client still waits: answer it, and return the credit with the answer.
    Answer(ReplyTo),
    /// The client was answered at its deadline: only this loop's credit comes back.
    Credit(u16),
}

/// What the entry committed at an index means for the write that waited there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Committed {
    /// It is the write's own entry.
    Own(End),
    /// It is another term's entry: the write will never be executed.
    Other(End),
}

impl Pending {
    pub(super) fn new() -> Self {
        Self { base: Index(1), slots: VecDeque::new(), deadline_floor: Time::NEVER, count: 0 }
    }

    /// A write was proposed as `id`.
    pub(super) fn push(&mut self, id: EntryId, reply_to: ReplyTo, deadline: Time) {
        if self.count == 0 {
            self.slots.clear();
            self.base = id.index;
        }
        let end = self.base.0 + self.slots.len() as u64;
        assert!(id.index.0 >= end, "a leader appends above all that waits: {} below {end}", id.index);
        for _ in end..id.index.0 {
            self.slots.push_back(None);
        }
        self.slots.push_back(Some(Write { term: id.term, reply_to, deadline, answered: false }));
        self.deadline_floor = self.deadline_floor.min(deadline);
        self.count += 1;
    }

    /// The entry `id` was applied. Indexes come in order.
    pub(super) fn pop(&mut self, id: EntryId) -> Option<Committed> {
        if id.index < self.base || self.slots.is_empty() {
            return None;
        }
        assert_eq!(id.index, self.base, "entries are applied in order");
        self.base = self.base.next();
        let write = self.slots.pop_front().flatten()?;
        self.count -= 1;
        let committed = if write.term == id.term { Committed::Own } else { Committed::Other };
        Some(committed(write.end()))
    }

    /// The state machine has become that of a snapshot which ends at `index`: what waited up to there may be in it, or not.
    pub(super) fn cover(&mut self, index: Index, ends: &mut Vec<End>) {
        while self.base <= index && !self.slots.is_empty() {
            self.base = self.base.next();
            if let Some(write) = self.slots.pop_front().flatten() {
                self.count -= 1;
                ends.push(write.end());
            }
        }
    }

    /// The leader of everything above `commit` stepped down. What is committed waits on: its end will be known for certain.
    pub(super) fn step_down(&mut self, commit: Index, ends: &mut Vec<End>) {
        let keep = (commit.0 + 1).saturating_sub(self.base.0).min(self.slots.len() as u64);
        let keep = usize::try_from(keep).expect("not more than the deque holds");
        for write in self.slots.drain(keep..).flatten() {
            self.count -= 1;
            ends.push(write.end());
        }
    }

    /// Finds the writes whose deadline has passed: they are to be answered "unknown" and go on holding their credits.
    pub(super) fn expire(&mut self, now: Time, expired: &mut Vec<ReplyTo>) {
        if now < self.deadline_floor {
            return;
        }
        self.deadline_floor = Time::NEVER;
        for write in self.slots.iter_mut().flatten().filter(|write| !write.answered) {
            if write.deadline <= now {
                write.answered = true;
                expired.push(write.reply_to);
            } else {
                self.deadline_floor = self.deadline_floor.min(write.deadline);
            }
        }
    }

    /// When [`Pending::expire`] may have something to do.
    pub(super) fn next_deadline(&self) -> Time {
        if self.count == 0 {
            Time::NEVER
        } else {
            self.deadline_floor
        }
    }

    /// The term of the newest write; none if nothing waits.
    pub(super) fn newest_term(&self) -> Option<Term> {
        self.slots.iter().rev().flatten().next().map(|write| write.term)
    }
}

impl Write {
    fn end(&self) -> End {
        if self.answered {
            End::Credit(self.reply_to.io_loop)
        } else {
            End::Answer(self.reply_to)
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::RequestId;

    use super::*;

    fn id(term: u64, index: u64) -> EntryId {
        EntryId { term: Term(term), index: Index(index) }
    }

    fn who(n: u64) -> ReplyTo {
        ReplyTo { io_loop: n as u16, request: RequestId(n), ..ReplyTo::default() }
    }

    /// Writes 1, 2, 4 wait at indexes 5, 6, 8 of term 1; index 7 has nobody.
    fn three() -> Pending {
        let mut pending = Pending::new();
        pending.push(id(1, 5), who(1), Time(100));
        pending.push(id(1, 6), who(2), Time(200));
        pending.push(id(1, 8), who(4), Time(50));
        pending
    }

    #[test]
    fn each_index_finds_its_own_write() {
        let mut pending = three();
        assert_eq!(pending.pop(id(1, 4)), None, "below all that waits");
        assert_eq!(pending.pop(id(1, 5)), Some(Committed::Own(End::Answer(who(1)))));
        assert_eq!(pending.pop(id(1, 6)), Some(Committed::Own(End::Answer(who(2)))));
        assert_eq!(pending.pop(id(1, 7)), None, "nobody waits there");
        assert_eq!(pending.pop(id(1, 8)), Some(Committed::Own(End::Answer(who(4)))));
        assert_eq!(pending.pop(id(1, 9)), None);
        assert_eq!(pending.newest_term(), None);
    }

    #[test]
    fn c23_another_terms_entry_at_the_index_means_not_executed() {
        let mut pending = three();
        assert_eq!(pending.pop(id(2, 5)), Some(Committed::Other(End::Answer(who(1)))));
    }

    #[test]
    fn c23_step_down_keeps_what_is_committed_and_ends_the_rest() {
        let mut pending = three();
        let mut ends = Vec::new();
        pending.step_down(Index(5), &mut ends);
        assert_eq!(ends, [End::Answer(who(2)), End::Answer(who(4))]);
        assert_eq!(pending.pop(id(1, 5)), Some(Committed::Own(End::Answer(who(1)))));
        // The same node leads again and writes at an index that had been waited for.
        pending.push(id(3, 6), who(7), Time(300));
        assert_eq!(pending.pop(id(3, 6)), Some(Committed::Own(End::Answer(who(7)))));
    }

    #[test]
    fn c23_what_a_snapshot_covers_ends_and_the_rest_waits_on() {
        let mut pending = three();
        let mut ends = Vec::new();
        pending.cover(Index(7), &mut ends);
        assert_eq!(ends, [End::Answer(who(1)), End::Answer(who(2))]);
        assert_eq!(pending.pop(id(1, 8)), Some(Committed::Own(End::Answer(who(4)))));
        ends.clear();
        pending.cover(Index(100), &mut ends);
        assert_eq!((ends.len(), pending.next_deadline()), (0, Time::NEVER));
        pending.push(id(2, 101), who(9), Time(300));
        assert_eq!(pending.pop(id(2, 101)), Some(Committed::Own(End::Answer(who(9)))));
    }

    #[test]
    fn c26_the_deadline_answers_but_keeps_the_credit_until_the_index_is_settled() {
        let mut pending = three();
        let mut expired = Vec::new();
        assert_eq!(pending.next_deadline(), Time(50));
        pending.expire(Time(49), &mut expired);
        assert_eq!(expired, []);
        pending.expire(Time(100), &mut expired);
        assert_eq!(expired, [who(1), who(4)]);
        expired.clear();
        pending.expire(Time(150), &mut expired);
        assert_eq!(expired, [], "nobody is answered twice");
        assert_eq!(pending.next_deadline(), Time(200));
        assert_eq!(pending.pop(id(1, 5)), Some(Committed::Own(End::Credit(1))));
        let mut ends = Vec::new();
        pending.step_down(Index(5), &mut ends);
        assert_eq!(ends, [End::Answer(who(2)), End::Credit(4)]);
        assert_eq!(pending.next_deadline(), Time::NEVER);
    }

    #[test]
    fn deadline_floor_stays_low_when_a_later_write_is_pushed() {
        let mut pending = Pending::new();
        pending.push(id(1, 1), who(1), Time(10));
        pending.push(id(1, 2), who(2), Time(20));
        assert_eq!(pending.next_deadline(), Time(10));
    }
}
