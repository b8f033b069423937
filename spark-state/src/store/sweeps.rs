//! One sweep at a time.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

/// Who sweeps has a turn; whether anybody does can be seen without one.
#[derive(Default)]
pub(super) struct Sweeps {
    turn: Mutex<()>,
    under_way: AtomicBool,
}

/// A sweep's turn.
pub(super) struct Turn<'a> {
    sweeps: &'a Sweeps,
    _turn: MutexGuard<'a, ()>,
}

// === impl Sweeps ===

impl Sweeps {
    pub(super) fn begin(&self) -> Turn<'_> {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.under_way.store(true, Ordering::SeqCst);
        Turn {
            sweeps: self,
            _turn: turn,
        }
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.load(Ordering::SeqCst)
    }
}

// === impl Turn ===

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.sweeps.under_way.store(false, Ordering::SeqCst);
    }
}
