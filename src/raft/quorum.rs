//! Majorities: one function for the commit index, for rounds and for everything else that a quorum confirms.

use crate::limits::MEMBERS_MAX;

/// How many of `voters` make a majority.
pub fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// The highest mark that a majority of voters has reached, given one mark per voter (paper section 5.3: "a majority of
/// matchIndex"). Sorts `marks` in place. Panics without voters: a cluster has at least one.
pub fn committed<T: Copy + Ord>(marks: &mut [T]) -> T {
    assert!(!marks.is_empty(), "a cluster has at least one voter");
    marks.sort_unstable();
    marks[marks.len() - majority(marks.len())]
}

/// As [`committed`], of a leader's own mark and the others': no more than [`MEMBERS_MAX`] together.
pub fn committed_with<T: Copy + Ord>(own: T, others: impl Iterator<Item = T>) -> T {
    let mut marks = [own; MEMBERS_MAX];
    let mut voters = 1;
    for mark in others {
        marks[voters] = mark;
        voters += 1;
    }
    committed(&mut marks[..voters])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_committed_when_a_majority_reached_it() {
        let table: [(&[u64], u64); 9] = [
            (&[7], 7),
            (&[1, 9], 1),
            (&[1, 5, 9], 5),
            (&[0, 0, 9], 0),
            (&[4, 4, 9], 4),
            (&[1, 2, 3, 4], 2),
            (&[1, 2, 3, 4, 5], 3),
            (&[0, 0, 0, 9, 9], 0),
            (&[9, 0, 9, 0, 9, 0, 9], 9),
        ];
        for (marks, expected) in table {
            assert_eq!(committed(&mut marks.to_vec()), expected, "{marks:?}");
        }
    }

    #[test]
    fn committed_is_the_highest_mark_with_a_majority_at_or_above_it() {
        for code in 0..4_u64.pow(5) {
            let marks: Vec<u64> = (0..5).map(|digit| code / 4_u64.pow(digit) % 4).collect();
            let by_definition = (0..4).rev().find(|mark| marks.iter().filter(|m| *m >= mark).count() >= 3).expect("0");
            assert_eq!(committed(&mut marks.clone()), by_definition, "{marks:?}");
            assert_eq!(committed_with(marks[0], marks[1..].iter().copied()), by_definition, "{marks:?}");
        }
    }
}
