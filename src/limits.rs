//! Every bound in one place: unit and reason; [`memory`] sums them with one line per holder.

pub mod memory;

/// Longest key, in bytes. A key is copied into every node of the skip list; beyond this it is a value.
pub const KEY_BYTES_MAX: usize = 4 * 1024;
/// Longest value, in bytes: one value must fit one frame and one pool buffer, and must not hold a heartbeat up.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;
/// Longest value that is read as a number, in bytes: all of 64 bits and some zeroes in front. A batch of 128 increments must
/// not make every node read 128 MiB while it applies one entry.
pub const NUMBER_BYTES_MAX: usize = 32;
/// Commands up to this size are copied into an arena, so that a small command does not pin a read buffer (C-27).
pub const COPIED_COMMAND_BYTES_MAX: usize = 4 * 1024;

// kv

/// Threads that may read the skip list at a time: io threads, bulk worker, and a few to spare. The writer looks at every
/// slot that was ever used after each entry.
pub const READERS_MAX: usize = 64;
/// Views that may be open at a time, those being taken down included (C-21). Each may add one version per key to a look-up.
pub const VIEWS_MAX: usize = 16;
/// Bytes of old versions that one view may hold back; one that needs more is closed. All views together hold at most
/// `VIEWS_MAX` times as much, and what is overwritten while such a view is being closed.
pub const VIEW_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Views of snapshots that may exist at a time, besides those of clients: one that is read, one that is being taken down.
pub const SNAPSHOT_VIEWS_MAX: usize = 2;
/// Bytes of old versions that the view of a snapshot may hold back; one that needs more is abandoned, the third in a row
/// holds writes back instead (C-21). A quarter of a gigabyte overwritten while a snapshot is taken.
pub const SNAPSHOT_VIEW_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Nodes of a replaced list that are freed before other bulk work has its turn: a millisecond or so.
pub const REPLACED_LIST_STEPS: usize = 4 * 1024;
/// Old versions that are unlinked or freed after each entry, besides four steps for each of its commands (so that a backlog
/// shrinks under load): some ten microseconds.
pub const RECLAIM_STEPS: usize = 64;
/// The same at each look while nothing is applied: a few hundred microseconds, so that what comes meanwhile waits no longer.
pub const RECLAIM_IDLE_STEPS: usize = 1024;
/// Time between two such looks, in milliseconds: a view that held a million versions is freed in some seconds, in a tenth of
/// the thread's time.
pub const RECLAIM_IDLE_MS: u64 = 5;

/// Operations of one batch, the format's own bound: what one entry may do before the next has its turn.
pub const BATCH_OPERATIONS_MAX: usize = 128;
/// Requests of one session that may be in flight, and results that it keeps: enough to fill a long link, 10 KiB at most.
pub const SESSION_WINDOW: usize = 256;
/// A session that is not used for so long is removed, in milliseconds of log time: longer than any retry or partition that a
/// client waits out.
pub const SESSION_TTL_MS: u64 = 300_000;
/// Open sessions; beyond, no more are opened. With all their results they take 160 MiB.
pub const SESSIONS_MAX: usize = 16 * 1024;

// Lengths are kept in 32 bits.
const _: () = assert!(KEY_BYTES_MAX < 1 << 32);
const _: () = assert!(VALUE_BYTES_MAX < 1 << 32);

// --- settings that an operator may change: bounds and defaults (config.rs) ---

/// A size that can be set, with its bounds.
#[derive(Clone, Copy, Debug)]
pub struct SizeLimits {
    /// Smallest allowed.
    pub min: u64,
    /// If nothing is said.
    pub default: u64,
    /// Largest allowed.
    pub max: u64,
}

/// Members of one cluster: beyond nine, each write waits for more disks than it is worth.
pub const MEMBERS_MAX: usize = 9;
/// Highest node id: room for many replaced nodes, and small enough for bit sets.
pub const NODE_ID_MAX: u32 = 1023;
/// Node i of a local cluster serves clients at this port + 10 * i, and peers at the next one.
pub const BASE_PORT: u16 = 7400;
/// Threads for clients: each takes a reader of the skip list.
pub const IO_THREADS_MAX: u16 = 48;
const _: () = assert!((IO_THREADS_MAX as usize) < READERS_MAX);
/// Smallest election timeout, in milliseconds. A crash is noticed by lost connections long before (C-15), so this one only has to
/// notice silence, and may survive a noisy machine that stalls a thread for hundreds of milliseconds.
pub const ELECTION_TIMEOUT_MIN_MS: u64 = 1000;
/// Longest election timeout that can be set, in milliseconds: beyond ten minutes it is a mistake.
pub const ELECTION_TIMEOUT_MS_MAX: u64 = 600_000;
/// A leader's interval, in milliseconds: ten signs of life per election timeout.
pub const HEARTBEAT_MS: u64 = 100;
/// One file of the log. Must hold the largest batch.
pub const SEGMENT_BYTES: SizeLimits = SizeLimits { min: 64 << 10, default: 16 << 20, max: 1 << 30 };
/// The smallest segment that can hold the largest entry beside its headers.
pub const fn segment_bytes_min(key_bytes_max: usize, value_bytes_max: usize) -> u64 {
    key_bytes_max as u64 + value_bytes_max as u64 + SEGMENT_BYTES.min
}
/// A segment that is waited for, because none was prepared: zero-filling 64 MiB took 0.7 s of a cluster's first start.
pub const SEGMENT_URGENT_BYTES: u64 = 1 << 20;
/// Longest key, settable below the limit of the formats.
pub const KEY_BYTES: SizeLimits = SizeLimits { min: 1, default: KEY_BYTES_MAX as u64, max: KEY_BYTES_MAX as u64 };
/// Longest value, settable below the limit of the formats.
pub const VALUE_BYTES: SizeLimits = SizeLimits { min: 1, default: VALUE_BYTES_MAX as u64, max: VALUE_BYTES_MAX as u64 };
/// Requests in progress per io thread (C-26).
pub const CREDITS: u32 = 16 * 1024;
/// Fewest credits that can be set: less would hold a pipeline up without saving anything.
pub const CREDITS_MIN: u32 = 16;
/// Most credits that can be set: each may pin a command.
pub const CREDITS_MAX: u32 = 1024 * 1024;
/// Memory for read buffers of clients, all io threads together.
pub const POOL_BYTES: SizeLimits = SizeLimits { min: 8 << 20, default: 64 << 20, max: 64 << 30 };

// --- logging ---

/// Lines that wait for the logging thread; beyond, they are dropped and counted. 4 MiB of slots; 32 MiB if all are of the
/// longest.
pub const LOG_LINES_QUEUED_MAX: usize = 8 * 1024;
/// Lines up to here, with their names, lie in the queue's slots, in bytes; handing over a longer one allocates.
pub const LOG_SHORT_LINE_BYTES: usize = 480;
/// How far the logging thread stands back behind others where processors are scarce (`nice`): a third of their share.
pub const LOG_NICENESS: i32 = 5;
/// Longest last words of a process, in bytes: what a pipe takes whole or not at all (PIPE_BUF).
pub const LAST_WORDS_BYTES_MAX: usize = 4 * 1024;
/// How long a flush of the log may take while its sinks make progress, in milliseconds: a full queue of the longest lines is
/// 32 MiB, which a disk takes in less.
pub const LOG_FLUSH_MS_MAX: u64 = 2_000;
/// Where a message is cut, in bytes.
pub const LOG_MESSAGE_BYTES_MAX: usize = 4 * 1024;
/// Where the name of a thread, logger, module or file is cut, in bytes; its length is one byte.
pub const LOG_NAME_BYTES_MAX: usize = 255;
/// Laid-out lines of one sink that are written together, in bytes.
pub const LOG_WRITE_BYTES: usize = 64 * 1024;
/// How often a log's file is looked at, and how soon what failed is tried again, in milliseconds.
pub const LOG_TICK_MS: u64 = 1_000;
/// A message that repeats is told with its count after so long, in milliseconds, if nothing else is said before.
pub const LOG_REPEAT_MS: u64 = 5_000;
/// How often standard error is told that a log's file still fails, in milliseconds.
pub const LOG_COMPLAINT_MS: u64 = 60_000;
/// Sinks of one log.
pub const LOG_SINKS_MAX: usize = 8;
/// Rotated files that stay, unless said otherwise.
pub const LOG_FILES_KEPT: usize = 8;
/// Most rotated files that can be asked for: they are listed at each rotation.
pub const LOG_FILES_KEPT_MAX: usize = 1_000;
/// Highest number of a rotated file: below what could be a date (20261123), so that files which others named by one are not
/// taken for ours.
pub const LOG_FILE_NUMBER_MAX: u64 = 9_999_999;
/// Size at which a log's file is rotated; the default is the one of a file that names none.
pub const LOG_ROTATE_BYTES: SizeLimits = SizeLimits { min: 4 << 10, default: 64 << 20, max: 1 << 40 };
/// Directives of a filter, and their bytes; also of one that a client sends.
pub const LOG_DIRECTIVES_MAX: usize = 64;
/// Bytes of a filter.
pub const LOG_FILTER_BYTES_MAX: usize = 1024;
/// Bytes of a pattern.
pub const LOG_PATTERN_BYTES_MAX: usize = 1024;
/// Widest field of a pattern.
pub const LOG_FIELD_WIDTH_MAX: usize = 128;

// replica

/// How often a Format is given again to a connected member that is not seen to have it, in milliseconds (C-17).
pub const FORMAT_RESEND_MS: u64 = 250;
/// A view that was not read for so long is closed, in milliseconds (C-21).
pub const VIEW_IDLE_MS: u64 = 30_000;
/// A refused permission to read is asked for anew after so long, in milliseconds, or as soon as there is a new leader.
pub const READ_RETRY_MS: u64 = 100;

// --- connections between nodes (net/peer.rs, server/peers.rs); sizes in bytes, per connection (C-27) ---

/// Entries in one AppendEntries; a single larger entry travels alone.
pub const PEER_APPEND_BYTES_MAX: usize = 1024 * 1024;
/// Sent to one peer and not durably acknowledged.
pub const PEER_INFLIGHT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The largest frame: a full AppendEntries or one largest entry, with its heads.
pub const PEER_FRAME_BYTES_MAX: usize = PEER_APPEND_BYTES_MAX + KEY_BYTES_MAX + VALUE_BYTES_MAX + 64 * 1024;
/// Unsent bytes of one connection: its inflight window and one largest frame. Beyond, messages are dropped.
pub const PEER_QUEUE_BYTES_MAX: usize = PEER_INFLIGHT_BYTES_MAX + PEER_FRAME_BYTES_MAX;
/// The read buffer while frames are of usual size; it grows for the time of one larger frame.
pub const PEER_READ_BUFFER_BYTES: usize = 256 * 1024;
/// Read from one peer before the others have their turn.
pub const PEER_READ_BYTES_PER_TURN: usize = 1024 * 1024;
/// Bodies from here on are sent from where they are; shorter ones are cheaper to copy than to list.
pub const PEER_BODY_BY_REFERENCE_BYTES_MIN: usize = 512;

// wal

/// How many bytes of the newest entries a start reads back into memory; older ones are read when they are wanted.
pub const RECOVERED_TAIL_BYTES: usize = 16 * 1024 * 1024;
/// AppendEntries sent to one peer and not acknowledged: enough to keep a link busy while the follower syncs.
pub const PEER_INFLIGHT_MESSAGES_MAX: usize = 256;
/// Accepted connections that have not said HELLO.
pub const PEER_STRANGERS_MAX: usize = 32;
/// Peer connections that are accepted in one turn: some hundred microseconds, so that somebody who connects without end holds
/// no heartbeat up.
pub const PEER_ACCEPTS_PER_TURN: usize = 16;
/// When accepting is tried again after it has failed, in milliseconds: files may have been closed, and nothing tells of that.
pub const ACCEPT_RETRY_MS: u64 = 250;
/// A connection that is not admitted after so long is closed, in milliseconds.
pub const PEER_GREETING_MS: u64 = 3_000;
/// A peer whose kernel acknowledges nothing for so long is given up, in milliseconds (`TCP_USER_TIMEOUT`).
pub const PEER_SILENCE_MS: u64 = 5_000;
/// First wait between two attempts to connect, in milliseconds; it doubles.
pub const PEER_RETRY_MS_MIN: u64 = 10;
/// Longest wait between two attempts to connect, in milliseconds.
pub const PEER_RETRY_MS_MAX: u64 = 200;
/// Different complaints about peers that are remembered, so that each is logged once.
pub const PEER_COMPLAINTS_MAX: usize = 256;

// --- snapshots between nodes, and on the disk (server/bulk_worker) ---

/// Bytes of a snapshot's file in one SNAPSHOT_CHUNK: some milliseconds of a disk or a link.
pub const SNAPSHOT_CHUNK_BYTES_MAX: usize = 256 * 1024;
/// A chunk's frame, with its heads.
pub const SNAPSHOT_FRAME_BYTES_MAX: usize = SNAPSHOT_CHUNK_BYTES_MAX + 1024;
/// Bytes of a file that are asked for and not here: keeps a link busy while the receiver writes.
pub const SNAPSHOT_FETCH_BYTES_MAX: u64 = 4 * SNAPSHOT_CHUNK_BYTES_MAX as u64;
/// Connections over which others fetch snapshots at a time; each holds a read buffer and one chunk.
pub const SNAPSHOTS_SERVED_MAX: usize = 4;
/// Times that a member begins to fetch the same snapshot from its first byte before the file is taken for damaged.
pub const SNAPSHOT_BEGUN_MAX: u32 = 3;
/// A transfer in which nothing moves for so long is given up, in milliseconds: a receiver may have to sync a slow disk.
pub const SNAPSHOT_IDLE_MS: u64 = 30_000;
/// How often a leader is told that a transfer goes on, in milliseconds.
pub const SNAPSHOT_SERVED_TOLD_MS: u64 = 1_000;
/// Bytes of applied entries after which a snapshot is due, at least: a restart replays no more than some of these.
pub const SNAPSHOT_LOG_BYTES: SizeLimits = SizeLimits { min: 4 << 10, default: 64 << 20, max: 1 << 40 };
/// Bytes of snapshots that are written, and that are sent, in a second: what is left of disk and link is for writes. At 64 MiB
/// the syncs of the log waited several times as long (docs/decisions.md).
pub const SNAPSHOT_BYTES_PER_SECOND: SizeLimits = SizeLimits { min: 64 << 10, default: 16 << 20, max: 1 << 40 };
/// How often a replaced state is looked at for readers that are still in it, in milliseconds.
pub const RETIRED_LOOK_MS: u64 = 20;

// raft

/// Reads that may wait for their index at one node (16 bytes each); beyond, they are refused and asked again. More only
/// wait while a leader cannot commit its first entry.
pub const RAFT_READS_WAITING_MAX: usize = 64 * 1024;

/// Bytes of entries between two snapshots at least: below, the log is shorter than a snapshot is worth.
pub const SNAPSHOT_LOG_BYTES_MIN: u64 = 64 << 20;
/// Bytes of entries between two snapshots at least, in per cent of the state's: writing the state again costs as much as the
/// log has grown, so the disk writes at most twice what clients do.
pub const SNAPSHOT_STATE_PERCENT: u64 = 100;
/// Pause after a snapshot found all its views taken, in milliseconds.
pub const SNAPSHOT_VIEW_RETRY_MS: u64 = 100;
/// Clients that wait for a snapshot; more are refused. Each holds a credit meanwhile, which other requests need.
pub const SNAPSHOT_ASKERS_MAX: usize = 64;
/// Pause after a snapshot could not be written, in milliseconds.
pub const SNAPSHOT_RETAKE_MS: u64 = 10_000;
/// How long a leader keeps entries for a follower that acknowledges nothing new and takes no bytes of a snapshot, in
/// milliseconds: a restart, or the loading of a large snapshot, fits in it.
pub const SNAPSHOT_TRANSFER_PATIENCE_MS: u64 = 60_000;
/// Ends of own snapshots that are remembered as places to cut the log off at. When so many were taken since, a slow follower
/// is waited for no longer: the log grows to as many snapshot intervals at most.
pub const SNAPSHOTS_HELD_MAX: usize = 8;
/// First pause after a snapshot could not be fetched, in milliseconds; it doubles.
pub const SNAPSHOT_RETRY_MS_MIN: u64 = 200;
/// Longest pause after a snapshot could not be fetched, in milliseconds: when a network is healed, a quorum may need the node that
/// fetches. An attempt costs a connection and a frame.
pub const SNAPSHOT_RETRY_MS_MAX: u64 = 2_000;

/// Bytes of commands in one batch from an io thread to the raft thread; beyond, writes wait in their sockets. With the
/// raft thread's own bound this keeps what is decoded and not in the log at three batches per io thread.
pub const IO_BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Requests in such a batch that hold no credit (the pages and the end of a view); beyond, they wait in their sockets, too.
pub const IO_BATCH_UNCREDITED_MAX: usize = 4 * 1024;

// --- raft thread and wal thread (server) ---

/// How long the answer to an explained request waits for the times of members that have not given their word, in
/// milliseconds: several syncs of a usual disk.
pub const RECEIPT_HELD_MS: u64 = 50;

/// Empty vectors of entries that Raft keeps for its next appends and messages: an append and a message to each follower of the
/// largest cluster, twice.
pub const RAFT_SPARE_VECTORS_MAX: usize = 2 * MEMBERS_MAX;
/// Capacity of such a vector, in entries; with 18 of them some MiB.
pub const RAFT_SPARE_ENTRIES_MAX: usize = 2 * 1024;
/// Recent entries that Raft keeps in memory for its followers, in bytes; the rest is read from the log by the bulk worker.
pub const RAFT_TAIL_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes that a leader has appended and that are not committed, or not durable on itself; at this bound the reading of
/// clients pauses (C-26).
pub const RAFT_UNCOMMITTED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes after which no more appends join a group: a sync that takes long looks like a disk that hangs (C-13).
pub const WAL_GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Times that effects are derived before sockets are looked at again: applying a long log must not silence a leader.
pub const EFFECT_ROUNDS_MAX: usize = 8;
/// Nothing appended for so long, in milliseconds: the empty Batch is due (C-3).
pub const WAL_QUIET_MS: u64 = 10;
/// While so many groups of writes are under way, a leader lets the next ones wait for them to be committed.
pub const PROPOSED_GROUPS_MAX: usize = 1;
/// For so long at most, in microseconds.
pub const PROPOSALS_WAIT_US: u64 = 2_000;
/// Once so many wait, or their commands have so many bytes, they are proposed: a group that large gains little by more.
pub const PROPOSALS_WAITING_MAX: usize = 512;
/// See [`PROPOSALS_WAITING_MAX`].
pub const PROPOSALS_WAITING_BYTES_MAX: usize = 256 * 1024;
/// The pieces in which a segment is filled with zeroes, and so the page cache's: what is charged for a sync ends at one.
pub const SEGMENT_FILL_BYTES: u64 = 16 << 10;
/// What a sync costs the disk besides the appended bytes: the piece that it began in, and the one that it ends in.
pub const DISK_BYTES_PER_SYNC: u64 = 2 * SEGMENT_FILL_BYTES;

// --- admin endpoints (server/admin) ---

/// Open connections of the admin port; beyond, the one that would lose patience first makes room.
pub const ADMIN_CONNECTIONS_MAX: usize = 32;
/// The head of one request, in bytes: a browser's with its cookies is a tenth of that.
pub const ADMIN_HEAD_BYTES_MAX: usize = 8 * 1024;
/// Header lines of one request.
pub const ADMIN_HEADERS_MAX: usize = 64;
/// From a head's first byte, or from the beginning of a connection, to its last byte, in milliseconds.
pub const ADMIN_HEAD_MS: u64 = 5_000;
/// From an answer to its last byte, in milliseconds: some hundred KiB over the slowest link that makes sense.
pub const ADMIN_ANSWER_MS: u64 = 10_000;
/// How long a connection may rest between two requests, in milliseconds: scrapes come twice or four times a minute.
pub const ADMIN_IDLE_MS: u64 = 65_000;
/// How long the other side has to close after its last answer, in milliseconds.
pub const ADMIN_DRAIN_MS: u64 = 1_000;
/// A node that is at most so many entries behind its leader's commit index is ready: what is under way in a fraction of a
/// second under load.
pub const READY_BEHIND_ENTRIES_MAX: u64 = 10_000;
/// Keys that are looked for beside each other: so many walks hide the time that memory takes, and their nodes fit the
/// nearest cache.
pub const WARM_KEYS: usize = 16;
/// How long a risen commit index waits for entries to ride with, in microseconds; without any it is told to the followers
/// on its own. Short beside what a follower's read costs anyway, long beside the time between two appends under load.
pub const COMMIT_NOTICE_US: u64 = 2_000;
/// The raft thread sleeps at most this long, in milliseconds.
pub const RAFT_SLEEP_MS_MAX: u64 = 10_000;
/// A raft thread that has not turned for so long hangs, in milliseconds (`/livez`).
pub const RAFT_SILENT_MS: u64 = 3 * RAFT_SLEEP_MS_MAX;

// --- buffers and connections of clients (pool, net) ---

/// Sizes of pool buffers, in bytes, a head of 64 included: a socket read; a deep pipeline of small requests; in between; one
/// largest request with room for what follows it.
pub const POOL_CLASS_BYTES: [usize; 4] = [16 * 1024, 64 * 1024, 256 * 1024, 1024 * 1024 + 64 * 1024];
/// Free buffers of each size that a thread keeps while it is busy: 192 KiB, so that the smallest pool serves many threads.
pub const POOL_KEPT: [usize; 4] = [4, 2, 0, 0];

// --- clients (net/connection.rs, server/io_loop) ---

/// Connections that wait in the system to be accepted, for each port: when a leader dies, all its clients come to the next one at
/// once. Beyond, the first packet of each is dropped, and comes again after a second.
pub const CONNECTIONS_WAITING_MAX: i32 = 4 * 1024;
/// Clients that are accepted in one turn: some milliseconds, so that those who are connected are served beside a crowd.
pub const CLIENT_ACCEPTS_PER_TURN: usize = 256;
/// Open connections of one io thread; beyond, new ones are closed at once.
pub const CLIENT_CONNECTIONS_MAX: usize = 16 * 1024;
/// Open files that clients leave alone, besides two per io thread: the log and its next segment, the meta files, the peers
/// and strangers at their port, polls and wakers. A log that cannot open its next segment ends the process.
pub const OPEN_FILES_KEPT: usize = 128 + ADMIN_CONNECTIONS_MAX;
/// Open files, where the system does not say how many there may be.
pub const OPEN_FILES_ASSUMED: usize = 1024;
/// A connection that has not said HELLO, or has not completed a frame it began, after so long is closed, in milliseconds.
pub const CLIENT_PATIENCE_MS: u64 = 30_000;
/// A client that takes none of its replies for so long is disconnected, in milliseconds.
pub const CLIENT_SILENCE_MS: u64 = 30_000;
/// A client from which nothing was heard for so long is asked whether it is there, in seconds (`TCP_KEEPIDLE`): one that has
/// vanished without an end (its machine lost power, a firewall forgot it) would keep its place among the clients for ever.
pub const CLIENT_KEEPALIVE_S: u64 = 60;
/// Time between two such questions without an answer, in seconds (`TCP_KEEPINTVL`).
pub const CLIENT_KEEPALIVE_INTERVAL_S: u64 = 10;
/// Questions without an answer after which the connection is closed (`TCP_KEEPCNT`).
pub const CLIENT_KEEPALIVE_PROBES: u32 = 3;
/// Unsent replies of one connection at which its further requests wait, in bytes; one largest reply may come on top.
pub const CLIENT_OUT_BYTES_MAX: usize = 1024 * 1024;
/// Memory of the unsent replies of all connections of one io thread at which all their requests wait, in bytes; one largest reply
/// may come on top. Many times what clients that read leave at a time.
pub const IO_UNSENT_BYTES_MAX: usize = 256 * 1024 * 1024;
/// While that bound is reached, a client that takes none of its replies for so long is disconnected, in milliseconds: it keeps
/// the others from being served.
pub const CLIENT_SILENCE_SPENT_MS: u64 = 2_000;
/// Capacity that an idle connection keeps for replies, in bytes.
pub const CLIENT_OUT_BYTES_KEPT: usize = 16 * 1024;
/// Postponed reads of one connection that are answered before the others have their turn, unless `CLIENT_OUT_BYTES_MAX` bytes
/// come together before.
pub const CLIENT_POSTPONED_PER_TURN: usize = 64;
/// Reads of one connection's socket before the others have their turn.
pub const CLIENT_READS_PER_TURN: usize = 4;
/// Requests of one connection that are taken before the others have their turn: half a millisecond of small ones. Twice as many
/// of one that had to wait.
pub const CLIENT_FRAMES_PER_TURN: u32 = 512;
/// Longest deadline of a request, and the one of a request that names none, in milliseconds.
pub const REQUEST_DEADLINE_MS_MAX: u64 = 60_000;
/// Bytes of keys and values in one page of a scan (one key at least).
pub const PAGE_BYTES_MAX: usize = 256 * 1024;
/// Keys that one page of a scan walks over when it only counts: some milliseconds.
pub const PAGE_COUNTED_KEYS_MAX: u64 = 16 * 1024;
/// Keys that one page of a scan looks at, those among them that its view does not show because they are newer. A page may be empty
/// and name the key to go on with.
pub const PAGE_LOOKED_KEYS_MAX: u64 = 2 * PAGE_COUNTED_KEYS_MAX;
/// Keys that an io thread looks at for scans in one iteration, and the last page's on top: some ten milliseconds. Further scans wait.
pub const SCANNED_KEYS_PER_TURN: u64 = 64 * 1024;
/// Block of an arena for small commands, in bytes: some hundred of them.
pub const ARENA_BYTES: usize = 64 * 1024;
/// Blocks that an arena knows, to fill them again: what Raft keeps of entries, what is not committed, and batches on their way,
/// all in small commands. Of more the oldest are forgotten, and freed when nothing in them is held.
pub const ARENA_BLOCKS_MAX: usize =
    (RAFT_TAIL_BYTES_MAX + RAFT_UNCOMMITTED_BYTES_MAX + 4 * IO_BATCH_BYTES_MAX) / ARENA_BYTES;
/// Memory that lies ready for heaps that grow, touched already: two spans of 2 MiB. At 100,000 new keys of 256 B a second a span
/// lasts 50 ms.
pub const AHEAD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a server that stops waits for the answers that its clients are owed, in milliseconds.
pub const STOP_PATIENCE_MS: u64 = 500;
/// How often a loop with paused connections looks at what comes back without a wake, in milliseconds.
pub const PAUSED_LOOK_MS: u64 = 5;
/// How often connections are looked at for their patience, in milliseconds.
pub const SWEEP_MS: u64 = 1_000;

// --- snapshot files (kv/snapshot, snapshot) ---

/// Items or sessions in one block: the view is pinned for so many keys at a time (C-21).
pub const SNAPSHOT_BLOCK_KEYS: usize = 256;
/// Bytes at which a block is full; the record that reaches it may be a largest value more.
pub const SNAPSHOT_BLOCK_BYTES: usize = 256 * 1024;
/// The Format in a header, in bytes: what a meta file holds.
pub const SNAPSHOT_FORMAT_BYTES_MAX: usize = 16 * 1024;
/// Bytes after which a file that is written is synced: syncs of the log wait behind it, some milliseconds.
pub const SNAPSHOT_SYNC_BYTES: u64 = 1024 * 1024;
/// Whole snapshots that are kept: the log reaches back to the older one, so that a newest one that cannot be read costs
/// nothing.
pub const SNAPSHOTS_KEPT: usize = 2;
/// Damaged snapshots that stay, set aside for people; older ones go: each may be as large as the state.
pub const SNAPSHOTS_DAMAGED_KEPT: usize = 2;
