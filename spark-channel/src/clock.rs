//! Time for deadlines: exact where it matters, cheap where it does not.
//!
//! Reading the clock twice per call costs a fifth of a whole request (measured
//! in `benches/actors`). The kernel also keeps a coarse clock, advanced by its
//! own timer tick, that costs a quarter of that. The rules that keep it honest:
//!
//! 1. The coarse reading is never more than [`COARSE_ERROR`] away from the exact
//!    one, so it may *stamp* a deadline only if that error is added (a deadline
//!    is never early) and only if the timeout is at least [`COARSE_FROM`], where
//!    the error is at most two per cent.
//! 2. It never *decides*: once the coarse reading comes within the error of a
//!    deadline, the exact clock is asked.
//! 3. The exact clock is tokio's. Under a paused clock (tests) the coarse one,
//!    which nobody can pause, is not used at all; see [`Clock::for_this_runtime`].

use std::{sync::OnceLock, time::Duration};

use tokio::time::Instant;

/// A point on the deadline scale: ticks of the coarse clock, whose zero is some
/// moment before this process began.
///
/// On this scale a coarse stamp is one addition. Only the exact clock has to be
/// converted, through the anchor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

/// A length of time on the same scale.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Length(u64);

/// Which clock a module stamps its deadlines with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    Coarse,
    Exact,
}

/// One moment on both clocks.
struct Anchor {
    exact: Instant,
    coarse: Moment,
}

// === impl Moment ===

impl Moment {
    #[inline]
    pub(crate) const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    #[inline]
    pub(crate) const fn to_raw(self) -> u64 {
        self.0
    }

    pub(crate) fn now() -> Self {
        Self::from_instant(Instant::now())
    }

    /// Within [`COARSE_ERROR`] of [`Moment::now`], for a quarter of its cost.
    #[inline]
    fn now_coarse() -> Self {
        Self(coarsetime::Instant::now_without_cache_update().as_ticks())
    }

    pub(crate) fn from_instant(at: Instant) -> Self {
        let anchor = anchor();
        // A paused runtime may have frozen its clock before the anchor was made.
        if let Some(later) = at.checked_duration_since(anchor.exact) {
            return anchor.coarse.after(Length::from(later));
        }
        // A tick more, or this would be rounded up: a deadline stamped before the anchor, and due
        // after it, would not have passed when it is due.
        let earlier = Length::from(anchor.exact - at).0 + 1;
        Self(anchor.coarse.0.saturating_sub(earlier))
    }

    /// Up to four nanoseconds early, for each step on the way rounds, and never late: a
    /// nanosecond is a millisecond to a timer.
    pub(crate) fn to_instant(self) -> Instant {
        let anchor = anchor();
        let moved = if let Some(later) = self.0.checked_sub(anchor.coarse.0) {
            anchor.exact.checked_add(Length(later).to_duration())
        } else {
            // Rounded down, this would make it late.
            let earlier = Length(anchor.coarse.0 - self.0).to_duration();
            anchor.exact.checked_sub(earlier + Duration::from_nanos(1))
        };
        // Nothing before the clock's own start can be expressed; it is in the past,
        // as the anchor is.
        moved.unwrap_or(anchor.exact)
    }

    #[inline]
    pub(crate) const fn after(self, span: Length) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    #[inline]
    pub(crate) fn has_passed(self, clock: Clock) -> bool {
        if clock == Clock::Coarse && Self::now_coarse().after(COARSE_ERROR) < self {
            return false;
        }
        Self::now() >= self
    }
}

// === impl Length ===

impl Length {
    /// Long enough that a deadline just counted from now has not passed yet.
    #[inline]
    pub(crate) const fn is_long(self) -> bool {
        self.0 >= COARSE_FROM.0
    }

    /// Whether this stands for no bound at all.
    pub(crate) const fn is_never(self) -> bool {
        self.0 >> 32 >= LONGEST.as_secs()
    }

    pub(crate) fn to_duration(self) -> Duration {
        coarsetime::Duration::from_ticks(self.0).into()
    }
}

impl From<Duration> for Length {
    fn from(duration: Duration) -> Self {
        // 32 bits of seconds; what is longer stands for "never".
        let duration = duration.min(LONGEST);
        // Always down, unlike coarsetime's own conversion: then the ticks of two lengths are no
        // more than those of their sum.
        let fraction = (u64::from(duration.subsec_nanos()) << 32) / NANOS_OF_A_SECOND;
        Self((duration.as_secs() << 32) + fraction)
    }
}

// === impl Clock ===

impl Clock {
    /// Chooses the exact clock if the current runtime's clock is paused.
    ///
    /// Tokio does not say whether it is, but a paused clock stands still, or has been
    /// moved ahead: it does not read between two readings of the standard clock.
    pub(crate) fn for_this_runtime() -> Self {
        // Elsewhere the coarse clock is coarser, or keeps going while the machine
        // sleeps, and tokio's does not.
        if !cfg!(any(target_os = "linux", target_os = "android")) {
            return Self::Exact;
        }
        let before = standard_now();
        let now = Instant::now();
        let after = standard_now();
        if (before..=after).contains(&now) {
            Self::Coarse
        } else {
            Self::Exact
        }
    }

    /// The moment `timeout` from now; never early, late by at most twice [`COARSE_ERROR`].
    #[inline]
    pub(crate) fn deadline_in(self, timeout: Length) -> Moment {
        if self == Self::Coarse && timeout.is_long() {
            Moment::now_coarse().after(COARSE_ERROR).after(timeout)
        } else {
            Moment::now().after(timeout)
        }
    }
}

/// `delay` after `at`; a delay beyond what the clock can tell is as good as for ever.
pub(crate) fn later(at: Instant, delay: Duration) -> Instant {
    at + delay.min(AGES)
}

fn anchor() -> &'static Anchor {
    static ANCHOR: OnceLock<Anchor> = OnceLock::new();
    // Not the runtime's clock: it may be paused, and the anchor is everybody's.
    ANCHOR.get_or_init(|| Anchor {
        exact: standard_now(),
        coarse: Moment::now_coarse(),
    })
}

/// The clock that tokio cannot pause.
pub(crate) fn standard_now() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "compared with tokio's, and tied to the coarse clock"
    )]
    let now = std::time::Instant::now();
    now.into()
}

/// Ten milliseconds: one timer tick of a kernel built with 100 Hz, the slowest in use.
const COARSE_ERROR: Length = Length(SECOND / 100);

/// From here on twice the error is at most two per cent of the timeout.
const COARSE_FROM: Length = Length(SECOND);

/// The coarse clock counts seconds in its upper half.
const SECOND: u64 = 1 << 32;

const NANOS_OF_A_SECOND: u64 = 1_000_000_000;

const LONGEST: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 60);

/// Thirty years. Any clock can tell several times that.
const AGES: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 30);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_paused_runtime_is_recognised_and_its_time_is_followed() {
        assert_eq!(Clock::for_this_runtime(), Clock::Exact);
        let deadline = Clock::Exact.deadline_in(Length::from(Duration::from_secs(5)));
        tokio::time::advance(Duration::from_millis(4_999)).await;
        assert!(!deadline.has_passed(Clock::Exact));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(deadline.has_passed(Clock::Exact));
    }

    #[tokio::test]
    async fn a_running_clock_is_recognised() {
        assert_eq!(Clock::for_this_runtime(), Clock::Coarse);
    }

    #[test]
    fn a_coarse_stamp_is_never_early_and_late_by_twice_the_error_at_most() {
        let timeout = Length::from(Duration::from_secs(10));
        for _ in 0..1_000 {
            let before = Moment::now();
            let stamped = Clock::Coarse.deadline_in(timeout);
            let after = Moment::now();
            assert!(stamped >= before.after(timeout));
            let latest = after.after(timeout).after(COARSE_ERROR).after(COARSE_ERROR);
            assert!(stamped <= latest);
        }
    }

    #[test]
    fn a_moment_survives_the_way_to_an_instant_and_back_on_both_sides_of_the_anchor() {
        let anchor = anchor().exact;
        for step in 1..10_000 {
            let away = Duration::from_nanos(step * 100_003);
            for at in [anchor - away, anchor + away] {
                let back = Moment::from_instant(at).to_instant();
                assert!(back <= at, "{away:?}: later by {:?}", back - at);
                assert!(at - back <= Duration::from_nanos(4), "{away:?}");
            }
            let timeout = Duration::from_millis(step);
            let across = Moment::from_instant(anchor - away).after(Length::from(timeout));
            assert!(across.to_instant() <= anchor - away + timeout, "{away:?}");
        }
    }

    #[test]
    fn a_deadline_has_passed_when_it_is_due_on_both_sides_of_the_anchor() {
        let anchor = anchor().exact;
        for step in 1..10_000 {
            let away = Duration::from_nanos(step * 100_003);
            let timeout = Duration::from_millis(step % 2_000);
            for stamped in [anchor - away, anchor + away] {
                let deadline = Moment::from_instant(stamped).after(Length::from(timeout));
                let due = Moment::from_instant(stamped + timeout);
                assert!(due >= deadline, "{away:?} and {timeout:?}");
            }
        }
    }

    #[test]
    fn a_second_is_what_the_coarse_clock_says_it_is() {
        assert_eq!(Length::from(Duration::from_secs(1)).0, SECOND);
        assert_eq!(Length(SECOND / 100).to_duration().as_millis(), 9);
        assert!(Length::from(Duration::MAX).is_never());
        assert!(!Length::from(LONGEST.mul_f64(0.99)).is_never());
        let never = Moment::now().after(Length::from(Duration::MAX));
        assert!(never > Moment::now().after(Length::from(Duration::from_secs(1 << 30))));
    }
}
