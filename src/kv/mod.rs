//! The key-value state machine: an ordered, multi-version map with one writer and lock-free readers.
//!
//! The raft thread owns the [`Store`] and applies committed entries; each io thread owns a [`Reader`]. Revisions are
//! log indexes. Nothing that an entry wrote is seen before [`Store::publish`] names it (C-19).
//!
//! ```text
//!  raft thread                                  io thread
//!  store.execute(revision, origin, &command)     let pinned = reader.pin();
//!  store.publish(revision)                      if pinned.applied() >= read_index { pinned.get(key) }
//! ```

mod fifo;
#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod model_tests;
mod operations;
mod outcome;
#[cfg(all(test, not(loom)))]
mod replace_tests;
mod restored;
pub mod sessions;
mod skiplist;
pub mod snapshot;
#[cfg(all(test, not(loom)))]
mod stress_tests;
mod sync;
#[cfg(all(test, not(loom)))]
mod tests;
mod view;

use std::sync::Arc;

use protocol::command::Command;
pub use protocol::reply::{Item, Versioned};
use protocol::request::ViewId;
use protocol::{Index, LogTime, SessionId};
use sessions::{Met, Origin, Sessions};
use view::Purpose;

pub use outcome::{Executed, Fate, Outcome, Refusal, Reply};
pub use restored::{Contents, Position, Restored};
pub use sessions::{Session, SessionError};
pub use skiplist::{Builder, Built, OutOfOrder, Pinned, Range, Reader, ReplacedList as Retired, ViewPinned};
pub use view::{ViewCounts, ViewsFull};

/// The state machine's writer; owned by the raft thread.
pub struct Store {
    list: skiplist::Writer,
    keys: u64,
    sessions: Sessions,
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl Store {
    /// An empty store, applied up to index 0.
    pub fn new() -> Self {
        Self::over(Builder::new().finish(Index(0)), Sessions::default())
    }

    /// The state that a snapshot holds, at start.
    pub fn restore(restored: Restored) -> Self {
        Self::over(restored.built, Sessions::restore(restored.sessions))
    }

    /// Puts the state of a snapshot in place of this one, in one step (C-19): readers see the old state or the new one, and
    /// the new one's revision with it. All views end. The snapshot must be newer than what is published. The old list is
    /// given back, to be freed elsewhere (C-20).
    pub fn replace(&mut self, restored: Restored) -> Retired {
        let index = restored.position.id.index;
        assert!(index == restored.built.applied(), "a list of {} at position {index}", restored.built.applied());
        self.keys = restored.built.keys();
        self.sessions.replace(restored.sessions);
        self.list.replace(restored.built)
    }

    /// Executes the command of the entry at `revision`, which must be above what is published, unless its session has
    /// its result already: then that is the answer, and nothing is done (C-24). Sessions that have expired by the entry's
    /// log time are removed first. Readers see what it writes once [`Store::publish`] has named the revision.
    pub fn execute(&mut self, revision: Index, origin: Origin, command: &Command<'_>) -> Reply {
        self.sessions.expire(origin.log_time);
        let outcome = match command {
            Command::OpenSession => self.sessions.open(revision, origin.log_time),
            Command::CloseSession => self.sessions.close(origin.session),
            Command::KeepAlive => self.sessions.keep(origin),
            Command::QueryOutcome { session, sequence } => {
                return Reply::Fate(self.sessions.query(*session, *sequence, revision));
            }
            _ if origin.session == SessionId(0) => self.apply(revision, command),
            _ => return Reply::Executed(self.execute_once(revision, origin, command)),
        };
        Reply::Executed(Executed { outcome, revision })
    }

    /// An entry that is no command was committed: only log time has moved.
    pub fn pass(&mut self, log_time: LogTime) {
        self.sessions.expire(log_time);
    }

    /// Says which keys the commands that are executed next will look for, at most [`crate::limits::WARM_KEYS`] of them:
    /// finding them then costs less waiting for memory. Changes nothing that can be seen.
    pub fn warm<'k>(&mut self, keys: impl Iterator<Item = &'k [u8]>) {
        self.list.warm(keys);
    }

    /// Applies a command's operations, whatever its session. Panics if it has none.
    pub fn apply(&mut self, revision: Index, command: &Command<'_>) -> Outcome {
        let (outcome, keys) = operations::apply(&mut self.list, revision, command);
        self.keys = self.keys.checked_add_signed(keys).expect("only keys that exist are removed");
        outcome
    }

    /// Several commands at one revision.
    #[cfg(test)]
    pub fn apply_all(&mut self, revision: Index, commands: &[Command<'_>], outcomes: &mut Vec<Outcome>) {
        outcomes.extend(commands.iter().map(|command| self.apply(revision, command)));
    }

    /// All sessions as they are now, by id: a snapshot's other half (C-22).
    pub fn capture_sessions(&self) -> Vec<Arc<Session>> {
        self.sessions.capture()
    }

    /// The session table.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Publishes everything up to `applied` (C-19); call it after every entry, also after those that write nothing.
    /// Then frees a bounded number of old versions (C-20): more than the entry can have left, so that a backlog shrinks.
    pub fn publish(&mut self, applied: Index) {
        self.list.publish(applied.0);
    }

    /// Frees a bounded number of old versions (C-20), as [`Store::publish`] does; for when nothing is written.
    pub fn reclaim(&mut self) {
        self.list.reclaim(crate::limits::RECLAIM_IDLE_STEPS);
    }

    /// Whether there is anything to free that no open view holds: call [`Store::reclaim`] again in a while.
    pub fn is_reclaiming(&self) -> bool {
        self.list.is_reclaiming()
    }

    /// The published revision.
    pub fn applied(&self) -> Index {
        Index(self.list.applied())
    }

    /// Keys that exist, published or not.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// Bytes of the blocks of nodes and versions, those that wait to be freed included; the pages that the blocks lie in
    /// are some percent more. A key of 16 bytes with a value of 64 takes 154.7 on average (measured: see `tests::bytes_per_key`).
    pub fn bytes(&self) -> u64 {
        self.list.bytes() as u64
    }

    /// Old versions and nodes that wait to be unlinked or freed, because readers may need them or their turn has not
    /// come. What views hold back is not in it.
    pub fn backlog(&self) -> u64 {
        self.list.backlog() as u64
    }

    /// The newest value of `key`, published or not.
    pub fn get(&self, key: &[u8]) -> Option<Versioned<'_>> {
        self.list.newest(key)
    }

    /// A reader for another thread. It may outlive the store. Panics beyond [`crate::limits::READERS_MAX`] readers.
    pub fn reader(&self) -> Reader {
        self.list.reader().expect("READERS_MAX counts all threads that read")
    }

    /// Opens a view of the published revision (C-21). `boot` is the random number of this process.
    pub fn open_view(&mut self, boot: u64) -> Result<ViewId, ViewsFull> {
        self.list.open_view(boot, Purpose::Client)
    }

    /// Opens a view for a snapshot of the published revision: it has places and a limit of its own. A `patient` one has no
    /// limit and is never abandoned: whoever opens it holds writes back while [`Store::snapshot_held_bytes`] is above
    /// [`crate::limits::SNAPSHOT_VIEW_BYTES_MAX`] (C-21).
    pub fn open_snapshot_view(&mut self, boot: u64, patient: bool) -> Result<ViewId, ViewsFull> {
        self.list.open_view(boot, if patient { Purpose::PatientSnapshot } else { Purpose::Snapshot })
    }

    /// Whether a view is open: not closed, not abandoned, and its list was not replaced.
    pub fn view_is_open(&self, view: ViewId) -> bool {
        self.list.view_is_open(view)
    }

    /// Bytes of old versions that only open views for snapshots hold back.
    pub fn snapshot_held_bytes(&self) -> u64 {
        self.list.snapshot_held_bytes() as u64
    }

    /// Closes a view; false if it was not open (closed before, or abandoned because it held too many bytes). Readers
    /// that found it open keep reading at it until their pin ends.
    pub fn close_view(&mut self, view: ViewId) -> bool {
        self.list.close_view(view)
    }

    /// Numbers about the views.
    pub fn views(&self) -> ViewCounts {
        self.list.view_counts()
    }

    fn over(built: Built, sessions: Sessions) -> Self {
        let keys = built.keys();
        Self { list: skiplist::Writer::over(built), keys, sessions }
    }

    fn execute_once(&mut self, revision: Index, origin: Origin, command: &Command<'_>) -> Executed {
        let session = match self.sessions.meet(origin, revision) {
            Met::Known(executed) => return executed,
            Met::New(session) => session,
        };
        let (outcome, keys) = operations::apply(&mut self.list, revision, command);
        let executed = Executed { outcome, revision };
        let grown = session.keep(origin.sequence, executed);
        self.sessions.grown(grown);
        self.keys = self.keys.checked_add_signed(keys).expect("only keys that exist are removed");
        executed
    }

    /// Sets how many bytes of old versions a view of a client may hold, and one of a snapshot: for those who want to reach the
    /// bounds ([`crate::limits::VIEW_BYTES_MAX`], [`crate::limits::SNAPSHOT_VIEW_BYTES_MAX`]) with little memory.
    pub fn set_view_bytes_max(&mut self, bytes: usize) {
        self.list.set_view_bytes_max(bytes);
    }
}
