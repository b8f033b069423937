//! Routers: modules that hand their messages to others, by kind.

mod parts;
mod verb;

use std::future::Future;

pub use self::{parts::Parts, verb::Verb};
use crate::{IntoHandler, NativeHandler, SparkChannelError};

/// A module that shares its work out: each kind of message goes to the sub-handler, or
/// the other module, that it is for.
///
/// The message type is an enum, and [`route`](Self::route) one `match` over it, for
/// requests and commands alike; the compiler checks that no kind is left out, that each
/// sub-handler gets its own message type, and that its response and error fit into the
/// router's. A router is started like any handler, with [`module`](crate::module()) or
/// [`pool`](crate::pool).
///
/// A kind can be
///
/// * **[delegated](Verb::delegate)** to a sub-handler that lives in the router: any
///   [`NativeHandler`], with types of its own. It runs inside of this module, on its
///   task, so messages of all kinds keep one order, and while one sub-handler awaits, the
///   others wait. Nothing is queued or allocated on the way;
/// * **[forwarded](Verb::forward)** to another module through its dispatcher. The request
///   made there inherits what is left of the deadline, and the span. The router awaits
///   the answer, which keeps the order and pushes back on its callers, and so it handles
///   nothing else meanwhile. Where that is too slow, let the message carry its
///   [`Reply`](crate::Reply): a command like any other, it is passed on without awaiting
///   anything but room, and answered straight to the caller. Or start several routers in
///   a [`pool`](crate::pool);
/// * **[handled](Verb::handle)** by the router itself.
///
/// Errors of all of them are converted with `From`.
///
/// # Examples
///
/// ```
/// use spark_channel::{NativeHandler, Parts, Router, Stop, Verb, module};
/// # use spark_channel::SparkGenericModuleDispatcher;
///
/// # struct Stock(u64);
/// # impl NativeHandler for Stock {
/// #     type Message = u64;
/// #     type Response = u64;
/// #     type Error = eyre::Report;
/// #     async fn handle_request(&mut self, n: u64) -> eyre::Result<u64> {
/// #         self.0 = self.0.checked_sub(n).ok_or_else(|| eyre::eyre!("sold out"))?;
/// #         Ok(self.0)
/// #     }
/// #     async fn handle_command(&mut self, n: u64) -> eyre::Result<()> { self.0 += n; Ok(()) }
/// # }
/// # struct Mail;
/// # impl NativeHandler for Mail {
/// #     type Message = String;
/// #     type Response = ();
/// #     type Error = eyre::Report;
/// #     async fn handle_request(&mut self, _: String) -> eyre::Result<()> { Ok(()) }
/// #     async fn handle_command(&mut self, _: String) -> eyre::Result<()> { Ok(()) }
/// # }
/// enum Order { Stock(u64), Mail(String), Version }
///
/// #[derive(Debug, PartialEq)]
/// enum Answer { Left(u64), Sent, Version(u32) }
///
/// struct Shop {
///     stock: Stock,                                    // a handler
///     mail: SparkGenericModuleDispatcher<String, ()>,  // another module
/// }
///
/// impl Router for Shop {
///     type Message = Order;
///     type Response = Answer;
///     type Error = eyre::Report;
///
///     async fn route<V: Verb>(&mut self, order: Order, verb: V) -> eyre::Result<V::Outcome<Answer>> {
///         match order {
///             Order::Stock(n) => verb.delegate(&mut self.stock, n, Answer::Left).await,
///             Order::Mail(text) => verb.forward(&self.mail, text, |()| Answer::Sent).await,
///             Order::Version => verb.handle(async { Ok(Answer::Version(3)) }).await,
///         }
///     }
///
///     fn parts(&mut self) -> impl Parts<eyre::Report> {
///         &mut self.stock
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> eyre::Result<()> {
/// let mail = module(Mail).spawn();
/// let shop = module(Shop { stock: Stock(10), mail: mail.dispatcher() }).name("shop").spawn();
/// let dispatcher = shop.dispatcher();
///
/// assert_eq!(dispatcher.request(Order::Stock(3)).await?, Answer::Left(7));
/// dispatcher.command(Order::Stock(5)).await.map_err(|refused| refused.reason)?;
/// assert_eq!(dispatcher.request(Order::Stock(12)).await?, Answer::Left(0));
/// assert_eq!(dispatcher.request(Order::Mail("hello".into())).await?, Answer::Sent);
/// assert_eq!(dispatcher.request(Order::Version).await?, Answer::Version(3));
/// # shop.shutdown(Stop::Drain).await;
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(message = "`{Self}` is not a router")]
pub trait Router: Send + 'static {
    /// What the module is sent: most often an enum, a variant for each kind.
    type Message: Send + 'static;
    /// What it answers requests with.
    type Response: Send + 'static;
    /// What a call can fail with.
    type Error: From<SparkChannelError> + Send + 'static;

    /// Hands `message` on, to do with it what `verb` says: answer a request, act on a
    /// command, or take back a command that will not be handled.
    ///
    /// The outcome can only be made by the methods of [`Verb`].
    ///
    /// # Errors
    ///
    /// As [`NativeHandler::handle_request`] and
    /// [`handle_command`](NativeHandler::handle_command). That of taking something back
    /// is dropped.
    fn route<V: Verb>(
        &mut self,
        message: Self::Message,
        verb: V,
    ) -> impl Future<Output = Result<V::Outcome<Self::Response>, Self::Error>> + Send;

    /// The sub-handlers that live in the router, as references: `&mut self.one`, or a
    /// tuple of up to eight. `()` if there are none.
    ///
    /// They are started in this order, the next one only if the one before succeeded, and
    /// stopped in the reverse order, those that were not started left out. Parts that
    /// are not named here run without their hooks.
    fn parts(&mut self) -> impl Parts<Self::Error>;

    /// Takes the error of a command, whoever it was handed to, or of a part's `started`.
    ///
    /// The part's own [`command_failed`](NativeHandler::command_failed) is not called.
    fn command_failed(&mut self, error: Self::Error) {
        drop(error);
    }
}

/// Marks a [`Router`] for [`IntoHandler`].
#[derive(Debug)]
pub enum ViaRouter {}

/// Adapts a [`Router`] to a [`NativeHandler`].
#[derive(Debug)]
pub struct RouterHandler<R> {
    router: R,
    /// How many of its parts were started.
    started: usize,
}

// === impl RouterHandler ===

impl<R> RouterHandler<R> {
    /// Adapts `router`.
    pub const fn new(router: R) -> Self {
        Self { router, started: 0 }
    }
}

impl<R: Router> IntoHandler<ViaRouter> for R {
    type Handler = RouterHandler<R>;

    fn into_handler(self) -> Self::Handler {
        RouterHandler::new(self)
    }
}

impl<R: Router> NativeHandler for RouterHandler<R> {
    type Message = R::Message;
    type Response = R::Response;
    type Error = R::Error;

    fn handle_request(
        &mut self,
        message: R::Message,
    ) -> impl Future<Output = Result<R::Response, R::Error>> + Send {
        self.router.route(message, verb::Answer)
    }

    fn handle_command(
        &mut self,
        message: R::Message,
    ) -> impl Future<Output = Result<(), R::Error>> + Send {
        self.router.route(message, verb::Act)
    }

    async fn started(&mut self) -> Result<(), R::Error> {
        self.router.parts().start(&mut self.started).await
    }

    async fn stopped(&mut self) {
        self.router.parts().stop(self.started).await;
    }

    async fn undelivered(&mut self, command: R::Message) {
        drop(self.router.route(command, verb::TakeBack).await);
    }

    fn command_failed(&mut self, error: R::Error) {
        self.router.command_failed(error);
    }
}
