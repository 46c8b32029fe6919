//! T-18 to T-30: PreVote, CheckQuorum, stickiness, partial partitions.

use protocol::message::Message;
use protocol::{NodeId, Term};
use raftkv::raft::Role;
use raftkv::time::Span;

use super::net::Net;
use super::node::{heartbeat, id, Image, ET, HB};

/// A node that misses entries loses the PreVote and disturbs nobody; one that has them wins.
#[test]
fn t18_a_node_that_is_behind_cannot_win_a_pre_vote() {
    let mut net = Net::cluster(3);
    net.elect(0);
    net.silence(2);
    net.propose(0, "missed by 2").expect("leads");
    net.settle();
    net.crash(0);
    net.unsilence(2);
    let term = net.term(1);
    for _ in 0..3 {
        net.campaign(2);
        assert_eq!((net.leader(), net.term(1), net.term(2)), (None, term, term));
    }
    net.elect(1);
}

/// A node of an older term and the others do not ignore each other: when the leader dies, there is a new one soon.
#[test]
fn t19_smaller_term_node_unblocks() {
    for announced in [true, false] {
        let mut high = Image::of_terms(&[1]);
        high.hard_state.term = Term(5);
        let mut net = Net::with(&[high.clone(), high, Image::of_terms(&[1])], |_| {});
        net.isolate(2);
        net.elect(0);
        assert_eq!((net.term(0), net.term(1), net.term(2)), (6, 6, 1));
        if announced {
            net.crash(0);
        } else {
            net.silence(0);
        }
        net.heal(1, 2);
        net.run_until(ET.times(3), "leader", |net| [1, 2].iter().any(|node| net.raft(*node).is_leader()));
    }
}

/// Two nodes whose timeouts run out together split the vote, and agree soon.
#[test]
fn t20_split_votes_resolve() {
    for seed in 0..50 {
        let mut net = Net::with(&vec![Image::default(); 3], |settings| settings.seed = seed);
        net.elect(0);
        net.latency = Span::millis(1);
        net.disk_latency = Span::millis(1);
        net.silence(0);
        for node in [1, 2] {
            net.node_mut(node).ahead = net.node(node).ahead + ET;
        }
        net.time_out(1);
        net.time_out(2);
        net.run_until(ET.times(4), "leader", |net| [1, 2].iter().any(|node| net.raft(*node).is_leader()));
    }
}

/// A node that is stuck in a higher term is freed by the leader's next message: the leader steps down once.
#[test]
fn t21_free_stuck_candidate() {
    let mut stuck = Image::default();
    stuck.hard_state.term = Term(9);
    let mut net = Net::stopped(&[Image::default(), Image::default(), stuck], |_| {});
    for node in net.ids() {
        net.start(node);
    }
    net.isolate(2);
    net.elect(0);
    assert_eq!(net.term(0), 1);
    net.rejoin(2);
    net.run_until(ET.times(4), "leader that all follow", |net| {
        net.leader().is_some_and(|leader| net.ids().all(|node| net.raft(node).leader() == Some(NodeId(leader))))
    });
    let terms: Vec<u64> = net.checker.leaders.keys().map(|term| term.0).collect();
    assert_eq!(terms, [1, 10], "one step down, one election");
    net.run(ET.times(3));
    assert_eq!(net.checker.leaders.len(), 2, "and then peace");
}

/// The leader is linked to A only, and A to everyone: A, the only one with a quorum, leads.
#[test]
fn t26_quorum_loss_leader() {
    for announced in [true, false] {
        for seed in 0..20 {
            let mut net = Net::with(&vec![Image::default(); 5], |settings| settings.seed = seed);
            net.elect(0);
            for a in [0, 2, 3, 4] {
                for b in [0, 2, 3, 4] {
                    if a < b && announced {
                        net.cut(a, b);
                    } else if a != b {
                        net.lossy.insert((a, b));
                    }
                }
            }
            net.run_until(ET.times(5), "leader with a quorum", |net| net.raft(1).is_leader());
            net.propose(1, "goes on").expect("leads");
            net.run(HB.times(3));
            assert_eq!(net.commit(1), net.last_index(1).0);
            assert_eq!(net.leader(), Some(1));
        }
    }
}

/// Links 0-1 and 1-2 only, 0 leads: stable, 2 disturbs nobody.
#[test]
fn t27_chain_of_three() {
    for announced in [true, false] {
        let mut net = Net::cluster(3);
        net.elect(0);
        if announced {
            net.cut(0, 2);
        } else {
            net.lossy.extend([(0, 2), (2, 0)]);
        }
        let term = net.term(0);
        net.run(ET.times(20));
        net.propose(0, "served").expect("leads");
        net.settle();
        assert_eq!((net.term(0), net.term(1), net.term(2), net.leader()), (term, term, term, Some(0)));
        assert_eq!(net.commit(0), net.last_index(0).0);
    }
}

/// Cloudflare, November 2020: a switch fails in part, and one node is linked to both sides. Nobody is deposed, whether the
/// ends notice their lost links or not; when the leader dies, one of the rest leads, and stays.
#[test]
fn t25_partial_partition() {
    for announced in [true, false] {
        for old in [0, 2, 4] {
            let mut net = Net::cluster(5);
            net.elect(old);
            for (a, b) in [(0, 3), (0, 4), (1, 3), (1, 4)] {
                if announced {
                    net.cut(a, b);
                } else {
                    net.lossy.extend([(a, b), (b, a)]);
                }
            }
            let term = net.term(old);
            net.run(ET.times(20));
            net.propose(old, "served").expect("leads");
            net.settle();
            assert_eq!((net.leader(), net.commit(old)), (Some(old), net.last_index(old).0), "{announced} {old}");
            assert!(net.ids().all(|node| net.term(node) == term), "{announced} {old}: no term rises");
            if old == 2 {
                continue; // without the middle there is no majority
            }
            net.crash(old);
            let took = net.run_until(ET.times(10), "next leader", |net| {
                net.leader().is_some_and(|leader| net.commit(leader) == net.last_index(leader).0)
            });
            assert!(took < ET.times(6), "{announced} {old}: {} ms", took.as_millis());
            let (leader, term) = (net.leader().expect("leads"), net.term(net.leader().expect("leads")));
            net.run(ET.times(20));
            assert_eq!((net.leader(), net.term(leader)), (Some(leader), term), "{announced} {old}: stays");
        }
    }
}

/// Only A is linked to all, and its log is stale: no leader is possible, no term rises; one more link heals it.
#[test]
fn t28_constrained_election() {
    let mut net = Net::with_logs(&[&[1], &[1, 2], &[1, 2], &[1, 2], &[1, 2]]);
    for a in 1..5 {
        for b in a + 1..5 {
            net.cut(a, b);
        }
    }
    net.run(ET.times(50));
    assert_eq!(net.leader(), None);
    assert!(net.ids().all(|node| net.term(node) <= 2), "no election could be won, so none was held");
    net.heal(1, 2);
    net.run_until(ET.times(5), "leader", |net| net.leader().is_some());
    net.run(ET);
    assert!(net.terms(0).starts_with(&[1, 2]));
}

/// While a leader was heard within an election timeout, a request of a higher term is refused and raises no term; unless
/// the leader itself asked for that campaign.
#[test]
fn t29_sticky_voters() {
    let request = Message::RequestVote { last: id(9, 9), transfer: false };
    let mut net = Net::lone(3, Image::default());
    net.say(1, 0, 1, heartbeat(1, 0));
    net.settle();
    for (wait, granted) in [(0, false), (998, false), (2, true)] {
        net.now += Span::millis(wait);
        net.say(2, 0, 7, request.clone());
        net.settle();
        let mail = net.mail(2);
        assert_eq!(mail[0].message, Message::RequestVoteReply { granted }, "after {wait} ms more");
        assert_eq!(net.term(0), if granted { 7 } else { 1 });
        net.say(2, 0, 8, Message::PreVote { last: id(9, 9) });
        assert_eq!(net.mail(2)[0].message, Message::PreVoteReply { granted }, "after {wait} ms more");
    }
    let mut net = Net::lone(3, Image::default());
    net.say(1, 0, 1, heartbeat(1, 0));
    net.say(2, 0, 7, Message::RequestVote { last: id(9, 9), transfer: true });
    net.settle();
    assert_eq!(net.term(0), 7);
    let mut net = Net::lone_leader(3, Image::default(), |_| {});
    net.say(2, 0, 7, request);
    assert!(matches!(net.raft(0).role(), Role::Leader(_)), "a healthy leader insists");
}

/// After a power cycle nobody insists on a leader of before.
#[test]
fn t30_restart_of_all_nodes_with_sticky_voters() {
    for linked in [true, false] {
        for n in [3, 5, 7] {
            let mut net = Net::cluster(n);
            net.elect(0);
            for node in net.ids() {
                net.crash(node);
            }
            for node in net.ids() {
                if linked {
                    net.restart(node);
                } else {
                    net.start(node);
                }
            }
            net.run_until(ET.times(3), "leader", |net| net.leader().is_some());
        }
    }
}

/// A leader that hears no quorum steps down within two election timeouts, and a cut follower's return deposes nobody.
#[test]
fn t29_check_quorum() {
    let mut net = Net::cluster(3);
    net.elect(0);
    net.silence(1);
    net.silence(2);
    net.run_until(ET.times(2), "step down", |net| !net.raft(0).is_leader());
    net.unsilence(1);
    net.unsilence(2);
    net.run_until(ET.times(3), "leader", |net| net.leader().is_some());
    let leader = net.leader().expect("just waited for");
    let (lost, term) = ((leader + 1) % 3, net.term(leader));
    net.silence(lost);
    net.run(ET.times(10));
    net.unsilence(lost);
    net.run(ET.times(3));
    assert_eq!((net.leader(), net.term(lost)), (Some(leader), term), "PreVote kept its term");
}
