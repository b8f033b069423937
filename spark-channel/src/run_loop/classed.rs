//! Taking messages that are sorted into classes.

use std::task::{Context, Poll, ready};

use tokio::{task::coop::poll_proceed, time::Instant};

use super::mailbox::{Notice, Waited};
use crate::{
    Priority,
    classes::{Taken, Taker},
    control::Slot,
};

/// A view of a mailbox of classes, of a single module or of one replica.
pub(super) struct Classed<T> {
    taker: Taker<T>,
    notice: Notice<T>,
    /// What `notice` said of the message taken last.
    in_time: bool,
    /// When those that are taken and wait were accepted, in their order; one more may be
    /// that of the message that is handled.
    arrivals: Vec<Option<Instant>>,
    /// Whether waiting completes when there is nothing, instead of being pending.
    pub(super) rests: bool,
    /// Whether the message taken last, by [`poll_take`](Self::poll_take), gives way to no other.
    is_control: bool,
}

// === impl Classed ===

impl<T> Classed<T> {
    pub(super) const fn new(taker: Taker<T>, notice: Notice<T>) -> Self {
        Self {
            taker,
            notice,
            in_time: true,
            arrivals: Vec::new(),
            rests: false,
            is_control: false,
        }
    }

    /// Has [`poll_take`](Self::poll_take) complete when there is nothing to take.
    pub(super) const fn rest(&mut self) {
        self.rests = true;
    }

    /// Puts the next message into `taken`. Asks `interrupted` when there is none, and
    /// then whether it `may_rest`.
    // Not inlined: in the loops of modules without classes it is only in the way.
    #[inline(never)]
    pub(super) fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        taken: &mut Vec<T>,
        slot: &Slot,
        may_rest: bool,
        interrupted: impl Fn() -> bool,
    ) -> Poll<Waited> {
        // A module whose handlers never wait lets others run, too.
        let budget = ready!(poll_proceed(cx));
        let seen = |message: &T| self.in_time = (self.notice)(message).in_time;
        match self.taker.poll_take(cx, seen) {
            Poll::Pending if interrupted() => {
                self.taker.leave();
                Poll::Ready(Waited::Interrupted)
            }
            Poll::Pending if may_rest && self.rests => Poll::Ready(Waited::Idle),
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => Poll::Ready(Waited::Ended),
            Poll::Ready(Some(Taken {
                message,
                priority,
                arrived,
                left,
            })) => {
                budget.made_progress();
                self.is_control = priority == Priority::Control;
                slot.counters.saw_depth(1 + left);
                self.push(taken, message, arrived);
                Poll::Ready(Waited::Received)
            }
        }
    }

    /// Puts a message of priority control before the one that has been taken and waits;
    /// if there is none, the task is woken when one comes.
    pub(super) fn take_control(&mut self, cx: &Context<'_>, taken: &mut Vec<T>) -> bool {
        if self.is_control || taken.len() != 1 {
            return false;
        }
        let Some(control) = self.taker.take_control(cx) else {
            return false;
        };
        self.push(taken, control.message, control.arrived);
        true
    }

    fn push(&mut self, taken: &mut Vec<T>, message: T, arrived: Option<Instant>) {
        self.arrivals.truncate(taken.len());
        self.arrivals.push(arrived);
        taken.push(message);
    }

    /// When the message taken last was accepted, if that is noted; `waiting` are taken and wait.
    pub(super) fn arrival(&self, waiting: usize) -> Option<Instant> {
        self.arrivals.get(waiting).copied().flatten()
    }

    /// Whether the message taken last came in time.
    pub(super) const fn is_in_time(&self) -> bool {
        self.in_time
    }

    /// Whether there is nothing to take, in any class.
    pub(super) fn is_empty(&self) -> bool {
        self.taker.len() == 0
    }

    pub(super) fn close(&self) {
        self.taker.close();
    }
}
