//! Watches one peer's replication: one append at a time, from its being queued to the peer's word that it is durable there.

use protocol::message::{Envelope, Message};
use protocol::{Index, Term};

use super::super::system;
use crate::metrics::{Measure, Recorder};
use crate::time::Time;

/// What is watched of one peer.
pub(super) struct Watch {
    recorder: Recorder,
    /// The term, the append's last entry, and when it was queued.
    append: Option<(Term, Index, Time)>,
}

impl Watch {
    /// `recorder`: the peer's.
    pub(super) fn new(recorder: Recorder) -> Self {
        Self { recorder, append: None }
    }

    /// A message to the peer was queued.
    pub(super) fn sent(&mut self, envelope: &Envelope) {
        let Message::AppendEntries(append) = &envelope.message else { return };
        let is_watching = self.append.is_some_and(|(term, ..)| term == envelope.term);
        if let (false, Some(last)) = (is_watching, append.entries.last()) {
            self.append = Some((envelope.term, last.header.id.index, system::now()));
        }
    }

    /// A message from the peer has come.
    pub(super) fn received(&mut self, envelope: &Envelope) {
        let Message::AppendReply(reply) = &envelope.message else { return };
        let is_durable = |(term, index, _): &mut (Term, Index, Time)| *term == envelope.term && *index <= reply.matched;
        if let Some((_, _, at)) = self.append.take_if(is_durable) {
            self.recorder.measure(Measure::ReplicateUs, system::now().since(at).as_micros());
            self.recorder.measure(Measure::PeerQueueUs, reply.queue_us.into());
            self.recorder.measure(Measure::PeerSyncUs, reply.sync_us.into());
        }
    }

    /// The connection is gone: what was under way may never be answered.
    pub(super) fn lost(&mut self) {
        self.append = None;
    }
}
