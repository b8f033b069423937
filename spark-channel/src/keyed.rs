//! A module per key, started when a message for it comes.

use std::{
    fmt,
    hash::Hash,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::mpsc;

use crate::{
    IntoHandler, MessageStats, ModuleHandle, NativeHandler, Report, SparkChannelCancellationToken,
    SparkChannelCancellationTrait, SparkGenericModuleDispatcher, Stats, Stop, Watch,
    WeakDispatcher,
    config::Config,
    run_loop::{self, Keeper, Seating},
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
///   what it has.
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
///   to. Any other stop starts nothing: each running module gives back what waits for it,
///   and commands for no running module go to [`undelivered`](KeyedBuilder::undelivered).
///   All under one deadline, with one report.
///
/// `key_of` and `factory` run on the set's own task and should be quick. The hashing and
/// comparing of keys must not panic.
///
/// A message takes one hop between tasks more than to a single module, and none is handled
/// on its caller's task. A handler that sends a request to its own key waits for itself,
/// which no dispatcher can see here: give it a timeout.
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
    KeyedBuilder {
        seating: Seating {
            key_of: Box::new(key_of),
            factory: Arc::new(move |key| factory(key).into_handler()),
            on_panic: KeyedPanicPolicy::default(),
            name_of: None,
            undelivered: Box::new(drop),
            idle_timeout: None,
            live_max: 256,
        },
        config: Config::named_after::<H>(),
        token: PhantomData,
    }
}

/// Settings of a keyed set that does not run yet. Made by [`keyed`].
#[must_use = "a keyed set starts when it is spawned"]
pub struct KeyedBuilder<K, H: NativeHandler, C = SparkChannelCancellationToken> {
    seating: Seating<K, H>,
    config: Config,
    token: PhantomData<fn(C)>,
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
    /// Keys whose messages wait for a module.
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

// === impl KeyedBuilder ===

impl<K, H, C> KeyedBuilder<K, H, C>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    H: NativeHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
{
    /// Names the set, and each of its modules, in errors, spans and reports. Default: the
    /// handler's type name.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.config.name = Some(name.into());
        self
    }

    /// Bounds the modules that run at once. Default: 256.
    ///
    /// Each costs about 250 bytes from the start, and a task while it runs. A call that
    /// times out looks at all of them.
    ///
    /// # Panics
    ///
    /// [`spawn`](Self::spawn) panics if it is zero.
    pub fn live_max(mut self, modules: usize) -> Self {
        self.seating.live_max = modules;
        self
    }

    /// Passivates a module once no message has come for it for this long. Default: only
    /// when its place is wanted. At least a millisecond; a year at most.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.seating.idle_timeout = Some(timeout.clamp(Duration::from_millis(1), LONGEST_IDLE));
        self
    }

    /// Bounds the mailbox, in messages, and what waits for modules behind it. Default: 64.
    ///
    /// # Panics
    ///
    /// [`spawn`](Self::spawn) panics if it is out of range; see
    /// [`ModuleBuilder::capacity`](crate::ModuleBuilder::capacity).
    pub fn capacity(mut self, messages: usize) -> Self {
        self.config.capacity = messages;
        self
    }

    /// As [`ModuleBuilder::default_timeout`](crate::ModuleBuilder::default_timeout).
    pub fn default_timeout(mut self, timeout: Duration) -> Self {
        self.config.default_timeout = Some(timeout);
        self
    }

    /// Bounds the time between being told to stop and having stopped, and that of each
    /// `stopped` of a module that is passivated. Default: 15 s.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.config.shutdown_timeout = timeout;
        self
    }

    /// As [`ModuleBuilder::drop_abandoned`](crate::ModuleBuilder::drop_abandoned).
    pub fn drop_abandoned(mut self) -> Self {
        self.config.drop_abandoned = true;
        self
    }

    /// What to do after a panic in a handler. Default: restart it from the factory.
    pub fn on_panic(mut self, policy: KeyedPanicPolicy) -> Self {
        self.seating.on_panic = policy;
        self
    }

    /// Takes back the commands that were accepted and will not be handled, because the set
    /// is stopping or the factory panicked, and for whose key no module runs whose own
    /// [`undelivered`](NativeHandler::undelivered) could take them back. Default: they are
    /// dropped. They are counted in either case; not called once the deadline of the
    /// shutdown has passed.
    pub fn undelivered(mut self, take_back: impl Fn(H::Message) + Send + 'static) -> Self {
        self.seating.undelivered = Box::new(take_back);
        self
    }

    /// Times messages by name; see
    /// [`ModuleBuilder::message_names`](crate::ModuleBuilder::message_names).
    pub fn message_names<F>(mut self, name_of: F) -> Self
    where
        F: Fn(&H::Message) -> &'static str + Send + Sync + 'static,
    {
        self.seating.name_of = Some(self.config.timed(name_of));
        self
    }

    /// As [`ModuleBuilder::cancellation_token`](crate::ModuleBuilder::cancellation_token).
    pub fn cancellation_token<Token>(self) -> KeyedBuilder<K, H, Token>
    where
        Token: SparkChannelCancellationTrait + Send + 'static,
    {
        KeyedBuilder {
            seating: self.seating,
            config: self.config,
            token: PhantomData,
        }
    }

    /// Starts the set, without any module, on the current runtime.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime, if [`live_max`](Self::live_max) is zero, and for
    /// a [`capacity`](Self::capacity) out of range.
    pub fn spawn(self) -> KeyedHandle<H::Message, H::Response, C, H::Error> {
        let Self {
            seating, config, ..
        } = self;
        assert!(
            seating.live_max > 0,
            "a keyed set needs room for one module"
        );
        let (sender, front) = mpsc::channel(config.capacity);
        // One more, for what no module counts.
        let control = config.control_of_set(seating.live_max + 1, config.capacity);
        let census = Arc::new(Census::default());
        let keeper = Keeper::new(
            seating,
            config,
            front,
            Arc::clone(&control),
            Arc::clone(&census),
        );
        let task = tokio::spawn(run_loop::run_keyed(keeper));
        let dispatcher =
            SparkGenericModuleDispatcher::of_module(sender, Arc::clone(&control), None, None);
        KeyedHandle {
            handle: ModuleHandle::new(dispatcher, control, task),
            census,
        }
    }
}

impl<K, H: NativeHandler, C> fmt::Debug for KeyedBuilder<K, H, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedBuilder")
            .field("name", &self.config.name)
            .field("capacity", &self.config.capacity)
            .field("live_max", &self.seating.live_max)
            .field("idle_timeout", &self.seating.idle_timeout)
            .field("default_timeout", &self.config.default_timeout)
            .field("shutdown_timeout", &self.config.shutdown_timeout)
            .field("on_panic", &self.seating.on_panic)
            .finish_non_exhaustive()
    }
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

/// The clock can be moved ahead by so much, and no module is idle for longer.
const LONGEST_IDLE: Duration = Duration::from_secs(60 * 60 * 24 * 365);
