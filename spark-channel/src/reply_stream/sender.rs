//! The producer's end of a reply that comes item by item.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::Poll,
};

use tokio::sync::mpsc::{self, error::TrySendError};

use crate::{
    Refused, SparkChannelError,
    clock::{Clock, Moment},
    request::Timer,
};

/// The producer's end of a [`ReplyStream`](crate::ReplyStream).
///
/// It travels in a message; see
/// [`request_stream`](crate::SparkGenericModuleDispatcher::request_stream). The handler uses it
/// while it runs, or keeps it and uses it later.
pub struct ReplyStreamSender<T, E = eyre::Report> {
    items: mpsc::Sender<T>,
    shared: Arc<Shared<E>>,
}

/// What the producer and the caller know of each other beside the items.
pub(super) struct Shared<E> {
    /// Until when the caller waits, told when the request is sent.
    deadline: OnceLock<Moment>,
    /// How the producer ended it, before it let go of `items`: whoever finds no more items
    /// finds this.
    end: Mutex<Option<Result<(), E>>>,
}

// === impl ReplyStreamSender ===

impl<T, E> ReplyStreamSender<T, E> {
    pub(super) const fn new(items: mpsc::Sender<T>, shared: Arc<Shared<E>>) -> Self {
        Self { items, shared }
    }

    /// Sends an item, waiting while the caller is a buffer behind.
    ///
    /// # Errors
    ///
    /// The item, with [`Cancelled`](SparkChannelError::Cancelled), once nobody waits for
    /// it: the caller has dropped the stream, or its deadline has passed. A caller who
    /// keeps the stream and does not poll it holds up nobody beyond the deadline.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before completing, the item was not sent.
    pub async fn send(&self, item: T) -> Result<(), Refused<T>> {
        let room = pin!(self.items.reserve());
        match self.unless_late(room).await {
            Some(Ok(permit)) => {
                permit.send(item);
                Ok(())
            }
            Some(Err(_)) | None => Err(refused_for(SparkChannelError::Cancelled, item)),
        }
    }

    /// Sends an item now, or gives it back.
    ///
    /// # Errors
    ///
    /// The item, with [`Full`](SparkChannelError::Full) or
    /// [`Cancelled`](SparkChannelError::Cancelled).
    pub fn try_send(&self, item: T) -> Result<(), Refused<T>> {
        self.items.try_send(item).map_err(|error| match error {
            TrySendError::Full(item) => refused_for(SparkChannelError::Full, item),
            TrySendError::Closed(item) => refused_for(SparkChannelError::Cancelled, item),
        })
    }

    /// Completes when nobody waits for items any more.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn closed(&self) {
        self.unless_late(self.items.closed()).await;
    }

    /// Whether nobody waits for items any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        let deadline = self.shared.deadline.get();
        self.items.is_closed() || deadline.is_some_and(|at| at.has_passed(Clock::Exact))
    }

    /// Ends the stream: the reply is complete.
    ///
    /// A sender that is dropped otherwise ends it with
    /// [`ReplyDropped`](SparkChannelError::ReplyDropped), or with what became of the
    /// handler.
    pub fn finish(self) {
        self.shared.end(Ok(()));
    }

    /// Ends the stream with an error, which comes after the items sent before.
    pub fn fail(self, error: E) {
        self.shared.end(Err(error));
    }

    /// What `work` returns, unless the deadline passes while it has to wait.
    async fn unless_late<W>(&self, work: impl Future<Output = W>) -> Option<W> {
        let mut work = pin!(work);
        let mut timer = pin!(Timer::Off);
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            match self.shared.deadline.get() {
                None => Poll::Pending,
                Some(deadline) => timer.as_mut().poll_at(*deadline, cx).map(|()| None),
            }
        })
        .await
    }
}

impl<T, E> fmt::Debug for ReplyStreamSender<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyStreamSender")
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

// === impl Shared ===

impl<E> Shared<E> {
    pub(super) fn new() -> Self {
        Self {
            deadline: OnceLock::new(),
            end: Mutex::new(None),
        }
    }

    pub(super) fn tell_deadline(&self, deadline: Moment) {
        let _ = self.deadline.set(deadline);
    }

    pub(super) fn take_end(&self) -> Option<Result<(), E>> {
        self.lock().take()
    }

    fn end(&self, end: Result<(), E>) {
        *self.lock() = Some(end);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Result<(), E>>> {
        // Nothing that can panic runs under it: an end is set once.
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused_for<T>(reason: SparkChannelError, message: T) -> Refused<T> {
    Refused { message, reason }
}
