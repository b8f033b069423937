//! When a time limit is due. Limits may be as large as a `Duration` can be, instants may not.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::{
    task::coop,
    time::{Instant, Sleep, sleep_until},
};

/// When `limit` is due, counted from `start`. What is due in [`NEVER`] or later is due then.
pub(crate) fn after(start: Instant, limit: Duration) -> Instant {
    start + limit.min(NEVER)
}

/// As [`after`], with `None` for what is never due.
pub(crate) fn unless_never(start: Instant, limit: Duration) -> Option<Instant> {
    (limit < NEVER).then(|| start + limit)
}

pin_project! {
    /// A timer for one instant after the other, on behalf of one task.
    ///
    /// It is moved forward only once it has fired too early, so that what is put off again and again
    /// costs no timer operation each time.
    pub(crate) struct Alarm {
        #[pin]
        timer: Sleep,
        wakes: Wakes,
    }
}

/// Whom a pending future wakes. Polled by that task again, before it has, it need not be polled.
#[derive(Default)]
pub(crate) struct Wakes(Option<Waker>);

// === impl Alarm ===

impl Alarm {
    /// An alarm that is asked for nothing before `first`, mostly.
    pub(crate) fn new(first: Instant) -> Self {
        Self {
            timer: sleep_until(first),
            wakes: Wakes::default(),
        }
    }

    /// Completes once `at` has come.
    pub(crate) fn poll_at(self: Pin<&mut Self>, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if this.wakes.the_task_of(cx) && this.timer.deadline() <= at && !this.timer.is_elapsed() {
            return Poll::Pending;
        }
        loop {
            if this.timer.deadline() > at {
                this.timer.as_mut().reset(at);
            }
            if this.timer.as_mut().poll(cx).is_pending() {
                this.wakes.note(cx);
                return Poll::Pending;
            }
            if Instant::now() >= at {
                return Poll::Ready(());
            }
            this.timer.as_mut().reset(at);
        }
    }
}

// === impl Wakes ===

impl Wakes {
    pub(crate) fn the_task_of(&self, cx: &Context<'_>) -> bool {
        let waker = self.0.as_ref();
        waker.is_some_and(|waker| waker.will_wake(cx.waker()))
    }

    /// The future was polled, and is pending.
    pub(crate) fn note(&mut self, cx: &Context<'_>) {
        // Without budget it has yielded, and waits for nothing.
        self.0 = coop::has_budget_remaining().then(|| cx.waker().clone());
    }
}

/// 30 years: longer than any process runs, and far from where an `Instant`, or the timer that
/// rounds it up, overflows.
const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin};

    use tokio::time::advance;
    use tokio_test::task::spawn;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn any_limit_is_due_at_some_instant_and_a_limit_of_thirty_years_never() {
        let start = Instant::now();
        let day = Duration::from_secs(24 * 60 * 60);
        assert_eq!(after(start, day), start + day);
        assert_eq!(unless_never(start, day), Some(start + day));
        for limit in [NEVER, Duration::from_secs(u64::MAX / 2), Duration::MAX] {
            assert_eq!(after(start, limit), start + NEVER);
            assert_eq!(unless_never(start, limit), None);
        }
    }

    /// An alarm for whatever it is asked for.
    async fn alarm(first: Instant, asked: impl Fn() -> Instant) {
        let mut alarm = pin!(Alarm::new(first));
        poll_fn(|cx| alarm.as_mut().poll_at(asked(), cx)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_wakes_the_task_that_asked_last_at_what_it_asked_for_last() {
        let start = Instant::now();
        let asked = std::cell::Cell::new(start + 10 * SECOND);
        let mut alarm = std::pin::pin!(alarm(start + 10 * SECOND, || asked.get()));
        let mut first = spawn(poll_fn(|cx| alarm.as_mut().poll(cx)));
        assert!(first.poll().is_pending() && first.poll().is_pending());
        // Earlier; then later again, at which it fires too early once.
        asked.set(start + 3 * SECOND);
        assert!(first.poll().is_pending());
        asked.set(start + 5 * SECOND);
        assert!(first.poll().is_pending());
        advance(3 * SECOND).await;
        assert!(first.is_woken() && first.poll().is_pending());
        assert!(first.poll().is_pending() && !first.is_woken());
        drop(first);

        let mut second = spawn(poll_fn(|cx| alarm.as_mut().poll(cx)));
        assert!(second.poll().is_pending());
        advance(2 * SECOND).await;
        assert!(second.is_woken() && second.poll().is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_without_budget_is_not_taken_for_one_that_waits() {
        let at = Instant::now() + SECOND;
        let ringing = tokio::spawn(async move {
            let mut alarm = pin!(Alarm::new(at));
            poll_fn(|cx| {
                while let Poll::Ready(unit) = coop::poll_proceed(cx) {
                    unit.made_progress();
                }
                assert!(alarm.as_mut().poll_at(at, cx).is_pending());
                Poll::Ready(())
            })
            .await;
            // With a budget of its own.
            tokio::task::yield_now().await;
            poll_fn(|cx| alarm.as_mut().poll_at(at, cx)).await;
            Instant::now()
        });
        let rang = tokio::time::timeout(10 * SECOND, ringing).await;
        assert_eq!(rang.expect("it rings").expect("no panic"), at);
    }
}
