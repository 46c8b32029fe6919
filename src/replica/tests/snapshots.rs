//! Snapshots: when one is taken, what is captured, who waits for it, and what an installation ends.

use protocol::message::SnapshotOffer;
use protocol::reply::{Item, Versioned};

use super::*;
use crate::kv::{Builder, Position, Restored};
use crate::limits;

/// A cluster of `n`, led by node 0, that takes a snapshot after this many bytes of entries.
fn led_with(n: u32, snapshot_log_bytes_min: u64) -> Rig {
    let mut rig = Rig::unformed_with(n, |settings| settings.snapshot_log_bytes_min = snapshot_log_bytes_min);
    rig.lead();
    rig
}

impl Rig {
    /// Overwrites one key.
    fn overwrite(&mut self, node: usize, request: u64) {
        let mut body = Vec::new();
        Command::Update { key: b"key", value: &[b'v'; 1000] }.encode(&mut body);
        let request = Request::Propose {
            reply_to: reply_to(request),
            body_checksum: Entry::checksum(&body),
            body: body.into(),
            session: SessionId(0),
            sequence: Sequence(0),
            deadline: self.now + PATIENCE,
        };
        self.ask(node, request);
    }

    fn snapshot_taken(&mut self, node: usize, result: Result<SnapshotFile, NotTaken>) {
        self.replicas[node].step(self.now, Input::SnapshotTaken(result));
        self.settle();
    }

    /// The only snapshot that is to be taken.
    fn only_take(&mut self) -> TakeSnapshot {
        assert_eq!(self.takes.len(), 1);
        self.takes.pop().expect("one").1
    }

    fn ask_snapshot(&mut self, node: usize, request: u64) {
        let deadline = self.now + PATIENCE;
        self.ask(node, Request::TakeSnapshot { reply_to: reply_to(request), deadline });
    }
}

fn file(position: Position) -> SnapshotFile {
    SnapshotFile { position, bytes: 4711 }
}

fn answer(request: u64, result: Result<SnapshotFile, Reason>) -> Completion {
    Completion::Snapshot { reply_to: reply_to(request), result }
}

/// The state that writes `1..=last` left, as a verified snapshot.
fn restored(rig: &Rig, position: Position, last: u64) -> Box<Restored> {
    let mut builder = Builder::new();
    for request in 1..=last {
        let (key, revision) = (request.to_le_bytes(), Index(request + 1));
        let versioned = Versioned { value: &[b'v'; 1000], revision, create_revision: revision, version: 1 };
        builder.push(&Item { key: &key, versioned }).expect("ascending");
    }
    let format = rig.replicas[0].formation.format().expect("formed").clone();
    Box::new(Restored { position, format, sessions: Vec::new(), built: builder.finish(position.id.index) })
}

fn position_of(entry: &Entry) -> Position {
    Position { id: entry.header.id, chain: entry.header.chain, log_time: entry.header.log_time }
}

#[test]
fn c22_a_snapshot_is_due_by_bytes_and_captures_what_belongs_to_its_revision() {
    let mut rig = led_with(1, 3_000);
    for request in 1..=2 {
        rig.write(0, request, PATIENCE);
        rig.settle();
        assert!(rig.takes.is_empty(), "{request}");
    }
    rig.write(0, 3, PATIENCE);
    rig.settle();
    let TakeSnapshot { contents, view } = rig.only_take();
    let entry = rig.handed.last().expect("written").clone();
    assert_eq!(contents.position, position_of(&entry));
    assert_eq!(view.revision, entry.header.id.index, "the view shows what was captured, and nothing later");
    assert_eq!(Some(&contents.format), rig.replicas[0].formation.format());
    for request in 4..=9 {
        rig.write(0, request, PATIENCE);
        rig.settle();
    }
    assert!(rig.takes.is_empty(), "one at a time");
    assert!(rig.replicas[0].store().view_is_open(view));
    rig.snapshot_taken(0, Ok(file(contents.position)));
    assert!(!rig.replicas[0].store().view_is_open(view), "it is closed when it is not needed any more");
    assert_eq!(rig.only_take().contents.position.id.index, Index(10), "what came meanwhile is worth the next");
}

/// C-5: what this node has applied and not synced would be covered by one file alone after a loss of power.
#[test]
fn c05_a_snapshot_waits_for_the_own_log() {
    let takes = |rig: &Rig| rig.takes.iter().filter(|(node, _)| *node == 0).count();
    let held_after = |writes: u64| {
        let mut rig = led_with(3, 1_500);
        rig.disk_held.insert(0);
        for request in 1..=writes {
            rig.write(0, request, PATIENCE);
            rig.settle();
        }
        assert_eq!(rig.replicas[0].store().applied(), Index(writes + 1), "the others commit");
        rig
    };
    let mut rig = held_after(2);
    assert_eq!(takes(&rig), 0, "it is due, and its end is not durable here");
    rig.disk_held.clear();
    for (node, append) in std::mem::take(&mut rig.unwritten) {
        rig.replicas[node].step(rig.now, Input::Persisted { sequence: append.sequence, queue_us: 0, sync_us: 0 });
    }
    rig.settle();
    assert_eq!(takes(&rig), 1, "at once when it is");
    assert_eq!(takes(&held_after(3)), 1, "a disk that is always behind is not waited for");
}

#[test]
fn who_asks_for_a_snapshot_waits_for_one_of_everything_before() {
    let mut rig = led_with(1, u64::MAX);
    rig.write(0, 1, PATIENCE);
    rig.settle();
    rig.take_done();
    rig.ask_snapshot(0, 50);
    let first = rig.only_take();
    rig.write(0, 2, PATIENCE);
    rig.settle();
    rig.take_done();
    rig.ask_snapshot(0, 51);
    assert_eq!((rig.takes.len(), rig.take_done()), (0, vec![]), "one at a time");
    rig.snapshot_taken(0, Ok(file(first.contents.position)));
    assert_eq!(rig.take_done(), [answer(50, Ok(file(first.contents.position)))]);
    let second = rig.only_take();
    assert_eq!(second.contents.position.id.index, Index(3));
    rig.snapshot_taken(0, Ok(file(second.contents.position)));
    assert_eq!(rig.take_done(), [answer(51, Ok(file(second.contents.position)))]);
    rig.ask_snapshot(0, 52);
    assert_eq!(rig.take_done(), [answer(52, Ok(file(second.contents.position)))], "nothing is new since");
}

/// Each holds a credit for as long as a snapshot takes: they must not hold all of them.
#[test]
fn more_than_so_many_do_not_wait_for_a_snapshot() {
    let mut rig = led_with(1, u64::MAX);
    rig.write(0, 1, PATIENCE);
    rig.settle();
    rig.take_done();
    let most = limits::SNAPSHOT_ASKERS_MAX as u64;
    for request in 0..most {
        rig.ask_snapshot(0, 100 + request);
    }
    assert_eq!(rig.take_done(), []);
    rig.ask_snapshot(0, 50);
    assert_eq!(rig.take_done(), [answer(50, Err(Reason::Overload))]);
    let first = rig.only_take();
    rig.snapshot_taken(0, Ok(file(first.contents.position)));
    assert_eq!(rig.take_done().len() as u64, most);
    rig.ask_snapshot(0, 51);
    assert_eq!(rig.take_done(), [answer(51, Ok(file(first.contents.position)))], "there is room again");
}

#[test]
fn a_snapshot_that_fails_is_said_and_one_that_takes_too_long_is_not_waited_for() {
    let mut rig = led_with(1, u64::MAX);
    rig.write(0, 1, PATIENCE);
    rig.settle();
    rig.take_done();
    rig.ask_snapshot(0, 50);
    rig.takes.clear();
    rig.pass(PATIENCE);
    assert_eq!(rig.take_done(), [answer(50, Err(Reason::Deadline))]);
    rig.snapshot_taken(0, Err(NotTaken::Failed("the disk is full".to_owned())));
    assert_eq!(rig.warnings, ["no snapshot could be taken: the disk is full"]);
    rig.ask_snapshot(0, 51);
    assert!(rig.takes.is_empty(), "not at once again");
    rig.pass(Span::secs(4));
    rig.pass(Span::secs(6));
    assert_eq!(rig.take_done(), [answer(51, Err(Reason::Deadline))]);
    rig.ask_snapshot(0, 52);
    rig.takes.clear();
    rig.snapshot_taken(0, Err(NotTaken::Failed("still full".to_owned())));
    assert_eq!(rig.take_done(), [answer(52, Err(Reason::Overload))]);
}

/// After two that were given up, the third view is kept whatever it holds, and writes are held back instead.
#[test]
fn c21_the_third_attempt_holds_writes_back() {
    let mut rig = Rig::unformed_with(1, |settings| {
        (settings.snapshot_log_bytes_min, settings.snapshot_held_bytes_max) = (1, 10_000);
    });
    rig.lead();
    let published = rig.replicas[0].published();
    rig.overwrite(0, 1_000);
    for attempt in 0..3 {
        let TakeSnapshot { contents, view } = rig.only_take();
        for overwrite in 1..=20 {
            rig.overwrite(0, 100 * attempt + overwrite);
            let held = rig.replicas[0].store().snapshot_held_bytes();
            assert_eq!(published.paused(), attempt == 2 && held > 10_000, "attempt {attempt}, {held} bytes");
        }
        assert!(rig.replicas[0].store().view_is_open(view));
        rig.snapshot_taken(0, if attempt < 2 { Err(NotTaken::Abandoned) } else { Ok(file(contents.position)) });
        assert!(!published.paused());
    }
    rig.takes.clear();
    rig.overwrite(0, 2_000);
    assert!(!published.paused(), "the next one is an ordinary one again");
}

/// A follower cannot hold anything back: its writes are the leader's, and its clients are not to wait.
#[test]
fn c21_a_patient_snapshot_of_a_follower_holds_no_client_back() {
    let mut rig = Rig::unformed_with(3, |settings| {
        (settings.snapshot_log_bytes_min, settings.snapshot_held_bytes_max) = (1, 10_000);
    });
    rig.lead();
    let write_all = |rig: &mut Rig| {
        for request in 1..=20 {
            rig.write(0, request, PATIENCE);
            rig.pass(Span::millis(60));
        }
    };
    write_all(&mut rig);
    for _ in 0..2 {
        for (node, _) in std::mem::take(&mut rig.takes) {
            rig.snapshot_taken(node, Err(NotTaken::Abandoned));
        }
    }
    assert_eq!(rig.takes.len(), 3, "patient ones");
    write_all(&mut rig);
    let paused: Vec<bool> = rig.replicas.iter().map(|replica| replica.published().paused()).collect();
    let held = rig.replicas.iter().all(|replica| replica.store().snapshot_held_bytes() > 10_000);
    assert_eq!((paused.as_slice(), held), ([true, false, false].as_slice(), true));
}

/// C-20: what a view held is freed when it is closed, also if nothing is written any more, a part at each look.
#[test]
fn c20_an_idle_store_frees_what_a_closed_view_held() {
    let mut rig = led_with(1, u64::MAX);
    rig.ask(0, Request::OpenView { io_loop: 0, token: 1, local: true, deadline: Time::NEVER });
    let Some(Completion::View { result: Ok(view), .. }) = rig.take_done().pop() else { panic!("a view") };
    for request in 0..3_000 {
        rig.overwrite(0, request % 10);
        rig.write(0, 1_000_000 + request, PATIENCE);
        rig.settle();
    }
    rig.ask(0, Request::OpenView { io_loop: 0, token: 2, local: true, deadline: Time::NEVER });
    let Some(Completion::View { result: Ok(second), .. }) = rig.take_done().pop() else { panic!("a view") };
    for request in 0..3_000 {
        rig.write(0, 1_000_000 + request, PATIENCE);
        rig.settle();
    }
    for view in [view, second] {
        rig.ask(0, Request::CloseView { view });
    }
    let (before, held) = (rig.replicas[0].store().bytes(), rig.replicas[0].store().views().held_bytes);
    assert!(held > 1_000_000, "{held}");
    let mut looks = 0;
    while rig.replicas[0].store().is_reclaiming() {
        let due = rig.replicas[0].next_deadline();
        let pause = due.since(rig.now);
        assert!(due > rig.now && pause <= Span::millis(limits::RECLAIM_IDLE_MS), "{pause:?}: no busy loop, and soon");
        rig.pass(pause);
        looks += 1;
    }
    let freed = before - rig.replicas[0].store().bytes();
    assert!(looks > 1 && freed >= held, "{looks} looks, {freed} of {held} bytes");
    assert!(rig.replicas[0].next_deadline().since(rig.now) > Span::millis(limits::RECLAIM_IDLE_MS), "nothing is due");
}

/// A file that cannot be read is offered to nobody and answers nobody; another one is taken at once.
#[test]
fn c22_a_snapshot_that_is_damaged_is_not_offered_and_taken_anew() {
    let mut rig = led_with(1, u64::MAX);
    rig.write(0, 1, PATIENCE);
    rig.settle();
    rig.ask_snapshot(0, 50);
    let first = rig.only_take();
    rig.snapshot_taken(0, Ok(file(first.contents.position)));
    rig.take_done();
    let last = first.contents.position.id.index;
    rig.replicas[0].step(rig.now, Input::SnapshotDamaged { last: last.next(), why: "another".to_owned() });
    rig.settle();
    assert!(rig.takes.is_empty(), "one that is not the newest changes nothing");
    rig.replicas[0].step(rig.now, Input::SnapshotDamaged { last, why: "a checksum".to_owned() });
    rig.ask_snapshot(0, 51);
    assert_eq!(rig.take_done(), [], "not with the damaged one");
    let second = rig.only_take();
    assert_eq!(second.contents.position.id.index, last, "of the same place");
    assert!(rig.warnings.iter().any(|warning| warning.contains("a checksum")), "{:?}", rig.warnings);
    rig.ask_snapshot(0, 52);
    rig.snapshot_taken(0, Ok(file(second.contents.position)));
    assert!(rig.take_done().contains(&answer(52, Ok(file(second.contents.position)))));
}

/// A node that led, and now needs a snapshot: nobody can say what became of the writes that it covers. Their credits come
/// back, answered or not, and views of the old state end.
#[test]
fn c23_an_installation_answers_unknown_and_returns_credits() {
    let mut rig = led_with(3, u64::MAX);
    rig.ask(0, Request::OpenView { io_loop: 0, token: 1, local: true, deadline: Time::NEVER });
    let Some(Completion::View { result: Ok(view), .. }) = rig.take_done().pop() else { panic!("a view") };
    rig.cut.insert(0);
    rig.write(0, 1, Span::millis(1));
    rig.write(0, 2, PATIENCE);
    rig.settle();
    rig.pass(Span::millis(1));
    let deadline = WriteResult::Unknown { reason: Reason::Deadline };
    assert_eq!(rig.take_done(), [write(1, deadline, false)]);
    // In one batch: node 1 leads a newer term, and the snapshot that it offered is here.
    let term = rig.replicas[0].raft().expect("formed").term().next();
    let id = EntryId { term, index: Index(10) };
    let position = Position { id, chain: Chain(77), log_time: LogTime(5) };
    let message = Message::InstallSnapshot(SnapshotOffer { last: id, chain: position.chain, bytes: 4711 });
    let (cluster, incarnation) = (ClusterId(7), Incarnation(101));
    let envelope = Envelope { cluster, incarnation, from: NodeId(1), to: NodeId(0), term, message };
    let state = restored(&rig, position, 5);
    rig.replicas[0].step(rig.now, Input::Peer(envelope));
    rig.replicas[0].step(rig.now, Input::SnapshotFetched(Ok((state, 4711))));
    rig.settle();
    let unknown = WriteResult::Unknown { reason: Reason::LeaderChanged };
    assert_eq!(rig.take_done(), [write(2, unknown, true), Completion::Credit(1)]);
    let store = rig.replicas[0].store();
    assert_eq!((store.applied(), store.keys()), (Index(10), 5));
    assert!(!store.view_is_open(view));
    assert_eq!(rig.retired.len(), 1, "the old list is freed elsewhere");
    rig.ask(0, Request::TouchView { view });
    rig.pass(Span::millis(VIEW_IDLE_MS));
}

#[test]
fn a_snapshot_of_other_members_is_not_installed() {
    let mut rig = led_with(3, u64::MAX);
    let position = Position { id: EntryId { term: protocol::Term(9), index: Index(10) }, ..Position::default() };
    let mut state = restored(&rig, position, 5);
    state.format.members.pop();
    rig.replicas[2].step(rig.now, Input::SnapshotFetched(Ok((state, 4711))));
    rig.settle();
    assert_eq!((rig.replicas[2].store().applied(), rig.discarded, rig.warnings.len()), (Index(1), 1, 1));
}

/// The whole way: a follower that was away is sent to the leader's snapshot, takes its state, and goes on with entries.
#[test]
fn a_follower_that_was_away_too_long_fetches_a_snapshot() {
    let mut rig = led_with(3, 3_000);
    rig.cut.insert(2);
    for request in 1..=6 {
        rig.write(0, request, PATIENCE);
        rig.settle();
        for (node, take) in std::mem::take(&mut rig.takes) {
            rig.snapshot_taken(node, Ok(file(take.contents.position)));
        }
    }
    for _ in 0..limits::SNAPSHOT_TRANSFER_PATIENCE_MS / 20 {
        rig.pass(Span::millis(20));
    }
    rig.cut.clear();
    while rig.fetches.is_empty() {
        rig.pass(Span::millis(20));
    }
    let (node, fetch) = rig.fetches.pop().expect("one");
    assert_eq!((node, fetch.from, fetch.address.as_str(), fetch.bytes), (2, NodeId(0), "node-0:7401", 4711));
    let entry = rig.handed.iter().find(|entry| entry.header.id == fetch.last).expect("written").clone();
    assert_eq!(fetch.chain, entry.header.chain);
    rig.replicas[0].step(rig.now, Input::SnapshotServed { to: NodeId(2), last: fetch.last.index });
    let state = restored(&rig, position_of(&entry), fetch.last.index.0 - 1);
    rig.replicas[2].step(rig.now, Input::SnapshotFetched(Ok((state, 4711))));
    rig.settle();
    rig.write(0, 7, PATIENCE);
    rig.pass(Span::millis(60));
    rig.pass(Span::millis(60));
    let stores: Vec<_> =
        rig.replicas.iter().map(|replica| (replica.store().applied(), replica.store().keys())).collect();
    assert_eq!(stores, [(Index(8), 7); 3]);
}
