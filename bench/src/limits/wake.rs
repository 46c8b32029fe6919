//! What it costs to reach another thread: over a loopback connection, and by a wake of its poll.

use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use serde_json::json;

use super::Limit;
use crate::measured::histogram;

const MESSAGE_BYTES: usize = 64;
const SOCKET: Token = Token(0);
const WAKE: Token = Token(1);

/// 64 bytes to another thread and back, each side asleep in its poll.
pub(super) fn round_trip(duration: Duration) -> io::Result<Limit> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let near = std::net::TcpStream::connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    let mut latencies = histogram();
    std::thread::scope(|scope| {
        let echo = scope.spawn(move || End::new(far)?.echo());
        let mut near = End::new(near)?;
        let end = Instant::now() + duration;
        while Instant::now() < end {
            let begin = Instant::now();
            near.stream.write_all(&[7; MESSAGE_BYTES])?;
            if !near.receive()? {
                break;
            }
            latencies.saturating_record(begin.elapsed().as_nanos() as u64);
        }
        drop(near);
        echo.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let name = format!("loopback round trip, {MESSAGE_BYTES} B, epoll on both sides");
    Ok(Limit { name, latencies: Some(latencies), note: String::new(), numbers: json!({ "bytes": MESSAGE_BYTES }) })
}

/// From the call that wakes to the return of the other thread's poll.
pub(super) fn wake(duration: Duration) -> io::Result<Limit> {
    let mut poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKE)?;
    let began = Instant::now();
    // When the last wake was sent, in nanoseconds since `began`; 0 once it was noticed.
    let sent = AtomicU64::new(0);
    let mut latencies = histogram();
    std::thread::scope(|scope| {
        let (sent, waker) = (&sent, &waker);
        scope.spawn(move || {
            while began.elapsed() < duration {
                // Long enough for the other one to fall asleep.
                std::thread::sleep(Duration::from_micros(100));
                let was_noticed = sent.load(Ordering::Acquire) == 0;
                if was_noticed {
                    sent.store(began.elapsed().as_nanos() as u64, Ordering::Release);
                    // A wake that fails is a sample less.
                    let _ = waker.wake();
                }
            }
        });
        let mut events = Events::with_capacity(4);
        while began.elapsed() < duration {
            poll.poll(&mut events, Some(Duration::from_millis(10)))?;
            let now = began.elapsed().as_nanos() as u64;
            let at = sent.swap(0, Ordering::AcqRel);
            if !events.is_empty() && at != 0 {
                latencies.saturating_record(now.saturating_sub(at));
            }
        }
        io::Result::Ok(())
    })?;
    let name = "eventfd wake of another thread's epoll".to_owned();
    Ok(Limit { name, latencies: Some(latencies), note: String::new(), numbers: json!({}) })
}

/// One end of a connection.
struct End {
    stream: TcpStream,
    poll: Poll,
    events: Events,
}

impl End {
    fn new(stream: std::net::TcpStream) -> io::Result<End> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let (poll, mut stream) = (Poll::new()?, TcpStream::from_std(stream));
        poll.registry().register(&mut stream, SOCKET, Interest::READABLE)?;
        Ok(End { stream, poll, events: Events::with_capacity(4) })
    }

    /// Waits for a message; false: the other end is gone.
    fn receive(&mut self) -> io::Result<bool> {
        let mut received = 0;
        while received < MESSAGE_BYTES {
            self.poll.poll(&mut self.events, None)?;
            match self.stream.read(&mut [0; MESSAGE_BYTES]) {
                Ok(0) => return Ok(false),
                Ok(bytes) => received += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn echo(&mut self) -> io::Result<()> {
        while self.receive()? {
            self.stream.write_all(&[7; MESSAGE_BYTES])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_measured_and_come_to_an_end() {
        for measure in [round_trip, wake] {
            let limit = measure(Duration::from_millis(50)).expect("it can be measured");
            let latencies = limit.latencies.expect("latencies");
            assert!(!latencies.is_empty() && latencies.min() > 100, "{}: {}", limit.name, latencies.len());
        }
    }
}
