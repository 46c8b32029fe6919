//! Views: pinned revisions (C-21). Which views there are, what each one holds back, and when it may let go.
//!
//! The raft thread opens and closes views; other threads read at an open one by its id, through [`ViewTable`]. A view
//! goes through three states:
//!
//! 1. *Open.* An old version that it needs, and that nobody else does, stays linked in its key's list and is noted here.
//! 2. *Closing.* The table says closed, so no pin that begins now finds it. But a pin that found it open may still be
//!    reading at its revision, and must not miss a version halfway: so everything the view needs stays *linked*, and the
//!    view goes on holding, until every slot is above the revision at which it was closed. Such a slot's reader has
//!    acquired a later revision, and with it the closing.
//! 3. *Draining.* Nobody reads at it. What it held is given, in bounded steps, to another view that needs it, or
//!    unlinked and retired like any other version. Then the place is free.

use protocol::request::ViewId;
use protocol::Index;

use super::fifo::Fifo;
use super::sync::{AtomicU64, Ordering, CLIENT_VIEWS, VIEWS};
use crate::limits;

/// No view can be opened now: [`limits::VIEWS_MAX`], or [`limits::SNAPSHOT_VIEWS_MAX`] for snapshots, are open or being
/// taken down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ViewsFull;

/// What a view is opened for. Clients cannot take the places of snapshots, nor the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A scan in pages; holds at most [`limits::VIEW_BYTES_MAX`].
    Client,
    /// A snapshot; holds at most [`limits::SNAPSHOT_VIEW_BYTES_MAX`].
    Snapshot,
    /// A snapshot that must succeed: it is never abandoned, writes wait instead.
    PatientSnapshot,
}

/// Views, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ViewCounts {
    /// Open ones, those of snapshots included.
    pub open: usize,
    /// Bytes of old versions that only views hold back, those on their way out included.
    pub held_bytes: u64,
    /// Views that were closed because they held more than [`limits::VIEW_BYTES_MAX`].
    pub abandoned: u64,
    /// Views of snapshots that were closed because they held more than [`limits::SNAPSHOT_VIEW_BYTES_MAX`].
    pub snapshots_abandoned: u64,
}

/// The open views, as other threads see them. View `serial` has place `serial % VIEWS`; no serial is used twice.
pub(super) struct ViewTable {
    places: [Place; VIEWS],
}

struct Place {
    /// 0 = closed.
    serial: AtomicU64,
    boot: AtomicU64,
    revision: AtomicU64,
}

impl ViewTable {
    pub(super) fn new() -> Self {
        let place = |_| Place { serial: AtomicU64::new(0), boot: AtomicU64::new(0), revision: AtomicU64::new(0) };
        Self { places: std::array::from_fn(place) }
    }

    fn place(&self, serial: u64) -> &Place {
        &self.places[(serial % VIEWS as u64) as usize]
    }

    /// Whether the view is open. The caller holds a pin that began before; then the view's revision stays readable as
    /// long as that pin. Acquire, partner of [`ViewTable::open`]: all that was applied up to the view's revision.
    pub(super) fn is_open(&self, view: ViewId) -> bool {
        let place = self.place(view.serial);
        // The other two may belong to a successor in this place; then they differ, or name the same revision.
        view.serial != 0
            && place.serial.load(Ordering::Acquire) == view.serial
            && place.boot.load(Ordering::Relaxed) == view.boot
            && place.revision.load(Ordering::Relaxed) == view.revision.0
    }

    /// Release, partner of [`ViewTable::is_open`].
    fn open(&self, view: ViewId) {
        let place = self.place(view.serial);
        place.boot.store(view.boot, Ordering::Relaxed);
        place.revision.store(view.revision.0, Ordering::Relaxed);
        place.serial.store(view.serial, Ordering::Release);
    }

    /// Relaxed: who must see it, sees it by what the writer does next, the fence of a reclaim, the release of `applied`
    /// or that of a new root.
    fn close(&self, view: ViewId) {
        self.place(view.serial).serial.store(0, Ordering::Relaxed);
    }
}

/// The writer's views. `H` names a version that a view holds.
pub(super) struct Views<H> {
    places: [Option<View<H>>; VIEWS],
    opened: u64,
    abandoned: u64,
    snapshots_abandoned: u64,
    /// What a view may hold, of a client and of a snapshot.
    bytes_max: usize,
    snapshot_bytes_max: usize,
}

struct View<H> {
    id: ViewId,
    purpose: Purpose,
    state: State,
    held: Fifo<H>,
    /// Bytes of what it holds.
    bytes: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Closed when so much was applied.
    Closing(u64),
    Draining,
}

impl<H> Default for Views<H> {
    /// No views.
    fn default() -> Self {
        Self {
            places: std::array::from_fn(|_| None),
            opened: 0,
            abandoned: 0,
            snapshots_abandoned: 0,
            bytes_max: limits::VIEW_BYTES_MAX,
            snapshot_bytes_max: limits::SNAPSHOT_VIEW_BYTES_MAX,
        }
    }
}

impl<H> Views<H> {
    pub(super) fn set_bytes_max(&mut self, bytes_max: usize) {
        (self.bytes_max, self.snapshot_bytes_max) = (bytes_max, bytes_max);
    }

    pub(super) fn open(
        &mut self,
        table: &ViewTable,
        boot: u64,
        revision: u64,
        purpose: Purpose,
    ) -> Result<ViewId, ViewsFull> {
        let mut places = match purpose {
            Purpose::Client => 0..CLIENT_VIEWS,
            Purpose::Snapshot | Purpose::PatientSnapshot => CLIENT_VIEWS..VIEWS,
        };
        let place = places.find(|&place| self.places[place].is_none()).ok_or(ViewsFull)?;
        self.opened += 1;
        let id = ViewId { boot, revision: Index(revision), serial: self.opened * VIEWS as u64 + place as u64 };
        self.places[place] = Some(View { id, purpose, state: State::Open, held: Fifo::default(), bytes: 0 });
        table.open(id);
        Ok(id)
    }

    pub(super) fn is_open(&self, id: ViewId) -> bool {
        let place = self.places[(id.serial % VIEWS as u64) as usize].as_ref();
        place.is_some_and(|view| view.id == id && view.state == State::Open)
    }

    /// False if it is not open.
    pub(super) fn close(&mut self, table: &ViewTable, id: ViewId, applied: u64) -> bool {
        let place = &mut self.places[(id.serial % VIEWS as u64) as usize];
        match place {
            Some(view) if view.id == id && view.state == State::Open => {
                view.state = State::Closing(applied);
                table.close(id);
                true
            }
            _ => false,
        }
    }

    /// Ends all views together with their list, with which goes what they held.
    pub(super) fn close_all(&mut self, table: &ViewTable) {
        for view in self.places.iter_mut().filter_map(Option::take) {
            if view.state == State::Open {
                table.close(view.id);
            }
        }
    }

    /// The place of the newest view that needs what was valid from revision `from` until before `until`.
    pub(super) fn needing(&self, from: u64, until: u64) -> Option<usize> {
        let needs = |view: &View<H>| view.state != State::Draining && (from..until).contains(&view.id.revision.0);
        let places = self.places.iter().enumerate();
        let views =
            places.filter_map(|(place, view)| view.as_ref().filter(|view| needs(view)).map(|view| (place, view)));
        views.max_by_key(|(_, view)| view.id.serial / VIEWS as u64).map(|(place, _)| place)
    }

    /// Hangs a version on the view in `place`. A view that holds too much is abandoned: closed for its readers.
    pub(super) fn hold(&mut self, table: &ViewTable, place: usize, held: H, bytes: usize, applied: u64) {
        let view = self.places[place].as_mut().expect("`needing` named it");
        view.held.push(held);
        view.bytes += bytes;
        let (max, abandoned) = match view.purpose {
            Purpose::Client => (self.bytes_max, &mut self.abandoned),
            Purpose::Snapshot => (self.snapshot_bytes_max, &mut self.snapshots_abandoned),
            Purpose::PatientSnapshot => return,
        };
        if view.bytes > max && view.state == State::Open {
            let id = view.id;
            *abandoned += 1;
            match view.purpose {
                Purpose::Client => {
                    crate::mark!("kv: view abandoned");
                }
                Purpose::Snapshot | Purpose::PatientSnapshot => {
                    crate::mark!("kv: view of a snapshot abandoned");
                }
            }
            self.close(table, id, applied);
        }
    }

    /// Lets views drain that nobody can be reading at. `oldest` is the lowest slot, read after a fence.
    pub(super) fn settle(&mut self, oldest: u64) {
        for place in &mut self.places {
            let Some(view) = place else { continue };
            if matches!(view.state, State::Closing(closed) if oldest > closed) {
                view.state = State::Draining;
            }
            if view.state == State::Draining && view.held.is_empty() {
                *place = None;
            }
        }
    }

    /// One more of what draining views held.
    pub(super) fn drain(&mut self) -> Option<H> {
        for place in &mut self.places {
            let Some(view) = place.as_mut().filter(|view| view.state == State::Draining) else { continue };
            if let Some(held) = view.held.pop() {
                return Some(held);
            }
            *place = None;
        }
        None
    }

    /// Whether any view is on its way out.
    pub(super) fn any_closing(&self) -> bool {
        self.places.iter().flatten().any(|view| view.state != State::Open)
    }

    /// Bytes that open views of snapshots hold.
    pub(super) fn snapshot_held_bytes(&self) -> usize {
        let views = self.places.iter().flatten();
        views.filter(|view| view.purpose != Purpose::Client && view.state == State::Open).map(|view| view.bytes).sum()
    }

    pub(super) fn counts(&self) -> ViewCounts {
        let views = self.places.iter().flatten();
        ViewCounts {
            open: views.clone().filter(|view| view.state == State::Open).count(),
            held_bytes: views.map(|view| view.bytes as u64).sum(),
            abandoned: self.abandoned,
            snapshots_abandoned: self.snapshots_abandoned,
        }
    }
}
