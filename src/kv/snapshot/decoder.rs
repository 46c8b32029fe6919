//! Reading a snapshot, piece by piece. Nothing is believed before its checksum was verified, and no length is taken from
//! the file that is not bounded.

use std::mem;

use byteorder::{ByteOrder, LittleEndian};
use protocol::format::Format;
use protocol::{Chain, EntryId, Incarnation, Index, LogTime, NodeId, SessionId, Term};

use super::{block_checksum, fold, header_checksum, Damaged, Footer, Header, Kind, Reason};
use super::{
    BLOCK_BODY_BYTES_MAX, END_MAGIC, FOOTER_BODY_BYTES, FOOTER_BYTES, HEADER_FIXED_BYTES, HEAD_BYTES, ITEM_HEAD_BYTES,
    MAGIC, VERSION,
};
use crate::kv::{Item, Position, Session, Versioned};
use crate::limits;

/// Decodes and checks one file. Give it [`Decoder::wants`] bytes, those that come next in the file, with each call of
/// [`Decoder::take`], until it wants none. After an error it is as before the header or block that was wrong.
#[derive(Debug, Default)]
pub struct Decoder {
    next: Next,
    /// Bytes taken so far.
    offset: u64,
    /// The header's.
    checksum: u32,
    position: Position,
    hash: u64,
    blocks: u64,
    keys: u64,
    sessions: u64,
    last_key: Vec<u8>,
    last_session: SessionId,
}

/// What comes next in the file.
#[derive(Debug, Default)]
enum Next {
    #[default]
    Header,
    /// After the fixed part of the header.
    Format(Box<[u8; HEADER_FIXED_BYTES]>),
    Head,
    Body(Head),
    Nothing,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    kind: Kind,
    bytes: [u8; HEAD_BYTES],
}

/// What the bytes were.
#[derive(Debug)]
pub enum Piece<'a> {
    /// Only a part of a header or block; more comes with the next call.
    Part,
    /// The header.
    Header(Header),
    /// Keys, above all those before.
    Items(Items<'a>),
    /// Sessions, with ids above all those before.
    Sessions(Vec<Session>),
    /// The end: everything was checked.
    End(Footer),
}

/// The items of one block, checked.
#[derive(Clone, Debug)]
pub struct Items<'a>(&'a [u8]);

impl Decoder {
    /// At the beginning of a file.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many bytes the next call takes; 0 after the end. At most a block and its largest record.
    pub fn wants(&self) -> usize {
        match &self.next {
            Next::Header => HEADER_FIXED_BYTES,
            Next::Format(fixed) => header_bytes(&**fixed) - HEADER_FIXED_BYTES,
            Next::Head => HEAD_BYTES,
            Next::Body(head) => head.body_bytes(),
            Next::Nothing => 0,
        }
    }

    /// Bytes taken so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Goes back to the end of the last piece that was whole, if only a part of the next one was taken: what comes behind
    /// is to be given again.
    pub fn rewind(&mut self) {
        self.offset = self.whole();
        self.next = match &self.next {
            Next::Header | Next::Format(_) => Next::Header,
            Next::Head | Next::Body(_) => Next::Head,
            Next::Nothing => Next::Nothing,
        };
    }

    /// Takes the next [`Decoder::wants`] bytes.
    pub fn take<'a>(&mut self, bytes: &'a [u8]) -> Result<Piece<'a>, Damaged> {
        assert_eq!(bytes.len(), self.wants(), "the caller gives what is wanted");
        let next = mem::replace(&mut self.next, Next::Nothing);
        let piece = match &next {
            Next::Header => self.header(bytes),
            Next::Format(fixed) => self.format(&**fixed, bytes),
            Next::Head => self.head(bytes),
            Next::Body(head) => self.body(head, bytes),
            Next::Nothing => Err(Reason::Trailing),
        };
        piece.inspect(|_| self.offset += bytes.len() as u64).map_err(|reason| {
            self.next = next;
            self.rewind();
            Damaged { offset: self.offset, reason }
        })
    }

    /// The file has no more bytes, but some are wanted.
    pub fn truncated(&self) -> Damaged {
        Damaged { offset: self.whole(), reason: Reason::Truncated }
    }

    /// After the header: reads the last [`FOOTER_BYTES`] of the file, without what is between. They say what the file
    /// should be, not that it is.
    pub fn footer_ahead(&self, bytes: &[u8]) -> Result<Footer, Reason> {
        let (head, body) = bytes.split_at_checked(HEAD_BYTES).ok_or(Reason::Truncated)?;
        if bytes.len() != FOOTER_BYTES || head[..4] != *Kind::Footer.magic() {
            return Err(Reason::Truncated);
        }
        let footer = read_footer(body)?;
        if LittleEndian::read_u32(&head[12..]) != block_checksum(self.checksum, footer.blocks, &head[..12], body) {
            return Err(Reason::Checksum);
        }
        Ok(footer)
    }

    /// The end of the last piece that was whole.
    fn whole(&self) -> u64 {
        match &self.next {
            Next::Header | Next::Format(_) => 0,
            Next::Body(_) => self.offset - HEAD_BYTES as u64,
            Next::Head | Next::Nothing => self.offset,
        }
    }

    fn header<'a>(&mut self, fixed: &[u8]) -> Result<Piece<'a>, Reason> {
        if fixed[..8] != *MAGIC {
            return Err(Reason::NotASnapshot);
        }
        let format_bytes = header_bytes(fixed).saturating_sub(HEADER_FIXED_BYTES);
        if format_bytes == 0 || format_bytes > limits::SNAPSHOT_FORMAT_BYTES_MAX {
            return Err(Reason::Length("length of the header"));
        }
        self.next = Next::Format(Box::new(fixed.try_into().expect("as long as was wanted")));
        Ok(Piece::Part)
    }

    fn format<'a>(&mut self, fixed: &[u8], format: &[u8]) -> Result<Piece<'a>, Reason> {
        let whole = [fixed, format].concat();
        self.checksum = header_checksum(&whole);
        if self.checksum != LittleEndian::read_u32(&fixed[16..]) {
            return Err(Reason::Checksum);
        }
        // Not before: a version that rotted is no later version, and the snapshot before is as good.
        let version = LittleEndian::read_u32(&fixed[8..]);
        if version != VERSION {
            return Err(Reason::Version(version));
        }
        if LittleEndian::read_u32(&fixed[80..]) as usize != format.len() {
            return Err(Reason::Length("length of the Format"));
        }
        let header = read_header(fixed, format)?;
        (self.position, self.hash) = (header.position, fold(0, &whole));
        self.next = Next::Head;
        Ok(Piece::Header(header))
    }

    fn head<'a>(&mut self, bytes: &[u8]) -> Result<Piece<'a>, Reason> {
        let kind = Kind::of(&bytes[..4]).ok_or(Reason::Kind)?;
        let head = Head { kind, bytes: bytes.try_into().expect("as long as was wanted") };
        let bound = match kind {
            Kind::Items | Kind::Sessions => 1..=BLOCK_BODY_BYTES_MAX,
            Kind::Footer => FOOTER_BODY_BYTES..=FOOTER_BODY_BYTES,
        };
        if !bound.contains(&head.body_bytes()) {
            return Err(Reason::Length("length of a block"));
        }
        if kind == Kind::Items && self.sessions > 0 {
            return Err(Reason::Kind);
        }
        self.next = Next::Body(head);
        Ok(Piece::Part)
    }

    fn body<'a>(&mut self, head: &Head, body: &'a [u8]) -> Result<Piece<'a>, Reason> {
        if head.checksum() != block_checksum(self.checksum, self.blocks, &head.bytes[..12], body) {
            return Err(Reason::Checksum);
        }
        let piece = match head.kind {
            Kind::Items => self.items(head.count(), body)?,
            Kind::Sessions => self.sessions(head.count(), body)?,
            Kind::Footer => return self.footer(body),
        };
        self.hash = fold(fold(self.hash, &head.bytes), body);
        self.blocks += 1;
        self.next = Next::Head;
        Ok(piece)
    }

    fn items<'a>(&mut self, count: u64, body: &'a [u8]) -> Result<Piece<'a>, Reason> {
        let mut last: Option<&[u8]> = (self.keys > 0).then_some(&self.last_key);
        let mut items = Items(body);
        let mut read = 0;
        for item in &mut items {
            let Versioned { value, revision, create_revision, version } = item.versioned;
            if item.key.len() > limits::KEY_BYTES_MAX || value.len() > limits::VALUE_BYTES_MAX {
                return Err(Reason::Length("length of a key or value"));
            }
            if create_revision == Index(0) || create_revision > revision || revision > self.position.id.index {
                return Err(Reason::Field("revision"));
            }
            if version == 0 {
                return Err(Reason::Field("version"));
            }
            if last.is_some_and(|last| item.key <= last) {
                return Err(Reason::OutOfOrder);
            }
            last = Some(item.key);
            read += 1;
        }
        if !items.0.is_empty() || read != count || count > limits::SNAPSHOT_BLOCK_KEYS as u64 {
            return Err(Reason::Length("number of items"));
        }
        let last = last.unwrap_or(&[]).to_vec();
        self.last_key = last;
        self.keys += count;
        Ok(Piece::Items(Items(body)))
    }

    fn sessions<'a>(&mut self, count: u64, mut body: &[u8]) -> Result<Piece<'a>, Reason> {
        let (mut sessions, mut last) = (Vec::new(), self.last_session);
        while let Some((record, rest)) = split_record(body) {
            let session = Session::decode(record).map_err(|_| Reason::Field("session"))?;
            if session.id() <= last || session.id().0 > self.position.id.index.0 {
                return Err(Reason::Field("id of a session"));
            }
            last = session.id();
            sessions.push(session);
            body = rest;
        }
        let total = self.sessions + count;
        let fits = count <= limits::SNAPSHOT_BLOCK_KEYS as u64 && total <= limits::SESSIONS_MAX as u64;
        if !body.is_empty() || sessions.len() as u64 != count || !fits {
            return Err(Reason::Length("number of sessions"));
        }
        (self.sessions, self.last_session) = (total, last);
        Ok(Piece::Sessions(sessions))
    }

    fn footer<'a>(&mut self, body: &[u8]) -> Result<Piece<'a>, Reason> {
        let footer = read_footer(body)?;
        let bytes = self.offset + FOOTER_BODY_BYTES as u64;
        let expected = Footer { blocks: self.blocks, keys: self.keys, sessions: self.sessions, bytes, hash: self.hash };
        if footer != expected {
            return Err(Reason::Footer);
        }
        Ok(Piece::End(footer))
    }
}

impl Head {
    fn body_bytes(&self) -> usize {
        LittleEndian::read_u32(&self.bytes[4..]) as usize
    }

    fn count(&self) -> u64 {
        LittleEndian::read_u32(&self.bytes[8..]).into()
    }

    fn checksum(&self) -> u32 {
        LittleEndian::read_u32(&self.bytes[12..])
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        let (head, rest) = self.0.split_at_checked(ITEM_HEAD_BYTES)?;
        let (key, rest) = rest.split_at_checked(LittleEndian::read_u32(head) as usize)?;
        let (value, rest) = rest.split_at_checked(LittleEndian::read_u32(&head[4..]) as usize)?;
        self.0 = rest;
        let versioned = Versioned {
            value,
            revision: Index(LittleEndian::read_u64(&head[8..])),
            create_revision: Index(LittleEndian::read_u64(&head[16..])),
            version: LittleEndian::read_u64(&head[24..]),
        };
        Some(Item { key, versioned })
    }
}

/// A session's record, and what is behind it.
fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(4)?;
    rest.split_at_checked(LittleEndian::read_u32(length) as usize)
}

fn header_bytes(fixed: &[u8]) -> usize {
    LittleEndian::read_u32(&fixed[12..]) as usize
}

fn read_header(fixed: &[u8], format: &[u8]) -> Result<Header, Reason> {
    let format = Format::decode(format).map_err(|_| Reason::Field("Format"))?;
    if format.cluster.0 != LittleEndian::read_u64(&fixed[40..]) {
        return Err(Reason::Field("cluster"));
    }
    if LittleEndian::read_u32(&fixed[84..]) != 0 {
        return Err(Reason::Field("reserved bytes"));
    }
    let id = EntryId {
        term: Term(LittleEndian::read_u64(&fixed[48..])),
        index: Index(LittleEndian::read_u64(&fixed[56..])),
    };
    Ok(Header {
        node: NodeId(LittleEndian::read_u32(&fixed[20..])),
        incarnation: Incarnation(LittleEndian::read_u64(&fixed[24..])),
        boot: LittleEndian::read_u64(&fixed[32..]),
        position: Position {
            id,
            chain: Chain(LittleEndian::read_u64(&fixed[64..])),
            log_time: LogTime(LittleEndian::read_u64(&fixed[72..])),
        },
        format,
    })
}

fn read_footer(body: &[u8]) -> Result<Footer, Reason> {
    if body[40..] != *END_MAGIC {
        return Err(Reason::Field("end"));
    }
    Ok(Footer {
        blocks: LittleEndian::read_u64(body),
        keys: LittleEndian::read_u64(&body[8..]),
        sessions: LittleEndian::read_u64(&body[16..]),
        bytes: LittleEndian::read_u64(&body[24..]),
        hash: LittleEndian::read_u64(&body[32..]),
    })
}
