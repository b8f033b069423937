//! A store keeps to its bounds, and counts what that costs.

use std::{sync::Arc, time::Duration};

use spark_state::{AtBound, Bound, Expiry, SharedState, StateError};

fn of_entries(entries: usize, at_bound: AtBound) -> SharedState {
    SharedState::builder()
        .entries_max(entries)
        .at_bound(at_bound)
        .build()
}

fn of_bytes(bytes: usize, at_bound: AtBound) -> SharedState {
    SharedState::builder()
        .bytes_max(bytes)
        .at_bound(at_bound)
        .build()
}

fn sorted_keys(state: &SharedState) -> Vec<String> {
    let mut keys = state.keys();
    keys.sort();
    keys
}

#[test]
fn a_full_store_refuses_new_keys_and_takes_new_values() {
    let state = of_entries(2, AtBound::Reject);
    state.insert("a", 1_i64).expect("there is room");
    state.insert("b", 1_i64).expect("there is room");
    let full = StateError::Full {
        bound: Bound::Entries,
    };
    assert_eq!(state.insert("c", 1_i64), Err(full.clone()));
    assert_eq!(state.increment("c", 1), Err(full.clone()));
    assert_eq!(state.get_or_insert_with("c", || 1_i64), Err(full));
    state.insert("a", 2_i64).expect("it is there");
    state.remove("b").expect("nothing is in the way");
    state.insert("c", 1_i64).expect("there is room again");
    assert_eq!(
        (sorted_keys(&state).join(""), state.stats().rejected),
        ("ac".to_owned(), 3)
    );
}

#[test]
fn bytes_are_counted_and_given_back() {
    let state = of_bytes(1_000, AtBound::Reject);
    state.insert("a", "x".repeat(500)).expect("there is room");
    let full = StateError::Full {
        bound: Bound::Bytes,
    };
    assert_eq!(state.insert("b", "x".repeat(300)), Err(full.clone()));
    let grown = state.update("a", |text: &mut String| text.push_str(&"x".repeat(400)));
    assert!(
        matches!(
            grown,
            Err(StateError::TooLarge {
                bytes_max: 1_000,
                ..
            })
        ),
        "{grown:?}"
    );
    state.insert("b", "x".repeat(10)).expect("there is room");
    let grown = state.update("a", |text: &mut String| text.push_str(&"x".repeat(200)));
    assert_eq!(grown, Err(full));
    assert_eq!(state.get::<String>("a").map(|text| text.len()), Ok(500));
    state.update("a", String::clear).expect("it shrinks");
    state
        .insert("b", "x".repeat(300))
        .expect("there is room again");
    assert_eq!(state.clear(), 2);
    assert_eq!((state.stats().bytes, state.stats().rejected), (Some(0), 3));
}

#[test]
fn what_could_never_fit_is_refused_at_once() {
    for at_bound in [AtBound::Reject, AtBound::EvictLeastRecentlyUsed] {
        let state = of_bytes(1_000, at_bound);
        state.insert("a", 1_i64).expect("there is room");
        let refused = state.insert("b", "x".repeat(1_000));
        assert!(
            matches!(refused, Err(StateError::TooLarge { .. })),
            "{refused:?}"
        );
        assert!(!refused.expect_err("it is too large").is_retryable());
        assert_eq!(
            (state.keys(), state.stats().evicted),
            (vec!["a".to_owned()], 0)
        );
    }
}

#[test]
fn the_least_recently_used_makes_room() {
    let state = of_entries(3, AtBound::EvictLeastRecentlyUsed);
    for key in ["a", "b", "c"] {
        state.insert(key, 1_i64).expect("there is room");
    }
    state.insert("d", 1_i64).expect("a makes room");
    state.get::<i64>("b").expect("it is there");
    state.insert("e", 1_i64).expect("c makes room");
    state.increment("d", 1).expect("it is there");
    state.insert("f", 1_i64).expect("b makes room");
    assert_eq!(sorted_keys(&state), ["d", "e", "f"]);
    assert_eq!(state.stats().evicted, 3);
}

#[test]
fn what_is_used_stays_also_among_many() {
    let state = of_entries(1_000, AtBound::EvictLeastRecentlyUsed);
    for n in 0..1_000 {
        state
            .insert(format!("cold/{n}"), 1_i64)
            .expect("there is room");
    }
    for n in 0..5_000 {
        for hot in 0..10 {
            state
                .get_or_insert_with(format!("hot/{hot}"), || 1_i64)
                .expect("it is a number");
        }
        state
            .insert(format!("new/{n}"), 1_i64)
            .expect("somebody makes room");
    }
    assert_eq!(state.keys_under("hot/").len(), 10);
    assert_eq!(state.len(), 1_000);
    // Ten of the hot ones and all the new ones came.
    assert_eq!(state.stats().evicted, 5_010);
}

#[test]
fn a_value_that_grows_makes_others_go() {
    let state = of_bytes(2_000, AtBound::EvictLeastRecentlyUsed);
    for key in ["a", "b", "c"] {
        state.insert(key, "x".repeat(400)).expect("there is room");
    }
    state
        .update("c", |text: &mut String| text.push_str(&"x".repeat(600)))
        .expect("a makes room");
    assert_eq!(sorted_keys(&state), ["b", "c"]);
    state.insert("c", "x".repeat(1_500)).expect("b makes room");
    assert_eq!(
        (sorted_keys(&state), state.stats().evicted),
        (vec!["c".to_owned()], 2)
    );
    assert!(state.stats().bytes.is_some_and(|bytes| bytes <= 2_000));
}

#[test]
fn an_operation_that_fails_evicts_nobody() {
    let state = of_bytes(1_000, AtBound::EvictLeastRecentlyUsed);
    let version = state.insert("a", "x".repeat(100)).expect("there is room");
    state.insert("b", "x".repeat(100)).expect("there is room");
    state.increment("a", 1).expect_err("it is no number");
    state.insert("a", "x".repeat(101)).expect("there is room");
    let late = state.compare_and_swap("a", version, "x".repeat(700));
    assert!(matches!(late, Err(StateError::Conflict { .. })));
    assert_eq!((state.len(), state.stats().evicted), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn what_has_expired_makes_room_before_anybody_else() {
    for at_bound in [AtBound::Reject, AtBound::EvictLeastRecentlyUsed] {
        let state = of_entries(2, at_bound);
        state.insert("old", 1_i64).expect("there is room");
        let short = Expiry::ttl(Duration::from_secs(1));
        state
            .insert_with("short", 1_i64, short)
            .expect("there is room");
        tokio::time::advance(Duration::from_secs(1)).await;
        state
            .insert("new", 1_i64)
            .expect("what has expired makes room");
        assert_eq!(sorted_keys(&state), ["new", "old"]);
        let stats = state.stats();
        assert_eq!((stats.expired, stats.evicted, stats.rejected), (1, 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_expired_is_not_why_a_value_may_not_grow() {
    let state = of_bytes(1_000, AtBound::Reject);
    let short = Expiry::ttl(Duration::from_secs(1));
    state
        .insert_with("short", "x".repeat(300), short)
        .expect("there is room");
    state.insert("a", "x".repeat(100)).expect("there is room");
    tokio::time::advance(Duration::from_secs(1)).await;
    let grown = state.update("a", |text: &mut String| text.push_str(&"x".repeat(600)));
    assert_eq!(grown, Ok(()));
}

#[test]
fn a_value_of_ones_own_counts_its_size() {
    let state = of_bytes(1_000, AtBound::Reject);
    let refused = state.insert("a", Arc::new([0_u8; 1_000]));
    assert!(matches!(refused, Err(StateError::TooLarge { .. })));
}

#[test]
fn bounds_hold_at_every_moment_however_writers_race() {
    for at_bound in [AtBound::Reject, AtBound::EvictLeastRecentlyUsed] {
        let state = SharedState::builder()
            .entries_max(50)
            .bytes_max(20_000)
            .at_bound(at_bound)
            .build();
        std::thread::scope(|scope| {
            for thread in 0..4_usize {
                let state = &state;
                scope.spawn(move || {
                    for n in 0..3_000_usize {
                        let key = ((n * 7 + thread) % 120).to_string();
                        match n % 5 {
                            0 => _ = state.remove(&key),
                            1 => _ = state.get::<String>(&key),
                            _ => _ = state.insert(&key, "x".repeat(n % 400)),
                        }
                        let stats = state.stats();
                        assert!(stats.entries <= 50, "{stats:?}");
                        assert!(stats.bytes <= Some(20_000), "{stats:?}");
                    }
                });
            }
        });
        assert!(state.stats().evicted + state.stats().rejected > 0);
        state.clear();
        assert_eq!(state.stats().bytes, Some(0));
    }
}

#[test]
fn values_that_grow_in_a_race_leave_the_bounds_kept() {
    let state = of_bytes(20_000, AtBound::EvictLeastRecentlyUsed);
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let state = &state;
            scope.spawn(move || {
                for n in 0..2_000_usize {
                    let key = ((n * 3 + thread) % 40).to_string();
                    let grow = |text: &mut String| text.push_str("xxxxxxxxxxxxxxxxxxxx");
                    state
                        .update_or_insert(&key, String::new(), grow)
                        .expect("others make room");
                    if n % 50 == 0 {
                        state.remove(&key).expect("nothing is in the way");
                    }
                }
            });
        }
    });
    let stats = state.stats();
    assert!(
        stats.bytes <= Some(20_000) && stats.evicted > 0,
        "{stats:?}"
    );
}

#[test]
fn a_store_that_evicts_is_full_for_nobody_however_writers_race() {
    for state in [
        of_entries(1, AtBound::EvictLeastRecentlyUsed),
        of_bytes(500, AtBound::EvictLeastRecentlyUsed),
    ] {
        std::thread::scope(|scope| {
            for thread in 0..4_usize {
                let state = &state;
                scope.spawn(move || {
                    for n in 0..5_000_usize {
                        let key = ((n + thread) % 7).to_string();
                        let written = state.insert(&key, "x".repeat(n % 300));
                        written.expect("somebody makes room");
                    }
                });
            }
        });
        let stats = state.stats();
        assert!(stats.rejected == 0 && stats.entries <= 3, "{stats:?}");
    }
}
