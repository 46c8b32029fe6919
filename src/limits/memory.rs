//! What a node may hold in memory beside its state: a line for each holder. Derived from the bounds in `limits`, not measured.

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

/// A session's requests and results (see [`SESSION_WINDOW`]).
const SESSION_BYTES_MAX: u64 = 10 * 1024;
/// An entry in memory is charged its header and body; beside them it takes half a header more, and its place in a queue that doubles.
const ENTRIES_TAKE: u64 = 3;
/// A vector that grows doubles.
const GROWN: u64 = 2;

/// All that something else than the state bounds, the largest first. Each line is the most that its holder has if clients do their worst;
/// usual loads leave nearly all of it unused.
///
/// On top come: the state (the list, sessions), a second one while a received snapshot takes its place, what is overwritten on a follower while it
/// takes a snapshot that was given up twice before (C-21), what allocators keep, and stacks.
pub fn holders(shape: &Shape) -> Vec<Holder> {
    let io_threads = u64::from(shape.io_threads);
    let peers = shape.members.saturating_sub(1) as u64;
    let bytes = |bytes: usize| bytes as u64;
    let largest_write = bytes(KEY_BYTES_MAX + VALUE_BYTES_MAX);
    let batch = bytes(IO_BATCH_BYTES_MAX) + largest_write;
    // Those in the links' rings, and one in each thread's hands.
    let batches = 4 * io_threads * batch;
    let uncommitted = bytes(RAFT_UNCOMMITTED_BYTES_MAX) + batches;
    let line = bytes(LOG_MESSAGE_BYTES_MAX + 4 * LOG_NAME_BYTES_MAX + 64);
    let snapshot_peer = bytes(PEER_READ_BUFFER_BYTES + SNAPSHOT_FRAME_BYTES_MAX);
    let snapshot_block = bytes(SNAPSHOT_BLOCK_BYTES) + largest_write;
    let line_of = |what, bytes| Holder { what, bytes };
    let mut holders = vec![
        line_of("old versions that views of clients show", bytes(VIEWS_MAX * VIEW_BYTES_MAX)),
        line_of("old versions that views of snapshots show", bytes(SNAPSHOT_VIEWS_MAX * SNAPSHOT_VIEW_BYTES_MAX)),
        line_of("copies of sessions, while a snapshot is taken", SESSIONS_MAX as u64 * SESSION_BYTES_MAX),
        line_of("read buffers of clients (pool-bytes)", shape.pool_bytes),
        line_of("replies that clients have not taken", io_threads * (bytes(IO_UNSENT_BYTES_MAX) + largest_write)),
        line_of("empty reply buffers", io_threads * bytes(CLIENT_CONNECTIONS_MAX * CLIENT_OUT_BYTES_KEPT)),
        // A key keeps the block that it lies in.
        line_of(
            "keys of reads in progress (credits)",
            io_threads * u64::from(shape.credits) * bytes(ARENA_BYTES.max(2 * KEY_BYTES_MAX)),
        ),
        line_of("blocks for small commands", (io_threads + 1) * bytes(ARENA_BLOCKS_MAX * ARENA_BYTES)),
        line_of("recent entries", ENTRIES_TAKE * bytes(RAFT_TAIL_BYTES_MAX)),
        line_of("writes that are not committed", ENTRIES_TAKE * uncommitted),
        line_of("what is written to the log at a time", GROWN * uncommitted),
        line_of("messages to peers", peers * bytes(PEER_QUEUE_BYTES_MAX)),
        line_of("old entries for peers", peers * 2 * bytes(PEER_APPEND_BYTES_MAX)),
        line_of(
            "read buffers of peers",
            peers * bytes(PEER_FRAME_BYTES_MAX) + bytes(PEER_STRANGERS_MAX * PEER_READ_BUFFER_BYTES),
        ),
        line_of(
            "snapshots on their way",
            (SNAPSHOTS_SERVED_MAX as u64 + peers) * snapshot_peer + SNAPSHOT_FETCH_BYTES_MAX + GROWN * snapshot_block,
        ),
        line_of("what is touched ahead for a state that grows", bytes(AHEAD_BYTES_MAX)),
        line_of("lines of the text log", LOG_LINES_QUEUED_MAX as u64 * (bytes(LOG_SHORT_LINE_BYTES) + line)),
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
    fn most_of_what_a_usual_node_may_hold_is_for_views_and_reads() {
        let all = holders(&USUAL);
        let most: u64 = all.iter().take(3).map(|holder| holder.bytes).sum();
        assert!(sum(&USUAL) < 4608 << 20, "{all:#?}");
        assert!(most > sum(&USUAL) / 2, "{all:#?}");
    }

    #[test]
    fn each_thread_member_and_setting_adds_what_it_may_hold() {
        let more_threads = Shape { io_threads: 2, ..USUAL };
        assert!(sum(&more_threads) - sum(&USUAL) >= IO_UNSENT_BYTES_MAX as u64);
        let more_members = Shape { members: 5, ..USUAL };
        assert!(sum(&more_members) - sum(&USUAL) >= 2 * (PEER_QUEUE_BYTES_MAX + PEER_FRAME_BYTES_MAX) as u64);
        let larger_pool = Shape { pool_bytes: 2 * USUAL.pool_bytes, ..USUAL };
        assert_eq!(sum(&larger_pool) - sum(&USUAL), USUAL.pool_bytes);
    }
}
