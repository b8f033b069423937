//! Following many keys.

use std::{
    fmt,
    future::poll_fn,
    num::NonZeroUsize,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
};

use futures_core::Stream;

use crate::{
    StateEvent,
    listeners::{Backlog, Taken},
    store::Store,
};

/// Yields the changes of the keys under a prefix: what
/// [`SharedState::subscribe`](crate::SharedState::subscribe) returns.
///
/// Also a [`Stream`], which ends when the store is gone. Events of one key come in the order of its
/// versions; nothing is promised between two keys.
///
/// ```
/// use spark_state::{Change, RecvError, SharedState};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let state = SharedState::new();
/// let mut orders = state.subscribe("orders/", 2);
/// for key in ["orders/1", "users/1", "orders/2", "orders/3"] {
///     state.insert(key, true)?;
/// }
/// assert_eq!(orders.recv().await, Err(RecvError::Lagged(1)));
/// let event = orders.recv().await?;
/// assert_eq!((event.key(), event.change()), ("orders/2", Change::Inserted));
/// # Ok(())
/// # }
/// ```
#[must_use = "a subscription yields nothing until it is asked"]
pub struct Subscription {
    store: Weak<Store>,
    backlog: Arc<Backlog>,
}

/// Why [`Subscription::recv`] has no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecvError {
    /// So many events were dropped because the buffer was full. The next ones are those that are
    /// left.
    #[error("missed {0} events")]
    Lagged(u64),
    /// The store is gone. There will be no more events.
    #[error("the store is gone")]
    Closed,
}

// === impl Subscription ===

impl Subscription {
    pub(crate) fn new(
        store: &Arc<Store>,
        prefix: Arc<str>,
        scope_bytes: usize,
        buffer: NonZeroUsize,
    ) -> Self {
        let backlog = Arc::new(Backlog::new(prefix, scope_bytes, buffer));
        store.listeners.add_backlog(Arc::clone(&backlog));
        Self {
            store: Arc::downgrade(store),
            backlog,
        }
    }

    /// Returns the next event.
    ///
    /// # Errors
    ///
    /// [`Lagged`](RecvError::Lagged) once after events were dropped, and
    /// [`Closed`](RecvError::Closed) after the last event of a store that is gone.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no event was taken.
    pub async fn recv(&mut self) -> Result<StateEvent, RecvError> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// As [`recv`](Self::recv), for hand-written futures.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<StateEvent, RecvError>> {
        self.backlog.poll_take(cx).map(result)
    }

    /// Returns the next event, if one is there.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<Option<StateEvent>, RecvError> {
        self.backlog.try_take().map(result).transpose()
    }
}

impl Stream for Subscription {
    type Item = Result<StateEvent, RecvError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_recv(cx).map(|received| match received {
            Err(RecvError::Closed) => None,
            other => Some(other),
        })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(store) = self.store.upgrade() {
            store.listeners.remove_backlog(&self.backlog);
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}

fn result(taken: Taken) -> Result<StateEvent, RecvError> {
    match taken {
        Taken::Event(event) => Ok(event),
        Taken::Lagged(missed) => Err(RecvError::Lagged(missed)),
        Taken::Closed => Err(RecvError::Closed),
    }
}
