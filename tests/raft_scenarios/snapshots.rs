//! T-81 to T-89, L-10: snapshots, compaction and restarts on what they leave.

use protocol::message::{Envelope, Message};
use protocol::{Index, NodeId, Term};
use raftkv::limits;
use raftkv::raft::{Input, Installed, LogRead, LogReadResult, ReadPurpose, Role};
use raftkv::time::Span;

use super::net::Net;
use super::node::{entry_after, id, Image, Snapshot, ET, HB};

fn three(tune: impl Fn(&mut raftkv::raft::Settings)) -> Net {
    let mut net = Net::with(&vec![Image::default(); 3], tune);
    net.elect(0);
    net.run(HB);
    net
}

/// Node 0 leads and node 1 follows; node 2 is away, and lacks what is no longer in the leader's log.
fn left_behind() -> Net {
    left_behind_for(HB)
}

/// The same, with this much patience.
fn left_behind_for(patience: Span) -> Net {
    let mut net = three(|settings| settings.snapshot_patience = patience);
    net.isolate(2);
    net.run(patience + HB);
    net.snapshot_twice(0);
    assert!(base(&net, 0) > net.last_index(2).0, "the log is cut off behind what node 2 has");
    net
}

/// Where a node's log begins.
fn base(net: &Net, node: u32) -> u64 {
    net.node(node).handed.base.id.index.0
}

/// Offers among messages.
fn offers(mail: &[Envelope]) -> Vec<u64> {
    let offers = mail.iter().filter_map(|envelope| match &envelope.message {
        Message::InstallSnapshot(offer) => Some(offer.last.index.0),
        _ => None,
    });
    offers.collect()
}

/// The marks `matched` of the replies that a puppet has received.
fn marks(net: &mut Net, puppet: u32) -> Vec<u64> {
    let mail = net.mail(puppet);
    let marks = mail.iter().filter_map(|envelope| match &envelope.message {
        Message::AppendReply(reply) => Some(reply.matched.0),
        _ => None,
    });
    marks.collect()
}

/// A follower with this log and commit index, and puppet 1, whose log is `theirs` and whose snapshot ends at `end`.
fn follower(own: Image, theirs: &Image, end: usize) -> (Net, Snapshot) {
    let mut net = Net::lone(3, own);
    let snapshot = Snapshot::of(&theirs.entries[..end]);
    for entry in &theirs.entries {
        net.checker.entry_handed(entry.header.id, entry.header.chain);
    }
    let committed = theirs.entries[..end].iter().map(|entry| (entry.header.id, entry.header.id.term));
    net.checker.committed = committed.collect();
    net.node_mut(1).snapshots.push(snapshot.clone());
    (net, snapshot)
}

fn offer(net: &mut Net, term: u64, snapshot: &Snapshot) {
    net.say(1, 0, term, Message::InstallSnapshot(snapshot.offer()));
}

// --- T-82 ---

/// An empty follower takes the snapshot; it acknowledges it when the log's restart is durable, and goes on behind it.
#[test]
fn t82_snapshot_to_an_empty_follower() {
    let theirs = Image::of_terms(&[1, 1, 1, 2, 2, 2, 2]);
    let (mut net, snapshot) = follower(Image::default(), &theirs, 5);
    offer(&mut net, 2, &snapshot);
    net.settle();
    assert_eq!(net.installed, [Installed::Restarted]);
    assert_eq!(marks(&mut net, 1), [5]);
    let raft = net.raft(0);
    assert_eq!((raft.commit_index(), raft.applied_index(), raft.last()), (Index(5), Index(5), id(2, 5)));
    assert_eq!(net.node(0).applied, theirs.entries[..5]);
    net.say(1, 0, 2, theirs.append(6, 7, 1, 7));
    net.settle();
    assert_eq!(marks(&mut net, 1).last(), Some(&7));
    assert_eq!(net.node(0).applied, theirs.entries);
}

/// C-10, C-11: nothing of it is acknowledged before the Base is durable, whatever completes before.
#[test]
fn t82_a_snapshot_is_acknowledged_when_its_base_is_durable() {
    let theirs = Image::of_terms(&[1, 1, 1, 2, 2, 2, 2]);
    let (mut net, snapshot) = follower(Image::of_terms(&[1]), &theirs, 5);
    offer(&mut net, 2, &snapshot);
    net.node_mut(0).fetch_held = true;
    net.settle();
    net.node_mut(0).disk_held = true;
    // Entries of the old log are on their way to the disk when the snapshot takes its place.
    net.say(1, 0, 2, theirs.append(2, 3, 1, 0));
    net.node_mut(0).fetch_held = false;
    net.settle();
    assert_eq!(net.installed, [Installed::Restarted]);
    net.say(1, 0, 2, theirs.append(6, 7, 2, 7));
    net.mail(1);
    assert_eq!(net.node(0).pending.len(), 3, "old entries, the restart, new entries");
    net.persist(0);
    assert_eq!((marks(&mut net, 1), net.raft(0).durable_index()), (vec![], Index(0)), "the old log's");
    net.persist(0);
    assert_eq!((marks(&mut net, 1), net.raft(0).durable_index()), (vec![5], Index(5)));
    net.persist(0);
    assert_eq!((marks(&mut net, 1), net.raft(0).durable_index()), (vec![7], Index(7)));
}

/// C-10: completions of the old log's writes, longer than the snapshot, say nothing about the new log.
#[test]
fn t82_writes_of_the_old_log_do_not_count_for_the_new_one() {
    let (theirs, old) = (Image::of_terms(&[1, 1, 2, 2, 2, 2]), Image::of_terms(&[1; 10]));
    let own = Image { entries: old.entries[..8].to_vec(), ..old.clone() };
    let (mut net, snapshot) = follower(own, &theirs, 5);
    net.node_mut(0).disk_held = true;
    net.say(2, 0, 1, old.append(9, 9, 1, 0));
    net.say(2, 0, 1, old.append(10, 10, 2, 0));
    net.node_mut(0).fetch_held = true;
    offer(&mut net, 3, &snapshot);
    assert_eq!(net.node(0).pending.len(), 3, "entry 9, entry 10, the newer term");
    let completed = net.complete(0);
    assert_eq!(net.deliver_snapshot_with(0, snapshot, completed), Installed::Restarted);
    net.say(1, 0, 3, super::node::heartbeat(1, 0));
    for _ in 0..3 {
        assert_eq!(net.raft(0).durable_index(), Index(0), "nothing of the old log was known to be committed");
        net.persist(0);
    }
    assert_eq!((net.raft(0).durable_index(), marks(&mut net, 1).last().copied()), (Index(5), Some(5)));
}

/// A log that ends before the snapshot, or conflicts with it, is dropped, whatever length it has.
#[test]
fn t82_snapshot_to_a_lagging_or_conflicting_follower() {
    let theirs = Image::of_terms(&[1, 1, 2, 2, 2, 2]);
    for own in [&[1, 1][..], &[1, 1, 2], &[1, 1, 1, 1, 1], &[1, 1, 1, 1, 1, 1, 1, 1]] {
        let (mut net, snapshot) = follower(Image::of_terms(own), &theirs, 5);
        offer(&mut net, 3, &snapshot);
        net.settle();
        assert_eq!(net.installed, [Installed::Restarted], "{own:?}");
        assert_eq!((net.raft(0).last(), net.commit(0)), (id(2, 5), 5), "{own:?}");
        assert_eq!(marks(&mut net, 1).last(), Some(&5), "{own:?}");
        assert!(net.node(0).durable.entries.is_empty(), "nothing of the old log replays: {own:?}");
        net.say(1, 0, 3, theirs.append(6, 6, 1, 6));
        net.settle();
        assert_eq!(net.node(0).applied, theirs.entries, "{own:?}");
    }
}

/// A log that holds the snapshot's last entry needs no file: the offer alone says that so much is committed.
#[test]
fn t82_a_log_that_matches_needs_no_snapshot() {
    let theirs = Image::of_terms(&[1, 1, 2, 2, 2, 2]);
    let (mut net, snapshot) = follower(theirs.clone(), &theirs, 5);
    offer(&mut net, 3, &snapshot);
    net.settle();
    assert!(net.node(0).fetches.is_empty());
    assert_eq!((net.raft(0).last(), net.commit(0)), (id(2, 6), 5), "the tail stays");
    assert_eq!(marks(&mut net, 1).last(), Some(&5));
}

/// The entries come while the file travels: the tail behind the snapshot stays.
#[test]
fn t82_a_tail_that_matches_stays() {
    let theirs = Image::of_terms(&[1, 1, 2, 2, 2, 2]);
    let (mut net, snapshot) = follower(Image::of_terms(&[1, 1]), &theirs, 5);
    net.node_mut(0).fetch_held = true;
    offer(&mut net, 3, &snapshot);
    net.settle();
    net.say(2, 0, 4, theirs.append(3, 6, 1, 0));
    net.settle();
    net.node_mut(0).fetch_held = false;
    net.settle();
    assert_eq!(net.installed, [Installed::KeptTail]);
    let raft = net.raft(0);
    assert_eq!((raft.last(), raft.commit_index(), raft.applied_index()), (id(2, 6), Index(5), Index(5)));
    net.say(2, 0, 4, theirs.append(7, 6, 2, 6));
    net.settle();
    assert_eq!(net.node(0).applied, theirs.entries);
}

/// A follower that has committed more ignores the snapshot and says what it has, verified by nothing else in this term.
#[test]
fn t82_an_older_snapshot_is_ignored_and_answered_with_the_commit_index() {
    let theirs = Image::of_terms(&[1, 1, 2, 2, 2, 2]);
    let (mut net, snapshot) = follower(theirs.clone(), &theirs, 4);
    net.checker.committed.extend(theirs.entries[4..].iter().map(|entry| (entry.header.id, Term(2))));
    net.say(2, 0, 3, theirs.append(7, 6, 1, 6));
    net.settle();
    assert_eq!(net.node(0).applied.len(), 6);
    offer(&mut net, 4, &snapshot);
    net.settle();
    assert!(net.node(0).fetches.is_empty());
    assert_eq!(marks(&mut net, 1).last(), Some(&6));
    assert_eq!(net.deliver_snapshot(0, snapshot), Installed::Ignored, "also if the file itself comes");
    assert_eq!((net.node(0).applied.len(), net.raft(0).last()), (6, id(2, 6)));
}

/// A damaged log is not taken for the leader's.
#[test]
fn t82_chains_that_differ_stop_the_node() {
    let theirs = Image::of_terms(&[1, 1, 2]);
    let (mut net, snapshot) = follower(theirs.clone(), &theirs, 3);
    let mut other = snapshot.offer();
    other.chain.0 += 1;
    net.say(1, 0, 3, Message::InstallSnapshot(other));
    assert!(net.node(0).stop.as_ref().is_some_and(|stop| stop.contains("chains differ")));
}

/// An AppendEntries from before the log's beginning concerns only what is committed: it is answered with that.
#[test]
fn t82_an_append_below_the_base_is_answered_with_the_commit_index() {
    let theirs = Image::of_terms(&[1, 1, 2, 2, 2, 2]);
    let (mut net, snapshot) = follower(Image::default(), &theirs, 5);
    offer(&mut net, 3, &snapshot);
    net.settle();
    net.mail(1);
    net.say(2, 0, 4, theirs.append(2, 6, 1, 6));
    net.settle();
    assert_eq!(marks(&mut net, 2).last(), Some(&5));
    assert_eq!((net.raft(0).last(), net.node(0).stop.clone()), (id(2, 5), None));
}

// --- T-81 ---

/// Power is lost between any two steps of an installation: the file, then term and vote, the Base, entries. Whatever
/// is left can be started, holds the snapshot from the moment it was durable, and keeps the vote.
#[test]
fn t81_crash_between_the_steps_of_one_persist_batch() {
    let theirs = Image::of_terms(&[1, 1, 2, 2, 2, 2, 2]);
    for own in [&[1][..], &[1, 1, 1, 1, 1, 1, 1, 1, 1]] {
        for step in 0..6 {
            let (mut net, snapshot) = follower(Image::of_terms(own), &theirs, 5);
            net.node_mut(0).fetch_held = true;
            offer(&mut net, 3, &snapshot);
            net.settle();
            net.node_mut(0).disk_held = true;
            if step > 0 {
                // One batch: a vote in a newer term, the file, and its leader's first entries.
                net.say(1, 0, 4, Message::RequestVote { last: id(3, 9), transfer: true });
                net.deliver_snapshot(0, snapshot.clone());
                net.say(1, 0, 4, theirs.append(6, 7, 1, 7));
            }
            let (appends, records) = match step {
                0 | 1 => (0, None),
                2 => (1, Some(0)),
                3 => (1, Some(1)),
                4 => (2, Some(0)),
                _ => (2, Some(1)),
            };
            net.crash_with(0, appends, records);
            net.node_mut(0).disk_held = false;
            net.start(0);
            net.turn(0);
            let raft = net.raft(0);
            let expected = if step == 0 { 0 } else { 5 };
            assert_eq!(raft.commit_index(), Index(expected), "{own:?}, step {step}");
            assert_eq!(net.node(0).applied, theirs.entries[..expected as usize], "{own:?}, step {step}");
            if step > 1 {
                assert_eq!((raft.term(), raft.hard_state().vote), (Term(4), Some(NodeId(1))), "step {step}");
            }
            if step > 0 {
                assert!(raft.last() >= id(2, 5), "{own:?}, step {step}: {:?}", raft.last());
            }
            net.say(1, 0, 4, theirs.append(6, 7, 2, 7));
            net.settle();
            let reached = if step == 0 { 0 } else { 7 };
            assert_eq!(net.node(0).applied.len(), reached, "{own:?}, step {step}");
        }
    }
}

// --- T-84, T-85 ---

/// etcd#18055: a second snapshot while the first is on its way, a file twice, and one's own that is finished too late.
#[test]
fn t84_two_snapshots_at_once() {
    let theirs = Image::of_terms(&[1, 1, 1, 1, 1, 1, 1]);
    let (mut net, older) = follower(Image::of_terms(&[1]), &theirs, 5);
    let newer = Snapshot::of(&theirs.entries[..7]);
    net.checker.committed.extend(theirs.entries[5..].iter().map(|entry| (entry.header.id, Term(1))));
    net.node_mut(1).snapshots.push(newer.clone());
    net.node_mut(0).fetch_held = true;
    offer(&mut net, 2, &older);
    offer(&mut net, 2, &newer);
    offer(&mut net, 2, &older);
    net.settle();
    assert_eq!(net.node(0).fetches.len(), 1, "one at a time");
    let mut both = net;
    both.node_mut(0).fetch_held = false;
    both.settle();
    offer(&mut both, 2, &newer);
    both.settle();
    assert_eq!(both.node(0).fetches.len(), 2);
    assert_eq!(both.installed, [Installed::Restarted, Installed::Restarted]);
    assert_eq!(both.deliver_snapshot(0, newer.clone()), Installed::Ignored, "the same file again");
    assert_eq!(both.deliver_snapshot(0, older.clone()), Installed::Ignored, "the older one again");
    both.node_mut(0).raft.as_mut().expect("alive").snapshot_taken(older.end, older.bytes());
    both.turn(0);
    both.settle();
    assert_eq!((both.commit(0), base(&both, 0), both.node(0).stop.clone()), (7, 7, None));
}

/// Both arrive before the log has taken the first: only the second counts, and both Bases are one write.
#[test]
fn t84_two_files_in_one_batch() {
    let theirs = Image::of_terms(&[1, 1, 1, 1, 1, 1, 1]);
    let (mut net, older) = follower(Image::of_terms(&[1]), &theirs, 5);
    let newer = Snapshot::of(&theirs.entries[..7]);
    net.checker.committed.extend(theirs.entries[5..].iter().map(|entry| (entry.header.id, Term(1))));
    net.node_mut(0).disk_held = true;
    net.deliver_snapshot(0, older);
    net.deliver_snapshot(0, newer);
    net.say(1, 0, 2, theirs.append(8, 7, 1, 7));
    while net.persist(0) {}
    assert_eq!((net.raft(0).durable_index(), net.commit(0)), (Index(7), 7));
    assert_eq!(marks(&mut net, 1).last(), Some(&7));
    net.crash(0);
    net.start(0);
    assert_eq!(net.node(0).applied, theirs.entries);
}

/// What a node said, and was told, in its last life arrives after its restart: marks, rounds, entries, offers.
#[test]
fn t85_messages_of_an_earlier_life_change_nothing() {
    let mut net = left_behind();
    net.node_mut(2).fetch_held = true;
    net.sent.clear();
    net.rejoin(2);
    net.run(HB.times(2));
    net.propose(0, "while node 2 fetches").expect("leads");
    net.run(HB);
    let old: Vec<Envelope> = net.sent.iter().filter(|sent| sent.from.0 == 2 || sent.to.0 == 2).cloned().collect();
    assert!(!offers(&old).is_empty());
    net.crash(2);
    net.node_mut(2).fetch_held = false;
    net.restart(2);
    net.run(HB.times(3));
    net.assert_converged();
    let (term, commit, fetches) = (net.term(0), net.commit(0), net.node(2).fetches.len());
    for envelope in old.iter().rev().chain(&old) {
        net.arrive(envelope.clone());
        net.settle();
    }
    net.run(ET.times(2));
    assert_eq!((net.term(0), net.commit(0), net.node(2).fetches.len()), (term, commit, fetches));
    net.propose(0, "goes on").expect("leads");
    net.run(HB);
    net.assert_converged();
}

// --- T-86, L-10 ---

/// A follower whose entries are cut off while the leader reads them for it: the read says so, the follower is offered a
/// snapshot, and gets what is behind it as entries.
#[test]
fn t86_slow_follower_and_compaction_race() {
    let mut net = Net::with(&vec![Image::default(); 3], |settings| {
        settings.snapshot_patience = HB;
        settings.tail_bytes_max = 1;
    });
    net.elect(0);
    net.run(HB);
    net.isolate(2);
    for _ in 0..5 {
        net.propose(0, "out of memory at once").expect("leads");
        net.settle();
    }
    net.node_mut(0).wishes_held = true;
    net.rejoin(2);
    net.run(HB.times(3));
    assert!(!net.node(0).wishes.is_empty(), "the leader reads old entries for node 2");
    let had = net.last_index(2).0;
    net.sent.clear();
    net.snapshot_twice(0);
    assert!(base(&net, 0) > had);
    net.node_mut(0).wishes_held = false;
    net.run(HB.times(3));
    net.propose(0, "behind the snapshot").expect("leads");
    net.run(HB);
    assert_eq!(net.node(0).stop, None);
    assert_eq!(net.node(2).fetches.len(), 1);
    let end = net.node(2).fetches[0].1.offer.last.index;
    let previous = net.sent.iter().filter(|sent| sent.to.0 == 2).filter_map(|sent| match &sent.message {
        Message::AppendEntries(append) if !append.entries.is_empty() => Some(append.previous.index),
        _ => None,
    });
    assert!(net.node(0).wishes.is_empty());
    assert_eq!(previous.min(), Some(end), "from the snapshot on");
    net.assert_converged();
}

/// L-10: the leader takes three snapshots while one travels, and as long as it travels, keeps the entries behind it: the
/// follower needs no second one.
#[test]
fn t86_three_compactions_during_a_transfer_make_no_loop() {
    let mut net = left_behind_for(HB.times(3));
    net.node_mut(2).fetch_held = true;
    net.rejoin(2);
    net.run(HB.times(2));
    let end = net.node(2).fetches[0].1.offer.last.index.0;
    for _ in 0..3 {
        net.serve(2);
        net.snapshot_twice(0);
        net.run(HB.times(2));
        assert!(base(&net, 0) <= end, "what comes behind the snapshot is kept");
    }
    net.node_mut(2).fetch_held = false;
    net.run(HB.times(4));
    assert_eq!(net.node(2).fetches.len(), 1);
    net.assert_converged();
    net.run(HB.times(4));
    assert!(base(&net, 0) > end, "and goes when it is not needed any more");
}

/// A transfer that gets nowhere holds nothing up: the log is cut off after the patience, and the follower needs another
/// snapshot, which it gets.
#[test]
fn l10_a_transfer_that_stands_still_is_not_waited_for() {
    let mut net = left_behind();
    net.node_mut(2).fetch_held = true;
    net.rejoin(2);
    net.run(HB.times(3));
    net.snapshot_twice(0);
    net.run(HB.times(3));
    let end = net.node(2).fetches[0].1.offer.last.index.0;
    assert!(base(&net, 0) > end);
    net.node_mut(2).fetch_held = false;
    net.run(HB.times(4));
    assert_eq!(net.node(2).fetches.len(), 2, "the first one was too old when it came");
    net.assert_converged();
}

/// A transfer that goes on for ever is waited for during so many snapshots, and no longer.
#[test]
fn l10_the_log_does_not_grow_without_end_for_a_slow_follower() {
    let mut net = left_behind();
    net.node_mut(2).fetch_held = true;
    net.rejoin(2);
    net.run(HB.times(2));
    let end = net.node(2).fetches[0].1.offer.last.index.0;
    for taken in 1.. {
        net.serve(2);
        net.propose(0, "one more").expect("leads");
        net.settle();
        net.snapshot(0);
        net.settle();
        if base(&net, 0) > end {
            assert!(taken >= limits::SNAPSHOTS_HELD_MAX - 2, "{taken}");
            break;
        }
        assert!(taken < 2 * limits::SNAPSHOTS_HELD_MAX, "the log is cut off in the end");
    }
}

/// A follower that is behind by entries alone, and gets on, keeps the log for itself; when it is gone for long, it does not.
#[test]
fn l10_entries_are_kept_for_a_follower_that_gets_on() {
    let mut net = three(|settings| settings.snapshot_patience = HB.times(5));
    net.isolate(2);
    net.snapshot_twice(0);
    net.run(HB);
    assert_eq!(base(&net, 0), 0, "node 2 was here a moment ago");
    net.rejoin(2);
    net.run(HB.times(2));
    net.assert_converged();
    assert!(net.node(2).fetches.is_empty() && base(&net, 0) > 0, "it had its entries, and then they went");
    net.isolate(2);
    net.run(HB.times(6));
    net.snapshot_twice(0);
    assert!(base(&net, 0) > net.last_index(2).0);
}

// --- T-87 ---

/// Fetches that fail are begun again after pauses that grow; nobody else is held up, and the last one succeeds.
#[test]
fn t87_failed_transfers_are_retried_with_back_off() {
    let mut net = left_behind();
    net.node_mut(2).fetch_held = true;
    net.rejoin(2);
    for failures in 1..8 {
        net.run_until(ET.times(10), "fetch", |net| net.node(2).fetch.is_some());
        assert_eq!(net.node(2).fetches.len(), failures);
        let commit = net.commit(0);
        net.fail_fetch(2);
        net.propose(0, "meanwhile").expect("leads");
        net.run(HB);
        assert_eq!((net.commit(0), net.commit(1)), (commit + 1, commit + 1), "the others go on");
    }
    let begun: Vec<_> = net.node(2).fetches.iter().map(|(at, _)| *at).collect();
    let pauses: Vec<Span> = begun.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    assert!(pauses[..4].windows(2).all(|pair| pair[0] < pair[1]), "{pauses:?}");
    assert!(
        pauses.iter().all(|pause| *pause <= ET.times(5)),
        "a quarter of what a healed quorum may take (I-24): {pauses:?}"
    );
    assert!(pauses.iter().all(|pause| pause.as_millis() <= limits::SNAPSHOT_RETRY_MS_MAX + 200), "{pauses:?}");
    net.node_mut(2).fetch_held = false;
    net.run(ET.times(6));
    net.assert_converged();
}

/// The connection breaks and the leader changes while a file travels: the next leader offers its own.
#[test]
fn t87_the_next_leader_offers_its_own() {
    let mut net = left_behind();
    net.snapshot(1);
    net.node_mut(2).fetch_held = true;
    net.rejoin(2);
    net.run(HB.times(2));
    assert_eq!(net.node(2).fetches[0].1.from, NodeId(0));
    net.crash(0);
    net.end_fetch(2);
    net.node_mut(2).fetch_held = false;
    net.run(ET.times(5));
    assert_eq!(net.leader(), Some(1));
    net.restart(0);
    net.run(ET.times(2));
    net.assert_converged();
}

/// What a leader says to a follower in need of a snapshot: heartbeats that check nothing, and the offer once per heartbeat.
#[test]
fn c12_heartbeats_and_offers_to_a_peer_that_needs_a_snapshot() {
    let mut net = Net::lone_leader(3, Image::of_terms(&[1, 1, 1]), |settings| settings.snapshot_patience = HB);
    net.say(1, 0, 2, super::node::reply(1, 4));
    net.settle();
    net.snapshot(0);
    net.propose(0, "more").expect("leads");
    net.say(1, 0, 2, super::node::reply(1, 5));
    net.settle();
    net.run(HB.times(2));
    net.snapshot(0);
    net.settle();
    assert_eq!(base(&net, 0), 4);
    net.say(2, 0, 2, super::node::rejection(1, 3, id(0, 0)));
    net.mail.clear();
    for _ in 0..3 {
        net.say(1, 0, 2, super::node::reply(1, 5));
        net.run(HB);
        let mail = net.mail(2);
        assert_eq!(offers(&mail), [5], "once");
        assert!(mail.iter().all(|sent| match &sent.message {
            Message::AppendEntries(append) => append.heartbeat && append.commit == Index(0),
            message => matches!(message, Message::InstallSnapshot(_)),
        }));
    }
    net.say(2, 0, 2, super::node::reply(1, 5));
    assert!(offers(&net.mail(2)).is_empty(), "it has it");
}

// --- T-88, T-89, C-5 ---

/// A start whose log begins behind the newest snapshot is refused (the wal says so: exit 78); the core would not run either.
#[test]
#[should_panic(expected = "the state machine is at a place in the log")]
fn t88_the_core_does_not_run_with_a_gap() {
    let image = Image::of_terms(&[1; 12]);
    let mut log = image.clone();
    log.entries.drain(..10);
    log.base = super::node::base_at(&image.entries[9]);
    let recovered = log.recovered(Some(super::node::base_at(&image.entries[7])), usize::MAX);
    raftkv::raft::Raft::new(raftkv::time::Time(0), super::node::settings(0, 3, 1), recovered);
}

/// A state at 90 and a log up to 100: 91 to 100 are applied once, the rest not at all.
#[test]
fn t89_restart_replays_exactly_once() {
    let mut net = three(|_| {});
    while net.commit(0) < 100 {
        net.propose(0, "applied once").expect("leads");
        net.settle();
        if net.node(2).applied.len() < 90 || net.node(2).snapshots.is_empty() {
            net.run(HB);
        }
        if net.node(2).applied.len() == 90 {
            net.snapshot(2);
        }
    }
    net.run(HB);
    let state = net.node(2).applied.clone();
    assert_eq!((state.len(), net.node(2).snapshots[0].end.id.index), (100, Index(90)));
    net.crash(2);
    net.start(2);
    assert_eq!((net.node(2).applied.len(), net.commit(2)), (90, 90), "nothing is applied that is not known committed");
    net.turn(2);
    net.link_up(2);
    net.run(HB.times(2));
    assert_eq!((net.node(2).restored, &net.node(2).applied), (90, &state));
    net.assert_converged();
}

/// The newest snapshot rots: the start finds the older one, to which the log reaches back, and nothing is lost.
#[test]
fn c05_a_rotten_newest_snapshot_costs_nothing() {
    let mut net = three(|settings| settings.snapshot_patience = HB);
    for node in [1, 2] {
        for _ in 0..4 {
            net.propose(0, "between snapshots").expect("leads");
            net.run(HB);
            net.snapshot(node);
        }
        net.run(HB);
        let (older, newer) = (net.node(node).snapshots[0].end.id.index, net.node(node).snapshots[1].end.id.index);
        assert!(base(&net, node) > 0 && base(&net, node) <= older.0 && older < newer);
        net.crash(node);
        net.node_mut(node).newest_rotten = true;
        net.restart(node);
        assert_eq!(net.node(node).restored as u64, older.0);
        net.run(HB.times(3));
        net.assert_converged();
    }
}

/// Everybody restarts on what snapshots have left of the logs, and goes on.
#[test]
fn c05_a_cluster_restarts_behind_its_snapshots() {
    let mut net = left_behind();
    net.snapshot(1);
    net.rejoin(2);
    net.run(HB.times(3));
    net.assert_converged();
    for node in 0..3 {
        net.crash(node);
    }
    for node in 0..3 {
        net.restart(node);
    }
    net.run_until(ET.times(3), "leader", |net| net.leader().is_some());
    let leader = net.leader().expect("leads");
    assert!(matches!(net.raft(leader).role(), Role::Leader(_)));
    net.propose(leader, "goes on").expect("leads");
    net.run(HB.times(3));
    net.assert_converged();
}

/// C-9: a read of entries that leave meanwhile is answered "compacted", for a peer and after an installation for the own
/// state machine, and neither is an impossible state.
#[test]
fn c09_a_read_that_an_installation_overtakes_is_dropped() {
    let theirs = Image::of_terms(&[1, 1, 2, 2, 2, 2]);
    let mut own = Image::of_terms(&[1, 1]);
    own.hard_state.term = Term(1);
    let (mut net, snapshot) = follower(own, &theirs, 5);
    net.crash(0);
    net.node_mut(0).tail = 0;
    net.start(0);
    net.turn(0);
    net.node_mut(0).wishes_held = true;
    net.say(1, 0, 3, theirs.append(3, 2, 1, 2));
    net.settle();
    assert_eq!(net.node(0).wishes.len(), 1, "entries 1 and 2 are read for the state machine");
    net.deliver_snapshot(0, snapshot);
    net.settle();
    net.node_mut(0).wishes_held = false;
    net.settle();
    net.say(1, 0, 3, theirs.append(6, 6, 2, 6));
    net.settle();
    assert_eq!((net.node(0).stop.clone(), net.node(0).applied.clone()), (None, theirs.entries));
}

/// C-9: the log's beginning may move between the two looks of a reader. Entries right behind it are asked for again.
#[test]
fn c09_compacted_right_behind_the_base_is_asked_again() {
    let mut net = left_behind();
    let first = base(&net, 0) + 1;
    net.node_mut(0).wishes_held = true;
    let (term, now) = (net.raft(0).term(), net.clock(0));
    let compacted = |purpose| {
        let result = LogReadResult::Compacted;
        Input::LogRead(LogRead { purpose, term, from: Index(first), result })
    };
    let raft = net.node_mut(0).raft.as_mut().expect("alive");
    raft.step(now, compacted(ReadPurpose::Apply));
    raft.step(now, compacted(ReadPurpose::Peer(NodeId(1))));
    net.turn(0);
    assert_eq!(net.node(0).stop, None);
    let behind =
        LogRead { purpose: ReadPurpose::Apply, term, from: Index(first + 1), result: LogReadResult::Compacted };
    net.input(0, Input::LogRead(behind));
    assert!(net.node(0).stop.is_some(), "further behind it is a hole");
}

/// C-7: the file is not asked for before the term that it was offered in is durable: a crash must not leave a log of a term
/// that the node does not know of.
#[test]
fn t81_a_snapshot_is_fetched_when_its_term_is_durable() {
    let theirs = Image::of_terms(&[1, 1, 2, 2, 2]);
    let (mut net, snapshot) = follower(Image::of_terms(&[1]), &theirs, 5);
    net.node_mut(0).disk_held = true;
    offer(&mut net, 2, &snapshot);
    assert!(net.node(0).fetches.is_empty(), "term 2 is not durable");
    net.persist(0);
    assert_eq!(net.node(0).fetches.len(), 1);
}

/// A log of a later term than the hard state's, as a crash between a snapshot's file and the hard state may leave it: that
/// term was led, so the node is in it and has no vote left in it; and nothing leaves before that is durable.
#[test]
fn t81_a_log_of_a_later_term_raises_the_term() {
    let mut own = Image::of_terms(&[1, 2]);
    own.hard_state.term = Term(1);
    let mut net = Net::lone(3, own);
    assert_eq!(net.term(0), 2);
    net.say(1, 0, 2, Message::RequestVote { last: id(2, 2), transfer: false });
    net.settle();
    let granted = net.mail(1).iter().any(|sent| matches!(sent.message, Message::RequestVoteReply { granted: true }));
    assert!(!granted, "who led that term is decided");
    assert_eq!(net.node(0).durable.hard_state.term, Term(2));
}

/// C-8: a log that holds the snapshot's last entry with another chain is damaged, or the file is.
#[test]
fn t82_a_snapshot_whose_chain_differs_stops_the_node() {
    let theirs = Image::of_terms(&[1, 1, 2, 2, 2, 2]);
    let (mut net, snapshot) = follower(theirs.clone(), &theirs, 5);
    let mut end = snapshot.end;
    end.chain.0 += 1;
    let raft = net.node_mut(0).raft.as_mut().expect("alive");
    assert_eq!(raft.install(end, 1), Installed::Ignored);
    net.turn(0);
    assert!(net.node(0).stop.as_ref().is_some_and(|stop| stop.contains("chains differ")));
}

/// A leader offers nothing of a file that is damaged, until it has another one.
#[test]
fn c05_a_damaged_snapshot_is_not_offered() {
    let mut net = left_behind();
    let newest = net.node(0).snapshots.last().expect("taken").clone();
    net.node_mut(0).raft.as_mut().expect("alive").snapshot_damaged(newest.end.id.index);
    net.sent.clear();
    net.rejoin(2);
    net.run(HB.times(3));
    let offered = |net: &Net| offers(&net.sent);
    assert!(!offered(&net).contains(&newest.end.id.index.0), "{:?}", offered(&net));
    net.node_mut(0).raft.as_mut().expect("alive").snapshot_taken(newest.end, newest.bytes());
    net.run(HB.times(2));
    assert!(offered(&net).contains(&newest.end.id.index.0), "a new file of the same place");
}

/// A log that begins where its only snapshot ends is cut off there once there is another: files from before that were kept
/// for the snapshot before may leave then, and not one snapshot later.
#[test]
fn c05_a_log_is_cut_off_where_it_begins() {
    let mut net = left_behind();
    net.rejoin(2);
    net.run(HB.times(3));
    let begins = base(&net, 2);
    assert_eq!((net.node(2).cuts.clone(), begins > 0), (vec![begins], true), "it was installed");
    for _ in 0..2 {
        net.propose(0, "between snapshots").expect("leads");
        net.run(HB);
        net.snapshot(2);
        net.run(HB);
    }
    assert_eq!(net.node(2).cuts, [begins, begins, begins + 1], "once more there, and then at the next");
}

/// A log entry whose body nobody needs any more is not kept in memory either.
#[test]
fn a_log_that_is_cut_off_answers_for_its_base() {
    let mut net = left_behind();
    let (at, raft) = (base(&net, 0), net.raft(0));
    assert_eq!(raft.term_at(Index(at)), Some(Term(1)));
    assert_eq!(raft.term_at(Index(at - 1)), None);
    let last = net.node(0).handed.last();
    let next = entry_after(last, net.node(0).handed.chain(), Term(1), b"");
    assert_eq!(next.header.id, id(1, last.index.0 + 1));
    net.propose(0, "behind the base").expect("leads");
    net.run(HB);
    assert_eq!(net.commit(0), last.index.0 + 1);
}
