//! The engine against servers that echo slots: what counts, and when.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::dialect::{Broken, Step};
use crate::distribution::Distribution;
use crate::load::{self, Load, Target};
use crate::process::Watched;
use crate::workload::{Fresh, Mix};

/// A request is its slot, and so is its answer.
struct Echo;

impl Dialect for Echo {
    const VALUE_BYTES_MAX: u32 = 16;

    fn new() -> Self {
        Echo
    }

    fn greet(&mut self, _: &mut Vec<u8>) {}

    fn is_ready(&self) -> bool {
        true
    }

    fn ask(&mut self, slot: u32, _: &Request<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(&slot.to_le_bytes());
    }

    fn next(&mut self, input: &[u8], _: &mut Vec<u8>) -> Result<Step, Broken> {
        let Some(slot) = input.first_chunk::<4>() else { return Ok(Step::More) };
        match u32::from_le_bytes(*slot) {
            ELSEWHERE => {
                let Some(port) = input.get(4..6) else { return Ok(Step::More) };
                let leader = Some(format!("127.0.0.1:{}", u16::from_le_bytes([port[0], port[1]])));
                let answer = Answer::Elsewhere { why: "elsewhere".to_owned(), leader };
                Ok(Step::Answered { bytes: 6, slot: 0, answer })
            }
            slot => Ok(Step::Answered { bytes: 4, slot, answer: Answer::Done }),
        }
    }

    fn knows(_: Kind) -> bool {
        true
    }
}

/// Instead of a slot: the request in slot 0 is another server's, whose port follows.
const ELSEWHERE: u32 = u32::MAX;

/// A server; each connection is given to `serve`.
fn server(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Echoes until the other side ends.
fn echo(mut stream: TcpStream) {
    let mut bytes = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut bytes) {
        if stream.write_all(&bytes[..length]).is_err() {
            return;
        }
    }
}

fn share(addresses: Vec<SocketAddr>) -> Share {
    let start = Instant::now();
    Share {
        addresses,
        connections: 1,
        depth: 1,
        rate: None,
        key_bytes: 16,
        timeout: Duration::from_secs(5),
        start,
        end: Some(start + Duration::from_millis(300)),
    }
}

fn run(share: &Share) -> Measured {
    let fresh = Fresh::Scattered { run: 1, next: 0, step: 1 };
    let generator = Generator::mix(Mix::only(Kind::Create), Distribution::uniform(10), fresh, 1.into(), 1);
    drive::<Echo>(share, generator, &AtomicU64::new(0)).expect("it can wait for sockets")
}

#[test]
fn a_closed_loop_keeps_its_depth_under_way_on_every_connection() {
    let most = Arc::new(AtomicUsize::new(0));
    let connections = Arc::new(AtomicUsize::new(0));
    let (seen, opened) = (most.clone(), connections.clone());
    let address = server(move |mut stream| {
        opened.fetch_add(1, Ordering::Relaxed);
        let mut bytes = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut bytes) {
            seen.fetch_max(length / 4, Ordering::Relaxed);
            if stream.write_all(&bytes[..length]).is_err() {
                return;
            }
        }
    });
    let measured = run(&Share { connections: 3, depth: 7, ..share(vec![address]) });
    assert!(measured.completed() > 100 && measured.failures() == 0, "{measured:?}");
    assert_eq!((most.load(Ordering::Relaxed), connections.load(Ordering::Relaxed)), (7, 3));
}

#[test]
fn an_open_loop_charges_a_stall_to_everybody_who_was_due_meanwhile() {
    let stall = Duration::from_millis(400);
    let address = server(move |stream| {
        // The first read comes late; what is due meanwhile waits in the socket.
        let _ = stream.peek(&mut [0]);
        std::thread::sleep(stall);
        echo(stream);
    });
    let open = Share { rate: Some(1000.0), ..share(vec![address]) };
    let measured = run(&Share { end: Some(open.start + Duration::from_secs(1)), ..open });
    let all = measured.completed() + measured.failures();
    assert!((999..=1000).contains(&all), "{all}");
    // Four in ten were due during the stall, and waited for half of it on average.
    assert!(measured.percentile_us(90.0) > 200_000.0, "{}", measured.percentile_us(90.0));
    assert!(measured.percentile_us(75.0) > 80_000.0, "{}", measured.percentile_us(75.0));
}

#[test]
fn all_that_was_due_is_told_of_whatever_a_server_takes() {
    let silent = server(|mut stream| while matches!(stream.read(&mut [0; 64]), Ok(1..)) {});
    let rate = 1_000_000.0;
    let measured = run(&Share { rate: Some(rate), ..share(vec![silent]) });
    let due = 300_000;
    assert!((due * 99 / 100..=due).contains(&measured.failures()), "{:?}", measured.failures_by_name());
    let unsent = measured.failures_by_name().iter().find(|(why, _)| why.contains("never sent"));
    assert!(
        unsent.is_some_and(|(_, times)| *times >= due * 99 / 100 - PENDING_MAX as u64),
        "{:?}",
        measured.failures_by_name()
    );
}

#[test]
fn what_is_answered_after_the_end_has_its_latency_and_is_no_throughput() {
    let open = Share { rate: Some(1000.0), ..share(Vec::new()) };
    let end = open.end.expect("it ends");
    let address = server(move |stream| {
        // Nothing is answered before the end, all of it right then; the driver waits a second for it.
        let _ = stream.peek(&mut [0]);
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
        echo(stream);
    });
    let measured = run(&Share { addresses: vec![address], ..open });
    assert!(measured.completed() >= 299 && measured.failures() == 0, "{measured:?}");
    assert_eq!(measured.completed_in_time(), 0);
    // Half of them were due before the middle.
    assert!(measured.percentile_us(50.0) > 140_000.0, "{}", measured.percentile_us(50.0));
}

#[test]
fn what_a_closed_connection_had_under_way_has_failed_and_the_next_server_is_dialled() {
    let address = server(echo);
    let closes = server(|mut stream| drop(stream.read(&mut [0; 4])));
    let measured = run(&Share { depth: 3, ..share(vec![closes, address]) });
    assert_eq!(measured.failures(), 3, "{:?}", measured.failures_by_name());
    assert!(measured.completed() > 10);
}

#[test]
fn a_server_that_names_another_one_is_left_for_it() {
    let address = server(echo);
    let follower = server(move |mut stream| {
        let _ = stream.read(&mut [0; 4]);
        let mut answer = ELSEWHERE.to_le_bytes().to_vec();
        answer.extend_from_slice(&address.port().to_le_bytes());
        let _ = stream.write_all(&answer);
        echo(stream);
    });
    let measured = run(&share(vec![follower]));
    assert_eq!(measured.failures_by_name().keys().collect::<Vec<_>>(), ["elsewhere"]);
    assert!(measured.failures() == 1 && measured.completed() > 10, "{measured:?}");
}

#[test]
fn a_server_that_never_answers_costs_failures_and_not_silence() {
    let silent = server(|mut stream| while matches!(stream.read(&mut [0; 64]), Ok(1..)) {});
    let measured = run(&Share { timeout: Duration::from_millis(50), ..share(vec![silent]) });
    assert!(measured.completed() == 0 && measured.failures() >= 1, "{measured:?}");
}

#[test]
fn a_fill_ends_when_all_is_answered_and_says_so_if_nothing_is() {
    let fill = |address| {
        let until_written = Share { depth: 4, timeout: Duration::from_millis(50), end: None, ..share(vec![address]) };
        drive::<Echo>(&until_written, Generator::fill(0..1000, 1.into()), &AtomicU64::new(0)).expect("it can wait")
    };
    assert_eq!(fill(server(echo)).completed(), 1000);
    let silent = server(|mut stream| while matches!(stream.read(&mut [0; 64]), Ok(1..)) {});
    assert_eq!(fill(silent).completed(), 0);
}

#[test]
fn a_fill_that_is_refused_in_part_is_repeated_and_fails_in_the_end() {
    let fill = |refusing: usize| {
        let accepted = AtomicUsize::new(0);
        let address = server(move |stream| match accepted.fetch_add(1, Ordering::Relaxed) < refusing {
            true => drop((&stream).read(&mut [0; 4])),
            false => echo(stream),
        });
        let target = Target { addresses: vec![address], watched: Watched::default() };
        let load = Load { keys: 1000, value_bytes: 1.into(), ..Load::updates() };
        load::fill::<Echo>(&load, &target, Duration::from_secs(10))
    };
    fill(3).expect("the second time all are written");
    let refused = fill(usize::MAX).expect_err("none is ever written").to_string();
    assert!(refused.contains("0 of 1000") && refused.contains("connection lost"), "{refused}");
}
