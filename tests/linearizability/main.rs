//! The two linearizability checkers, and what shows that they can be believed: histories with known verdicts, histories made
//! wrong on purpose, a brute-force search, and each other.
//!
//! `RAFTKV_HISTORIES=DIR` also runs the search over histories of other systems in the form that porcupine tests itself with:
//! `DIR/jepsen/*.log` with `verdicts.tsv`, and `DIR/kv/*-ok.txt`, `*-bad.txt`.

mod brute_force;
mod by_index;
mod external;
mod generate;
mod history;
mod mutations;
mod needed;
mod text;
mod wgl;

use std::path::Path;

use by_index::Log;
use generate::{Generated, Shape};
use history::{Answer, End, History, Operation};
use proptest::prelude::*;
use wgl::Verdict;

/// Steps of a search in these tests, for each part of a history.
const STEPS_MAX: usize = 20_000_000;

/// The log that a history's own answers claim; what ended without an answer is not in it.
fn claimed_log(history: &History) -> Log {
    let claim = |operation: &Operation| match operation.end {
        End::Answered { index: Some(index), .. } if operation.action.writes() => {
            Some((index, operation.action.clone()))
        }
        _ => None,
    };
    history.operations.iter().filter_map(claim).collect()
}

#[test]
fn histories_with_known_verdicts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/linearizability/histories");
    let mut counts = [0, 0];
    for item in std::fs::read_dir(folder).expect("the histories are committed") {
        let path = item.expect("the folder can be listed").path();
        let told = text::parse(&std::fs::read_to_string(&path).expect("it can be read"));
        let mut log = claimed_log(&told.history);
        log.extend(told.log);
        let (by_index, search) = (by_index::check(&told.history, &log), wgl::check(&told.history, STEPS_MAX));
        println!("{}: {by_index:?}, {search:?}", path.display());
        assert_eq!(by_index.is_ok(), told.linearizable, "{}: {by_index:?}", path.display());
        assert_eq!(search == Verdict::Linearizable, told.linearizable, "{}: {search:?}", path.display());
        assert_ne!(search, Verdict::Undecided, "{}", path.display());
        counts[usize::from(told.linearizable)] += 1;
    }
    assert!(counts[0] >= 5 && counts[1] >= 5, "{counts:?}");
}

#[test]
fn external_histories() {
    let Some(folder) = std::env::var_os("RAFTKV_HISTORIES") else {
        println!("SKIPPED external histories: RAFTKV_HISTORIES names no folder with histories and verdicts");
        return;
    };
    let cases = external::cases(Path::new(&folder));
    assert!(!cases.is_empty(), "no histories in {}", Path::new(&folder).display());
    let mut wrong = Vec::new();
    for case in cases {
        let verdict = wgl::check(&case.history, STEPS_MAX);
        let (count, expected) = (case.history.operations.len(), case.linearizable);
        println!("{}: {count} operations, linearizable {expected}; {verdict:?}", case.name);
        let agrees = match verdict {
            Verdict::Linearizable => expected,
            Verdict::Not(_) => !expected,
            Verdict::Undecided => false,
        };
        if !agrees {
            wrong.push(case.name);
        }
    }
    assert!(wrong.is_empty(), "wrong or undecided: {wrong:?}");
}

#[test]
fn both_accept_what_was_executed_in_order() {
    let mut seen = [0_usize; 3];
    for seed in 0..200 {
        let Generated { history, log } = generate::generate(seed, &Shape::broad());
        if let Err(text) = by_index::check(&history, &log) {
            panic!("seed {seed}: {text}\n{history:#?}\n{log:#?}");
        }
        assert_eq!(wgl::check(&history, STEPS_MAX), Verdict::Linearizable, "seed {seed}: {history:#?}");
        let beginning = history.up_to(8);
        assert!(beginning.operations.len() < history.operations.len(), "five keys are named more often");
        assert_eq!(wgl::check(&beginning, STEPS_MAX), Verdict::Linearizable, "seed {seed}: {beginning:#?}");
        for operation in &history.operations {
            seen[match operation.end {
                End::Answered { .. } => 0,
                End::Unknown => 1,
                End::NotExecuted => 2,
            }] += 1;
        }
    }
    assert!(seen.iter().all(|count| *count > 500), "{seen:?}");
}

#[test]
fn mutated_histories_are_rejected() {
    let (mut swapped, mut dropped, mut missed) = (0, 0, Vec::new());
    for seed in 0..60 {
        let Generated { history, log } = generate::generate(seed, &Shape::unique_values());
        for (mutated, kind) in mutations::provably_illegal(seed, &history) {
            match kind {
                mutations::Kind::Swapped => swapped += 1,
                mutations::Kind::Dropped => dropped += 1,
            }
            let (by_index, search) = (by_index::check(&mutated, &log), wgl::check(&mutated, STEPS_MAX));
            if by_index.is_ok() || !matches!(search, Verdict::Not(_)) {
                missed.push((seed, kind, by_index, search));
            }
        }
    }
    println!("{swapped} pairs of reads swapped, {dropped} writes dropped; missed: {missed:?}");
    assert!(swapped >= 200 && dropped >= 200, "swapped {swapped}, dropped {dropped}");
    assert!(missed.len() * 100 <= swapped + dropped, "{missed:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// On tiny histories, right and wrong, the search says what trying every order says.
    #[test]
    fn the_search_agrees_with_brute_force(seed: u64) {
        let Generated { mut history, .. } = generate::generate(seed, &Shape::tiny());
        mutations::disturb(seed, &mut history);
        let order = brute_force::order(&history);
        let verdict = wgl::check(&history, STEPS_MAX);
        prop_assert_eq!(verdict == Verdict::Linearizable, order.is_some(), "{:?}: {:#?}", verdict, history);
    }

    /// What the check by index accepts, the search accepts; and an order that brute force finds is a log that the check by
    /// index accepts.
    #[test]
    fn the_checkers_agree(seed: u64) {
        let Generated { mut history, log } = generate::generate(seed, &Shape::tiny_without_revisions());
        mutations::disturb(seed, &mut history);
        if by_index::check(&history, &log).is_ok() {
            prop_assert_eq!(wgl::check(&history, STEPS_MAX), Verdict::Linearizable, "{:#?}", history);
        }
        match brute_force::order(&history) {
            Some(order) => {
                let log = brute_force::number(&mut history, &order);
                prop_assert_eq!(by_index::check(&history, &log), Ok(()), "{:#?}", history);
            }
            None => prop_assert!(by_index::check(&history, &log).is_err(), "{:#?}", history),
        }
    }
}

#[test]
fn disturbed_histories_are_of_both_kinds() {
    let mut counts = [0, 0];
    for seed in 0..1_000_u64 {
        let Generated { mut history, .. } = generate::generate(seed, &Shape::tiny());
        mutations::disturb(seed, &mut history);
        counts[usize::from(brute_force::order(&history).is_some())] += 1;
    }
    assert!(counts.iter().all(|count| *count >= 100), "the properties above need both kinds: {counts:?}");
}

/// Hundreds of writes of which nobody knows whether they were executed: the search ends all the same, either way.
#[test]
fn many_unknown_ends_do_not_make_the_search_long() {
    const STEPS: usize = 1_000_000;
    for seed in 0..4 {
        let Generated { mut history, .. } = generate::generate(seed, &Shape::forgetful());
        let unknown = history.operations.iter().filter(|op| op.end == End::Unknown && op.action.writes()).count();
        assert!(unknown > 150, "seed {seed}: {unknown}");
        assert_eq!(wgl::check(&history, STEPS), Verdict::Linearizable, "seed {seed}");
        // The last read is told what the first was: of a key's values none comes back.
        let told = |op: &&mut Operation| matches!(op.end, End::Answered { answer: Answer::Found(_), .. });
        let first = history.operations.iter_mut().find(told).expect("reads find values").end.clone();
        let last = history.operations.iter_mut().rev().find(told).expect("reads find values");
        if let (End::Answered { answer, .. }, End::Answered { answer: stale, .. }) = (&mut last.end, first) {
            *answer = stale;
        }
        let verdict = wgl::check(&history, STEPS);
        assert!(matches!(verdict, Verdict::Not(_)), "seed {seed}: {verdict:?}");
    }
}

#[test]
fn a_search_that_takes_too_long_is_undecided() {
    let Generated { history, .. } = generate::generate(1, &Shape::unique_values());
    assert_eq!(wgl::check(&history, 10), Verdict::Undecided);
}
