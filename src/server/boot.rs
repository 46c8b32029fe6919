//! What a start finds on the disk: lock and identity first, then the newest snapshot that can be read, then the log, over
//! which the snapshot is laid (C-5).

use std::path::Path;

use log::info;

use super::settings::Config;
use super::{system, StartError};
use crate::disk::Disk;
use crate::exit;
use crate::kv::{Position, Store};
use crate::snapshot::{SnapshotError, Snapshots, Summary};
use crate::wal::{self, Directory, Wal, WalError};

/// The files of a node, read.
pub(super) struct Opened {
    pub(super) wal: Wal,
    pub(super) recovered: wal::Recovered,
    pub(super) snapshots: Snapshots,
    /// The state of the newest snapshot; empty without one.
    pub(super) store: Store,
    /// Where that state ends.
    pub(super) snapshot: Option<Summary>,
}

/// Reads everything. What cannot be believed is refused in words (78).
pub(super) fn open(config: &Config) -> Result<Opened, StartError> {
    let disk = Disk::real();
    let mut options = wal::Options::new(config.id, system::random().map_err(super::cannot_start)?);
    options.segment_bytes = config.segment_bytes;
    let directory = Directory::open(&disk, &config.data, &options).map_err(|error| of_wal(&error))?;
    let mut snapshots = Snapshots::open(&disk, &config.data).map_err(|error| of_snapshots(&error))?;
    let (store, snapshot) = load(&directory, &mut snapshots)?;
    options.snapshot = snapshot.map(|summary| to_wal(summary.position));
    let (wal, recovered) = Wal::open_in(directory, options).map_err(|error| of_log(&error, &disk, config))?;
    Ok(Opened { wal, recovered, snapshots, store, snapshot })
}

fn load(directory: &Directory, snapshots: &mut Snapshots) -> Result<(Store, Option<Summary>), StartError> {
    let Some(format) = &directory.meta().format else {
        return match snapshots.newest() {
            None => Ok((Store::new(), None)),
            Some(stray) => Err(StartError {
                exit_code: exit::REFUSED,
                text: format!(
                    "the data directory has a snapshot of cluster {:016x}, but its meta files say that this node belongs to \
                     no cluster yet: they are from another time or place",
                    stray.cluster.0
                ),
            }),
        };
    };
    match snapshots.load_newest(Some(format.cluster)).map_err(|error| of_snapshots(&error))? {
        Some((summary, restored)) => {
            info!("snapshot up to index {}: {} keys", summary.position.id.index, summary.keys);
            Ok((Store::restore(restored), Some(summary)))
        }
        None => Ok((Store::new(), None)),
    }
}

fn to_wal(position: Position) -> wal::LogBase {
    wal::LogBase { id: position.id, chain: position.chain, log_time: position.log_time }
}

fn of_wal(error: &WalError) -> StartError {
    StartError { exit_code: error.exit_code(), text: error.to_string() }
}

fn of_snapshots(error: &SnapshotError) -> StartError {
    StartError { exit_code: error.exit_code(), text: error.to_string() }
}

/// A log that begins behind the snapshot needs one that is newer; if those were set aside as damaged, that is why.
fn of_log(error: &WalError, disk: &Disk, config: &Config) -> StartError {
    let mut refused = of_wal(error);
    let names = disk.list(&config.data).unwrap_or_default(); // only for words
    let damaged = names.iter().any(|name| Path::new(name).extension().is_some_and(|end| end == "damaged"));
    if refused.exit_code == exit::REFUSED && damaged {
        refused.text.push_str(
            ". Newer snapshots are damaged and were set aside (snapshot-*.damaged). Bring an undamaged one back, or let a \
             new node take this one's place",
        );
    }
    refused
}
