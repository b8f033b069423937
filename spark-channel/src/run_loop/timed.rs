//! A worker with a stopwatch: what it notes of its messages, if anybody wants to know.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

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

    /// Notes that the message taken last, which is this one, is handled from now on.
    ///
    /// # Errors
    ///
    /// The panic of naming it, which is to go on once the message is [dropped](unnamed).
    #[inline]
    pub(super) fn start_the_clock(&self, message: &H::Message) -> Result<(), Box<dyn Any + Send>> {
        match &self.stopwatch {
            None => Ok(()),
            Some(stopwatch) => begin(stopwatch, message, self.mailbox.arrival(stopwatch)),
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

/// Goes on with the panic of naming `message`. A second one, of its drop, while this one unwinds
/// would end the process.
#[cold]
pub(super) fn unnamed<M>(message: M, panic: Box<dyn Any + Send>) -> ! {
    quietly(|| drop(message));
    resume_unwind(panic)
}

#[cold]
fn begin_at_once<M>(stopwatch: &Stopwatch<M>, message: &M) -> bool {
    let begun = begin(stopwatch, message, Some(Instant::now()));
    if let Err(panic) = begun {
        quietly(|| drop(panic));
        return false;
    }
    true
}

#[cold]
fn begin<M>(
    stopwatch: &Stopwatch<M>,
    message: &M,
    arrived: Option<Instant>,
) -> Result<(), Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(|| stopwatch.begin(0, message, arrived)))
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
