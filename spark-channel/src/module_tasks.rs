//! Background work that belongs to a module.

use std::{
    fmt,
    future::Future,
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    task::{JoinError, JoinSet},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Refused, SparkChannelCancellationToken, SparkChannelError, contained::Contained, current,
};

/// Background tasks that a handler owns: bounded in number, counted, and gone with it.
///
/// The handler keeps it as a field, spawns while it handles messages, and awaits
/// [`shutdown`](Self::shutdown) in its [`stopped`](crate::NativeHandler::stopped), which puts
/// the tasks under the deadline of the module's shutdown. When the handler is dropped,
/// also by a restart, tasks that still run are told to abort: each is dropped at its
/// next `.await`, and not waited for.
///
/// A panic of a task is traced as an error and counted, and ends nothing else.
///
/// # Examples
///
/// A handler that goes on while a slow answer is being worked out:
///
/// ```
/// use spark_channel::{ModuleTasks, NativeHandler, Reply, Stop, spawn_module};
/// use std::num::NonZeroUsize;
///
/// struct Search { tasks: ModuleTasks }
///
/// struct Find { text: String, reply: Reply<usize> }
///
/// impl NativeHandler for Search {
///     type Message = Find;
///     type Response = ();
///     type Error = eyre::Report;
///
///     async fn handle_request(&mut self, _: Find) -> eyre::Result<()> {
///         eyre::bail!("send a command")
///     }
///
///     async fn handle_command(&mut self, Find { text, reply }: Find) -> eyre::Result<()> {
///         // A refusal drops the future, and with it the slot: the caller learns it.
///         self.tasks.spawn(reply.answer_with(async move { eyre::Ok(text.len()) })).map_err(|refused| refused.reason)?;
///         Ok(())
///     }
///
///     async fn stopped(&mut self) {
///         self.tasks.shutdown().await;
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> eyre::Result<()> {
/// let at_most = NonZeroUsize::new(100).expect("not zero");
/// let search = spawn_module(Search { tasks: ModuleTasks::at_most(at_most) });
/// let found = search.dispatcher().ask_with(|reply| Find { text: "needle".into(), reply }).await?;
/// assert_eq!(found, 6);
/// search.shutdown(Stop::Drain).await;
/// # Ok(())
/// # }
/// ```
pub struct ModuleTasks {
    inner: Mutex<Inner>,
    tasks_max: NonZeroUsize,
    stop: CancellationToken,
}

/// What has become of the tasks of a [`ModuleTasks`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskStats {
    /// Tasks that have not ended.
    pub running: usize,
    /// Tasks that came to their end.
    pub finished: u64,
    /// Tasks that were dropped before their end, by a shutdown.
    pub cancelled: u64,
    /// Tasks that panicked.
    pub panicked: u64,
}

struct Inner {
    tasks: JoinSet<Fate>,
    stats: TaskStats,
}

enum Fate {
    Finished,
    Cancelled,
    Panicked,
}

// === impl ModuleTasks ===

impl ModuleTasks {
    /// No tasks yet, and room for `tasks_max` that run at the same time.
    #[must_use]
    pub fn at_most(tasks_max: NonZeroUsize) -> Self {
        Self {
            inner: Mutex::new(Inner {
                tasks: JoinSet::new(),
                stats: TaskStats::default(),
            }),
            tasks_max,
            stop: CancellationToken::new(),
        }
    }

    /// Runs `task` on the current runtime, until it ends or the tasks are shut down: then
    /// it is dropped at its next `.await`.
    ///
    /// It runs outside of the message being handled: without its deadline, and unknown to
    /// [`current`](crate::current).
    ///
    /// # Errors
    ///
    /// The future, with [`Full`](SparkChannelError::Full) when as many tasks run as may, or
    /// [`ShuttingDown`](SparkChannelError::ShuttingDown).
    ///
    /// # Panics
    ///
    /// Panics outside of a Tokio runtime.
    pub fn spawn<F>(&self, task: F) -> Result<(), Refused<F>>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.start(task, |task| async move {
            match stop.run_until_cancelled_owned(task).await {
                Some(()) => Fate::Finished,
                None => Fate::Cancelled,
            }
        })
    }

    /// Runs what `make` returns, like [`spawn`](Self::spawn), but leaves it to the task to
    /// end when its token is cancelled.
    ///
    /// A task that does not is dropped at the deadline of the shutdown. `make` is called in
    /// the task.
    ///
    /// # Errors
    ///
    /// `make`, which has not been called; otherwise as [`spawn`](Self::spawn).
    ///
    /// # Panics
    ///
    /// As [`spawn`](Self::spawn).
    pub fn spawn_with<Make, F>(&self, make: Make) -> Result<(), Refused<Make>>
    where
        Make: FnOnce(SparkChannelCancellationToken) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let token = SparkChannelCancellationToken(self.stop.clone());
        self.start(make, |make| async move {
            make(token).await;
            Fate::Finished
        })
    }

    /// How many tasks run, and what became of the others.
    #[must_use]
    pub fn stats(&self) -> TaskStats {
        self.lock().stats_now()
    }

    /// Refuses new tasks, cancels those that run, and waits until all have ended.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the tasks are cancelled. May be called again to go on waiting.
    pub async fn shutdown(&mut self) -> TaskStats {
        self.stop.cancel();
        self.inner().join_all().await
    }

    /// As [`shutdown`](Self::shutdown), but after `grace` the tasks that still run are
    /// aborted: dropped at their next `.await`.
    ///
    /// Waits for them all the same; one that blocks its thread is waited for until the
    /// deadline of the module's shutdown drops this future.
    ///
    /// # Cancel safety
    ///
    /// As [`shutdown`](Self::shutdown).
    ///
    /// # Panics
    ///
    /// Panics when the runtime has no timer.
    pub async fn shutdown_within(&mut self, grace: Duration) -> TaskStats {
        self.stop.cancel();
        let inner = self.inner();
        if let Ok(stats) = timeout(grace, inner.join_all()).await {
            return stats;
        }
        inner.tasks.abort_all();
        inner.join_all().await
    }

    fn start<T, F>(&self, task: T, run: impl FnOnce(T) -> F) -> Result<(), Refused<T>>
    where
        F: Future<Output = Fate> + Send + 'static,
    {
        let mut inner = self.lock();
        let reason = if self.stop.is_cancelled() {
            SparkChannelError::ShuttingDown
        } else if inner.stats_now().running >= self.tasks_max.get() {
            SparkChannelError::Full
        } else {
            let task = Contained::new(run(task));
            let module = current::module_name();
            inner.tasks.spawn(async move {
                match task.await {
                    Ok(fate) => fate,
                    Err(text) => {
                        let (module, text) = (module.as_deref(), &*text);
                        tracing::error!(module, text, "background task panicked");
                        Fate::Panicked
                    }
                }
            });
            return Ok(());
        };
        let message = task;
        Err(Refused { message, reason })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing that can panic leaves the set half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inner(&mut self) -> &mut Inner {
        self.inner.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ModuleTasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModuleTasks")
            .field("stats", &self.stats())
            .field("tasks_max", &self.tasks_max)
            .finish_non_exhaustive()
    }
}

// === impl Inner ===

impl Inner {
    fn stats_now(&mut self) -> TaskStats {
        while let Some(ended) = self.tasks.try_join_next() {
            self.count(ended);
        }
        let running = self.tasks.len();
        TaskStats {
            running,
            ..self.stats
        }
    }

    async fn join_all(&mut self) -> TaskStats {
        while let Some(ended) = self.tasks.join_next().await {
            self.count(ended);
        }
        self.stats
    }

    fn count(&mut self, ended: Result<Fate, JoinError>) {
        let fate = ended.unwrap_or_else(|error| {
            if error.is_cancelled() {
                return Fate::Cancelled;
            }
            tracing::error!("background task panicked while it was dropped");
            Fate::Panicked
        });
        match fate {
            Fate::Finished => self.stats.finished += 1,
            Fate::Cancelled => self.stats.cancelled += 1,
            Fate::Panicked => self.stats.panicked += 1,
        }
    }
}
