//! Replicas among themselves: three in memory, messages and appends delivered at once unless a test holds them.

use std::collections::BTreeSet;

use protocol::command::Command;
use protocol::format::Member;
use protocol::message::AppendEntries;
use protocol::reply::Reason;
use protocol::{Entry, EntryHeader, EntryId, EntryKind, Index, NodeId, RequestId, Round, Sequence, SessionId, Term};

use super::*;
use crate::kv::{Outcome, Retired};
use crate::limits::{VIEWS_MAX, VIEW_IDLE_MS};
use crate::time::Span;

mod snapshots;

struct Rig {
    now: Time,
    replicas: Vec<Replica>,
    /// Nodes that are cut off: nothing reaches or leaves them.
    cut: BTreeSet<usize>,
    /// Nodes whose appends are not written, and those appends.
    disk_held: BTreeSet<usize>,
    unwritten: Vec<(usize, raft::Append)>,
    done: Vec<Completion>,
    /// All entries that any of them handed to its log.
    handed: Vec<Entry>,
    /// Snapshots that are to be taken or fetched, and by whom.
    takes: Vec<(usize, TakeSnapshot)>,
    fetches: Vec<(usize, FetchSnapshot)>,
    retired: Vec<Retired>,
    /// States that were fetched and not needed.
    discarded: usize,
    warnings: Vec<String>,
}

impl Rig {
    /// `n` replicas that have just formed a cluster.
    fn formed(n: u32) -> Self {
        let mut rig = Self::unformed(n);
        rig.settle();
        assert!(rig.replicas.iter().all(|replica| replica.raft().is_some()));
        rig
    }

    /// All connections are up, nothing has been processed.
    fn unformed(n: u32) -> Self {
        Self::unformed_with(n, |_| {})
    }

    fn unformed_with(n: u32, tune: impl Fn(&mut Settings)) -> Self {
        let member = |id| Member {
            id: NodeId(id),
            incarnation: Incarnation(0),
            client_address: format!("node-{id}:7400"),
            peer_address: format!("node-{id}:7401"),
        };
        let replica = |id: u32| {
            let mut settings = Settings {
                id: NodeId(id),
                incarnation: Incarnation(u64::from(id) + 100),
                initial_members: (0..n).map(member).collect(),
                cluster_if_formed: ClusterId(7),
                boot: u64::from(id) + 1,
                seed: u64::from(id),
                ..Settings::for_tests()
            };
            tune(&mut settings);
            let empty = Recovered { format: None, log: raft::Recovered::empty(Chain(0)), snapshot: None };
            Replica::new(Time(0), settings, empty, Store::new())
        };
        let (replicas, cut) = ((0..n).map(replica).collect(), BTreeSet::new());
        let mut rig = Self {
            now: Time(0),
            replicas,
            cut,
            disk_held: BTreeSet::new(),
            unwritten: Vec::new(),
            done: Vec::new(),
            handed: Vec::new(),
            takes: Vec::new(),
            fetches: Vec::new(),
            retired: Vec::new(),
            discarded: 0,
            warnings: Vec::new(),
        };
        for from in 0..n as usize {
            let hello = rig.replicas[from].hello();
            for to in (0..n as usize).filter(|to| *to != from) {
                rig.replicas[to].step(Time(0), Input::Connected(hello.clone()));
            }
        }
        rig
    }

    /// Forms, and lets node 0 become the leader by time alone.
    fn led(n: u32) -> Self {
        let mut rig = Self::unformed(n);
        rig.lead();
        rig
    }

    fn lead(&mut self) {
        self.settle();
        while !self.leads(0) {
            self.pass(Span::millis(5));
        }
        self.settle();
        self.done.clear();
    }

    fn leads(&self, node: usize) -> bool {
        self.replicas[node].raft().is_some_and(Raft::is_leader)
    }

    fn pass(&mut self, span: Span) {
        self.now += span;
        for node in 0..self.replicas.len() {
            self.replicas[node].step(self.now, Input::Tick);
        }
        self.settle();
    }

    /// Everything that follows, until nothing does.
    fn settle(&mut self) {
        let mut effects = Effects::default();
        let mut busy = true;
        while busy {
            busy = false;
            for node in 0..self.replicas.len() {
                self.replicas[node].effects(self.now, &mut effects);
                assert_eq!(effects.stop, None);
                self.takes.extend(effects.take_snapshot.take().map(|take| (node, take)));
                self.fetches.extend(effects.fetch_snapshot.take().map(|fetch| (node, fetch)));
                self.retired.extend(effects.retired.take());
                self.discarded += usize::from(effects.discarded.take().is_some());
                self.warnings.append(&mut effects.warnings);
                self.done.extend(effects.completions.drain(..).map(|(_, completion)| completion));
                busy |= effects.more || effects.append.is_some() || !effects.messages.is_empty();
                let mut messages = std::mem::take(&mut effects.messages);
                if self.disk_held.contains(&node) {
                    self.unwritten.extend(effects.append.take().map(|append| (node, append)));
                }
                if let Some(append) = effects.append.take() {
                    let persisted = Input::Persisted { sequence: append.sequence, queue_us: 0, sync_us: 0 };
                    self.replicas[node].step(self.now, persisted);
                    messages.extend(append.waiting);
                    self.handed.extend(append.entries);
                }
                for envelope in messages {
                    let to = envelope.to.0 as usize;
                    if !self.cut.contains(&node) && !self.cut.contains(&to) {
                        self.replicas[to].step(self.now, Input::Peer(envelope));
                    }
                }
            }
        }
    }

    fn write(&mut self, node: usize, request: u64, patience: Span) {
        let mut body = Vec::new();
        Command::Update { key: &request.to_le_bytes(), value: &[b'v'; 1000] }.encode(&mut body);
        let request = Request::Propose {
            reply_to: reply_to(request),
            body_checksum: Entry::checksum(&body),
            body: body.into(),
            session: SessionId(0),
            sequence: Sequence(0),
            deadline: self.now + patience,
        };
        self.replicas[node].step(self.now, Input::Request(request));
    }

    fn ask(&mut self, node: usize, request: Request) {
        self.replicas[node].step(self.now, Input::Request(request));
        self.settle();
    }

    fn take_done(&mut self) -> Vec<Completion> {
        std::mem::take(&mut self.done)
    }
}

fn reply_to(request: u64) -> ReplyTo {
    ReplyTo { request: RequestId(request), ..ReplyTo::default() }
}

fn write(request: u64, result: WriteResult, credit: bool) -> Completion {
    Completion::Write { reply_to: reply_to(request), result, credit }
}

const PATIENCE: Span = Span::secs(5);

#[test]
fn nothing_is_served_before_the_cluster_is_formed() {
    let mut rig = Rig::unformed(3);
    rig.replicas[0].step(Time(0), Input::Disconnected(NodeId(2)));
    rig.replicas[2].step(Time(0), Input::Disconnected(NodeId(0)));
    rig.write(0, 1, PATIENCE);
    rig.ask(0, Request::Read { io_loop: 0, token: 4, deadline: Time::NEVER });
    let result = WriteResult::NotExecuted { reason: Reason::Forming, leader: None };
    let read = Completion::Read { token: 4, result: Err((Reason::Forming, None)) };
    assert_eq!(rig.take_done(), [write(1, result, true), read]);
    let published = rig.replicas[0].published();
    assert_eq!(published.notes(Time(0)), ["waiting for 1 of 3: node 2"]);
    assert_eq!(published.cluster(), ClusterId(0));
}

#[test]
fn c17_all_members_store_the_same_format_and_one_leads() {
    let rig = Rig::led(5);
    for replica in &rig.replicas {
        let published = replica.published();
        assert_eq!((published.cluster(), published.leader()), (ClusterId(7), Some(NodeId(0))));
        assert_eq!(published.notes(rig.now), [""; 0]);
        assert!(published.members().iter().all(|member| member.connected));
        assert_eq!(replica.hello().cluster, ClusterId(7));
    }
}

#[test]
fn a_write_is_answered_by_the_leader_and_redirected_by_others() {
    let mut rig = Rig::led(3);
    rig.write(0, 1, PATIENCE);
    rig.write(1, 2, PATIENCE);
    rig.settle();
    let done = rig.take_done();
    let elsewhere = WriteResult::NotExecuted { reason: Reason::NotLeader, leader: Some(NodeId(0)) };
    assert!(done.contains(&write(1, WriteResult::Done(Outcome::Created, Index(2)), true)), "{done:?}");
    assert!(done.contains(&write(2, elsewhere, true)), "{done:?}");
    assert_eq!(done.len(), 2);
    assert!(rig.replicas.iter().all(|replica| replica.store().applied() == Index(2)));
}

#[test]
fn c18_a_follower_reads_after_it_has_applied_what_the_leader_had_committed() {
    let mut rig = Rig::led(3);
    rig.write(0, 1, PATIENCE);
    rig.settle();
    rig.take_done();
    rig.ask(2, Request::Read { io_loop: 0, token: 9, deadline: Time::NEVER });
    assert_eq!(rig.take_done(), [Completion::Read { token: 9, result: Ok(Index(2)) }]);
}

#[test]
fn a_read_waits_for_a_leader_until_its_deadline() {
    let mut rig = Rig::led(3);
    rig.cut.extend([0, 1]);
    rig.pass(Span::secs(2));
    let deadline = rig.now + Span::secs(1);
    rig.ask(2, Request::Read { io_loop: 0, token: 1, deadline });
    rig.pass(Span::millis(999));
    assert_eq!(rig.take_done(), []);
    rig.pass(Span::millis(1));
    assert_eq!(rig.take_done(), [Completion::Read { token: 1, result: Err((Reason::NoLeader, None)) }]);
}

/// The no-op that a leader of this term would write behind this entry.
fn noop_after(last: &EntryHeader, term: Term) -> Entry {
    let mut header = EntryHeader { kind: EntryKind::Noop, body_len: 0, body_checksum: 0, ..*last };
    header.id = EntryId { term, index: last.id.index.next() };
    header.chain = header.chain_after(last.chain);
    Entry { header, body: Default::default() }
}

impl Rig {
    /// Node 0, which is cut off, hears of an entry from the leader of another term.
    fn append_to_node_0(&mut self, from: u32, term: Term, previous: &EntryHeader, commit: Index, entry: Entry) {
        let message = Message::AppendEntries(AppendEntries {
            round: Round(1),
            lease_span_us: 0,
            heartbeat: false,
            previous: previous.id,
            previous_chain: previous.chain,
            commit,
            digest_index: Index(0),
            digest: 0,
            entries: vec![entry],
        });
        let (cluster, incarnation) = (ClusterId(7), Incarnation(100 + u64::from(from)));
        let envelope = Envelope { cluster, incarnation, from: NodeId(from), to: NodeId(0), term, message };
        self.replicas[0].step(self.now, Input::Peer(envelope));
        self.settle();
    }
}

#[test]
fn c23_step_down_answers_unknown() {
    let mut rig = Rig::led(3);
    rig.cut.insert(0);
    rig.write(0, 1, PATIENCE);
    rig.settle();
    assert_eq!(rig.take_done(), []);
    rig.pass(Span::secs(1));
    assert!(!rig.leads(0), "CheckQuorum");
    let unknown = WriteResult::Unknown { reason: Reason::LeaderChanged };
    assert_eq!(rig.take_done(), [write(1, unknown, true)]);
}

/// The contract's schedule, as node A of five sees it, who was asked: A and B hold an entry; C leads the next term, overwrites A
/// and dies; B wins the term after that and commits the entry. Whoever called its loss "not executed" was wrong.
#[test]
fn c23_an_entry_that_was_overwritten_may_be_committed_all_the_same() {
    let mut rig = Rig::led(5);
    rig.write(0, 1, PATIENCE);
    rig.settle();
    rig.take_done();
    rig.cut.insert(0);
    rig.write(0, 2, PATIENCE);
    rig.settle();
    let handed =
        |index| rig.handed.iter().find(|entry| entry.header.id.index == Index(index)).expect("written").clone();
    let (last, entry) = (handed(2).header, handed(3));
    let (second, third) = (last.id.term.next(), last.id.term.next().next());
    rig.append_to_node_0(2, second, &last, Index(2), noop_after(&last, second));
    let unknown = WriteResult::Unknown { reason: Reason::LeaderChanged };
    assert_eq!(rig.take_done(), [write(2, unknown, true)], "overwritten, and nothing is committed in its place");
    assert_eq!(rig.replicas[0].store().get(&2u64.to_le_bytes()), None);
    rig.append_to_node_0(1, third, &last, Index(3), entry);
    assert_eq!(rig.take_done(), [], "it was answered");
    assert!(rig.replicas[0].store().get(&2u64.to_le_bytes()).is_some(), "and now it is executed");
}

#[test]
fn c23_another_terms_entry_committed_at_the_index_means_never() {
    let mut rig = Rig::led(3);
    rig.write(0, 1, PATIENCE);
    rig.settle();
    rig.take_done();
    rig.cut.insert(0);
    rig.write(0, 2, PATIENCE);
    rig.write(0, 3, PATIENCE);
    rig.settle();
    // In one batch: node 1 leads the next term and has committed its own entry at index 3; of index 4 nothing is known.
    let last = rig.handed.iter().find(|entry| entry.header.id.index == Index(2)).expect("written").header;
    let term = last.id.term.next();
    rig.append_to_node_0(1, term, &last, Index(3), noop_after(&last, term));
    let replaced = WriteResult::NotExecuted { reason: Reason::Replaced, leader: Some(NodeId(1)) };
    let unknown = WriteResult::Unknown { reason: Reason::LeaderChanged };
    assert_eq!(rig.take_done(), [write(2, replaced, true), write(3, unknown, true)]);
}

/// An entry of a kind that this version does not know, with another one behind it: the process ends with the reason, and nothing
/// is published or answered.
#[test]
fn an_entry_that_cannot_be_applied_stops_with_its_reason_whatever_follows() {
    let mut rig = Rig::led(3);
    rig.write(0, 1, PATIENCE);
    rig.settle();
    let last = rig.handed.iter().find(|entry| entry.header.id.index == Index(2)).expect("written").header;
    let mut entries = Vec::new();
    let mut before = last;
    for kind in [EntryKind::Configuration, EntryKind::Noop] {
        let mut header = EntryHeader { kind, body_len: 0, body_checksum: 0, ..before };
        header.id.index = before.id.index.next();
        header.chain = header.chain_after(before.chain);
        entries.push(Entry { header, body: Default::default() });
        before = header;
    }
    let message = Message::AppendEntries(AppendEntries {
        round: Round(9),
        lease_span_us: 0,
        heartbeat: false,
        previous: last.id,
        previous_chain: last.chain,
        commit: Index(4),
        digest_index: Index(0),
        digest: 0,
        entries,
    });
    let (cluster, incarnation, term) = (ClusterId(7), Incarnation(100), last.id.term);
    let envelope = Envelope { cluster, incarnation, from: NodeId(0), to: NodeId(1), term, message };
    rig.replicas[1].step(rig.now, Input::Peer(envelope));
    let mut effects = Effects::default();
    rig.replicas[1].effects(rig.now, &mut effects);
    let stop = effects.stop.expect("it cannot go on");
    assert_eq!(stop.exit_code, 70);
    assert!(stop.text.contains("of a kind this version does not know"), "{}", stop.text);
    assert_eq!(rig.replicas[1].store().applied(), Index(2));
}

#[test]
fn c26_at_the_bound_writes_park_and_their_credits_stay_out() {
    let mut rig = Rig::led(3);
    // Rounds are still echoed, but nothing becomes durable on a majority: the leader's appends are cut off.
    rig.cut.insert(0);
    let paused = rig.replicas[0].published();
    for request in 1..=8 {
        rig.write(0, request, Span::millis(100));
    }
    rig.settle();
    assert!(paused.paused(), "4096 bytes hold four of these");
    assert_eq!(rig.take_done(), []);
    rig.pass(Span::millis(100));
    let unknown = WriteResult::Unknown { reason: Reason::Deadline };
    let refused = WriteResult::NotExecuted { reason: Reason::Overload, leader: None };
    let expected: Vec<Completion> = (1..=8)
        .map(|request| if request <= 4 { write(request, unknown, false) } else { write(request, refused, true) })
        .collect();
    assert_eq!(rig.take_done(), expected, "what is in the log keeps its credit");
    assert!(!paused.paused());
    rig.pass(Span::secs(1));
    assert_eq!(rig.take_done(), [Completion::Credit(4)], "step-down returns them");
}

#[test]
fn c26_parked_writes_are_proposed_in_order_when_something_commits() {
    let mut rig = Rig::led(3);
    rig.cut.extend([1, 2]);
    for request in 1..=8 {
        rig.write(0, request, PATIENCE);
    }
    rig.settle();
    rig.cut.clear();
    rig.pass(Span::millis(60));
    rig.pass(Span::millis(60));
    let done: Vec<Completion> =
        (1..=8).map(|n| write(n, WriteResult::Done(Outcome::Created, Index(n + 1)), true)).collect();
    assert_eq!(rig.take_done(), done);
}

#[test]
fn c21_views_are_bounded_and_end_when_nobody_reads_them() {
    let mut rig = Rig::led(1);
    let open = |token| Request::OpenView { io_loop: 0, token, local: token % 2 == 0, deadline: Time::NEVER };
    for token in 0..=VIEWS_MAX as u64 {
        rig.ask(0, open(token));
    }
    let done = rig.take_done();
    let views: Vec<_> = done
        .iter()
        .filter_map(|completion| match completion {
            Completion::View { result: Ok(view), .. } => Some(*view),
            _ => None,
        })
        .collect();
    assert_eq!(views.len(), VIEWS_MAX);
    let full = Completion::View { token: VIEWS_MAX as u64, result: Err((Reason::Overload, None)) };
    assert_eq!(done.last(), Some(&full));
    let half = Span::millis(VIEW_IDLE_MS / 2);
    rig.pass(half);
    rig.ask(0, Request::TouchView { view: views[0] });
    rig.pass(half);
    let mut reader = rig.replicas[0].store().reader();
    let pinned = reader.pin();
    assert!(pinned.at_view(views[0]).is_some(), "it was read in between");
    assert!(pinned.at_view(views[1]).is_none(), "it was idle");
    drop(pinned);
    rig.ask(0, Request::CloseView { view: views[0] });
    assert!(reader.pin().at_view(views[0]).is_none());
}

#[test]
fn c21_a_view_that_was_abandoned_makes_room_for_another() {
    let mut rig = Rig::led(1);
    rig.replicas[0].store.set_view_bytes_max(1);
    rig.write(0, 1, PATIENCE);
    for round in 0..2 * VIEWS_MAX as u64 {
        rig.ask(0, Request::OpenView { io_loop: 0, token: round, local: true, deadline: Time::NEVER });
        let done = rig.take_done();
        let opened = |completion: &Completion| matches!(completion, Completion::View { result: Ok(_), .. });
        assert!(done.iter().any(opened), "round {round}: {done:?}");
        let mut pins = rig.replicas[0].store().reader();
        // What the view shows is overwritten: it holds more than it may. Then its readers are seen to be gone.
        for _ in 0..3 {
            rig.write(0, 1, PATIENCE);
            rig.take_done();
            drop(pins.pin());
        }
    }
}

#[test]
fn a_message_of_another_cluster_or_disk_is_dropped() {
    let mut rig = Rig::led(3);
    let published = rig.replicas[0].published();
    let term = rig.replicas[0].raft().expect("formed").term();
    let good = Envelope {
        cluster: ClusterId(7),
        incarnation: Incarnation(101),
        from: NodeId(1),
        to: NodeId(0),
        term: term.next(),
        message: Message::AppendReply(Default::default()),
    };
    let strangers = [
        Envelope { cluster: ClusterId(8), ..good.clone() },
        Envelope { incarnation: Incarnation(999), ..good.clone() },
        Envelope { from: NodeId(5), ..good.clone() },
        Envelope { to: NodeId(2), ..good.clone() },
    ];
    for stranger in strangers {
        rig.replicas[0].step(rig.now, Input::Peer(stranger));
    }
    rig.settle();
    assert!(rig.leads(0), "none of them raised the term");
    assert_eq!(published.refused_messages(), 4);
    rig.replicas[0].step(rig.now, Input::Peer(good));
    rig.settle();
    assert!(rig.replicas[0].raft().expect("formed").term() > term, "the honest one did");
}

#[test]
fn a_directory_whose_format_does_not_name_its_disk_is_refused() {
    let rig = Rig::formed(1);
    let format = rig.replicas[0].formation.format().cloned();
    let settings = Settings { incarnation: Incarnation(5), ..Settings::for_tests() };
    let recovered = Recovered { format, log: raft::Recovered::empty(Chain(0)), snapshot: None };
    let mut replica = Replica::new(Time(0), settings, recovered, Store::new());
    let mut effects = Effects::default();
    replica.effects(Time(0), &mut effects);
    assert_eq!(effects.stop.expect("refused").exit_code, 78);
}
