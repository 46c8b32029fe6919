//! Permissions to read (C-18) on their way: asked of raft, granted with an index, waiting until that index is applied.
//!
//! A read has no effect, so a refusal is not passed on while there is time: it is asked for again, until the deadline.

use std::collections::BTreeMap;

use protocol::reply::Reason;
use protocol::{Index, NodeId};

use crate::limits::READ_RETRY_MS;
use crate::time::{Span, Time};

/// Who waits for a permission, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reader {
    pub(super) io_loop: u16,
    pub(super) token: u64,
    pub(super) purpose: Purpose,
}

/// What is done with a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The io loop reads.
    Read,
    /// A view is opened.
    View,
}

/// A permission that cannot be given in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) reader: Reader,
    pub(super) reason: Reason,
    pub(super) leader: Option<NodeId>,
}

/// All permissions under way. Bounded by the io loops' credits.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// By raft's token: unique for the process and never reused.
    waiting: BTreeMap<u64, Read>,
    next_token: u64,
    /// Of those in `waiting`, how many are granted.
    granted: usize,
}

#[derive(Debug)]
struct Read {
    reader: Reader,
    deadline: Time,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be asked for (again) at this time: it is new, or was refused.
    AskAt(Time),
    /// Raft has the question, and answers it or refuses it: it repeats what is lost on the way by itself.
    Asked,
    /// What must be applied before it is read.
    Granted(Index),
}

impl Reads {
    /// A new reader; its permission is asked for by the next [`Reads::ask`].
    pub(super) fn add(&mut self, now: Time, reader: Reader, deadline: Time) {
        self.waiting.insert(self.next_token, Read { reader, deadline, state: State::AskAt(now) });
        self.next_token += 1;
    }

    /// The tokens to ask raft for now.
    pub(super) fn ask(&mut self, now: Time, tokens: &mut Vec<u64>) {
        for (token, read) in &mut self.waiting {
            if matches!(read.state, State::AskAt(at) if at <= now) {
                tokens.push(*token);
                read.state = State::Asked;
            }
        }
    }

    /// There is a new leader: what was refused is asked for again at once.
    pub(super) fn leader_changed(&mut self, now: Time) {
        for read in self.waiting.values_mut().filter(|read| matches!(read.state, State::AskAt(_))) {
            read.state = State::AskAt(now);
        }
    }

    /// Raft's answer; none is a refusal.
    pub(super) fn answered(&mut self, now: Time, token: u64, index: Option<Index>) {
        let Some(read) = self.waiting.get_mut(&token) else { return };
        read.state = match index {
            Some(index) => State::Granted(index),
            None => State::AskAt(now + Span::millis(READ_RETRY_MS)),
        };
        self.granted += usize::from(index.is_some());
    }

    /// Takes out what may be read now that everything up to `applied` is published.
    pub(super) fn take_ready(&mut self, applied: Index, ready: &mut Vec<(Reader, Index)>) {
        if self.granted == 0 {
            return;
        }
        self.waiting.retain(|_, read| match read.state {
            State::Granted(index) if index <= applied => {
                ready.push((read.reader, index));
                false
            }
            _ => true,
        });
        self.count_granted();
    }

    /// Takes out what has waited until its deadline.
    pub(super) fn expire(&mut self, now: Time, leader: Option<NodeId>, refused: &mut Vec<Refused>) {
        if !self.waiting.values().any(|read| read.deadline <= now) {
            return;
        }
        let reason = if leader.is_some() { Reason::Deadline } else { Reason::NoLeader };
        self.waiting.retain(|_, read| {
            if read.deadline <= now {
                refused.push(Refused { reader: read.reader, reason, leader });
            }
            read.deadline > now
        });
        self.count_granted();
    }

    pub(super) fn next_deadline(&self) -> Time {
        let due = |read: &Read| match read.state {
            State::AskAt(at) => read.deadline.min(at),
            State::Asked | State::Granted(_) => read.deadline,
        };
        self.waiting.values().map(due).min().unwrap_or(Time::NEVER)
    }

    fn count_granted(&mut self) {
        self.granted = self.waiting.values().filter(|read| matches!(read.state, State::Granted(_))).count();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(token: u64) -> Reader {
        Reader { io_loop: 0, token, purpose: Purpose::Read }
    }

    fn asked(reads: &mut Reads, now: Time) -> Vec<u64> {
        let mut tokens = Vec::new();
        reads.ask(now, &mut tokens);
        tokens
    }

    #[test]
    fn c18_waits_until_the_read_index_is_applied() {
        let mut reads = Reads::default();
        reads.add(Time(0), reader(7), Time(1_000));
        assert_eq!(asked(&mut reads, Time(0)), [0]);
        let mut ready = Vec::new();
        reads.take_ready(Index(9), &mut ready);
        assert_eq!(ready, [], "not granted yet");
        reads.answered(Time(0), 0, Some(Index(5)));
        reads.take_ready(Index(4), &mut ready);
        assert_eq!(ready, [], "not applied yet");
        reads.take_ready(Index(5), &mut ready);
        assert_eq!(ready, [(reader(7), Index(5))]);
        reads.take_ready(Index(6), &mut ready);
        assert_eq!(ready.len(), 1, "answered once");
    }

    #[test]
    fn a_refused_question_is_asked_again_until_the_deadline() {
        let mut reads = Reads::default();
        let deadline = Time(0) + Span::millis(READ_RETRY_MS * 4);
        reads.add(Time(0), reader(1), deadline);
        assert_eq!(asked(&mut reads, Time(0)), [0]);
        assert!(asked(&mut reads, deadline).is_empty(), "raft has it");
        reads.answered(Time(0), 0, None);
        let again = reads.next_deadline();
        assert_eq!(again, Time(0) + Span::millis(READ_RETRY_MS));
        assert_eq!(asked(&mut reads, again), [0]);
        reads.answered(again, 0, None);
        reads.leader_changed(again);
        assert_eq!(asked(&mut reads, again), [0], "a new leader is asked at once");
        let mut refused = Vec::new();
        reads.expire(deadline, None, &mut refused);
        assert_eq!(refused, [Refused { reader: reader(1), reason: Reason::NoLeader, leader: None }]);
        assert_eq!(reads.next_deadline(), Time::NEVER);
    }

    #[test]
    fn a_granted_read_that_is_never_applied_ends_at_its_deadline() {
        let mut reads = Reads::default();
        reads.add(Time(0), reader(1), Time(50));
        assert_eq!(asked(&mut reads, Time(0)), [0]);
        reads.answered(Time(0), 0, Some(Index(10)));
        assert_eq!(reads.next_deadline(), Time(50));
        let mut refused = Vec::new();
        reads.expire(Time(50), Some(NodeId(2)), &mut refused);
        assert_eq!(refused, [Refused { reader: reader(1), reason: Reason::Deadline, leader: Some(NodeId(2)) }]);
    }
}
