//! Files that are not as they were written.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bytes::Bytes;
use protocol::format::{Format, HardState, Member};
use protocol::{
    Chain, ClusterId, Entry, EntryHeader, EntryId, EntryKind, Incarnation, Index, LogTime, NodeId, Sequence, SessionId,
    Term,
};
use raftkv::disk::{Disk, VirtualDisk};
use raftkv::kv::snapshot::Decoder;
use raftkv::wal::{Options, Wal};

use super::Input;

const DIR: &str = "/node";
const CLUSTER: ClusterId = ClusterId(77);
/// Places that one input overwrites.
const PATCHES_MAX: usize = 16;

/// A log, patched at places of the input's choice and opened: an error in words, or a node that can write.
pub fn log_recovery(data: &[u8]) {
    open_patched(data, |name| name.starts_with("log-"));
}

/// The same with the two meta files.
pub fn meta(data: &[u8]) {
    open_patched(data, |name| name.starts_with("meta-"));
}

/// Any bytes as a snapshot file.
pub fn snapshot(data: &[u8]) {
    let mut decoder = Decoder::new();
    let mut rest = data;
    while decoder.wants() > 0 {
        let Some((next, behind)) = rest.split_at_checked(decoder.wants()) else {
            let _ = decoder.footer_ahead(rest);
            let _ = decoder.truncated();
            return;
        };
        if decoder.take(next).is_err() {
            return;
        }
        rest = behind;
    }
}

fn open_patched(data: &[u8], chosen: impl Fn(&str) -> bool) {
    let disk = written().duplicate();
    let mut files: Vec<PathBuf> = Disk::virtual_(disk.clone()).list(Path::new(DIR)).expect("a virtual disk lists");
    files.retain(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(&chosen));
    files.sort();
    let mut input = Input(data);
    for _ in 0..PATCHES_MAX {
        if input.is_empty() || files.is_empty() {
            break;
        }
        let path = &files[input.byte() as usize % files.len()];
        let size = disk.contents(path).map_or(0, |contents| contents.len());
        let offset = usize::from(input.byte()) << 8 | usize::from(input.byte());
        let count = usize::from(input.byte());
        let bytes = input.take(count);
        let offset = offset.min(size.saturating_sub(bytes.len()));
        if !bytes.is_empty() && bytes.len() <= size {
            disk.overwrite(path, offset as u64, bytes);
        }
    }
    let Ok((mut wal, found)) = Wal::open(&Disk::virtual_(disk.clone()), Path::new(DIR), options(2)) else { return };
    // What was accepted is a log that can go on, and says the same again.
    if found.meta.format.is_none() {
        return;
    }
    let next = entry(found.last.index.next(), found.last.term.max(Term(9)), found.last_chain, b"more");
    wal.push(None, None, std::slice::from_ref(&next)).expect("a virtual disk takes everything");
    wal.commit().expect("a virtual disk takes everything");
    drop(wal);
    let (_, again) = Wal::open(&Disk::virtual_(disk), Path::new(DIR), options(3)).expect("it was just written");
    assert_eq!(again.last, next.header.id);
}

/// The disk of a node that has written three segments' worth of entries of two terms.
fn written() -> &'static VirtualDisk {
    static WRITTEN: OnceLock<VirtualDisk> = OnceLock::new();
    WRITTEN.get_or_init(|| {
        let disk = VirtualDisk::new();
        let (mut wal, _) = Wal::open(&Disk::virtual_(disk.clone()), Path::new(DIR), options(1)).expect("a new disk");
        wal.push(None, Some(&format()), &[]).expect("there is room");
        wal.commit().expect("it syncs");
        let mut chain = Chain::origin(CLUSTER);
        for index in 1..=40 {
            let term = Term(1 + index / 20);
            let entry = entry(Index(index), term, chain, &[index as u8; 300]);
            chain = entry.header.chain;
            let hard_state = HardState { term, ..HardState::default() };
            wal.push((index % 20 == 0).then_some(hard_state), None, &[entry]).expect("there is room");
            if index % 3 == 0 {
                wal.commit().expect("it syncs");
            }
        }
        wal.commit().expect("it syncs");
        drop(wal);
        disk
    })
}

fn options(random: u64) -> Options {
    Options { segment_bytes: 2 * 4096, ..Options::new(NodeId(0), random) }
}

fn format() -> Format {
    let member = |id: u32| Member {
        id: NodeId(id),
        incarnation: Incarnation(u64::from(id) + 1),
        client_address: format!("127.0.0.1:{}", 7400 + 10 * id),
        peer_address: format!("127.0.0.1:{}", 7401 + 10 * id),
    };
    Format { cluster: CLUSTER, members: (0..3).map(member).collect() }
}

fn entry(index: Index, term: Term, before: Chain, body: &[u8]) -> Entry {
    let mut header = EntryHeader {
        id: EntryId { term, index },
        log_time: LogTime(index.0),
        session: SessionId(0),
        sequence: Sequence(0),
        kind: EntryKind::Command,
        flags: 0,
        body_len: body.len() as u32,
        body_checksum: crc32c::crc32c(body),
        chain: Chain(0),
    };
    header.chain = header.chain_after(before);
    Entry { header, body: Bytes::copy_from_slice(body) }
}
