//! A line on its way from the thread that logs to the one that writes: a fixed head, four names, the message.

use std::fmt::{self, Write as _};
use std::io;

use log::{Level, Record};

use crate::limits;

/// Time, level, line number, lengths of the four names.
const HEAD_BYTES: usize = 8 + 1 + 4 + 4;
/// Stands where a message was longer than a line may be.
const CUT: &str = " (cut)";

/// One line, not laid out yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// Nanoseconds since the Unix epoch.
    pub(super) at: u64,
    pub(super) level: Level,
    pub(super) thread: &'a str,
    /// Name of the logger (`log`'s target).
    pub(super) logger: &'a str,
    pub(super) module: &'a str,
    pub(super) file: &'a str,
    /// Line number in `file`.
    pub(super) line: u32,
    pub(super) message: &'a str,
}

/// Appends a record; the message is cut at the longest line. Nothing behind the cut is formatted.
pub(super) fn encode(out: &mut impl io::Write, record: &Record<'_>, at: u64, thread: &str) -> io::Result<()> {
    let names = [thread, record.target(), record.module_path().unwrap_or(""), record.file().unwrap_or("")];
    let names = names.map(|name| prefix(name, limits::LOG_NAME_BYTES_MAX));
    out.write_all(&at.to_le_bytes())?;
    out.write_all(&[record.level() as u8])?;
    out.write_all(&record.line().unwrap_or(0).to_le_bytes())?;
    out.write_all(&names.map(|name| name.len() as u8))?;
    for name in names {
        out.write_all(name.as_bytes())?;
    }
    let mut message = Bounded { out, left: limits::LOG_MESSAGE_BYTES_MAX };
    if write!(message, "{}", record.args()).is_err() {
        out.write_all(CUT.as_bytes())?;
    }
    Ok(())
}

/// Text that ends at a bound.
struct Bounded<'a, W> {
    out: &'a mut W,
    left: usize,
}

impl<W: io::Write> fmt::Write for Bounded<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fits = prefix(text, self.left);
        self.left -= fits.len();
        self.out.write_all(fits.as_bytes()).map_err(|_| fmt::Error)?;
        if fits.len() < text.len() {
            return Err(fmt::Error);
        }
        Ok(())
    }
}

/// At most `bytes` of the text, whole characters.
pub(super) fn prefix(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

impl<'a> Line<'a> {
    /// What `encode` wrote. None: it did not.
    pub(super) fn decode(bytes: &'a [u8]) -> Option<Line<'a>> {
        let (head, mut rest) = bytes.split_at_checked(HEAD_BYTES)?;
        let level = Level::iter().find(|level| *level as u8 == head[8])?;
        let mut names = [""; 4];
        for (name, len) in names.iter_mut().zip(&head[13..]) {
            let (bytes, behind) = rest.split_at_checked(usize::from(*len))?;
            *name = std::str::from_utf8(bytes).ok()?;
            rest = behind;
        }
        let [thread, logger, module, file] = names;
        Some(Line {
            at: u64::from_le_bytes(head[..8].try_into().ok()?),
            level,
            thread,
            logger,
            module,
            file,
            line: u32::from_le_bytes(head[9..13].try_into().ok()?),
            message: std::str::from_utf8(rest).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(message: &str) -> String {
        let mut bytes = Vec::new();
        let args = format_args!("{message}");
        let record = Record::builder().args(args).level(Level::Warn).target("t::u").line(Some(70_000)).build();
        encode(&mut bytes, &record, 17, "raft").expect("a vector takes everything");
        let line = Line::decode(&bytes).expect("just encoded");
        assert_eq!(
            (line.at, line.level, line.thread, line.logger, line.line),
            (17, Level::Warn, "raft", "t::u", 70_000)
        );
        for cut in 0..HEAD_BYTES {
            assert_eq!(Line::decode(&bytes[..cut]), None);
        }
        line.message.to_owned()
    }

    #[test]
    fn a_line_comes_out_as_it_went_in() {
        assert_eq!(through("äöü € 𝄞"), "äöü € 𝄞");
        assert_eq!(through(""), "");
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let long = "€".repeat(limits::LOG_MESSAGE_BYTES_MAX);
        let got = through(&long);
        assert!(got.ends_with("€ (cut)"), "{got}");
        assert!(got.len() <= limits::LOG_MESSAGE_BYTES_MAX + CUT.len());
    }
}
