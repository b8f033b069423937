//! Doubles of modules, which the test answers for.
#![cfg(feature = "test-util")]

use std::time::Duration;

use spark_channel::{
    SparkChannelCancellationToken, SparkChannelError, SparkGenericModuleMessage,
    testing::{Driver, Probe, Step},
};

use crate::support::{Runner, job, queued, reason, within};

mod support;

fn probe() -> Probe<&'static str, u64> {
    Probe::new()
}

#[tokio::test(start_paused = true)]
async fn requests_are_answered_by_the_test_in_any_order() {
    let mut probe = probe();
    let dispatcher = probe.dispatcher();
    let mut first = queued(dispatcher.request("first"));
    let mut second = queued(dispatcher.request("second"));

    let (one, reply_to_one) = probe.expect_request().await;
    let (two, reply_to_two) = probe.expect_request().await;
    reply_to_two.answer(2);
    let second = within(&mut second).await;
    reply_to_one.fail(eyre::eyre!("no"));
    let first = within(&mut first).await;

    assert_eq!((one, two), ("first", "second"));
    assert_eq!(second.expect("answered"), 2);
    assert_eq!(first.expect_err("failed").to_string(), "no");
    probe.finish();
}

#[tokio::test(start_paused = true)]
async fn what_happened_to_a_call_can_be_played() {
    let mut probe = probe();
    let dispatcher = probe.dispatcher();
    let asked = queued(dispatcher.request("a"));

    probe.expect_request().await.1.fail(SparkChannelError::Full);

    assert_eq!(reason(within(asked).await), SparkChannelError::Full);
}

#[tokio::test(start_paused = true)]
async fn commands_and_messages_are_expected_in_the_order_sent() {
    let mut probe = Probe::<&str, u64>::with_capacity(3);
    let dispatcher = probe.dispatcher();
    dispatcher.try_command("first").expect("room");
    dispatcher.try_command("second").expect("room");
    let shutdown = SparkGenericModuleMessage::Shutdown(SparkChannelCancellationToken::new());
    dispatcher.sender.try_send(shutdown).expect("room");

    assert_eq!(probe.waiting(), 3);
    assert!(dispatcher.try_command("full").is_err());
    assert_eq!(probe.expect_command().await, "first");
    assert_eq!(probe.expect_command().await, "second");
    let last = probe.expect_message().await;
    assert!(matches!(last, SparkGenericModuleMessage::Shutdown(_)));
    probe.expect_nothing(Duration::from_secs(3_600)).await;
    probe.finish();
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_goes_away_is_seen() {
    let mut probe = probe();
    let dispatcher = probe.dispatcher();
    let asked = queued(dispatcher.request("a"));
    let unseen = queued(dispatcher.request("b"));
    let (_, mut reply) = probe.expect_request().await;
    assert!(!reply.is_abandoned());

    drop((asked, unseen));

    within(reply.abandoned()).await;
    assert!(reply.is_abandoned());
    drop(reply);
    probe.finish();
}

#[tokio::test(start_paused = true)]
async fn a_closed_probe_refuses_like_a_stopped_module() {
    let mut probe = probe();
    let dispatcher = probe.dispatcher();
    dispatcher.try_command("before").expect("room");

    probe.close();

    let late = within(dispatcher.request("late")).await;
    assert_eq!(reason(late), SparkChannelError::Closed);
    assert_eq!(probe.expect_command().await, "before");
}

#[test]
fn a_driven_handler_is_tested_against_a_probe() {
    let mut prices = probe();
    let dispatcher = prices.dispatcher();
    let mut driver = Driver::new(Runner);

    let asked = driver.request(job(async move { Ok(dispatcher.request("tea").await? * 2) }));
    let waiting = asked.pending();
    let (message, reply) = prices.try_expect_request().expect("it was sent");
    reply.answer(21);

    assert_eq!((message, driver.step()), ("tea", Step::Handled));
    assert_eq!(driver.resume(waiting).answer().expect("handled"), 42);
    prices.finish();
}

// --- what fails a test

#[tokio::test(start_paused = true)]
#[should_panic(
    expected = "a request did not come within 5s at spark-channel/tests/testing_probe.rs"
)]
async fn a_request_that_does_not_come_fails_the_test_at_its_line() {
    drop(probe().expect_request().await);
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "a command did not come within 1s")]
async fn patience_can_be_shorter() {
    let mut probe = probe().patience(Duration::from_secs(1));
    probe.expect_command().await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "expected a request and got a command at")]
async fn a_message_of_the_other_kind_fails_the_test() {
    let mut probe = probe();
    probe.dispatcher().try_command("a").expect("room");
    drop(probe.expect_request().await);
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "expected nothing and got a command at")]
async fn a_message_fails_a_test_that_expects_nothing() {
    let mut probe = probe();
    probe.dispatcher().try_command("a").expect("room");
    probe.expect_nothing(Duration::ZERO).await;
}

#[test]
#[should_panic(expected = "got 1 messages that were not expected, and 0 requests")]
fn an_unexpected_message_fails_the_test_at_the_end() {
    let probe = probe();
    probe.dispatcher().try_command("a").expect("room");
    probe.finish();
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "1 requests were not answered")]
async fn an_unanswered_request_fails_the_test_at_the_end() {
    let mut probe = probe();
    let dispatcher = probe.dispatcher();
    let _asked = queued(dispatcher.request("a"));
    drop(probe.expect_request().await);
    probe.finish();
}
