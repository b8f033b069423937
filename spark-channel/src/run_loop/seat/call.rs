//! A handler that its caller began to poll, as long as it is under way.
//!
//! The future of a direct call owns the handler. If its caller's poll is not enough, the module's
//! task goes on with it: alone, as with any other message, or beside others, if the future has
//! [shared](Lent::share) the handler by then.

use std::{
    any::Any,
    future::{Future, poll_fn},
    mem::ManuallyDrop,
    panic::resume_unwind,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll},
};

use crate::{
    NativeHandler, SparkChannelCancellationTrait,
    callback::Escort,
    run_loop::{
        Berth, Rescue, Worker, at_home,
        guarded::quietly,
        running::{Caller, Ended, Running},
    },
};

/// The handler's part in a direct call.
pub(in crate::run_loop) struct Call<H, F> {
    /// Made for the first one and used again, so that later ones allocate nothing.
    pub(super) future: Option<Pin<Box<Option<F>>>>,
    /// The request's, while the future runs on in the module's task.
    pub(super) escort: Option<Box<Escort>>,
    pub(super) runs_on: bool,
    /// What it panicked with at its caller's. The module's task goes on from there.
    pub(super) panic: Option<Box<dyn Any + Send>>,
    pub(super) rescue: Arc<Rescue<H>>,
}

/// The future of a direct call that runs on beside others, until this is dropped.
pub(in crate::run_loop) struct Begun<'a, F>(Pin<&'a mut Option<F>>);

/// A handler inside of a direct call's future; goes to its rescue when that is dropped.
pub(in crate::run_loop) struct Lent<H>(Option<Box<Berth<H>>>);

/// The future of a direct call completes with the handler and its answer.
pub(in crate::run_loop) type Ending<H> = (Box<Berth<H>>, Answer<H>);

pub(in crate::run_loop) type Answer<H> =
    Result<<H as NativeHandler>::Response, <H as NativeHandler>::Error>;

// === impl Call ===

impl<H: NativeHandler, F> Call<H, F> {
    /// Goes on with the panic of a handler at its caller's, if there was one.
    pub(in crate::run_loop) fn resume_panic(&mut self) {
        if let Some(panic) = self.panic.take() {
            resume_unwind(panic);
        }
    }

    /// Whether a handler has more to do that its caller began.
    pub(in crate::run_loop) const fn runs_on(&self) -> bool {
        self.runs_on
    }

    /// The future of a call that runs on.
    fn future(&mut self) -> Pin<&mut Option<F>> {
        match &mut self.future {
            Some(future) => future.as_mut(),
            None => unreachable!("a direct call has begun"),
        }
    }

    /// Whether the handler is [shared](Lent::share), and may run on beside others; the worker
    /// has it then.
    pub(in crate::run_loop) fn is_shared<C>(&self, worker: &mut Worker<H, C>) -> bool {
        worker.handler = lock(&self.rescue).take();
        worker.handler.is_some()
    }

    /// What is left of a call that runs on: its future, until that is dropped, and its escort.
    pub(in crate::run_loop) fn begun(&mut self) -> (Begun<'_, F>, Option<Box<Escort>>) {
        let escort = self.escort.take();
        (Begun(self.future()), escort)
    }

    /// Drops what is left of a call that has ended, and puts the handler back.
    pub(in crate::run_loop) fn clear<C>(&mut self, worker: &mut Worker<H, C>) {
        self.runs_on = false;
        self.escort = None;
        let rescued = self.let_go();
        if worker.handler.is_none() {
            worker.handler = rescued;
        }
    }
}

impl<H, F> Call<H, F>
where
    H: NativeHandler,
    F: Future<Output = Ending<H>> + Send,
{
    /// Runs a handler that its caller began, alone, to its end, and answers for it.
    pub(in crate::run_loop) async fn finish<C>(&mut self, worker: &mut Worker<H, C>)
    where
        C: SparkChannelCancellationTrait + Send + 'static,
    {
        let escort = self.escort.take();
        let ended = {
            let mut begun = self.future();
            let future = poll_fn(|cx| poll_call(begun.as_mut(), cx));
            let caller = Caller::new(&worker.slot, worker.duty.reply(), worker.drop_abandoned);
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
        self.future().set(None);
        self.clear(worker);
        worker.answer(ended);
    }
}

impl<H, F> Call<H, F> {
    /// Drops the future, and takes the handler that it had.
    fn let_go(&mut self) -> Option<Box<Berth<H>>> {
        if let Some(future) = &mut self.future {
            quietly(|| future.set(None));
        }
        lock(&self.rescue).take()
    }
}

impl<H, F> Drop for Call<H, F> {
    fn drop(&mut self) {
        // Apart, for the handler that is rescued may panic as well: where both do, the process ends.
        let rescued = self.let_go();
        quietly(|| drop(rescued));
    }
}

// === impl Begun ===

impl<H, F> Future for Begun<'_, F>
where
    H: NativeHandler,
    F: Future<Output = Ending<H>>,
{
    type Output = Answer<H>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer<H>> {
        // The module has the handler as well.
        poll_call(self.0.as_mut(), cx).map(|(_, answer)| answer)
    }
}

impl<F> Drop for Begun<'_, F> {
    fn drop(&mut self) {
        self.0.set(None);
    }
}

// === impl Lent ===

impl<H> Lent<H> {
    pub(super) const fn new(handler: Option<Box<Berth<H>>>) -> Self {
        Self(handler)
    }

    pub(in crate::run_loop) fn handler(&mut self) -> &mut H {
        at_home(&mut self.0)
    }

    pub(in crate::run_loop) fn peek(&self) -> &H {
        match &self.0 {
            Some(berth) => &berth.handler,
            None => unreachable!("given back at the end"),
        }
    }

    /// Lets the module have the handler too, by way of the rescue: `again` makes a second one of it.
    pub(in crate::run_loop) fn share(&self, again: impl FnOnce(&H) -> H) {
        if let Some(berth) = &self.0
            && let Some(rescue) = berth.rescue.upgrade()
        {
            let twin = Berth {
                handler: again(&berth.handler),
                rescue: Weak::clone(&berth.rescue),
            };
            *lock(&rescue) = Some(Box::new(twin));
        }
    }

    #[expect(clippy::unnecessary_box_returns, reason = "the box is what moves")]
    pub(in crate::run_loop) fn give_back(self) -> Box<Berth<H>> {
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
pub(super) fn poll_call<F: Future>(
    future: Pin<&mut Option<F>>,
    cx: &mut Context<'_>,
) -> Poll<F::Output> {
    match future.as_pin_mut() {
        Some(future) => future.poll(cx),
        None => unreachable!("a direct call has begun"),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Held for one assignment only.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
