//! A dispatcher as a tower service, under tower's own layers.
#![cfg(feature = "tower")]

use std::{future::pending, pin::pin, time::Duration};

use spark_channel::{
    DispatcherService, HandleOf, SparkChannelError, SparkGenericModuleDispatcher,
    SparkGenericModuleMessage, Stage, Stop, StopReason, current, module, pool, run_module_server,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::{
    BoxError, Service, ServiceBuilder, ServiceExt,
    balance::p2c::Balance,
    discover::ServiceList,
    load::{CompleteOnResponse, PendingRequests},
    timeout::error::Elapsed,
};

use crate::support::{Gate, Gated, Runner, job, queued, reason, within};

mod support;

type Dispatcher = SparkGenericModuleDispatcher<String, String>;
type GatedService = DispatcherService<String, String>;

/// A gated module with room for `capacity` messages behind the one it handles.
fn gated(gate: &Gate, capacity: usize) -> (HandleOf<Gated>, Dispatcher, GatedService) {
    let handle = module(gate.module())
        .name("gated")
        .capacity(capacity)
        .spawn();
    let dispatcher = handle.dispatcher();
    let service = dispatcher.service();
    (handle, dispatcher, service)
}

fn depth(handle: &HandleOf<Gated>) -> usize {
    handle.stats().depth
}

// === readiness ===

#[tokio::test(start_paused = true)]
async fn a_service_is_ready_when_it_has_a_place_in_the_mailbox() {
    let gate = Gate::closed();
    let (handle, dispatcher, mut service) = gated(&gate, 1);
    let first = queued(dispatcher.request("first"));
    gate.entered().await;
    let second = dispatcher.try_request("second").expect("room");

    let mut ready = task::spawn(service.ready());
    assert_pending!(ready.poll());
    gate.let_pass(1);
    within(gate.entered()).await;

    assert!(ready.is_woken());
    assert_ready_ok!(ready.poll());
    drop(ready);
    assert_eq!(depth(&handle), 1, "the reserved place counts");
    let refused = dispatcher.try_command("no room");
    assert!(matches!(
        refused.expect_err("reserved").reason,
        SparkChannelError::Full
    ));
    let call = service.call("third".into());
    gate.open();
    drop((first, second));
    assert_eq!(within(call).await.expect("handled"), "third");
}

#[tokio::test(start_paused = true)]
async fn a_place_is_given_back_when_the_service_is_dropped() {
    let gate = Gate::opened();
    let (handle, _, mut service) = gated(&gate, 2);
    let mut other = service.clone();

    within(service.ready()).await.expect("room");
    within(service.ready()).await.expect("the same place");
    within(other.ready()).await.expect("one each");
    assert_eq!(depth(&handle), 2);
    drop(service);
    assert_eq!(depth(&handle), 1);
    drop(other);
    assert_eq!(depth(&handle), 0);
}

#[tokio::test(start_paused = true)]
async fn calls_are_handled_in_their_order_whichever_is_awaited_first() {
    let gate = Gate::opened();
    let (_handle, _, mut service) = gated(&gate, 4);

    let first = within(service.ready())
        .await
        .expect("room")
        .call("a".into());
    let second = within(service.ready())
        .await
        .expect("room")
        .call("b".into());

    assert_eq!(within(second).await.expect("handled"), "b");
    assert_eq!(within(first).await.expect("handled"), "a");
    assert_eq!(gate.log.lines(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_never_ready_takes_a_place_or_fails() {
    let gate = Gate::closed();
    let (_handle, _, mut service) = gated(&gate, 1);

    let first = service.call("first".into());
    gate.entered().await;
    let _second = service.call("second".into());
    let third = within(service.call("third".into())).await;
    gate.open();

    assert_eq!(reason(third), SparkChannelError::Full);
    assert_eq!(within(first).await.expect("handled"), "first");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_before_it_starts_is_skipped() {
    let gate = Gate::closed();
    let (handle, _, mut service) = gated(&gate, 4);
    let first = service.call("first".into());
    gate.entered().await;

    drop(service.call("second".into()));
    gate.open();
    within(first).await.expect("handled");
    let report = within(handle.shutdown(Stop::Drain)).await;

    assert_eq!((report.stats.handled, report.stats.abandoned), (1, 1));
}

// === stopping ===

#[tokio::test(start_paused = true)]
async fn a_reserved_place_that_is_not_used_does_not_hold_up_a_stop() {
    for stop in [Stop::Drain, Stop::AfterCurrent, Stop::Now] {
        let gate = Gate::opened();
        let (handle, _, mut service) = gated(&gate, 4);
        within(service.ready()).await.expect("room");
        let before = Instant::now();

        let report = within(handle.shutdown(stop)).await;

        assert!(!report.deadline_passed && before.elapsed() < Duration::from_secs(1));
        let failed = within(service.call("late".into())).await;
        assert_eq!(reason(failed), SparkChannelError::Closed);
        let failed = within(service.ready()).await.map(drop);
        assert_eq!(reason(failed), SparkChannelError::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_place_is_told_of_a_stop_at_once() {
    let gate = Gate::closed();
    let (handle, dispatcher, mut service) = gated(&gate, 1);
    let first = queued(dispatcher.request("first"));
    gate.entered().await;
    let _second = dispatcher.try_request("second").expect("room");
    let mut ready = task::spawn(service.ready());
    assert_pending!(ready.poll());

    handle.stop(Stop::Drain);

    assert!(ready.is_woken());
    let failed = within(ready).await.map(drop);
    assert_eq!(reason(failed), SparkChannelError::ShuttingDown);
    gate.open();
    drop(first);
    assert!(!within(handle.wait()).await.deadline_passed);
}

#[tokio::test(start_paused = true)]
async fn a_place_that_was_offered_and_never_taken_does_not_hold_up_a_stop() {
    let gate = Gate::closed();
    let (handle, dispatcher, mut service) = gated(&gate, 1);
    let first = queued(dispatcher.request("first"));
    gate.entered().await;
    let second = dispatcher.try_request("second").expect("room");
    let mut ready = task::spawn(service.ready());
    assert_pending!(ready.poll());
    // The place that gets free belongs to `ready`, which is not polled again.
    gate.let_pass(1);
    gate.entered().await;
    gate.open();
    drop((first, second));

    let report = within(handle.shutdown(Stop::Drain)).await;

    assert!(!report.deadline_passed);
    drop(ready);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_message_takes_back_reserved_places_too() {
    let gate = Gate::opened();
    let (handle, dispatcher, mut service) = gated(&gate, 4);
    within(service.ready()).await.expect("room");
    let token = spark_channel::SparkChannelCancellationToken::new();

    let shutdown = SparkGenericModuleMessage::Shutdown(token.clone());
    let sent = dispatcher.sender.send(shutdown).await;
    within(token.inner().cancelled()).await;

    assert!(sent.is_ok());
    let report = within(handle.wait()).await;
    assert_eq!(report.reason, StopReason::ShutdownMessage);
    assert!(!report.deadline_passed);
}

// === layers ===

#[tokio::test(start_paused = true)]
async fn under_a_timeout_layer_the_handler_learns_that_its_caller_has_gone() {
    let handle = module(Runner).spawn();
    let mut service = ServiceBuilder::new()
        .timeout(Duration::from_secs(1))
        .service(handle.dispatcher().service());
    let (told, learned) = oneshot::channel();
    let slow = job(async move {
        current::cancelled().await;
        let _ = told.send(());
        Ok(0)
    });

    let call = within(service.ready()).await.expect("room").call(slow);
    let failed = within(call).await.expect_err("it hangs");

    assert!(failed.is::<Elapsed>());
    within(learned).await.expect("told");
}

#[tokio::test(start_paused = true)]
async fn a_concurrency_limit_lets_in_as_many_as_it_says() {
    let gate = Gate::closed();
    let (handle, _, service) = gated(&gate, 8);
    let mut limited = ServiceBuilder::new().concurrency_limit(2).service(service);

    let first = within(limited.ready())
        .await
        .expect("room")
        .call("1".into());
    let second = within(limited.ready())
        .await
        .expect("room")
        .call("2".into());
    let mut third = task::spawn(limited.ready());
    assert_pending!(third.poll());
    gate.open();
    within(first).await.expect("handled");

    assert!(third.is_woken());
    assert_ready_ok!(third.poll());
    drop(third);
    within(second).await.expect("handled");
    drop(limited);
    assert_eq!(within(handle.shutdown(Stop::Drain)).await.stats.handled, 2);
}

#[tokio::test(start_paused = true)]
async fn load_shed_turns_a_full_mailbox_into_an_error_at_once() {
    let gate = Gate::closed();
    let (_handle, dispatcher, service) = gated(&gate, 1);
    let mut shedding = ServiceBuilder::new().load_shed().service(service);
    let running = queued(dispatcher.request("running"));
    gate.entered().await;

    let waiting = within(shedding.ready())
        .await
        .expect("always")
        .call("waiting".into());
    let shed = within(shedding.ready())
        .await
        .expect("always")
        .call("shed".into());
    let shed: BoxError = within(shed).await.expect_err("no room");
    gate.open();

    assert!(shed.is::<tower::load_shed::error::Overloaded>());
    assert_eq!(within(waiting).await.expect("handled"), "waiting");
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn a_buffer_gives_clones_to_many_callers() {
    let gate = Gate::opened();
    let (handle, _, service) = gated(&gate, 1);
    let buffered = ServiceBuilder::new().buffer(8).service(service);

    let callers: Vec<_> = (0..8)
        .map(|n| tokio::spawn(buffered.clone().oneshot(n.to_string())))
        .collect();
    for (n, caller) in callers.into_iter().enumerate() {
        let answer = within(caller).await.expect("no panic").expect("handled");
        assert_eq!(answer, n.to_string());
    }
    drop(buffered);

    assert_eq!(within(handle.shutdown(Stop::Drain)).await.stats.handled, 8);
}

#[tokio::test(start_paused = true)]
async fn a_balancer_passes_over_a_module_without_room_and_drops_one_that_stopped() {
    let (busy_gate, free_gate) = (Gate::closed(), Gate::opened());
    let (_busy, dispatcher, to_busy) = gated(&busy_gate, 1);
    let (free, _, to_free) = gated(&free_gate, 4);
    let (gone, _, to_gone) = gated(&Gate::opened(), 4);
    within(gone.shutdown(Stop::Now)).await;
    let _running = queued(dispatcher.request("running"));
    busy_gate.entered().await;
    let _waiting = dispatcher.try_request("waiting").expect("room");
    let services = [to_busy, to_free, to_gone]
        .map(|service| PendingRequests::new(service, CompleteOnResponse::default()));
    let mut balance = Balance::new(ServiceList::new::<String>(services));

    for n in 0..4 {
        let call = within(balance.ready()).await.expect("one is free");
        let answer: Result<String, BoxError> = within(call.call(n.to_string())).await;
        assert_eq!(answer.expect("handled"), n.to_string());
    }

    assert_eq!(free_gate.log.lines(), ["0", "1", "2", "3"]);
    assert_eq!(balance.len(), 2);
    busy_gate.open();
    drop(balance);
    within(free.shutdown(Stop::Drain)).await;
}

// === other dispatchers ===

#[tokio::test(start_paused = true)]
async fn a_pool_is_a_service_like_a_module() {
    let gate = Gate::closed();
    let to_pool = gate.clone();
    let pool = pool(2, move || to_pool.module()).capacity(2).spawn();
    let mut service = pool.dispatcher().service();

    let first = within(service.ready())
        .await
        .expect("room")
        .call("1".into());
    let second = within(service.ready())
        .await
        .expect("room")
        .call("2".into());
    gate.entered().await;
    gate.entered().await;
    gate.open();

    within(first).await.expect("handled");
    within(second).await.expect("handled");
    within(service.ready()).await.expect("room");
    assert!(!within(pool.shutdown(Stop::Drain)).await.deadline_passed);
}

#[tokio::test(start_paused = true)]
async fn a_dispatcher_of_a_raw_sender_is_a_service_too() {
    let (sender, receiver) = mpsc::channel(1);
    let dispatcher: SparkGenericModuleDispatcher<_, _> = SparkGenericModuleDispatcher::new(sender);
    let server = tokio::spawn(run_module_server(Gate::opened().module(), receiver));
    let mut service = DispatcherService::from(dispatcher);

    let call = within(service.ready())
        .await
        .expect("room")
        .call("raw".into());
    assert_eq!(within(call).await.expect("handled"), "raw");
    drop(service);

    assert_eq!(within(server).await.expect("no panic").stats.handled, 1);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_gone_is_an_error_of_readiness() {
    let (sender, receiver) = mpsc::channel(1);
    let dispatcher: SparkGenericModuleDispatcher<String, ()> =
        SparkGenericModuleDispatcher::new(sender);
    let mut service = dispatcher.service();
    drop(receiver);

    let failed = within(service.ready()).await.map(drop);

    assert_eq!(reason(failed), SparkChannelError::Closed);
}

#[tokio::test(start_paused = true)]
async fn the_services_future_is_bounded_by_the_modules_default_timeout() {
    let handle = module(Runner)
        .default_timeout(Duration::from_millis(10))
        .spawn();
    let mut service = handle.dispatcher().service();

    let call = within(service.ready()).await.expect("room");
    let call = pin!(call.call(job(pending())));
    let failed = within(call).await;

    let stage = Stage::Running;
    assert_eq!(reason(failed), SparkChannelError::TimedOut { stage });
}
