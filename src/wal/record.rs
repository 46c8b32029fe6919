//! What is in a segment file, byte by byte. Pure: works on slices.
//!
//! A segment is a page with its header, then records, each at a multiple of 8 bytes. The header is never rewritten.
//!
//! | offset | size | segment header |
//! |---|---|---|
//! | 0 | 8 | magic `RKVLOG\r\n` |
//! | 8 | 4 | version of the format, 1 |
//! | 12 | 4 | node id |
//! | 16 | 8 | sequence: the position among the segments; the file's name only repeats it |
//! | 24 | 8 | salt: random, new each time a file becomes a segment |
//! | 32 | 8 | cluster id |
//! | 40 | 8 | incarnation |
//! | 48 | 8 | bytes of the file |
//! | 56 | 4 | CRC-32C of the above |
//! | 60 | 4 | 0 |
//!
//! Every record begins with a magic of 4 bytes and its header checksum: CRC-32C of salt, offset in the segment, magic
//! and the rest of the header (C-2). So bytes that an earlier use of the file left, or that a client's value brings, or
//! that were written to the wrong place are not records.
//!
//! | offset | size | Entry `rkvE` |
//! |---|---|---|
//! | 8 | 64 | [`EntryHeader`], which has the body's length and checksum |
//! | 72 | n | body, then zeroes up to a multiple of 8 |
//!
//! | offset | size | Batch `rkvB`: begins each write (C-3) |
//! |---|---|---|
//! | 8 | 8 | salt, in full: scanning for Batches must not be fooled by a guessed checksum |
//! | 16 | 8 | sequence of this segment |
//! | 24 | 8 | number of the Batch, rising by one through all segments |
//! | 32 | 16 | `synced_to`: segment and offset up to which a sync had returned |
//! | 48 | 32 | the log's last position before this Batch: term, index, chain, log time |
//!
//! | offset | size | Base `rkvS`: empties the log (C-5) |
//! |---|---|---|
//! | 8 | 32 | the position before the next entry: term, index, chain, log time |
#![forbid(unsafe_code)]

use byteorder::{ByteOrder, LittleEndian};
use protocol::{Chain, ClusterId, Entry, EntryHeader, EntryId, Incarnation, Index, LogTime, NodeId, Term};

use super::LogBase;

/// Where the first record of a segment is.
pub const RECORDS_AT: u64 = 4096;
/// Bytes of a Batch record.
pub const BATCH_BYTES: u64 = 80;
/// Bytes of a Base record.
pub const BASE_BYTES: u64 = 40;
/// Bytes of an Entry record before its body.
pub const ENTRY_PREFIX_BYTES: u64 = 8 + EntryHeader::BYTES as u64;

const SEGMENT_MAGIC: &[u8; 8] = b"RKVLOG\r\n";
const SEGMENT_HEADER_BYTES: usize = 64;
const VERSION: u32 = 1;
const ENTRY_MAGIC: &[u8; 4] = b"rkvE";
const BATCH_MAGIC: &[u8; 4] = b"rkvB";
const BASE_MAGIC: &[u8; 4] = b"rkvS";

/// The identity of one segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Position among the segments, from 1.
    pub sequence: u64,
    /// Seeds the checksum of every record.
    pub salt: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Whose log it is.
    pub owner: Owner,
}

/// Whose log a segment belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// The life of its disk.
    pub incarnation: Incarnation,
}

/// A place in the log files. Ordered as the files are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Sequence of the segment.
    pub segment: u64,
    /// Offset in it.
    pub offset: u64,
}

/// The record that begins each write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The segment it is in.
    pub segment: u64,
    /// Rising by one.
    pub number: u64,
    /// Everything before this was synced when the Batch was written. In a segment's first Batch: the end of the
    /// segment before.
    pub synced_to: Position,
    /// The log's last position before this Batch.
    pub before: LogBase,
}

/// A record, as found in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// An entry and its body; the body's checksum was verified.
    Entry(EntryHeader, &'a [u8]),
    /// The beginning of a write.
    Batch(Batch),
    /// The log is empty here and continues behind this position.
    Base(LogBase),
}

/// Why the bytes at some place are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotARecord(pub &'static str);

impl SegmentHeader {
    /// The header's page.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[0..8].copy_from_slice(SEGMENT_MAGIC);
        LittleEndian::write_u32(&mut bytes[8..], VERSION);
        LittleEndian::write_u32(&mut bytes[12..], self.owner.node.0);
        LittleEndian::write_u64(&mut bytes[16..], self.sequence);
        LittleEndian::write_u64(&mut bytes[24..], self.salt);
        LittleEndian::write_u64(&mut bytes[32..], self.owner.cluster.0);
        LittleEndian::write_u64(&mut bytes[40..], self.owner.incarnation.0);
        LittleEndian::write_u64(&mut bytes[48..], self.bytes);
        let checksum = crc32c::crc32c(&bytes[..56]);
        LittleEndian::write_u32(&mut bytes[56..], checksum);
        bytes
    }

    /// Reads the header at the start of `file`.
    pub fn decode(file: &[u8]) -> Result<SegmentHeader, NotARecord> {
        let bytes = file.get(..SEGMENT_HEADER_BYTES).ok_or(NotARecord("the file is shorter than a segment header"))?;
        if bytes[0..8] != *SEGMENT_MAGIC {
            return Err(NotARecord("the file does not begin like a segment"));
        }
        if crc32c::crc32c(&bytes[..56]) != LittleEndian::read_u32(&bytes[56..]) {
            return Err(NotARecord("the segment header does not match its checksum"));
        }
        if LittleEndian::read_u32(&bytes[8..]) != VERSION {
            return Err(NotARecord("the segment was written by another version of raftkv"));
        }
        Ok(SegmentHeader {
            sequence: LittleEndian::read_u64(&bytes[16..]),
            salt: LittleEndian::read_u64(&bytes[24..]),
            bytes: LittleEndian::read_u64(&bytes[48..]),
            owner: Owner {
                cluster: ClusterId(LittleEndian::read_u64(&bytes[32..])),
                node: NodeId(LittleEndian::read_u32(&bytes[12..])),
                incarnation: Incarnation(LittleEndian::read_u64(&bytes[40..])),
            },
        })
    }
}

/// Bytes that an entry takes in a segment.
pub fn entry_bytes(body_len: usize) -> u64 {
    (ENTRY_PREFIX_BYTES + body_len as u64).next_multiple_of(8)
}

/// Appends an Entry record, which will stand at `offset`.
pub fn write_entry(out: &mut Vec<u8>, salt: u64, offset: u64, entry: &Entry) {
    let start = out.len();
    out.extend_from_slice(ENTRY_MAGIC);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&entry.header.encode());
    seal(&mut out[start..], salt, offset);
    out.extend_from_slice(&entry.body);
    out.resize(start + entry_bytes(entry.body.len()) as usize, 0);
}

/// Appends a Batch record, which will stand at `offset`.
pub fn write_batch(out: &mut Vec<u8>, salt: u64, offset: u64, batch: &Batch) {
    let start = out.len();
    out.extend_from_slice(BATCH_MAGIC);
    out.extend_from_slice(&[0; 4]);
    for word in [salt, batch.segment, batch.number, batch.synced_to.segment, batch.synced_to.offset] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    write_base_fields(out, &batch.before);
    seal(&mut out[start..], salt, offset);
}

/// Appends a Base record, which will stand at `offset`.
pub fn write_base(out: &mut Vec<u8>, salt: u64, offset: u64, base: &LogBase) {
    let start = out.len();
    out.extend_from_slice(BASE_MAGIC);
    out.extend_from_slice(&[0; 4]);
    write_base_fields(out, base);
    seal(&mut out[start..], salt, offset);
}

/// The record at `offset` of the segment with these bytes, and where it ends.
pub fn read(segment: &[u8], salt: u64, offset: u64) -> Result<(Record<'_>, u64), NotARecord> {
    let rest = usize::try_from(offset).ok().and_then(|at| segment.get(at..)).unwrap_or(&[]);
    match rest.first_chunk::<4>() {
        Some(ENTRY_MAGIC) => read_entry(rest, salt, offset),
        Some(BATCH_MAGIC) => Ok((Record::Batch(read_batch(rest, salt, offset)?), offset + BATCH_BYTES)),
        Some(BASE_MAGIC) => {
            let header = sealed(rest, BASE_BYTES, salt, offset)?;
            Ok((Record::Base(read_base_fields(&header[8..])), offset + BASE_BYTES))
        }
        Some(_) => Err(NotARecord("no record begins here")),
        None => Err(NotARecord("the segment ends here")),
    }
}

/// The header of the Entry record at `offset`, and where the record ends; does not look at the body.
pub fn read_entry_header(segment: &[u8], salt: u64, offset: u64) -> Result<(EntryHeader, u64), NotARecord> {
    let rest = usize::try_from(offset).ok().and_then(|at| segment.get(at..)).unwrap_or(&[]);
    if rest.first_chunk::<4>() != Some(ENTRY_MAGIC) {
        return Err(NotARecord("no entry begins here"));
    }
    let header = sealed(rest, ENTRY_PREFIX_BYTES, salt, offset)?;
    let header = header[8..].first_chunk::<{ EntryHeader::BYTES }>().expect("sealed gives the whole prefix");
    let header =
        EntryHeader::decode(header).map_err(|_| NotARecord("an entry header that this version cannot read"))?;
    Ok((header, offset + entry_bytes(header.body_len as usize)))
}

/// The offset of the first valid Batch at or behind `from`, with the Batch (C-3).
pub fn find_batch(segment: &[u8], salt: u64, from: u64) -> Option<(u64, Batch)> {
    let mut offset = from.next_multiple_of(8) as usize;
    while let Some(rest) = segment.get(offset..).filter(|rest| rest.len() >= BATCH_BYTES as usize) {
        if rest.starts_with(BATCH_MAGIC) {
            if let Ok(batch) = read_batch(rest, salt, offset as u64) {
                return Some((offset as u64, batch));
            }
        }
        offset += 8;
    }
    None
}

fn read_entry(rest: &[u8], salt: u64, offset: u64) -> Result<(Record<'_>, u64), NotARecord> {
    let prefix = sealed(rest, ENTRY_PREFIX_BYTES, salt, offset)?;
    let header = prefix[8..].first_chunk::<{ EntryHeader::BYTES }>().expect("sealed gives the whole prefix");
    let header =
        EntryHeader::decode(header).map_err(|_| NotARecord("an entry header that this version cannot read"))?;
    let body = rest[ENTRY_PREFIX_BYTES as usize..]
        .get(..header.body_len as usize)
        .ok_or(NotARecord("an entry's body does not fit the segment"))?;
    if sabotage!(TornBodyAccepted, Entry::checksum(body) != header.body_checksum, false) {
        return Err(NotARecord("an entry's body does not match its checksum"));
    }
    Ok((Record::Entry(header, body), offset + entry_bytes(body.len())))
}

fn read_batch(rest: &[u8], salt: u64, offset: u64) -> Result<Batch, NotARecord> {
    let header = sealed(rest, BATCH_BYTES, salt, offset)?;
    let word = |at: usize| LittleEndian::read_u64(&header[at..]);
    if word(8) != salt {
        return Err(NotARecord("a Batch of another segment"));
    }
    Ok(Batch {
        segment: word(16),
        number: word(24),
        synced_to: Position { segment: word(32), offset: word(40) },
        before: read_base_fields(&header[48..]),
    })
}

fn write_base_fields(out: &mut Vec<u8>, base: &LogBase) {
    for word in [base.id.term.0, base.id.index.0, base.chain.0, base.log_time.0] {
        out.extend_from_slice(&word.to_le_bytes());
    }
}

fn read_base_fields(bytes: &[u8]) -> LogBase {
    let word = |at: usize| LittleEndian::read_u64(&bytes[at..]);
    LogBase {
        id: EntryId { term: Term(word(0)), index: Index(word(8)) },
        chain: Chain(word(16)),
        log_time: LogTime(word(24)),
    }
}

/// Writes the header checksum into a header that is otherwise complete.
fn seal(header: &mut [u8], salt: u64, offset: u64) {
    let checksum = header_checksum(header, salt, offset);
    LittleEndian::write_u32(&mut header[4..], checksum);
}

/// The first `len` bytes if their header checksum is right.
fn sealed(rest: &[u8], len: u64, salt: u64, offset: u64) -> Result<&[u8], NotARecord> {
    let header = rest.get(..len as usize).ok_or(NotARecord("a record's header does not fit the segment"))?;
    if LittleEndian::read_u32(&header[4..]) != header_checksum(header, salt, offset) {
        return Err(NotARecord("a record's header does not match its checksum"));
    }
    Ok(header)
}

fn header_checksum(header: &[u8], salt: u64, offset: u64) -> u32 {
    let mut place = [0; 20];
    LittleEndian::write_u64(&mut place[0..], salt);
    LittleEndian::write_u64(&mut place[8..], offset);
    place[16..].copy_from_slice(&header[..4]);
    crc32c::crc32c_append(crc32c::crc32c(&place), &header[8..])
}
