//! A user's future while it runs: what may cut it short, and who learns of what.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use crate::{
    CallbackSender,
    callback::Escort,
    control::{Control, Slot},
};

pin_project! {
    /// Polls a handler's future until it ends or has to be dropped.
    pub(super) struct Running<'a, F, V> {
        #[pin]
        future: F,
        control: &'a Control,
        doors: &'a mut dyn Doors,
        on_behalf: OnBehalf<'a, V>,
        cut: Cut,
    }
}

/// Of whom a user's future runs, and in which span.
enum OnBehalf<'a, V> {
    Caller(Caller<'a, V>, Option<Box<Escort>>),
    Nobody(Option<&'a Escort>),
}

/// The mailbox, as far as a running handler's module has to do with it.
pub(super) trait Doors: Send {
    /// Refuses new messages, and those who wait for room, unless another replica
    /// that holds the doors does so.
    fn close_now(&mut self);
}

/// How a user's future ended.
pub(super) enum Ended<T> {
    Done(T),
    /// It must not go on; whoever gets this drops it.
    Dropped,
}

/// Whoever waits for the answer to a request.
pub(super) struct Caller<'a, V> {
    slot: &'a Slot,
    reply: &'a mut CallbackSender<V>,
    drop_abandoned: bool,
}

enum Cut {
    WhenStoppedNow,
    AtTheDeadline,
}

// === impl Running ===

impl<'a, F: Future, V> Running<'a, F, V> {
    /// A request's handler, whose caller may go away.
    pub(super) fn request(
        future: F,
        control: &'a Control,
        doors: &'a mut dyn Doors,
        caller: Caller<'a, V>,
        escort: Option<Box<Escort>>,
    ) -> Self {
        Self {
            future,
            control,
            doors,
            on_behalf: OnBehalf::Caller(caller, escort),
            cut: Cut::WhenStoppedNow,
        }
    }
}

impl<'a, F: Future> Running<'a, F, ()> {
    /// A command's handler: nobody waits for it.
    pub(super) fn command(
        future: F,
        control: &'a Control,
        doors: &'a mut dyn Doors,
        link: Option<&'a Escort>,
    ) -> Self {
        Self {
            future,
            control,
            doors,
            on_behalf: OnBehalf::Nobody(link),
            cut: Cut::WhenStoppedNow,
        }
    }

    /// Part of the stopping itself: even a module stopped now may use its time.
    pub(super) fn hook(
        future: F,
        control: &'a Control,
        doors: &'a mut dyn Doors,
        link: Option<&'a Escort>,
    ) -> Self {
        Self {
            future,
            control,
            doors,
            on_behalf: OnBehalf::Nobody(link),
            cut: Cut::AtTheDeadline,
        }
    }
}

impl<F: Future, V> Future for Running<'_, F, V> {
    type Output = Ended<F::Output>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let escort = match this.on_behalf {
            OnBehalf::Caller(_, escort) => escort.as_deref(),
            OnBehalf::Nobody(link) => *link,
        };
        let entered = escort.map(Escort::enter);
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ended::Done(output));
        }
        drop(entered);
        if this.control.is_stopping() {
            this.doors.close_now();
        }
        let cut = match this.cut {
            Cut::WhenStoppedNow => this.control.must_stop_now(),
            Cut::AtTheDeadline => this.control.deadline_passed(),
        };
        if cut || this.control.is_cut() {
            return Poll::Ready(Ended::Dropped);
        }
        if let OnBehalf::Caller(caller, _) = this.on_behalf
            && caller.has_gone(cx)
            && caller.drop_abandoned
        {
            return Poll::Ready(Ended::Dropped);
        }
        Poll::Pending
    }
}

// === impl Caller ===

impl<'a, V> Caller<'a, V> {
    pub(super) const fn new(
        slot: &'a Slot,
        reply: &'a mut CallbackSender<V>,
        drop_abandoned: bool,
    ) -> Self {
        Self {
            slot,
            reply,
            drop_abandoned,
        }
    }

    /// Whether the caller has gone; if not, the task is woken when it goes. Only
    /// looked at when anybody wants to know.
    pub(super) fn has_gone(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.drop_abandoned && !self.slot.cancel_asked() {
            return false;
        }
        let gone = self.reply.poll_closed(cx).is_ready();
        if gone {
            self.slot.cancel();
        }
        gone
    }
}
