//! The admin port of real servers: what its pages say, and that nothing hostile at it reaches anybody else.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "real sockets")]

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead as _, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::FromRawFd as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::{wait_for, Cluster, Setup};

const LONG: Duration = Duration::from_secs(30);

fn connect(cluster: &Cluster, node: usize) -> TcpStream {
    let stream = TcpStream::connect(cluster.ports.admin(node)).expect("the admin port is open");
    stream.set_read_timeout(Some(LONG)).expect("a socket takes a timeout");
    stream.set_nodelay(true).expect("a socket takes the option");
    stream
}

/// Sends all of it and reads until the server closes.
fn exchange(cluster: &Cluster, node: usize, request: &[u8]) -> String {
    let mut stream = connect(cluster, node);
    // The server may have answered and closed before it has read everything.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the connection stays open: {error}"),
    }
    String::from_utf8(answer).expect("answers are text")
}

/// First line and body of a page.
fn get(cluster: &Cluster, node: usize, path: &str) -> (String, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: raftkv\r\nConnection: close\r\n\r\n");
    let answer = exchange(cluster, node, request.as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.lines().next().expect("a first line").to_owned(), body.to_owned())
}

fn status_of(cluster: &Cluster, request: &[u8]) -> String {
    let answer = exchange(cluster, 0, request);
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

/// The value of a sample, by its name with its labels.
fn sample(page: &str, name: &str) -> Option<f64> {
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    Some(value.parse().expect("a number"))
}

#[test]
fn the_pages_of_a_healthy_cluster_say_so() {
    let cluster = Cluster::start("admin", 3);
    let leader = cluster.wait_for_leader();
    for number in 0..50 {
        assert!(cluster.cli(&["update", "k", &number.to_string()]).status.success());
    }
    for node in 0..3 {
        assert_eq!(get(&cluster, node, "/livez"), ("HTTP/1.1 200 OK".to_owned(), "ok\n".to_owned()));
        wait_for(LONG, "ready", || (get(&cluster, node, "/readyz").1 == "ok\n").then_some(()));
    }
    let stages = [
        "decode_seconds",
        "batch_queue_seconds",
        "propose_seconds",
        "wal_queue_seconds",
        "wal_sync_seconds",
        "replicate_seconds",
        "peer_queue_seconds",
        "peer_sync_seconds",
        "quorum_seconds",
        "apply_seconds",
        "reply_seconds",
    ];
    let peers: Vec<usize> = (0..3).filter(|node| *node != leader).collect();
    wait_for(LONG, "every stage of a write was measured on the leader, and for each follower", || {
        let page = get(&cluster, leader, "/metrics").1;
        let is_measured = |name: String| sample(&page, &name) > Some(0.0);
        let is_done = |stage: &&str| match stage.starts_with("peer_") || **stage == *"replicate_seconds" {
            true => peers.iter().all(|peer| is_measured(format!("raftkv_{stage}_count{{peer=\"{peer}\"}}"))),
            false => is_measured(format!("raftkv_{stage}_count")),
        };
        stages.iter().all(is_done).then_some(())
    });
    let page = get(&cluster, leader, "/metrics").1;
    assert_eq!(sample(&page, "raftkv_is_leader"), Some(1.0));
    assert_eq!(sample(&page, "raftkv_ready"), Some(1.0));
    assert_eq!(sample(&page, "raftkv_keys"), Some(1.0));
    assert!(sample(&page, "raftkv_requests_total") >= Some(50.0));
    assert!(sample(&page, "raftkv_bytes_written_per_byte_appended") > Some(0.5), "{page}");
    let follower = (0..3).find(|node| *node != leader).expect("three nodes");
    let connected = format!("raftkv_peer_connected{{peer=\"{follower}\"}}");
    let lag = format!("raftkv_peer_lag_entries{{peer=\"{follower}\"}}");
    assert_eq!(sample(&page, &connected), Some(1.0));
    wait_for(LONG, "the follower has it all", || {
        (sample(&get(&cluster, leader, "/metrics").1, &lag) == Some(0.0)).then_some(())
    });
    assert_eq!(sample(&get(&cluster, follower, "/metrics").1, &lag), None, "only a leader knows");
}

#[test]
fn status_is_what_the_command_line_shows_for_one_node() {
    let cluster = Cluster::start("admin-status", 3);
    cluster.wait_caught_up();
    let (_, body) = get(&cluster, 1, "/status");
    let page: serde_json::Value = serde_json::from_str(&body).expect("one object");
    let shown = cluster.status().into_iter().find(|node| node["id"] == 1).expect("node 1 answers");
    let keys = |object: &serde_json::Value| -> BTreeSet<String> {
        object.as_object().expect("an object").keys().cloned().collect()
    };
    assert_eq!(keys(&page), keys(&shown));
    assert_eq!(keys(&page["counters"]), keys(&shown["counters"]));
    assert_eq!(page["schema"], 1, "its number rises only when a field leaves or changes its meaning");
    for key in ["schema", "id", "role", "address", "cluster", "leader", "connected", "name"] {
        assert_eq!(page[key], shown[key], "{key}");
    }
}

/// Without a majority there is no leader: not ready, with the reason; alive all the same. It becomes ready again.
#[test]
fn readyz_follows_the_leader() {
    let mut cluster = Cluster::start("admin-ready", 3);
    wait_for(LONG, "ready", || (get(&cluster, 0, "/readyz").1 == "ok\n").then_some(()));
    cluster.kill(1);
    cluster.kill(2);
    let (first, why) = wait_for(LONG, "not ready", || {
        let (first, why) = get(&cluster, 0, "/readyz");
        (why != "ok\n").then_some((first, why))
    });
    assert_eq!((first.as_str(), why.as_str()), ("HTTP/1.1 503 Service Unavailable", "no leader is known\n"));
    assert_eq!(get(&cluster, 0, "/livez").1, "ok\n");
    assert_eq!(sample(&get(&cluster, 0, "/metrics").1, "raftkv_ready"), Some(0.0));
    cluster.start_all();
    wait_for(LONG, "ready again", || (get(&cluster, 0, "/readyz").1 == "ok\n").then_some(()));
}

/// Who grows asks for more than is ready at first, then it is there mostly.
#[test]
fn a_state_that_grows_finds_memory_that_was_touched_before() {
    let cluster = Cluster::start("admin-memory", 1);
    let leader = cluster.wait_for_leader();
    let spans = |when: &str| {
        let page = get(&cluster, leader, "/metrics").1;
        sample(&page, &format!("raftkv_spans_{when}_total")).expect("it is exported")
    };
    assert_eq!((spans("ready"), spans("late")), (0.0, 0.0), "a small state asks for nothing");
    wait_for(LONG, "spans that were ready", || {
        let load = ["bench", "put", "-c", "8", "-d", "8", "--value-bytes", "4096", "--duration", "1", "--warm-up", "0"];
        assert!(cluster.cli(&load).status.success());
        (spans("ready") >= 4.0 && spans("ready") > spans("late")).then_some(())
    });
    assert!(spans("late") >= 1.0, "nothing is touched before somebody asks");
}

/// Every exported name is a heading of docs/metrics.md, with what to do, and every heading is exported.
#[test]
fn every_metric_is_documented() {
    let cluster = Cluster::start("admin-docs", 3);
    let leader = cluster.wait_for_leader();
    let page = get(&cluster, leader, "/metrics").1;
    let exported: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md")).expect("the page");
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| `raftkv_"))
        .map(|line| line.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    let documented: BTreeSet<&str> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
    assert_eq!(documented, exported, "left: docs/metrics.md, right: /metrics");
    assert!(rows.iter().all(|row| row.len() == 4), "name, unit, meaning, what to do");
}

#[test]
fn promtool_finds_nothing_wrong() {
    if Command::new("promtool").arg("--version").output().is_err() {
        println!("SKIPPED promtool: not installed (Debian's package prometheus has it)");
        return;
    }
    let cluster = Cluster::start("admin-promtool", 3);
    let leader = cluster.wait_for_leader();
    assert!(cluster.cli(&["update", "k", "v"]).status.success());
    let page = get(&cluster, leader, "/metrics").1;
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    child.stdin.take().expect("piped").write_all(page.as_bytes()).expect("promtool reads");
    let output = child.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

#[test]
fn what_cannot_be_answered_is_refused_with_its_own_status() {
    let cluster = Cluster::start("admin-refusals", 1);
    let noise: Vec<u8> = (0..4096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for (what, request, expected) in [
        ("an unknown path", "GET /etc/passwd HTTP/1.0\r\n\r\n".as_bytes().to_vec(), "404"),
        ("a wrong method", b"DELETE /metrics HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(), "405"),
        ("a body", b"GET /status HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabcdefghi".to_vec(), "413"),
        ("a chunked body", b"GET /status HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(), "413"),
        ("no host", b"GET /status HTTP/1.1\r\n\r\n".to_vec(), "400"),
        ("many headers", format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(500)).into_bytes(), "431"),
        ("a long header", format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(1 << 20)).into_bytes(), "431"),
        ("a long path", format!("GET /{} HTTP/1.1\r\n", "b".repeat(1 << 16)).into_bytes(), "431"),
        ("another version", b"GET / HTTP/3.0\r\nHost: h\r\n\r\n".to_vec(), "505"),
        ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc".to_vec(), "400"),
        ("our own protocol", b"\x40\x00\x00\x00RAFTKV\r\n".to_vec(), "400"),
        ("zeroes", vec![0; 4096], "400"),
        ("noise", noise, "400"),
    ] {
        assert_eq!(status_of(&cluster, &request), expected, "{what}");
    }
    let head = exchange(&cluster, 0, b"HEAD /metrics HTTP/1.0\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "HEAD has no body: {head}");
    assert!(get(&cluster, 0, "/livez").1 == "ok\n", "the port still answers");
}

#[test]
fn requests_cut_anywhere_and_sent_together_are_answered_in_order() {
    let cluster = Cluster::start("admin-splits", 1);
    let one = "GET /livez HTTP/1.1\r\nHost: h\r\n\r\n";
    let last = "GET /nothing HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let pipeline = format!("{}{last}", one.repeat(20));
    let answer = exchange(&cluster, 0, pipeline.as_bytes());
    let lines: Vec<&str> = answer.lines().filter(|line| line.starts_with("HTTP/1.1")).collect();
    assert_eq!(lines.len(), 21);
    assert!(lines[..20].iter().all(|line| *line == "HTTP/1.1 200 OK"), "{lines:?}");
    assert_eq!(lines[20], "HTTP/1.1 404 Not Found");
    let mut stream = connect(&cluster, 0);
    for byte in format!("{one}{last}").bytes() {
        stream.write_all(&[byte]).expect("the server reads");
    }
    let mut slow = String::new();
    stream.read_to_string(&mut slow).expect("answered and closed");
    assert!(slow.starts_with("HTTP/1.1 200 OK") && slow.contains("HTTP/1.1 404 Not Found"), "{slow}");
}

/// Heads that never end, and more connections than there may be: each costs itself only, and a newcomer is served.
#[test]
fn slow_and_many_connections_block_nobody() {
    let cluster = Cluster::start("admin-slow", 1);
    let start = Instant::now();
    let mut slow = connect(&cluster, 0);
    slow.write_all(b"GET /metrics HTTP/1.1\r\nHost: h\r\n").expect("the server reads");
    let mut many: Vec<TcpStream> = (0..300).map(|_| connect(&cluster, 0)).collect();
    for connection in &mut many {
        let _ = connection.write_all(b"GET /"); // most are closed by now
    }
    assert_eq!(get(&cluster, 0, "/livez").1, "ok\n");
    assert!(cluster.cli(&["put", "k", "v"]).status.success(), "clients are served");
    assert_eq!(slow.read(&mut [0; 16]).unwrap_or(0), 0, "closed without an answer");
    for connection in &mut many {
        assert_eq!(connection.read(&mut [0; 16]).unwrap_or(0), 0, "closed without an answer");
    }
    assert!(start.elapsed() < LONG, "nobody keeps the port for long");
    let page = get(&cluster, 0, "/metrics").1;
    assert!(sample(&page, "raftkv_admin_connections_closed_total") >= Some(300.0), "{page}");
}

/// A client that asks and never reads holds one answer, and loses its connection.
#[test]
fn who_never_reads_is_closed() {
    let cluster = Cluster::start("admin-never-reads", 1);
    let mut greedy = connect(&cluster, 0);
    greedy.set_nonblocking(true).expect("a socket takes the mode");
    let request = b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n";
    let closed = || {
        let page = get(&cluster, 0, "/metrics").1;
        (sample(&page, "raftkv_admin_connections_closed_total") > Some(0.0)).then_some(())
    };
    let deadline = Instant::now() + LONG;
    while Instant::now() < deadline && greedy.write(request).is_ok() {}
    wait_for(LONG, "the connection is given up", closed);
}

#[test]
fn a_taken_port_matters_only_where_it_was_asked_for() {
    let mut cluster = Cluster::prepare("admin-taken", 1, Setup::default());
    let _taken = std::net::TcpListener::bind(cluster.ports.admin(0)).expect("a free port");
    cluster.start_all();
    cluster.wait_for_leader();
    cluster.kill(0);
    let mut command = cluster.command(0);
    let refused = command.args(["--listen-admin", &cluster.ports.admin(0)]).output().expect("the server runs");
    assert_eq!(refused.status.code(), Some(73));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("cannot listen for admin requests on"), "{said}");
}

/// SIGHUP: what can be reloaded counts from then on, the rest is named, and a wrong file changes nothing.
#[test]
fn hangup_reloads_what_can_be_reloaded() {
    let mut cluster = Cluster::prepare("admin-reload", 1, Setup::default());
    let file = cluster.dir.join("raftkv.toml");
    let write = |text: &str| std::fs::write(&file, text).expect("a file");
    write("value-bytes-max = 10\n");
    cluster.set_flags(&["--config", file.to_str().expect("UTF-8")]);
    cluster.start_all();
    cluster.wait_for_leader();
    let put = |value: &str| cluster.cli(&["update", "k", value]).status.code();
    assert_eq!((put("short"), put("longer than ten")), (Some(0), Some(8)));
    let log = cluster.dir.join("node-0.err");
    let hang_up = |words: &str| {
        cluster.signal(0, libc::SIGHUP);
        wait_for(LONG, words, || std::fs::read_to_string(&log).ok()?.contains(words).then_some(()));
    };
    write("value-bytes-max = 100\nheartbeat = \"50ms\"\n");
    hang_up("SIGHUP: reloaded: value-bytes-max; needs a restart: heartbeat");
    assert_eq!(put("longer than ten"), Some(0));
    write("value-bytes-max = 100\nsnapshot-log-bytes = \"8MiB\"\nsnapshot-bytes-per-second = \"1MiB\"\n");
    hang_up("SIGHUP: reloaded: nothing; needs a restart: snapshot-log-bytes, snapshot-bytes-per-second");
    write("value-bytes-max = 5\nhartbeat = 1\n");
    hang_up("nothing is changed: ");
    hang_up("there is no setting `hartbeat`; did you mean `heartbeat`?");
    assert_eq!(put("longer than ten"), Some(0), "a wrong file changes nothing");
}

/// `status --watch` where no terminal is: one block after the other, without colour.
#[test]
fn status_watch_prints_blocks_into_a_pipe() {
    let cluster = Cluster::start("watch", 1);
    let mut child = watching(&cluster).stdout(Stdio::piped()).spawn().expect("it starts");
    let lines = std::io::BufReader::new(child.stdout.take().expect("piped")).lines();
    let seen: Vec<String> = lines.map(|line| line.expect("text")).take(7).collect();
    child.kill().expect("it runs until it is ended");
    child.wait().expect("it ends");
    assert_eq!((seen[0].as_str(), seen[3].as_str(), seen[4].as_str()), ("all is well", "", "all is well"), "{seen:?}");
    assert!(seen[1].starts_with("id  role") && seen[5].starts_with("id  role"), "{seen:?}");
}

/// On a terminal each look is drawn over the last one, in colour.
#[test]
fn status_watch_redraws_on_a_terminal() {
    let cluster = Cluster::start("watch-terminal", 1);
    let (mut screen, terminal) = terminal();
    let mut child = watching(&cluster).stdout(terminal).spawn().expect("it starts");
    let mut seen = String::new();
    let mut bytes = [0; 4096];
    while seen.matches("all is well").count() < 3 {
        let read = screen.read(&mut bytes).expect("the terminal is open");
        seen.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    child.kill().expect("it runs until it is ended");
    child.wait().expect("it ends");
    assert!(seen.starts_with("\x1b[H\x1b[J\x1b[32mall is well\x1b[0m"), "{seen:?}");
    assert!(seen.matches("\x1b[H\x1b[J").count() >= 3, "{seen:?}");
}

fn watching(cluster: &Cluster) -> Command {
    let mut command = Command::new(support::raftkv());
    command.args(["--endpoints", &cluster.ports.client(0), "status", "--watch=50ms"]).env_remove("NO_COLOR");
    command.stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// Both ends of a terminal: what is shown on it, and what a process writes to.
fn terminal() -> (std::fs::File, std::fs::File) {
    let (mut master, mut slave) = (0, 0);
    let none = std::ptr::null_mut();
    // SAFETY: both integers are valid for a descriptor each; null means defaults. The descriptors are new, so each has one owner.
    unsafe {
        assert_eq!(libc::openpty(&mut master, &mut slave, none, none.cast(), none.cast()), 0, "a terminal can be had");
        (std::fs::File::from_raw_fd(master), std::fs::File::from_raw_fd(slave))
    }
}
