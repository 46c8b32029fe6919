//! Hostile bytes against a real cluster: on the ports of clients and of peers. Nothing panics, nobody else is affected,
//! memory stays bounded.

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use support::Cluster;

const LONG: Duration = Duration::from_secs(30);

/// Resident memory of a node, in KiB.
fn resident_kib(cluster: &Cluster, node: usize) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.pid(node))).expect("the node runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a resident size");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number of KiB")
}

fn hostile_bytes() -> Vec<(&'static str, Vec<u8>)> {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random.to_le_bytes()
    };
    let noise: Vec<u8> = (0..4096).flat_map(|_| noise()).collect();
    let length = |length: u32| [length.to_le_bytes().to_vec(), vec![0; 64]].concat();
    vec![
        ("zeroes", vec![0; 4096]),
        ("ones", vec![0xff; 4096]),
        ("noise", noise),
        ("another protocol", b"GET / HTTP/1.1\r\nHost: raftkv\r\n\r\n".to_vec()),
        ("a Redis command", b"*1\r\n$4\r\nPING\r\n".to_vec()),
        ("length 0", length(0)),
        ("length 1", length(1)),
        ("length 2^31", length(1 << 31)),
        ("length 2^32-1", length(u32::MAX)),
        ("length 64 MiB", length(64 << 20)),
    ]
}

/// Sends `bytes` and reads until the server closes; fails if it does not.
fn send_and_expect_close(address: &str, what: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).expect("the port is open");
    stream.set_read_timeout(Some(LONG)).expect("a socket takes a timeout");
    // The server may close before it has read everything; then the write, or the read below, says so.
    let _ = stream.write_all(bytes);
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{what} at {address}: the connection stays open ({error})"),
    }
    assert!(said.len() < 4096, "{what} at {address}: an answer of {} bytes", said.len());
}

#[test]
fn hostile_bytes_close_their_own_connection_and_nothing_else() {
    let mut cluster = Cluster::start("hostile", 3);
    assert!(cluster.cli(&["put", "before", "1"]).status.success());
    for (what, bytes) in hostile_bytes() {
        for node in 0..3 {
            send_and_expect_close(&cluster.ports.client(node), what, &bytes);
            send_and_expect_close(&cluster.ports.peer(node), what, &bytes);
        }
    }
    assert!((0..3).all(|node| cluster.is_running(node)), "a server ended");
    assert!(cluster.cli(&["update", "after", "1"]).status.success());
    assert_eq!(cluster.cli(&["get", "before"]).stdout, b"1");
}

#[test]
fn two_hundred_silent_and_slow_connections_cost_little_and_block_nobody() {
    let cluster = Cluster::start("slow", 3);
    let leader = cluster.wait_for_leader();
    let before = resident_kib(&cluster, leader);
    let address = cluster.ports.client(leader);
    let mut connections: Vec<TcpStream> =
        (0..200).map(|_| TcpStream::connect(&address).expect("the server takes connections")).collect();
    let start = Instant::now();
    for (number, byte) in b"RAFTKV".iter().enumerate() {
        for connection in &mut connections {
            // A byte at a time of something that is not a frame; the server may have closed it by now.
            let _ = connection.write_all(&[*byte]);
        }
        assert!(cluster.cli(&["update", "during", &number.to_string()]).status.success(), "others are served");
    }
    assert!(start.elapsed() < LONG, "others are served in time");
    let grown = resident_kib(&cluster, leader).saturating_sub(before);
    assert!(grown < 64 * 1024, "200 silent connections cost {grown} KiB");
}

#[test]
fn keys_and_values_over_the_limit_are_refused_and_those_at_it_are_kept() {
    let cluster = Cluster::start("limits", 1);
    let key = |bytes: usize| "k".repeat(bytes);
    let file = cluster.dir.join("value");
    let argument = format!("@{}", file.display());
    std::fs::write(&file, vec![b'v'; 1 << 20]).expect("a file for the value");
    assert!(cluster.cli(&["put", &key(4096), &argument]).status.success(), "at both limits");
    assert_eq!(cluster.cli(&["get", &key(4096)]).stdout.len(), 1 << 20);
    let long_key = cluster.cli(&["put", &key(4097), "v"]);
    assert_eq!(long_key.status.code(), Some(8), "{}", String::from_utf8_lossy(&long_key.stderr));
    std::fs::write(&file, vec![b'v'; (1 << 20) + 1]).expect("a file for the value");
    let long_value = cluster.cli(&["put", "k", &argument]);
    assert_eq!(long_value.status.code(), Some(8), "{}", String::from_utf8_lossy(&long_value.stderr));
    assert_eq!(cluster.cli(&["get", "k"]).status.code(), Some(3), "nothing was kept of it");
    assert_eq!(cluster.cli(&["put", "", "v"]).status.code(), Some(2), "an empty key is a bad request");
}
