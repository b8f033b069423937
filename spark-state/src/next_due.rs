//! A lower bound of when the next value of a store expires, so that nobody looks for expired values
//! where there are none.
//!
//! Invariants:
//!
//! 1. A writer lowers the mark while it holds the lock of the shard that its value is in.
//! 2. A sweep raises the mark to never before it looks into any shard, each under its lock, and
//!    lowers it to what it found there.
//!
//! So a value that a sweep did not see was locked in after the sweep had left its shard, and its
//! writer sees the raised mark, or what others made of it, and lowers it. That is why a writer may
//! read first, and write only if its own moment is earlier.

#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering};

pub(crate) struct NextDue(AtomicU64);

// === impl NextDue ===

impl NextDue {
    pub(crate) fn never() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// A value will expire `at`. Its shard is locked.
    pub(crate) fn lower(&self, at: u64) {
        if at < self.0.load(Ordering::Relaxed) {
            self.0.fetch_min(at, Ordering::Relaxed);
        }
    }

    /// A sweep begins: it is going to [`lower`](Self::lower) the mark to what it leaves.
    pub(crate) fn raise(&self) {
        self.0.store(u64::MAX, Ordering::Relaxed);
    }
}
