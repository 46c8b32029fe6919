//! Promises that are looked at where they are made, so that a broken one is seen before it has done harm: what leaves is
//! durable (I-7, I-23), nobody leads alone or on a hung disk (I-20, C-13), log time goes with time (C-25).

use std::collections::BTreeMap;

use protocol::message::{Envelope, Message};
use protocol::{LogTime, NodeId};
use raftkv::limits;
use raftkv::raft;
use raftkv::replica::Input;
use raftkv::time::Time;

use crate::node::ELECTION_TIMEOUT_MIN;
use crate::oracle::violated;
use crate::world::World;

/// Log time may run ahead by a tenth of the time elapsed, and is in milliseconds.
const LOG_TIME_SLACK_MS: u64 = 10;

/// The largest entry of the simulated clients, batches included.
const ENTRY_BYTES_MAX: usize = 32 * 1024;

/// In one millisecond of virtual time.
const EVENTS_MAX: u64 = 200_000;

/// What was seen of the promises' reasons.
#[derive(Default)]
pub struct Watch {
    /// When a node last took an answer of a peer, in this life of both.
    heard: BTreeMap<(u32, u32), Time>,
    /// Since when a node leads, and in which term.
    leads: BTreeMap<u32, (u64, Time)>,
    /// Since when the log of a node has been writing what it writes.
    writes: BTreeMap<u32, Time>,
    /// The first committed entry's log time, and the last one's.
    log_time: Option<(LogTime, LogTime)>,
    /// A millisecond, and the number of its first event.
    millisecond: (u64, u64),
}

impl World {
    /// I-7: what a message promises is on the disk when it leaves. I-23: so is what a follower acknowledges.
    pub fn check_promise(&self, envelope: &Envelope) {
        let (id, term) = (envelope.from.0, envelope.term);
        let Some(process) = &self.nodes[id as usize].process else { return };
        let stored = process.wal.meta();
        let holds = match &envelope.message {
            Message::PreVote { .. } | Message::PreVoteReply { .. } => true,
            Message::Format(format) => stored.format.as_ref() == Some(format),
            Message::RequestVote { .. } => self.has_voted(id, term.0, envelope.from),
            Message::RequestVoteReply { granted: true } => self.has_voted(id, term.0, envelope.to),
            _ => stored.hard_state.term >= term,
        };
        if !holds {
            violated("I-7: what a message promises is durable", id, format!("{stored:?} when {envelope:?} leaves"));
        }
        if let Message::AppendReply(reply) = &envelope.message {
            self.oracle.acknowledged(id, envelope.to.0, term.0, reply.matched.0);
        }
    }

    /// Nobody does something again and again without waiting for anything.
    pub fn check_rest(&mut self) {
        let now = self.elapsed().as_millis();
        if self.watch.millisecond.0 != now {
            self.watch.millisecond = (now, self.events);
        }
        if self.events - self.watch.millisecond.1 > EVENTS_MAX {
            violated("time goes on", u32::MAX, format!("{EVENTS_MAX} events in one millisecond"));
        }
    }

    fn has_voted(&self, id: u32, term: u64, candidate: NodeId) -> bool {
        let process = self.nodes[id as usize].process.as_ref().expect("the caller has seen it");
        let state = process.wal.meta().hard_state;
        state.term.0 > term || (state.term.0, state.vote) == (term, Some(candidate))
    }

    /// A node is about to take an input.
    pub fn note_input(&mut self, id: u32, input: &Input) {
        if let Input::Peer(Envelope { from, message: Message::AppendReply(_), .. }) = input {
            self.watch.heard.insert((id, from.0), self.queue.now());
        }
    }

    /// A node's log begins to write.
    pub fn note_writing(&mut self, id: u32) {
        self.watch.writes.insert(id, self.queue.now());
    }

    /// A node's log is done with what it was writing, or the node is gone.
    pub fn note_written(&mut self, id: u32) {
        self.watch.writes.remove(&id);
    }

    /// A node has taken a step: it does not lead without a quorum, nor on a disk that hangs.
    pub fn check_leadership(&mut self, id: u32) {
        let now = self.queue.now();
        let process = self.nodes[id as usize].process.as_ref().expect("it runs");
        let Some(raft) = process.replica.raft().filter(|raft| raft.is_leader()) else {
            self.watch.leads.remove(&id);
            return;
        };
        let term = raft.term().0;
        let leads = self.watch.leads.entry(id).or_insert((term, now));
        if leads.0 != term {
            *leads = (term, now);
        }
        let since = leads.1;
        let patience = ELECTION_TIMEOUT_MIN.times(2);
        let peers = (0..self.profile.nodes).filter(|peer| *peer != id);
        let heard = peers.map(|peer| self.watch.heard.get(&(id, peer)).copied().unwrap_or(since).max(since));
        let near = heard.filter(|heard| now.since(*heard) <= patience).count() + 1;
        if near <= self.profile.nodes as usize / 2 {
            violated("I-20: nobody leads without a quorum", id, format!("term {term}, {near} nodes heard"));
        }
        // Who stands still cannot step down: that time is the process's, not the disk's.
        let since = since.max(self.nodes[id as usize].paused_until);
        let writes = self.watch.writes.get(&id).filter(|began| now.since((**began).max(since)) > patience);
        if let Some(began) = writes {
            violated("C-13: nobody leads on a hung disk", id, format!("term {term}, it has hung since {began:?}"));
        }
    }

    /// I-21: what waits in memory keeps its bounds, but for one largest entry or message.
    pub fn check_bounds(&self, id: u32) {
        let process = self.nodes[id as usize].process.as_ref().expect("it runs");
        let Some(raft) = process.replica.raft() else { return };
        let (held, profile) = (raft.held(), &self.profile);
        let append = profile.append_bytes.max(ENTRY_BYTES_MAX);
        let is_quiet =
            raft.last().index == process.replica.store().applied() && raft.durable_index() == raft.last().index;
        let fetched_max = profile.append_bytes + limits::KEY_BYTES_MAX + limits::VALUE_BYTES_MAX + ENTRY_BYTES_MAX;
        let bounds = [
            ("uncommitted bytes", held.uncommitted_bytes, profile.uncommitted_bytes + ENTRY_BYTES_MAX),
            ("bytes in flight", held.window_bytes, profile.append_bytes * 4 + append),
            ("messages in flight", held.window_messages, profile.inflight_messages),
            ("bytes fetched", held.fetched_bytes, fetched_max),
            ("bytes of a quiet tail", if is_quiet { held.tail_bytes } else { 0 }, profile.tail_bytes + ENTRY_BYTES_MAX),
        ];
        if let Some((what, is, bound)) = bounds.into_iter().find(|(_, is, bound)| is > bound) {
            violated("I-21: every queue has its bound", id, format!("{what}: {is} of {bound}"));
        }
    }

    /// C-25: log time never falls, and does not run faster than a tenth more than time.
    pub fn check_log_time(&mut self, id: u32, from: u64, to: u64) {
        for index in from + 1..=to {
            let time = self.oracle.committed(index).header.log_time;
            let (first, last) = self.watch.log_time.unwrap_or((time, time));
            let fastest = self.elapsed().as_millis() * (1_000_000 + self.profile.drift_ppm) / 1_000_000;
            let most = fastest * 11 / 10 + LOG_TIME_SLACK_MS;
            if time < last || time.0 - first.0 > most {
                let text =
                    format!("{time:?} at {index}, after {last:?}, {} ms after the start", self.elapsed().as_millis());
                violated("C-25: log time goes with time", id, text);
            }
            self.watch.log_time = Some((first, time));
        }
    }
}

/// What of an append is still in a node's log, as an index: the log has been written further since.
pub fn persisted_up_to(append: &raft::Append, holds: impl Fn(&protocol::Entry) -> bool) -> u64 {
    let base = append.base.map_or(0, |base| base.id.index.0);
    let held = append.entries.iter().take_while(|entry| holds(entry)).last();
    held.map_or(base, |entry| entry.header.id.index.0)
}
