//! Pools: replicas behind one mailbox and one dispatcher.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use spark_channel::{
    ModuleHandle, SparkChannelCancellationToken, SparkChannelError, SparkGenericModuleDispatcher,
    SparkGenericModuleMessage, Stop, StopReason, pool, spawn_module, spawn_pool,
};
use tokio::{sync::Barrier, time::Instant};

use crate::support::{Gate, Gated, Runner, job, queued, reason, within};

mod support;

const SECOND: Duration = Duration::from_secs(1);

const SHUTTING_DOWN: SparkChannelError = SparkChannelError::ShuttingDown;

/// Makes modules behind `gate`.
fn behind(gate: &Gate) -> impl Fn() -> Gated + Send + Sync + 'static {
    let gate = gate.clone();
    move || gate.module()
}

fn count(gate: &Gate, line: &str) -> usize {
    gate.log
        .lines()
        .iter()
        .filter(|found| *found == line)
        .count()
}

#[tokio::test]
async fn replicas_run_side_by_side() {
    let module = spawn_pool(4, || Runner);
    let dispatcher = module.dispatcher();
    let barrier = Arc::new(Barrier::new(4));

    // Each waits for all of them.
    let requests: Vec<_> = (0..4)
        .map(|number| {
            let barrier = Arc::clone(&barrier);
            queued(dispatcher.request(job(async move {
                barrier.wait().await;
                Ok(number)
            })))
        })
        .collect();

    for (number, request) in (0..4).zip(requests) {
        assert_eq!(within(request).await.expect("handled"), number);
    }
}

#[tokio::test]
async fn no_more_messages_run_at_once_than_there_are_replicas() {
    let gate = Gate::closed();
    let module = spawn_pool(3, behind(&gate));
    let dispatcher = module.dispatcher();
    let requests: Vec<_> = (0..5)
        .map(|number| queued(dispatcher.request(number.to_string())))
        .collect();

    for _ in 0..3 {
        gate.entered().await;
    }
    tokio::task::yield_now().await;

    assert_eq!(gate.log.lines(), ["0", "1", "2"]);
    assert_eq!(module.stats().depth, 2);
    gate.open();
    for request in requests {
        assert!(within(request).await.is_ok());
    }
    assert_eq!(gate.log.lines(), ["0", "1", "2", "3", "4"]);
}

#[tokio::test]
async fn a_pool_and_a_single_module_have_the_same_dispatcher() {
    let gate = Gate::opened();
    let modules = [spawn_module(gate.module()), spawn_pool(2, behind(&gate))];

    let dispatchers: [SparkGenericModuleDispatcher<String, String>; 2] =
        modules.each_ref().map(ModuleHandle::dispatcher);

    for dispatcher in dispatchers {
        assert_eq!(within(dispatcher.request("a")).await.expect("handled"), "a");
    }
}

#[tokio::test]
#[should_panic(expected = "at least one replica")]
async fn a_pool_of_nobody_is_refused() {
    let _ = pool(0, || Runner);
}

#[tokio::test]
async fn each_replica_has_a_handler_of_its_own() {
    let made = Arc::new(AtomicUsize::new(0));
    let making = Arc::clone(&made);

    let module = spawn_pool(3, move || {
        making.fetch_add(1, Ordering::SeqCst);
        Runner
    });

    within(module.shutdown(Stop::Drain)).await;
    assert_eq!(made.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_replica_may_ask_its_own_pool() {
    let module = spawn_pool(2, || Runner);
    let dispatcher = module.dispatcher();
    let again = dispatcher.clone();

    let asked = dispatcher.request(job(async move {
        let inner = again.request(job(async { Ok(20) })).await?;
        Ok(inner + 1)
    }));

    assert_eq!(within(asked).await.expect("the other one answers"), 21);
}

// --- shutdown

#[tokio::test]
async fn drain_handles_everything_in_every_replica() {
    let gate = Gate::closed();
    let module = spawn_pool(2, behind(&gate));
    let dispatcher = module.dispatcher();
    let requests: Vec<_> = (0..6)
        .map(|number| queued(dispatcher.request(number.to_string())))
        .collect();
    gate.entered().await;

    module.stop(Stop::Drain);
    gate.open();
    let report = within(module.wait()).await;

    for request in requests {
        assert!(within(request).await.is_ok());
    }
    assert_eq!(report.reason, StopReason::Requested(Stop::Drain));
    assert_eq!((report.stats.handled, report.stats.accounted()), (6, 6));
    assert_eq!(count(&gate, "stopped"), 2);
}

#[tokio::test]
async fn after_current_finishes_what_each_replica_runs() {
    let gate = Gate::closed();
    let module = spawn_pool(2, behind(&gate));
    let dispatcher = module.dispatcher();
    let running = ["a", "b"].map(|message| queued(dispatcher.request(message)));
    gate.entered().await;
    gate.entered().await;
    let waiting = queued(dispatcher.request("waiting"));
    within(dispatcher.command("told")).await.expect("room");

    module.stop(Stop::AfterCurrent);
    gate.open();
    let report = within(module.wait()).await;

    for running in running {
        assert!(within(running).await.is_ok());
    }
    assert_eq!(reason(within(waiting).await), SHUTTING_DOWN);
    assert_eq!((report.stats.handled, report.stats.returned), (2, 1));
    assert_eq!((report.stats.undelivered, report.stats.accounted()), (1, 4));
    assert_eq!(count(&gate, "undelivered told"), 1);
}

#[tokio::test]
async fn now_drops_what_each_replica_runs() {
    let gate = Gate::closed();
    let module = spawn_pool(2, behind(&gate));
    let dispatcher = module.dispatcher();
    let running = ["a", "b"].map(|message| queued(dispatcher.request(message)));
    gate.entered().await;
    gate.entered().await;
    let waiting = queued(dispatcher.request("waiting"));

    let report = within(module.shutdown(Stop::Now)).await;

    for running in running {
        assert_eq!(reason(within(running).await), SparkChannelError::Cancelled);
    }
    assert_eq!(reason(within(waiting).await), SHUTTING_DOWN);
    assert_eq!((report.stats.interrupted, report.stats.returned), (2, 1));
    assert_eq!(count(&gate, "stopped"), 2);
}

#[tokio::test(start_paused = true)]
async fn one_deadline_holds_for_all_replicas() {
    let gate = Gate::closed();
    let module = spawn_pool(3, behind(&gate));
    let dispatcher = module.dispatcher();
    let running = ["a", "b"].map(|message| queued(dispatcher.request(message)));
    gate.entered().await;
    gate.entered().await;
    let start = Instant::now();

    let report = within(module.shutdown_within(Stop::Drain, SECOND)).await;

    assert!(start.elapsed() < SECOND + SECOND / 100);
    assert!(report.deadline_passed);
    assert_eq!(report.stats.interrupted, 2);
    for running in running {
        assert_eq!(reason(within(running).await), SparkChannelError::Cancelled);
    }
}

#[tokio::test]
async fn a_shutdown_message_stops_every_replica_once_what_came_before_it_is_handled() {
    let gate = Gate::closed();
    let module = spawn_pool(2, behind(&gate));
    let dispatcher = module.dispatcher();
    let before: Vec<_> = (0..5)
        .map(|number| queued(dispatcher.request(number.to_string())))
        .collect();
    let token = SparkChannelCancellationToken::new();
    let shutdown = SparkGenericModuleMessage::Shutdown(token.clone());
    within(dispatcher.sender.send(shutdown))
        .await
        .expect("room");
    let behind = queued(dispatcher.request("behind"));

    gate.open();
    let report = within(module.wait()).await;

    for before in before {
        assert!(within(before).await.is_ok());
    }
    assert_eq!(reason(within(behind).await), SHUTTING_DOWN);
    assert!(token.inner().is_cancelled());
    assert_eq!(report.reason, StopReason::ShutdownMessage);
    assert_eq!((report.stats.handled, report.stats.accounted()), (5, 7));
    assert_eq!(count(&gate, "stopped"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_before_a_shutdown_message_is_handled_on_several_threads_too() {
    for _ in 0..1_000 {
        let module = spawn_pool(3, || Runner);
        let dispatcher = module.dispatcher();
        for _ in 0..4 {
            let sent = dispatcher.try_command(job(async { Ok(0) }));
            assert!(sent.is_ok());
        }
        let token = SparkChannelCancellationToken::new();
        let shutdown = SparkGenericModuleMessage::Shutdown(token);
        assert!(dispatcher.sender.try_send(shutdown).is_ok());

        let report = within(module.wait()).await;

        assert_eq!((report.stats.handled, report.stats.undelivered), (4, 0));
    }
}

#[tokio::test]
async fn a_pool_ends_with_its_last_dispatcher() {
    let gate = Gate::opened();
    let module = spawn_pool(3, behind(&gate));
    module.dispatcher().try_command("a").expect("room");

    let report = within(module.wait()).await;

    assert_eq!(report.reason, StopReason::NoDispatchers);
    assert_eq!((report.stats.handled, count(&gate, "stopped")), (1, 3));
}

// --- stats

#[tokio::test]
async fn the_counts_of_a_pool_are_those_of_its_replicas_together() {
    let gate = Gate::closed();
    let module = pool(2, behind(&gate)).capacity(8).spawn();
    let dispatcher = module.dispatcher();
    let running = ["a", "fail"].map(|message| queued(dispatcher.request(message)));
    gate.entered().await;
    gate.entered().await;
    let waiting = ["b", "panic", "c"].map(|message| queued(dispatcher.request(message)));
    let depth = module.stats().depth;

    gate.open();
    for request in running.into_iter().chain(waiting) {
        let _ = within(request).await;
    }

    let stats = within(module.shutdown(Stop::Drain)).await.stats;
    assert_eq!(depth, 3);
    assert_eq!((stats.handled, stats.failed, stats.panicked), (4, 1, 1));
    assert_eq!(stats.accounted(), 5);
    assert_eq!(stats.high_water, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_behind_a_shutdown_message_is_handled_by_another_replica() {
    for _ in 0..100 {
        let gate = Gate::opened();
        let module = pool(3, {
            let gate = gate.clone();
            move || gate.module()
        })
        .spawn();
        let dispatcher = module.dispatcher();
        for _ in 0..5 {
            within(dispatcher.command("before")).await.expect("room");
        }
        let shutdown = SparkGenericModuleMessage::Shutdown(SparkChannelCancellationToken::new());
        dispatcher.sender.try_send(shutdown).expect("room");
        for _ in 0..5 {
            // Refused, or accepted and handed back.
            let _ = dispatcher.try_command("behind");
        }

        within(module.wait()).await;

        let lines = gate.log.lines();
        assert_eq!(lines.iter().filter(|line| *line == "before").count(), 5);
        assert!(!lines.contains(&"behind".to_owned()), "{lines:?}");
    }
}
