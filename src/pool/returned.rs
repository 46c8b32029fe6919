//! Level 2 of the buffers: those that came back, in a list that any thread pushes to and whoever needs one takes whole.
//! Each is one atomic operation on the list's head. Nobody takes a single block off, so that one came and went meanwhile
//! (ABA) does no harm: a push then goes in front of what is there.

use std::ptr::{self, NonNull};

use super::sync::{AtomicPtr, Ordering, Touched};

/// What a block begins with while it is in a list. It is its owner's alone, also while it is pushed.
#[repr(C)]
pub(super) struct Link {
    next: *mut Link,
    touched: Touched,
}

/// Blocks that came back.
pub(super) struct Returned {
    head: AtomicPtr<Link>,
}

/// Blocks that were taken out of there: nobody else knows them.
pub(super) struct Chain(*mut Link);

impl Link {
    pub(super) fn new() -> Self {
        Self { next: ptr::null_mut(), touched: Touched::new() }
    }
}

impl Returned {
    pub(super) fn new() -> Self {
        Self { head: AtomicPtr::new(ptr::null_mut()) }
    }

    /// # Safety
    /// The link is the caller's alone, and stays where it is until somebody has taken it.
    pub(super) unsafe fn push(&self, link: NonNull<Link>) {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            // SAFETY: not in the list yet, so still the caller's.
            unsafe {
                link.as_ref().touched.touch();
                (*link.as_ptr()).next = head;
            }
            // Release, partner of the acquire in `take`: what the block's last owner did to it, and its link.
            match self.head.compare_exchange_weak(head, link.as_ptr(), Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(newer) => head = newer,
            }
        }
    }

    /// Everything that is there.
    pub(super) fn take(&self) -> Chain {
        // Acquire, partner of the release in `push`. A push only ever replaces the head, by an exchange that continues the
        // earlier ones' releases, so this one is enough for all links.
        Chain(self.head.swap(ptr::null_mut(), Ordering::Acquire))
    }
}

impl Iterator for Chain {
    type Item = NonNull<Link>;

    fn next(&mut self) -> Option<NonNull<Link>> {
        let link = NonNull::new(self.0)?;
        // SAFETY: taken out of the list, so ours, and it stays where it is until it is handed out here.
        unsafe {
            link.as_ref().touched.touch();
            self.0 = link.as_ref().next;
        }
        Some(link)
    }
}
