//! The place of one read, used by one after the other.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use crate::{
    CallbackSender,
    callback::Escort,
    control::Slot,
    run_loop::running::{Caller, Ended},
};

pin_project! {
    pub(in crate::run_loop) struct Read<F, V> {
        #[pin]
        future: Option<F>,
        // Kept until the answer, so that a panic can be answered for.
        reply: Option<CallbackSender<V>>,
        escort: Option<Box<Escort>>,
    }
}

// === impl Read ===

impl<F, V> Read<F, V> {
    pub(in crate::run_loop) const fn vacant() -> Self {
        Self {
            future: None,
            reply: None,
            escort: None,
        }
    }

    pub(super) const fn is_vacant(&self) -> bool {
        self.future.is_none()
    }

    #[inline]
    pub(super) fn begin(
        self: Pin<&mut Self>,
        reply: CallbackSender<V>,
        escort: Option<Box<Escort>>,
        handle: impl FnOnce() -> F,
    ) {
        let mut this = self.project();
        *this.reply = Some(reply);
        if escort.is_some() {
            *this.escort = escort;
        }
        this.future.set(Some(handle()));
    }

    /// Drops the handler's future, which is user code, and then gives out the reply slot.
    #[inline]
    pub(super) fn end(mut self: Pin<&mut Self>) -> Option<CallbackSender<V>> {
        self.as_mut().drop_future();
        let this = self.project();
        if this.escort.is_some() {
            *this.escort = None;
        }
        this.reply.take()
    }

    pub(super) fn drop_future(self: Pin<&mut Self>) {
        self.project().future.set(None);
    }
}

impl<F: Future, V> Read<F, V> {
    /// Polls the handler until it ends, or is to be dropped because nobody waits for it.
    #[inline]
    pub(super) fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slot: &Slot,
        drop_abandoned: bool,
    ) -> Poll<Ended<F::Output>> {
        let this = self.project();
        let Some(future) = this.future.as_pin_mut() else {
            unreachable!("only a read that runs is polled");
        };
        let entered = this.escort.as_ref().map(|escort| escort.enter());
        let polled = future.poll(cx);
        drop(entered);
        if let Poll::Ready(output) = polled {
            return Poll::Ready(Ended::Done(output));
        }
        if let Some(reply) = this.reply
            && Caller::new(slot, reply, drop_abandoned).has_gone(cx)
            && drop_abandoned
        {
            return Poll::Ready(Ended::Dropped);
        }
        Poll::Pending
    }
}
