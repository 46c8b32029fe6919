//! Views: pinned revisions (C-21).

/// No view can be opened now: [`crate::limits::VIEWS_MAX`] are open or being taken down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ViewsFull;
