//! What a node's consensus holds in memory, so that it can be compared with the bounds.

use super::progress::State;
use super::replication::HEADER_BYTES;
use super::{Raft, Role};

/// Bytes and messages that wait, at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Bytes of the newest entries of the log.
    pub tail_bytes: usize,
    /// Bytes of what a leader has proposed and is not committed.
    pub uncommitted_bytes: usize,
    /// Bytes of entries that were sent to a follower and not acknowledged; of the follower with the most.
    pub window_bytes: usize,
    /// As many messages.
    pub window_messages: usize,
    /// Bytes of old entries that were read from the log for a follower; of the follower with the most.
    pub fetched_bytes: usize,
}

impl Raft {
    /// What is held; each bound is kept but for one largest entry or message.
    pub fn held(&self) -> Held {
        let mut held = Held { tail_bytes: self.log.tail_bytes(), ..Held::default() };
        let Role::Leader(leader) = &self.role else { return held };
        held.uncommitted_bytes = leader.uncommitted_bytes;
        for peer in &leader.peers {
            if let State::Replicate(window) = &peer.state {
                held.window_bytes = held.window_bytes.max(window.bytes());
                held.window_messages = held.window_messages.max(window.len());
            }
            let fetched = peer.fetched.iter().map(|entry| HEADER_BYTES + entry.body.len()).sum();
            held.fetched_bytes = held.fetched_bytes.max(fetched);
        }
        held
    }
}
