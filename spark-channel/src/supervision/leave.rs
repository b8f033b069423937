//! The time a child's handlers have to leave, and what follows once it is over.

use tokio::time::Instant;

use crate::stop::GRACE;

/// When the handlers of a child that were told to leave are to have left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leave {
    by: Instant,
    /// When what they do was dropped. The grace runs from here: whoever looks late
    /// must not take a child for lost that could not know its time was over.
    cut: Option<Instant>,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// To have what they do dropped.
    Cut,
    /// To be given up: that did not help.
    Abandon,
}

// === impl Leave ===

impl Leave {
    pub(super) const fn by(by: Instant) -> Self {
        Self { by, cut: None }
    }

    /// What is to be done now, each once.
    pub(super) fn enforce(&mut self, now: Instant) -> Option<Overdue> {
        if now < self.next_due() {
            return None;
        }
        if self.cut.is_some() {
            return Some(Overdue::Abandon);
        }
        self.cut = Some(now);
        Some(Overdue::Cut)
    }

    pub(super) fn next_due(&self) -> Instant {
        self.cut.map_or(self.by, |cut| cut + GRACE)
    }
}
