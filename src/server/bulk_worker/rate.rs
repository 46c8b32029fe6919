//! So many bytes a second, and no more: what is not urgent leaves disk and network to what is.

use crate::time::{Span, Time};

/// A limit that saves nothing up: after a pause it begins anew.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    bytes_per_second: u64,
    /// When the next bytes may move.
    due: Time,
}

impl Rate {
    /// At least one byte a second.
    pub(super) fn new(bytes_per_second: u64) -> Rate {
        Rate { bytes_per_second: bytes_per_second.max(1), due: Time(0) }
    }

    /// When the next bytes may move.
    pub(super) fn due(&self) -> Time {
        self.due
    }

    /// So many bytes were moved now.
    pub(super) fn spend(&mut self, now: Time, bytes: u64) {
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        self.due = self.due.max(now) + Span(u64::try_from(nanoseconds).unwrap_or(u64::MAX / 2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_their_time_and_pauses_are_not_saved_up() {
        let mut rate = Rate::new(1000);
        let start = Time(5_000_000_000);
        assert!(rate.due() <= start);
        rate.spend(start, 500);
        assert_eq!(rate.due(), start + Span::millis(500));
        rate.spend(start, 500);
        assert_eq!(rate.due(), start + Span::secs(1), "what was spent early is paid back");
        let later = start + Span::secs(60);
        rate.spend(later, 1000);
        assert_eq!(rate.due(), later + Span::secs(1));
    }
}
