//! A list that another one has replaced, until the last reader has left it (C-20).

use std::fmt;

use super::list::Estate;
use super::shared::Shared;
use crate::kv::sync::{fence, Arc, Ordering};
use crate::limits;

/// A replaced list, on its way to the thread that frees it. If it is dropped, what is left of it is freed when the
/// store and all its readers are gone.
pub struct ReplacedList {
    shared: Arc<Shared>,
    /// The highest revision that anybody can have pinned in it.
    applied: u64,
    /// None only while it is dropped.
    estate: Option<Estate>,
    /// Nobody reads it, now or later.
    left: bool,
}

impl ReplacedList {
    /// `estate` holds the list that was the root of `shared` until `applied`.
    pub(super) fn new(shared: Arc<Shared>, applied: u64, estate: Estate) -> Self {
        Self { shared, applied, estate: Some(estate), left: false }
    }

    /// Frees a bounded part ([`limits::REPLACED_LIST_STEPS`]) of the list once every slot is above its last applied
    /// revision. `Err` gives back what is left: call again, later if [`ReplacedList::is_left`] is still false.
    #[expect(clippy::result_large_err, reason = "it is given back, to be tried again")]
    pub fn try_free(mut self) -> Result<(), Self> {
        self.left = self.left || self.every_reader_has_left();
        if !self.left {
            return Err(self);
        }
        let estate = self.estate.as_mut().expect("taken when it is dropped");
        // SAFETY: no pin can reach the list, and no pin will (`every_reader_has_left`).
        match unsafe { estate.free_some(limits::REPLACED_LIST_STEPS) } {
            true => Ok(()),
            false => Err(self),
        }
    }

    /// Whether [`ReplacedList::try_free`] has seen that nobody reads it anymore.
    pub fn is_left(&self) -> bool {
        self.left
    }

    /// Bytes that are not freed yet.
    pub fn bytes(&self) -> u64 {
        self.estate.as_ref().expect("taken when it is dropped").memory.bytes() as u64
    }

    /// The new root was stored before this list was handed out. A slot that is above what was applied in the old list
    /// was announced by a reader that had seen the new root. A slot that is idle, or was not even taken, as far as this
    /// look tells, belongs to a reader whose fence comes after this one, and who then loads the new root.
    fn every_reader_has_left(&self) -> bool {
        // Partner of the fence in `Reader::pin`.
        fence(Ordering::SeqCst);
        self.shared.oldest() > self.applied
    }
}

impl Drop for ReplacedList {
    /// The header must outlive the readers (`Shared::root`), and what was not freed yet must outlive their pins.
    fn drop(&mut self) {
        if let Some(estate) = self.estate.take() {
            self.shared.inherit(estate);
        }
    }
}

impl fmt::Debug for ReplacedList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplacedList").field("applied", &self.applied).field("left", &self.left).finish_non_exhaustive()
    }
}
