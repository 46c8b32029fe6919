use proptest::prelude::*;
use protocol::command::Command;

use super::*;
use crate::kv::{Refusal, Reply, Store};

const TTL: u64 = limits::SESSION_TTL_MS;

/// A store, and the next entry's index and log time.
struct Log {
    store: Store,
    index: Index,
    now: LogTime,
}

impl Log {
    fn new() -> Self {
        Self { store: Store::new(), index: Index(0), now: LogTime(1_000) }
    }

    fn entry(&mut self, session: SessionId, sequence: u64, command: Command<'_>) -> Reply {
        self.index = self.index.next();
        let origin = Origin { session, sequence: Sequence(sequence), log_time: self.now };
        let reply = self.store.execute(self.index, origin, &command);
        self.store.publish(self.index);
        reply
    }

    fn open(&mut self) -> SessionId {
        let reply = self.entry(SessionId(0), 0, Command::OpenSession);
        assert_eq!(reply, self.now(Outcome::SessionOpened));
        SessionId(self.index.0)
    }

    fn increment(&mut self, session: SessionId, sequence: u64) -> Reply {
        self.entry(session, sequence, Command::Increment { key: b"sum", by: 1 })
    }

    fn query(&mut self, session: SessionId, sequence: u64) -> Fate {
        match self.entry(SessionId(0), 0, Command::QueryOutcome { session, sequence: Sequence(sequence) }) {
            Reply::Fate(fate) => fate,
            Reply::Executed(executed) => panic!("{executed:?}"),
        }
    }

    /// The reply of an entry that was executed just now.
    fn now(&self, outcome: Outcome) -> Reply {
        Reply::Executed(Executed { outcome, revision: self.index })
    }

    fn sum(&self) -> &[u8] {
        self.store.get(b"sum").map_or(b"0", |found| found.value)
    }
}

fn sum(sum: i64, revision: u64) -> Executed {
    Executed { outcome: Outcome::Number { sum, created: sum == 1 }, revision: Index(revision) }
}

#[test]
fn a_copy_gets_the_first_result_at_the_first_revision_and_executes_nothing() {
    let mut log = Log::new();
    let session = log.open();
    assert_eq!(log.increment(session, 1), Reply::Executed(sum(1, 2)));
    assert_eq!(log.increment(session, 1), Reply::Executed(sum(1, 2)));
    assert_eq!(log.increment(session, 2), Reply::Executed(sum(2, 4)));
    assert_eq!(log.increment(session, 1), Reply::Executed(sum(1, 2)));
    // A refusal is a result like any other: the copy is refused though it would not be any more.
    let put = Command::Put { key: b"sum", value: b"0" };
    let refused = log.entry(session, 3, put);
    assert_eq!(refused, log.now(Outcome::Exists));
    log.entry(SessionId(0), 0, Command::Remove { key: b"sum" });
    assert_eq!(log.entry(session, 3, put), refused);
    assert_eq!(log.store.get(b"sum"), None);
    assert_eq!(log.store.sessions().counts(), SessionCounts { open: 1, expired: 0, repeated: 3 });
}

#[test]
fn t92_sequences_are_executed_in_any_order_within_the_window() {
    let mut log = Log::new();
    let session = log.open();
    assert_eq!(log.increment(session, WINDOW), Reply::Executed(sum(1, 2)));
    assert_eq!(log.increment(session, 1), Reply::Executed(sum(2, 3)), "the other end of the window");
    assert_eq!(log.increment(session, WINDOW - 1), Reply::Executed(sum(3, 4)));
    assert_eq!(log.increment(session, WINDOW + 1), Reply::Executed(sum(4, 5)));
    assert_eq!(log.increment(session, 1), log.now(Outcome::Forgotten), "it has left the window");
    assert_eq!(log.increment(session, 2), Reply::Executed(sum(5, 7)), "its last sequence, not used yet");
    assert_eq!(log.increment(session, WINDOW), Reply::Executed(sum(1, 2)));
    assert_eq!(log.increment(session, 0), log.now(Outcome::Forgotten), "no sequence");
    assert_eq!(log.sum(), b"5");
}

#[test]
fn gaps_of_any_size_are_allowed_and_the_end_of_the_numbers_harms_nobody() {
    let mut log = Log::new();
    let session = log.open();
    let expected = [(1, 1), (5_000, 2), (5_001, 3), (u64::MAX - 1, 4), (u64::MAX, 5)];
    for (sequence, total) in expected {
        assert_eq!(log.increment(session, sequence), log.now(sum(total, 0).outcome));
    }
    assert_eq!(log.increment(session, u64::MAX), Reply::Executed(sum(5, 6)));
    assert_eq!(log.increment(session, 5_001), log.now(Outcome::Forgotten));
    let captured = log.store.capture_sessions();
    let mut bytes = Vec::new();
    captured[0].encode(&mut bytes);
    assert_eq!(Session::decode(&bytes).as_ref(), Ok(&*captured[0]));
}

#[test]
fn t93_a_session_expires_at_its_log_time_and_not_before() {
    let mut log = Log::new();
    let session = log.open();
    log.now.0 += TTL;
    assert_eq!(log.increment(session, 1), Reply::Executed(sum(1, 2)), "its last moment, and a use");
    log.now.0 += TTL;
    assert_eq!(log.entry(session, 0, Command::KeepAlive), log.now(Outcome::SessionKept));
    log.now.0 += TTL;
    assert_eq!(log.query(session, 1), Fate::Executed(sum(1, 2)), "asking is no use of it");
    log.now.0 += 1;
    for command in [Command::Increment { key: b"sum", by: 1 }, Command::KeepAlive, Command::CloseSession] {
        assert_eq!(log.entry(session, 1, command), log.now(Outcome::SessionExpired), "{command:?}");
    }
    assert_eq!(log.query(session, 1), Fate::SessionExpired);
    assert_eq!(log.sum(), b"1");
    assert_eq!(log.store.sessions().counts(), SessionCounts { open: 0, expired: 1, repeated: 0 });
}

#[test]
fn an_entry_that_is_no_command_expires_sessions_too() {
    let mut log = Log::new();
    log.open();
    log.store.pass(LogTime(log.now.0 + TTL));
    assert_eq!(log.store.sessions().counts().open, 1);
    log.store.pass(LogTime(log.now.0 + TTL + 1));
    assert_eq!(log.store.sessions().counts().open, 0);
}

#[test]
fn a_closed_session_is_gone_and_its_neighbours_are_not() {
    let mut log = Log::new();
    let (first, second) = (log.open(), log.open());
    assert_eq!(log.entry(first, 0, Command::CloseSession), log.now(Outcome::SessionClosed));
    assert_eq!(log.increment(first, 1), log.now(Outcome::SessionExpired));
    assert_eq!(log.increment(second, 1), log.now(sum(1, 0).outcome));
    assert_eq!(log.increment(SessionId(77), 1), log.now(Outcome::SessionExpired), "one that never was");
}

#[test]
fn c24_who_is_told_never_can_rely_on_it() {
    let mut log = Log::new();
    let session = log.open();
    log.increment(session, 1);
    assert_eq!(log.query(session, 1), Fate::Executed(sum(1, 2)));
    assert_eq!(log.query(session, 2), Fate::Never);
    let marked = log.index;
    let never = Executed { outcome: Outcome::Never, revision: marked };
    assert_eq!(log.increment(session, 2), Reply::Executed(never), "a copy that was under way");
    assert_eq!(log.query(session, 2), Fate::Never, "however often one asks");
    assert_eq!(log.query(session, 2 + WINDOW), Fate::Never, "as far as a client may be ahead");
    assert_eq!(log.query(session, 2), Fate::Forgotten);
    assert_eq!(log.query(session, 3 + 2 * WINDOW), Fate::Forgotten, "further ahead than any client: not marked");
    assert_eq!(log.query(session, 0), Fate::Forgotten);
    assert_eq!(log.increment(session, 3 + 2 * WINDOW), log.now(sum(2, 0).outcome));
    assert_eq!(log.sum(), b"2");
}

#[test]
fn there_is_a_bound_and_closed_sessions_leave_nothing_behind() {
    let mut log = Log::new();
    for _ in 0..5 * limits::SESSIONS_MAX {
        let session = log.open();
        log.entry(session, 0, Command::CloseSession);
    }
    assert!(log.store.sessions().due.len() <= 2 * limits::SESSIONS_MAX);
    for _ in 0..limits::SESSIONS_MAX {
        log.open();
    }
    assert_eq!(log.entry(SessionId(0), 0, Command::OpenSession), log.now(Outcome::SessionsFull));
    log.now.0 += TTL + 1;
    log.open();
    assert_eq!(log.store.sessions().counts().open, 1);
}

#[test]
fn c22_what_was_captured_does_not_change_any_more() {
    let mut log = Log::new();
    let session = log.open();
    log.increment(session, 1);
    let before = log.store.capture_sessions();
    assert!(Arc::ptr_eq(&before[0], &log.store.capture_sessions()[0]), "what is not used is not copied");
    log.increment(session, 2);
    let after = log.store.capture_sessions();
    assert_eq!(before[0].kept(Sequence(2)), None);
    assert_eq!(after[0].kept(Sequence(2)), Some(sum(2, 3)));
    // The schedule of C-22: restored from what was captured, the next entry is executed and not taken for a copy.
    let mut restored = Sessions::restore(vec![Session::clone(&before[0])]);
    let origin = Origin { session, sequence: Sequence(2), log_time: log.now };
    assert!(matches!(restored.meet(origin, Index(3)), Met::New(_)));
    assert!(matches!(Sessions::restore(vec![Session::clone(&after[0])]).meet(origin, Index(4)), Met::Known(_)));
}

#[test]
fn a_busy_session_keeps_its_memory() {
    let mut log = Log::new();
    let session = log.open();
    for sequence in 1..=WINDOW {
        log.increment(session, sequence);
    }
    let place = |log: &Log| log.store.sessions().open[&session].results.as_ptr();
    let before = place(&log);
    for sequence in WINDOW + 1..4 * WINDOW {
        log.increment(session, sequence);
    }
    assert_eq!(place(&log), before);
    assert!(log.store.sessions().bytes() > WINDOW * 32);
    log.entry(session, 0, Command::CloseSession);
    assert_eq!(log.store.sessions().bytes(), 0);
    let session = log.open();
    log.increment(session, WINDOW - 1);
    assert_eq!(log.store.sessions().open[&session].results.capacity() as u64, WINDOW);
}

#[test]
fn records_that_no_session_wrote_are_refused() {
    let mut session = Session::new(SessionId(7), LogTime(9));
    session.keep(Sequence(300), sum(1, 8));
    session.keep(Sequence(299), Executed { outcome: Outcome::Mismatch(Index(3)), revision: Index(9) });
    let mut good = Vec::new();
    session.encode(&mut good);
    assert_eq!((good.len(), Session::decode(&good)), (session.encoded_len(), Ok(session)));
    for cut in 0..good.len() {
        assert!(Session::decode(&good[..cut]).is_err(), "cut at {cut}");
    }
    let refused = |damage: &[(usize, u8)]| {
        let mut bytes = good.clone();
        damage.iter().for_each(|(at, byte)| bytes[*at] = *byte);
        Session::decode(&bytes).map(|_| ()).unwrap_err().what
    };
    assert_eq!(refused(&[(0, 0)]), "its id or length");
    assert_eq!(refused(&[(24, 3)]), "its id or length");
    assert_eq!(refused(&[(16, 45)]), "a result outside its window", "300 is 256 + 44");
    assert_eq!(refused(&[(28, 44)]), "the order of its results", "the same sequence twice");
    assert_eq!(refused(&[(29, 0)]), "a result outside its window", "sequence 43 is forgotten at 300");
    for (at, byte) in [(44, 0), (44, 9), (45, 1), (47, 6), (48, 1), (52, 1)] {
        assert_eq!(refused(&[(at, byte)]), "a result", "byte {at}");
    }
}

/// What can be kept.
fn outcomes() -> impl Strategy<Value = Outcome> {
    let refusals = prop_oneof![
        Just(Refusal::Exists),
        Just(Refusal::NotFound),
        any::<u64>().prop_map(|found| Refusal::Mismatch(Index(found))),
        Just(Refusal::NotANumber),
        Just(Refusal::Overflow),
    ];
    let fixed = vec![Outcome::Created, Outcome::Updated, Outcome::Removed, Outcome::BatchApplied, Outcome::Never];
    prop_oneof![
        prop::sample::select(fixed),
        any::<(i64, bool)>().prop_map(|(sum, created)| Outcome::Number { sum, created }),
        refusals.clone().prop_map(Outcome::from),
        (0..128_u8, refusals).prop_map(|(position, why)| Outcome::BatchRefused { position, why }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn records_say_all_that_counts(
        steps in proptest::collection::vec((0..600_u64, outcomes(), 1..u64::MAX), 0..400),
        id in 1..u64::MAX,
        last_use: u64,
    ) {
        let mut session = Session::new(SessionId(id), LogTime(last_use));
        for (ahead, outcome, revision) in steps {
            // Around the highest, on both sides.
            let sequence = Sequence((session.highest.0 + ahead).saturating_sub(300));
            if !session.has_forgotten(sequence) {
                session.keep(sequence, Executed { outcome, revision: Index(revision) });
            }
        }
        let mut bytes = Vec::new();
        session.encode(&mut bytes);
        prop_assert_eq!(bytes.len(), session.encoded_len());
        let decoded = Session::decode(&bytes).unwrap();
        prop_assert_eq!(&decoded, &session);
        let mut again = Vec::new();
        decoded.encode(&mut again);
        prop_assert_eq!(again, bytes);
    }
}
