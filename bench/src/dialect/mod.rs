//! What a server is asked in: one small state machine for each connection, over bytes. No sockets, no clock.

mod etcd;
mod http2;
mod raftkv;
mod redis;
pub(crate) mod skeleton;

pub(crate) use etcd::Etcd;
pub(crate) use raftkv::Raftkv;
pub(crate) use redis::Redis;
pub(crate) use skeleton::Skeleton;

use crate::workload::Kind;

/// A request, ready to be put into bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    /// What is asked; never [`Kind::ReadThenUpdate`], which is two requests.
    pub(crate) kind: Kind,
    pub(crate) key: &'a [u8],
    /// Empty unless it writes.
    pub(crate) value: &'a [u8],
    /// Keys of a scan.
    pub(crate) keys: u32,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It did what it was asked for.
    Done,
    /// A read found nothing.
    Missing,
    /// It was not done, or perhaps not; why.
    Failed(String),
    /// This server does not take it: who does, if it says so.
    Elsewhere { why: String, leader: Option<String> },
}

/// What the first of the received bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The beginning of something that is not here as a whole.
    More,
    /// Nothing that answers a request.
    Passed { bytes: usize },
    /// An answer to the request in this slot.
    Answered { bytes: usize, slot: u32, answer: Answer },
}

/// The other side says what it must not; the connection is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken(pub(crate) String);

/// One connection's side of a protocol.
pub(crate) trait Dialect {
    /// Largest value that it can be asked to write.
    const VALUE_BYTES_MAX: u32;

    /// Of a new connection, before its first byte.
    fn new() -> Self;

    /// What is said first.
    fn greet(&mut self, out: &mut Vec<u8>);

    /// Whether requests may be sent yet.
    fn is_ready(&self) -> bool;

    /// Appends a request. Its answer will name `slot`, which is not in use.
    fn ask(&mut self, slot: u32, request: &Request<'_>, out: &mut Vec<u8>);

    /// Looks at what arrived; `out` takes what the protocol itself has to say.
    fn next(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Step, Broken>;

    /// Whether it knows this kind of request.
    fn knows(kind: Kind) -> bool;
}
