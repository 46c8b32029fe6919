//! T-31 to T-44: replication and commit.

use bytes::Bytes;
use protocol::message::{Envelope, Message};
use protocol::{Index, NodeId, Term};
use raftkv::raft::Input;
use raftkv::time::Span;

use super::net::Net;
use super::node::{entry_after, heartbeat, id, rejection, reply, Image, ET, HB};
use super::random::Dice;

/// Figure 8: an entry of an older term on a majority is not committed by counting, and the entries before the own no-op
/// are committed with it, in order (T-32).
#[test]
fn t31_only_the_current_term_commits_by_counting() {
    let mut net = Net::lone_leader(5, Image::of_terms(&[1, 2, 2]), |_| {});
    assert_eq!((net.term(0), net.last_index(0)), (3, Index(4)));
    for puppet in 1..5 {
        net.say(puppet, 0, 3, reply(1, 3));
    }
    assert_eq!(net.commit(0), 0, "on all five, and yet a later leader may replace it");
    net.say(1, 0, 3, reply(1, 4));
    assert_eq!(net.commit(0), 0, "two of five hold the no-op");
    net.say(2, 0, 3, reply(1, 4));
    assert_eq!(net.commit(0), 4);
}

/// Figure 8 with real nodes: an old entry on a majority may be replaced (d), and may not once an entry of the leader's own
/// term is behind it on a majority (e).
#[test]
fn t31_figure_8() {
    let d: [&[u64]; 5] = [&[1, 2, 4], &[1, 2], &[1, 2], &[1], &[1, 3]];
    let e: [&[u64]; 5] = [&[1, 2, 4], &[1, 2, 4], &[1, 2, 4], &[1], &[1, 3]];
    for (logs, s5_leads) in [(d, true), (e, false)] {
        let mut images = logs.map(Image::of_terms);
        for image in &mut images {
            image.hard_state.term = Term(4);
        }
        let mut net = Net::with(&images, |_| {});
        net.crash(0);
        net.crash(1);
        net.campaign(4);
        assert_eq!(net.raft(4).is_leader(), s5_leads);
        net.restart(0);
        net.restart(1);
        net.run(ET.times(4));
        net.assert_converged();
        let expected: &[u64] = if s5_leads { &[1, 3] } else { &[1, 2, 4] };
        assert!(net.terms(3).starts_with(expected), "{:?}", net.terms(3));
    }
}

/// The entries before the no-op are committed with it and applied in order.
#[test]
fn t32_preceding_entries_commit_together() {
    let mut net = Net::with_logs(&[&[1, 1, 2, 2], &[1], &[1, 1]]);
    net.elect(0);
    assert_eq!(net.commit(0), 5);
    let applied: Vec<u64> = net.node(0).applied.iter().map(|entry| entry.header.id.index.0).collect();
    assert_eq!(applied, [1, 2, 3, 4, 5]);
}

fn rejections_of(net: &Net, node: u32) -> usize {
    let rejects = |envelope: &&Envelope| {
        envelope.from.0 == node && matches!(&envelope.message, Message::AppendReply(reply) if reply.reject.is_some())
    };
    net.sent.iter().filter(rejects).count()
}

/// The six followers of figure 7 become equal to the leader, each after at most one refusal.
#[test]
fn t33_figure_7_repair() {
    let leader: &[u64] = &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    // (name, log, refusals)
    let followers: [(&str, &[u64], usize); 6] = [
        ("a", &[1, 1, 1, 4, 4, 5, 5, 6, 6], 1),
        ("b", &[1, 1, 1, 4], 1),
        ("c", &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6], 0),
        ("d", &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7], 0),
        ("e", &[1, 1, 1, 4, 4, 4, 4], 1),
        ("f", &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3], 1),
    ];
    let mut images = vec![Image::of_terms(leader)];
    images.extend(followers.iter().map(|(_, log, _)| Image::of_terms(log)));
    for image in &mut images {
        image.hard_state.term = Term(7);
    }
    let mut net = Net::with(&images, |_| {});
    net.elect(0);
    net.settle();
    for ((name, _, expected), node) in followers.iter().zip(1..) {
        assert_eq!(net.terms(node), [leader, &[8]].concat(), "{name}");
        assert_eq!(rejections_of(&net, node), *expected, "{name}");
    }
    net.run(HB);
    net.assert_converged();
}

/// Thousands of entries of a few terms that differ cost a refusal per term, whichever side holds the higher ones.
#[test]
fn t33_a_long_divergence_costs_round_trips_per_term() {
    let long = |terms: &[u64]| -> Vec<u64> {
        let mut log = vec![1; 100];
        log.extend(terms.iter().flat_map(|term| std::iter::repeat_n(*term, 500)));
        log
    };
    let table: [(&[u64], &[u64]); 4] =
        [(&[3, 5, 7, 9], &[2, 4, 6, 8]), (&[2, 9], &[5]), (&[2, 3, 9], &[5, 6]), (&[9], &[2, 3, 4, 5])];
    for (ours, theirs) in table {
        let mut images = [ours, theirs, ours].map(|terms| Image::of_terms(&long(terms)));
        for image in &mut images {
            image.hard_state.term = Term(9);
        }
        let mut net = Net::with(&images, |_| {});
        net.elect(0);
        net.run(HB.times(2));
        net.assert_converged();
        let refusals = rejections_of(&net, 1);
        assert!((1..=ours.len() + 1).contains(&refusals), "{refusals} refusals: {ours:?} {theirs:?}");
    }
}

/// A full window arrives in any order, some of it twice: the log is right, and nothing that was matched is lost.
#[test]
fn t34_reordered_and_duplicated_appends() {
    for seed in 0..200 {
        let mut dice = Dice::new(seed);
        let mut net = Net::with(&vec![Image::default(); 3], |settings| settings.inflight_messages_max = 8);
        net.elect(0);
        net.held.insert((0, 1));
        for _ in 0..8 {
            net.propose(0, "entry").expect("leads");
        }
        net.settle();
        let mut window = std::mem::take(&mut net.waiting);
        assert!(window.len() >= 8);
        let mut matched = 0;
        for _ in 0..24 {
            let position = dice.below(window.len());
            net.arrive(window[position].clone());
            if dice.one_in(3) {
                window.swap_remove(position);
            }
            net.persist(1);
            let longest = net.node(1).durable.entries.len();
            assert!(longest >= matched, "an old append truncated");
            matched = longest;
            if window.is_empty() {
                break;
            }
        }
        net.release(0, 1);
        net.run(HB.times(4));
        net.assert_converged();
    }
}

/// A late append that the log already holds removes nothing behind it.
#[test]
fn t35_old_append_must_not_truncate() {
    let log = Image::of_terms(&[1, 1, 2, 2, 2, 2, 2, 2, 2, 2]);
    let mut net = Net::lone(3, log.clone());
    net.say(1, 0, 2, log.append(11, 10, 1, 0));
    net.settle();
    for (first, last) in [(4, 5), (1, 3), (4, 3), (10, 10), (1, 10)] {
        net.say(1, 0, 2, log.append(first, last, 1, 0));
        net.settle();
        assert_eq!(net.raft(0).last(), id(2, 10), "after entries {first}..={last}");
        assert_eq!(net.node(0).durable.entries.len(), 10);
    }
}

/// A conflict removes exactly what conflicts, and the durable mark falls before anything is acknowledged.
#[test]
fn t36_conflict_truncates_exactly() {
    let leader = Image::of_terms(&[1, 1, 2, 3, 3, 3]);
    // Entries 3..=6 arrive together: 3 is already there, 4 and 5 differ.
    let mut net = Net::lone(3, Image::of_terms(&[1, 1, 2, 2, 2]));
    net.node_mut(0).disk_held = true;
    net.say(1, 0, 3, leader.append(3, 6, 1, 0));
    assert_eq!(net.terms(0), [1, 1, 2, 3, 3, 3]);
    assert_eq!(net.raft(0).durable_index(), Index(3), "entries 4 to 6 are being written");
    net.settle();
    assert!(net.mail(1).is_empty(), "the term is not durable either");
    net.release_disk(0);
    net.settle();
    let mail = net.mail(1);
    let Message::AppendReply(last) = &mail.last().expect("acknowledged").message else { panic!("{mail:?}") };
    assert_eq!((last.matched, net.raft(0).durable_index()), (Index(6), Index(6)));
    assert_eq!(net.node(0).durable.last(), id(3, 6));
}

/// However large the leader's commit index, a follower's goes no further than what was verified against that leader.
#[test]
fn t37_commit_is_at_most_what_matched() {
    let leader = Image::of_terms(&[1, 1, 3, 3]);
    let table = [
        (heartbeat(1, 100), 0),
        (leader.append(1, 0, 1, 100), 0),
        (leader.append(2, 1, 1, 100), 1),
        (leader.append(2, 2, 1, 100), 2),
        (leader.append(2, 3, 1, 100), 3),
        (leader.append(3, 4, 1, 100), 4),
        (leader.append(3, 4, 1, 1), 1),
        (leader.append(4, 4, 1, 100), 0),
    ];
    for (message, commit) in table {
        let mut net = Net::lone(3, Image::of_terms(&[1, 1, 2, 2, 2]));
        net.say(1, 0, 3, message.clone());
        net.settle();
        assert_eq!(net.commit(0), commit, "{message:?}");
    }
}

/// The commit index never falls while a node lives; a restart begins lower and applies the same again.
#[test]
fn t38_commit_never_decreases() {
    let log = Image::of_terms(&[1, 1, 1]);
    let mut net = Net::lone(3, log.clone());
    net.say(1, 0, 1, log.append(4, 3, 1, 3));
    for message in [heartbeat(2, 1), log.append(2, 2, 2, 1), log.append(4, 3, 3, 2), heartbeat(1, 0)] {
        net.say(1, 0, 1, message);
        assert_eq!(net.commit(0), 3);
    }
    let before = net.node(0).applied.clone();
    net.settle();
    net.crash(0);
    net.start(0);
    assert_eq!((net.commit(0), net.node(0).applied.len()), (0, 0));
    net.say(1, 0, 1, log.append(4, 3, 4, 3));
    assert_eq!(net.node(0).applied, before);
}

/// A follower that missed the news of a commit learns it within a heartbeat and half a round trip.
#[test]
fn t39_lagging_commit_is_bounded() {
    let mut net = Net::cluster(3);
    net.elect(0);
    net.run(HB);
    net.latency = Span::millis(5);
    net.propose(0, "news").expect("leads");
    net.run(Span::millis(6));
    net.lossy.insert((0, 2));
    net.run(Span::millis(20));
    assert!(net.commit(0) == 2 && net.commit(2) == 1, "committed, and 2 has it and does not know");
    assert_eq!(net.last_index(2), Index(2));
    net.lossy.clear();
    let took = net.run_until(HB.times(3), "commit at 2", |net| net.commit(2) == 2);
    assert!(took <= HB + Span::millis(5 + 1), "{} ms", took.as_millis());
}

/// An acknowledgement counts once, however often it comes.
#[test]
fn t40_acks_counted_once() {
    let mut net = Net::lone_leader(5, Image::default(), |_| {});
    for round in [1, 1, 1, 1, 1] {
        net.say(1, 0, 1, reply(round, 1));
    }
    assert_eq!(net.commit(0), 0);
    net.say(2, 0, 1, reply(1, 1));
    assert_eq!(net.commit(0), 1);
}

/// Acknowledgements of strangers, of other terms, of what was never sent, change nothing.
#[test]
fn t41_ack_of_a_stranger_is_ignored() {
    let mut net = Net::lone_leader(3, Image::of_terms(&[4]), |_| {});
    let term = net.term(0);
    for stranger in [3, 9] {
        net.say(stranger, 0, term, reply(1, 2));
        net.say(stranger, 0, term + 1, reply(1, 2));
    }
    net.say(1, 0, term - 1, reply(1, 2));
    net.say(1, 0, term, reply(1, 3));
    net.say(1, 0, term, reply(99, 2));
    net.say(1, 0, term, rejection(1, 77, id(3, 60)));
    assert_eq!((net.commit(0), net.leader(), net.term(0)), (0, Some(0), term));
    net.say(1, 0, term, reply(1, 2));
    assert_eq!(net.commit(0), 2);
}

fn appends_to(net: &Net, node: u32) -> Vec<usize> {
    let entries = |envelope: &Envelope| match &envelope.message {
        Message::AppendEntries(append) if envelope.to == NodeId(node) => Some(append.entries.len()),
        _ => None,
    };
    net.sent.iter().filter_map(entries).collect()
}

/// A window of four, all lost: empty probes keep going, and when messages arrive again the window is sent anew at once.
#[test]
fn t43_full_pipeline_pause_and_resume() {
    let mut net = Net::with(&vec![Image::default(); 3], |settings| settings.inflight_messages_max = 4);
    net.elect(0);
    net.run(HB);
    net.sent.clear();
    net.lossy.insert((0, 2));
    for _ in 0..10 {
        net.propose(0, "lost").expect("leads");
        net.settle();
    }
    net.run(HB.times(3));
    assert_eq!(appends_to(&net, 2).iter().sum::<usize>(), 4, "no more than the window");
    assert_eq!(net.commit(0), 11);
    net.lossy.clear();
    net.sent.clear();
    let took = net.run_until(HB.times(3), "repair", |net| net.last_index(2) == Index(11));
    assert!(took <= HB + Span::millis(1), "one heartbeat finds the loss: {} ms", took.as_millis());
    let appends = appends_to(&net, 2);
    assert_eq!(appends[0], 0, "an empty one finds the loss: {appends:?}");
    assert_eq!(appends.iter().sum::<usize>(), 10, "each entry again, once: {appends:?}");
}

/// A follower that lacks nothing is streamed to again after its link was lost, without a new entry.
#[test]
fn t44_recover_from_probing_when_idle() {
    let mut net = Net::cluster(3);
    net.elect(0);
    net.run(HB.times(2));
    net.cut(0, 2);
    net.heal(0, 2);
    // Not even a heartbeat is needed: the follower tells its marks again, as the last answer may be lost.
    net.settle();
    net.sent.clear();
    net.held.insert((2, 0));
    for _ in 0..3 {
        net.propose(0, "streamed").expect("leads");
    }
    assert_eq!(appends_to(&net, 2), [1, 1, 1], "a probe would have waited for its answer");
}

/// What was lost with a connection is sent again as soon as there is a new one, without a heartbeat.
#[test]
fn t43_a_window_that_was_lost_with_its_connection() {
    let mut net = Net::cluster(3);
    net.elect(0);
    net.run(HB.times(2));
    net.held.insert((0, 2));
    for _ in 0..3 {
        net.propose(0, "lost").expect("leads");
    }
    net.settle();
    net.held.clear();
    net.cut(0, 2);
    net.heal(0, 2);
    net.settle();
    assert_eq!((net.last_index(2), net.commit(2)), (Index(4), 4));
}

/// A refusal that comes twice is answered once: a probing peer has one checked message outstanding.
#[test]
fn t33_a_repeated_refusal_starts_no_second_probe() {
    let mut net = Net::lone_leader(3, Image::of_terms(&[1, 2, 3, 4]), |_| {});
    net.say(1, 0, 5, rejection(1, 4, id(2, 2)));
    assert_eq!(net.mail(1).len(), 1);
    for _ in 0..3 {
        net.say(1, 0, 5, rejection(1, 4, id(2, 2)));
        net.say(1, 0, 5, rejection(1, 3, id(2, 2)));
    }
    assert!(net.mail(1).is_empty(), "that question was answered");
    net.say(1, 0, 5, rejection(1, 2, id(1, 1)));
    assert_eq!(appends_to(&net, 1).last(), Some(&4));
}

/// Entries that are not in memory are read from the log, by pieces, with the chain of the entry before.
#[test]
fn c09_a_lagging_follower_gets_old_entries_from_the_log() {
    let mut net = Net::with(&vec![Image::default(); 3], |settings| {
        settings.tail_bytes_max = 200;
        settings.append_bytes_max = 1000;
    });
    net.elect(0);
    net.crash(2);
    for _ in 0..100 {
        net.propose_bytes(0, Bytes::from(vec![7; 100])).expect("leads");
        net.settle();
    }
    net.restart(2);
    net.run(HB.times(5));
    net.assert_converged();
}

static BIG: [u8; 300_000] = [7; 300_000];

/// So many entries of term 1.
fn log_of(entries: usize, body: &'static [u8]) -> Image {
    let mut log = Image::default();
    for _ in 0..entries {
        log.entries.push(entry_after(log.last(), log.chain(), Term(1), body));
    }
    log.hard_state.term = Term(1);
    log
}

/// A read of the log that was asked for before a refusal moved the follower's mark back brings nothing that fits: it is
/// asked for anew, and only entries that continue the previous one are sent.
#[test]
fn c09_a_read_that_no_longer_fits_is_not_sent() {
    let mut net = Net::lone_leader(3, log_of(12, &BIG), |settings| {
        settings.tail_bytes_max = 0;
        settings.append_bytes_max = 200;
    });
    net.say(1, 0, 2, reply(1, 13));
    net.settle();
    assert_eq!(net.commit(0), 13, "everything is durable, applied and out of memory");
    // Node 2 holds nothing. Three entries come with one read, and are sent; the read of the next ones is under way.
    net.say(2, 0, 2, rejection(1, 12, id(0, 0)));
    net.settle();
    net.say(2, 0, 2, reply(1, 0));
    net.node_mut(0).wishes_held = true;
    net.run(HB.times(5));
    assert_eq!(net.node(0).wishes.front().map(|wish| wish.from), Some(Index(4)));
    // They were lost.
    net.say(2, 0, 2, rejection(2, 3, id(0, 0)));
    net.mail.clear();
    net.node_mut(0).wishes_held = false;
    net.run(HB.times(2));
    let mail = net.mail(2);
    let mut sent = 0;
    for envelope in &mail {
        let Message::AppendEntries(append) = &envelope.message else { continue };
        let first = append.entries.first().map(|entry| entry.header.id.index);
        assert!(first.is_none_or(|first| first == append.previous.index.next()), "a hole behind {:?}", append.previous);
        sent += append.entries.len();
    }
    assert!(sent > 0);
}

static HALF: [u8; 1_100_000] = [7; 1_100_000];

/// The place where a follower's log agrees lies between two entries that no single read brings together: the chain of the
/// first must not be forgotten while the second is read, or the follower waits for ever.
#[test]
fn c09_a_chain_is_kept_while_the_entry_behind_it_is_read() {
    let mut net = Net::lone_leader(3, log_of(4, &HALF), |settings| settings.tail_bytes_max = 0);
    net.say(1, 0, 2, reply(1, 5));
    net.settle();
    assert_eq!(net.commit(0), 5, "everything is durable, applied and out of memory");
    net.mail.clear();
    net.say(2, 0, 2, rejection(1, 4, id(1, 2)));
    net.run(HB.times(5));
    let mail = net.mail(2);
    let mut asked = mail.iter().filter_map(|envelope| match &envelope.message {
        Message::AppendEntries(append) if !append.heartbeat => Some(append.previous.index),
        _ => None,
    });
    assert_eq!(asked.next(), Some(Index(2)), "a question about entry 2");
    assert!(asked.all(|previous| previous == Index(2)));
    net.say(2, 0, 2, reply(1, 2));
    net.run(HB.times(2));
    assert!(appends_to(&net, 2).contains(&1), "entry 3 follows");
}

/// A read that was asked for in an earlier leadership may bring entries that were replaced since: it is dropped (the net
/// checks that a leader sends its own log).
#[test]
fn c09_a_read_of_an_earlier_term_is_dropped() {
    let mut net = Net::stopped(&[Image::of_terms(&[1; 5]), Image::default(), Image::default()], |_| {});
    for puppet in [1, 2] {
        net.node_mut(puppet).puppet = true;
    }
    net.node_mut(0).tail = 0;
    net.start(0);
    let lead = |net: &mut Net, term: u64| {
        net.time_out(0);
        net.say(1, 0, term, Message::PreVoteReply { granted: true });
        net.settle();
        net.say(1, 0, term, Message::RequestVoteReply { granted: true });
        net.settle();
        assert!(net.raft(0).is_leader());
    };
    lead(&mut net, 2);
    net.node_mut(0).wishes_held = true;
    net.say(2, 0, 2, rejection(1, 5, id(1, 1)));
    let wish = net.node_mut(0).wishes.pop_front().expect("entries behind 1");
    let old = net.node(0).durable.read(&wish);
    // Another leader replaces entry 3 and what follows; then node 0 leads again.
    net.say(1, 0, 3, Image::of_terms(&[1, 1, 3]).append(3, 3, 1, 0));
    net.settle();
    assert_eq!(net.terms(0), [1, 1, 3]);
    lead(&mut net, 4);
    net.say(2, 0, 4, rejection(1, 3, id(1, 1)));
    assert_eq!(net.node(0).wishes.len(), 1);
    net.mail.clear();
    net.input(0, Input::LogRead(old));
    assert!(appends_to(&net, 2).last().is_some_and(|entries| *entries <= 1));
    assert!(net.mail(2).is_empty(), "waits for the read of its own term");
    net.answer_wish(0);
    assert_eq!(net.mail(2).len(), 1);
}

/// An answer that arrives between a read of the log and the next message does not throw the read away.
#[test]
fn c09_a_read_for_the_chain_survives_an_answer() {
    let mut net = Net::lone_leader(3, Image::of_terms(&[1; 20]), |settings| settings.tail_bytes_max = 0);
    net.say(1, 0, 2, reply(1, 21));
    net.settle();
    net.node_mut(0).wishes_held = true;
    net.say(2, 0, 2, rejection(1, 20, id(1, 10)));
    let wish = net.node_mut(0).wishes.pop_front().expect("asks for the chain at 10");
    let now = net.clock(0);
    let read = net.node(0).durable.read(&wish);
    let answer = Envelope { message: reply(1, 0), ..net.sent.last().expect("sent").clone() };
    let answer = Envelope { from: NodeId(2), to: NodeId(0), term: Term(2), ..answer };
    let raft = net.node_mut(0).raft.as_mut().expect("alive");
    raft.step(now, Input::LogRead(read));
    raft.step(now, Input::Message(answer));
    net.mail.clear();
    net.turn(0);
    assert!(net.node(0).wishes.is_empty(), "asks for nothing again: {:?}", net.node(0).wishes);
    assert_eq!(net.mail(2).len(), 1, "the entries go out");
}

/// What a leader says to node 1 about its commit index, since the last call.
fn told_commits(net: &mut Net) -> Vec<(u64, usize)> {
    let appends = net.mail(1).into_iter().filter_map(|envelope| match envelope.message {
        Message::AppendEntries(append) if !append.heartbeat => Some((append.commit.0, append.entries.len())),
        _ => None,
    });
    appends.collect()
}

/// A risen commit index rides on the next entries; without any it is told on its own, once, after a moment.
#[test]
fn a_commit_is_told_with_entries_or_alone_after_a_moment() {
    let notice = Span::micros(500);
    let mut net = Net::lone_leader(3, Image::default(), |settings| settings.commit_notice = notice);
    net.say(1, 0, 1, reply(0, 1));
    assert_eq!(net.commit(0), 1);
    told_commits(&mut net);
    net.propose(0, "a").expect("it leads");
    net.turn(0);
    assert_eq!(told_commits(&mut net), [(1, 1)], "the entry brings the news of the commit before it");
    assert!(net.persist(0));
    net.say(1, 0, 1, reply(0, 2));
    assert_eq!(net.commit(0), 2);
    assert_eq!(told_commits(&mut net), [], "nothing goes at once");
    assert!(net.raft(0).next_deadline() <= net.clock(0) + notice, "it is not forgotten");
    net.run(notice);
    assert_eq!(told_commits(&mut net), [(2, 0)]);
    net.run(notice.times(4));
    assert_eq!(told_commits(&mut net), [], "once");
}

/// One follower cannot be told yet, because its previous entry is still being read from the log: the others hear as soon as ever.
#[test]
fn a_follower_that_cannot_be_told_a_commit_holds_up_no_other() {
    let notice = Span::micros(500);
    let mut net = Net::lone_leader(3, Image::of_terms(&[1; 20]), |settings| {
        (settings.tail_bytes_max, settings.commit_notice) = (0, notice);
    });
    net.say(1, 0, 2, reply(1, 21));
    net.settle();
    net.node_mut(0).wishes_held = true;
    net.say(2, 0, 2, rejection(1, 20, id(1, 10)));
    net.say(2, 0, 2, reply(1, 10));
    net.run(notice.times(2));
    assert!(!net.node(0).wishes.is_empty(), "node 2's entries are being read");
    net.propose(0, "a").expect("it leads");
    assert!(net.persist(0));
    net.say(1, 0, 2, reply(1, 22));
    assert_eq!(net.commit(0), 22);
    told_commits(&mut net);
    net.run(notice);
    assert_eq!(told_commits(&mut net), [(22, 0)]);
}
