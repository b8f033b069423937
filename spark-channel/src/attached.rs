//! What feeds a module by itself: timers, and streams of messages.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Weak},
    task::Poll,
    time::Duration,
};

use futures_core::Stream;
use tokio::{
    task::{JoinHandle, coop::consume_budget},
    time::{Instant, sleep_until},
};

use crate::{ModuleHandle, WeakDispatcher, clock::later, contained::Contained};

/// The owner's end of a timer or a stream that sends commands to a module.
///
/// It ends by itself when the module is told to stop, or ends, and does not keep it alive.
/// (Of a module that is known only by its mailbox it learns so at the next message.)
/// Dropping this detaches it: the timer, or the stream, is dropped at its next `.await`, with a
/// message that still waited for room.
///
/// A panic of a closure or of the stream is traced as an error, ends the feed and is what
/// [`wait`](Self::wait) reports; the module goes on.
#[must_use = "dropping it detaches the timer or the stream"]
pub struct Attached {
    task: JoinHandle<Detached>,
}

/// Why a timer or a stream sends no more.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Detached {
    /// The stream has ended, or the timer has fired for the last time.
    Finished,
    /// The module stops, or has stopped.
    ModuleStopped,
    /// [`Attached::detach`] was called, or the runtime ended.
    Aborted,
    /// The closure or the stream panicked.
    Panicked {
        /// The panic's text.
        text: Arc<str>,
    },
}

/// One tick of a timer made by [`every`](WeakDispatcher::every): carried by the message,
/// it holds back the next one.
///
/// As long as it exists, in the mailbox or in a handler, ticks are skipped. It may be dropped
/// early to let the next one come. Clones, which a [broadcast](crate::ModuleBuilder::broadcast) pool
/// makes, are one tick: the next comes when all are dropped.
#[must_use = "dropping a tick lets the next one come"]
#[derive(Clone)]
pub struct Tick(Arc<Due>);

/// Shared with the timer, and not part of the message: a tick takes one word there.
struct Due {
    at: Instant,
    skipped: u64,
}

// === impl WeakDispatcher ===

impl<M, R, C, E> WeakDispatcher<M, R, C, E>
where
    M: Send + 'static,
    R: Send + 'static,
    C: Send + 'static,
    E: Send + 'static,
{
    /// Sends the module a command once per `period`, the first one `period` from now.
    ///
    /// The message that `make` returns should carry the [`Tick`]: while it is queued or
    /// being handled, ticks are skipped, so a slow module never finds more than one. A
    /// closure that drops the tick gives that up, and only the mailbox bounds how many
    /// wait. While the mailbox is full one message waits for room and the ticks meanwhile are
    /// skipped. Ticks stay on the schedule: a late one moves none of those after it. `make`
    /// runs in a task of its own, once per message that is sent.
    ///
    /// # Panics
    ///
    /// Panics when `period` is zero, and outside of a Tokio runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// use spark_channel::{ModuleHandle, Tick};
    /// use std::time::Duration;
    ///
    /// enum Cache { Sweep(Tick) }
    ///
    /// async fn run(cache: ModuleHandle<Cache, ()>) {
    ///     let _sweeps = cache.every(Duration::from_secs(30), Cache::Sweep);
    ///     cache.wait().await;
    /// }
    /// ```
    pub fn every(
        &self,
        period: Duration,
        make: impl FnMut(Tick) -> M + Send + 'static,
    ) -> Attached {
        assert!(!period.is_zero(), "a timer's period must not be zero");
        Attached::spawn(self, tick(self.clone(), Instant::now(), period, make))
    }

    /// Sends the module one command, `delay` from now.
    ///
    /// Waits for room while the mailbox is full. `make` runs in a task of its own, when the
    /// time has come.
    ///
    /// # Panics
    ///
    /// Panics outside of a Tokio runtime.
    pub fn after(&self, delay: Duration, make: impl FnOnce() -> M + Send + 'static) -> Attached {
        let (to, due) = (self.clone(), later(Instant::now(), delay));
        Attached::spawn(self, async move {
            match to.unless_over(sleep_until(due)).await {
                Some(()) => to.feed(make).await.unwrap_or(Detached::Finished),
                None => Detached::ModuleStopped,
            }
        })
    }

    /// Sends the module a command for each item of `stream`, in order, until it ends.
    ///
    /// The next item is taken once the one before has its place in the mailbox: a full
    /// mailbox holds back the stream. When the module stops, the stream is dropped, with the item
    /// that was on its way. Stream and closure run in a task of their own.
    ///
    /// # Panics
    ///
    /// Panics outside of a Tokio runtime.
    pub fn attach<S>(
        &self,
        stream: S,
        mut make: impl FnMut(S::Item) -> M + Send + 'static,
    ) -> Attached
    where
        S: Stream + Send + 'static,
        S::Item: Send,
    {
        let to = self.clone();
        Attached::spawn(self, async move {
            let mut stream = pin!(stream);
            loop {
                // A stream that is always ready must not keep its task from yielding.
                consume_budget().await;
                let next = poll_fn(|cx| stream.as_mut().poll_next(cx));
                let item = match to.unless_over(next).await {
                    Some(Some(item)) => item,
                    Some(None) => return Detached::Finished,
                    None => return Detached::ModuleStopped,
                };
                if let Some(detached) = to.feed(|| make(item)).await {
                    return detached;
                }
            }
        })
    }

    /// Sends what `make` returns; tells why there is no sending any more.
    async fn feed(&self, make: impl FnOnce() -> M) -> Option<Detached> {
        let sent = match self.upgrade() {
            Some(dispatcher) => dispatcher.command(make()).await.is_ok(),
            None => false,
        };
        (!sent).then_some(Detached::ModuleStopped)
    }

    /// What `work` returns, unless the module stops first.
    async fn unless_over<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut over = pin!(self.over());
        let mut work = pin!(work);
        poll_fn(|cx| match over.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => work.as_mut().poll(cx).map(Some),
        })
        .await
    }
}

// === impl ModuleHandle ===

impl<M, R, C, E> ModuleHandle<M, R, C, E>
where
    M: Send + 'static,
    R: Send + 'static,
    C: Send + 'static,
    E: Send + 'static,
{
    /// Sends the module a command once per `period`; see [`WeakDispatcher::every`].
    ///
    /// # Panics
    ///
    /// Panics when `period` is zero, and outside of a Tokio runtime.
    pub fn every(
        &self,
        period: Duration,
        make: impl FnMut(Tick) -> M + Send + 'static,
    ) -> Attached {
        self.downgrade().every(period, make)
    }

    /// Sends the module one command, `delay` from now; see [`WeakDispatcher::after`].
    ///
    /// # Panics
    ///
    /// Panics outside of a Tokio runtime.
    pub fn after(&self, delay: Duration, make: impl FnOnce() -> M + Send + 'static) -> Attached {
        self.downgrade().after(delay, make)
    }

    /// Sends the module a command for each item of `stream`; see [`WeakDispatcher::attach`].
    ///
    /// # Panics
    ///
    /// Panics outside of a Tokio runtime.
    pub fn attach<S>(&self, stream: S, make: impl FnMut(S::Item) -> M + Send + 'static) -> Attached
    where
        S: Stream + Send + 'static,
        S::Item: Send,
    {
        self.downgrade().attach(stream, make)
    }
}

// === impl Attached ===

impl Attached {
    fn spawn<M, R, C, E>(
        to: &WeakDispatcher<M, R, C, E>,
        feed: impl Future<Output = Detached> + Send + 'static,
    ) -> Self {
        let module = to.name();
        let feed = Contained::new(feed);
        let task = tokio::spawn(async move {
            feed.await.unwrap_or_else(|text| {
                let (module, panic) = (module.as_deref(), &*text);
                tracing::error!(module, text = panic, "attached feed panicked");
                Detached::Panicked { text }
            })
        });
        Self { task }
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Waits until it ends by itself, and tells why.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future detaches it, as dropping the [`Attached`] does.
    pub async fn wait(mut self) -> Detached {
        self.joined().await
    }

    /// Detaches it and waits until it has ended, which is when the timer or the stream has
    /// been dropped.
    ///
    /// # Cancel safety
    ///
    /// Once polled it is told to end, and does; dropping the future only loses the wait.
    pub async fn detach(mut self) -> Detached {
        self.task.abort();
        self.joined().await
    }

    async fn joined(&mut self) -> Detached {
        match (&mut self.task).await {
            Ok(detached) => detached,
            Err(error) if error.is_cancelled() => Detached::Aborted,
            Err(_) => Detached::Panicked {
                text: "a panic while it was dropped".into(),
            },
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attached")
            .field("finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}

// === impl Tick ===

impl Tick {
    /// A tick of no timer, due now: to do by hand what a timer does, above all in tests.
    /// It holds back no other.
    pub fn by_hand() -> Self {
        Self(Arc::new(Due {
            at: Instant::now(),
            skipped: 0,
        }))
    }

    /// When it was due.
    #[must_use]
    pub fn due(&self) -> Instant {
        self.0.at
    }

    /// How many ticks were skipped since the one before.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.0.skipped
    }
}

impl fmt::Debug for Tick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tick")
            .field("due", &self.due())
            .field("skipped", &self.skipped())
            .finish()
    }
}

async fn tick<M, R, C, E>(
    to: WeakDispatcher<M, R, C, E>,
    start: Instant,
    period: Duration,
    mut make: impl FnMut(Tick) -> M + Send,
) -> Detached
where
    M: Send + 'static,
    R: Send + 'static,
    C: Send + 'static,
    E: Send + 'static,
{
    let mut previous = Weak::new();
    let mut due = later(start, period);
    let mut skipped = 0;
    loop {
        if to.unless_over(sleep_until(due)).await.is_none() {
            return Detached::ModuleStopped;
        }
        if previous.strong_count() > 0 {
            skipped += 1;
        } else {
            let this = Arc::new(Due {
                at: due,
                skipped: std::mem::take(&mut skipped),
            });
            previous = Arc::downgrade(&this);
            if let Some(detached) = to.feed(|| make(Tick(this))).await {
                return detached;
            }
        }
        let late = Instant::now().saturating_duration_since(due);
        let missed = late.as_nanos() / period.as_nanos();
        skipped += u64::try_from(missed).unwrap_or(u64::MAX);
        due = later(due + late - remainder(late, period), period);
    }
}

/// How much of `whole` is left after as many `period`s as fit.
fn remainder(whole: Duration, period: Duration) -> Duration {
    let rest = whole.as_nanos() % period.as_nanos();
    // 64 bits of nanoseconds are 584 years.
    Duration::from_nanos(u64::try_from(rest).unwrap_or(u64::MAX))
}
