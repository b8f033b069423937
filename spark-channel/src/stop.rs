//! How a module is told to stop, why it did, and what it reports.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{Stats, clock::later};

/// How a module is to stop. In every case it refuses new messages at once,
/// answers or gives back what it does not handle, and has one deadline for all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stop {
    /// Handle everything accepted so far, then stop.
    Drain,
    /// Finish the message being handled, give back the rest.
    AfterCurrent,
    /// Drop the running handler at its next `.await`, give back the rest.
    Now,
}

/// Why a module stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopReason {
    /// Nobody was left who could send to it.
    NoDispatchers,
    /// Its handle asked for it.
    Requested(Stop),
    /// A [`Shutdown`](crate::SparkGenericModuleMessage::Shutdown) message came.
    ShutdownMessage,
    /// A handler panicked, and the policy was to stop, or its factory panicked too.
    Panicked,
    /// The handler's `started` failed or panicked.
    StartFailed,
    /// It did not end within its deadline because its handler blocks its
    /// thread. The task was told to abort and may still be blocked; the counts are those of
    /// the moment.
    Unresponsive,
    /// Its task was aborted, or its runtime ended, before it could report.
    Aborted,
}

/// What became of everything a module accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The module's name.
    pub module: Arc<str>,
    /// Why it stopped.
    pub reason: StopReason,
    /// Whether the deadline of the shutdown cut something short.
    pub deadline_passed: bool,
    /// The last counts. Once a module has stopped,
    /// [`accounted`](Stats::accounted) equals what it accepted.
    pub stats: Stats,
}

/// How something with several modules has been told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) stop: Stop,
    pub(crate) deadline: Instant,
}

// === impl Wish ===

impl Wish {
    pub(crate) fn within(stop: Stop, within: Duration) -> Self {
        let deadline = later(Instant::now(), within);
        Self { stop, deadline }
    }

    /// The stronger stop, and the earlier deadline.
    pub(crate) fn and(self, other: Self) -> Self {
        let rank = |stop| match stop {
            Stop::Drain => 0,
            Stop::AfterCurrent => 1,
            Stop::Now => 2,
        };
        let stop = if rank(other.stop) > rank(self.stop) {
            other.stop
        } else {
            self.stop
        };
        let deadline = self.deadline.min(other.deadline);
        Self { stop, deadline }
    }

    pub(crate) fn left(self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// How long after the deadline the module's task may take to notice it, on a
/// loaded machine, before it is taken for blocked.
pub(crate) const GRACE: Duration = Duration::from_millis(100);
