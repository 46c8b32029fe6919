//! Histories made wrong on purpose.

use super::generate::Random;
use super::history::{Action, Answer, End, Found, History, Key, Operation, Value};

/// Mutations of each kind that are tried on one history.
const TRIED: usize = 6;

/// What was done to a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Two reads were given each other's answers.
    Swapped,
    /// A write was left out.
    Dropped,
}

/// Mutations that no order can explain, of a history in which every value is written by one operation only:
///
/// * A write is dropped whose value was read: nobody wrote what was read.
/// * Two reads of a key, the first ended before the second began, are swapped, where the first's value was written, and that
///   answered, before the second's write began. Now the second value comes first, and the first one after it: it would have
///   to be written again.
pub fn provably_illegal(seed: u64, history: &History) -> Vec<(History, Kind)> {
    let (mut swaps, mut drops) = (Vec::new(), Vec::new());
    let reads: Vec<(usize, &Key, &Value)> = history.operations.iter().enumerate().filter_map(read).collect();
    for (first, key, value) in &reads {
        let Some(write) = writer(history, key, value) else { continue };
        drops.push(write);
        for (second, other, later) in &reads {
            let Some(overwrite) = writer(history, other, later) else { continue };
            let [first_read, second_read] = [*first, *second].map(|number| &history.operations[number]);
            let [write, overwrite] = [write, overwrite].map(|number| &history.operations[number]);
            if key == other && before(first_read, second_read) && before(write, overwrite) {
                swaps.push((*first, *second));
            }
        }
    }
    let mut random = Random::new(seed);
    let mut mutated = Vec::new();
    for _ in 0..TRIED {
        if !swaps.is_empty() {
            mutated.push((swapped(history, random.pick(&swaps)), Kind::Swapped));
        }
        if !drops.is_empty() {
            let mut history = history.clone();
            history.operations.remove(random.pick(&drops));
            mutated.push((history, Kind::Dropped));
        }
    }
    mutated
}

/// Changes the answers of some operations; the history may stay linearizable.
pub fn disturb(seed: u64, history: &mut History) {
    let mut random = Random::new(!seed);
    for _ in 0..random.below(3) {
        let answers: Vec<Answer> = history.operations.iter().filter_map(answer).collect();
        let number = random.below(history.operations.len() as u64) as usize;
        let reads = matches!(history.operations[number].action, Action::Get { .. });
        let others: Vec<Answer> = answers
            .into_iter()
            .filter(|answer| reads == matches!(answer, Answer::Found(_)) || *answer == Answer::NotFound)
            .collect();
        if let (End::Answered { answer, .. }, false) = (&mut history.operations[number].end, others.is_empty()) {
            *answer = others[random.below(others.len() as u64) as usize].clone();
        }
    }
}

fn answer(operation: &Operation) -> Option<Answer> {
    match &operation.end {
        End::Answered { answer, .. } => Some(answer.clone()),
        _ => None,
    }
}

fn read((number, operation): (usize, &Operation)) -> Option<(usize, &Key, &Value)> {
    match (&operation.action, &operation.end) {
        (Action::Get { key }, End::Answered { answer: Answer::Found(Found { value, .. }), .. }) => {
            Some((number, key, value))
        }
        _ => None,
    }
}

fn writer(history: &History, key: &Key, value: &Value) -> Option<usize> {
    let mut writers = history.operations.iter().enumerate().filter(|(_, operation)| {
        matches!(&operation.action, Action::Update { key: of, value: written } if of == key && written == value)
    });
    let (writer, _) = writers.next()?;
    assert!(writers.next().is_none(), "values are unique");
    Some(writer)
}

fn before(first: &Operation, second: &Operation) -> bool {
    first.ended().is_some_and(|end| end < second.begin)
}

fn swapped(history: &History, (first, second): (usize, usize)) -> History {
    let mut history = history.clone();
    let answers = [second, first].map(|number| answer(&history.operations[number]).expect("it was answered"));
    for (number, new) in [first, second].into_iter().zip(answers) {
        if let End::Answered { answer, .. } = &mut history.operations[number].end {
            *answer = new;
        }
    }
    history
}
