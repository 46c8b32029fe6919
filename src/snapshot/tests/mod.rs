//! Snapshots on a virtual disk: taken beside writes, received in pieces, crashed everywhere, damaged.

mod crash;
mod damage;
mod speed;
mod transfer;

use std::collections::BTreeMap;
use std::path::Path;

use protocol::command::Command;
use protocol::format::{Format, Member};
use protocol::request::ViewId;
use protocol::{Chain, ClusterId, EntryId, Incarnation, LogTime, NodeId, Sequence, SessionId, Term};

use super::*;
use crate::disk::VirtualDisk;
use crate::kv::sessions::Origin;
use crate::kv::{Contents, Reader, Store};

const CLUSTER: ClusterId = ClusterId(0xC1);
const TAKER: Taker = Taker { node: NodeId(1), incarnation: Incarnation(0x11) };

/// Keys and what they are: value, revision, create revision, version.
type State = BTreeMap<Vec<u8>, (Vec<u8>, u64, u64, u64)>;

/// A store, and where its snapshots go.
struct Rig {
    disk: VirtualDisk,
    store: Store,
    reader: Reader,
}

fn dir() -> &'static Path {
    Path::new("/data")
}

fn format() -> Format {
    let member = |id: u32| Member {
        id: NodeId(id),
        incarnation: Incarnation(0x10 + u64::from(id)),
        client_address: format!("node-{id}:7400"),
        peer_address: format!("node-{id}:7401"),
    };
    Format { cluster: CLUSTER, members: (0..3).map(member).collect() }
}

fn position(index: Index) -> Position {
    Position {
        id: EntryId { term: Term(1 + index.0 / 100), index },
        chain: Chain(index.0.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
        log_time: LogTime(1_700_000_000_000 + index.0),
    }
}

impl Rig {
    fn new() -> Self {
        Self::on(VirtualDisk::new())
    }

    fn on(disk: VirtualDisk) -> Self {
        let store = Store::new();
        let reader = store.reader();
        let mut rig = Self { disk, store, reader };
        (0..3).for_each(|_| rig.write(Command::OpenSession));
        rig
    }

    fn open(&self) -> Result<Snapshots, SnapshotError> {
        Snapshots::open(&Disk::virtual_(self.disk.clone()), dir())
    }

    fn write(&mut self, command: Command<'_>) {
        let revision = self.store.applied().next();
        let session = if revision.0 > 3 { SessionId(1 + revision.0 % 3) } else { SessionId(0) };
        let origin = Origin { session, sequence: Sequence(revision.0), log_time: LogTime(5) };
        self.store.execute(revision, origin, &command);
        self.store.publish(revision);
    }

    /// So many keys of so many bytes, all at new revisions.
    fn fill(&mut self, keys: u32, value_bytes: usize) {
        for key in 0..keys {
            let value = vec![self.store.applied().0 as u8; value_bytes];
            self.write(Command::Update { key: &key.to_be_bytes(), value: &value });
        }
    }

    fn state(&mut self) -> State {
        let pinned = self.reader.pin();
        let state = pinned.range(b"", None).map(|item| {
            let found = item.versioned;
            (item.key.to_vec(), (found.value.to_vec(), found.revision.0, found.create_revision.0, found.version))
        });
        state.collect()
    }

    fn contents(&self) -> Contents {
        Contents { position: position(self.store.applied()), format: format(), sessions: self.store.capture_sessions() }
    }

    fn begin(&mut self, snapshots: &Snapshots) -> Result<Taking, SnapshotError> {
        let view = self.store.open_snapshot_view(7, false).expect("there is a place");
        Taking::begin(snapshots, TAKER, self.contents(), view)
    }

    /// All steps, without writes in between.
    fn take(&mut self, snapshots: &mut Snapshots) -> Result<Summary, SnapshotError> {
        let mut taking = self.begin(snapshots)?;
        let result = loop {
            match taking.step(snapshots, &mut self.reader) {
                Ok(Progress::More) => {}
                Ok(Progress::Done(summary)) => break Ok(summary),
                Ok(Progress::Abandoned) => panic!("nobody writes"),
                Err(error) => break Err(error),
            }
        };
        assert!(self.store.close_view(taking.view()));
        result
    }
}

/// What was loaded, as a state.
fn state_of(restored: Restored) -> State {
    let mut rig = Rig::on(VirtualDisk::new());
    rig.store = Store::restore(restored);
    rig.reader = rig.store.reader();
    rig.state()
}

fn names(disk: &VirtualDisk) -> Vec<String> {
    let names = Disk::virtual_(disk.clone()).list(dir()).expect("the disk works");
    names.into_iter().map(|name| name.into_os_string().into_string().expect("ours")).collect()
}

fn close(rig: &mut Rig, view: ViewId) {
    rig.store.close_view(view);
}

#[test]
fn what_was_taken_is_loaded() {
    let mut rig = Rig::new();
    let mut snapshots = rig.open().expect("an empty directory");
    assert_eq!(snapshots.newest(), None);
    assert!(snapshots.load_newest(Some(CLUSTER)).expect("nothing").is_none());
    rig.fill(1_000, 50); // more results than a session keeps
    rig.write(Command::Update { key: b"", value: b"" });
    rig.write(Command::Update { key: b"large", value: &[3; crate::limits::VALUE_BYTES_MAX] });
    rig.write(Command::Remove { key: &5u32.to_be_bytes() });
    let (state, contents) = (rig.state(), rig.contents());
    let summary = rig.take(&mut snapshots).expect("the disk works");
    assert_eq!((summary.cluster, summary.position), (CLUSTER, contents.position));
    assert_eq!((summary.keys, summary.sessions), (1_001, 3));
    assert_eq!(names(&rig.disk), [format!("snapshot-{:016x}", contents.position.id.index.0)]);
    rig.disk.power_cut(1);
    let mut snapshots = rig.open().expect("it was durable");
    assert_eq!(snapshots.newest(), Some(summary));
    let (loaded, restored) = snapshots.load_newest(Some(CLUSTER)).expect("good").expect("one");
    assert_eq!(loaded, summary);
    assert_eq!((restored.position, &restored.format), (contents.position, &format()));
    let captured: Vec<_> = contents.sessions.iter().map(|session| (**session).clone()).collect();
    assert_eq!(restored.sessions, captured);
    assert_eq!(restored.built.applied(), contents.position.id.index);
    assert_eq!(state_of(restored), state);
}

/// The state of an empty store is one, too.
#[test]
fn an_empty_state_is_taken_and_loaded() {
    let mut rig = Rig::new();
    let mut snapshots = rig.open().expect("an empty directory");
    let summary = rig.take(&mut snapshots).expect("the disk works");
    assert_eq!(summary.keys, 0);
    let (_, restored) = snapshots.load_newest(None).expect("good").expect("one");
    assert_eq!(state_of(restored), State::new());
}

/// Everything is overwritten, removed and created between any two steps, and every session gets new results: keys and
/// sessions of the file are those at the view's revision.
#[test]
fn c22_a_snapshot_beside_a_writer_is_the_state_at_its_revision() {
    let mut rig = Rig::new();
    let mut snapshots = rig.open().expect("an empty directory");
    rig.fill(3_000, 30);
    for round in 0..3 {
        let (state, contents) = (rig.state(), rig.contents());
        let mut taking = rig.begin(&snapshots).expect("the disk works");
        let mut steps = 0;
        let summary = loop {
            steps += 1;
            for number in 0..500u32 {
                let key = (number * 7 + steps * 131 + round) % 4_000;
                match number % 3 {
                    0 => rig.write(Command::Remove { key: &key.to_be_bytes() }),
                    _ => rig.write(Command::Update { key: &key.to_be_bytes(), value: &[steps as u8; 40] }),
                }
            }
            match taking.step(&mut snapshots, &mut rig.reader).expect("the disk works") {
                Progress::More => {}
                Progress::Done(summary) => break summary,
                Progress::Abandoned => panic!("little is held back"),
            }
        };
        close(&mut rig, taking.view());
        assert!(steps > 10, "{steps} steps");
        assert_eq!((summary.position, summary.keys), (contents.position, state.len() as u64));
        assert_ne!(rig.state(), state);
        let captured: Vec<_> = contents.sessions.iter().map(|session| (**session).clone()).collect();
        let now = rig.store.capture_sessions();
        assert!(now.iter().zip(&captured).all(|(now, captured)| **now != *captured));
        let (_, restored) = snapshots.load_newest(Some(CLUSTER)).expect("good").expect("one");
        assert_eq!(restored.sessions, captured);
        assert_eq!(state_of(restored), state);
    }
    assert_eq!(snapshots.kept().count(), 3);
    assert_eq!(snapshots.prune(2).expect("the disk works"), 1);
    assert_eq!((snapshots.kept().count(), names(&rig.disk).len()), (2, 2));
    assert_eq!(snapshots.prune(2).expect("nothing to do"), 0);
}

#[test]
fn a_view_that_is_gone_abandons_the_snapshot() {
    let mut rig = Rig::new();
    let mut snapshots = rig.open().expect("an empty directory");
    rig.fill(2_000, 10);
    let mut taking = rig.begin(&snapshots).expect("the disk works");
    assert_eq!(taking.step(&mut snapshots, &mut rig.reader).expect("the disk works"), Progress::More);
    assert_eq!(names(&rig.disk).len(), 1);
    close(&mut rig, taking.view());
    assert_eq!(taking.step(&mut snapshots, &mut rig.reader).expect("no error"), Progress::Abandoned);
    assert_eq!(names(&rig.disk), Vec::<String>::new(), "nothing is left");
    assert_eq!(taking.step(&mut snapshots, &mut rig.reader).expect("no error"), Progress::Abandoned);
    // One that is dropped leaves its file, which is in nobody's way.
    let taking = rig.begin(&snapshots).expect("the first place may still be in use");
    let view = taking.view();
    drop(taking);
    assert_eq!(names(&rig.disk).len(), 1);
    close(&mut rig, view);
    rig.take(&mut snapshots).expect("it is replaced");
    rig.fill(1, 1);
    rig.begin(&snapshots).expect("the disk works").abandon();
    assert_eq!(names(&rig.disk).len(), 1, "the whole one");
    let left_over = rig.begin(&snapshots);
    drop(left_over);
    assert_eq!(names(&rig.disk).len(), 2);
    rig.open().expect("a start");
    assert_eq!(names(&rig.disk).len(), 1, "a start removes it");
}

/// A disk that is full, at any point: a typed error, nothing left, and the next one can be taken.
#[test]
fn no_space_abandons_the_snapshot_cleanly() {
    let mut rig = Rig::new();
    rig.fill(700, 100);
    let mut snapshots = rig.open().expect("an empty directory");
    let whole = rig.take(&mut snapshots).expect("the disk works");
    snapshots.prune(0).expect("the disk works");
    for free in (0..whole.bytes).step_by(9_999).chain([whole.bytes - 1]) {
        rig.disk.set_free_space(Some(free));
        let error = rig.take(&mut snapshots).expect_err("it does not fit");
        assert!(matches!(error, SnapshotError::NoSpace { .. }), "{error}");
        assert_eq!(names(&rig.disk), Vec::<String>::new());
        assert_eq!(snapshots.newest(), None);
    }
    rig.disk.set_free_space(Some(whole.bytes));
    assert_eq!(rig.take(&mut snapshots).expect("it fits").keys, 700);
}

/// T-104: a file system that turns read-only before a snapshot, or in the middle of one: an error, the one before stays the
/// newest, and what could not be removed is removed by a start.
#[test]
fn t104_a_read_only_file_system_takes_no_snapshot() {
    let mut rig = Rig::new();
    rig.fill(700, 100);
    let mut snapshots = rig.open().expect("an empty directory");
    let whole = rig.take(&mut snapshots).expect("the disk works");
    rig.fill(700, 100);
    rig.disk.set_read_only(true);
    let view = rig.store.open_snapshot_view(7, false).expect("there is a place");
    let error = Taking::begin(&snapshots, TAKER, rig.contents(), view).expect_err("no file can be made");
    assert!(matches!(error, SnapshotError::Io { operation: "create", .. }), "{error}");
    close(&mut rig, view);
    rig.disk.set_read_only(false);
    let mut taking = rig.begin(&snapshots).expect("the disk works");
    rig.disk.set_read_only(true);
    let error = taking.step(&mut snapshots, &mut rig.reader).expect_err("nothing can be written");
    assert!(matches!(error, SnapshotError::Io { .. }), "{error}");
    drop(taking);
    assert_eq!((names(&rig.disk).len(), snapshots.newest()), (2, Some(whole)));
    rig.disk.set_read_only(false);
    let snapshots = rig.open().expect("a start");
    assert_eq!((names(&rig.disk).len(), snapshots.newest()), (1, Some(whole)));
}

/// C-6: a sync that failed is not retried on the same file.
#[test]
fn a_failed_sync_or_write_gives_the_file_up() {
    let mut rig = Rig::new();
    rig.fill(3_000, 1_000);
    let mut snapshots = rig.open().expect("an empty directory");
    let before = snapshots.disk.counters();
    rig.take(&mut snapshots).expect("the disk works");
    let after = snapshots.disk.counters();
    let (syncs, writes) = (after.syncs - before.syncs, after.writes - before.writes);
    assert!(syncs >= 4, "some on the way, the last one of the file, the directory's: {syncs}");
    snapshots.prune(0).expect("the disk works");
    for nth in 1..=syncs {
        rig.disk.fail_sync(nth);
        let error = rig.take(&mut snapshots).expect_err("it failed");
        assert!(matches!(&error, SnapshotError::Io { operation: "sync", .. }), "{error}");
        assert_eq!((names(&rig.disk), snapshots.newest()), (Vec::new(), None));
    }
    for nth in 1..=writes {
        rig.disk.fail_write(nth);
        let error = rig.take(&mut snapshots).expect_err("it failed");
        assert!(matches!(&error, SnapshotError::Io { operation: "write", .. }), "{error}");
        assert_eq!((names(&rig.disk), snapshots.newest()), (Vec::new(), None));
    }
    rig.take(&mut snapshots).expect("the disk works");
}
