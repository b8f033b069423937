//! The store as a module, in its own process and as JSON.

#![cfg(feature = "module")]

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use spark_channel::{
    ModuleHandle, SparkChannelCancellationToken, Stop, reader_writer, spawn_module,
};
use spark_state::{
    Expiry, SharedState, Snapshot, StateError, StateValue, Version,
    module::{
        Call, Change, CompareAndSwap, Get, Insert, Keys, Remove, StateModule, StateModuleError,
        StateReply, StateRequest, Update, Watch, WireReply, WireRequest,
    },
};

type Handle =
    ModuleHandle<StateRequest, StateReply, SparkChannelCancellationToken, StateModuleError>;

fn started() -> (SharedState, Handle) {
    let state = SharedState::new();
    let module = reader_writer(StateModule::new(state.clone())).spawn();
    (state, module)
}

/// Goes the way of a request from another process.
async fn over_the_wire(module: &Handle, request: Value) -> Result<Value, StateModuleError> {
    let request: WireRequest = serde_json::from_value(request).expect("a request");
    let reply = module.dispatcher().request(request).await?;
    let reply = WireReply::try_from(reply)?;
    Ok(serde_json::to_value(reply).expect("a reply"))
}

#[tokio::test]
async fn every_message_does_what_the_store_does() {
    let (state, module) = started();
    let to = module.dispatcher();

    let first = to
        .call(Insert::new("n", 1_i64))
        .await
        .expect("there is room");
    let now = to.call(Get::new("n")).await.expect("it is there");
    assert_eq!((now.value, now.version), (StateValue::Long(1), first));
    let second = to
        .call(CompareAndSwap::new("n", first, 5_i64))
        .await
        .expect("it is the same");
    let late = to.call(CompareAndSwap::new("n", first, 6_i64)).await;
    let conflict = StateError::Conflict {
        expected: first,
        found: second,
    };
    assert_eq!(late, Err(StateModuleError::State(conflict)));

    let sum = to
        .call(Update::new("n", Change::Increment(2)))
        .await
        .expect("it is a number");
    assert_eq!(sum.value, StateValue::Long(7));
    let apply = Change::Apply(Box::new(|value| *value = "seven".into()));
    to.call(Update::new("n", apply)).await.expect("it is there");
    let text = to
        .call(Update::new("n", Change::Append("!".into())))
        .await
        .expect("it is text");
    assert_eq!(text.value, StateValue::from("seven!"));
    assert_eq!(state.get::<String>("n").as_deref(), Ok("seven!"));

    to.call(Insert::new("j", json!({"a": 1, "b": {"c": 2}})))
        .await
        .expect("there is room");
    let patch = json!({"a": null, "b": {"d": 3}});
    let merged = to
        .call(Update::new("j", Change::Merge(patch)))
        .await
        .expect("it is JSON");
    assert_eq!(
        merged.value,
        StateValue::from(json!({"b": {"c": 2, "d": 3}}))
    );

    let mut watch = to
        .call(Watch::new("n"))
        .await
        .expect("anything can be watched");
    assert_eq!(watch.changed().await, Ok(Some("seven!".into())));
    assert_eq!(to.call(Remove::new("n")).await, Ok(true));
    assert_eq!(watch.changed().await, Ok(None));
    assert_eq!(to.call(Remove::new("n")).await, Ok(false));

    state
        .insert("f", StateValue::async_function(std::future::ready))
        .expect("there is room");
    assert_eq!(
        to.call(Call::new("f", 3_i64)).await,
        Ok(StateValue::Long(3))
    );
    assert_eq!(module.shutdown(Stop::Drain).await.stats.panicked, 0);
}

#[tokio::test]
async fn a_function_that_awaits_holds_up_nobody() {
    let (state, module) = started();
    let never = StateValue::async_function(|_| std::future::pending());
    state.insert("never", never).expect("there is room");
    let to = module.dispatcher();
    let mut stuck = tokio_test::task::spawn(to.call(Call::new("never", ())));
    tokio_test::assert_pending!(stuck.poll());
    to.call(Insert::new("n", 1_i64))
        .await
        .expect("there is room");
    assert_eq!(state.get::<i64>("n"), Ok(1));
}

#[tokio::test]
async fn a_command_does_its_work_and_a_serial_module_will_do() {
    let state = SharedState::new();
    let module = spawn_module(StateModule::new(state.scope("scope")));
    let to = module.dispatcher();
    to.command(Insert::new("n", 1_i64)).await.expect("it runs");
    assert_eq!(
        to.call(Get::new("n")).await.expect("it is there").value,
        StateValue::Long(1)
    );
    assert_eq!(state.keys(), ["scope/n"]);
}

#[tokio::test]
async fn an_error_names_the_key_as_the_request_did() {
    let state = SharedState::new();
    let scope = state.scope("inner").scope("part");
    let module = reader_writer(StateModule::new(scope.clone())).spawn();
    scope.insert("text", "x").expect("there is room");
    for (request, error) in [
        (
            json!({"do": "get", "key": "inner/k"}),
            r#"no value for "inner/k""#,
        ),
        (
            json!({"do": "call", "key": "nobody"}),
            r#"no value for "nobody""#,
        ),
        (
            json!({"do": "call", "key": "text"}),
            r#""text" is of type string, not a function"#,
        ),
        (
            json!({"do": "increment", "key": "text", "by": 1}),
            r#""text" is of type string, not long"#,
        ),
        (
            json!({"do": "merge", "key": "text", "patch": {}}),
            r#""text" is of type string, not json"#,
        ),
    ] {
        let refused = over_the_wire(&module, request).await.expect_err(error);
        assert_eq!(refused.to_string(), error);
    }
}

#[tokio::test]
async fn a_panic_in_a_change_is_one_callers_error() {
    let (state, module) = started();
    state.insert("n", 1_i64).expect("there is room");
    let to = module.dispatcher();
    let apply = Change::Apply(Box::new(|_| panic!("in the middle")));
    let panicked = to.call(Update::new("n", apply)).await;
    assert!(
        matches!(panicked, Err(StateModuleError::Call(_))),
        "{panicked:?}"
    );
    assert_eq!(
        to.call(Get::new("n")).await.expect("it is there").value,
        StateValue::Long(1)
    );
}

/// All keys under a prefix, page by page.
async fn pages(module: &Handle, prefix: &str, limit: usize) -> Vec<Vec<String>> {
    let mut pages: Vec<Vec<String>> = Vec::new();
    loop {
        let mut keys = Keys::under(prefix).limit(limit);
        if let Some(last) = pages.last().and_then(|page| page.last()) {
            keys = keys.after(last);
        }
        let page = module.dispatcher().call(keys).await.expect("it is there");
        pages.push(page.keys);
        if !page.more {
            return pages;
        }
    }
}

#[tokio::test]
async fn pages_of_keys_are_in_order_and_none_is_missing() {
    let (state, module) = started();
    for n in 0..250 {
        state
            .insert(format!("k/{n:03}"), true)
            .expect("there is room");
        state
            .insert(format!("other/{n}"), true)
            .expect("there is room");
    }
    let expected: Vec<_> = (0..250).map(|n| format!("k/{n:03}")).collect();
    for (limit, lengths) in [
        (100, vec![100, 100, 50]),
        (125, vec![125, 125]),
        (250, vec![250]),
        (usize::MAX, vec![250]),
        (0, vec![1; 250]),
    ] {
        let pages = pages(&module, "k/", limit).await;
        assert_eq!(pages.concat(), expected, "{limit}");
        let found: Vec<_> = pages.iter().map(Vec::len).collect();
        assert_eq!(found, lengths, "{limit}");
    }
}

#[tokio::test]
async fn a_page_of_long_keys_is_bounded_in_bytes() {
    const MEBIBYTE: usize = 1 << 20;
    let (state, module) = started();
    // Of all lengths, so that a short one would fit where a long one before it did not.
    let lengths = [
        300_000, 1, 700_000, 2_000_000, 5, MEBIBYTE, 400_000, 20, 400_000, 300_000, 7,
    ];
    let mut expected = Vec::new();
    for (n, length) in lengths.into_iter().enumerate() {
        let key = format!("{n:02}{}", "x".repeat(length - 1));
        state.insert(&key, true).expect("there is room");
        expected.push(key);
    }
    let pages = pages(&module, "", 1_000).await;
    assert_eq!(pages.concat(), expected);
    for page in pages {
        let bytes: usize = page.iter().map(String::len).sum();
        assert!(bytes <= MEBIBYTE || page.len() == 1, "{bytes} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_and_replies_are_json() {
    let (state, module) = started();
    state
        .insert("f", StateValue::function(|value| value))
        .expect("there is room");
    let long = |n: i64| json!({"kind": "long", "value": n});
    let insert = json!({"do": "insert", "key": "n", "value": long(1), "ttl_ms": 1000});
    let exchanges = [
        (insert, json!({"version": 1})),
        (
            json!({"do": "increment", "key": "n", "by": 2}),
            json!({"value": long(3), "version": 2}),
        ),
        (
            json!({"do": "get", "key": "n"}),
            json!({"value": long(3), "version": 2}),
        ),
        (
            json!({"do": "compare_and_swap", "key": "n", "expected": 2, "value": long(9)}),
            json!({"version": 3}),
        ),
        (
            json!({"do": "keys", "prefix": "n"}),
            json!({"keys": ["n"], "more": false}),
        ),
        (
            json!({"do": "call", "key": "f", "argument": long(1)}),
            json!({"returned": long(1)}),
        ),
        (
            json!({"do": "call", "key": "f"}),
            json!({"returned": {"kind": "none"}}),
        ),
        (
            json!({"do": "remove", "key": "n"}),
            json!({"removed": true}),
        ),
    ];
    for (request, reply) in exchanges {
        assert_eq!(
            over_the_wire(&module, request.clone()).await,
            Ok(reply),
            "{request}"
        );
    }
    let short = json!({"do": "insert", "key": "s", "value": long(1), "ttl_ms": 1000});
    over_the_wire(&module, short).await.expect("there is room");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(!state.contains("s"));
}

#[tokio::test]
async fn what_cannot_leave_the_process_is_a_typed_error() {
    let (state, module) = started();
    state
        .insert("f", StateValue::function(|value| value))
        .expect("there is room");
    state
        .insert("any", Arc::new(Duration::ZERO))
        .expect("there is room");
    for (key, name) in [("f", "function"), ("any", "core::time::Duration")] {
        let refused = over_the_wire(&module, json!({"do": "get", "key": key})).await;
        let error = StateError::NotSerialisable { found: name };
        assert_eq!(refused, Err(StateModuleError::State(error)));
    }
    let watching = module.dispatcher().request(Watch::new("n")).await;
    let refused = WireReply::try_from(watching.expect("anything can be watched"));
    assert_eq!(refused, Err(StateError::NotSerialisable { found: "watch" }));

    let requests: [StateRequest; 4] = [
        Insert::new("k", StateValue::function(|value| value)).into(),
        CompareAndSwap::new("k", Version::ABSENT, Arc::new(1_u8)).into(),
        Update::new("k", Change::Apply(Box::new(|_| ()))).into(),
        Watch::new("k").into(),
    ];
    for request in requests {
        let refused = WireRequest::try_from(request);
        assert!(matches!(refused, Err(StateError::NotSerialisable { .. })));
    }
}

#[test]
fn requests_survive_the_way_there_and_back() {
    let expiry = Expiry::ttl(Duration::from_secs(1)).and_idle(Duration::from_millis(5));
    let requests: [StateRequest; 10] = [
        Get::new("k").into(),
        Insert::new("k", f64::NAN).expiry(expiry).into(),
        Insert::new("k", ()).expiry(Expiry::never()).into(),
        Remove::new("k").into(),
        Update::new("k", Change::Increment(i64::MIN)).into(),
        Update::new("k", Change::Append("text".into())).into(),
        Update::new("k", Change::Merge(json!({"a": null}))).into(),
        CompareAndSwap::new("k", Version::from_u64(7), "text").into(),
        Call::new("k", vec![0_u8, 255]).into(),
        Keys::under("p").after("p/1").limit(3).into(),
    ];
    for request in requests {
        let said = format!("{request:?}");
        let wire = WireRequest::try_from(request).expect("it can leave");
        let json = serde_json::to_string(&wire).expect("it is JSON");
        let back: WireRequest = serde_json::from_str(&json).expect("it was written");
        assert_eq!(format!("{:?}", StateRequest::from(back)), said, "{json}");
    }
}

#[test]
fn rubbish_is_no_request() {
    for json in [
        "null",
        r#"{"do": "drop"}"#,
        r#"{"do": "get"}"#,
        r#"{"do": "get", "key": 7}"#,
        r#"{"do": "get", "key": "k", "extra": 1}"#,
        r#"{"do": "insert", "key": "k", "value": 1}"#,
        r#"{"do": "insert", "key": "k", "value": {"kind": "function", "value": 1}}"#,
        r#"{"do": "increment", "key": "k", "by": 1.5}"#,
        r#"{"do": "increment", "key": "k", "by": 9223372036854775808}"#,
        r#"{"do": "keys", "limit": -1}"#,
    ] {
        assert!(serde_json::from_str::<WireRequest>(json).is_err(), "{json}");
    }
}

#[tokio::test]
async fn what_comes_over_the_wire_can_be_saved() {
    let (state, module) = started();
    let nested = |levels: usize| ["[".repeat(levels), "]".repeat(levels)].concat();
    for levels in [100, 101, 124] {
        for request in [
            format!(
                r#"{{"do": "insert", "key": "k", "value": {{"kind": "json", "value": {}}}}}"#,
                nested(levels)
            ),
            format!(
                r#"{{"do": "merge", "key": "k", "patch": {}}}"#,
                nested(levels)
            ),
        ] {
            if let Ok(request) = serde_json::from_str::<WireRequest>(&request) {
                assert!(levels <= 100);
                let done = module.dispatcher().request(request).await;
                done.expect("there is room");
            } else {
                assert!(levels > 100);
            }
            let snapshot = state.snapshot().to_json();
            Snapshot::from_json(&snapshot).expect("it was written by the same crate");
        }
    }
}
