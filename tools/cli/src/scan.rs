//! scan: keys in bytewise order, as of one moment.

use std::io::{BufWriter, Write};
use std::process::ExitCode;

use client::{Client, ScanOptions};
use serde_json::json;

use crate::args::{Globals, Output, ScanArgs};
use crate::report::Report;
use crate::{exit, json, output, text};

/// The range of keys that begin with `prefix`, cut to `from..to`; an empty `to` is no end.
pub(crate) fn range(prefix: &[u8], from: Option<Vec<u8>>, to: Option<Vec<u8>>) -> (Vec<u8>, Vec<u8>) {
    let from = from.unwrap_or_default().max(prefix.to_vec());
    let mut end = prefix.to_vec();
    while end.last() == Some(&0xff) {
        end.pop();
    }
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    let to = match to {
        Some(to) if end.is_empty() || to < end => to,
        _ => end,
    };
    (from, to)
}

/// The bounds of a scan as they were typed.
fn options(arguments: &ScanArgs) -> Result<ScanOptions, Report> {
    let part = |typed: &Option<String>| typed.as_deref().map(text::parse).transpose().map_err(Report::usage);
    let typed = [&arguments.prefix, &arguments.from, &arguments.to];
    if typed.iter().filter(|part| part.as_deref() == Some("-")).count() > 1 {
        return Err(Report::usage("only one of PREFIX, --from and --to can be standard input"));
    }
    let prefix = part(&arguments.prefix)?.unwrap_or_default();
    let (from, to) = range(&prefix, part(&arguments.from)?, part(&arguments.to)?);
    let limit = arguments.limit.unwrap_or(0);
    Ok(ScanOptions { from, to, limit, keys_only: arguments.keys_only, ..ScanOptions::default() })
}

pub(crate) fn run(client: &mut Client, globals: &Globals, arguments: &ScanArgs) -> Result<ExitCode, Report> {
    let options = options(arguments)?;
    if arguments.limit == Some(0) || (!options.to.is_empty() && options.from >= options.to) {
        if arguments.count {
            output::line("0")?;
        }
        return Ok(ExitCode::from(exit::DONE));
    }
    if arguments.count {
        let (count, revision) = client.count(&options).map_err(|error| Report::of(&error, "scan"))?;
        let count = if options.limit == 0 { count } else { count.min(options.limit) };
        let shown = match globals.output {
            Output::Text => count.to_string(),
            Output::Json => json!({ "ok": true, "count": count, "revision": revision.0 }).to_string(),
        };
        output::line(&shown)?;
        return Ok(ExitCode::from(exit::DONE));
    }
    let keys_only = options.keys_only;
    let mut out = BufWriter::new(std::io::stdout().lock());
    for item in client.scan(options).map_err(|error| Report::of(&error, "scan"))? {
        let item = match item {
            Ok(item) => item,
            Err(error) => {
                // What came before stands; the error says that it is not all.
                output::check(out.flush())?;
                return Err(Report::of(&error, "scan"));
            }
        };
        let line = match (globals.output, keys_only) {
            (Output::Text, true) => text::show(&item.key),
            (Output::Text, false) => format!("{}\t{}", text::show(&item.key), text::show(&item.entry.value)),
            (Output::Json, true) => json!({ "key": json::from_bytes(&item.key) }).to_string(),
            (Output::Json, false) => json!({
                "key": json::from_bytes(&item.key),
                "value": json::from_bytes(&item.entry.value),
                "revision": item.entry.revision.0,
                "create_revision": item.entry.create_revision.0,
                "version": item.entry.version,
            })
            .to_string(),
        };
        output::check(writeln!(out, "{line}"))?;
    }
    output::check(out.flush())?;
    Ok(ExitCode::from(exit::DONE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_and_bounds_make_one_range() {
        let bytes = |text: &str| Some(text.as_bytes().to_vec());
        assert_eq!(range(b"a", None, None), (b"a".to_vec(), b"b".to_vec()));
        assert_eq!(range(b"", None, None), (vec![], vec![]));
        assert_eq!(range(b"a\xff", None, None), (b"a\xff".to_vec(), b"b".to_vec()));
        assert_eq!(range(b"\xff\xff", None, None), (b"\xff\xff".to_vec(), vec![]));
        assert_eq!(range(b"a", bytes("ab"), bytes("ac")), (b"ab".to_vec(), b"ac".to_vec()));
        assert_eq!(range(b"a", bytes("A"), bytes("z")), (b"a".to_vec(), b"b".to_vec()));
        assert_eq!(range(b"", None, bytes("k")), (vec![], b"k".to_vec()));
    }
}
