//! A load on a cluster: its leader is found, keys are written if they are to be read, the driver's threads run, and what they
//! measured stands beside what the servers used meanwhile.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use client::{Client, Settings};
use protocol::reply::Role;

use crate::dialect::{Dialect, Raftkv};
use crate::distribution::{Distribution, Spread};
use crate::driver::{drive, Share};
use crate::measured::Measured;
use crate::process::{Counted, Used, Watched};
use crate::progress::Progress;
use crate::random::mix;
use crate::report::{Report, Run};
use crate::workload::{Fresh, Generator, Kind, Mix, ValueBytes};

/// A load.
#[derive(Clone, Debug)]
pub struct Load {
    /// As reports call it.
    pub name: String,
    /// What is asked for.
    pub mix: Mix,
    /// Which keys of the set.
    pub spread: Spread,
    /// Connections.
    pub connections: u32,
    /// Requests in flight per connection; of a closed loop.
    pub depth: u32,
    /// Requests a second, all connections together: an open loop.
    pub rate: Option<f64>,
    /// Threads of the driver.
    pub threads: u32,
    /// How long is measured.
    pub duration: Duration,
    /// How long is loaded before.
    pub warm_up: Duration,
    /// How often.
    pub repeats: u32,
    /// Length of each key.
    pub key_bytes: usize,
    /// Length of each value.
    pub value_bytes: ValueBytes,
    /// Size of the set of keys.
    pub keys: u64,
}

impl Load {
    /// The command line's defaults.
    pub fn of(name: &str, mix: Mix) -> Load {
        Load {
            name: name.to_owned(),
            mix,
            spread: Spread::Uniform,
            connections: 1,
            depth: 1,
            rate: None,
            threads: 1,
            duration: Duration::from_secs(10),
            warm_up: Duration::from_secs(1),
            repeats: 1,
            key_bytes: 16,
            value_bytes: 256.into(),
            keys: 10_000,
        }
    }

    /// Updates.
    pub fn updates() -> Load {
        Load::of("update", Mix::only(Kind::Update))
    }
}

/// Whom to load.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The server that all connections go to, then others.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Its processes.
    pub(crate) watched: Watched,
}

/// Connections and depth with which a set of keys is written.
const FILL: (u32, u32) = (8, 32);
/// A server's admin port lies so far above the one for clients, unless it was told otherwise.
const ADMIN_ABOVE: u16 = 2;
/// A cluster that is not there is reported after this.
const UNREACHABLE_PATIENCE: Duration = Duration::from_secs(2);
/// How often it is tried.
const FILLS_MAX: u32 = 4;

/// Finds the leader, writes the set of keys if it is to be read, loads and measures.
pub fn run(load: &Load, endpoints: &[String], timeout: Duration) -> io::Result<Report> {
    let target = leader_first(endpoints, timeout)?;
    if load.mix.needs_keys() {
        fill::<Raftkv>(load, &target, timeout)?;
    }
    measure::<Raftkv>(load, &target, timeout)
}

/// Writes every key of the set once.
pub(crate) fn preload(load: &Load, endpoints: &[String], timeout: Duration) -> io::Result<()> {
    fill::<Raftkv>(load, &leader_first(endpoints, timeout)?, timeout)
}

/// The cluster's client addresses, the leader's first. Waits for a leader.
pub(crate) fn leader_first(endpoints: &[String], timeout: Duration) -> io::Result<Target> {
    let wrong = endpoints.iter().find_map(|endpoint| client::check_address(endpoint).err());
    if let Some(wrong) = wrong {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, wrong));
    }
    let unreachable_patience = Some(UNREACHABLE_PATIENCE.min(timeout));
    let mut client = Client::new(Settings { timeout, unreachable_patience, ..Settings::new(endpoints.to_vec()) })?;
    // A linearizable read is answered when there is a leader.
    client.get(b"raftkv bench").map_err(io::Error::other)?;
    let statuses: Vec<_> =
        client.status_all().into_iter().filter_map(|node| Some((node.address, node.status.ok()?))).collect();
    let leader =
        statuses.iter().filter(|(_, status)| status.role == Role::Leader).max_by_key(|(_, status)| status.term);
    let (leader, _) = leader.ok_or_else(|| io::Error::other("no node says that it leads"))?;
    let mut addresses = vec![resolve(leader)?];
    for (address, _) in statuses.iter().filter(|(address, _)| address != leader) {
        addresses.push(resolve(address)?);
    }
    let admin = addresses[0].port().checked_add(ADMIN_ABOVE).map(|port| SocketAddr::new(addresses[0].ip(), port));
    Ok(Target { watched: Watched::listening(&addresses).with_stages_of(admin), addresses })
}

pub(crate) fn resolve(address: &str) -> io::Result<SocketAddr> {
    let mut resolved = address.to_socket_addrs()?;
    resolved.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{address} has no address")))
}

/// Writes every key of the set, and fails if one of them cannot be written. A server may refuse some while its leader changes:
/// then all are written again.
pub(crate) fn fill<D: Dialect>(load: &Load, target: &Target, timeout: Duration) -> io::Result<()> {
    let load = Load { connections: FILL.0, depth: FILL.1, ..load.clone() };
    let mut filled = fill_as_wide_as::<D>(&load, target, timeout);
    for _ in 1..FILLS_MAX {
        if filled.is_ok() {
            break;
        }
        filled = fill_as_wide_as::<D>(&load, target, timeout);
    }
    filled.map(drop)
}

/// Writes every key of the set once, with the load's connections and depth, and measures it.
pub(crate) fn fill_as_wide_as<D: Dialect>(load: &Load, target: &Target, timeout: Duration) -> io::Result<Run> {
    let start = Instant::now();
    let whole =
        Share { end: None, rate: None, ..share(load, target, timeout.max(Duration::from_secs(10)), start, (0, 1)) };
    let generator = Generator::fill(0..load.keys, load.value_bytes);
    let (before, completed) = (target.watched.count(), AtomicU64::new(0));
    let measured = std::thread::scope(|scope| {
        let filling = scope.spawn(|| drive::<D>(&whole, generator, &completed));
        let mut progress = Progress::new(&format!("{} keys", load.keys), Duration::ZERO);
        while progress.is_shown() && !filling.is_finished() {
            std::thread::sleep(progress.pause());
            progress.show_count(start.elapsed(), completed.load(Ordering::Relaxed), load.keys);
        }
        progress.clear();
        filling.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    if measured.completed() == load.keys {
        return Ok(Run { elapsed: start.elapsed(), measured, used: target.watched.used_since(&before) });
    }
    let why = measured.failures_by_name().keys().next().map_or("nothing was answered", String::as_str);
    Err(io::Error::other(format!("{} of {} keys could be written: {why}", measured.completed(), load.keys)))
}

/// Loads and measures as often as the load says.
pub(crate) fn measure<D: Dialect>(load: &Load, target: &Target, timeout: Duration) -> io::Result<Report> {
    if let Some(kind) = Kind::ALL.into_iter().find(|kind| load.mix.asks(*kind) && !D::knows(*kind)) {
        return Err(io::Error::new(io::ErrorKind::Unsupported, format!("this server cannot be asked to {kind:?}")));
    }
    if load.value_bytes.max > D::VALUE_BYTES_MAX {
        let most = D::VALUE_BYTES_MAX;
        return Err(io::Error::new(io::ErrorKind::Unsupported, format!("values are of {most} B at most here")));
    }
    let runs: io::Result<Vec<Run>> =
        (0..load.repeats.max(1)).map(|_| measure_once::<D>(load, target, timeout)).collect();
    Ok(Report { load: load.clone(), runs: runs? })
}

/// One run.
pub(crate) fn measure_once<D: Dialect>(load: &Load, target: &Target, timeout: Duration) -> io::Result<Run> {
    raise_file_limit();
    let stamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
    let keys = Distribution::new(load.spread, load.keys);
    let newest = Arc::new(AtomicU64::new(load.keys));
    let threads = load.threads.clamp(1, load.connections.max(1)) as usize;
    let completed: Vec<AtomicU64> = (0..threads).map(|_| AtomicU64::new(0)).collect();
    let start = Instant::now() + load.warm_up;
    let mut measured = Measured::default();
    let mut used = Used::default();
    std::thread::scope(|scope| {
        let mut running = Vec::new();
        for (thread, completed) in completed.iter().enumerate() {
            let share = share(load, target, timeout, start, (thread, threads));
            let number = thread as u64;
            let fresh = match load.mix == Mix::only(Kind::Create) {
                true => Fresh::Scattered { run: stamp, next: number, step: threads as u64 },
                false => Fresh::Counted(newest.clone()),
            };
            let generator = Generator::mix(load.mix, keys.clone(), fresh, load.value_bytes, mix(stamp ^ number));
            let run = move || drive::<D>(&share, generator, completed);
            running.push(std::thread::Builder::new().name(format!("load-{thread}")).spawn_scoped(scope, run)?);
        }
        used = watch(load, target, start, &completed);
        for thread in running {
            measured.add(&thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        io::Result::Ok(())
    })?;
    Ok(Run { elapsed: load.duration, measured, used })
}

/// One thread's part.
fn share(load: &Load, target: &Target, timeout: Duration, start: Instant, (thread, threads): (usize, usize)) -> Share {
    let connections = load.connections as usize;
    let own = connections / threads + usize::from(thread < connections % threads);
    Share {
        addresses: target.addresses.clone(),
        connections: own,
        depth: load.depth as usize,
        rate: load.rate.map(|rate| rate * own as f64 / connections as f64),
        key_bytes: load.key_bytes,
        timeout,
        start,
        end: Some(start + load.duration),
    }
}

/// Sleeps beside the driver's threads from start to end, and counts what the servers use.
fn watch(load: &Load, target: &Target, start: Instant, completed: &[AtomicU64]) -> Used {
    let end = start + load.duration;
    let mut progress = Progress::new(&load.name, load.duration);
    std::thread::sleep(start.saturating_duration_since(Instant::now()));
    let before: Counted = target.watched.count();
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::sleep(progress.pause().min(left));
        progress.show(start.elapsed(), completed.iter().map(|thread| thread.load(Ordering::Relaxed)).sum());
    }
    progress.clear();
    target.watched.used_since(&before)
}

/// Each connection is a file. Allows as many as the system lets this process have, and tells how many that is.
pub(crate) fn raise_file_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: all calls take a pointer to one valid rlimit; a refusal changes nothing.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
            libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        }
    }
    limit.rlim_cur
}
