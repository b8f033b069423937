//! Subscribers see the changes under a prefix in order, and learn what they have missed.

use std::time::Duration;

use spark_state::{
    AtBound, Change, Expiry, RecvError, SharedState, StateEvent, StateValue, Subscription,
};
use tokio_test::{assert_pending, assert_ready, task};

fn drained(subscription: &mut Subscription) -> Vec<(String, Change)> {
    let mut events = Vec::new();
    while let Some(event) = subscription.try_recv().expect("nothing was missed") {
        events.push((event.key().to_owned(), event.change()));
    }
    events
}

#[track_caller]
fn check(subscription: &mut Subscription, expected: &[(&str, Change)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(key, change)| ((*key).to_owned(), *change))
        .collect();
    assert_eq!(drained(subscription), expected);
}

#[tokio::test(start_paused = true)]
async fn every_change_is_told_once_and_by_its_name() {
    let state = SharedState::builder()
        .entries_max(2)
        .at_bound(AtBound::EvictLeastRecentlyUsed)
        .build();
    let mut all = state.subscribe("", 16);
    state.insert("a", 1_i64).expect("there is room");
    state.increment("a", 1).expect("it is a number");
    state
        .update("a", |n: &mut i64| *n += 1)
        .expect("it is a number");
    state.remove("a").expect("nothing is in the way");
    state.remove("a").expect("nothing is in the way");
    check(
        &mut all,
        &[
            ("a", Change::Inserted),
            ("a", Change::Updated),
            ("a", Change::Updated),
            ("a", Change::Removed),
        ],
    );

    let short = Expiry::ttl(Duration::from_secs(1));
    state.insert_with("b", 1_i64, short).expect("there is room");
    tokio::time::advance(Duration::from_secs(1)).await;
    state.insert("b", 2_i64).expect("there is room");
    check(
        &mut all,
        &[
            ("b", Change::Inserted),
            ("b", Change::Expired),
            ("b", Change::Inserted),
        ],
    );

    state.insert("c", 1_i64).expect("there is room");
    state.insert("d", 1_i64).expect("somebody makes room");
    check(
        &mut all,
        &[
            ("c", Change::Inserted),
            ("b", Change::Evicted),
            ("d", Change::Inserted),
        ],
    );
}

#[test]
fn a_change_that_fails_is_not_told() {
    let state = SharedState::new();
    state.insert("a", "text").expect("there is room");
    let mut all = state.subscribe("", 16);
    state.increment("a", 1).expect_err("it is no number");
    let refused: eyre::Result<()> = state.try_update("a", |_: &mut String| eyre::bail!("no"));
    assert!(refused.is_err());
    check(&mut all, &[]);
}

#[test]
fn only_what_is_under_the_prefix_is_told() {
    let state = SharedState::new();
    let orders = state.scope("orders");
    let mut all = orders.subscribe("", 16);
    let mut late = orders.subscribe("late/", 16);
    state.insert("users/1", true).expect("there is room");
    orders.insert("1", true).expect("there is room");
    orders.insert("late/2", true).expect("there is room");
    check(
        &mut all,
        &[("1", Change::Inserted), ("late/2", Change::Inserted)],
    );
    check(&mut late, &[("late/2", Change::Inserted)]);
}

#[test]
fn a_slow_subscriber_learns_how_much_it_has_missed() {
    let state = SharedState::new();
    let mut slow = state.subscribe("", 3);
    for n in 0..10_i64 {
        state.insert("n", n).expect("there is room");
    }
    assert_eq!(slow.try_recv(), Err(RecvError::Lagged(7)));
    assert_eq!(drained(&mut slow).len(), 3);
    state.insert("n", 10_i64).expect("there is room");
    check(&mut slow, &[("n", Change::Updated)]);
}

#[test]
fn events_with_long_keys_are_bounded_in_bytes() {
    let state = SharedState::new();
    let mut subscription = state.subscribe("", 1_000);
    let key = |n: usize| format!("{n}{}", "x".repeat(300_000));
    for n in 0..10 {
        state.insert(key(n), true).expect("there is room");
    }
    assert_eq!(subscription.try_recv(), Err(RecvError::Lagged(7)));
    check(
        &mut subscription,
        &[7, 8, 9]
            .map(key)
            .each_ref()
            .map(|key| (&**key, Change::Inserted)),
    );

    let huge = "x".repeat(3_000_000);
    state.insert("small", true).expect("there is room");
    state.insert(&huge, true).expect("there is room");
    assert_eq!(subscription.try_recv(), Err(RecvError::Lagged(1)));
    check(&mut subscription, &[(&huge, Change::Inserted)]);
}

#[tokio::test]
async fn a_waiting_subscriber_is_woken_and_ends_with_the_store_after_the_last_event() {
    let state = SharedState::new();
    let mut all = state.subscribe("", 3);
    {
        let mut received = task::spawn(all.recv());
        assert_pending!(received.poll());
        state.insert("n", 1_i64).expect("there is room");
        assert!(received.is_woken());
        let event = assert_ready!(received.poll()).expect("nothing was missed");
        assert_eq!(event.key(), "n");
    }
    state.remove("n").expect("nothing is in the way");
    drop(state);
    assert_eq!(
        all.recv().await.as_ref().map(StateEvent::change),
        Ok(Change::Removed)
    );
    assert_eq!(all.recv().await, Err(RecvError::Closed));
}

#[test]
fn versions_of_one_key_come_in_order_however_writers_race() {
    let state = SharedState::new();
    let mut all = state.subscribe("", 100_000);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 0..1_000_i64 {
                    state
                        .insert("n", StateValue::Long(n))
                        .expect("there is room");
                    if n % 7 == 0 {
                        state.remove("n").expect("nothing is in the way");
                    }
                }
            });
        }
    });
    let mut last = None;
    while let Some(event) = all.try_recv().expect("the buffer is large enough") {
        let at = (event.version(), event.change() == Change::Removed);
        assert!(
            last.is_none_or(|last| last < at),
            "{event:?} after {last:?}"
        );
        last = Some(at);
    }
}
