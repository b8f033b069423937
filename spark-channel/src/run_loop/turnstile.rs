//! A mailbox that gives out one message each time it is told to, for a driver that
//! runs the loop by hand.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use tokio::time::Instant;

use super::{front::Front, mailbox::Waited};
use crate::control::Slot;

/// What the driver and the mailbox share. Both run on one thread at a time, so the
/// orderings are relaxed.
pub(crate) struct Turnstile {
    one_may_pass: AtomicBool,
    all_may_pass: AtomicBool,
    /// The loop is back at its mailbox, with nothing in hand.
    waits: AtomicBool,
}

/// The run loop's end.
pub(crate) struct TurnstileReceiver<T> {
    receiver: Front<T>,
    turnstile: Arc<Turnstile>,
}

// === impl Turnstile ===

impl Turnstile {
    pub(crate) const fn new() -> Self {
        Self {
            one_may_pass: AtomicBool::new(false),
            all_may_pass: AtomicBool::new(false),
            waits: AtomicBool::new(true),
        }
    }

    /// Lets the loop take one message, unless it still has the last one.
    pub(crate) fn let_one_pass(&self) {
        if self.waits.swap(false, Ordering::Relaxed) {
            self.one_may_pass.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn let_all_pass(&self) {
        self.all_may_pass.store(true, Ordering::Relaxed);
    }

    /// Whether the loop has nothing in hand. If so, nothing passes until it is let.
    pub(crate) fn shut_if_waiting(&self) -> bool {
        let waits = self.waits.load(Ordering::Relaxed);
        if waits {
            self.one_may_pass.store(false, Ordering::Relaxed);
        }
        waits
    }

    /// Whether the loop has taken a message and is not back yet.
    pub(crate) fn has_one_passed(&self) -> bool {
        !self.waits.load(Ordering::Relaxed) && !self.one_may_pass.load(Ordering::Relaxed)
    }

    fn may_pass(&self) -> bool {
        self.one_may_pass.load(Ordering::Relaxed) || self.all_may_pass.load(Ordering::Relaxed)
    }

    fn passed(&self) {
        self.waits.store(false, Ordering::Relaxed);
        self.one_may_pass.store(false, Ordering::Relaxed);
    }
}

// === impl TurnstileReceiver ===

impl<T> TurnstileReceiver<T> {
    pub(crate) const fn new(receiver: Front<T>, turnstile: Arc<Turnstile>) -> Self {
        Self {
            receiver,
            turnstile,
        }
    }

    /// Puts the next message into `taken`. Asks `interrupted` when there is none, or
    /// none may pass.
    pub(super) fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        taken: &mut Vec<T>,
        slot: &Slot,
        interrupted: impl Fn() -> bool,
    ) -> Poll<Waited> {
        if self.turnstile.may_pass()
            && let Poll::Ready(received) = self.receiver.poll_recv(cx)
        {
            self.turnstile.passed();
            let Some(message) = received else {
                return Poll::Ready(Waited::Ended);
            };
            slot.counters.saw_depth(1 + self.receiver.len());
            taken.push(message);
            return Poll::Ready(Waited::Received);
        }
        if interrupted() {
            return Poll::Ready(Waited::Interrupted);
        }
        self.turnstile.waits.store(true, Ordering::Relaxed);
        Poll::Pending
    }

    /// When the message taken last was accepted, if that is noted and not in the order of
    /// the channel.
    pub(super) const fn arrived(&self) -> Option<Instant> {
        self.receiver.arrived()
    }

    pub(super) fn close(&mut self) {
        self.receiver.close();
    }
}
