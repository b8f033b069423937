//! Functions that are values.

use spark_state::{SharedState, StateError, StateValue};

#[tokio::test]
async fn both_kinds_are_called_alike() {
    let state = SharedState::new();
    let double = |n: &StateValue| StateValue::from(n.get::<i64>().unwrap_or(0) * 2);
    state
        .insert("sync", StateValue::function(move |n| double(&n)))
        .expect("there is room");
    let later = StateValue::async_function(move |n| async move {
        tokio::task::yield_now().await;
        double(&n)
    });
    state.insert("async", later).expect("there is room");
    for name in ["sync", "async"] {
        assert_eq!(state.call(name, 21_i64).await, Ok(StateValue::Long(42)));
    }
}

#[tokio::test]
async fn a_panicking_function_is_one_callers_error() {
    let state = SharedState::new();
    state
        .insert("sync", StateValue::function(|_| panic!("secret")))
        .expect("there is room");
    let later = StateValue::async_function(|_| async { panic!("secret") });
    state.insert("async", later).expect("there is room");
    for name in ["sync", "async"] {
        let error = state.call(name, ()).await.expect_err("it panics");
        assert!(matches!(&error, StateError::Panicked { text } if &**text == "secret"));
        assert!(!error.to_string().contains("secret"));
    }
}

#[tokio::test]
async fn a_function_may_use_the_store_and_replace_itself() {
    let state = SharedState::new();
    let handle = state.clone();
    let once = StateValue::function(move |_| {
        let replaced = handle.insert("once", "done").is_ok();
        StateValue::from(replaced)
    });
    state.insert("once", once).expect("there is room");
    assert_eq!(state.call("once", ()).await, Ok(StateValue::Bool(true)));
    assert_eq!(state.get::<String>("once").as_deref(), Ok("done"));
}

#[tokio::test]
async fn what_is_no_function_is_not_called() {
    let state = SharedState::new();
    state.insert("n", 1_i64).expect("there is room");
    let (key, found) = ("n".into(), "long");
    assert_eq!(
        state.call("n", ()).await,
        Err(StateError::NotAFunction { key, found })
    );
    assert!(matches!(
        state.call("m", ()).await,
        Err(StateError::Missing { .. })
    ));
}

/// Panics when it is dropped.
struct Fuse;

impl Drop for Fuse {
    fn drop(&mut self) {
        panic!("fuse");
    }
}

#[tokio::test]
async fn whatever_a_function_leaves_behind_may_panic_too() {
    let state = SharedState::new();
    let thrown = StateValue::function(|_| std::panic::panic_any(Fuse));
    let dropped = StateValue::async_function(|value| {
        let fuse = Fuse;
        std::future::poll_fn(move |_| {
            let _held = &fuse;
            std::task::Poll::Ready(value.clone())
        })
    });
    state.insert("thrown", thrown).expect("there is room");
    state.insert("dropped", dropped).expect("there is room");
    for key in ["thrown", "dropped"] {
        let called = state.call(key, ()).await;
        assert!(matches!(called, Err(StateError::Panicked { .. })), "{key}");
    }
}
