//! When to try the next connection to a peer: soon at first, then less often, never in step with others.

use std::net::SocketAddr;

use crate::limits;
use crate::random::SplitMix64;
use crate::time::{Span, Time};

/// The attempts to reach one peer.
#[derive(Debug)]
pub(super) struct Dial {
    /// `host:port`.
    address: String,
    /// The next attempt; [`Time::NEVER`] while one is under way or a connection is open.
    due: Time,
    /// What the next failure will wait, before jitter.
    delay: Span,
    /// The last attempt came to nothing.
    has_failed: bool,
    /// State of a small generator (SplitMix64): only spreads attempts.
    random: SplitMix64,
}

/// How an attempt begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// Connect here.
    Connect(SocketAddr),
    /// Look this up first; that may block, so another thread does it. `again`: the address that was found last led nowhere.
    Resolve { address: String, again: bool },
}

impl Dial {
    /// The first attempt is due at once.
    pub(super) fn new(address: String, seed: u64) -> Dial {
        let (delay, random) = (Span::millis(limits::PEER_RETRY_MS_MIN), SplitMix64::new(seed));
        Dial { address, due: Time(0), delay, has_failed: false, random }
    }

    pub(super) fn due(&self) -> Time {
        self.due
    }

    pub(super) fn is_due(&self, now: Time) -> bool {
        self.due <= now
    }

    /// An attempt begins; [`Dial::failed`] or [`Dial::succeeded`] must follow.
    pub(super) fn start(&mut self) -> Start {
        self.due = Time::NEVER;
        match self.address.parse() {
            Ok(address) => Start::Connect(address),
            Err(_) => Start::Resolve { address: self.address.clone(), again: self.has_failed },
        }
    }

    /// The next attempt follows later than the last time.
    pub(super) fn failed(&mut self, now: Time) {
        self.has_failed = true;
        self.wait(now);
    }

    /// An open connection was lost: try soon.
    pub(super) fn lost(&mut self, now: Time) {
        self.delay = Span::millis(limits::PEER_RETRY_MS_MIN);
        self.wait(now);
    }

    /// A connection is open.
    pub(super) fn succeeded(&mut self) {
        self.due = Time::NEVER;
        self.delay = Span::millis(limits::PEER_RETRY_MS_MIN);
        self.has_failed = false;
    }

    fn wait(&mut self, now: Time) {
        self.due = now + self.jittered();
        self.delay = Span(self.delay.times(2).0.min(Span::millis(limits::PEER_RETRY_MS_MAX).0));
    }

    /// The delay, less up to a quarter.
    fn jittered(&mut self) -> Span {
        Span(self.delay.0 - self.random.below(self.delay.0 / 4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_slow_down_to_the_limit_and_start_over() {
        let mut dial = Dial::new("127.0.0.1:7401".to_owned(), 1);
        let now = Time(1_000_000_000_000);
        assert!(dial.is_due(now));
        assert!(matches!(dial.start(), Start::Connect(_)));
        assert!(!dial.is_due(now + Span::secs(3600)), "an attempt is under way");
        let mut delays = Vec::new();
        for _ in 0..12 {
            dial.failed(now);
            delays.push((dial.due() - now).0);
        }
        assert!(delays[0] <= Span::millis(limits::PEER_RETRY_MS_MIN).0);
        assert!(delays[11] <= Span::millis(limits::PEER_RETRY_MS_MAX).0);
        assert!(delays[11] >= Span::millis(limits::PEER_RETRY_MS_MAX).0 * 3 / 4);
        assert!(delays[10] != delays[11], "jitter");
        dial.succeeded();
        dial.lost(now);
        assert!(dial.due() - now <= Span::millis(limits::PEER_RETRY_MS_MIN));
    }

    #[test]
    fn a_name_is_looked_up_elsewhere() {
        let name = "node-1.example:7401";
        let mut dial = Dial::new(name.to_owned(), 1);
        let resolve = |again| Start::Resolve { address: name.to_owned(), again };
        assert_eq!(dial.start(), resolve(false));
        dial.failed(Time(0));
        assert_eq!(dial.start(), resolve(true), "another address, if there is one");
        dial.succeeded();
        dial.lost(Time(0));
        assert_eq!(dial.start(), resolve(false), "where it was reached before");
    }
}
