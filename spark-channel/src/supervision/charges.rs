//! How many restarts there have been within a while, and whether that is too much.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::policy::Intensity;

/// The restarts that still count against the intensity.
#[derive(Debug)]
pub(super) struct Charges {
    intensity: Intensity,
    made: VecDeque<Instant>,
}

// === impl Charges ===

impl Charges {
    pub(super) const fn new(intensity: Intensity) -> Self {
        Self {
            intensity,
            made: VecDeque::new(),
        }
    }

    /// Charges one more, and says whether that is too much.
    pub(super) fn add(&mut self, now: Instant) -> bool {
        let Intensity { restarts, within } = self.intensity;
        let Some(most) = restarts else {
            return false;
        };
        let is_over = |earlier: &Instant| now - *earlier >= within;
        while self.made.front().is_some_and(is_over) {
            self.made.pop_front();
        }
        self.made.push_back(now);
        self.made.len() > most
    }

    pub(super) fn clear(&mut self) {
        self.made.clear();
    }
}
