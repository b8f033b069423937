//! What goes in comes out, by type and by key.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use spark_state::{Key, Kind, SharedState, StateError, StateType, StateValue, Version};

#[derive(Debug, PartialEq)]
struct Config {
    retries: u32,
}

const NAME: Key<String> = Key::new("name");
const HITS: Key<i64> = Key::new("hits");
const HITS_AS_TEXT: Key<String> = Key::new("hits");

#[track_caller]
fn check<T: StateType + PartialEq + std::fmt::Debug>(value: T, kind: Kind) {
    let state = SharedState::new();
    state.insert("key", value.clone()).expect("there is room");
    assert_eq!(state.get::<T>("key"), Ok(value.clone()));
    assert_eq!(state.find::<T>("key"), Ok(Some(value.clone())));
    let whole: StateValue = state.get("key").expect("it is there");
    assert_eq!(whole.kind(), kind);
    assert_eq!(whole.get::<T>(), Some(value));
}

#[test]
fn every_kind_comes_back_as_it_went_in() {
    check((), Kind::None);
    check(true, Kind::Bool);
    check(-7_i32, Kind::Int);
    check(i64::MIN, Kind::Long);
    check(1.5_f32, Kind::Float);
    check(f64::INFINITY, Kind::Double);
    check("text".to_owned(), Kind::String);
    check(Arc::<str>::from("text"), Kind::String);
    check(Bytes::from_static(b"\0\xff"), Kind::Bytes);
    check(json!({"a": [1, null]}), Kind::Json);
    check(Arc::new(json!([])), Kind::Json);
    check(Arc::new(Config { retries: 3 }), Kind::Any);
}

#[test]
fn functions_come_back_as_functions() {
    let state = SharedState::new();
    let double = StateValue::function(|value| value);
    state.insert("f", double.clone()).expect("there is room");
    assert_eq!(state.get::<StateValue>("f"), Ok(double));
}

#[test]
fn what_is_not_there_is_missing_and_says_under_which_name() {
    let state = SharedState::new();
    let scope = state.scope("a");
    let missing = Err(StateError::Missing { key: "a/b".into() });
    assert_eq!(scope.get::<i64>("b"), missing);
    assert_eq!(scope.update("b", |_: &mut i64| ()), missing.map(drop));
    assert_eq!(scope.find::<i64>("b"), Ok(None));
    assert_eq!(scope.remove("b"), Ok(false));
    assert_eq!(scope.take::<i64>("b"), Ok(None));
}

#[test]
fn what_is_of_another_type_is_an_error_that_names_both() {
    let state = SharedState::new();
    state.insert("hits", 1_i32).expect("there is room");
    let error = state.get::<i64>("hits").expect_err("it is an i32");
    assert_eq!(error.to_string(), "\"hits\" is of type int, not long");

    state
        .insert("config", Arc::new(Config { retries: 3 }))
        .expect("there is room");
    let error = state
        .get::<Arc<String>>("config")
        .expect_err("it is a Config");
    let StateError::WrongType {
        expected, found, ..
    } = error
    else {
        panic!("{error}");
    };
    assert!(
        expected.ends_with("String") && found.ends_with("Config"),
        "{expected}, {found}"
    );
}

#[test]
fn no_operation_touches_a_value_of_another_type() {
    let state = SharedState::new();
    let version = state.insert("key", "text").expect("there is room");
    assert!(matches!(
        state.update("key", |n: &mut i64| *n += 1),
        Err(StateError::WrongType { .. })
    ));
    assert!(matches!(
        state.increment("key", 1),
        Err(StateError::WrongType { .. })
    ));
    assert!(matches!(
        state.take::<bool>("key"),
        Err(StateError::WrongType { .. })
    ));
    assert!(matches!(
        state.replace("key", 1_i64),
        Err(StateError::WrongType { .. })
    ));
    assert!(matches!(
        state.get_or_insert_with("key", || 1_i64),
        Err(StateError::WrongType { .. })
    ));
    let now = state.get_versioned::<String>("key").expect("it is there");
    assert_eq!((now.value.as_str(), now.version), ("text", version));
}

#[test]
fn typed_keys_do_not_mix() {
    let state = SharedState::new();
    state.insert(HITS, 1).expect("there is room");
    let wrong = StateError::WrongType {
        key: "hits".into(),
        expected: "string",
        found: "long",
    };
    assert_eq!(state.get(HITS_AS_TEXT), Err(wrong.clone()));
    assert_eq!(state.insert(HITS_AS_TEXT, "1"), Err(wrong.clone()));
    assert_eq!(
        state.compare_and_swap(HITS_AS_TEXT, Version::ABSENT, "1"),
        Err(wrong.clone())
    );
    assert_eq!(state.replace(HITS_AS_TEXT, "1".into()), Err(wrong.clone()));
    assert_eq!(state.take(HITS_AS_TEXT), Err(wrong.clone()));
    assert_eq!(state.remove(HITS_AS_TEXT), Err(wrong));
    assert_eq!(state.get(HITS), Ok(1));
    assert_eq!(state.remove(HITS), Ok(true));
}

#[test]
fn a_typed_key_takes_what_becomes_its_type() {
    let state = SharedState::new();
    state.insert(NAME, "Ada").expect("there is room");
    state
        .insert(NAME, Arc::<str>::from("Grace"))
        .expect("there is room");
    assert_eq!(state.get(NAME).as_deref(), Ok("Grace"));
}

#[test]
fn a_bare_name_takes_any_type() {
    let state = SharedState::new();
    state.insert("key", "text").expect("there is room");
    state.insert("key", 1_i64).expect("there is room");
    assert_eq!(state.get::<i64>("key"), Ok(1));
}

#[test]
fn a_value_that_is_replaced_or_taken_is_given_back() {
    let state = SharedState::new();
    assert_eq!(state.replace("key", 1_i64), Ok(None));
    assert_eq!(state.replace("key", 2_i64), Ok(Some(1)));
    assert_eq!(state.take::<i64>("key"), Ok(Some(2)));
    assert_eq!(state.take::<i64>("key"), Ok(None));
    assert_eq!(state.len(), 0);
}

#[test]
fn shared_values_are_shared() {
    let state = SharedState::new();
    let config = Arc::new(Config { retries: 3 });
    state
        .insert("config", Arc::clone(&config))
        .expect("there is room");
    let read: Arc<Config> = state.get("config").expect("it is there");
    assert!(Arc::ptr_eq(&config, &read));
    let document = Arc::new(json!({}));
    state
        .insert("json", Arc::clone(&document))
        .expect("there is room");
    assert!(Arc::ptr_eq(
        &document,
        &state.get("json").expect("it is there")
    ));
}

#[test]
fn a_scope_sees_its_own_names_only() {
    let state = SharedState::new();
    let (orders, users) = (state.scope("orders"), state.scope("users"));
    orders.insert("1", "tea").expect("there is room");
    orders
        .scope("late")
        .insert("2", "mate")
        .expect("there is room");
    users.insert("1", "Ada").expect("there is room");

    let mut keys = orders.keys();
    keys.sort();
    assert_eq!(keys, ["1", "late/2"]);
    assert_eq!(orders.keys_under("late/"), ["late/2"]);
    assert_eq!((orders.len(), users.len(), state.len()), (2, 1, 3));
    assert_eq!(state.get::<String>("orders/late/2").as_deref(), Ok("mate"));
    assert_eq!(orders.clear(), 2);
    assert_eq!(state.keys(), ["users/1"]);
}

#[test]
fn an_empty_store_has_no_keys_of_its_own() {
    let state = SharedState::new();
    let _watch = state.watch::<i64>("watched");
    let _subscription = state.subscribe("", 4);
    assert!(state.is_empty() && state.keys().is_empty());
}

#[test]
fn debug_output_tells_no_secrets() {
    let state = SharedState::new();
    state.insert("token", "hunter2").expect("there is room");
    assert!(!format!("{state:?}").contains("hunter2"));
}
