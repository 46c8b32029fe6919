//! The thread that looks up names of hosts. The system's look-up blocks for as long as a name server is silent, so it has
//! a thread of its own: no log read, snapshot or heartbeat stands behind it.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use protocol::NodeId;

use super::stop::StopSwitch;
use crate::mailbox::{Parking, Receiver, Sender, ThreadPark};

/// What an address is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    /// The Raft connection with this peer.
    Peer(NodeId),
    /// To fetch a snapshot from this peer.
    Snapshot(NodeId),
}

/// A name to look up. There is at most one for each peer and purpose at a time.
pub(super) struct LookUp {
    /// Comes back with the address.
    pub(super) purpose: Purpose,
    /// `host:port`.
    pub(super) address: String,
    /// The address that was found last led nowhere: another one, if the name has several.
    pub(super) again: bool,
}

/// What was found.
pub(super) struct Found {
    /// As asked.
    pub(super) purpose: Purpose,
    /// One of the addresses that the name has.
    pub(super) address: io::Result<SocketAddr>,
}

/// What the thread is made of.
pub(super) struct Names {
    pub(super) wanted: Receiver<Vec<LookUp>>,
    pub(super) found: Sender<Vec<Found>>,
    pub(super) sleep: Arc<ThreadPark>,
    pub(super) parking: Arc<Parking>,
    pub(super) stop: StopSwitch,
}

impl Names {
    /// Until it is asked to stop.
    pub(super) fn run(mut self) {
        // One for each peer and purpose.
        let mut tried: BTreeMap<Purpose, Tried> = BTreeMap::new();
        while !self.stop.is_asked() {
            while let Some(mut batch) = self.wanted.take() {
                for LookUp { purpose, address, again } in batch.drain(..) {
                    let address = look_up(&address, again, tried.entry(purpose).or_default());
                    self.found.batch().push(Found { purpose, address });
                    self.found.flush(); // the next name may take long
                }
            }
            self.found.flush();
            let (wanted, found, stop) = (&self.wanted, &self.found, &self.stop);
            if self.parking.may_sleep(|| wanted.is_empty() && !found.can_flush() && !stop.is_asked()) {
                self.sleep.sleep(None);
            }
            self.parking.awake();
        }
    }
}

/// Which addresses of a name were given since one of them last led somewhere; the last one is the newest.
#[derive(Debug, Default)]
struct Tried(Vec<SocketAddr>);

impl Tried {
    /// One of these addresses, which stand in the order in which the system would try them. It is found by what it is and not by
    /// its place: name servers answer in turns, too.
    fn next(&mut self, addresses: &[SocketAddr], again: bool) -> Option<SocketAddr> {
        self.0.retain(|tried| addresses.contains(tried));
        let last = self.0.last().copied().filter(|_| !again);
        if last.is_some() {
            self.0.clear(); // it has led somewhere
        }
        let next = last.or_else(|| addresses.iter().find(|address| !self.0.contains(address)).copied());
        let next = next.or_else(|| {
            self.0.clear(); // all were tried: from the beginning
            addresses.first().copied()
        });
        self.0.extend(next);
        next
    }
}

fn look_up(address: &str, again: bool, tried: &mut Tried) -> io::Result<SocketAddr> {
    let addresses: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
    let next = tried.next(&addresses, again);
    next.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{address} has no address")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::link;

    #[test]
    fn each_name_comes_back_with_its_purpose_and_a_wrong_one_with_an_error() {
        let park = || {
            let sleep = Arc::new(ThreadPark::default());
            (sleep.clone(), Parking::new(sleep))
        };
        let ((sleep, own), (_, raft)) = (park(), park());
        let (mut wanted, wanted_in) = link::<Vec<LookUp>>(own.clone(), raft.clone());
        let (found, mut found_in) = link::<Vec<Found>>(raft, own.clone());
        let stop = StopSwitch::new(own.clone());
        let names = Names { wanted: wanted_in, found, sleep, parking: own, stop: stop.clone() };
        let thread = std::thread::spawn(move || names.run());
        let (good, wrong) = (Purpose::Peer(NodeId(1)), Purpose::Snapshot(NodeId(2)));
        wanted.batch().push(LookUp { purpose: wrong, address: "no port".to_owned(), again: false });
        wanted.batch().push(LookUp { purpose: good, address: "127.0.0.1:7401".to_owned(), again: false });
        wanted.flush();
        let mut all = Vec::new();
        while all.len() < 2 {
            match found_in.take() {
                Some(mut batch) => all.append(&mut batch),
                None => std::thread::yield_now(),
            }
        }
        stop.ask();
        thread.join().expect("no panic");
        assert_eq!((all[0].purpose, all[0].address.is_err()), (wrong, true));
        assert_eq!(all[1].purpose, good);
        assert_eq!(all[1].address.as_ref().expect("an address").port(), 7401);
    }

    #[test]
    fn of_several_addresses_another_one_follows_one_that_leads_nowhere() {
        let [six, four, third] = ["[2001:db8::1]:7401", "192.0.2.1:7401", "192.0.2.2:7401"]
            .map(|address| address.parse::<SocketAddr>().expect("an address"));
        let mut tried = Tried::default();
        assert_eq!(tried.next(&[six, four], false), Some(six));
        assert_eq!(tried.next(&[six, four], true), Some(four));
        assert_eq!(tried.next(&[six, four], true), Some(six), "from the beginning");
        assert_eq!(tried.next(&[four, six], true), Some(four), "in whatever order they come");
        assert_eq!(tried.next(&[six, four], false), Some(four), "it has led somewhere");
        assert_eq!(tried.next(&[six, four], true), Some(six));
        assert_eq!(tried.next(&[third], true), Some(third), "the others are gone");
        assert_eq!(tried.next(&[third], true), Some(third));
        assert_eq!(tried.next(&[], true), None);
        assert!(tried.0.is_empty());
    }
}
