//! A worker under a supervisor: where it hands over a handler that has failed or is
//! to leave, and waits, with its mailbox open, until it is told to start another.
//!
//! Between [`Worker::may_start`] and [`Worker::hand_over`] the worker has a handler,
//! otherwise it has none and `started` is false.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll};

use tokio::time::timeout;

use super::{Running, Worker, at_home, guarded::quietly, mailbox::Waited};
use crate::{
    NativeHandler, SparkChannelCancellationTrait, Stop,
    oversight::{Exit, News, Oversight},
};

/// What only a supervised worker needs.
pub(super) struct Overseen<H> {
    oversight: Arc<Oversight>,
    replica: usize,
    /// Drops what the handler holds, until its `started` runs again.
    vacate: fn(&mut H),
    /// Why the handler is about to go.
    leaving: Option<Exit>,
    /// Whether there has been a handler.
    had_handler: bool,
}

/// What a waiting worker has been told.
enum Told {
    Start,
    Drain,
    Stop,
}

// === impl Overseen ===

impl<H> Overseen<H> {
    pub(super) const fn new(oversight: Arc<Oversight>, replica: usize, vacate: fn(&mut H)) -> Self {
        Self {
            oversight,
            replica,
            vacate,
            leaving: None,
            had_handler: false,
        }
    }

    #[inline]
    pub(super) fn is_recalled(&self) -> bool {
        self.oversight.is_recalled(self.replica)
    }
}

// === impl Worker ===

impl<H, C> Worker<H, C>
where
    H: NativeHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
{
    /// Waits, if supervised, until there is to be a handler; `false` if there will be
    /// none, because the module stops.
    ///
    /// A module that drains handles what it has accepted, and starts a handler for
    /// it without waiting for its supervisor, which stops it and restarts nothing.
    pub(super) async fn may_start(&mut self) -> bool {
        let Some(overseen) = &mut self.overseen else {
            return true;
        };
        let control = &self.control;
        let told = poll_fn(|_| match control.stop() {
            None if overseen.oversight.take_start(overseen.replica) => Poll::Ready(Told::Start),
            None => Poll::Pending,
            Some(Stop::Drain) => Poll::Ready(Told::Drain),
            Some(Stop::AfterCurrent | Stop::Now) => Poll::Ready(Told::Stop),
        })
        .await;
        let starts = match told {
            Told::Start => true,
            Told::Stop => false,
            Told::Drain => {
                self.mailbox.close().await;
                // Not a mere look: what is on its way was accepted as well, and of a
                // pool another replica may hold the lock and find something.
                let hurries = || control.is_past_draining();
                self.mailbox.has_taken()
                    || self.mailbox.wait(&self.slot, hurries).await == Waited::Received
            }
        };
        // These asked for the restart that begins now. If the module stops instead,
        // they are told at its end.
        if let Told::Start = told {
            for token in self.tokens.drain(..) {
                quietly(|| token.cancel_execution());
            }
        }
        if starts && std::mem::replace(&mut overseen.had_handler, true) {
            self.slot.counters.restarts.bump();
            control.announce_restart();
        }
        starts
    }

    pub(super) fn is_up(&self) {
        if let Some(overseen) = &self.overseen {
            overseen.oversight.tell(overseen.replica, News::Up);
        }
    }

    /// Whether a failure is the supervisor's to answer, and not the end of the module.
    pub(super) fn comes_back(&self) -> bool {
        let overseen = self.overseen.as_ref();
        overseen.is_some_and(|overseen| overseen.oversight.comes_back())
    }

    /// Answers, for a supervised worker, for a panic outside of the end of its module.
    /// `false` if that is left to others.
    pub(super) fn overseer_answers(&mut self) -> bool {
        let is_leaving = self
            .overseen
            .as_ref()
            .is_some_and(|overseen| overseen.leaving.is_some());
        // Also when the module stops: a `stopped` that panics is not called again.
        let answers = is_leaving || (self.comes_back() && !self.control.is_past_draining());
        if answers {
            self.hand_over(Exit::Panicked);
        }
        answers
    }

    /// Has the handler leave before the next message is taken.
    pub(super) fn leave_because(&mut self, exit: Exit) {
        if let Some(overseen) = &mut self.overseen {
            overseen.leaving = Some(exit);
        }
    }

    /// Whether the handler is to leave instead of taking the next message.
    #[inline]
    pub(super) fn is_leaving(&self) -> bool {
        match &self.overseen {
            None => false,
            Some(overseen) => {
                overseen.leaving.is_some()
                    || (overseen.is_recalled() && !self.control.is_stopping())
            }
        }
    }

    /// Stops the handler and hands it over.
    pub(super) async fn leave(&mut self) {
        let Some(overseen) = &mut self.overseen else {
            return;
        };
        // Kept until the handler is gone, for `stopped` may panic.
        let exit = *overseen.leaving.get_or_insert(Exit::Recalled);
        // Nobody need have asked for this with a deadline.
        let within = self.control.shutdown_timeout.to_duration();
        {
            let stopped = pin!(at_home(&mut self.handler).stopped());
            let stopped = Running::hook(stopped, &self.control, &mut self.mailbox, None);
            let _ = Box::pin(timeout(within, stopped)).await;
        }
        self.hand_over(exit);
    }

    /// Lets go of the handler and tells the supervisor why, unless there already was
    /// another reason.
    pub(super) fn hand_over(&mut self, exit: Exit) {
        let Some(overseen) = &mut self.overseen else {
            return;
        };
        let exit = overseen.leaving.take().unwrap_or(exit);
        (overseen.vacate)(at_home(&mut self.handler));
        self.started = false;
        overseen.oversight.tell(overseen.replica, News::Down(exit));
    }
}
