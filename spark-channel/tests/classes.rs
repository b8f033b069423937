//! Classes of messages: which are taken first, and that everything else holds as it
//! does without them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use spark_channel::{
    Backoff, Child, Class, HandleOf, ModuleState, PanicPolicy, SparkChannelCancellationToken,
    SparkChannelError, SparkGenericModuleDispatcher, SparkGenericModuleMessage, Stage, Stop,
    StopReason, Strategy, Supervisor, SupervisorHandle, module, pool,
};
use tokio::task::yield_now;
use tokio_test::task;

use crate::{
    sorting::{busy, class, classify, drained, sorted},
    support::{Gate, Gated, queued, reason, until, within},
};

#[path = "support/sorting.rs"]
mod sorting;
mod support;

type Dispatcher = SparkGenericModuleDispatcher<String, String>;

// === what is taken first ===

#[tokio::test]
async fn the_higher_priority_goes_first_and_within_one_the_older() {
    let gate = Gate::closed();
    let module = sorted(&gate).await;
    let dispatcher = module.dispatcher();
    for command in [
        "low 1",
        "1",
        "high 1",
        "latest 2",
        "control 1",
        "low 2",
        "high 2",
        "3",
    ] {
        dispatcher.try_command(command).expect("room");
    }

    let (lines, _) = drained(&gate, module).await;
    let order = [
        "control 1",
        "high 1",
        "high 2",
        "1",
        "latest 2",
        "3",
        "low 1",
        "low 2",
    ];
    assert_eq!(lines, order);
}

#[tokio::test]
async fn control_waits_for_the_running_handler_only() {
    let gate = Gate::closed();
    let builder = module(gate.module())
        .capacity(64)
        .classify(|message| classify(message));
    let module = busy(&gate, builder).await;
    let dispatcher = module.dispatcher();
    for number in 0..64 {
        dispatcher
            .try_command(format!("data {number}"))
            .expect("room");
    }
    assert!(dispatcher.try_command("one too many").is_err());
    let asked = queued(dispatcher.request("control"));

    gate.let_pass(2);
    gate.entered().await;

    assert_eq!(within(asked).await.expect("answered"), "control");
    assert_eq!(gate.log.lines()[..2], ["running", "control"]);
    let (lines, _) = drained(&gate, module).await;
    assert_eq!(lines.len(), 65);
}

#[tokio::test]
async fn a_flood_of_high_ones_does_not_starve_the_rest() {
    let gate = Gate::closed();
    let module = sorted(&gate).await;
    let dispatcher = module.dispatcher();
    dispatcher.try_command("low").expect("room");
    dispatcher.try_command("normal").expect("room");
    for _ in 0..64 {
        dispatcher.try_command("high").expect("room");
    }

    let (lines, _) = drained(&gate, module).await;
    let place = |wanted: &str| lines.iter().position(|line| line == wanted);
    assert_eq!((place("normal"), place("low")), (Some(16), Some(17)));
}

#[tokio::test]
async fn what_is_sent_straight_into_the_channel_keeps_its_place_in_the_default_class() {
    let gate = Gate::closed();
    let module = sorted(&gate).await;
    let dispatcher = module.dispatcher();
    for number in 0..9 {
        if number % 3 == 0 {
            let bare = SparkGenericModuleMessage::Command(number.to_string());
            within(dispatcher.sender.send(bare)).await.expect("room");
        } else {
            dispatcher.try_command(number.to_string()).expect("room");
        }
    }
    dispatcher.try_command("high").expect("room");

    assert_eq!(module.stats().depth, 10);
    let (lines, stats) = drained(&gate, module).await;
    assert_eq!(lines, ["high", "0", "1", "2", "3", "4", "5", "6", "7", "8"]);
    assert_eq!(stats.accounted(), 11);
}

#[tokio::test]
async fn a_reserved_place_in_the_channel_does_not_disturb_the_order() {
    let gate = Gate::closed();
    let module = sorted(&gate).await;
    let dispatcher = module.dispatcher();
    let permit = within(dispatcher.sender.reserve()).await.expect("room");
    dispatcher.try_command("1").expect("room");
    let token = SparkChannelCancellationToken::new();
    let shutdown = SparkGenericModuleMessage::Shutdown(token);
    dispatcher.sender.try_send(shutdown).expect("room");
    drop(permit);
    gate.open();

    let report = within(module.wait()).await;
    assert_eq!(gate.log.lines(), ["running", "1", "stopped"]);
    assert_eq!(report.reason, StopReason::ShutdownMessage);
}

// === direct calls ===

/// A module with classes that has started and waits.
async fn idle(gate: &Gate) -> HandleOf<Gated> {
    let module = module(gate.module())
        .classify(|message| classify(message))
        .spawn();
    // On one thread: its task runs, and comes to rest, before this one goes on.
    yield_now().await;
    module
}

#[tokio::test]
async fn an_idle_module_answers_at_the_first_poll_whatever_the_class() {
    let gate = Gate::opened();
    let module = idle(&gate).await;
    let dispatcher = module.dispatcher();

    for message in ["low", "1", "control"] {
        let mut asking = task::spawn(dispatcher.request(message));
        let Poll::Ready(answer) = asking.poll() else {
            panic!("`{message}` was not answered at once");
        };
        assert_eq!(answer.expect("handled"), message);
    }

    let stats = within(module.shutdown(Stop::Drain)).await.stats;
    assert_eq!((stats.handled, stats.accounted()), (3, 3));
}

#[tokio::test]
async fn no_direct_call_overtakes_what_a_class_or_the_channel_holds() {
    for (told, order) in [
        ("1", ["1", "2"]),
        ("high", ["high", "2"]),
        ("latest", ["latest", "2"]),
        ("low", ["2", "low"]),
        ("bare", ["bare", "2"]),
    ] {
        let gate = Gate::opened();
        let module = idle(&gate).await;
        let dispatcher = module.dispatcher();
        if told == "bare" {
            let bare = SparkGenericModuleMessage::Command(told.to_owned());
            dispatcher.sender.try_send(bare).expect("room");
        } else {
            dispatcher.try_command(told).expect("room");
        }

        let asked = queued(dispatcher.request("2"));

        assert_eq!(within(asked).await.expect("handled"), "2");
        within(module.shutdown(Stop::Drain)).await;
        assert_eq!(gate.log.lines()[..2], order);
    }
}

#[tokio::test]
async fn what_comes_while_a_direct_call_runs_on_is_sorted() {
    let gate = Gate::closed();
    let module = idle(&gate).await;
    let dispatcher = module.dispatcher();
    let asked = queued(dispatcher.request("running"));
    for command in ["low", "1", "control"] {
        dispatcher.try_command(command).expect("room");
    }

    let (lines, stats) = drained(&gate, module).await;

    assert_eq!(within(asked).await.expect("handled"), "running");
    assert_eq!(lines, ["control", "1", "low"]);
    assert_eq!(stats.accounted(), 4);
}

#[tokio::test]
async fn a_module_with_classes_and_without_direct_calls_answers_in_its_own_task() {
    let module = module(Gate::opened().module())
        .classify(|message| classify(message))
        .without_direct_calls()
        .spawn();
    yield_now().await;
    let dispatcher = module.dispatcher();

    let asked = queued(dispatcher.request("1"));

    assert_eq!(within(asked).await.expect("handled"), "1");
}

// === deadlines, callers, panics ===

#[tokio::test(start_paused = true)]
async fn what_expires_or_is_abandoned_in_a_class_never_runs() {
    let gate = Gate::closed();
    let module = sorted(&gate).await;
    let dispatcher = module.dispatcher();
    let timeout = Duration::from_millis(20);
    let expired = within(dispatcher.request("low expired").timeout(timeout)).await;
    drop(queued(dispatcher.request("high abandoned")));

    let stage = Stage::Queued;
    assert_eq!(reason(expired), SparkChannelError::TimedOut { stage });
    let (lines, stats) = drained(&gate, module).await;
    assert!(lines.is_empty());
    assert_eq!((stats.expired, stats.abandoned), (1, 1));
    assert_eq!(stats.accounted(), 3);
}

#[tokio::test]
async fn a_panic_while_sorting_is_the_senders() {
    let gate = Gate::opened();
    let module = module(gate.module())
        .classify(|message| {
            assert!(message != "bad", "told to panic");
            Class::DEFAULT
        })
        .spawn();
    let dispatcher = module.dispatcher();
    let sender = dispatcher.clone();

    let bad = tokio::spawn(async move { sender.command("bad").await });

    assert!(within(bad).await.expect_err("panicked").is_panic());
    assert_eq!(
        within(dispatcher.request("good")).await.expect("handled"),
        "good"
    );
    let stats = within(module.shutdown(Stop::Drain)).await.stats;
    assert_eq!((stats.accounted(), stats.panics), (1, 0));
}

#[tokio::test]
async fn a_panicking_handler_goes_on_with_what_is_queued() {
    let gate = Gate::closed();
    let builder = module(gate.module())
        .on_panic(PanicPolicy::restart({
            let gate = gate.clone();
            move || gate.module()
        }))
        .classify(|message| classify(message));
    let module = busy(&gate, builder).await;
    let dispatcher = module.dispatcher();
    for command in ["low", "panic", "high"] {
        dispatcher.try_command(command).expect("room");
    }

    let (lines, stats) = drained(&gate, module).await;
    assert_eq!(lines, ["high", "panic", "low"]);
    assert_eq!(
        (stats.panicked, stats.restarts, stats.accounted()),
        (1, 1, 4)
    );
}

// === stopping ===

#[tokio::test]
async fn a_shutdown_message_comes_after_everything_accepted_before_it_in_any_class() {
    for replicas in [1, 3] {
        let gate = Gate::closed();
        let dispatcher;
        let module = {
            let gate = gate.clone();
            let module = pool(replicas, move || gate.module())
                .classify(|message| classify(message))
                .spawn();
            dispatcher = module.dispatcher();
            module
        };
        for _ in 0..replicas {
            dispatcher.try_command("running").expect("room");
            gate.entered().await;
        }
        for command in ["low 1", "1", "high 1"] {
            dispatcher.try_command(command).expect("room");
        }
        let token = SparkChannelCancellationToken::new();
        let shutdown = SparkGenericModuleMessage::Shutdown(token.clone());
        dispatcher.sender.try_send(shutdown).expect("room");
        dispatcher.try_command("high 2").expect("room");
        let late = queued(dispatcher.request("low 2"));

        gate.open();
        let report = within(module.wait()).await;

        assert_eq!(reason(within(late).await), SparkChannelError::ShuttingDown);
        assert_eq!(report.reason, StopReason::ShutdownMessage);
        assert!(token.inner().is_cancelled());
        let stats = report.stats;
        assert_eq!(stats.handled, 3 + replicas as u64, "{replicas} replicas");
        assert_eq!((stats.undelivered, stats.returned), (1, 1));
        let mut lines = gate.log.lines();
        lines.retain(|line| line.starts_with("low") || line.starts_with("undelivered"));
        lines.sort();
        assert_eq!(lines, ["low 1", "undelivered high 2"]);
    }
}

#[tokio::test]
async fn a_stop_gives_back_what_every_class_holds_and_refuses_those_who_wait() {
    for stop in [Stop::AfterCurrent, Stop::Now] {
        let gate = Gate::closed();
        let builder = module(gate.module())
            .capacity(1)
            .classify(|message| classify(message));
        let module = busy(&gate, builder).await;
        let dispatcher = module.dispatcher();
        dispatcher.try_command("1").expect("room");
        let asked = queued(dispatcher.request("high"));
        let told = queued(dispatcher.command("waits"));
        let waiting = queued(dispatcher.request("waits too"));

        module.stop(stop);
        assert!(dispatcher.try_command("low").is_err());
        gate.open();
        let stats = within(module.wait()).await.stats;

        let refused = within(told).await.expect_err("stopping");
        assert!(refused.reason.never_started());
        assert_eq!(refused.into_inner(), "waits");
        assert!(reason(within(waiting).await).never_started());
        assert_eq!(reason(within(asked).await), SparkChannelError::ShuttingDown);
        assert_eq!((stats.returned, stats.undelivered), (1, 1), "{stop:?}");
        assert_eq!(stats.accounted(), 3);
        assert_eq!(dispatcher.stats().map(|stats| stats.rejected), Some(3));
        assert_eq!(
            dispatcher.try_command("late").expect_err("ended").reason,
            SparkChannelError::Closed
        );
    }
}

#[tokio::test]
async fn a_module_ends_with_its_last_dispatcher_and_handles_what_is_queued_first() {
    let gate = Gate::closed();
    let module = sorted(&gate).await;
    let dispatcher = module.dispatcher();
    let weak = dispatcher.downgrade();
    weak.upgrade()
        .expect("alive")
        .try_command("low")
        .expect("room");
    dispatcher.try_command("high").expect("room");
    drop(dispatcher);
    gate.open();

    let report = within(module.wait()).await;

    assert_eq!(report.reason, StopReason::NoDispatchers);
    assert_eq!(gate.log.lines(), ["running", "high", "low", "stopped"]);
    assert!(weak.upgrade().is_none());
}

#[tokio::test]
async fn who_waits_learns_of_a_runtime_that_ends() {
    let gate = Gate::closed();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .expect("a runtime");
    let dispatcher = {
        let _inside = runtime.enter();
        let builder = module(gate.module()).capacity(1);
        let module = builder.classify(|message| classify(message)).spawn();
        module.dispatcher()
    };
    dispatcher.try_command("running").expect("room");
    gate.entered().await;
    let asked = queued(dispatcher.request("queued"));
    let told = queued(dispatcher.command("waits"));

    runtime.shutdown_background();

    assert_eq!(reason(within(asked).await), SparkChannelError::ReplyDropped);
    assert_eq!(
        within(told).await.expect_err("gone").reason,
        SparkChannelError::Closed
    );
    within(dispatcher.closed()).await;
}

// === supervision ===

/// A supervised module whose handler has panicked and is not made again yet.
async fn restarting(gate: &Gate) -> (SupervisorHandle, Dispatcher) {
    let mut tree = Supervisor::new("tree", Strategy::OneForOne).backoff(Backoff::exponential(
        Duration::from_secs(1),
        Duration::from_secs(1),
    ));
    let child = {
        let gate = gate.clone();
        Child::new(move || gate.module())
    };
    let child = child.capacity(2).classify(|message| classify(message));
    let child = tree.child(child);
    let tree = tree.spawn();
    child.try_command("panic").expect("room");
    gate.entered().await;
    for command in ["low 1", "1", "high 1", "latest 1"] {
        child.try_command(command).expect("room");
    }
    gate.let_pass(1);
    until(|| tree.children()[0].state == ModuleState::Restarting).await;
    (tree, child)
}

#[tokio::test(start_paused = true)]
async fn a_restart_keeps_what_every_class_holds_and_its_policies_go_on() {
    let gate = Gate::closed();
    let (tree, child) = restarting(&gate).await;

    for command in ["latest 2", "latest 3", "2"] {
        child.try_command(command).expect("accepted");
    }
    assert!(child.try_command("3").is_err());
    let stats = child.class_stats();
    assert_eq!(class(&stats, "default").depth, 2);
    assert_eq!(class(&stats, "latest").dropped, 1);
    gate.open();
    assert_eq!(
        within(child.request("control")).await.expect("handled"),
        "control"
    );

    let report = within(tree.shutdown(Stop::Drain)).await;
    let stats = report.modules().next().expect("one child").stats;
    assert_eq!((stats.panicked, stats.handled, stats.dropped), (1, 7, 1));
    assert_eq!((stats.rejected, stats.accounted()), (1, 9));
    let order = [
        "panic", "control", "high 1", "1", "latest 2", "latest 3", "2", "low 1", "stopped",
    ];
    assert_eq!(gate.log.lines(), order);
}

#[tokio::test(start_paused = true)]
async fn a_module_that_is_stopped_before_its_restart_gives_back_what_every_class_holds() {
    let gate = Gate::closed();
    let (tree, child) = restarting(&gate).await;
    let asked = queued(child.request("high 2"));
    child.try_command("2").expect("room");
    let waiting = queued(child.command("3"));
    gate.open();

    let report = within(tree.shutdown(Stop::AfterCurrent)).await;

    assert_eq!(reason(within(asked).await), SparkChannelError::ShuttingDown);
    let refused = within(waiting).await.expect_err("stopped");
    assert_eq!(refused.into_inner(), "3");
    let stats = report.modules().next().expect("one child").stats;
    assert_eq!((stats.undelivered, stats.returned), (5, 1));
    assert_eq!(stats.accounted(), 7);
}

// === pools ===

#[tokio::test]
async fn the_replicas_of_a_pool_take_from_one_mailbox_of_classes() {
    let gate = Gate::closed();
    let made = Arc::new(AtomicUsize::new(0));
    let module = {
        let (gate, made) = (gate.clone(), Arc::clone(&made));
        pool(2, move || {
            made.fetch_add(1, Ordering::Relaxed);
            gate.module()
        })
        .classify(|message| classify(message))
        .spawn()
    };
    let dispatcher = module.dispatcher();
    for _ in 0..2 {
        dispatcher.try_command("running").expect("room");
        gate.entered().await;
    }
    for command in ["low", "quote a 1", "high", "quote a 2"] {
        dispatcher.try_command(command).expect("accepted");
    }
    for _ in 0..3 {
        gate.let_pass(1);
        gate.entered().await;
    }
    gate.open();

    let stats = within(module.shutdown(Stop::Drain)).await.stats;
    assert_eq!(gate.log.lines()[2..5], ["high", "quote a 2", "low"]);
    assert_eq!(
        (stats.handled, stats.conflated, stats.accounted()),
        (5, 1, 6)
    );
    assert_eq!(made.load(Ordering::Relaxed), 2);
}
