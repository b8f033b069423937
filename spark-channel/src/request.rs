//! The future of one request, from the mailbox to the answer.
//!
//! It is written by hand, and not as an `async fn`, for its builder methods and
//! for how it waits. Registering a waker with the reply slot, being woken through
//! it, and a timer for the deadline cost as much as all the rest of a request. So
//! the future first yields, once: it lets everything that is ready run, and most
//! modules have answered by then. Only if there is no answer yet does it register
//! and arm a timer. From then on a module that hangs, or blocks its thread, cannot
//! keep a caller beyond its deadline.

use std::{
    cell::Cell,
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::{
    sync::{
        mpsc::Permit,
        oneshot::{self, error::TryRecvError},
    },
    task::unconstrained,
    time::{Instant, Sleep},
};
use tracing::{Span, level_filters::LevelFilter};

use crate::{
    CallbackWrapper, Refused, SparkChannelCancellationToken, SparkChannelError,
    SparkGenericModuleDispatcher, SparkGenericModuleMessage, Stage,
    callback::{Escort, Meta, Stamp},
    clock::{Clock, Length, Moment},
    control::Control,
    current,
    deadlock::{self, Edge},
    direct::{self, Asked},
    dispatcher::Envelope,
};

pub(crate) mod classified;
#[cfg(feature = "tower")]
mod placed;

#[cfg(feature = "tower")]
pub(crate) use self::placed::Placed;

pin_project! {
    /// A request on its way: the future of
    /// [`SparkGenericModuleDispatcher::request`].
    #[must_use = "a request is sent when it is awaited"]
    pub struct Request<'a, M, R, C = SparkChannelCancellationToken, E = eyre::Report> {
        dispatcher: &'a SparkGenericModuleDispatcher<M, R, C, E>,
        limit: Limit,
        at_most: Option<Moment>,
        stamp: Option<Stamp>,
        // What is present tells how far the request has come: a message that is to be
        // sent, with a place it waits for if the mailbox was full; a reply that is
        // awaited; nothing. Three fields and not an enum, which would be moved as a
        // whole at each step: that alone cost 7 ns of a request.
        asked: Asked<M>,
        admission: Option<Admission<'a, M, R, C, E>>,
        reply: Option<oneshot::Receiver<Result<R, E>>>,
        #[pin]
        timer: Timer,
    }
}

/// What the caller keeps of a request that has been accepted.
pub(crate) struct Sent<R, E> {
    pub(crate) stamp: Option<Stamp>,
    pub(crate) reply: oneshot::Receiver<Result<R, E>>,
}

#[derive(Clone, Copy)]
pub(crate) enum Limit {
    /// The module's own.
    Default,
    Timeout(Length),
    Deadline(Moment),
}

/// A wait for a place in the mailbox. Boxed: tokio's future has no name, and only
/// a caller that has to wait for a whole mailbox pays for it.
pub(crate) type Admission<'a, M, R, C, E> =
    Pin<Box<dyn Future<Output = Result<Admitted<'a, M, R, C, E>, ()>> + Send + 'a>>;

/// What a wait for a place ends with.
pub(crate) enum Admitted<'a, M, R, C, E> {
    Place(Permit<'a, SparkGenericModuleMessage<M, R, C, E>>),
    /// A request has waited along and is sent.
    Sent(Sent<R, E>),
    /// A command has.
    Entered,
}

pin_project! {
    #[project = TimerProjection]
    pub(crate) enum Timer {
        /// Nobody has waited yet: yield first.
        Fresh,
        Off,
        Armed { #[pin] sleep: Sleep },
    }
}

// === impl Request ===

impl<'a, M, R, C, E> Request<'a, M, R, C, E> {
    #[inline]
    pub(crate) fn new(
        dispatcher: &'a SparkGenericModuleDispatcher<M, R, C, E>,
        message: M,
    ) -> Self {
        Self {
            dispatcher,
            limit: Limit::Default,
            at_most: None,
            stamp: None,
            asked: Asked::new(message, None, None),
            admission: None,
            reply: None,
            timer: Timer::Fresh,
        }
    }

    /// Awaits the answer of what has been sent.
    fn underway(
        dispatcher: &'a SparkGenericModuleDispatcher<M, R, C, E>,
        deadline: Option<Moment>,
        edge: Option<Edge>,
        sent: Sent<R, E>,
        timer: Timer,
    ) -> Self {
        Self {
            dispatcher,
            limit: Limit::Default,
            at_most: None,
            stamp: sent.stamp,
            asked: Asked {
                message: None,
                deadline,
                edge,
            },
            admission: None,
            reply: Some(sent.reply),
            timer,
        }
    }

    /// Sends `message` at once; the future only awaits the answer.
    pub(crate) fn sent(
        dispatcher: &'a SparkGenericModuleDispatcher<M, R, C, E>,
        message: M,
    ) -> Result<Self, Refused<M>> {
        let caller = Caller::of();
        let edge = match caller.wait(dispatcher) {
            Ok(edge) => edge,
            Err(reason) => return Err(dispatcher.refuse(reason, message)),
        };
        let deadline = earlier(caller.inherited, Limit::Default.deadline(dispatcher));
        if let Some(intake) = dispatcher.intake() {
            return Self::sent_by_class(dispatcher, intake, message, deadline, edge);
        }
        let permit = match dispatcher.try_admit() {
            Ok(permit) => permit,
            Err(reason) => return Err(dispatcher.refuse(reason, message)),
        };
        let sent = send(dispatcher, permit, message, deadline, edge.as_ref());
        Ok(Self::underway(dispatcher, deadline, edge, sent, Timer::Off))
    }

    /// Gives up `timeout` after the first poll, instead of the module's default.
    ///
    /// Inside of a handler the deadline of the request being handled still
    /// holds, if it is earlier; and so does [`at_most`](Self::at_most). Timeouts of a second
    /// or more may be late by up to 20 ms; none is early by more than 15 µs. A request already sent by
    /// [`try_request`](SparkGenericModuleDispatcher::try_request) gives up `timeout`
    /// from now; the deadline that travels with it stays what it was.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.limit = Limit::Timeout(timeout.into());
        if self.reply.is_some() {
            let clock = clock_of(self.dispatcher.control());
            self.bound_sent(clock.deadline_in(timeout.into()));
        }
        self
    }

    /// Gives up at `deadline`, instead of after the module's default timeout.
    ///
    /// As [`timeout`](Self::timeout) otherwise.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        let deadline = Moment::from_instant(deadline);
        self.limit = Limit::Deadline(deadline);
        if self.reply.is_some() {
            self.bound_sent(deadline);
        }
        self
    }

    /// Gives up at `deadline` at the latest: whichever is earlier of it and the
    /// limit the request has anyway.
    ///
    /// For layers that pass a caller's deadline on to modules whose own default
    /// they do not know. As [`timeout`](Self::timeout) otherwise.
    pub fn at_most(mut self, deadline: Instant) -> Self {
        let deadline = Moment::from_instant(deadline);
        self.at_most = earlier(self.at_most, Some(deadline));
        if self.reply.is_some() {
            self.asked.deadline = earlier(self.asked.deadline, Some(deadline));
        }
        self
    }

    /// Gives up on what has been sent at `deadline`, or when it would have to anyway.
    fn bound_sent(&mut self, deadline: Moment) {
        let bound = earlier(self.at_most, Caller::of().inherited);
        self.asked.deadline = earlier(bound, Some(deadline));
    }
}

impl<M, R, C, E> Request<'_, M, R, C, E>
where
    M: Send,
    R: Send,
    C: Send,
    E: From<SparkChannelError> + Send,
{
    /// Asks for the first time: calls the module directly, if it can be. Completes with
    /// the answer if there is one already.
    #[inline]
    fn ask(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Option<Result<R, E>> {
        let this = self.project();
        let dispatcher = *this.dispatcher;
        assert!(
            this.asked.message.is_some(),
            "`Request` polled after it completed"
        );
        let caller = Caller::of();
        match caller.wait(dispatcher) {
            Ok(None) => {}
            Ok(edge) => this.asked.edge = edge,
            Err(reason) => {
                this.asked.message = None;
                return Some(failed(dispatcher.refuse(reason, ()).reason));
            }
        }
        let (deadline, is_ahead) = this.limit.reckon(dispatcher);
        let bound = earlier(*this.at_most, caller.inherited);
        this.asked.deadline = earlier(bound, deadline);
        let seat = dispatcher.direct()?;
        if (!is_ahead || bound.is_some()) && has_passed(this.asked.deadline, dispatcher) {
            return None;
        }
        let had_budget = direct::take_budget(cx);
        let answer = seat.call(this.asked, this.reply, cx)?;
        if had_budget {
            return Some(answer);
        }
        // Called all the same, for what is sent next must not come before it; but the task
        // has to yield before it learns the answer.
        let (sender, reply) = oneshot::channel();
        let _ = sender.send(answer);
        *this.reply = Some(reply);
        None
    }

    /// Sends the message; waits for room first if there is none.
    #[inline]
    fn poll_send(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        let this = self.as_mut().project();
        let dispatcher = *this.dispatcher;
        if let Some(intake) = dispatcher.intake() {
            return self.poll_offer(intake, cx);
        }
        match dispatcher.try_admit() {
            Ok(permit) => {
                if let Some(message) = this.asked.message.take() {
                    let edge = this.asked.edge.as_ref();
                    let sent = send(dispatcher, permit, message, this.asked.deadline, edge);
                    *this.stamp = sent.stamp;
                    *this.reply = Some(sent.reply);
                }
                Poll::Ready(Ok(()))
            }
            Err(SparkChannelError::Full) => {
                *this.admission = Some(dispatcher.place());
                self.poll_admission(cx)
            }
            Err(reason) => {
                this.asked.message = None;
                this.asked.edge = None;
                Poll::Ready(failed(dispatcher.refuse(reason, ()).reason))
            }
        }
    }

    /// Waits for room and sends the message.
    #[cold]
    fn poll_admission(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        let this = self.project();
        let dispatcher = *this.dispatcher;
        let Some(admission) = this.admission else {
            unreachable!("called only with a place to wait for");
        };
        let waits = match (&this.asked.edge, dispatcher.control()) {
            (Some(edge), Some(control)) => edge.look(control, cx.waker()),
            _ => Ok(()),
        };
        let admitted = waits.map(|()| admission.as_mut().poll(cx));
        let reason = match admitted {
            Err(reason) => reason,
            Ok(Poll::Ready(Ok(Admitted::Place(permit)))) => {
                if let Some(message) = this.asked.message.take() {
                    let edge = this.asked.edge.as_ref();
                    let sent = send(dispatcher, permit, message, this.asked.deadline, edge);
                    *this.stamp = sent.stamp;
                    *this.reply = Some(sent.reply);
                }
                *this.admission = None;
                return Poll::Ready(Ok(()));
            }
            Ok(Poll::Ready(Ok(Admitted::Sent(sent)))) => {
                *this.stamp = sent.stamp;
                *this.reply = Some(sent.reply);
                *this.admission = None;
                return Poll::Ready(Ok(()));
            }
            Ok(Poll::Ready(Ok(Admitted::Entered))) => unreachable!("only a command enters"),
            Ok(Poll::Ready(Err(()))) => dispatcher.closed_reason(),
            Ok(Poll::Pending) => {
                let Some(deadline) = this.asked.deadline else {
                    return Poll::Pending;
                };
                ready!(this.timer.poll_at(deadline, cx));
                SparkChannelError::TimedOut {
                    stage: Stage::NotAdmitted,
                }
            }
        };
        *this.admission = None;
        this.asked.message = None;
        this.asked.edge = None;
        Poll::Ready(failed(dispatcher.refuse(reason, ()).reason))
    }

    /// Ends the call at its deadline, unless its answer came in the same moment.
    #[cold]
    fn give_up(self: Pin<&mut Self>) -> Result<R, E> {
        let this = self.project();
        let Some(reply) = this.reply.take() else {
            unreachable!("only a request that waits for its answer gives up");
        };
        // The message may be in the mailbox for long, and so may this future be kept.
        this.asked.edge = None;
        give_up(this.dispatcher, reply, *this.stamp)
    }
}

impl<M, R, C, E> Future for Request<'_, M, R, C, E>
where
    M: Send,
    R: Send,
    C: Send,
    E: From<SparkChannelError> + Send,
{
    type Output = Result<R, E>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<R, E>> {
        if self.reply.is_none() {
            if self.admission.is_some() {
                ready!(self.as_mut().poll_admission(cx))?;
            } else if let Some(answer) = self.as_mut().ask(cx) {
                return Poll::Ready(answer);
            } else if self.reply.is_none() {
                ready!(self.as_mut().poll_send(cx))?;
            }
        }
        let mut this = self.as_mut().project();
        if let Timer::Fresh = &*this.timer {
            this.timer.set(Timer::Off);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Some(reply) = this.reply else {
            unreachable!("a request that is sent waits for its answer");
        };
        // Looking first is cheaper than polling, and most often enough.
        let polled = match reply.try_recv() {
            Ok(answer) => Poll::Ready(Ok(answer)),
            Err(TryRecvError::Closed) => Poll::Ready(Err(())),
            Err(TryRecvError::Empty) => Pin::new(reply).poll(cx).map_err(drop),
        };
        if let Poll::Ready(answer) = polled {
            *this.reply = None;
            this.asked.edge = None;
            return Poll::Ready(answer.unwrap_or_else(|()| Err(reply_dropped())));
        }
        if let (Some(edge), Some(control)) = (&this.asked.edge, this.dispatcher.control())
            && let Err(reason) = edge.look(control, cx.waker())
        {
            // In this order: the module finds its refusal, or the caller gone.
            *this.reply = None;
            this.asked.edge = None;
            return Poll::Ready(Err(reason.into()));
        }
        let Some(deadline) = this.asked.deadline else {
            return Poll::Pending;
        };
        ready!(this.timer.poll_at(deadline, cx));
        Poll::Ready(self.give_up())
    }
}

impl<M, R, C, E> fmt::Debug for Request<'_, M, R, C, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (&self.asked.message, &self.admission, &self.reply) {
            (Some(_), None, _) => "not sent",
            (_, Some(_), _) => "waiting for room in the mailbox",
            (_, _, Some(_)) => "waiting for the answer",
            (None, None, None) => "done",
        };
        f.debug_struct("Request")
            .field("module", &self.dispatcher.name())
            .field("state", &state)
            .finish_non_exhaustive()
    }
}

// === impl Limit ===

impl Limit {
    #[inline]
    pub(crate) fn deadline<M, R, C, E>(
        &self,
        dispatcher: &SparkGenericModuleDispatcher<M, R, C, E>,
    ) -> Option<Moment> {
        self.reckon(dispatcher).0
    }

    /// As [`deadline`](Self::deadline), and whether it is known not to have passed: reading
    /// the clock again would cost more than the rest of what is asked.
    #[inline]
    fn reckon<M, R, C, E>(
        &self,
        dispatcher: &SparkGenericModuleDispatcher<M, R, C, E>,
    ) -> (Option<Moment>, bool) {
        let control = dispatcher.control();
        let timeout = match self {
            Self::Default => control.and_then(|control| control.default_timeout),
            Self::Timeout(timeout) => Some(*timeout),
            Self::Deadline(at) => return (Some(*at), false),
        };
        match timeout {
            Some(timeout) => {
                let deadline = clock_of(control).deadline_in(timeout);
                (Some(deadline), timeout.is_long())
            }
            None => (None, true),
        }
    }
}

// === impl Timer ===

impl Timer {
    /// Completes at `deadline`.
    pub(crate) fn poll_at(
        mut self: Pin<&mut Self>,
        deadline: Moment,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        loop {
            match self.as_mut().project() {
                // A caller whose task has spent its budget times out all the same.
                TimerProjection::Armed { sleep } => return pin!(unconstrained(sleep)).poll(cx),
                _ => self.set(Self::Armed {
                    sleep: tokio::time::sleep_until(deadline.to_instant()),
                }),
            }
        }
    }
}

// === impl Caller ===

/// What the place a request is made from means for it.
#[derive(Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) inherited: Option<Moment>,
    /// It is made inside of a handler.
    inside: bool,
}

impl Caller {
    #[inline]
    pub(crate) fn of() -> Self {
        let outside = Self {
            inherited: None,
            inside: false,
        };
        current::with(|scope| Self {
            inherited: scope.slot.deadline(),
            inside: true,
        })
        .unwrap_or(outside)
    }

    /// Publishes that the handler it is made in waits for the dispatcher's module.
    #[inline]
    pub(crate) fn wait<M, R, C, E>(
        self,
        dispatcher: &SparkGenericModuleDispatcher<M, R, C, E>,
    ) -> Result<Option<Edge>, SparkChannelError> {
        match dispatcher.control() {
            Some(control) if self.inside => deadlock::wait_for(control),
            _ => Ok(None),
        }
    }
}

#[inline]
pub(crate) fn earlier(one: Option<Moment>, other: Option<Moment>) -> Option<Moment> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Whether a handler with this deadline must not start any more.
pub(crate) fn has_passed<M, R, C, E>(
    deadline: Option<Moment>,
    dispatcher: &SparkGenericModuleDispatcher<M, R, C, E>,
) -> bool {
    deadline.is_some_and(|deadline| deadline.has_passed(clock_of(dispatcher.control())))
}

#[cold]
fn failed<T, E: From<SparkChannelError>>(reason: SparkChannelError) -> Result<T, E> {
    Err(reason.into())
}

/// Closes the reply slot of a call whose deadline has passed; tells how far it had come,
/// unless its answer came in the same moment.
pub(crate) fn give_up<M, R, C, E: From<SparkChannelError>>(
    dispatcher: &SparkGenericModuleDispatcher<M, R, C, E>,
    mut reply: oneshot::Receiver<Result<R, E>>,
    stamp: Option<Stamp>,
) -> Result<R, E> {
    let control = dispatcher.control();
    let before = control.map(|control| control.starts());
    reply.close();
    if let Ok(answer) = reply.try_recv() {
        return answer;
    }
    let stage = match (control, before, stamp) {
        (Some(control), Some(before), Some(stamp)) if !control.may_run(stamp, &before) => {
            Stage::Queued
        }
        _ => Stage::Running,
    };
    Err(SparkChannelError::TimedOut { stage }.into())
}

#[cold]
pub(crate) fn reply_dropped<E: From<SparkChannelError>>() -> E {
    #[cfg(feature = "test-util")]
    crate::testing::unanswered();
    SparkChannelError::ReplyDropped.into()
}

#[inline]
fn clock_of(control: Option<&Arc<Control>>) -> Clock {
    control.map_or(Clock::Exact, |control| control.clock)
}

/// A request in the envelope it travels in, and what its caller keeps of it.
#[inline]
pub(crate) fn wrap<M, R, C, E>(
    dispatcher: &SparkGenericModuleDispatcher<M, R, C, E>,
    message: M,
    deadline: Option<Moment>,
    edge: Option<&Edge>,
) -> (Envelope<M, R, C, E>, Sent<R, E>) {
    let (sender, reply) = oneshot::channel();
    let stamp = deadline.map(|deadline| Stamp::new(deadline, next_call()));
    let escort = Escort::new(span(dispatcher.name()), edge.map(Edge::twin));
    let envelope = SparkGenericModuleMessage::Request(CallbackWrapper {
        message,
        sender,
        meta: Meta { stamp, escort },
    });
    (envelope, Sent { stamp, reply })
}

/// Puts a request into its place in the mailbox.
#[inline]
pub(crate) fn send<M, R, C, E>(
    dispatcher: &SparkGenericModuleDispatcher<M, R, C, E>,
    permit: Permit<'_, Envelope<M, R, C, E>>,
    message: M,
    deadline: Option<Moment>,
    edge: Option<&Edge>,
) -> Sent<R, E> {
    let (envelope, sent) = wrap(dispatcher, message, deadline, edge);
    dispatcher.note_arrival();
    permit.send(envelope);
    sent
}

/// Whether anybody may listen for the spans of requests.
#[inline]
pub(crate) fn wants_spans() -> bool {
    LevelFilter::current() >= LevelFilter::DEBUG
}

/// The span of a request, as a child of the caller's, if anybody listens.
#[inline]
pub(crate) fn span(module: Option<&str>) -> Option<Span> {
    if !wants_spans() {
        return None;
    }
    let span = tracing::debug_span!("request", module);
    (!span.is_disabled()).then_some(span)
}

/// Numbers the calls of a thread, so that those with the same deadline differ.
#[inline]
pub(crate) fn next_call() -> u8 {
    thread_local! {
        static NEXT: Cell<u8> = const { Cell::new(0) };
    }
    NEXT.replace(NEXT.get().wrapping_add(1))
}
