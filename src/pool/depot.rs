//! Level 2: where caches change magazines. Each class has a few places; a place holds a magazine, full or empty, or
//! nothing. An exchange is one compare-and-swap: whoever wants blocks puts its empty magazine where a full one lay, and
//! whoever has too many does the reverse. Nobody waits for anybody, and a place bounds what the depot holds.
//!
//! What a magazine is (full or empty) is in the lowest bit of its place, so a pointer is never followed before it is
//! owned: that another one came and went meanwhile (ABA) changes nothing, the place then holds what it says.

use std::ptr::{self, NonNull};

use super::class::{class_bytes, CLASSES};
use super::sync::{AtomicPtr, Ordering, Touched};

/// Blocks of a magazine at most; with its length it fills eight cache lines.
const ROUNDS_MAX: usize = 63;
/// Bytes of the blocks of one magazine, unless one block is larger.
const MAGAZINE_BYTES: usize = 16 * 1024;
/// Places of a class: a cache line of them.
const PLACES: usize = if cfg!(loom) { 1 } else { 8 };
/// The mark of a full magazine in its place.
const FULL: usize = 1;

/// Blocks of one class that lie ready, a stack.
#[repr(align(64))]
pub(super) struct Magazine {
    count: u32,
    /// How many it holds when it is full.
    full: u32,
    rounds: [Option<NonNull<u8>>; ROUNDS_MAX],
    touched: Touched,
}

// SAFETY: the blocks are nobody's but the magazine's, and blocks are not bound to a thread.
unsafe impl Send for Magazine {}

/// The places of all classes.
pub(super) struct Depot {
    classes: Box<[Places]>,
}

#[repr(align(64))]
struct Places([AtomicPtr<Magazine>; PLACES]);

/// How many blocks of a class a full magazine holds.
const fn rounds(class: usize) -> usize {
    match MAGAZINE_BYTES / class_bytes(class) {
        0 => 1,
        many if many > ROUNDS_MAX => ROUNDS_MAX,
        some => some,
    }
}

impl Magazine {
    /// An empty one for blocks of `class`.
    pub(super) fn new(class: usize) -> Box<Self> {
        Box::new(Self { count: 0, full: rounds(class) as u32, rounds: [None; ROUNDS_MAX], touched: Touched::new() })
    }

    pub(super) fn len(&self) -> usize {
        self.touched.touch();
        self.count as usize
    }

    pub(super) fn is_full(&self) -> bool {
        self.touched.touch();
        self.count == self.full
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<NonNull<u8>> {
        self.touched.touch();
        self.count = self.count.checked_sub(1)?;
        self.rounds[self.count as usize].take()
    }

    /// Panics if it is full.
    #[inline]
    pub(super) fn push(&mut self, block: NonNull<u8>) {
        assert!(!self.is_full(), "a magazine holds no more than its class allows");
        self.rounds[self.count as usize] = Some(block);
        self.count += 1;
    }
}

impl Depot {
    pub(super) fn new() -> Self {
        let places = |_| Places(std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())));
        Self { classes: (0..if cfg!(loom) { 1 } else { CLASSES }).map(places).collect() }
    }

    /// A full magazine of `class` for an empty one. `Err` gives the empty one back: there is none.
    pub(super) fn full_for_empty(&self, class: usize, empty: Box<Magazine>) -> Result<Box<Magazine>, Box<Magazine>> {
        let given = Box::into_raw(empty);
        for place in &self.classes[class].0 {
            let seen = place.load(Ordering::Relaxed);
            if !is_full(seen) {
                continue;
            }
            if let Some(taken) = exchange(place, seen, given) {
                // SAFETY: taken out of its place, where `empty_for_full` had put a Box with the mark; now it is ours.
                return Ok(unsafe { Box::from_raw(taken.map_addr(|address| address & !FULL)) });
            }
        }
        // SAFETY: made from the Box above, and no place took it.
        Err(unsafe { Box::from_raw(given) })
    }

    /// An empty magazine (or None, where a place was vacant) for a full one. `Err` gives the full one back: the depot
    /// has all that it takes.
    pub(super) fn empty_for_full(
        &self,
        class: usize,
        full: Box<Magazine>,
    ) -> Result<Option<Box<Magazine>>, Box<Magazine>> {
        let given = Box::into_raw(full);
        for place in &self.classes[class].0 {
            let seen = place.load(Ordering::Relaxed);
            if is_full(seen) {
                continue;
            }
            if let Some(taken) = exchange(place, seen, given.map_addr(|address| address | FULL)) {
                // SAFETY: null, or taken out of its place, where `full_for_empty` had put a Box; now it is ours.
                return Ok(NonNull::new(taken).map(|empty| unsafe { Box::from_raw(empty.as_ptr()) }));
            }
        }
        // SAFETY: made from the Box above, and no place took it.
        Err(unsafe { Box::from_raw(given) })
    }

    /// Every magazine of `class` that lies here.
    pub(super) fn clear(&self, class: usize) -> impl Iterator<Item = Box<Magazine>> + '_ {
        let occupied = self.classes[class].0.iter().filter(|place| !place.load(Ordering::Relaxed).is_null());
        occupied.filter_map(|place| {
            let taken = place.swap(ptr::null_mut(), Ordering::AcqRel).map_addr(|address| address & !FULL);
            // SAFETY: null, or a Box that was put there; now it is ours.
            NonNull::new(taken).map(|taken| unsafe { Box::from_raw(taken.as_ptr()) })
        })
    }

    /// Bytes of the blocks that lie here. Exact while nobody exchanges.
    pub(super) fn bytes(&self) -> usize {
        let full = |places: &Places| places.0.iter().filter(|place| is_full(place.load(Ordering::Relaxed))).count();
        let bytes = |(class, places)| full(places) * rounds(class) * class_bytes(class);
        self.classes.iter().enumerate().map(bytes).sum()
    }
}

impl Drop for Depot {
    fn drop(&mut self) {
        (0..self.classes.len()).for_each(|class| self.clear(class).for_each(drop));
    }
}

fn is_full(place: *mut Magazine) -> bool {
    place.addr() & FULL != 0
}

/// Release: what the giver did to its magazine comes before what its next owner does; acquire: the partner, for the one
/// that is taken. What is there now is what is taken, not what was seen: another magazine may have come to lie at the address
/// of one that is gone.
fn exchange(place: &AtomicPtr<Magazine>, seen: *mut Magazine, given: *mut Magazine) -> Option<*mut Magazine> {
    place.compare_exchange(seen, given, Ordering::AcqRel, Ordering::Relaxed).ok()
}
