//! Term, vote, Format and identity in two files, written one after the other (C-7): when one cannot be read, the other
//! has everything that anybody was told.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | magic `RKVMETA\n` |
//! | 8 | 4 | version of the format, 1 |
//! | 12 | 4 | bytes of the file that are used |
//! | 16 | 4 | CRC-32C of bytes 0-15 and of all used bytes behind this field |
//! | 20 | 4 | node id |
//! | 24 | 8 | sequence: the higher of two valid files is the newer |
//! | 32 | 8 | incarnation |
//! | 40 | 8 | term |
//! | 48 | 8 | largest lease span ever promised, us |
//! | 56 | 4 | 1 if there is a vote |
//! | 60 | 4 | the vote |
//! | 64 | 4 | bytes of the Format; 0 before formation |
//! | 68 | 4 | 0 |
//! | 72 | n | Format, as on the wire |

use std::path::{Path, PathBuf};

use byteorder::{ByteOrder, LittleEndian};
use protocol::format::{Format, HardState};
use protocol::{Incarnation, NodeId, Term};

use crate::disk::{Disk, File};

use super::{Meta, WalError};

const NAMES: [&str; 2] = ["meta-a", "meta-b"];
const UNFINISHED_NAME: &str = "meta-next.tmp";
const MAGIC: &[u8; 8] = b"RKVMETA\n";
const VERSION: u32 = 1;
const FIXED_BYTES: usize = 72;
/// Bytes of each file; a Format of seven members with the longest host names takes a quarter of it.
const FILE_BYTES: usize = 16 * 1024;

/// Both files, open.
#[derive(Debug)]
pub(super) struct MetaFiles {
    files: [(PathBuf, File); 2],
    sequence: u64,
    meta: Meta,
}

/// A file as it was found.
#[derive(Debug)]
enum Found {
    Missing,
    Bad(&'static str),
    Valid { sequence: u64, meta: Meta },
}

impl MetaFiles {
    /// True if the directory has none of the files: the disk is new.
    pub(super) fn missing(disk: &Disk, dir: &Path) -> Result<bool, WalError> {
        let names = disk.list(dir).map_err(WalError::io("list", dir))?;
        Ok(!names.iter().any(|name| NAMES.iter().any(|meta| name == Path::new(meta))))
    }

    /// Creates both files for a new disk; durable when it returns.
    pub(super) fn create(disk: &Disk, dir: &Path, meta: Meta) -> Result<MetaFiles, WalError> {
        let bytes = encode(&meta, 1)?;
        let a = create_file(disk, dir, NAMES[0], &bytes)?;
        let b = create_file(disk, dir, NAMES[1], &bytes)?;
        Ok(MetaFiles { files: [a, b], sequence: 1, meta })
    }

    /// Reads both files; the valid one with the higher sequence wins, and the other is made equal before anything
    /// depends on it.
    pub(super) fn open(disk: &Disk, dir: &Path) -> Result<MetaFiles, WalError> {
        let found = [find(disk, dir, NAMES[0])?, find(disk, dir, NAMES[1])?];
        let (sequence, meta) = newer(dir, &found)?;
        let bytes = encode(&meta, sequence)?;
        let mut files = Vec::with_capacity(2);
        for (name, found) in NAMES.iter().zip(found) {
            let path = dir.join(name);
            let file = match found {
                Found::Missing => create_file(disk, dir, name, &bytes)?.1,
                found => {
                    let file = disk.open(&path).map_err(WalError::io("open", &path))?;
                    if !matches!(found, Found::Valid { sequence: theirs, .. } if theirs == sequence) {
                        log::warn!("{}: made equal to the other copy", path.display());
                        write(&path, &file, &whole_file(&bytes))?;
                    }
                    file
                }
            };
            files.push((path, file));
        }
        // The names were found, but they may be durable only from now on.
        disk.sync_dir(dir).map_err(WalError::io("sync", dir))?;
        let files = files.try_into().expect("one for each name");
        Ok(MetaFiles { files, sequence, meta })
    }

    pub(super) fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Writes A, syncs, writes B, syncs (C-7). What depends on `meta` may be released when this has returned.
    pub(super) fn store(&mut self, meta: Meta) -> Result<u32, WalError> {
        let sequence = self.sequence + 1;
        let bytes = encode(&meta, sequence)?;
        for (path, file) in &self.files[..sabotage!(OneCopyMeta, 2, 1)] {
            write(path, file, &bytes)?;
        }
        (self.sequence, self.meta) = (sequence, meta);
        Ok(2)
    }
}

fn write(path: &Path, file: &File, bytes: &[u8]) -> Result<(), WalError> {
    file.write_at(0, bytes).map_err(WalError::io("write", path))?;
    file.sync().map_err(WalError::io("sync", path))
}

/// The name appears when the content is durable, so a bad file with the name is damage.
fn create_file(disk: &Disk, dir: &Path, name: &str, bytes: &[u8]) -> Result<(PathBuf, File), WalError> {
    let (path, unfinished) = (dir.join(name), dir.join(UNFINISHED_NAME));
    match disk.unlink(&unfinished) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        result => result.map_err(WalError::io("remove", &unfinished))?,
    }
    let file = disk.create(&unfinished).map_err(WalError::io("create", &unfinished))?;
    write(&unfinished, &file, &whole_file(bytes))?;
    disk.rename(&unfinished, &path).map_err(WalError::io("rename to", &path))?;
    disk.sync_dir(dir).map_err(WalError::io("sync", dir))?;
    Ok((path, file))
}

fn whole_file(used: &[u8]) -> Vec<u8> {
    let mut whole = used.to_vec();
    whole.resize(FILE_BYTES, 0);
    whole
}

fn find(disk: &Disk, dir: &Path, name: &str) -> Result<Found, WalError> {
    let path = dir.join(name);
    let file = match disk.open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Missing),
        file => file.map_err(WalError::io("open", &path))?,
    };
    file.drop_cache().map_err(WalError::io("sync and re-read", &path))?; // C-6
    let mut bytes = vec![0; FILE_BYTES];
    if file.size().map_err(WalError::io("read", &path))? < FILE_BYTES as u64 {
        return Ok(Found::Bad("it is too short"));
    }
    file.read_at(0, &mut bytes).map_err(WalError::io("read", &path))?;
    Ok(match decode(&bytes) {
        Ok((sequence, meta)) => Found::Valid { sequence, meta },
        Err(reason) => Found::Bad(reason),
    })
}

fn newer(dir: &Path, found: &[Found; 2]) -> Result<(u64, Meta), WalError> {
    let valid = found.iter().filter_map(|found| match found {
        Found::Valid { sequence, meta } => Some((*sequence, meta)),
        _ => None,
    });
    if let Some((sequence, meta)) = valid.max_by_key(|(sequence, _)| *sequence) {
        return Ok((sequence, meta.clone()));
    }
    let describe = |found: &Found| match found {
        Found::Missing => "it is missing",
        Found::Bad(reason) => reason,
        Found::Valid { .. } => unreachable!("handled above"),
    };
    Err(WalError::refused(format!(
        "neither {} nor {} in {} can be read ({}; {}): this node's term and vote are lost, and guessing them could elect \
         two leaders. Replace the directory and let a new node take this one's place",
        NAMES[0],
        NAMES[1],
        dir.display(),
        describe(&found[0]),
        describe(&found[1])
    )))
}

fn encode(meta: &Meta, sequence: u64) -> Result<Vec<u8>, WalError> {
    let mut bytes = vec![0; FIXED_BYTES];
    if let Some(format) = &meta.format {
        format.encode(&mut bytes);
    }
    let used = bytes.len();
    if used > FILE_BYTES {
        return Err(WalError::impossible(format!("a Format of {} bytes", used - FIXED_BYTES)));
    }
    bytes[0..8].copy_from_slice(MAGIC);
    LittleEndian::write_u32(&mut bytes[8..], VERSION);
    LittleEndian::write_u32(&mut bytes[12..], used as u32);
    LittleEndian::write_u32(&mut bytes[20..], meta.node.0);
    LittleEndian::write_u64(&mut bytes[24..], sequence);
    LittleEndian::write_u64(&mut bytes[32..], meta.incarnation.0);
    LittleEndian::write_u64(&mut bytes[40..], meta.hard_state.term.0);
    LittleEndian::write_u64(&mut bytes[48..], meta.hard_state.lease_span_us);
    LittleEndian::write_u32(&mut bytes[56..], meta.hard_state.vote.is_some().into());
    LittleEndian::write_u32(&mut bytes[60..], meta.hard_state.vote.unwrap_or_default().0);
    LittleEndian::write_u32(&mut bytes[64..], (used - FIXED_BYTES) as u32);
    let checksum = checksum(&bytes);
    LittleEndian::write_u32(&mut bytes[16..], checksum);
    Ok(bytes)
}

fn decode(file: &[u8]) -> Result<(u64, Meta), &'static str> {
    if file[0..8] != *MAGIC {
        return Err("it does not begin like a meta file");
    }
    let used = LittleEndian::read_u32(&file[12..]) as usize;
    let bytes = file.get(..used).filter(|bytes| bytes.len() >= FIXED_BYTES).ok_or("its length field is wrong")?;
    if checksum(bytes) != LittleEndian::read_u32(&bytes[16..]) {
        return Err("it does not match its checksum");
    }
    if LittleEndian::read_u32(&bytes[8..]) != VERSION {
        return Err("it was written by another version of raftkv");
    }
    let format = match LittleEndian::read_u32(&bytes[64..]) as usize {
        0 => None,
        len if len == used - FIXED_BYTES => {
            Some(Format::decode(&bytes[FIXED_BYTES..]).map_err(|_| "its Format cannot be read")?)
        }
        _ => return Err("the length of its Format is wrong"),
    };
    let vote = match LittleEndian::read_u32(&bytes[56..]) {
        0 => None,
        _ => Some(NodeId(LittleEndian::read_u32(&bytes[60..]))),
    };
    let hard_state = HardState {
        term: Term(LittleEndian::read_u64(&bytes[40..])),
        vote,
        lease_span_us: LittleEndian::read_u64(&bytes[48..]),
    };
    let meta = Meta {
        node: NodeId(LittleEndian::read_u32(&bytes[20..])),
        incarnation: Incarnation(LittleEndian::read_u64(&bytes[32..])),
        hard_state,
        format,
    };
    Ok((LittleEndian::read_u64(&bytes[24..]), meta))
}

fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..16]), &bytes[20..])
}
