//! `raftkv flamegraph`: where a node's processor time goes, under whatever load it has now. Samples by `perf record`, the stacks
//! found by frame pointers; the picture is drawn here.

mod picture;
mod stacks;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};

use client::{Client, NodeReport, Settings};
use protocol::reply::{Effect, Role};
use protocol::NodeId;

use crate::load::resolve;
use crate::process::Watched;
use crate::Environment;
use stacks::Stacks;

/// What to sample.
#[derive(clap::Args, Clone, Debug)]
pub struct FlamegraphArgs {
    /// Number of the node; it must run on this machine [default: the leader]
    #[arg(long, value_name = "N")]
    node: Option<u32>,
    /// How long to sample
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600), value_name = "S")]
    seconds: u32,
    /// Samples a second of processor time
    #[arg(long, default_value_t = 499, value_parser = clap::value_parser!(u32).range(1..=20_000), value_name = "HZ")]
    frequency: u32,
    /// File of the picture
    #[arg(long, default_value = "flamegraph.svg", value_name = "FILE")]
    out: PathBuf,
}

/// Samples, draws, says where the picture is.
pub fn run(args: &FlamegraphArgs, environment: &Environment) -> ExitCode {
    match draw(args, environment) {
        Ok((node, stacks)) => {
            let (samples, file) = (stacks.samples(), args.out.display());
            if environment.json {
                println!("{}", serde_json::json!({ "ok": true, "node": node.0, "samples": samples, "file": args.out }));
            } else {
                println!(
                    "{samples} samples of node {node} in {} s; the picture is {file}, for a browser",
                    args.seconds
                );
            }
            ExitCode::SUCCESS
        }
        // It only looks: whatever ended it, the cluster is as it was.
        Err(error) => (environment.fail)("there is no flamegraph", &error, Effect::None, environment.json),
    }
}

fn draw(args: &FlamegraphArgs, environment: &Environment) -> io::Result<(NodeId, Stacks)> {
    let (node, pid) = process(args.node, environment)?;
    let samples = std::env::temp_dir().join(format!("raftkv-flamegraph-{}", std::process::id()));
    let sampled = sample(args, pid, &samples);
    let _ = std::fs::remove_file(&samples); // perf may not have made it
    let stacks = Stacks::parse(&sampled?);
    if stacks.samples() == 0 {
        return Err(io::Error::other(format!("node {node} used no processor time in {} s; load it", args.seconds)));
    }
    let title = format!("raftkv, node {node}: {} samples in {} s", stacks.samples(), args.seconds);
    std::fs::write(&args.out, picture::svg(&title, &stacks))?;
    Ok((node, stacks))
}

/// The node to sample, and its process.
fn process(wanted: Option<u32>, environment: &Environment) -> io::Result<(NodeId, u32)> {
    let Environment { endpoints, timeout, .. } = environment;
    let mut client = Client::new(Settings { timeout: *timeout, ..Settings::new(endpoints.clone()) })?;
    let reports = client.status_all();
    if let Some(error) = nobody_answers(&reports) {
        return Err(io::Error::other(error));
    }
    let known: Vec<_> = reports.iter().filter_map(|node| Some((&node.address, node.status.as_ref().ok()?))).collect();
    let is_it = |id: NodeId, role: Role| wanted.map_or(role == Role::Leader, |wanted| id.0 == wanted);
    let mut those = known.iter().filter(|(_, status)| is_it(status.id, status.role));
    let (address, status) = those.next().ok_or_else(|| {
        let what = wanted.map_or("no leader".to_owned(), |node| format!("no node {node}"));
        io::Error::other(format!("{what} answers at {}", endpoints.join(", ")))
    })?;
    match Watched::listening(&[resolve(address)?]).pids() {
        [pid, ..] => Ok((status.id, *pid)),
        [] => Err(io::Error::other(format!(
            "no process of this machine that we may look into listens at {address}; run it there, as the same user"
        ))),
    }
}

/// Why the first cannot be asked, if no other can either.
fn nobody_answers(reports: &[NodeReport]) -> Option<client::Error> {
    let first = reports.first()?.status.as_ref().err()?;
    reports.iter().all(|report| report.status.is_err()).then(|| first.clone())
}

/// Records, and gives what `perf script` says of it.
fn sample(args: &FlamegraphArgs, pid: u32, file: &Path) -> io::Result<String> {
    let mut record = Command::new("perf");
    record.args(["record", "-e", "cpu-clock", "-F", &args.frequency.to_string(), "-g", "-p", &pid.to_string(), "-o"]);
    record.arg(file).args(["--", "sleep", &args.seconds.to_string()]);
    said(&mut record)?;
    let mut script = Command::new("perf");
    // Inlined frames would be looked up one by one, for minutes.
    script.args(["script", "--no-inline", "-F", "comm,tid,ip,sym,dso", "-i"]).arg(file);
    Ok(String::from_utf8_lossy(&said(&mut script)?.stdout).into_owned())
}

/// Runs perf, and says in words what may be wrong with it.
fn said(command: &mut Command) -> io::Result<Output> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            io::Error::new(io::ErrorKind::NotFound, "perf is not installed; on Debian: apt-get install linux-perf")
        }
        _ => error,
    })?;
    if output.status.success() {
        return Ok(output);
    }
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    let is_forbidden =
        ["perf_event_paranoid", "Permission", "permitted", "No permission"].iter().any(|word| words.contains(word));
    Err(io::Error::other(if is_forbidden {
        "the system does not let this user sample; `sysctl kernel.perf_event_paranoid=1`, or run this as root"
            .to_owned()
    } else {
        format!("perf failed: {}", words.trim().lines().next_back().unwrap_or("it says nothing"))
    }))
}
