//! The caller's end of a module.

mod classified;

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use tokio::sync::mpsc::{self, Permit, error::TrySendError};

use crate::{
    IntoResult, MessageStats, Refused, Request, SparkChannelCancellationToken, SparkChannelError,
    SparkGenericModuleMessage, Stage, Stats, Watch,
    classes::Intake,
    control::Control,
    current, deadlock,
    direct::DirectCalls,
    request::{Admission, Admitted, Timer},
};

/// The caller's end of a module: cheap to clone, and to share between tasks.
///
/// Messages sent through one clone are handled in the order accepted; nothing
/// is promised between two clones. The module runs as long as a dispatcher or
/// its [handle](crate::ModuleHandle) exists, or until it is told to stop.
///
/// `C` is what [`Shutdown`](SparkGenericModuleMessage::Shutdown) messages carry.
pub struct SparkGenericModuleDispatcher<
    Message,
    Response,
    CancellationToken = SparkChannelCancellationToken,
    Error = eyre::Report,
> {
    /// The mailbox. What is sent here directly has no deadline and no span, is not
    /// checked for asking itself, and is refused only once the mailbox is closed.
    ///
    /// Whoever puts another sender in its place gets what the module would, and while a
    /// subscriber wants DEBUG spans, that is a command as a request for which nobody waits.
    pub sender:
        mpsc::Sender<SparkGenericModuleMessage<Message, Response, CancellationToken, Error>>,
    control: Option<Arc<Control>>,
    direct: Option<Direct<Message, Response, Error>>,
    /// What it sends to instead of the mailbox, if the module has classes.
    intake: Option<Arc<Intake<Message, Response, CancellationToken, Error>>>,
}

/// A dispatcher that does not keep its module alive.
pub struct WeakDispatcher<
    Message,
    Response,
    CancellationToken = SparkChannelCancellationToken,
    Error = eyre::Report,
> {
    sender:
        mpsc::WeakSender<SparkGenericModuleMessage<Message, Response, CancellationToken, Error>>,
    control: Option<Arc<Control>>,
    direct: Option<Direct<Message, Response, Error>>,
    /// What it sends to instead of the mailbox, if the module has classes.
    intake: Option<Arc<Intake<Message, Response, CancellationToken, Error>>>,
}

/// Where the worker of an idle module lies.
type Direct<M, R, E> = Arc<dyn DirectCalls<M, R, E>>;

// === impl SparkGenericModuleDispatcher ===

impl<M, R, C, E> SparkGenericModuleDispatcher<M, R, C, E> {
    /// A dispatcher for whoever receives from `sender`'s channel.
    ///
    /// It knows the mailbox only; one from a [handle](crate::ModuleHandle::dispatcher)
    /// also knows the module's default timeout and state.
    #[must_use]
    pub const fn new(sender: mpsc::Sender<SparkGenericModuleMessage<M, R, C, E>>) -> Self {
        Self {
            sender,
            control: None,
            direct: None,
            intake: None,
        }
    }

    pub(crate) const fn of_module(
        sender: mpsc::Sender<SparkGenericModuleMessage<M, R, C, E>>,
        control: Arc<Control>,
        direct: Option<Arc<dyn DirectCalls<M, R, E>>>,
        intake: Option<Arc<Intake<M, R, C, E>>>,
    ) -> Self {
        Self {
            sender,
            control: Some(control),
            direct,
            intake,
        }
    }

    /// Sends a message and awaits its answer.
    ///
    /// Nothing happens until the [`Request`] is first polled. It waits while the
    /// mailbox is full. Inside of a handler it inherits the deadline of the
    /// request being handled.
    ///
    /// # Errors
    ///
    /// The handler's own error untouched, or a [`SparkChannelError`] converted
    /// into the module's error type when the handler did not answer.
    ///
    /// # Cancel safety
    ///
    /// Dropped before the message was accepted, nothing happened. Dropped later,
    /// the message is skipped if its handler has not started; a running handler
    /// goes on, and can [learn it](crate::current::cancelled).
    ///
    /// # Examples
    ///
    /// ```
    /// # use spark_channel::SparkGenericModuleDispatcher;
    /// # use std::time::Duration;
    /// async fn total(sums: &SparkGenericModuleDispatcher<u64, u64>) -> eyre::Result<u64> {
    ///     sums.request(1_u64).await?;
    ///     sums.request(2_u64).timeout(Duration::from_secs(1)).await
    /// }
    /// ```
    #[inline]
    pub fn request(&self, message: impl Into<M>) -> Request<'_, M, R, C, E> {
        Request::new(self, message.into())
    }

    /// Sends a message now, or gives it back; the returned future awaits the answer.
    ///
    /// # Errors
    ///
    /// The message, with [`Full`](SparkChannelError::Full),
    /// [`ShuttingDown`](SparkChannelError::ShuttingDown),
    /// [`Closed`](SparkChannelError::Closed) or
    /// [`WouldDeadlock`](SparkChannelError::WouldDeadlock).
    pub fn try_request(
        &self,
        message: impl Into<M>,
    ) -> Result<Request<'_, M, R, C, E>, Refused<M>> {
        Request::sent(self, message.into())
    }

    /// Sends a command, waiting while the mailbox is full.
    ///
    /// While a subscriber wants spans of level DEBUG, it is handled in a span that follows from
    /// the one it is sent in; not if the dispatcher was made with [`new`](Self::new).
    ///
    /// # Errors
    ///
    /// The message, when the module has stopped or is stopping; when the mailbox is full
    /// and the caller is this module's own handler, which would wait for itself; or
    /// when the deadline of the request being handled passes first.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before completing, the command was not sent.
    ///
    /// # Examples
    ///
    /// ```
    /// # use spark_channel::SparkGenericModuleDispatcher;
    /// async fn log(events: &SparkGenericModuleDispatcher<String, ()>) {
    ///     if let Err(refused) = events.command("user logged in").await {
    ///         let reason = refused.to_string();
    ///         eprintln!("not logged ({reason}): {}", refused.into_inner());
    ///     }
    /// }
    /// ```
    pub fn command(&self, command: impl Into<M>) -> impl Future<Output = Result<(), Refused<M>>> {
        let command = command.into();
        async move {
            if let Some(intake) = &self.intake {
                return self.command_by_class(intake, command).await;
            }
            match self.try_admit() {
                Ok(permit) => {
                    let link = self.link();
                    self.note_arrival();
                    permit.send(SparkGenericModuleMessage::command(command, link));
                    Ok(())
                }
                // Boxed, as a request's wait for room is: only who has to wait pays for it.
                Err(reason) => Box::pin(self.command_later(reason, command)).await,
            }
        }
    }

    /// Sends a command now, or gives it back.
    ///
    /// # Errors
    ///
    /// The message, with [`Full`](SparkChannelError::Full),
    /// [`ShuttingDown`](SparkChannelError::ShuttingDown) or
    /// [`Closed`](SparkChannelError::Closed).
    pub fn try_command(&self, command: impl Into<M>) -> Result<(), Refused<M>> {
        let command = command.into();
        if let Some(intake) = &self.intake {
            return self.try_command_by_class(intake, command);
        }
        match self.try_admit() {
            Ok(permit) => {
                let link = self.link();
                self.note_arrival();
                permit.send(SparkGenericModuleMessage::command(command, link));
                Ok(())
            }
            Err(reason) => Err(self.refuse(reason, command)),
        }
    }

    /// Sends a command, like [`command`](Self::command), and converts the outcome
    /// into the result type `Res`.
    ///
    /// # Errors
    ///
    /// As [`command`](Self::command), without the message.
    ///
    /// # Cancel safety
    ///
    /// As [`command`](Self::command).
    pub fn send_command<Command, Res>(&self, command: Command) -> impl Future<Output = Res::Output>
    where
        Command: Into<M>,
        Res: IntoResult<(), E>,
        E: From<SparkChannelError>,
    {
        let sent = self.command(command);
        async move { Res::into_result(sent.await.map_err(|refused| refused.reason.into())) }
    }

    /// Completes when the mailbox is closed, which is a little after
    /// [`is_closed`](Self::is_closed) says so.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }

    /// Whether the module has stopped accepting messages.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed() || self.is_stopping()
    }

    /// The module's name; `None` for a dispatcher made with [`new`](Self::new).
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.control.as_ref().map(|control| &*control.name)
    }

    /// What the module has counted; `None` for a dispatcher made with [`new`](Self::new).
    #[must_use]
    pub fn stats(&self) -> Option<Stats> {
        let depth = match &self.intake {
            Some(intake) => intake.classes.len(),
            None => self.sender.max_capacity() - self.sender.capacity(),
        };
        self.control.as_ref().map(|control| control.stats(depth))
    }

    /// How long messages waited and were handled, by name, and which is handled now;
    /// `None` unless the module was built with
    /// [`message_names`](crate::ModuleBuilder::message_names).
    #[must_use]
    pub fn message_stats(&self) -> Option<MessageStats> {
        self.control.as_ref()?.message_stats()
    }

    /// A dispatcher that does not keep the module alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakDispatcher<M, R, C, E> {
        WeakDispatcher {
            sender: self.sender.downgrade(),
            control: self.control.clone(),
            direct: self.direct.clone(),
            intake: self.intake.clone(),
        }
    }

    /// Watches the module, without keeping it alive; `None` for a dispatcher made
    /// with [`new`](Self::new).
    #[must_use]
    pub fn watch(&self) -> Option<Watch> {
        self.control.clone().map(Watch::new)
    }

    pub(crate) fn control(&self) -> Option<&Arc<Control>> {
        self.control.as_ref()
    }

    #[inline]
    pub(crate) fn direct(&self) -> Option<&dyn DirectCalls<M, R, E>> {
        self.direct.as_deref()
    }

    pub(crate) fn intake(&self) -> Option<&Intake<M, R, C, E>> {
        self.intake.as_deref()
    }

    #[inline]
    pub(crate) fn is_stopping(&self) -> bool {
        self.control.as_ref().is_some_and(|c| c.is_stopping())
    }

    /// To be called right before a message is sent into its place in the channel.
    #[inline]
    pub(crate) fn note_arrival(&self) {
        if let Some(control) = &self.control
            && let Some(timings) = &control.timings
        {
            timings.message_arrives();
        }
    }

    /// A place in the mailbox, if there is one now. Counts nothing.
    pub(crate) fn try_admit(&self) -> Result<Permit<'_, Envelope<M, R, C, E>>, SparkChannelError> {
        if self.is_stopping() {
            return Err(self.closed_reason());
        }
        // Fair: permits are handed to those who wait before any can be had here.
        self.sender.try_reserve().map_err(|error| match error {
            TrySendError::Full(()) => SparkChannelError::Full,
            TrySendError::Closed(()) => self.closed_reason(),
        })
    }

    /// Waits for a place in the mailbox.
    pub(crate) fn place(&self) -> Admission<'_, M, R, C, E>
    where
        M: Send,
        R: Send,
        C: Send,
        E: Send,
    {
        Box::pin(async {
            let reserved = self.sender.reserve().await;
            reserved.map(Admitted::Place).map_err(drop)
        })
    }

    /// Why a closed mailbox is closed.
    pub(crate) fn closed_reason(&self) -> SparkChannelError {
        match &self.control {
            Some(control) if control.is_stopping() && !control.has_ended() => {
                SparkChannelError::ShuttingDown
            }
            _ => SparkChannelError::Closed,
        }
    }

    pub(crate) fn refuse<T>(&self, reason: SparkChannelError, message: T) -> Refused<T> {
        if let Some(control) = &self.control {
            control.count_rejected();
        }
        Refused { message, reason }
    }

    async fn command_later(&self, reason: SparkChannelError, command: M) -> Result<(), Refused<M>> {
        let own_handler = self.control.as_ref().is_some_and(current::is_inside);
        if reason != SparkChannelError::Full || own_handler {
            return Err(self.refuse(reason, command));
        }
        let reserving = pin!(self.sender.reserve());
        match self.room(reserving).await {
            Ok(permit) => {
                let link = self.link();
                self.note_arrival();
                permit.send(SparkGenericModuleMessage::command(command, link));
                Ok(())
            }
            Err(reason) => Err(self.refuse(reason, command)),
        }
    }

    /// What `reserving` comes to for a command, which a handler waits for no longer than its
    /// deadline.
    pub(crate) async fn room<T, Closed>(
        &self,
        // Pinned by whoever calls: as an argument it would be held twice.
        reserving: Pin<&mut impl Future<Output = Result<T, Closed>>>,
    ) -> Result<T, SparkChannelError> {
        let mut room = pin!(deadlock::wait_for_room(self.control(), reserving));
        let mut timer = pin!(Timer::Off);
        let deadline = current::inherited_deadline();
        poll_fn(|cx| {
            if let Poll::Ready(reserved) = room.as_mut().poll(cx)? {
                return Poll::Ready(reserved.map_err(|_| self.closed_reason()));
            }
            let Some(deadline) = deadline else {
                return Poll::Pending;
            };
            let stage = Stage::NotAdmitted;
            let late = timer.as_mut().poll_at(deadline, cx);
            late.map(|()| Err(SparkChannelError::TimedOut { stage }))
        })
        .await
    }
}

impl<M, R, C, E> Clone for SparkGenericModuleDispatcher<M, R, C, E> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            control: self.control.clone(),
            direct: self.direct.clone(),
            intake: self.intake.clone(),
        }
    }
}

impl<M, R, C, E> fmt::Debug for SparkGenericModuleDispatcher<M, R, C, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SparkGenericModuleDispatcher")
            .field("name", &self.name())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

// === impl WeakDispatcher ===

impl<M, R, C, E> WeakDispatcher<M, R, C, E> {
    /// A dispatcher again, unless the last one is gone.
    #[must_use]
    pub fn upgrade(&self) -> Option<SparkGenericModuleDispatcher<M, R, C, E>> {
        Some(SparkGenericModuleDispatcher {
            sender: self.sender.upgrade()?,
            control: self.control.clone(),
            direct: self.direct.clone(),
            intake: self.intake.clone(),
        })
    }

    pub(crate) fn name(&self) -> Option<Arc<str>> {
        self.control
            .as_ref()
            .map(|control| Arc::clone(&control.name))
    }

    /// Completes once the module stops, or has ended; never for one that is only known
    /// by its mailbox.
    pub(crate) async fn over(&self) {
        match &self.control {
            Some(control) => control.over().await,
            None => std::future::pending().await,
        }
    }

    /// What the module has counted, also when no dispatcher is left; `None` if the
    /// dispatcher was made with [`SparkGenericModuleDispatcher::new`].
    #[must_use]
    pub fn stats(&self) -> Option<Stats> {
        match self.upgrade() {
            Some(dispatcher) => dispatcher.stats(),
            None => self.control.as_ref().map(|control| control.stats(0)),
        }
    }

    /// As [`SparkGenericModuleDispatcher::message_stats`], also when no dispatcher is left.
    #[must_use]
    pub fn message_stats(&self) -> Option<MessageStats> {
        self.control.as_ref()?.message_stats()
    }

    pub(crate) fn control(&self) -> Option<&Arc<Control>> {
        self.control.as_ref()
    }

    /// Watches the module, also when no dispatcher is left; `None` if the dispatcher
    /// was made with [`SparkGenericModuleDispatcher::new`].
    #[must_use]
    pub fn watch(&self) -> Option<Watch> {
        self.control.clone().map(Watch::new)
    }
}

impl<M, R, C, E> From<&SparkGenericModuleDispatcher<M, R, C, E>> for WeakDispatcher<M, R, C, E> {
    fn from(dispatcher: &SparkGenericModuleDispatcher<M, R, C, E>) -> Self {
        dispatcher.downgrade()
    }
}

impl<M, R, C, E> Clone for WeakDispatcher<M, R, C, E> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            control: self.control.clone(),
            direct: self.direct.clone(),
            intake: self.intake.clone(),
        }
    }
}

impl<M, R, C, E> fmt::Debug for WeakDispatcher<M, R, C, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakDispatcher")
            .field("name", &self.control.as_ref().map(|control| &control.name))
            .finish_non_exhaustive()
    }
}

/// What travels through the mailbox of a dispatcher with these types.
pub(crate) type Envelope<M, R, C, E> = SparkGenericModuleMessage<M, R, C, E>;
