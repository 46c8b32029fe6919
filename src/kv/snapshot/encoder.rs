//! Writing a snapshot: whole blocks, appended to a buffer.

use byteorder::{ByteOrder, LittleEndian};
use bytes::BufMut;

use super::{block_checksum, fold, header_checksum, Footer, Header, Kind};
use super::{END_MAGIC, FOOTER_BODY_BYTES, FOOTER_BYTES, HEADER_FIXED_BYTES, HEAD_BYTES, MAGIC, VERSION};
use crate::kv::{Item, Session};
use crate::limits;

/// Encodes one file: the header, items in ascending order, then sessions, then the footer. It does no input or output:
/// each call appends to a buffer what comes next in the file.
#[derive(Debug)]
pub struct Encoder {
    /// The header's.
    checksum: u32,
    footer: Footer,
}

impl Encoder {
    /// Appends the header.
    pub fn begin(header: &Header, out: &mut Vec<u8>) -> Self {
        let start = out.len();
        out.put_slice(MAGIC);
        out.put_u32_le(VERSION);
        out.put_u32_le((HEADER_FIXED_BYTES + header.format.encoded_len()) as u32);
        out.put_u32_le(0);
        out.put_u32_le(header.node.0);
        out.put_u64_le(header.incarnation.0);
        out.put_u64_le(header.boot);
        out.put_u64_le(header.format.cluster.0);
        out.put_u64_le(header.position.id.term.0);
        out.put_u64_le(header.position.id.index.0);
        out.put_u64_le(header.position.chain.0);
        out.put_u64_le(header.position.log_time.0);
        out.put_u32_le(header.format.encoded_len() as u32);
        out.put_u32_le(0);
        header.format.encode(out);
        let bytes = &mut out[start..];
        let checksum = header_checksum(bytes);
        LittleEndian::write_u32(&mut bytes[16..], checksum);
        let footer = Footer { blocks: 0, keys: 0, sessions: 0, bytes: bytes.len() as u64, hash: fold(0, bytes) };
        Self { checksum, footer }
    }

    /// Appends a block with as many of the items as fit: [`limits::SNAPSHOT_BLOCK_KEYS`] and about
    /// [`limits::SNAPSHOT_BLOCK_BYTES`]. Returns their number; 0, and no block, if there are none.
    pub fn items<'a>(&mut self, items: &mut impl Iterator<Item = Item<'a>>, out: &mut Vec<u8>) -> usize {
        let written = self.block(Kind::Items, items, out, |item, out| {
            out.put_u32_le(item.key.len() as u32);
            out.put_u32_le(item.versioned.value.len() as u32);
            out.put_u64_le(item.versioned.revision.0);
            out.put_u64_le(item.versioned.create_revision.0);
            out.put_u64_le(item.versioned.version);
            out.put_slice(item.key);
            out.put_slice(item.versioned.value);
        });
        self.footer.keys += written as u64;
        written
    }

    /// Appends a block with as many of the sessions as fit, as [`Encoder::items`] does.
    pub fn sessions<'a>(&mut self, sessions: &mut impl Iterator<Item = &'a Session>, out: &mut Vec<u8>) -> usize {
        let written = self.block(Kind::Sessions, sessions, out, |session, out| {
            let start = out.len();
            out.put_u32_le(0);
            session.encode(out);
            let bytes = out.len() - start - 4;
            LittleEndian::write_u32(&mut out[start..], bytes as u32);
        });
        self.footer.sessions += written as u64;
        written
    }

    /// Appends the footer, behind which nothing comes.
    pub fn finish(&self, out: &mut Vec<u8>) -> Footer {
        let footer = Footer { bytes: self.footer.bytes + FOOTER_BYTES as u64, ..self.footer };
        let start = out.len();
        out.resize(start + HEAD_BYTES, 0);
        out.put_u64_le(footer.blocks);
        out.put_u64_le(footer.keys);
        out.put_u64_le(footer.sessions);
        out.put_u64_le(footer.bytes);
        out.put_u64_le(footer.hash);
        out.put_slice(END_MAGIC);
        debug_assert_eq!(out.len() - start, HEAD_BYTES + FOOTER_BODY_BYTES);
        self.put_head(Kind::Footer, 0, &mut out[start..]);
        footer
    }

    fn block<T>(
        &mut self,
        kind: Kind,
        records: &mut impl Iterator<Item = T>,
        out: &mut Vec<u8>,
        put: impl Fn(T, &mut Vec<u8>),
    ) -> usize {
        let start = out.len();
        out.resize(start + HEAD_BYTES, 0);
        let mut count = 0;
        while count < limits::SNAPSHOT_BLOCK_KEYS && out.len() - start - HEAD_BYTES < limits::SNAPSHOT_BLOCK_BYTES {
            let Some(record) = records.next() else { break };
            put(record, out);
            count += 1;
        }
        if count == 0 {
            out.truncate(start);
            return 0;
        }
        let block = &mut out[start..];
        self.put_head(kind, count, block);
        self.footer.hash = fold(fold(self.footer.hash, &block[..HEAD_BYTES]), &block[HEAD_BYTES..]);
        self.footer.blocks += 1;
        self.footer.bytes += block.len() as u64;
        count
    }

    fn put_head(&self, kind: Kind, count: usize, block: &mut [u8]) {
        let (head, body) = block.split_at_mut(HEAD_BYTES);
        head[..4].copy_from_slice(kind.magic());
        LittleEndian::write_u32(&mut head[4..], body.len() as u32);
        LittleEndian::write_u32(&mut head[8..], count as u32);
        let checksum = block_checksum(self.checksum, self.footer.blocks, &head[..12], body);
        LittleEndian::write_u32(&mut head[12..], checksum);
    }
}
