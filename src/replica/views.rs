//! Which client views are open, and when they were last read (C-21). The state machine pins; this only keeps the time.

use protocol::request::ViewId;

use crate::limits::{VIEWS_MAX, VIEW_IDLE_MS};
use crate::time::{Span, Time};

/// The open views; at most [`VIEWS_MAX`].
#[derive(Debug, Default)]
pub(super) struct Views {
    open: Vec<(ViewId, Time)>,
}

impl Views {
    pub(super) fn opened(&mut self, now: Time, view: ViewId) {
        assert!(self.open.len() < VIEWS_MAX, "the store opens no more");
        self.open.push((view, now + Span::millis(VIEW_IDLE_MS)));
    }

    /// Its idle time starts again. A view that is gone stays gone.
    pub(super) fn touched(&mut self, now: Time, view: ViewId) {
        if let Some((_, expiry)) = self.open.iter_mut().find(|(open, _)| *open == view) {
            *expiry = now + Span::millis(VIEW_IDLE_MS);
        }
    }

    /// Forgets those that the store has ended on its own, because they held too much.
    pub(super) fn keep(&mut self, is_open: impl Fn(ViewId) -> bool) {
        self.open.retain(|(view, _)| is_open(*view));
    }

    /// All have ended with the state that they showed.
    pub(super) fn clear(&mut self) {
        self.open.clear();
    }

    /// Returns whether it was open.
    pub(super) fn closed(&mut self, view: ViewId) -> bool {
        let before = self.open.len();
        self.open.retain(|(open, _)| *open != view);
        self.open.len() < before
    }

    /// Takes out one view that nobody has read for too long.
    pub(super) fn expired(&mut self, now: Time) -> Option<ViewId> {
        let position = self.open.iter().position(|(_, expiry)| *expiry <= now)?;
        Some(self.open.swap_remove(position).0)
    }

    pub(super) fn next_deadline(&self) -> Time {
        self.open.iter().map(|(_, expiry)| *expiry).min().unwrap_or(Time::NEVER)
    }
}

#[cfg(test)]
mod tests {
    use protocol::Index;

    use super::*;

    #[test]
    fn c21_a_view_ends_after_thirty_idle_seconds() {
        let view = ViewId { boot: 1, revision: Index(3), serial: 0 };
        let mut views = Views::default();
        let start = Time(0);
        views.opened(start, view);
        views.touched(start + Span::secs(20), view);
        assert_eq!(views.expired(start + Span::millis(49_999)), None);
        assert_eq!(views.next_deadline(), start + Span::secs(50));
        assert_eq!(views.expired(start + Span::secs(50)), Some(view));
        assert!(!views.closed(view));
        assert_eq!(views.next_deadline(), Time::NEVER);
    }
}
