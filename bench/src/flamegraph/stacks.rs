//! Sampled stacks, folded into a tree: who called whom, and how often that was seen.

use std::collections::BTreeMap;

/// The tree. Its first level are threads.
#[derive(Debug, Default)]
pub(super) struct Stacks {
    pub(super) root: Node,
}

/// A function below its callers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    /// Samples in it and in what it called.
    pub(super) samples: u64,
    pub(super) callees: BTreeMap<String, Node>,
    pub(super) place: Place,
}

/// Where a function's code is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Place {
    /// A name of a thread.
    #[default]
    Thread,
    /// Our own crates.
    Ours,
    /// Other code of the process.
    Library,
    /// The system.
    Kernel,
}

impl Stacks {
    /// Reads what `perf script -F comm,tid,ip,sym,dso` prints: for each sample a line with the thread, then a line for each frame,
    /// the innermost first, then an empty line.
    pub(super) fn parse(script: &str) -> Stacks {
        let mut stacks = Stacks::default();
        for sample in script.split("\n\n") {
            let mut lines = sample.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
            let Some(thread) = lines.next() else { continue };
            // The last word is the thread's id.
            let name = thread.trim().rsplit_once(char::is_whitespace).map_or(thread, |(name, _)| name.trim());
            let frames: Vec<(String, Place)> = lines.filter_map(frame).collect();
            stacks.add(name, frames.into_iter().rev());
        }
        stacks
    }

    /// How many.
    pub(super) fn samples(&self) -> u64 {
        self.root.samples
    }

    /// One sample, the outermost frame first.
    fn add(&mut self, thread: &str, frames: impl Iterator<Item = (String, Place)>) {
        self.root.samples += 1;
        let mut node = &mut self.root;
        for (name, place) in std::iter::once((thread.to_owned(), Place::Thread)).chain(frames) {
            node = node.callees.entry(name).or_default();
            node.samples += 1;
            node.place = place;
        }
    }
}

impl Node {
    /// Levels of calls, itself included.
    pub(super) fn depth(&self) -> usize {
        1 + self.callees.values().map(Node::depth).max().unwrap_or(0)
    }
}

/// `  55d0c0ffee name of a function (/path/of/the/program)`.
fn frame(line: &str) -> Option<(String, Place)> {
    let (_, rest) = line.trim().split_once(' ')?;
    let (symbol, object) = rest.rsplit_once(" (").unwrap_or((rest, ""));
    let name = readable(symbol.trim());
    let is_kernel = object.starts_with("[kernel") || object.starts_with("[guest.kernel") || object.starts_with("[vdso");
    // All our crates' names begin like this.
    let is_ours = name.contains("raftkv");
    let place = match (is_kernel, is_ours) {
        (true, _) => Place::Kernel,
        (_, true) => Place::Ours,
        _ => Place::Library,
    };
    Some((name, place))
}

/// A symbol without what only a linker needs: Rust's hash at the end, and its way to write paths if nobody has undone that.
fn readable(symbol: &str) -> String {
    let symbol = undo_mangling(symbol).unwrap_or_else(|| symbol.to_owned());
    let without_hash = match symbol.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => path,
        _ => &symbol,
    };
    without_hash.to_owned()
}

/// `_ZN6raftkv3foo17h0123456789abcdefE` -> `raftkv::foo::h0123456789abcdef`.
fn undo_mangling(symbol: &str) -> Option<String> {
    let mut rest = symbol.strip_prefix("_ZN")?;
    let mut parts = Vec::new();
    while !rest.starts_with('E') {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let length: usize = rest[..digits].parse().ok()?;
        parts.push(rest.get(digits..digits + length)?);
        rest = &rest[digits + length..];
    }
    let escapes = [
        ("$LT$", "<"),
        ("$GT$", ">"),
        ("$u20$", " "),
        ("$RF$", "&"),
        ("$C$", ","),
        ("..", "::"),
        ("$u7b$", "{"),
        ("$u7d$", "}"),
    ];
    let path = parts.join("::");
    Some(escapes.iter().fold(path, |path, (escaped, plain)| path.replace(escaped, plain)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "\
raft-0 with blanks   77 \n\t    7f01 raftkv::raft::step::h0123456789abcdef (/usr/bin/raftkv)\n\t    7f02 main (/usr/bin/raftkv)\n
raft-0 with blanks   77 \n\tffffffff81 tcp_sendmsg ([kernel.kallsyms])\n\t    7f03 _ZN6raftkv4send17h0123456789abcdefE (/usr/bin/raftkv)\n\t    7f02 main (/usr/bin/raftkv)\n
wal  78 \n\t    7f09 [unknown] (/lib/libc.so.6)\n";

    #[test]
    fn stacks_become_a_tree() {
        let stacks = Stacks::parse(SCRIPT);
        assert_eq!((stacks.samples(), stacks.root.depth()), (3, 5));
        let threads: Vec<(&str, u64)> =
            stacks.root.callees.iter().map(|(name, node)| (name.as_str(), node.samples)).collect();
        assert_eq!(threads, [("raft-0 with blanks", 2), ("wal", 1)]);
        let main = &stacks.root.callees["raft-0 with blanks"].callees["main"];
        assert_eq!((main.samples, main.place), (2, Place::Library));
        assert_eq!(main.callees["raftkv::raft::step"].place, Place::Ours);
        assert_eq!(main.callees["raftkv::send"].callees["tcp_sendmsg"].place, Place::Kernel);
    }

    #[test]
    fn nothing_sampled_is_an_empty_tree() {
        assert_eq!(Stacks::parse("").samples(), 0);
        assert_eq!(Stacks::parse("\n\n# a comment\n").samples(), 0);
    }
}
