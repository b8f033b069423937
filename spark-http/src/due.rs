//! When a time limit is due. Limits may be as large as a `Duration` can be, instants may not.

use std::time::Duration;

use tokio::time::Instant;

/// When `limit` is due, counted from `start`. What is due in [`NEVER`] or later is due then.
pub(crate) fn after(start: Instant, limit: Duration) -> Instant {
    start + limit.min(NEVER)
}

/// As [`after`], with `None` for what is never due.
pub(crate) fn unless_never(start: Instant, limit: Duration) -> Option<Instant> {
    (limit < NEVER).then(|| start + limit)
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
