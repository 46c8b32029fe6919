//! A way to a violation, without what it does not need.

use super::world::{Event, Model, World};

/// Leaves out ever smaller parts of the way while something is violated at its end; says what. The search goes far before it
/// goes wide, so the way that it found is long.
pub fn shorten(model: &mut Model, start: &World, mut way: Vec<Event>) -> (Vec<Event>, String) {
    let (_, mut what) = follow(model, start, &way).expect("the way leads to a violation");
    let mut part = way.len();
    while part > 0 {
        let mut from = 0;
        while from < way.len() {
            let without: Vec<Event> = [&way[..from], &way[(from + part).min(way.len())..]].concat();
            match follow(model, start, &without) {
                Some((length, violated)) => {
                    way = without;
                    way.truncate(length);
                    what = violated;
                }
                None => from += part,
            }
        }
        part /= 2;
    }
    (way, what)
}

/// Up to where the way can be gone, and what is violated there. None: it cannot be gone, or nothing is violated.
fn follow(model: &mut Model, start: &World, way: &[Event]) -> Option<(usize, String)> {
    let (mut world, mut next, mut possible) = (*start, World::default(), Vec::new());
    for (position, event) in way.iter().enumerate() {
        model.events(&world, &mut possible);
        if !possible.contains(event) {
            return None;
        }
        match model.take(&world, *event, &mut next) {
            Ok(true) => world = next,
            Ok(false) => return None,
            Err(what) => return Some((position + 1, what)),
        }
    }
    None
}
