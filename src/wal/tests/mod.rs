//! Storage tests: a model, torn tails at every byte, crashes at every disk operation, and the schedules of the contracts.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "readers beside the writer, real files")]

use std::path::{Path, PathBuf};

use bytes::Bytes;
use protocol::format::{Format, HardState, Member};
use protocol::{
    Chain, ClusterId, Entry, EntryHeader, EntryId, EntryKind, Incarnation, Index, LogTime, NodeId, Sequence, SessionId,
    Term,
};

use super::*;
use crate::disk::VirtualDisk;

mod crash;
mod log_rules;
mod meta_rules;
mod model;
mod real_disk;
mod torn;

const CLUSTER: ClusterId = ClusterId(77);
const NODE: NodeId = NodeId(2);
const DIR: &str = "/node";
const SEGMENT: u64 = 5 * 4096;

/// A virtual disk with one node's directory, and what the log must say.
struct Rig {
    disk: VirtualDisk,
    options: Options,
    wal: Option<Wal>,
    /// What was pushed.
    entries: Vec<Entry>,
    /// How many of them a commit acknowledged.
    starts: u64,
}

impl Rig {
    /// A formed cluster's node with an empty log.
    fn new() -> Rig {
        let mut rig = Rig::on(VirtualDisk::new());
        let recovered = rig.open().unwrap();
        assert_eq!((recovered.last, recovered.meta.format), (EntryId::default(), None));
        rig.wal().push(None, Some(&format()), &[]).unwrap();
        rig.wal().commit().unwrap();
        rig
    }

    fn on(disk: VirtualDisk) -> Rig {
        let options = Options { segment_bytes: SEGMENT, tail_bytes: 1 << 20, ..Options::new(NODE, 0) };
        Rig { disk, options, wal: None, entries: Vec::new(), starts: 0 }
    }

    fn wal(&mut self) -> &mut Wal {
        self.wal.as_mut().expect("it is open")
    }

    /// Ends the process, if there is one, and starts it again.
    fn open(&mut self) -> Result<Recovered, WalError> {
        self.wal = None;
        self.starts += 1;
        let options = Options { random: self.starts * 1_000_003, ..self.options.clone() };
        let (wal, recovered) = Wal::open(&Disk::virtual_(self.disk.clone()), Path::new(DIR), options)?;
        self.wal = Some(wal);
        Ok(recovered)
    }

    /// Starts again and compares with what the log must say.
    fn reopen(&mut self) -> Recovered {
        let recovered = self.open().unwrap();
        self.check(&recovered);
        recovered
    }

    /// Adds an entry behind index `after`, in place of what is there; not pushed.
    fn next(&mut self, after: u64, term: u64, body: &[u8]) -> Entry {
        self.entries.truncate(after as usize);
        let entry = entry(self.entries.last(), term, body);
        self.entries.push(entry.clone());
        entry
    }

    /// Pushes one entry behind index `after`.
    fn push(&mut self, after: u64, term: u64, body: &[u8]) {
        let entry = self.next(after, term, body);
        self.wal().push(None, None, &[entry]).unwrap();
    }

    /// Pushes one entry at the end and commits.
    fn append(&mut self, term: u64, body: &[u8]) {
        self.push(self.entries.len() as u64, term, body);
        self.wal().commit().unwrap();
    }

    fn check(&mut self, recovered: &Recovered) {
        let entries = self.entries.clone();
        check_recovered(recovered, &entries);
        let reader = self.wal().reader();
        assert_eq!(read_all(&reader, 1000), entries);
    }

    fn file(name: &str) -> PathBuf {
        Path::new(DIR).join(name)
    }

    fn segment_path(sequence: u64) -> PathBuf {
        Rig::file(&segment::file_name(sequence))
    }

    /// Where the next record would go: the last segment's path and offset.
    fn end(&mut self) -> record::Position {
        self.wal().writer.as_ref().unwrap().end()
    }
}

fn check_recovered(recovered: &Recovered, entries: &[Entry]) {
    let last = entries.last().map(|entry| entry.header);
    assert_eq!(recovered.last, last.map(|header| header.id).unwrap_or(recovered.base.id));
    assert_eq!(recovered.last_chain, last.map(|header| header.chain).unwrap_or(recovered.base.chain));
    assert_eq!(recovered.last_log_time, last.map(|header| header.log_time).unwrap_or(recovered.base.log_time));
    let mut runs: Vec<(Term, Index)> = Vec::new();
    for entry in entries {
        if runs.last().map(|run| run.0) != Some(entry.header.id.term) {
            runs.push((entry.header.id.term, entry.header.id.index));
        }
    }
    assert_eq!(recovered.runs, runs);
    assert!(recovered.tail.len() <= entries.len());
    assert_eq!(recovered.tail, entries[entries.len() - recovered.tail.len()..]);
    assert_eq!(recovered.tail.is_empty(), entries.is_empty());
}

/// All entries from index 1 on, read in pieces.
fn read_all(reader: &LogReader, bytes_max: usize) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let before = entries.last().map(|entry| (entry.header.id, entry.header.chain));
        let (previous, chain) = before.unwrap_or((EntryId::default(), Chain::origin(CLUSTER)));
        match reader.read(previous.index.next(), bytes_max, previous, Some(chain)).unwrap() {
            ReadResult::Entries(more) => entries.extend(more),
            ReadResult::Mismatch => return entries,
            ReadResult::Compacted => panic!("nothing was compacted"),
        }
    }
}

fn format() -> Format {
    let member = |id| Member {
        id: NodeId(id),
        incarnation: Incarnation(id.into()),
        client_address: format!("node{id}:7400"),
        peer_address: format!("node{id}:7401"),
    };
    Format { cluster: CLUSTER, members: (0..3).map(member).collect() }
}

fn entry(previous: Option<&Entry>, term: u64, body: &[u8]) -> Entry {
    let before = previous.map(|entry| (entry.header.id.index, entry.header.chain));
    let (index, chain) = before.unwrap_or((Index(0), Chain::origin(CLUSTER)));
    let body = Bytes::copy_from_slice(body);
    let mut header = EntryHeader {
        id: EntryId { term: Term(term), index: index.next() },
        log_time: LogTime(1_000 + index.0),
        session: SessionId(0),
        sequence: Sequence(0),
        kind: if body.is_empty() { EntryKind::Noop } else { EntryKind::Command },
        flags: 0,
        body_len: body.len() as u32,
        body_checksum: Entry::checksum(&body),
        chain: Chain(0),
    };
    header.chain = header.chain_after(chain);
    Entry { header, body }
}

fn voted(term: u64, vote: Option<u32>) -> HardState {
    HardState { term: Term(term), vote: vote.map(NodeId), lease_span_us: 0 }
}

/// Numbers for tests that are not property tests.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        let mut salts = crate::random::SplitMix64::new(self.0);
        let drawn = salts.draw();
        self.0 = drawn;
        drawn % bound
    }
}
