//! The system calls below level 3: memory is mapped, advised and unmapped here.

use std::ptr::NonNull;

/// A page of the system, in bytes: what mappings are rounded up to.
pub(super) const SYSTEM_PAGE_BYTES: usize = 4096;

/// Maps `bytes` of zeroes at a multiple of `align`, a power of two. None: the system has no more.
#[cfg(not(miri))]
pub(super) fn map(bytes: usize, align: usize) -> Option<NonNull<u8>> {
    // Where huge pages may be used, the system aligns by itself what is as long as one.
    let memory = map_anywhere(bytes)?;
    if memory.addr().get() % align == 0 {
        return Some(memory);
    }
    // SAFETY: just mapped, and nobody has seen it.
    unsafe { unmap(memory, bytes) };
    let wide = map_anywhere(bytes.checked_add(align)?)?;
    let before = wide.addr().get().next_multiple_of(align) - wide.addr().get();
    let behind = align - before;
    // SAFETY: `wide` is `before + bytes + behind` long; the two ends are given back, nobody has seen them.
    unsafe {
        let memory = wide.add(before);
        unmap(wide, before);
        unmap(memory.add(bytes), behind);
        Some(memory)
    }
}

#[cfg(not(miri))]
fn map_anywhere(bytes: usize) -> Option<NonNull<u8>> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new private mapping where the system likes it changes no memory that anybody has.
    let memory = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
    (memory != libc::MAP_FAILED).then(|| NonNull::new(memory.cast()).expect("address 0 is never given"))
}

/// Gives memory back to the system.
///
/// # Safety
/// The range lies in what [`map`] gave, in whole system pages, and nobody uses it now or later.
#[cfg(not(miri))]
pub(super) unsafe fn unmap(memory: NonNull<u8>, bytes: usize) {
    if bytes == 0 {
        return;
    }
    // SAFETY: the caller's promise.
    let failed = unsafe { libc::munmap(memory.as_ptr().cast(), bytes) };
    // Out of mappings, if it was split off a larger one: the range stays mapped, and its pages are given back.
    if failed != 0 {
        // SAFETY: the caller's promise.
        unsafe { libc::madvise(memory.as_ptr().cast(), bytes, libc::MADV_DONTNEED) };
    }
}

/// Asks for huge pages. A wish: where the system has none, nothing changes.
#[cfg(not(miri))]
pub(super) fn advise_huge(memory: NonNull<u8>, bytes: usize) {
    // SAFETY: the advice changes no contents, and a wrong address is an error, not harm.
    unsafe { libc::madvise(memory.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE) };
}

/// Under Miri, which has no mappings with an alignment.
#[cfg(miri)]
mod instead {
    use std::alloc::{alloc_zeroed, dealloc, Layout};
    use std::collections::BTreeMap;
    use std::ptr::NonNull;
    use std::sync::Mutex;

    static LAYOUTS: Mutex<BTreeMap<usize, Layout>> = Mutex::new(BTreeMap::new());

    pub(in super::super) fn map(bytes: usize, align: usize) -> Option<NonNull<u8>> {
        let layout = Layout::from_size_align(bytes, align).ok()?;
        // SAFETY: mappings are never empty.
        let memory = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        LAYOUTS.lock().expect("nothing panics under it").insert(memory.addr().get(), layout);
        Some(memory)
    }

    /// # Safety
    /// As the real one's.
    pub(in super::super) unsafe fn unmap(memory: NonNull<u8>, _bytes: usize) {
        let layout = LAYOUTS.lock().expect("nothing panics under it").remove(&memory.addr().get()).expect("mapped");
        // SAFETY: allocated with this layout, and the caller's promise.
        unsafe { dealloc(memory.as_ptr(), layout) };
    }

    pub(in super::super) fn advise_huge(_memory: NonNull<u8>, _bytes: usize) {}
}

#[cfg(miri)]
pub(super) use instead::*;
