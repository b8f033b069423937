//! Atomic changes: none is lost, and what goes wrong in one changes nothing.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use spark_state::{Key, SharedState, StateError, StateValue, Version};

const HITS: Key<i64> = Key::new("hits");

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_increment_is_lost() {
    let state = SharedState::new();
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let state = state.clone();
            tokio::spawn(async move {
                for _ in 0..1_000 {
                    let done = if task % 2 == 0 {
                        state.increment(HITS, 1).map(drop)
                    } else {
                        state.update_or_insert(HITS, 0, |hits| *hits += 1)
                    };
                    done.expect("it is a number");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no task panics");
    }
    assert_eq!(state.get(HITS), Ok(64_000));
}

#[test]
fn of_racing_swaps_one_wins_each_version() {
    let state = SharedState::new();
    state.insert(HITS, 0).expect("there is room");
    let won = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..500 {
                    let now = state.get_versioned(HITS).expect("it is there");
                    match state.compare_and_swap(HITS, now.version, now.value + 1) {
                        Ok(_) => _ = won.fetch_add(1, Ordering::Relaxed),
                        Err(StateError::Conflict { expected, found }) => {
                            assert!(expected == now.version && found > expected);
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    let hits = state.get(HITS).expect("it is there");
    assert_eq!(u64::try_from(hits), Ok(won.into_inner()));
}

#[test]
fn of_racing_swaps_for_an_absent_key_one_wins() {
    let state = SharedState::new();
    let won = AtomicU64::new(0);
    thread::scope(|scope| {
        for candidate in 0..8_i64 {
            let (state, won) = (&state, &won);
            scope.spawn(move || {
                if state
                    .compare_and_swap("leader", Version::ABSENT, candidate)
                    .is_ok()
                {
                    won.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(won.into_inner(), 1);
}

#[test]
fn a_key_that_was_removed_does_not_get_an_old_version_again() {
    let state = SharedState::new();
    let mut last = Version::ABSENT;
    for round in 0..10_i64 {
        let version = state.insert("key", round).expect("there is room");
        assert!(version > last, "{version} after {last}");
        state
            .update("key", |n: &mut i64| *n += 1)
            .expect("it is there");
        last = state
            .get_versioned::<i64>("key")
            .expect("it is there")
            .version;
        let stale = state.compare_and_swap("key", version, 0_i64);
        assert!(matches!(stale, Err(StateError::Conflict { .. })));
        state.remove("key").expect("nothing is in the way");
    }
}

#[test]
fn a_swap_of_an_absent_key_expects_no_version() {
    let state = SharedState::new();
    let version = state.insert("key", 1_i64).expect("there is room");
    state.remove("key").expect("nothing is in the way");
    let swapped = state.compare_and_swap("key", version, 2_i64);
    let found = Version::ABSENT;
    assert_eq!(
        swapped,
        Err(StateError::Conflict {
            expected: version,
            found
        })
    );
    assert!(!state.contains("key"));
}

#[test]
fn a_panic_in_an_update_changes_nothing_and_blocks_nobody() {
    let state = SharedState::new();
    let version = state.insert(HITS, 1).expect("there is room");
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        state.update(HITS, |hits| {
            *hits = 99;
            panic!("in the middle");
        })
    }));
    assert!(panicked.is_err());
    let now = state.get_versioned(HITS).expect("it is there");
    assert_eq!((now.value, now.version), (1, version));
    // Every shard can be locked, by this thread and by others.
    let other = state.clone();
    thread::spawn(move || {
        for key in 0..1_000 {
            other.insert(key.to_string(), true).expect("there is room");
        }
    })
    .join()
    .expect("nothing is in the way");
    assert_eq!(state.update(HITS, |hits| *hits += 1), Ok(()));
    assert_eq!(state.get(HITS), Ok(2));
}

#[test]
fn an_error_in_an_update_changes_nothing() {
    let state = SharedState::new();
    let version = state.insert("left", 3_i64).expect("there is room");
    let refused = state.try_update("left", |left: &mut i64| -> eyre::Result<()> {
        *left -= 5;
        eyre::ensure!(*left >= 0, "sold out");
        Ok(())
    });
    assert_eq!(
        refused.expect_err("there are three").to_string(),
        "sold out"
    );
    let now = state.get_versioned::<i64>("left").expect("it is there");
    assert_eq!((now.value, now.version), (3, version));
}

#[test]
fn a_sum_that_does_not_fit_changes_nothing() {
    let state = SharedState::new();
    state.insert(HITS, i64::MAX).expect("there is room");
    assert_eq!(state.increment(HITS, 1), Err(StateError::Overflow));
    assert_eq!(state.get(HITS), Ok(i64::MAX));
}

#[test]
fn from_within_an_update_every_operation_is_refused() {
    let (state, other) = (SharedState::new(), SharedState::new());
    state.insert(HITS, 0).expect("there is room");
    state
        .insert("f", StateValue::function(|value| value))
        .expect("there is room");
    let reentrant = StateError::Reentrant;
    // Of the same key, of others, which may share its shard or not, and of another store.
    for state_within in [&state, &other] {
        for key in (0..100).map(|n| n.to_string()).chain(["hits".to_owned()]) {
            let refused = state.update(HITS, |_| {
                [
                    state_within.get::<i64>(&key).map(drop),
                    state_within.find::<i64>(&key).map(drop),
                    state_within.get_versioned::<i64>(&key).map(drop),
                    state_within.insert(&key, 1_i64).map(drop),
                    state_within.replace(&key, 1_i64).map(drop),
                    state_within.increment(&key, 1).map(drop),
                    state_within.update(&key, |_: &mut i64| ()),
                    state_within.update_or_insert(&key, 1_i64, |_| ()),
                    state_within.remove(&key).map(drop),
                    state_within.take::<i64>(&key).map(drop),
                    state_within.get_or_insert_with(&key, || 1_i64).map(drop),
                ]
            });
            for result in refused.expect("the update itself is fine") {
                assert_eq!(result, Err(reentrant.clone()));
            }
        }
    }
    assert_eq!((state.len(), other.len()), (2, 0));
}

#[test]
fn from_within_an_update_what_has_no_error_to_return_panics() {
    let state = SharedState::new();
    state.insert(HITS, 1).expect("there is room");
    let calls: [fn(&SharedState); 6] = [
        |state| _ = state.len(),
        |state| _ = state.keys(),
        |state| _ = state.contains("hits"),
        |state| _ = state.sweep(),
        |state| _ = state.stats(),
        |state| _ = state.clear(),
    ];
    for call in calls {
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            state.update(HITS, |hits| {
                *hits = 99;
                call(&state);
            })
        }));
        assert!(panicked.is_err());
        assert_eq!(state.get(HITS), Ok(1));
    }
}

/// Uses its store when it is dropped.
struct Meddler {
    state: SharedState,
}

impl Drop for Meddler {
    fn drop(&mut self) {
        for key in 0..100 {
            self.state
                .insert(key.to_string(), true)
                .expect("no lock is held");
        }
        self.state.increment("dropped", 1).expect("no lock is held");
    }
}

/// Does `forget` to a store with a value that uses the store when it is dropped.
#[track_caller]
fn check_dropped_unlocked(forget: impl FnOnce(&SharedState)) {
    let state = SharedState::builder().entries_max(200).build();
    let meddler = Arc::new(Meddler {
        state: state.clone(),
    });
    state.insert("meddler", meddler).expect("there is room");
    forget(&state);
    assert_eq!(state.get::<i64>("dropped"), Ok(1));
}

#[test]
fn values_are_dropped_where_no_lock_is_held() {
    check_dropped_unlocked(|state| _ = state.remove("meddler"));
    check_dropped_unlocked(|state| _ = state.insert("meddler", 1_i64));
    check_dropped_unlocked(|state| _ = state.take::<Arc<Meddler>>("meddler"));
    check_dropped_unlocked(|state| _ = state.take::<StateValue>("meddler"));
    check_dropped_unlocked(|state| _ = state.clear());
    check_dropped_unlocked(|state| {
        let replaced = state.update("meddler", |value: &mut StateValue| {
            *value = StateValue::None;
        });
        replaced.expect("it is there");
    });
}

#[test]
fn a_refused_value_is_dropped_where_no_lock_is_held() {
    let state = SharedState::new();
    state.insert("taken", 1_i64).expect("there is room");
    let meddler = Arc::new(Meddler {
        state: state.clone(),
    });
    let refused = state.compare_and_swap("taken", Version::ABSENT, meddler);
    assert!(matches!(refused, Err(StateError::Conflict { .. })));
    assert_eq!(state.get::<i64>("dropped"), Ok(1));
}

#[test]
fn what_a_panicking_update_leaves_is_dropped_where_no_lock_is_held() {
    let state = SharedState::new();
    state.insert("key", 1_i64).expect("there is room");
    let meddler = StateValue::any(Meddler {
        state: state.clone(),
    });
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        state.update("key", |value: &mut StateValue| {
            *value = meddler;
            panic!("in the middle");
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(state.get::<i64>("dropped"), Ok(1));
    assert_eq!(state.get::<i64>("key"), Ok(1));
}

#[test]
fn what_a_refused_update_returns_is_dropped_where_no_lock_is_held() {
    let (done, dropped) = mpsc::sync_channel(2);
    thread::spawn(move || {
        let state = SharedState::builder().bytes_max(100_000).build();
        state.insert("key", "short").expect("there is room");
        let meddler = Meddler {
            state: state.clone(),
        };
        let refused = state.update("key", |text: &mut String| {
            *text = "x".repeat(100_000);
            meddler
        });
        assert!(matches!(refused, Err(StateError::TooLarge { .. })));
        done.send(state.get::<i64>("dropped"))
            .expect("the test waits");
    });
    // A lock that is held would be waited for without end.
    let dropped = dropped.recv_timeout(Duration::from_secs(20));
    assert_eq!(dropped, Ok(Ok(1)));
}
