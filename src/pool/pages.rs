//! Level 3: spans of memory from the system, cut into slabs of blocks of one class.
//!
//! ```text
//!  Span  2 MiB at a multiple of 2 MiB: 256 pages of 8 KiB, the first of which describes the others
//!  Slab  1 to 32 adjacent pages of a span: blocks of one class, and at most 1/32 left over
//! ```
//!
//! A block is found back by its address: the span by rounding down, the slab by its page. A slab without blocks in use
//! gives its pages back to the span at once. A span without slabs goes back to the system, but for one per eight that are
//! in use, at least one, so that a use that goes up and down does not map and unmap. Huge pages are advised from
//! the second span on: who needs less than one span should not be given 2 MiB. What a
//! list takes from its fifth on is touched already, if the supply of the process (`ahead`) has one ready.
//!
//! Larger blocks are mappings of their own; some that came back lie ready.
//!
//! Before more is mapped than may be given, all that lies idle goes back. So what is mapped exceeds the limit by no more than
//! what lies free in spans that are in use, and their descriptions.

use std::ptr::{self, NonNull};

use super::ahead::{ASKING_SPANS_MIN, SUPPLY};
use super::class::{class_bytes, class_for, CLASSES, CLASS_BYTES_MAX};
use super::depot::Magazine;
use super::system::{self, SYSTEM_PAGE_BYTES};

/// Bytes of a span, and what its address is a multiple of: a huge page.
pub(super) const SPAN_BYTES: usize = 2 * 1024 * 1024;
const PAGE_BYTES: usize = 8 * 1024;
/// Pages of a span, the first one included.
const PAGES: usize = SPAN_BYTES / PAGE_BYTES;
/// Pages of a slab of small blocks: a span has room for 51 such slabs, and nothing is left.
const SMALL_SLAB_PAGES: usize = 5;
const SLAB_PAGES_MAX: usize = 32;
/// Spans that are looked through for pages before another one is mapped: so many of those that were opened last, and as many
/// where the last search ended.
const LOOKS_MAX: usize = 8;
/// For so many spans in use one may lie idle.
const SPANS_PER_IDLE: usize = 8;
/// Bytes of large blocks that lie ready for use.
const LARGE_KEPT_BYTES: usize = 4 * 1024 * 1024;

/// Pages of the slabs of each class.
const SLAB_PAGES: [u8; CLASSES] = {
    let mut pages = [0; CLASSES];
    let mut class = 0;
    while class < CLASSES {
        pages[class] = slab_pages(class_bytes(class)) as u8;
        class += 1;
    }
    pages
};

/// The first page of a span.
#[repr(C)]
struct Span {
    /// A bit for each page that is in no slab; never the first page's.
    free: [u64; PAGES / 64],
    /// Where it is in [`Pages::open`], while a page is free.
    place: usize,
    /// For each page in a slab: the first page of that slab.
    first: [u8; PAGES],
    /// By their first pages.
    slabs: [Slab; PAGES],
}

/// Blocks of one class.
#[derive(Clone, Copy)]
struct Slab {
    /// Neighbours in the list of its class, while it has a block to give.
    next: *mut Slab,
    previous: *mut Slab,
    /// A block that came back, counted from 1; there the next one is named. 0: none.
    free: u16,
    /// Blocks that were ever given; behind them all is untouched.
    begun: u16,
    /// Blocks that are given and did not come back.
    used: u16,
    class: u8,
}

const _: () = assert!(size_of::<Span>() <= PAGE_BYTES);
const _: () = assert!(CLASSES <= 1 << u8::BITS && PAGES <= 1 << u8::BITS);
const _: () = assert!(SMALL_SLAB_PAGES * PAGE_BYTES / class_bytes(0) < 1 << u16::BITS);
const _: () = assert!(SPAN_BYTES - PAGE_BYTES >= CLASS_BYTES_MAX);

/// All spans of one heap. Drops what is idle; blocks in use keep their spans mapped.
pub(super) struct Pages {
    /// Slabs with a block to give, by class; lists in both directions.
    partial: [*mut Slab; CLASSES],
    /// Spans with a free page and one that is not.
    open: Vec<NonNull<Span>>,
    /// Where in `open` the next search goes on, so that all are looked through in time.
    look_at: usize,
    /// Spans of which all pages are free.
    idle: Vec<NonNull<Span>>,
    /// All spans.
    spans: usize,
    /// Large blocks that came back, with their lengths.
    large: Vec<(NonNull<u8>, usize)>,
    /// Bytes of large blocks, in use or not.
    large_bytes: usize,
    /// Bytes of the blocks that are given.
    given: usize,
    /// Most bytes that may be given.
    limit: usize,
    /// It takes spans that were touched ahead.
    grows: bool,
}

// SAFETY: it owns what it points to, and none of that is bound to a thread.
unsafe impl Send for Pages {}

impl Pages {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            partial: [ptr::null_mut(); CLASSES],
            open: Vec::new(),
            look_at: 0,
            idle: Vec::new(),
            spans: 0,
            large: Vec::new(),
            large_bytes: 0,
            given: 0,
            limit,
            grows: false,
        }
    }

    /// For what grows as long as it is used, and whose user nobody should wait for: it takes spans that were touched ahead.
    pub(super) fn growing(limit: usize) -> Self {
        let mut pages = Self::new(limit);
        pages.grows = true;
        pages
    }

    /// Bytes that the system has given.
    pub(super) fn mapped(&self) -> usize {
        self.spans * SPAN_BYTES + self.large_bytes
    }

    /// Bytes of the blocks that are given: in use, or in a magazine.
    pub(super) fn given(&self) -> usize {
        self.given
    }

    /// A block of any size. None: the limit is reached, or the system has no more.
    pub(super) fn take(&mut self, bytes: usize) -> Option<NonNull<u8>> {
        match bytes <= CLASS_BYTES_MAX {
            true => self.take_of(class_for(bytes)),
            false => self.take_large(bytes),
        }
    }

    /// # Safety
    /// The block came from these pages for as many bytes, and nobody uses it.
    pub(super) unsafe fn give(&mut self, block: NonNull<u8>, bytes: usize) {
        // SAFETY: passed on.
        unsafe {
            match bytes <= CLASS_BYTES_MAX {
                true => self.give_to(class_for(bytes), block),
                false => self.give_large(block, bytes),
            }
        }
    }

    /// Fills a magazine of `class`; less if the limit is reached or the system has no more.
    pub(super) fn fill(&mut self, class: usize, magazine: &mut Magazine) {
        while !magazine.is_full() {
            let Some(block) = self.take_of(class) else { return };
            magazine.push(block);
        }
    }

    /// Takes all blocks of a magazine back.
    ///
    /// # Safety
    /// They came from these pages as blocks of `class`, and nobody uses them.
    pub(super) unsafe fn empty(&mut self, class: usize, magazine: &mut Magazine) {
        while let Some(block) = magazine.pop() {
            // SAFETY: passed on.
            unsafe { self.give_to(class, block) };
        }
    }

    fn take_of(&mut self, class: usize) -> Option<NonNull<u8>> {
        if self.given + class_bytes(class) > self.limit {
            return None;
        }
        let slab = NonNull::new(self.partial[class]).or_else(|| self.new_slab(class))?;
        // SAFETY: what is in the list of `partial` is a slab with a block to give.
        Some(unsafe { self.take_from(slab) })
    }

    /// A block of more than the largest class.
    pub(super) fn take_large(&mut self, bytes: usize) -> Option<NonNull<u8>> {
        let bytes = large_bytes(bytes)?;
        if self.given.checked_add(bytes)? > self.limit {
            return None;
        }
        let kept = self.large.iter().position(|&(_, kept)| kept == bytes);
        let block = match kept {
            Some(place) => self.large.swap_remove(place).0,
            None => {
                self.make_room(bytes);
                let block = system::map(bytes, SYSTEM_PAGE_BYTES)?;
                self.large_bytes += bytes;
                block
            }
        };
        self.given += bytes;
        Some(block)
    }

    /// # Safety
    /// The block came from [`Pages::take_large`] for as many bytes, and nobody uses it.
    pub(super) unsafe fn give_large(&mut self, block: NonNull<u8>, bytes: usize) {
        let bytes = large_bytes(bytes).expect("it was given for as many");
        self.given -= bytes;
        self.large.push((block, bytes));
        // The oldest make room.
        while self.large.iter().map(|&(_, bytes)| bytes).sum::<usize>() > LARGE_KEPT_BYTES {
            let (block, bytes) = self.large.remove(0);
            self.unmap_large(block, bytes);
        }
    }

    /// Gives back to the system what lies idle.
    pub(super) fn trim(&mut self) {
        for (block, bytes) in std::mem::take(&mut self.large) {
            self.unmap_large(block, bytes);
        }
        self.unmap_idle(0);
    }

    fn unmap_large(&mut self, block: NonNull<u8>, bytes: usize) {
        self.large_bytes -= bytes;
        // SAFETY: it was mapped in this length, came back, and is in no list anymore.
        unsafe { system::unmap(block, bytes) };
    }

    /// # Safety
    /// `slab` is in the list of its class.
    unsafe fn take_from(&mut self, slab: NonNull<Slab>) -> NonNull<u8> {
        // SAFETY: a slab in a list lies in a mapped span, and `self` is borrowed alone. A block that came back holds the
        // number of the next one in its first bytes, and blocks are at least eight bytes, all even: aligned for it.
        unsafe {
            let this = slab.as_ptr();
            let bytes = class_bytes(usize::from((*this).class));
            let (start, blocks) = extent(slab);
            let block = match (*this).free {
                0 => {
                    (*this).begun += 1;
                    start.add(usize::from((*this).begun - 1) * bytes)
                }
                number => {
                    let block = start.add(usize::from(number - 1) * bytes);
                    (*this).free = block.cast::<u16>().read();
                    block
                }
            };
            (*this).used += 1;
            self.given += bytes;
            if (*this).free == 0 && usize::from((*this).begun) == blocks {
                self.unlink(slab);
            }
            block
        }
    }

    /// # Safety
    /// The block came from these pages as one of `class`, and nobody uses it.
    unsafe fn give_to(&mut self, class: usize, block: NonNull<u8>) {
        // SAFETY: the block lies in a slab of a mapped span, at a multiple of its class, and is ours now; see `take_from`.
        unsafe {
            let slab = slab_of(block);
            let this = slab.as_ptr();
            assert!(usize::from((*this).class) == class && (*this).used > 0, "a block came back that was not given");
            let bytes = class_bytes(class);
            let (start, blocks) = extent(slab);
            let was_full = (*this).free == 0 && usize::from((*this).begun) == blocks;
            let number = (block.addr().get() - start.addr().get()) / bytes;
            block.cast::<u16>().write((*this).free);
            (*this).free = number as u16 + 1;
            (*this).used -= 1;
            self.given -= bytes;
            match ((*this).used, was_full) {
                (0, _) => {
                    if !was_full {
                        self.unlink(slab);
                    }
                    self.free_slab(slab);
                }
                (_, true) => self.link(slab),
                (_, false) => {}
            }
        }
    }

    /// A slab of `class` in its list.
    fn new_slab(&mut self, class: usize) -> Option<NonNull<Slab>> {
        let pages = usize::from(SLAB_PAGES[class]);
        let (span, first) = match self.find_pages(pages) {
            Some(found) => found,
            None => (self.open_span()?, 1),
        };
        // SAFETY: a mapped span with these pages free, and `self` is borrowed alone.
        unsafe {
            let this = span.as_ptr();
            (*this).take(first, pages);
            if (*this).is_full() {
                self.close(span);
            }
            (*this).slabs[first] = Slab { class: class as u8, ..NO_SLAB };
            let slab = NonNull::new_unchecked(&raw mut (*this).slabs[first]);
            self.link(slab);
            Some(slab)
        }
    }

    /// # Safety
    /// The slab has no blocks in use and is in no list.
    unsafe fn free_slab(&mut self, slab: NonNull<Slab>) {
        // SAFETY: it lies in a mapped span; `self` is borrowed alone.
        unsafe {
            let span = span_of(slab.cast());
            let first = slab_number(slab);
            let pages = usize::from(SLAB_PAGES[usize::from(slab.as_ref().class)]);
            let this = span.as_ptr();
            if (*this).is_full() {
                self.open(span);
            }
            (*this).give(first, pages);
            if (*this).is_idle() {
                self.close(span);
                self.idle.push(span);
                let in_use = self.spans - self.idle.len();
                self.unmap_idle((in_use / SPANS_PER_IDLE).max(1));
            }
        }
    }

    /// Adjacent free pages, in one of the spans that were opened last, or in one of the others in their turn.
    fn find_pages(&mut self, pages: usize) -> Option<(NonNull<Span>, usize)> {
        // SAFETY: a mapped span, and nobody changes it while `self` is borrowed.
        let find = |span: NonNull<Span>| unsafe { span.as_ref() }.find(pages).map(|first| (span, first));
        let newest = self.open.iter().rev().take(LOOKS_MAX).find_map(|span| find(*span));
        if newest.is_some() {
            return newest;
        }
        for _ in 0..LOOKS_MAX.min(self.open.len()) {
            self.look_at = if self.look_at < self.open.len() { self.look_at } else { 0 };
            let found = find(self.open[self.look_at]);
            if found.is_some() {
                return found; // there may be more in it
            }
            self.look_at += 1;
        }
        None
    }

    /// A span of free pages, in `open`.
    fn open_span(&mut self) -> Option<NonNull<Span>> {
        let span = match self.idle.pop() {
            Some(span) => span,
            None => self.map_span()?,
        };
        self.open(span);
        Some(span)
    }

    /// So many bytes are about to be mapped.
    fn make_room(&mut self, bytes: usize) {
        if self.mapped().saturating_add(bytes) > self.limit {
            self.trim();
        }
    }

    fn map_span(&mut self) -> Option<NonNull<Span>> {
        self.make_room(SPAN_BYTES);
        let asks = self.grows && self.spans >= ASKING_SPANS_MIN;
        let ahead = if asks { SUPPLY.take() } else { None };
        let memory = match ahead {
            Some(touched) => touched,
            None => {
                let memory = system::map(SPAN_BYTES, SPAN_BYTES)?;
                if self.spans > 0 {
                    system::advise_huge(memory, SPAN_BYTES);
                }
                memory
            }
        };
        self.spans += 1;
        let span = memory.cast::<Span>();
        // SAFETY: mapped, nobody else's, aligned, longer than the description, and zeroed: which is a description without pages.
        unsafe {
            let free = &mut (*span.as_ptr()).free;
            *free = [u64::MAX; PAGES / 64];
            free[0] -= 1;
        }
        Some(span)
    }

    /// Leaves `most` idle spans.
    fn unmap_idle(&mut self, most: usize) {
        while self.idle.len() > most {
            let span = self.idle.swap_remove(0);
            self.spans -= 1;
            // SAFETY: none of its pages is in use, and no list names it.
            unsafe { system::unmap(span.cast(), SPAN_BYTES) };
        }
    }

    /// Puts a span into `open`.
    fn open(&mut self, span: NonNull<Span>) {
        // SAFETY: a mapped span; `self` is borrowed alone.
        unsafe { (*span.as_ptr()).place = self.open.len() };
        self.open.push(span);
    }

    /// Takes a span out of `open`.
    fn close(&mut self, span: NonNull<Span>) {
        // SAFETY: a mapped span, as is the one that moves to its place; `self` is borrowed alone.
        unsafe {
            let place = span.as_ref().place;
            assert!(self.open.swap_remove(place) == span, "a span knows its place");
            if let Some(moved) = self.open.get(place) {
                (*moved.as_ptr()).place = place;
            }
        }
    }

    /// # Safety
    /// The slab is in no list.
    unsafe fn link(&mut self, slab: NonNull<Slab>) {
        // SAFETY: it and the slabs in lists lie in mapped spans; `self` is borrowed alone.
        unsafe {
            let this = slab.as_ptr();
            let head = &mut self.partial[usize::from((*this).class)];
            ((*this).next, (*this).previous) = (*head, ptr::null_mut());
            if !head.is_null() {
                (**head).previous = this;
            }
            *head = this;
        }
    }

    /// # Safety
    /// The slab is in the list of its class.
    unsafe fn unlink(&mut self, slab: NonNull<Slab>) {
        // SAFETY: as in `link`.
        unsafe {
            let Slab { next, previous, class, .. } = *slab.as_ptr();
            match previous.is_null() {
                true => self.partial[usize::from(class)] = next,
                false => (*previous).next = next,
            }
            if !next.is_null() {
                (*next).previous = previous;
            }
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.trim();
    }
}

const NO_SLAB: Slab = Slab { next: ptr::null_mut(), previous: ptr::null_mut(), free: 0, begun: 0, used: 0, class: 0 };

impl Span {
    fn is_idle(&self) -> bool {
        self.free.iter().map(|word| word.count_ones() as usize).sum::<usize>() == PAGES - 1
    }

    fn is_full(&self) -> bool {
        self.free.iter().all(|&word| word == 0)
    }

    /// The first of `pages` adjacent free ones.
    fn find(&self, pages: usize) -> Option<usize> {
        let mut page = 1;
        while page + pages <= PAGES {
            match (page..page + pages).rev().find(|&page| !self.is_free(page)) {
                Some(used) => page = used + 1,
                None => return Some(page),
            }
        }
        None
    }

    fn is_free(&self, page: usize) -> bool {
        self.free[page / 64] >> (page % 64) & 1 == 1
    }

    fn take(&mut self, first: usize, pages: usize) {
        for page in first..first + pages {
            assert!(self.is_free(page), "a page is in one slab");
            self.free[page / 64] ^= 1 << (page % 64);
            self.first[page] = first as u8;
        }
    }

    fn give(&mut self, first: usize, pages: usize) {
        for page in first..first + pages {
            assert!(!self.is_free(page), "a free page is in no slab");
            self.free[page / 64] ^= 1 << (page % 64);
        }
    }
}

/// The span that an address lies in.
fn span_of(inside: NonNull<u8>) -> NonNull<Span> {
    let base = inside.as_ptr().map_addr(|address| address & !(SPAN_BYTES - 1));
    NonNull::new(base).expect("address 0 is never mapped").cast()
}

/// # Safety
/// The block lies in a slab of a mapped span, which nobody else uses meanwhile.
unsafe fn slab_of(block: NonNull<u8>) -> NonNull<Slab> {
    let span = span_of(block).as_ptr();
    let page = block.addr().get() % SPAN_BYTES / PAGE_BYTES;
    // SAFETY: the caller's promise; `first` names a page of the span.
    unsafe {
        let first = usize::from((*span).first[page]);
        NonNull::new_unchecked(&raw mut (*span).slabs[first])
    }
}

/// Its first page.
fn slab_number(slab: NonNull<Slab>) -> usize {
    let inside = slab.addr().get() % SPAN_BYTES;
    (inside - std::mem::offset_of!(Span, slabs)) / size_of::<Slab>()
}

/// Where the blocks of a slab begin, and how many there are.
///
/// # Safety
/// The slab lies in a mapped span.
unsafe fn extent(slab: NonNull<Slab>) -> (NonNull<u8>, usize) {
    // SAFETY: the caller's promise; all pages of a slab lie in its span.
    unsafe {
        let class = usize::from((*slab.as_ptr()).class);
        let start = span_of(slab.cast()).cast::<u8>().add(slab_number(slab) * PAGE_BYTES);
        (start, usize::from(SLAB_PAGES[class]) * PAGE_BYTES / class_bytes(class))
    }
}

/// Fewest pages of which blocks of this size leave 1/32 at most; every class up to the largest finds some.
const fn slab_pages(block: usize) -> usize {
    let mut pages = if block <= PAGE_BYTES / 8 { SMALL_SLAB_PAGES } else { 1 };
    while pages * PAGE_BYTES < block || pages * PAGE_BYTES % block > pages * PAGE_BYTES / 32 {
        pages += 1;
    }
    assert!(pages <= SLAB_PAGES_MAX);
    pages
}

/// Bytes of the mapping for a large block.
pub(super) fn large_bytes(bytes: usize) -> Option<usize> {
    bytes.checked_next_multiple_of(SYSTEM_PAGE_BYTES)
}
