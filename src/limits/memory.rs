//! What a node may hold in memory beside its state: a line for each holder, and their sum.

use super::*;

/// What the sum depends on.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Threads for clients.
    pub io_threads: u16,
    /// Members of the cluster, this node among them.
    pub members: usize,
    /// Requests in progress per io thread.
    pub credits: u32,
    /// Memory for read buffers of clients, in bytes.
    pub pool_bytes: u64,
}

/// A holder of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// What it holds, in words.
    pub what: &'static str,
    /// At most so many bytes.
    pub bytes: u64,
}

/// All that is bounded by something else than what clients have stored, its largest first. The state itself (list, sessions), what the
/// allocators keep, and stacks come on top.
pub fn holders(shape: &Shape) -> Vec<Holder> {
    let io_threads = u64::from(shape.io_threads);
    let peers = shape.members.saturating_sub(1) as u64;
    let bytes = |bytes: usize| bytes as u64;
    let largest_reply = bytes(KEY_BYTES_MAX + VALUE_BYTES_MAX).max(bytes(PAGE_BYTES_MAX));
    let snapshot_chunks = SNAPSHOTS_SERVED_MAX as u64 * bytes(SNAPSHOT_FRAME_BYTES_MAX) + SNAPSHOT_FETCH_BYTES_MAX;
    let snapshot_block = bytes(SNAPSHOT_BLOCK_BYTES + KEY_BYTES_MAX + VALUE_BYTES_MAX);
    let mut holders = vec![
        Holder { what: "old versions that views of clients show", bytes: bytes(VIEWS_MAX * VIEW_BYTES_MAX) },
        Holder {
            what: "old versions that views of snapshots show",
            bytes: bytes(SNAPSHOT_VIEWS_MAX * SNAPSHOT_VIEW_BYTES_MAX),
        },
        Holder {
            what: "replies that clients have not taken",
            bytes: io_threads * (bytes(IO_UNSENT_BYTES_MAX) + largest_reply),
        },
        Holder { what: "read buffers of clients", bytes: shape.pool_bytes },
        Holder {
            what: "keys of reads in progress",
            bytes: io_threads * u64::from(shape.credits) * bytes(KEY_BYTES_MAX),
        },
        Holder { what: "recent entries", bytes: bytes(RAFT_TAIL_BYTES_MAX) },
        Holder { what: "writes that are not committed", bytes: bytes(RAFT_UNCOMMITTED_BYTES_MAX + IO_BATCH_BYTES_MAX) },
        Holder {
            what: "writes on their way to the raft thread",
            bytes: io_threads * 3 * bytes(IO_BATCH_BYTES_MAX + KEY_BYTES_MAX + VALUE_BYTES_MAX),
        },
        Holder { what: "messages to peers", bytes: peers * bytes(PEER_QUEUE_BYTES_MAX) },
        Holder {
            what: "read buffers of peers",
            bytes: peers * bytes(PEER_FRAME_BYTES_MAX) + bytes(PEER_STRANGERS_MAX * PEER_READ_BUFFER_BYTES),
        },
        Holder { what: "lines of the text log", bytes: bytes(LOG_LINES_QUEUED_MAX * LOG_MESSAGE_BYTES_MAX) },
        Holder {
            what: "what is written to the log at a time",
            bytes: bytes(WAL_GROUP_BYTES_MAX + KEY_BYTES_MAX + VALUE_BYTES_MAX),
        },
        Holder { what: "snapshots on their way", bytes: snapshot_chunks + snapshot_block },
    ];
    holders.retain(|holder| holder.bytes > 0);
    holders.sort_by_key(|holder| std::cmp::Reverse(holder.bytes));
    holders
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Shape = Shape { io_threads: 1, members: 3, credits: CREDITS, pool_bytes: POOL_BYTES.default };

    fn sum(shape: &Shape) -> u64 {
        holders(shape).iter().map(|holder| holder.bytes).sum()
    }

    #[test]
    fn a_usual_node_holds_two_gigabytes_at_most_and_nearly_all_for_views_and_replies() {
        let all = holders(&USUAL);
        let most: u64 = all.iter().take(3).map(|holder| holder.bytes).sum();
        assert!(sum(&USUAL) < 2304 << 20, "{all:#?}");
        assert!(most > sum(&USUAL) * 3 / 4, "{all:#?}");
    }

    #[test]
    fn each_thread_member_and_setting_adds_what_it_may_hold() {
        let more_threads = Shape { io_threads: 2, ..USUAL };
        assert!(sum(&more_threads) - sum(&USUAL) >= IO_UNSENT_BYTES_MAX as u64);
        let more_members = Shape { members: 5, ..USUAL };
        assert_eq!(sum(&more_members) - sum(&USUAL), 2 * (PEER_QUEUE_BYTES_MAX + PEER_FRAME_BYTES_MAX) as u64);
        let larger_pool = Shape { pool_bytes: 2 * USUAL.pool_bytes, ..USUAL };
        assert_eq!(sum(&larger_pool) - sum(&USUAL), USUAL.pool_bytes);
    }
}
