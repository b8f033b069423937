//! A shutdown ends within its deadline and loses nothing, whatever the handler does.

use std::time::Duration;

use spark_channel::{
    HandleOf, NativeHandler, SparkChannelError, SparkGenericModuleDispatcher, Stop, StopReason,
    module, pool,
};
use tokio::{
    task::{self, JoinSet},
    time::{Instant, sleep},
};

struct Endless;

#[derive(Clone, Copy, Debug)]
enum Work {
    /// Is never woken again.
    Pends,
    /// Is always ready to be polled, and has spent its tokio budget by then.
    Spends,
    /// Takes a minute, and is answered.
    TakesLong,
}

type Dispatcher = SparkGenericModuleDispatcher<
    Work,
    (),
    spark_channel::SparkChannelCancellationToken,
    SparkChannelError,
>;

impl NativeHandler for Endless {
    type Message = Work;
    type Response = ();
    type Error = SparkChannelError;

    async fn handle_request(&mut self, work: Work) -> Result<(), SparkChannelError> {
        match work {
            Work::Pends => std::future::pending().await,
            Work::TakesLong => {
                sleep(Duration::from_secs(60)).await;
                Ok(())
            }
            Work::Spends => loop {
                task::consume_budget().await;
            },
        }
    }

    async fn handle_command(&mut self, work: Work) -> Result<(), SparkChannelError> {
        self.handle_request(work).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_never_completes_cannot_keep_a_shutdown() {
    for stop in [Stop::Drain, Stop::AfterCurrent, Stop::Now] {
        for replicas in [None, Some(1), Some(3)] {
            check(stop, replicas, 2, Work::Pends).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_never_completes_cannot_keep_a_shutdown_on_two_threads() {
    for stop in [Stop::Drain, Stop::AfterCurrent, Stop::Now] {
        for replicas in [None, Some(1), Some(3)] {
            check(stop, replicas, 2, Work::Pends).await;
        }
    }
}

/// Tokio lets a task do a limited number of things per poll, then makes its
/// resources look pending: receivers and timers too.
#[tokio::test]
async fn a_handler_that_spends_its_budget_cannot_keep_a_shutdown() {
    for stop in [Stop::Drain, Stop::AfterCurrent, Stop::Now] {
        for replicas in [None, Some(1)] {
            check(stop, replicas, 2, Work::Spends).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_queue_is_given_back_whole_at_the_deadline() {
    for stop in [Stop::Drain, Stop::AfterCurrent, Stop::Now] {
        for replicas in [None, Some(1), Some(3)] {
            check(stop, replicas, 5_000, Work::Pends).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_queued_when_told_to_stop_after_the_current_one_does_not_start() {
    for replicas in [None, Some(1), Some(3)] {
        let handle = spawn(replicas, 8);
        sleep(Duration::from_millis(1)).await;
        // The module is idle, and woken, and has not run yet.
        let caller = call(&handle.dispatcher(), Work::Pends).expect("there is room");
        let report = handle.shutdown(Stop::AfterCurrent).await;
        assert_eq!(report.stats.returned, 1, "of {replicas:?}: {report:?}");
        assert_eq!(caller.await, SparkChannelError::ShuttingDown);
    }
}

#[tokio::test(start_paused = true)]
async fn without_dispatchers_every_replica_ends_its_work_in_its_own_time() {
    for replicas in [None, Some(1), Some(3)] {
        let handle = spawn(replicas, 8);
        let sent = handle.dispatcher().command(Work::TakesLong).await;
        assert!(sent.is_ok(), "{sent:?}");
        let report = handle.wait().await;
        assert_eq!(report.stats.handled, 1, "of {replicas:?}: {report:?}");
    }
}

/// Stops a module of endless handlers whose mailbox is full.
async fn check(stop: Stop, replicas: Option<usize>, capacity: usize, work: Work) {
    let within = Duration::from_millis(30);
    let handle = spawn(replicas, capacity);
    let mut callers = JoinSet::new();
    let dispatcher = handle.dispatcher();
    let mut accepted = 0;
    loop {
        let caller = call(&dispatcher, work);
        sleep_if(accepted < 8).await;
        match caller {
            Some(caller) => callers.spawn(caller),
            None => break,
        };
        accepted += 1;
    }

    let told = Instant::now();
    let report = handle.shutdown_within(stop, within).await;

    let took = told.elapsed();
    let slack = Duration::from_millis(500);
    assert!(took <= within + slack, "{stop:?} took {took:?}: {report:?}");
    assert_eq!(report.reason, StopReason::Requested(stop), "{report:?}");
    let mut cancelled = 0;
    while let Some(outcome) = callers.join_next().await {
        match outcome.expect("a caller does not panic") {
            SparkChannelError::Cancelled => cancelled += 1,
            SparkChannelError::ShuttingDown => {}
            other => panic!("{stop:?} of {replicas:?}: {other:?}, {report:?}"),
        }
    }
    assert_eq!(report.stats.interrupted, cancelled);
    assert_eq!(report.stats.accounted(), accepted, "{report:?}");
}

fn spawn(replicas: Option<usize>, capacity: usize) -> HandleOf<Endless> {
    match replicas {
        None => module(Endless).capacity(capacity).spawn(),
        Some(replicas) => pool(replicas, || Endless).capacity(capacity).spawn(),
    }
}

/// Lets the first few be taken, so that every replica is busy before the mailbox fills.
async fn sleep_if(few: bool) {
    if few {
        sleep(Duration::from_millis(1)).await;
    }
}

/// Sends a request if there is room; the future awaits how it ends.
fn call(
    dispatcher: &Dispatcher,
    work: Work,
) -> Option<impl Future<Output = SparkChannelError> + Send + use<>> {
    let (sender, reply) = tokio::sync::oneshot::channel();
    let wrapper = spark_channel::CallbackWrapper::new(work, sender);
    let message = spark_channel::SparkGenericModuleMessage::Request(wrapper);
    dispatcher.sender.try_send(message).ok()?;
    Some(async move {
        match reply.await {
            Ok(Ok(())) => unreachable!("only endless work is called for"),
            Ok(Err(error)) => error,
            Err(_) => SparkChannelError::ReplyDropped,
        }
    })
}
