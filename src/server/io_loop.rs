//! One io thread: clients' sockets, decoding, look-ups, answers.

use std::sync::atomic::AtomicUsize;
use std::sync::Arc;

use mio::net::{TcpListener, TcpStream};
use mio::Poll;

use super::stop::StopSwitch;
use crate::config::Config;
use crate::kv::Reader;
use crate::mailbox::{Parking, Receiver, Sender};
use crate::metrics::{Metrics, Recorder};
use crate::pool::Pool;
use crate::replica::{Completion, Published, Request};
use crate::time::Time;

/// Where an io thread's sockets come from.
pub(super) enum Source {
    /// Io-0 accepts, and hands each socket to the loop with the fewest connections.
    Listener {
        /// Not registered yet.
        listener: TcpListener,
        /// To io-1, io-2, ...
        others: Vec<Sender<Vec<TcpStream>>>,
    },
    /// The others are given theirs.
    HandedOver(Receiver<Vec<TcpStream>>),
}

/// What an io thread is made of.
pub(super) struct Parts {
    /// Which of the io threads; the `io_loop` of its requests.
    pub(super) number: u16,
    pub(super) config: Arc<Config>,
    /// Its waker is registered as `raft_loop::WAKER`.
    pub(super) poll: Poll,
    pub(super) parking: Arc<Parking>,
    pub(super) requests: Sender<Vec<Request>>,
    pub(super) completions: Receiver<Vec<Completion>>,
    pub(super) source: Source,
    /// Open connections of each io thread.
    pub(super) connections: Arc<[AtomicUsize]>,
    pub(super) reader: Reader,
    /// Shared by all io threads.
    pub(super) pool: Pool,
    pub(super) published: Arc<Published>,
    /// For a status's counters; add `logging::dropped()`.
    pub(super) metrics: Metrics,
    pub(super) recorder: Recorder,
    /// When the process started, for a status.
    pub(super) started: Time,
    pub(super) stop: StopSwitch,
}

/// Until it is asked to stop.
pub(super) fn run(parts: Parts) {
    let _ = parts;
}
