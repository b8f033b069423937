//! What a reader-writer module lets its callers see of its reads.
//!
//! Invariants:
//!
//! 1. A read runs at a desk. What `started` holds for its desk is written as the module's own
//!    `Slot::running` is, with the same fence and the same count of starts, and means
//!    the same; see [`control`](crate::control).
//! 2. The module writes `phase` before it looks for requests to refuse; a handler publishes
//!    its wait before it looks at `phase`, in its search for a circle. Both go
//!    through the lock of the same list of waits, so one of the two sees the other.

use std::{
    num::NonZeroUsize,
    sync::atomic::{AtomicU8, AtomicU64, Ordering},
};

use crate::callback::Stamp;

pub(crate) struct Readers {
    /// The stamp of the last call started at each desk but the first, which is the
    /// module's own slot.
    started: Box<[AtomicU64]>,
    phase: AtomicU8,
}

/// What the module is at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A write, a command or a hook runs, or nothing.
    Alone,
    /// Reads run, or nothing.
    Reading,
    /// As many reads run as may, and what is next waits for one of them.
    Full,
    /// Reads run, and a message that is to run alone waits for them.
    Awaited,
}

// === impl Readers ===

impl Readers {
    pub(crate) fn new(at_once: NonZeroUsize) -> Self {
        Self {
            started: (1..at_once.get()).map(|_| AtomicU64::new(0)).collect(),
            phase: AtomicU8::new(Phase::Alone as u8),
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

    /// Whether a read asked for now may start before all those that run have ended.
    pub(crate) fn are_open(&self) -> bool {
        self.at_once() > 1 && (self.is(Phase::Reading) || self.is(Phase::Full))
    }

    /// Whether a read asked for now waits for one of those that run.
    pub(crate) fn are_full(&self) -> bool {
        self.is(Phase::Full)
    }

    #[inline]
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    fn is(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Relaxed) == phase as u8
    }
}
