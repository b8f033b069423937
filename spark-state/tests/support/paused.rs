//! Runs a future on a clock that goes on only when it is told to.

use std::future::Future;

/// Returns what `future` does.
pub(crate) fn run<R>(future: impl Future<Output = R>) -> R {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime can be built")
        .block_on(future)
}
