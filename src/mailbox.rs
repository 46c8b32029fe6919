//! The one way between threads: a link of three reusable batches, and a parked flag per sleeping thread.
//!
//! ```text
//!  producer                                  consumer
//!  Sender: fills one batch  -- forward -->   Receiver: takes one, empties it,
//!          (never blocks)   <-- back -----             gives it back
//! ```
//!
//! Three batches exist per link: one being filled, at most two travelling. A sender with none free keeps filling, so a
//! queue needs no other bound, a send cannot fail or block, and load makes batches bigger instead of queues longer.
//!
//! A thread that sleeps owns one [`Parking`], whatever the number of its links. It says that it is about to sleep, looks
//! once more at all its links, and only then sleeps; whoever sends to it pushes first and then wakes it only if it had
//! said so. A `SeqCst` fence stands between the two steps on both sides: at least one of them sees the other.
//! The same protocol wakes a sender that was [`Flush::Busy`] when a batch comes back.

mod park;
mod ring;
mod sync;

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

pub use park::{Parking, ThreadPark, Wake};
use ring::Ring;
use sync::{fence, AtomicBool, Ordering};

/// Batches that exist per link: one filling, at most two travelling.
const BATCHES: usize = 3;

/// What travels over a link: vectors that keep their capacity.
pub trait Batch: Default + Send {
    /// Nothing in it: not worth sending.
    fn is_empty(&self) -> bool;
    /// Empties it and keeps its capacity.
    fn clear(&mut self);
}

impl<T: Send> Batch for Vec<T> {
    fn is_empty(&self) -> bool {
        self.is_empty()
    }

    fn clear(&mut self) {
        self.clear();
    }
}

/// What became of a batch that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// It travels, and a fresh one is being filled.
    Sent,
    /// There was nothing to send.
    Empty,
    /// Both others travel: keep filling. The consumer wakes this thread's [`Parking`] when one comes back; then flush again.
    Busy,
}

/// What both ends share.
struct Link<B> {
    /// Filled batches, on their way to the consumer.
    forward: Ring<B>,
    /// Emptied batches, on their way back.
    back: Ring<B>,
    /// The sender holds something to send and found no free batch. Written by the sender alone.
    starved: AtomicBool,
    consumer: Arc<Parking>,
    producer: Arc<Parking>,
}

/// The producer's end of a link.
pub struct Sender<B: Batch> {
    link: Arc<Link<B>>,
    filling: B,
}

/// The consumer's end of a link.
pub struct Receiver<B: Batch> {
    link: Arc<Link<B>>,
}

/// A batch in the consumer's hands. Goes back to the sender, cleared, when it is dropped.
pub struct Taken<'a, B: Batch> {
    link: &'a Link<B>,
    /// Always there; taken by `drop`.
    batch: Option<B>,
}

/// Makes a link from the thread that sleeps in `producer` to the one that sleeps in `consumer`.
pub fn link<B: Batch>(consumer: Arc<Parking>, producer: Arc<Parking>) -> (Sender<B>, Receiver<B>) {
    let link =
        Arc::new(Link { forward: Ring::new(), back: Ring::new(), starved: AtomicBool::new(false), consumer, producer });
    for _ in 1..BATCHES {
        link.back.push(B::default());
    }
    (Sender { link: Arc::clone(&link), filling: B::default() }, Receiver { link })
}

impl<B: Batch> Sender<B> {
    /// The batch that is being filled.
    pub fn batch(&mut self) -> &mut B {
        &mut self.filling
    }

    /// Sends what was filled, and wakes the consumer if it sleeps.
    pub fn flush(&mut self) -> Flush {
        if self.filling.is_empty() {
            return Flush::Empty;
        }
        let Some(fresh) = self.fresh() else {
            return Flush::Busy;
        };
        let full = std::mem::replace(&mut self.filling, fresh);
        self.link.forward.push(full);
        self.link.consumer.notify();
        Flush::Sent
    }

    /// Something is filled and could be sent: one of the things to look at before sleeping (see [`Parking::may_sleep`]).
    pub fn can_flush(&self) -> bool {
        !self.filling.is_empty() && !self.link.back.is_empty()
    }

    /// A free batch; without one, says so to the receiver. No fence is needed here: the sender's own [`Parking`] has
    /// one between this and its last look ([`Sender::can_flush`]), which the receiver's in [`Taken`]'s `drop` partners.
    fn fresh(&mut self) -> Option<B> {
        let fresh = self.link.back.pop();
        self.link.starved.store(fresh.is_none(), Ordering::Relaxed);
        fresh
    }
}

impl<B: Batch> Receiver<B> {
    /// The oldest batch that has arrived.
    pub fn take(&mut self) -> Option<Taken<'_, B>> {
        let batch = self.link.forward.pop()?;
        Some(Taken { link: &self.link, batch: Some(batch) })
    }

    /// Nothing has arrived: one of the things to look at before sleeping (see [`Parking::may_sleep`]).
    pub fn is_empty(&self) -> bool {
        self.link.forward.is_empty()
    }
}

impl<B: Batch> Deref for Taken<'_, B> {
    type Target = B;

    fn deref(&self) -> &B {
        self.batch.as_ref().expect("a taken batch is there until it is dropped")
    }
}

impl<B: Batch> DerefMut for Taken<'_, B> {
    fn deref_mut(&mut self) -> &mut B {
        self.batch.as_mut().expect("a taken batch is there until it is dropped")
    }
}

impl<B: Batch> Drop for Taken<'_, B> {
    fn drop(&mut self) {
        let mut batch = self.batch.take().expect("dropped once");
        batch.clear();
        self.link.back.push(batch);
        // Between the push above and the two flags below; partner: the fence in `Parking::may_sleep`.
        fence(Ordering::SeqCst);
        if self.link.starved.load(Ordering::Relaxed) {
            self.link.producer.notify_after_fence();
        }
    }
}

#[cfg(test)]
mod tests;
