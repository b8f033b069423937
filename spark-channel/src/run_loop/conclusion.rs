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

    pub(super) fn conclude<C: SparkChannelCancellationTrait>(self, tokens: Vec<C>) {
        let report = announce(&self.0, self.0.report(self.0.reason(), 0));
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
    }
}

impl Drop for Conclusion {
    fn drop(&mut self) {
        if self.0.ending.report().is_none() {
            announce(&self.0, self.0.report(StopReason::Aborted, 0));
        }
    }
}

/// Lets everybody know that the module has ended. Only the first report counts, which
/// this returns.
pub(crate) fn announce(control: &Control, report: Report) -> &Report {
    control.end();
    let (report, notices) = control.ending.announce(report);
    for notice in notices {
        quietly(|| notice(report));
    }
    report
}
