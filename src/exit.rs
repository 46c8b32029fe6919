//! Exit codes of the server. Scripts and supervisors rely on them; they never change their meaning.

/// A clean stop.
pub const OK: i32 = 0;
/// The command line makes no sense.
pub const USAGE: i32 = 2;
/// An impossible or diverged state, or a panic: a bug or damaged memory. Look at what was printed before restarting.
pub const IMPOSSIBLE: i32 = 70;
/// The data directory is locked by another server, or a port is taken.
pub const BUSY: i32 = 73;
/// The disk failed.
pub const IO: i32 = 74;
/// The configuration or the data was refused.
pub const REFUSED: i32 = 78;
