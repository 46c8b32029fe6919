//! Where small bodies that came over a socket lie until their entries leave memory.

use bytes::{Bytes, BytesMut};

use crate::limits::{ARENA_BYTES, COPIED_COMMAND_BYTES_MAX};

/// One thread's: bytes lie one behind the other in blocks of [`ARENA_BYTES`]. A block is freed when the last of what lies
/// in it is dropped, by whichever thread.
#[derive(Debug, Default)]
pub(super) struct Arena {
    block: BytesMut,
}

impl Arena {
    /// Copies bytes out of a read buffer: small ones into the block, so that they pin neither the buffer nor an allocation
    /// of their own (C-27).
    pub(super) fn keep(&mut self, bytes: &[u8]) -> Bytes {
        if bytes.len() > COPIED_COMMAND_BYTES_MAX {
            return Bytes::copy_from_slice(bytes);
        }
        if self.block.capacity() < bytes.len() {
            self.block = BytesMut::with_capacity(ARENA_BYTES);
        }
        self.block.extend_from_slice(bytes);
        self.block.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_bytes_lie_behind_each_other_and_large_ones_alone() {
        let mut arena = Arena::default();
        let small: Vec<Bytes> = (0..20).map(|n| arena.keep(&[n; COPIED_COMMAND_BYTES_MAX])).collect();
        for (n, bytes) in (0..).zip(&small) {
            assert_eq!(bytes[..], [n; COPIED_COMMAND_BYTES_MAX]);
        }
        assert_eq!(small[1].as_ptr() as usize - small[0].as_ptr() as usize, COPIED_COMMAND_BYTES_MAX);
        let before = arena.block.capacity();
        let large = arena.keep(&[7; COPIED_COMMAND_BYTES_MAX + 1]);
        assert_eq!(large[..], [7; COPIED_COMMAND_BYTES_MAX + 1]);
        assert_eq!(arena.block.capacity(), before, "it has an allocation of its own");
        assert!(arena.keep(&[]).is_empty());
    }
}
