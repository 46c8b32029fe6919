//! `docs/protocol.md` says what the code does: its tables name every number, and its client works.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use raftkv_protocol::kind::Kind;
use raftkv_protocol::receipt::Stage;
use raftkv_protocol::reply::{Reason, Status};

fn crate_path(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(below)
}

fn document() -> String {
    fs::read_to_string(crate_path("../docs/protocol.md")).expect("the specification is committed")
}

/// The part of the document under a heading.
fn section<'a>(document: &'a str, heading: &str) -> &'a str {
    let start = document.find(heading).unwrap_or_else(|| panic!("no section `{heading}`")) + heading.len();
    let next = ["\n## ", "\n### "].iter().filter_map(|mark| document[start..].find(mark)).min();
    &document[start..next.map_or(document.len(), |next| start + next)]
}

/// The first two cells of each row of a section's tables, headings left out.
fn rows(section: &str) -> Vec<(String, String)> {
    let cells = |line: &str| {
        let mut cells = line.split('|').skip(1).map(|cell| cell.trim().to_owned());
        (cells.next().unwrap_or_default(), cells.next().unwrap_or_default())
    };
    let lines = section.lines().filter(|line| line.starts_with('|')).map(cells);
    lines.filter(|(first, _)| first.starts_with(|c: char| c.is_ascii_digit())).collect()
}

#[test]
fn the_table_of_kinds_is_the_codes() {
    let expected: Vec<(String, String)> =
        Kind::ALL.iter().map(|kind| (format!("{:#04x}", *kind as u8), kind.name().to_owned())).collect();
    assert_eq!(rows(section(&document(), "## 2. Kinds")), expected);
}

#[test]
fn the_table_of_statuses_is_the_codes() {
    let expected: Vec<String> = Status::ALL.iter().map(Status::to_string).collect();
    let document = document();
    let rows = rows(section(&document, "### 5.1 Statuses"));
    let documented: Vec<String> = rows.iter().map(|(number, name)| format!("{number} {name}")).collect();
    let plain: Vec<String> = expected.iter().map(|name| name.replace(" error", "")).collect();
    assert_eq!(documented, plain);
}

#[test]
fn the_table_of_stages_is_the_codes() {
    let expected: Vec<(String, String)> =
        Stage::ALL.iter().map(|stage| (stage.to_wire().to_string(), stage.name().to_owned())).collect();
    let document = document();
    let receipts = section(&document, "### 5.5 Receipts");
    let stages = receipts.split_once("| stage |").expect("a table of stages").1;
    assert_eq!(rows(stages.split_once("\n\n").expect("it ends").0), expected);
}

#[test]
fn the_table_of_reasons_is_the_codes() {
    let expected: Vec<String> = Reason::ALL.iter().map(|reason| (*reason as u16).to_string()).collect();
    let document = document();
    let documented: Vec<String> =
        rows(section(&document, "### 5.2 Reasons")).into_iter().map(|(number, _)| number).collect();
    assert_eq!(documented, expected);
}

#[test]
fn every_file_of_vectors_is_named() {
    let document = document();
    for file in fs::read_dir(crate_path("vectors")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        assert!(document.contains(&format!("| `{name}` |")), "{name} is not in the table of section 9");
    }
}

/// Runs the document's client against the vectors. Another language, and another implementation of every step.
#[test]
fn the_documents_client_agrees_with_the_vectors() {
    let document = document();
    let client = document.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let checks = r##"
import os
def vectors(name):
    lines = [line.strip() for line in open(os.path.join(os.environ["VECTORS"], name))]
    return {k: bytes.fromhex(v) for k, v in (line.split(" = ") for line in lines if line and line[0] != "#")}
requests, replies = vectors("requests.txt"), vectors("replies.txt")
assert hello() == vectors("hello.txt")["hello_client"]
assert put(1, b"hello", b"raftkv") == requests["put"]
assert get(1, b"hello") == requests["get"]
for name in ("hello.txt", "requests.txt", "replies.txt", "peer.txt"):
    for frame in vectors(name).values():
        parse(frame)
assert reply(parse(replies["value"])[1]) == (1, 200, 0, 0, 50, None, b"raftkv")
assert reply(parse(replies["redirect"])[1]) == (1, 302, 1, 0, 0, "127.0.0.1:7420", None)
assert reply(parse(replies["unknown"])[1]) == (1, 504, 6, 2, 0, None, None)
print("agreed")
"##;
    let script = format!("{}\n{checks}", client.replace("__main__", "nobody"));
    let run = Command::new("python3").arg("-c").arg(script).env("VECTORS", crate_path("vectors")).output();
    let Ok(output) = run else {
        eprintln!("no python3 here: the document's client was not run");
        return;
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "agreed\n", "{errors}");
}
