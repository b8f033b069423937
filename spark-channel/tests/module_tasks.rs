//! Background tasks that a handler owns.

use std::{
    future::{Future, pending},
    num::NonZeroUsize,
    sync::Arc,
    time::Duration,
};

use spark_channel::{
    ModuleTasks, NativeHandler, PanicPolicy, SparkChannelError, Stop, module, spawn_module,
};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};

use crate::support::{Log, reason, within};

mod support;

/// Runs in the background whatever it is sent, and logs how its tasks ended.
struct Owner {
    tasks: ModuleTasks,
    grace: Option<Duration>,
    log: Log,
}

enum Work {
    Run(Background),
    Panic,
    Count,
}

type Background = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

impl NativeHandler for Owner {
    type Message = Work;
    type Response = String;
    type Error = eyre::Report;

    async fn handle_request(&mut self, work: Work) -> eyre::Result<String> {
        match work {
            Work::Run(task) => self.tasks.spawn(task).map_err(|refused| refused.reason)?,
            Work::Panic => panic!("the handler"),
            Work::Count => {}
        }
        Ok(format!("{:?}", self.tasks.stats()))
    }

    async fn handle_command(&mut self, _: Work) -> eyre::Result<()> {
        Ok(())
    }

    async fn stopped(&mut self) {
        let stats = match self.grace {
            Some(grace) => self.tasks.shutdown_within(grace).await,
            None => self.tasks.shutdown().await,
        };
        self.log.push(format!("{stats:?}"));
    }
}

/// Tells when it is dropped.
struct Dropped(mpsc::Sender<()>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

fn tasks(at_most: usize) -> ModuleTasks {
    ModuleTasks::at_most(NonZeroUsize::new(at_most).expect("not zero"))
}

fn owner(log: &Log) -> Owner {
    Owner {
        tasks: tasks(4),
        grace: None,
        log: log.clone(),
    }
}

fn run(task: impl Future<Output = ()> + Send + 'static) -> Work {
    Work::Run(Box::pin(task))
}

fn stats(running: usize, finished: u64, cancelled: u64, panicked: u64) -> String {
    format!(
        "TaskStats {{ running: {running}, finished: {finished}, cancelled: {cancelled}, panicked: {panicked} }}"
    )
}

/// Runs forever; the receiver gets a word when it is dropped.
fn forever() -> (
    impl Future<Output = ()> + Send + 'static,
    mpsc::Receiver<()>,
) {
    let (sender, dropped) = mpsc::channel(1);
    let guard = Dropped(sender);
    let task = async move {
        let _guard = guard;
        pending::<()>().await;
    };
    (task, dropped)
}

#[tokio::test]
async fn a_module_that_stops_cancels_its_tasks_and_waits_for_them() {
    let log = Log::default();
    let owner = spawn_module(owner(&log));
    let dispatcher = owner.dispatcher();
    let (task, mut dropped) = forever();

    within(dispatcher.request(run(task)))
        .await
        .expect("spawned");
    within(dispatcher.request(run(async {})))
        .await
        .expect("spawned");
    tokio::task::yield_now().await;
    let counted = within(dispatcher.request(Work::Count))
        .await
        .expect("counted");
    let report = within(owner.shutdown(Stop::Drain)).await;

    assert_eq!(counted, stats(1, 1, 0, 0));
    assert!(dropped.try_recv().is_ok() && !report.deadline_passed);
    assert_eq!(log.lines(), [stats(0, 1, 1, 0)]);
}

#[tokio::test]
async fn a_task_that_panics_is_counted_and_ends_nothing_else() {
    let log = Log::default();
    let owner = spawn_module(owner(&log));
    let dispatcher = owner.dispatcher();

    within(dispatcher.request(run(async { panic!("in a task") })))
        .await
        .expect("spawned");
    tokio::task::yield_now().await;
    let counted = within(dispatcher.request(Work::Count))
        .await
        .expect("counted");
    let report = within(owner.shutdown(Stop::Drain)).await;

    assert_eq!(counted, stats(0, 0, 0, 1));
    assert_eq!((report.stats.panics, report.stats.handled), (0, 2));
}

#[tokio::test]
async fn a_task_that_panics_while_it_is_cancelled_is_counted() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("in a destructor");
        }
    }
    let mut tasks = tasks(2);
    let spawn = |tasks: &ModuleTasks| {
        let guard = Panics;
        let task = async move {
            let _guard = guard;
            pending::<()>().await;
        };
        assert!(tasks.spawn(task).is_ok());
    };
    spawn(&tasks);
    tokio::task::yield_now().await;

    let ended = within(tasks.shutdown()).await;

    assert_eq!((ended.panicked, ended.cancelled, ended.running), (1, 0, 0));
}

#[tokio::test]
async fn no_more_tasks_run_than_may() {
    let mut tasks = tasks(2);
    let gate = Arc::new(Notify::new());
    let waits = |gate: &Arc<Notify>| {
        let gate = Arc::clone(gate);
        async move { gate.notified().await }
    };
    assert!(tasks.spawn(waits(&gate)).is_ok() && tasks.spawn(waits(&gate)).is_ok());

    let refused = tasks.spawn(async {}).expect_err("two run");
    assert_eq!(refused.reason, SparkChannelError::Full);
    tokio::task::yield_now().await;
    gate.notify_one();
    tokio::task::yield_now().await;
    assert!(tasks.spawn(refused.into_inner()).is_ok(), "one has ended");
    within(tasks.shutdown()).await;
    let refused = tasks.spawn(async {}).expect_err("shut down");
    assert_eq!(refused.reason, SparkChannelError::ShuttingDown);
}

#[tokio::test(start_paused = true)]
async fn a_task_with_a_token_ends_in_its_own_way() {
    let mut tasks = tasks(1);
    let log = Log::default();
    let lines = log.clone();
    let task = tasks.spawn_with(move |stop| async move {
        stop.inner().cancelled().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        lines.push("flushed");
    });
    assert!(task.is_ok());
    let start = Instant::now();

    let ended = within(tasks.shutdown()).await;

    assert_eq!((ended.finished, ended.cancelled), (1, 0));
    assert_eq!(
        (log.lines(), start.elapsed().as_secs()),
        (vec!["flushed".to_owned()], 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_task_that_ignores_its_token_is_dropped_after_the_grace() {
    let mut tasks = tasks(2);
    let (task, mut dropped) = forever();
    assert!(tasks.spawn_with(|_| task).is_ok());
    let start = Instant::now();

    let ended = within(tasks.shutdown_within(Duration::from_secs(3))).await;

    assert_eq!((ended.cancelled, start.elapsed().as_secs()), (1, 3));
    assert!(dropped.try_recv().is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_the_modules_shutdown_bounds_its_tasks() {
    let log = Log::default();
    let tasks = tasks(1);
    let (task, mut dropped) = forever();
    assert!(tasks.spawn_with(|_| task).is_ok());
    let owner = Owner {
        tasks,
        ..owner(&log)
    };
    let owner = module(owner)
        .shutdown_timeout(Duration::from_secs(2))
        .spawn();
    let start = Instant::now();

    let report = within(owner.shutdown(Stop::Drain)).await;
    within(dropped.recv())
        .await
        .expect("dropped with its handler");

    assert!(report.deadline_passed && start.elapsed().as_secs() == 2);
    assert!(log.lines().is_empty());
}

#[tokio::test]
async fn the_tasks_of_a_handler_that_is_replaced_are_aborted() {
    let log = Log::default();
    let fresh = log.clone();
    let owner = module(owner(&log))
        .on_panic(PanicPolicy::restart(move || self::owner(&fresh)))
        .spawn();
    let dispatcher = owner.dispatcher();
    let (task, mut dropped) = forever();
    within(dispatcher.request(run(task)))
        .await
        .expect("spawned");

    let panicked = within(dispatcher.request(Work::Panic)).await;

    assert!(matches!(
        reason(panicked),
        SparkChannelError::Panicked { .. }
    ));
    within(dropped.recv())
        .await
        .expect("dropped with its handler");
    let counted = within(dispatcher.request(Work::Count))
        .await
        .expect("counted");
    assert_eq!(counted, stats(0, 0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_task_runs_without_the_deadline_of_the_message_that_started_it() {
    let log = Log::default();
    let owner = spawn_module(owner(&log));
    let (sender, mut seen) = mpsc::channel(1);
    let look = run(async move {
        let _ = sender.try_send(spark_channel::current::deadline());
    });

    let spawned = owner.dispatcher();
    within(spawned.request(look).timeout(Duration::from_secs(1)))
        .await
        .expect("spawned");

    assert_eq!(within(seen.recv()).await, Some(None));
}
