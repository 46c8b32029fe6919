//! Log commands: the body of an entry of kind `Command`. Deterministic: applying one reads nothing but the state machine.

/// One command of the state machine, borrowed from an entry's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Creates a key; refuses an existing one.
    Put {
        /// Key.
        key: &'a [u8],
        /// Value.
        value: &'a [u8],
    },
    /// Creates or replaces.
    Update {
        /// Key.
        key: &'a [u8],
        /// Value.
        value: &'a [u8],
    },
    /// Removes a key; refuses a missing one.
    Remove {
        /// Key.
        key: &'a [u8],
    },
}
