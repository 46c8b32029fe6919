//! Hostile bytes against a real cluster: on the ports of clients and of peers. Nothing panics, nobody else is affected,
//! memory stays bounded.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "real sockets")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::time::{Duration, Instant};

use protocol::command::Command;
use protocol::format::{Hello, HelloReply};
use protocol::frame;
use protocol::reply::{Reply, ReplyBody, Status};
use protocol::request::{ReadMode, Request, RequestHeader, Scan, ViewId};
use protocol::{Index, RequestId};
use support::load::Load;
use support::{wait_for, Cluster, Setup};

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

/// All clients of a leader that died come to the next one at once, while it is busy. One whose first packet is dropped for want of
/// room would come again after a second.
#[test]
fn a_crowd_that_comes_while_the_server_is_busy_waits_and_is_served() {
    let cluster = Cluster::start("crowd", 1);
    let address = cluster.ports.client(0).parse().expect("an address");
    cluster.signal(0, libc::SIGSTOP);
    let connect = |_| TcpStream::connect_timeout(&address, Duration::from_millis(900));
    let crowd: Result<Vec<TcpStream>, _> = (0..600).map(connect).collect();
    cluster.signal(0, libc::SIGCONT);
    for connection in crowd.expect("there is room for all who wait") {
        welcomed(connection);
    }
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

/// A raw connection that has said HELLO and was welcomed.
fn greeted(address: &str) -> TcpStream {
    welcomed(TcpStream::connect(address).expect("the port is open"))
}

/// Says HELLO and is welcomed.
fn welcomed(mut stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(LONG)).expect("a socket takes a timeout");
    stream.set_nodelay(true).expect("a socket takes the option");
    let mut hello = Vec::new();
    Hello::client().encode(&mut hello);
    stream.write_all(&hello).expect("the server takes a HELLO");
    let welcome = read_frame(&mut stream).expect("an answer to HELLO");
    let (frame, _) = frame::split(&welcome, FRAME_BYTES_MAX).expect("a sound frame").expect("a whole frame");
    assert!(matches!(HelloReply::decode(&frame), Ok(HelloReply::Accepted(_))));
    stream
}

const FRAME_BYTES_MAX: usize = 16 << 20;

/// The next whole frame; none at the end of the stream.
fn read_frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 4];
    stream.read_exact(&mut bytes).ok()?;
    let whole = frame::needed(&bytes, FRAME_BYTES_MAX).expect("the server sends sound lengths");
    bytes.resize(whole, 0);
    stream.read_exact(&mut bytes[4..]).ok()?;
    Some(bytes)
}

fn encoded(number: u64, request: &Request<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    request.encode(&RequestHeader { request: RequestId(number), ..RequestHeader::default() }, &mut out);
    out
}

/// Status, effect and body of a reply, without what differs from run to run.
fn summary(bytes: &[u8]) -> (u64, Status, String) {
    let (frame, _) = frame::split(bytes, FRAME_BYTES_MAX).expect("a sound frame").expect("a whole frame");
    let reply = Reply::decode(&frame).expect("a reply");
    let body = match reply.body {
        ReplyBody::Value(versioned) => format!("value {:?} version {}", versioned.value, versioned.version),
        ReplyBody::Page(page) => format!("page of {}", page.count),
        _ => String::new(),
    };
    (reply.header.request.0, reply.header.status, body)
}

/// Requests whose answers do not depend on what was written before.
fn conversation() -> Vec<Vec<u8>> {
    let command = Command::Update { key: b"split", value: b"anywhere" };
    vec![
        encoded(1, &Request::Write(command)),
        encoded(2, &Request::Get { key: b"missing" }),
        encoded(3, &Request::Write(Command::Remove { key: b"missing" })),
        encoded(4, &Request::Get { key: b"" }),
    ]
}

fn answers(address: &str, parts: &[&[u8]], count: usize) -> Vec<(u64, Status, String)> {
    let mut stream = greeted(address);
    for part in parts {
        stream.write_all(part).expect("the server reads on");
    }
    let mut answers: Vec<_> = (0..count).map(|_| summary(&read_frame(&mut stream).expect("an answer"))).collect();
    answers.sort_by_key(|answer| answer.0);
    // The first write creates or replaces, depending on the run before.
    answers[0].1 = Status::Ok;
    answers
}

#[test]
fn requests_cut_anywhere_are_answered_alike() {
    let cluster = Cluster::start("splits", 1);
    let address = cluster.ports.client(0);
    let requests = conversation();
    let whole = requests.concat();
    let expected = answers(&address, &[&whole], requests.len());
    assert_eq!(expected.iter().map(|answer| answer.1 as u16).collect::<Vec<_>>(), [200, 404, 404, 400]);
    let single: Vec<&[u8]> = whole.chunks(1).collect();
    assert_eq!(answers(&address, &single, requests.len()), expected, "a byte at a time");
    for cut in 1..whole.len() {
        let parts = [&whole[..cut], &whole[cut..]];
        assert_eq!(answers(&address, &parts, requests.len()), expected, "cut at {cut}");
    }
}

/// A session belongs to writes, with both of its numbers; anything else is refused, and the connection stays.
/// The end of what a client sends may be told together with its last bytes: it is seen all the same, and answered by an end.
#[test]
fn a_client_that_says_no_more_gets_its_answers_and_an_end() {
    let cluster = Cluster::start("half-closed", 1);
    let requests = conversation();
    for round in 0..200 {
        let mut stream = greeted(&cluster.ports.client(0));
        stream.write_all(&requests.concat()).expect("the server reads on");
        stream.shutdown(std::net::Shutdown::Write).expect("an open connection can be half closed");
        let answers = std::iter::from_fn(|| read_frame(&mut stream)).count();
        assert_eq!(answers, requests.len(), "round {round}");
        assert_eq!(stream.read(&mut [0]).expect("an end, not silence"), 0, "round {round}");
    }
}

#[test]
fn sessions_where_none_belongs_are_refused() {
    let cluster = Cluster::start("odd-sessions", 1);
    let add = Request::Write(Command::Increment { key: b"k", by: 1 });
    let requests = [
        (0, 1, add),
        (7, 0, add),
        (7, 1, Request::Get { key: b"k" }),
        (7, 0, Request::Write(Command::OpenSession)),
        (7, 1, Request::Write(Command::KeepAlive)),
        (0, 0, Request::Write(Command::CloseSession)),
    ];
    let mut frames = Vec::new();
    for (number, (session, sequence, request)) in (1..).zip(requests) {
        let (session, sequence) = (protocol::SessionId(session), protocol::Sequence(sequence));
        let header = RequestHeader { request: RequestId(number), session, sequence, ..RequestHeader::default() };
        request.encode(&header, &mut frames);
    }
    let mut stream = greeted(&cluster.ports.client(0));
    stream.write_all(&frames).expect("the server reads on");
    for _ in &requests {
        let told = summary(&read_frame(&mut stream).expect("an answer"));
        assert_eq!(told.1, Status::BadRequest, "{told:?}");
    }
    // Of a session that nobody opened: a good request, and refused by the state machine.
    let header = RequestHeader {
        request: RequestId(9),
        session: protocol::SessionId(u64::MAX),
        sequence: protocol::Sequence(u64::MAX),
        ..RequestHeader::default()
    };
    let mut frame = Vec::new();
    add.encode(&header, &mut frame);
    stream.write_all(&frame).expect("the server reads on");
    assert_eq!(summary(&read_frame(&mut stream).expect("an answer")).1, Status::NotExecuted);
}

/// Where a HELLO says what its connection is for: behind the frame's head, the magic, two versions and the feature level.
const HELLO_PURPOSE_AT: usize = frame::HEADER_BYTES + 8 + 2 + 2 + 4;

/// Makes the checksum of a frame fit its bytes.
fn with_fitting_checksum(frame: &mut [u8]) {
    let length = u32::from_le_bytes(frame[..4].try_into().expect("four bytes"));
    let checksum = crc32c::crc32c_append(length, &frame[8..]);
    frame[4..8].copy_from_slice(&checksum.to_le_bytes());
}

#[test]
fn an_unknown_kind_gets_an_error_and_the_connection_stays() {
    let cluster = Cluster::start("unknown-kind", 1);
    let mut stream = greeted(&cluster.ports.client(0));
    // A sound GET whose kind is one that no version knows; its checksum is made to fit.
    let mut unknown = encoded(7, &Request::Get { key: b"k" });
    unknown[12] = 0x7f;
    with_fitting_checksum(&mut unknown);
    stream.write_all(&unknown).expect("the server reads");
    let refused = summary(&read_frame(&mut stream).expect("an answer"));
    assert_eq!((refused.0, refused.1), (7, Status::BadRequest));
    stream.write_all(&encoded(8, &Request::Get { key: b"k" })).expect("the connection stays");
    assert_eq!(summary(&read_frame(&mut stream).expect("an answer")).1, Status::NotFound);
}

#[test]
fn a_version_that_nobody_speaks_is_refused_with_words() {
    let cluster = Cluster::start("version", 1);
    let mut stream = TcpStream::connect(cluster.ports.client(0)).expect("the port is open");
    stream.set_read_timeout(Some(LONG)).expect("a socket takes a timeout");
    let mut hello = Vec::new();
    Hello { version_min: 900, version_max: 999, ..Hello::client() }.encode(&mut hello);
    stream.write_all(&hello).expect("the server reads");
    let answer = read_frame(&mut stream).expect("an answer");
    let (frame, _) = frame::split(&answer, FRAME_BYTES_MAX).expect("a sound frame").expect("a whole frame");
    match HelloReply::decode(&frame) {
        Ok(HelloReply::Refused(refusal)) => assert!(refusal.version_max < 900, "{refusal:?}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(read_frame(&mut stream), None, "the connection is closed");
}

/// A client that asks for a gigabyte and reads nothing: what the server keeps for it is bounded, and others are served.
#[test]
fn a_client_that_never_reads_costs_bounded_memory() {
    let cluster = Cluster::start("never-reads", 1);
    let file = cluster.dir.join("value");
    std::fs::write(&file, vec![b'v'; 1 << 20]).expect("a file for the value");
    assert!(cluster.cli(&["put", "large", &format!("@{}", file.display())]).status.success());
    let before = resident_kib(&cluster, 0);
    let mut greedy: Vec<TcpStream> = (0..4).map(|_| greeted(&cluster.ports.client(0))).collect();
    for stream in &mut greedy {
        stream.set_nonblocking(true).expect("a socket takes the mode");
        let requests: Vec<u8> = (0..250).flat_map(|n| encoded(n, &Request::Get { key: b"large" })).collect();
        // What the server does not take stays with us: that is the back-pressure.
        let _ = stream.write(&requests);
    }
    for number in 0..50 {
        assert!(cluster.cli(&["update", "other", &number.to_string()]).status.success(), "others are served");
    }
    let grown = resident_kib(&cluster, 0).saturating_sub(before);
    assert!(grown < 200 * 1024, "four clients that never read cost {grown} KiB");
}

/// Many that never read: what a loop keeps for all of them is bounded. Others wait meanwhile, and not for long.
#[test]
fn many_clients_that_never_read_cost_bounded_memory_and_are_disconnected() {
    let flags = ["--io-threads", "1"].map(str::to_owned).to_vec();
    let mut cluster = Cluster::prepare("many-never-read", 1, Setup { flags, ..Setup::default() });
    cluster.start_all();
    cluster.wait_for_leader();
    let file = cluster.dir.join("value");
    std::fs::write(&file, vec![b'v'; 1 << 20]).expect("a file for the value");
    assert!(cluster.cli(&["put", "large", &format!("@{}", file.display())]).status.success());
    let before = resident_kib(&cluster, 0);
    let mut greedy: Vec<TcpStream> = (0..450).map(|_| greeted(&cluster.ports.client(0))).collect();
    let requests: Vec<u8> = (0..8).flat_map(|n| encoded(n, &Request::Get { key: b"large" })).collect();
    greedy.iter_mut().for_each(|stream| stream.write_all(&requests).expect("there is room in the socket"));
    // It is answered when others are given up, and its own reads are not lost.
    let mut patient = greeted(&cluster.ports.client(0));
    patient.write_all(&requests).expect("there is room in the socket");
    let reader = std::thread::spawn(move || {
        (0..8).all(|_| read_frame(&mut patient).is_some_and(|answer| summary(&answer).1 == Status::Ok))
    });
    let mut largest = 0;
    wait_for(LONG, "the patient one is served", || {
        largest = largest.max(resident_kib(&cluster, 0).saturating_sub(before));
        reader.is_finished().then_some(())
    });
    assert!(reader.join().expect("no panic"), "all its answers have come");
    assert!(largest < 350 * 1024, "they cost {largest} KiB");
}

/// Answers that were put off for want of room follow, in turns, when the client begins to read: all of them.
#[test]
fn a_client_that_reads_late_gets_all_that_was_put_off() {
    let cluster = Cluster::start("reads-late", 1);
    let value = "v".repeat(16 * 1024);
    assert!(cluster.cli(&["put", "k", &value]).status.success());
    let mut late = greeted(&cluster.ports.client(0));
    let count = 2000;
    let requests: Vec<u8> = (0..count).flat_map(|number| encoded(number, &Request::Get { key: b"k" })).collect();
    late.write_all(&requests).expect("the server takes requests");
    // Meanwhile, the socket is full and the rest is put off.
    let mut other = greeted(&cluster.ports.client(0));
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..count {
        let (number, status, _) = summary(&read_frame(&mut late).expect("an answer"));
        assert_eq!(status, Status::Ok);
        assert!(seen.insert(number), "{number} is answered once");
        if round % 100 == 0 {
            other.write_all(&encoded(round, &Request::Get { key: b"missing" })).expect("the server reads");
            assert_eq!(summary(&read_frame(&mut other).expect("an answer")).1, Status::NotFound);
        }
    }
}

/// C-26: more requests than there are credits; all are answered, none is refused.
#[test]
fn c26_requests_beyond_the_credits_wait_and_are_answered() {
    let setup = Setup { flags: vec!["--credits".to_owned(), "16".to_owned()], ..Setup::default() };
    let mut cluster = Cluster::prepare("credits", 3, setup);
    cluster.start_all();
    let leader = cluster.wait_for_leader();
    let mut stream = greeted(&cluster.ports.client(leader));
    let keys: Vec<String> = (0..2000).map(|number| format!("k{number}")).collect();
    let put = |(number, key): (usize, &String)| {
        encoded(number as u64, &Request::Write(Command::Put { key: key.as_bytes(), value: b"v" }))
    };
    let requests: Vec<u8> = keys.iter().enumerate().flat_map(put).collect();
    let mut writing = stream.try_clone().expect("a second handle");
    let writer = std::thread::spawn(move || writing.write_all(&requests).expect("the server takes everything in time"));
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..keys.len() {
        let (number, status, _) = summary(&read_frame(&mut stream).expect("an answer"));
        assert_eq!(status, Status::Created);
        assert!(seen.insert(number), "{number} is answered once");
    }
    writer.join().expect("all was sent");
}

/// What holds no credit, and scans that keep a thread busy, are bounded in one turn: the rest waits in its socket, and everything
/// is answered in the end, to others meanwhile.
#[test]
fn c26_more_than_one_turn_may_do_waits_and_is_answered() {
    const KEYS: u64 = 2_000;
    const SCANS: u64 = 300;
    const CLOSED: u64 = 20_000;
    let cluster = Cluster::start("turns", 1);
    let leader = cluster.wait_for_leader();
    let mut stream = greeted(&cluster.ports.client(leader));
    let mut requests = Vec::new();
    for number in 0..KEYS {
        let key = format!("k{number:05}");
        requests.extend(encoded(number, &Request::Write(Command::Put { key: key.as_bytes(), value: b"v" })));
    }
    let count = Scan { view: None, from: b"", to: b"", limit: 0, keys_only: true, count_only: true };
    let view = ViewId { boot: 1, revision: Index(3), serial: 2 };
    for number in KEYS..KEYS + SCANS {
        let read_mode = if number % 2 == 0 { ReadMode::Local } else { ReadMode::Linearizable };
        let header = RequestHeader { request: RequestId(number), read_mode, ..RequestHeader::default() };
        Request::Scan(count).encode(&header, &mut requests);
    }
    for number in KEYS + SCANS..KEYS + SCANS + CLOSED {
        requests.extend(encoded(number, &Request::CloseView(view)));
    }
    let mut writing = stream.try_clone().expect("a second handle");
    let writer = std::thread::spawn(move || writing.write_all(&requests).expect("the server takes everything in time"));
    let mut other = greeted(&cluster.ports.client(leader));
    let mut seen = std::collections::BTreeSet::new();
    for answered in 0..KEYS + SCANS + CLOSED {
        let (number, status, text) = summary(&read_frame(&mut stream).expect("an answer"));
        assert!(matches!(status, Status::Ok | Status::Created), "{number}: {status:?} {text}");
        assert!(seen.insert(number), "{number} is answered once");
        if answered % 1_000 == 0 {
            other.write_all(&encoded(answered, &Request::Get { key: b"k00000" })).expect("it is open");
            read_frame(&mut other).expect("others are answered");
        }
    }
    writer.join().expect("all was sent");
}

/// An answer that is kept for its receipt keeps no other: not of requests that a client gave the same number.
#[test]
fn explained_requests_of_one_number_are_all_answered() {
    let cluster = Cluster::start("one-number", 1);
    let mut stream = greeted(&cluster.ports.client(0));
    let mut requests = Vec::new();
    for _ in 0..64 {
        let header = RequestHeader { request: RequestId(5), explain: true, ..RequestHeader::default() };
        Request::Write(Command::Update { key: b"k", value: b"v" }).encode(&header, &mut requests);
    }
    stream.write_all(&requests).expect("the server reads on");
    for number in 0..64 {
        assert!(read_frame(&mut stream).is_some(), "answer {number}");
    }
}

/// More connections than the process may open files: the log still gets its next segments, and known clients go on.
#[test]
fn idle_connections_do_not_take_the_logs_files() {
    let flags = ["--segment-bytes", "80KiB", "--value-bytes-max", "4KiB"].map(str::to_owned).to_vec();
    let cluster = Cluster::prepare("many-connections", 1, Setup { flags, ..Setup::default() });
    let mut command = cluster.command(0);
    // SAFETY: setrlimit is async-signal-safe, takes a valid rlimit, and nothing is allocated between fork and exec.
    unsafe {
        command.pre_exec(|| {
            let limit = libc::rlimit { rlim_cur: 256, rlim_max: 256 };
            match libc::setrlimit(libc::RLIMIT_NOFILE, &limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let mut server = Killed(command.spawn().expect("the server starts"));
    cluster.wait_for_leader();
    let load = Load::start(&cluster, "k", 16, u64::MAX);
    load.wait_for_more(100, LONG);
    let address = cluster.ports.client(0).parse().expect("an address");
    let idle: Vec<TcpStream> =
        (0..600).map_while(|_| TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()).collect();
    // At some hundred bytes each, this takes several segments.
    load.wait_for_more(3000, LONG);
    assert!(server.0.try_wait().expect("a child can be asked").is_none(), "the server has ended");
    drop(idle);
    wait_for(LONG, "new clients are served again", || cluster.leader());
    load.finish().check(&cluster);
}

/// A node without clients that has no file left for a new one accepts it as soon as there is one: no event tells of that.
#[test]
fn a_client_that_could_not_be_accepted_is_accepted_later() {
    let cluster = Cluster::start("no-files", 1);
    wait_for(LONG, "nobody is connected", || (open_clients(&cluster) == 0).then_some(()));
    let pid = libc::pid_t::try_from(cluster.pid(0)).expect("pids fit");
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the node runs");
    let open: Vec<u64> = files
        .filter_map(|file| file.expect("listed").file_name().to_str().and_then(|name| name.parse().ok()))
        .collect();
    let free = (0..).find(|number| !open.contains(number)).expect("there is a free number");
    let before = set_files_max(pid, free);
    let stream = TcpStream::connect(cluster.ports.client(0)).expect("it waits to be accepted");
    let log = cluster.dir.join("node-0.err");
    wait_for(LONG, "the node has tried", || {
        let text = std::fs::read_to_string(&log).expect("the node logs");
        text.contains("cannot accept a client").then_some(())
    });
    set_files_max(pid, before);
    welcomed(stream);
}

/// Connections at the port of a node's clients, as the system knows them.
fn open_clients(cluster: &Cluster) -> usize {
    let address: std::net::SocketAddr = cluster.ports.client(0).parse().expect("an address");
    let local = format!(":{:04X}", address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the system tells");
    let is_open = |line: &&str| {
        let mut fields = line.split_whitespace().skip(1);
        let is_local = fields.next().is_some_and(|field| field.ends_with(&local));
        // Established, or closed by the other side only.
        is_local && matches!(fields.nth(1), Some("01" | "08"))
    };
    table.lines().filter(is_open).count()
}

/// Bounds the numbers of a process's files from now on; the bound before.
fn set_files_max(pid: libc::pid_t, files: u64) -> u64 {
    let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both pointers are to valid rlimits, or null where prlimit takes that.
    unsafe {
        assert_eq!(libc::prlimit(pid, libc::RLIMIT_NOFILE, std::ptr::null(), &mut old), 0, "a child can be asked");
        let new = libc::rlimit { rlim_cur: files, ..old };
        assert_eq!(libc::prlimit(pid, libc::RLIMIT_NOFILE, &new, std::ptr::null_mut()), 0, "a child can be bounded");
    }
    old.rlim_cur
}

/// A child that does not outlive its test.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Frames that were begun hold all of the pool, and each needs a larger buffer to go on: those that wait so lose
/// patience too, or nobody would ever be served again.
#[test]
fn connections_that_starve_each_other_of_buffers_are_closed() {
    let flags = ["--pool-bytes", "8MiB"].map(str::to_owned).to_vec();
    let mut cluster = Cluster::prepare("starved", 1, Setup { flags, ..Setup::default() });
    cluster.start_all();
    cluster.wait_for_leader();
    let length = 1_000_000_u32.to_le_bytes();
    let mut begun: Vec<TcpStream> = (0..512).map(|_| greeted(&cluster.ports.client(0))).collect();
    begun.iter_mut().for_each(|stream| stream.write_all(&length[..3]).expect("it is read"));
    // Once a newcomer finds no buffer, each of them holds a small one.
    wait_for(LONG, "the pool is used up", || {
        (cluster.cli(&["--timeout", "1s", "get", "k"]).status.code() == Some(5)).then_some(())
    });
    begun.iter_mut().for_each(|stream| stream.write_all(&[length[3], 0]).expect("it is read"));
    wait_for(3 * LONG, "others are served again", || {
        cluster.cli(&["--timeout", "1s", "update", "k", "v"]).status.success().then_some(())
    });
}

/// A HELLO that cannot be read, of a connection that had to wait for a buffer: no event follows that would end it.
#[test]
fn an_unreadable_hello_that_waited_for_a_buffer_closes_its_connection() {
    let flags = ["--pool-bytes", "8MiB", "--io-threads", "1"].map(str::to_owned).to_vec();
    let mut cluster = Cluster::prepare("unreadable-hello", 1, Setup { flags, ..Setup::default() });
    cluster.start_all();
    cluster.wait_for_leader();
    let mut begun: Vec<TcpStream> = (0..512).map(|_| greeted(&cluster.ports.client(0))).collect();
    begun.iter_mut().for_each(|stream| stream.write_all(&[0, 0, 1]).expect("it is read"));
    wait_for(LONG, "the pool is used up", || {
        (cluster.cli(&["--timeout", "1s", "get", "k"]).status.code() == Some(5)).then_some(())
    });
    let mut stream = TcpStream::connect(cluster.ports.client(0)).expect("the port is open");
    stream.set_read_timeout(Some(LONG)).expect("a socket takes a timeout");
    let mut hello = Vec::new();
    Hello::client().encode(&mut hello);
    hello[HELLO_PURPOSE_AT] = 0x7f;
    with_fitting_checksum(&mut hello);
    stream.write_all(&hello).expect("there is room in the socket");
    // The server has looked at it when another newcomer has waited in vain.
    assert_eq!(cluster.cli(&["--timeout", "1s", "get", "k"]).status.code(), Some(5));
    drop(begun);
    assert_eq!(stream.read(&mut [0]).expect("an end, not silence"), 0);
}

/// C-27: clients have used up the pools of both followers, which cannot even read a `get` anymore; what the leader
/// replicates is not read into those pools, and writes are committed as before.
#[test]
fn c27_replication_goes_on_while_the_clients_pools_are_drained() {
    let flags = ["--pool-bytes", "8MiB"].map(str::to_owned).to_vec();
    let mut cluster = Cluster::prepare("drained-pools", 3, Setup { flags, ..Setup::default() });
    cluster.start_all();
    let leader = cluster.wait_for_leader();
    let followers: Vec<usize> = (0..3).filter(|&node| node != leader).collect();
    let drains = followers.iter().flat_map(|&follower| std::iter::repeat_n(cluster.ports.client(follower), 512));
    let mut begun: Vec<TcpStream> = drains.map(|address| greeted(&address)).collect();
    begun.iter_mut().for_each(|stream| stream.write_all(&1_000_000_u32.to_le_bytes()[..3]).expect("it is read"));
    for &follower in &followers {
        wait_for(LONG, "the pool is used up", || {
            let got = cluster.cli_at(&cluster.ports.client(follower), &["--timeout", "1s", "get", "k"]);
            (got.status.code() == Some(5)).then_some(())
        });
    }
    let value = "v".repeat(60_000);
    for number in 0..20 {
        let put = ["put", &format!("k{number}"), &value];
        assert!(cluster.cli_at(&cluster.ports.client(leader), &put).status.success(), "write {number} is committed");
    }
    drop(begun);
    cluster.wait_caught_up();
    assert_eq!(cluster.leader(), Some(leader), "heartbeats were read");
    assert!(followers.iter().all(|&follower| cluster.local_export(follower) == cluster.local_export(leader)));
}

/// One permission stands for all reads of an iteration; each keeps its own deadline (C-26).
#[test]
fn c26_a_short_deadline_beside_a_long_one_is_kept() {
    let mut cluster = Cluster::start("read-deadlines", 3);
    cluster.wait_caught_up();
    let leader = cluster.wait_for_leader();
    for node in (0..3).filter(|node| *node != leader) {
        cluster.kill(node);
    }
    let mut stream = greeted(&cluster.ports.client(leader));
    let get = |number, deadline_ms| {
        let header = RequestHeader { request: RequestId(number), deadline_ms, ..RequestHeader::default() };
        let mut out = Vec::new();
        Request::Get { key: b"k" }.encode(&header, &mut out);
        out
    };
    let start = Instant::now();
    stream.write_all(&[get(1, 0), get(2, 300)].concat()).expect("the server reads");
    let (number, status, _) = summary(&read_frame(&mut stream).expect("an answer"));
    assert_eq!((number, status), (2, Status::NotExecuted), "the one with the short deadline");
    assert!(start.elapsed() < Duration::from_secs(10), "the other has the server's maximum");
}
