//! One node: a disk that outlives its processes, and at most one process: the real replica over the real log.

use std::collections::VecDeque;
use std::path::Path;

use protocol::format::Member;
use protocol::{ClusterId, Incarnation, LogTime, NodeId};
use raftkv::disk::{Disk, VirtualDisk};
use raftkv::kv::{Position, Store};
use raftkv::limits;
use raftkv::raft;
use raftkv::replica::{Effects, Input, Recovered, Replica, Settings, SnapshotFile};
use raftkv::snapshot::{SnapshotError, Snapshots, Summary, Taker};
use raftkv::time::{Span, Time};
use raftkv::wal::{Directory, LogReader, Options, Wal, WalError};

use crate::bulk::Bulk;
use crate::damage::Damage;
use crate::io_loop::IoLoop;
use crate::profile::Profile;
use crate::random::Random;
use crate::world::START;

pub const DATA: &str = "/data";
pub const ELECTION_TIMEOUT_MIN: Span = Span::millis(500);

pub struct Node {
    pub id: u32,
    pub disk: VirtualDisk,
    pub process: Option<Process>,
    /// Counts processes.
    pub life: u32,
    pub paused_until: Time,
    pub wall_clock: i64,
    /// The power went while something was not synced.
    pub lost_unsynced: bool,
    /// The power goes when the next sync is about to end, and is back after so long.
    pub power_goes_in_sync: Option<Span>,
    /// Until then no sync returns.
    pub disk_hangs_until: Time,
    pub disk_is_full: bool,
    /// How much faster its clock runs than time, in millionths.
    drift_ppm: i64,
    /// A sync is going to fail.
    pub disk_fails: bool,
    pub damage: Damage,
    pub random: Random,
}

pub struct Process {
    pub replica: Replica,
    pub wal: Wal,
    pub log_reader: LogReader,
    /// Where the log began when it was opened.
    pub log_base: raftkv::wal::LogBase,
    pub io: IoLoop,
    pub bulk: Bulk,
    pub inbox: Vec<Input>,
    pub effects: Effects,
    /// When the raft thread is to run next; an event of any other moment is stale.
    pub next_run: Time,
    /// Moments for which the event is in the queue.
    pub queued_runs: Vec<Time>,
    /// Appends that the wal thread has not taken.
    pub appends: VecDeque<raft::Append>,
    /// Appends of the sync that is running.
    pub group: Vec<raft::Append>,
}

impl Node {
    pub fn new(profile: &Profile, id: u32) -> Self {
        let mut random = Random::of(profile.seed, &format!("clock {id}"));
        let drift_ppm = random.below(2 * profile.drift_ppm + 1) as i64 - profile.drift_ppm as i64;
        Self {
            id,
            disk: VirtualDisk::new(),
            process: None,
            life: 0,
            paused_until: Time(0),
            wall_clock: 1_700_000_000_000,
            lost_unsynced: false,
            power_goes_in_sync: None,
            disk_hangs_until: Time(0),
            disk_is_full: false,
            drift_ppm,
            disk_fails: false,
            damage: Damage::default(),
            random: Random::of(profile.seed, &format!("node {id}")),
        }
    }

    /// Starts a process on what the disk holds.
    pub fn boot(&mut self, now: Time, profile: &Profile) -> Result<(), BootError> {
        assert!(self.process.is_none(), "one process at a time");
        self.life += 1;
        let Opened { wal, found, snapshots, mut store, snapshot } = open(self.disk.clone(), self.wal_options(profile))?;
        // A state may reach beyond what the own log had synced: then the log restarts behind it.
        let ends = snapshot.map(|snapshot| snapshot.position.id);
        self.damage.is_covered_once |= ends == Some(found.last) && found.last == found.base.id;
        let now = self.local(now);
        store.set_view_bytes_max(profile.view_bytes);
        let settings = self.settings(profile, found.meta.incarnation);
        let io = IoLoop::new(store.reader(), profile.credits);
        let taker = Taker { node: NodeId(self.id), incarnation: found.meta.incarnation };
        let bulk = Bulk::new(snapshots, store.reader(), taker);
        let log_reader = wal.reader();
        let log_base = found.base;
        let snapshot = snapshot.map(|summary| SnapshotFile { position: summary.position, bytes: summary.bytes });
        let recovered = Recovered { format: found.meta.format.clone(), log: log_of(found, snapshot), snapshot };
        self.process = Some(Process {
            replica: Replica::new(now, settings, recovered, store),
            wal,
            log_reader,
            log_base,
            io,
            bulk,
            inbox: Vec::new(),
            effects: Effects::default(),
            next_run: Time::NEVER,
            queued_runs: Vec::new(),
            appends: VecDeque::new(),
            group: Vec::new(),
        });
        Ok(())
    }

    /// The process is gone; what it had written stays in the page cache.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // A commit that was running has either reached the cache whole or not at all; a torn one needs a power cut.
            if self.random.chance(500) {
                process.write_group();
            }
        }
    }

    /// The power is gone, in the middle of whatever the log was doing.
    pub fn cut_power(&mut self) {
        if let Some(mut process) = self.process.take() {
            if self.random.chance(900) {
                if !process.group.is_empty() {
                    raftkv::mark!("simulation: power lost while the log was written");
                }
                self.disk.crash_at(self.disk.operations() + self.random.pick(&[1, 2, 2, 2, 3, 4, 6]));
                process.write_group();
                process.step_bulk();
            }
        }
        self.lost_unsynced |= self.disk.power_cut(self.random.next()) > 0;
    }

    /// Bytes that the process has written to its log.
    pub fn written(&self) -> u64 {
        self.process.as_ref().map_or(0, |process| process.wal.write_stats().appended_bytes)
    }

    /// What this node's monotonic clock says.
    pub fn local(&self, now: Time) -> Time {
        let elapsed = i128::from(now.0 - START.0);
        Time((i128::from(now.0) + elapsed * i128::from(self.drift_ppm) / 1_000_000) as u64)
    }

    /// When this node's monotonic clock has reached a moment.
    pub fn global(&self, local: Time) -> Time {
        if local == Time::NEVER {
            return local;
        }
        let elapsed = i128::from(local.since(START).0);
        let time = START + Span((elapsed * 1_000_000 / i128::from(1_000_000 + self.drift_ppm)) as u64);
        if self.local(time) < local {
            time + Span(2)
        } else {
            time
        }
    }

    /// Hardly anything fits any more; what is freed does not help.
    pub fn fill_disk(&mut self) {
        self.disk.set_free_space(Some(self.random.below(20_000)));
        self.disk_is_full = true;
    }

    pub fn empty_disk(&mut self) {
        self.disk.set_free_space(None);
        self.disk_is_full = false;
    }

    pub fn wall_clock(&self, now: Time) -> LogTime {
        LogTime((self.wall_clock + (now.0 / 1_000_000) as i64) as u64)
    }

    /// How long the next sync takes.
    pub fn sync_time(&mut self, profile: &Profile, healed: bool) -> Span {
        let slow = !healed && self.random.chance(profile.slow_sync);
        Span(1_000 + self.random.around(profile.sync.0)).times(if slow { 50 } else { 1 })
    }

    pub fn wal_options(&mut self, profile: &Profile) -> Options {
        let mut options = Options::new(NodeId(self.id), self.random.next());
        options.segment_bytes = profile.segment_bytes;
        options.tail_bytes = profile.tail_bytes;
        options
    }

    fn settings(&mut self, profile: &Profile, incarnation: Incarnation) -> Settings {
        Settings {
            id: NodeId(self.id),
            incarnation,
            initial_members: (0..profile.nodes).map(member).collect(),
            cluster_if_formed: ClusterId(self.random.next() | 1),
            boot: self.random.next(),
            seed: self.random.next(),
            election_timeout_min: ELECTION_TIMEOUT_MIN,
            heartbeat: Span::millis(100),
            commit_notice: Span::micros(limits::COMMIT_NOTICE_US),
            append_bytes_max: profile.append_bytes,
            inflight_bytes_max: profile.append_bytes * 4,
            inflight_messages_max: profile.inflight_messages,
            tail_bytes_max: profile.tail_bytes,
            uncommitted_bytes_max: profile.uncommitted_bytes,
            snapshot_log_bytes_min: profile.snapshot_log_bytes,
            snapshot_state_percent: 100,
            snapshot_held_bytes_max: profile.view_bytes as u64,
        }
    }
}

/// The files of a node, as a start finds them.
pub struct Opened {
    pub wal: Wal,
    pub found: raftkv::wal::Recovered,
    pub snapshots: Snapshots,
    pub store: Store,
    pub snapshot: Option<Summary>,
}

/// Why a node does not start.
#[derive(Debug)]
pub enum BootError {
    Wal(WalError),
    Snapshot(SnapshotError),
    /// There is a snapshot, and the meta files know of no cluster.
    Stray,
}

/// What the server does at a start: identity, then the newest snapshot, then the log.
pub fn open(disk: VirtualDisk, mut options: Options) -> Result<Opened, BootError> {
    let (disk, dir) = (Disk::virtual_(disk), Path::new(DATA));
    let directory = Directory::open(&disk, dir, &options).map_err(BootError::Wal)?;
    let mut snapshots = Snapshots::open(&disk, dir).map_err(BootError::Snapshot)?;
    let cluster = directory.meta().format.as_ref().map(|format| format.cluster);
    let loaded = snapshots.load_newest(cluster).map_err(BootError::Snapshot)?;
    if loaded.is_some() && cluster.is_none() {
        return Err(BootError::Stray);
    }
    let (snapshot, store) = match loaded {
        Some((summary, restored)) => (Some(summary), Store::restore(restored)),
        None => (None, Store::new()),
    };
    options.snapshot = snapshot
        .map(|Summary { position: Position { id, chain, log_time }, .. }| raftkv::wal::LogBase { id, chain, log_time });
    let (wal, found) = Wal::open_in(directory, options).map_err(BootError::Wal)?;
    Ok(Opened { wal, found, snapshots, store, snapshot })
}

impl BootError {
    /// The server would say why, and end with 78.
    pub fn is_refusal(&self) -> bool {
        match self {
            BootError::Wal(error) => error.exit_code() == 78,
            BootError::Snapshot(error) => error.exit_code() == 78,
            BootError::Stray => true,
        }
    }

    /// The disk failed, or was full; what it holds may be good.
    pub fn is_io(&self) -> bool {
        matches!(
            self,
            BootError::Wal(WalError::Io { .. })
                | BootError::Wal(WalError::NoSpace { .. })
                | BootError::Snapshot(SnapshotError::Io { .. } | SnapshotError::NoSpace { .. })
        )
    }
}

impl Process {
    /// The bulk worker goes on as far as the disk lets it; nobody hears of it.
    fn step_bulk(&mut self) {
        for _ in 0..4 {
            self.bulk.step(&mut Vec::new());
        }
    }

    /// Writes the running group as far as the disk lets it.
    fn write_group(&mut self) {
        for append in std::mem::take(&mut self.group) {
            if push(&mut self.wal, &append).is_err() {
                return;
            }
        }
        let _ = self.wal.commit();
    }

    /// Makes the running group durable.
    pub fn commit_group(&mut self) -> Result<(), WalError> {
        for append in &self.group {
            push(&mut self.wal, append)?;
        }
        self.wal.commit()?;
        if let Some(base) = self.group.iter().filter_map(|append| append.compact).next_back() {
            self.wal.compact(wal_base(base))?;
        }
        self.wal.remove_oldest().map(drop)
    }
}

/// What the wal thread does with an append.
fn push(wal: &mut Wal, append: &raft::Append) -> Result<(), WalError> {
    wal.push(append.hard_state, append.format.as_ref(), &[])?;
    if let Some(base) = append.base {
        wal.push_base(wal_base(base))?;
    }
    wal.push(None, None, &append.entries)
}

fn wal_base(base: raft::LogBase) -> raftkv::wal::LogBase {
    raftkv::wal::LogBase { id: base.id, chain: base.chain, log_time: base.log_time }
}

/// How everybody knows node `id`.
pub fn member(id: u32) -> Member {
    Member {
        id: NodeId(id),
        incarnation: Incarnation(0),
        client_address: client_address(id),
        peer_address: format!("node-{id}:7401"),
    }
}

pub fn client_address(id: u32) -> String {
    format!("node-{id}:7400")
}

/// What the server does between `wal` and `raft`, which do not know each other.
fn log_of(found: raftkv::wal::Recovered, snapshot: Option<SnapshotFile>) -> raft::Recovered {
    let base = raft::LogBase { id: found.base.id, chain: found.base.chain, log_time: found.base.log_time };
    let applied = snapshot.map_or(base, |SnapshotFile { position: Position { id, chain, log_time }, .. }| {
        raft::LogBase { id, chain, log_time }
    });
    raft::Recovered {
        hard_state: found.meta.hard_state,
        applied,
        base,
        runs: found.runs.iter().map(|&(term, first)| raft::TermRun { term, first }).collect(),
        last: found.last,
        last_chain: found.last_chain,
        last_log_time: found.last_log_time,
        tail: found.tail,
    }
}
