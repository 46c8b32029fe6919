//! From raft's ready to the state machine, and from there to the answers.

use protocol::command::Command;
use protocol::reply::Reason;
use protocol::{Entry, EntryHeader, EntryKind, Index};

use super::effects::{Effects, Stop, WriteResult};
use super::pending::Committed;
use super::{Phase, Replica, EXIT_IMPOSSIBLE};
use crate::kv::sessions::Origin;
use crate::kv::Reply;
use crate::limits;
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
        self.apply_all(&ready.committed, effects);
        ready.committed.clear();
        self.ready = ready;
    }

    /// Applies committed entries and publishes them together (C-19). Their answers are among the effects, so nobody hears
    /// one before that.
    fn apply_all(&mut self, entries: &[Entry], effects: &mut Effects) {
        let mut applied = self.store.applied();
        for some in entries.chunks(limits::WARM_KEYS) {
            let commands: [Option<Command<'_>>; limits::WARM_KEYS] =
                std::array::from_fn(|position| some.get(position).and_then(command));
            let operations = commands.iter().flatten().filter_map(Command::operation);
            self.store.warm(operations.map(|operation| operation.key()));
            for (entry, command) in some.iter().zip(&commands) {
                if effects.stop.is_some() {
                    return; // the process ends: nothing is published, and nobody is answered
                }
                let id = entry.header.id;
                assert_eq!(id.index, applied.next(), "entries are applied in order, each once");
                self.apply(entry, command.as_ref(), effects);
                applied = id.index;
            }
        }
        if effects.stop.is_none() && applied > self.store.applied() {
            self.store.publish(applied);
        }
    }

    /// Applies one committed entry, and says how whoever waited for its index is answered.
    fn apply(&mut self, entry: &Entry, command: Option<&Command<'_>>, effects: &mut Effects) {
        let id = entry.header.id;
        let reply = match self.execute(entry, command) {
            Ok(reply) => reply,
            Err(text) => {
                effects.stop = Some(Stop { exit_code: EXIT_IMPOSSIBLE, text });
                return;
            }
        };
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

    fn execute(&mut self, entry: &Entry, command: Option<&Command<'_>>) -> Result<Option<Reply>, String> {
        let EntryHeader { id, session, sequence, log_time, kind, .. } = entry.header;
        let log_time = sabotage!(ExpiryByWallClock, log_time, self.wall_clock);
        match kind {
            EntryKind::Noop => {
                self.store.pass(log_time);
                Ok(None)
            }
            EntryKind::Command => match command {
                Some(command) => {
                    let origin = Origin { session, sequence, log_time };
                    Ok(Some(self.store.execute(id.index, origin, command)))
                }
                None => {
                    Err(format!("the committed entry {id:?} is no command: {:?}", Command::decode(&entry.body).err()))
                }
            },
            EntryKind::Configuration => {
                Err(format!("the committed entry {id:?} is of a kind this version does not know"))
            }
        }
    }
}

/// The entry's command, if it is one.
fn command(entry: &Entry) -> Option<Command<'_>> {
    if entry.header.kind != EntryKind::Command {
        return None;
    }
    Command::decode(&entry.body).ok()
}

/// How whoever waited for the entry at `index` is answered.
fn result(reply: Reply, index: Index) -> WriteResult {
    match reply {
        Reply::Executed(executed) => WriteResult::Done(executed.outcome, executed.revision),
        Reply::Fate(fate) => WriteResult::Fate(fate, index),
    }
}
