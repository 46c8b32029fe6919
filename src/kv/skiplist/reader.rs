//! The readers' side: pinning a revision and reading at it.

use super::list::{descend, List};
use super::node::{NodeRef, VersionRef, Wanted};
use super::shared::Shared;
use super::warm::{Lanes, LANES};
use crate::kv::sync::{fence, Arc, Ordering};
use crate::kv::{Item, Versioned};
use protocol::request::ViewId;
use protocol::Index;

/// One thread's way to read. Reading takes no lock and allocates nothing. It may outlive the store.
pub struct Reader {
    shared: Arc<Shared>,
    slot: usize,
}

impl Reader {
    /// None when all slots are taken.
    pub(super) fn new(shared: Arc<Shared>) -> Option<Self> {
        let slot = shared.take_slot()?;
        Some(Self { shared, slot })
    }

    /// Pins the newest published state, until the result is dropped. Keep it for one batch, not longer: what is
    /// overwritten meanwhile cannot be freed.
    pub fn pin(&mut self) -> Pinned<'_> {
        // C-19. The first look only says what to announce; it may be old by the time it is announced, but never newer
        // than the second.
        let announced = self.shared.root().applied();
        self.shared.slot(self.slot).announce(announced);
        // Partner of the fence in `Writer::reclaim`: either the writer sees the slot, or this thread sees below all
        // that the writer had published and unlinked.
        fence(Ordering::SeqCst);
        let list = self.shared.root();
        let revision = list.applied();
        assert!(revision >= announced, "applied went back from {announced} to {revision}");
        // SAFETY: the pin has begun, and lasts as long as the reader is borrowed.
        let head = unsafe { list.head() };
        Pinned { reader: self, state: State { list, head, revision } }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.slot(self.slot).release();
    }
}

/// A list at a revision.
#[derive(Clone, Copy)]
struct State<'a> {
    list: &'a List,
    head: NodeRef<'a>,
    revision: u64,
}

impl<'a> State<'a> {
    fn get(self, key: &[u8]) -> Option<Versioned<'a>> {
        let wanted = Wanted::new(key);
        let node = descend(self.head, self.list.levels(), &wanted, |_, _| {}).filter(|node| node.is(&wanted))?;
        node.at(self.revision).map(VersionRef::versioned)
    }

    fn range(self, from: &[u8], to: Option<&'a [u8]>) -> Range<'a> {
        Range {
            next: self.list.seek(self.head, from, |_, _| {}),
            to,
            revision: self.revision,
            looked: 0,
            most: u64::MAX,
        }
    }
}

/// The published state of one revision.
pub struct Pinned<'a> {
    reader: &'a Reader,
    state: State<'a>,
}

impl Pinned<'_> {
    /// The revision that is seen. The permission test of C-18 is `applied() >= read index`, on this very pin.
    pub fn applied(&self) -> Index {
        Index(self.state.revision)
    }

    /// The value of `key`.
    pub fn get(&self, key: &[u8]) -> Option<Versioned<'_>> {
        self.state.get(key)
    }

    /// Fetches what is needed to find each of these keys, beside each other: call it before a batch of [`Pinned::get`].
    pub fn warm<'k>(&self, mut keys: impl Iterator<Item = &'k [u8]>) {
        let State { list, head, .. } = self.state;
        loop {
            let mut lanes = Lanes::new(head, list.levels(), &mut keys, |_, _| {});
            if lanes.len() > 1 {
                lanes.walk(|_, _, _| {}); // a single one has nothing beside it
            }
            if lanes.len() < LANES {
                return;
            }
        }
    }

    /// The keys in `from..to`, bytewise ascending; `to = None` is "to the end".
    pub fn range<'r>(&'r self, from: &[u8], to: Option<&'r [u8]>) -> Range<'r> {
        self.state.range(from, to)
    }

    /// The state at an open view's revision; None once the view is closed. What it returns stays whole as long as this
    /// pin, even if the view is closed meanwhile.
    pub fn at_view(&self, view: ViewId) -> Option<ViewPinned<'_>> {
        let shared = &self.reader.shared;
        // A view of a list that has replaced the pinned one was opened after it became the root: who finds the view open
        // finds that root. The views of the pinned one end with it.
        let open = shared.views.is_open(view) && std::ptr::eq(shared.root(), self.state.list);
        let revision = sabotage!(ViewShowsNewest, view.revision.0, self.state.revision);
        open.then_some(ViewPinned { state: State { revision, ..self.state } })
    }
}

impl Drop for Pinned<'_> {
    fn drop(&mut self) {
        self.reader.shared.slot(self.reader.slot).retract();
    }
}

/// The state at a view's revision.
pub struct ViewPinned<'a> {
    state: State<'a>,
}

impl<'a> ViewPinned<'a> {
    /// The view's revision.
    pub fn revision(&self) -> Index {
        Index(self.state.revision)
    }

    /// The value of `key`.
    pub fn get(&self, key: &[u8]) -> Option<Versioned<'a>> {
        self.state.get(key)
    }

    /// The keys in `from..to`, bytewise ascending; `to = None` is "to the end".
    pub fn range(&self, from: &[u8], to: Option<&'a [u8]>) -> Range<'a> {
        self.state.range(from, to)
    }
}

/// Keys and values in order.
pub struct Range<'a> {
    /// The first node that was not looked at yet.
    next: Option<NodeRef<'a>>,
    to: Option<&'a [u8]>,
    revision: u64,
    /// Nodes that were looked at, those that have no version at the revision among them.
    looked: u64,
    /// How many may be.
    most: u64,
}

impl<'a> Range<'a> {
    /// Ends when so many nodes were looked at, those that came after the revision among them; [`Range::rest`] says where.
    pub fn at_most(self, nodes: u64) -> Range<'a> {
        Range { most: nodes, ..self }
    }

    /// How many nodes were looked at.
    pub fn looked(&self) -> u64 {
        self.looked
    }

    /// Once it has ended: the first key that was not looked at, because enough were.
    pub fn rest(&self) -> Option<&'a [u8]> {
        self.next.map(NodeRef::key).filter(|key| self.to.is_none_or(|to| *key < to))
    }
}

impl<'a> Iterator for Range<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        loop {
            let node = self.next.filter(|_| self.looked < self.most)?;
            let key = node.key();
            if self.to.is_some_and(|to| key >= to) {
                self.next = None;
                return None;
            }
            self.looked += 1;
            self.next = node.next(0);
            if let Some(version) = node.at(self.revision) {
                return Some(Item { key, versioned: version.versioned() });
            }
        }
    }
}
