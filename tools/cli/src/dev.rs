//! dev: a local cluster of child processes, in the foreground or the background.

mod process;
mod signals;
mod state;

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ExitCode};
use std::time::{Duration, Instant};

use client::Client;
use protocol::reply::{Effect, Role};
use serde_json::{json, Value};

use crate::args::{DevArgs, DevVerb, Globals, Output};
use crate::report::Report;
use crate::{exit, output, status, table};
use process::{Outlives, Process};
use state::{Locked, State};

/// A leader serves within this, or something is wrong.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// A node that was started again has met the leader within this, usually.
const LEADER_WITHIN: Duration = Duration::from_secs(3);
/// A server that was asked to stop has this long.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// Between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Exit code when a port is taken, as the server's.
const BUSY: u8 = 73;

pub(crate) fn run(arguments: &DevArgs, globals: &Globals) -> Result<ExitCode, Report> {
    match &arguments.verb {
        None => foreground(arguments, globals),
        Some(DevVerb::Start) => start(arguments, globals),
        Some(DevVerb::Stop) => {
            let mut locked = existing(arguments)?;
            let stopped = stop_all(&mut locked)?;
            let text = format!("{} stopped; data stays in {}", nodes(stopped), arguments.dir.display());
            done(globals, &text, json!({ "stopped": stopped, "dir": arguments.dir }))
        }
        Some(DevVerb::Wipe) => wipe(arguments, globals),
        Some(DevVerb::Status) => show(arguments, globals),
        Some(DevVerb::Kill { node }) => kill(arguments, globals, *node),
        Some(DevVerb::Restart { node }) => restart(arguments, globals, *node),
    }
}

/// Says what was done: a line for people, or one object with `fields`.
fn done(globals: &Globals, text: &str, mut fields: Value) -> Result<ExitCode, Report> {
    match globals.output {
        Output::Text => output::applied(text)?,
        Output::Json => {
            fields["ok"] = Value::from(true);
            output::applied(&fields.to_string())?;
        }
    }
    Ok(ExitCode::from(exit::DONE))
}

fn failed(what: &str, error: &std::io::Error) -> Report {
    Report::local(format!("{what}: {error}"), Effect::None)
}

/// The state of a cluster that was made before, under its lock.
fn existing(arguments: &DevArgs) -> Result<Locked, Report> {
    let found = State::open(&arguments.dir).map_err(|error| failed("the cluster's state cannot be read", &error))?;
    found.ok_or_else(|| {
        let mut report = Report::usage(format!("there is no cluster in {}", arguments.dir.display()));
        report.hint = "`raftkv dev start` makes one; --dir says where".to_owned();
        report
    })
}

/// The state of a cluster, made new where there is none; the flags must agree with what it was made with.
fn open_or_make(arguments: &DevArgs) -> Result<Locked, Report> {
    let nodes = arguments.nodes.unwrap_or(3);
    if !(1..=9).contains(&nodes) || nodes.is_multiple_of(2) {
        return Err(Report::usage(format!("a cluster has 1, 3, 5, 7 or 9 nodes, not {nodes}")));
    }
    let base_port = arguments.base_port.unwrap_or(crate::LOCAL_BASE_PORT);
    if base_port.checked_add(100).is_none() || base_port < 1024 {
        return Err(Report::usage(format!(
            "{base_port} is no base port: it must leave room for the nodes' ports, from 1024 on"
        )));
    }
    let locked = State::open_or_make(&arguments.dir, nodes, base_port)
        .map_err(|error| failed("the cluster's directory cannot be made", &error))?;
    let made = locked.state();
    let differs = arguments.nodes.is_some_and(|nodes| nodes != made.nodes)
        || arguments.base_port.is_some_and(|port| port != made.base_port);
    if differs {
        let (nodes, port, dir) = (made.nodes, made.base_port, arguments.dir.display());
        let mut report = Report::usage(format!("the cluster in {dir} was made with {nodes} nodes from port {port} on"));
        report.hint = "leave --nodes and --base-port away, choose another --dir, or `raftkv dev wipe` it".to_owned();
        return Err(report);
    }
    Ok(locked)
}

/// Starts the nodes that do not run, and says which.
fn start_missing(locked: &mut Locked, outlives: Outlives) -> Result<Vec<(u32, Child)>, Report> {
    let missing: Vec<u32> = (0..locked.state().nodes).filter(|node| locked.state().running(*node).is_none()).collect();
    for node in &missing {
        let first = locked.state().client_port(*node);
        for port in [first, first + 1, first + 2] {
            if TcpListener::bind(("127.0.0.1", port)).is_err() {
                let mut report = Report::local(format!("port {port}, wanted by node {node}, is taken"), Effect::None);
                report.exit = BUSY;
                report.hint =
                    "stop what listens there (`ss -ltnp` shows it), or choose another --base-port and --dir".to_owned();
                return Err(report);
            }
        }
    }
    let mut children = Vec::new();
    for node in missing {
        children.push((node, start_node(locked, node, outlives)?));
    }
    Ok(children)
}

fn start_node(locked: &mut Locked, node: u32, outlives: Outlives) -> Result<Child, Report> {
    let child = process::spawn(locked.dir(), locked.state(), node, outlives)
        .map_err(|error| failed(&format!("node {node} cannot be started"), &error))?;
    let process =
        Process::of(node, child.id()).map_err(|error| failed(&format!("node {node} ended at once"), &error))?;
    locked.note(process).map_err(|error| failed("the cluster's state cannot be written", &error))?;
    Ok(child)
}

/// Waits until a leader serves. Fails early if a node has ended.
fn wait_until_ready(globals: &Globals, state: &State, dir: &Path) -> Result<u32, Report> {
    let deadline = Instant::now() + READY_WITHIN;
    let probe = Globals { timeout: Some(Duration::from_millis(500)), endpoints: state.endpoints(), ..globals.clone() };
    loop {
        // A new client for each look: none of them remembers that a node was not there yet.
        let mut client = crate::client_of(&probe, state.endpoints())?;
        if let Some(leader) = leader(&mut client) {
            return Ok(leader);
        }
        let ended = (0..state.nodes).find(|node| state.noted(*node).is_some() && state.running(*node).is_none());
        if ended.is_some() || Instant::now() >= deadline {
            let what = match ended {
                Some(node) => format!("node {node} has ended; the end of its log:\n{}", process::log_tail(dir, node)),
                None => format!(
                    "no leader after {} s; the end of node 0's log:\n{}",
                    READY_WITHIN.as_secs(),
                    process::log_tail(dir, 0)
                ),
            };
            return Err(Report::local(what, Effect::None));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn leader(client: &mut Client) -> Option<u32> {
    let reports = client.status_all();
    let statuses = reports.iter().filter_map(|report| report.status.as_ref().ok());
    statuses.filter(|status| status.role == Role::Leader).max_by_key(|status| status.term).map(|status| status.id.0)
}

fn start(arguments: &DevArgs, globals: &Globals) -> Result<ExitCode, Report> {
    let mut locked = open_or_make(arguments)?;
    let started = start_missing(&mut locked, Outlives::Parent)?;
    let leader = wait_until_ready(globals, locked.state(), &arguments.dir)?;
    let state = locked.state();
    let running = state.nodes as usize - started.len();
    let already = if running > 0 { format!(" ({running} ran already)") } else { String::new() };
    let text = format!(
        "running: {}{already}, node {leader} leads; data in {}\n{}",
        nodes(state.nodes as usize),
        arguments.dir.display(),
        next_steps(state, &arguments.dir, leader, true)
    );
    let fields = json!({
        "nodes": state.nodes, "started": started.len(), "leader": leader, "dir": arguments.dir,
        "endpoints": state.endpoints(),
    });
    done(globals, &text, fields)
}

fn foreground(arguments: &DevArgs, globals: &Globals) -> Result<ExitCode, Report> {
    let signals = signals::Signals::block();
    let began = Instant::now();
    let mut locked = open_or_make(arguments)?;
    let mut children = start_missing(&mut locked, Outlives::Nobody)?;
    let state = locked.state().clone();
    let ran = state.nodes as usize - children.len();
    // Other terminals may kill and restart from here on.
    drop(locked);
    let ready = wait_until_ready(globals, &state, &arguments.dir);
    let leader = match ready {
        Ok(leader) => leader,
        Err(report) => {
            stop_and_reap(arguments, &mut children)?;
            return Err(report);
        }
    };
    let ports: Vec<String> = state.endpoints();
    output::line(&format!("raftkv: {}, ready in {:.2} s", nodes(state.nodes as usize), began.elapsed().as_secs_f64()))?;
    output::line(&format!("  clients  {}", ports.join("  ")))?;
    output::line(&format!("  leader   node {leader}"))?;
    output::line(&format!(
        "  admin    http://127.0.0.1:{}/metrics, /status, /livez, /readyz",
        state.client_port(leader) + 2
    ))?;
    output::line(&format!("  data     {} (kept between runs; logs beside it)", arguments.dir.display()))?;
    if ran > 0 {
        output::line(&format!("  note     {ran} of the nodes ran already; Ctrl-C stops them too"))?;
    }
    output::line(&next_steps(&state, &arguments.dir, leader, false))?;
    output::line("Ctrl-C stops the cluster.")?;
    while signals.wait() == signals::Event::Child {
        report_ended(arguments, &mut children)?;
    }
    let stopped = stop_and_reap(arguments, &mut children)?;
    output::line(&format!("\n{} stopped; data stays in {}", nodes(stopped), arguments.dir.display()))?;
    Ok(ExitCode::from(exit::DONE))
}

/// Says which children have ended; one that another terminal has replaced needs no words.
fn report_ended(arguments: &DevArgs, children: &mut Vec<(u32, Child)>) -> Result<(), Report> {
    let mut ended = Vec::new();
    children.retain_mut(|(node, child)| match child.try_wait() {
        Ok(Some(status)) => {
            ended.push((*node, child.id(), status));
            false
        }
        Ok(None) | Err(_) => true,
    });
    for (node, pid, status) in ended {
        let replaced = State::read(&arguments.dir)
            .ok()
            .flatten()
            .and_then(|state| state.running(node))
            .is_some_and(|now| now.pid != pid);
        if !replaced {
            output::line(&format!(
                "node {node} has ended ({status}); `raftkv dev restart {node}{}` starts it again",
                dir_flag(&arguments.dir)
            ))?;
        }
    }
    Ok(())
}

fn stop_and_reap(arguments: &DevArgs, children: &mut [(u32, Child)]) -> Result<usize, Report> {
    let mut locked = existing(arguments)?;
    let stopped = stop_all(&mut locked)?;
    for (_, child) in children {
        let _ = child.wait();
    }
    Ok(stopped)
}

/// SIGTERM to all, a bounded wait, SIGKILL to the rest. Returns how many ran.
fn stop_all(locked: &mut Locked) -> Result<usize, Report> {
    let running: Vec<Process> = (0..locked.state().nodes).filter_map(|node| locked.state().running(node)).collect();
    for process in &running {
        process.signal(libc::SIGTERM);
    }
    let deadline = Instant::now() + STOP_WITHIN;
    while running.iter().any(Process::is_alive) && Instant::now() < deadline {
        std::thread::sleep(LOOK_EVERY);
    }
    for process in running.iter().filter(|process| process.is_alive()) {
        eprintln!("node {} did not stop in {} s: killed", process.id, STOP_WITHIN.as_secs());
        process.kill_and_wait();
    }
    locked.forget_all().map_err(|error| failed("the cluster's state cannot be written", &error))?;
    Ok(running.len())
}

fn wipe(arguments: &DevArgs, globals: &Globals) -> Result<ExitCode, Report> {
    let mut locked = existing(arguments)?;
    stop_all(&mut locked)?;
    let (nodes, dir) = (locked.state().nodes, locked.dir().to_owned());
    let removed = |result: std::io::Result<()>| match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed("the data cannot be removed", &error)),
        _ => Ok(()),
    };
    // Only what a cluster made; a file of someone else's stays, and so does the directory then.
    for node in 0..nodes {
        removed(std::fs::remove_dir_all(dir.join(format!("node-{node}"))))?;
        removed(std::fs::remove_file(process::log_path(&dir, node)))?;
    }
    locked.remove().map_err(|error| failed("the cluster's state cannot be removed", &error))?;
    let left = std::fs::remove_dir(&dir).is_err();
    let words = if left { " (other files are left in it)" } else { "" };
    let text = format!("the cluster in {} is gone{words}", dir.display());
    done(globals, &text, json!({ "dir": dir, "other_files_left": left }))
}

fn show(arguments: &DevArgs, globals: &Globals) -> Result<ExitCode, Report> {
    let locked = existing(arguments)?;
    let state = locked.state();
    if globals.output == Output::Text {
        let row = |node: u32| {
            let running = state.running(node);
            let what = match (running.is_some(), state.noted(node).is_some()) {
                (true, _) => "running",
                (false, true) => "killed",
                (false, false) => "stopped",
            };
            let pid = running.map_or_else(|| "-".to_owned(), |process| process.pid.to_string());
            vec![
                node.to_string(),
                what.to_owned(),
                pid,
                state.client_port(node).to_string(),
                process::log_path(locked.dir(), node).display().to_string(),
            ]
        };
        let rows: Vec<Vec<String>> = (0..state.nodes).map(row).collect();
        output::line(table::render(&["node", "process", "pid", "port", "log"], &[0, 2, 3], &rows).trim_end())?;
        output::line("")?;
    }
    let mut client = crate::client_of(globals, state.endpoints())?;
    status::run(&mut client, globals, false)
}

fn known_node(locked: &Locked, node: u32) -> Result<(), Report> {
    let nodes = locked.state().nodes;
    if node < nodes {
        return Ok(());
    }
    Err(Report::usage(format!("there is no node {node}: they are numbered 0 to {}", nodes - 1)))
}

fn kill(arguments: &DevArgs, globals: &Globals, node: u32) -> Result<ExitCode, Report> {
    let locked = existing(arguments)?;
    known_node(&locked, node)?;
    let Some(process) = locked.state().running(node) else {
        return done(globals, &format!("node {node} does not run"), json!({ "node": node, "killed": false }));
    };
    process.kill_and_wait();
    let text = format!(
        "node {node} killed (SIGKILL, pid {}); `raftkv dev restart {node}{}` starts it again",
        process.pid,
        dir_flag(&arguments.dir)
    );
    done(globals, &text, json!({ "node": node, "killed": true, "pid": process.pid }))
}

fn restart(arguments: &DevArgs, globals: &Globals, node: u32) -> Result<ExitCode, Report> {
    let mut locked = existing(arguments)?;
    known_node(&locked, node)?;
    if let Some(process) = locked.state().running(node) {
        process.signal(libc::SIGTERM);
        let deadline = Instant::now() + STOP_WITHIN;
        while process.is_alive() && Instant::now() < deadline {
            std::thread::sleep(LOOK_EVERY);
        }
        process.kill_and_wait();
    }
    start_node(&mut locked, node, Outlives::Parent)?;
    let (state, address) = (locked.state(), locked.state().endpoint(node));
    let probe = Globals { timeout: Some(Duration::from_millis(500)), ..globals.clone() };
    let deadline = Instant::now() + READY_WITHIN;
    // It belongs to the cluster again once it knows the leader; without a quorum there is none to wait for.
    let in_its_cluster = Instant::now() + LEADER_WITHIN;
    let quorum = (0..state.nodes).filter(|node| state.running(*node).is_some()).count() > state.nodes as usize / 2;
    loop {
        let mut client = crate::client_of(&probe, vec![address.clone()])?;
        if let Ok(status) = client.status_of(&address) {
            if status.leader.is_some() || !quorum || Instant::now() >= in_its_cluster {
                let text = format!("node {node} runs again at {address}");
                return done(globals, &text, json!({ "node": node, "address": address }));
            }
        }
        if state.running(node).is_none() || Instant::now() >= deadline {
            let tail = process::log_tail(locked.dir(), node);
            return Err(Report::local(
                format!("node {node} does not answer; the end of its log:\n{tail}"),
                Effect::None,
            ));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn nodes(count: usize) -> String {
    format!("{count} {}", if count == 1 { "node" } else { "nodes" })
}

fn dir_flag(dir: &Path) -> String {
    if dir == Path::new("raftkv-dev") {
        String::new()
    } else {
        format!(" --dir {}", dir.display())
    }
}

/// The next three things to try, ready to be pasted.
fn next_steps(state: &State, dir: &Path, leader: u32, background: bool) -> String {
    let mut text = Vec::new();
    if state.base_port != crate::LOCAL_BASE_PORT {
        let _ = writeln!(text, "  export RAFTKV_ENDPOINTS={}", state.endpoints().join(","));
    }
    let flag = dir_flag(dir);
    let more = if background { format!("\n  raftkv dev stop{flag}") } else { String::new() };
    format!(
        "Try{}:\n{}  raftkv update hello raftkv && raftkv get hello\n  raftkv status\n  raftkv dev kill {leader}{flag} && raftkv update hello again && raftkv dev restart {leader}{flag}{more}",
        if background { "" } else { ", in another terminal" },
        String::from_utf8_lossy(&text),
    )
}
