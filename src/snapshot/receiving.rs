//! A snapshot that comes from another node, in pieces, over any number of connections and starts.

use std::mem;
use std::path::{Path, PathBuf};

use protocol::{Chain, ClusterId, EntryId};

use crate::disk::{Disk, File};
use crate::kv::snapshot::{Decoder, Footer, Header, Piece};
use crate::limits;

use super::reading::Reading;
use super::{Progress, SnapshotError, Snapshots, Summary, PREFIX, RECEIVING};

/// What another node has to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The last entry that is in it.
    pub last: EntryId,
    /// The chain there.
    pub chain: Chain,
    /// Bytes of the file.
    pub bytes: u64,
    /// Hash of the file, if it is known.
    pub hash: Option<u64>,
}

/// A snapshot that is being received. Everything is checked as it comes. If it is dropped, a later one for the same offer
/// goes on where it was, even after a crash. After an error the file is gone, and nothing more is to be done.
#[derive(Debug)]
pub struct Receiving {
    disk: Disk,
    path: PathBuf,
    cluster: ClusterId,
    offer: Offer,
    source: Source,
    decoder: Decoder,
    /// Received behind what the decoder has taken: less than a block.
    pending: Vec<u8>,
    received: u64,
    unsynced: u64,
    header: Option<Header>,
    footer: Option<Footer>,
}

#[derive(Debug)]
enum Source {
    /// What an earlier one left is checked first.
    Leftover(Reading),
    /// The other node.
    Peer(File),
    /// It was given up.
    Gone,
}

impl Receiving {
    /// Prepares to receive what is offered, as a snapshot of `cluster`. A part that is there already is checked first:
    /// call [`Receiving::step`] until that is done. Parts of other offers are removed.
    pub fn begin_or_resume(snapshots: &Snapshots, cluster: ClusterId, offer: Offer) -> Result<Self, SnapshotError> {
        let Offer { last, bytes, hash, .. } = offer;
        let name = format!("{PREFIX}{:016x}-{bytes:x}-{:x}{RECEIVING}", last.index.0, hash.unwrap_or(0));
        let path = snapshots.dir.join(name);
        let disk = snapshots.disk.clone();
        let mut source = Source::Gone;
        for (_, part) in snapshots.parts()? {
            match leftover(&disk, &part, &offer) {
                Some(reading) if part == path => source = Source::Leftover(reading),
                _ => disk.unlink(&part).map_err(SnapshotError::io("remove", &part))?,
            }
        }
        if matches!(source, Source::Gone) {
            source = Source::Peer(disk.create(&path).map_err(SnapshotError::io("create", &path))?);
        }
        Ok(Self {
            disk,
            path,
            cluster,
            offer,
            source,
            decoder: Decoder::new(),
            pending: Vec::new(),
            received: 0,
            unsynced: 0,
            header: None,
            footer: None,
        })
    }

    /// Checks one block of what an earlier one left; done, with the offset to go on from, once all of it is checked.
    pub fn step(&mut self) -> Result<Progress<u64>, SnapshotError> {
        let result = self.check_leftover();
        self.give_up_on_error(result)
    }

    /// The offset of the next byte that is wanted, once [`Receiving::step`] is done.
    pub fn wants(&self) -> u64 {
        self.received
    }

    /// Whether every byte is there.
    pub fn is_whole(&self) -> bool {
        self.footer.is_some()
    }

    /// Takes the bytes at [`Receiving::wants`]; checks and writes them.
    pub fn push(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SnapshotError> {
        let result = self.accept(offset, bytes);
        self.give_up_on_error(result)
    }

    /// Every byte is there: the file becomes one of the snapshots.
    pub fn finish(mut self, snapshots: &mut Snapshots) -> Result<Summary, SnapshotError> {
        let result = self.complete(snapshots);
        self.give_up_on_error(result)
    }

    fn check_leftover(&mut self) -> Result<Progress<u64>, SnapshotError> {
        let Source::Leftover(reading) = &mut self.source else { return Ok(Progress::Done(self.received)) };
        match reading.next() {
            Ok(piece) => {
                if note(piece, &mut self.header, &mut self.footer) {
                    return Ok(Progress::More);
                }
            }
            // The end of what reached the disk: what comes behind is received again.
            Err(error) if error.is_rot() => log::info!("{error}; it is received from there"),
            Err(error) => return Err(error),
        }
        let Source::Leftover(reading) = mem::replace(&mut self.source, Source::Gone) else { unreachable!("as above") };
        let (file, mut decoder) = reading.into_parts();
        decoder.rewind();
        self.received = decoder.offset();
        (self.source, self.decoder) = (Source::Peer(file), decoder);
        self.check_offer()?;
        Ok(Progress::Done(self.received))
    }

    fn accept(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SnapshotError> {
        if offset != self.received || bytes.len() as u64 > self.offer.bytes - self.received {
            return Err(SnapshotError::NotAsOffered { what: "length" });
        }
        self.pending.extend_from_slice(bytes);
        let mut taken = 0;
        while let Some(wanted) = self.pending.get(taken..taken + self.decoder.wants()).filter(|next| !next.is_empty()) {
            let piece = self.decoder.take(wanted);
            let piece = piece.map_err(|damaged| SnapshotError::damaged(&self.path, damaged))?;
            taken += wanted.len();
            note(piece, &mut self.header, &mut self.footer);
        }
        self.pending.drain(..taken);
        self.check_offer()?;
        let Source::Peer(file) = &self.source else { return Err(SnapshotError::Missing) };
        file.write_at(offset, bytes).map_err(SnapshotError::io("write", &self.path))?;
        self.received += bytes.len() as u64;
        self.unsynced += bytes.len() as u64;
        if self.unsynced >= limits::SNAPSHOT_SYNC_BYTES {
            self.unsynced = 0;
            file.sync().map_err(SnapshotError::io("sync", &self.path))?;
        }
        Ok(())
    }

    /// What is known of the file so far must be what was offered.
    fn check_offer(&self) -> Result<(), SnapshotError> {
        let Some(header) = &self.header else { return Ok(()) };
        if header.cluster() != self.cluster {
            let (path, cluster) = (self.path.clone(), header.cluster());
            return Err(SnapshotError::Foreign { path, cluster, expected: self.cluster });
        }
        if (header.position.id, header.position.chain) != (self.offer.last, self.offer.chain) {
            return Err(SnapshotError::NotAsOffered { what: "position" });
        }
        match &self.footer {
            Some(footer) if footer.bytes != self.offer.bytes => Err(SnapshotError::NotAsOffered { what: "length" }),
            Some(footer) if self.offer.hash.is_some_and(|hash| hash != footer.hash) => {
                Err(SnapshotError::NotAsOffered { what: "hash" })
            }
            _ => Ok(()),
        }
    }

    fn complete(&mut self, snapshots: &mut Snapshots) -> Result<Summary, SnapshotError> {
        let (Source::Peer(file), Some(header), Some(footer)) = (&self.source, &self.header, &self.footer) else {
            return Err(SnapshotError::NotAsOffered { what: "length" });
        };
        sabotage!(ReceivedNotSynced, file.sync(), Ok(())).map_err(SnapshotError::io("sync", &self.path))?;
        let summary = Summary::new(header, footer);
        snapshots.adopt(&self.path, summary)?;
        Ok(summary)
    }

    fn give_up_on_error<T>(&mut self, result: Result<T, SnapshotError>) -> Result<T, SnapshotError> {
        if result.is_err() && !matches!(self.source, Source::Gone) {
            self.source = Source::Gone;
            let _ = self.disk.unlink(&self.path); // if it fails, the next offer or start removes it
        }
        result
    }
}

/// What an earlier one left, if it can be a part of what is offered. Its cache is dropped, because a sync of it may have
/// failed (C-6).
fn leftover(disk: &Disk, path: &Path, offer: &Offer) -> Option<Reading> {
    let file = disk.open(path).ok()?;
    file.drop_cache().ok()?;
    let reading = Reading::over(file, path.to_owned()).ok()?;
    (reading.bytes() <= offer.bytes).then_some(reading)
}

/// Remembers what both ends of the file say; false at its end.
fn note(piece: Piece<'_>, header: &mut Option<Header>, footer: &mut Option<Footer>) -> bool {
    match piece {
        Piece::Header(read) => *header = Some(read),
        Piece::End(read) => *footer = Some(read),
        Piece::Part | Piece::Items(_) | Piece::Sessions(_) => {}
    }
    footer.is_none()
}
