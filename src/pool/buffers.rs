//! Pools of buffers: who has which block, and the account of it.
//!
//! A buffer is one block: a head, and the contents behind it. **A head holds a share of its pool** wherever it is, but in
//! the pool's own lists: so taking from and giving to [`Buffers`] counts nothing atomically, a buffer keeps its
//! pool alive, and a pool that is dropped with its last buffer finds all blocks in its lists.

use std::array;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::buf::BufMut;
use super::pages::Pages;
use super::returned::{Chain, Link, Returned};
use crate::limits::{POOL_CLASS_BYTES, POOL_KEPT};

const CLASSES: usize = POOL_CLASS_BYTES.len();
/// Buffers of a class that [`Buffers`] may keep, at most.
const KEPT_MAX: usize = 4;
const _: () = assert!(POOL_KEPT[0] <= KEPT_MAX && POOL_KEPT[1] <= KEPT_MAX && POOL_KEPT[2] == 0 && POOL_KEPT[3] == 0);
/// A build for comparisons: what comes back goes to the global allocator at once.
const NOTHING_IS_KEPT: bool = cfg!(feature = "global-memory");
/// Bytes of a block before its contents: a cache line, so that contents begin on another one.
pub(super) const HEAD_BYTES: usize = 64;

/// A budget of buffers. Clones share it.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

/// One thread's way to the buffers of a pool.
pub struct Buffers {
    shared: Arc<Shared>,
    kept: [Kept; CLASSES],
    account: Arc<Account>,
    /// Has asked the pool since it settled last.
    asked: bool,
}

/// What a block begins with. No padding: all bytes of a block are initialised, always.
#[repr(C)]
pub(super) struct Head {
    /// For the pool's lists. First, so that a link is found to be its head.
    link: Link,
    /// Clones and slices of a frozen buffer.
    pub(super) shares: AtomicUsize,
    /// From `Arc::into_raw`; null while the block is in a list of the pool.
    pool: *const Shared,
    class: usize,
}

#[cfg(not(loom))] // whose atomics and cells are larger
const _: () = assert!(size_of::<Head>() <= HEAD_BYTES);

/// A block that is nobody else's. Goes back to its pool when it is dropped.
pub(super) struct Block(NonNull<Head>);

// SAFETY: the block is its owner's alone, and not bound to a thread.
unsafe impl Send for Block {}
// SAFETY: a shared reference only reads.
unsafe impl Sync for Block {}

/// Free buffers of one class, in a thread's hands.
#[derive(Default)]
struct Kept {
    blocks: [Option<Block>; KEPT_MAX],
    count: usize,
}

/// What one thread's [`Buffers`] have done; only that thread writes it. Alone on its cache lines.
#[repr(align(128))]
#[derive(Default)]
struct Account {
    /// Bytes taken, less those that it gave back itself; wraps, when it gives back what others took.
    net: AtomicUsize,
}

/// What all buffers of a pool know.
pub(super) struct Shared {
    /// Most bytes that may be allocated, free ones included.
    budget: usize,
    pages: Mutex<Pages>,
    /// Free buffers by class.
    returned: [Returned; CLASSES],
    /// Bytes of the buffers that were dropped, not given to `Buffers`; wraps.
    dropped: AtomicUsize,
    /// Of all `Buffers` there ever were: a handful.
    accounts: Mutex<Vec<Arc<Account>>>,
}

impl Pool {
    /// A pool of `bytes`.
    pub fn new(bytes: usize) -> Self {
        let shared = Shared {
            budget: bytes,
            pages: Mutex::new(Pages::new(bytes)),
            returned: array::from_fn(|_| Returned::new()),
            dropped: AtomicUsize::new(0),
            accounts: Mutex::new(Vec::new()),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A way to its buffers for one more thread.
    pub fn buffers(&self) -> Buffers {
        let account = Arc::new(Account::default());
        self.shared.accounts.lock().expect("nothing panics under it").push(Arc::clone(&account));
        Buffers { shared: Arc::clone(&self.shared), kept: Default::default(), account, asked: false }
    }

    /// Bytes of the buffers in use: capacity with their heads, not contents. Exact while nobody takes or gives.
    pub fn used(&self) -> usize {
        let accounts = self.shared.accounts.lock().expect("nothing panics under it");
        let net = accounts.iter().map(|account| account.net.load(Ordering::Relaxed));
        let used = net.fold(0, usize::wrapping_add).wrapping_sub(self.shared.dropped.load(Ordering::Relaxed));
        // Seen between a take and its give on another thread, it can be below 0.
        if used > self.shared.budget {
            0
        } else {
            used
        }
    }

    /// Bytes that exist, in use or kept for reuse: never above the budget.
    pub fn allocated(&self) -> usize {
        self.shared.pages().given()
    }

    /// Bytes that the system has given: those that exist, what lies around them in spans and mappings, and what lies idle.
    pub fn mapped(&self) -> usize {
        self.shared.pages().mapped()
    }

    /// The bytes that this pool was made with.
    pub fn budget(&self) -> usize {
        self.shared.budget
    }
}

impl Buffers {
    /// An empty buffer for at least `capacity_min` bytes. None: the budget is used up (come back when a buffer was
    /// dropped), or no class is that large.
    pub fn take(&mut self, capacity_min: usize) -> Option<BufMut> {
        let class = class_for(capacity_min)?;
        let block = match self.kept[class].pop() {
            Some(block) => block,
            None => self.fetch(class)?,
        };
        self.account.add(POOL_CLASS_BYTES[class]);
        Some(BufMut::new(block))
    }

    /// Gives a buffer back, to be taken here again. Any other thread may drop it instead.
    pub fn give(&mut self, buffer: BufMut) {
        let block = buffer.into_block();
        let class = block.class();
        if !NOTHING_IS_KEPT && block.is_of(&self.shared) && self.kept[class].count < POOL_KEPT[class] {
            self.kept[class].push(block);
            self.account.add(POOL_CLASS_BYTES[class].wrapping_neg());
        }
    }

    /// Keeps nothing: call it before this thread waits, so that others do not wait for what lies here.
    pub fn rest(&mut self) {
        while let Some(block) = self.kept.iter_mut().find_map(Kept::pop) {
            self.account.add(POOL_CLASS_BYTES[block.class()]); // `drop` takes it off again
            drop(block);
        }
    }

    /// Call it about once a second: gives everything that is free back to the system if this thread asked for nothing
    /// meanwhile.
    pub fn settle(&mut self) {
        if !std::mem::take(&mut self.asked) {
            self.trim();
        }
    }

    /// Gives everything that is free back to the system.
    pub fn trim(&mut self) {
        self.rest();
        let mut pages = self.shared.pages();
        self.shared.reclaim(&mut pages);
        pages.trim();
    }

    #[cold]
    fn fetch(&mut self, class: usize) -> Option<Block> {
        self.asked = true;
        let mut chain = self.shared.returned[class].take();
        if let Some(link) = chain.next() {
            let kept = &mut self.kept[class];
            while kept.count < POOL_KEPT[class] / 2 {
                let Some(link) = chain.next() else { break };
                kept.push(self.shared.leave(link));
            }
            let block = self.shared.leave(link);
            self.shared.give_pages(class, chain);
            return Some(block);
        }
        let mut pages = self.shared.pages();
        if let Some(block) = self.shared.make(&mut pages, class) {
            return Some(block);
        }
        drop(pages);
        self.rest();
        let mut pages = self.shared.pages();
        self.shared.reclaim(&mut pages);
        self.shared.make(&mut pages, class)
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        self.rest();
    }
}

impl Account {
    /// Relaxed and no exchange: one thread writes, and who reads wants a sum.
    fn add(&self, bytes: usize) {
        self.net.store(self.net.load(Ordering::Relaxed).wrapping_add(bytes), Ordering::Relaxed);
    }
}

impl Kept {
    fn pop(&mut self) -> Option<Block> {
        self.count = self.count.checked_sub(1)?;
        self.blocks[self.count].take()
    }

    fn push(&mut self, block: Block) {
        self.blocks[self.count] = Some(block);
        self.count += 1;
    }
}

impl Block {
    /// The block behind a pointer from [`Block::into_raw`].
    ///
    /// # Safety
    /// It was not taken back yet, and nobody uses it but the caller.
    pub(super) unsafe fn from_raw(head: NonNull<Head>) -> Self {
        Self(head)
    }

    pub(super) fn into_raw(self) -> NonNull<Head> {
        std::mem::ManuallyDrop::new(self).0
    }

    fn class(&self) -> usize {
        // SAFETY: the head is initialised as long as the block is in use.
        unsafe { self.0.as_ref().class }
    }

    fn is_of(&self, pool: &Arc<Shared>) -> bool {
        // SAFETY: as above.
        unsafe { self.0.as_ref().pool == Arc::as_ptr(pool) }
    }

    pub(super) fn contents(&self) -> &[u8] {
        // SAFETY: ours, or shared and read only; see `contents_of`.
        unsafe { contents_of(self.0).as_ref() }
    }

    pub(super) fn contents_mut(&mut self) -> &mut [u8] {
        // SAFETY: ours alone; see `contents_of`.
        unsafe { contents_of(self.0).as_mut() }
    }
}

/// What lies behind a head: all initialised, since the system gives zeroes and whatever was written since left bytes.
///
/// # Safety
/// The head belongs to a block in use.
pub(super) unsafe fn contents_of(head: NonNull<Head>) -> NonNull<[u8]> {
    // SAFETY: a block is as long as its class says, the head's place included.
    unsafe {
        let length = POOL_CLASS_BYTES[head.as_ref().class] - HEAD_BYTES;
        NonNull::slice_from_raw_parts(head.cast::<u8>().add(HEAD_BYTES), length)
    }
}

impl Drop for Block {
    /// Into the pool's list, from any thread.
    fn drop(&mut self) {
        let class = self.class();
        // SAFETY: the block is ours alone; its share of the pool is taken out of it before it is in the list, and keeps
        // the pool until this is done.
        unsafe {
            let pool = Arc::from_raw(ptr::replace(&raw mut (*self.0.as_ptr()).pool, ptr::null()));
            pool.dropped.fetch_add(POOL_CLASS_BYTES[class], Ordering::Relaxed);
            if NOTHING_IS_KEPT {
                pool.pages().give(self.0.cast(), POOL_CLASS_BYTES[class]);
            } else {
                pool.returned[class].push(self.0.cast());
            }
        }
    }
}

impl Shared {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(|poisoned| panic!("a thread died while it held the pages: {poisoned}"))
    }

    /// A block leaves a list of this pool.
    fn leave(self: &Arc<Self>, link: NonNull<Link>) -> Block {
        let head = link.cast::<Head>();
        // SAFETY: what is in the lists are heads of blocks, and this one was taken out, so it is ours.
        unsafe { (*head.as_ptr()).pool = Arc::into_raw(Arc::clone(self)) };
        Block(head)
    }

    /// A block from the pages, if the budget allows.
    fn make(self: &Arc<Self>, pages: &mut Pages, class: usize) -> Option<Block> {
        let head = pages.take(POOL_CLASS_BYTES[class])?.cast::<Head>();
        let pool = Arc::into_raw(Arc::clone(self));
        // SAFETY: the block is ours alone, and longer than a head.
        unsafe { head.as_ptr().write(Head { link: Link::new(), shares: AtomicUsize::new(0), pool, class }) };
        Some(Block(head))
    }

    /// All free blocks go to the pages.
    fn reclaim(&self, pages: &mut Pages) {
        for (class, returned) in self.returned.iter().enumerate() {
            give_all(pages, class, returned.take());
        }
    }

    fn give_pages(&self, class: usize, mut chain: Chain) {
        if let Some(first) = chain.next() {
            let mut pages = self.pages();
            give_all(&mut pages, class, std::iter::once(first).chain(chain));
        }
    }
}

fn give_all(pages: &mut Pages, class: usize, links: impl Iterator<Item = NonNull<Link>>) {
    // SAFETY: taken out of the list of `class`: blocks of these pages that nobody knows.
    links.for_each(|link| unsafe { pages.give(link.cast(), POOL_CLASS_BYTES[class]) });
}

impl Drop for Shared {
    /// Every buffer that was in use had a share of it, so all of them are in the lists.
    fn drop(&mut self) {
        let Ok(pages) = self.pages.get_mut() else { return };
        for (class, returned) in self.returned.iter().enumerate() {
            give_all(pages, class, returned.take());
        }
        let lost = pages.given();
        assert!(lost == 0 || std::thread::panicking(), "{lost} bytes did not come back to a pool that ends");
    }
}

/// The smallest class that holds so many bytes.
fn class_for(capacity: usize) -> Option<usize> {
    POOL_CLASS_BYTES.iter().position(|&size| size - HEAD_BYTES >= capacity)
}
