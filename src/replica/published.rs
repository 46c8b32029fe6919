//! What any thread may read of a replica: numbers in atomics, names behind a lock that is held only to take hold of them.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, TryLockError};

use protocol::format::Member;
use protocol::reply::{MemberStatus, Role};
use protocol::{ClusterId, Index, NodeId, Term};

use crate::kv::sessions::SessionCounts;
use crate::time::Time;

/// The raft thread stores, every other thread loads. Each number is true by itself; two of them may be of different moments,
/// so nothing is decided by them: they are for status, for redirects and for metrics. (What makes a *read* correct is the
/// state machine's own publication, C-19.)
#[derive(Debug)]
pub struct Published {
    role: AtomicU8,
    term: AtomicU64,
    leader: AtomicU64,
    leaderless_since: AtomicU64,
    leader_commit: AtomicU64,
    needs_snapshot: AtomicBool,
    commit: AtomicU64,
    applied: AtomicU64,
    durable: AtomicU64,
    cluster: AtomicU64,
    keys: AtomicU64,
    sessions: AtomicU64,
    sessions_expired: AtomicU64,
    requests_repeated: AtomicU64,
    state_bytes: AtomicU64,
    snapshot: AtomicU64,
    snapshot_log_bytes: AtomicU64,
    refused_messages: AtomicU64,
    paused: AtomicBool,
    names: Mutex<Arc<Names>>,
}

/// The part that changes only when a connection comes or goes, or the cluster is formed.
#[derive(Clone, Debug, Default)]
struct Names {
    members: Vec<Member>,
    connected: Vec<NodeId>,
    notes: Vec<String>,
}

/// The numbers that follow every batch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Numbers {
    pub(crate) role: Role,
    pub(crate) term: Term,
    pub(crate) leader: Option<NodeId>,
    pub(crate) leader_commit: Option<Index>,
    pub(crate) needs_snapshot: bool,
    pub(crate) commit: Index,
    pub(crate) applied: Index,
    pub(crate) durable: Index,
    pub(crate) keys: u64,
    pub(crate) sessions: SessionCounts,
    pub(crate) state: StateSize,
    pub(crate) paused: bool,
}

/// Stands for "no leader" in the atomic; node ids have 32 bits.
const NOBODY: u64 = u64::MAX;

/// How large the state machine is, and how far its newest snapshot is behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateSize {
    /// Bytes of keys, values and what waits to be freed.
    pub bytes: u64,
    /// Where the newest snapshot ends; 0 = there is none.
    pub snapshot: Index,
    /// Bytes of entries applied since it was begun.
    pub log_bytes: u64,
}

impl Published {
    pub(crate) fn new(now: Time) -> Self {
        Self {
            role: AtomicU8::new(Role::Follower as u8),
            term: AtomicU64::new(0),
            leader: AtomicU64::new(NOBODY),
            leaderless_since: AtomicU64::new(now.0),
            leader_commit: AtomicU64::new(0),
            needs_snapshot: AtomicBool::new(false),
            commit: AtomicU64::new(0),
            applied: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            cluster: AtomicU64::new(0),
            keys: AtomicU64::new(0),
            sessions: AtomicU64::new(0),
            sessions_expired: AtomicU64::new(0),
            requests_repeated: AtomicU64::new(0),
            state_bytes: AtomicU64::new(0),
            snapshot: AtomicU64::new(0),
            snapshot_log_bytes: AtomicU64::new(0),
            refused_messages: AtomicU64::new(0),
            paused: AtomicBool::new(false),
            names: Mutex::default(),
        }
    }

    /// Its role.
    pub fn role(&self) -> Role {
        match self.role.load(Ordering::Relaxed) {
            role if role == Role::Leader as u8 => Role::Leader,
            role if role == Role::Candidate as u8 => Role::Candidate,
            role if role == Role::Learner as u8 => Role::Learner,
            _ => Role::Follower,
        }
    }

    /// Its term.
    pub fn term(&self) -> Term {
        Term(self.term.load(Ordering::Relaxed))
    }

    /// The leader it knows.
    pub fn leader(&self) -> Option<NodeId> {
        u32::try_from(self.leader.load(Ordering::Relaxed)).ok().map(NodeId)
    }

    /// What the leader has committed, as far as it was heard in this term; the own commit index on a leader.
    pub fn leader_commit(&self) -> Option<Index> {
        Some(Index(self.leader_commit.load(Ordering::Relaxed))).filter(|index| *index > Index(0))
    }

    /// The leader's log has left it behind: it fetches a snapshot, or will.
    pub fn needs_snapshot(&self) -> bool {
        self.needs_snapshot.load(Ordering::Relaxed)
    }

    /// Its commit index.
    pub fn commit(&self) -> Index {
        Index(self.commit.load(Ordering::Relaxed))
    }

    /// Its applied index.
    pub fn applied(&self) -> Index {
        Index(self.applied.load(Ordering::Relaxed))
    }

    /// Its durable index.
    pub fn durable(&self) -> Index {
        Index(self.durable.load(Ordering::Relaxed))
    }

    /// Its cluster; 0 = not formed yet.
    pub fn cluster(&self) -> ClusterId {
        ClusterId(self.cluster.load(Ordering::Relaxed))
    }

    /// Keys that exist.
    pub fn keys(&self) -> u64 {
        self.keys.load(Ordering::Relaxed)
    }

    /// Its sessions: open, expired since it started, and requests that got their first result again.
    pub fn sessions(&self) -> SessionCounts {
        SessionCounts {
            open: self.sessions.load(Ordering::Relaxed),
            expired: self.sessions_expired.load(Ordering::Relaxed),
            repeated: self.requests_repeated.load(Ordering::Relaxed),
        }
    }

    /// Its state machine and its newest snapshot.
    pub fn state(&self) -> StateSize {
        StateSize {
            bytes: self.state_bytes.load(Ordering::Relaxed),
            snapshot: Index(self.snapshot.load(Ordering::Relaxed)),
            log_bytes: self.snapshot_log_bytes.load(Ordering::Relaxed),
        }
    }

    /// Peer messages dropped because they named another cluster, incarnation or node.
    pub fn refused_messages(&self) -> u64 {
        self.refused_messages.load(Ordering::Relaxed)
    }

    /// The bound of uncommitted bytes is reached: io loops leave clients' sockets unread (C-26). Without this flag the same
    /// happens a little later, when the credits of the parked requests are missed.
    pub fn paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// All members by id, with whether there is a connection; the node itself counts as connected.
    pub fn members(&self) -> Vec<MemberStatus> {
        let names = self.names();
        let status = |member: &Member| MemberStatus {
            id: member.id,
            client_address: member.client_address.clone(),
            peer_address: member.peer_address.clone(),
            connected: names.connected.contains(&member.id),
        };
        names.members.iter().map(status).collect()
    }

    /// Where clients reach a node, for a redirect.
    pub fn client_address(&self, id: NodeId) -> Option<String> {
        let names = self.names();
        names.members.iter().find(|member| member.id == id).map(|member| member.client_address.clone())
    }

    /// What is not as it should be, for a person; empty if all is well.
    pub fn notes(&self, now: Time) -> Vec<String> {
        let mut notes = self.names().notes.clone();
        let since = self.leaderless_since.load(Ordering::Relaxed);
        if self.cluster().0 != 0 && since != Time::NEVER.0 {
            notes.push(format!("no leader for {:.1} s", now.since(Time(since)).as_millis() as f64 / 1e3));
        }
        if self.paused() {
            notes.push("too many bytes wait for a majority: clients are not read for now".to_owned());
        }
        notes
    }

    pub(crate) fn set_numbers(&self, now: Time, numbers: &Numbers) {
        self.role.store(numbers.role as u8, Ordering::Relaxed);
        self.term.store(numbers.term.0, Ordering::Relaxed);
        self.leader_commit.store(numbers.leader_commit.unwrap_or_default().0, Ordering::Relaxed);
        self.needs_snapshot.store(numbers.needs_snapshot, Ordering::Relaxed);
        self.commit.store(numbers.commit.0, Ordering::Relaxed);
        self.applied.store(numbers.applied.0, Ordering::Relaxed);
        self.durable.store(numbers.durable.0, Ordering::Relaxed);
        self.keys.store(numbers.keys, Ordering::Relaxed);
        self.sessions.store(numbers.sessions.open, Ordering::Relaxed);
        self.sessions_expired.store(numbers.sessions.expired, Ordering::Relaxed);
        self.requests_repeated.store(numbers.sessions.repeated, Ordering::Relaxed);
        self.state_bytes.store(numbers.state.bytes, Ordering::Relaxed);
        self.snapshot.store(numbers.state.snapshot.0, Ordering::Relaxed);
        self.snapshot_log_bytes.store(numbers.state.log_bytes, Ordering::Relaxed);
        self.paused.store(numbers.paused, Ordering::Relaxed);
        self.leader.store(numbers.leader.map_or(NOBODY, |id| u64::from(id.0)), Ordering::Relaxed);
        match numbers.leader {
            Some(_) => self.leaderless_since.store(Time::NEVER.0, Ordering::Relaxed),
            None if self.leaderless_since.load(Ordering::Relaxed) == Time::NEVER.0 => {
                self.leaderless_since.store(now.0, Ordering::Relaxed);
            }
            None => {}
        }
    }

    /// False: somebody is taking hold of the names right now, and is not waited for; try again with the next batch.
    pub(crate) fn set_names(
        &self,
        cluster: ClusterId,
        members: Vec<Member>,
        connected: Vec<NodeId>,
        notes: Vec<String>,
    ) -> bool {
        self.cluster.store(cluster.0, Ordering::Relaxed);
        let mut names = Arc::new(Names { members, connected, notes });
        match self.names.try_lock() {
            Ok(mut held) => std::mem::swap(&mut *held, &mut names),
            Err(TryLockError::Poisoned(poisoned)) => std::mem::swap(&mut *poisoned.into_inner(), &mut names),
            Err(TryLockError::WouldBlock) => return false,
        }
        true
    }

    pub(super) fn count_refused_message(&self) {
        self.refused_messages.fetch_add(1, Ordering::Relaxed);
    }

    /// The names of this moment. Nothing is copied, allocated or freed under the lock, so nobody waits for a reader.
    fn names(&self) -> Arc<Names> {
        Arc::clone(&self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arc<Names>> {
        // A panic under this lock cannot leave the names half written: they are replaced in one assignment.
        self.names.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Span;

    #[test]
    fn who_reads_the_names_is_not_waited_for() {
        let published = Published::new(Time(0));
        let set = || published.set_names(ClusterId(1), Vec::new(), vec![NodeId(0)], Vec::new());
        let reading = published.names();
        assert!(set(), "who reads holds no lock");
        assert!(reading.connected.is_empty() && published.names().connected == [NodeId(0)], "and reads what was");
        let taking_hold = published.lock();
        assert!(!set());
        drop(taking_hold);
        assert!(set());
    }

    #[test]
    fn says_for_how_long_there_was_no_leader() {
        let published = Published::new(Time(0));
        published.set_names(ClusterId(1), Vec::new(), Vec::new(), Vec::new());
        let led = Numbers { leader: Some(NodeId(0)), ..Numbers::default() };
        published.set_numbers(Time(0) + Span::secs(1), &led);
        assert_eq!(published.leader(), Some(NodeId(0)));
        assert!(published.notes(Time(0) + Span::secs(2)).is_empty());
        published.set_numbers(Time(0) + Span::secs(3), &Numbers::default());
        published.set_numbers(Time(0) + Span::secs(4), &Numbers::default());
        assert_eq!(published.leader(), None);
        assert_eq!(published.notes(Time(0) + Span::secs(5)), ["no leader for 2.0 s"]);
    }
}
