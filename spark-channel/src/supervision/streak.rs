//! Failures in a row, and how long to wait after each.

use std::time::Duration;

use tokio::time::Instant;

use super::policy::Backoff;
use crate::clock::later;

/// Failures in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Streak {
    failures: u32,
    /// When the last of them was to be made good.
    until: Option<Instant>,
}

/// A small generator (`SplitMix64`): only the jitter depends on it.
#[derive(Debug)]
pub(super) struct Chance(u64);

// === impl Streak ===

impl Streak {
    /// Notes a failure, and says how long to wait before it is made good.
    pub(super) fn fail(
        &mut self,
        backoff: &Backoff,
        chance: &mut Chance,
        now: Instant,
    ) -> Duration {
        if self
            .until
            .is_some_and(|until| now >= later(until, backoff.quiet()))
        {
            self.failures = 0;
        }
        let delay = backoff.delay(self.failures, chance.next());
        self.failures = self.failures.saturating_add(1);
        self.until = Some(later(now, delay));
        delay
    }
}

// === impl Chance ===

impl Chance {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// At least 0 and below 1.
    pub(super) fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        // 53 bits are what a double holds.
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}
