//! A module per key, started when a message for it comes.

mod builder;

use std::{
    fmt,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

pub use self::builder::KeyedBuilder;
use crate::{
    IntoHandler, MessageStats, ModuleHandle, NativeHandler, Report, SparkChannelCancellationToken,
    SparkGenericModuleDispatcher, Stats, Stop, Watch, WeakDispatcher,
};

/// Prepares a set of modules, one per key: virtual actors, grains, shards.
///
/// Callers hold one dispatcher of the same type as for a single module. `key_of` tells
/// whose a message is. If no module for that key runs, `factory` makes one; its `started`
/// runs first, and is where it loads what it needs. A module that is not used ends, its
/// `stopped` runs, and the next message for its key starts another: it is *passivated*.
///
/// * **Order.** A key has one module at a time, which handles its messages in the order
///   accepted (of one dispatcher clone). That also holds across a passivation: what
///   arrives meanwhile waits for the next one, which is started when the old one has ended.
/// * **Bound.** At most [`live_max`](KeyedBuilder::live_max) modules run at once. When
///   another one is wanted, the one used the longest ago makes room, those that are idle
///   first. If none is idle, one that is not takes no more messages and ends after
///   what it has; if that takes long while others are given messages, one of those as well.
/// * **Backpressure.** Modules that run side by side do not hold up each other. What waits
///   for them is bounded together: behind the mailbox, at most its capacity once more, and
///   one for each module that runs. A key in demand, or a module that hangs, holds up the
///   others once that is used up.
/// * **Failure.** A panic in a handler concerns one key, and is answered by
///   [`on_panic`](KeyedBuilder::on_panic). So does a `started` that fails, and a panic of
///   `factory`: who waits for that key gets
///   [`Unavailable`](crate::SparkChannelError::Unavailable), its commands are given back,
///   and the next message tries again. If `key_of` panics, its caller gets
///   [`Panicked`](crate::SparkChannelError::Panicked).
/// * **Shutdown.** Draining handles everything accepted, starting modules for it if it has
///   to. Any other stop starts nothing: each running module gives back what it has been
///   given, and commands that no running module has been given go to
///   [`undelivered`](KeyedBuilder::undelivered). All under one deadline, with one report.
///
/// `key_of` and `factory` run on the set's own task and should be quick; to restart a
/// module after a panic, `factory` runs on that module's. To hash, compare, clone or drop a
/// key must not panic.
///
/// A message takes one hop between tasks more than to a single module, and none is handled
/// on its caller's task. A handler that sends a request to its own key waits for itself,
/// which no dispatcher can see here; so may one that sends a request to another key, when
/// all [`live_max`](KeyedBuilder::live_max) places are taken by modules that wait likewise.
/// Give such a request a timeout.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use spark_channel::{NativeHandler, Stop, keyed};
///
/// struct Deposit { account: u32, cents: u64 }
///
/// struct Account { balance: u64 }
///
/// impl NativeHandler for Account {
///     type Message = Deposit;
///     type Response = u64;
///     type Error = eyre::Report;
///
///     async fn handle_request(&mut self, deposit: Deposit) -> eyre::Result<u64> {
///         self.balance += deposit.cents;
///         Ok(self.balance)
///     }
///
///     async fn handle_command(&mut self, deposit: Deposit) -> eyre::Result<()> {
///         self.balance += deposit.cents;
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> eyre::Result<()> {
/// let accounts = keyed(|deposit: &Deposit| deposit.account, |_number| Account { balance: 0 })
///     .name("accounts")
///     .live_max(1_000)
///     .idle_timeout(Duration::from_secs(60))
///     .spawn();
/// let dispatcher = accounts.dispatcher();
///
/// dispatcher.request(Deposit { account: 1, cents: 50 }).await?;
/// dispatcher.request(Deposit { account: 2, cents: 10 }).await?;
/// assert_eq!(dispatcher.request(Deposit { account: 1, cents: 20 }).await?, 70);
///
/// assert_eq!(accounts.population().live, 2);
/// assert_eq!(accounts.shutdown(Stop::Drain).await.report.stats.handled, 3);
/// # Ok(())
/// # }
/// ```
pub fn keyed<K, H, Marker, KeyOf, F>(key_of: KeyOf, factory: F) -> KeyedBuilder<K, H::Handler>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    H: IntoHandler<Marker>,
    KeyOf: Fn(&<H::Handler as NativeHandler>::Message) -> K + Send + 'static,
    F: Fn(&K) -> H + Send + Sync + 'static,
{
    KeyedBuilder::new(key_of, factory)
}

/// What becomes of one key's module after a panic in its handler. Others are not concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyedPanicPolicy {
    /// Go on with the same handler.
    Continue,
    /// Go on with a new handler from the factory, whose `started` runs first.
    #[default]
    Restart,
    /// End this module and give back what waits for it; the next message for its key
    /// starts another.
    Stop,
}

/// The owner's end of a keyed set: a [`ModuleHandle`] that knows the [`Population`].
///
/// To everybody else the set is one module: `&handle` can be
/// [registered](crate::System::register), and [`into_module`](Self::into_module) makes it
/// one that a [`System`](crate::System) can adopt.
#[must_use = "the set's owner should wait for it; take a `dispatcher()` first to let it run alone"]
pub struct KeyedHandle<M, R, C = SparkChannelCancellationToken, E = eyre::Report> {
    handle: ModuleHandle<M, R, C, E>,
    census: Arc<Census>,
}

/// How many modules of a keyed set there are and were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Population {
    /// Modules that run, those that are ending included.
    pub live: usize,
    /// Keys whose messages wait for a module: there is no place for it, or the one before
    /// it is ending.
    pub waiting: usize,
    /// Modules started so far.
    pub started: u64,
    /// Modules told to end because they were idle, or because room was wanted.
    pub passivated: u64,
}

/// What became of everything a keyed set accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyedReport {
    /// As for a single module; the counts are those of all modules together.
    pub report: Report,
    /// The last population.
    pub population: Population,
}

/// The population, written by the set's task.
#[derive(Default)]
pub(crate) struct Census {
    live: AtomicUsize,
    waiting: AtomicUsize,
    started: AtomicU64,
    passivated: AtomicU64,
}

// === impl KeyedHandle ===

impl<M, R, C, E> KeyedHandle<M, R, C, E> {
    /// A dispatcher for the set.
    #[must_use]
    pub fn dispatcher(&self) -> SparkGenericModuleDispatcher<M, R, C, E> {
        self.handle.dispatcher()
    }

    /// A dispatcher that does not keep the set alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakDispatcher<M, R, C, E> {
        self.handle.downgrade()
    }

    /// The set's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.handle.name()
    }

    /// What all modules together have counted so far, those that have ended included.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.handle.stats()
    }

    /// As [`ModuleHandle::message_stats`], of all modules together.
    #[must_use]
    pub fn message_stats(&self) -> Option<MessageStats> {
        self.handle.message_stats()
    }

    /// How many modules there are and were.
    #[must_use]
    pub fn population(&self) -> Population {
        self.census.population()
    }

    /// Watches the set, without owning it. A module that is started again after a panic is
    /// a restart to it, a passivation is not.
    pub fn watch(&self) -> Watch {
        self.handle.watch()
    }

    /// The set as a module like any other, for whoever takes one.
    pub const fn as_module(&self) -> &ModuleHandle<M, R, C, E> {
        &self.handle
    }

    /// Makes it a module like any other, whose population nobody sees.
    pub fn into_module(self) -> ModuleHandle<M, R, C, E> {
        self.handle
    }

    /// Whether the set has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// As [`ModuleHandle::stop`].
    pub fn stop(&self, stop: Stop) {
        self.handle.stop(stop);
    }

    /// As [`ModuleHandle::shutdown`], for all modules under one deadline.
    ///
    /// # Cancel safety
    ///
    /// As [`ModuleHandle::shutdown`].
    ///
    /// # Panics
    ///
    /// As [`ModuleHandle::shutdown`].
    pub async fn shutdown(self, stop: Stop) -> KeyedReport {
        let report = self.handle.shutdown(stop).await;
        self.census.report(report)
    }

    /// As [`ModuleHandle::shutdown_within`], for all modules under one deadline.
    ///
    /// # Cancel safety
    ///
    /// As [`ModuleHandle::shutdown`].
    ///
    /// # Panics
    ///
    /// As [`ModuleHandle::shutdown`].
    pub async fn shutdown_within(self, stop: Stop, within: Duration) -> KeyedReport {
        let report = self.handle.shutdown_within(stop, within).await;
        self.census.report(report)
    }

    /// As [`ModuleHandle::wait`].
    ///
    /// # Cancel safety
    ///
    /// As [`ModuleHandle::wait`].
    pub async fn wait(self) -> KeyedReport {
        let report = self.handle.wait().await;
        self.census.report(report)
    }
}

impl<M, R, C, E> From<&KeyedHandle<M, R, C, E>> for WeakDispatcher<M, R, C, E> {
    fn from(handle: &KeyedHandle<M, R, C, E>) -> Self {
        handle.downgrade()
    }
}

impl<M, R, C, E> fmt::Debug for KeyedHandle<M, R, C, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedHandle")
            .field("name", &self.name())
            .field("population", &self.population())
            .field("finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}

// === impl Census ===

impl Census {
    pub(crate) fn started(&self) {
        self.live.fetch_add(1, Ordering::Relaxed);
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn passivated(&self) {
        self.passivated.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn ended(&self) {
        self.live.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn set_waiting(&self, keys: usize) {
        self.waiting.store(keys, Ordering::Relaxed);
    }

    fn population(&self) -> Population {
        Population {
            live: self.live.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
            started: self.started.load(Ordering::Relaxed),
            passivated: self.passivated.load(Ordering::Relaxed),
        }
    }

    fn report(&self, report: Report) -> KeyedReport {
        let population = self.population();
        KeyedReport { report, population }
    }
}
