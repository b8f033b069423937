//! What a reader-writer module lets its callers see of its reads.
//!
//! Invariants:
//!
//! 1. A read runs at a desk. What `started` holds for its desk is written as the module's own
//!    `Slot::running` is, with the same fence and the same count of starts, and means
//!    the same; see [`control`](crate::control).
//! 2. The module writes `phase` before it takes `waiting`; a request goes into `waiting`
//!    before it looks at `phase`, through the search for a circle. So one of the two sees
//!    the other.

use std::{
    num::NonZeroUsize,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    task::Waker,
};

use crate::callback::Stamp;

pub(crate) struct Readers {
    /// The stamp of the last call started at each desk but the first, which is the
    /// module's own slot.
    started: Box<[AtomicU64]>,
    phase: AtomicU8,
    /// Requests, made by handlers, that wait for room in the mailbox.
    waiting: Mutex<Vec<Waker>>,
    any_waiting: AtomicBool,
}

/// What the module is at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A write, a command or a hook runs, or nothing.
    Alone,
    Reading,
    /// Reads run, and a message that is to run alone waits for them.
    Awaited,
}

// === impl Readers ===

impl Readers {
    pub(crate) fn new(at_once: NonZeroUsize) -> Self {
        Self {
            started: (1..at_once.get()).map(|_| AtomicU64::new(0)).collect(),
            phase: AtomicU8::new(Phase::Alone as u8),
            waiting: Mutex::default(),
            any_waiting: AtomicBool::new(false),
        }
    }

    /// How many reads may run at once.
    pub(crate) fn at_once(&self) -> usize {
        self.started.len() + 1
    }

    /// Where the stamp of a call started at `desk`, which is not the first, is published.
    pub(crate) fn started_at(&self, desk: usize) -> &AtomicU64 {
        &self.started[desk - 1]
    }

    /// Whether `call` was the last one started at a desk other than the first.
    pub(crate) fn has_started(&self, call: Stamp) -> bool {
        let is_call = |started: &AtomicU64| started.load(Ordering::Acquire) == call.to_raw();
        self.started.iter().any(is_call)
    }

    /// Whether a read asked for now may start beside those that run.
    pub(crate) fn are_open(&self) -> bool {
        self.at_once() > 1 && self.phase.load(Ordering::Relaxed) == Phase::Reading as u8
    }

    #[inline]
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        match phase {
            Phase::Awaited => self.wake_waiting(),
            // Nobody depends on it: only lest those that have gone are kept.
            Phase::Alone if self.any_waiting.load(Ordering::Relaxed) => self.wake_waiting(),
            Phase::Alone | Phase::Reading => {}
        }
    }

    /// Wakes `waker` when the [phase](Self::enter) may have changed.
    #[cold]
    pub(crate) fn register(&self, waker: &Waker) {
        let mut waiting = self.waiting();
        if !waiting.iter().any(|known| known.will_wake(waker)) {
            waiting.push(waker.clone());
        }
        self.any_waiting.store(true, Ordering::Relaxed);
    }

    #[cold]
    fn wake_waiting(&self) {
        let waiting = {
            let mut waiting = self.waiting();
            self.any_waiting.store(false, Ordering::Relaxed);
            std::mem::take(&mut *waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waker>> {
        // Nothing that can panic runs under it but an allocation; a poisoned one is whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
