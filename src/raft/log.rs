//! The log as the core sees it: the terms of all entries, the newest entries themselves, and how far they are durable.

use std::collections::VecDeque;

use protocol::{Chain, Entry, EntryId, Index, LogTime, Term};

use super::ready::{AppendSequence, LogBase, Recovered, TermRun};
use crate::time::Time;

/// Invariants: `tail` holds consecutive entries that end at `last`; `runs` covers `(base, last]` with ascending terms;
/// `durable <= handed <= last`; every entry above both `durable` and `base` is in `tail`. `durable` is below `base` while the
/// Base of a log that was restarted is not durable.
#[derive(Clone, Debug)]
pub(super) struct Log {
    base: LogBase,
    runs: Vec<TermRun>,
    tail: VecDeque<Entry>,
    tail_bytes: usize,
    last: EntryId,
    last_chain: Chain,
    last_log_time: LogTime,
    /// The log was restarted at its base, and no append has taken that along.
    restarted: bool,
    /// The last entry that an append has taken along.
    handed: Index,
    /// Bytes of the entries that no append has taken along.
    unhanded_bytes: usize,
    /// Appends under way, oldest first (C-10).
    in_flight: VecDeque<InFlight>,
    durable: Index,
    /// When an append was last completed.
    completed: Time,
}

/// What an append under way will make durable: `first..=last`, cut by later overwrites; empty if `last < first`.
#[derive(Clone, Debug)]
struct InFlight {
    sequence: AppendSequence,
    first: Index,
    last: Index,
    /// Of the entries that it took along, cut or not.
    bytes: usize,
    since: Time,
}

fn bytes_of(entry: &Entry) -> usize {
    64 + entry.body.len()
}

impl Log {
    pub(super) fn new(recovered: Recovered) -> Self {
        let Recovered { base, runs, last, last_chain, last_log_time, tail, .. } = recovered;
        assert!(runs.windows(2).all(|pair| pair[0].term < pair[1].term && pair[0].first < pair[1].first));
        assert!(last.index >= base.id.index, "a log does not end before it begins");
        if let (Some(first), Some(newest)) = (tail.first(), tail.last()) {
            assert_eq!(newest.header.id, last, "the tail ends at the last entry");
            assert_eq!(first.header.id.index.0 + tail.len() as u64 - 1, last.index.0, "the tail has no hole");
        }
        let tail_bytes = tail.iter().map(bytes_of).sum();
        let (handed, durable) = (last.index, last.index);
        let (tail, in_flight) = (tail.into(), VecDeque::new());
        Self {
            base,
            runs,
            tail,
            tail_bytes,
            last,
            last_chain,
            last_log_time,
            restarted: false,
            handed,
            unhanded_bytes: 0,
            in_flight,
            durable,
            completed: Time(0),
        }
    }

    pub(super) fn last(&self) -> EntryId {
        self.last
    }

    pub(super) fn last_chain(&self) -> Chain {
        self.last_chain
    }

    pub(super) fn last_log_time(&self) -> LogTime {
        self.last_log_time
    }

    pub(super) fn durable(&self) -> Index {
        self.durable
    }

    pub(super) fn base(&self) -> LogBase {
        self.base
    }

    /// The first entry in memory; one past the last if there is none.
    pub(super) fn tail_first(&self) -> Index {
        Index(self.last.index.0 + 1 - self.tail.len() as u64)
    }

    /// The term of the entry at `index`, or of the base. None: before the base, or after the end.
    pub(super) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.id.index {
            return Some(self.base.id.term);
        }
        if index < self.base.id.index || index > self.last.index {
            return None;
        }
        let after = self.runs.partition_point(|run| run.first <= index);
        Some(self.runs[after.checked_sub(1).expect("runs cover the log")].term)
    }

    pub(super) fn id_at(&self, index: Index) -> Option<EntryId> {
        self.term_at(index).map(|term| EntryId { term, index })
    }

    /// The entry, if it is in memory.
    pub(super) fn entry(&self, index: Index) -> Option<&Entry> {
        let position = index.0.checked_sub(self.tail_first().0)?;
        self.tail.get(usize::try_from(position).ok()?)
    }

    /// The chain at `index`, if it is known without the disk.
    pub(super) fn chain_at(&self, index: Index) -> Option<Chain> {
        if index == self.base.id.index {
            return Some(self.base.chain);
        }
        if index == self.last.index {
            return Some(self.last_chain);
        }
        self.entry(index).map(|entry| entry.header.chain)
    }

    /// The last entry at or below `index` whose term is at most `term`; the base if there is none. This is what makes
    /// the repair of a log cost a round trip per *term* (paper section 5.3, the optimisation).
    pub(super) fn last_at_most(&self, index: Index, term: Term) -> EntryId {
        let index = index.min(self.last.index);
        let after = self.runs.partition_point(|run| run.first <= index && run.term <= term);
        let Some(run) = after.checked_sub(1).map(|position| self.runs[position]) else {
            return self.base.id;
        };
        let end = self.runs.get(after).map_or(self.last.index, |next| next.first.previous());
        EntryId { term: run.term, index: index.min(end) }
    }

    /// Appends an entry that continues the log.
    pub(super) fn push(&mut self, entry: Entry) {
        let id = entry.header.id;
        assert_eq!(id.index, self.last.index.next(), "entries are consecutive");
        assert!(id.term >= self.last.term, "terms do not fall");
        if self.runs.last().is_none_or(|run| run.term < id.term) {
            self.runs.push(TermRun { term: id.term, first: id.index });
        }
        (self.last, self.last_chain, self.last_log_time) = (id, entry.header.chain, entry.header.log_time);
        self.tail_bytes += bytes_of(&entry);
        self.unhanded_bytes += bytes_of(&entry);
        self.tail.push_back(entry);
    }

    /// Removes everything behind `keep`, whose chain and log time the caller knows. Appends under way that would make
    /// any of it durable are cut (C-10).
    pub(super) fn truncate_behind(&mut self, keep: EntryId, chain: Chain, log_time: LogTime) {
        assert_eq!(self.term_at(keep.index), Some(keep.term), "what is kept is in the log");
        while self.tail.back().is_some_and(|entry| entry.header.id.index > keep.index) {
            let entry = self.tail.pop_back().expect("looked at");
            self.tail_bytes -= bytes_of(&entry);
            if entry.header.id.index > self.handed {
                self.unhanded_bytes -= bytes_of(&entry);
            }
        }
        while self.runs.last().is_some_and(|run| run.first > keep.index) {
            self.runs.pop();
        }
        (self.last, self.last_chain, self.last_log_time) = (keep, chain, log_time);
        self.handed = self.handed.min(keep.index);
        self.durable = self.durable.min(keep.index);
        for append in &mut self.in_flight {
            if append.last > keep.index {
                crate::mark!("raft: overwritten while a sync was under way");
            }
            append.last = sabotage!(CompletionByIndex, append.last.min(keep.index), append.last);
        }
    }

    /// A snapshot that ends at `base` takes the place of everything here. Only what was committed before counts as durable
    /// until the restart is on the disk: then everything up to `base` does.
    pub(super) fn restart(&mut self, base: LogBase, committed: Index) {
        assert!(base.id.index > committed, "a snapshot takes nothing back");
        self.runs.clear();
        self.tail.clear();
        (self.tail_bytes, self.unhanded_bytes) = (0, 0);
        (self.base, self.restarted) = (base, true);
        (self.last, self.last_chain, self.last_log_time) = (base.id, base.chain, base.log_time);
        self.durable = self.durable.min(committed);
        self.handed = self.durable;
        for append in &mut self.in_flight {
            append.last = append.first.previous();
        }
    }

    /// Forgets everything at and before `to`, which is durable and becomes the base.
    pub(super) fn compact(&mut self, to: LogBase) {
        assert_eq!(self.term_at(to.id.index), Some(to.id.term), "the log is cut off at one of its entries");
        assert!(to.id.index <= self.durable, "what is cut off is durable");
        while self.tail.front().is_some_and(|entry| entry.header.id.index <= to.id.index) {
            let entry = self.tail.pop_front().expect("looked at");
            self.tail_bytes -= bytes_of(&entry);
        }
        let first = to.id.index.next();
        let ended = self.runs.partition_point(|run| run.first <= first).saturating_sub(1);
        self.runs.drain(..ended);
        match self.runs.first_mut() {
            Some(_) if self.last.index == to.id.index => self.runs.clear(),
            Some(run) => run.first = run.first.max(first),
            None => {}
        }
        self.base = to;
    }

    /// Where the log was restarted, for the append that asks first.
    pub(super) fn take_restart(&mut self) -> Option<LogBase> {
        std::mem::take(&mut self.restarted).then_some(self.base)
    }

    /// Appends the entries that no append has taken along to `entries`, for append `sequence`, and with them a restart of
    /// the log.
    pub(super) fn hand_over(&mut self, sequence: AppendSequence, now: Time, entries: &mut Vec<Entry>) {
        let first = self.handed.next();
        let skip = usize::try_from(first.0.saturating_sub(self.tail_first().0)).expect("a tail fits memory");
        entries.extend(self.tail.iter().skip(skip).cloned());
        self.handed = self.last.index;
        let bytes = std::mem::take(&mut self.unhanded_bytes);
        self.in_flight.push_back(InFlight { sequence, first, last: self.handed, bytes, since: now });
    }

    pub(super) fn has_entries_to_hand_over(&self) -> bool {
        self.handed < self.last.index
    }

    /// `sequence` and all before it are complete. The durable index is the end of the prefix whose *last writing* append
    /// has completed: what a later append under way writes again does not count (C-10).
    pub(super) fn persisted(&mut self, sequence: AppendSequence, now: Time) {
        self.completed = now;
        while self.in_flight.front().is_some_and(|append| append.sequence <= sequence) {
            self.in_flight.pop_front();
        }
        let written = self.in_flight.iter().filter(|append| append.first <= append.last).map(|append| append.first);
        let durable = written.min().map_or(self.handed, Index::previous);
        let durable = sabotage!(AnswerBeforeSync, durable, durable.max(self.durable)); // `pretend_durable` has run ahead
        let durable = sabotage!(CompletionByIndex, durable, self.handed.max(self.durable));
        assert!(durable >= self.durable, "a completed append takes nothing back");
        self.durable = durable;
    }

    /// Since when appends have been under way and none was completed: slow is not hung (C-13).
    pub(super) fn waiting_since(&self) -> Option<Time> {
        self.in_flight.front().map(|append| append.since.max(self.completed))
    }

    /// Bytes of the entries that are in memory.
    pub(super) fn tail_bytes(&self) -> usize {
        self.tail_bytes
    }

    /// Bytes of the entries that are not durable; none of them can leave memory.
    pub(super) fn undurable_bytes(&self) -> usize {
        self.unhanded_bytes + self.in_flight.iter().map(|append| append.bytes).sum::<usize>()
    }

    /// Drops the oldest entries from memory: durable ones at or below `keep_above`, while there are more than `bytes_max`.
    pub(super) fn trim(&mut self, keep_above: Index, bytes_max: usize) {
        let keep_above = keep_above.min(self.durable);
        while self.tail_bytes > bytes_max && self.tail.front().is_some_and(|entry| entry.header.id.index <= keep_above)
        {
            let entry = self.tail.pop_front().expect("looked at");
            self.tail_bytes -= bytes_of(&entry);
        }
    }

    /// Deliberately wrong: calls everything durable that was handed over.
    #[cfg(feature = "sabotage")]
    pub(super) fn pretend_durable(&mut self) {
        self.durable = self.handed;
    }
}
