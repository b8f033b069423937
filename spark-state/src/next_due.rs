//! A lower bound of when the next value of a store expires, so that nobody looks for expired values
//! where there are none; and one sweep at a time.
//!
//! Invariants:
//!
//! 1. A writer lowers the mark while it holds the lock of the shard that its value is in.
//! 2. A sweep raises the mark to never before it looks into any shard, each under its lock, and
//!    lowers it to what it found there.
//! 3. The count of sweeps is odd from before a sweep raises the mark until after it has lowered it.
//!
//! So a value that a sweep did not see was locked in after the sweep had left its shard, and its
//! writer sees the raised mark, or what others made of it, and lowers it. That is why a writer may
//! read first, and write only if its own moment is earlier.
//!
//! During a sweep the mark says nothing: it is raised, and what the sweep has left is yet to be
//! noted. So whoever goes by it ([`unless_due`](NextDue::unless_due)) reads the count before and
//! after. If it is even and the same,
//!
//! * all that earlier sweeps have lowered is seen, because the first reading sees their end;
//! * no later sweep had raised the mark when it was read, because who sees that mark also sees, in
//!   the second reading, that its sweep has begun;
//! * and of every value that was found in a shard before the mark was read, its writer's lowering is
//!   seen, because the lock of the shard orders them.

#[cfg(not(loom))]
use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

#[cfg(loom)]
use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};
#[cfg(loom)]
use std::sync::PoisonError;

pub(crate) struct NextDue {
    mark: AtomicU64,
    /// Twice those that have ended, and one more while one is under way.
    sweeps: AtomicU64,
    turn: Mutex<()>,
}

/// A sweep that is under way.
#[must_use = "dropping it ends the sweep"]
pub(crate) struct Sweep<'a> {
    next_due: &'a NextDue,
    _turn: MutexGuard<'a, ()>,
}

// === impl NextDue ===

impl NextDue {
    pub(crate) fn never() -> Self {
        Self {
            mark: AtomicU64::new(u64::MAX),
            sweeps: AtomicU64::new(0),
            turn: Mutex::new(()),
        }
    }

    /// A value will expire `at`. Its shard is locked.
    pub(crate) fn lower(&self, at: u64) {
        if at < self.mark.load(Ordering::Relaxed) {
            self.mark.fetch_min(at, Ordering::Relaxed);
        }
    }

    /// Returns what `look` sees, if none of the values that it finds has expired by `now`, which is
    /// only called if any value is going to expire. `look` locks shards.
    pub(crate) fn unless_due<R>(
        &self,
        now: impl FnOnce() -> u64,
        look: impl FnOnce() -> R,
    ) -> Option<R> {
        let sweeps = self.sweeps.load(Ordering::Acquire);
        if !sweeps.is_multiple_of(2) {
            return None;
        }
        let seen = look();
        // It sees what a sweep did before it raised the mark, if this is that mark.
        let due = self.mark.load(Ordering::Acquire);
        if self.sweeps.load(Ordering::Relaxed) != sweeps {
            return None;
        }
        (due == u64::MAX || due > now()).then_some(seen)
    }

    /// Begins a sweep, if values may have expired by `now`: it is going to [`lower`](Self::lower)
    /// the mark to what it leaves. Waits for one that is under way.
    pub(crate) fn sweep(&self, now: u64) -> Option<Sweep<'_>> {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if self.mark.load(Ordering::Relaxed) > now {
            return None;
        }
        self.sweeps.fetch_add(1, Ordering::Relaxed);
        self.mark.store(u64::MAX, Ordering::Release);
        Some(Sweep {
            next_due: self,
            _turn: turn,
        })
    }
}

// === impl Sweep ===

impl Drop for Sweep<'_> {
    fn drop(&mut self) {
        self.next_due.sweeps.fetch_add(1, Ordering::Release);
    }
}
