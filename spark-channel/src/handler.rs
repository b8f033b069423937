//! What a module does with its messages: the two handler traits and how they meet.

use std::{future::Future, marker::PhantomData};

use async_trait::async_trait;

use crate::{Attached, Class, SparkChannelError, WeakDispatcher};

/// A module's behaviour, written with `async fn`.
///
/// The twin of [`SparkGenericModuleHandler`]: it names its types instead of
/// taking them as parameters and needs no boxed future per message. Both run on
/// the same loop; see [`IntoHandler`].
///
/// One message is handled at a time, so `&mut self` is the module's state and
/// needs no lock. While a handler awaits, its module waits.
///
/// # Examples
///
/// ```
/// use spark_channel::{NativeHandler, Stop, spawn_module};
///
/// struct Counter(u64);
///
/// impl NativeHandler for Counter {
///     type Message = u64;
///     type Response = u64;
///     type Error = eyre::Report;
///
///     async fn handle_request(&mut self, message: u64) -> eyre::Result<u64> {
///         self.0 += message;
///         Ok(self.0)
///     }
///
///     async fn handle_command(&mut self, message: u64) -> eyre::Result<()> {
///         self.0 += message;
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> eyre::Result<()> {
/// let counter = spawn_module(Counter(0));
/// let dispatcher = counter.dispatcher();
/// dispatcher.command(40_u64).await?;
/// assert_eq!(dispatcher.request(2_u64).await?, 42);
/// let report = counter.shutdown(Stop::Drain).await;
/// assert_eq!(report.stats.handled, 2);
/// # Ok(())
/// # }
/// ```
pub trait NativeHandler: Send + 'static {
    /// What the module is sent, by request and by command.
    type Message: Send + 'static;
    /// What it answers requests with.
    type Response: Send + 'static;
    /// What a call can fail with.
    type Error: From<SparkChannelError> + Send + 'static;

    /// Answers a request.
    ///
    /// # Errors
    ///
    /// Whatever is returned reaches the caller untouched.
    ///
    /// # Cancel safety
    ///
    /// The future runs to its end even when the caller goes away. It is dropped
    /// at an `.await` only by [`Stop::Now`](crate::Stop::Now), by the deadline of
    /// a shutdown, when a [`Supervisor`](crate::Supervisor) has the handler leave and
    /// it [takes too long](crate::Child::shutdown_timeout), or when the module was built to
    /// [`drop_abandoned`](crate::ModuleBuilder::drop_abandoned).
    fn handle_request(
        &mut self,
        message: Self::Message,
    ) -> impl Future<Output = Result<Self::Response, Self::Error>> + Send;

    /// Acts on a command, of which nobody awaits the outcome.
    ///
    /// # Errors
    ///
    /// An error is counted, traced and given to [`command_failed`](Self::command_failed).
    fn handle_command(
        &mut self,
        message: Self::Message,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Runs before the first message, and again after a restart.
    ///
    /// # Errors
    ///
    /// An error ends the module with [`StopReason::StartFailed`](crate::StopReason::StartFailed),
    /// unless a [`Supervisor`](crate::Supervisor) starts another handler for it; the error
    /// itself is given to [`command_failed`](Self::command_failed).
    fn started(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        std::future::ready(Ok(()))
    }

    /// Runs after the last message, also after a failed start.
    ///
    /// Bounded by the deadline of the shutdown: what is still pending then is dropped.
    fn stopped(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Takes back a command that was accepted and will not be handled, because
    /// the module is stopping.
    ///
    /// Called once per command, in order (each replica of a pool keeps its own), before
    /// [`stopped`](Self::stopped); not called once the deadline of the shutdown has passed.
    fn undelivered(&mut self, command: Self::Message) -> impl Future<Output = ()> + Send {
        drop(command);
        std::future::ready(())
    }

    /// Takes the error of a command, or of [`started`](Self::started).
    fn command_failed(&mut self, error: Self::Error) {
        drop(error);
    }

    /// How its messages are sorted into classes, unless its builder is given another way
    /// with [`classify`](crate::ModuleBuilder::classify). Default: they are not.
    ///
    /// [`run_module_server`](crate::run_module_server), whose mailbox is the caller's,
    /// does not ask.
    fn classes() -> Option<fn(&Self::Message) -> Class> {
        None
    }

    /// Starts what feeds the module by itself, timers and streams, which it keeps until it
    /// ends. Default: nothing.
    ///
    /// Called once, when the module is spawned, and not again after a restart; of a pool,
    /// once for all replicas. Not called for a part of a [`Router`](crate::Router), for the
    /// modules of a [keyed set](crate::keyed()), for a module that is run by
    /// [`run_module_server`](crate::run_module_server), nor by a driver of the test kit.
    ///
    /// # Examples
    ///
    /// ```
    /// use spark_channel::{Attached, NativeHandler, Tick, WeakDispatcher};
    /// use std::time::Duration;
    ///
    /// struct Cache(Vec<String>);
    ///
    /// impl NativeHandler for Cache {
    ///     type Message = Tick;
    ///     type Response = ();
    ///     type Error = eyre::Report;
    ///
    ///     fn feeds<C: Send + 'static>(cache: &WeakDispatcher<Tick, (), C>) -> Vec<Attached> {
    ///         vec![cache.every(Duration::from_secs(30), |tick| tick)]
    ///     }
    ///
    ///     async fn handle_command(&mut self, _: Tick) -> eyre::Result<()> {
    ///         self.0.clear();
    ///         Ok(())
    ///     }
    ///
    ///     async fn handle_request(&mut self, tick: Tick) -> eyre::Result<()> {
    ///         self.handle_command(tick).await
    ///     }
    /// }
    /// ```
    fn feeds<C>(
        module: &WeakDispatcher<Self::Message, Self::Response, C, Self::Error>,
    ) -> Vec<Attached>
    where
        C: Send + 'static,
    {
        let _ = module;
        Vec::new()
    }
}

/// A module's behaviour, in the shape spark-channel has always had.
///
/// Implement it under `#[async_trait]`. Each message costs one boxed future more
/// than a [`NativeHandler`].
///
/// # Examples
///
/// ```
/// use async_trait::async_trait;
/// use spark_channel::{SparkGenericModuleHandler, spawn_module};
///
/// struct Greeter;
///
/// #[async_trait]
/// impl SparkGenericModuleHandler<String, String> for Greeter {
///     async fn handle_request(&mut self, name: String) -> eyre::Result<String> {
///         Ok(format!("hello, {name}"))
///     }
///
///     async fn handle_command(&mut self, _: String) -> eyre::Result<()> {
///         eyre::bail!("nothing to do without an answer")
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> eyre::Result<()> {
/// let greeter = spawn_module(Greeter).dispatcher();
/// assert_eq!(greeter.request("Ada").await?, "hello, Ada");
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait SparkGenericModuleHandler<Message, Response, Error = eyre::Report>: Send
where
    Message: Send + 'static,
    Error: From<SparkChannelError> + Send + 'static,
{
    /// Answers a request; see [`NativeHandler::handle_request`].
    async fn handle_request(&mut self, request: Message) -> Result<Response, Error>;

    /// Acts on a command; see [`NativeHandler::handle_command`].
    async fn handle_command(&mut self, command: Message) -> Result<(), Error>;

    /// Runs before the first message; see [`NativeHandler::started`].
    async fn started(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Runs after the last message; see [`NativeHandler::stopped`].
    async fn stopped(&mut self) {}

    /// Takes back a command that will not be handled; see [`NativeHandler::undelivered`].
    async fn undelivered(&mut self, command: Message) {
        drop(command);
    }

    /// Takes the error of a command; see [`NativeHandler::command_failed`].
    fn command_failed(&mut self, error: Error) {
        drop(error);
    }
}

/// Whatever can be a module: a type with one of the two handler traits.
///
/// `Marker` tells the two apart and is always inferred. For a type that
/// implements both, say which one is meant with [`AsyncTraitHandler::new`], or
/// name the marker.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a module",
    label = "implement `NativeHandler` or `SparkGenericModuleHandler` for it",
    note = "an `#[async_trait]` impl must also be `Send + 'static`"
)]
pub trait IntoHandler<Marker> {
    /// The handler the run loop drives.
    type Handler: NativeHandler;

    /// Converts `self`.
    fn into_handler(self) -> Self::Handler;
}

/// Marks a [`NativeHandler`] for [`IntoHandler`].
#[derive(Debug)]
pub enum Native {}

/// Marks a [`SparkGenericModuleHandler`] for [`IntoHandler`].
#[derive(Debug)]
pub struct ViaAsyncTrait<Message, Response, Error>(PhantomData<Types<Message, Response, Error>>);

/// Adapts a [`SparkGenericModuleHandler`] to a [`NativeHandler`].
#[derive(Debug)]
pub struct AsyncTraitHandler<H, Message, Response, Error = eyre::Report> {
    inner: H,
    types: PhantomData<Types<Message, Response, Error>>,
}

// A function pointer: the adapter holds no value of these types, so it is `Send`
// whatever they are.
type Types<Message, Response, Error> = fn(Message) -> Result<Response, Error>;

// === impl IntoHandler ===

impl<H: NativeHandler> IntoHandler<Native> for H {
    type Handler = H;

    fn into_handler(self) -> H {
        self
    }
}

impl<H, M, R, E> IntoHandler<ViaAsyncTrait<M, R, E>> for H
where
    H: SparkGenericModuleHandler<M, R, E> + 'static,
    M: Send + 'static,
    R: Send + 'static,
    E: From<SparkChannelError> + Send + 'static,
{
    type Handler = AsyncTraitHandler<H, M, R, E>;

    fn into_handler(self) -> Self::Handler {
        AsyncTraitHandler::new(self)
    }
}

// === impl AsyncTraitHandler ===

impl<H, M, R, E> AsyncTraitHandler<H, M, R, E> {
    /// Adapts `inner`.
    pub const fn new(inner: H) -> Self {
        Self {
            inner,
            types: PhantomData,
        }
    }
}

impl<H, M, R, E> NativeHandler for AsyncTraitHandler<H, M, R, E>
where
    H: SparkGenericModuleHandler<M, R, E> + 'static,
    M: Send + 'static,
    R: Send + 'static,
    E: From<SparkChannelError> + Send + 'static,
{
    type Message = M;
    type Response = R;
    type Error = E;

    // Each passes the boxed future on instead of awaiting it in another one.
    fn handle_request(&mut self, message: M) -> impl Future<Output = Result<R, E>> + Send {
        self.inner.handle_request(message)
    }

    fn handle_command(&mut self, message: M) -> impl Future<Output = Result<(), E>> + Send {
        self.inner.handle_command(message)
    }

    fn started(&mut self) -> impl Future<Output = Result<(), E>> + Send {
        self.inner.started()
    }

    fn stopped(&mut self) -> impl Future<Output = ()> + Send {
        self.inner.stopped()
    }

    fn undelivered(&mut self, command: M) -> impl Future<Output = ()> + Send {
        self.inner.undelivered(command)
    }

    fn command_failed(&mut self, error: E) {
        self.inner.command_failed(error);
    }
}
