//! A state's digest, in which only what can matter later counts.
//!
//! It is taken over the debug text of a `Raft`, which names every field, as it is written. Left out: the random state, because
//! timeouts are events here; counters that nothing decides on. Moments count only as what they are compared with: long ago,
//! lately, or to come; append sequences as their distance from the newest.

use std::fmt::{self, Write};

use raftkv::time::{Span, Time};

/// Wide enough that two states of millions do not meet by chance.
pub type Digest = u128;

/// Digests `what`, whose clock shows `now`; a moment is long ago if it is `patience` behind.
pub fn digest(what: &dyn fmt::Debug, now: Time, patience: Span, newest_append: u64) -> Digest {
    let mut canonical = Canonical { now, patience, newest_append, lanes: [1, 2], number: Number::Counts };
    write!(canonical, "{what:?}").expect("it takes everything");
    canonical.end()
}

/// Digests what was digested before.
pub fn combine(parts: impl IntoIterator<Item = Digest>) -> Digest {
    let mut canonical =
        Canonical { now: Time(0), patience: Span::ZERO, newest_append: 0, lanes: [3, 4], number: Number::Counts };
    for part in parts {
        canonical.mix(part as u64);
        canonical.mix((part >> 64) as u64);
    }
    canonical.end()
}

/// Takes debug text piece by piece, as derived implementations write it: a name, its bracket or colon, the number.
struct Canonical {
    now: Time,
    patience: Span,
    newest_append: u64,
    lanes: [u64; 2],
    number: Number,
}

/// What the next number is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Number {
    Counts,
    Moment,
    AppendSequence,
    LeftOut,
}

impl Canonical {
    fn mix(&mut self, word: u64) {
        for (lane, prime) in self.lanes.iter_mut().zip([0x9E37_79B9_7F4A_7C15, 0xC2B2_AE3D_27D4_EB4F]) {
            *lane = (*lane ^ word).wrapping_mul(prime);
            *lane ^= *lane >> 29;
        }
    }

    fn mix_text(&mut self, text: &str) {
        for chunk in text.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn class(&self, number: u64) -> u64 {
        match self.number {
            Number::Counts => number,
            Number::Moment if Time(number) > self.now => 2,
            Number::Moment => u64::from(self.now.since(Time(number)) < self.patience),
            Number::AppendSequence => self.newest_append.wrapping_sub(number),
            Number::LeftOut => 0,
        }
    }

    fn end(mut self) -> Digest {
        self.mix(0);
        u128::from(self.lanes[0]) << 64 | u128::from(self.lanes[1])
    }
}

impl Write for Canonical {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let text = match piece.as_bytes().first() {
            Some(first) if first.is_ascii_digit() => match piece.parse() {
                Ok(number) => {
                    self.mix(self.class(number));
                    self.number = Number::Counts;
                    return Ok(());
                }
                Err(_) => piece,
            },
            _ => piece,
        };
        match text {
            "Time" => self.number = Number::Moment,
            "AppendSequence" => self.number = Number::AppendSequence,
            "Random" | "context" | "campaigns" => self.number = Number::LeftOut,
            "(" | ": " => {}
            _ => self.number = Number::Counts,
        }
        self.mix_text(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use raftkv::raft::AppendSequence;

    use super::*;

    fn of(what: &dyn fmt::Debug, now: u64, newest: u64) -> Digest {
        digest(what, Time(now), Span(10), newest)
    }

    #[test]
    fn moments_count_as_long_ago_lately_and_to_come() {
        let at = |time: u64| (Some(Time(time)), 7);
        assert_eq!(of(&at(95), 100, 0), of(&at(100), 105, 0));
        assert_ne!(of(&at(95), 100, 0), of(&at(80), 100, 0));
        assert_ne!(of(&at(95), 100, 0), of(&at(101), 100, 0));
        assert_ne!(of(&(Some(Time(95)), 8), 100, 0), of(&at(95), 100, 0), "everything else counts");
    }

    #[test]
    fn appends_count_by_their_distance() {
        assert_eq!(of(&AppendSequence(3), 0, 5), of(&AppendSequence(8), 0, 10));
        assert_ne!(of(&AppendSequence(3), 0, 5), of(&AppendSequence(4), 0, 5));
    }

    #[test]
    fn counters_that_decide_nothing_are_left_out() {
        #[derive(Debug)]
        #[allow(dead_code, reason = "only its debug text is looked at")]
        struct Node {
            campaigns: u64,
            term: u64,
        }
        let node = |campaigns, term| of(&Node { campaigns, term }, 0, 0);
        assert_eq!(node(1, 5), node(2, 5));
        assert_ne!(node(1, 5), node(1, 6));
    }
}
