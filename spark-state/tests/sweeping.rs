//! The task that sweeps: it has an owner, and outlives neither it nor the store.

use std::time::Duration;

use spark_state::{Change, Expiry, SharedState};
use tokio::time::timeout;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn what_has_expired_goes_without_being_asked_for() {
    let state = SharedState::new();
    let mut events = state.subscribe("", 4);
    let sweeper = state.sweep_every(10 * SECOND);
    state
        .insert_with("key", 1_i64, Expiry::ttl(SECOND))
        .expect("there is room");
    events.recv().await.expect("it was inserted");
    let gone = timeout(11 * SECOND, events.recv())
        .await
        .expect("it is swept");
    assert_eq!(gone.map(|event| event.change()), Ok(Change::Expired));
    assert_eq!(state.stats().entries, 0);
    sweeper.stop().await;
}

#[tokio::test(start_paused = true)]
async fn dropping_the_sweeper_or_the_store_ends_the_task() {
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let state = SharedState::new();
    drop(state.sweep_every(SECOND));
    let _kept = state.sweep_every(SECOND);
    drop(state);
    timeout(10 * SECOND, async {
        while tasks() != 0 {
            tokio::time::sleep(SECOND).await;
        }
    })
    .await
    .expect("both end");
}
