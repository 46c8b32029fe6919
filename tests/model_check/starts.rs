//! Ways to a start of interest. They cost nothing of the bounds.

use protocol::message::{Envelope, Message};

use super::letters::{Letter, Letters};
use super::node::{Step, NODES};
use super::world::{Event, Left, Model, World, ANY};

/// Makes a node the leader with the help of some; nobody else hears of it, and all is lost that was under way but what the new
/// leader sends first.
pub fn elect(model: &mut Model, world: &mut World, leader: usize, reachable: &[usize]) {
    let left = std::mem::replace(&mut world.left, Left { timeouts: ANY, ..Left::default() });
    world.network = Letters::default();
    for id in reachable.iter().copied().filter(|id| *id != leader) {
        step(model, world, id, Step::Silence);
    }
    for _ in 0..5 {
        step(model, world, leader, Step::Timeout);
        run(model, world, reachable, &|envelope| !brings(envelope));
        if model.known.node(world.nodes[leader]).leads {
            world.network.retain(|letter| {
                let envelope = &model.known.letter(letter).envelope;
                envelope.from.0 as usize == leader && brings(envelope)
            });
            world.left = left;
            return;
        }
    }
    panic!("node {leader} is not elected");
}

/// Everything arrives among some nodes. A heartbeat sends it once more.
pub fn replicate(model: &mut Model, world: &mut World, reachable: &[usize]) {
    let left = std::mem::replace(&mut world.left, Left { heartbeats: ANY, ..Left::default() });
    for _ in 0..2 {
        for id in 0..NODES {
            if model.known.node(world.nodes[id]).leads {
                step(model, world, id, Step::Heartbeat);
            }
        }
        run(model, world, reachable, &|_| true);
    }
    world.network = Letters::default();
    world.left = left;
}

fn brings(envelope: &Envelope) -> bool {
    matches!(envelope.message, Message::AppendEntries(_))
}

fn run(model: &mut Model, world: &mut World, reachable: &[usize], arrives: &dyn Fn(&Envelope) -> bool) {
    loop {
        let persists = reachable.iter().find(|id| !model.known.node(world.nodes[**id]).writes.is_empty());
        if let Some(id) = persists {
            step(model, world, *id, Step::Persist);
            continue;
        }
        let fits = |letter: &Letter| {
            let letter = model.known.letter(*letter);
            reachable.contains(&letter.from) && reachable.contains(&letter.to) && arrives(&letter.envelope)
        };
        let Some(letter) = world.network.iter().find(fits) else { return };
        world.network.remove(letter);
        take(model, world, Event::Deliver(letter));
    }
}

fn step(model: &mut Model, world: &mut World, id: usize, step: Step) {
    take(model, world, Event::Step { node: id as u8, step });
}

fn take(model: &mut Model, world: &mut World, event: Event) {
    let mut after = World::default();
    if model.take(world, event, &mut after).expect("it holds") {
        *world = after;
    }
}
