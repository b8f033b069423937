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

use std::{
    any::Any,
    future::{Future, poll_fn},
    mem::ManuallyDrop,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use tokio::{
    runtime::{self, Handle},
    sync::oneshot,
};
use tracing::Span;

use super::{
    Berth, Duty, Pause, Rescue, Worker,
    conclusion::Conclusion,
    guarded::{Guard, Guarded, quietly},
    place::{Place, Word},
    running::{Caller, Ended, Running},
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
struct Seat<H: NativeHandler, C, F, Make> {
    place: Place<Crew<H, C, F>>,
    control: Arc<Control>,
    runtime: runtime::Id,
    /// Makes the future of a direct call. A parameter, because that future has no name.
    make: Make,
}

/// All it takes to handle a message.
struct Crew<H: NativeHandler, C, F> {
    worker: Worker<H, C>,
    guard: Guard,
    span: Option<Box<Span>>,
    call: Call<H, F>,
}

/// The handler's part in a direct call.
struct Call<H, F> {
    /// Made for the first one and used again, so that later ones allocate nothing.
    future: Option<Pin<Box<Option<F>>>>,
    /// The request's, while the future runs on in the module's task.
    escort: Option<Box<Escort>>,
    runs_on: bool,
    /// What it panicked with at its caller's. The module's task goes on from there.
    panic: Option<Box<dyn Any + Send>>,
    rescue: Arc<Rescue<H>>,
}

/// A handler inside of a direct call's future; goes to its rescue when that is dropped.
pub(crate) struct Lent<H>(Option<Box<Berth<H>>>);

/// The module's task, as far as the seat has to do with it.
struct Occupant<H: NativeHandler, C, F, Make>(Arc<Seat<H, C, F, Make>>);

/// The future of a direct call completes with the handler and its answer.
type Ending<H> = (Box<Berth<H>>, Answer<H>);

type Answer<H> = Result<<H as NativeHandler>::Response, <H as NativeHandler>::Error>;

type Direct<H> = Arc<
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
    occupy(worker, |mut lent: Lent<H>, message| async move {
        let answer = lent.handler().handle_request(message).await;
        (lent.give_back(), answer)
    })
}

fn occupy<H, C, F, Make>(
    mut worker: Worker<H, C>,
    make: Make,
) -> (Direct<H>, impl Future<Output = ()> + Send + 'static)
where
    H: NativeHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
    F: Future<Output = Ending<H>> + Send + 'static,
    Make: Fn(Lent<H>, H::Message) -> F + Send + Sync + 'static,
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
fn run<H, C, F, Make>(
    occupant: Occupant<H, C, F, Make>,
    mut crew: Box<Crew<H, C, F>>,
    conclusion: Conclusion,
) -> impl Future<Output = ()> + Send + 'static
where
    H: NativeHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
    F: Future<Output = Ending<H>> + Send + 'static,
    Make: Send + Sync + 'static,
{
    async move {
        loop {
            let ended = {
                let Crew {
                    worker,
                    guard,
                    span,
                    call,
                } = &mut *crew;
                let turn = pin!(Some(work(worker, call)));
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

/// Goes on with what a caller began, and then with the mailbox.
#[expect(
    clippy::manual_async_fn,
    reason = "an `async fn` would hold its arguments twice"
)]
fn work<'a, H, C, F>(
    worker: &'a mut Worker<H, C>,
    call: &'a mut Call<H, F>,
) -> impl Future<Output = Pause> + Send + 'a
where
    H: NativeHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
    F: Future<Output = Ending<H>> + Send,
{
    async move {
        if let Some(panic) = call.panic.take() {
            resume_unwind(panic);
        }
        if call.runs_on {
            let ended = {
                let Some(begun) = &mut call.future else {
                    unreachable!("a direct call has begun");
                };
                let future = poll_fn(|cx| poll_call(begun.as_mut(), cx));
                let caller = Caller::new(&worker.slot, worker.duty.reply(), worker.drop_abandoned);
                let escort = call.escort.take();
                Running::request(future, &worker.control, &mut worker.mailbox, caller, escort).await
            };
            let ended = match ended {
                Ended::Done((berth, answer)) => {
                    worker.handler = Some(berth);
                    Ended::Done(answer)
                }
                Ended::Dropped => Ended::Dropped,
            };
            // Of a handler cut short it is the user's code that runs here. If it panics, the
            // handler has panicked.
            if let Some(future) = &mut call.future {
                future.set(None);
            }
            call.clear(worker);
            worker.answer(ended);
        }
        worker.serve().await
    }
}

// === impl Seat ===

impl<H: NativeHandler, C, F, Make> Seat<H, C, F, Make> {
    /// Puts the crew back. `stirred` if there is something for the module's task to do.
    #[inline]
    fn put_back(&self, crew: Box<Crew<H, C, F>>, stirred: bool) {
        match self.place.put_back(crew) {
            Word::None if !stirred => {}
            word => self.heed(word),
        }
    }

    #[cold]
    fn heed(&self, word: Word<Crew<H, C, F>>) {
        match word {
            Word::None | Word::Wanted => self.control.slots[0].wake(),
            Word::Closed(crew) => quietly(|| drop(crew)),
        }
    }
}

impl<H, C, F, Make> DirectCalls<H::Message, H::Response, H::Error> for Seat<H, C, F, Make>
where
    H: NativeHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
    F: Future<Output = Ending<H>> + Send + 'static,
    Make: Fn(Lent<H>, H::Message) -> F + Send + Sync,
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
        let mut crew = self.place.take()?;
        if !crew.is_free() || !crew.worker.start_the_clock_at_once(asked.message.as_ref()) {
            self.put_back(crew, false);
            return None;
        }
        let Some(message) = asked.message.take() else {
            unreachable!("a direct call has a message");
        };
        crew.worker.slot.set_deadline(asked.deadline);
        let mut answer = None;
        let polled = crew.begin(message, &self.make, &mut answer, cx);
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

impl<H: NativeHandler, C, F, Make> Occupant<H, C, F, Make> {
    /// Leaves the crew to the callers until this task is woken, and takes it back.
    async fn rest(&self, crew: Box<Crew<H, C, F>>) -> Box<Crew<H, C, F>> {
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

impl<H: NativeHandler, C, F, Make> Drop for Occupant<H, C, F, Make> {
    fn drop(&mut self) {
        let crew = self.0.place.close();
        quietly(|| drop(crew));
    }
}

// === impl Crew ===

impl<H, C, F> Crew<H, C, F>
where
    H: NativeHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
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
        message: H::Message,
        make: &impl Fn(Lent<H>, H::Message) -> F,
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
        message: H::Message,
        make: &impl Fn(Lent<H>, H::Message) -> F,
        answer: &mut Option<Answer<H>>,
        cx: &mut Context<'_>,
    ) {
        let Self {
            worker, span, call, ..
        } = self;
        if request::wants_spans() {
            call.escort = Escort::new(request::span(Some(&worker.control.name)), None);
        }
        let _module = span.as_deref().map(Span::enter);
        let _request = call.escort.as_deref().map(Escort::enter);
        let future = call.future.get_or_insert_with(|| Box::pin(None));
        let mut future = future.as_mut();
        // Together with its first poll: then the compiler knows where that begins.
        future.set(Some(make(Lent(worker.handler.take()), message)));
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

// === impl Call ===

impl<H: NativeHandler, F> Call<H, F> {
    /// Drops what is left of a call that has ended, and puts the handler back.
    fn clear<C>(&mut self, worker: &mut Worker<H, C>) {
        self.runs_on = false;
        self.escort = None;
        if let Some(future) = &mut self.future {
            quietly(|| future.set(None));
        }
        if worker.handler.is_none() {
            worker.handler = lock(&self.rescue).take();
        }
    }
}

// === impl Lent ===

impl<H> Lent<H> {
    fn handler(&mut self) -> &mut H {
        super::at_home(&mut self.0)
    }

    #[expect(clippy::unnecessary_box_returns, reason = "the box is what moves")]
    fn give_back(self) -> Box<Berth<H>> {
        // Not dropped: there is nothing left to rescue.
        ManuallyDrop::new(self)
            .0
            .take()
            .unwrap_or_else(|| unreachable!("given back once"))
    }
}

impl<H> Drop for Lent<H> {
    fn drop(&mut self) {
        if let Some(berth) = self.0.take()
            && let Some(rescue) = berth.rescue.upgrade()
        {
            *lock(&rescue) = Some(berth);
        }
    }
}

#[inline]
fn poll_call<F: Future>(future: Pin<&mut Option<F>>, cx: &mut Context<'_>) -> Poll<F::Output> {
    match future.as_pin_mut() {
        Some(future) => future.poll(cx),
        None => unreachable!("a direct call has begun"),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Held for one assignment only.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
