//! A line of usual length costs the thread that logs no allocation. Alone in its binary, because it counts what each
//! thread allocates.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use log::{debug, info};
use raftkv::logging::{self, Options, Sink};

/// The system's allocator, counting for each thread.
struct Counting;

thread_local! {
    static ALLOCATED: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is handed on to the system's allocator unchanged; the counter is a thread-local without destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATED.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are the system allocator's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; the pointer came from `alloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocated(work: impl FnOnce()) -> u64 {
    let before = ALLOCATED.with(Cell::get);
    work();
    ALLOCATED.with(Cell::get) - before
}

#[test]
fn a_short_line_allocates_nothing_on_the_calling_thread() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log");
    let options = Options { sinks: vec![Sink::file(path.clone())], ..Options::default() };
    logging::start(options).expect("it starts");
    info!("the first line of a thread makes its logger and its buffer, of {} bytes or so", 300);
    let lines = |from: u64| {
        for n in from..from + 1_000 {
            info!("node {} leads in term {n}, with {:?} behind it", 1, Some("some more words"));
            debug!("not wanted, {n}");
        }
    };
    assert_eq!(allocated(|| lines(0)), 0);
    logging::change_filter("info,raft=debug").expect("a filter");
    assert!(allocated(|| info!("once per change a thread makes its logger anew")) > 0);
    assert_eq!(allocated(|| lines(1_000)), 0);
    logging::set_filter("warn".parse().expect("a filter"));
    logging::change_filter("off,mio=trace").expect("a filter");
    info!("not wanted");
    assert_eq!(logging::reset_filter().to_string(), "warn");
    logging::set_filter(Default::default());
    assert!(allocated(|| info!("{}", "x".repeat(2_000))) > 0, "what is counted is what is allocated");
    assert!(logging::flush(Duration::from_secs(20)), "everything is written");
    let text = std::fs::read_to_string(path).expect("the log");
    assert_eq!(text.matches("leads in term").count() as u64 + logging::dropped(), 2_000);
    assert!(!text.contains(": not wanted"));
    assert!(
        text.contains("node 1 leads in term 1999, with Some(\"some more words\") behind it"),
        "the last one arrived"
    );
}
