//! Between the replica and the bulk worker: what snapshots need of both.

use std::io;
use std::net::SocketAddr;

use log::info;
use protocol::format::{Hello, Purpose as ConnectionPurpose};
use protocol::NodeId;

use super::RaftLoop;
use crate::metrics::Counter;
use crate::replica::{Effects, FetchSnapshot, Input};
use crate::server::bulk_worker::{Fetch, Job};
use crate::server::names::{LookUp, Purpose};
use crate::snapshot::Offer;
use crate::time::Time;

impl RaftLoop {
    /// What the bulk worker is to do.
    pub(super) fn hand_on_snapshots(&mut self, effects: &mut Effects) {
        if let Some(wanted) = effects.take_snapshot.take() {
            self.jobs.batch().push(Job::Take(Box::new(wanted)));
        }
        if let Some(retired) = effects.retired.take() {
            self.recorder.count(Counter::SnapshotsInstalled);
            let applied = self.replica.published().applied();
            info!("a snapshot of another node took the place of this node's state; it is at index {applied} now");
            self.jobs.batch().push(Job::Free(retired));
        }
        if let Some(discarded) = effects.discarded.take() {
            self.jobs.batch().push(Job::Drop(discarded));
        }
        if let Some(wanted) = effects.fetch_snapshot.take() {
            self.fetch(wanted);
        }
    }

    /// Connections of members that want a snapshot of this node.
    pub(super) fn hand_over_fetchers(&mut self) {
        let jobs = self.jobs.batch();
        jobs.extend(self.peers.take_fetchers().map(|fetcher| Job::Serve(Box::new(fetcher))));
    }

    /// The name of the node that has the snapshot was looked up.
    pub(super) fn resolved(&mut self, now: Time, node: NodeId, address: io::Result<SocketAddr>) {
        let Some(wanted) = self.fetch.take_if(|wanted| wanted.from == node) else { return };
        match address {
            Ok(address) => self.fetch_from(wanted, address),
            Err(error) => {
                let why = format!("cannot resolve the address of node {node}: {error}");
                self.replica.step(now, Input::SnapshotFetched(Err(why)));
            }
        }
    }

    fn fetch(&mut self, wanted: FetchSnapshot) {
        match wanted.address.parse() {
            Ok(address) => self.fetch_from(wanted, address),
            Err(_) => {
                let (purpose, address) = (Purpose::Snapshot(wanted.from), wanted.address.clone());
                self.names.batch().push(LookUp { purpose, address, again: self.has_fetch_failed });
                self.fetch = Some(wanted);
            }
        }
    }

    fn fetch_from(&mut self, wanted: FetchSnapshot, address: SocketAddr) {
        let FetchSnapshot { from, last, chain, bytes, .. } = wanted;
        let hello = Hello { purpose: ConnectionPurpose::Snapshot, ..self.replica.hello() };
        let offer = Offer { last, chain, bytes, hash: None };
        self.jobs.batch().push(Job::Fetch(Box::new(Fetch { from, address, hello, offer })));
    }
}
