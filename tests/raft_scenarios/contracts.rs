//! The schedules of `docs/contracts.md` that concern the core, one by one.

use protocol::message::{Envelope, Message};
use protocol::{Chain, EntryKind, Index, LogTime, NodeId, Term};
use raftkv::raft::{Input, ProposeError};
use raftkv::time::Span;

use super::net::Net;
use super::node::{heartbeat, id, reply, Image, ET, HB};

fn grants(mail: &[Envelope], term: u64) -> usize {
    let granted = Message::RequestVoteReply { granted: true };
    mail.iter().filter(|envelope| envelope.message == granted && envelope.term == Term(term)).count()
}

/// Power is lost before, in, and after the write of a vote: two candidates of that term never both get it.
#[test]
fn c07_one_vote_per_term_across_power_cuts() {
    for survives in [None, Some(0), Some(9)] {
        for completed in [false, true] {
            let mut net = Net::lone(3, Image::of_terms(&[1, 4]));
            net.node_mut(0).disk_held = true;
            net.say(1, 0, 5, Message::RequestVote { last: id(4, 2), transfer: false });
            if completed {
                net.persist(0);
            }
            net.crash_with(0, 0, survives);
            net.start(0);
            net.say(2, 0, 5, Message::RequestVote { last: id(4, 2), transfer: false });
            net.release_disk(0);
            let given = (grants(&net.mail(1), 5), grants(&net.mail(2), 5));
            let on_disk = completed || survives.is_some();
            assert_eq!(given, (usize::from(completed), usize::from(!on_disk)), "{survives:?} {completed}");
        }
    }
}

/// Entries of a new term travel with the term, in one append, so that no replay finds them without it.
#[test]
fn c07_the_term_is_written_with_its_entries() {
    let mut net = Net::lone(3, Image::of_terms(&[1]));
    net.node_mut(0).disk_held = true;
    net.say(1, 0, 3, Image::of_terms(&[1, 3, 3]).append(2, 3, 1, 0));
    let (_, append) = &net.node(0).pending[0];
    assert_eq!(append.hard_state.map(|state| (state.term, state.vote)), Some((Term(3), None)));
    assert_eq!((append.entries.len(), net.node(0).pending.len()), (2, 1));
    net.propose(0, "x").expect_err("follows");
    net.say(1, 0, 3, Image::of_terms(&[1, 3, 3, 3]).append(4, 4, 2, 0));
    assert_eq!(net.node(0).pending[1].1.hard_state, None, "all others cost one sync");
}

/// Entries that do not continue the chain are not taken; logs whose chains differ at one id stop the node.
#[test]
fn c08_the_chain_is_verified() {
    let log = Image::of_terms(&[1, 1, 1, 1]);
    let broken = |at: usize, previous: bool| {
        let Message::AppendEntries(mut append) = log.append(2, 4, 1, 0) else { unreachable!() };
        if previous {
            append.previous_chain = Chain(99);
        } else {
            append.entries[at].header.chain = Chain(99);
        }
        Message::AppendEntries(append)
    };
    for at in 0..3 {
        let mut net = Net::lone(3, Image::of_terms(&[1]));
        net.say(1, 0, 1, broken(at, false));
        assert_eq!((net.terms(0), net.node(0).stop.is_some()), (vec![1], false), "entry {at}");
        net.say(1, 0, 1, log.append(2, 4, 1, 0));
        assert_eq!(net.terms(0), [1; 4]);
    }
    let mut net = Net::lone(3, Image::of_terms(&[1]));
    net.say(1, 0, 1, broken(0, true));
    assert!(net.node(0).stop.as_ref().is_some_and(|stop| stop.contains("chains differ")));
    // The same id, and another entry behind it.
    let mut other = Image::of_terms(&[1]);
    let mut entry = log.entries[1].clone();
    entry.header.log_time = LogTime(77);
    entry.header.chain = entry.header.chain_after(other.chain());
    other.entries.push(entry);
    let mut net = Net::lone(3, log.clone());
    net.say(1, 0, 1, other.append(2, 2, 1, 0));
    assert!(net.node(0).stop.as_ref().is_some_and(|stop| stop.contains("chains differ")));
}

/// The schedule of C-10: (1,5) in flight, overwritten by (2,5), appended again as (1,5) under term 3.
#[test]
fn c10_the_first_completion_moves_nothing() {
    let (one, two, three) = (Image::of_terms(&[1; 5]), Image::of_terms(&[1, 1, 1, 1, 2]), Image::of_terms(&[1; 5]));
    let mut net = Net::lone(5, Image::of_terms(&[1; 4]));
    net.node_mut(0).disk_held = true;
    net.say(1, 0, 1, one.append(5, 5, 1, 0));
    net.say(2, 0, 2, two.append(5, 5, 1, 0));
    net.say(3, 0, 3, three.append(5, 5, 1, 0));
    let durable: Vec<u64> = (0..3)
        .map(|_| {
            net.persist(0);
            net.raft(0).durable_index().0
        })
        .collect();
    assert_eq!(durable, [4, 4, 5]);
    assert_eq!(net.raft(0).last(), id(1, 5));
}

fn last_reply(mail: &[Envelope]) -> protocol::message::AppendReply {
    let replies = mail.iter().rev().find_map(|envelope| match &envelope.message {
        Message::AppendReply(reply) => Some(*reply),
        _ => None,
    });
    replies.expect("a reply")
}

/// The schedule of C-11: a durable divergent tail to (10,t2), agreement with the t3 leader up to 5, asked with prev = 5.
#[test]
fn c11_a_divergent_tail_is_not_acknowledged() {
    let leader = Image::of_terms(&[1, 1, 1, 1, 1, 3, 3, 3, 3, 3]);
    let mut net = Net::lone(3, Image::of_terms(&[1, 1, 1, 1, 1, 2, 2, 2, 2, 2]));
    net.say(1, 0, 3, leader.append(6, 5, 1, 10));
    net.settle();
    assert_eq!(last_reply(&net.mail(1)).matched, Index(5));
    assert_eq!(net.commit(0), 5);
}

/// What was verified against one leader is nothing to the next: the mark starts at 0 in each term.
#[test]
fn c11_matched_starts_anew_in_each_term() {
    let log = Image::of_terms(&[1, 1, 2, 2]);
    let mut net = Net::lone(3, log.clone());
    net.say(1, 0, 2, log.append(5, 4, 1, 2));
    net.settle();
    assert_eq!(last_reply(&net.mail(1)).matched, Index(4));
    net.say(2, 0, 3, heartbeat(1, 4));
    net.settle();
    assert_eq!((last_reply(&net.mail(2)).matched, net.commit(0)), (Index(0), 2));
}

fn appends(net: &mut Net, puppet: u32) -> Vec<protocol::message::AppendEntries> {
    let mail = net.mail(puppet);
    let appends = mail.into_iter().filter_map(|envelope| match envelope.message {
        Message::AppendEntries(append) => Some(append),
        _ => None,
    });
    appends.collect()
}

/// A probing peer gets one checked AppendEntries, repeated each heartbeat; other rounds reach it as flagged heartbeats,
/// whose commit index is at most what it has acknowledged, and which raise no mark.
#[test]
fn c12_heartbeats_to_probing_peers() {
    let mut net = Net::lone_leader(3, Image::of_terms(&[1, 1, 1]), |_| {});
    net.say(1, 0, 2, reply(1, 4));
    net.run(HB.times(4));
    let to_probed = appends(&mut net, 2);
    assert!(to_probed.iter().filter(|append| !append.heartbeat).count() <= 4, "one each heartbeat: {to_probed:?}");
    net.say(1, 0, 2, reply(2, 4));
    net.mail.clear();
    for _ in 0..3 {
        net.read(0);
        net.propose(0, "does not go to a probed peer").expect("leads");
        let latest = net.raft(0).last().index.0;
        let heartbeats = appends(&mut net, 2);
        assert!(heartbeats.iter().all(|append| append.heartbeat && append.entries.is_empty()));
        assert!(heartbeats.iter().all(|append| append.commit == Index(0)), "nothing is known of it");
        for append in appends(&mut net, 1) {
            net.say(1, 0, 2, reply(append.round.0, latest));
        }
    }
    net.settle();
    assert_eq!(net.commit(0), 7);
    // The receiving side: an echo, and no mark.
    let mut net = Net::lone(3, Image::of_terms(&[1, 1, 1]));
    net.say(1, 0, 2, heartbeat(5, 3));
    net.settle();
    let marks = last_reply(&net.mail(1));
    assert_eq!((marks.round.0, marks.matched, net.commit(0)), (5, Index(0), 0));
}

/// A full window holds entries back and never a round; the peer's echoes keep the leader.
#[test]
fn c12_a_full_window_never_holds_heartbeats() {
    let mut net = Net::lone_leader(3, Image::default(), |settings| settings.inflight_messages_max = 2);
    for puppet in [1, 2] {
        net.say(puppet, 0, 1, reply(1, 1));
    }
    for _ in 0..10 {
        net.propose(0, "more than a window").expect("leads");
    }
    net.mail.clear();
    for _ in 0..50 {
        net.run(HB);
        for puppet in [1, 2] {
            let rounds = appends(&mut net, puppet);
            assert!(!rounds.is_empty(), "a heartbeat is due");
            assert!(rounds.iter().all(|append| append.entries.is_empty()), "the window is full");
            net.say(puppet, 0, 1, reply(rounds.last().expect("one").round.0, 1));
        }
        assert!(net.raft(0).is_leader());
    }
}

/// A round is echoed at once; the entries that came with it are acknowledged when they are durable.
#[test]
fn c12_a_round_is_echoed_at_once() {
    let log = Image::of_terms(&[1, 1, 1]);
    let mut net = Net::lone(3, Image::of_terms(&[1]));
    net.say(1, 0, 1, heartbeat(1, 0));
    net.node_mut(0).disk_held = true;
    net.mail.clear();
    net.say(1, 0, 1, log.append(2, 3, 2, 0));
    let marks = last_reply(&net.mail(1));
    assert_eq!((marks.round.0, marks.matched), (2, Index(1)));
    net.release_disk(0);
    let marks = last_reply(&net.mail(1));
    assert_eq!((marks.round.0, marks.matched), (2, Index(3)));
    net.say(1, 0, 1, log.append(4, 3, 2, 0));
    assert!(net.mail(1).is_empty(), "no mark rose");
}

/// When each node of a cluster begins a campaign after its leader's connection was lost, in milliseconds. All other
/// messages are lost.
fn attempts(n: u32, span: u64) -> Vec<Vec<u64>> {
    let mut net = Net::cluster(n);
    net.elect(0);
    net.run(HB);
    for a in 1..n {
        net.silence(a);
    }
    net.crash(0);
    let mut attempts = vec![Vec::new(); n as usize];
    for at in 0..span {
        let before: Vec<u64> = (1..n).map(|node| net.raft(node).campaigns()).collect();
        net.run(Span::millis(1));
        for (node, before) in (1..n).zip(before) {
            if net.raft(node).campaigns() > before {
                attempts[node as usize].push(at);
            }
        }
    }
    attempts.split_off(1)
}

/// Whoever loses the leader's connection asks by rank, again three times after 50 to 100 ms, and then no more than usual.
#[test]
fn c15_rank_and_retries() {
    for (rank, times) in (0..).zip(attempts(7, 999)) {
        assert_eq!(times.len(), 4, "rank {rank}: {times:?}");
        assert!((rank * 15..=rank * 15 + 5).contains(&times[0]), "rank {rank}: {times:?}");
        for pair in times.windows(2) {
            assert!((49..=101).contains(&(pair[1] - pair[0])), "rank {rank}: {times:?}");
        }
    }
}

/// A lost connection clears "has a leader" at once, for PreVotes and votes; granting one postpones the own attempt.
#[test]
fn c15_a_lost_connection_clears_the_leader() {
    let mut net = Net::lone(3, Image::default());
    net.say(1, 0, 1, heartbeat(1, 0));
    net.settle();
    net.say(2, 0, 2, Message::PreVote { last: id(0, 0) });
    assert_eq!(net.mail(2)[0].message, Message::PreVoteReply { granted: false });
    net.input(0, Input::Disconnected(NodeId(2)));
    net.say(2, 0, 2, Message::PreVote { last: id(0, 0) });
    assert_eq!(net.mail(2)[0].message, Message::PreVoteReply { granted: false }, "another's connection");
    net.input(0, Input::Disconnected(NodeId(1)));
    assert_eq!(net.raft(0).leader(), None);
    net.say(2, 0, 2, Message::PreVote { last: id(0, 0) });
    assert_eq!(net.mail(2)[0].message, Message::PreVoteReply { granted: true });
    net.run(Span::millis(49));
    assert_eq!(net.raft(0).campaigns(), 0, "postponed by the grant");
    net.say(2, 0, 2, Message::PreVote { last: id(0, 0) });
    net.run(Span::millis(49));
    assert_eq!(net.raft(0).campaigns(), 0, "again");
    net.run(Span::millis(2));
    assert_eq!(net.raft(0).campaigns(), 1);
}

/// The leader is heard again before the early attempt: there is none.
#[test]
fn c15_a_leader_that_is_back_ends_the_attempt() {
    let mut net = Net::lone(3, Image::default());
    net.say(1, 0, 1, heartbeat(1, 0));
    net.settle();
    net.input(0, Input::Disconnected(NodeId(1)));
    net.input(0, Input::Connected(NodeId(1)));
    net.say(1, 0, 1, heartbeat(2, 0));
    net.run(Span::millis(900));
    assert_eq!((net.raft(0).campaigns(), net.raft(0).leader()), (0, Some(NodeId(1))));
}

/// A link that flaps, at any rhythm, does not depose a leader that a quorum hears, and raises no term.
#[test]
fn c15_a_flapping_link_deposes_nobody() {
    for down in [1, 10, 30, 200] {
        let mut net = Net::cluster(3);
        net.elect(0);
        net.latency = Span::millis(1);
        net.disk_latency = Span::millis(1);
        let term = net.term(0);
        for turn in 0..100 {
            net.cut(0, 2);
            net.run(Span::millis(down));
            net.heal(0, 2);
            net.run(Span::millis(turn % 40));
            assert!(net.raft(0).is_leader(), "down for {down} ms, turn {turn}");
        }
        net.propose(0, "served").expect("leads");
        net.run(HB.times(2));
        assert_eq!((net.term(0), net.term(1), net.term(2)), (term, term, term));
        net.assert_converged();
    }
}

/// A cluster that boots elects by rank as soon as links to a quorum exist, and not before.
#[test]
fn c15_boot() {
    for n in [1, 3, 5, 7] {
        let mut net = Net::stopped(&vec![Image::default(); n as usize], |_| {});
        net.latency = Span::millis(1);
        net.disk_latency = Span::millis(1);
        for node in 0..n {
            net.restart(node);
        }
        let took = net.run_until(ET, "leader", |net| net.leader().is_some());
        assert!(took <= Span::millis(60), "{n} nodes: {} ms", took.as_millis());
    }
    let mut net = Net::lone(5, Image::default());
    net.input(0, Input::Connected(NodeId(1)));
    net.run(Span::millis(500));
    assert_eq!(net.raft(0).campaigns(), 0, "two of five");
    net.input(0, Input::Connected(NodeId(2)));
    net.run(Span::millis(6));
    assert_eq!(net.raft(0).campaigns(), 1);
}

/// The first entry of each term is a no-op, and before it is committed the new leader commits and reads nothing.
#[test]
fn c16_nothing_before_an_entry_of_the_own_term_is_committed() {
    let mut net = Net::lone_leader(3, Image::of_terms(&[1, 1]), |_| {});
    let own = net.node(0).handed.entries.last().expect("its no-op").clone();
    assert_eq!((own.header.id, own.header.kind), (id(2, 3), EntryKind::Noop));
    net.propose(0, "behind it").expect("leads");
    let token = net.read(0);
    net.say(1, 0, 2, reply(1, 2));
    net.say(2, 0, 2, reply(1, 2));
    assert_eq!((net.commit(0), net.answer(0, token)), (0, None));
    net.say(1, 0, 2, reply(1, 3));
    assert_eq!(net.commit(0), 3);
}

/// Log time follows elapsed time within a tenth, whatever the wall clocks of successive leaders say, and never runs back.
#[test]
fn c25_log_time_across_leaders_and_wall_clocks() {
    const HOUR_MS: u64 = 3_600_000;
    let mut net = Net::cluster(3);
    let start = 1_700_000_000_000;
    let walls = [start, start + HOUR_MS, start - HOUR_MS];
    let mut before: Option<(u64, u64)> = None;
    for turn in 0..30_u32 {
        let leader = turn % 3;
        for node in net.ids() {
            let wall = LogTime(walls[node as usize] + net.now.0 / 1_000_000);
            net.node_mut(node).raft.as_mut().expect("alive").set_wall_clock(wall);
        }
        if turn % 5 == 0 {
            net.elect(leader);
        }
        let leader = net.leader().expect("leads");
        net.run(HB);
        net.propose(leader, "timed").expect("leads");
        net.settle();
        let time = net.node(leader).handed.entries.last().expect("just appended").header.log_time.0;
        let now = net.clock(leader).0 / 1_000_000;
        if let Some((earlier, at)) = before.filter(|_| turn % 5 != 0) {
            let elapsed = now - at;
            let range = elapsed * 9 / 10 - 1..=elapsed * 11 / 10 + 1;
            assert!(range.contains(&(time - earlier)), "turn {turn}: {} in {elapsed} ms", time - earlier);
        }
        assert!(before.is_none_or(|(earlier, _)| time >= earlier && time < earlier + HOUR_MS / 2), "turn {turn}");
        before = Some((time, now));
    }
    let times: Vec<LogTime> = net.node(0).handed.entries.iter().map(|entry| entry.header.log_time).collect();
    assert!(times.is_sorted());
}

/// A leader's uncommitted bytes have a bound, and commits make room again.
#[test]
fn c26_uncommitted_bytes_are_bounded() {
    let mut net = Net::lone_leader(3, Image::default(), |settings| settings.uncommitted_bytes_max = 10 * 164);
    let body = bytes::Bytes::from(vec![1; 100]);
    let mut taken = 0;
    while net.propose_bytes(0, body.clone()).is_ok() {
        taken += 1;
        assert!(taken < 100);
    }
    assert_eq!(net.propose_bytes(0, body.clone()), Err(ProposeError::Full));
    assert!((9..=10).contains(&taken));
    let last = net.last_index(0).0;
    net.settle();
    net.say(1, 0, 1, reply(1, last));
    net.propose_bytes(0, body).expect("room again");
}

/// What the followers have committed still waits for the leader's own slow disk, in its memory: that is bounded, too.
#[test]
fn c26_bytes_that_wait_for_the_own_disk_are_bounded() {
    let mut net = Net::lone_leader(3, Image::default(), |settings| settings.uncommitted_bytes_max = 10 * 164);
    let body = bytes::Bytes::from(vec![1; 100]);
    net.node_mut(0).disk_held = true;
    let mut taken = 0;
    while net.propose_bytes(0, body.clone()).is_ok() {
        taken += 1;
        let last = net.last_index(0).0;
        net.settle();
        net.say(1, 0, 1, reply(1, last));
        net.say(2, 0, 1, reply(1, last));
        net.settle();
        assert_eq!(net.commit(0), last, "committed without the leader's disk");
        assert!(taken < 100, "bounded by nothing");
    }
    assert!((9..=10).contains(&taken), "{taken}");
    net.release_disk(0);
    net.propose_bytes(0, body).expect("room again");
}
