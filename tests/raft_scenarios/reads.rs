//! T-68 to T-71, C-18: reads by rounds.

use std::collections::BTreeSet;

use protocol::message::Message;
use protocol::{Index, NodeId};

use super::net::Net;
use super::node::{heartbeat, reply, Image, ET, HB};

fn ready_leader() -> Net {
    let mut net = Net::lone_leader(3, Image::default(), |_| {});
    net.say(1, 0, 1, reply(1, 1));
    assert_eq!(net.commit(0), 1);
    net
}

/// The last round that a puppet was sent.
fn round(net: &Net, puppet: u32) -> u64 {
    let newest = net.sent.iter().rev().find_map(|envelope| match &envelope.message {
        Message::AppendEntries(append) if envelope.to == NodeId(puppet) => Some(append.round.0),
        _ => None,
    });
    newest.expect("sent one")
}

/// Echoes of a round that began before the read arrived confirm nothing; those of a later one do.
#[test]
fn t68_quorum_round_started_after_the_read() {
    let mut net = ready_leader();
    let before = round(&net, 1);
    let first = net.read(0);
    let its_round = round(&net, 1);
    assert!(its_round > before, "a read begins a round");
    for puppet in [1, 2] {
        net.say(puppet, 0, 1, reply(before, 1));
    }
    assert_eq!(net.answer(0, first), None, "those were on their way when the read arrived");
    let second = net.read(0);
    assert_eq!(round(&net, 1), its_round, "reads that arrive meanwhile share the next round");
    net.say(1, 0, 1, reply(its_round, 1));
    assert_eq!(net.answer(0, first).expect("confirmed").result, Ok(Index(1)));
    assert_eq!(net.answer(0, second), None, "arrived after that round began");
    let next = round(&net, 1);
    assert!(next > its_round);
    net.say(2, 0, 1, reply(next, 0));
    assert_eq!(net.answer(0, second).expect("confirmed").result, Ok(Index(1)));
}

fn contexts(net: &mut Net, puppet: u32) -> Vec<u64> {
    let mail = net.mail(puppet);
    let contexts = mail.iter().filter_map(|envelope| match envelope.message {
        Message::ReadIndex { context } => Some(context),
        _ => None,
    });
    contexts.collect()
}

/// A follower's question carries a new context each time it is asked, and an answer to an older one, from whatever term or
/// life, finds nothing.
#[test]
fn t69_context_never_reused() {
    let mut net = Net::lone(3, Image::default());
    net.say(1, 0, 1, heartbeat(1, 0));
    net.settle();
    let token = net.read(0);
    let first = contexts(&mut net, 1)[0];
    net.run(HB.times(2));
    let again = contexts(&mut net, 1);
    assert_eq!(again.len(), 1, "asked again after two heartbeats");
    assert_ne!(again[0], first);
    // The leader changes twice.
    net.say(2, 0, 2, heartbeat(1, 0));
    assert!(net.answer(0, token).expect("answered").result.is_err());
    net.settle();
    let token = net.read(0);
    let second_term = contexts(&mut net, 2)[0];
    net.say(1, 0, 3, heartbeat(1, 0));
    net.settle();
    assert!(net.answer(0, token).expect("answered").result.is_err());
    let token = net.read(0);
    let third_term = contexts(&mut net, 1)[0];
    for context in [first, again[0], second_term] {
        net.say(1, 0, 3, Message::ReadIndexReply { context, index: Some(Index(0)) });
        net.say(1, 0, 1, Message::ReadIndexReply { context: third_term, index: Some(Index(0)) });
        net.say(2, 0, 3, Message::ReadIndexReply { context: third_term, index: Some(Index(0)) });
    }
    assert_eq!(net.answer(0, token), None);
    net.say(1, 0, 3, Message::ReadIndexReply { context: third_term, index: Some(Index(0)) });
    assert_eq!(net.answer(0, token).expect("answered").result, Ok(Index(0)));
    // Contexts of a node's lives differ, too.
    let mut seen = BTreeSet::from([first, again[0], second_term, third_term]);
    for life in 0..20 {
        net.crash(0);
        net.start(0);
        net.say(1, 0, 3, heartbeat(10 + life, 0));
        net.settle();
        for _ in 0..20 {
            net.read(0);
        }
        for context in contexts(&mut net, 1) {
            assert!(seen.insert(context), "context {context} was used before");
        }
    }
    assert!(seen.len() > 400);
}

/// Echoes from an earlier leadership, with higher rounds, confirm nothing in this one.
#[test]
fn t69_rounds_of_an_earlier_term_do_not_confirm() {
    let mut net = Net::lone_leader(3, Image::of_terms(&[1, 1, 1]), |_| {});
    net.say(1, 0, 2, reply(1, 4));
    let token = net.read(0);
    for term in [0, 1] {
        net.say(1, 0, term, reply(1_000, 4));
        net.say(2, 0, term, reply(1_000, 4));
    }
    net.say(2, 0, 2, reply(1_000, 4));
    assert_eq!(net.answer(0, token), None);
}

/// A leader that steps down, or a follower that changes or loses its leader, fails the reads that wait.
#[test]
fn t70_leader_change_while_read_waits() {
    let mut net = ready_leader();
    let (waiting, asked) = (net.read(0), net.read(0));
    let its_round = round(&net, 1);
    net.say(2, 0, 5, reply(1, 0));
    net.say(1, 0, 1, reply(its_round, 1));
    for token in [waiting, asked] {
        assert!(net.answer(0, token).expect("answered").result.is_err());
    }
    let mut net = Net::lone(3, Image::default());
    net.say(1, 0, 1, heartbeat(1, 0));
    net.settle();
    let token = net.read(0);
    let context = contexts(&mut net, 1)[0];
    net.input(0, raftkv::raft::Input::Disconnected(NodeId(1)));
    net.say(1, 0, 1, Message::ReadIndexReply { context, index: Some(Index(0)) });
    let refused = net.answer(0, token).expect("answered").result.expect_err("refused");
    assert_eq!(refused.leader, None);
    let token = net.read(0);
    assert!(net.answer(0, token).expect("at once").result.is_err(), "nobody to ask");
}

/// A leader that lost its quorum answers no read, and fails those that wait when it steps down.
#[test]
fn t70_a_cut_off_leader_answers_no_read() {
    let mut net = Net::cluster(3);
    net.elect(0);
    net.silence(0);
    let token = net.read(0);
    net.run(ET.times(3));
    assert!(net.answer(0, token).expect("answered").result.is_err());
    let leader = net.leader().expect("another");
    net.propose(leader, "newer").expect("leads");
    net.settle();
    assert_eq!(net.commit(leader), net.last_index(leader).0);
}

/// The index that a reader waits for may lie ahead of what its node has applied; it is reached when commits arrive.
#[test]
fn t71_apply_lag() {
    let mut net = Net::cluster(3);
    net.elect(0);
    net.run(HB);
    net.lossy.insert((0, 2));
    for _ in 0..10 {
        net.propose(0, "not at 2").expect("leads");
    }
    net.settle();
    net.lossy.clear();
    net.node_mut(2).applied.truncate(1);
    let token = net.read(2);
    net.held.insert((0, 2));
    net.settle();
    for envelope in std::mem::take(&mut net.waiting) {
        if matches!(envelope.message, Message::ReadIndexReply { .. }) {
            net.arrive(envelope);
        }
    }
    let index = net.answer(2, token).expect("answered").result.expect("granted");
    assert_eq!((index, net.raft(2).applied_index()), (Index(11), Index(1)), "must wait for ten more");
    net.release(0, 2);
    net.run(HB.times(2));
    assert_eq!(net.raft(2).applied_index(), Index(11));
}

/// No read index before an entry of the own term is committed: the commit index may be behind (C-16, C-18; etcd#7331,
/// tikv#9208).
#[test]
fn t67_no_read_before_an_entry_of_the_own_term_is_committed() {
    let mut net = Net::lone_leader(3, Image::of_terms(&[1, 1, 1]), |_| {});
    let (own, peers) = (net.read(0), 77);
    net.say(2, 0, 2, Message::ReadIndex { context: peers });
    net.run(HB.times(2));
    for puppet in [1, 2] {
        let latest = round(&net, puppet);
        net.say(puppet, 0, 2, reply(latest, 3));
    }
    assert_eq!((net.answer(0, own), net.commit(0)), (None, 0));
    net.mail.clear();
    let latest = round(&net, 1);
    net.say(1, 0, 2, reply(latest, 4));
    assert_eq!(net.commit(0), 4);
    let latest = round(&net, 1);
    net.say(1, 0, 2, reply(latest, 4));
    assert_eq!(net.answer(0, own).expect("answered").result, Ok(Index(4)));
    let answer = Message::ReadIndexReply { context: peers, index: Some(Index(4)) };
    assert!(net.mail(2).iter().any(|envelope| envelope.message == answer));
}

/// A round that is lost delays a read until the next heartbeat, not longer; a question or an answer that is lost, by two.
#[test]
fn c18_a_lost_round_delays_a_read_by_a_heartbeat() {
    let mut net = Net::cluster(3);
    net.elect(0);
    net.run(HB);
    for (from, to, reader, limit) in [(0, 1, 0, 1), (1, 0, 0, 1), (2, 0, 2, 3), (0, 2, 2, 3)] {
        net.lossy.extend([(from, to), (0, 2), (2, 0)]);
        if reader == 2 {
            net.lossy.clear();
            net.lossy.insert((from, to));
        }
        let token = net.read(reader);
        net.settle();
        assert_eq!(net.answer(reader, token), None);
        net.lossy.clear();
        net.run_until(HB.times(limit) + HB, "answer", |net| net.answer(reader, token).is_some());
        assert!(net.answer(reader, token).expect("answered").result.is_ok());
    }
}

/// A follower serves only what the leader has committed, and a read at the leader later misses nothing of it.
#[test]
fn c18_a_followers_read_and_a_later_one_at_the_leader() {
    let mut net = Net::cluster(3);
    net.elect(0);
    for _ in 0..20 {
        net.propose(0, "x").expect("leads");
        net.settle();
        let follower = net.read(1);
        net.settle();
        let leader = net.read(0);
        net.settle();
        let first = net.answer(1, follower).expect("answered").result.expect("granted");
        let second = net.answer(0, leader).expect("answered").result.expect("granted");
        assert!(second >= first && first == net.last_index(0));
    }
}

/// Questions without an end are refused, not kept, while no index can be had.
#[test]
fn c18_reads_that_wait_are_bounded() {
    let mut net = Net::lone_leader(3, Image::default(), |_| {});
    let refused = (0..200_000).filter(|_| {
        let token = net.read(0);
        let refused = net.answer(0, token).is_some();
        net.node_mut(0).reads.clear();
        refused
    });
    assert!(refused.count() > 0, "the no-op is not committed, and reads pile up");
}

/// Reads of a single node, a cluster of its own.
#[test]
fn c18_single_node_reads() {
    let mut net = Net::cluster(1);
    net.run(ET);
    let token = net.read(0);
    net.settle();
    assert_eq!(net.answer(0, token).expect("answered").result, Ok(Index(1)));
}
