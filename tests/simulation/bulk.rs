//! What a node's bulk worker does with snapshots: takes them, serves them, fetches them and loads them, one step at a time.
//! The files, their codec and the transfer's frames are the real ones; sockets are events of the world.

use std::collections::BTreeMap;

use protocol::snapshot::{Chunk, Fetch, Gone, GoneReason, Transfer};
use protocol::{split, ClusterId, Index, NodeId};
use raftkv::kv::{Reader, Retired};
use raftkv::limits;
use raftkv::replica::{FetchSnapshot, Input, NotTaken, SnapshotFile, TakeSnapshot};
use raftkv::snapshot::{
    Checked, Doubts, Loading, Offer, Progress, Receiving, Serving, SnapshotError, Snapshots, Summary, Taker, Taking,
};

use crate::io_loop::FRAME_BYTES_MAX;

/// Small, so that transfers take many frames.
const CHUNK_BYTES: u32 = 4_000;

pub struct Bulk {
    snapshots: Snapshots,
    reader: Reader,
    taker: Taker,
    taking: Option<Taking>,
    fetching: Option<Fetching>,
    /// Counts fetches: frames of an earlier one are not taken.
    fetches: u64,
    retired: Vec<Retired>,
    serving: BTreeMap<Index, Serving>,
    doubts: Doubts,
    /// The event of the next step is in the queue.
    pub is_due: bool,
}

struct Fetching {
    wanted: FetchSnapshot,
    stage: Stage,
}

enum Stage {
    /// What file it is was asked.
    Describing,
    /// What an earlier attempt left is checked.
    Resuming(Receiving),
    /// The next chunk was asked for.
    Pulling(Receiving),
    Loading(Loading, Summary),
}

/// What a step leads to.
pub enum Outcome {
    Input(Input),
    /// To another node's bulk worker, about the fetch with this number of one of the two.
    Frame {
        to: u32,
        fetch: u64,
        frame: Vec<u8>,
    },
}

impl Bulk {
    pub fn new(snapshots: Snapshots, reader: Reader, taker: Taker) -> Self {
        Self {
            snapshots,
            reader,
            taker,
            taking: None,
            fetching: None,
            fetches: 0,
            retired: Vec::new(),
            serving: BTreeMap::new(),
            doubts: Doubts::default(),
            is_due: false,
        }
    }

    pub fn take(&mut self, wanted: TakeSnapshot, out: &mut Vec<Outcome>) {
        assert!(self.taking.is_none(), "one snapshot is taken at a time");
        match Taking::begin(&self.snapshots, self.taker, wanted.contents, wanted.view) {
            Ok(taking) => self.taking = Some(taking),
            Err(error) => out.push(not_taken(&error)),
        }
    }

    /// Begins to fetch; what was under way is given up for it.
    pub fn fetch(&mut self, wanted: FetchSnapshot, out: &mut Vec<Outcome>) -> u64 {
        self.fetches += 1;
        out.push(self.ask(&wanted, 0, 0));
        self.fetching = Some(Fetching { wanted, stage: Stage::Describing });
        self.fetches
    }

    pub fn free(&mut self, retired: Retired) {
        self.retired.push(retired);
    }

    pub fn has_work(&self) -> bool {
        let fetches = self.fetching.as_ref().is_some_and(|fetching| {
            matches!(fetching.stage, Stage::Resuming(_) | Stage::Loading(..)) // the others wait for frames
        });
        self.taking.is_some() || fetches || self.doubts.is_checking() || !self.retired.is_empty()
    }

    /// One step of everything that is under way.
    pub fn step(&mut self, out: &mut Vec<Outcome>) {
        self.step_taking(out);
        self.step_fetching(out);
        self.step_doubts(out);
        let freed = std::mem::take(&mut self.retired).into_iter().filter_map(|retired| retired.try_free().err());
        self.retired = freed.collect();
    }

    /// The connection of a fetch broke, or nothing came for too long.
    pub fn cut(&mut self, fetch: u64, out: &mut Vec<Outcome>) {
        let waits = |fetching: &Fetching| matches!(fetching.stage, Stage::Describing | Stage::Pulling(_));
        if fetch == self.fetches && self.fetching.as_ref().is_some_and(waits) {
            raftkv::mark!("simulation: transfer cut");
            self.failed("the connection broke".to_owned(), out);
        }
    }

    /// A frame from another node's bulk worker.
    pub fn receive(&mut self, from: u32, fetch: u64, bytes: &[u8], cluster: ClusterId, out: &mut Vec<Outcome>) {
        let (frame, _) = split(bytes, FRAME_BYTES_MAX).expect("undamaged").expect("whole");
        match Transfer::decode(&frame).expect("nodes understand each other") {
            Transfer::Fetch(asked) => {
                let last = asked.last.index;
                if asked.offset == 0 && asked.bytes_max > 0 {
                    self.doubts.begun(&self.snapshots, NodeId(from), last);
                }
                let frame = self.serve(asked).unwrap_or_else(|text| gone(&text));
                out.push(Outcome::Frame { to: from, fetch, frame });
            }
            Transfer::Chunk(chunk) if fetch == self.fetches => self.chunk(&chunk, cluster, out),
            Transfer::Gone(gone) if fetch == self.fetches => self.failed(gone.text.to_owned(), out),
            Transfer::Chunk(_) | Transfer::Gone(_) => {}
        }
    }

    fn step_taking(&mut self, out: &mut Vec<Outcome>) {
        let Some(taking) = &mut self.taking else { return };
        let end = match taking.step(&mut self.snapshots, &mut self.reader) {
            Ok(Progress::More) => return,
            Ok(Progress::Done(summary)) => {
                raftkv::mark!("simulation: snapshot taken");
                self.prune();
                Outcome::Input(Input::SnapshotTaken(Ok(file(&summary))))
            }
            Ok(Progress::Abandoned) => Outcome::Input(Input::SnapshotTaken(Err(NotTaken::Abandoned))),
            Err(error) => not_taken(&error),
        };
        self.taking = None;
        out.push(end);
    }

    fn step_doubts(&mut self, out: &mut Vec<Outcome>) {
        match self.doubts.step() {
            (_, Some(Checked { last, result: Err(error), .. })) => {
                raftkv::mark!("simulation: served snapshot found damaged");
                self.snapshots.doubt(last);
                out.push(Outcome::Input(Input::SnapshotDamaged { last, why: error.to_string() }));
            }
            (_, Some(Checked { result: Ok(()), .. })) => {
                raftkv::mark!("simulation: doubted snapshot is good");
            }
            (_, None) => {}
        }
    }

    fn step_fetching(&mut self, out: &mut Vec<Outcome>) {
        let Some(Fetching { wanted, stage }) = self.fetching.take() else { return };
        let stepped = match stage {
            Stage::Resuming(mut receiving) => receiving.step().map(|progress| match progress {
                Progress::Done(offset) => {
                    if offset > 0 {
                        raftkv::mark!("simulation: transfer resumed");
                    }
                    self.pull(receiving, &wanted, out)
                }
                _ => Ok(Stage::Resuming(receiving)),
            }),
            Stage::Loading(mut loading, summary) => match loading.step() {
                Ok(Progress::Done(restored)) => {
                    raftkv::mark!("simulation: snapshot fetched");
                    let result = Ok((Box::new(restored), summary.bytes));
                    return out.push(Outcome::Input(Input::SnapshotFetched(result)));
                }
                Ok(_) => Ok(Ok(Stage::Loading(loading, summary))),
                Err(error) => Err(error),
            },
            waits => Ok(Ok(waits)),
        };
        self.go_on(wanted, stepped.and_then(|stage| stage), out);
    }

    fn chunk(&mut self, chunk: &Chunk<'_>, cluster: ClusterId, out: &mut Vec<Outcome>) {
        let Some(Fetching { wanted, stage }) = self.fetching.take() else { return };
        let stepped = match stage {
            Stage::Describing => {
                let (last, chain) = (wanted.last, wanted.chain);
                let offer = Offer { last, chain, bytes: chunk.total, hash: Some(chunk.hash) };
                Receiving::begin_or_resume(&self.snapshots, cluster, offer).map(Stage::Resuming)
            }
            Stage::Pulling(mut receiving) if chunk.offset == receiving.wants() => {
                receiving.push(chunk.offset, chunk.bytes).and_then(|()| self.pull(receiving, &wanted, out))
            }
            other => Ok(other),
        };
        self.go_on(wanted, stepped, out);
    }

    /// Asks for the next chunk, or finishes.
    fn pull(
        &mut self,
        receiving: Receiving,
        wanted: &FetchSnapshot,
        out: &mut Vec<Outcome>,
    ) -> Result<Stage, SnapshotError> {
        if receiving.is_whole() {
            let summary = receiving.finish(&mut self.snapshots)?;
            self.prune();
            return Ok(Stage::Loading(Loading::begin(&self.snapshots, summary.position.id.index)?, summary));
        }
        out.push(self.ask(wanted, receiving.wants(), CHUNK_BYTES));
        Ok(Stage::Pulling(receiving))
    }

    fn go_on(&mut self, wanted: FetchSnapshot, stage: Result<Stage, SnapshotError>, out: &mut Vec<Outcome>) {
        match stage {
            Ok(stage) => self.fetching = Some(Fetching { wanted, stage }),
            Err(error) => self.failed(error.to_string(), out),
        }
    }

    fn ask(&self, wanted: &FetchSnapshot, offset: u64, bytes_max: u32) -> Outcome {
        let mut frame = Vec::new();
        let FetchSnapshot { from, last, chain, .. } = *wanted;
        Transfer::Fetch(Fetch { last, chain, offset, bytes_max }).encode(&mut frame);
        Outcome::Frame { to: from.0, fetch: self.fetches, frame }
    }

    fn serve(&mut self, asked: Fetch) -> Result<Vec<u8>, String> {
        let index = asked.last.index;
        if asked.bytes_max == 0 {
            let opened = Serving::open(&self.snapshots, index).map_err(|error| error.to_string())?;
            self.serving.insert(index, opened);
        }
        let serving = self.serving.get(&index).ok_or("it was restarted since")?;
        let Summary { position, hash, .. } = serving.summary();
        if (position.id, position.chain) != (asked.last, asked.chain) {
            return Err("it has another one".to_owned());
        }
        let bytes = serving.read_at(asked.offset, asked.bytes_max as usize).map_err(|error| error.to_string())?;
        let mut frame = Vec::new();
        let total = serving.total_bytes();
        Transfer::Chunk(Chunk { index, offset: asked.offset, total, hash, bytes: &bytes }).encode(&mut frame);
        Ok(frame)
    }

    fn failed(&mut self, why: String, out: &mut Vec<Outcome>) {
        self.fetching = None;
        out.push(Outcome::Input(Input::SnapshotFetched(Err(why))));
    }

    /// If it fails, there is one more than there need be.
    fn prune(&mut self) {
        let _ = self.snapshots.prune(limits::SNAPSHOTS_KEPT);
    }
}

fn file(summary: &Summary) -> SnapshotFile {
    SnapshotFile { position: summary.position, bytes: summary.bytes }
}

fn not_taken(error: &SnapshotError) -> Outcome {
    Outcome::Input(Input::SnapshotTaken(Err(NotTaken::Failed(error.to_string()))))
}

fn gone(text: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    Transfer::Gone(Gone { reason: GoneReason::NotHere, text }).encode(&mut frame);
    frame
}
