//! The key-value state machine: an ordered, multi-version map with one writer and lock-free readers.
//!
//! The raft thread owns the [`Store`] and applies committed entries; each io thread owns a [`Reader`]. Revisions are
//! log indexes. Nothing that an entry wrote is seen before [`Store::publish`] names it (C-19).
//!
//! ```text
//!  raft thread                                  io thread
//!  store.apply(revision, &command) -> Outcome   let pinned = reader.pin();
//!  store.publish(revision)                      if pinned.applied() >= read_index { pinned.get(key) }
//! ```

mod view;

use protocol::command::Command;
use protocol::request::ViewId;
use protocol::Index;

pub use view::ViewsFull;

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The key is new (put, update).
    Created,
    /// The key's value was replaced (update).
    Updated,
    /// The key is gone (remove).
    Removed,
    /// Refused: the key exists (put).
    Exists,
    /// Refused: there is no such key (remove).
    NotFound,
}

/// A value and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versioned<'a> {
    /// The value.
    pub value: &'a [u8],
    /// The log index of the entry that wrote it.
    pub revision: Index,
    /// The log index of the entry that created the key.
    pub create_revision: Index,
    /// How many times the key was written since it was created; 1 = just created.
    pub version: u64,
}

/// One key of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its value.
    pub found: Versioned<'a>,
}

/// The state machine's writer; owned by the raft thread.
pub struct Store {
    applied: Index,
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl Store {
    /// An empty store, applied up to index 0.
    pub fn new() -> Self {
        Self { applied: Index(0) }
    }

    /// Applies one command of the entry at `revision`. Readers see it once [`Store::publish`] has named the revision.
    pub fn apply(&mut self, _revision: Index, _command: &Command<'_>) -> Outcome {
        Outcome::NotFound
    }

    /// Applies all commands of one entry, in order: readers see all or none of them (C-19). Outcomes are appended.
    pub fn apply_all(&mut self, revision: Index, commands: &[Command<'_>], outcomes: &mut Vec<Outcome>) {
        outcomes.extend(commands.iter().map(|command| self.apply(revision, command)));
    }

    /// Publishes everything up to `applied` (C-19); call it after every entry, also after those that write nothing.
    /// Then reclaims a bounded number of old versions (C-20).
    pub fn publish(&mut self, applied: Index) {
        self.applied = applied;
    }

    /// The published revision.
    pub fn applied(&self) -> Index {
        self.applied
    }

    /// Keys that exist, published or not.
    pub fn keys(&self) -> u64 {
        0
    }

    /// Bytes allocated for nodes and versions, those that wait to be freed included.
    pub fn bytes(&self) -> u64 {
        0
    }

    /// The newest value of `key`, published or not.
    pub fn get(&self, _key: &[u8]) -> Option<Versioned<'_>> {
        None
    }

    /// A reader for another thread. It may outlive the store. Panics beyond [`crate::limits::READERS_MAX`] readers.
    pub fn reader(&self) -> Reader {
        Reader {}
    }

    /// Opens a view of the published revision (C-21). `boot` is the random number of this process.
    pub fn open_view(&mut self, _boot: u64) -> Result<ViewId, ViewsFull> {
        Err(ViewsFull)
    }

    /// Closes a view; false if it was not open (closed before, or abandoned because it held too many bytes).
    pub fn close_view(&mut self, _view: ViewId) -> bool {
        false
    }
}

/// One thread's way to read.
pub struct Reader {}

impl Reader {
    /// Pins the newest published state, until the result is dropped. Keep it for one batch, not longer: what is
    /// overwritten meanwhile cannot be freed.
    pub fn pin(&mut self) -> Pinned<'_> {
        Pinned { _reader: self }
    }
}

/// The published state of one revision.
pub struct Pinned<'a> {
    _reader: &'a Reader,
}

impl Pinned<'_> {
    /// The revision that is seen. The permission test of C-18 is `applied() >= read index`, on this very pin.
    pub fn applied(&self) -> Index {
        Index(0)
    }

    /// The value of `key`.
    pub fn get(&self, _key: &[u8]) -> Option<Versioned<'_>> {
        None
    }

    /// The keys in `from..to`, bytewise ascending; `to = None` is "to the end".
    pub fn range(&self, _from: &[u8], _to: Option<&[u8]>) -> Range<'_> {
        Range { items: [].iter() }
    }

    /// The state at an open view's revision; None once the view is closed. What it returns stays whole as long as this
    /// pin, even if the view is closed meanwhile.
    pub fn at_view(&self, _view: ViewId) -> Option<ViewPinned<'_>> {
        None
    }
}

/// The state at a view's revision.
pub struct ViewPinned<'a> {
    _pinned: &'a Reader,
}

impl<'a> ViewPinned<'a> {
    /// The view's revision.
    pub fn revision(&self) -> Index {
        Index(0)
    }

    /// The value of `key`.
    pub fn get(&self, _key: &[u8]) -> Option<Versioned<'a>> {
        None
    }

    /// The keys in `from..to`, bytewise ascending; `to = None` is "to the end".
    pub fn range(&self, _from: &[u8], _to: Option<&[u8]>) -> Range<'a> {
        Range { items: [].iter() }
    }
}

/// Keys and values in order.
pub struct Range<'a> {
    items: std::slice::Iter<'a, Item<'a>>,
}

impl<'a> Iterator for Range<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        self.items.next().copied()
    }
}
