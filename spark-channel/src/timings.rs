//! How long messages wait and are handled, for modules that were asked to tell.
//!
//! A mailbox holds nothing beside its messages, so the times of their arrival are kept
//! next to it, in a queue of their own. Invariants:
//!
//! 1. A dispatcher adds a time right before it sends its message, with the place in the
//!    mailbox already taken. So whoever receives a message finds a time for it, and there
//!    are no more times than places.
//! 2. Whoever receives messages takes out a time for each, in the same order. Shutdown
//!    messages have none: no dispatcher sends them.
//! 3. No user code runs under a lock.
//!
//! Two senders may add their times in one order and send in the other; then two messages
//! of the same moment have exchanged their times. A message that is put into a mailbox by
//! hand takes the time of the one behind it. The two queues agree again when both are empty.

use std::{
    cmp::Reverse,
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use crate::message_stats::{CurrentMessage, MessageStats, NamedStats};

/// What all replicas of one module, and those who send to it, share.
#[derive(Default)]
pub(crate) struct Timings {
    arrivals: Mutex<VecDeque<Instant>>,
    book: Mutex<Book>,
}

/// Says what a message is called.
pub(crate) type NameOf<M> = Arc<dyn Fn(&M) -> &'static str + Send + Sync>;

/// One worker's part: how it names its messages, and when it handles them.
pub(crate) struct Stopwatch<M> {
    name_of: NameOf<M>,
    timings: Arc<Timings>,
    worker: u64,
}

#[derive(Default)]
struct Book {
    names: Vec<NamedStats>,
    running: Vec<Running>,
    workers: u64,
}

/// A handler that runs: of a worker, at one of its desks if it has several.
struct Running {
    worker: u64,
    desk: usize,
    /// An index into the names.
    name: usize,
    since: Instant,
}

// === impl Timings ===

impl Timings {
    /// Notes that a message is about to be sent.
    #[cold]
    pub(crate) fn message_arrives(&self) {
        let now = Instant::now();
        lock(&self.arrivals).push_back(now);
    }

    /// When the message received next was accepted.
    #[cold]
    pub(crate) fn take_arrival(&self) -> Option<Instant> {
        lock(&self.arrivals).pop_front()
    }

    /// The part of one more worker.
    pub(crate) fn stopwatch<M>(self: &Arc<Self>, name_of: NameOf<M>) -> Stopwatch<M> {
        let mut book = lock(&self.book);
        book.workers += 1;
        Stopwatch {
            name_of,
            timings: Arc::clone(self),
            worker: book.workers,
        }
    }

    pub(crate) fn stats(&self) -> MessageStats {
        let now = Instant::now();
        let mut stats = MessageStats::default();
        {
            let book = lock(&self.book);
            let current = |one: &Running| CurrentMessage {
                name: book.names[one.name].name,
                age: now.saturating_duration_since(one.since),
            };
            stats.current = book.running.iter().map(current).collect();
            stats.by_name.clone_from(&book.names);
        }
        stats.current.sort_by_key(|one| Reverse(one.age));
        stats.by_name.sort_by_key(|one| one.name);
        stats
    }
}

// === impl Stopwatch ===

impl<M> Stopwatch<M> {
    /// What `message` is called. The user's code, which may panic.
    pub(crate) fn name(&self, message: &M) -> &'static str {
        (self.name_of)(message)
    }

    /// When the message received next was accepted.
    pub(crate) fn take_arrival(&self) -> Option<Instant> {
        self.timings.take_arrival()
    }

    /// Notes that the handler of `message` begins at `desk`, where none runs. Naming it may
    /// panic.
    #[cold]
    pub(crate) fn begin(&self, desk: usize, message: &M, arrived: Option<Instant>) {
        self.begin_named(desk, self.name(message), arrived);
    }

    /// As [`begin`](Self::begin), for a message whose name is known.
    #[cold]
    pub(crate) fn begin_named(&self, desk: usize, name: &'static str, arrived: Option<Instant>) {
        let now = Instant::now();
        let mut book = lock(&self.timings.book);
        let name = book.index_of(name);
        if let Some(arrived) = arrived {
            let waited = now.saturating_duration_since(arrived);
            book.names[name].waiting.add(waited);
        }
        book.running.push(Running {
            worker: self.worker,
            desk,
            name,
            since: now,
        });
    }

    /// Notes that the handler at `desk`, if one runs, has ended.
    #[cold]
    pub(crate) fn end(&self, desk: usize) {
        let now = Instant::now();
        lock(&self.timings.book).end(now, |one| one.worker == self.worker && one.desk == desk);
    }
}

impl<M> Drop for Stopwatch<M> {
    fn drop(&mut self) {
        // Its task may have been aborted while handlers ran.
        let now = Instant::now();
        lock(&self.timings.book).end(now, |one| one.worker == self.worker);
    }
}

// === impl Book ===

impl Book {
    fn index_of(&mut self, name: &'static str) -> usize {
        let known = |names: &[NamedStats], name| names.iter().position(|one| one.name == name);
        if let Some(index) = known(&self.names, name) {
            return index;
        }
        let name = if self.names.len() < NAMES_MAX {
            name
        } else {
            OTHER
        };
        known(&self.names, name).unwrap_or_else(|| {
            self.names.push(NamedStats::new(name));
            self.names.len() - 1
        })
    }

    fn end(&mut self, now: Instant, has_ended: impl Fn(&Running) -> bool) {
        let names = &mut self.names;
        self.running.retain(|one| {
            let ends = has_ended(one);
            if ends {
                names[one.name]
                    .handling
                    .add(now.saturating_duration_since(one.since));
            }
            !ends
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic runs under these locks; a poisoned one is still whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Beside [`OTHER`]: a name that is made up at run time must not fill the memory, nor a
/// metrics backend.
const NAMES_MAX: usize = 255;

const OTHER: &str = "(other)";
