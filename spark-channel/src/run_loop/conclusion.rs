//! The end of a module, which everybody who waits for it learns whatever happens.

use std::sync::Arc;

use super::guarded::quietly;
use crate::{Report, SparkChannelCancellationTrait, StopReason, control::Control};

/// Belongs to a module's future. Dropped without a [`conclude`](Self::conclude),
/// the module was aborted.
pub(super) struct Conclusion(Arc<Control>);

// === impl Conclusion ===

impl Conclusion {
    pub(super) const fn new(control: Arc<Control>) -> Self {
        Self(control)
    }

    pub(super) fn conclude<C: SparkChannelCancellationTrait>(self, tokens: Vec<C>) -> Report {
        let report = self.announce(self.0.reason());
        tracing::debug!(
            module = &*report.module,
            reason = ?report.reason,
            deadline_passed = report.deadline_passed,
            accounted = report.stats.accounted(),
            "module stopped"
        );
        for token in tokens {
            // The trait is the user's to implement.
            quietly(|| token.cancel_execution());
        }
        report
    }

    fn announce(&self, reason: StopReason) -> Report {
        let report = self.0.report(reason, 0);
        announce(&self.0, &report);
        report
    }
}

impl Drop for Conclusion {
    fn drop(&mut self) {
        if self.0.ending.report().is_none() {
            self.announce(StopReason::Aborted);
        }
    }
}

/// Lets everybody know that the module has ended. Only the first report counts.
pub(crate) fn announce(control: &Control, report: &Report) {
    control.end();
    for notice in control.ending.announce(report.clone()) {
        quietly(|| notice(report));
    }
}
