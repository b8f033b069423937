//! How a module stops: everything accepted is handled or given back, in order,
//! within one deadline.

use spark_channel::{
    ModuleHandle, SparkChannelCancellationToken, SparkChannelError, SparkGenericModuleMessage,
    Stop, StopReason, module, spawn_module,
};

use crate::support::{Gate, queued, reason, within};

mod support;

const SHUTTING_DOWN: SparkChannelError = SparkChannelError::ShuttingDown;

fn shutdown_message<M, R>() -> (
    SparkChannelCancellationToken,
    SparkGenericModuleMessage<M, R>,
) {
    let token = SparkChannelCancellationToken::new();
    (token.clone(), SparkGenericModuleMessage::Shutdown(token))
}

// --- the message

#[tokio::test]
async fn a_shutdown_message_keeps_its_place() {
    let gate = Gate::closed();
    let module = spawn_module(gate.module());
    let dispatcher = module.dispatcher();
    let before = queued(dispatcher.request("before"));
    within(dispatcher.command("told")).await.expect("room");
    let (token, shutdown) = shutdown_message();
    within(dispatcher.sender.send(shutdown))
        .await
        .expect("room");
    let behind = queued(dispatcher.request("behind"));
    within(dispatcher.command("lost")).await.expect("room");

    gate.open();
    let report = within(module.wait()).await;

    assert!(token.inner().is_cancelled());
    assert_eq!(within(before).await.expect("handled"), "before");
    assert_eq!(reason(within(behind).await), SHUTTING_DOWN);
    let lines = ["before", "told", "undelivered lost", "stopped"];
    assert_eq!(gate.log.lines(), lines);
    assert_eq!(report.reason, StopReason::ShutdownMessage);
    assert_eq!((report.stats.handled, report.stats.shutdowns), (2, 1));
    assert_eq!((report.stats.returned, report.stats.undelivered), (1, 1));
    assert_eq!(report.stats.accounted(), 5);
}

#[tokio::test]
async fn every_shutdown_message_has_its_token_cancelled() {
    let stops: [fn(&ModuleHandle<String, String>); 4] = [
        |_| {},
        |module| module.stop(Stop::Drain),
        |module| module.stop(Stop::AfterCurrent),
        |module| module.stop(Stop::Now),
    ];
    for stop in stops {
        let gate = Gate::closed();
        let module = spawn_module(gate.module());
        let dispatcher = module.dispatcher();
        let (first, shutdown) = shutdown_message();
        within(dispatcher.sender.send(shutdown))
            .await
            .expect("room");
        within(dispatcher.command("between")).await.expect("room");
        let (second, shutdown) = shutdown_message();
        within(dispatcher.sender.send(shutdown))
            .await
            .expect("room");

        gate.open();
        stop(&module);
        let report = within(module.wait()).await;

        assert!(first.inner().is_cancelled() && second.inner().is_cancelled());
        assert_eq!(report.stats.shutdowns, 2);
        assert_eq!(report.stats.accounted(), 3);
    }
}

// --- the three stops

#[tokio::test]
async fn drain_handles_everything_accepted() {
    let gate = Gate::closed();
    let module = spawn_module(gate.module());
    let dispatcher = module.dispatcher();
    let running = queued(dispatcher.request("running"));
    gate.entered().await;
    within(dispatcher.command("told")).await.expect("room");
    let last = queued(dispatcher.request("last"));

    module.stop(Stop::Drain);
    gate.open();
    let report = within(module.wait()).await;

    assert!(within(running).await.is_ok() && within(last).await.is_ok());
    assert_eq!(gate.log.lines(), ["running", "told", "last", "stopped"]);
    assert_eq!(report.reason, StopReason::Requested(Stop::Drain));
    assert!(!report.deadline_passed);
    assert_eq!((report.stats.handled, report.stats.accounted()), (3, 3));
}

#[tokio::test]
async fn after_current_finishes_the_running_message_and_gives_back_the_rest_in_order() {
    let gate = Gate::closed();
    let module = spawn_module(gate.module());
    let dispatcher = module.dispatcher();
    let running = queued(dispatcher.request("running"));
    gate.entered().await;
    within(dispatcher.command("one")).await.expect("room");
    let asked = queued(dispatcher.request("asked"));
    within(dispatcher.command("two")).await.expect("room");

    module.stop(Stop::AfterCurrent);
    gate.open();
    let report = within(module.wait()).await;

    assert_eq!(within(running).await.expect("handled"), "running");
    assert_eq!(reason(within(asked).await), SHUTTING_DOWN);
    let lines = ["running", "undelivered one", "undelivered two", "stopped"];
    assert_eq!(gate.log.lines(), lines);
    assert_eq!((report.stats.handled, report.stats.returned), (1, 1));
    assert_eq!((report.stats.undelivered, report.stats.accounted()), (2, 4));
}

#[tokio::test]
async fn now_drops_a_handler_that_never_completes_although_the_mailbox_is_full() {
    let gate = Gate::closed();
    let module = module(gate.module()).capacity(2).spawn();
    let dispatcher = module.dispatcher();
    let running = queued(dispatcher.request("running"));
    gate.entered().await;
    within(dispatcher.command("one")).await.expect("room");
    let asked = queued(dispatcher.request("asked"));
    let outside = queued(dispatcher.request("outside"));
    assert!(dispatcher.try_command("full").is_err());

    let report = within(module.shutdown(Stop::Now)).await;

    assert_eq!(reason(within(running).await), SparkChannelError::Cancelled);
    assert_eq!(reason(within(asked).await), SHUTTING_DOWN);
    assert!(reason(within(outside).await).never_started());
    assert_eq!(gate.log.lines(), ["running", "undelivered one", "stopped"]);
    assert_eq!(report.reason, StopReason::Requested(Stop::Now));
    assert!(!report.deadline_passed);
    assert_eq!(report.stats.interrupted, 1);
    assert_eq!((report.stats.undelivered, report.stats.accounted()), (1, 3));
}

#[tokio::test]
async fn an_idle_module_stops_at_once_however_it_is_told() {
    for stop in [Stop::Drain, Stop::AfterCurrent, Stop::Now] {
        let gate = Gate::opened();
        let module = spawn_module(gate.module());
        let handled = within(module.dispatcher().request("a")).await;

        let report = within(module.shutdown(stop)).await;

        assert!(handled.is_ok() && !report.deadline_passed);
        assert_eq!(report.reason, StopReason::Requested(stop));
        assert_eq!(gate.log.lines(), ["a", "stopped"]);
    }
}

#[tokio::test]
async fn a_stronger_stop_replaces_a_weaker_one_and_the_first_is_the_reason() {
    let gate = Gate::closed();
    let module = spawn_module(gate.module());
    let dispatcher = module.dispatcher();
    let running = queued(dispatcher.request("running"));
    gate.entered().await;
    let waiting = queued(dispatcher.request("waiting"));

    module.stop(Stop::Drain);
    module.stop(Stop::Now);
    module.stop(Stop::AfterCurrent);
    let report = within(module.wait()).await;

    assert_eq!(reason(within(running).await), SparkChannelError::Cancelled);
    assert_eq!(reason(within(waiting).await), SHUTTING_DOWN);
    assert_eq!(report.reason, StopReason::Requested(Stop::Drain));
}

#[tokio::test]
async fn senders_that_wait_for_room_are_refused_when_draining_starts() {
    let gate = Gate::closed();
    let module = module(gate.module()).capacity(1).spawn();
    let dispatcher = module.dispatcher();
    let running = queued(dispatcher.request("running"));
    gate.entered().await;
    let accepted = queued(dispatcher.request("accepted"));
    let asking = queued(dispatcher.request("asking"));
    let telling = queued(dispatcher.command("telling"));

    module.stop(Stop::Drain);
    gate.open();
    let report = within(module.wait()).await;

    assert!(within(running).await.is_ok() && within(accepted).await.is_ok());
    assert!(reason(within(asking).await).never_started());
    let refused = within(telling).await.expect_err("it was not accepted");
    assert!(refused.reason.never_started());
    assert_eq!(refused.into_inner(), "telling");
    assert_eq!(gate.log.lines(), ["running", "accepted", "stopped"]);
    assert_eq!(report.stats.accounted(), 2);
}

// --- the end by itself

#[tokio::test]
async fn a_module_ends_with_its_last_dispatcher_after_it_has_handled_everything() {
    let gate = Gate::opened();
    let module = spawn_module(gate.module());
    let dispatcher = module.dispatcher();
    dispatcher.try_command("one").expect("room");
    dispatcher.try_command("two").expect("room");

    drop(dispatcher);
    let report = within(module.wait()).await;

    assert_eq!(report.reason, StopReason::NoDispatchers);
    assert_eq!(gate.log.lines(), ["one", "two", "stopped"]);
    assert_eq!((report.stats.handled, report.deadline_passed), (2, false));
}

#[tokio::test]
async fn a_module_outlives_its_handle() {
    let gate = Gate::opened();
    let dispatcher = spawn_module(gate.module()).dispatcher();

    let handled = within(dispatcher.request("a")).await;

    assert_eq!(handled.expect("handled"), "a");
    assert!(!dispatcher.is_closed());
}

#[tokio::test]
async fn wait_goes_on_for_as_long_as_there_is_a_dispatcher() {
    let module = spawn_module(Gate::opened().module());
    let dispatcher = module.dispatcher();

    let mut waiting = queued(module.wait());
    let handled = within(dispatcher.request("a")).await;
    assert!(handled.is_ok() && waiting.poll().is_pending());
    drop(dispatcher);

    let report = within(waiting).await;
    assert_eq!(report.reason, StopReason::NoDispatchers);
}

#[tokio::test]
async fn a_shutdown_that_nobody_waits_for_happens_all_the_same() {
    let gate = Gate::opened();
    let module = spawn_module(gate.module());
    let dispatcher = module.dispatcher();

    drop(queued(module.shutdown(Stop::Drain)));

    within(dispatcher.closed()).await;
    assert!(dispatcher.is_closed());
    assert_eq!(gate.log.lines(), ["stopped"]);
}

#[tokio::test]
async fn senders_that_wait_for_room_are_refused_while_the_handler_still_runs() {
    for stop in [Stop::Drain, Stop::AfterCurrent] {
        let gate = Gate::closed();
        let module = module(gate.module()).capacity(1).spawn();
        let dispatcher = module.dispatcher();
        let _running = queued(dispatcher.request("running"));
        gate.entered().await;
        let _full = queued(dispatcher.request("queued"));
        let asking = queued(dispatcher.request("asking"));
        let telling = queued(dispatcher.command("telling"));

        module.stop(stop);

        assert_eq!(reason(within(asking).await), SHUTTING_DOWN);
        let refused = within(telling).await.expect_err("it was not accepted");
        assert_eq!(refused.reason, SHUTTING_DOWN);
        within(dispatcher.closed()).await;
        gate.open();
        within(module.wait()).await;
    }
}
