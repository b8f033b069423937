//! Time as one number, from tokio's clock.

use std::time::Duration;

use tokio::time::Instant;

/// Counts from when its store was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
}

/// Nanoseconds on a store's clock; the largest is never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

/// The time, read once and only if it is needed.
pub(crate) struct LazyNow {
    clock: Clock,
    now: Option<Moment>,
}

// === impl Clock ===

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    pub(crate) fn now(self) -> Moment {
        // Another runtime's clock may be paused at an earlier time.
        Moment::from(Instant::now().saturating_duration_since(self.started))
    }

    pub(crate) fn lazy(self) -> LazyNow {
        LazyNow {
            clock: self,
            now: None,
        }
    }

    /// Returns the instant, unless it is never, or too late to be told.
    pub(crate) fn instant(self, moment: Moment) -> Option<Instant> {
        if moment == Moment::NEVER {
            return None;
        }
        self.started.checked_add(Duration::from_nanos(moment.0))
    }
}

// === impl Moment ===

impl Moment {
    pub(crate) const NEVER: Self = Self(u64::MAX);

    pub(crate) const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    pub(crate) const fn to_raw(self) -> u64 {
        self.0
    }

    pub(crate) fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(Self::from(delay).0))
    }

    /// How long from `now`; zero if it has passed.
    pub(crate) const fn since(self, now: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(now.0))
    }
}

impl From<Duration> for Moment {
    fn from(since_start: Duration) -> Self {
        // Five hundred years are as good as never.
        Self(u64::try_from(since_start.as_nanos()).unwrap_or(u64::MAX))
    }
}

// === impl LazyNow ===

impl LazyNow {
    pub(crate) fn get(&mut self) -> Moment {
        *self.now.get_or_insert_with(|| self.clock.now())
    }
}
