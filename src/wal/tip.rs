//! What the log says after the records so far: where it begins, which terms it has, what its last entry is.
#![forbid(unsafe_code)]

use protocol::{Chain, EntryHeader, Index, Term};

use super::LogBase;

/// The logical log, without its entries.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tip {
    /// The position before the first entry.
    pub(super) base: LogBase,
    /// False while only the base's index is known: the oldest segment begins by replacing entries that are gone.
    pub(super) base_known: bool,
    /// First index of each term's entries, ascending.
    pub(super) runs: Vec<(Term, Index)>,
    /// The last entry, or the base.
    pub(super) last: LogBase,
}

impl Clone for Tip {
    fn clone(&self) -> Tip {
        Tip { runs: self.runs.clone(), ..*self }
    }

    /// Keeps the memory of the runs.
    fn clone_from(&mut self, source: &Tip) {
        let Tip { base, base_known, runs, last } = source;
        (self.base, self.base_known, self.last) = (*base, *base_known, *last);
        self.runs.clone_from(runs);
    }
}

impl Tip {
    /// An empty log behind `base`.
    pub(super) fn at(base: LogBase) -> Tip {
        Tip { base, base_known: true, runs: Vec::new(), last: base }
    }

    /// Whether the entry can come next, behind an entry with chain `previous` (`None`: not known).
    pub(super) fn check(&self, header: &EntryHeader, previous: Option<Chain>) -> Result<(), String> {
        let (index, last) = (header.id.index, self.last.id.index);
        if index > last.next() {
            return Err(format!("entry {index} follows entry {last}"));
        }
        if index <= self.base.id.index {
            return Err(format!("entry {index} is not behind the log's beginning at {}", self.base.id.index));
        }
        let term_before = self.term_at(index.previous()).unwrap_or_default();
        if header.id.term < term_before {
            return Err(format!("entry {index} has term {} behind term {term_before}", header.id.term));
        }
        match previous {
            Some(previous) => header.verify_chain(previous).map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }

    /// Takes a checked entry, in place of everything at and behind its index (C-1).
    pub(super) fn append(&mut self, header: &EntryHeader) {
        let index = header.id.index;
        while self.runs.last().is_some_and(|run| run.1 >= index) {
            self.runs.pop();
        }
        if self.runs.last().map(|run| run.0) != Some(header.id.term) {
            self.runs.push((header.id.term, index));
        }
        self.last = LogBase { id: header.id, chain: header.chain, log_time: header.log_time };
    }

    /// The log begins behind `base`, one of its entries, from now on: what is known of the terms before it goes.
    pub(super) fn begin_behind(&mut self, base: LogBase) {
        let first = base.id.index.next();
        let ended = self.runs.partition_point(|run| run.1 <= first).saturating_sub(1);
        self.runs.drain(..ended);
        match self.runs.first_mut() {
            Some(_) if self.last.id.index < first => self.runs.clear(),
            Some(run) => run.1 = run.1.max(first),
            None => {}
        }
        (self.base, self.base_known) = (base, true);
    }

    /// The chain before `index`, if it is known without reading: that of the last entry or of the base.
    pub(super) fn chain_before(&self, index: Index) -> Option<Chain> {
        match index.previous() {
            before if before == self.base.id.index => self.base_known.then_some(self.base.chain),
            before if before == self.last.id.index => Some(self.last.chain),
            _ => None,
        }
    }

    /// The term of the entry at `index`, or of the base.
    pub(super) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.id.index && self.base_known {
            return Some(self.base.id.term);
        }
        if index <= self.base.id.index || index > self.last.id.index {
            return None;
        }
        self.runs.iter().rev().find(|run| run.1 <= index).map(|run| run.0)
    }
}
