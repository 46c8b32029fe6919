//! Exchanges of magazines under loom, on the shipped code:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release --lib pool::loom
//! ```
//!
//! The depot has one place here, so that everybody meets in it. Every look into a magazine is guarded
//! (`sync::Touched`): a model fails when two threads have the same one, or when one does not see what the last
//! owner did.

use std::ptr::NonNull;

use loom::sync::Arc;
use loom::thread;

use super::depot::{Depot, Magazine};
use super::returned::{Link, Returned};

/// A class whose magazines hold one block.
const CLASS: usize = super::class::CLASSES - 1;

fn full(block: usize) -> Box<Magazine> {
    let mut magazine = Magazine::new(CLASS);
    magazine.push(NonNull::without_provenance(block.try_into().expect("not 0")));
    assert!(magazine.is_full());
    magazine
}

/// The blocks of what an exchange of a full magazine came to.
fn left(result: Result<Option<Box<Magazine>>, Box<Magazine>>) -> Vec<usize> {
    match result {
        Ok(empty) => {
            assert!(empty.is_none_or(|mut empty| empty.pop().is_none()), "it is empty");
            Vec::new()
        }
        Err(full) => blocks(full),
    }
}

fn blocks(mut magazine: Box<Magazine>) -> Vec<usize> {
    std::iter::from_fn(|| magazine.pop()).map(|block| block.addr().get()).collect()
}

/// Takes a full one, if there is one.
fn take(depot: &Depot) -> Vec<usize> {
    match depot.full_for_empty(0, Magazine::new(CLASS)) {
        Ok(full) => blocks(full),
        Err(mut empty) => {
            assert!(empty.pop().is_none(), "its own comes back");
            Vec::new()
        }
    }
}

/// Runs both beside each other and beside a third, and finds each of `given` exactly once, in a hand or in the depot.
fn model(given: &'static [usize], sides: [fn(&Depot) -> Vec<usize>; 3]) {
    loom::model(move || {
        let depot = Arc::new(Depot::new());
        let [first, second, third] = sides;
        let others = [first, second].map(|side| {
            let depot = Arc::clone(&depot);
            thread::spawn(move || side(&depot))
        });
        let mut found = third(&depot);
        for other in others {
            found.extend(other.join().expect("no panic"));
        }
        found.extend(depot.clear(0).flat_map(blocks));
        found.sort_unstable();
        assert_eq!(found, given);
    });
}

#[test]
fn no_magazine_is_lost_or_had_twice() {
    model(
        &[8, 16],
        [|depot| left(depot.empty_for_full(0, full(8))), |depot| left(depot.empty_for_full(0, full(16))), take],
    );
}

#[test]
fn two_takers_do_not_get_the_same_one() {
    model(&[8], [take, take, |depot| left(depot.empty_for_full(0, full(8)))]);
}

/// The place holds the same pointer again, full and empty and full, while another one looks at it.
#[test]
fn a_magazine_that_comes_again_is_owned_by_one() {
    let round = |depot: &Depot| {
        let mut magazine = match depot.empty_for_full(0, full(8)) {
            Ok(_) => match depot.full_for_empty(0, Magazine::new(CLASS)) {
                Ok(magazine) => magazine,
                Err(_) => return Vec::new(),
            },
            Err(magazine) => magazine,
        };
        let block = magazine.pop().expect("a full one");
        magazine.push(block);
        left(depot.empty_for_full(0, magazine))
    };
    model(&[8], [take, take, round]);
}

/// Two threads push, one takes all, twice: each block is had once, with what its last owner did to it.
#[test]
fn what_comes_back_is_taken_once() {
    loom::model(|| {
        let returned = Arc::new(Returned::new());
        let push = |returned: &Returned| {
            let link = NonNull::from(Box::leak(Box::new(Link::new())));
            // SAFETY: leaked, and nobody else's; whoever takes it frees it.
            unsafe { returned.push(link) };
        };
        let others = [(); 2].map(|()| {
            let returned = Arc::clone(&returned);
            thread::spawn(move || push(&returned))
        });
        // SAFETY: taken out of the list, once, where only leaked boxes are put.
        let take = || returned.take().map(|link| drop(unsafe { Box::from_raw(link.as_ptr()) })).count();
        let mut taken = take();
        others.into_iter().for_each(|other| other.join().expect("no panic"));
        taken += take();
        assert_eq!(taken, 2);
    });
}
