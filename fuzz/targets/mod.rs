//! What is fuzzed: each target takes any bytes and must neither panic nor use more memory than the input allows.
//! `fuzz_targets` gives them to libFuzzer, `tests/fuzz_smoke.rs` to proptest and to the corpus.

mod disk;
mod frames;
mod raft;

pub use disk::{log_recovery, meta, snapshot};
pub use frames::{client_frame, peer_frame};
pub use raft::raft_step;

/// Bytes of the input, taken one after the other; zeroes behind its end.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().map_or((0, &[][..]), |(first, rest)| (*first, rest));
        self.0 = rest;
        first
    }

    /// From 0 to `bound`, without it.
    fn below(&mut self, bound: u8) -> u8 {
        self.byte() % bound
    }

    fn number(&mut self) -> u64 {
        let bytes = self.take(8);
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(word)
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}
