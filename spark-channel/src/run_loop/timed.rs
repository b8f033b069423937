//! A worker with a stopwatch: what it notes of its messages, if anybody wants to know.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::time::Instant;

use super::{Worker, quietly};
use crate::{
    NativeHandler, SparkGenericModuleMessage,
    control::Control,
    timings::{NameOf, Stopwatch},
};

// === impl Worker ===

impl<H: NativeHandler, C: Send + 'static> Worker<H, C> {
    /// Has the worker time its messages, if they have names.
    pub(crate) fn timed(mut self, name_of: Option<NameOf<H::Message>>) -> Self {
        if let (Some(timings), Some(name_of)) = (&self.control.timings, name_of) {
            self.stopwatch = Some(Box::new(timings.stopwatch(name_of)));
        }
        self
    }

    /// Notes that the message taken last, which is this one, is handled from now on. Naming
    /// it may panic.
    #[inline]
    pub(super) fn start_the_clock(&self, message: &H::Message) {
        if let Some(stopwatch) = &self.stopwatch {
            stopwatch.begin(0, message, self.mailbox.arrival(stopwatch));
        }
    }

    /// Notes that the request taken last is not started.
    #[inline]
    pub(super) fn forget_arrival(&self) {
        if let Some(stopwatch) = &self.stopwatch {
            self.mailbox.arrival(stopwatch);
        }
    }

    /// Notes that a message that has not waited is handled from now on. `false` if naming it
    /// panicked: the module's own task, where it will again, answers for that.
    #[inline]
    pub(super) fn start_the_clock_at_once(&self, message: Option<&H::Message>) -> bool {
        match (&self.stopwatch, message) {
            (Some(stopwatch), Some(message)) => begin_at_once(stopwatch, message),
            _ => true,
        }
    }

    #[inline]
    pub(super) fn stop_the_clock(&self) {
        if let Some(stopwatch) = &self.stopwatch {
            stopwatch.end(0);
        }
    }
}

#[cold]
fn begin_at_once<M>(stopwatch: &Stopwatch<M>, message: &M) -> bool {
    let now = Some(Instant::now());
    let begun = catch_unwind(AssertUnwindSafe(|| stopwatch.begin(0, message, now)));
    if let Err(panic) = begun {
        quietly(|| drop(panic));
        return false;
    }
    true
}

/// When a message that has just been received was accepted, if that is noted.
pub(super) fn arrival<M, R, C, E>(
    control: &Control,
    message: &SparkGenericModuleMessage<M, R, C, E>,
) -> Option<Instant> {
    let timings = control.timings.as_ref()?;
    match message {
        SparkGenericModuleMessage::Shutdown(_) => None,
        _ => timings.take_arrival(),
    }
}
