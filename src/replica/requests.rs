//! What io loops ask, and the timers and answers of what they asked.

use protocol::reply::Reason;
use protocol::{EntryKind, NodeId};

use super::effects::{Completion, Effects, ReplyTo, Request, WriteResult};
use super::parked::Parked;
use super::pending::End;
use super::reads::{Purpose, Reader};
use super::{Phase, Replica};
use crate::raft::{self, Proposal, ProposeError};
use crate::time::Time;

impl Replica {
    pub(super) fn request(&mut self, now: Time, request: Request) {
        match request {
            Request::Propose { reply_to, body, body_checksum, session, sequence, deadline } => {
                let proposal = Proposal { kind: EntryKind::Command, session, sequence, body, body_checksum };
                self.write(now, Parked { reply_to, proposal, deadline });
            }
            Request::Read { io_loop, token, deadline } => {
                self.read(now, Reader { io_loop, token, purpose: Purpose::Read }, deadline);
            }
            Request::OpenView { io_loop, token, local, deadline } => {
                let reader = Reader { io_loop, token, purpose: Purpose::View };
                if local && self.raft().is_some() {
                    self.grant(now, reader);
                } else {
                    self.read(now, reader, deadline);
                }
            }
            Request::TakeSnapshot { reply_to, deadline } => self.snapshot_asked(reply_to, deadline),
            Request::TouchView { view } => self.views.touched(now, view),
            Request::CloseView { view } => {
                if self.views.closed(view) {
                    self.store.close_view(view);
                }
            }
        }
    }

    /// Runs due timers. All input of the batch is in.
    pub(super) fn tick(&mut self, now: Time) {
        if let Phase::Member(raft) = &mut self.phase {
            raft.step(now, raft::Input::Tick);
        }
        self.expire_writes(now);
        self.expire_reads(now);
        self.expire_askers(now);
        while let Some(view) = self.views.expired(now) {
            self.store.close_view(view);
        }
    }

    /// Proposes the parked writes, as many as fit.
    pub(super) fn propose_parked(&mut self, now: Time) -> bool {
        let mut proposed = false;
        while let Some(parked) = self.parked.pop() {
            if let Some(parked) = self.propose(now, parked) {
                self.parked.put_back(parked);
                break;
            }
            proposed = true;
        }
        proposed
    }

    /// After the entries of this batch are applied: whoever waits for an index that a former leadership of this node left
    /// uncommitted gets "unknown" (C-23), and with it the credit.
    pub(super) fn settle_leadership(&mut self, now: Time, effects: &mut Effects) {
        let Phase::Member(raft) = &self.phase else { return };
        let leads = raft.is_leader().then(|| raft.term());
        let (leader, commit) = (raft.leader(), raft.commit_index());
        // All that waits above the commit index was proposed in one term, the newest.
        if self.pending.newest_term().is_some_and(|term| leads != Some(term)) {
            let mut ends = std::mem::take(&mut self.scratch.ends);
            self.pending.step_down(commit, &mut ends);
            for end in ends.drain(..) {
                let reason = Reason::LeaderChanged;
                let result = WriteResult::Unknown { reason };
                let result = sabotage!(DefiniteOnStepDown, result, WriteResult::NotExecuted { reason, leader });
                self.end(end, result, effects);
            }
            self.scratch.ends = ends;
        }
        if self.leader != leader {
            self.leader = leader;
            if leader.is_some() {
                self.reads.leader_changed(now);
                effects.more = true;
            }
        }
        effects.more |= self.propose_parked(now);
        effects.completions.append(&mut self.outbox.completions);
    }

    /// Answers a write that waited for an index, or only returns its credit.
    pub(super) fn end(&mut self, end: End, result: WriteResult, effects: &mut Effects) {
        match end {
            End::Answer(reply_to) => {
                effects.completions.push((reply_to.io_loop, Completion::Write { reply_to, result, credit: true }));
            }
            End::Credit(io_loop) => {
                let io_loop = usize::from(io_loop);
                if self.scratch.credits.len() <= io_loop {
                    self.scratch.credits.resize(io_loop + 1, 0);
                }
                self.scratch.credits[io_loop] += 1;
            }
        }
    }

    pub(super) fn return_credits(&mut self, effects: &mut Effects) {
        for (io_loop, credits) in (0..).zip(&mut self.scratch.credits) {
            if *credits > 0 {
                effects.completions.push((io_loop, Completion::Credit(std::mem::take(credits))));
            }
        }
    }

    /// Asks raft for the permissions whose time has come.
    pub(super) fn ask_reads(&mut self, now: Time) {
        let Phase::Member(raft) = &mut self.phase else { return };
        self.reads.ask(now, &mut self.scratch.tokens);
        for token in self.scratch.tokens.drain(..) {
            raft.step(now, raft::Input::Read { token });
        }
    }

    /// Hands on what raft permitted and this node has applied.
    pub(super) fn answer_reads(&mut self, now: Time, effects: &mut Effects) {
        let mut granted = std::mem::take(&mut self.scratch.granted);
        let applied = sabotage!(ReadBeforeApplied, self.store.applied(), protocol::Index(u64::MAX));
        self.reads.take_ready(applied, &mut granted);
        for (reader, index) in granted.drain(..) {
            match reader.purpose {
                Purpose::View => self.grant(now, reader),
                Purpose::Read => {
                    let completion = Completion::Read { token: reader.token, result: Ok(index) };
                    effects.completions.push((reader.io_loop, completion));
                }
            }
        }
        self.scratch.granted = granted;
        effects.completions.append(&mut self.outbox.completions);
    }

    fn write(&mut self, now: Time, write: Parked) {
        if write.deadline <= now {
            return self.not_executed(write.reply_to, Reason::Deadline, None);
        }
        if !self.parked.is_empty() {
            return self.parked.push(write);
        }
        if let Some(write) = self.propose(now, write) {
            self.parked.push(write);
        }
    }

    /// Puts the write into the log, or answers it; gives it back if raft has no room.
    fn propose(&mut self, now: Time, write: Parked) -> Option<Parked> {
        let Phase::Member(raft) = &mut self.phase else {
            self.not_executed(write.reply_to, Reason::Forming, None);
            return None;
        };
        match raft.propose(now, write.proposal.clone()) {
            Ok(id) => self.pending.push(id, write.reply_to, write.deadline),
            Err(ProposeError::Full) => return Some(write),
            Err(ProposeError::NotLeader { leader }) => {
                let reason = if leader.is_some() { Reason::NotLeader } else { Reason::NoLeader };
                self.not_executed(write.reply_to, reason, leader);
            }
        }
        None
    }

    fn not_executed(&mut self, reply_to: ReplyTo, reason: Reason, leader: Option<NodeId>) {
        let result = WriteResult::NotExecuted { reason, leader };
        self.outbox.completions.push((reply_to.io_loop, Completion::Write { reply_to, result, credit: true }));
    }

    fn read(&mut self, now: Time, reader: Reader, deadline: Time) {
        match self.phase {
            Phase::Forming => self.refuse(reader, Reason::Forming, None),
            Phase::Member(_) => self.reads.add(now, reader, deadline),
        }
    }

    fn refuse(&mut self, reader: Reader, reason: Reason, leader: Option<NodeId>) {
        let Reader { io_loop, token, purpose } = reader;
        let completion = match purpose {
            Purpose::Read => Completion::Read { token, result: Err((reason, leader)) },
            Purpose::View => Completion::View { token, result: Err((reason, leader)) },
        };
        self.outbox.completions.push((io_loop, completion));
    }

    /// Opens the view: its permission is there, or it needs none.
    fn grant(&mut self, now: Time, reader: Reader) {
        match self.store.open_view(self.settings.boot) {
            Ok(view) => {
                self.views.keep(|open| self.store.view_is_open(open));
                self.views.opened(now, view);
                let completion = Completion::View { token: reader.token, result: Ok(view) };
                self.outbox.completions.push((reader.io_loop, completion));
            }
            Err(_) => self.refuse(reader, Reason::Overload, None),
        }
    }

    fn expire_writes(&mut self, now: Time) {
        let mut expired = std::mem::take(&mut self.scratch.expired);
        self.pending.expire(now, &mut expired);
        for reply_to in expired.drain(..) {
            let reason = Reason::Deadline;
            let result = WriteResult::Unknown { reason };
            let result = sabotage!(DefiniteAtDeadline, result, WriteResult::NotExecuted { reason, leader: None });
            let credit = sabotage!(CreditAtDeadline, false, true);
            self.outbox.completions.push((reply_to.io_loop, Completion::Write { reply_to, result, credit }));
        }
        self.parked.expire(now, &mut expired);
        for reply_to in expired.drain(..) {
            self.not_executed(reply_to, Reason::Overload, None);
        }
        self.scratch.expired = expired;
    }

    fn expire_reads(&mut self, now: Time) {
        let mut refused = std::mem::take(&mut self.scratch.refused);
        self.reads.expire(now, self.leader, &mut refused);
        for refusal in refused.drain(..) {
            self.refuse(refusal.reader, refusal.reason, refusal.leader);
        }
        self.scratch.refused = refused;
    }
}
