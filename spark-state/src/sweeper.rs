//! Sweeping from time to time.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use crate::{SharedState, store::Store};

/// Sweeps a store from time to time, on a task of its own: what [`SharedState::sweep_every`]
/// returns.
///
/// The task ends with the store, and when this is dropped.
#[must_use = "dropping it ends the sweeping"]
pub struct Sweeper {
    task: JoinHandle<()>,
}

// === impl SharedState ===

impl SharedState {
    /// Starts to [sweep](Self::sweep) the store, the first time after one `period`.
    ///
    /// Only memory is at stake: an expired value is not seen anyway.
    ///
    /// ```
    /// use std::time::Duration;
    /// use spark_state::SharedState;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let state = SharedState::new();
    /// let sweeper = state.sweep_every(Duration::from_secs(30));
    /// // ...
    /// sweeper.stop().await;
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with a timer, and if `period` is zero.
    pub fn sweep_every(&self, period: Duration) -> Sweeper {
        assert!(!period.is_zero(), "a period takes time");
        let store = Arc::downgrade(&self.store);
        Sweeper {
            task: tokio::spawn(sweep_while_there(store, period)),
        }
    }
}

// === impl Sweeper ===

impl Sweeper {
    /// Ends the task and waits for it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the task ends all the same.
    pub async fn stop(mut self) {
        self.task.abort();
        // Cancelled is how it ends.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Sweeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sweeper").finish_non_exhaustive()
    }
}

async fn sweep_while_there(store: Weak<Store>, period: Duration) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first one comes at once.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        match store.upgrade() {
            Some(store) => _ = store.sweep(),
            None => return,
        }
    }
}
