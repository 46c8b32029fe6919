//! Histories as text, one event a line:
//!
//! ```text
//! # Words for the reader.
//! verdict not linearizable
//! A calls update x one
//! A gets created at 1
//! B calls get x
//! B gets found one revision 1 at 1
//! log 2 update x two
//! ```
//!
//! An operation that gets nothing ended in the unknown; `gets failed` says that it was not executed. `log` names an executed
//! entry of which nobody was told.

use super::by_index::Log;
use super::history::{Action, Answer, Found, History};

/// A history with its verdict.
pub struct Told {
    pub linearizable: bool,
    pub history: History,
    /// Entries that were executed and not answered.
    pub log: Log,
}

/// Reads a text. Panics where it is none: the texts are part of the tests.
pub fn parse(text: &str) -> Told {
    let mut told = Told { linearizable: false, history: History::default(), log: Log::new() };
    let mut open: Vec<(&str, usize)> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["verdict", "linearizable"] => told.linearizable = true,
            ["verdict", "not", "linearizable"] => told.linearizable = false,
            ["log", index, ref action @ ..] => {
                told.log.insert(number(index), self::action(action));
            }
            [client, "calls", ref action @ ..] => {
                open.retain(|(other, _)| *other != client);
                let id = client.bytes().fold(0, |id, byte| id * 256 + u32::from(byte));
                open.push((client, told.history.begin(id, self::action(action))));
            }
            [client, "gets", ref answer @ ..] => {
                let position = open.iter().position(|(other, _)| *other == client).expect("it had called");
                let (_, operation) = open.swap_remove(position);
                end(&mut told.history, operation, answer);
            }
            _ => panic!("not an event: {line}"),
        }
    }
    told
}

fn end(history: &mut History, operation: usize, words: &[&str]) {
    match words {
        ["failed"] => history.not_executed(operation),
        [answer @ .., "at", index] => history.answered(operation, Some(number(index)), self::answer(answer)),
        _ => panic!("an answer names its index: {words:?}"),
    }
}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or_else(|_| panic!("{word} is no number"))
}

fn action(words: &[&str]) -> Action {
    match *words {
        ["put", key, value] => Action::Put { key: key.into(), value: value.into() },
        ["update", key, value] => Action::Update { key: key.into(), value: value.into() },
        ["remove", key] => Action::Remove { key: key.into() },
        ["get", key] => Action::Get { key: key.into() },
        ["cas", key, expected, value] => {
            Action::CompareAndSet { key: key.into(), expected: number(expected), value: value.into() }
        }
        ["increment", key, by] => Action::Increment { key: key.into(), by: by.parse().expect("a number") },
        ["batch", ref rest @ ..] => Action::Batch(rest.split(|word| *word == ";").map(action).collect()),
        _ => panic!("not an action: {words:?}"),
    }
}

fn answer(words: &[&str]) -> Answer {
    match *words {
        ["created"] => Answer::Created,
        ["updated"] => Answer::Updated,
        ["removed"] => Answer::Removed,
        ["exists"] => Answer::Exists,
        ["not-found"] => Answer::NotFound,
        ["mismatch"] => Answer::Mismatch,
        ["done"] => Answer::Done,
        ["number", number] => Answer::Number(number.parse().expect("a number")),
        ["found", value] => Answer::Found(Found::bare(value.into())),
        ["found", value, "revision", revision] => {
            Answer::Found(Found { revision: Some(number(revision)), ..Found::bare(value.into()) })
        }
        ["refused", position, ref rest @ ..] => {
            Answer::Refused { position: number(position) as usize, answer: Box::new(answer(rest)) }
        }
        _ => panic!("not an answer: {words:?}"),
    }
}
