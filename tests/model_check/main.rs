//! The real `Raft`, three nodes of it, in *every* order of events within bounds, until nothing is left.
//!
//! Events are the delivery of any message that was ever sent (in any order, late, again and again, or never: there is no bound
//! on loss, duplication and reordering), the completion of the oldest append of any node, a crash with any part of its appends
//! written, a restart on what is durable, timeouts, heartbeats, lost connections, proposals. After each: one leader per term,
//! matching logs, complete leaders, and nothing committed that is not durable on a majority or is ever another entry.
//!
//! What is merged, and why nothing is lost by it: a node depends on nothing but itself and what it is told ([`known`]); a
//! state covers those with fewer messages ([`explore`]); fields that decide nothing, moments and numbers that count only by
//! comparison, and names of nodes that are alike at the start do not make another state ([`digest`]); an append that changes
//! nothing on the disk is complete with the one before it ([`node`]); a message that its receiver will never look at again is
//! forgotten ([`known::Known::may_mind`]).
//!
//! The bounds stand below; in a run of the tests they are narrow, with `RAFTKV_MODEL=deep` wide. Each search runs to its end or
//! fails.

mod digest;
mod explore;
mod known;
mod letters;
mod node;
mod shorten;
mod starts;
mod world;

use digest::{Names, NOTICE, OWN_NAMES};
use explore::{explore, Explored, Violation};
use raftkv::time::Span;
use world::{Bounds, Left, Model, World, ANY};

/// States in one search: 3 GB.
const STATES_MAX: usize = 15_000_000;

const ALL_NAMES: [Names; 6] = [OWN_NAMES, [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// A way to a start of interest.
type Start = fn(&mut Model) -> World;

/// Searches from a start, within bounds.
fn search(start: Start, bounds: Bounds, commit_notice: Span) -> Result<Explored, Violation> {
    // Nodes that are alike at the start: whatever happens to one may happen to the other.
    let mut model = Model::new(bounds, commit_notice, &ALL_NAMES);
    let world = start(&mut model);
    let digests: Vec<_> = model.digests(&world).collect();
    let alike = ALL_NAMES.iter().zip(&digests).filter(|(_, digest)| **digest == digests[0]);
    let names: Vec<Names> = alike.map(|(names, _)| *names).collect();
    let mut model = Model::new(bounds, commit_notice, &names);
    let world = start(&mut model);
    explore(&mut model, &world, STATES_MAX)
}

/// Looks at everything within the narrow bounds, and within the wide ones if the environment says so. What was seen last.
fn holds(name: &str, start: Start, narrow: Bounds, wide: &[Bounds]) -> Explored {
    let deep = std::env::var("RAFTKV_MODEL").is_ok_and(|depth| depth == "deep");
    let mut seen = Explored::default();
    for bounds in std::iter::once(&narrow).chain(wide.iter().filter(|_| deep)) {
        for (told, commit_notice) in [("at once", Span::ZERO), ("later", NOTICE)] {
            let found = search(start, *bounds, commit_notice);
            seen = found.unwrap_or_else(|violation| panic!("{name}, {bounds}: {violation}"));
            println!("{name}: {bounds}, commits told {told}: {seen}");
            assert!(seen.complete, "{name}, {bounds}: more than {STATES_MAX} states");
        }
    }
    seen
}

/// A cluster that has just been formed.
fn formed(model: &mut Model) -> World {
    model.formed()
}

/// Node 0 leads term 1; its first entry is on its way.
fn led(model: &mut Model) -> World {
    let mut world = model.formed();
    starts::elect(model, &mut world, 0, &[0, 1, 2]);
    world
}

/// That entry is committed on nodes 0 and 1; node 2 knows nothing.
fn committed(model: &mut Model) -> World {
    let mut world = led(model);
    starts::replicate(model, &mut world, &[0, 1]);
    world
}

/// Paper figure 8: node 0 leads term 3 with an entry of term 1 that node 2 lacks; node 1 holds an entry of term 2 at its index.
fn figure_8(model: &mut Model) -> World {
    let mut world = led(model);
    starts::elect(model, &mut world, 1, &[1, 2]);
    starts::elect(model, &mut world, 0, &[0, 2]);
    world
}

/// Nothing but messages and completions.
const QUIET: Left = Left { timeouts: 0, heartbeats: 0, crashes: 0, reconnects: 0 };

#[test]
fn a_first_election() {
    let narrow = Bounds { term: 1, index: 1, writes: 3, left: Left { timeouts: ANY, crashes: ANY, ..QUIET } };
    let second_term = Bounds { term: 2, index: 2, writes: 2, left: Left { timeouts: 2, ..QUIET } };
    let crash = Bounds { index: 1, left: Left { timeouts: 2, crashes: 1, ..QUIET }, ..second_term };
    let explored = holds("formed", formed, narrow, &[second_term, crash]);
    assert!(explored.leaders > 0 && explored.commits > 0, "{explored}");
}

#[test]
fn replication_to_nodes_that_crash() {
    let narrow = Bounds { term: 1, index: 2, writes: 2, left: Left { crashes: ANY, ..QUIET } };
    let heartbeat = Bounds { left: Left { heartbeats: 1, ..QUIET }, ..narrow };
    let longer = Bounds { index: 3, left: QUIET, ..narrow };
    let lost = Bounds { left: Left { reconnects: 2, ..QUIET }, ..narrow };
    let longer_crash = Bounds { left: Left { crashes: 1, ..QUIET }, ..longer };
    let heartbeat_crash = Bounds { left: Left { crashes: 1, heartbeats: 1, ..QUIET }, ..narrow };
    let explored = holds("led", led, narrow, &[heartbeat, longer, lost, heartbeat_crash, longer_crash]);
    assert!(explored.commits > 0, "something is committed");
}

#[test]
fn a_change_of_leader_behind_a_committed_entry() {
    let narrow = Bounds { term: 2, index: 2, writes: 2, left: Left { timeouts: 1, crashes: 1, ..QUIET } };
    let wide = Bounds { left: Left { timeouts: 2, crashes: 1, ..QUIET }, ..narrow };
    let explored = holds("committed", committed, narrow, &[wide]);
    assert!(explored.leaders > 0, "somebody else is elected: {explored}");
}

#[test]
fn old_terms_are_not_committed_by_counting() {
    let narrow = Bounds { term: 4, index: 2, writes: 2, left: Left { timeouts: 1, ..QUIET } };
    let wide = Bounds { left: Left { timeouts: 2, ..QUIET }, ..narrow };
    let explored = holds("figure 8", figure_8, narrow, &[wide]);
    assert!(explored.leaders > 0, "{explored}");
}

#[test]
fn the_start_is_what_it_is_meant_to_be() {
    let bounds = Bounds { term: 4, index: 2, writes: 2, left: Left::default() };
    let mut model = Model::new(bounds, Span::ZERO, &[OWN_NAMES]);
    let [first, again, other] = [figure_8, figure_8, committed].map(|start: Start| start(&mut model));
    assert_eq!(first, again, "the same events make the same state");
    assert_ne!(first, other);
    assert_eq!((model.commits(&first), model.leaders(&first)), (0, 3));
    assert_eq!((model.commits(&other), model.leaders(&other)), (1, 1), "the first entry");
}

/// It must see what it is for.
#[cfg(feature = "sabotage")]
mod sabotage {
    use super::*;
    use raftkv::sabotage::{arm, Bug};

    fn counterexample(bug: Bug, start: Start, bounds: Bounds, expected: &str) {
        arm(Some(bug));
        let explored = search(start, bounds, Span::ZERO);
        arm(None);
        match explored {
            Ok(explored) => panic!("{}: nothing found: {explored}", bug.name()),
            Err(violation) => {
                println!("{}: {violation}", bug.name());
                assert!(violation.to_string().contains(expected), "{violation}");
            }
        }
    }

    #[test]
    fn sabotage_old_terms_counted_are_found() {
        let bounds = Bounds { term: 4, index: 2, writes: 2, left: Left { timeouts: 2, ..QUIET } };
        counterexample(Bug::OldTermByCounting, figure_8, bounds, "without the committed entry");
    }

    #[test]
    fn sabotage_early_answers_are_found() {
        let bounds = Bounds { term: 1, index: 2, writes: 2, left: QUIET };
        counterexample(Bug::AnswerBeforeSync, led, bounds, "durable on");
    }

    #[test]
    fn sabotage_votes_that_are_forgotten_are_found() {
        let bounds = Bounds { term: 1, index: 1, writes: 3, left: Left { timeouts: ANY, crashes: ANY, ..QUIET } };
        counterexample(Bug::VoteNotPersisted, formed, bounds, "both lead term 1");
    }

    #[test]
    fn sabotage_acknowledgements_of_what_was_not_verified_are_found() {
        let bounds = Bounds { term: 4, index: 2, writes: 2, left: Left { timeouts: 2, ..QUIET } };
        counterexample(Bug::MatchAboveMatched, figure_8, bounds, "durable on 1 nodes");
        counterexample(Bug::CommitUnclamped, figure_8, bounds, "committed twice");
    }

    #[test]
    fn sabotage_leaders_that_count_what_is_not_durable_are_found() {
        let bounds = Bounds { term: 1, index: 2, writes: 2, left: QUIET };
        counterexample(Bug::LeaderCountsUnsynced, led, bounds, "durable on 1 nodes");
        counterexample(Bug::AckBeforeSync, led, bounds, "durable on 1 nodes");
    }

    #[test]
    fn sabotage_votes_for_shorter_logs_are_found() {
        let bounds = Bounds { term: 2, index: 2, writes: 2, left: Left { timeouts: 1, crashes: 1, ..QUIET } };
        counterexample(Bug::VoteForShorterLog, committed, bounds, "without the committed entry");
    }
}
