#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "buffers change threads")]
use super::*;
use bytes::Bytes;

#[test]
fn an_exhausted_pool_says_so_and_recovers() {
    let pool = Pool::new(4 * POOL_CLASS_BYTES[0]);
    let mut out: Vec<BufMut> = (0..4).map(|_| pool.take(1).expect("within the budget")).collect();
    assert!(pool.take(1).is_none());
    assert_eq!(pool.used(), pool.budget());
    out.pop();
    assert!(pool.take(1).is_some());
    assert!(pool.take(POOL_CLASS_BYTES[3] + 1).is_none(), "no class is that large");
}

#[test]
fn kept_buffers_of_one_size_make_room_for_another() {
    let pool = Pool::new(POOL_CLASS_BYTES[1]);
    let small: Vec<BufMut> = (0..4).map(|_| pool.take(1).expect("within the budget")).collect();
    drop(small);
    assert_eq!(pool.used(), 0);
    assert!(pool.take(POOL_CLASS_BYTES[1]).is_some());
    assert!(pool.allocated() <= pool.budget());
}

#[test]
fn slices_share_their_buffer_and_the_last_one_gives_it_back() {
    let pool = Pool::new(POOL_CLASS_BYTES[0]);
    let mut buffer = pool.take(10).expect("within the budget");
    assert_eq!(buffer.fill(b"hello raftkv"), 12);
    buffer.consume(6);
    let buffer = buffer.freeze();
    assert_eq!(&*buffer, b"raftkv");
    let slice = buffer.slice(4..);
    drop(buffer);
    assert_eq!(pool.used(), POOL_CLASS_BYTES[0]);
    assert_eq!(slice.pinned(), POOL_CLASS_BYTES[0]);
    let bytes = Bytes::from(slice.slice(1..2));
    drop(slice);
    assert_eq!(&bytes[..], b"v");
    std::thread::spawn(move || drop(bytes)).join().expect("no panic");
    assert_eq!(pool.used(), 0);
}

#[test]
#[should_panic(expected = "inside of its buffer")]
fn a_slice_outside_is_refused() {
    let pool = Pool::new(POOL_CLASS_BYTES[0]);
    let buffer = pool.take(1).expect("within the budget").freeze();
    let _ = buffer.slice(..1);
}
