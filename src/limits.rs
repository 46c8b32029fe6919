//! Every bound in one place: unit, reason, and sums with one line per holder.

/// Longest key, in bytes. A key is copied into every node of the skip list; beyond this it is a value.
pub const KEY_BYTES_MAX: usize = 4 * 1024;
/// Longest value, in bytes: one value must fit one frame and one pool buffer, and must not hold a heartbeat up.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;
/// Commands up to this size are copied into their batch's arena, so that a small command does not pin a read buffer (C-27).
pub const COPIED_COMMAND_BYTES_MAX: usize = 4 * 1024;

// kv

/// Threads that may read the skip list at a time: io threads, bulk worker, and a few to spare. The writer looks at every
/// slot that was ever used after each entry.
pub const READERS_MAX: usize = 64;
/// Views that may be open at a time, those being taken down included (C-21). Each may add one version per key to a look-up.
pub const VIEWS_MAX: usize = 16;
