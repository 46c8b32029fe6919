//! A hash of all that happened, in order: two runs of a seed are the same run.

use std::fmt;

use raftkv::raft::ReadLog;

use crate::world::Event;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trace(u64);

impl Trace {
    pub fn fold(&mut self, number: u64) {
        let mixed = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 29);
    }

    fn fold_all<const N: usize>(&mut self, numbers: [u64; N]) {
        numbers.into_iter().for_each(|number| self.fold(number));
    }

    fn fold_bytes(&mut self, bytes: &[u8]) {
        self.fold(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.fold(u64::from_le_bytes(word));
        }
    }

    /// Takes in an event with all that it carries.
    pub fn event(&mut self, event: &Event) {
        let wide = u64::from;
        match event {
            Event::Boot { node } => self.fold_all([1, wide(*node)]),
            Event::Run { node, life } => self.fold_all([2, wide(*node), wide(*life)]),
            Event::Synced { node, life } => self.fold_all([3, wide(*node), wide(*life)]),
            Event::LogRead { node, life, ask } => {
                let ReadLog { term, from, bytes_max, previous, .. } = ask;
                self.fold_all([4, wide(*node), wide(*life), term.0, from.0, *bytes_max as u64, previous.term.0]);
            }
            Event::Bulk { node, life } => self.fold_all([18, wide(*node), wide(*life)]),
            Event::Transfer { from, to, to_life, fetch, frame } => {
                self.fold_all([19, wide(*from), wide(*to), wide(*to_life), *fetch]);
                self.fold_bytes(frame);
            }
            Event::TransferCut { node, life, fetch } => self.fold_all([20, wide(*node), wide(*life), *fetch]),
            Event::Dial { a, b } => self.fold_all([5, wide(*a), wide(*b)]),
            Event::Frame { from, to, to_life, connection, frame } => {
                self.fold_all([6, wide(*from), wide(*to), wide(*to_life), *connection]);
                self.fold_bytes(frame);
            }
            Event::Lost { at, peer, connection } => self.fold_all([7, wide(*at), wide(*peer), *connection]),
            Event::UserTimeout { from, to, connection } => self.fold_all([8, wide(*from), wide(*to), *connection]),
            Event::Fault => self.fold(9),
            Event::StrikeElected { node } => self.fold_all([21, wide(*node)]),
            Event::HealQuorum => self.fold(10),
            Event::ClientRun { client } => self.fold_all([12, wide(*client)]),
            Event::ClientConnect { client, connection, node } => {
                self.fold_all([13, wide(*client), wide(connection.endpoint.0), wide(connection.life), wide(*node)]);
            }
            Event::ClientFrame { client, connection, frame } => {
                self.fold_all([14, wide(*client), wide(connection.endpoint.0), wide(connection.life)]);
                self.fold_bytes(frame);
            }
            Event::ClientReply { client, connection, frame } => {
                self.fold_all([15, wide(*client), wide(connection.endpoint.0), wide(connection.life)]);
                self.fold_bytes(frame);
            }
            Event::ClientClosed { client, connection } => {
                self.fold_all([16, wide(*client), wide(connection.endpoint.0), wide(connection.life)]);
            }
            Event::Check => self.fold(17),
        }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
