//! A state's digest, in which only what can matter later counts, and in which nodes can be renamed.
//!
//! It is taken over the debug text of a `Raft`, which names every field. What is left out decides nothing here, and the model
//! gives up no behaviour by it: see [`LEFT_OUT`]. Moments count only as what they are compared with, append sequences as
//! their distance from the newest, and lists whose order means nothing as sets.

use std::fmt;

use raftkv::time::{Span, Time};

/// Two states of 100 million meet by chance once in 10^22 searches.
pub type Digest = u128;

/// What each node is called instead: node `i` becomes node `names[i]`.
pub type Names = [usize; 3];

/// Nodes keep their names.
pub const OWN_NAMES: Names = [0, 1, 2];

/// Steps of time are so unlike in size that no number of small ones within the bounds adds up to a larger one.
pub const NOTICE: Span = Span(1);
pub const HEARTBEAT: Span = Span::micros(1);
/// The shortest election timeout.
pub const PATIENCE: Span = Span::secs(1);
/// So long that every timer is due.
pub const LONG: Span = Span::secs(10);

/// Fields that decide nothing here, and why.
const LEFT_OUT: &[&str] = &[
    // Timers of elections: a timeout is an event, whose time is so long that each is due.
    "timers",
    "random",
    "ask_again",
    "links",
    // When the disk last got on: a timeout says itself whether the disk hangs, and nothing else asks.
    "since",
    "completed",
    // Only snapshots ask, and there are none.
    "advanced",
    // Log time is in milliseconds: within a leader's life the clock moves by microseconds.
    "clock",
    "wall_clock",
    // The same all the time, or only shown.
    "settings",
    "campaigns",
    "context",
    "disk_us",
    "leader_commit",
    "needs_snapshot",
    "spare",
    // Adds up what is listed beside it.
    "bytes",
];

/// Lists that are sets: who is a peer, who has answered, what leaves together into a network without order.
const UNORDERED: &[&str] = &["peers", "answers", "waiting"];

/// How a text is read.
#[derive(Clone, Copy)]
pub struct Reading<'a> {
    pub now: Time,
    /// The sequences of the appends under way that change the disk: the others count as the one before them.
    pub writes: &'a [u64],
    pub names: Names,
}

/// Digests debug text, as derived implementations write it.
pub fn digest(text: &str, reading: Reading<'_>) -> Digest {
    let mut text = Text { rest: text.as_bytes(), reading };
    let digest = text.value();
    assert!(text.rest.is_empty(), "debug text is read to its end");
    digest
}

/// The debug text of anything.
pub fn text(what: &dyn fmt::Debug) -> String {
    format!("{what:?}")
}

/// Digests one thing behind another. The result may be added to others of its kind: sums of digests are digests of sets.
pub fn fold(before: Digest, next: Digest) -> Digest {
    const ODD: [u128; 2] = [0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835, 0xC2B2_AE3D_27D4_EB4F_1656_67B1_9E37_79F9];
    let mut mixed = (before.rotate_left(29) ^ next).wrapping_mul(ODD[0]);
    mixed ^= mixed >> 64;
    mixed = mixed.wrapping_mul(ODD[1]);
    mixed ^ (mixed >> 61)
}

/// The digest of what a list may as well not hold.
const NOTHING: Digest = 0;

struct Text<'a> {
    rest: &'a [u8],
    reading: Reading<'a>,
}

impl Text<'_> {
    fn value(&mut self) -> Digest {
        match self.rest[0] {
            b'[' => self.list(b']', false),
            b'(' => self.list(b')', false),
            b'{' => self.list(b'}', false),
            b'"' => self.string(),
            first if first.is_ascii_digit() => fold(1, self.number().into()),
            _ => self.named(),
        }
    }

    /// A unit, a tuple or a struct with its name; `b"text"` looks like one.
    fn named(&mut self) -> Digest {
        let length = self.rest.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_');
        let (name, rest) = self.rest.split_at(length.unwrap_or(self.rest.len()));
        assert!(!name.is_empty(), "a name is expected at {:?}", String::from_utf8_lossy(rest));
        self.rest = rest;
        match name {
            b"Time" => self.in_brackets(Self::moment),
            b"AppendSequence" => {
                self.in_brackets(|text, number| text.reading.writes.partition_point(|write| *write <= number) as u64)
            }
            b"InFlight" => self.in_flight(),
            b"NodeId" => self.in_brackets(|text, id| text.reading.names[id as usize] as u64),
            _ => {
                let name = name.iter().fold(3, |digest, byte| fold(digest, u128::from(*byte)));
                match self.rest {
                    [b'(', ..] => fold(name, self.list(b')', false)),
                    [b' ', b'{', ..] => fold(name, self.fields()),
                    [b'"', ..] => fold(name, self.string()),
                    _ => name,
                }
            }
        }
    }

    fn in_brackets(&mut self, class: impl Fn(&Self, u64) -> u64) -> Digest {
        self.take(b"(");
        let number = self.number();
        self.take(b")");
        fold(4, class(self, number).into())
    }

    /// An append under way, as the log sees it, is nothing to it once all its entries are overwritten: no completion counts.
    fn in_flight(&mut self) -> Digest {
        self.take(b" { sequence: ");
        let sequence = self.value();
        self.take(b", first: Index(");
        let first = self.number();
        self.take(b"), last: Index(");
        let last = self.number();
        let length = self.rest.iter().position(|byte| *byte == b'}').expect("it ends");
        self.rest = &self.rest[length + 1..];
        if last < first {
            return NOTHING;
        }
        [sequence, first.into(), last.into()].into_iter().fold(10, fold)
    }

    fn moment(&self, number: u64) -> u64 {
        let (now, then) = (self.reading.now, Time(number));
        match then.since(now) {
            _ if then == Time::NEVER => 0,
            Span(0) => u64::from(now.since(then) < PATIENCE) + 1,
            ahead if ahead <= NOTICE => 3,
            ahead if ahead <= HEARTBEAT => 4,
            _ => 5,
        }
    }

    fn list(&mut self, end: u8, unordered: bool) -> Digest {
        self.rest = &self.rest[1..];
        let mut digest = Digest::from(end);
        while self.rest[0] != end {
            let item = self.value();
            digest = match item {
                NOTHING => digest,
                item if unordered => digest.wrapping_add(fold(5, item)),
                item => fold(digest, item),
            };
            self.skip(b", ");
        }
        self.rest = &self.rest[1..];
        fold(6, digest)
    }

    fn fields(&mut self) -> Digest {
        self.take(b" { ");
        let mut digest = 7;
        while !self.skip(b" }") {
            let length = self.rest.iter().position(|byte| *byte == b':').expect("a field has a name and a value");
            let name = std::str::from_utf8(&self.rest[..length]).expect("names are text");
            self.rest = &self.rest[length..];
            self.take(b": ");
            let unordered = UNORDERED.contains(&name) && self.rest[0] == b'[';
            let value = if unordered { self.list(b']', true) } else { self.value() };
            digest = if LEFT_OUT.contains(&name) { digest } else { fold(digest, value) };
            self.skip(b", ");
        }
        digest
    }

    fn string(&mut self) -> Digest {
        let length = self.rest[1..].iter().position(|byte| *byte == b'"').expect("a string ends") + 2;
        let (string, rest) = self.rest.split_at(length);
        assert!(!string.contains(&b'\\'), "no string here needs an escape");
        self.rest = rest;
        string.iter().fold(8, |digest, byte| fold(digest, u128::from(*byte)))
    }

    fn number(&mut self) -> u64 {
        let length = self.rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(length);
        self.rest = rest;
        std::str::from_utf8(digits).expect("digits").parse().expect("numbers have 64 bits")
    }

    fn take(&mut self, expected: &[u8]) {
        assert!(self.skip(expected), "{:?} is expected", String::from_utf8_lossy(expected));
    }

    fn skip(&mut self, expected: &[u8]) -> bool {
        let found = self.rest.starts_with(expected);
        if found {
            self.rest = &self.rest[expected.len()..];
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use protocol::NodeId;
    use raftkv::raft::AppendSequence;

    use super::*;

    fn of(what: &dyn fmt::Debug, now: u64, writes: &[u64]) -> Digest {
        digest(&text(what), Reading { now: Time(now), writes, names: OWN_NAMES })
    }

    #[test]
    fn moments_count_as_what_they_are_compared_with() {
        let (lately, long_ago) = (LONG.0 - PATIENCE.0 + 1, LONG.0 - PATIENCE.0);
        let at = |time: u64| of(&(Some(Time(time)), 7), LONG.0, &[]);
        assert_eq!(at(lately), at(LONG.0));
        assert_eq!(at(0), at(long_ago));
        let classes = [0, lately, LONG.0 + NOTICE.0, LONG.0 + HEARTBEAT.0, 2 * LONG.0, u64::MAX].map(at);
        for (position, class) in classes.iter().enumerate() {
            assert!(!classes[..position].contains(class), "{position}");
        }
        assert_ne!(of(&(Some(Time(0)), 8), LONG.0, &[]), at(0), "everything else counts");
    }

    #[test]
    fn appends_count_by_the_write_that_completes_them() {
        let at = |sequence, writes: &[u64]| of(&AppendSequence(sequence), 0, writes);
        assert_eq!(at(3, &[3, 5]), at(9, &[8, 12]));
        assert_eq!(at(3, &[3, 5]), at(4, &[3, 5]), "4 changes nothing");
        assert_ne!(at(3, &[3, 5]), at(5, &[3, 5]));
    }

    #[derive(Debug)]
    #[allow(dead_code, reason = "only its debug text is looked at")]
    struct Node {
        campaigns: u64,
        term: u64,
        answers: Vec<(NodeId, bool)>,
        votes: Vec<NodeId>,
        body: Bytes,
    }

    fn node(campaigns: u64, term: u64, ids: [u32; 2]) -> Node {
        let [first, second] = ids.map(NodeId);
        let (answers, votes) = (vec![(first, true), (second, true)], vec![first]);
        Node { campaigns, term, answers, votes, body: Bytes::from_static(b"command") }
    }

    #[test]
    fn counters_that_decide_nothing_are_left_out() {
        assert_eq!(of(&node(1, 5, [1, 2]), 0, &[]), of(&node(2, 5, [1, 2]), 0, &[]));
        assert_ne!(of(&node(1, 5, [1, 2]), 0, &[]), of(&node(1, 6, [1, 2]), 0, &[]));
    }

    #[test]
    fn renamed_nodes_are_other_nodes_and_sets_have_no_order() {
        let swapped = Reading { now: Time(0), writes: &[], names: [0, 2, 1] };
        let here = node(1, 5, [1, 2]);
        assert_eq!(digest(&text(&here), swapped), of(&node(1, 5, [2, 1]), 0, &[]));
        assert_ne!(of(&here, 0, &[]), of(&node(1, 5, [2, 1]), 0, &[]), "the list of votes has an order");
        let again = Node { answers: vec![(NodeId(2), true), (NodeId(1), true)], ..node(1, 5, [1, 2]) };
        assert_eq!(of(&here, 0, &[]), of(&again, 0, &[]));
    }
}
