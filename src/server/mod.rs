//! The threads of a server, one file each, and their wiring. No logic of its own.
//!
//! ```text
//! io-0 ... io-n    io_loop       clients' sockets                  the only readers of clients
//! raft             raft_loop     the replica, the peers' sockets   the only writer of the state machine
//! wal              wal_loop      the log's files                   the only one that syncs
//! bulk             bulk_worker   old entries, new segments         whatever waits for the disk
//! names            names         look-ups of names                 whatever waits for a name server
//! memory           (pool)        what the state grows into next    whatever waits for the system's memory
//! log              (logging)     the text log
//! admin            admin         /metrics, /status and the like    reads what the others publish
//! main             this file     waits for a signal
//! ```
//!
//! Between two threads there is a link in each direction ([`crate::mailbox`]); nothing else is shared but published
//! numbers, the skip list's readers, the metrics and the process's memory. The data directory belongs to [`crate::wal`], which says what is in it.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "this is where threads, clocks and sockets are"
)]

mod admin;
mod arena;
mod boot;
mod bulk_worker;
mod gauges;
mod io_loop;
mod names;
mod peers;
mod raft_loop;
mod receipt;
mod settings;
mod status;
mod stop;
mod system;
mod wal_loop;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::Arc;
use std::thread::JoinHandle;

use log::{info, warn};
use mio::net::{TcpListener, TcpStream};
use mio::{Poll, Waker};
use protocol::format::Member;
use protocol::reply::NodeStatus;
use protocol::ClusterId;

use crate::exit;
use crate::kv::{Position, Reader};
use crate::limits;
use crate::logging;
use crate::mailbox::{link, Parking, ThreadPark};
use crate::metrics::Metrics;
use crate::pool::Pool;
use crate::raft;
use crate::replica::{self, Published, Replica, SnapshotFile};
use crate::snapshot::{Snapshots, Summary, Taker};
use crate::time::{Span, Time};
use crate::wal::{self, Wal};
use admin::{AdminLoop, Pages};
use bulk_worker::{BulkWorker, Done, Fetching, Job, Serving, Taking};
use gauges::Gauges;
use names::{Found, LookUp, Names};
use peers::Peers;
use raft_loop::{Completions, IoLink, RaftLoop, Requests};
use settings::Live;
pub use settings::{AdminListen, Config, RELOADABLE};
use status::StatusSource;
use stop::StopSwitch;
use wal_loop::{Persisted, Queued, WalLoop};

/// Why a server does not start.
#[derive(Clone, Debug)]
pub struct StartError {
    /// The process's exit code.
    pub exit_code: i32,
    /// One or two sentences for a person.
    pub text: String,
}

/// What a server does not do itself, because that lies above it.
pub struct Hooks {
    /// A node's status as the command line shows it with `-o json`.
    pub status_as_json: fn(&NodeStatus) -> String,
    /// Reads the settings anew, or says what is wrong with them.
    pub reload: Box<dyn FnMut() -> Result<Config, String>>,
}

/// Runs a server until a signal ends it. Call it on the process's first thread, before there are others: signals are blocked
/// here. Err: it did not start, and nobody was told yet.
pub fn serve(config: Config, mut hooks: Hooks) -> Result<(), StartError> {
    let signals = system::Signals::block();
    system::exit_on_unreadable_map();
    let started = start(config, hooks.status_as_json).map(|mut server| {
        let signal = signals.wait_for_end(|| {
            logging::reopen();
            server.reload((hooks.reload)());
        });
        info!("stopping on {}", system::signal_name(signal));
        server.stop();
    });
    logging::flush(std::time::Duration::from_secs(1));
    started
}

struct Server {
    /// The threads that are waited for, in the order in which they end; those of a group end beside each other.
    threads: Vec<Vec<Running>>,
    /// As it was started.
    config: Arc<Config>,
    /// As the settings were read last.
    loaded: Config,
    live: Arc<Live>,
    gauges: Arc<Gauges>,
}

struct Running {
    thread: JoinHandle<()>,
    stop: StopSwitch,
}

impl Server {
    /// Ends the threads, those that produce work before those that do it.
    fn stop(self) {
        self.gauges.set_stopping();
        self.threads.into_iter().for_each(end);
    }

    /// Takes over what can be taken over from new settings, and says what that was and what needs a restart.
    fn reload(&mut self, read: Result<Config, String>) {
        let new = match read {
            Ok(new) => new,
            Err(why) => return warn!("SIGHUP: nothing is changed: {why}"),
        };
        let least = limits::segment_bytes_min(new.key_bytes_max, new.value_bytes_max);
        if self.config.segment_bytes < least {
            return warn!(
                "SIGHUP: nothing is changed: a segment as this server writes it cannot hold the largest entry"
            );
        }
        let is_reloadable = |key: &&str| RELOADABLE.contains(key);
        let reloaded: Vec<&str> = self.loaded.differences(&new).into_iter().filter(is_reloadable).collect();
        let started = self.config.differences(&new);
        let restart: Vec<&str> = started.into_iter().filter(|key| !is_reloadable(key)).collect();
        if reloaded.contains(&"log") {
            logging::set_filter(new.logging.filter.clone());
        }
        self.live.set(&new);
        new.warnings.iter().for_each(|warning| warn!("{warning}"));
        let list = |keys: &[&str]| if keys.is_empty() { "nothing".to_owned() } else { keys.join(", ") };
        info!("SIGHUP: reloaded: {}; needs a restart: {}", list(&reloaded), list(&restart));
        self.loaded = new;
    }
}

/// Asks all threads of a group before it waits for any: each may take its time to answer what it owes.
fn end(group: Vec<Running>) {
    group.iter().for_each(|running| running.stop.ask());
    for Running { thread, .. } in group {
        // A panic has ended the process already.
        let _ = thread.join();
    }
}

fn start(config: Config, status_as_json: fn(&NodeStatus) -> String) -> Result<Server, StartError> {
    start_logging(&config)?;
    let files = system::raise_file_limit();
    #[cfg(feature = "sabotage")]
    arm_sabotage();
    if cfg!(feature = "global-memory") {
        warn!("built for comparisons: buffers and state are in the global allocator's memory, not in the pool's");
    }
    touch_memory_ahead();
    let boot::Opened { wal, recovered, snapshots, store, snapshot } = boot::open(&config)?;
    let client_listener = listen("clients", config.listen_client)?;
    let peer_listener = listen("peers", config.listen_peer)?;
    let admin_listener = listen_admin(&config)?;
    let now = system::now();
    let identity = recovered.meta.incarnation.0;
    info!(
        "node {}: disk {identity:016x}, log up to index {} of term {}, data in {}",
        config.id,
        recovered.last.index,
        recovered.last.term,
        config.data.display()
    );
    let members = recovered.meta.format.as_ref().map_or(&config.members, |format| &format.members).clone();
    let readers = (0..config.io_threads).map(|_| store.reader()).collect();
    let bulk_reader = store.reader();
    let taker = Taker { node: config.id, incarnation: recovered.meta.incarnation };
    let replica = Replica::new(now, replica_settings(&config, &recovered.meta)?, to_raft(recovered, snapshot), store);
    let clients_max = clients_max(files, config.io_threads);
    let wiring = Wiring::new(config, now, replica.published(), clients_max).map_err(cannot_start)?;
    let parts = Parts {
        wal,
        snapshots,
        taker,
        replica,
        readers,
        bulk_reader,
        members,
        client_listener,
        peer_listener,
        admin_listener,
        status_as_json,
    };
    wiring.spawn(parts).map_err(cannot_start)
}

/// The first thread: a snapshot that is loaded is a state that grows. Nobody waits for its end, and a node can do without it.
#[cfg(not(feature = "global-memory"))]
fn touch_memory_ahead() {
    let thread = std::thread::Builder::new().name("memory".to_owned()).spawn(|| crate::pool::keep_spans_ahead());
    if let Err(error) = thread {
        warn!("memory is touched when it is needed, there is no thread to do it before: {error}");
    }
}

#[cfg(feature = "global-memory")]
fn touch_memory_ahead() {}

/// How many clients may be connected: they must not take the files that the log and the peers need.
fn clients_max(files: usize, io_threads: u16) -> usize {
    files.saturating_sub(limits::OPEN_FILES_KEPT + 2 * usize::from(io_threads)).max(1)
}

fn start_logging(config: &Config) -> Result<(), StartError> {
    logging::start(config.logging.clone())
        .map_err(|error| StartError { exit_code: exit::IO, text: format!("cannot log: {error}") })?;
    logging::exit_on_panic();
    logging::exit_on_fatal_signals();
    config.warnings.iter().for_each(|warning| warn!("{warning}"));
    Ok(())
}

fn listen(whom: &str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let listening = TcpListener::bind(address).and_then(|listener| {
        system::set_backlog(&listener, limits::CONNECTIONS_WAITING_MAX)?;
        Ok(listener)
    });
    listening.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => StartError {
            exit_code: exit::BUSY,
            text: format!("cannot listen for {whom} on {address}: the port is taken by another process"),
        },
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::PermissionDenied => {
            StartError { exit_code: exit::REFUSED, text: format!("cannot listen for {whom} on {address}: {error}") }
        }
        _ => StartError { exit_code: exit::IO, text: format!("cannot listen for {whom} on {address}: {error}") },
    })
}

/// The port of the admin endpoints. Where nobody asked for it, a server goes on without.
fn listen_admin(config: &Config) -> Result<Option<TcpListener>, StartError> {
    let Some(AdminListen { address, is_asked_for }) = config.listen_admin else { return Ok(None) };
    match listen("admin requests", address) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if is_asked_for => Err(error),
        Err(error) => {
            warn!("{}; going on without /metrics and /status (--listen-admin says where, or off)", error.text);
            Ok(None)
        }
    }
}

fn cannot_start(error: io::Error) -> StartError {
    StartError { exit_code: exit::IO, text: format!("cannot start: {error}") }
}

fn replica_settings(config: &Config, meta: &wal::Meta) -> Result<replica::Settings, StartError> {
    let random = || system::random().map_err(cannot_start);
    Ok(replica::Settings {
        id: config.id,
        incarnation: meta.incarnation,
        initial_members: config.members.clone(),
        cluster_if_formed: ClusterId(random()?.max(1)),
        boot: random()?,
        seed: random()?,
        election_timeout_min: config.election_timeout_min,
        heartbeat: config.heartbeat,
        commit_notice: Span::micros(limits::COMMIT_NOTICE_US),
        append_bytes_max: limits::PEER_APPEND_BYTES_MAX,
        inflight_bytes_max: limits::PEER_INFLIGHT_BYTES_MAX,
        inflight_messages_max: limits::PEER_INFLIGHT_MESSAGES_MAX,
        tail_bytes_max: limits::RAFT_TAIL_BYTES_MAX,
        uncommitted_bytes_max: limits::RAFT_UNCOMMITTED_BYTES_MAX,
        snapshot_log_bytes_min: config.snapshot_log_bytes,
        snapshot_state_percent: limits::SNAPSHOT_STATE_PERCENT,
        snapshot_held_bytes_max: limits::SNAPSHOT_VIEW_BYTES_MAX as u64,
    })
}

/// What the wal found, in Raft's words: the two rooms do not know each other.
fn to_raft(found: wal::Recovered, snapshot: Option<Summary>) -> replica::Recovered {
    let base = raft::LogBase { id: found.base.id, chain: found.base.chain, log_time: found.base.log_time };
    replica::Recovered {
        format: found.meta.format,
        log: raft::Recovered {
            hard_state: found.meta.hard_state,
            applied: snapshot.map_or(base, |summary| of_position(summary.position)),
            base,
            runs: found.runs.into_iter().map(|(term, first)| raft::TermRun { term, first }).collect(),
            last: found.last,
            last_chain: found.last_chain,
            last_log_time: found.last_log_time,
            tail: found.tail,
        },
        snapshot: snapshot.map(|summary| SnapshotFile { position: summary.position, bytes: summary.bytes }),
    }
}

fn of_position(position: Position) -> raft::LogBase {
    raft::LogBase { id: position.id, chain: position.chain, log_time: position.log_time }
}

/// What the threads are given.
struct Parts {
    wal: Wal,
    snapshots: Snapshots,
    taker: Taker,
    replica: Replica,
    readers: Vec<Reader>,
    bulk_reader: Reader,
    members: Vec<Member>,
    client_listener: TcpListener,
    peer_listener: TcpListener,
    admin_listener: Option<TcpListener>,
    status_as_json: fn(&NodeStatus) -> String,
}

/// Where each thread sleeps, so that links can be made between them.
struct Wiring {
    config: Arc<Config>,
    /// Clients that may be connected, over all io threads.
    clients_max: usize,
    started: Time,
    published: Arc<Published>,
    metrics: Metrics,
    live: Arc<Live>,
    gauges: Arc<Gauges>,
    pool: Pool,
    raft_poll: Poll,
    raft: Arc<Parking>,
    wal_sleep: Arc<ThreadPark>,
    wal: Arc<Parking>,
    bulk_poll: Poll,
    bulk: Arc<Parking>,
    names_sleep: Arc<ThreadPark>,
    names: Arc<Parking>,
    io: Vec<(Poll, Arc<Parking>)>,
}

/// A poll, and the way to wake the thread that sleeps in it.
fn poll_with_waker() -> io::Result<(Poll, Arc<Parking>)> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), raft_loop::WAKER)?;
    Ok((poll, Parking::new(Arc::new(waker))))
}

/// A condition variable to sleep on, and the way to wake its thread.
fn sleep_with_waker() -> (Arc<ThreadPark>, Arc<Parking>) {
    let sleep = Arc::new(ThreadPark::default());
    let parking = Parking::new(sleep.clone());
    (sleep, parking)
}

impl Wiring {
    fn new(config: Config, started: Time, published: Arc<Published>, clients_max: usize) -> io::Result<Wiring> {
        let (raft_poll, raft) = poll_with_waker()?;
        let (wal_sleep, wal) = sleep_with_waker();
        let (bulk_poll, bulk) = poll_with_waker()?;
        let (names_sleep, names) = sleep_with_waker();
        let io = (0..config.io_threads).map(|_| poll_with_waker()).collect::<io::Result<_>>()?;
        let metrics = Metrics::default();
        let live = Arc::new(Live::new(&config));
        let gauges = Arc::new(Gauges::new(started, config.io_threads, config.credits));
        let pool = Pool::new(config.pool_bytes);
        let config = Arc::new(config);
        Ok(Wiring {
            config,
            clients_max,
            started,
            published,
            metrics,
            live,
            gauges,
            pool,
            raft_poll,
            raft,
            wal_sleep,
            wal,
            bulk_poll,
            bulk,
            names_sleep,
            names,
            io,
        })
    }

    fn spawn(mut self, parts: Parts) -> io::Result<Server> {
        let clients: Arc<[AtomicUsize]> = self.io.iter().map(|_| AtomicUsize::new(0)).collect();
        let (io_links, io_threads) = self.io_threads(parts.readers, parts.client_listener, &clients);
        if let Some(listener) = parts.admin_listener {
            self.spawn_admin(listener, clients, parts.status_as_json)?;
        }
        let (appends, appends_in) = link::<Vec<Queued>>(self.wal.clone(), self.raft.clone());
        let (persisted, persisted_in) = link::<Vec<Persisted>>(self.raft.clone(), self.wal.clone());
        let (jobs, jobs_in) = link::<Vec<Job>>(self.bulk.clone(), self.raft.clone());
        let (done, done_in) = link::<Vec<Done>>(self.raft.clone(), self.bulk.clone());
        let (wanted, wanted_in) = link::<Vec<LookUp>>(self.names.clone(), self.raft.clone());
        let (found, found_in) = link::<Vec<Found>>(self.raft.clone(), self.names.clone());
        let names = Names {
            wanted: wanted_in,
            found,
            sleep: self.names_sleep,
            parking: self.names.clone(),
            stop: StopSwitch::new(self.names),
        };
        let bytes_per_second = self.config.snapshot_bytes_per_second;
        let bulk_worker = BulkWorker {
            reader: parts.wal.reader(),
            preparer: parts.wal.preparer(),
            snapshots: parts.snapshots,
            taking: Taking::new(parts.bulk_reader, parts.taker, bytes_per_second),
            serving: Serving::new(self.bulk_poll.registry().try_clone()?, bytes_per_second),
            fetching: Fetching::new(self.bulk_poll.registry().try_clone()?),
            jobs: jobs_in,
            done,
            poll: self.bulk_poll,
            parking: self.bulk.clone(),
            stop: StopSwitch::new(self.bulk.clone()),
            recorder: self.metrics.recorder(),
        };
        let wal_loop = WalLoop {
            wal: parts.wal,
            compact: None,
            appends: appends_in,
            persisted,
            sleep: self.wal_sleep,
            parking: self.wal.clone(),
            bulk_worker: self.bulk,
            stop: StopSwitch::new(self.wal),
            recorder: self.metrics.recorder(),
        };
        let peers = Peers::new(
            self.config.id,
            &parts.members,
            parts.peer_listener,
            self.raft_poll.registry().try_clone()?,
            system::random()?,
            &self.metrics,
        )?;
        let raft_loop = RaftLoop {
            replica: parts.replica,
            peers,
            poll: self.raft_poll,
            parking: self.raft.clone(),
            io: io_links,
            appends,
            persisted: persisted_in,
            jobs,
            done: done_in,
            names: wanted,
            found: found_in,
            fetch: None,
            has_fetch_failed: false,
            stop: StopSwitch::new(self.raft),
            proposals: raft_loop::Proposals::default(),
            recorder: self.metrics.recorder(),
            gauges: self.gauges.clone(),
        };
        let mut io = Vec::new();
        for (number, io_loop) in io_threads.into_iter().enumerate() {
            io.push(running(format!("io-{number}"), io_loop.stop.clone(), move || io_loop::run(io_loop))?);
        }
        let raft = running("raft".to_owned(), raft_loop.stop.clone(), move || raft_loop.run())?;
        let wal = running("wal".to_owned(), wal_loop.stop.clone(), move || wal_loop.run())?;
        let threads = vec![io, vec![raft], vec![wal]];
        // Nobody waits for the end of these: what they leave unfinished is begun anew at the next start.
        running("bulk".to_owned(), bulk_worker.stop.clone(), move || bulk_worker.run())?;
        running("names".to_owned(), names.stop.clone(), move || names.run())?;
        let Config { id, listen_client, listen_peer, .. } = *self.config;
        info!("node {id} listens for clients on {listen_client}, for peers on {listen_peer}");
        let loaded = Config::clone(&self.config);
        Ok(Server { threads, config: self.config, loaded, live: self.live, gauges: self.gauges })
    }

    fn status_source(&self) -> StatusSource {
        StatusSource {
            config: self.config.clone(),
            published: self.published.clone(),
            metrics: self.metrics.clone(),
            started: self.started,
        }
    }

    /// Nobody waits for this thread's end: it has nothing to finish.
    fn spawn_admin(
        &self,
        listener: TcpListener,
        clients: Arc<[AtomicUsize]>,
        status_as_json: fn(&NodeStatus) -> String,
    ) -> io::Result<()> {
        let pages = Pages {
            source: self.status_source(),
            gauges: self.gauges.clone(),
            pool: self.pool.clone(),
            clients,
            clients_max: self.clients_max,
            status_as_json,
        };
        let address = listener.local_addr()?;
        let admin = AdminLoop::new(listener, pages, self.metrics.recorder())?;
        std::thread::Builder::new().name("admin".to_owned()).spawn(move || admin.run())?;
        info!("admin endpoints on http://{address}: /metrics, /livez, /readyz, /status");
        Ok(())
    }
}

impl Wiring {
    /// The io threads' parts, and the raft thread's ends of their links.
    fn io_threads(
        &mut self,
        readers: Vec<Reader>,
        listener: TcpListener,
        connections: &Arc<[AtomicUsize]>,
    ) -> (Vec<IoLink>, Vec<io_loop::Parts>) {
        let (hand_overs, handed_over): (Vec<_>, Vec<_>) = self.io[1..]
            .iter()
            .map(|(_, parking)| link::<Vec<TcpStream>>(parking.clone(), self.io[0].1.clone()))
            .unzip();
        let first = io_loop::Source::Listener { listener, others: hand_overs };
        let sources = std::iter::once(first).chain(handed_over.into_iter().map(io_loop::Source::HandedOver));
        let mut links = Vec::new();
        let mut threads = Vec::new();
        let io = std::mem::take(&mut self.io);
        for (number, (((poll, parking), reader), source)) in (0..).zip(io.into_iter().zip(readers).zip(sources)) {
            let (requests, requests_in) = link::<Requests>(self.raft.clone(), parking.clone());
            let (completions, completions_in) = link::<Completions>(parking.clone(), self.raft.clone());
            links.push(IoLink { requests: requests_in, completions });
            threads.push(io_loop::Parts {
                number,
                poll,
                stop: StopSwitch::new(parking.clone()),
                parking,
                requests,
                completions: completions_in,
                source,
                connections: connections.clone(),
                clients_max: self.clients_max,
                reader,
                pool: self.pool.clone(),
                status_source: self.status_source(),
                live: self.live.clone(),
                recorder: self.metrics.recorder(),
                gauges: self.gauges.clone(),
            });
        }
        (links, threads)
    }
}

/// Arms the bug that `RAFTKV_SABOTAGE` names, in a build that can.
#[cfg(feature = "sabotage")]
fn arm_sabotage() {
    use crate::sabotage::{arm_everywhere, Bug};
    let name = std::env::var("RAFTKV_SABOTAGE").unwrap_or_default();
    if let Some(bug) = Bug::named(&name) {
        arm_everywhere(bug);
        logging::say(format_args!("SABOTAGED ({name}): {} on purpose", bug.breaks()));
    }
}

fn running(name: String, stop: StopSwitch, run: impl FnOnce() + Send + 'static) -> io::Result<Running> {
    let thread = std::thread::Builder::new().name(name).spawn(run)?;
    Ok(Running { thread, stop })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Each of two threads ends only when the other one was asked, too.
    #[test]
    fn the_threads_of_a_group_are_all_asked_before_one_is_waited_for() {
        let switches: Vec<StopSwitch> = (0..2).map(|_| StopSwitch::new(sleep_with_waker().1)).collect();
        let (told, tells) = std::sync::mpsc::channel();
        let group = (0..2).map(|number: usize| {
            let (other, told) = (switches[1 - number].clone(), told.clone());
            let run = move || {
                let deadline = Instant::now() + Duration::from_secs(10);
                while !other.is_asked() && Instant::now() < deadline {
                    std::thread::yield_now();
                }
                told.send(other.is_asked()).expect("somebody listens");
            };
            running(format!("test-{number}"), switches[number].clone(), run).expect("a thread")
        });
        end(group.collect());
        assert_eq!(tells.iter().take(2).collect::<Vec<_>>(), [true, true]);
    }
}
