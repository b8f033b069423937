//! How a supervisor answers a failure: which children, how often, and how soon.

use std::time::Duration;

/// Which children a supervisor restarts when one fails.
///
/// Addresses survive a restart, so a child that only holds another's dispatcher need not
/// restart with it. With [`OneForAll`](Self::OneForAll) and
/// [`RestForOne`](Self::RestForOne) nobody starts before everybody who has to leave has
/// left. A child whose handler waits at that moment for one that is down, directly or
/// through other modules, would wait for itself: its handler is dropped, and its caller
/// gets [`Cancelled`](crate::SparkChannelError::Cancelled). This is seen as a
/// [deadlock](crate::Deadlocks) is, so not of pools, nor with `Deadlocks::Off`: there it
/// waits until its call times out or its
/// [`shutdown_timeout`](crate::Child::shutdown_timeout) is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// The one that failed; of a pool, the replica that failed.
    OneForOne,
    /// All of them.
    OneForAll,
    /// The one that failed and those added after it.
    RestForOne,
}

/// How long a supervisor waits before a restart.
///
/// The first restart comes after [`first`](Self::exponential), each further one
/// after twice the time of the one before, up to a maximum; a child that has been
/// quiet for a while starts over. Default: 100 ms doubling up to 30 s, less up to a
/// fifth of it by chance, over again after 60 s.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    jitter: f64,
    reset_after: Duration,
}

/// How many restarts a supervisor puts up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Intensity {
    /// `None`: any number.
    pub(crate) restarts: Option<usize>,
    pub(crate) within: Duration,
}

// === impl Backoff ===

impl Backoff {
    /// Waits `first`, then twice as long each time, but never longer than `max`.
    ///
    /// A larger `first` is kinder to whatever the child waits for, and keeps its
    /// callers waiting longer.
    #[must_use]
    pub const fn exponential(first: Duration, max: Duration) -> Self {
        Self {
            first,
            max,
            jitter: 0.2,
            reset_after: Duration::from_secs(60),
        }
    }

    /// Restarts at once. A child that cannot start then uses up its supervisor's
    /// [`intensity`](crate::Supervisor::intensity) at once, too.
    #[must_use]
    pub const fn none() -> Self {
        Self::exponential(Duration::ZERO, Duration::ZERO)
    }

    /// Takes up to this part of the wait off by chance, so that many children which
    /// failed together do not come back together. Between 0 (always the whole wait)
    /// and 1; what lies outside is brought inside. Default: 0.2.
    #[must_use]
    pub const fn jitter(mut self, part: f64) -> Self {
        // `clamp` passes what is not a number on.
        self.jitter = if part > 0.0 { part.min(1.0) } else { 0.0 };
        self
    }

    /// Begins again at the first wait once this long has passed without a failure
    /// since the last restart. Default: 60 s.
    #[must_use]
    pub const fn reset_after(mut self, quiet: Duration) -> Self {
        self.reset_after = quiet;
        self
    }

    pub(crate) const fn quiet(&self) -> Duration {
        self.reset_after
    }

    /// The wait before the restart that `earlier` others in a row came before.
    /// `chance` is at least 0 and below 1.
    pub(crate) fn delay(&self, earlier: u32, chance: f64) -> Duration {
        let doubled = self.first.saturating_mul(2_u32.saturating_pow(earlier));
        let full = doubled.min(self.max);
        // Times a part below 1, which cannot overflow, unlike times what is left of 1.
        full.saturating_sub(full.mul_f64(self.jitter * chance))
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::exponential(Duration::from_millis(100), Duration::from_secs(30))
    }
}

// === impl Intensity ===

impl Default for Intensity {
    fn default() -> Self {
        // With the default backoff, five restarts in a row take three seconds.
        Self {
            restarts: Some(5),
            within: Duration::from_secs(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_wait_doubles_up_to_its_maximum() {
        let backoff = Backoff::exponential(10 * MS, 75 * MS);
        let waits = [0, 1, 2, 3, 4, 40, u32::MAX].map(|earlier| backoff.delay(earlier, 0.0));
        let expected = [10, 20, 40, 75, 75, 75, 75].map(|wait| wait * MS);
        assert_eq!(waits, expected);
    }

    #[test]
    fn no_first_wait_is_no_wait_however_often() {
        assert_eq!(Backoff::none().delay(0, 0.9), Duration::ZERO);
        assert_eq!(Backoff::none().delay(u32::MAX, 0.0), Duration::ZERO);
        let from_none = Backoff::exponential(Duration::ZERO, MS);
        assert_eq!(from_none.delay(40, 0.0), Duration::ZERO);
    }

    #[test]
    fn the_longest_wait_is_shortened_like_any_other() {
        let backoff = Backoff::exponential(Duration::MAX, Duration::MAX).jitter(1.0);
        assert_eq!(backoff.delay(u32::MAX, 0.0), Duration::MAX);
        let least = backoff.delay(0, 1.0 - f64::EPSILON / 2.0);
        assert!(least < Duration::MAX / 1_000_000);
    }

    #[test]
    fn jitter_only_shortens_and_by_no_more_than_its_part() {
        let backoff = Backoff::exponential(100 * MS, 100 * MS).jitter(0.5);
        assert_eq!(backoff.delay(0, 0.0), 100 * MS);
        assert_eq!(backoff.delay(0, 0.5), 75 * MS);
        for odd in [f64::NAN, -1.0] {
            assert_eq!(backoff.jitter(odd).delay(0, 0.9), 100 * MS);
        }
        assert_eq!(backoff.jitter(7.0).delay(0, 0.5), 50 * MS);
    }
}
