//! What the contract tests share: bounded waits, a module behind a gate, and a
//! module that runs whatever it is sent.

#![allow(dead_code, reason = "each test file uses another part of this one")]

use std::{
    future::{Future, IntoFuture},
    panic::Location,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use spark_channel::{NativeHandler, SparkChannelError};
use tokio::sync::Semaphore;
use tokio_test::task::Spawn;

/// More than any test waits on purpose: a paused clock jumps to the next timer,
/// and this one must not be it.
const LIMIT: Duration = Duration::from_secs(60);

/// Bounds a wait; fails the test at the caller's line.
#[track_caller]
pub(crate) fn within<F: IntoFuture>(future: F) -> impl Future<Output = F::Output> {
    let at = Location::caller();
    let waiting = tokio::time::timeout(LIMIT, future.into_future());
    async move {
        waiting
            .await
            .unwrap_or_else(|_| panic!("still waiting at {at}"))
    }
}

/// Lets others run until `condition` holds.
#[track_caller]
pub(crate) fn until(condition: impl Fn() -> bool) -> impl Future<Output = ()> {
    within(async move {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
}

/// Polls `future` once, which sends a request, and leaves it to be awaited later.
#[track_caller]
pub(crate) fn queued<F: Future>(future: F) -> Spawn<F> {
    let mut task = tokio_test::task::spawn(future);
    assert!(task.poll().is_pending(), "completed at the first poll");
    task
}

/// What happened to a call that the module did not answer itself.
#[track_caller]
pub(crate) fn reason<T>(result: eyre::Result<T>) -> SparkChannelError {
    match result {
        Ok(_) => panic!("the call succeeded"),
        Err(report) => report
            .downcast()
            .unwrap_or_else(|report| panic!("the handler's own error: {report}")),
    }
}

/// Lines that handlers write, in the order written.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

/// Holds a [`Gated`] module's messages until it is opened for them.
#[derive(Clone)]
pub(crate) struct Gate {
    permits: Arc<Semaphore>,
    entered: Arc<Semaphore>,
    pub(crate) log: Log,
}

/// Logs each message as it starts, then holds it at its gate; answers a request
/// with its own text. `panic` panics and `fail` fails, behind the gate.
pub(crate) struct Gated(Gate);

/// Work for a [`Runner`].
pub(crate) struct Job(Pin<Box<dyn Future<Output = eyre::Result<u64>> + Send>>);

/// Runs the jobs it is sent.
pub(crate) struct Runner;

pub(crate) fn job<F>(work: F) -> Job
where
    F: Future<Output = eyre::Result<u64>> + Send + 'static,
{
    Job(Box::pin(work))
}

// === impl Log ===

impl Log {
    pub(crate) fn push(&self, line: impl Into<String>) {
        self.0.lock().expect("no panic under it").push(line.into());
    }

    /// The lines since this was last called.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("no panic under it"))
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().expect("no panic under it").clone()
    }
}

// === impl Gate ===

impl Gate {
    pub(crate) fn closed() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(0)),
            entered: Arc::new(Semaphore::new(0)),
            log: Log::default(),
        }
    }

    pub(crate) fn opened() -> Self {
        let gate = Self::closed();
        gate.open();
        gate
    }

    /// A module behind this gate.
    pub(crate) fn module(&self) -> Gated {
        Gated(self.clone())
    }

    /// Lets this many messages pass.
    pub(crate) fn let_pass(&self, messages: usize) {
        self.permits.add_permits(messages);
    }

    /// Lets every message pass.
    pub(crate) fn open(&self) {
        self.let_pass(Semaphore::MAX_PERMITS / 2);
    }

    /// Waits until one more message has come to the gate.
    #[track_caller]
    pub(crate) fn entered(&self) -> impl Future<Output = ()> {
        let entered = within(Arc::clone(&self.entered).acquire_owned());
        async move { entered.await.expect("never closed").forget() }
    }

    /// Says that somebody has come.
    pub(crate) fn announce(&self) {
        self.entered.add_permits(1);
    }

    /// Comes to the gate and waits until it is opened.
    pub(crate) async fn wait(&self) -> eyre::Result<()> {
        self.announce();
        self.permits.acquire().await?.forget();
        Ok(())
    }

    pub(crate) async fn pass(&self, message: &str) -> eyre::Result<()> {
        self.log.push(message);
        self.wait().await?;
        assert!(message != "panic", "told to panic");
        eyre::ensure!(message != "fail", "told to fail");
        Ok(())
    }
}

// === impl Gated ===

impl NativeHandler for Gated {
    type Message = String;
    type Response = String;
    type Error = eyre::Report;

    async fn handle_request(&mut self, message: String) -> eyre::Result<String> {
        self.0.pass(&message).await?;
        Ok(message)
    }

    async fn handle_command(&mut self, message: String) -> eyre::Result<()> {
        self.0.pass(&message).await
    }

    async fn stopped(&mut self) {
        self.0.log.push("stopped");
    }

    async fn undelivered(&mut self, command: String) {
        self.0.log.push(format!("undelivered {command}"));
    }

    fn command_failed(&mut self, error: eyre::Report) {
        self.0.log.push(format!("failed: {error}"));
    }
}

// === impl Runner ===

impl NativeHandler for Runner {
    type Message = Job;
    type Response = u64;
    type Error = eyre::Report;

    async fn handle_request(&mut self, job: Job) -> eyre::Result<u64> {
        job.0.await
    }

    async fn handle_command(&mut self, job: Job) -> eyre::Result<()> {
        job.0.await.map(drop)
    }
}
