//! A load: each connection is a thread with a pipeline of its own. In a closed loop it keeps `depth` requests in flight; in an
//! open one ([`crate::open_loop`]) it sends at its rate, whatever comes back.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use client::{Completion, Error, Pipeline, Settings, Submission, Token};
use protocol::command::Command;
use protocol::reply::Reply;
use protocol::request::Request;

use crate::open_loop;
use crate::report::{Measured, Report};

/// What the requests do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Create keys, each once.
    Put,
    /// Replace random keys.
    Update,
    /// Read random keys.
    Get,
}

/// A load.
#[derive(Clone, Debug)]
pub struct Load {
    /// What the requests do.
    pub verb: Verb,
    /// Connections, each with a thread.
    pub connections: u32,
    /// Requests in flight per connection; of a closed loop.
    pub depth: u32,
    /// Requests a second, all connections together: an open loop.
    pub rate: Option<f64>,
    /// How long is measured.
    pub duration: Duration,
    /// How long is loaded before.
    pub warm_up: Duration,
    /// Length of each key.
    pub key_bytes: usize,
    /// Length of each value.
    pub value_bytes: usize,
    /// How many keys `update` and `get` choose from.
    pub keys: u64,
}

impl Load {
    /// The command line's defaults.
    pub fn default_of(verb: Verb) -> Load {
        Load {
            verb,
            connections: 1,
            depth: 1,
            rate: None,
            duration: Duration::from_secs(10),
            warm_up: Duration::from_secs(1),
            key_bytes: 24,
            value_bytes: 256,
            keys: 10_000,
        }
    }
}

/// Requests in flight while the set of keys is written.
const PRELOAD_DEPTH: u32 = 256;

impl Verb {
    /// As typed.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Put => "put",
            Verb::Update => "update",
            Verb::Get => "get",
        }
    }

    /// One of these requests.
    pub(crate) fn request<'a>(self, key: &'a [u8], value: &'a [u8]) -> Request<'a> {
        match self {
            Verb::Put => Request::Write(Command::Put { key, value }),
            Verb::Update => Request::Write(Command::Update { key, value }),
            Verb::Get => Request::Get { key },
        }
    }
}

/// Writes the set of keys if the load needs it, then loads and measures.
pub fn run(load: &Load, endpoints: &[String], timeout: Duration) -> io::Result<Report> {
    let run = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
    if load.verb == Verb::Get {
        preload(load, endpoints, timeout)?;
    }
    raise_file_limit();
    let end = AtomicBool::new(false);
    let start = Instant::now() + load.warm_up;
    let mut measured = Measured::default();
    let mut elapsed = load.duration;
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for number in 0..load.connections {
            let mut settings = Settings::new(endpoints.to_vec());
            settings.timeout = timeout;
            settings.seed = u64::from(number);
            let mut keys = Keys::new(load, run, u64::from(number));
            let end = &end;
            let run = move || match load.rate {
                Some(rate) => open_loop::drive(load, rate, settings, &mut keys, start, end),
                None => drive(load, settings, &mut keys, load.depth, start, end),
            };
            threads.push(std::thread::Builder::new().stack_size(256 * 1024).spawn_scoped(scope, run)?);
        }
        std::thread::sleep(load.warm_up + load.duration);
        end.store(true, Ordering::Relaxed);
        elapsed = start.elapsed();
        for thread in threads {
            measured.add(&thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        io::Result::Ok(())
    })?;
    Ok(Report { load: load.clone(), elapsed, measured })
}

/// Each connection is two files.
fn raise_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls take a pointer to one valid rlimit; a refusal changes nothing.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

/// One connection's loop, until `end`; what completes between `start` and `end` counts.
fn drive(
    load: &Load,
    settings: Settings,
    keys: &mut Keys,
    depth: u32,
    start: Instant,
    end: &AtomicBool,
) -> io::Result<Measured> {
    let mut measured = Measured::default();
    let mut pipeline = Pipeline::new(settings)?;
    let value = vec![b'v'; load.value_bytes];
    // A request's token is its number times the depth, plus its slot.
    let depth = u64::from(depth);
    let mut submitted = vec![start; depth as usize];
    let mut free: Vec<u64> = (0..depth).collect();
    let mut number = 0;
    loop {
        let now = Instant::now();
        for slot in free.drain(..) {
            let request = load.verb.request(keys.next(), &value);
            submitted[slot as usize] = now;
            pipeline.submit(Submission::new(Token(number * depth + slot), request));
            number += 1;
        }
        pipeline.poll(Duration::from_millis(100), &mut |Completion { token, result }| {
            let slot = token.0 % depth;
            free.push(slot);
            let now = Instant::now();
            if now >= start {
                count(&mut measured, result, now - submitted[slot as usize]);
            }
        })?;
        if end.load(Ordering::Relaxed) {
            return Ok(measured);
        }
    }
}

pub(crate) fn count(measured: &mut Measured, result: Result<Reply<'_>, Error>, latency: Duration) {
    match result {
        Ok(_) => measured.succeeded(latency),
        Err(error) => measured.failed(error.to_string()),
    }
}

/// Writes every key of the set once.
pub(crate) fn preload(load: &Load, endpoints: &[String], timeout: Duration) -> io::Result<()> {
    let mut settings = Settings::new(endpoints.to_vec());
    settings.timeout = timeout.max(Duration::from_secs(10));
    let mut pipeline = Pipeline::new(settings)?;
    let value = vec![b'v'; load.value_bytes];
    let mut key = Vec::new();
    let mut failed = None;
    let mut next = 0;
    while next < load.keys || pipeline.pending() > 0 {
        while next < load.keys && pipeline.pending() < PRELOAD_DEPTH as usize {
            set_key(&mut key, load.key_bytes, next);
            let request = Request::Write(Command::Update { key: &key, value: &value });
            pipeline.submit(Submission::new(Token(next), request));
            next += 1;
        }
        pipeline.poll(Duration::from_secs(1), &mut |completion| {
            if let Err(error) = completion.result {
                failed = Some(error.to_string());
            }
        })?;
        if let Some(error) = failed {
            return Err(io::Error::other(error));
        }
    }
    Ok(())
}

/// The keys of one connection's requests.
pub(crate) struct Keys {
    verb: Verb,
    key: Vec<u8>,
    length: usize,
    /// Of this run and connection: new keys never meet those of another run.
    run: u64,
    connection: u64,
    number: u64,
    /// Size of the set.
    keys: u64,
    /// State of a small generator (SplitMix64).
    random: u64,
}

impl Keys {
    fn new(load: &Load, run: u64, connection: u64) -> Keys {
        Keys {
            verb: load.verb,
            key: Vec::new(),
            length: load.key_bytes,
            run,
            connection,
            number: 0,
            keys: load.keys,
            random: run ^ (connection << 32),
        }
    }

    pub(crate) fn next(&mut self) -> &[u8] {
        self.number += 1;
        match self.verb {
            Verb::Put => {
                // Sixteen digits are the shortest key: run and number mixed, so that keys are new and not in order.
                let unique = mix(self.run ^ mix(self.connection << 40 | self.number));
                set_key(&mut self.key, self.length, unique);
            }
            Verb::Update | Verb::Get => {
                self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
                set_key(&mut self.key, self.length, mix(self.random) % self.keys);
            }
        }
        &self.key
    }
}

/// A key of this length with a number in front.
fn set_key(key: &mut Vec<u8>, length: usize, number: u64) {
    use std::io::Write as _;
    key.clear();
    let _ = write!(key, "{number:016x}"); // a vector takes everything
    key.resize(length, b'k');
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn load(verb: Verb) -> Load {
        Load {
            verb,
            connections: 2,
            depth: 1,
            rate: None,
            duration: Duration::ZERO,
            warm_up: Duration::ZERO,
            key_bytes: 20,
            value_bytes: 1,
            keys: 10,
        }
    }

    #[test]
    fn put_never_names_a_key_twice() {
        let mut seen = BTreeSet::new();
        for connection in 0..2 {
            let mut keys = Keys::new(&load(Verb::Put), 7, connection);
            for _ in 0..1000 {
                let key = keys.next().to_vec();
                assert_eq!(key.len(), 20);
                assert!(seen.insert(key));
            }
        }
    }

    #[test]
    fn get_stays_within_the_set() {
        let mut expected = BTreeSet::new();
        let mut key = Vec::new();
        for number in 0..10 {
            set_key(&mut key, 20, number);
            expected.insert(key.clone());
        }
        let mut keys = Keys::new(&load(Verb::Get), 7, 0);
        let seen: BTreeSet<Vec<u8>> = (0..1000).map(|_| keys.next().to_vec()).collect();
        assert_eq!(seen, expected);
    }
}
