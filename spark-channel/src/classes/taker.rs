//! The run loop's end of a mailbox of classes.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use tokio::time::Instant;

use super::{Classes, queue::Popped};
use crate::Priority;

/// One replica's way to take messages. The last one to be dropped closes the
/// mailbox and drops what is left in it.
pub(crate) struct Taker<T> {
    classes: Arc<Classes<T>>,
    replica: usize,
    /// Whether the bell may know this replica as one that waits.
    is_waiting: bool,
}

/// A message out of its class.
pub(crate) struct Taken<T> {
    pub(crate) message: T,
    pub(crate) priority: Priority,
    /// When it was accepted, if that is noted.
    pub(crate) arrived: Option<Instant>,
    /// How many are left in the mailbox.
    pub(crate) left: usize,
}

// === impl Taker ===

impl<T> Taker<T> {
    pub(super) const fn new(classes: Arc<Classes<T>>, replica: usize) -> Self {
        Self {
            classes,
            replica,
            is_waiting: false,
        }
    }

    /// Takes the next message, `None` once there will be none any more. `seen` sees
    /// it before another replica can take the one behind it.
    ///
    /// Pending, it has the task woken for the next message that no other replica is
    /// woken for.
    pub(crate) fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        seen: impl FnOnce(&T),
    ) -> Poll<Option<Taken<T>>> {
        let classes = &*self.classes;
        let mut state = classes.state();
        let mut polled = classes.poll_next(&mut state);
        if polled.is_pending() {
            self.is_waiting = true;
            classes.bell.wait(self.replica, cx.waker());
            // What is pushed needs the lock. What is sent to the channel does not,
            // and may have rung the bell when nobody was known to wait.
            polled = classes.poll_next(&mut state);
        }
        let Poll::Ready(next) = polled else {
            return Poll::Pending;
        };
        let left = state.len();
        if let Some(popped) = &next {
            seen(&popped.message);
        }
        drop(state);
        let taken = next.map(|popped| Taken::new(popped, left));
        if taken.is_none() {
            classes.bell.ring_all();
        } else if self.was_woken() || left > 0 {
            self.classes.bell.ring();
        }
        Poll::Ready(taken)
    }

    /// Takes the next message of priority [`Control`](Priority::Control), if there is
    /// one; otherwise has the task woken as [`poll_take`](Self::poll_take) does, for
    /// whichever message comes.
    pub(crate) fn take_control(&mut self, cx: &Context<'_>) -> Option<Taken<T>> {
        let classes = &*self.classes;
        let mut state = classes.state();
        let Some(popped) = classes.next_control(&mut state) else {
            self.is_waiting = true;
            classes.bell.wait(self.replica, cx.waker());
            return None;
        };
        let left = state.len();
        drop(state);
        Some(Taken::new(popped, left))
    }

    /// Waits no more, though nothing was taken.
    pub(crate) fn leave(&mut self) {
        if self.was_woken() {
            self.classes.bell.ring();
        }
    }

    /// Accepts no more messages; what was accepted can still be taken.
    pub(crate) fn close(&self) {
        self.classes.close();
    }

    /// How many messages there are to take.
    pub(crate) fn len(&self) -> usize {
        self.classes.len()
    }

    /// Ends the wait; says whether this replica was woken for a message.
    fn was_woken(&mut self) -> bool {
        std::mem::take(&mut self.is_waiting) && !self.classes.bell.leave(self.replica)
    }
}

impl<T> Drop for Taker<T> {
    fn drop(&mut self) {
        self.leave();
        self.classes.taker_dropped();
    }
}

// === impl Taken ===

impl<T> Taken<T> {
    /// Wakes the sender that has got the place.
    fn new(popped: Popped<T>, left: usize) -> Self {
        let Popped {
            message,
            priority,
            arrived,
            wake,
        } = popped;
        if let Some(wake) = wake {
            wake.wake();
        }
        Self {
            message,
            priority,
            arrived,
            left,
        }
    }
}
