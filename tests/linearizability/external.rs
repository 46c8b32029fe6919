//! Histories of other systems, in the forms in which porcupine (github.com/anishathalye/porcupine) keeps its test data.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::history::{Action, Answer, Found, History, Value};

/// One history with what is known about it.
pub struct Case {
    pub name: String,
    pub history: History,
    pub linearizable: bool,
}

/// All cases of a folder, by name.
pub fn cases(folder: &Path) -> Vec<Case> {
    let mut cases = Vec::new();
    let verdicts = std::fs::read_to_string(folder.join("jepsen/verdicts.tsv")).expect("jepsen/verdicts.tsv");
    for line in verdicts.lines() {
        let (name, verdict) = line.split_once('\t').expect("a name, a tab and a verdict");
        let history = register(&read(&folder.join("jepsen").join(name)));
        cases.push(Case { name: name.to_owned(), history, linearizable: verdict.trim() == "true" });
    }
    for path in files(&folder.join("kv")) {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        cases.push(Case { history: map(&read(&path)), linearizable: name.contains("-ok"), name });
    }
    cases
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let listing = std::fs::read_dir(folder).expect("the kv histories");
    let mut paths: Vec<PathBuf> = listing.map(|item| item.expect("it can be listed").path()).collect();
    paths.sort();
    paths
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The log of a Jepsen test of one register: `INFO  jepsen.util - 3  :invoke  :cas  [3 0]`.
fn register(text: &str) -> History {
    let mut history = History::default();
    let mut open: BTreeMap<&str, usize> = BTreeMap::new();
    for line in text.lines() {
        let Some((_, event)) = line.split_once("jepsen.util - ") else { continue };
        let words: Vec<&str> = event.split(['\t', ' ']).filter(|word| !word.is_empty()).collect();
        let [process, kind, verb, ref rest @ ..] = words[..] else { panic!("not an event: {line}") };
        if kind == ":invoke" {
            open.insert(process, history.begin(process.parse().expect("a number"), register_action(verb, rest)));
            continue;
        }
        let operation = open.remove(process).expect("it was invoked");
        match (kind, verb, rest) {
            (":ok", ":read", [value]) => history.answered(operation, None, found(value)),
            (":ok", _, _) => history.answered(operation, None, Answer::Done),
            (":fail", ":cas", _) => history.answered(operation, None, Answer::Mismatch),
            // A read that timed out tells nothing; a write may be executed at any time.
            (":fail", ":read", _) | (":info", ..) => {}
            _ => panic!("not an end: {line}"),
        }
    }
    history
}

fn register_action(verb: &str, rest: &[&str]) -> Action {
    let key = "register".into();
    match (verb, rest) {
        (":read", _) => Action::Get { key },
        (":write", [value]) => Action::Update { key, value: bytes(value) },
        (":cas", [expected, value]) => Action::Replace { key, expected: bytes(expected), value: bytes(value) },
        _ => panic!("not an operation: {verb} {rest:?}"),
    }
}

fn bytes(word: &str) -> Value {
    word.trim_matches(['[', ']']).into()
}

fn found(word: &str) -> Answer {
    match word {
        "nil" => Answer::NotFound,
        value => Answer::Found(Found::bare(bytes(value))),
    }
}

/// Events of a map: `{:process 0, :type :invoke, :f :append, :key "0", :value "x 0 0 y"}`. A missing key is empty.
fn map(text: &str) -> History {
    let mut history = History::default();
    let mut open: BTreeMap<&str, usize> = BTreeMap::new();
    for line in text.lines() {
        let field = |name: &str| {
            let (_, rest) = line.split_once(&format!(":{name} ")).unwrap_or_else(|| panic!("no {name}: {line}"));
            match rest.strip_prefix('"') {
                Some(quoted) => quoted.split('"').next().expect("it is quoted"),
                None => rest.split([',', '}']).next().expect("it has an end"),
            }
        };
        let (process, value) = (field("process"), field("value"));
        if field("type") == ":invoke" {
            let key = field("key").into();
            let action = match field("f") {
                ":get" => Action::Get { key },
                ":put" => Action::Update { key, value: bytes(value) },
                ":append" => Action::Append { key, value: bytes(value) },
                verb => panic!("not an operation: {verb}"),
            };
            open.insert(process, history.begin(process.parse().expect("a number"), action));
            continue;
        }
        let answer = match (field("f"), value) {
            (":get", "") => Answer::NotFound,
            (":get", value) => found(value),
            _ => Answer::Done,
        };
        history.answered(open.remove(process).expect("it was invoked"), None, answer);
    }
    history
}
