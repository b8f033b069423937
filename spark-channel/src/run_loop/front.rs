//! A pool's mailbox, as its router sees it.

use std::task::{Context, Poll, Waker, ready};

use tokio::{task::coop::poll_proceed, time::Instant};

use super::receiver::Receiver;
use crate::classes::Taker;

pub(crate) enum Front<T> {
    Channel(Receiver<T>),
    Classes {
        taker: Taker<T>,
        /// The bound of the default class.
        capacity: usize,
        /// When the message received last was accepted, if that is noted.
        arrived: Option<Instant>,
    },
}

// === impl Front ===

impl<T> Front<T> {
    pub(super) fn close(&mut self) {
        match self {
            Self::Channel(receiver) => receiver.close(),
            Self::Classes { taker, .. } => taker.close(),
        }
    }

    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        match self {
            Self::Channel(receiver) => receiver.poll_recv(cx),
            Self::Classes { taker, arrived, .. } => {
                let budget = ready!(poll_proceed(cx));
                let taken = ready!(taker.poll_take(cx, |_| {}));
                budget.made_progress();
                *arrived = taken.as_ref().and_then(|taken| taken.arrived);
                Poll::Ready(taken.map(|taken| taken.message))
            }
        }
    }

    /// A message that is there, of a mailbox that is closed.
    pub(super) fn try_recv(&mut self) -> Option<T> {
        match self {
            Self::Channel(receiver) => receiver.try_recv().ok(),
            Self::Classes { taker, .. } => {
                let polled = taker.poll_take(&mut Context::from_waker(Waker::noop()), |_| {});
                let Poll::Ready(Some(taken)) = polled else {
                    return None;
                };
                Some(taken.message)
            }
        }
    }

    /// When the message received last was accepted, if that is noted and not in the order
    /// of the channel.
    pub(super) const fn arrived(&self) -> Option<Instant> {
        match self {
            Self::Channel(_) => None,
            Self::Classes { arrived, .. } => *arrived,
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Channel(receiver) => receiver.len(),
            Self::Classes { taker, .. } => taker.len(),
        }
    }

    pub(super) fn capacity(&self) -> usize {
        match self {
            Self::Channel(receiver) => receiver.max_capacity(),
            Self::Classes { capacity, .. } => *capacity,
        }
    }
}
