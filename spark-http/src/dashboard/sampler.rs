//! One sampler for all viewers. It has no task: whoever looks first once a picture is due takes
//! it, so that nothing happens while nobody looks.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use spark_channel::{Durations, Watch};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::picture;
use crate::{
    Seeing,
    seeing::{RouteCounts, SeenModule, Times},
};

pub(crate) struct Sampler {
    viewers: Arc<Semaphore>,
    state: Mutex<State>,
}

/// A place among the viewers, free again once dropped.
pub(super) struct Viewer {
    _place: OwnedSemaphorePermit,
}

#[derive(Default)]
struct State {
    number: u64,
    event: Bytes,
    due: Option<Instant>,
    /// The oldest first.
    past: VecDeque<Reading>,
}

/// The counts of a moment that rates and latencies are differences of.
#[derive(Clone, Default)]
pub(super) struct Reading {
    at: Option<Instant>,
    modules: HashMap<Identity, ModuleReading>,
    routes: HashMap<Arc<str>, RouteReading>,
}

/// Which module it is, from one reading to the next.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Identity {
    Watched(Watch),
    /// A child that nobody registered, and how many there are before it of its name.
    Nth(Arc<str>, usize),
}

#[derive(Clone, Copy, Default)]
struct ModuleReading {
    handled: u64,
    handling: Durations,
}

#[derive(Clone, Copy, Default)]
struct RouteReading {
    answered: u64,
    times: Times,
}

/// What a reading is compared with.
pub(super) struct Past<'a> {
    now: &'a Reading,
    /// A second ago, for rates.
    last: Option<&'a Reading>,
    /// Up to ten seconds ago, for latencies.
    first: Option<&'a Reading>,
}

// === impl Sampler ===

impl Sampler {
    pub(crate) fn new() -> Self {
        Self {
            viewers: Arc::new(Semaphore::new(VIEWERS_MAX)),
            state: Mutex::default(),
        }
    }

    pub(super) fn enter(&self) -> Option<Viewer> {
        let place = Arc::clone(&self.viewers).try_acquire_owned();
        place.ok().map(|place| Viewer { _place: place })
    }

    /// The event to send at `now`, and its number, which is zero while there is none.
    pub(super) fn look(&self, seeing: &Seeing, now: Instant) -> (u64, Bytes) {
        {
            let mut state = self.lock();
            if state.due.is_some_and(|due| now < due) {
                return (state.number, state.event.clone());
            }
            // Viewers tick at moments of their own. Half a period early is not worth another
            // picture, half a period late would be seen.
            state.due = Some(now + PERIOD / 2);
        }
        // Not under the lock: readiness checks are the user's.
        let unready = seeing.unready();
        let modules = seeing.modules().see();
        let routes: Vec<_> = seeing.routes();
        let routes: Vec<_> = routes
            .into_iter()
            .map(|route| (route.counters.read(), route))
            .collect();
        let modules = Identity::of_each(modules);
        let reading = Reading::new(now, &modules, routes.iter().map(|(c, r)| (&r.label, c)));

        let mut state = self.lock();
        let is_stale = |past: &Reading| past.at.is_none_or(|at| now > at + GAP_MAX);
        if state.past.back().is_some_and(is_stale) {
            state.past.clear();
        }
        let past = Past {
            now: &reading,
            last: state.past.back(),
            first: state.past.front(),
        };
        let picture = picture::draw(seeing, &unready, &modules, &routes, &past);
        state.event = picture::event(&picture);
        state.number += 1;
        state.past.push_back(reading);
        if state.past.len() > WINDOW {
            state.past.pop_front();
        }
        (state.number, state.event.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What is half done is replaced by the next picture.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sampler")
            .field("viewers", &(VIEWERS_MAX - self.viewers.available_permits()))
            .finish_non_exhaustive()
    }
}

// === impl Reading ===

impl Reading {
    fn new<'a>(
        at: Instant,
        modules: &[(Identity, SeenModule)],
        routes: impl Iterator<Item = (&'a Arc<str>, &'a RouteCounts)>,
    ) -> Self {
        Self {
            at: Some(at),
            modules: modules
                .iter()
                .map(|(identity, module)| (identity.clone(), ModuleReading::of(module)))
                .collect(),
            routes: routes
                .map(|(label, counts)| {
                    let reading = RouteReading {
                        answered: counts.classes.iter().sum(),
                        times: counts.times,
                    };
                    (Arc::clone(label), reading)
                })
                .collect(),
        }
    }
}

// === impl Identity ===

impl Identity {
    fn of_each(modules: Vec<SeenModule>) -> Vec<(Self, SeenModule)> {
        let mut before = HashMap::<Arc<str>, usize>::new();
        let identified = modules.into_iter().map(|module| {
            let identity = if let Some(watch) = &module.watch {
                Self::Watched(watch.clone())
            } else {
                let count = before.entry(Arc::clone(&module.name)).or_default();
                *count += 1;
                Self::Nth(Arc::clone(&module.name), *count - 1)
            };
            (identity, module)
        });
        identified.collect()
    }
}

// === impl ModuleReading ===

impl ModuleReading {
    fn of(module: &SeenModule) -> Self {
        let mut handling = Durations::default();
        let named = module.messages.iter().flat_map(|all| &all.by_name);
        for one in named {
            handling.count += one.handling.count;
            handling.total += one.handling.total;
            handling.max = handling.max.max(one.handling.max);
            for (bucket, more) in handling.buckets.iter_mut().zip(one.handling.buckets) {
                *bucket += more;
            }
        }
        Self {
            handled: module.stats.handled + module.stats.panicked,
            handling,
        }
    }
}

// === impl Past ===

impl Past<'_> {
    /// Messages that the module handled per second, lately.
    pub(super) fn module_rate(&self, module: &Identity) -> Option<f64> {
        let handled = |reading: &Reading| reading.modules.get(module).map(|one| one.handled);
        self.rate(handled)
    }

    /// How long the module handled messages lately.
    pub(super) fn module_handling(&self, module: &Identity) -> Durations {
        let of = |reading: Option<&Reading>| {
            let one = reading.and_then(|reading| reading.modules.get(module));
            one.map(|one| one.handling).unwrap_or_default()
        };
        of(Some(self.now)).since(&of(self.first))
    }

    /// Requests that the route answered per second, lately.
    pub(super) fn route_rate(&self, label: &Arc<str>) -> Option<f64> {
        self.rate(|reading| reading.routes.get(label).map(|one| one.answered))
    }

    /// How long the route took to answer lately.
    pub(super) fn route_times(&self, label: &Arc<str>) -> Times {
        let of = |reading: Option<&Reading>| {
            let one = reading.and_then(|reading| reading.routes.get(label));
            one.map(|one| one.times).unwrap_or_default()
        };
        of(Some(self.now)).since(&of(self.first))
    }

    fn rate(&self, count: impl Fn(&Reading) -> Option<u64>) -> Option<f64> {
        let last = self.last?;
        let (from, to) = (count(last)?, count(self.now)?);
        let seconds = self.now.at?.duration_since(last.at?).as_secs_f64();
        (seconds > 0.0).then(|| to.saturating_sub(from) as f64 / seconds)
    }
}

/// Often enough to look alive, seldom enough to cost nothing.
pub(super) const PERIOD: Duration = Duration::from_secs(1);

/// Pictures that latencies are told over.
const WINDOW: usize = 10;

/// Without a viewer for longer than this, the past is not the one of a moment ago.
const GAP_MAX: Duration = Duration::from_secs(3);

/// More people than look at once; a bound on what they can make the process do.
const VIEWERS_MAX: usize = 16;
