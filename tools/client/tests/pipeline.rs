//! The client over real sockets, beside nodes that answer as a test wants.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "real sockets and threads")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use protocol::format::{Hello, HelloReply};
use protocol::frame;
use protocol::reply::{Effect, Item, Page, Reason, Reply, ReplyBody, ReplyHeader, Status, Versioned};
use protocol::request::{Incoming, Request, ViewId};
use protocol::{Index, RequestId};
use raftkv_client::{Cause, Client, ScanOptions, Settings};

/// A node that answers each request with what `answer` says, and goes away for ever when that is nothing; its address.
fn node(answer: impl Fn(&Incoming<'_>) -> Option<Reply<'static>> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it has one").to_string();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            if serve(stream, &answer).is_none() {
                return;
            }
        }
    });
    address
}

/// Until the client closes; `None`: the node goes away.
fn serve(mut stream: TcpStream, answer: &impl Fn(&Incoming<'_>) -> Option<Reply<'static>>) -> Option<()> {
    let (mut input, mut chunk) = (Vec::new(), vec![0; 64 * 1024]);
    let mut is_known = false;
    loop {
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return Some(()),
            Ok(bytes) => input.extend_from_slice(&chunk[..bytes]),
        }
        let (mut out, mut taken) = (Vec::new(), 0);
        while let Some((frame, bytes)) = frame::split(&input[taken..], 1 << 20).expect("frames") {
            taken += bytes;
            if is_known {
                let incoming = Request::decode(&frame).expect("a request");
                let mut reply = answer(&incoming)?;
                reply.header.request = incoming.header.request;
                reply.encode(&mut out);
            } else {
                HelloReply::Accepted(Hello::client()).encode(&mut out);
                is_known = true;
            }
        }
        input.drain(..taken);
        stream.write_all(&out).ok()?;
    }
}

fn reply(status: Status, reason: Reason, body: ReplyBody<'static>) -> Reply<'static> {
    let header = ReplyHeader { status, reason, effect: Effect::None, revision: Index(7), request: RequestId(0) };
    Reply { header, leader: None, body, trailer: &[] }
}

/// An address where nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("it has one").to_string()
}

fn client(endpoints: Vec<String>, timeout_ms: u64) -> Client {
    let timeout = Duration::from_millis(timeout_ms);
    Client::new(Settings { timeout, ..Settings::new(endpoints) }).expect("a client")
}

#[test]
fn a_request_that_no_node_would_take_is_refused_and_not_sent() {
    let address = node(|_| panic!("nothing is to arrive"));
    let mut client = client(vec![address], 5000);
    let (long, longer) = (vec![b'x'; 9 << 20], vec![b'x'; 17 << 20]);
    let refused = [
        client.put(b"k", &longer).expect_err("too long"),
        client.get(&longer).expect_err("too long"),
        client.count(&ScanOptions { from: long.clone(), to: long, ..ScanOptions::default() }).expect_err("too long"),
    ];
    for error in refused {
        let expected = (Status::TooLarge, Effect::None, Cause::TooLong);
        assert_eq!((error.status, error.effect, error.cause), expected, "{error}");
        assert!(error.to_string().ends_with("no node takes more than 16777216; it was not sent"), "{error}");
    }
    assert_eq!(client.pipeline().pending(), 0);
}

#[test]
fn c23_a_node_s_reason_outlives_the_search_for_another_node() {
    // The session's opening is refused for want of a leader; the other nodes are down.
    let leaderless = node(|_| Some(reply(Status::NotExecuted, Reason::NoLeader, ReplyBody::Empty)));
    for endpoints in [vec![leaderless.clone(), nobody(), nobody()], vec![nobody(), leaderless.clone(), nobody()]] {
        let error = client(endpoints, 400).put(b"k", b"v").expect_err("no leader");
        assert_eq!((error.reason, error.effect), (Reason::NoLeader, Effect::None), "{error}");
        assert_ne!(error.cause, Cause::Unreachable, "{error}");
        assert_eq!(error.endpoint.as_ref(), Some(&leaderless), "{error}");
    }
}

#[test]
fn a_read_s_node_is_asked_to_answer_before_the_client_gives_up() {
    // A node without a leader holds a read for as long as it may, and then says why it could not answer.
    let (told, tells) = std::sync::mpsc::channel();
    let address = node(move |incoming| {
        told.send(incoming.header.deadline_ms).expect("the test listens");
        Some(reply(Status::NotFound, Reason::None, ReplyBody::Empty))
    });
    client(vec![address], 8_000).get(b"k").expect("an answer: there is none");
    let deadline_ms = tells.recv().expect("it was asked");
    assert!((1..=7_950).contains(&deadline_ms), "{deadline_ms} of 8000");
}

#[test]
fn a_scan_whose_node_goes_away_has_lost_its_view() {
    let address = node(|incoming| match incoming.request {
        Request::Scan(scan) if scan.view.is_none() => {
            let versioned = Versioned { value: b"v", revision: Index(1), create_revision: Index(1), version: 1 };
            let page = Page {
                view: Some(ViewId { boot: 1, revision: Index(7), serial: 1 }),
                count: 1,
                items: vec![Item { key: b"a", versioned }],
                resume: b"b",
            };
            Some(reply(Status::Ok, Reason::None, ReplyBody::Page(page)))
        }
        _ => None,
    });
    let mut client = client(vec![address.clone(), nobody()], 5000);
    let mut scan = client.scan(ScanOptions::default()).expect("a scan");
    assert_eq!(scan.next().expect("a key").expect("the first page").key, b"a");
    let error = scan.next().expect("not all").expect_err("its node is gone");
    assert_eq!((error.cause, error.effect, error.endpoint), (Cause::ViewLost, Effect::None, Some(address)));
    assert!(scan.next().is_none());
}
