//! A slab whose keys know which life of their slot they mean: an answer for a connection that is gone finds nothing, even
//! if its slot is used again.

use slab::Slab;

/// Names one life of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Position.
    pub slot: u32,
    /// Rises each time the slot is used again.
    pub generation: u32,
}

/// Values by key.
#[derive(Debug)]
pub struct Connections<T> {
    slots: Slab<(u32, T)>,
    /// Of the next value in any slot; wraps after four billion connections, when nothing old is left.
    generation: u32,
}

impl<T> Default for Connections<T> {
    fn default() -> Self {
        Self { slots: Slab::new(), generation: 0 }
    }
}

impl<T> Connections<T> {
    /// Adds what `make` makes of its key.
    pub fn insert_with(&mut self, make: impl FnOnce(Key) -> T) -> Key {
        self.generation = self.generation.wrapping_add(1);
        let vacant = self.slots.vacant_entry();
        let slot = u32::try_from(vacant.key()).expect("fewer than four billion sockets are open");
        let key = Key { slot, generation: self.generation };
        vacant.insert((self.generation, make(key)));
        key
    }

    /// The value of this very key.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.slots.get_mut(key.slot as usize) {
            Some((generation, value)) if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// Takes it out.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        self.get_mut(key)?;
        Some(self.slots.remove(key.slot as usize).1)
    }

    /// The key that a slot has now.
    pub fn key_of(&self, slot: usize) -> Option<Key> {
        self.slots.get(slot).map(|(generation, _)| Key { slot: slot as u32, generation: *generation })
    }

    /// All of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut T)> {
        self.slots
            .iter_mut()
            .map(|(slot, (generation, value))| (Key { slot: slot as u32, generation: *generation }, value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_is_used_again_has_another_key() {
        let mut connections = Connections::default();
        let first = connections.insert_with(|_| "first");
        assert_eq!(connections.remove(first), Some("first"));
        let second = connections.insert_with(|_| "second");
        assert_eq!(first.slot, second.slot);
        assert_eq!(connections.get_mut(first), None);
        assert_eq!(connections.remove(first), None);
        assert_eq!(connections.key_of(0), Some(second));
        assert_eq!(connections.get_mut(second), Some(&mut "second"));
    }
}
