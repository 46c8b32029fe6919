//! Follows one explained request at a time through this node, from the batch in which it came to the answer that goes back,
//! for the receipt in that answer. While none is followed, it costs a look at an option per batch.

use protocol::message::{Envelope, Message};
use protocol::receipt::{MemberTimes, Receipt, Stage};
use protocol::{EntryId, NodeId};

use super::system;
use crate::limits;
use crate::raft::{Append, AppendSequence};
use crate::replica::{Completion, ReplyTo};
use crate::time::{Span, Time};

/// An explained request on its way from an io thread to the raft thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Explained {
    /// Whom to answer.
    pub(super) reply_to: ReplyTo,
    pub(super) what: What,
    /// Its place in its batch.
    pub(super) position: usize,
    /// When its io thread woke for it.
    pub(super) woken: Time,
    pub(super) decoded: Time,
}

/// How its answer will be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Write,
    /// The permission with this token of its io loop.
    Read(u64),
}

/// A receipt on its way back, without its last stage.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) reply_to: ReplyTo,
    receipt: Receipt,
    released: Time,
}

/// The raft thread's part.
#[derive(Debug)]
pub(super) struct Trace {
    own: NodeId,
    followed: Option<Followed>,
}

#[derive(Debug)]
struct Followed {
    explained: Explained,
    taken: Time,
    /// Of a write.
    entry: Option<EntryId>,
    /// The append that holds it, and when that went to the log and the followers.
    handed: Option<(AppendSequence, Time)>,
    /// Who has it on disk, in the order in which that became known; each member once.
    words: Vec<Word>,
    answered: Option<Answered>,
}

#[derive(Clone, Copy, Debug)]
struct Word {
    node: NodeId,
    at: Time,
    queue_us: u32,
    sync_us: u32,
}

/// Its answer is kept for a moment, so that the other members' times can stand in the receipt.
#[derive(Debug)]
struct Answered {
    completion: Completion,
    /// When the iteration in which it was answered began to derive what follows from its inputs.
    derives: Time,
    at: Time,
}

impl Trace {
    /// Follows nothing.
    pub(super) fn new(own: NodeId) -> Trace {
        Trace { own, followed: None }
    }

    /// Follows this request from now on. False: another one is followed, and this one gets no receipt.
    pub(super) fn begin(&mut self, explained: Explained, taken: Time) -> bool {
        let longest = Span::millis(limits::REQUEST_DEADLINE_MS_MAX);
        let is_lost = |other: &Followed| other.answered.is_none() && taken.since(other.taken) > longest;
        let is_free = self.followed.as_ref().is_none_or(is_lost);
        if is_free {
            let (words, answered) = (Vec::new(), None);
            self.followed = Some(Followed { explained, taken, entry: None, handed: None, words, answered });
        }
        is_free
    }

    /// The followed write stands in the log as this entry; none: it does not, and is followed no longer.
    pub(super) fn proposed(&mut self, entry: Option<EntryId>) {
        match (&mut self.followed, entry) {
            (Some(followed), Some(_)) => followed.entry = entry,
            _ => self.followed = None,
        }
    }

    /// An append went to the log.
    pub(super) fn handed(&mut self, append: &Append) {
        let Some(followed) = &mut self.followed else { return };
        let holds = |id: EntryId| append.entries.iter().any(|entry| entry.header.id == id);
        if followed.handed.is_none() && followed.entry.is_some_and(holds) {
            followed.handed = Some((append.sequence, system::now()));
        }
    }

    /// An append of this node is durable.
    pub(super) fn persisted(&mut self, sequence: AppendSequence, queue_us: u32, sync_us: u32) {
        let own = self.own;
        let Some(followed) = &mut self.followed else { return };
        if followed.handed.is_some_and(|(handed, _)| handed == sequence) {
            followed.note(Word { node: own, at: system::now(), queue_us, sync_us });
        }
    }

    /// A peer has said something.
    pub(super) fn received(&mut self, envelope: &Envelope) {
        let Some(followed) = &mut self.followed else { return };
        let (Message::AppendReply(reply), Some(entry)) = (&envelope.message, followed.entry) else { return };
        if envelope.term == entry.term && reply.matched >= entry.index {
            let (queue_us, sync_us) = (reply.queue_us, reply.sync_us);
            followed.note(Word { node: envelope.from, at: system::now(), queue_us, sync_us });
        }
    }

    /// Whether this is the answer to the followed request; then it is kept here until [`Trace::release`] gives it.
    pub(super) fn keep(&mut self, io_loop: u16, completion: Completion, derives: Time) -> bool {
        let Some(followed) = &mut self.followed else { return false };
        let Explained { reply_to, what, .. } = followed.explained;
        // A client may number several requests alike: the first answer is kept, and no other takes its place, or the credit in it
        // were lost (C-26).
        let is_its = followed.answered.is_none()
            && match completion {
                Completion::Write { reply_to: answered, .. } => what == What::Write && answered == reply_to,
                Completion::Read { token, .. } => what == What::Read(token) && io_loop == reply_to.io_loop,
                Completion::Credit(_) | Completion::View { .. } | Completion::Snapshot { .. } => false,
            };
        if is_its {
            followed.answered = Some(Answered { completion, derives, at: system::now() });
        }
        is_its
    }

    /// When [`Trace::release`] has something to give at the latest.
    pub(super) fn next_deadline(&self) -> Time {
        let answered = self.followed.as_ref().and_then(|followed| followed.answered.as_ref());
        answered.map_or(Time::NEVER, |answered| answered.at + Span::millis(limits::RECEIPT_HELD_MS))
    }

    /// The kept answer and its receipt, once all connected members have given their word or time is up. `others`: the other
    /// members, and whether they are connected.
    pub(super) fn release(
        &mut self,
        now: Time,
        others: impl Iterator<Item = (NodeId, bool)> + Clone,
    ) -> Option<(ReplyTo, Completion, Option<Given>)> {
        let followed = self.followed.as_ref()?;
        followed.answered.as_ref()?;
        let connected = 1 + others.clone().filter(|(_, is_connected)| *is_connected).count();
        let waits = followed.handed.is_some() && followed.words.len() < connected;
        if waits && now < self.next_deadline() {
            return None;
        }
        let followed = self.followed.take().expect("looked at above");
        let completion = followed.answered.as_ref().expect("looked at above").completion;
        let members = others.map(|(node, _)| node).chain([self.own]).collect();
        Some((followed.explained.reply_to, completion, followed.give(self.own, members, now)))
    }
}

impl Followed {
    fn note(&mut self, word: Word) {
        if self.words.iter().all(|other| other.node != word.node) {
            self.words.push(word);
        }
    }

    /// None: it never came as far as the log, so there is nothing to tell.
    fn give(&self, own: NodeId, members: Vec<NodeId>, now: Time) -> Option<Given> {
        let Explained { reply_to, what, woken, decoded, .. } = self.explained;
        let answered = self.answered.as_ref()?;
        let mut stages = vec![(Stage::Decode, between(woken, decoded)), (Stage::Queue, between(decoded, self.taken))];
        let mut receipt = Receipt { node: own, ..Receipt::default() };
        if what == What::Write {
            let (_, handed) = self.handed?;
            stages.push((Stage::Propose, between(self.taken, handed)));
            stages.push((Stage::Quorum, between(handed, answered.derives)));
            stages.push((Stage::Apply, between(answered.derives, answered.at)));
            stages.push((Stage::Held, between(answered.at, now)));
            receipt.closed_by = self.closed_by(members.len() / 2 + 1, answered.derives);
            receipt.members = self.member_times(members, handed);
        } else {
            stages.push((Stage::Permission, between(self.taken, now)));
        }
        receipt.stages = stages;
        Some(Given { reply_to, receipt, released: now })
    }

    /// Whose word made the majority, before it was acted on.
    fn closed_by(&self, quorum: usize, derives: Time) -> Option<NodeId> {
        self.words.get(quorum - 1).filter(|word| word.at <= derives).map(|word| word.node)
    }

    fn member_times(&self, mut members: Vec<NodeId>, handed: Time) -> Vec<MemberTimes> {
        members.retain(|node| self.words.iter().all(|word| word.node != *node));
        members.sort();
        let silent = members.into_iter().map(|node| MemberTimes { node, ..MemberTimes::default() });
        let told = self.words.iter().map(|word| MemberTimes {
            node: word.node,
            durable_us: Some(between(handed, word.at)),
            queue_us: word.queue_us,
            sync_us: word.sync_us,
        });
        told.chain(silent).collect()
    }
}

impl Given {
    /// The receipt as it travels: its last stage ends now.
    pub(super) fn into_trailer(mut self, now: Time) -> Vec<u8> {
        self.receipt.stages.push((Stage::Reply, between(self.released, now)));
        let mut trailer = Vec::new();
        self.receipt.encode(&mut trailer);
        trailer
    }
}

fn between(from: Time, to: Time) -> u32 {
    u32::try_from(to.since(from).as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use protocol::message::AppendReply;
    use protocol::reply::Reason;
    use protocol::{
        Chain, ClusterId, Entry, EntryHeader, EntryKind, Incarnation, Index, LogTime, RequestId, Sequence, SessionId,
        Term,
    };

    use super::*;
    use crate::replica::WriteResult;

    const ENTRY: EntryId = EntryId { term: Term(3), index: Index(7) };

    fn explained(what: What) -> Explained {
        let reply_to = ReplyTo { request: RequestId(5), ..ReplyTo::default() };
        let now = system::now();
        Explained { reply_to, what, position: 0, woken: now, decoded: now }
    }

    fn append() -> Append {
        let header = EntryHeader {
            id: ENTRY,
            log_time: LogTime(0),
            session: SessionId(0),
            sequence: Sequence(0),
            kind: EntryKind::Noop,
            flags: 0,
            body_len: 0,
            body_checksum: 0,
            chain: Chain(0),
        };
        Append { entries: vec![Entry { header, body: bytes::Bytes::new() }], ..Append::empty(AppendSequence(9)) }
    }

    fn word_of(node: u32, term: u64, matched: u64) -> Envelope {
        let reply =
            AppendReply { matched: Index(matched), queue_us: 10 + node, sync_us: 100 + node, ..AppendReply::default() };
        Envelope {
            cluster: ClusterId(1),
            incarnation: Incarnation(1),
            from: NodeId(node),
            to: NodeId(0),
            term: Term(term),
            message: Message::AppendReply(reply),
        }
    }

    fn done(explained: &Explained) -> Completion {
        let result = WriteResult::Unknown { reason: Reason::Deadline };
        Completion::Write { reply_to: explained.reply_to, result, credit: true }
    }

    fn others() -> impl Iterator<Item = (NodeId, bool)> + Clone {
        [(NodeId(1), true), (NodeId(2), true)].into_iter()
    }

    fn receipt(given: Option<Given>) -> Receipt {
        Receipt::decode(&given.expect("a receipt").into_trailer(system::now())).expect("it can be read")
    }

    /// A trace of a write that is in the log, as node 0.
    fn proposed() -> (Trace, Explained) {
        let (mut trace, explained) = (Trace::new(NodeId(0)), explained(What::Write));
        assert!(trace.begin(explained, system::now()));
        trace.proposed(Some(ENTRY));
        trace.handed(&append());
        (trace, explained)
    }

    #[test]
    fn the_second_word_of_three_closes_the_quorum_and_the_third_is_waited_for() {
        let (mut trace, explained) = proposed();
        trace.received(&word_of(2, 3, 6));
        trace.received(&word_of(2, 2, 7));
        trace.received(&word_of(2, 3, 8));
        trace.received(&word_of(2, 3, 9));
        trace.persisted(AppendSequence(8), 1, 1);
        trace.persisted(AppendSequence(9), 4, 40);
        assert!(trace.release(system::now(), others()).is_none(), "it is not answered");
        assert!(trace.keep(0, done(&explained), system::now()));
        assert!(trace.release(system::now(), others()).is_none(), "node 1 has not given its word");
        trace.received(&word_of(1, 3, 7));
        let (reply_to, completion, given) = trace.release(system::now(), others()).expect("all words are there");
        assert_eq!((reply_to, completion), (explained.reply_to, done(&explained)));
        let receipt = receipt(given);
        assert_eq!((receipt.node, receipt.closed_by), (NodeId(0), Some(NodeId(0))));
        let members: Vec<_> =
            receipt.members.iter().map(|times| (times.node.0, times.queue_us, times.sync_us)).collect();
        assert_eq!(members, [(2, 12, 102), (0, 4, 40), (1, 11, 101)]);
        assert!(receipt.members.is_sorted_by_key(|times| times.durable_us));
        let stages: Vec<Stage> = receipt.stages.iter().map(|(stage, _)| *stage).collect();
        use Stage::{Apply, Decode, Held, Propose, Queue, Quorum, Reply};
        assert_eq!(stages, [Decode, Queue, Propose, Quorum, Apply, Held, Reply]);
        assert!(trace.begin(explained, system::now()), "it is free again");
    }

    #[test]
    fn a_member_without_a_word_is_named_after_a_while() {
        let (mut trace, explained) = proposed();
        trace.persisted(AppendSequence(9), 4, 40);
        trace.received(&word_of(1, 3, 7));
        trace.keep(0, done(&explained), system::now());
        assert!(!trace.begin(explained, system::now()), "one at a time");
        let receipt = receipt(trace.release(trace.next_deadline(), others()).expect("time is up").2);
        assert_eq!(receipt.closed_by, Some(NodeId(1)));
        assert_eq!(receipt.members[2], MemberTimes { node: NodeId(2), ..MemberTimes::default() });
    }

    #[test]
    fn what_does_not_reach_the_log_has_no_receipt_and_is_not_kept() {
        let (mut trace, explained) = (Trace::new(NodeId(0)), explained(What::Write));
        assert!(!trace.keep(0, done(&explained), system::now()), "nothing is followed");
        trace.begin(explained, system::now());
        trace.proposed(None);
        assert!(!trace.keep(0, done(&explained), system::now()), "it was refused");
        let (mut trace, explained) = (Trace::new(NodeId(0)), explained);
        trace.begin(explained, system::now());
        trace.proposed(Some(ENTRY));
        assert!(trace.keep(0, done(&explained), system::now()));
        let (_, _, given) = trace.release(system::now(), others()).expect("nothing to wait for");
        assert!(given.is_none());
    }

    /// A client may give many requests the same number; each has its own answer and its own credit.
    #[test]
    fn one_answer_is_kept_and_others_of_the_same_number_go_on() {
        let (mut trace, explained) = proposed();
        assert!(trace.keep(0, done(&explained), system::now()));
        let result = WriteResult::NotExecuted { reason: Reason::Overload, leader: None };
        let other = Completion::Write { reply_to: explained.reply_to, result, credit: true };
        assert!(!trace.keep(0, other, system::now()), "it is answered without a receipt");
        let (_, completion, _) = trace.release(trace.next_deadline(), others()).expect("time is up");
        assert_eq!(completion, done(&explained));
    }

    #[test]
    fn a_read_tells_of_its_permission() {
        let (mut trace, explained) = (Trace::new(NodeId(0)), explained(What::Read(3)));
        trace.begin(explained, system::now());
        let permission = |token| Completion::Read { token, result: Ok(Index(7)) };
        assert!(!trace.keep(0, permission(4), system::now()));
        assert!(!trace.keep(1, permission(3), system::now()), "another io loop's");
        assert!(trace.keep(0, permission(3), system::now()));
        let receipt = receipt(trace.release(system::now(), others()).expect("nothing to wait for").2);
        let stages: Vec<Stage> = receipt.stages.iter().map(|(stage, _)| *stage).collect();
        assert_eq!(stages, [Stage::Decode, Stage::Queue, Stage::Permission, Stage::Reply]);
        assert_eq!((receipt.members.len(), receipt.closed_by), (0, None));
    }
}
