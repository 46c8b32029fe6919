//! What operations do to keys, alone and in batches.

use protocol::command::{self, Batch, Command, Operation};
use protocol::Index;

use super::outcome::{Outcome, Refusal};
use super::skiplist::Writer;
use super::Versioned;
use crate::limits;

const _: () = assert!(limits::BATCH_OPERATIONS_MAX == command::BATCH_OPERATIONS_MAX);

/// What an operation writes to its key.
pub(super) enum Write<'a> {
    Value(&'a [u8]),
    Number(Decimal),
    Tombstone,
}

/// A number as decimal text.
pub(super) struct Decimal {
    /// "-9223372036854775808" is the longest.
    text: [u8; 20],
    start: u8,
}

/// What an operation finds at its key.
#[derive(Clone, Copy)]
struct Found<'a> {
    value: &'a [u8],
    revision: Index,
}

/// Applies a command's operations at `revision`: what became of it, and by how many the number of keys changed.
/// Commands about sessions have none.
pub(super) fn apply(list: &mut Writer, revision: Index, command: &Command<'_>) -> (Outcome, i64) {
    match command {
        Command::Batch(batch) => apply_batch(list, revision, batch),
        _ => match command.operation().map(|operation| apply_one(list, revision, &operation)) {
            Some(Ok((outcome, keys))) => (outcome, keys),
            Some(Err(refusal)) => (refusal.into(), 0),
            None => unreachable!("commands about sessions are executed by the session table"),
        },
    }
}

/// All or nothing: looks first whether every operation can be applied, each seeing those before it, and only then
/// writes. Readers see the whole at once, because it is one revision (C-19).
fn apply_batch(list: &mut Writer, revision: Index, batch: &Batch<'_>) -> (Outcome, i64) {
    if let Err((position, why)) = check_batch(list, revision, batch) {
        let outcome = Outcome::BatchRefused { position, why };
        sabotage!(BatchHalfApplied: {
            let before = batch.operations().take(usize::from(position));
            let keys = before.filter_map(|operation| apply_one(list, revision, &operation).ok()).map(|(_, keys)| keys);
            return (outcome, keys.sum());
        });
        return (outcome, 0);
    }
    let mut keys = 0;
    for (_position, operation) in (0..).zip(batch.operations()) {
        let revision = sabotage!(HalfVisibleEntry, revision, Index(revision.0 + _position.min(1)));
        keys += apply_one(list, revision, &operation).expect("it was checked against the same state").1;
    }
    (Outcome::BatchApplied, keys)
}

/// The first operation that would be refused.
fn check_batch(list: &Writer, revision: Index, batch: &Batch<'_>) -> Result<(), (u8, Refusal)> {
    // What the operations before leave behind; few, so the newest is found by looking from the end.
    let mut written: Vec<(&[u8], Write<'_>)> = Vec::with_capacity(batch.count() as usize);
    for (position, operation) in (0..).zip(batch.operations()) {
        let key = operation.key();
        let found = match written.iter().rev().find(|(written, _)| *written == key) {
            Some((_, write)) => write.value().map(|value| Found { value, revision }),
            None => list.newest(key).map(Found::from),
        };
        let (_, write) = decide(&operation, found).map_err(|why| (position, why))?;
        written.push((key, write));
    }
    Ok(())
}

fn apply_one(list: &mut Writer, revision: Index, operation: &Operation<'_>) -> Result<(Outcome, i64), Refusal> {
    let outcome = list.change(revision.0, operation.key(), |old| match decide(operation, old.map(Found::from)) {
        Ok((outcome, write)) => (Ok(outcome), Some(write)),
        Err(refusal) => (Err(refusal), None),
    })?;
    let keys = match outcome {
        Outcome::Created | Outcome::Number { created: true, .. } => 1,
        Outcome::Removed => -1,
        _ => 0,
    };
    Ok((outcome, keys))
}

/// The table of outcomes.
fn decide<'a>(operation: &Operation<'a>, found: Option<Found<'_>>) -> Result<(Outcome, Write<'a>), Refusal> {
    let written = if found.is_some() { Outcome::Updated } else { Outcome::Created };
    match (*operation, found) {
        (Operation::Put { .. }, Some(_)) => Err(Refusal::Exists),
        (Operation::Put { value, .. } | Operation::Update { value, .. }, _) => Ok((written, Write::Value(value))),
        (Operation::Remove { .. }, Some(_)) => Ok((Outcome::Removed, Write::Tombstone)),
        (Operation::Remove { .. }, None) => Err(Refusal::NotFound),
        (Operation::CompareAndSet { expected, value, .. }, _) => match found.map_or(Index(0), |found| found.revision) {
            revision if revision == expected => Ok((written, Write::Value(value))),
            revision => Err(Refusal::Mismatch(revision)),
        },
        (Operation::Increment { by, .. }, _) => {
            let number = found.map_or(Ok(0), |found| number(found.value))?;
            let sum = number.checked_add(by).ok_or(Refusal::Overflow)?;
            Ok((Outcome::Number { sum, created: found.is_none() }, Write::Number(Decimal::new(sum))))
        }
    }
}

/// A sign, if any, and decimal digits. Every node looks at the value while it applies, so one of a megabyte of zeroes is none.
fn number(value: &[u8]) -> Result<i64, Refusal> {
    if value.len() > limits::NUMBER_BYTES_MAX {
        return Err(Refusal::NotANumber);
    }
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(Refusal::NotANumber)
}

impl<'a> From<Versioned<'a>> for Found<'a> {
    fn from(versioned: Versioned<'a>) -> Self {
        Self { value: versioned.value, revision: versioned.revision }
    }
}

impl Write<'_> {
    /// The value; none if it is a removal.
    pub(super) fn value(&self) -> Option<&[u8]> {
        match self {
            Self::Value(value) => Some(value),
            Self::Number(decimal) => Some(decimal.text()),
            Self::Tombstone => None,
        }
    }
}

impl Decimal {
    fn new(number: i64) -> Self {
        let mut text = [0; 20];
        let mut start = text.len();
        let mut rest = number.unsigned_abs();
        loop {
            start -= 1;
            text[start] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if number < 0 {
            start -= 1;
            text[start] = b'-';
        }
        Self { text, start: start as u8 }
    }

    fn text(&self) -> &[u8] {
        &self.text[usize::from(self.start)..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_they_are_read() {
        for number in [0, 1, -1, 9, 10, -10, 1_234_567_890, i64::MAX, i64::MIN] {
            assert_eq!(Decimal::new(number).text(), number.to_string().as_bytes());
            assert_eq!(super::number(Decimal::new(number).text()), Ok(number));
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for value in [&b""[..], b" 1", b"1 ", b"-", b"1.0", b"0x10", b"9223372036854775808", b"\xff"] {
            assert_eq!(number(value), Err(Refusal::NotANumber), "{value:?}");
        }
        assert_eq!((number(b"+7"), number(b"007")), (Ok(7), Ok(7)));
        let zeroes = [b'0'; limits::NUMBER_BYTES_MAX + 1];
        assert_eq!(
            (number(&zeroes[1..]), number(&zeroes)),
            (Ok(0), Err(Refusal::NotANumber)),
            "so long, and no longer"
        );
    }
}
