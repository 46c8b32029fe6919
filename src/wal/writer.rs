//! The end of the log: encodes what was collected, writes it, syncs it, publishes it (C-1...C-3).
#![forbid(unsafe_code)]

use std::sync::Arc;

use protocol::{Chain, Entry, EntryId, Index};

use super::prepare::Preparer;
use super::reader::View;
use super::record::{self, Batch, Position, BASE_BYTES, BATCH_BYTES};
use super::segment::Active;
use super::tip::Tip;
use super::{LogBase, WalError};

/// What a group consists of.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Entry(Entry),
    Base(LogBase),
}

/// Writes at the end of the log.
#[derive(Debug)]
pub(super) struct Writer {
    active: Active,
    /// What is durable.
    tip: Tip,
    batch_number: u64,
    /// Everything before this is synced.
    synced_to: Position,
    /// The last write carried something and no Batch behind it says that it was synced (C-3).
    unconfirmed: bool,
    /// The bytes of one write; keeps its capacity.
    buffer: Vec<u8>,
    view: Arc<View>,
    preparer: Preparer,
}

/// What a write did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    pub(super) bytes: u64,
    pub(super) syncs: u32,
}

/// Where a recovered or new log goes on.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) tip: Tip,
    /// The last position of what was replayed, which the first Batch repeats; `tip.last` unless the log restarts.
    pub(super) before: LogBase,
    /// The cut; in segment 0 for a new log.
    pub(super) end: Position,
    pub(super) batch_number: u64,
    /// The log restarts at `tip.base`: it must say so.
    pub(super) restart: bool,
}

impl Writer {
    /// Goes on in a new segment and makes its first Batch durable, with `synced_to` = the cut (C-4).
    pub(super) fn start(start: Start, view: Arc<View>, preparer: Preparer) -> Result<Writer, WalError> {
        let active = preparer.take(0)?;
        view.add_segment(active.segment.clone());
        let mut writer = Writer {
            active,
            batch_number: start.batch_number,
            synced_to: start.end,
            unconfirmed: false,
            buffer: Vec::new(),
            view,
            preparer,
            tip: Tip::at(start.before),
        };
        if start.restart {
            writer.write(&[Item::Base(start.tip.base)])?; // empties what the log said
        } else {
            writer.tip = start.tip;
            writer.write(&[])?;
        }
        writer.unconfirmed = false;
        Ok(writer)
    }

    /// Where the next record goes.
    #[cfg(test)]
    pub(super) fn end(&self) -> Position {
        self.synced_to
    }

    /// The last durable entry.
    pub(super) fn last(&self) -> Index {
        self.tip.last.id.index
    }

    /// The log begins behind `base` from now on, unless it does so already.
    pub(super) fn compact(&mut self, base: LogBase) {
        if base.id.index > self.tip.base.id.index {
            self.tip.begin_behind(base);
        }
    }

    /// Terms of which something is known.
    #[cfg(test)]
    pub(super) fn runs(&self) -> usize {
        self.tip.runs.len()
    }

    pub(super) fn unconfirmed(&self) -> bool {
        self.unconfirmed
    }

    /// Writes one Batch with all `items` and syncs it; a Batch for each segment if they do not fit one. Durable when it
    /// returns. After an error this writer must not be used again (C-6).
    pub(super) fn write(&mut self, items: &[Item]) -> Result<Written, WalError> {
        let mut written = Written::default();
        let mut rest = items;
        loop {
            let first_bytes = rest.first().map_or(0, Item::bytes);
            if self.active.room() < BATCH_BYTES + first_bytes {
                self.roll(first_bytes)?;
            }
            let taken = self.encode(rest);
            self.flush()?;
            self.note(&rest[..taken]);
            written.bytes += self.buffer.len() as u64;
            written.syncs += 1;
            rest = &rest[taken..];
            if rest.is_empty() {
                self.unconfirmed = !items.is_empty();
                return Ok(written);
            }
        }
    }

    /// The active segment is synced whole; its successor takes over (C-2).
    fn roll(&mut self, first_bytes: u64) -> Result<(), WalError> {
        crate::mark!("wal: segment rolled");
        assert_eq!(self.synced_to, self.active.segment.position(self.active.end), "C-2");
        self.preparer.take_over(&mut self.active, first_bytes)?;
        self.view.add_segment(self.active.segment.clone());
        Ok(())
    }

    /// Fills the buffer with a Batch and as many items as fit the segment; tells how many.
    fn encode(&mut self, items: &[Item]) -> usize {
        let salt = self.active.segment.salt();
        let start = self.active.end;
        let batch = Batch {
            segment: self.active.segment.header.sequence,
            number: self.batch_number + 1,
            synced_to: self.synced_to,
            before: self.tip.last,
        };
        self.buffer.clear();
        record::write_batch(&mut self.buffer, salt, start, &batch);
        let mut taken = 0;
        for item in items {
            if self.active.room() < self.buffer.len() as u64 + item.bytes() {
                break;
            }
            let offset = start + self.buffer.len() as u64;
            match item {
                Item::Entry(entry) => record::write_entry(&mut self.buffer, salt, offset, entry),
                Item::Base(base) => record::write_base(&mut self.buffer, salt, offset, base),
            }
            taken += 1;
        }
        taken
    }

    fn flush(&mut self) -> Result<(), WalError> {
        let segment = &self.active.segment;
        self.active.file.write_at(self.active.end, &self.buffer).map_err(WalError::io("write", &segment.path))?;
        let sync = || self.active.file.sync();
        let synced = sabotage!(DroppedSync, sync(), Ok(()));
        let synced = sabotage!(RetriedSync, synced, synced.or_else(|_| sync()));
        synced.map_err(WalError::io("sync", &segment.path))
    }

    /// What was written is synced: it counts, and readers may see it.
    fn note(&mut self, items: &[Item]) {
        let mut offset = self.active.end + BATCH_BYTES;
        let segment = &self.active.segment;
        segment.publish(self.active.end + self.buffer.len() as u64);
        for item in items {
            match item {
                Item::Entry(entry) => {
                    let follows = (!self.tip.runs.is_empty()).then_some(self.tip.last.id.index);
                    segment.marks.note_entry(follows, entry.header.id.index, offset);
                    self.tip.append(&entry.header);
                }
                Item::Base(at) => {
                    self.view.restart(*at);
                    segment.marks.note_base(at.id.index, offset);
                    self.tip = Tip::at(*at);
                }
            }
            offset += item.bytes();
        }
        self.view.publish(self.tip.last.id.index, None);
        self.batch_number += 1;
        self.active.end += self.buffer.len() as u64;
        self.synced_to = segment.position(self.active.end);
        self.preparer.keep_pace(self.active.end, segment.header.bytes);
    }
}

impl Item {
    /// Bytes in the segment.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Item::Entry(entry) => record::entry_bytes(entry.body.len()),
            Item::Base(_) => BASE_BYTES,
        }
    }
}

/// What was pushed and is not committed yet, checked against the log's end (C-8).
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) items: Vec<Item>,
    /// The log's end once the items are written; `None` while there are none.
    tip: Option<Tip>,
    /// An earlier one, whose memory the next one takes.
    spare: Option<Tip>,
}

impl Group {
    /// Adds entries behind `durable` and what was added before.
    pub(super) fn add_entries(&mut self, writer: &Writer, entries: &[Entry]) -> Result<(), WalError> {
        for entry in entries {
            let index = entry.header.id.index;
            let item = Item::Entry(entry.clone());
            if entry.body.len() as u64 != u64::from(entry.header.body_len) {
                let (has, says) = (entry.body.len(), entry.header.body_len);
                return Err(WalError::impossible(format!("entry {index} has {has} bytes, its header says {says}")));
            }
            let previous = match self.tip(writer).chain_before(index) {
                Some(chain) => Some(chain),
                None => self.chain_in_group(index.previous()),
            };
            let previous = match previous {
                Some(chain) => Some(chain),
                None => writer.view.header(index.previous())?.map(|header| header.chain),
            };
            let tip = self.tip(writer);
            let checked = match previous {
                None if index <= tip.last.id.index => Err(format!("nothing is known before entry {index}")),
                _ => tip.check(&entry.header, previous),
            };
            checked.map_err(WalError::impossible)?;
            tip.append(&entry.header);
            self.items.push(item);
        }
        Ok(())
    }

    /// Restarts the log behind `base` (C-5).
    pub(super) fn add_base(&mut self, base: LogBase) {
        self.tip = Some(Tip::at(base));
        self.items.push(Item::Base(base));
    }

    pub(super) fn clear(&mut self) {
        self.items.clear();
        self.spare = self.tip.take().or(self.spare.take());
    }

    /// The last entry among the items.
    pub(super) fn last(&self) -> Option<EntryId> {
        let tip = self.tip.as_ref()?;
        self.items.iter().any(|item| matches!(item, Item::Entry(_))).then_some(tip.last.id)
    }

    fn tip(&mut self, writer: &Writer) -> &mut Tip {
        self.tip.get_or_insert_with(|| match self.spare.take() {
            Some(mut tip) => {
                tip.clone_from(&writer.tip);
                tip
            }
            None => writer.tip.clone(),
        })
    }

    /// The chain of the newest entry at `index` among the items.
    fn chain_in_group(&self, index: Index) -> Option<Chain> {
        let since_base = self.items.iter().rev().take_while(|item| matches!(item, Item::Entry(_)));
        since_base
            .filter_map(|item| match item {
                Item::Entry(entry) if entry.header.id.index == index => Some(entry.header.chain),
                _ => None,
            })
            .next()
    }
}
