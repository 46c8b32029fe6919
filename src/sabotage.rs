//! Promises broken on purpose, so that the tests can show that they would notice. At most one at a time is broken, and only
//! in a build with the feature `sabotage`, which cannot be a release build; in every other build [`sabotage!`] *is* its
//! honest expression.
//!
//! ```text
//! let held = sabotage!(LeaderCountsUnsynced, self.log.durable(), self.log.last().index);
//!                      which bug             honest              broken
//! sabotage!(ReadWithoutRound: { .. });      nothing, or the broken statements
//! ```

/// The honest expression, or the broken one if that bug is armed.
#[cfg(not(feature = "sabotage"))]
macro_rules! sabotage {
    ($bug:ident: $broken:block) => {};
    ($bug:ident, $honest:expr, $broken:expr) => {
        // A call, so that lints see the honest expression as something that could be another one.
        std::convert::identity($honest)
    };
}

/// The honest expression, or the broken one if that bug is armed.
#[cfg(feature = "sabotage")]
macro_rules! sabotage {
    ($bug:ident: $broken:block) => {
        if $crate::sabotage::is_armed($crate::sabotage::Bug::$bug) $broken
    };
    ($bug:ident, $honest:expr, $broken:expr) => {
        if $crate::sabotage::is_armed($crate::sabotage::Bug::$bug) {
            $broken
        } else {
            $honest
        }
    };
}

#[cfg(feature = "sabotage")]
pub use switch::*;

#[cfg(feature = "sabotage")]
mod switch {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicUsize, Ordering};

    macro_rules! bugs {
        ($($name:ident, $text:literal, $breaks:literal;)*) => {
            /// Every bug that can be armed.
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub enum Bug {
                $(#[doc = $breaks] $name,)*
            }

            impl Bug {
                /// All of them.
                pub const ALL: &'static [Bug] = &[$(Bug::$name,)*];

                /// Its name on a command line.
                pub fn name(self) -> &'static str {
                    match self { $(Bug::$name => $text,)* }
                }

                /// What it breaks, and which rule that is.
                pub fn breaks(self) -> &'static str {
                    match self { $(Bug::$name => $breaks,)* }
                }
            }
        };
    }

    bugs! {
        // elections
        VoteNotPersisted, "vote-not-persisted", "a vote is given and not stored (C-7)";
        TermNotPersisted, "term-not-persisted", "a term is taken and not stored (C-7)";
        VoteLeavesEarly, "vote-leaves-early", "votes and requests for votes leave before they are durable (C-7, C-10)";
        OneCopyMeta, "one-copy-meta", "only one of the two meta files is written (C-7)";
        VoteForShorterLog, "vote-for-shorter-log", "a vote is given without comparing logs (paper 5.4.1)";
        PreVoteCountsAsVote, "pre-vote-counts-as-vote", "an answer to a PreVote counts in the election (T-15)";
        NoStepDown, "no-step-down", "a leader that hears no quorum goes on leading (CheckQuorum)";
        HungDiskLeads, "hung-disk-leads", "a leader whose disk hangs goes on leading (C-13)";
        // replication
        AnswerBeforeSync, "answer-early", "everything that waits for a sync leaves before it (C-10)";
        AckBeforeSync, "ack-before-sync", "a follower acknowledges what is not durable (C-11)";
        LeaderCountsUnsynced, "leader-counts-unsynced", "a leader counts itself before its sync (C-10)";
        OldTermByCounting, "old-term-by-counting", "an entry of an older term is committed by counting (paper 5.4.2)";
        CommitUnclamped, "commit-unclamped", "a follower commits beyond what it has verified (C-11)";
        MatchAboveMatched, "match-above-matched", "a follower acknowledges its whole durable log (C-11)";
        MatchedSurvivesTerm, "matched-survives-term", "what was verified against one leader counts for the next (C-11)";
        StaleAppendTruncates, "stale-append-truncates", "an old AppendEntries truncates what came after it (T-35)";
        CompletionByIndex, "completion-by-index", "a completed append counts for whatever replaced its entries (C-10)";
        HeartbeatMatches, "heartbeat-matches", "a heartbeat counts the follower's whole log as verified (C-12)";
        // reads
        ReadWithoutRound, "read-without-round", "a leader reads without asking whether it leads (C-18)";
        ReadByOldRound, "read-by-old-round", "a read is confirmed by a round that began before it (C-18)";
        ReadBeforeOwnCommit, "read-before-own-commit", "a leader reads before it has committed in its term (C-18)";
        ReadBeforeApplied, "read-before-applied", "a read does not wait until its index is applied (C-18)";
        // clients
        DefiniteOnStepDown, "definite-on-step-down", "a write that may yet commit is answered \"not executed\" (C-23)";
        DefiniteAtDeadline, "definite-at-deadline", "a proposed write is answered \"not executed\" at its deadline (C-23)";
        ReplyByIndexOnly, "reply-by-index-only", "a write is answered with whatever was committed at its index (C-23)";
        CreditAtDeadline, "credit-at-deadline", "a 504 at the deadline returns the credit (C-26)";
        LogTimeFromWallClock, "log-time-from-wall-clock", "log time is the leader's wall clock (C-25)";
        LogTimeStartsAnew, "log-time-starts-anew", "a new leader's log time starts from its wall clock (C-25)";
        // In tools/client, which has a switch of its own: whoever arms this arms that one too.
        UncertainIsDefinite, "uncertain-is-definite", "the client says \"not applied\" though an attempt had an unknown end (C-24)";
        // sessions
        NoDedupe, "no-dedupe", "a copy of a request is executed again (C-24)";
        WindowOffByOne, "window-off-by-one", "a session takes one sequence more than it keeps results (C-24)";
        ExpiryByWallClock, "expiry-by-wall-clock", "sessions expire by each node's wall clock (C-24)";
        NeverNotKept, "never-not-kept", "who was told \"never\" is executed all the same (C-24)";
        // the state machine
        BatchHalfApplied, "batch-half-applied", "what comes before a batch's refused operation is applied";
        HalfVisibleEntry, "half-visible-entry", "of a batch only the first operation is seen at its revision (C-19)";
        ViewShowsNewest, "view-shows-newest", "pages of a view show the newest state (C-21)";
        ViewHoldsNothing, "view-holds-nothing", "versions that a view needs are unlinked (C-20, C-21)";
        // snapshots
        SnapshotShowsNewest, "snapshot-shows-newest", "a snapshot's keys are those of the moment, not of its position (C-22)";
        SnapshotWithoutSessions, "snapshot-without-sessions", "a snapshot has no sessions (C-22)";
        SessionsCapturedLate, "sessions-captured-late", "a snapshot's sessions are captured after its view (C-22)";
        SnapshotNotSynced, "snapshot-not-synced", "the log is cut off behind a snapshot that is not synced (C-5)";
        SnapshotNameNotSynced, "snapshot-name-not-synced", "a snapshot's name is not made durable (C-5)";
        ReceivedNotSynced, "received-not-synced", "a snapshot that was received is installed without a sync (C-5)";
        CompactedToNewest, "compacted-to-newest", "the log is cut off behind the newest snapshot, not the one before (C-5)";
        ConflictSurvivesInstall, "conflict-survives-install", "a log that differs from an installed snapshot is kept (C-5)";
        ConflictSurvivesStart, "conflict-survives-start", "a log that differs from the snapshot is kept at a start (C-5)";
        ReplaySkipsCovered, "replay-skips-covered", "a replay skips what the snapshot covers, and what it replaces stays (C-5)";
        // formation
        FormedByMajority, "formed-by-majority", "a cluster is formed before all its members have met (C-17)";
        FormatLeavesEarly, "format-leaves-early", "a Format is given before it is durable (C-17)";
        SecondFormatTaken, "second-format-taken", "a node that has a Format takes another (C-17)";
        IncarnationIgnored, "incarnation-ignored", "another life of a member's disk is taken for the member (C-17)";
        // the log on the disk
        DroppedSync, "drop-sync", "the log reports success without a sync (C-6)";
        RetriedSync, "retried-sync", "a failed sync is tried again and believed (C-6)";
        NoDirectorySync, "no-directory-sync", "a new segment's name is not made durable (C-2)";
        EntriesBeforeMeta, "entries-before-meta", "entries are written before the term that they belong to (C-7)";
        TornBodyAccepted, "torn-body-accepted", "a record's body is not verified (C-2)";
        DamageIsCut, "damage-is-cut", "a bad record below synced_to is cut like a torn tail (C-3)";
        OverwrittenIsRead, "overwritten-is-read", "a run of entries is read on past where a later one replaced it (C-9)";
        HoleSkipped, "hole-skipped", "a replay goes on behind a bad record, with what reached the disk (C-3, C-4)";
        RecoveredNotSynced, "recovered-not-synced", "what a start finds in the page cache is taken for durable (C-6)";
    }

    thread_local! {
        static HERE: Cell<Option<Bug>> = const { Cell::new(None) };
    }
    /// 1 + the bug's position; 0 = none. Set once, before there are threads.
    static EVERYWHERE: AtomicUsize = AtomicUsize::new(0);

    impl Bug {
        /// The bug with this name.
        pub fn named(name: &str) -> Option<Bug> {
            Bug::ALL.iter().copied().find(|bug| bug.name() == name)
        }
    }

    /// Arms a bug in this thread, or none.
    pub fn arm(bug: Option<Bug>) {
        HERE.set(bug);
    }

    /// Arms a bug in the whole process.
    pub fn arm_everywhere(bug: Bug) {
        EVERYWHERE.store(bug as usize + 1, Ordering::Relaxed);
    }

    /// Whether this bug is armed here.
    pub fn is_armed(bug: Bug) -> bool {
        HERE.get() == Some(bug) || EVERYWHERE.load(Ordering::Relaxed) == bug as usize + 1
    }
}
