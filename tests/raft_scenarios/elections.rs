//! T-01 to T-15: elections and terms.

use protocol::message::Message;
use protocol::{Index, NodeId, Term};
use raftkv::raft::{Raft, Role};
use raftkv::time::{Span, Time};

use super::net::Net;
use super::node::{heartbeat, id, rejection, reply, settings, Image, ET, HB};

/// A single node leads, and commits its no-op only when its own sync is complete.
#[test]
fn t01_single_node_bootstrap() {
    let mut net = Net::stopped(&[Image::default()], |_| {});
    net.node_mut(0).disk_held = true;
    net.start(0);
    net.run(ET);
    assert_eq!((net.term(0), net.leader()), (1, None), "the own vote is not durable");
    net.persist(0);
    assert_eq!((net.leader(), net.commit(0)), (Some(0), 0), "leads, and the no-op is not durable");
    net.persist(0);
    assert_eq!(net.commit(0), 1);
}

/// A core that has asked for votes in term 1, with its own vote durable.
fn candidate(n: u32) -> Net {
    let mut net = Net::lone(n, Image::default());
    net.time_out(0);
    for puppet in 1..n {
        net.say(puppet, 0, 1, Message::PreVoteReply { granted: true });
    }
    net.settle();
    net
}

/// Every subset of grants and refusals, for 1, 3, 5 and 7 nodes: leads with a majority of grants, gives up with a majority
/// of refusals, waits otherwise.
#[test]
fn t02_one_round_win_table() {
    for n in [1, 3, 5, 7_u32] {
        // Base 3: each puppet grants, refuses, or is silent.
        for code in 0..3_u32.pow(n - 1) {
            let mut net = candidate(n);
            let answers: Vec<u32> = (0..n - 1).map(|digit| code / 3_u32.pow(digit) % 3).collect();
            let count = |what| u32::try_from(answers.iter().filter(|answer| **answer == what).count()).expect("few");
            for (puppet, answer) in (1..).zip(&answers).filter(|(_, answer)| **answer < 2) {
                net.say(puppet, 0, 1, Message::RequestVoteReply { granted: *answer == 0 });
            }
            let (wins, loses) = ((count(0) + 1) * 2 > n, count(1) * 2 > n);
            let role = net.raft(0).role();
            assert_eq!(wins, matches!(role, Role::Leader(_)), "{n} {answers:?}");
            assert_eq!(loses, matches!(role, Role::Follower(_)), "{n} {answers:?}");
        }
    }
}

/// The same node's grant, however often it is repeated, is one vote.
#[test]
fn t02_a_repeated_grant_is_one_vote() {
    let mut net = candidate(5);
    for _ in 0..5 {
        net.say(1, 0, 1, Message::RequestVoteReply { granted: true });
    }
    assert!(!net.raft(0).is_leader());
    net.say(2, 0, 1, Message::RequestVoteReply { granted: true });
    assert!(net.raft(0).is_leader());
}

/// Two candidates of one term, requests repeated, in every order: one of them gets the vote, and always the same answer.
#[test]
fn t03_one_vote_per_term() {
    for order in 0..64_u32 {
        let mut net = Net::lone(5, Image::default());
        let mut winner = None;
        for step in 0..6 {
            let from = 1 + (order >> step & 1);
            winner.get_or_insert(from);
            net.say(from, 0, 1, Message::RequestVote { last: id(0, 0), transfer: false });
            if step == 3 {
                net.settle();
                net.crash(0);
                net.start(0);
            }
            net.settle();
            let granted = Message::RequestVoteReply { granted: winner == Some(from) };
            let mail = net.mail(from);
            assert_eq!(mail.last().map(|envelope| &envelope.message), Some(&granted), "{order:06b} {step}");
        }
    }
}

/// A vote, and a PreVote, goes to logs that are at least as new: term first, then index.
#[test]
fn t04_up_to_date_rule() {
    let table = [
        (id(1, 2), false),
        (id(1, 3), false),
        (id(1, 9), false),
        (id(2, 2), false),
        (id(2, 3), true),
        (id(2, 4), true),
        (id(3, 1), true),
        (id(3, 3), true),
        (id(3, 9), true),
    ];
    for (last, expected) in table {
        let mut net = Net::lone(3, Image::of_terms(&[1, 2, 2]));
        net.say(1, 0, 4, Message::PreVote { last });
        net.settle();
        assert_eq!(net.mail(1)[0].message, Message::PreVoteReply { granted: expected }, "{last:?}");
        assert_eq!(net.term(0), 2, "a PreVote changes no term");
        net.say(1, 0, 4, Message::RequestVote { last, transfer: false });
        net.settle();
        assert_eq!(net.mail(1)[0].message, Message::RequestVoteReply { granted: expected }, "{last:?}");
        assert_eq!(net.term(0), 4, "a request raises the term, granted or not");
    }
}

/// A request of a higher term gets its vote from a follower, pre-candidate, candidate and leader, and the grant leaves when
/// the vote is durable.
#[test]
fn t05_vote_from_any_state() {
    for state in ["follower", "pre-candidate", "candidate", "leader"] {
        let mut net = match state {
            "leader" => Net::lone_leader(3, Image::default(), |_| {}),
            "candidate" => candidate(3),
            _ => Net::lone(3, Image::default()),
        };
        if state == "pre-candidate" {
            net.time_out(0);
        }
        net.settle();
        net.mail.clear();
        net.node_mut(0).disk_held = true;
        // A healthy leader insists unless another one's leader asks for the campaign (T-29).
        net.say(1, 0, 9, Message::RequestVote { last: id(1, 5), transfer: state == "leader" });
        assert!(matches!(net.raft(0).role(), Role::Follower(_)), "{state}");
        assert_eq!(net.raft(0).hard_state().vote, Some(NodeId(1)), "{state}");
        assert!(net.mail(1).is_empty(), "{state}: the vote is not durable");
        net.release_disk(0);
        let mail = net.mail(1);
        assert_eq!(mail[0].message, Message::RequestVoteReply { granted: true }, "{state}");
        assert_eq!(mail[0].term, Term(9), "{state}");
    }
}

/// The same where the term is durable already and only the vote is new.
#[test]
fn t05_a_grant_in_a_durable_term_waits_for_the_vote() {
    let mut image = Image::of_terms(&[1]);
    image.hard_state.term = Term(9);
    let mut net = Net::lone(3, image);
    net.node_mut(0).disk_held = true;
    net.say(1, 0, 9, Message::RequestVote { last: id(1, 1), transfer: false });
    assert!(net.mail(1).is_empty());
    net.release_disk(0);
    assert_eq!(net.mail(1)[0].message, Message::RequestVoteReply { granted: true });
}

/// Messages of an older term change nothing; requests are answered with the newer term, so that their sender catches up.
#[test]
fn t06_stale_term_messages() {
    let log = Image::of_terms(&[1, 5]);
    let table = [
        (Message::PreVote { last: id(9, 9) }, true),
        (Message::PreVoteReply { granted: false }, false),
        (Message::PreVoteReply { granted: true }, false),
        (Message::RequestVote { last: id(9, 9), transfer: true }, true),
        (Message::RequestVoteReply { granted: true }, false),
        (log.append(2, 2, 1, 2), true),
        (heartbeat(7, 2), true),
        (reply(3, 2), false),
        (Message::ReadIndex { context: 4 }, true),
        (Message::ReadIndexReply { context: 4, index: Some(Index(2)) }, false),
        (Message::TimeoutNow, false),
    ];
    for (message, answered) in table {
        let mut net = Net::lone(3, log.clone());
        let before = (net.raft(0).hard_state(), net.raft(0).last(), net.raft(0).next_deadline());
        net.say(1, 0, 4, message.clone());
        net.settle();
        let after = (net.raft(0).hard_state(), net.raft(0).last(), net.raft(0).next_deadline());
        assert_eq!((before, net.commit(0), net.raft(0).leader()), (after, 0, None), "{message:?}");
        let terms: Vec<Term> = net.mail(1).iter().map(|envelope| envelope.term).collect();
        assert_eq!(terms, if answered { vec![Term(5)] } else { vec![] }, "{message:?}");
    }
}

/// Any reply with a higher term ends a leadership: no vote is recorded, and reads that wait fail.
#[test]
fn t07_higher_term_response_demotes() {
    let replies = [
        reply(1, 0),
        Message::RequestVoteReply { granted: false },
        Message::PreVoteReply { granted: false },
        Message::ReadIndexReply { context: 1, index: None },
        rejection(1, 1, id(1, 1)),
    ];
    for message in replies {
        let mut net = Net::lone_leader(3, Image::of_terms(&[1, 4]), |_| {});
        assert_eq!(net.term(0), 5);
        let token = net.read(0);
        net.say(2, 0, 6, message.clone());
        assert_eq!((net.term(0), net.leader()), (6, None), "{message:?}");
        assert_eq!(net.raft(0).hard_state().vote, None, "{message:?}");
        assert!(net.answer(0, token).expect("answered").result.is_err(), "{message:?}");
    }
}

/// A candidate that hears the leader of its own term follows it, and its log is repaired.
#[test]
fn t08_candidate_meets_equal_term_leader() {
    for flagged in [true, false] {
        let mut net = Net::lone(3, Image::of_terms(&[1, 1]));
        net.time_out(0);
        net.say(1, 0, 2, Message::PreVoteReply { granted: true });
        net.settle();
        assert!(matches!(net.raft(0).role(), Role::Candidate(_)));
        let log = Image::of_terms(&[1, 2]);
        net.say(2, 0, 2, if flagged { heartbeat(1, 0) } else { log.append(2, 2, 1, 0) });
        net.settle();
        assert_eq!((net.term(0), net.raft(0).leader()), (2, Some(NodeId(2))));
        net.say(2, 0, 2, log.append(2, 2, 2, 2));
        assert_eq!((net.terms(0), net.commit(0)), (vec![1, 2], 2));
    }
}

/// First timeouts lie evenly in [ET, 2 ET), the two earliest of five are rarely close, and each election draws anew.
#[test]
fn t09_randomised_timeouts() {
    let (mut buckets, mut close) = ([0_u32; 10], 0);
    let runs = 10_000;
    for seed in 0..runs {
        let mut first: Vec<Span> = Vec::new();
        for node in 0..5 {
            let image = Image::default();
            let mut raft = Raft::new(Time(0), settings(node, 5, seed), image.recovered(None, 0));
            let wait = raft.next_deadline().since(Time(0));
            assert!(wait >= ET && wait < ET.times(2));
            buckets[usize::try_from((wait.0 - ET.0) * 10 / ET.0).expect("ten")] += 1;
            raft.step(raft.next_deadline(), raftkv::raft::Input::Tick);
            assert_ne!(raft.next_deadline().since(Time(0) + wait), wait, "a new draw");
            first.push(wait);
        }
        first.sort_unstable();
        close += u64::from(first[1].0 - first[0].0 < ET.0 / 100);
    }
    let even = u32::try_from(runs / 2).expect("few");
    assert!(buckets.iter().all(|count| count.abs_diff(even) < even / 10), "{buckets:?}");
    assert!(close * 10 <= runs, "{close} of {runs} are closer than a hundredth of ET");
}

/// Who has heard a leader waits for [ET, 1.5 ET), drawn anew for each sign of life; who has campaigned then, for [ET, 2 ET).
#[test]
fn t09_a_silent_leader_is_waited_for_one_and_a_half_timeouts_at_most() {
    let image = Image::of_terms(&[1, 2, 2]);
    let mut net = Net::lone(3, image.clone());
    let (mut buckets, runs) = ([0_u32; 5], 1_000);
    for round in 1..=runs {
        net.say(1, 0, 2, image.append(4, 3, round, 3));
        net.settle();
        let wait = net.raft(0).next_deadline().since(net.clock(0));
        assert!(wait >= ET && wait < ET + ET.half(), "{wait:?}");
        buckets[usize::try_from((wait.0 - ET.0) * 10 / ET.0).expect("five")] += 1;
    }
    let even = u32::try_from(runs / 5).expect("few");
    assert!(buckets.iter().all(|count| count.abs_diff(even) < even / 3), "{buckets:?}");
}

/// Two candidates that do not see each other: the one with the shorter log yields when they meet, and terms only rise.
#[test]
fn t10_duelling_candidates_longer_log_wins() {
    let mut net = Net::cluster(3);
    net.cut(0, 2);
    net.elect(0);
    net.propose(0, "only at 0 and 1").expect("leads");
    net.settle();
    let term = net.term(0);
    for _ in 0..5 {
        net.campaign(2);
        assert!(!net.raft(2).is_leader());
    }
    assert_eq!((net.term(1), net.term(2)), (term, term.min(net.term(2))), "PreVote: the loser raises nobody's term");
    net.heal(0, 2);
    net.run(ET.times(4));
    assert!(net.leader().is_some_and(|leader| leader != 2 || net.terms(2).len() > 2));
    net.assert_converged();
}

/// Each of five nodes can lead in turn; what was committed stays.
#[test]
fn t11_leader_cycle() {
    let mut net = Net::cluster(5);
    for round in 0..3 {
        for node in 0..5 {
            net.elect(node);
            net.propose(node, "more").expect("leads");
            net.settle();
            assert_eq!(net.commit(node), (round * 5 + u64::from(node) + 1) * 2);
        }
    }
    net.run(ET);
    net.assert_converged();
}

/// Figures 7 and 8 of the paper: whoever may lead overwrites what was never committed, and keeps what was.
#[test]
fn t12_overwrite_newer_uncommitted_logs() {
    /// Logs, who leads, and the terms of the log that all have afterwards, without the new leader's no-op.
    type Row = (&'static [&'static [u64]], u32, &'static [u64]);
    let table: [Row; 3] = [
        (&[&[1, 2], &[1, 2], &[1, 3], &[1], &[1]], 2, &[1, 3]),
        (&[&[1, 2, 4], &[1, 2], &[1, 2], &[1], &[1, 3]], 0, &[1, 2, 4]),
        (
            &[&[1, 1, 1, 4, 4, 5, 5, 6, 6, 6], &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3], &[1, 1, 1, 4, 4, 4, 4]],
            0,
            &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6],
        ),
    ];
    for (logs, leader, expected) in table {
        let mut net = Net::with_logs(logs);
        net.elect(leader);
        net.run(ET);
        net.assert_converged();
        let term = net.term(leader);
        let terms = net.terms(leader);
        assert_eq!((&terms[..terms.len() - 1], terms.last()), (expected, Some(&term)));
    }
}

/// A term and the own vote are durable before anyone hears of the campaign, and before the vote counts.
#[test]
fn t14_term_bump_persisted_before_campaign() {
    let mut net = Net::lone(3, Image::of_terms(&[1, 5]));
    net.time_out(0);
    net.node_mut(0).disk_held = true;
    net.mail.clear();
    net.say(1, 0, 6, Message::PreVoteReply { granted: true });
    assert_eq!(net.term(0), 6);
    assert!(net.mail(1).is_empty() && net.mail(2).is_empty(), "no request of term 6 has left");
    for puppet in [1, 2] {
        net.say(puppet, 0, 6, Message::RequestVoteReply { granted: true });
        assert!(!net.raft(0).is_leader(), "nobody was asked yet: the own vote is not durable");
    }
    net.crash(0);
    net.start(0);
    assert_eq!(net.term(0), 5, "as if it had never campaigned");
}

/// A vote leaves after it is durable, with the term it belongs to, and power cuts at any point before let nobody have two
/// (nodedb#161, tikv#1610).
#[test]
fn t13_a_vote_is_durable_before_it_leaves() {
    let request = Message::RequestVote { last: id(1, 1), transfer: false };
    let granted = |mail: Vec<protocol::message::Envelope>| {
        mail.iter().filter(|sent| matches!(sent.message, Message::RequestVoteReply { granted: true })).count()
    };
    for kept in [false, true] {
        let mut net = Net::lone(3, Image::of_terms(&[1]));
        net.node_mut(0).disk_held = true;
        net.say(1, 0, 6, request.clone());
        net.say(1, 0, 6, request.clone());
        net.run(ET.times(5));
        assert_eq!(granted(net.mail(1)), 0, "nothing leaves before the sync");
        net.crash_with(0, 0, kept.then_some(0));
        net.node_mut(0).disk_held = false;
        net.start(0);
        net.turn(0);
        net.say(2, 0, 6, request.clone());
        net.settle();
        assert_eq!(granted(net.mail(2)), usize::from(!kept), "free if the first vote was lost, else taken");
        net.say(1, 0, 6, request.clone());
        net.settle();
        assert_eq!(granted(net.mail(1)), usize::from(kept));
    }
}

/// A request for a vote that is lost, or whose answer is, is repeated after a heartbeat, to those that have not answered.
#[test]
fn a_candidate_asks_again() {
    let mut net = candidate(5);
    let asked = |net: &mut Net, puppet| {
        net.mail(puppet).iter().filter(|sent| matches!(sent.message, Message::RequestVote { .. })).count()
    };
    assert_eq!((asked(&mut net, 1), asked(&mut net, 2)), (1, 1));
    net.say(2, 0, 1, Message::RequestVoteReply { granted: false });
    net.run(HB);
    assert_eq!((asked(&mut net, 1), asked(&mut net, 2)), (1, 0));
    net.run(HB.times(3));
    assert_eq!((asked(&mut net, 1), asked(&mut net, 2), net.term(0)), (3, 0, 1));
    // With a vote that is not durable, nobody was asked, and nobody is asked again.
    let mut net = Net::lone(3, Image::default());
    net.time_out(0);
    net.node_mut(0).disk_held = true;
    net.say(1, 0, 1, Message::PreVoteReply { granted: true });
    net.run(HB.times(4));
    assert_eq!((net.term(0), asked(&mut net, 2)), (1, 0));
    net.release_disk(0);
    assert_eq!(asked(&mut net, 2), 1);
}

/// Grants of PreVotes that arrive when the real campaign has begun are not votes, and the other way round.
#[test]
fn t15_pre_votes_are_not_votes() {
    let mut net = candidate(5);
    for puppet in 1..5 {
        net.say(puppet, 0, 1, Message::PreVoteReply { granted: true });
        net.say(puppet, 0, 2, Message::PreVoteReply { granted: true });
    }
    assert!(matches!(net.raft(0).role(), Role::Candidate(_)));
    let mut net = Net::lone(5, Image::default());
    net.time_out(0);
    for puppet in 1..5 {
        net.say(puppet, 0, 0, Message::RequestVoteReply { granted: true });
        net.say(puppet, 0, 2, Message::PreVoteReply { granted: true });
    }
    assert!(matches!(net.raft(0).role(), Role::PreCandidate(_)), "grants for another term do not count either");
}
