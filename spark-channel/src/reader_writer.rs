//! Modules whose reads run side by side: what they do, and how they meet the run loop.

use std::{future::Future, sync::Arc};

mod builder;

pub use self::builder::{ReaderWriterBuilder, reader_writer};
use crate::{Attached, Class, IntoHandler, NativeHandler, SparkChannelError, WeakDispatcher};

/// What a request does to its module's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// It looks, through `&self`, beside other reads.
    Read,
    /// It changes, through `&mut self`, and runs alone.
    Write,
}

/// The behaviour of a module whose reads run side by side.
///
/// Start it with [`reader_writer`]. A request that only looks is handled through `&self`, at
/// the same time as others, up to a [bound](ReaderWriterBuilder::readers); one that
/// changes, and every command, waits for the running reads and then runs alone, through
/// `&mut self`. So the state needs no lock, and no read sees half a write.
///
/// Messages *start* in the order accepted: nothing behind a waiting write starts before
/// it, so writers do not starve, and a read behind a write sees what it wrote. Reads
/// that started one after the other may end in any order.
///
/// While the module is idle, a request is [polled once on its caller's
/// task](ReaderWriterBuilder::without_direct_calls); a read that is not done by then goes on beside others. All reads
/// share the module's task. They interleave at their `.await`s and
/// gain where they wait; for work that keeps a processor busy there are
/// [pools](crate::pool()).
///
/// Whatever the crate docs say of a request holds for each read alone: its deadline, its
/// caller, its [`current`](crate::current) scope, its panic.
///
/// A read may ask its own module for another read. What could never be answered is
/// refused with [`WouldDeadlock`](SparkChannelError::WouldDeadlock): a write asked for from
/// within a read, a read that is behind a waiting write, anything asked for from within a
/// write, and one of the reads that are asked for by as many reads as the bound allows, all
/// of which wait. (Where reads of several modules take up each other's bounds, nobody sees it;
/// they end at their deadlines.)
///
/// # Examples
///
/// ```
/// use std::collections::HashMap;
/// use spark_channel::{Access, ReaderWriterHandler, Stop, reader_writer};
///
/// #[derive(Default)]
/// struct Prices(HashMap<String, u64>);
///
/// enum Message { Price(String), Set(String, u64) }
///
/// impl ReaderWriterHandler for Prices {
///     type Message = Message;
///     type Response = Option<u64>;
///     type Error = eyre::Report;
///
///     fn access(message: &Message) -> Access {
///         match message {
///             Message::Price(_) => Access::Read,
///             Message::Set(..) => Access::Write,
///         }
///     }
///
///     async fn handle_read(&self, message: Message) -> eyre::Result<Option<u64>> {
///         let Message::Price(item) = message else { eyre::bail!("not a read") };
///         Ok(self.0.get(&item).copied())
///     }
///
///     async fn handle_write(&mut self, message: Message) -> eyre::Result<Option<u64>> {
///         let Message::Set(item, price) = message else { eyre::bail!("not a write") };
///         Ok(self.0.insert(item, price))
///     }
///
///     async fn handle_command(&mut self, message: Message) -> eyre::Result<()> {
///         self.handle_write(message).await.map(drop)
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> eyre::Result<()> {
/// let prices = reader_writer(Prices::default()).readers(16).spawn();
/// let dispatcher = prices.dispatcher();
/// dispatcher.request(Message::Set("tea".into(), 3)).await?;
/// let (tea, mate) = tokio::join!(
///     dispatcher.request(Message::Price("tea".into())),
///     dispatcher.request(Message::Price("mate".into())),
/// );
/// assert_eq!((tea?, mate?), (Some(3), None));
/// assert_eq!(prices.shutdown(Stop::Drain).await.stats.handled, 3);
/// # Ok(())
/// # }
/// ```
pub trait ReaderWriterHandler: Send + Sync + 'static {
    /// What the module is sent, by request and by command.
    type Message: Send + 'static;
    /// What it answers requests with.
    type Response: Send + 'static;
    /// What a call can fail with.
    type Error: From<SparkChannelError> + Send + 'static;

    /// Says how a request is to be handled; a command is not asked about.
    ///
    /// Called before the request starts, at times more than once.
    fn access(message: &Self::Message) -> Access;

    /// Answers a request of [`Access::Read`].
    ///
    /// # Errors
    ///
    /// Whatever is returned reaches the caller untouched.
    ///
    /// # Cancel safety
    ///
    /// As [`NativeHandler::handle_request`].
    fn handle_read(
        &self,
        message: Self::Message,
    ) -> impl Future<Output = Result<Self::Response, Self::Error>> + Send;

    /// Answers a request of [`Access::Write`]; nothing else runs meanwhile.
    ///
    /// # Errors
    ///
    /// Whatever is returned reaches the caller untouched.
    ///
    /// # Cancel safety
    ///
    /// As [`NativeHandler::handle_request`].
    fn handle_write(
        &mut self,
        message: Self::Message,
    ) -> impl Future<Output = Result<Self::Response, Self::Error>> + Send;

    /// Acts on a command, of which nobody awaits the outcome; nothing else runs meanwhile.
    ///
    /// # Errors
    ///
    /// An error is counted, traced and given to [`command_failed`](Self::command_failed).
    fn handle_command(
        &mut self,
        message: Self::Message,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Runs before the first message, and again after a restart; see
    /// [`NativeHandler::started`].
    ///
    /// # Errors
    ///
    /// An error ends the module.
    fn started(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        std::future::ready(Ok(()))
    }

    /// Runs after the last message; see [`NativeHandler::stopped`].
    fn stopped(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Takes back a command that will not be handled; see [`NativeHandler::undelivered`].
    fn undelivered(&mut self, command: Self::Message) -> impl Future<Output = ()> + Send {
        drop(command);
        std::future::ready(())
    }

    /// Takes the error of a command, or of [`started`](Self::started).
    fn command_failed(&mut self, error: Self::Error) {
        drop(error);
    }

    /// How its messages are sorted into classes; see [`NativeHandler::classes`].
    fn classes() -> Option<fn(&Self::Message) -> Class> {
        None
    }

    /// Starts what feeds the module by itself; see [`NativeHandler::feeds`].
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

/// Adapts a [`ReaderWriterHandler`] to a [`NativeHandler`], which handles one message at
/// a time: what [`module`](crate::module()) and [`pool`](crate::pool()) make of it.
#[derive(Debug)]
pub struct ReaderWriter<H>(
    /// Shared only while reads run that outlive a borrow: see `run_loop::reader_writer`.
    pub(crate) Arc<H>,
);

/// Marks a [`ReaderWriterHandler`] for [`IntoHandler`].
#[derive(Debug)]
pub enum ViaReaderWriter {}

// === impl ReaderWriter ===

impl<H> ReaderWriter<H> {
    /// Adapts `inner`.
    pub fn new(inner: H) -> Self {
        Self(Arc::new(inner))
    }

    /// A second one of the same handler.
    pub(crate) fn again(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    /// The handler, for whoever runs alone.
    pub(crate) fn alone(&mut self) -> &mut H {
        match Arc::get_mut(&mut self.0) {
            Some(handler) => handler,
            None => unreachable!("no read runs beside what runs alone"),
        }
    }
}

impl<H: ReaderWriterHandler> NativeHandler for ReaderWriter<H> {
    type Message = H::Message;
    type Response = H::Response;
    type Error = H::Error;

    async fn handle_request(&mut self, message: H::Message) -> Result<H::Response, H::Error> {
        match H::access(&message) {
            Access::Read => self.0.handle_read(message).await,
            Access::Write => self.alone().handle_write(message).await,
        }
    }

    // Each passes the future on instead of awaiting it in another one.
    fn handle_command(
        &mut self,
        message: H::Message,
    ) -> impl Future<Output = Result<(), H::Error>> + Send {
        self.alone().handle_command(message)
    }

    fn started(&mut self) -> impl Future<Output = Result<(), H::Error>> + Send {
        self.alone().started()
    }

    fn stopped(&mut self) -> impl Future<Output = ()> + Send {
        self.alone().stopped()
    }

    fn undelivered(&mut self, command: H::Message) -> impl Future<Output = ()> + Send {
        self.alone().undelivered(command)
    }

    fn command_failed(&mut self, error: H::Error) {
        self.alone().command_failed(error);
    }

    fn classes() -> Option<fn(&H::Message) -> Class> {
        H::classes()
    }

    fn feeds<C>(module: &WeakDispatcher<H::Message, H::Response, C, H::Error>) -> Vec<Attached>
    where
        C: Send + 'static,
    {
        H::feeds(module)
    }
}

// === impl IntoHandler ===

impl<H: ReaderWriterHandler> IntoHandler<ViaReaderWriter> for H {
    type Handler = ReaderWriter<H>;

    fn into_handler(self) -> ReaderWriter<H> {
        ReaderWriter::new(self)
    }
}
