//! The reply slot as a value: kept by a handler, answered later, or passed on.

mod classified;

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use tokio::{
    sync::{mpsc::Permit, oneshot},
    time::Instant,
};
use tracing::{Instrument, Span};

use crate::{
    CallbackSender, CallbackWrapper, Refused, SparkChannelError, SparkGenericModuleDispatcher,
    SparkGenericModuleMessage,
    callback::{Escort, Meta, Stamp},
    clock::Moment,
    current, deadlock,
    dispatcher::Envelope,
    request,
};

/// The slot for the answer to one [`ask_with`](SparkGenericModuleDispatcher::ask_with),
/// carried by the message itself.
///
/// Whoever holds it may answer, from anywhere and at any time: the handler keeps it in its
/// state, moves it into a task, or [passes it on](Self::forward_to). `T` and `E` are those
/// of the answer and need not be the module's own.
///
/// Dropping it fails the call with [`ReplyDropped`](SparkChannelError::ReplyDropped): so
/// does a handler that panics while it has it, and a module that stops and does not
/// answer in [`undelivered`](crate::NativeHandler::undelivered).
///
/// # Examples
///
/// A handler that answers all who wait once it knows:
///
/// ```
/// use spark_channel::{NativeHandler, Reply, spawn_module};
///
/// enum Price { Ask(Reply<u64>), Known(u64) }
///
/// #[derive(Default)]
/// struct Prices { waiting: Vec<Reply<u64>> }
///
/// impl NativeHandler for Prices {
///     type Message = Price;
///     type Response = ();
///     type Error = eyre::Report;
///
///     async fn handle_request(&mut self, _: Price) -> eyre::Result<()> {
///         eyre::bail!("send a command")
///     }
///
///     async fn handle_command(&mut self, message: Price) -> eyre::Result<()> {
///         match message {
///             Price::Ask(reply) => self.waiting.push(reply),
///             Price::Known(price) => {
///                 for reply in self.waiting.drain(..) {
///                     let _ = reply.send(Ok(price)); // whoever has gone needs none
///                 }
///             }
///         }
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> eyre::Result<()> {
/// let prices = spawn_module(Prices::default()).dispatcher();
/// let (asked, told) = tokio::join!(prices.ask_with(Price::Ask), prices.command(Price::Known(7)));
/// assert_eq!((asked?, told.is_ok()), (7, true));
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping a reply fails the call it belongs to"]
pub struct Reply<T, E = eyre::Report> {
    sender: CallbackSender<Result<T, E>>,
    deadline: Option<Moment>,
    span: Option<Span>,
}

// === impl Reply ===

impl<T, E> Reply<T, E> {
    /// A slot, and where its answer will be.
    pub(crate) fn new(
        deadline: Option<Moment>,
        span: Option<Span>,
    ) -> (Self, oneshot::Receiver<Result<T, E>>) {
        let (sender, answer) = oneshot::channel();
        let reply = Self {
            sender,
            deadline,
            span,
        };
        (reply, answer)
    }

    /// Answers the call.
    ///
    /// # Errors
    ///
    /// The answer, if the caller has gone.
    pub fn send(self, answer: Result<T, E>) -> Result<(), Result<T, E>> {
        self.sender.send(answer)
    }

    /// Answers the call with the outcome of `work`.
    ///
    /// `work` runs in the call's span, and is dropped when the caller goes or its deadline
    /// passes. To let the handler go on meanwhile, the future is spawned; see
    /// [`ModuleTasks`](crate::ModuleTasks).
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops `work` and the slot: the caller gets
    /// [`ReplyDropped`](SparkChannelError::ReplyDropped).
    pub async fn answer_with<F>(mut self, work: impl Future<Output = Result<T, F>>)
    where
        E: From<F>,
    {
        let answer = {
            let mut work = pin!(work.instrument(self.span()));
            poll_fn(|cx| match work.as_mut().poll(cx) {
                Poll::Ready(answer) => Poll::Ready(Some(answer)),
                Poll::Pending => self.sender.poll_closed(cx).map(|()| None),
            })
            .await
        };
        if let Some(answer) = answer {
            let _ = self.send(answer.map_err(E::from));
        }
    }

    /// Whether nobody waits for the answer any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Completes once nobody waits for the answer any more.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn closed(&mut self) {
        self.sender.closed().await;
    }

    /// When the caller stops waiting, if it ever does.
    ///
    /// A command's handler inherits no deadline; what it asks on behalf of this call may be
    /// bounded by [`at_most`](crate::Request::at_most).
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline.map(Moment::to_instant)
    }

    /// The span of the call, a child of the caller's; disabled unless a subscriber wants it.
    #[must_use]
    pub fn span(&self) -> Span {
        self.span.clone().unwrap_or_else(Span::none)
    }
}

impl<T, E: From<SparkChannelError>> Reply<T, E> {
    /// Passes the call on to another module as a request, whose answer goes straight to the
    /// first caller, untouched.
    ///
    /// Deadline and span go with it: the module skips the request if the caller has gone or
    /// its deadline has passed. Waits while the mailbox is full, but no longer than the
    /// caller does; into the mailbox of the module it is called in it does not wait. To
    /// forward to a module whose types are others, send it a command that carries the
    /// slot, or ask it inside of [`answer_with`](Self::answer_with), which converts its
    /// errors.
    ///
    /// What keeps the module from taking it is what the caller gets:
    /// [`Closed`](SparkChannelError::Closed), [`ShuttingDown`](SparkChannelError::ShuttingDown),
    /// [`Full`](SparkChannelError::Full) or, where waiting for room would close a circle,
    /// [`WouldDeadlock`](SparkChannelError::WouldDeadlock), converted into `E`; and so is what
    /// happens to the request there (a panic, a shutdown), as if the caller had asked that
    /// module itself.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before completing, the request was not sent and the caller
    /// gets [`ReplyDropped`](SparkChannelError::ReplyDropped).
    ///
    /// # Examples
    ///
    /// ```
    /// # use spark_channel::{Reply, SparkGenericModuleDispatcher};
    /// struct Router { shards: Vec<SparkGenericModuleDispatcher<u64, String>> }
    ///
    /// impl Router {
    ///     async fn find(&self, key: u64, reply: Reply<String>) {
    ///         let shard = key as usize % self.shards.len();
    ///         reply.forward_to(&self.shards[shard], key).await;
    ///     }
    /// }
    /// ```
    pub fn forward_to<M, C>(
        mut self,
        other: &SparkGenericModuleDispatcher<M, T, C, E>,
        message: impl Into<M>,
    ) -> impl Future<Output = ()> {
        let message = message.into();
        async move {
            if let Some(intake) = other.intake() {
                return self.forward_by_class(other, intake, message).await;
            }
            let mut reason = match other.try_admit() {
                Ok(permit) => return self.place(other, permit, message),
                Err(reason) => reason,
            };
            let own_handler = other.control().is_some_and(current::is_inside);
            if reason == SparkChannelError::Full && !own_handler {
                reason = match self.wait_for_room(other).await {
                    Ok(permit) => return self.place(other, permit, message),
                    Err(reason) => reason,
                };
            }
            let reason = other.refuse(reason, ()).reason;
            let _ = self.send(Err(reason.into()));
        }
    }

    /// Passes the call on, like [`forward_to`](Self::forward_to), now or not at all.
    ///
    /// # Errors
    ///
    /// The message and the slot, with [`Full`](SparkChannelError::Full),
    /// [`ShuttingDown`](SparkChannelError::ShuttingDown) or
    /// [`Closed`](SparkChannelError::Closed); the caller goes on waiting.
    pub fn try_forward_to<M, C>(
        self,
        other: &SparkGenericModuleDispatcher<M, T, C, E>,
        message: impl Into<M>,
    ) -> Result<(), Refused<(M, Self)>> {
        let message = message.into();
        if let Some(intake) = other.intake() {
            return self.try_forward_by_class(other, intake, message);
        }
        match other.try_admit() {
            Ok(permit) => {
                self.place(other, permit, message);
                Ok(())
            }
            Err(reason) => Err(other.refuse(reason, (message, self))),
        }
    }

    /// A place in the mailbox, unless the caller goes first.
    async fn wait_for_room<'a, M, C>(
        &mut self,
        other: &'a SparkGenericModuleDispatcher<M, T, C, E>,
    ) -> Result<Permit<'a, Envelope<M, T, C, E>>, SparkChannelError> {
        let reserving = pin!(other.sender.reserve());
        let mut room = pin!(deadlock::wait_for_room(other.control(), reserving));
        poll_fn(|cx| match room.as_mut().poll(cx)? {
            Poll::Ready(Ok(permit)) => Poll::Ready(Ok(permit)),
            Poll::Ready(Err(_)) => Poll::Ready(Err(other.closed_reason())),
            Poll::Pending => self
                .sender
                .poll_closed(cx)
                .map(|()| Err(SparkChannelError::Full)),
        })
        .await
    }

    fn place<M, C>(
        self,
        other: &SparkGenericModuleDispatcher<M, T, C, E>,
        permit: Permit<'_, Envelope<M, T, C, E>>,
        message: M,
    ) {
        let envelope = self.wrap(message);
        other.note_arrival();
        permit.send(envelope);
    }

    /// The call in the envelope it travels in from here on.
    fn wrap<M, C>(self, message: M) -> Envelope<M, T, C, E> {
        let stamp = |deadline| Stamp::new(deadline, request::next_call());
        SparkGenericModuleMessage::Request(CallbackWrapper {
            message,
            sender: self.sender,
            meta: Meta {
                stamp: self.deadline.map(stamp),
                escort: Escort::new(self.span, None),
            },
        })
    }
}

/// A slot for an answer that somebody awaits by other means, without a deadline.
impl<T, E> From<CallbackSender<Result<T, E>>> for Reply<T, E> {
    fn from(sender: CallbackSender<Result<T, E>>) -> Self {
        Self {
            sender,
            deadline: None,
            span: None,
        }
    }
}

impl<T, E> fmt::Debug for Reply<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}
