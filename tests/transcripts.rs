//! Transcripts: what is typed, and exactly what is said. `RAFTKV_BLESS=1 cargo test --test transcripts` writes them anew; the
//! difference is then read like any other.
//!
//! ```text
//! > file.toml          a file in the working directory, its lines behind bars
//! | id = 0
//! $ raftkv get k       a command; `>FILE` or `<FILE` behind it: where its standard output goes, its input comes from
//! : text               what it writes to standard output,
//! ! text               to standard error,
//! ? 3                  and its exit code, if that is not 0
//! ```
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "real processes and files")]

mod support;

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::{wait_for, Cluster, Setup};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts")
}

/// Where commands run, and what differs from run to run in what they say.
struct Stage<'a> {
    dir: &'a Path,
    cluster: Option<&'a Cluster>,
    /// The nodes as the transcript numbers them; the first one is asked.
    order: &'a [usize],
}

impl Stage<'_> {
    /// Runs one command line (split at spaces) and gives what it said, as a transcript does.
    fn run(&self, line: &str) -> String {
        let mut words = line.split_whitespace();
        assert_eq!(words.next(), Some("raftkv"), "{line}");
        let mut command = Command::new(support::raftkv());
        command.current_dir(self.dir).stdin(Stdio::null());
        let file = |path: &str, options: &OpenOptions| options.open(self.dir.join(path)).expect("the file opens");
        for word in words {
            match (word.strip_prefix('>'), word.strip_prefix('<')) {
                (Some(path), _) => command.stdout(file(path, OpenOptions::new().write(true))),
                (_, Some(path)) => command.stdin(file(path, OpenOptions::new().read(true))),
                (None, None) => command.arg(word),
            };
        }
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("RAFTKV_")) {
            command.env_remove(name);
        }
        command.env_remove("COLUMNS").env("NO_COLOR", "1");
        if let Some(cluster) = self.cluster {
            command.env("RAFTKV_ENDPOINTS", cluster.ports.client(self.order[0]));
        }
        let output = command.output().expect("the command runs");
        let mut said = String::new();
        for (mark, bytes) in [(": ", &output.stdout), ("! ", &output.stderr)] {
            for text in self.steady(&String::from_utf8_lossy(bytes)).lines() {
                let _ = writeln!(said, "{}", format!("{mark}{text}").trim_end());
            }
        }
        let code = output.status.code().expect("it ends by itself");
        if code != 0 {
            let _ = writeln!(said, "? {code}");
        }
        said
    }

    /// Ports as in the documentation, and durations as ...: whatever they are in this run.
    fn steady(&self, text: &str) -> String {
        let text: String = text.split_inclusive('\n').map(timeless).collect();
        let Some(cluster) = self.cluster else { return text };
        let address = |text: String, (number, node): (usize, &usize)| {
            text.replace(&cluster.ports.client(*node), &format!("127.0.0.1:{}", 7400 + 10 * number))
        };
        self.order.iter().enumerate().fold(text, address)
    }
}

/// "in 0.3 s (12345/s)" as "in ... s (.../s)".
fn timeless(line: &str) -> String {
    let parts = || {
        let (before, rest) = line.split_once(" in ")?;
        let (seconds, rest) = rest.split_once(" s (")?;
        let (rate, after) = rest.split_once("/s)")?;
        let are_numbers = seconds.parse::<f64>().is_ok() && rate.parse::<f64>().is_ok();
        are_numbers.then(|| format!("{before} in ... s (.../s){after}"))
    };
    parts().unwrap_or_else(|| line.to_owned())
}

/// Replays a transcript: the same files and commands, and what is said now.
fn replay(text: &str, stage: &Stage<'_>) -> String {
    let mut now = String::new();
    let mut file = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("> ") {
            std::fs::write(stage.dir.join(name), "").expect("a file");
            file = Some(stage.dir.join(name));
        } else if let (Some(content), Some(path)) = (line.strip_prefix("| "), &file) {
            let before = std::fs::read_to_string(path).expect("begun above");
            std::fs::write(path, format!("{before}{content}\n")).expect("a file");
        } else if let Some(command) = line.strip_prefix("$ ") {
            let _ = writeln!(now, "{line}");
            now.push_str(&stage.run(command));
            continue;
        } else if line.starts_with([':', '!', '?']) {
            continue; // what was said before
        }
        let _ = writeln!(now, "{line}");
    }
    now
}

/// Compares with what is written down, or writes it down.
fn settle(path: &Path, now: &str) {
    if std::env::var_os("RAFTKV_BLESS").is_some() {
        return std::fs::write(path, now).expect("written");
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    let differs = written.lines().zip(now.lines()).find(|(written, now)| written != now);
    assert_eq!(written, now, "{}: first difference: {differs:?}; RAFTKV_BLESS=1 writes it anew", path.display());
}

/// The transcript in this file; `order` names the nodes as it numbers them.
fn transcript(name: &str, cluster: Option<&Cluster>, order: &[usize]) {
    let (path, text) = read(name);
    let dir = tempfile::tempdir().expect("a directory");
    settle(&path, &replay(&text, &Stage { dir: dir.path(), cluster, order }));
}

fn read(name: &str) -> (PathBuf, String) {
    let path = folder().join(name);
    let text = std::fs::read_to_string(&path).expect("the transcript");
    assert!(text.lines().any(|line| line.starts_with("$ ")), "{name} has commands");
    (path, text)
}

#[test]
fn errors_of_settings() {
    transcript("config.txt", None, &[]);
}

#[test]
fn errors_of_usage_and_of_a_cluster_that_is_not_there() {
    transcript("usage.txt", None, &[]);
}

#[test]
fn errors_of_a_cluster() {
    let flags = ["--key-bytes-max", "8", "--value-bytes-max", "16"].map(str::to_owned).to_vec();
    let mut cluster = Cluster::prepare("transcripts", 1, Setup { flags, ..Setup::default() });
    cluster.start_all();
    cluster.wait_for_leader();
    transcript("errors.txt", Some(&cluster), &[0]);
}

/// A follower names the leader; without a majority nobody leads.
#[test]
fn errors_of_a_node_that_does_not_lead() {
    let mut cluster = Cluster::start("transcripts-follower", 3);
    cluster.wait_caught_up();
    let leader = cluster.wait_for_leader();
    let others: Vec<usize> = (0..3).filter(|node| *node != leader).collect();
    let order = [others[0], leader, others[1]];
    transcript("follower.txt", Some(&cluster), &order);
    cluster.kill(leader);
    cluster.kill(others[1]);
    wait_for(std::time::Duration::from_secs(20), "no leader is known", || {
        cluster.status().iter().all(|node| node["leader"].is_null()).then_some(())
    });
    transcript("no-majority.txt", Some(&cluster), &order);
}

#[test]
fn errors_of_a_cluster_that_waits_for_its_nodes() {
    let mut cluster = Cluster::prepare("transcripts-forming", 3, Setup::default());
    cluster.start_node(0);
    wait_for(std::time::Duration::from_secs(20), "it serves", || cluster.status().first().map(|_| ()));
    transcript("forming.txt", Some(&cluster), &[0]);
}

/// The help of every command, found through the help itself; one file each.
#[test]
fn the_help_of_every_command() {
    let dir = tempfile::tempdir().expect("a directory");
    let stage = Stage { dir: dir.path(), cluster: None, order: &[] };
    let mut waiting = vec!["raftkv".to_owned()];
    let mut seen = 0;
    while let Some(command) = waiting.pop() {
        let line = format!("{command} --help");
        let said = stage.run(&line);
        let name = command.replace(' ', "-");
        settle(&folder().join("help").join(format!("{name}.txt")), &format!("$ {line}\n{said}"));
        waiting.extend(commands(&said).map(|word| format!("{command} {word}")));
        seen += 1;
    }
    assert!(seen > 15, "found only {seen} commands");
    let files = std::fs::read_dir(folder().join("help")).expect("the folder").count();
    assert_eq!(files, seen, "tests/transcripts/help has a file of a command that is gone");
}

/// The words in a help's list of commands.
fn commands(help: &str) -> impl Iterator<Item = &str> {
    let lines = help.lines().map(|line| line.strip_prefix(':').unwrap_or(line));
    let list = lines.skip_while(|line| line.trim() != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // A name stands two columns in, behind the mark's one; text that was wrapped stands further in.
    let named = list.filter(|line| line.starts_with("   ") && !line.starts_with("    "));
    named.filter_map(|line| line.split_whitespace().next()).filter(|word| *word != "help")
}
