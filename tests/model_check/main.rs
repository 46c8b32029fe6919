//! The real `Raft`, three nodes of it, in *every* order of events within bounds: breadth first, each state once.
//!
//! Events are the delivery of any message under way (a message may be delivered twice, late, in any order, or never), the
//! completion of the oldest append of any node, a crash with any number of its appends written, a restart on what is durable,
//! timeouts, heartbeats and proposals. After each: one leader per term, matching logs, complete leaders, and nothing committed
//! that is not durable on a majority or is ever another entry.
//!
//! How far it goes: `RAFTKV_MODEL_STATES` states from each start (default: about a minute for all). A violation prints the
//! shortest way there.

mod digest;
mod explore;
mod world;

use explore::{explore, Explored};
use world::{Bounds, World};

/// States from each start, unless the environment says otherwise.
const STATES_MAX: usize = 50_000;

fn states_max() -> usize {
    match std::env::var("RAFTKV_MODEL_STATES") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("RAFTKV_MODEL_STATES={text} is not a number")),
        Err(_) => STATES_MAX,
    }
}

fn holds(name: &str, start: World) -> Explored {
    let explored = explore(start, states_max()).unwrap_or_else(|violation| panic!("{name}: {violation}"));
    println!("{name}: {explored}");
    explored
}

#[test]
fn a_first_election() {
    let bounds = Bounds { term: 1, index: 1, timeouts: 1, heartbeats: 0, crashes: 1, duplicates: 0 };
    let explored = holds("first election", World::new(bounds));
    assert!(explored.leaders > 0 && explored.commits > 0, "{explored}");
}

#[test]
fn replication_to_nodes_that_crash() {
    let bounds = Bounds { term: 1, index: 2, timeouts: 0, heartbeats: 1, crashes: 1, duplicates: 0 };
    let mut start = World::new(bounds);
    start.elect(0, &[0, 1, 2]);
    let explored = holds("replication", start);
    assert!(explored.commits > 0, "something is committed");
}

#[test]
fn a_change_of_leader_behind_a_committed_entry() {
    let bounds = Bounds { term: 2, index: 2, timeouts: 2, heartbeats: 0, crashes: 0, duplicates: 1 };
    let mut start = World::new(bounds);
    start.elect(0, &[0, 1, 2]);
    start.replicate(&[0, 1]);
    assert_eq!(start.commits(), 1, "the no-op");
    let explored = holds("change of leader", start);
    assert!(explored.leaders > 0, "somebody else is elected: {explored}");
}

#[test]
fn old_terms_are_not_committed_by_counting() {
    let explored = holds("paper figure 8", figure_8());
    assert!(explored.leaders > 0, "{explored}");
}

#[test]
fn the_same_events_make_the_same_state() {
    assert_eq!(figure_8().digest(), figure_8().digest());
    assert_ne!(figure_8().digest(), World::new(Bounds::default()).digest());
}

/// Node 0 leads term 3 with an entry of term 1 that node 2 lacks; node 1 holds an entry of term 2 at its index.
fn figure_8() -> World {
    let bounds = Bounds { term: 4, index: 2, timeouts: 2, heartbeats: 0, crashes: 0, duplicates: 0 };
    let mut start = World::new(bounds);
    start.elect(0, &[0, 1, 2]);
    start.elect(1, &[1, 2]);
    start.elect(0, &[0, 2]);
    start
}

/// It must see what it is for.
#[cfg(feature = "sabotage")]
mod sabotage {
    use super::*;
    use raftkv::sabotage::{arm, Bug};

    fn counterexample(bug: Bug, start: World) -> String {
        arm(Some(bug));
        let explored = explore(start, 1_000_000);
        arm(None);
        match explored {
            Ok(explored) => panic!("nothing found: {explored}"),
            Err(violation) => {
                println!("{violation}");
                violation.to_string()
            }
        }
    }

    #[test]
    fn sabotage_old_terms_counted_are_found() {
        let text = counterexample(Bug::OldTermByCounting, figure_8());
        assert!(text.contains("without the committed entry"), "{text}");
    }

    #[test]
    fn sabotage_early_answers_are_found() {
        let bounds = Bounds { term: 1, index: 2, timeouts: 0, heartbeats: 0, crashes: 0, duplicates: 0 };
        let mut start = World::new(bounds);
        start.elect(0, &[0, 1, 2]);
        let text = counterexample(Bug::AnswerBeforeSync, start);
        assert!(text.contains("durable on"), "{text}");
    }
}
