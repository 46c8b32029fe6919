//! A queue that grows by whole chunks: pushing never copies what is already in it, so that a long queue makes no pause.

use std::collections::VecDeque;

const CHUNK: usize = 256;

/// First in, first out.
pub(super) struct Fifo<T> {
    /// None is empty, except that the last one may be.
    chunks: VecDeque<VecDeque<T>>,
    length: usize,
}

impl<T> Default for Fifo<T> {
    fn default() -> Self {
        Self { chunks: VecDeque::new(), length: 0 }
    }
}

impl<T> Fifo<T> {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(super) fn push(&mut self, item: T) {
        if self.chunks.back().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push_back(VecDeque::with_capacity(CHUNK));
        }
        self.chunks.back_mut().expect("one was pushed").push_back(item);
        self.length += 1;
    }

    pub(super) fn front(&self) -> Option<&T> {
        self.chunks.front()?.front()
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let item = self.chunks.front_mut()?.pop_front()?;
        self.length -= 1;
        if self.chunks.len() > 1 && self.chunks[0].is_empty() {
            self.chunks.pop_front();
        }
        Some(item)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_order_over_chunks() {
        let mut fifo = Fifo::default();
        let (mut pushed, mut popped) = (0, 0);
        for round in 0..200 {
            for _ in 0..round % 7 {
                fifo.push(pushed);
                pushed += 1;
            }
            for _ in 0..round % 5 {
                assert_eq!(fifo.front().copied(), (popped < pushed).then_some(popped));
                if let Some(item) = fifo.pop() {
                    assert_eq!(item, popped);
                    popped += 1;
                }
            }
            assert_eq!(fifo.len(), pushed - popped);
        }
        assert!(pushed - popped > CHUNK / 2, "the test reaches over chunks");
        while fifo.pop().is_some() {
            popped += 1;
        }
        assert_eq!(pushed, popped);
        assert!(fifo.is_empty());
    }
}
