//! The task that sweeps: it has an owner, and outlives neither it nor the store.

use std::{sync::Arc, time::Duration};

use spark_state::{AtBound, Change, Expiry, SharedState};
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

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("in a destructor");
    }
}

#[tokio::test(start_paused = true)]
async fn destructors_that_panic_end_neither_the_sweeping_nor_the_process() {
    let state = SharedState::new();
    let _sweeper = state.sweep_every(SECOND);
    for round in 1..=2 {
        for key in ["a", "b", "c"] {
            state
                .insert_with(key, Arc::new(Bomb), Expiry::ttl(SECOND))
                .expect("there is room");
        }
        let swept = timeout(10 * SECOND, async {
            while state.stats().expired != 3 * round {
                tokio::time::sleep(SECOND).await;
            }
        });
        swept.await.expect("it is swept");
    }
}

#[tokio::test(start_paused = true)]
async fn a_destructor_that_panics_is_no_affair_of_who_reads_or_makes_room() {
    let state = SharedState::builder()
        .entries_max(1)
        .at_bound(AtBound::EvictLeastRecentlyUsed)
        .build();
    state
        .insert_with("a", Arc::new(Bomb), Expiry::ttl(SECOND))
        .expect("there is room");
    tokio::time::advance(SECOND).await;
    assert_eq!(state.find::<i64>("a"), Ok(None));
    state.insert("b", Arc::new(Bomb)).expect("there is room");
    state.insert("c", 1_i64).expect("b makes room");
    assert_eq!(state.keys(), ["c"]);
}
