//! A list that is built from keys in ascending order, by any one thread, beside a list that is being read: an append
//! needs no search, because the last node of each level is known.

use std::mem;
use std::ptr::NonNull;

use super::fingers::Fingers;
use super::list::{Estate, Heights, List};
use super::node::{Memory, NewVersion, Node, NodeRef};
use crate::kv::sync::LEVELS;
use crate::kv::Item;
use protocol::Index;

/// A key that is not above the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfOrder;

/// Appends keys to a list that nobody else sees yet.
pub struct Builder {
    own: Own,
    /// The last node on each level; the head where there is none.
    last: [NonNull<Node>; LEVELS],
    heights: Heights,
    fingers: Fingers,
    keys: u64,
    /// The highest revision of any value.
    newest: Index,
}

/// A finished list, applied up to some revision, that is not published yet. Dropping it frees it, which takes as long as
/// it is large.
pub struct Built {
    own: Own,
    fingers: Fingers,
    applied: Index,
    keys: u64,
}

// SAFETY: the pointers are to memory that only this builder reads, and nothing in it is bound to a thread.
unsafe impl Send for Builder {}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// A list without keys.
    pub fn new() -> Self {
        let mut memory = Memory::default();
        let list = List::new(&mut memory);
        // SAFETY: the list was just made, and nothing of it is freed before `own` is.
        let head = unsafe { list.as_ref().head() }.pointer();
        let own = Own(Some(Estate::new(list, memory)));
        Self {
            own,
            last: [head; LEVELS],
            heights: Heights::default(),
            fingers: Fingers::default(),
            keys: 0,
            newest: Index(0),
        }
    }

    /// Appends a key with its one value; takes as long for the last as for the first. An item that is refused leaves the
    /// list as it was.
    pub fn push(&mut self, item: &Item<'_>) -> Result<(), OutOfOrder> {
        // SAFETY: nothing that is linked is freed before `own` is.
        let last = self.last.map(|node| unsafe { NodeRef::new(node) });
        if self.keys > 0 && item.key <= last[0].key() {
            return Err(OutOfOrder);
        }
        let estate = self.own.estate();
        let version = estate.memory.version(&NewVersion::of(&item.versioned), None);
        let height = self.heights.draw();
        let node = estate.memory.node(item.key, height, Some(version), |_| None);
        estate.list().raise(height);
        for (level, before) in last.into_iter().enumerate().take(height) {
            // SAFETY: as above.
            before.set_next(level, Some(unsafe { NodeRef::new(node) }));
        }
        // SAFETY: linked, and nothing is unlinked here; the writer that it is given to goes on with the fingers.
        unsafe { self.fingers.insert(NodeRef::new(node)) };
        self.last[..height].fill(node);
        self.keys += 1;
        self.newest = self.newest.max(item.versioned.revision);
        Ok(())
    }

    /// Keys so far.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// The list as the state after the entry at `applied`. No value may be newer: who reads a file checks that before.
    pub fn finish(mut self, applied: Index) -> Built {
        assert!(self.newest <= applied, "a value of revision {} in a list of {applied}", self.newest);
        let own = mem::replace(&mut self.own, Own(None));
        own.as_ref().list().publish(applied.0);
        Built { own, fingers: mem::take(&mut self.fingers), applied, keys: self.keys }
    }
}

impl Built {
    /// The revision whose state this is.
    pub fn applied(&self) -> Index {
        self.applied
    }

    /// Keys in it.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// Bytes allocated for nodes and versions.
    pub fn bytes(&self) -> u64 {
        self.own.as_ref().memory.bytes() as u64
    }

    /// Gives the list away, to be published, with the memory that it came from and its writer's fingers.
    pub(super) fn into_parts(mut self) -> (NonNull<List>, Memory, Fingers) {
        let estate = self.own.0.take().expect("it is given away once");
        (estate.list_pointer(), estate.memory, self.fingers)
    }
}

/// What nobody else has seen, and frees itself.
struct Own(Option<Estate>);

impl Own {
    fn estate(&mut self) -> &mut Estate {
        self.0.as_mut().expect("it is given away when its owner ends")
    }

    fn as_ref(&self) -> &Estate {
        self.0.as_ref().expect("it is given away when its owner ends")
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(estate) = self.0.take() {
            // SAFETY: it was never published.
            unsafe { estate.free() };
        }
    }
}
