//! Bulk workers in the world: their steps, and the frames between them.

use raftkv::replica::{Effects, Input};
use raftkv::time::Span;

use crate::bulk::Outcome;
use crate::world::{stepping, Event, World};

/// A fetch on which nothing comes for so long is given up.
const SILENCE: Span = Span::secs(3);
/// Of 1,000 frames so many are the last of their connection, while faults happen.
const CUTS: u64 = 20;

impl World {
    pub fn hand_to_bulk(&mut self, id: u32, effects: &mut Effects) {
        let life = self.nodes[id as usize].life;
        let process = self.nodes[id as usize].process.as_mut().expect("it runs");
        let mut out = Vec::new();
        if let Some(wanted) = effects.take_snapshot.take() {
            process.bulk.take(wanted, &mut out);
        }
        if let Some(wanted) = effects.fetch_snapshot.take() {
            let fetch = process.bulk.fetch(wanted, &mut out);
            self.queue.after(SILENCE.times(20), Event::TransferCut { node: id, life, fetch });
        }
        let installed = effects.retired.is_some();
        if let Some(retired) = effects.retired.take() {
            process.bulk.free(retired);
        }
        drop(effects.discarded.take());
        self.bulk_outcomes(id, out);
        if installed {
            self.check_state(id);
        }
    }

    pub fn bulk_step(&mut self, id: u32, life: u32) {
        stepping(id);
        let node = &mut self.nodes[id as usize];
        let Some(process) = node.process.as_mut().filter(|_| node.life == life) else { return };
        if self.queue.now() < node.paused_until {
            return self.queue.at(node.paused_until, Event::Bulk { node: id, life });
        }
        process.bulk.is_due = false;
        let mut out = Vec::new();
        process.bulk.step(&mut out);
        self.note_written_pages(id);
        self.bulk_outcomes(id, out);
    }

    pub fn transfer(&mut self, from: u32, to: u32, to_life: u32, fetch: u64, frame: &[u8]) {
        stepping(to);
        let node = &mut self.nodes[to as usize];
        let Some(process) = node.process.as_mut().filter(|_| node.life == to_life) else {
            // The connection has ended with the process.
            let life = self.nodes[from as usize].life;
            return self.queue.after(Span::millis(1), Event::TransferCut { node: from, life, fetch });
        };
        let Some(cluster) = process.wal.meta().format.as_ref().map(|format| format.cluster) else { return };
        let mut out = Vec::new();
        process.bulk.receive(from, fetch, frame, cluster, &mut out);
        self.bulk_outcomes(to, out);
    }

    pub fn transfer_cut(&mut self, id: u32, life: u32, fetch: u64) {
        let node = &mut self.nodes[id as usize];
        let Some(process) = node.process.as_mut().filter(|_| node.life == life) else { return };
        let mut out = Vec::new();
        process.bulk.cut(fetch, &mut out);
        self.bulk_outcomes(id, out);
    }

    fn bulk_outcomes(&mut self, id: u32, out: Vec<Outcome>) {
        for outcome in out {
            match outcome {
                Outcome::Input(input) => {
                    if matches!(input, Input::SnapshotTaken(Ok(_))) {
                        self.nodes[id as usize].damage.is_covered_once = false;
                    }
                    self.input(id, input);
                }
                Outcome::Frame { to, fetch, frame } => self.send_transfer(id, to, fetch, frame),
            }
        }
        let life = self.nodes[id as usize].life;
        let process = self.nodes[id as usize].process.as_mut().expect("the caller has seen it");
        if process.bulk.has_work() && !process.bulk.is_due {
            process.bulk.is_due = true;
            let delay = Span(self.random.between(20_000, self.profile.bulk_step.0));
            self.queue.after(delay, Event::Bulk { node: id, life });
        }
    }

    fn send_transfer(&mut self, from: u32, to: u32, fetch: u64, frame: Vec<u8>) {
        let to_life = self.nodes[to as usize].life;
        let faulty = !self.is_healed(from) || !self.is_healed(to);
        let cut = faulty && self.random.chance(CUTS);
        let is_blocked = |a, b| self.network.blocked().contains(&(a, b));
        if cut || is_blocked(from, to) || is_blocked(to, from) {
            // Whichever of the two fetches will hear of it.
            for id in [from, to] {
                let life = self.nodes[id as usize].life;
                self.queue.after(SILENCE, Event::TransferCut { node: id, life, fetch });
            }
            return;
        }
        let delay = Span(20_000 + self.random.around(self.profile.delay.0));
        self.queue.after(delay, Event::Transfer { from, to, to_life, fetch, frame });
    }
}
