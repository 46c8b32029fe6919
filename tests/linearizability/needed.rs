//! Values that somebody was told: as long as one of the reads that were is still to come, the value must be there or must
//! have a write left. A way on which it has neither leads nowhere, however long it goes on.

use std::collections::BTreeMap;

use super::history::{Action, Answer, End, Key, Operation, Value};

/// The values of one part of a history.
#[derive(Debug, Default)]
pub struct Needed {
    told: BTreeMap<(Key, Value), Told>,
}

/// Whom a value was told, and who writes it.
#[derive(Debug, Default)]
struct Told {
    /// The reads, by their place among the answered operations, in order.
    readers: Vec<usize>,
    writers: Vec<Writer>,
}

/// Who may write a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// The answered operation of this place.
    Answered(usize),
    /// One of these equal operations with an unknown end.
    Unknown(usize),
}

impl Needed {
    /// Of answered operations, by place, and of the kinds of those with an unknown end. Values that can come about without
    /// being named (sums, what is appended to) are left out.
    pub fn new<'a>(answered: impl Iterator<Item = &'a Operation> + Clone, unknown: &[&Action]) -> Self {
        let named = answered.clone().map(|operation| &operation.action).chain(unknown.iter().copied());
        let (mut sums, mut appends) = (false, false);
        for action in named.flat_map(singles) {
            sums |= matches!(action, Action::Increment { .. });
            appends |= matches!(action, Action::Append { .. });
        }
        let mut needed = Self::default();
        for (place, operation) in answered.clone().enumerate() {
            let End::Answered { answer: Answer::Found(found), .. } = &operation.end else { continue };
            let Action::Get { key } = &operation.action else { continue };
            let unnamed = appends || (sums && is_number(&found.value));
            if !unnamed {
                needed.told.entry((key.clone(), found.value.clone())).or_default().readers.push(place);
            }
        }
        for (place, operation) in answered.enumerate() {
            needed.add_writer(&operation.action, Writer::Answered(place));
        }
        for (kind, action) in unknown.iter().enumerate() {
            needed.add_writer(action, Writer::Unknown(kind));
        }
        needed
    }

    fn add_writer(&mut self, action: &Action, writer: Writer) {
        for written in singles(action).filter_map(written) {
            if let Some(told) = self.told.get_mut(&written) {
                told.writers.push(writer);
            }
        }
    }

    /// Whether nothing can show `value` any more to somebody who was told it: `to_come` says which answered operations are
    /// still to come, `left` which writers.
    pub fn is_lost(
        &self,
        key: &Key,
        value: &Value,
        to_come: impl Fn(usize) -> bool,
        left: impl Fn(Writer) -> bool,
    ) -> bool {
        self.told.get(&(key.clone(), value.clone())).is_some_and(|told| {
            told.readers.iter().rev().any(|reader| to_come(*reader)) && !told.writers.iter().any(|writer| left(*writer))
        })
    }

    /// The reads of a value, in order.
    pub fn readers(&self, key: &Key, value: &Value) -> &[usize] {
        self.told.get(&(key.clone(), value.clone())).map_or(&[], |told| &told.readers)
    }
}

/// What an action does, one key at a time.
fn singles(action: &Action) -> impl Iterator<Item = &Action> {
    match action {
        Action::Batch(actions) => actions.iter(),
        single => std::slice::from_ref(single).iter(),
    }
}

fn written(action: &Action) -> Option<(Key, Value)> {
    match action {
        Action::Put { key, value }
        | Action::Update { key, value }
        | Action::CompareAndSet { key, value, .. }
        | Action::Replace { key, value, .. } => Some((key.clone(), value.clone())),
        _ => None,
    }
}

fn is_number(value: &Value) -> bool {
    std::str::from_utf8(value).is_ok_and(|text| text.parse::<i64>().is_ok())
}
