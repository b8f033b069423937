//! Where a module's worker lies while the module is idle: its own task can take it, and
//! so can a caller, who answers his request with it himself.
//!
//! Invariants:
//!
//! 1. Whoever has the [`Crew`] is the only one who can touch the handler, the mailbox
//!    and the counters. It is moved out of the seat and back, never borrowed in it.
//! 2. The module's task puts the crew down only when whatever gives it work wakes it: it
//!    has polled the mailbox, and no stop was asked for since.
//! 3. If it wakes while a caller has the crew, it leaves word; whoever puts the crew back
//!    finds the word, and wakes it.
//! 4. When the task ends or is dropped, the place is closed. A caller who still has the
//!    crew then drops it instead of putting it back.

mod call;

use std::{
    any::Any,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    runtime::{self, Handle},
    sync::oneshot,
};
use tracing::Span;

use self::call::poll_call;
pub(super) use self::call::{Answer, Begun, Call, Ending, Lent};
use super::{
    Duty, Pause, Rescue, Worker,
    conclusion::Conclusion,
    guarded::{Guard, Guarded, quietly},
    place::{Place, Word},
};
use crate::{
    NativeHandler, SparkChannelCancellationTrait,
    callback::Escort,
    control::Control,
    current::Scope,
    deadlock::Edge,
    direct::{self, Asked, DirectCalls},
    request,
};

/// What a module's task and its callers share.
struct Seat<H: NativeHandler, C, M, F, Make> {
    place: Place<Crew<H, C, M, F>>,
    control: Arc<Control>,
    runtime: runtime::Id,
    /// Makes the future of a direct call. A parameter, because that future has no name.
    make: Make,
}

/// All it takes to handle a message.
struct Crew<H: NativeHandler, C, M, F> {
    worker: Worker<H, C>,
    manner: M,
    guard: Guard,
    span: Option<Box<Span>>,
    call: Call<H, F>,
}

/// How the messages of a module are handled, one at a time or side by side.
pub(super) trait Manner<H: NativeHandler, C>: Send + 'static {
    /// What it tells the future of a direct call about its message.
    type Told;

    /// Goes on with what a caller began, and then with the mailbox. Called again after it
    /// unwound, and after a pause.
    fn work<'a, F>(
        &'a mut self,
        worker: &'a mut Worker<H, C>,
        call: &'a mut Call<H, F>,
    ) -> impl Future<Output = Pause> + Send + 'a
    where
        F: Future<Output = Ending<H>> + Send;

    /// A caller begins a direct call, for a request with this edge.
    fn is_called(&mut self, worker: &Worker<H, C>, edge: Option<&Edge>) {
        let _ = (worker, edge);
    }

    /// The handler is about to be polled with the message of a direct call. The user's code may be
    /// asked about it, and panic.
    fn begins(&mut self, message: &H::Message) -> Self::Told;
}

/// One message at a time.
struct Serial;

/// The module's task, as far as the seat has to do with it.
struct Occupant<H: NativeHandler, C, M, F, Make>(Arc<Seat<H, C, M, F, Make>>);

pub(crate) type Direct<H> = Arc<
    dyn DirectCalls<
            <H as NativeHandler>::Message,
            <H as NativeHandler>::Response,
            <H as NativeHandler>::Error,
        >,
>;

/// A module of one replica that answers direct calls: the seat for its dispatchers, and
/// the future that runs the module to its end.
///
/// # Panics
///
/// Panics outside of a runtime.
pub(crate) fn seated<H, C>(
    worker: Worker<H, C>,
) -> (Direct<H>, impl Future<Output = ()> + Send + 'static)
where
    H: NativeHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
{
    occupy(
        worker,
        Serial,
        |mut lent: Lent<H>, message, ()| async move {
            let answer = lent.handler().handle_request(message).await;
            (lent.give_back(), answer)
        },
    )
}

/// As [`seated`], for messages that are handled in this `manner`.
///
/// # Panics
///
/// Panics outside of a runtime.
pub(super) fn occupy<H, C, M, F, Make>(
    mut worker: Worker<H, C>,
    manner: M,
    make: Make,
) -> (Direct<H>, impl Future<Output = ()> + Send + 'static)
where
    H: NativeHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
    M: Manner<H, C>,
    F: Future<Output = Ending<H>> + Send + 'static,
    Make: Fn(Lent<H>, H::Message, M::Told) -> F + Send + Sync + 'static,
{
    let seat = Arc::new(Seat {
        place: Place::new(),
        control: Arc::clone(&worker.control),
        runtime: Handle::current().id(),
        make,
    });
    let rescue = Arc::<Rescue<H>>::default();
    if let Some(berth) = &mut worker.handler {
        berth.rescue = Arc::downgrade(&rescue);
    }
    // Where it is started is not where it belongs.
    let span = tracing::info_span!(parent: None, "module", name = &*worker.control.name);
    let crew = Box::new(Crew {
        guard: Guard::new(Scope {
            control: Arc::clone(&worker.control),
            slot: Arc::clone(&worker.slot),
        }),
        span: (!span.is_disabled()).then(|| Box::new(span)),
        worker,
        manner,
        call: Call {
            future: None,
            escort: None,
            runs_on: false,
            panic: None,
            rescue,
        },
    });
    // Made here: a future that is dropped before it is polled ends its module too.
    let conclusion = Conclusion::new(Arc::clone(&seat.control));
    let run = run(Occupant(Arc::clone(&seat)), crew, conclusion);
    (seat, run)
}

#[expect(
    clippy::manual_async_fn,
    reason = "an `async fn` would hold its arguments twice"
)]
fn run<H, C, M, F, Make>(
    occupant: Occupant<H, C, M, F, Make>,
    mut crew: Box<Crew<H, C, M, F>>,
    conclusion: Conclusion,
) -> impl Future<Output = ()> + Send + 'static
where
    H: NativeHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
    M: Manner<H, C>,
    F: Future<Output = Ending<H>> + Send + 'static,
    Make: Send + Sync + 'static,
{
    async move {
        loop {
            let ended = {
                let Crew {
                    worker,
                    manner,
                    guard,
                    span,
                    call,
                } = &mut *crew;
                let turn = pin!(Some(manner.work(worker, call)));
                Guarded::new(turn, guard, span.as_deref()).await
            };
            match ended {
                Ok(Pause::Idle) => crew = occupant.rest(crew).await,
                Ok(Pause::HandedOver) => {}
                Ok(Pause::Ended) => break,
                Err(panic) => crew.after_panic(panic),
            }
        }
        conclusion.conclude(crew.end());
    }
}

// === impl Serial ===

impl<H, C> Manner<H, C> for Serial
where
    H: NativeHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
{
    type Told = ();

    #[expect(
        clippy::manual_async_fn,
        reason = "an `async fn` would hold its arguments twice"
    )]
    fn work<'a, F>(
        &'a mut self,
        worker: &'a mut Worker<H, C>,
        call: &'a mut Call<H, F>,
    ) -> impl Future<Output = Pause> + Send + 'a
    where
        F: Future<Output = Ending<H>> + Send,
    {
        async move {
            call.resume_panic();
            if call.runs_on() {
                call.finish(worker).await;
            }
            worker.serve().await
        }
    }

    #[inline]
    fn begins(&mut self, _: &H::Message) {}
}

// === impl Seat ===

impl<H: NativeHandler, C, M, F, Make> Seat<H, C, M, F, Make> {
    /// Puts the crew back. `stirred` if there is something for the module's task to do.
    #[inline]
    fn put_back(&self, crew: Box<Crew<H, C, M, F>>, stirred: bool) {
        match self.place.put_back(crew) {
            Word::None if !stirred => {}
            word => self.heed(word),
        }
    }

    /// Waits for a moment for a caller of another thread.
    #[cold]
    fn borrow_after(&self) -> Option<Box<Crew<H, C, M, F>>> {
        if direct::is_nested() {
            // It may be this one's own caller.
            return None;
        }
        self.place.borrow_after()
    }

    #[cold]
    fn heed(&self, word: Word<Crew<H, C, M, F>>) {
        match word {
            Word::None | Word::Wanted => self.control.slots[0].wake(),
            Word::Closed(crew) => quietly(|| drop(crew)),
        }
    }
}

impl<H, C, M, F, Make> DirectCalls<H::Message, H::Response, H::Error> for Seat<H, C, M, F, Make>
where
    H: NativeHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
    M: Manner<H, C>,
    F: Future<Output = Ending<H>> + Send + 'static,
    Make: Fn(Lent<H>, H::Message, M::Told) -> F + Send + Sync,
{
    fn call(
        &self,
        asked: &mut Asked<H::Message>,
        reply: &mut Option<oneshot::Receiver<Answer<H>>>,
        cx: &mut Context<'_>,
    ) -> Option<Answer<H>> {
        if !direct::may_call(self.runtime, cx.waker()) {
            return None;
        }
        let mut crew = match self.place.borrow() {
            Some(crew) => crew,
            None => self.borrow_after()?,
        };
        if !crew.is_free() || !crew.worker.start_the_clock_at_once(asked.message.as_ref()) {
            self.put_back(crew, false);
            return None;
        }
        let Crew { worker, manner, .. } = &mut *crew;
        worker.slot.set_deadline(asked.deadline);
        manner.is_called(worker, asked.edge.as_ref());
        let mut answer = None;
        let polled = crew.begin(&mut asked.message, &self.make, &mut answer, cx);
        if polled.is_err() || answer.is_none() {
            *reply = Some(crew.goes_on(polled, asked));
            self.put_back(crew, true);
            return None;
        }
        if crew.call.escort.is_some() {
            crew.call.escort = None;
        }
        if let Some(answer) = &answer {
            crew.worker.settle_done(answer);
        }
        if asked.edge.is_some() {
            asked.edge = None;
        }
        self.put_back(crew, false);
        answer
    }
}

// === impl Occupant ===

impl<H: NativeHandler, C, M, F, Make> Occupant<H, C, M, F, Make> {
    /// Leaves the crew to the callers until this task is woken, and takes it back.
    async fn rest(&self, crew: Box<Crew<H, C, M, F>>) -> Box<Crew<H, C, M, F>> {
        let mut crew = Some(crew);
        poll_fn(move |cx| {
            let Seat { place, control, .. } = &*self.0;
            if let Some(crew) = crew.take() {
                place.lay_down(crew);
                return Poll::Pending;
            }
            // Before word is left: it wakes what is registered.
            control.slots[0].register(cx.waker());
            place.reclaim().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

impl<H: NativeHandler, C, M, F, Make> Drop for Occupant<H, C, M, F, Make> {
    fn drop(&mut self) {
        let crew = self.0.place.close();
        quietly(|| drop(crew));
    }
}

// === impl Crew ===

impl<H, C, M, F> Crew<H, C, M, F>
where
    H: NativeHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
    M: Manner<H, C>,
    F: Future<Output = Ending<H>> + Send,
{
    /// Whether a caller may have the handler: nothing was accepted before his request.
    #[inline]
    fn is_free(&self) -> bool {
        let Self { worker, call, .. } = self;
        worker.started
            && !call.runs_on
            && !worker.control.is_stopping()
            && !worker.is_leaving()
            && worker.mailbox.is_empty()
    }

    /// Starts the handler and polls it once, as the module's task would. The answer, if
    /// there is one already, has a place of its own, to be moved as little as can be.
    #[inline]
    fn begin(
        &mut self,
        message: &mut Option<H::Message>,
        make: &impl Fn(Lent<H>, H::Message, M::Told) -> F,
        answer: &mut Option<Answer<H>>,
        cx: &mut Context<'_>,
    ) -> Result<(), Box<dyn Any + Send>> {
        let outer = direct::enter(self.guard.scope());
        let polled = catch_unwind(AssertUnwindSafe(|| self.run(message, make, answer, cx)));
        direct::leave(outer, self.guard.scope());
        polled
    }

    // Not in the closure, which so captures one reference instead of one to each part.
    #[inline]
    fn run(
        &mut self,
        message: &mut Option<H::Message>,
        make: &impl Fn(Lent<H>, H::Message, M::Told) -> F,
        answer: &mut Option<Answer<H>>,
        cx: &mut Context<'_>,
    ) {
        let Self {
            worker,
            manner,
            span,
            call,
            ..
        } = self;
        if request::wants_spans() {
            call.escort = Escort::new(request::span(Some(&worker.control.name)), None);
        }
        let _module = span.as_deref().map(Span::enter);
        let _request = call.escort.as_deref().map(Escort::enter);
        let Some(asked) = &*message else {
            unreachable!("a direct call has a message");
        };
        // If it panics, the message stays where it is: a second panic, of its drop, while this one
        // unwinds would end the process.
        let told = manner.begins(asked);
        let Some(message) = message.take() else {
            unreachable!("it is there still");
        };
        let future = call.future.get_or_insert_with(|| Box::pin(None));
        let mut future = future.as_mut();
        // Together with its first poll: then the compiler knows where that begins.
        future.set(Some(make(Lent::new(worker.handler.take()), message, told)));
        if let Poll::Ready((berth, ready)) = poll_call(future, cx) {
            worker.handler = Some(berth);
            *answer = Some(ready);
        }
    }

    /// Leaves the rest to the module's task: a handler that has more to do, or its panic.
    #[cold]
    fn goes_on(
        &mut self,
        polled: Result<(), Box<dyn Any + Send>>,
        asked: &mut Asked<H::Message>,
    ) -> oneshot::Receiver<Answer<H>> {
        match polled {
            Ok(()) => self.runs_on(asked.edge.as_ref()),
            Err(panic) => {
                asked.edge = None;
                quietly(|| asked.message = None);
                self.call.panic = Some(panic);
                self.runs_on(None)
            }
        }
    }

    /// Makes a request that has begun one that the module's task answers.
    fn runs_on(&mut self, edge: Option<&Edge>) -> oneshot::Receiver<Answer<H>> {
        let (reply, answer) = oneshot::channel();
        self.worker.duty = Duty::Request(reply);
        if let Some(edge) = edge {
            let span = self.call.escort.take().and_then(|escort| escort.span);
            self.call.escort = Escort::new(span, Some(edge.twin()));
        }
        self.call.runs_on = true;
        answer
    }

    #[cold]
    fn after_panic(&mut self, panic: Box<dyn Any + Send>) {
        self.call.clear(&mut self.worker);
        self.worker.after_panic(&*panic, self.span.as_deref());
        quietly(|| drop(panic));
    }

    /// Lets go of everything but the tokens of the shutdown messages.
    fn end(self) -> Vec<C> {
        self.worker.end(self.call)
    }
}
