//! The outermost future of a module's task: panics end here, and so does time.

use std::{
    any::Any,
    future::Future,
    mem::ManuallyDrop,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use tokio::{task::unconstrained, time::Sleep};
use tracing::Span;

use crate::{
    clock::Moment,
    current::{self, Scope},
};

/// What outlives a panic: the scope, the stop timer and the registered waker.
pub(super) struct Guard {
    // Empty only while the scope is entered.
    scope: Option<Scope>,
    registered: Option<Waker>,
    timer: Option<Box<Timer>>,
    /// Whether the turn has been polled since the deadline passed.
    saw_deadline: bool,
}

/// Armed only while a module stops, so it does not count how many boxes it takes.
struct Timer {
    set_to: Moment,
    sleep: Pin<Box<Sleep>>,
}

/// Polls `turn` with the scope and the span entered; completes with its panic, if
/// it panics. It is never polled, nor held, after that.
pub(super) struct Guarded<'a, F> {
    turn: Pin<&'a mut Option<F>>,
    guard: &'a mut Guard,
    span: Option<&'a Span>,
}

/// Whoever works in turns, which a panic may cut short.
pub(super) trait Turns: Send {
    /// Works until all is done. Called again after it unwound.
    fn turn(&mut self) -> impl Future<Output = ()> + Send;

    /// Answers for what the turn that unwound was at.
    fn after_panic(&mut self, panic: &(dyn Any + Send), span: Option<&Span>);
}

/// Lets `who` take turns in `scope` until one completes.
pub(super) async fn take_turns(who: &mut impl Turns, scope: Scope, span: Option<&Span>) {
    let mut guard = Guard::new(scope);
    loop {
        let ended = {
            let turn = pin!(Some(who.turn()));
            Guarded::new(turn, &mut guard, span).await
        };
        match ended {
            Ok(()) => return,
            Err(panic) => {
                who.after_panic(&*panic, span);
                quietly(|| drop(panic));
            }
        }
    }
}

// === impl Guard ===

impl Guard {
    pub(super) const fn new(scope: Scope) -> Self {
        Self {
            scope: Some(scope),
            registered: None,
            timer: None,
            saw_deadline: false,
        }
    }

    /// The scope, to be entered by somebody else who polls for the module.
    #[inline]
    pub(super) fn scope(&mut self) -> &mut Option<Scope> {
        &mut self.scope
    }

    /// Makes sure that a stop wakes this task. A task's waker hardly ever changes,
    /// so this is one comparison per poll.
    #[inline]
    fn register(&mut self, waker: &Waker) {
        if self
            .registered
            .as_ref()
            .is_none_or(|old| !old.will_wake(waker))
        {
            if let Some(scope) = &self.scope {
                scope.slot.register(waker);
            }
            self.registered = Some(waker.clone());
        }
    }

    /// Whether the deadline of the shutdown has passed just now, which it does once.
    #[inline]
    fn deadline_passes(&mut self, cx: &mut Context<'_>) -> bool {
        match &self.scope {
            Some(scope) if scope.control.is_stopping() => self.poll_deadline(cx),
            _ => false,
        }
    }

    #[cold]
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(Scope { control, .. }) = &self.scope else {
            return false;
        };
        let Some(deadline) = control.stop_deadline() else {
            return false;
        };
        if !control.deadline_passed() {
            if self
                .timer
                .as_ref()
                .is_none_or(|timer| timer.set_to != deadline)
            {
                self.timer = Some(Box::new(Timer {
                    set_to: deadline,
                    sleep: Box::pin(tokio::time::sleep_until(deadline.to_instant())),
                }));
            }
            let Some(timer) = &mut self.timer else {
                return false;
            };
            // A handler that spends its task's budget must not keep time from passing.
            if pin!(unconstrained(&mut timer.sleep)).poll(cx).is_pending() {
                return false;
            }
            control.pass_deadline();
        }
        // Another replica may have noticed it first, after this one's turn was polled.
        !std::mem::replace(&mut self.saw_deadline, true)
    }
}

// === impl Guarded ===

impl<'a, F: Future> Guarded<'a, F> {
    pub(super) const fn new(
        turn: Pin<&'a mut Option<F>>,
        guard: &'a mut Guard,
        span: Option<&'a Span>,
    ) -> Self {
        Self { turn, guard, span }
    }
}

impl<F: Future> Future for Guarded<'_, F> {
    type Output = Result<F::Output, Box<dyn Any + Send>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.guard.register(cx.waker());
        loop {
            let polled = {
                let _scope = current::enter(&mut this.guard.scope);
                let _span = this.span.map(Span::enter);
                catch_unwind(AssertUnwindSafe(|| match this.turn.as_mut().as_pin_mut() {
                    Some(turn) => turn.poll(cx),
                    None => unreachable!("not polled after it completed"),
                }))
            };
            match polled {
                Ok(Poll::Pending) if this.guard.deadline_passes(cx) => {}
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(output)) => return Poll::Ready(Ok(output)),
                Err(panic) => {
                    // What the future holds may panic again while it is dropped; the
                    // first panic is the one to report.
                    let turn = &mut this.turn;
                    quietly(|| turn.set(None));
                    return Poll::Ready(Err(panic));
                }
            }
        }
    }
}

impl<F> Drop for Guarded<'_, F> {
    fn drop(&mut self) {
        // A task that is dropped drops its turn here, apart from the handler behind it: where both
        // panic, the process ends.
        let turn = &mut self.turn;
        quietly(|| turn.set(None));
    }
}

/// Runs user code whose panic has nobody to go to.
pub(crate) fn quietly(run: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
        // A panic's payload is the user's as well, and may panic when it is dropped.
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
            // So might this one, without an end: it is leaked.
            let _ = ManuallyDrop::new(again);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::{Stop, control::Control, deadlock::Deadlocks};

    /// The replica that sees the deadline first has told the others by the time they
    /// look; each of them must still have its turn polled once more.
    #[tokio::test(start_paused = true)]
    async fn no_replica_misses_the_deadline_that_another_one_noticed() {
        let control = Arc::new(Control::new(
            "pool".into(),
            2,
            1,
            None,
            Duration::ZERO,
            Deadlocks::Off,
        ));
        let guard = |replica: usize| {
            Guard::new(Scope {
                control: Arc::clone(&control),
                slot: Arc::clone(&control.slots[replica]),
            })
        };
        let mut first = guard(0);
        let mut second = guard(1);
        let mut cx = Context::from_waker(Waker::noop());
        control.request_stop(Stop::Drain, Duration::from_millis(1).into());
        assert!(!first.deadline_passes(&mut cx) && !second.deadline_passes(&mut cx));

        tokio::time::advance(Duration::from_millis(2)).await;

        assert!(first.deadline_passes(&mut cx));
        assert!(control.deadline_passed());
        assert!(second.deadline_passes(&mut cx));
        assert!(!first.deadline_passes(&mut cx) && !second.deadline_passes(&mut cx));
    }
}
