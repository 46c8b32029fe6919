//! This replica's snapshots: when one is due and what is captured for it (C-21, C-22), and how one that was fetched takes
//! the place of the state machine (C-19, C-23).

use protocol::reply::Reason;
use protocol::request::ViewId;
use protocol::{Entry, Index};

use super::effects::{Completion, Effects, FetchSnapshot, NotTaken, ReplyTo, SnapshotFile, TakeSnapshot, WriteResult};
use super::{Phase, Replica, StateSize};
use crate::kv::{Contents, Position, Restored};
use crate::limits;
use crate::raft::{self, Installed, LogBase, Raft};
use crate::time::{Span, Time};

/// Abandoned in a row after which the next snapshot is patient: it is never abandoned, and holds writes back instead (C-21).
const ABANDONED_MAX: u32 = 2;

/// What has been taken, what is being taken, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    /// The last applied entry.
    applied: Position,
    newest: Option<SnapshotFile>,
    /// The newest one was found damaged, and there is no other since.
    damaged: bool,
    /// Bytes of entries applied since the newest snapshot was captured, or the one that is being taken.
    log_bytes: u64,
    taking: Option<Taking>,
    /// How many were abandoned since the last one that was finished.
    abandoned: u32,
    /// After a failure.
    not_before: Option<Time>,
    /// Who wants one that is captured after this; bounded by the io loops' credits.
    asked: Vec<Asker>,
    /// Its sessions are still to be captured: deliberately wrong.
    #[cfg(feature = "sabotage")]
    late: Option<TakeSnapshot>,
}

/// A snapshot under way.
#[derive(Debug)]
struct Taking {
    view: ViewId,
    patient: bool,
    /// What to count again if it comes to nothing.
    log_bytes: u64,
    askers: Vec<Asker>,
    /// Another state has taken the state machine's place: however it ends, it counts for nothing.
    void: bool,
}

#[derive(Clone, Copy, Debug)]
struct Asker {
    reply_to: ReplyTo,
    deadline: Time,
}

impl Snapshots {
    /// As found at boot: `applied` is where `newest` ends, if there is one.
    pub(super) fn new(applied: LogBase, newest: Option<SnapshotFile>) -> Self {
        Self { applied: position_of(applied), newest, ..Self::default() }
    }

    /// For everybody to see, beside the state's bytes.
    pub(super) fn size(&self, bytes: u64) -> StateSize {
        let snapshot = self.newest.map_or(Index(0), |newest| newest.position.id.index);
        StateSize { bytes, snapshot, log_bytes: self.log_bytes }
    }

    pub(super) fn next_deadline(&self) -> Time {
        let askers = self.asked.iter().chain(self.taking.iter().flat_map(|taking| &taking.askers));
        let next = askers.map(|asker| asker.deadline).min().unwrap_or(Time::NEVER);
        self.not_before.map_or(next, |not_before| next.min(not_before))
    }

    fn askers(&self) -> usize {
        self.asked.len() + self.taking.as_ref().map_or(0, |taking| taking.askers.len())
    }

    fn take_askers(&mut self, due: impl Fn(&Asker) -> bool) -> Vec<Asker> {
        let mut askers: Vec<Asker> = self.asked.extract_if(.., |asker| due(asker)).collect();
        if let Some(taking) = &mut self.taking {
            askers.extend(taking.askers.extract_if(.., |asker| due(asker)));
        }
        askers
    }
}

impl Replica {
    /// An entry was applied and published.
    pub(super) fn note_applied(&mut self, entry: &Entry) {
        let header = &entry.header;
        self.snapshots.applied = Position { id: header.id, chain: header.chain, log_time: header.log_time };
        self.snapshots.log_bytes += entry.encoded_len() as u64;
    }

    /// A client wants a snapshot of everything that is applied by now.
    pub(super) fn snapshot_asked(&mut self, reply_to: ReplyTo, deadline: Time) {
        match self.phase {
            Phase::Forming => self.answer_asker(reply_to, Err(Reason::Forming)),
            Phase::Member(_) if self.snapshots.askers() >= limits::SNAPSHOT_ASKERS_MAX => {
                self.answer_asker(reply_to, Err(Reason::Overload));
            }
            Phase::Member(_) => self.snapshots.asked.push(Asker { reply_to, deadline }),
        }
    }

    /// Begins a snapshot if enough was logged since the last one, or somebody wants one.
    pub(super) fn take_snapshot_if_due(&mut self, now: Time, effects: &mut Effects) {
        sabotage!(SessionsCapturedLate: { self.capture_late(effects) });
        self.answer_with_newest();
        let snapshots = &mut self.snapshots;
        snapshots.not_before = snapshots.not_before.filter(|not_before| now < *not_before);
        let empty = snapshots.applied.id.index == Index(0);
        if snapshots.taking.is_some() || empty || snapshots.not_before.is_some() || effects.stop.is_some() {
            return;
        }
        let bytes = self.store.bytes() + self.store.sessions().bytes();
        let state = bytes.saturating_mul(self.settings.snapshot_state_percent) / 100;
        let due = self.settings.snapshot_log_bytes_min.max(state);
        let enough = snapshots.damaged || snapshots.log_bytes >= due;
        if !enough && snapshots.asked.is_empty() {
            return;
        }
        // The others may commit what this node's disk does not hold yet. After a loss of power the log would restart behind a
        // snapshot of that, and one file would be all that covers it (C-5). A disk that is always behind is not waited for.
        if self.is_ahead_of_disk() && self.snapshots.log_bytes < due.saturating_mul(2) {
            return;
        }
        let patient = self.snapshots.abandoned >= ABANDONED_MAX;
        let Ok(view) = self.store.open_snapshot_view(self.settings.boot, patient) else {
            // The last one's view is still being taken down.
            self.snapshots.not_before = Some(now + Span::millis(limits::SNAPSHOT_VIEW_RETRY_MS));
            return;
        };
        // All of it belongs to the view's revision: nothing is applied in between (C-22).
        let contents = Contents {
            position: self.snapshots.applied,
            format: self.formation.format().expect("a member has a Format").clone(),
            sessions: sabotage!(SnapshotWithoutSessions, self.store.capture_sessions(), Vec::new()),
        };
        assert_eq!(contents.position.id.index, self.store.applied(), "a view shows what is published");
        let log_bytes = std::mem::take(&mut self.snapshots.log_bytes);
        let askers = std::mem::take(&mut self.snapshots.asked);
        self.snapshots.taking = Some(Taking { view, patient, log_bytes, askers, void: false });
        sabotage!(SessionsCapturedLate: { return self.snapshots.late = Some(TakeSnapshot { contents, view }) });
        effects.take_snapshot = Some(TakeSnapshot { contents, view });
    }

    fn is_ahead_of_disk(&self) -> bool {
        let durable = self.raft().map_or(Index(u64::MAX), Raft::durable_index);
        durable < self.snapshots.applied.id.index
    }

    /// The bulk worker has finished, or given up.
    pub(super) fn snapshot_taken(&mut self, now: Time, result: Result<SnapshotFile, NotTaken>) {
        let Some(taking) = self.snapshots.taking.take() else { return };
        self.store.close_view(taking.view);
        if !taking.void && result.is_err() {
            self.snapshots.log_bytes += taking.log_bytes;
        }
        match result {
            Ok(file) => {
                self.snapshots.abandoned = 0;
                if let (Phase::Member(raft), false) = (&mut self.phase, taking.void) {
                    raft.snapshot_taken(base_of(file.position), file.bytes);
                    (self.snapshots.newest, self.snapshots.damaged) = (Some(file), false);
                }
                self.answer_askers(taking.askers, Ok(file));
            }
            // Nobody is told: the next one is begun for them.
            Err(NotTaken::Abandoned) => {
                self.snapshots.abandoned += u32::from(!taking.void);
                self.snapshots.asked.extend(taking.askers);
            }
            Err(NotTaken::Failed(text)) => {
                self.outbox.warnings.push(format!("no snapshot could be taken: {text}"));
                self.snapshots.not_before = Some(now + Span::millis(limits::SNAPSHOT_RETAKE_MS));
                self.answer_askers(taking.askers, Err(Reason::Overload));
            }
        }
    }

    /// The newest snapshot's file is damaged, if it is the one that ends at `last`.
    pub(super) fn snapshot_damaged(&mut self, last: Index, why: &str) {
        let snapshots = &mut self.snapshots;
        if snapshots.newest.take_if(|newest| newest.position.id.index == last).is_none() {
            return;
        }
        snapshots.damaged = true;
        self.outbox.warnings.push(format!("the snapshot at index {last} is damaged ({why}): another one is taken"));
        if let Phase::Member(raft) = &mut self.phase {
            raft.snapshot_damaged(last);
        }
    }

    /// Writes are held back: a patient snapshot keeps more old versions than a snapshot should (C-21). Only a leader can:
    /// the writes of a follower's state machine are not those of its own clients.
    pub(super) fn snapshot_holds_writes_back(&self) -> bool {
        if !self.raft().is_some_and(Raft::is_leader) {
            return false;
        }
        let patient = self.snapshots.taking.as_ref().is_some_and(|taking| taking.patient);
        let holds = patient && self.store.snapshot_held_bytes() > self.settings.snapshot_held_bytes_max;
        if holds {
            crate::mark!("replica: writes held back for a snapshot");
        }
        holds
    }

    pub(super) fn expire_askers(&mut self, now: Time) {
        for asker in self.snapshots.take_askers(|asker| asker.deadline <= now) {
            self.answer_asker(asker.reply_to, Err(Reason::Deadline));
        }
    }

    /// Raft wants a snapshot of another node.
    pub(super) fn fetch_snapshot(&mut self, now: Time, wanted: raft::FetchSnapshot, effects: &mut Effects) {
        let raft::FetchSnapshot { from, offer } = wanted;
        let member = self.formation.members().iter().find(|member| member.id == from);
        match (member, &mut self.phase) {
            (Some(member), _) => {
                let address = member.peer_address.clone();
                let protocol::message::SnapshotOffer { last, chain, bytes } = offer;
                effects.fetch_snapshot = Some(FetchSnapshot { from, address, last, chain, bytes });
            }
            (None, Phase::Member(raft)) => raft.fetch_failed(now),
            (None, Phase::Forming) => {}
        }
    }

    /// The snapshot that was wanted is here and durable, or not.
    pub(super) fn snapshot_fetched(&mut self, now: Time, result: Result<(Box<Restored>, u64), String>) {
        let Phase::Member(raft) = &mut self.phase else { return };
        let failure = match result {
            Ok((restored, _)) if Some(&restored.format) != self.formation.format() => {
                self.outbox.discarded = Some(restored);
                "it names other members than this node knows".to_owned()
            }
            Ok((restored, bytes)) => return self.install(restored, bytes),
            Err(text) => text,
        };
        raft.fetch_failed(now);
        self.outbox.warnings.push(format!("no snapshot could be fetched: {failure}"));
    }

    fn install(&mut self, restored: Box<Restored>, bytes: u64) {
        let Phase::Member(raft) = &mut self.phase else { return };
        let position = restored.position;
        match raft.install(base_of(position), bytes) {
            Installed::Ignored => self.outbox.discarded = Some(restored),
            Installed::KeptTail | Installed::Restarted => {
                assert!(self.outbox.retired.is_none(), "one fetch at a time");
                self.outbox.retired = Some(self.store.replace(*restored));
                self.views.clear();
                self.note_installed(SnapshotFile { position, bytes });
            }
        }
    }

    /// The state machine is where the snapshot ends: what waited for an index up to there may have been executed (C-23).
    fn note_installed(&mut self, file: SnapshotFile) {
        let snapshots = &mut self.snapshots;
        (snapshots.applied, snapshots.newest, snapshots.log_bytes) = (file.position, Some(file), 0);
        snapshots.damaged = false;
        if let Some(taking) = &mut snapshots.taking {
            taking.void = true;
        }
        let mut ends = std::mem::take(&mut self.scratch.ends);
        self.pending.cover(file.position.id.index, &mut ends);
        let mut effects = std::mem::take(&mut self.outbox);
        for end in ends.drain(..) {
            self.end(end, WriteResult::Unknown { reason: Reason::LeaderChanged }, &mut effects);
        }
        (self.outbox, self.scratch.ends) = (effects, ends);
    }

    /// Deliberately wrong: captures the sessions once more was applied than the view shows.
    #[cfg(feature = "sabotage")]
    fn capture_late(&mut self, effects: &mut Effects) {
        let applied = self.store.applied();
        if let Some(mut late) = self.snapshots.late.take_if(|late| late.view.revision < applied) {
            late.contents.sessions = self.store.capture_sessions();
            effects.take_snapshot = Some(late);
        }
    }

    /// Whoever wants a snapshot while nothing was applied since the newest one has it.
    fn answer_with_newest(&mut self) {
        let Some(newest) = self.snapshots.newest else { return };
        if newest.position == self.snapshots.applied && !self.snapshots.asked.is_empty() {
            let askers = std::mem::take(&mut self.snapshots.asked);
            self.answer_askers(askers, Ok(newest));
        }
    }

    fn answer_askers(&mut self, askers: Vec<Asker>, result: Result<SnapshotFile, Reason>) {
        askers.into_iter().for_each(|asker| self.answer_asker(asker.reply_to, result));
    }

    fn answer_asker(&mut self, reply_to: ReplyTo, result: Result<SnapshotFile, Reason>) {
        self.outbox.completions.push((reply_to.io_loop, Completion::Snapshot { reply_to, result }));
    }
}

/// A position in Raft's words: `kv` and `raft` do not know each other.
fn base_of(position: Position) -> LogBase {
    LogBase { id: position.id, chain: position.chain, log_time: position.log_time }
}

fn position_of(base: LogBase) -> Position {
    Position { id: base.id, chain: base.chain, log_time: base.log_time }
}
