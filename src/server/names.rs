//! The thread that looks up names of hosts. The system's look-up blocks for as long as a name server is silent, so it has
//! a thread of its own: no log read, snapshot or heartbeat stands behind it.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use protocol::NodeId;

use super::stop::StopSwitch;
use crate::mailbox::{Parking, Receiver, Sender, ThreadPark};

/// What an address is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

/// What was found.
pub(super) struct Found {
    /// As asked.
    pub(super) purpose: Purpose,
    /// The first address that the name has.
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
        while !self.stop.is_asked() {
            while let Some(mut batch) = self.wanted.take() {
                for LookUp { purpose, address } in batch.drain(..) {
                    self.found.batch().push(Found { purpose, address: look_up(&address) });
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

fn look_up(address: &str) -> io::Result<SocketAddr> {
    let mut addresses = address.to_socket_addrs()?;
    addresses.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{address} has no address")))
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
        wanted.batch().push(LookUp { purpose: wrong, address: "no port".to_owned() });
        wanted.batch().push(LookUp { purpose: good, address: "127.0.0.1:7401".to_owned() });
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
}
