//! Counters and histograms. Each thread writes its own shard; whoever reads adds the shards up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// Declares the measured things: one list for the type, the names and the length of the arrays.
macro_rules! measured {
    ($(#[$doc:meta])* $kind:ident { $($(#[doc = $help:literal])* $item:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $kind { $($(#[doc = $help])* $item,)* }

        impl $kind {
            /// All of them, in order.
            pub const ALL: &'static [$kind] = &[$($kind::$item,)*];

            /// The name in a status.
            pub fn name(self) -> &'static str {
                match self { $($kind::$item => $name,)* }
            }

            /// What it is, in a sentence or two.
            pub fn help(self) -> &'static str {
                match self { $($kind::$item => concat!($($help),*).trim(),)* }
            }
        }
    };
}

measured! {
    /// What is counted.
    Counter {
        /// Appends that were written to the log.
        Appends = "appends",
        /// Entries in them.
        EntriesAppended = "entries_appended",
        /// Bytes of records that were appended to the log.
        BytesAppended = "bytes_appended",
        /// Bytes that the wal thread made the disk write (`write_bytes` of its `/proc` entry).
        BytesWritten = "bytes_written",
        /// Groups that were synced.
        Syncs = "syncs",
        /// Campaigns that this node began.
        Elections = "elections",
        /// Changes of the leader that this node saw.
        LeaderChanges = "leader_changes",
        /// Peer connections that were opened, by either side.
        PeerConnections = "peer_connections",
        /// Peer frames received.
        PeerFrames = "peer_frames",
        /// Messages to peers that were dropped because no connection, or no room in it, was there.
        PeerMessagesDropped = "peer_messages_dropped",
        /// Old log entries read from disk, in batches.
        LogReads = "log_reads",
        /// Snapshots taken.
        SnapshotsTaken = "snapshots_taken",
        /// Snapshots given up because what was overwritten meanwhile took too much memory (C-21).
        SnapshotsAbandoned = "snapshots_abandoned",
        /// Snapshots of other nodes that took the place of this node's state.
        SnapshotsInstalled = "snapshots_installed",
        /// Bytes of snapshots written.
        SnapshotBytesWritten = "snapshot_bytes_written",
        /// Bytes of snapshots sent to other nodes.
        SnapshotBytesSent = "snapshot_bytes_sent",
        /// Bytes of snapshots received from other nodes.
        SnapshotBytesReceived = "snapshot_bytes_received",
        /// Bytes that were here already when a transfer went on.
        SnapshotBytesKept = "snapshot_bytes_kept",
        /// Client connections accepted.
        ClientConnections = "client_connections",
        /// Client connections closed because of what they sent or did not read.
        ClientConnectionsRefused = "client_connections_refused",
        /// Requests decoded.
        Requests = "requests",
        /// Times a connection was paused because no credit was left (C-26).
        CreditsPaused = "credits_paused",
        /// Times a connection was paused because no buffer was left.
        BuffersPaused = "buffers_paused",
        /// Times the bound of uncommitted bytes was reached and clients were not read for a while (C-26).
        UncommittedPaused = "uncommitted_paused",
        /// Requests answered at the admin port.
        AdminRequests = "admin_requests",
        /// Connections to the admin port that were closed because they were too slow or too many.
        AdminConnectionsClosed = "admin_connections_closed",
    }
}

measured! {
    /// What is measured in a histogram; units last.
    Measure {
        /// From an append's hand-over to the start of its group, in microseconds.
        QueueUs = "wal_queue_us",
        /// One sync with the writes before it, in microseconds.
        SyncUs = "wal_sync_us",
        /// Appends in one group.
        GroupAppends = "wal_group_appends",
        /// Requests in one batch from an io thread.
        BatchRequests = "batch_requests",
        /// One turn of an io thread that reads sockets and decodes what they brought, in microseconds.
        DecodeUs = "decode_us",
        /// From the turn in which a batch of requests was decoded to the raft thread proposing it, in microseconds.
        BatchQueueUs = "batch_queue_us",
        /// The raft thread taking all batches that wait: proposing their writes, noting their reads; in microseconds.
        ProposeUs = "propose_us",
        /// From a leader's hand-over of an append to its log until a majority holds it, in microseconds; one at a time is watched.
        QuorumUs = "quorum_us",
        /// From AppendEntries queued for a peer to the peer's word that they are durable there, in microseconds; one per peer is watched.
        ReplicateUs = "replicate_us",
        /// What a peer says its own append waited for its log, in microseconds; as often as replicate.
        PeerQueueUs = "peer_queue_us",
        /// What a peer says its own sync took, in microseconds; as often as replicate.
        PeerSyncUs = "peer_sync_us",
        /// Deriving what follows from a batch of inputs that committed something, applying it included, in microseconds.
        ApplyUs = "apply_us",
        /// One turn of an io thread that writes replies to sockets, in microseconds.
        ReplyUs = "reply_us",
    }
}

/// What a histogram's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Microseconds.
    Micros,
    /// Things.
    Number,
}

impl Measure {
    /// Whether it is measured for each peer.
    pub fn is_per_peer(self) -> bool {
        matches!(self, Self::ReplicateUs | Self::PeerQueueUs | Self::PeerSyncUs)
    }

    /// The unit stands at the end of the name.
    pub fn unit(self) -> Unit {
        if self.name().ends_with("_us") {
            Unit::Micros
        } else {
            Unit::Number
        }
    }

    /// Exponents of the powers of two at which [`Metrics::histogram`] counts: 16 us to 16 s; 1 to 32768.
    fn exponents(self) -> std::ops::RangeInclusive<u32> {
        match self.unit() {
            Unit::Micros => 4..=24,
            Unit::Number => 1..=16,
        }
    }
}

/// A histogram as it is shown: coarser than it is kept, and exact at its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coarse {
    /// Bounds, rising, each with how many values are at or below it. Times are cut off to whole microseconds, so those
    /// counted at a bound are truly below the power of two that it is.
    pub buckets: Vec<(u64, u64)>,
    /// All values.
    pub count: u64,
    /// Their sum.
    pub sum: u64,
}

/// Sixteen steps per power of two: the error is at most 6 %.
const STEP_BITS: u32 = 4;
const BUCKETS: usize = ((64 - STEP_BITS as usize) + 1) << STEP_BITS;

/// The bucket of a value: exact below 16, then sixteen buckets per power of two.
fn bucket(value: u64) -> usize {
    if value < 1 << STEP_BITS {
        return value as usize;
    }
    let exponent = 63 - value.leading_zeros();
    let step = (value >> (exponent - STEP_BITS)) as usize & ((1 << STEP_BITS) - 1);
    (((exponent - STEP_BITS + 1) as usize) << STEP_BITS) + step
}

/// The largest value that falls into a bucket.
fn bucket_high(bucket: usize) -> u64 {
    if bucket < 1 << STEP_BITS {
        return bucket as u64;
    }
    let exponent = (bucket >> STEP_BITS) as u32 - 1;
    let step = (bucket & ((1 << STEP_BITS) - 1)) as u64 + (1 << STEP_BITS);
    (step << exponent) + ((1u64 << exponent) - 1)
}

struct Histogram {
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// What one thread has measured, or what it has of one peer. Only its [`Recorder`] writes.
struct Shard {
    peer: Option<u32>,
    counters: Box<[AtomicU64]>,
    histograms: Vec<Histogram>,
}

impl Shard {
    fn new(peer: Option<u32>) -> Shard {
        let zeroes = |n: usize| (0..n).map(|_| AtomicU64::new(0)).collect::<Box<[_]>>();
        let histogram = |measure: &Measure| {
            let is_here = measure.is_per_peer() == peer.is_some();
            Histogram { buckets: zeroes(if is_here { BUCKETS } else { 0 }), sum: AtomicU64::new(0) }
        };
        Shard { peer, counters: zeroes(Counter::ALL.len()), histograms: Measure::ALL.iter().map(histogram).collect() }
    }
}

impl Shard {
    /// Whether it has a part of what is asked for: of one peer, or of all and everything.
    fn is_of(&self, peer: Option<u32>) -> bool {
        peer.is_none() || peer == self.peer
    }
}

/// One thread's pen. It is not `Clone`: one writer per shard makes a plain load and store enough.
pub struct Recorder {
    shard: Arc<Shard>,
}

impl Recorder {
    /// Adds one.
    pub fn count(&mut self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Adds `n`.
    pub fn add(&mut self, counter: Counter, n: u64) {
        raise(&self.shard.counters[counter as usize], n);
    }

    /// Adds a value to a histogram; of a peer, if this is [`Metrics::recorder_of`] one, and else of none.
    pub fn measure(&mut self, measure: Measure, value: u64) {
        let histogram = &self.shard.histograms[measure as usize];
        raise(&histogram.buckets[bucket(value)], 1);
        raise(&histogram.sum, value);
    }
}

/// Relaxed is enough: there is one writer, and a reader wants a number of about now.
fn raise(cell: &AtomicU64, n: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

/// All shards of a process. Cloning shares them. Who only reads never waits for another reader: shards are added while a
/// process starts, and not later.
#[derive(Clone, Default)]
pub struct Metrics {
    shards: Arc<RwLock<Vec<Arc<Shard>>>>,
}

impl Metrics {
    /// A new shard; call once per thread.
    pub fn recorder(&self) -> Recorder {
        self.add_shard(None)
    }

    /// A new shard for what is measured for each peer; `peer` is its node's number.
    pub fn recorder_of(&self, peer: u32) -> Recorder {
        self.add_shard(Some(peer))
    }

    fn add_shard(&self, peer: Option<u32>) -> Recorder {
        let shard = Arc::new(Shard::new(peer));
        // A panic under this lock cannot leave the vector half written.
        self.shards.write().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&shard));
        Recorder { shard }
    }

    fn shards(&self) -> RwLockReadGuard<'_, Vec<Arc<Shard>>> {
        self.shards.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A counter's sum over all threads.
    pub fn total(&self, counter: Counter) -> u64 {
        let shards = self.shards();
        shards.iter().map(|shard| shard.counters[counter as usize].load(Ordering::Relaxed)).sum()
    }

    /// Those that have a [`Metrics::recorder_of`] their own, in order.
    pub fn peers(&self) -> Vec<u32> {
        let mut peers: Vec<u32> = self.shards().iter().filter_map(|shard| shard.peer).collect();
        peers.sort();
        peers.dedup();
        peers
    }

    /// The values below which the given fractions of all measured values lie, rounded up to their bucket.
    pub fn quantiles(&self, measure: Measure, fractions: &[f64]) -> Vec<u64> {
        let counts = self.counts(measure, None);
        fractions.iter().map(|fraction| quantile(&counts, *fraction)).collect()
    }

    /// A histogram's sum over all threads, or that of one peer.
    pub fn histogram(&self, measure: Measure, peer: Option<u32>) -> Coarse {
        let counts = self.counts(measure, peer);
        let shards = self.shards();
        let sums = shards
            .iter()
            .filter(|shard| shard.is_of(peer))
            .map(|shard| shard.histograms[measure as usize].sum.load(Ordering::Relaxed));
        let at_bound = |exponent: u32| {
            // Everything below the power of two: the buckets end there exactly.
            let below = counts[..bucket(1 << exponent)].iter().sum();
            let bound = match measure.unit() {
                Unit::Micros => 1 << exponent,
                Unit::Number => (1 << exponent) - 1,
            };
            (bound, below)
        };
        Coarse {
            buckets: measure.exponents().map(at_bound).collect(),
            count: counts.iter().sum(),
            sum: sums.fold(0, u64::wrapping_add),
        }
    }

    /// How many values are in each bucket.
    fn counts(&self, measure: Measure, peer: Option<u32>) -> Vec<u64> {
        let shards = self.shards();
        let mut counts = vec![0; BUCKETS];
        for shard in shards.iter().filter(|shard| shard.is_of(peer)) {
            for (count, more) in counts.iter_mut().zip(&shard.histograms[measure as usize].buckets) {
                *count += more.load(Ordering::Relaxed);
            }
        }
        counts
    }

    /// Everything by name, for a node's status.
    pub fn named(&self) -> Vec<(String, u64)> {
        let mut named: Vec<(String, u64)> =
            Counter::ALL.iter().map(|counter| (counter.name().to_owned(), self.total(*counter))).collect();
        let (appended, written) = (self.total(Counter::BytesAppended), self.total(Counter::BytesWritten));
        named.push(("bytes_written_per_100_appended".to_owned(), written.saturating_mul(100) / appended.max(1)));
        for measure in Measure::ALL {
            let values = self.quantiles(*measure, &[0.5, 0.99, 1.0]);
            for (suffix, value) in ["p50", "p99", "max"].iter().zip(values) {
                named.push((format!("{}_{suffix}", measure.name()), value));
            }
        }
        named
    }
}

fn quantile(counts: &[u64], fraction: f64) -> u64 {
    let total: u64 = counts.iter().sum();
    let wanted = ((total as f64 * fraction).ceil() as u64).clamp(1, total.max(1));
    let mut seen = 0;
    for (i, count) in counts.iter().enumerate() {
        seen += count;
        if seen >= wanted {
            return bucket_high(i);
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_consecutive_and_hold_what_they_say() {
        for value in (0..5000).chain([u64::MAX, u64::MAX / 2, 1 << 40]) {
            let i = bucket(value);
            assert!(i < BUCKETS, "{value}");
            assert!(value <= bucket_high(i), "{value}");
            assert!(i == 0 || value > bucket_high(i - 1), "{value}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_bucket_is_at_most_a_sixteenth_wide() {
        for value in [100_u64, 1000, 123_456, 1 << 33] {
            let high = bucket_high(bucket(value));
            assert!((high - value) as f64 <= value as f64 / 16.0, "{value} {high}");
        }
    }

    #[test]
    fn shards_add_up() {
        let metrics = Metrics::default();
        let (mut one, mut two) = (metrics.recorder(), metrics.recorder());
        one.add(Counter::BytesAppended, 5);
        two.add(Counter::BytesAppended, 7);
        two.count(Counter::Syncs);
        assert_eq!(metrics.total(Counter::BytesAppended), 12);
        assert_eq!(metrics.total(Counter::Syncs), 1);
        for value in 1..=10 {
            one.measure(Measure::SyncUs, value);
            two.measure(Measure::SyncUs, value + 100);
        }
        let quantiles = metrics.quantiles(Measure::SyncUs, &[0.05, 0.5, 1.0]);
        assert_eq!(quantiles[..2], [1, 10]);
        assert!((110..118).contains(&quantiles[2]), "{quantiles:?}");
        assert_eq!(metrics.quantiles(Measure::QueueUs, &[0.5]), [0], "nothing measured");
    }

    #[test]
    fn a_coarse_histogram_is_exact_at_its_bounds() {
        let metrics = Metrics::default();
        let mut recorder = metrics.recorder();
        for value in [0, 15, 16, 31, 32, 1 << 30] {
            recorder.measure(Measure::SyncUs, value);
        }
        let histogram = metrics.histogram(Measure::SyncUs, None);
        assert_eq!((histogram.count, histogram.sum), (6, 94 + (1 << 30)));
        assert_eq!(histogram.buckets[..3], [(16, 2), (32, 4), (64, 5)]);
        assert_eq!(histogram.buckets.last(), Some(&(1 << 24, 5)));
        for value in [1, 2, 3, 4] {
            recorder.measure(Measure::GroupAppends, value);
        }
        assert_eq!(metrics.histogram(Measure::GroupAppends, None).buckets[..3], [(1, 1), (3, 3), (7, 4)]);
    }

    #[test]
    fn what_is_measured_for_each_peer_is_kept_apart_and_added_up() {
        let metrics = Metrics::default();
        let mut recorders = [2, 1].map(|peer| metrics.recorder_of(peer));
        for (recorder, value) in recorders.iter_mut().zip([100, 1_000]) {
            recorder.measure(Measure::ReplicateUs, value);
        }
        assert_eq!(metrics.peers(), [1, 2]);
        let sums = [Some(1), Some(2), None].map(|peer| metrics.histogram(Measure::ReplicateUs, peer).sum);
        assert_eq!(sums, [1_000, 100, 1_100]);
        assert_eq!(metrics.quantiles(Measure::ReplicateUs, &[0.0])[0], 103, "of all");
    }

    #[test]
    fn everything_measured_says_what_it_is() {
        let helps = Counter::ALL.iter().map(|counter| counter.help());
        for help in helps.chain(Measure::ALL.iter().map(|measure| measure.help())) {
            assert!(help.ends_with('.') && help.len() > 10, "{help:?}");
        }
    }

    #[test]
    fn every_name_is_used_once() {
        let mut names: Vec<String> = Metrics::default().named().into_iter().map(|(name, _)| name).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
