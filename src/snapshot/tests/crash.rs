//! A crash at every disk operation of taking, receiving and pruning, then a power cut: the old state or the new one.

use super::*;

/// A node with one durable snapshot, on its way to the next.
struct Life {
    rig: Rig,
    old: (Summary, State),
    /// What the state was when the next one was begun.
    next: State,
    /// The next one, once it was acknowledged.
    acknowledged: Option<Summary>,
    pruned: bool,
}

impl Life {
    /// Ready to take the next one.
    fn new() -> Self {
        let mut rig = Rig::new();
        let mut snapshots = rig.open().expect("an empty directory");
        rig.fill(300, 10);
        let old = (rig.take(&mut snapshots).expect("the disk works"), rig.state());
        rig.fill(600, 4_000);
        let next = rig.state();
        Self { rig, old, next, acknowledged: None, pruned: false }
    }

    /// Does it, on a disk that fails at its `crash_at`-th operation from now.
    fn run(&mut self, crash_at: Option<u64>, run: impl FnOnce(&mut Self) -> Result<(), SnapshotError>) -> bool {
        if let Some(operation) = crash_at {
            self.rig.disk.crash_at(self.rig.disk.operations() + operation);
        }
        run(self).is_ok()
    }

    /// What a start finds on `disk`: never a half one, never none, and what was acknowledged.
    fn check_start(&self, disk: &VirtualDisk) -> Snapshots {
        let mut snapshots = Rig::on(disk.clone()).open().expect("the directory opens");
        let newest = snapshots.newest().expect("there was always one");
        if self.acknowledged.is_some() {
            assert_eq!(Some(newest), self.acknowledged);
        }
        let state = if newest == self.old.0 { &self.old.1 } else { &self.next };
        let kept = snapshots.kept().count();
        assert!(kept == 2 || newest == self.old.0 || self.pruned, "the old one goes when it is pruned, not before");
        let (loaded, restored) = snapshots.load_newest(Some(CLUSTER)).expect("good").expect("one");
        assert_eq!(loaded, newest, "what has its name is whole");
        assert_eq!(&state_of(restored), state);
        let names = names(disk);
        assert!(!names.iter().any(|name| name.ends_with("taking") || name.ends_with("damaged")), "{names:?}");
        snapshots
    }

    /// The disks that a crash now may leave: after several power cuts, and after a kill, when the page cache stays.
    fn disks(&self, salt: u64) -> impl Iterator<Item = VirtualDisk> + '_ {
        let cut = move |seed| {
            let disk = self.rig.disk.duplicate();
            disk.power_cut(salt * 1_000 + seed);
            disk
        };
        (0..8).map(cut).chain([self.rig.disk.duplicate()])
    }
}

#[test]
fn a_crash_at_each_operation_of_taking_leaves_the_old_or_the_new() {
    let take = |life: &mut Life| {
        let mut snapshots = life.rig.open()?;
        life.acknowledged = Some(life.rig.take(&mut snapshots)?);
        life.pruned = true;
        snapshots.prune(1).map(|_| ())
    };
    let mut life = Life::new();
    let before = life.rig.disk.operations();
    assert!(life.run(None, take));
    let operations = life.rig.disk.operations() - before;
    assert!(operations > 12, "{operations} operations");
    let mut found = [0; 2];
    for operation in 1..=operations {
        let mut life = Life::new();
        assert!(!life.run(Some(operation), take));
        for disk in life.disks(operation) {
            let mut snapshots = life.check_start(&disk);
            found[usize::from(snapshots.newest() != Some(life.old.0))] += 1;
            // And it can go on from there.
            let mut rig = Rig::on(disk);
            rig.fill(1_000, 10);
            let next = rig.take(&mut snapshots).expect("the disk works");
            assert_eq!(snapshots.newest(), Some(next));
        }
    }
    assert!(found.iter().all(|&found| found > 3), "old and new are both seen: {found:?}");
}

/// The transfer goes on where it was, as far as that reached the disk, whatever happens to it on the way.
#[test]
fn a_crash_at_each_operation_of_receiving_leaves_the_old_or_the_new() {
    let source = {
        let mut life = Life::new();
        let mut snapshots = life.rig.open().expect("good");
        life.rig.take(&mut snapshots).expect("the disk works");
        Serving::open(&snapshots, snapshots.newest().expect("taken").position.id.index).expect("it is there")
    };
    let receive = |life: &mut Life| {
        let mut snapshots = life.rig.open()?;
        life.acknowledged = Some(transfer::receive(&source, &mut snapshots, 100_000)?.0);
        Ok(())
    };
    let mut life = Life::new();
    let before = life.rig.disk.operations();
    assert!(life.run(None, receive));
    let operations = life.rig.disk.operations() - before;
    assert!(operations > 20, "{operations} operations");
    let (mut found, mut resumed) = ([0; 2], 0);
    for operation in 1..=operations {
        let mut life = Life::new();
        assert!(!life.run(Some(operation), receive));
        for disk in life.disks(operation) {
            let mut snapshots = life.check_start(&disk);
            let is_new = snapshots.newest() != Some(life.old.0);
            found[usize::from(is_new)] += 1;
            if !is_new {
                let (summary, from) = transfer::receive(&source, &mut snapshots, 77_777).expect("the disk works");
                assert_eq!(summary, source.summary());
                resumed += usize::from(from > 0);
            }
            disk.power_cut(operation);
            let mut snapshots = Rig::on(disk).open().expect("good");
            let (loaded, restored) = snapshots.load_newest(Some(CLUSTER)).expect("good").expect("one");
            assert_eq!(loaded, source.summary());
            assert_eq!(state_of(restored), life.next);
        }
    }
    assert!(found.iter().all(|&found| found > 3), "old and new are both seen: {found:?}");
    assert!(resumed > 30, "{resumed} transfers went on");
}
