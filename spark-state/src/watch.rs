//! Following one key.

use std::{
    fmt,
    future::{Future as _, poll_fn},
    marker::PhantomData,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use tokio::time::{Sleep, sleep_until};

use crate::{
    StateError, StateType, Version,
    clock::Moment,
    listeners::{Flag, Raised},
    reentry,
    store::{Store, typed},
};

/// Follows the value under one key: what [`SharedState::watch`](crate::SharedState::watch) returns.
///
/// Also a [`Stream`], which ends when the store is gone.
///
/// **Latest wins.** A watcher that is slow misses what was overwritten meanwhile, and always gets
/// the last value. It costs a writer one entry in a table, and never holds it up.
#[must_use = "a watch yields nothing until it is asked"]
pub struct Watch<T> {
    store: Weak<Store>,
    name: Arc<str>,
    flag: Arc<Flag>,
    /// What was yielded last.
    seen: Option<Version>,
    /// Rings when the value that was yielded last expires.
    alarm: Option<Pin<Box<Sleep>>>,
    // The watch holds no `T`.
    type_: PhantomData<fn() -> T>,
}

// === impl Watch ===

impl<T: StateType> Watch<T> {
    pub(crate) fn new(store: &Arc<Store>, name: Arc<str>) -> Self {
        Self {
            store: Arc::downgrade(store),
            flag: store.listeners.flag(Arc::clone(&name)),
            name,
            seen: None,
            alarm: None,
            type_: PhantomData,
        }
    }

    /// Returns the value, at first as it is, then once it is another one; `None` is a key without
    /// a value, such as one that has expired or was removed.
    ///
    /// # Errors
    ///
    /// [`WrongType`](StateError::WrongType) if what is there now is not a `T`: the next call waits
    /// for the next value. [`Closed`](StateError::Closed) when the store is gone.
    /// [`Reentrant`](StateError::Reentrant) within the closure of an
    /// [`update`](crate::SharedState::update): nothing is missed.
    ///
    /// # Panics
    ///
    /// Outside of a runtime with a timer, if the value expires.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing was yielded, so nothing is missed.
    pub async fn changed(&mut self) -> Result<Option<T>, StateError> {
        poll_fn(|cx| self.poll_changed(cx)).await
    }

    /// As [`changed`](Self::changed), for hand-written futures.
    ///
    /// # Errors
    ///
    /// As [`changed`](Self::changed).
    pub fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<T>, StateError>> {
        // Before the flag is lowered: what could not be read now is to be read later.
        if let Err(error) = reentry::check() {
            return Poll::Ready(Err(error));
        }
        loop {
            match self.flag.poll_lower(cx) {
                Poll::Ready(Raised::Changed) => {}
                Poll::Ready(Raised::Closed) => return Poll::Ready(Err(StateError::Closed)),
                Poll::Pending => match &mut self.alarm {
                    Some(alarm) => ready!(alarm.as_mut().poll(cx)),
                    None => return Poll::Pending,
                },
            }
            let Some(store) = self.store.upgrade() else {
                return Poll::Ready(Err(StateError::Closed));
            };
            let read = store.peek(&self.name, |entry| {
                (entry.value.clone(), entry.version, entry.deadline())
            });
            let (value, version, deadline) = match read {
                Ok(Some((value, version, deadline))) => (Some(value), version, deadline),
                Ok(None) => (None, Version::ABSENT, Moment::NEVER),
                Err(error) => return Poll::Ready(Err(error)),
            };
            let at = store.clock.instant(deadline);
            self.alarm = at.map(|at| Box::pin(sleep_until(at)));
            if self.seen.replace(version) == Some(version) {
                continue;
            }
            let value = value.map(|value| typed(&self.name, &value));
            return Poll::Ready(value.transpose());
        }
    }
}

impl<T: StateType> Stream for Watch<T> {
    type Item = Result<Option<T>, StateError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut()
            .poll_changed(cx)
            .map(|changed| match changed {
                Err(StateError::Closed) => None,
                other => Some(other),
            })
    }
}

impl<T> Drop for Watch<T> {
    fn drop(&mut self) {
        if let Some(store) = self.store.upgrade() {
            store.listeners.remove_flag(&self.name, &self.flag);
        }
    }
}

impl<T> fmt::Debug for Watch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("name", &self.name)
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}
