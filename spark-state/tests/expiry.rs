//! Expired values are not seen, whatever the sweep has done.

use std::{sync::mpsc, time::Duration};

use spark_state::{Expiry, SharedState, StateError, StateValue, Version};
use tokio::time::advance;

const SECOND: Duration = Duration::from_secs(1);

fn with(expiry: Expiry) -> SharedState {
    let state = SharedState::new();
    state
        .insert_with("key", 1_i64, expiry)
        .expect("there is room");
    state
}

#[tokio::test(start_paused = true)]
async fn a_value_is_there_until_its_time_and_not_after() {
    let state = with(Expiry::ttl(10 * SECOND));
    advance(Duration::from_nanos(9_999_999_999)).await;
    assert_eq!(state.get::<i64>("key"), Ok(1));
    advance(Duration::from_nanos(1)).await;
    assert_eq!(state.find::<i64>("key"), Ok(None));
}

#[tokio::test(start_paused = true)]
async fn no_operation_sees_an_expired_value() {
    let missing = || StateError::Missing { key: "key".into() };
    let operations: [fn(&SharedState) -> bool; 12] = [
        |state| state.get::<i64>("key").is_err(),
        |state| state.find::<i64>("key") == Ok(None),
        |state| state.get_versioned::<i64>("key").is_err(),
        |state| !state.contains("key"),
        |state| state.keys().is_empty(),
        |state| state.is_empty(),
        |state| state.remove("key") == Ok(false),
        |state| state.take::<i64>("key") == Ok(None),
        |state| state.replace("key", 2_i64) == Ok(None),
        |state| state.increment("key", 5) == Ok(5),
        |state| state.get_or_insert_with("key", || 7_i64) == Ok(7),
        |state| {
            state
                .compare_and_swap("key", Version::ABSENT, 7_i64)
                .is_ok()
        },
    ];
    for (index, operation) in operations.into_iter().enumerate() {
        let state = with(Expiry::ttl(SECOND));
        advance(SECOND).await;
        assert!(operation(&state), "operation {index}");
    }
    let state = with(Expiry::ttl(SECOND));
    advance(SECOND).await;
    assert_eq!(state.update("key", |_: &mut i64| ()), Err(missing()));
    let async_init = state.get_or_try_init("key", || async { Ok::<_, StateError>(9_i64) });
    assert_eq!(async_init.await, Ok(9));
}

#[tokio::test(start_paused = true)]
async fn an_expired_value_is_in_nobodys_way() {
    let state = SharedState::new();
    state
        .insert_with("key", "text", Expiry::ttl(SECOND))
        .expect("there is room");
    advance(SECOND).await;
    assert_eq!(state.increment("key", 1), Ok(1));
    advance(100 * SECOND).await;
    assert_eq!(state.get::<i64>("key"), Ok(1));
}

#[tokio::test(start_paused = true)]
async fn reading_and_changing_keep_an_idle_value_alive_and_looking_does_not() {
    let state = with(Expiry::idle(10 * SECOND));
    for _ in 0..5 {
        advance(9 * SECOND).await;
        assert_eq!(state.get::<i64>("key"), Ok(1));
        advance(9 * SECOND).await;
        state.update("key", |_: &mut i64| ()).expect("it is there");
        advance(9 * SECOND).await;
        state.increment("key", 0).expect("it is there");
    }
    advance(9 * SECOND).await;
    assert!(state.contains("key"));
    assert_eq!(state.keys(), ["key"]);
    advance(SECOND).await;
    assert!(!state.contains("key"));
}

#[tokio::test(start_paused = true)]
async fn the_earlier_of_two_ends_a_life() {
    let state = with(Expiry::ttl(15 * SECOND).and_idle(10 * SECOND));
    advance(9 * SECOND).await;
    assert_eq!(state.get::<i64>("key"), Ok(1));
    advance(6 * SECOND).await;
    assert_eq!(state.find::<i64>("key"), Ok(None));
}

#[tokio::test(start_paused = true)]
async fn an_update_keeps_the_end_and_an_insert_begins_anew() {
    let state = with(Expiry::ttl(10 * SECOND));
    advance(6 * SECOND).await;
    state
        .update("key", |n: &mut i64| *n = 2)
        .expect("it is there");
    advance(4 * SECOND).await;
    assert!(!state.contains("key"));

    let state = with(Expiry::ttl(10 * SECOND));
    state.insert("key", 2_i64).expect("there is room");
    advance(100 * SECOND).await;
    assert_eq!(state.get::<i64>("key"), Ok(2));
}

#[tokio::test(start_paused = true)]
async fn a_common_expiry_holds_for_values_without_one_of_their_own() {
    let state = SharedState::builder().expiry(Expiry::ttl(SECOND)).build();
    state.insert("short", true).expect("there is room");
    state.increment("counted", 1).expect("there is room");
    state
        .insert_with("long", true, Expiry::never())
        .expect("there is room");
    advance(SECOND).await;
    assert_eq!(state.keys(), ["long"]);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_removes_what_has_expired_and_counts_it_once() {
    let state = SharedState::new();
    for n in 1..=10_u32 {
        state
            .insert_with(n.to_string(), true, Expiry::ttl(n * SECOND))
            .expect("there is room");
    }
    state.insert("stays", true).expect("there is room");
    assert_eq!(state.sweep(), 0);
    advance(4 * SECOND).await;
    assert!(!state.contains("1"));
    assert_eq!((state.len(), state.stats().entries), (7, 10));
    assert_eq!(state.sweep(), 3);
    assert_eq!((state.sweep(), state.stats().entries), (0, 7));
    advance(100 * SECOND).await;
    assert_eq!(state.sweep(), 6);
    assert_eq!(state.stats().expired, 10);
    assert_eq!(state.keys(), ["stays"]);
}

#[tokio::test(start_paused = true)]
async fn a_life_without_end_may_be_given_as_a_duration() {
    let state = with(Expiry::ttl(Duration::MAX).and_idle(Duration::MAX));
    advance(Duration::from_secs(3600 * 24 * 365 * 20)).await;
    assert_eq!(state.get::<i64>("key"), Ok(1));
    assert_eq!(state.sweep(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_value_that_never_lives_is_never_seen() {
    let state = with(Expiry::ttl(Duration::ZERO));
    assert_eq!(state.find::<StateValue>("key"), Ok(None));
}

#[test]
fn an_update_of_what_expires_at_once_ends() {
    let (done, ended) = mpsc::sync_channel(2);
    std::thread::spawn(move || {
        for bound in [None, Some(10)] {
            let mut builder = SharedState::builder().expiry(Expiry::ttl(Duration::ZERO));
            if let Some(entries) = bound {
                builder = builder.entries_max(entries);
            }
            let state = builder.build();
            let updated = state.update_or_insert("key", 1_i64, |n| *n += 1);
            done.send((updated, state.increment("key", 1)))
                .expect("the test waits");
        }
    });
    let missing = StateError::Missing { key: "key".into() };
    for _ in 0..2 {
        let ended = ended.recv_timeout(20 * SECOND);
        assert_eq!(ended, Ok((Err(missing.clone()), Ok(1))));
    }
}
