//! Who may import whom, as a test: no arrow up, none sideways inside a layer.
//!
//! The table is the one in `src/lib.rs` and `docs/architecture.md`. A room is a top-level module of the root crate or a
//! member crate; the test reads the sources as text, so that a forbidden `use` fails even in code that is compiled out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room and the rooms it may name. A room may always name itself.
const ROOMS: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("limits", &[]),
    ("time", &[]),
    ("exit", &[]),
    ("sabotage", &[]),
    ("marks", &[]),
    ("random", &[]),
    ("disk", &["limits", "time", "random"]),
    ("pool", &["limits", "time"]),
    ("mailbox", &["limits", "time"]),
    ("metrics", &["limits", "time"]),
    ("logging", &["limits", "time", "exit"]),
    ("raft", &["protocol", "time", "limits", "random"]),
    ("kv", &["protocol", "pool", "limits"]),
    ("wal", &["protocol", "disk", "limits", "random"]),
    ("net", &["protocol", "pool", "limits"]),
    ("replica", &["raft", "kv", "protocol", "time", "limits"]),
    ("snapshot", &["kv", "disk", "protocol", "limits"]),
    (
        "server",
        &[
            "protocol", "limits", "time", "disk", "pool", "mailbox", "metrics", "logging", "raft", "kv", "wal", "net",
            "replica", "snapshot", "exit", "sabotage", "random",
        ],
    ),
    ("config", &["protocol", "limits", "time", "exit", "logging", "server"]),
    ("main", &["config", "logging", "server", "snapshot", "protocol", "limits", "cli", "client", "bench"]),
    ("client", &["protocol"]),
    ("cli", &["protocol", "client"]),
    ("bench", &["protocol", "client"]),
];

/// Crates of their own; everything else is a module of the root crate.
const MEMBERS: &[(&str, &str)] =
    &[("protocol", "protocol/src"), ("client", "tools/client/src"), ("cli", "tools/cli/src"), ("bench", "bench/src")];

/// Rooms without a thread, clock, socket or file of their own, and what they may not name.
const PURE: &[&str] = &["protocol", "raft", "replica", "kv", "limits", "random"];
const IMPURE: &[&str] =
    &["std::fs", "std::net", "std::time::Instant", "std::time::SystemTime", "std::thread", "std::env", "mio::"];

/// Paths that may hold `unsafe`, and why.
const UNSAFE: &[(&str, &str)] = &[
    ("src/disk", "maps, mincore, O_DIRECT alignment"),
    ("src/wal/segment.rs", "the mapped segment"),
    ("src/kv/", "the skip list"),
    ("src/pool/", "slabs"),
    ("src/mailbox", "batches that change owner"),
    ("src/net/", "socket options, writev"),
    ("src/server/", "signals, clocks"),
    ("src/logging/", "signals"),
    ("tools/cli/src/", "child processes, terminals"),
    ("bench/src/", "storage measurements"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, out: &mut Vec<PathBuf>) {
    let Ok(listing) = fs::read_dir(folder) else { return };
    for item in listing {
        let path = item.expect("the source tree can be listed").path();
        if path.is_dir() {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

/// Every shipped source file with the room that it belongs to. Files named `tests` or `*_tests` are no rooms.
fn sources() -> Vec<(String, PathBuf)> {
    let mut sources = Vec::new();
    for (room, folder) in MEMBERS {
        let mut files = Vec::new();
        rust_files(&root().join(folder), &mut files);
        sources.extend(files.into_iter().map(|file| ((*room).to_owned(), file)));
    }
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    for file in files {
        let inside = file.strip_prefix(root().join("src")).expect("listed below src");
        let first = inside.components().next().expect("a file has a name").as_os_str().to_string_lossy();
        let room = first.trim_end_matches(".rs").to_owned();
        if room != "lib" {
            sources.push((room, file));
        }
    }
    sources.retain(|(_, file)| {
        let below = file.strip_prefix(root()).expect("listed below the root").to_string_lossy().into_owned();
        let stem = file.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        !(stem == "tests" || stem.ends_with("_tests") || below.contains("/tests/"))
    });
    sources
}

/// The lines up to the first test module, without comments.
fn shipped_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.trim_start().starts_with("#[cfg(test)]"))
        .map(|(number, line)| (number + 1, line.split("//").next().unwrap_or("")))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The rooms that a line names: `crate::room`, `crate::{a::.., b}`, or a member crate's path.
fn named_rooms(line: &str, in_root_crate: bool) -> Vec<String> {
    let mut named = Vec::new();
    let prefixes: &[&str] = if in_root_crate { &["crate::", "raftkv::"] } else { &[] };
    for prefix in prefixes {
        for (position, _) in line.match_indices(prefix) {
            if line[..position].chars().next_back().is_some_and(is_word) {
                continue;
            }
            let rest = &line[position + prefix.len()..];
            let list = rest.strip_prefix('{').unwrap_or(rest);
            for head in list.split(',').take(if rest.starts_with('{') { usize::MAX } else { 1 }) {
                let name: String = head.trim().chars().take_while(|c| is_word(*c)).collect();
                if ROOMS.iter().any(|(room, _)| *room == name) {
                    named.push(name);
                }
            }
        }
    }
    for (member, _) in MEMBERS {
        for (position, _) in line.match_indices(&format!("{member}::")) {
            let before = line[..position].chars().next_back();
            if !before.is_some_and(|c| is_word(c) || c == ':' || c == '.') {
                named.push((*member).to_owned());
            }
        }
    }
    named
}

#[test]
fn no_room_imports_upward_or_sideways() {
    let rooms: BTreeMap<&str, &[&str]> = ROOMS.iter().copied().collect();
    let mut wrong = Vec::new();
    let mut arrows = 0;
    for (room, file) in sources() {
        let Some(allowed) = rooms.get(room.as_str()) else {
            wrong.push(format!("{}: `{room}` is not in the table of rooms", file.display()));
            continue;
        };
        let in_root_crate = !MEMBERS.iter().any(|(member, _)| *member == room);
        let text = fs::read_to_string(&file).expect("a listed source file can be read");
        for (number, line) in shipped_lines(&text) {
            for named in named_rooms(line, in_root_crate) {
                arrows += 1;
                if named != room && !allowed.contains(&named.as_str()) {
                    wrong.push(format!("{}:{number}: `{room}` may not import `{named}`", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "forbidden imports:\n{}", wrong.join("\n"));
    assert!(arrows > 20, "found only {arrows} imports: the test no longer sees the code");
}

#[test]
fn pure_rooms_have_no_clock_thread_socket_or_file() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (room, file) in sources() {
        if !PURE.contains(&room.as_str()) && !file.ends_with("wal/record.rs") {
            continue;
        }
        seen += 1;
        let text = fs::read_to_string(&file).expect("a listed source file can be read");
        for (number, line) in shipped_lines(&text) {
            for name in IMPURE {
                if line.contains(name) {
                    wrong.push(format!("{}:{number}: a pure room names `{name}`", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "impure rooms:\n{}", wrong.join("\n"));
    assert!(seen > 10, "found only {seen} pure files: the test no longer sees the code");
}

#[test]
fn unsafe_stays_in_the_rooms_that_need_it() {
    let mut wrong = Vec::new();
    for (_, file) in sources() {
        let below = file.strip_prefix(root()).expect("listed below the root").to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).expect("a listed source file can be read");
        for (number, line) in shipped_lines(&text) {
            let found = line.split(|c| !is_word(c)).any(|word| word == "unsafe");
            if found && !UNSAFE.iter().any(|(path, _)| below.starts_with(path)) {
                wrong.push(format!("{below}:{number}: unsafe outside the rooms that need it"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_import_check_sees_a_forbidden_import() {
    assert_eq!(named_rooms("use crate::server::Io;", true), ["server"]);
    assert_eq!(named_rooms("use crate::{wal::Wal, time::Time};", true), ["wal", "time"]);
    assert_eq!(named_rooms("    let x = protocol::Term(1);", true), ["protocol"]);
    assert_eq!(named_rooms("use crate::server::Io;", false), Vec::<String>::new());
    assert_eq!(shipped_lines("a\n#[cfg(test)]\nb").count(), 1);
}
