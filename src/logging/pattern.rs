//! How a line looks: strftime's codes for the time (UTC), `%{name}` for the rest; or a JSON object.

use std::fmt;
use std::io::Write as _;
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::record::Line;
use crate::limits;

/// The layout of a line: text, strftime's codes, and `%{level}`, `%{thread}`, `%{file}`, `%{line}`, `%{module}`,
/// `%{logger}`, `%{message}`, each with a least width if wanted: `%{level:5}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// For strftime: codes and text.
    Time(String),
    /// One of the line's fields, padded to this width.
    Field(Field, usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Level,
    Thread,
    File,
    Line,
    Module,
    Logger,
    Message,
}

const FIELDS: [(&str, Field); 7] = [
    ("level", Field::Level),
    ("thread", Field::Thread),
    ("file", Field::File),
    ("line", Field::Line),
    ("module", Field::Module),
    ("logger", Field::Logger),
    ("message", Field::Message),
];

/// `2026-11-23T03:42:13.123456Z INFO  raft raftkv::server: text`.
const DEFAULT: &str = "%Y-%m-%dT%H:%M:%S.%6fZ %{level:5} %{thread} %{logger}: %{message}";

/// Why a text is no pattern; a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError(String);

impl Pattern {
    /// Appends the line, with its end. Nothing in it can begin another line or steer a terminal.
    pub(super) fn render(&self, line: &Line<'_>, out: &mut Vec<u8>) {
        let time = utc(line.at);
        for part in &self.parts {
            match part {
                Part::Time(format) => match jiff::fmt::strtime::format(format, &time) {
                    Ok(text) => out.extend_from_slice(text.as_bytes()),
                    Err(_) => out.push(b'?'),
                },
                Part::Field(field, width) => render_field(*field, *width, line, out),
            }
        }
        out.push(b'\n');
    }
}

fn render_field(field: Field, width: usize, line: &Line<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    match field {
        Field::Level => out.extend_from_slice(line.level.as_str().as_bytes()),
        Field::Thread => escape(line.thread, out),
        Field::File => escape(line.file, out),
        Field::Line => drop(write!(out, "{}", line.line)),
        Field::Module => escape(line.module, out),
        Field::Logger => escape(line.logger, out),
        Field::Message => escape(line.message, out),
    }
    let written = out.len() - start;
    out.resize(out.len() + width.saturating_sub(written), b' ');
}

/// Control characters but tabs appear as `\n`, `\r`, `\u{1b}`, ...: no client can forge a line.
fn escape(text: &str, out: &mut Vec<u8>) {
    let is_control = |c: char| c.is_control() && c != '\t';
    if !text.chars().any(is_control) {
        return out.extend_from_slice(text.as_bytes());
    }
    for c in text.chars() {
        if is_control(c) {
            drop(write!(out, "{}", c.escape_default()));
        } else {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
}

/// Appends the line as one JSON object, with its end.
pub(super) fn render_json(line: &Line<'_>, out: &mut Vec<u8>) {
    let time = utc(line.at).strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
    let fields = [
        ("time", time.as_str()),
        ("level", line.level.as_str()),
        ("thread", line.thread),
        ("logger", line.logger),
        ("module", line.module),
        ("file", line.file),
    ];
    let mut before = b'{';
    for (name, text) in fields {
        out.push(before);
        json_string(name, out);
        out.push(b':');
        json_string(text, out);
        before = b',';
    }
    drop(write!(out, ",\"line\":{},\"message\":", line.line));
    json_string(line.message, out);
    out.extend_from_slice(b"}\n");
}

fn json_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a string can be written to memory");
}

/// The moment as a date; the epoch for what no calendar has.
pub(super) fn utc(nanoseconds: u64) -> Zoned {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or_default().to_zoned(TimeZone::UTC)
}

impl Default for Pattern {
    fn default() -> Pattern {
        DEFAULT.parse().expect("the default pattern is one")
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Pattern, PatternError> {
        if text.len() > limits::LOG_PATTERN_BYTES_MAX {
            return Err(PatternError(format!("a pattern has at most {} bytes", limits::LOG_PATTERN_BYTES_MAX)));
        }
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some(start) = field_start(rest) {
            push_time(&rest[..start], &mut parts)?;
            let inside = &rest[start + 2..];
            let Some(end) = inside.find('}') else { return Err(PatternError("a `%{` has no `}`".to_owned())) };
            parts.push(field(&inside[..end])?);
            rest = &inside[end + 1..];
        }
        push_time(rest, &mut parts)?;
        Ok(Pattern { text: text.to_owned(), parts })
    }
}

/// Where the first `%{` stands that is not the end of `%%`.
fn field_start(text: &str) -> Option<usize> {
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        if byte == b'%' && bytes.next()?.1 == b'{' {
            return Some(at);
        }
    }
    None
}

fn push_time(format: &str, parts: &mut Vec<Part>) -> Result<(), PatternError> {
    if format.is_empty() {
        return Ok(());
    }
    if let Err(error) = jiff::fmt::strtime::format(format, &utc(0)) {
        return Err(PatternError(format!("`{format}`: {error}")));
    }
    parts.push(Part::Time(format.to_owned()));
    Ok(())
}

/// `level` or `level:5`.
fn field(text: &str) -> Result<Part, PatternError> {
    let (name, width) = text.split_once(':').unwrap_or((text, "0"));
    let known = FIELDS.iter().find(|(known, _)| *known == name);
    match (known, width.parse()) {
        (Some((_, field)), Ok(width)) if width <= limits::LOG_FIELD_WIDTH_MAX => Ok(Part::Field(*field, width)),
        (None, _) => {
            let known = FIELDS.map(|(name, _)| name).join(", ");
            Err(PatternError(format!("`%{{{text}}}` is not known; there are {known}")))
        }
        _ => Err(PatternError(format!("`{width}` is not a width from 0 to {}", limits::LOG_FIELD_WIDTH_MAX))),
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PatternError {}

#[cfg(test)]
mod tests {
    use log::Level;

    use super::*;

    const LINE: Line<'_> = Line {
        at: 1_795_472_533_123_456_789, // 2026-11-23T22:22:13.123456789Z
        level: Level::Info,
        thread: "raft",
        logger: "raftkv::server",
        module: "raftkv::server::raft_loop",
        file: "src/server/raft_loop.rs",
        line: 226,
        message: "node 1 leads",
    };

    fn rendered(pattern: &str, line: &Line<'_>) -> String {
        let mut out = Vec::new();
        pattern.parse::<Pattern>().expect("a pattern").render(line, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn the_default_is_rfc_3339_level_thread_logger_and_message() {
        let expected = "2026-11-23T22:22:13.123456Z INFO  raft raftkv::server: node 1 leads\n";
        assert_eq!(rendered(DEFAULT, &LINE), expected);
    }

    #[test]
    fn every_field_and_strftime_s_codes_appear() {
        let pattern = "%a %d %b %y %j 100%% %{file}:%{line:4}|%{module}|%%{x}|%{level:3}";
        let expected = "Mon 23 Nov 26 327 100% src/server/raft_loop.rs:226 |raftkv::server::raft_loop|%{x}|INFO\n";
        assert_eq!(rendered(pattern, &LINE), expected);
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_a_reason() {
        for (pattern, why) in
            [("%{colour}", "colour"), ("%{level", "no `}`"), ("%{level:x}", "width"), ("%{level:99999}", "width")]
        {
            let error = pattern.parse::<Pattern>().expect_err(pattern).to_string();
            assert!(error.contains(why), "{error}");
        }
        assert!("%&".parse::<Pattern>().is_err(), "strftime has no such code");
        assert!("%".parse::<Pattern>().is_err(), "half a code");
    }

    #[test]
    fn a_message_cannot_begin_a_line_or_steer_a_terminal() {
        let line = Line { message: "a\nb\r\x1b[2J\u{9b}ä\tend", ..LINE };
        assert_eq!(rendered("%{message}", &line), "a\\nb\\r\\u{1b}[2J\\u{9b}ä\tend\n");
        let mut json = Vec::new();
        render_json(&line, &mut json);
        assert_eq!(json.iter().filter(|byte| **byte == b'\n').count(), 1);
    }

    #[test]
    fn json_says_the_same() {
        let mut json = Vec::new();
        render_json(&Line { message: "say \"hi\"\n", ..LINE }, &mut json);
        let object: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        let expected = serde_json::json!({
            "time": "2026-11-23T22:22:13.123456Z", "level": "INFO", "thread": "raft", "logger": "raftkv::server",
            "module": "raftkv::server::raft_loop", "file": "src/server/raft_loop.rs", "line": 226,
            "message": "say \"hi\"\n",
        });
        assert_eq!(object, expected);
    }
}
