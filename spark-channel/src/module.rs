//! How modules are started: alone, or as a pool of replicas behind one dispatcher.

use std::{fmt, marker::PhantomData, num::NonZeroUsize, sync::Arc, time::Duration};

use tokio::sync::mpsc;

use crate::{
    Deadlocks, Factory, IntoHandler, ModuleHandle, NativeHandler, PanicPolicy,
    SparkChannelCancellationToken, SparkChannelCancellationTrait, SparkGenericModuleDispatcher,
    config::Config,
    oversight::Oversight,
    routing::Routing,
    run_loop::{self, Mailbox, Router, Worker},
};

/// Starts a module with the default settings; see [`module`] for others.
///
/// # Panics
///
/// Panics outside of a tokio runtime.
///
/// # Examples
///
/// See [`NativeHandler`] and [`SparkGenericModuleHandler`](crate::SparkGenericModuleHandler).
pub fn spawn_module<H, Marker>(handler: H) -> HandleOf<H::Handler>
where
    H: IntoHandler<Marker>,
{
    module(handler).spawn()
}

/// Starts `replicas` modules that share one mailbox; see [`pool`].
///
/// # Panics
///
/// Panics outside of a tokio runtime, and if `replicas` is zero.
pub fn spawn_pool<H, Marker, F>(replicas: usize, factory: F) -> HandleOf<H::Handler>
where
    H: IntoHandler<Marker>,
    F: Fn() -> H + Send + Sync + 'static,
{
    pool(replicas, factory).spawn()
}

/// Prepares a module that handles one message at a time.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use spark_channel::{PanicPolicy, Stop, module};
/// # use spark_channel::NativeHandler;
/// # #[derive(Default)]
/// # struct Orders;
/// # impl NativeHandler for Orders {
/// #     type Message = String;
/// #     type Response = usize;
/// #     type Error = eyre::Report;
/// #     async fn handle_request(&mut self, m: String) -> eyre::Result<usize> { Ok(m.len()) }
/// #     async fn handle_command(&mut self, _: String) -> eyre::Result<()> { Ok(()) }
/// # }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> eyre::Result<()> {
/// let orders = module(Orders::default())
///     .name("orders")
///     .capacity(256)
///     .default_timeout(Duration::from_secs(2))
///     .on_panic(PanicPolicy::restart(Orders::default))
///     .spawn();
/// assert_eq!(orders.dispatcher().request("one").await?, 3);
/// assert_eq!(orders.shutdown(Stop::Drain).await.stats.handled, 1);
/// # Ok(())
/// # }
/// ```
pub fn module<H, Marker>(handler: H) -> ModuleBuilder<H::Handler>
where
    H: IntoHandler<Marker>,
{
    ModuleBuilder {
        start: Start::One(handler.into_handler()),
        policy: PanicPolicy::Continue,
        config: Config::named_after::<H>(),
        routing: Routing::Shared,
        vacate: None,
        token: PhantomData,
    }
}

/// Prepares a pool: `replicas` handlers made by `factory`, each on its own task,
/// that take from one mailbox in turn.
///
/// Callers hold the same dispatcher type as for a single module. Messages are
/// *taken* in the order accepted and run side by side, so a state is per
/// replica. A replica that panics is replaced from the factory.
///
/// Whoever is free takes the next message, unless the builder is told to choose the
/// replica: in turn ([`round_robin`](ModuleBuilder::round_robin)), the
/// [`least_loaded`](ModuleBuilder::least_loaded), [`by_key`](ModuleBuilder::by_key) of
/// the message, or all of them ([`broadcast`](ModuleBuilder::broadcast)).
///
/// # Panics
///
/// Panics if `replicas` is zero.
///
/// # Examples
///
/// ```
/// use spark_channel::pool;
/// # use spark_channel::NativeHandler;
/// # struct Hasher;
/// # impl NativeHandler for Hasher {
/// #     type Message = Vec<u8>;
/// #     type Response = u32;
/// #     type Error = eyre::Report;
/// #     async fn handle_request(&mut self, m: Vec<u8>) -> eyre::Result<u32> { Ok(m.len() as u32) }
/// #     async fn handle_command(&mut self, _: Vec<u8>) -> eyre::Result<()> { Ok(()) }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> eyre::Result<()> {
/// let hashers = pool(4, || Hasher).name("hasher").spawn();
/// assert_eq!(hashers.dispatcher().request(vec![1, 2, 3]).await?, 3);
/// # Ok(())
/// # }
/// ```
pub fn pool<H, Marker, F>(replicas: usize, factory: F) -> ModuleBuilder<H::Handler>
where
    H: IntoHandler<Marker>,
    F: Fn() -> H + Send + Sync + 'static,
{
    let replicas = NonZeroUsize::new(replicas).expect("a pool needs at least one replica");
    let factory: Factory<H::Handler> = Arc::new(move || factory().into_handler());
    ModuleBuilder {
        start: Start::Pool(replicas, Arc::clone(&factory)),
        policy: PanicPolicy::Restart(factory),
        config: Config::named_after::<H>(),
        routing: Routing::Shared,
        vacate: None,
        token: PhantomData,
    }
}

/// Settings of a module that does not run yet. Made by [`module`] and [`pool`].
#[must_use = "a module starts when it is spawned"]
pub struct ModuleBuilder<H: NativeHandler, C = SparkChannelCancellationToken> {
    start: Start<H>,
    policy: PanicPolicy<H>,
    config: Config,
    pub(crate) routing: Routing<H::Message>,
    /// How a handler that a supervisor has taken out of service lets go of what it
    /// holds.
    vacate: Option<fn(&mut H)>,
    token: PhantomData<fn(C)>,
}

/// The handle of a module whose handler is `H`.
pub type HandleOf<H, C = SparkChannelCancellationToken> = ModuleHandle<
    <H as NativeHandler>::Message,
    <H as NativeHandler>::Response,
    C,
    <H as NativeHandler>::Error,
>;

/// The dispatcher of a module whose handler is `H`, for the fields of those who call it.
pub type DispatcherOf<H, C = SparkChannelCancellationToken> = SparkGenericModuleDispatcher<
    <H as NativeHandler>::Message,
    <H as NativeHandler>::Response,
    C,
    <H as NativeHandler>::Error,
>;

enum Start<H> {
    One(H),
    Pool(NonZeroUsize, Factory<H>),
}

// === impl ModuleBuilder ===

impl<H, C> ModuleBuilder<H, C>
where
    H: NativeHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
{
    /// Names the module in errors, spans and reports. Default: the handler's type name.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.config.name = Some(name.into());
        self
    }

    /// Bounds the mailbox, in messages. Default: 64.
    ///
    /// Senders wait (or, with the `try_` methods, are refused) while it is full.
    /// Beside it the module holds the message being handled, and up to a quarter
    /// of the capacity, at most 15 messages, that it took along with it.
    ///
    /// A larger mailbox takes longer to push back and to drain. Memory grows with
    /// what is queued, not with the bound.
    ///
    /// # Panics
    ///
    /// [`spawn`](Self::spawn) panics if it is zero or larger than tokio's
    /// [`Semaphore::MAX_PERMITS`](tokio::sync::Semaphore::MAX_PERMITS).
    pub fn capacity(mut self, messages: usize) -> Self {
        self.config.capacity = messages;
        self
    }

    /// Gives requests that set no limit of their own this long to be answered,
    /// from their first poll. Default: no limit.
    pub fn default_timeout(mut self, timeout: Duration) -> Self {
        self.config.default_timeout = Some(timeout);
        self
    }

    /// Bounds the time between being told to stop and having stopped. Default: 15 s.
    /// [`Duration::MAX`] is no bound.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.config.shutdown_timeout = timeout;
        self
    }

    /// What to do after a panic. Default: [`Continue`](PanicPolicy::Continue) for a
    /// single module, restart from the factory for a pool.
    pub fn on_panic(mut self, policy: PanicPolicy<H>) -> Self {
        self.policy = policy;
        self
    }

    /// Drops a running request handler, at its next `.await`, once its caller has
    /// gone or its deadline has passed. Default: it runs to its end.
    pub fn drop_abandoned(mut self) -> Self {
        self.config.drop_abandoned = true;
        self
    }

    /// What becomes of a request, made by this module's handler, that could never be
    /// answered. Default: [`Error`](Deadlocks::Error).
    pub fn deadlocks(mut self, mode: Deadlocks) -> Self {
        self.config.deadlocks = mode;
        self
    }

    /// Handles every request on the module's own task.
    ///
    /// By default a request to an idle module is a *direct call*: the caller's task
    /// polls the handler, once, and only a handler that is not done by then goes on in
    /// the module's task. That saves two wake-ups, and everything else holds as ever.
    /// It is wrong for a handler that blocks its thread, which also blocks the one
    /// caller whose timeout it then outlasts, and for one that computes for long, which
    /// keeps whatever else the caller's task does waiting. A pool makes no direct calls.
    pub fn without_direct_calls(mut self) -> Self {
        self.config.direct_calls = false;
        self
    }

    /// Uses `Token` in [`Shutdown`](crate::SparkGenericModuleMessage::Shutdown) messages.
    /// Default: [`SparkChannelCancellationToken`].
    pub fn cancellation_token<Token>(self) -> ModuleBuilder<H, Token>
    where
        Token: SparkChannelCancellationTrait + Send + 'static,
    {
        ModuleBuilder {
            start: self.start,
            policy: self.policy,
            config: self.config,
            routing: self.routing,
            vacate: self.vacate,
            token: PhantomData,
        }
    }

    /// Runs the module by hand, one message at a time; of a pool, one replica.
    ///
    /// As there may be no clock, the
    /// [`shutdown_timeout`](Self::shutdown_timeout) is not used.
    ///
    /// # Panics
    ///
    /// Panics for a [`capacity`](Self::capacity) out of range. A factory's panic is
    /// passed on.
    #[cfg(feature = "test-util")]
    pub fn driver(self) -> crate::testing::Driver<H, C> {
        let handler = match self.start {
            Start::One(handler) => handler,
            Start::Pool(_, factory) => factory(),
        };
        crate::testing::Driver::build(handler, self.policy, self.config)
    }

    /// Puts the module under a supervisor: it waits for orders.
    pub(crate) fn overseen(mut self, oversight: Arc<Oversight>, vacate: fn(&mut H)) -> Self {
        self.config.oversight = Some(oversight);
        self.vacate = Some(vacate);
        self
    }

    /// Starts the module on the current runtime.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime, and for a [`capacity`](Self::capacity)
    /// out of range. A factory's panic is passed on.
    pub fn spawn(self) -> HandleOf<H, C> {
        let Self {
            start,
            policy,
            config,
            routing,
            vacate,
            ..
        } = self;
        let (sender, receiver) = mpsc::channel(config.capacity);
        let mut direct = None;
        let (control, task) = match start {
            Start::One(handler) => {
                let control = config.control(1, config.capacity);
                let start = |mailbox| {
                    let control = Arc::clone(&control);
                    Worker::new(handler, policy, &config, mailbox, control, 0).overseen(0, vacate)
                };
                let task = if config.direct_calls {
                    let (seat, run) = run_loop::seated(start(Mailbox::resting(receiver)));
                    direct = Some(seat);
                    tokio::spawn(run)
                } else {
                    tokio::spawn(run_loop::run_one(start(Mailbox::own(receiver))))
                };
                (control, task)
            }
            Start::Pool(replicas, factory)
                if replicas.get() > 1 && !matches!(routing, Routing::Shared) =>
            {
                let replicas = replicas.get();
                let control = config.control(replicas + 1, config.capacity);
                let (router, mailboxes) =
                    Router::new(receiver, routing, replicas, Arc::clone(&control));
                let workers = (0..)
                    .zip(mailboxes)
                    .map(|(slot, mailbox)| {
                        let control = Arc::clone(&control);
                        Worker::new(factory(), policy.clone(), &config, mailbox, control, slot)
                            .overseen(slot, vacate)
                    })
                    .collect();
                (control, tokio::spawn(run_loop::run_routed(workers, router)))
            }
            Start::Pool(replicas, factory) => {
                let control = config.control(replicas.get(), config.capacity);
                let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
                let notice = run_loop::stop_at_shutdown(Arc::clone(&control));
                let workers: Vec<_> = (0..replicas.get())
                    .map(|slot| {
                        let mailbox = Mailbox::shared(Arc::clone(&receiver), notice.clone());
                        let control = Arc::clone(&control);
                        Worker::new(factory(), policy.clone(), &config, mailbox, control, slot)
                            .overseen(slot, vacate)
                    })
                    .collect();
                let pool = run_loop::run_pool(workers, Arc::clone(&control));
                (control, tokio::spawn(pool))
            }
        };
        let dispatcher =
            SparkGenericModuleDispatcher::of_module(sender, Arc::clone(&control), direct);
        ModuleHandle::new(dispatcher, control, task)
    }
}

impl<H: NativeHandler, C> fmt::Debug for ModuleBuilder<H, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModuleBuilder")
            .field("name", &self.config.name)
            .field("capacity", &self.config.capacity)
            .field("default_timeout", &self.config.default_timeout)
            .field("shutdown_timeout", &self.config.shutdown_timeout)
            .field("on_panic", &self.policy)
            .field("drop_abandoned", &self.config.drop_abandoned)
            .field("routing", &self.routing)
            .finish_non_exhaustive()
    }
}
