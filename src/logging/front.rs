//! What `log`'s macros reach: an `env_logger` per thread, with a pipe into the queue.

use std::cell::{OnceCell, RefCell};
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use log::{LevelFilter, Log, Metadata, Record};

use super::queue::Queue;
use super::record::{self, Line};
use super::sinks::Sinks;
use super::{Filter, FilterError, COUNTERS};

/// Which way lines take.
pub(super) enum Route {
    /// To the logging thread.
    Queue(Arc<Queue>),
    /// Straight to the sinks.
    Direct(Mutex<Sinks>),
}

pub(super) struct Front {
    route: Route,
    /// No sink wants more.
    level_max: LevelFilter,
    filters: Mutex<Filters>,
    /// Held from reading the filter to putting the changed one in force, so that no change is lost. Threads that log do not
    /// take it.
    changing: Mutex<()>,
    /// Raised with each change of the filter; threads compare.
    generation: AtomicU64,
}

struct Filters {
    at_start: Filter,
    in_force: Filter,
}

thread_local! {
    /// This thread's logger, with the generation of the filter that it was made for.
    static LOGGER: RefCell<(u64, Option<env_logger::Logger>)> = const { RefCell::new((0, None)) };
    /// This thread's name, looked up once.
    static THREAD: OnceCell<String> = const { OnceCell::new() };
}

impl Front {
    pub(super) fn new(route: Route, filter: Filter, level_max: LevelFilter) -> Front {
        let filters = Mutex::new(Filters { at_start: filter.clone(), in_force: filter });
        Front { route, level_max, filters, changing: Mutex::new(()), generation: AtomicU64::new(1) }
    }

    pub(super) fn route(&self) -> &Route {
        &self.route
    }

    pub(super) fn filter(&self) -> Filter {
        self.filters().in_force.clone()
    }

    /// Tells `log` below which level its macros need not call at all.
    pub(super) fn apply_level(&self) {
        let level = self.filter().build().build().filter();
        log::set_max_level(level.min(self.level_max));
    }

    pub(super) fn change(
        &self,
        change: impl FnOnce(&Filter) -> Result<Filter, FilterError>,
    ) -> Result<Filter, FilterError> {
        let _changing = self.changing();
        let changed = change(&self.filter())?;
        self.put_in_force(changed.clone());
        Ok(changed)
    }

    pub(super) fn reset(&self) -> Filter {
        let _changing = self.changing();
        let filter = self.filters().at_start.clone();
        self.put_in_force(filter.clone());
        filter
    }

    pub(super) fn set(&self, filter: Filter) {
        let _changing = self.changing();
        self.filters().at_start = filter.clone();
        self.put_in_force(filter);
    }

    fn put_in_force(&self, filter: Filter) {
        self.filters().in_force = filter;
        self.generation.fetch_add(1, Ordering::Release);
        self.apply_level();
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn filters(&self) -> MutexGuard<'_, Filters> {
        self.filters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Front {
    /// This thread's logger. None: the thread is ending and has no memory of its own any more.
    fn with_logger<R>(&'static self, use_logger: impl FnOnce(&env_logger::Logger) -> R) -> Option<R> {
        LOGGER
            .try_with(|own| {
                self.renew(own);
                let own = own.borrow();
                own.1.as_ref().map(use_logger)
            })
            .ok()
            .flatten()
    }

    /// Hands the record over. Where it would be dropped it is not even formatted: too much logging costs little.
    fn log_with(&self, logger: &env_logger::Logger, record: &Record<'_>) {
        match &self.route {
            Route::Queue(queue) if queue.is_full() && logger.matches(record) => queue.drop_one(),
            Route::Queue(_) | Route::Direct(_) => logger.log(record),
        }
    }

    /// Makes this thread's logger anew if the filter has changed. Waits for nobody: while somebody else holds the filter,
    /// or a message that is being formatted logs itself, the old one stays for another line.
    fn renew(&'static self, own: &RefCell<(u64, Option<env_logger::Logger>)>) {
        let generation = self.generation.load(Ordering::Acquire);
        if own.borrow().0 == generation {
            return;
        }
        let Ok(mut own) = own.try_borrow_mut() else { return };
        let filter = match self.filters.try_lock() {
            Ok(filters) => filters.in_force.clone(),
            Err(_) if own.1.is_some() => return,
            Err(_) => self.filter(),
        };
        *own = (generation, Some(self.logger(&filter)));
    }

    fn logger(&'static self, filter: &Filter) -> env_logger::Logger {
        let pipe: Box<dyn Write + Send> = match &self.route {
            Route::Queue(queue) => Box::new(Handover(Arc::clone(queue))),
            Route::Direct(sinks) => Box::new(Direct(sinks)),
        };
        let mut builder = filter.build();
        builder.format(|out, record| with_thread_name(|thread| record::encode(out, record, super::now(), thread)));
        builder.target(env_logger::Target::Pipe(pipe)).build()
    }
}

impl Log for Front {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        super::FRONT.get().and_then(|front| front.with_logger(|logger| logger.enabled(metadata))).unwrap_or(false)
    }

    fn log(&self, record: &Record<'_>) {
        let logged = super::FRONT.get().and_then(|front| front.with_logger(|logger| front.log_with(logger, record)));
        if logged.is_none() {
            COUNTERS.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {
        super::flush(std::time::Duration::from_secs(1));
    }
}

/// The pipe into the queue. `env_logger` writes each line whole.
struct Handover(Arc<Queue>);

impl Write for Handover {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The pipe into the sinks.
struct Direct(&'static Mutex<Sinks>);

impl Write for Direct {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(decoded) = Line::decode(line) {
            let mut sinks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            sinks.line(&decoded);
            sinks.tick(decoded.at);
            sinks.write();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The name under which this thread's lines appear.
fn with_thread_name<R>(use_name: impl FnOnce(&str) -> R) -> R {
    let mut use_name = Some(use_name);
    let mut with = |name: &str| use_name.take().map(|use_name| use_name(name));
    let named =
        THREAD.try_with(|own| with(own.get_or_init(|| std::thread::current().name().unwrap_or("?").to_owned())));
    named.ok().flatten().or_else(|| with("?")).expect("one of the two has used it")
}
