//! From a file to a list that can replace the state machine's.

use protocol::Index;

use crate::kv::snapshot::{Header, Piece};
use crate::kv::{Builder, Restored, Session};

use super::reading::Reading;
use super::{Progress, SnapshotError, Snapshots};

/// A snapshot that is being loaded, everything checked on the way.
pub struct Loading {
    reading: Reading,
    header: Option<Header>,
    builder: Builder,
    sessions: Vec<Session>,
}

impl Loading {
    /// The snapshot at `index`.
    pub fn begin(snapshots: &Snapshots, index: Index) -> Result<Self, SnapshotError> {
        let path = snapshots.find(index)?.path.clone();
        let reading = Reading::open(&snapshots.disk, path)?;
        Ok(Self { reading, header: None, builder: Builder::new(), sessions: Vec::new() })
    }

    /// Loads one block. Not to be called again once it is done or has failed.
    pub fn step(&mut self) -> Result<Progress<Restored>, SnapshotError> {
        match self.reading.next()? {
            Piece::Part => {}
            Piece::Header(header) => self.header = Some(header),
            Piece::Items(items) => {
                for item in items {
                    self.builder.push(&item).expect("the decoder has compared the keys");
                }
            }
            Piece::Sessions(mut sessions) => self.sessions.append(&mut sessions),
            Piece::End(_) => return Ok(Progress::Done(self.finish())),
        }
        Ok(Progress::More)
    }

    /// All steps at once.
    pub fn run(mut self) -> Result<Restored, SnapshotError> {
        loop {
            if let Progress::Done(restored) = self.step()? {
                return Ok(restored);
            }
        }
    }

    fn finish(&mut self) -> Restored {
        let Header { position, format, .. } = self.header.take().expect("the header comes first");
        let built = std::mem::take(&mut self.builder).finish(position.id.index);
        Restored { position, format, sessions: std::mem::take(&mut self.sessions), built }
    }
}
