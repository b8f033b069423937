//! User code that runs on the stack of somebody who has nothing to do with it: a destructor of a
//! value that has expired or was evicted, a watcher's waker.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs it. If it panics, that ends here; the panic hook has told.
pub(crate) fn contain(run: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(run))
        // What it panicked with may panic in turn.
        && let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic)))
    {
        Box::leak(again);
    }
}
