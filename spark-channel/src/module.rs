//! How modules are started: alone, or as a pool of replicas behind one dispatcher.

use std::{fmt, marker::PhantomData, num::NonZeroUsize, sync::Arc, time::Duration};

use tokio::sync::mpsc;

use crate::{
    Class, Deadlocks, Factory, IntoHandler, ModuleHandle, NativeHandler, Overflow, PanicPolicy,
    SparkChannelCancellationToken, SparkChannelCancellationTrait, SparkGenericModuleDispatcher,
    classes::Classify,
    config::Config,
    inlet::inlet,
    oversight::Oversight,
    routing::Routing,
    run_loop::{self, Router, Worker},
    timings::NameOf,
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
        name_of: None,
        classify: H::Handler::classes().map(|classify| Arc::new(classify) as _),
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
        name_of: None,
        classify: H::Handler::classes().map(|classify| Arc::new(classify) as _),
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
    name_of: Option<NameOf<H::Message>>,
    classify: Option<Classify<H::Message>>,
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
    /// keeps whatever else the caller's task does waiting; also for one that uses
    /// tokio's `block_in_place`, which panics below a `LocalSet`, and one that reads
    /// task-locals. A pool makes no direct calls.
    pub fn without_direct_calls(mut self) -> Self {
        self.config.direct_calls = false;
        self
    }

    /// What happens to a message that finds the mailbox full. Default: its sender
    /// [waits](Overflow::Wait).
    ///
    /// With [classes](Self::classify), the policy of the default class. It is that of
    /// the dispatchers: what is sent into the public
    /// [`sender`](crate::SparkGenericModuleDispatcher::sender) waits in any case, with
    /// a bound of the same size for itself.
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.config.overflow = overflow;
        self
    }

    /// Sorts messages into classes, each with a bound, an [`Overflow`] policy and a
    /// [`Priority`](crate::Priority) of its own. Default: what the handler says
    /// ([`NativeHandler::classes`]), which for most is nothing: one class, taken in order.
    ///
    /// `classify` is called for each message that a dispatcher sends, before it is
    /// accepted; a panic of it is the sender's. What is sent into the public
    /// [`sender`](crate::SparkGenericModuleDispatcher::sender) belongs to
    /// [`Class::DEFAULT`] and waits for room. So does a direct call: a module that has a
    /// message in any class is not idle, so there is nothing to sort it among, and it is
    /// not asked for its class.
    ///
    /// Messages of one dispatcher clone keep their order within a class, and between
    /// classes of one priority; a [conflated](Class::conflate) command is handled in the
    /// place of the one it replaced. Between priorities the higher goes first. The
    /// message being handled is not interrupted, and no message is taken before it
    /// can be handled: one of priority [`Control`](crate::Priority::Control) waits for
    /// the running handler and for earlier ones of its kind, never for data.
    ///
    /// A [`Shutdown`](crate::SparkGenericModuleMessage::Shutdown) message comes after
    /// everything accepted before it, in any class.
    ///
    /// A module with classes takes its messages one at a time. A pool that chooses the replica sorts what waits in front of it; what a
    /// replica has been given, it handles in that order.
    ///
    /// # Examples
    ///
    /// ```
    /// use spark_channel::{Class, NativeHandler, Overflow, Priority, Stop, module};
    ///
    /// enum Ticker { Halt, Quote { symbol: &'static str, cents: u64 } }
    ///
    /// const HALT: Class = Class::new("halt").priority(Priority::Control).capacity(4);
    /// const QUOTES: Class = Class::new("quotes").overflow(Overflow::DropOldest);
    ///
    /// #[derive(Default)]
    /// struct Board(Vec<u64>);
    ///
    /// impl NativeHandler for Board {
    ///     type Message = Ticker;
    ///     type Response = Vec<u64>;
    ///     type Error = eyre::Report;
    ///
    ///     async fn handle_request(&mut self, _: Ticker) -> eyre::Result<Vec<u64>> {
    ///         Ok(std::mem::take(&mut self.0))
    ///     }
    ///
    ///     async fn handle_command(&mut self, message: Ticker) -> eyre::Result<()> {
    ///         match message {
    ///             Ticker::Halt => self.0.push(0),
    ///             Ticker::Quote { cents, .. } => self.0.push(cents),
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> eyre::Result<()> {
    /// let board = module(Board::default())
    ///     .classify(|message: &Ticker| match message {
    ///         Ticker::Halt => HALT,
    ///         Ticker::Quote { symbol, .. } => QUOTES.conflate(symbol),
    ///     })
    ///     .spawn();
    /// let dispatcher = board.dispatcher();
    /// for cents in [101, 102, 103] {
    ///     dispatcher.try_command(Ticker::Quote { symbol: "SPRK", cents })?;
    /// }
    /// dispatcher.try_command(Ticker::Quote { symbol: "FIRE", cents: 7 })?;
    /// // None has been handled yet: the halt goes first, and of SPRK only the last is left.
    /// dispatcher.try_command(Ticker::Halt)?;
    /// let seen = dispatcher.request(Ticker::Quote { symbol: "SPRK", cents: 0 }).await?;
    /// assert_eq!(seen, [0, 103, 7]);
    ///
    /// let stats = board.shutdown(Stop::Drain).await.stats;
    /// assert_eq!((stats.handled, stats.conflated, stats.accounted()), (4, 2, 6));
    /// # Ok(())
    /// # }
    /// ```
    pub fn classify(
        mut self,
        classify: impl Fn(&H::Message) -> Class + Send + Sync + 'static,
    ) -> Self {
        self.classify = Some(Arc::new(classify));
        self
    }

    /// Times messages by name: how long they waited, how long they were handled, and which
    /// is handled now; see [`message_stats`](crate::ModuleHandle::message_stats). Default:
    /// no names, and no times.
    ///
    /// `name_of` says what a message is called; the name of its variant is a good choice.
    /// It runs once for each message, and should be quick. If it panics, the caller gets
    /// [`Panicked`](crate::SparkChannelError::Panicked), as from a handler.
    ///
    /// This costs three readings of the clock and three short locks for each message.
    ///
    /// # Examples
    ///
    /// ```
    /// use spark_channel::{NativeHandler, module};
    ///
    /// enum Order { Reserve(u64), Restock(u64) }
    ///
    /// impl Order {
    ///     fn name(&self) -> &'static str {
    ///         match self {
    ///             Self::Reserve(_) => "reserve",
    ///             Self::Restock(_) => "restock",
    ///         }
    ///     }
    /// }
    /// # struct Stock;
    /// # impl NativeHandler for Stock {
    /// #     type Message = Order;
    /// #     type Response = u64;
    /// #     type Error = eyre::Report;
    /// #     async fn handle_request(&mut self, order: Order) -> eyre::Result<u64> {
    /// #         match order { Order::Reserve(n) | Order::Restock(n) => Ok(n) }
    /// #     }
    /// #     async fn handle_command(&mut self, _: Order) -> eyre::Result<()> { Ok(()) }
    /// # }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> eyre::Result<()> {
    /// let stock = module(Stock).message_names(Order::name).spawn();
    /// stock.dispatcher().request(Order::Reserve(3)).await?;
    ///
    /// let stats = stock.message_stats().unwrap_or_default();
    /// assert_eq!(stats.named("reserve").map(|reserve| reserve.handling.count), Some(1));
    /// assert!(stats.current.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn message_names<F>(mut self, name_of: F) -> Self
    where
        F: Fn(&H::Message) -> &'static str + Send + Sync + 'static,
    {
        self.name_of = Some(self.config.timed(name_of));
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
            name_of: self.name_of,
            classify: self.classify,
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
        let (policy, config) = (self.policy, self.config);
        crate::testing::Driver::build(handler, policy, config, self.classify, self.name_of)
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
            name_of,
            classify,
            ..
        } = self;
        let (replicas, is_routed) = match &start {
            Start::One(_) => (1, false),
            Start::Pool(replicas, _) => {
                let replicas = replicas.get();
                let is_routed = replicas > 1 && !matches!(routing, Routing::Shared);
                (replicas, is_routed)
            }
        };
        let (sender, receiver) = mpsc::channel(config.capacity);
        let control = config.control(replicas + usize::from(is_routed), config.capacity);
        let (inlet, intake) = inlet(receiver, &config, classify, &control);
        let mut direct = None;
        let task = match start {
            Start::One(handler) => {
                let start = |mailbox| {
                    let control = Arc::clone(&control);
                    Worker::new(handler, policy, &config, mailbox, control, 0)
                        .overseen(0, vacate)
                        .timed(name_of)
                };
                if config.direct_calls {
                    let (seat, run) = run_loop::seated(start(inlet.resting(&control)));
                    direct = Some(seat);
                    tokio::spawn(run)
                } else {
                    tokio::spawn(run_loop::run_one(start(inlet.own(&control))))
                }
            }
            Start::Pool(_, factory) => {
                let start = |(slot, mailbox)| {
                    let control = Arc::clone(&control);
                    Worker::new(factory(), policy.clone(), &config, mailbox, control, slot)
                        .overseen(slot, vacate)
                        .timed(name_of.clone())
                };
                if is_routed {
                    let front = inlet.front(replicas);
                    let (router, mailboxes) =
                        Router::new(front, routing, replicas, Arc::clone(&control));
                    let workers = (0..).zip(mailboxes).map(start).collect();
                    tokio::spawn(run_loop::run_routed(workers, router))
                } else {
                    let mailboxes = inlet.shared(replicas, &control);
                    let workers = (0..).zip(mailboxes).map(start).collect();
                    tokio::spawn(run_loop::run_pool(workers, Arc::clone(&control)))
                }
            }
        };
        let dispatcher =
            SparkGenericModuleDispatcher::of_module(sender, Arc::clone(&control), direct, intake);
        control.keep(H::feeds(&dispatcher.downgrade()));
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
            .field("overflow", &self.config.overflow)
            .finish_non_exhaustive()
    }
}
