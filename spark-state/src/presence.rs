//! Whether anybody listens to changes of a store: all that a change costs when nobody does.
//!
//! Invariants:
//!
//! 1. A listener enters before it reads a value for the first time, under the lock of its shard.
//! 2. A writer looks while it holds that lock, after it has written.
//!
//! So either the listener's first reading sees what was written, or the lock was given to the writer
//! after the listener, and then the writer sees the listener. The lock orders both; the count
//! needs no order of its own.

#[cfg(not(loom))]
use std::sync::atomic::{AtomicUsize, Ordering};

#[cfg(loom)]
use loom::sync::atomic::{AtomicUsize, Ordering};

pub(crate) struct Presence(AtomicUsize);

// === impl Presence ===

impl Presence {
    pub(crate) fn nobody() -> Self {
        Self(AtomicUsize::new(0))
    }

    #[inline]
    pub(crate) fn anybody(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    pub(crate) fn enter(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn leave(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
