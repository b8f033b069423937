//! Watchers see the last value, and hold up nobody.

use std::{
    sync::Arc,
    task::{Context, Wake, Waker},
    time::Duration,
};

use spark_state::{Expiry, SharedState, StateError, Watch};
use tokio::time::timeout;
use tokio_test::{assert_pending, assert_ready, task};

async fn next(watch: &mut Watch<i64>) -> Result<Option<i64>, StateError> {
    let changed = timeout(Duration::from_secs(20), watch.changed()).await;
    changed.expect("there is something to see")
}

#[track_caller]
fn check_quiet(watch: &mut Watch<i64>) {
    let mut changed = task::spawn(watch.changed());
    assert_pending!(changed.poll());
}

#[tokio::test]
async fn the_current_value_comes_first_then_each_later_one() {
    let state = SharedState::new();
    state.insert("n", 1_i64).expect("there is room");
    let mut watch = state.watch("n");
    assert_eq!(next(&mut watch).await, Ok(Some(1)));
    check_quiet(&mut watch);
    state.increment("n", 1).expect("it is a number");
    assert_eq!(next(&mut watch).await, Ok(Some(2)));
    state.remove("n").expect("nothing is in the way");
    assert_eq!(next(&mut watch).await, Ok(None));
    check_quiet(&mut watch);
}

#[tokio::test]
async fn of_what_a_slow_watcher_missed_it_sees_the_last() {
    let state = SharedState::new();
    let mut watch = state.watch("n");
    assert_eq!(next(&mut watch).await, Ok(None));
    for n in 1..=1_000_i64 {
        state.insert("n", n).expect("there is room");
    }
    assert_eq!(next(&mut watch).await, Ok(Some(1_000)));
    check_quiet(&mut watch);
}

#[tokio::test]
async fn a_waiting_watcher_is_woken_by_every_kind_of_write() {
    let writes: [fn(&SharedState); 7] = [
        |state| _ = state.insert("n", 2_i64).expect("there is room"),
        |state| _ = state.replace("n", 2_i64).expect("it is a number"),
        |state| _ = state.increment("n", 1).expect("it is a number"),
        |state| {
            state
                .update("n", |n: &mut i64| *n += 1)
                .expect("it is a number");
        },
        |state| _ = state.remove("n").expect("nothing is in the way"),
        |state| _ = state.take::<i64>("n").expect("it is a number"),
        |state| _ = state.clear(),
    ];
    for write in writes {
        let state = SharedState::new();
        state.insert("n", 1_i64).expect("there is room");
        let mut watch = state.watch::<i64>("n");
        assert_eq!(next(&mut watch).await, Ok(Some(1)));
        let mut changed = task::spawn(watch.changed());
        assert_pending!(changed.poll());
        write(&state);
        assert!(changed.is_woken());
        let after = state.find("n").expect("it is a number");
        assert_eq!(assert_ready!(changed.poll()), Ok(after));
    }
}

#[tokio::test]
async fn a_write_to_another_key_wakes_nobody() {
    let state = SharedState::new();
    let mut watch = state.watch::<i64>("n");
    assert_eq!(next(&mut watch).await, Ok(None));
    let mut changed = task::spawn(watch.changed());
    assert_pending!(changed.poll());
    state.insert("m", 1_i64).expect("there is room");
    assert!(!changed.is_woken());
}

#[tokio::test(start_paused = true)]
async fn a_watcher_sees_a_value_expire_without_a_sweep() {
    let state = SharedState::new();
    let short = Expiry::ttl(Duration::from_secs(5));
    state.insert_with("n", 1_i64, short).expect("there is room");
    let mut watch = state.watch("n");
    assert_eq!(next(&mut watch).await, Ok(Some(1)));
    let before = tokio::time::Instant::now();
    assert_eq!(next(&mut watch).await, Ok(None));
    let waited = before.elapsed();
    assert!((5_000..5_010).contains(&waited.as_millis()), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_value_that_lives_on_by_being_read_is_not_reported_gone() {
    let state = SharedState::new();
    let idle = Expiry::idle(Duration::from_secs(5));
    state.insert_with("n", 1_i64, idle).expect("there is room");
    let mut watch = state.watch("n");
    assert_eq!(next(&mut watch).await, Ok(Some(1)));
    for _ in 0..3 {
        let still_there = timeout(Duration::from_secs(4), watch.changed()).await;
        still_there.expect_err("it was read less than five seconds ago");
        assert_eq!(state.get("n"), Ok(1_i64));
    }
    assert_eq!(next(&mut watch).await, Ok(None));
}

#[tokio::test]
async fn a_value_of_another_type_is_an_error_and_the_watch_goes_on() {
    let state = SharedState::new();
    state.insert("n", "one").expect("there is room");
    let mut watch = state.watch("n");
    assert!(matches!(
        next(&mut watch).await,
        Err(StateError::WrongType { .. })
    ));
    check_quiet(&mut watch);
    state.insert("n", 1_i64).expect("there is room");
    assert_eq!(next(&mut watch).await, Ok(Some(1)));
}

#[tokio::test]
async fn a_watch_ends_with_its_store() {
    let state = SharedState::new();
    let mut watch = state.watch::<i64>("n");
    assert_eq!(next(&mut watch).await, Ok(None));
    let mut changed = task::spawn(watch.changed());
    assert_pending!(changed.poll());
    drop(state.clone());
    assert!(!changed.is_woken());
    drop(state);
    assert!(changed.is_woken());
    assert_eq!(assert_ready!(changed.poll()), Err(StateError::Closed));
}

#[tokio::test]
async fn a_watch_that_is_dropped_leaves_nothing_behind() {
    let state = SharedState::new();
    let watches: Vec<_> = (0..10).map(|_| state.watch::<i64>("n")).collect();
    let subscription = state.subscribe("", 1);
    assert_eq!(state.stats().listeners, 11);
    drop((watches, subscription));
    assert_eq!(state.stats().listeners, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_watcher_ends_with_the_last_value_however_writers_race() {
    const WRITES: i64 = 2_000;
    let state = SharedState::new();
    let watchers: Vec<_> = (0..4)
        .map(|_| {
            let mut watch = state.watch::<i64>("n");
            tokio::spawn(async move {
                let mut last = 0;
                while last < 2 * WRITES {
                    let value = next(&mut watch).await.expect("it is a number");
                    let value = value.unwrap_or(0);
                    assert!(value >= last, "{value} after {last}");
                    last = value;
                }
            })
        })
        .collect();
    let writers: Vec<_> = (0..2)
        .map(|_| {
            let state = state.clone();
            tokio::spawn(async move {
                for _ in 0..WRITES {
                    state.increment("n", 1).expect("it is a number");
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for task in writers.into_iter().chain(watchers) {
        task.await.expect("no task panics");
    }
}

#[test]
fn a_waker_that_panics_is_no_affair_of_the_writer_or_of_other_watchers() {
    struct Bomb;
    impl Wake for Bomb {
        fn wake(self: Arc<Self>) {
            panic!("in a waker");
        }
    }
    let state = SharedState::new();
    let bomb = Waker::from(Arc::new(Bomb));
    let mut panicking = state.watch::<i64>("n");
    let mut other = state.watch::<i64>("n");
    for watch in [&mut panicking, &mut other] {
        let first = watch.poll_changed(&mut Context::from_waker(Waker::noop()));
        assert_ready!(first).expect("nothing is there");
    }
    assert_pending!(panicking.poll_changed(&mut Context::from_waker(&bomb)));
    let mut changed = task::spawn(other.changed());
    assert_pending!(changed.poll());
    state.insert("n", 1_i64).expect("there is room");
    assert!(changed.is_woken());
}

#[test]
fn a_watcher_that_is_asked_within_an_update_misses_nothing() {
    let state = SharedState::new();
    state.insert("n", 1_i64).expect("there is room");
    let mut watch = state.watch::<i64>("n");
    let mut cx = Context::from_waker(Waker::noop());
    let other = SharedState::new();
    other.insert("m", 1_i64).expect("there is room");
    let within = other.update("m", |_: &mut i64| watch.poll_changed(&mut cx));
    let within = within.expect("the update itself is fine");
    assert_eq!(assert_ready!(within), Err(StateError::Reentrant));
    assert_eq!(assert_ready!(watch.poll_changed(&mut cx)), Ok(Some(1)));
}
