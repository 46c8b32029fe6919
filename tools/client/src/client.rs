//! The simple face: one call, one answer.

use std::collections::VecDeque;
use std::time::Duration;

use protocol::command::{Batch, Command};
use protocol::receipt::Receipt;
use protocol::reply::{Fate, NodeStatus, Reply, ReplyBody, Status, TakenSnapshot};
use protocol::request::{LogLevel, ReadMode, Request, ViewId};
use protocol::Index;

use crate::driver::{Completion, Pipeline, Settings, Submission};
use crate::error::Error;
use crate::machine::{EndpointId, Number, Token};

/// A blocking client for one thread.
#[derive(Debug)]
pub struct Client {
    pipeline: Pipeline,
    last_token: u64,
}

/// A write that took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The key is new.
    pub created: bool,
    /// The log index that executed it.
    pub revision: Index,
}

/// A request that was done, and where its time went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// Of a write: the key is new.
    pub created: bool,
    /// Of a write: the log index that executed it; of a read: the applied index that it saw.
    pub revision: Index,
    /// None: the node followed another request at the time.
    pub receipt: Option<Receipt>,
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
    options: ScanOptions,
    /// Where the next page begins.
    from: Vec<u8>,
    view: Option<ViewId>,
    /// The node that holds the view: the others do not know it.
    holder: Option<EndpointId>,
    page: VecDeque<ScanItem>,
    handed: u64,
    revision: Option<Index>,
    state: ScanState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ScanState {
    First,
    More,
    Ended,
}

impl Scan<'_> {
    /// The revision that the scan shows, once its first page is here.
    pub fn revision(&self) -> Option<Index> {
        self.revision
    }

    fn fetch(&mut self) -> Result<(), Error> {
        let left = if self.options.limit == 0 { 0 } else { self.options.limit - self.handed };
        let scan = protocol::request::Scan {
            view: self.view,
            from: &self.from,
            to: &self.options.to,
            limit: u32::try_from(left).unwrap_or(u32::MAX),
            keys_only: self.options.keys_only,
            count_only: false,
        };
        let call = Call { read_mode: self.options.read_mode, only: self.holder, ..Call::default() };
        let is_first = self.state == ScanState::First;
        let page = self.client.fetch_page(scan, call);
        let page = page.map_err(|error| if is_first { error } else { error.of_next_page() })?;
        self.revision = Some(page.revision);
        (self.view, self.holder) = (page.view, Some(page.endpoint));
        self.page = page.items.into();
        self.from = page.resume;
        self.state = if self.view.is_some() { ScanState::More } else { ScanState::Ended };
        Ok(())
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<ScanItem, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.options.limit != 0 && self.handed >= self.options.limit {
                return None;
            }
            if let Some(item) = self.page.pop_front() {
                self.handed += 1;
                return Some(Ok(item));
            }
            if self.state == ScanState::Ended {
                return None;
            }
            if let Err(error) = self.fetch() {
                self.state = ScanState::Ended;
                self.view = None;
                return Some(Err(error));
            }
        }
    }
}

impl Drop for Scan<'_> {
    fn drop(&mut self) {
        // Best effort: the server forgets an idle view by itself.
        if let Some(view) = self.view.take() {
            let call = Call { only: self.holder, timeout: Some(Duration::from_millis(200)), ..Call::default() };
            let _ = self.client.call(Request::CloseView(view), call, |_| ());
        }
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

/// How one call differs from the settings.
#[derive(Clone, Copy, Debug, Default)]
struct Call {
    read_mode: ReadMode,
    repeatable: bool,
    only: Option<EndpointId>,
    timeout: Option<Duration>,
    explain: bool,
}

/// One page of a scan, owned.
struct OwnedPage {
    endpoint: EndpointId,
    revision: Index,
    view: Option<ViewId>,
    count: u64,
    items: Vec<ScanItem>,
    resume: Vec<u8>,
}

impl Client {
    /// A client without connections; they open when the first operation wants one.
    ///
    /// Panics without an endpoint.
    pub fn new(settings: Settings) -> std::io::Result<Self> {
        Ok(Self { pipeline: Pipeline::new(settings)?, last_token: 0 })
    }

    /// The pipeline underneath.
    pub fn pipeline(&mut self) -> &mut Pipeline {
        &mut self.pipeline
    }

    /// Creates a key; [`Status::Exists`] if it is there.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<Written, Error> {
        self.write(Command::Put { key, value })
    }

    /// Creates or replaces a key.
    pub fn update(&mut self, key: &[u8], value: &[u8]) -> Result<Written, Error> {
        self.write(Command::Update { key, value })
    }

    /// Removes a key; [`Status::NotFound`] if it is not there.
    pub fn remove(&mut self, key: &[u8]) -> Result<Written, Error> {
        self.write(Command::Remove { key })
    }

    /// Creates or replaces a key whose revision is `expected` (0 = it must not exist); [`Status::ConditionFailed`] if it is
    /// another.
    pub fn compare_and_set(&mut self, key: &[u8], expected: Index, value: &[u8]) -> Result<Written, Error> {
        self.write(Command::CompareAndSet { key, expected, value })
    }

    /// Adds to a number that is kept as decimal text, and gives the sum; a missing key counts as 0.
    pub fn increment(&mut self, key: &[u8], by: i64) -> Result<(i64, Written), Error> {
        let request = Request::Write(Command::Increment { key, by });
        let answer = self.call(request, Call::default(), |reply| match reply.body {
            ReplyBody::Number(sum) => Some((sum, written(reply))),
            _ => None,
        })?;
        answer.ok_or_else(|| Error::senseless("an increment was answered without its sum"))
    }

    /// All operations at one revision, or none.
    pub fn batch(&mut self, batch: Batch<'_>) -> Result<Written, Error> {
        self.write(Command::Batch(batch))
    }

    /// What became of a write (C-24). If it was not executed, it never will be from now on.
    pub fn outcome(&mut self, number: Number) -> Result<Fate, Error> {
        let Number { session, sequence } = number;
        let request = Request::Write(Command::QueryOutcome { session, sequence });
        let answer = self.call(request, Call::default(), |reply| match reply.body {
            ReplyBody::Fate(fate) => Some(fate),
            _ => None,
        })?;
        answer.ok_or_else(|| Error::senseless("the question was answered with something else"))
    }

    fn write(&mut self, command: Command<'_>) -> Result<Written, Error> {
        self.call(Request::Write(command), Call::default(), written)
    }

    /// A key's value; none if it is not there.
    pub fn get(&mut self, key: &[u8]) -> Result<Option<Entry>, Error> {
        let got = self.call(Request::Get { key }, Call::default(), |reply| match &reply.body {
            ReplyBody::Value(versioned) => Some(owned(versioned)),
            _ => None,
        });
        match got {
            Err(error) if error.status == Status::NotFound => Ok(None),
            got => got,
        }
    }

    /// Keys in bytewise order, as of one moment.
    pub fn scan(&mut self, options: ScanOptions) -> Result<Scan<'_>, Error> {
        let holder = options.only.as_deref().and_then(|address| self.pipeline.endpoint(address));
        let from = options.from.clone();
        Ok(Scan {
            client: self,
            options,
            from,
            view: None,
            holder,
            page: VecDeque::new(),
            handed: 0,
            revision: None,
            state: ScanState::First,
        })
    }

    /// How many keys the range of `options` has, and the revision at which they were counted.
    pub fn count(&mut self, options: &ScanOptions) -> Result<(u64, Index), Error> {
        let only = options.only.as_deref().and_then(|address| self.pipeline.endpoint(address));
        let mut call = Call { read_mode: options.read_mode, only, ..Call::default() };
        let (mut from, mut view, mut count) = (options.from.clone(), None, 0);
        loop {
            let scan = protocol::request::Scan {
                view,
                from: &from,
                to: &options.to,
                limit: 0,
                keys_only: true,
                count_only: true,
            };
            let page = self.fetch_page(scan, call);
            let page = page.map_err(|error| if view.is_some() { error.of_next_page() } else { error })?;
            count += page.count;
            if page.view.is_none() {
                return Ok((count, page.revision));
            }
            (view, from, call.only) = (page.view, page.resume, Some(page.endpoint));
        }
    }

    /// What one node says of itself.
    pub fn status_of(&mut self, address: &str) -> Result<NodeStatus, Error> {
        let only = self.pipeline.endpoint(address);
        let call = Call { only, timeout: Some(self.pipeline.settings().timeout), ..Call::default() };
        self.call(Request::Status, call, |reply| match &reply.body {
            ReplyBody::Status(status) => (**status).clone(),
            _ => NodeStatus::default(),
        })
    }

    /// Lets one node take a snapshot of its own state, and waits until that is durable: the node at `address`, or the
    /// leader as far as this client knows it.
    pub fn take_snapshot(&mut self, address: Option<&str>) -> Result<TakenSnapshot, Error> {
        let only = address.and_then(|address| self.pipeline.endpoint(address));
        let call = Call { only, repeatable: true, ..Call::default() };
        self.call(Request::TakeSnapshot, call, |reply| match &reply.body {
            ReplyBody::Snapshot(taken) => *taken,
            _ => TakenSnapshot::default(),
        })
    }

    /// One write, or one read of a key, with its receipt. Asks the node at `address`, if one is given, and no other.
    pub fn explain(&mut self, request: Request<'_>, address: Option<&str>) -> Result<Explained, Error> {
        let only = address.and_then(|address| self.pipeline.endpoint(address));
        let call = Call { only, explain: true, ..Call::default() };
        let (done, receipt) = self.call(request, call, |reply| {
            let receipt = Some(reply.trailer).filter(|trailer| !trailer.is_empty()).map(Receipt::decode);
            (written(reply), receipt.transpose())
        })?;
        let receipt = receipt.map_err(|_| Error::senseless("the receipt cannot be read"))?;
        Ok(Explained { created: done.created, revision: done.revision, receipt })
    }

    /// Shows or changes what one node logs; the filter that is in force then.
    pub fn log_level(&mut self, address: &str, wanted: LogLevel<'_>) -> Result<String, Error> {
        let only = self.pipeline.endpoint(address);
        let call = Call { only, repeatable: true, ..Call::default() };
        self.call(Request::LogLevel(wanted), call, |reply| match reply.body {
            ReplyBody::Message(filter) => filter.to_owned(),
            _ => String::new(),
        })
    }

    /// What every node says of itself: those of the settings, and those that these name. All are asked at once.
    pub fn status_all(&mut self) -> Vec<NodeReport> {
        let mut addresses = self.pipeline.settings().endpoints.clone();
        let mut reports: Vec<NodeReport> = Vec::new();
        while reports.len() < addresses.len() {
            let asked: Vec<String> = addresses[reports.len()..].to_vec();
            reports.extend(self.ask_status(&asked));
            let named =
                reports.iter().filter_map(|report| report.status.as_ref().ok()).flat_map(|status| &status.members);
            let new: Vec<String> = named.map(|member| member.client_address.clone()).collect();
            for address in new {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        reports
    }

    fn ask_status(&mut self, addresses: &[String]) -> Vec<NodeReport> {
        let mut tokens = Vec::new();
        for address in addresses {
            self.last_token += 1;
            let only = self.pipeline.endpoint(address);
            tokens.push(Token(self.last_token));
            self.pipeline.submit(Submission { only, ..Submission::new(Token(self.last_token), Request::Status) });
        }
        let mut answers: Vec<Option<Result<NodeStatus, Error>>> = tokens.iter().map(|_| None).collect();
        while answers.iter().any(Option::is_none) {
            let mut done = |completion: Completion<'_>| {
                let Some(position) = tokens.iter().position(|token| *token == completion.token) else { return };
                answers[position] = Some(completion.result.map(|reply| match reply.body {
                    ReplyBody::Status(status) => *status,
                    _ => NodeStatus::default(),
                }));
            };
            if let Err(error) = self.pipeline.poll(PATIENCE, &mut done) {
                let failed = || Some(Err(Error::cannot_wait(&error)));
                answers.iter_mut().filter(|answer| answer.is_none()).for_each(|answer| *answer = failed());
            }
        }
        let answers = answers.into_iter().flatten();
        addresses.iter().zip(answers).map(|(address, status)| NodeReport { address: address.clone(), status }).collect()
    }

    fn fetch_page(&mut self, scan: protocol::request::Scan<'_>, call: Call) -> Result<OwnedPage, Error> {
        let result = self.call(Request::Scan(scan), call, |reply| match &reply.body {
            ReplyBody::Page(page) => OwnedPage {
                endpoint: EndpointId(0),
                revision: reply.header.revision,
                view: page.view,
                count: page.count,
                items: page
                    .items
                    .iter()
                    .map(|item| ScanItem { key: item.key.to_vec(), entry: owned(&item.versioned) })
                    .collect(),
                resume: page.resume.to_vec(),
            },
            _ => OwnedPage {
                endpoint: EndpointId(0),
                revision: reply.header.revision,
                view: None,
                count: 0,
                items: Vec::new(),
                resume: Vec::new(),
            },
        });
        let endpoint = self.pipeline.last_answered();
        result.map(|page| OwnedPage { endpoint, ..page })
    }

    /// Submits one operation and waits for its end; the deadline is the machine's.
    fn call<T>(&mut self, request: Request<'_>, call: Call, take: impl Fn(&Reply<'_>) -> T) -> Result<T, Error> {
        self.last_token += 1;
        let token = Token(self.last_token);
        let Call { read_mode, repeatable, only, timeout, explain } = call;
        self.pipeline.submit(Submission { token, request, read_mode, repeatable, only, timeout, explain });
        let mut end = None;
        while end.is_none() {
            let mut done = |completion: Completion<'_>| {
                if completion.token == token {
                    end = Some(completion.result.map(|reply| take(&reply)));
                }
            };
            if let Err(error) = self.pipeline.poll(PATIENCE, &mut done) {
                return Err(Error::cannot_wait(&error));
            }
        }
        end.expect("the loop ends with it")
    }
}

/// One wait for sockets; the loop around it ends with the operation.
const PATIENCE: Duration = Duration::from_secs(1);

fn written(reply: &Reply<'_>) -> Written {
    Written { created: reply.header.status == Status::Created, revision: reply.header.revision }
}

fn owned(versioned: &protocol::reply::Versioned<'_>) -> Entry {
    Entry {
        value: versioned.value.to_vec(),
        revision: versioned.revision,
        create_revision: versioned.create_revision,
        version: versioned.version,
    }
}
