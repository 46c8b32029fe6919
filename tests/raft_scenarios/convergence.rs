//! L-13: elections end. Seven nodes whose timers run alike, and a leader that crashes again and again.

use protocol::Term;
use raftkv::time::Span;

use super::net::Net;
use super::node::{Image, ET, HB};

struct Tally {
    /// Terms that each crash cost.
    elections: Vec<u64>,
    /// Campaigns, PreVotes included, that each crash cost.
    campaigns: Vec<u64>,
    /// How long there was no leader, in milliseconds.
    took: Vec<u64>,
}

fn crash_leaders(crashes: usize, announced: bool) -> Tally {
    let mut net = Net::with(&vec![Image::default(); 7], |settings| settings.seed = 7);
    net.latency = Span::millis(1);
    net.disk_latency = Span::millis(2);
    net.run_until(ET.times(3), "first leader", |net| net.leader().is_some());
    let mut tally = Tally { elections: Vec::new(), campaigns: Vec::new(), took: Vec::new() };
    for _ in 0..crashes {
        net.run(HB.times(2));
        let leader = net.leader().expect("one leads");
        let before = Term(net.term(leader));
        let begun: u64 = net.ids().filter(|node| *node != leader).map(|node| net.raft(node).campaigns()).sum();
        if announced {
            net.crash(leader);
        } else {
            net.silence(leader);
        }
        let others = move |net: &Net| {
            net.ids().find(|node| *node != leader && net.node(*node).alive() && net.raft(*node).is_leader())
        };
        let took = net.run_until(ET.times(10), "new leader", |net| others(net).is_some());
        let next = others(&net).expect("just waited for");
        let ended: u64 = net.ids().filter(|node| *node != leader).map(|node| net.raft(node).campaigns()).sum();
        tally.elections.push(net.term(next) - before.0);
        tally.campaigns.push(ended - begun);
        tally.took.push(took.as_millis());
        if announced {
            net.restart(leader);
        } else {
            net.unsilence(leader);
        }
        net.sent.clear();
    }
    tally
}

fn mean(values: &[u64]) -> f64 {
    values.iter().sum::<u64>() as f64 / values.len() as f64
}

/// A thousand crashes that the survivors see as lost connections.
#[test]
fn l13_elections_converge_after_lost_connections() {
    let mut tally = crash_leaders(1000, true);
    tally.took.sort_unstable();
    println!("terms {:.3}, campaigns {:.3}", mean(&tally.elections), mean(&tally.campaigns));
    println!("ms without a leader: median {}, worst {}", tally.took[500], tally.took[999]);
    assert!(mean(&tally.elections) <= 1.05, "terms per crash: {}", mean(&tally.elections));
    assert!(mean(&tally.campaigns) <= 1.3, "campaigns per crash: {}", mean(&tally.campaigns));
    assert!(tally.elections.iter().all(|terms| *terms <= 4));
    assert!(tally.took[500] <= 50 && tally.took[999] <= 2 * ET.as_millis());
}

/// The same with leaders that fall silent: only the election timeout tells.
#[test]
fn l13_elections_converge_after_silence() {
    let tally = crash_leaders(200, false);
    println!("terms {:.3}, campaigns {:.3}", mean(&tally.elections), mean(&tally.campaigns));
    assert!(mean(&tally.elections) <= 1.3, "terms per crash: {}", mean(&tally.elections));
    assert!(mean(&tally.campaigns) <= 2.0, "campaigns per crash: {}", mean(&tally.campaigns));
}
