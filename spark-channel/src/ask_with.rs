//! Asking with the reply slot in the message: for handlers that answer later.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::{
    sync::{mpsc::Permit, oneshot},
    time::Instant,
};

use crate::{
    Reply, SparkChannelCancellationToken, SparkChannelError, SparkGenericModuleDispatcher,
    SparkGenericModuleMessage, Stage,
    callback::Escort,
    classes::{Intake, Unaccepted},
    clock::Moment,
    deadlock::Edge,
    dispatcher::Envelope,
    request::{self, Admission, Admitted, Caller, Limit, Timer, earlier},
};

pin_project! {
    /// A call whose message carries its reply slot: the future of
    /// [`SparkGenericModuleDispatcher::ask_with`].
    #[must_use = "a call is made when it is awaited"]
    pub struct AskWith<'a, Make, T, F, M, R, C = SparkChannelCancellationToken, E = eyre::Report> {
        dispatcher: &'a SparkGenericModuleDispatcher<M, R, C, E>,
        limit: Limit,
        at_most: Option<Moment>,
        deadline: Option<Moment>,
        // That the module whose handler made it waits for a place.
        edge: Option<Edge>,
        // What is present tells how far the call has come: a message to be made, with a
        // place it waits for if the mailbox was full; an answer that is awaited; nothing.
        make: Option<Make>,
        admission: Option<Admission<'a, M, R, C, E>>,
        answer: Option<oneshot::Receiver<Result<T, F>>>,
        #[pin]
        timer: Timer,
    }
}

// === impl SparkGenericModuleDispatcher ===

impl<M, R, C, E> SparkGenericModuleDispatcher<M, R, C, E> {
    /// Sends a message that carries the slot for its answer, and awaits that.
    ///
    /// The message is sent as a command: it is counted as handled once its handler has
    /// returned, whether or not that has answered yet. `make` is called when the message
    /// has its place in the mailbox; with [classes](crate::ModuleBuilder::classify), before that,
    /// and the message is never conflated. Unlike a request, a message whose caller has gone
    /// while it was queued is still handled; [`Reply::is_closed`] tells.
    ///
    /// Inside of a handler, a module that waits for this one is a deadlock, as for a request;
    /// but only until the message is accepted, since anybody may answer it then.
    ///
    /// Time limits are those of a [`request`](Self::request): the module's default unless
    /// set, and inside of a handler the deadline of the request being handled.
    ///
    /// # Errors
    ///
    /// What the answer says; or a [`SparkChannelError`], converted: as for a request, but
    /// [`ReplyDropped`](SparkChannelError::ReplyDropped) when the slot was dropped, whatever
    /// the reason, and [`TimedOut`](SparkChannelError::TimedOut) with [`Stage::Running`]
    /// once the message was accepted, since who has the slot is not known.
    ///
    /// # Cancel safety
    ///
    /// Dropped before the message was accepted, nothing happened. Dropped later, the
    /// message is handled and its slot is closed.
    ///
    /// # Examples
    ///
    /// ```
    /// # use spark_channel::{Reply, SparkGenericModuleDispatcher};
    /// # use std::time::Duration;
    /// enum Message { Get { key: u64, reply: Reply<String> } }
    ///
    /// async fn get(store: &SparkGenericModuleDispatcher<Message, ()>) -> eyre::Result<String> {
    ///     store.ask_with(|reply| Message::Get { key: 7, reply }).timeout(Duration::from_secs(1)).await
    /// }
    /// ```
    pub fn ask_with<T, F, Make>(&self, make: Make) -> AskWith<'_, Make, T, F, M, R, C, E>
    where
        Make: FnOnce(Reply<T, F>) -> M,
        F: From<SparkChannelError>,
    {
        AskWith {
            dispatcher: self,
            limit: Limit::Default,
            at_most: None,
            deadline: None,
            edge: None,
            make: Some(make),
            admission: None,
            answer: None,
            timer: Timer::Off,
        }
    }
}

// === impl AskWith ===

impl<Make, T, F, M, R, C, E> AskWith<'_, Make, T, F, M, R, C, E> {
    /// Gives up `timeout` after the first poll, instead of the module's default.
    ///
    /// As [`Request::timeout`](crate::Request::timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.limit = Limit::Timeout(timeout.into());
        self
    }

    /// Gives up at `deadline`, instead of after the module's default timeout.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.limit = Limit::Deadline(Moment::from_instant(deadline));
        self
    }

    /// Gives up at `deadline` at the latest: whichever is earlier of it and the limit the
    /// call has anyway.
    pub fn at_most(mut self, deadline: Instant) -> Self {
        let deadline = Moment::from_instant(deadline);
        self.at_most = earlier(self.at_most, Some(deadline));
        self
    }
}

impl<'a, Make, T, F, M, R, C, E> AskWith<'a, Make, T, F, M, R, C, E>
where
    Make: FnOnce(Reply<T, F>) -> M,
    M: Send,
    R: Send,
    C: Send,
    E: Send,
{
    /// Gets a place in the mailbox and sends the message.
    fn poll_send(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SparkChannelError>> {
        let this = self.as_mut().project();
        let dispatcher = *this.dispatcher;
        if this.admission.is_none() {
            assert!(this.make.is_some(), "`AskWith` polled after it completed");
            let caller = Caller::of();
            match caller.wait(dispatcher) {
                Ok(edge) => *this.edge = edge,
                Err(reason) => return Poll::Ready(Err(dispatcher.refuse(reason, ()).reason)),
            }
            let bound = earlier(*this.at_most, caller.inherited);
            *this.deadline = earlier(bound, this.limit.deadline(dispatcher));
            if request::has_passed(*this.deadline, dispatcher) {
                return Poll::Ready(Err(not_admitted(dispatcher)));
            }
            if let Some(intake) = dispatcher.intake() {
                return self.offer(intake, cx);
            }
            match dispatcher.try_admit() {
                Ok(permit) => {
                    self.place(permit);
                    return Poll::Ready(Ok(()));
                }
                Err(SparkChannelError::Full) => {
                    *this.admission = Some(dispatcher.place());
                }
                Err(reason) => return Poll::Ready(Err(dispatcher.refuse(reason, ()).reason)),
            }
        }
        self.poll_admission(cx)
    }

    /// Puts the message into its class, or waits for room there.
    fn offer(
        mut self: Pin<&mut Self>,
        intake: &'a Intake<M, R, C, E>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SparkChannelError>> {
        let dispatcher = self.dispatcher;
        if dispatcher.is_stopping() {
            let reason = dispatcher.closed_reason();
            return Poll::Ready(Err(dispatcher.refuse(reason, ()).reason));
        }
        let (message, link) = self.as_mut().make();
        let class = intake.class_of(&message);
        let command = SparkGenericModuleMessage::command(message, link);
        // Without its key: somebody waits for it.
        match intake.classes.offer(&class, command, None) {
            Ok(()) => {
                *self.project().edge = None;
                Poll::Ready(Ok(()))
            }
            Err(Unaccepted::Wait(command, line)) => {
                *self.as_mut().project().admission = Some(Box::pin(async move {
                    let place = intake.classes.room(line).await?;
                    place.fill(command, None).map_err(drop)?;
                    Ok(Admitted::Entered)
                }));
                self.poll_admission(cx)
            }
            Err(unaccepted) => Poll::Ready(Err(dispatcher.unaccepted(unaccepted).reason)),
        }
    }

    fn poll_admission(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SparkChannelError>> {
        let dispatcher = self.dispatcher;
        let this = self.as_mut().project();
        let Some(admission) = this.admission else {
            unreachable!("it waits for a place");
        };
        match admission.as_mut().poll(cx) {
            Poll::Ready(Ok(Admitted::Place(permit))) => {
                self.place(permit);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Ok(Admitted::Sent(_))) => unreachable!("only a request is sent"),
            Poll::Ready(Ok(Admitted::Entered)) => {
                *this.admission = None;
                *this.edge = None;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(())) => {
                let reason = dispatcher.closed_reason();
                Poll::Ready(Err(dispatcher.refuse(reason, ()).reason))
            }
            Poll::Pending => {
                if let (Some(edge), Some(control)) = (&*this.edge, dispatcher.control())
                    && let Err(reason) = edge.look(control, cx.waker())
                {
                    return Poll::Ready(Err(dispatcher.refuse(reason, ()).reason));
                }
                let Some(deadline) = *this.deadline else {
                    return Poll::Pending;
                };
                ready!(this.timer.poll_at(deadline, cx));
                Poll::Ready(Err(not_admitted(dispatcher)))
            }
        }
    }

    fn place(mut self: Pin<&mut Self>, permit: Permit<'a, Envelope<M, R, C, E>>) {
        let this = self.as_mut().project();
        *this.admission = None;
        // Who will have the slot is not known from here on.
        *this.edge = None;
        let dispatcher = *this.dispatcher;
        let (message, link) = self.make();
        dispatcher.note_arrival();
        permit.send(SparkGenericModuleMessage::command(message, link));
    }

    /// Makes the message, and the slot to wait for. The message is handled in the span of the
    /// call, as a request would be.
    fn make(self: Pin<&mut Self>) -> (M, Option<Box<Escort>>) {
        let this = self.project();
        let Some(make) = this.make.take() else {
            unreachable!("a message is made once");
        };
        let span = request::span(this.dispatcher.name());
        let link = this.dispatcher.link_with(span.as_ref());
        let (reply, answer) = Reply::new(*this.deadline, span);
        let message = make(reply);
        *this.answer = Some(answer);
        (message, link)
    }
}

impl<Make, T, F, M, R, C, E> Future for AskWith<'_, Make, T, F, M, R, C, E>
where
    Make: FnOnce(Reply<T, F>) -> M,
    F: From<SparkChannelError>,
    M: Send,
    R: Send,
    C: Send,
    E: Send,
{
    type Output = Result<T, F>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, F>> {
        if (self.answer.is_none() || self.admission.is_some())
            && let Err(reason) = ready!(self.as_mut().poll_send(cx))
        {
            let this = self.project();
            *this.admission = None;
            *this.make = None;
            *this.answer = None;
            *this.edge = None;
            return Poll::Ready(Err(reason.into()));
        }
        let this = self.project();
        let Some(answer) = this.answer else {
            unreachable!("a message that is sent waits for its answer");
        };
        if let Poll::Ready(received) = Pin::new(&mut *answer).poll(cx) {
            *this.answer = None;
            return Poll::Ready(received.unwrap_or_else(|_| Err(request::reply_dropped())));
        }
        let Some(deadline) = *this.deadline else {
            return Poll::Pending;
        };
        ready!(this.timer.poll_at(deadline, cx));
        // Unless it came in the same moment.
        answer.close();
        let late = answer.try_recv();
        *this.answer = None;
        Poll::Ready(late.unwrap_or_else(|_| {
            let stage = Stage::Running;
            Err(SparkChannelError::TimedOut { stage }.into())
        }))
    }
}

impl<Make, T, F, M, R, C, E> fmt::Debug for AskWith<'_, Make, T, F, M, R, C, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (&self.admission, &self.answer, &self.make) {
            (Some(_), _, _) => "waiting for room in the mailbox",
            (_, Some(_), _) => "waiting for the answer",
            (_, _, Some(_)) => "not sent",
            (None, None, None) => "done",
        };
        f.debug_struct("AskWith")
            .field("module", &self.dispatcher.name())
            .field("state", &state)
            .finish_non_exhaustive()
    }
}

fn not_admitted<M, R, C, E>(
    dispatcher: &SparkGenericModuleDispatcher<M, R, C, E>,
) -> SparkChannelError {
    let stage = Stage::NotAdmitted;
    dispatcher
        .refuse(SparkChannelError::TimedOut { stage }, ())
        .reason
}
