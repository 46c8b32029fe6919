//! What a snapshot file says about itself, for people.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use serde_json::{json, Value};

use crate::disk::Disk;
use crate::kv::snapshot::{Header, Piece};

use super::reading::Reading;
use super::{SnapshotError, Summary};

/// What a file is.
#[derive(Clone, Debug)]
pub struct Report {
    header: Header,
    summary: Summary,
    /// All of it was read and checked.
    verified: bool,
}

/// Reads header and footer of `file`.
pub fn inspect(file: &Path) -> Result<Report, SnapshotError> {
    inspect_on(&Disk::real(), file)
}

/// Reads and checks all of `file`.
pub fn verify(file: &Path) -> Result<Report, SnapshotError> {
    verify_on(&Disk::real(), file)
}

/// Prints what was found, or why nothing was, and gives the exit code: 9 if the file is damaged.
pub fn show(report: Result<Report, SnapshotError>, json: bool) -> u8 {
    let error = match report {
        Ok(report) if json => return print(&report.json().to_string()),
        Ok(report) => return print(&report.to_string()),
        Err(error) => error,
    };
    let (name, exit, hint) = match error {
        SnapshotError::Damaged { .. } => ("DAMAGED", 9, "an older one, or another node's, may be good"),
        _ => ("LOCAL", 1, "see the system's message above"),
    };
    let what = error.to_string();
    match json {
        false => eprintln!("error[{name}]: {what}\nhint: {hint}"),
        true => eprintln!("{}", json!({ "ok": false, "code": name, "exit": exit, "message": what, "hint": hint })),
    }
    exit
}

/// A reader that has gone away, as `head` does, is no error.
fn print(text: &str) -> u8 {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => 1,
        _ => 0,
    }
}

pub(super) fn inspect_on(disk: &Disk, file: &Path) -> Result<Report, SnapshotError> {
    let header = Reading::open(disk, file.to_owned())?.header()?;
    let summary = Reading::open(disk, file.to_owned())?.summary()?;
    Ok(Report { header, summary, verified: false })
}

pub(super) fn verify_on(disk: &Disk, file: &Path) -> Result<Report, SnapshotError> {
    let mut reading = Reading::open(disk, file.to_owned())?;
    let header = reading.header()?;
    loop {
        if let Piece::End(footer) = reading.next()? {
            let summary = Summary::new(&header, &footer);
            return Ok(Report { header, summary, verified: true });
        }
    }
}

impl Report {
    /// As one JSON object.
    pub fn json(&self) -> Value {
        let Summary { cluster, position, bytes, keys, sessions, hash } = &self.summary;
        json!({
            "verified": self.verified,
            "cluster": format!("{:016x}", cluster.0),
            "node": self.header.node.0,
            "incarnation": format!("{:016x}", self.header.incarnation.0),
            "index": position.id.index.0,
            "term": position.id.term.0,
            "chain": format!("{:016x}", position.chain.0),
            "log_time_ms": position.log_time.0,
            "members": self.header.format.members.iter().map(|member| member.id.0).collect::<Vec<_>>(),
            "keys": keys,
            "sessions": sessions,
            "bytes": bytes,
            "hash": format!("{hash:016x}"),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { cluster, position, bytes, keys, sessions, hash } = &self.summary;
        let members: Vec<String> = self.header.format.members.iter().map(|member| member.id.to_string()).collect();
        writeln!(f, "cluster      {:016x}, members {}", cluster.0, members.join(" "))?;
        writeln!(f, "taken by     node {}, incarnation {:016x}", self.header.node, self.header.incarnation.0)?;
        writeln!(f, "position     index {}, term {}", position.id.index, position.id.term)?;
        writeln!(f, "chain        {:016x}", position.chain.0)?;
        writeln!(f, "log time     {} ms", position.log_time)?;
        writeln!(f, "keys         {keys}")?;
        writeln!(f, "sessions     {sessions}")?;
        writeln!(f, "bytes        {bytes}")?;
        writeln!(f, "hash         {hash:016x}")?;
        match self.verified {
            true => write!(f, "every byte was read and is as it was written"),
            false => write!(f, "header and footer only: `raftkv snapshot verify` reads it all"),
        }
    }
}
