//! T-45 to T-50: asynchronous persistence.

use protocol::message::Message;
use protocol::{Index, NodeId, Round};
use raftkv::raft::Role;
use raftkv::time::Span;

use super::net::{spoken, Net};
use super::node::{id, reply, Image, ET, HB};

/// Marks of the replies that a puppet has received: rounds and matches.
fn marks(net: &mut Net, puppet: u32) -> Vec<(Round, Index)> {
    let mail = net.mail(puppet);
    let marks = mail.iter().filter_map(|envelope| match &envelope.message {
        Message::AppendReply(reply) => Some((reply.round, reply.matched)),
        _ => None,
    });
    marks.collect()
}

/// A follower whose disk holds: no acknowledgement, while its echoes keep the leader.
#[test]
fn t45_ack_gated_on_sync() {
    let mut net = Net::cluster(3);
    net.elect(0);
    net.silence(1);
    net.node_mut(2).disk_held = true;
    net.propose(0, "held").expect("leads");
    net.run(ET.times(2));
    assert_eq!((net.leader(), net.commit(0), net.last_index(2)), (Some(0), 1, Index(2)));
    net.release_disk(2);
    net.settle();
    assert_eq!(net.commit(0), 2);
}

/// The leader's own disk counts like any other: two followers commit without it, one does not.
#[test]
fn t46_leader_outside_its_own_quorum() {
    let mut net = Net::cluster(3);
    net.elect(0);
    net.node_mut(0).disk_held = true;
    net.lossy.insert((0, 2));
    net.propose(0, "slow leader").expect("leads");
    net.settle();
    assert_eq!(net.commit(0), 1, "one follower, and the leader's own write is not complete");
    net.lossy.clear();
    net.run(HB);
    assert_eq!((net.commit(0), net.raft(0).durable_index()), (2, Index(1)), "two followers");
    net.release_disk(0);
    assert_eq!(net.raft(0).durable_index(), Index(2));
}

/// An entry in flight, overwritten, and appended again: the first completion says nothing about the last writing (C-10).
#[test]
fn t47_append_aba_race() {
    let (a, b, c) = (Image::of_terms(&[1, 1]), Image::of_terms(&[2, 2]), Image::of_terms(&[1, 1, 3]));
    let mut net = Net::lone(7, Image::default());
    net.node_mut(0).disk_held = true;
    net.say(1, 0, 1, a.append(1, 2, 1, 0));
    net.say(2, 0, 2, b.append(1, 2, 1, 0));
    net.say(3, 0, 3, c.append(1, 3, 1, 0));
    assert_eq!(net.node(0).pending.len(), 3);
    let expected = [(Index(0), vec![]), (Index(0), vec![]), (Index(3), vec![(Round(1), Index(3))])];
    for (durable, told) in expected {
        net.persist(0);
        assert_eq!(net.raft(0).durable_index(), durable);
        assert_eq!(marks(&mut net, 3), told);
    }
    assert_eq!(marks(&mut net, 1), vec![]);
}

/// Each point of the same race, with the write in pieces: what counts as durable is on disk (the net checks it).
#[test]
fn t47_overwrites_at_every_depth() {
    for keep in 0..6_usize {
        for completed in 0..3 {
            let a = Image::of_terms(&[1; 6]);
            let mut terms = vec![1; keep];
            terms.extend([2; 4]);
            let b = Image::of_terms(&terms);
            let mut net = Net::lone(3, Image::default());
            net.node_mut(0).disk_held = true;
            net.say(1, 0, 1, a.append(1, 3, 1, 0));
            net.say(1, 0, 1, a.append(4, 6, 1, 0));
            for _ in 0..completed {
                net.persist(0);
            }
            let first = keep as u64 + 1;
            net.say(2, 0, 2, b.append(first, b.last().index.0, 1, 0));
            while net.persist(0) {}
            assert_eq!(net.raft(0).durable_index(), b.last().index);
            assert_eq!(marks(&mut net, 2), [(Round(1), b.last().index)]);
        }
    }
}

/// The overwrite and the completion of an older write arrive together, before the new entries are handed to the disk.
#[test]
fn t47_overwrite_and_completion_in_one_batch() {
    let (old, new) = (Image::of_terms(&[1; 9]), Image::of_terms(&[1, 1, 1, 2, 2]));
    let mut net = Net::lone(3, Image::default());
    net.node_mut(0).disk_held = true;
    net.say(1, 0, 1, old.append(1, 4, 1, 0));
    net.say(1, 0, 1, old.append(5, 9, 1, 0));
    let completed = net.complete(0).expect("entries 1 to 4");
    net.inputs(0, vec![spoken(2, 0, 2, new.append(4, 5, 1, 0)), completed]);
    assert_eq!(net.raft(0).durable_index(), Index(3), "entry 4 is another one now");
    net.release_disk(0);
    assert_eq!(net.raft(0).durable_index(), Index(5));
}

/// A leader that lost its leadership and has it again: completions of the first time say nothing about the second.
#[test]
fn t48_leader_self_ack_after_term_change() {
    let mut net = Net::lone_leader(3, Image::default(), |_| {});
    net.say(1, 0, 1, reply(1, 1));
    assert_eq!(net.commit(0), 1);
    net.node_mut(0).disk_held = true;
    net.propose(0, "two").expect("leads");
    net.propose(0, "three").expect("leads");
    // Another leader replaces what is in flight, and is lost.
    let other = Image { entries: net.node(0).handed.entries[..1].to_vec(), ..Image::default() };
    let mut longer = other.clone();
    for _ in 0..2 {
        longer.entries.push(super::node::entry_after(longer.last(), longer.chain(), protocol::Term(2), b""));
    }
    net.say(1, 0, 2, longer.append(2, 3, 1, 0));
    assert_eq!(net.terms(0), [1, 2, 2]);
    // The oldest two complete: entries 2 and 3 of term 1, which are not there any more.
    net.persist(0);
    net.persist(0);
    assert_eq!(net.raft(0).durable_index(), Index(1));
    net.persist(0);
    assert_eq!(net.raft(0).durable_index(), Index(3));
    net.time_out(0);
    net.say(2, 0, 3, Message::PreVoteReply { granted: true });
    net.persist(0);
    net.say(2, 0, 3, Message::RequestVoteReply { granted: true });
    assert_eq!((net.terms(0), net.raft(0).durable_index()), (vec![1, 2, 2, 3], Index(3)));
    net.say(2, 0, 3, reply(1, 3));
    assert_eq!(net.commit(0), 1, "entry 3 is of an older term");
    net.say(2, 0, 3, reply(1, 4));
    assert_eq!(net.commit(0), 1, "one disk of three: the own no-op is being written");
    net.release_disk(0);
    assert_eq!(net.commit(0), 4);
}

/// A conflict truncates while writes are under way, and power is lost at each point: whatever survives, what was
/// acknowledged is there, and all become equal.
#[test]
fn t49_truncate_while_sync_in_progress() {
    for appends in 0..5 {
        for entries in [None, Some(0), Some(1), Some(2)] {
            let mut net = Net::with(&vec![Image::default(); 3], |settings| settings.append_bytes_max = 100);
            net.elect(0);
            net.run(HB);
            net.node_mut(2).disk_held = true;
            net.isolate(1);
            for _ in 0..4 {
                net.propose(0, "in flight at 2").expect("leads");
            }
            net.settle();
            assert_eq!((net.last_index(2), net.commit(0)), (Index(5), 1));
            net.isolate(0);
            net.heal(1, 2);
            net.propose(0, "only at 0").expect("still leads");
            // 1 needs another disk than 2's: it campaigns with 2's vote, which is held. So let that much complete.
            net.campaign(1);
            while !net.raft(1).is_leader() && net.persist(2) {
                net.settle();
            }
            if !net.raft(1).is_leader() {
                assert!(net.raft(2).last() > net.raft(1).last());
            }
            net.settle();
            net.crash_with(2, appends, entries);
            net.restart(2);
            net.node_mut(2).disk_held = false;
            net.rejoin(0);
            net.rejoin(1);
            net.run(ET.times(5));
            net.propose(net.leader().expect("one leads"), "after").expect("leads");
            net.run(HB.times(3));
            net.assert_converged();
        }
    }
}

/// The same with the conflict for certain: the follower's writes 2 to 6 are under way when the next leader replaces 4 to 7.
#[test]
fn t49_crash_between_write_and_overwrite() {
    let old = Image::of_terms(&[1, 1, 1, 1, 1, 1]);
    let new = Image::of_terms(&[1, 1, 1, 2, 2, 2, 2]);
    for appends in 0..=6 {
        for entries in 0..=3 {
            let mut net = Net::lone(3, Image::of_terms(&[1]));
            net.node_mut(0).disk_held = true;
            for first in 2..=6 {
                net.say(1, 0, 1, old.append(first, first, 1, 0));
            }
            net.say(2, 0, 2, new.append(4, 7, 1, 0));
            for _ in 0..appends {
                net.persist(0);
            }
            let acknowledged = marks(&mut net, 2).last().map_or(Index(0), |(_, matched)| *matched);
            net.crash_with(0, 0, Some(entries));
            net.start(0);
            let left = net.terms(0);
            let is_old = old.entries[..].iter().map(|entry| entry.header.id.term.0).take(left.len()).eq(left.clone());
            let is_new = new.entries[..].iter().map(|entry| entry.header.id.term.0).take(left.len()).eq(left.clone());
            assert!(is_old || is_new, "{left:?}");
            assert!(acknowledged == Index(0) || is_new && acknowledged <= net.last_index(0), "{left:?}");
        }
    }
}

/// An entry that others made durable is applied before the own write completes; after a crash it comes again.
#[test]
fn t50_apply_before_local_durability() {
    let mut net = Net::cluster(3);
    net.elect(0);
    net.run(HB);
    net.node_mut(2).disk_held = true;
    net.propose(0, "applied early at 2").expect("leads");
    net.run(HB);
    assert_eq!((net.node(2).applied.len(), net.raft(2).durable_index()), (2, Index(1)));
    net.crash(2);
    net.node_mut(2).disk_held = false;
    assert_eq!(net.node(2).durable.entries.len(), 1);
    net.restart(2);
    net.run(HB.times(2));
    assert_eq!(net.node(2).applied.len(), 2);
    net.assert_converged();
}

/// A leader whose log makes no progress for an election timeout steps down, although its rounds are echoed; another leads
/// and the old one, still hung, disturbs nobody (C-13; etcd#13527: heartbeats kept a leader that could do nothing).
#[test]
fn t101_a_leader_with_a_hung_disk_steps_down() {
    let mut net = Net::cluster(3);
    net.elect(0);
    net.node_mut(0).disk_held = true;
    net.propose(0, "hangs").expect("leads");
    net.run_until(ET.times(2), "step down", |net| !net.raft(0).is_leader());
    net.run_until(ET.times(3), "another leader", |net| net.leader().is_some_and(|leader| leader != 0));
    let term = net.term(net.leader().expect("leads"));
    net.run(ET.times(10));
    assert_eq!(net.term(net.leader().expect("leads")), term, "the hung node disturbs nobody");
    net.release_disk(0);
    net.run(HB.times(3));
    net.assert_converged();
}

/// A follower whose disk hangs echoes every round, so the leader keeps its quorum.
#[test]
fn c13_a_follower_with_a_hung_disk_echoes_rounds() {
    let mut net = Net::cluster(3);
    net.elect(0);
    net.run(HB);
    net.node_mut(1).disk_held = true;
    net.node_mut(2).disk_held = true;
    net.propose(0, "nowhere durable but here").expect("leads");
    net.run(ET.times(10));
    assert_eq!((net.leader(), net.commit(0)), (Some(0), 1));
    let token = net.read(0);
    net.settle();
    assert_eq!(net.answer(0, token).expect("rounds are enough").result, Ok(Index(1)));
}

/// etcd#14370: alone, a leader has its majority at once, and still commits nothing before its own sync, over restarts too.
#[test]
fn t102_alone_nothing_is_acknowledged_before_the_sync() {
    let mut net = Net::cluster(1);
    net.time_out(0);
    net.settle();
    assert_eq!((net.leader(), net.commit(0)), (Some(0), 1));
    net.node_mut(0).disk_held = true;
    net.propose(0, "not yet").expect("leads");
    let token = net.read(0);
    net.run(HB);
    assert_eq!((net.commit(0), net.node(0).applied.len()), (1, 1));
    assert_eq!(net.answer(0, token).map(|read| read.result), Some(Ok(Index(1))), "what was acknowledged can be read");
    net.crash(0);
    net.node_mut(0).disk_held = false;
    net.restart(0);
    net.time_out(0);
    net.settle();
    assert_eq!(net.terms(0), [1, 2], "nobody was told that the lost entry was there");
    net.node_mut(0).disk_held = true;
    net.propose(0, "again").expect("leads");
    assert_eq!(net.commit(0), 2);
    net.persist(0);
    assert_eq!(net.commit(0), 3);
}

/// Slow is not hung: writes that complete one after the other, each well within the timeout, keep the leader, although the
/// oldest one under way was always handed over long ago.
#[test]
fn c13_a_slow_disk_is_not_a_hung_disk() {
    let mut net = Net::cluster(3);
    net.elect(0);
    net.node_mut(0).disk_held = true;
    for step in 0..20 {
        for _ in 0..3 {
            net.propose(0, "slow").expect("leads");
        }
        net.run(Span::millis(600));
        assert!(net.raft(0).is_leader(), "step {step}");
        net.persist(0);
    }
}

/// A follower whose disk hangs does not campaign, and does not go on to name a leader that is gone.
#[test]
fn c13_a_hung_follower_forgets_a_leader_that_fell_silent() {
    let mut net = Net::cluster(3);
    net.elect(0);
    net.node_mut(2).disk_held = true;
    net.propose(0, "hangs at 2").expect("leads");
    net.settle();
    net.silence(0);
    net.silence(1);
    let token = net.read(2);
    net.run(ET.times(3));
    assert!(matches!(net.raft(2).role(), Role::Follower(_)));
    assert_eq!(net.raft(2).leader(), None::<NodeId>);
    assert!(net.answer(2, token).expect("answered").result.is_err());
    assert_eq!(net.node(2).durable.last(), id(1, 1));
}
