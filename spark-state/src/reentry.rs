//! Whether this thread runs a closure that a shard is locked for.
//!
//! Whoever comes back to a store from within such a closure would wait for a lock that the same
//! thread holds; from within the closure of another store, two threads could wait for each other.
//! Whether they do depends on which keys share a shard, so all of it is refused, always.

use std::cell::Cell;

use crate::StateError;

thread_local! {
    // `const`, and without a destructor: a check is one load.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, this thread is inside.
pub(crate) struct Inside(());

#[inline]
pub(crate) fn is_inside() -> bool {
    INSIDE.get()
}

/// Refuses whoever is inside.
#[inline]
pub(crate) fn check() -> Result<(), StateError> {
    if is_inside() {
        return Err(StateError::Reentrant);
    }
    Ok(())
}

/// As [`check`], for what has no error to return.
///
/// # Panics
///
/// Panics inside.
#[inline]
pub(crate) fn assert_outside() {
    assert!(
        !INSIDE.get(),
        "called from within the closure of an update, which holds a lock that this would wait for"
    );
}

// === impl Inside ===

impl Inside {
    /// `check` has passed, and a lock is held.
    pub(crate) fn enter() -> Self {
        INSIDE.set(true);
        Self(())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.set(false);
    }
}
