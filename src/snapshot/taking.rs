//! From a view to a file, while writes go on.

use std::path::PathBuf;

use protocol::request::ViewId;
use protocol::{Incarnation, NodeId};

use crate::disk::{Disk, File};
use crate::kv::snapshot::{Encoder, Footer, Header};
use crate::kv::{Contents, Reader};
use crate::limits;

use super::{Progress, SnapshotError, Snapshots, Summary, TAKING};

/// Who takes snapshots, for their headers.
#[derive(Clone, Copy, Debug)]
pub struct Taker {
    /// This node.
    pub node: NodeId,
    /// This life of its disk.
    pub incarnation: Incarnation,
}

/// A snapshot that is being taken. If it is dropped before it is done, what was written stays until the next start.
#[derive(Debug)]
pub struct Taking {
    disk: Disk,
    path: PathBuf,
    file: File,
    header: Header,
    contents: Contents,
    view: ViewId,
    stage: Stage,
    encoder: Encoder,
    /// Bytes that are not written yet.
    out: Vec<u8>,
    written: u64,
    unsynced: u64,
}

/// What comes next in the file.
#[derive(Debug)]
enum Stage {
    /// Keys from this one on.
    Items(Vec<u8>),
    /// Sessions from this one on.
    Sessions(usize),
    Footer,
    /// It is done, or was given up.
    Ended,
}

impl Taking {
    /// Creates the file. `contents` were captured when `view` was opened (C-22).
    pub fn begin(snapshots: &Snapshots, taker: Taker, contents: Contents, view: ViewId) -> Result<Self, SnapshotError> {
        let Contents { position, format, .. } = &contents;
        assert_eq!(view.revision, position.id.index, "contents and keys are those of one revision");
        let mut path = snapshots.path_of(position.id.index);
        path.set_extension(TAKING);
        let header = Header {
            node: taker.node,
            incarnation: taker.incarnation,
            boot: view.boot,
            position: *position,
            format: format.clone(),
        };
        let mut out = Vec::new();
        let encoder = Encoder::begin(&header, &mut out);
        let disk = snapshots.disk.clone();
        let _ = disk.unlink(&path); // one that was dropped
        let file = disk.create(&path).map_err(SnapshotError::io("create", &path))?;
        let stage = Stage::Items(Vec::new());
        Ok(Self { disk, path, file, header, contents, view, stage, encoder, out, written: 0, unsynced: 0 })
    }

    /// Writes one block, or finishes. After an error or [`Progress::Abandoned`] the file is gone, and nothing more is to be
    /// done. The view may be closed as soon as the result is not [`Progress::More`].
    pub fn step(&mut self, snapshots: &mut Snapshots, reader: &mut Reader) -> Result<Progress<Summary>, SnapshotError> {
        let result = self.advance(snapshots, reader);
        if !matches!(result, Ok(Progress::More | Progress::Done(_))) {
            self.give_up();
        }
        result
    }

    /// Gives it up: removes what was written.
    pub fn abandon(mut self) {
        self.give_up();
    }

    /// The view that it reads at.
    pub fn view(&self) -> ViewId {
        self.view
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.written
    }

    fn advance(&mut self, snapshots: &mut Snapshots, reader: &mut Reader) -> Result<Progress<Summary>, SnapshotError> {
        match &mut self.stage {
            Stage::Items(from) => {
                // Announced anew for each block, so that what is overwritten meanwhile can go (C-21).
                let pinned = reader.pin();
                let Some(at_view) = pinned.at_view(self.view) else { return Ok(Progress::Abandoned) };
                let mut last = None;
                let range = sabotage!(SnapshotShowsNewest, at_view.range(from, None), pinned.range(from, None));
                let mut items = range.inspect(|item| last = Some(item.key));
                if self.encoder.items(&mut items, &mut self.out) == 0 {
                    self.stage = Stage::Sessions(0);
                } else if let Some(last) = last {
                    from.clear();
                    from.extend_from_slice(last);
                    from.push(0); // the nearest key above
                }
            }
            Stage::Sessions(from) => {
                let mut sessions = self.contents.sessions[*from..].iter().map(|session| &**session);
                let encoded = self.encoder.sessions(&mut sessions, &mut self.out);
                *from += encoded;
                if encoded == 0 {
                    self.stage = Stage::Footer;
                }
            }
            Stage::Footer => return self.finish(snapshots).map(Progress::Done),
            Stage::Ended => return Ok(Progress::Abandoned),
        }
        self.write()?;
        Ok(Progress::More)
    }

    fn finish(&mut self, snapshots: &mut Snapshots) -> Result<Summary, SnapshotError> {
        let footer = self.encoder.finish(&mut self.out);
        self.write()?;
        self.sync()?;
        let summary = Summary::new(&self.header, &footer);
        snapshots.adopt(&self.path, summary)?;
        self.stage = Stage::Ended;
        Ok(summary)
    }

    fn write(&mut self) -> Result<(), SnapshotError> {
        self.file.write_at(self.written, &self.out).map_err(SnapshotError::io("write", &self.path))?;
        self.written += self.out.len() as u64;
        self.unsynced += self.out.len() as u64;
        self.out.clear();
        if self.unsynced >= limits::SNAPSHOT_SYNC_BYTES {
            self.sync()?;
        }
        Ok(())
    }

    /// Often, so that the log's syncs never wait behind a large write-back.
    fn sync(&mut self) -> Result<(), SnapshotError> {
        self.unsynced = 0;
        sabotage!(SnapshotNotSynced, self.file.sync(), Ok(())).map_err(SnapshotError::io("sync", &self.path))
    }

    fn give_up(&mut self) {
        if !matches!(self.stage, Stage::Ended) {
            self.stage = Stage::Ended;
            if let Err(error) = self.disk.unlink(&self.path) {
                log::warn!("{} is left over until the next start: {error}", self.path.display());
            }
        }
    }
}

impl Summary {
    pub(super) fn new(header: &Header, footer: &Footer) -> Self {
        Self {
            cluster: header.cluster(),
            position: header.position,
            bytes: footer.bytes,
            keys: footer.keys,
            sessions: footer.sessions,
            hash: footer.hash,
        }
    }
}
