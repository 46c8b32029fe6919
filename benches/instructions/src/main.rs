//! What the hot path's parts cost in instructions: one named case, done so many times. `.ci/instructions` runs each case under
//! valgrind with two numbers and takes the difference, so that what is made before does not count.
//!
//! ```text
//! target/release/instructions CASE N        a case; without arguments: their names, and two numbers for each
//! ```

use raftkv_instructions::CASES;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    match words.as_slice() {
        [] => CASES.iter().for_each(|case| println!("{} {} {}", case.name, case.times[0], case.times[1])),
        [name, times] => {
            let case = CASES.iter().find(|case| case.name == name).expect("a case of that name");
            (case.ready)()(times.parse().expect("a number"));
        }
        _ => panic!("a case and a number, or nothing"),
    }
}
