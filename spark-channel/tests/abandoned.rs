//! Requests whose caller has gone.

use std::{future::pending, sync::Arc, time::Duration};

use spark_channel::{Stop, current, module, spawn_module};
use tokio::sync::{Notify, oneshot};

use crate::support::{Gate, Job, Runner, job, queued, within};

mod support;

const SECOND: Duration = Duration::from_secs(1);

/// A job that tells `started`, then tells `cancelled` when it is cancelled, and
/// only ends when it is.
fn until_cancelled(started: &Arc<Notify>, cancelled: &Arc<Notify>) -> Job {
    let (started, cancelled) = (Arc::clone(started), Arc::clone(cancelled));
    job(async move {
        started.notify_one();
        current::cancelled().await;
        cancelled.notify_one();
        Ok(0)
    })
}

/// Sends its name when dropped.
struct Dropped(Option<oneshot::Sender<()>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.take().map(|tell| tell.send(()));
    }
}

#[tokio::test]
async fn a_queued_request_whose_caller_has_gone_is_skipped_and_counted() {
    let gate = Gate::closed();
    let module = spawn_module(gate.module());
    let dispatcher = module.dispatcher();
    let running = queued(dispatcher.request("running"));
    gate.entered().await;

    drop(queued(dispatcher.request("gone")));
    let last = queued(dispatcher.request("last"));
    gate.open();

    assert!(within(running).await.is_ok() && within(last).await.is_ok());
    let report = within(module.shutdown(Stop::Drain)).await;
    assert_eq!(gate.log.lines(), ["running", "last", "stopped"]);
    assert_eq!((report.stats.abandoned, report.stats.handled), (1, 2));
}

#[tokio::test]
async fn a_request_that_goes_while_it_waits_for_room_was_never_sent() {
    let gate = Gate::closed();
    let module = module(gate.module()).capacity(1).spawn();
    let dispatcher = module.dispatcher();
    let running = queued(dispatcher.request("running"));
    gate.entered().await;
    let waiting = queued(dispatcher.request("waiting"));

    drop(queued(dispatcher.request("gone")));
    drop(queued(dispatcher.command("gone, too")));
    gate.open();

    assert!(within(running).await.is_ok() && within(waiting).await.is_ok());
    let report = within(module.shutdown(Stop::Drain)).await;
    assert_eq!(gate.log.lines(), ["running", "waiting", "stopped"]);
    assert_eq!(report.stats.accounted(), 2);
}

#[tokio::test]
async fn a_request_that_was_never_polled_was_never_sent() {
    let module = spawn_module(Runner);
    let dispatcher = module.dispatcher();

    drop(dispatcher.request(job(async { Ok(0) })));
    drop(dispatcher.command(job(async { Ok(0) })));

    let report = within(module.shutdown(Stop::Drain)).await;
    assert_eq!(report.stats.accounted(), 0);
}

#[tokio::test]
async fn a_running_handler_goes_on_when_its_caller_goes() {
    let gate = Gate::closed();
    let module = spawn_module(gate.module());
    let dispatcher = module.dispatcher();
    let request = queued(dispatcher.request("running"));
    gate.entered().await;

    drop(request);
    gate.open();

    let report = within(module.shutdown(Stop::Drain)).await;
    assert_eq!((report.stats.handled, report.stats.interrupted), (1, 0));
}

#[tokio::test]
async fn a_running_handler_can_learn_that_its_caller_has_gone() {
    let (started, cancelled) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let module = spawn_module(Runner);
    let dispatcher = module.dispatcher();
    let request = queued(dispatcher.request(until_cancelled(&started, &cancelled)));
    within(started.notified()).await;

    drop(request);

    within(cancelled.notified()).await;
    let report = within(module.shutdown(Stop::Drain)).await;
    assert_eq!((report.stats.handled, report.stats.interrupted), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_running_handler_can_learn_that_its_caller_has_timed_out() {
    let (started, cancelled) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let module = spawn_module(Runner);
    let dispatcher = module.dispatcher();

    let request = dispatcher.request(until_cancelled(&started, &cancelled));
    let asked = within(request.timeout(SECOND)).await;

    assert!(asked.is_err());
    within(cancelled.notified()).await;
}

#[tokio::test]
async fn a_task_of_the_handler_can_learn_that_the_module_stops_now() {
    for send in [queued_request, queued_command] {
        let (started, cancelled) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (starting, cancelling) = (Arc::clone(&started), Arc::clone(&cancelled));
        let module = spawn_module(Runner);
        let dispatcher = module.dispatcher();
        send(
            &dispatcher,
            job(async move {
                let signal = current::cancelled();
                tokio::spawn(async move {
                    signal.await;
                    cancelling.notify_one();
                });
                starting.notify_one();
                pending().await
            }),
        );
        within(started.notified()).await;

        let report = within(module.shutdown(Stop::Now)).await;

        within(cancelled.notified()).await;
        assert_eq!(report.stats.interrupted, 1);
    }
}

type Dispatcher = spark_channel::SparkGenericModuleDispatcher<Job, u64>;

fn queued_request(dispatcher: &Dispatcher, job: Job) {
    let dispatcher = dispatcher.clone();
    tokio::spawn(async move { dispatcher.request(job).await });
}

fn queued_command(dispatcher: &Dispatcher, job: Job) {
    assert!(dispatcher.try_command(job).is_ok());
}

#[tokio::test]
async fn the_signal_of_a_message_that_was_answered_stays_silent() {
    let (tell, told) = oneshot::channel();
    let module = spawn_module(Runner);
    let dispatcher = module.dispatcher();
    let first = dispatcher.request(job(async {
        let _ = tell.send(tokio_test::task::spawn(current::cancelled()));
        Ok(0)
    }));
    within(first).await.expect("answered");
    let mut signal = within(told).await.expect("told");
    let (started, cancelled) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let second = queued(dispatcher.request(until_cancelled(&started, &cancelled)));
    within(started.notified()).await;

    drop(second);
    within(cancelled.notified()).await;

    assert!(signal.poll().is_pending(), "it was of the first message");
}

#[tokio::test]
async fn outside_of_a_handler_nothing_is_ever_cancelled() {
    let mut signal = tokio_test::task::spawn(current::cancelled());
    assert!(signal.poll().is_pending());
}

#[tokio::test]
async fn an_abandoned_handler_is_dropped_if_the_module_was_built_so() {
    let (tell, dropped) = oneshot::channel();
    let started = Arc::new(Notify::new());
    let starting = Arc::clone(&started);
    let module = module(Runner).drop_abandoned().spawn();
    let dispatcher = module.dispatcher();
    let local = Dropped(Some(tell));
    let request = queued(dispatcher.request(job(async move {
        let _local = local;
        starting.notify_one();
        pending().await
    })));
    within(started.notified()).await;

    drop(request);

    within(dropped).await.expect("its locals are dropped");
    let next = within(dispatcher.request(job(async { Ok(1) }))).await;
    assert_eq!(next.expect("the module is free"), 1);
    let report = within(module.shutdown(Stop::Drain)).await;
    assert_eq!((report.stats.interrupted, report.stats.handled), (1, 1));
}

#[tokio::test]
async fn a_handler_whose_caller_stays_is_not_dropped() {
    let gate = Gate::closed();
    let module = module(gate.module()).drop_abandoned().spawn();
    let dispatcher = module.dispatcher();
    let stays = queued(dispatcher.request("stays"));
    within(dispatcher.command("nobody waits"))
        .await
        .expect("room");
    gate.entered().await;

    gate.open();

    assert_eq!(within(stays).await.expect("handled"), "stays");
    let report = within(module.shutdown(Stop::Drain)).await;
    assert_eq!((report.stats.interrupted, report.stats.handled), (0, 2));
}
