//! From raft's ready to the state machine, and from there to the answers.

use protocol::command::Command;
use protocol::reply::Reason;
use protocol::{Entry, EntryHeader, EntryKind, Index};

use super::effects::{Effects, Stop, WriteResult};
use super::pending::Committed;
use super::{Phase, Replica, EXIT_IMPOSSIBLE};
use crate::kv::sessions::Origin;
use crate::kv::Reply;
use crate::raft::Raft;
use crate::time::Time;

impl Replica {
    /// Takes raft's ready apart: hands on what others do, and applies what is committed.
    pub(super) fn take_ready(&mut self, now: Time, effects: &mut Effects) {
        let Phase::Member(raft) = &mut self.phase else { return };
        let mut ready = std::mem::take(&mut self.ready);
        raft.ready(now, &mut ready);
        assert!(effects.append.is_none() || ready.append.is_none(), "one append at a time");
        effects.append = effects.append.take().or(ready.append.take());
        effects.messages.append(&mut ready.messages);
        effects.read_log.append(&mut ready.read_log);
        if let Some(wanted) = ready.fetch_snapshot.take() {
            self.fetch_snapshot(now, wanted, effects);
        }
        if let Some(stop) = ready.stop.take() {
            effects.stop = Some(Stop { exit_code: EXIT_IMPOSSIBLE, text: stop.to_string() });
        }
        for state in ready.reads.drain(..) {
            self.reads.answered(now, state.token, state.result.ok());
        }
        effects.more |= !ready.committed.is_empty();
        for entry in ready.committed.drain(..) {
            if effects.stop.is_none() {
                self.apply(&entry, effects);
            }
        }
        self.ready = ready;
    }

    /// Applies one committed entry, publishes it (C-19), and only then answers whoever waited for its index.
    fn apply(&mut self, entry: &Entry, effects: &mut Effects) {
        let id = entry.header.id;
        assert_eq!(id.index, self.store.applied().next(), "entries are applied in order, each once");
        let reply = match self.execute(entry) {
            Ok(reply) => reply,
            Err(text) => {
                effects.stop = Some(Stop { exit_code: EXIT_IMPOSSIBLE, text });
                return;
            }
        };
        self.store.publish(id.index);
        self.note_applied(entry);
        if let Phase::Member(raft) = &mut self.phase {
            raft.applied(id.index);
        }
        let leader = self.raft().and_then(Raft::leader);
        let replaced = WriteResult::NotExecuted { reason: Reason::Replaced, leader };
        let executed = reply.map(|reply| result(reply, id.index));
        match (self.pending.pop(id), executed) {
            (Some(Committed::Own(end)), Some(executed)) => self.end(end, executed, effects),
            (Some(Committed::Own(_)), None) => panic!("a client waited for entry {id:?}, which is no command"),
            (Some(Committed::Other(end)), _) => {
                self.end(end, sabotage!(ReplyByIndexOnly, replaced, executed.unwrap_or(replaced)), effects);
            }
            (None, _) => {}
        }
    }

    fn execute(&mut self, entry: &Entry) -> Result<Option<Reply>, String> {
        let EntryHeader { id, session, sequence, log_time, kind, .. } = entry.header;
        let log_time = sabotage!(ExpiryByWallClock, log_time, self.wall_clock);
        match kind {
            EntryKind::Noop => {
                self.store.pass(log_time);
                Ok(None)
            }
            EntryKind::Command => match Command::decode(&entry.body) {
                Ok(command) => {
                    let origin = Origin { session, sequence, log_time };
                    Ok(Some(self.store.execute(id.index, origin, &command)))
                }
                Err(error) => Err(format!("the committed entry {id:?} is no command: {error}")),
            },
            EntryKind::Configuration => {
                Err(format!("the committed entry {id:?} is of a kind this version does not know"))
            }
        }
    }
}

/// How whoever waited for the entry at `index` is answered.
fn result(reply: Reply, index: Index) -> WriteResult {
    match reply {
        Reply::Executed(executed) => WriteResult::Done(executed.outcome, executed.revision),
        Reply::Fate(fate) => WriteResult::Fate(fate, index),
    }
}
