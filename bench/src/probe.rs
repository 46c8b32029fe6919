//! When a cluster takes its first write: all its addresses are asked at once, again and again, until one acknowledges.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::dialect::{Answer, Dialect, Request, Step};
use crate::workload::Kind;

/// Before the next question, after one that was answered otherwise: the resolution of what is measured, and little load.
const PAUSE: Duration = Duration::from_millis(2);
/// One without an answer for so long is followed by another, which may be answered first: a server may lose what it was asked
/// while it had no leader.
const AGAIN: Duration = Duration::from_millis(20);
/// The key that is written.
const KEY: &[u8] = b"raftkv bench probe";

/// Time from `since` until the first write that was sent from now on is acknowledged at any of these addresses.
pub(crate) fn first_write<D: Dialect>(
    addresses: &[SocketAddr],
    since: Instant,
    patience: Duration,
) -> io::Result<Duration> {
    let is_over = AtomicBool::new(false);
    let deadline = Instant::now() + patience;
    let first = std::thread::scope(|scope| {
        let ask = |address: SocketAddr| {
            let is_over = &is_over;
            scope.spawn(move || {
                let goes_on = || !is_over.load(Ordering::Relaxed) && Instant::now() < deadline;
                let acknowledged = until_acknowledged::<D>(address, &goes_on);
                is_over.store(true, Ordering::Relaxed);
                acknowledged
            })
        };
        let asking: Vec<_> = addresses.iter().copied().map(ask).collect();
        let join = |asked: std::thread::ScopedJoinHandle<'_, Option<Instant>>| {
            asked.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        asking.into_iter().filter_map(join).min()
    });
    let first = first.ok_or_else(|| {
        io::Error::new(io::ErrorKind::TimedOut, format!("no write was acknowledged within {} s", patience.as_secs()))
    })?;
    Ok(first.saturating_duration_since(since))
}

/// When one address acknowledged; none if it did not while this goes on.
fn until_acknowledged<D: Dialect>(address: SocketAddr, goes_on: &impl Fn() -> bool) -> Option<Instant> {
    while goes_on() {
        // A connection that is refused or ends is opened again.
        if let Ok(Some(when)) = ask_over_one_connection::<D>(address, goes_on) {
            return Some(when);
        }
        std::thread::sleep(PAUSE);
    }
    None
}

fn ask_over_one_connection<D: Dialect>(
    address: SocketAddr,
    goes_on: &impl Fn() -> bool,
) -> io::Result<Option<Instant>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PAUSE))?;
    stream.set_write_timeout(Some(AGAIN))?;
    let (mut dialect, mut out, mut input) = (D::new(), Vec::new(), Vec::new());
    let (mut chunk, mut next_slot, mut due) = ([0; 4096], 0, Instant::now());
    dialect.greet(&mut out);
    while goes_on() {
        if dialect.is_ready() && Instant::now() >= due {
            dialect.ask(next_slot, &Request { kind: Kind::Update, key: KEY, value: b"1", keys: 0 }, &mut out);
            next_slot += 1;
            due = Instant::now() + AGAIN;
        }
        stream.write_all(&out)?;
        out.clear();
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(None),
            Ok(received) => input.extend_from_slice(&chunk[..received]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
        match next_answer(&mut dialect, &mut input, &mut out)? {
            Some(Answer::Done) => return Ok(Some(Instant::now())),
            Some(_) => due = due.min(Instant::now() + PAUSE),
            None => {}
        }
    }
    Ok(None)
}

/// Takes what was received up to the first answer.
fn next_answer<D: Dialect>(dialect: &mut D, input: &mut Vec<u8>, out: &mut Vec<u8>) -> io::Result<Option<Answer>> {
    while !input.is_empty() {
        match dialect.next(input, out).map_err(|broken| io::Error::other(broken.0))? {
            Step::More => return Ok(None),
            Step::Passed { bytes } => drop(input.drain(..bytes)),
            Step::Answered { bytes, answer, .. } => {
                input.drain(..bytes);
                return Ok(Some(answer));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::dialect::Broken;

    /// A request is one byte; 1 acknowledges it, anything else does not.
    struct Byte;

    impl Dialect for Byte {
        const VALUE_BYTES_MAX: u32 = 1;

        fn new() -> Self {
            Byte
        }

        fn greet(&mut self, _: &mut Vec<u8>) {}

        fn is_ready(&self) -> bool {
            true
        }

        fn ask(&mut self, _: u32, _: &Request<'_>, out: &mut Vec<u8>) {
            out.push(b'?');
        }

        fn next(&mut self, input: &[u8], _: &mut Vec<u8>) -> Result<Step, Broken> {
            let answer = if input[0] == 1 { Answer::Done } else { Answer::Failed("no".to_owned()) };
            Ok(Step::Answered { bytes: 1, slot: 0, answer })
        }

        fn knows(_: Kind) -> bool {
            true
        }
    }

    /// Answers one connection after the other with these bytes, one for each request, and closes it.
    fn server(connections: &'static [&'static [u8]]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        std::thread::spawn(move || {
            for answers in connections {
                let Ok((mut stream, _)) = listener.accept() else { return };
                for answer in *answers {
                    let _ = stream.read_exact(&mut [0]).and_then(|()| stream.write_all(&[*answer]));
                }
            }
        });
        address
    }

    #[test]
    fn it_is_asked_until_it_says_yes_over_as_many_connections_as_it_takes() {
        let (since, patience) = (Instant::now(), Duration::from_secs(30));
        let address = server(&[&[0, 0], &[], &[0, 1]]);
        let took = first_write::<Byte>(&[address], since, patience).expect("a yes");
        assert!(took >= PAUSE && took <= since.elapsed(), "{took:?}");
    }

    /// What was asked first is never answered; the second question is.
    #[test]
    fn a_question_that_was_lost_is_followed_by_another() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("it connects");
            let _ = stream.read_exact(&mut [0; 2]).and_then(|()| stream.write_all(&[1]));
        });
        let took = first_write::<Byte>(&[address], Instant::now(), Duration::from_secs(30)).expect("a yes");
        assert!(took >= AGAIN, "{took:?}");
    }

    #[test]
    fn one_that_is_silent_holds_nothing_up_and_none_is_an_error() {
        let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
        let silent_address = silent.local_addr().expect("bound");
        let both = [silent_address, server(&[&[1]])];
        assert!(first_write::<Byte>(&both, Instant::now(), Duration::from_secs(30)).is_ok());
        let error = first_write::<Byte>(&[silent_address], Instant::now(), AGAIN).expect_err("nobody answers");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
