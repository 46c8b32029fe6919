//! Every order of a tiny history, tried one after the other: slow, and plainly right.

use super::by_index::Log;
use super::history::{End, History, Operation};
use super::wgl::{step, State};

/// An order of operations, by number, that explains all answers; unknown ones that had no effect are missing.
pub fn order(history: &History) -> Option<Vec<usize>> {
    let mut order = Vec::new();
    extend(history, &State::default(), &mut order).then_some(order)
}

fn extend(history: &History, state: &State, order: &mut Vec<usize>) -> bool {
    let left = |number: &usize| !order.contains(number);
    let all = 0..history.operations.len();
    let waiting: Vec<usize> =
        all.clone().filter(left).filter(|number| answered(&history.operations[*number])).collect();
    if waiting.is_empty() {
        return true;
    }
    let first_end = waiting.iter().filter_map(|number| history.operations[*number].ended()).min();
    let next: Vec<usize> = all.filter(left).collect();
    for number in next {
        let operation = &history.operations[number];
        let (index, answer) = match &operation.end {
            End::Answered { index, answer, .. } => (*index, Some(answer)),
            End::Unknown => (None, None),
            End::NotExecuted => continue,
        };
        if first_end.is_some_and(|end| end < operation.begin) {
            continue;
        }
        if let Some(state) = step(state, &operation.action, index, answer) {
            order.push(number);
            if extend(history, &state, order) {
                return true;
            }
            order.pop();
        }
    }
    false
}

fn answered(operation: &Operation) -> bool {
    matches!(operation.end, End::Answered { .. })
}

/// Gives the answered operations the indexes that an order implies, and returns the log of that order.
pub fn number(history: &mut History, order: &[usize]) -> Log {
    let mut log = Log::new();
    let mut last = 0;
    for number in order {
        let operation = &mut history.operations[*number];
        if operation.action.writes() {
            last += 1;
            log.insert(last, operation.action.clone());
        }
        if let End::Answered { index, .. } = &mut operation.end {
            *index = Some(last);
        }
    }
    log
}
