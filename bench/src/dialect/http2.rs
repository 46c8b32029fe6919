//! As much of HTTP/2 (RFC 9113) as two gRPC calls need: frames, header fields as literals, the windows of flow control.

/// Bytes of a frame's head.
pub(super) const HEAD_BYTES: usize = 9;
/// What a client says before its first frame.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame's payload that everybody must take.
pub(super) const FRAME_BYTES_MAX: usize = 16_384;
/// The window that every connection and stream begins with.
pub(super) const FIRST_WINDOW: i64 = 65_535;
/// The largest window there is.
pub(super) const LAST_WINDOW: u32 = (1 << 31) - 1;

/// Kinds of frames.
pub(super) mod kind {
    pub(in super::super) const DATA: u8 = 0;
    pub(in super::super) const HEADERS: u8 = 1;
    pub(in super::super) const RST_STREAM: u8 = 3;
    pub(in super::super) const SETTINGS: u8 = 4;
    pub(in super::super) const PING: u8 = 6;
    pub(in super::super) const GOAWAY: u8 = 7;
    pub(in super::super) const WINDOW_UPDATE: u8 = 8;
}

/// Flags of frames. ACK and END_STREAM share their bit.
pub(super) mod flag {
    pub(in super::super) const ACK: u8 = 1;
    pub(in super::super) const END_STREAM: u8 = 1;
    pub(in super::super) const END_HEADERS: u8 = 4;
    pub(in super::super) const PADDED: u8 = 8;
}

/// Settings.
pub(super) mod setting {
    pub(in super::super) const HEADER_TABLE_SIZE: u16 = 1;
    pub(in super::super) const ENABLE_PUSH: u16 = 2;
    pub(in super::super) const INITIAL_WINDOW_SIZE: u16 = 4;
}

/// A received frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The first frame of `input`, if it is here as a whole.
    pub(super) fn split(input: &'a [u8]) -> Option<Frame<'a>> {
        let head = input.first_chunk::<HEAD_BYTES>()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let payload = input.get(HEAD_BYTES..HEAD_BYTES + length)?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & LAST_WINDOW;
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        HEAD_BYTES + self.payload.len()
    }

    /// Whether this flag is set.
    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The payload as a number of 31 bits: of WINDOW_UPDATE.
    pub(super) fn increment(&self) -> u32 {
        self.payload.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes) & LAST_WINDOW)
    }

    /// Of SETTINGS: each identifier with its value.
    pub(super) fn settings(&self) -> impl Iterator<Item = (u16, u32)> + 'a {
        let (settings, _) = self.payload.as_chunks::<6>();
        settings.iter().map(|s| (u16::from_be_bytes([s[0], s[1]]), u32::from_be_bytes([s[2], s[3], s[4], s[5]])))
    }
}

/// Appends a frame's head.
pub(super) fn put_head(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    let length = u32::try_from(length).expect("frames are short").to_be_bytes();
    out.extend_from_slice(&[length[1], length[2], length[3], kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

/// Appends a whole frame.
pub(super) fn put_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    put_head(out, payload.len(), kind, flags, stream);
    out.extend_from_slice(payload);
}

/// Appends SETTINGS.
pub(super) fn put_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    put_head(out, 6 * settings.len(), kind::SETTINGS, 0, 0);
    for (identifier, value) in settings {
        out.extend_from_slice(&identifier.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// The header fields of a gRPC call (RFC 7541): those of the static table by their index, all other text as literals that are
/// not indexed, without Huffman's code.
pub(super) fn call_headers(path: &str) -> Vec<u8> {
    const METHOD_POST: u8 = 0x83;
    const SCHEME_HTTP: u8 = 0x86;
    const AUTHORITY: &[u8] = &[0x01];
    const PATH: &[u8] = &[0x04];
    const CONTENT_TYPE: &[u8] = &[0x0f, 0x10];
    const NEW_NAME: &[u8] = &[0x00];
    let mut out = vec![METHOD_POST, SCHEME_HTTP];
    let mut literal = |begin: &[u8], texts: &[&str]| {
        out.extend_from_slice(begin);
        for text in texts {
            out.push(u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("our own names are short"));
            out.extend_from_slice(text.as_bytes());
        }
    };
    literal(PATH, &[path]);
    literal(AUTHORITY, &["etcd"]);
    literal(CONTENT_TYPE, &["application/grpc"]);
    literal(NEW_NAME, &["te", "trailers"]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_out_of_bytes() {
        let mut bytes = Vec::new();
        put_settings(&mut bytes, &[(setting::INITIAL_WINDOW_SIZE, 70_000), (9, 1)]);
        let whole = bytes.len();
        put_frame(&mut bytes, kind::WINDOW_UPDATE, 0, 5, &0x8000_0007_u32.to_be_bytes());
        for part in 0..whole {
            assert_eq!(Frame::split(&bytes[..part]), None);
        }
        let first = Frame::split(&bytes).expect("whole");
        assert_eq!((first.kind, first.bytes(), first.stream), (kind::SETTINGS, whole, 0));
        assert_eq!(first.settings().collect::<Vec<_>>(), [(4, 70_000), (9, 1)]);
        let second = Frame::split(&bytes[whole..]).expect("whole");
        assert_eq!((second.stream, second.increment()), (5, 7));
    }
}
