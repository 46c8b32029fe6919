//! A global allocator that counts its calls by the kind of the calling thread, in a file that another process maps: who
//! counts a server does not have to ask it anything meanwhile.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use clap::Parser;
use memmap2::{MmapOptions, MmapRaw};
use raftkv::config::{self, ServeArgs};

/// The variable that says where a server counts.
pub const COUNTS: &str = "ALLOCATION_COUNTS";

/// Threads that answer clients, and the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Io = 1,
    Raft = 2,
    Wal = 3,
    Other = 4,
}

/// Those that take part in every operation.
pub const HOT: [Kind; 3] = [Kind::Io, Kind::Raft, Kind::Wal];

/// Calls of one kind of thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Blocks taken, grown ones included.
    pub taken: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Blocks given back.
    pub given: u64,
    /// Mappings made: where the pool and the skip list's heap have their pages from.
    pub mapped: u64,
}

impl Calls {
    /// What has come since `before`.
    pub fn since(&self, before: &Calls) -> Calls {
        Calls {
            taken: self.taken - before.taken,
            bytes: self.bytes - before.bytes,
            given: self.given - before.given,
            mapped: self.mapped - before.mapped,
        }
    }
}

const NUMBERS: usize = 4;
/// Kind 0 is nobody's.
const FILE_BYTES: usize = 5 * NUMBERS * size_of::<AtomicU64>();

/// Where this process counts; what comes before it is set, or in a process that does not count, is not counted.
static SHARED: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());

thread_local! {
    /// Of this thread, once its name says so.
    static KIND: Cell<Option<Kind>> = const { Cell::new(None) };
}

/// The system's allocator, counting.
pub struct Counting;

// SAFETY: every call is handed on to the system's allocator unchanged; counting takes no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(Calls { taken: 1, bytes: layout.size() as u64, ..Calls::default() });
        // SAFETY: the caller's promises are the system allocator's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(Calls { taken: 1, bytes: layout.size() as u64, ..Calls::default() });
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count(Calls { taken: 1, bytes: bytes as u64, given: 1, mapped: 0 });
        // SAFETY: as above; the pointer came from this allocator, which is the system's.
        unsafe { System.realloc(pointer, layout, bytes) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(Calls { given: 1, ..Calls::default() });
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// In the place of the C library's, which everything in this binary that is written in Rust calls.
///
/// # Safety
/// As the system call's.
#[no_mangle]
unsafe extern "C" fn mmap(
    place: *mut libc::c_void,
    bytes: usize,
    protection: libc::c_int,
    flags: libc::c_int,
    file: libc::c_int,
    offset: libc::off_t,
) -> *mut libc::c_void {
    count(Calls { mapped: 1, ..Calls::default() });
    // SAFETY: the caller's promises are the system call's conditions.
    let address = unsafe { libc::syscall(libc::SYS_mmap, place, bytes, protection, flags, file, offset) };
    ptr::with_exposed_provenance_mut(address as usize)
}

fn count(calls: Calls) {
    let shared = SHARED.load(Ordering::Relaxed);
    if shared.is_null() {
        return;
    }
    let first = kind() as usize * NUMBERS;
    for (number, add) in [calls.taken, calls.bytes, calls.given, calls.mapped].into_iter().enumerate() {
        if add > 0 {
            // SAFETY: the mapping is `FILE_BYTES` long, which a kind's numbers lie in, and is never unmapped.
            unsafe { &*shared.add(first + number) }.fetch_add(add, Ordering::Relaxed);
        }
    }
}

/// By the thread's name; asked for until it is one of the hot ones, because a thread allocates before it has its name.
fn kind() -> Kind {
    KIND.try_with(|kind| {
        if kind.get().is_none() {
            kind.set(hot_by_name());
        }
        kind.get().unwrap_or(Kind::Other)
    })
    .unwrap_or(Kind::Other)
}

fn hot_by_name() -> Option<Kind> {
    let mut name = [0_u8; 16];
    // SAFETY: PR_GET_NAME writes at most 16 bytes, the last of them 0.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    match &name {
        [b'i', b'o', b'-', ..] => Some(Kind::Io),
        [b'r', b'a', b'f', b't', 0, ..] => Some(Kind::Raft),
        [b'w', b'a', b'l', 0, ..] => Some(Kind::Wal),
        _ => None,
    }
}

#[derive(Parser)]
struct Serve {
    #[command(flatten)]
    args: ServeArgs,
}

/// This process as a server that counts in the file that [`COUNTS`] names.
pub fn serve() {
    let path = std::env::var_os(COUNTS).expect("the caller has looked");
    let file = OpenOptions::new().read(true).write(true).open(path).expect("the file is there");
    let map = Box::leak(Box::new(map(&file)));
    SHARED.store(map.as_mut_ptr().cast(), Ordering::Relaxed);
    let line = std::iter::once("raftkv".into()).chain(std::env::args_os().skip_while(|word| word != "--id"));
    let args = Serve::parse_from(line).args;
    let reload = Box::new(|| Err("nobody reloads this".to_owned()));
    let hooks = raftkv::server::Hooks { status_as_json: cli::status_as_json, reload };
    raftkv::server::serve(config::load(args).expect("a configuration"), hooks).expect("it starts");
}

/// What a server counts, seen from outside.
pub struct Counts(MmapRaw);

impl Counts {
    /// A new file of zeroes.
    pub fn create(path: &Path) -> Counts {
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path).expect("a file");
        file.set_len(FILE_BYTES as u64).expect("a length");
        Counts(map(&file))
    }

    /// So far.
    pub fn of(&self, kind: Kind) -> Calls {
        let number = |number: usize| {
            let place = self.0.as_ptr().cast::<AtomicU64>().wrapping_add(kind as usize * NUMBERS + number);
            // SAFETY: the mapping is `FILE_BYTES` long, aligned to a page, and lives as long as `self`.
            unsafe { &*place }.load(Ordering::Relaxed)
        };
        Calls { taken: number(0), bytes: number(1), given: number(2), mapped: number(3) }
    }
}

fn map(file: &File) -> MmapRaw {
    MmapOptions::new().len(FILE_BYTES).map_raw(file).expect("a mapping")
}
