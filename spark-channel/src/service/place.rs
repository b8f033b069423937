//! A service's place in the mailbox, from the wish for one to its use.
//!
//! Invariant: a place is taken only under the lock and after the stop flag was looked
//! at under it; a stop is published before [`Release::release`] takes the lock. So
//! no place outlives the stop of its module.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::{
    sync::mpsc::{self, OwnedPermit, error::SendError},
    time::Sleep,
};

use super::reservations::Release;
use crate::{SparkChannelError, Stage, current, deadlock::Edge};

/// Shared with the module's control, which empties it when the module stops.
pub(super) struct Place<T>(Arc<Shared<T>>);

struct Shared<T>(Mutex<State<T>>);

enum State<T> {
    Empty,
    Waiting(Waiting<T>),
    Reserved(OwnedPermit<T>),
    /// There was none in time, or there never would be one. That concerns one call and
    /// not the service: the next call fails with it.
    Refused(SparkChannelError),
}

struct Waiting<T> {
    reserving: Reserving<T>,
    /// The deadline of the request being handled, if the service is used in a handler.
    until: Option<Pin<Box<Sleep>>>,
    waker: Waker,
    /// That the handler it is used in waits for the module.
    _edge: Option<Edge>,
}

type Reserving<T> = Pin<Box<dyn Future<Output = Result<OwnedPermit<T>, SendError<()>>> + Send>>;

// === impl Place ===

impl<T: Send + 'static> Place<T> {
    pub(super) fn empty() -> Self {
        Self(Arc::new(Shared(Mutex::new(State::Empty))))
    }

    pub(super) fn as_release(&self) -> Arc<dyn Release> {
        Arc::clone(&self.0) as _
    }

    /// Waits until the next call has a place, or a reason to have none.
    ///
    /// `Err` once the mailbox is closed or `is_stopping` says so. `wait` is asked before
    /// it waits.
    pub(super) fn poll_reserve(
        &self,
        sender: &mpsc::Sender<T>,
        is_stopping: impl Fn() -> bool,
        wait: impl FnOnce() -> Result<Option<Edge>, SparkChannelError>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Closed>> {
        let mut state = self.0.lock();
        if is_stopping() {
            *state = State::Empty;
            return Poll::Ready(Err(Closed));
        }
        if let State::Empty = *state {
            *state = match sender.clone().try_reserve_owned() {
                Ok(permit) => State::Reserved(permit),
                Err(mpsc::error::TrySendError::Closed(_)) => return Poll::Ready(Err(Closed)),
                Err(mpsc::error::TrySendError::Full(sender)) => match wait() {
                    Ok(edge) => State::Waiting(Waiting::new(sender, edge, cx)),
                    Err(reason) => State::Refused(reason),
                },
            };
        }
        if let State::Waiting(waiting) = &mut *state {
            *state = match waiting.poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(Some(permit))) => State::Reserved(permit),
                Poll::Ready(Ok(None)) => State::Refused(SparkChannelError::TimedOut {
                    stage: Stage::NotAdmitted,
                }),
                Poll::Ready(Err(Closed)) => {
                    *state = State::Empty;
                    return Poll::Ready(Err(Closed));
                }
            };
        }
        Poll::Ready(Ok(()))
    }

    /// The place that is reserved, or one that is free now.
    pub(super) fn take(
        &self,
        sender: &mpsc::Sender<T>,
        is_stopping: impl Fn() -> bool,
    ) -> Result<OwnedPermit<T>, Option<SparkChannelError>> {
        let mut state = self.0.lock();
        let taken = std::mem::replace(&mut *state, State::Empty);
        match taken {
            _ if is_stopping() => Err(None),
            State::Reserved(permit) => Ok(permit),
            State::Refused(reason) => Err(Some(reason)),
            State::Empty | State::Waiting(_) => {
                sender
                    .clone()
                    .try_reserve_owned()
                    .map_err(|error| match error {
                        mpsc::error::TrySendError::Full(_) => Some(SparkChannelError::Full),
                        mpsc::error::TrySendError::Closed(_) => None,
                    })
            }
        }
    }
}

/// The mailbox takes nothing any more.
pub(super) struct Closed;

// === impl Shared ===

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send> Release for Shared<T> {
    fn release(&self) {
        let held = std::mem::replace(&mut *self.lock(), State::Empty);
        // Nobody else wakes it: what would have is dropped here.
        if let State::Waiting(waiting) = held {
            waiting.waker.wake();
        }
    }
}

// === impl Waiting ===

impl<T: Send + 'static> Waiting<T> {
    fn new(sender: mpsc::Sender<T>, edge: Option<Edge>, cx: &Context<'_>) -> Self {
        Self {
            reserving: Box::pin(sender.reserve_owned()),
            until: current::deadline().map(|deadline| Box::pin(tokio::time::sleep_until(deadline))),
            waker: cx.waker().clone(),
            _edge: edge,
        }
    }

    /// `None` when the deadline passed first.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<OwnedPermit<T>>, Closed>> {
        if let Poll::Ready(reserved) = self.reserving.as_mut().poll(cx) {
            return Poll::Ready(reserved.map(Some).map_err(|_| Closed));
        }
        if let Some(until) = &mut self.until
            && until.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Ok(None));
        }
        self.waker.clone_from(cx.waker());
        Poll::Pending
    }
}
