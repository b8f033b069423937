//! When a time limit is due. Limits may be as large as a `Duration` can be, instants may not.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

/// When `limit` is due, counted from `start`. What is due in [`NEVER`] or later is due then.
pub(crate) fn after(start: Instant, limit: Duration) -> Instant {
    start + limit.min(NEVER)
}

/// As [`after`], with `None` for what is never due.
pub(crate) fn unless_never(start: Instant, limit: Duration) -> Option<Instant> {
    (limit < NEVER).then(|| start + limit)
}

/// Completes once `at` has come, by a timer that serves one instant after the other.
///
/// It is moved forward only once it has fired too early, so that what is put off again and again
/// costs no timer operation each time.
pub(crate) fn poll_at(mut timer: Pin<&mut Sleep>, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
    loop {
        if timer.deadline() > at {
            timer.as_mut().reset(at);
        }
        ready!(timer.as_mut().poll(cx));
        if Instant::now() >= at {
            return Poll::Ready(());
        }
        timer.as_mut().reset(at);
    }
}

/// 30 years: longer than any process runs, and far from where an `Instant`, or the timer that
/// rounds it up, overflows.
const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

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
}
