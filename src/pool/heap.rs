//! Raw blocks of any size from three levels: a [`Cache`] of magazines, which one thread owns, the depot where caches
//! change magazines, and the pages below.
//!
//! A cache is a handle that its owner holds, not a thread-local: the compiler shows that one thread at a time uses it,
//! it goes to another thread with what it serves (a skip list that is freed elsewhere), it ends when its owner
//! ends, and a test can hold several.

use std::fmt;
use std::mem;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard};

use super::class::{class_bytes, class_for, CLASSES, CLASS_BYTES_MAX};
use super::depot::{Depot, Magazine};
use super::pages::{large_bytes, Pages};

/// Memory of one holder. Clones share it.
#[derive(Clone)]
pub struct Heap {
    shared: Arc<Shared>,
}

/// One thread's way to the blocks of a heap. A block may go back through any cache of its heap.
pub struct Cache {
    shared: Arc<Shared>,
    bins: Box<[Bin]>,
}

/// Bytes by level. A byte is counted where it lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// What the system has given: the spans with all that lies in them.
    pub mapped: usize,
    /// Blocks that left the pages: those in use, and those in magazines.
    pub given: usize,
    /// Of these, in the depot's full magazines. Exact while no cache exchanges.
    pub depot: usize,
}

/// How many bytes a block for `bytes` has.
pub fn block_bytes(bytes: usize) -> usize {
    match bytes <= CLASS_BYTES_MAX {
        true => class_bytes(class_for(bytes)),
        false => large_bytes(bytes).expect("more than the address space has"),
    }
}

/// What the caches of a heap share.
struct Shared {
    depot: Depot,
    /// Taken for whole magazines, and for blocks that are larger than any class.
    pages: Mutex<Pages>,
}

/// Magazines of one class. The second one lets a use that goes up and down by one block stay here.
#[derive(Default)]
struct Bin {
    loaded: Option<Box<Magazine>>,
    /// Full or empty, if there is one.
    spare: Option<Box<Magazine>>,
}

impl Heap {
    /// A heap that gives at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { shared: Arc::new(Shared { depot: Depot::new(), pages: Mutex::new(Pages::growing(limit)) }) }
    }

    /// A cache over it, for one more thread.
    pub fn cache(&self) -> Cache {
        Cache { shared: Arc::clone(&self.shared), bins: (0..CLASSES).map(|_| Bin::default()).collect() }
    }

    /// Where its bytes lie.
    pub fn levels(&self) -> Levels {
        self.shared.levels()
    }
}

impl Cache {
    /// A block of at least `bytes`, at a multiple of 8. None: the limit is reached, or the system has no more.
    #[inline]
    pub fn alloc(&mut self, bytes: usize) -> Option<NonNull<u8>> {
        if bytes > CLASS_BYTES_MAX {
            return self.shared.pages().take_large(bytes);
        }
        let class = class_for(bytes);
        match self.bins[class].loaded.as_mut().and_then(|loaded| loaded.pop()) {
            Some(block) => Some(block),
            None => self.reload(class),
        }
    }

    /// Gives a block back.
    ///
    /// # Safety
    /// It came from a cache of this heap for as many `bytes`, and nobody uses it now or later.
    #[inline]
    pub unsafe fn free(&mut self, block: NonNull<u8>, bytes: usize) {
        if bytes > CLASS_BYTES_MAX {
            // SAFETY: passed on.
            return unsafe { self.shared.pages().give_large(block, bytes) };
        }
        let class = class_for(bytes);
        match self.bins[class].loaded.as_mut().filter(|loaded| !loaded.is_full()) {
            Some(loaded) => loaded.push(block),
            None => self.unload(class).push(block),
        }
    }

    /// Bytes of the blocks in this cache's magazines.
    pub fn bytes(&self) -> usize {
        let blocks = |bin: &Bin| bin.magazines().map(Magazine::len).sum::<usize>();
        self.bins.iter().enumerate().map(|(class, bin)| blocks(bin) * class_bytes(class)).sum()
    }

    /// Where the heap's bytes lie.
    pub fn levels(&self) -> Levels {
        self.shared.levels()
    }

    /// Bytes that the system has given to the heap.
    pub fn mapped(&self) -> usize {
        self.shared.pages().mapped()
    }

    /// Empties this cache and the depot, and gives back to the system what lies idle then. For after much was freed.
    pub fn trim(&mut self) {
        let mut pages = self.shared.pages();
        for (class, bin) in self.bins.iter_mut().enumerate() {
            for mut magazine in mem::take(bin).into_magazines().chain(self.shared.depot.clear(class)) {
                // SAFETY: what is in a magazine of this class came from these pages as that, and is in nobody's hands.
                unsafe { pages.empty(class, &mut magazine) };
            }
        }
        pages.trim();
    }

    #[cold]
    fn reload(&mut self, class: usize) -> Option<NonNull<u8>> {
        let bin = &mut self.bins[class];
        mem::swap(&mut bin.loaded, &mut bin.spare);
        if let Some(block) = bin.loaded.as_mut().and_then(|loaded| loaded.pop()) {
            return Some(block);
        }
        let empty = bin.loaded.take().unwrap_or_else(|| Magazine::new(class));
        let loaded = self.shared.depot.full_for_empty(class, empty).unwrap_or_else(|mut empty| {
            self.shared.pages().fill(class, &mut empty);
            empty
        });
        bin.loaded.insert(loaded).pop()
    }

    /// The loaded magazine, with room.
    #[cold]
    fn unload(&mut self, class: usize) -> &mut Magazine {
        let bin = &mut self.bins[class];
        mem::swap(&mut bin.loaded, &mut bin.spare);
        let loaded = match bin.loaded.take() {
            Some(loaded) if !loaded.is_full() => loaded,
            Some(full) => match self.shared.depot.empty_for_full(class, full) {
                Ok(empty) => empty.unwrap_or_else(|| Magazine::new(class)),
                Err(mut full) => {
                    // SAFETY: as in `trim`.
                    unsafe { self.shared.pages().empty(class, &mut full) };
                    full
                }
            },
            None => Magazine::new(class),
        };
        bin.loaded.insert(loaded)
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        // Where a thread died while it held them, they are not touched again.
        let Ok(mut pages) = self.shared.pages.lock() else { return };
        for (class, bin) in self.bins.iter_mut().enumerate() {
            for mut magazine in mem::take(bin).into_magazines() {
                // SAFETY: as in `trim`.
                unsafe { pages.empty(class, &mut magazine) };
            }
        }
    }
}

impl Bin {
    fn magazines(&self) -> impl Iterator<Item = &Magazine> {
        self.loaded.iter().chain(&self.spare).map(|magazine| &**magazine)
    }

    fn into_magazines(self) -> impl Iterator<Item = Box<Magazine>> {
        self.loaded.into_iter().chain(self.spare)
    }
}

impl Shared {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(|poisoned| panic!("a thread died while it held the pages: {poisoned}"))
    }

    fn levels(&self) -> Levels {
        let pages = self.pages();
        Levels { mapped: pages.mapped(), given: pages.given(), depot: self.depot.bytes() }
    }
}

impl Drop for Shared {
    /// No cache is left, so what is not in the depot is in use, or lost.
    fn drop(&mut self) {
        let Ok(pages) = self.pages.get_mut() else { return };
        for class in 0..CLASSES {
            for mut magazine in self.depot.clear(class) {
                // SAFETY: what is in a magazine of this class came from these pages as that, and is in nobody's hands.
                unsafe { pages.empty(class, &mut magazine) };
            }
        }
        let lost = pages.given();
        assert!(lost == 0 || std::thread::panicking(), "{lost} bytes did not come back to a heap that ends");
    }
}

impl fmt::Debug for Heap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.levels().fmt(f)
    }
}
