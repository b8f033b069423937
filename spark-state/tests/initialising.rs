//! One initialiser at a time for each key, and the next one's turn when it comes to nothing.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use spark_state::{SharedState, StateError};
use tokio::{sync::Semaphore, time::timeout};
use tokio_test::{assert_pending, task};

#[derive(Debug, PartialEq, thiserror::Error)]
enum InitError {
    #[error("no luck")]
    NoLuck,
    #[error(transparent)]
    State(#[from] StateError),
}

async fn bounded<T>(future: impl Future<Output = T>) -> T {
    let done = timeout(Duration::from_secs(20), future).await;
    done.expect("it ends")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_contention_one_initialiser_runs() {
    let state = SharedState::new();
    let runs = std::sync::Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..64)
        .map(|task: i64| {
            let (state, runs) = (state.clone(), runs.clone());
            tokio::spawn(async move {
                let init = || async {
                    runs.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    Ok::<_, InitError>(task)
                };
                state.get_or_try_init("key", init).await
            })
        })
        .collect();
    let mut values = Vec::new();
    for task in tasks {
        values.push(
            bounded(task)
                .await
                .expect("no task panics")
                .expect("it succeeds"),
        );
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert!(values.iter().all(|value| *value == values[0]));
}

#[tokio::test]
async fn after_a_failure_the_next_ones_turn_comes() {
    let state = SharedState::new();
    let gate = Semaphore::new(0);
    let mut first = task::spawn(state.get_or_try_init("key", || async {
        gate.acquire().await.expect("it is open").forget();
        Err::<i64, _>(InitError::NoLuck)
    }));
    assert_pending!(first.poll());
    let mut second = task::spawn(state.get_or_try_init("key", || async { Ok::<_, InitError>(2) }));
    assert_pending!(second.poll());

    gate.add_permits(1);
    assert_eq!(bounded(first).await, Err(InitError::NoLuck));
    assert!(second.is_woken());
    assert_eq!(bounded(second).await, Ok(2_i64));
}

#[tokio::test]
async fn after_a_cancellation_the_next_ones_turn_comes() {
    let state = SharedState::new();
    let mut first = task::spawn(state.get_or_try_init("key", || async {
        std::future::pending::<()>().await;
        Ok::<_, InitError>(1_i64)
    }));
    assert_pending!(first.poll());
    let mut second = task::spawn(state.get_or_try_init("key", || async { Ok::<_, InitError>(2) }));
    assert_pending!(second.poll());

    drop(first);
    assert!(second.is_woken());
    assert_eq!(bounded(second).await, Ok(2));
}

#[tokio::test]
async fn after_a_panic_the_next_ones_turn_comes() {
    let state = SharedState::new();
    let panicking = {
        let state = state.clone();
        tokio::spawn(async move {
            let init = || async { panic!("in the middle") };
            state
                .get_or_try_init::<i64, InitError, _, _>("key", init)
                .await
        })
    };
    assert!(bounded(panicking).await.expect_err("it panics").is_panic());
    let second = state.get_or_try_init("key", || async { Ok::<_, InitError>(2_i64) });
    assert_eq!(bounded(second).await, Ok(2));
}

#[tokio::test]
async fn a_waiter_that_leaves_does_not_take_the_turn_with_it() {
    let state = SharedState::new();
    let gate = Semaphore::new(0);
    let mut first = task::spawn(state.get_or_try_init("key", || async {
        gate.acquire().await.expect("it is open").forget();
        Err::<i64, _>(InitError::NoLuck)
    }));
    assert_pending!(first.poll());
    let mut leaving = task::spawn(state.get_or_try_init("key", || async { Ok::<_, InitError>(2) }));
    assert_pending!(leaving.poll());
    let mut third = task::spawn(state.get_or_try_init("key", || async { Ok::<_, InitError>(3) }));
    assert_pending!(third.poll());

    gate.add_permits(1);
    assert_eq!(bounded(first).await, Err(InitError::NoLuck));
    drop(leaving);
    assert_eq!(bounded(third).await, Ok(3_i64));
}

#[tokio::test]
async fn a_value_that_somebody_inserts_meanwhile_is_everybodys() {
    let state = SharedState::new();
    let gate = Semaphore::new(0);
    let mut first = task::spawn(state.get_or_try_init("key", || async {
        gate.acquire().await.expect("it is open").forget();
        Ok::<_, InitError>(1_i64)
    }));
    assert_pending!(first.poll());
    state
        .insert("key", 9_i64)
        .expect("nothing is locked meanwhile");
    gate.add_permits(1);
    assert_eq!(bounded(first).await, Ok(9));
}

#[tokio::test]
async fn an_initialiser_may_use_the_store_and_initialise_other_keys() {
    let state = SharedState::new();
    let value = state.get_or_try_init("sum", || async {
        let one = state
            .get_or_try_init("one", || async { Ok::<_, InitError>(1_i64) })
            .await?;
        Ok::<_, InitError>(one + state.get_or_insert_with("two", || 2_i64)?)
    });
    assert_eq!(bounded(value).await, Ok(3));
}

#[tokio::test]
async fn an_initialiser_that_wants_its_own_key_fails_instead_of_waiting() {
    let state = SharedState::new();
    let inner = || async { Ok::<i64, InitError>(1) };
    let middle = || async { state.get_or_try_init("a", inner).await };
    let outer = state.get_or_try_init("a", || async { state.get_or_try_init("b", middle).await });
    assert_eq!(
        bounded(outer).await,
        Err(InitError::State(StateError::Reentrant))
    );
    let other_store = SharedState::new();
    let same_name_elsewhere =
        state.get_or_try_init("a", || other_store.get_or_try_init("a", inner));
    assert_eq!(bounded(same_name_elsewhere).await, Ok(1));
}

#[test]
fn a_value_made_by_several_at_once_is_one_value() {
    let state = SharedState::new();
    let values = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8_i64)
            .map(|thread| {
                scope.spawn({
                    let state = &state;
                    move || state.get_or_insert_with("key", || thread)
                })
            })
            .collect();
        let values = threads
            .into_iter()
            .map(|thread| thread.join().expect("no thread panics"));
        values.collect::<Vec<_>>()
    });
    assert!(values.iter().all(|value| *value == state.get("key")));
}
