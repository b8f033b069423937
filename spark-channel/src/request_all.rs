//! Many requests at once: sent ahead of their answers, which come back in order.
//!
//! A caller that awaits each answer before it asks again pays two task switches per
//! request. Here one switch serves as many requests as fit into the mailbox, and none is
//! needed while the module is idle and can be called directly.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    num::NonZeroUsize,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::{sync::oneshot::error::TryRecvError, time::Instant};

use crate::{
    SparkChannelCancellationToken, SparkChannelError, SparkGenericModuleDispatcher, Stage,
    classes::Unaccepted,
    clock::Moment,
    deadlock::Edge,
    direct::{self, Asked},
    request::{self, Admission, Admitted, Caller, Limit, Sent, Timer, classified, earlier},
};

pin_project! {
    /// Requests on their way: the future of
    /// [`SparkGenericModuleDispatcher::request_all`].
    #[must_use = "requests are sent when they are awaited"]
    pub struct RequestAll<'a, I, M, R, C = SparkChannelCancellationToken, E = eyre::Report> {
        dispatcher: &'a SparkGenericModuleDispatcher<M, R, C, E>,
        limit: Limit,
        at_most: Option<Moment>,
        in_flight_max: usize,
        stage: Progress,
        deadline: Option<Moment>,
        messages: I,
        // A message that found the mailbox full, and the place it waits for; with classes
        // it waits in there.
        waiting: Option<(Option<M>, Admission<'a, M, R, C, E>, Option<Edge>)>,
        in_flight: VecDeque<InFlight<R, E>>,
        answers: Vec<Result<R, E>>,
        #[pin]
        timer: Timer,
    }
}

/// How far the messages have come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Fresh,
    Sending,
    /// The iterator has ended.
    Sent,
    Done,
}

/// A request whose answer is not among the answers yet.
enum InFlight<R, E> {
    Sent(Sent<R, E>, Option<Edge>),
    /// Answered before one that was sent earlier.
    Answered(Result<R, E>),
    /// It was not accepted. Kept in its place among the others.
    Refused(SparkChannelError),
}

// === impl SparkGenericModuleDispatcher ===

impl<M, R, C, E> SparkGenericModuleDispatcher<M, R, C, E> {
    /// Sends a request for each message without waiting for the answers in between, and
    /// awaits them all: one result per message, in the order of the messages.
    ///
    /// At most as many requests as the mailbox holds are on their way at a time (less,
    /// with [`in_flight_max`](RequestAll::in_flight_max)); when one is answered the next
    /// is sent. To an idle module nothing need be sent: it answers one after the other on
    /// the caller's task, as it does a single [`request`](Self::request). They are accepted
    /// in order; messages of other senders may come between them. The iterator is asked for
    /// a message when there is room for it, and must end; what it has after its first end is
    /// not asked for.
    ///
    /// The time limit, the module's default if none is set, holds for all of them together
    /// and runs from the first poll.
    ///
    /// # Errors
    ///
    /// Each message has a result of its own, with the errors of
    /// [`request`](Self::request). A failure does not keep the others from being tried.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up on all that is not answered: messages not sent yet are
    /// dropped, those in the mailbox are skipped, a running handler goes on. Answers
    /// that had come are lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # use spark_channel::SparkGenericModuleDispatcher;
    /// async fn total(prices: &SparkGenericModuleDispatcher<String, u64>) -> eyre::Result<u64> {
    ///     let answers = prices.request_all(["apple", "pear", "plum"]).await;
    ///     answers.into_iter().sum()
    /// }
    /// ```
    pub fn request_all<I>(&self, messages: I) -> RequestAll<'_, I::IntoIter, M, R, C, E>
    where
        I: IntoIterator<Item: Into<M>>,
    {
        RequestAll {
            dispatcher: self,
            limit: Limit::Default,
            at_most: None,
            in_flight_max: self.sender.max_capacity(),
            stage: Progress::Fresh,
            deadline: None,
            messages: messages.into_iter(),
            waiting: None,
            in_flight: VecDeque::new(),
            answers: Vec::new(),
            timer: Timer::Off,
        }
    }
}

// === impl RequestAll ===

impl<I, M, R, C, E> RequestAll<'_, I, M, R, C, E> {
    /// Gives up on what is not answered `timeout` after the first poll; see
    /// [`Request::timeout`](crate::Request::timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.limit = Limit::Timeout(timeout.into());
        self
    }

    /// Gives up on what is not answered at `deadline`; see
    /// [`Request::deadline`](crate::Request::deadline).
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.limit = Limit::Deadline(Moment::from_instant(deadline));
        self
    }

    /// Gives up at `deadline` at the latest; see
    /// [`Request::at_most`](crate::Request::at_most).
    pub fn at_most(mut self, deadline: Instant) -> Self {
        let deadline = Moment::from_instant(deadline);
        self.at_most = earlier(self.at_most, Some(deadline));
        self
    }

    /// Keeps at most `requests` on their way at a time. Default, and upper bound: what
    /// the mailbox holds.
    ///
    /// Fewer leave room in the mailbox for other senders, and switch tasks more often.
    pub fn in_flight_max(mut self, requests: NonZeroUsize) -> Self {
        self.in_flight_max = requests.get().min(self.dispatcher.sender.max_capacity());
        self
    }
}

impl<I, M, R, C, E> RequestAll<'_, I, M, R, C, E>
where
    I: Iterator<Item: Into<M>>,
    M: Send,
    R: Send,
    C: Send,
    E: From<SparkChannelError> + Send,
{
    fn start(self: Pin<&mut Self>) {
        let this = self.project();
        *this.stage = Progress::Sending;
        let bound = earlier(*this.at_most, Caller::of().inherited);
        *this.deadline = earlier(bound, this.limit.deadline(this.dispatcher));
        let messages = this.messages.size_hint().0;
        this.answers.reserve(messages);
        this.in_flight.reserve(messages.min(*this.in_flight_max));
    }

    /// Takes the answers that are there, in order.
    fn take_answers(self: Pin<&mut Self>) {
        let this = self.project();
        while let Some(first) = this.in_flight.pop_front() {
            this.answers.push(match first {
                InFlight::Refused(reason) => Err(reason.into()),
                InFlight::Answered(answer) => answer,
                InFlight::Sent(mut call, edge) => match call.reply.try_recv() {
                    Ok(answer) => answer,
                    Err(TryRecvError::Closed) => Err(request::reply_dropped()),
                    Err(TryRecvError::Empty) => {
                        this.in_flight.push_front(InFlight::Sent(call, edge));
                        return;
                    }
                },
            });
        }
    }

    /// Ends what the module has refused after it had accepted it.
    fn take_refusals(self: Pin<&mut Self>, cx: &Context<'_>) {
        let this = self.project();
        let Some(control) = this.dispatcher.control() else {
            return;
        };
        for call in &mut *this.in_flight {
            if let InFlight::Sent(_, Some(edge)) = call
                && let Err(reason) = edge.look(control, cx.waker())
            {
                *call = InFlight::Refused(reason);
            }
        }
    }

    /// Sends what there is room for, or calls the module directly as long as nothing is in
    /// flight. Whether anything is now that was not.
    fn send(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> bool {
        let mut sent = false;
        if self.waiting.is_some() {
            if self.as_mut().poll_admission(cx).is_pending() {
                return false;
            }
            sent = true;
        }
        let this = self.as_mut().project();
        let dispatcher = *this.dispatcher;
        let caller = Caller::of();
        let refused = |reason| InFlight::Refused(dispatcher.refuse(reason, ()).reason);
        while *this.stage == Progress::Sending && this.in_flight.len() < *this.in_flight_max {
            // The iterator and the conversion are the caller's own code.
            let Some(message) = this.messages.next() else {
                *this.stage = Progress::Sent;
                break;
            };
            let edge = match caller.wait(dispatcher) {
                Ok(edge) => edge,
                Err(reason) => {
                    this.in_flight.push_back(refused(reason));
                    continue;
                }
            };
            let mut asked = Asked::new(message.into(), *this.deadline, edge);
            if let Some(seat) = dispatcher.direct()
                && this.in_flight.is_empty()
                && !request::has_passed(*this.deadline, dispatcher)
            {
                let mut reply = None;
                if let Some(answer) = seat.call(&mut asked, &mut reply, cx) {
                    this.answers.push(answer);
                    if direct::take_budget(cx) {
                        continue;
                    }
                    // The task has to yield, as after a message was sent.
                    return true;
                }
                if let Some(reply) = reply {
                    this.in_flight
                        .push_back(InFlight::Sent(Sent { stamp: None, reply }, asked.edge));
                    sent = true;
                    continue;
                }
            }
            let (message, mut edge) = asked.unanswered();
            if let Some(intake) = dispatcher.intake() {
                match classified::offer(dispatcher, intake, message, *this.deadline, edge.as_ref())
                {
                    Ok(call) => {
                        this.in_flight.push_back(InFlight::Sent(call, edge));
                        sent = true;
                    }
                    Err(Unaccepted::Wait(wrapped, line)) => {
                        let place = classified::wait(intake, line, wrapped);
                        *this.waiting = Some((None, place, edge));
                        return self.poll_admission(cx).is_ready() || sent;
                    }
                    Err(unaccepted) => {
                        let reason = dispatcher.unaccepted(unaccepted).reason;
                        this.in_flight.push_back(InFlight::Refused(reason));
                    }
                }
                continue;
            }
            let more = this.messages.size_hint().0;
            let room = *this.in_flight_max - this.in_flight.len();
            let permits = match dispatcher.try_admit_up_to(room.min(more.saturating_add(1))) {
                Ok(permits) => permits,
                Err(SparkChannelError::Full) => {
                    *this.waiting = Some((Some(message), dispatcher.place(), edge));
                    return self.poll_admission(cx).is_ready() || sent;
                }
                Err(reason) => {
                    this.in_flight.push_back(refused(reason));
                    continue;
                }
            };
            let mut next = Some(message);
            for permit in permits {
                // Whoever promised more than there is has reserved in vain.
                let more = || this.messages.next().map(Into::into);
                let Some(message) = next.take().or_else(more) else {
                    *this.stage = Progress::Sent;
                    break;
                };
                // The first has looked for a circle; one may have closed since.
                let edge = edge
                    .take()
                    .map_or_else(|| caller.wait(dispatcher), |edge| Ok(Some(edge)));
                this.in_flight.push_back(match edge {
                    Ok(edge) => {
                        let (deadline, wait) = (*this.deadline, edge.as_ref());
                        let call = request::send(dispatcher, permit, message, deadline, wait);
                        InFlight::Sent(call, edge)
                    }
                    Err(reason) => refused(reason),
                });
                sent = true;
            }
        }
        sent
    }

    /// Waits for room and sends the message that waits for it.
    #[cold]
    fn poll_admission(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let dispatcher = *this.dispatcher;
        let Some((_, place, edge)) = this.waiting else {
            unreachable!("called only with a message that waits");
        };
        if let (Some(edge), Some(control)) = (edge, dispatcher.control())
            && let Err(reason) = edge.look(control, cx.waker())
        {
            *this.waiting = None;
            let reason = dispatcher.refuse(reason, ()).reason;
            this.in_flight.push_back(InFlight::Refused(reason));
            return Poll::Ready(());
        }
        let admitted = ready!(place.as_mut().poll(cx));
        if let Some((message, _, edge)) = this.waiting.take() {
            this.in_flight.push_back(match (admitted, message) {
                (Ok(Admitted::Place(permit)), Some(message)) => {
                    let call =
                        request::send(dispatcher, permit, message, *this.deadline, edge.as_ref());
                    InFlight::Sent(call, edge)
                }
                (Ok(Admitted::Sent(call)), _) => InFlight::Sent(call, edge),
                _ => {
                    let reason = dispatcher.closed_reason();
                    InFlight::Refused(dispatcher.refuse(reason, ()).reason)
                }
            });
        }
        Poll::Ready(())
    }

    /// Waits for an answer, and for one that comes late: a caller woken for each
    /// answer would do nothing with most of them.
    fn poll_answer(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        // Once all are sent, none is needed before the last; until then, half of them
        // make room enough. Replicas of a pool may answer these first.
        let late = match this.stage {
            Progress::Sent => this.in_flight.len().saturating_sub(1),
            _ => this.in_flight.len() / 2,
        };
        for index in [late, 0] {
            if let Some(call) = this.in_flight.get_mut(index)
                && let InFlight::Sent(sent, _) = call
            {
                let answer = ready!(Pin::new(&mut sent.reply).poll(cx));
                let answer = answer.unwrap_or_else(|_| Err(request::reply_dropped()));
                *call = InFlight::Answered(answer);
                return Poll::Ready(());
            }
        }
        if this.in_flight.is_empty() {
            Poll::Pending
        } else {
            // The first was refused.
            Poll::Ready(())
        }
    }

    /// Ends what is left at the deadline.
    #[cold]
    fn give_up(self: Pin<&mut Self>) {
        let this = self.project();
        for call in this.in_flight.drain(..) {
            this.answers.push(match call {
                InFlight::Refused(reason) => Err(reason.into()),
                InFlight::Answered(answer) => answer,
                InFlight::Sent(call, _) => {
                    request::give_up(this.dispatcher, call.reply, call.stamp)
                }
            });
        }
        let stage = Stage::NotAdmitted;
        let waited = this.waiting.take().is_some();
        let left = match this.stage {
            // An iterator that has ended may go on all the same when it is asked again.
            Progress::Sent => 0,
            _ => this.messages.count(),
        };
        let unsent = usize::from(waited) + left;
        for _ in 0..unsent {
            let refused = this
                .dispatcher
                .refuse(SparkChannelError::TimedOut { stage }, ());
            this.answers.push(Err(refused.reason.into()));
        }
        *this.stage = Progress::Sent;
    }
}

impl<I, M, R, C, E> Future for RequestAll<'_, I, M, R, C, E>
where
    I: Iterator<Item: Into<M>>,
    M: Send,
    R: Send,
    C: Send,
    E: From<SparkChannelError> + Send,
{
    type Output = Vec<Result<R, E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Vec<Result<R, E>>> {
        match self.stage {
            Progress::Fresh => self.as_mut().start(),
            Progress::Sending | Progress::Sent => {}
            Progress::Done => panic!("`RequestAll` polled after it completed"),
        }
        loop {
            self.as_mut().take_refusals(cx);
            self.as_mut().take_answers();
            if self.as_mut().send(cx) {
                // As a single request does: most modules will have answered when this
                // is polled again, and nothing needs to be registered.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if self.stage == Progress::Sent && self.in_flight.is_empty() {
                let this = self.project();
                *this.stage = Progress::Done;
                return Poll::Ready(std::mem::take(this.answers));
            }
            if self.as_mut().poll_answer(cx).is_ready() {
                continue;
            }
            let Some(deadline) = self.deadline else {
                return Poll::Pending;
            };
            if self
                .as_mut()
                .project()
                .timer
                .poll_at(deadline, cx)
                .is_pending()
            {
                return Poll::Pending;
            }
            self.as_mut().give_up();
        }
    }
}

impl<I, M, R, C, E> fmt::Debug for RequestAll<'_, I, M, R, C, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestAll")
            .field("module", &self.dispatcher.name())
            .field("in_flight", &self.in_flight.len())
            .field("answered", &self.answers.len())
            .finish_non_exhaustive()
    }
}
