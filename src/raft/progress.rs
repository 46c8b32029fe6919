//! What a leader knows of one follower.

use std::collections::VecDeque;

use protocol::{Chain, Entry, EntryId, Index, NodeId, Round};

use crate::time::{Span, Time};

/// One follower. Invariant: `matched < next`.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    pub(super) id: NodeId,
    /// The highest entry known to be durable there and equal to the leader's.
    pub(super) matched: Index,
    /// The next entry to send.
    pub(super) next: Index,
    pub(super) state: State,
    /// The highest round that it echoed.
    pub(super) echoed: Round,
    /// The highest round that it was sent.
    pub(super) sent_round: Round,
    /// The highest commit index that it was sent.
    pub(super) sent_commit: Index,
    /// When it is told the commit index without entries; never, if it knows it.
    pub(super) commit_notice_at: Time,
    /// When it was last heard in this term (CheckQuorum).
    pub(super) heard: Time,
    /// When it last got on: acknowledged something new, or took bytes of a snapshot.
    pub(super) advanced: Time,
    /// Identity and chain of the entry that was sent last, or that is known to come before the next: its chain is needed with
    /// that.
    pub(super) sent: Option<(EntryId, Chain)>,
    /// Old entries for it, read from the log.
    pub(super) fetched: VecDeque<Entry>,
    /// A read of old entries is under way.
    pub(super) fetching: bool,
}

/// How the leader sends (etcd calls these probe and replicate).
#[derive(Clone, Debug)]
pub(super) enum State {
    /// Where the logs agree is not known: one checked AppendEntries at a time, repeated with each heartbeat (C-12).
    Probe {
        /// The round in which the outstanding one was last sent; none = none is outstanding.
        outstanding: Option<Round>,
        /// The last entry that it brought.
        sent_to: Index,
    },
    /// The logs agree: a stream of AppendEntries within the window.
    Replicate(Window),
    /// What it lacks is not in the log any more: it is offered a snapshot with each heartbeat, until it has acknowledged
    /// what the log begins behind.
    Snapshot {
        /// The heartbeat round in which it was last offered one.
        offered: Option<Round>,
        /// Once it has the snapshot that it was offered first, or is being served, it needs the entries behind this.
        needs: Index,
    },
}

/// What was sent and is not acknowledged: the last index and the bytes of each message.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    messages: VecDeque<(Index, usize)>,
    bytes: usize,
}

impl Window {
    pub(super) fn is_full(&self, messages_max: usize, bytes_max: usize) -> bool {
        self.messages.len() >= messages_max || self.bytes >= bytes_max
    }

    pub(super) fn add(&mut self, last: Index, bytes: usize) {
        assert!(self.messages.back().is_none_or(|(newest, _)| *newest < last), "the window moves forward");
        self.messages.push_back((last, bytes));
        self.bytes += bytes;
    }

    /// Everything at or below `matched` is acknowledged.
    pub(super) fn free(&mut self, matched: Index) {
        while self.messages.front().is_some_and(|(last, _)| *last <= matched) {
            let (_, bytes) = self.messages.pop_front().expect("looked at");
            self.bytes -= bytes;
        }
    }

    /// Bytes in flight.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Messages in flight.
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }
}

impl Progress {
    pub(super) fn new(id: NodeId, last: Index, now: Time) -> Self {
        Self {
            id,
            matched: Index(0),
            next: last.next(),
            state: State::Probe { outstanding: None, sent_to: last },
            echoed: Round(0),
            sent_round: Round(0),
            sent_commit: Index(0),
            commit_notice_at: Time::NEVER,
            heard: now,
            advanced: now,
            sent: None,
            fetched: VecDeque::new(),
            fetching: false,
        }
    }

    /// It takes a stream, and was not told that everything up to `commit` is committed.
    fn lacks_commit(&self, commit: Index) -> bool {
        matches!(self.state, State::Replicate(_)) && self.sent_commit < commit
    }

    /// A risen commit index rides on the next AppendEntries with entries, and goes on its own only when none has gone for
    /// `patience`: under load that halves the messages to a follower. Whether it is to go on its own now.
    pub(super) fn commit_notice_due(&mut self, now: Time, commit: Index, patience: Span) -> bool {
        if self.lacks_commit(commit) && self.commit_notice_at == Time::NEVER {
            self.commit_notice_at = now + patience;
        }
        self.lacks_commit(commit) && self.commit_notice_at <= now
    }

    /// What was to be sent was sent. Who could not be told (its previous entry is being read from the log) learns it with a
    /// heartbeat.
    pub(super) fn end_commit_notice(&mut self, now: Time, commit: Index, heartbeat: Span) {
        if !self.lacks_commit(commit) {
            self.commit_notice_at = Time::NEVER;
        } else if self.commit_notice_at <= now {
            self.commit_notice_at = now + heartbeat;
        }
    }

    /// Starts to look for the place where the logs agree, from `next` on.
    pub(super) fn probe(&mut self, next: Index) {
        self.next = next.max(self.matched.next());
        self.state = State::Probe { outstanding: None, sent_to: self.next.previous() };
        self.fetched.clear();
    }

    /// What it needs next is not in the log any more; the newest snapshot ends at `newest`.
    pub(super) fn need_snapshot(&mut self, now: Time, newest: Index) {
        self.advanced = now;
        self.state = State::Snapshot { offered: None, needs: newest };
        self.fetched.clear();
    }

    /// Old entries have come. They serve only if the next one to send is among them: `next` may have gone back since they
    /// were asked for, and what is sent must follow its previous entry without a gap.
    pub(super) fn fetched(&mut self, entries: Vec<Entry>) {
        self.fetching = false;
        let serves = entries.first().is_some_and(|first| first.header.id.index <= self.next);
        self.fetched = if serves { entries.into() } else { VecDeque::new() };
    }

    /// What was under way on an older connection may be lost: starts again behind what is known to be there.
    pub(super) fn link_changed(&mut self) {
        if let State::Snapshot { offered, .. } = &mut self.state {
            *offered = None;
            return;
        }
        let known = self.matched > Index(0);
        self.probe(if known { self.matched.next() } else { self.next });
    }

    /// The follower holds everything up to `matched`; the own log begins behind `base`. Tells whether that is news.
    pub(super) fn acknowledge(&mut self, now: Time, matched: Index, base: Index) -> bool {
        let news = matched > self.matched;
        if news {
            (self.matched, self.advanced) = (matched, now);
        }
        match &mut self.state {
            State::Replicate(window) => {
                window.free(self.matched);
                self.next = self.next.max(self.matched.next());
            }
            State::Probe { sent_to, .. } if self.matched >= self.next.previous() => {
                self.next = self.next.max(sent_to.next()).max(self.matched.next());
                self.state = State::Replicate(Window::default());
            }
            State::Probe { .. } => {}
            State::Snapshot { .. } => {
                self.next = self.next.max(self.matched.next());
                if self.matched >= base {
                    self.next = self.matched.next();
                    self.state = State::Replicate(Window::default());
                }
            }
        }
        // The entry before the next one stays: its chain is needed.
        let next = self.next;
        while self.fetched.front().is_some_and(|entry| entry.header.id.index.next() < next) {
            self.fetched.pop_front();
        }
        assert!(self.matched < self.next, "what is acknowledged is not sent again");
        news
    }
}

#[cfg(test)]
mod tests {
    use protocol::{EntryHeader, EntryKind, LogTime, Sequence, SessionId, Term};

    use super::*;

    #[test]
    fn the_window_counts_messages_and_bytes() {
        let mut window = Window::default();
        window.add(Index(3), 100);
        window.add(Index(5), 100);
        assert!(window.is_full(2, 1000) && window.is_full(9, 200) && !window.is_full(3, 201));
        window.free(Index(4));
        assert_eq!(window.len(), 1);
        window.free(Index(5));
        assert_eq!((window.len(), window.bytes), (0, 0));
    }

    #[test]
    fn old_entries_that_begin_behind_the_next_are_dropped() {
        let entry = |index| {
            let header = EntryHeader {
                id: EntryId { term: Term(1), index: Index(index) },
                log_time: LogTime(0),
                session: SessionId(0),
                sequence: Sequence(0),
                kind: EntryKind::Noop,
                flags: 0,
                body_len: 0,
                body_checksum: 0,
                chain: Chain(0),
            };
            Entry { header, body: bytes::Bytes::new() }
        };
        let mut progress = Progress::new(NodeId(1), Index(1), Time(0));
        progress.fetching = true;
        progress.probe(Index(1));
        progress.fetched(vec![entry(2), entry(3)]);
        assert!(progress.fetched.is_empty() && !progress.fetching, "entry 1 was refused while they were read");
        progress.fetched(vec![entry(1), entry(2)]);
        assert_eq!(progress.fetched.len(), 2);
    }

    #[test]
    fn a_probe_that_was_answered_becomes_a_stream_behind_what_it_brought() {
        let mut progress = Progress::new(NodeId(1), Index(10), Time(0));
        progress.state = State::Probe { outstanding: Some(Round(1)), sent_to: Index(12) };
        assert!(!progress.acknowledge(Time(0), Index(0), Index(0)), "a mark below the probed entry proves nothing");
        assert!(matches!(progress.state, State::Probe { .. }));
        assert!(progress.acknowledge(Time(0), Index(10), Index(0)));
        assert!(matches!(progress.state, State::Replicate(_)));
        assert_eq!(progress.next, Index(13));
    }
}
