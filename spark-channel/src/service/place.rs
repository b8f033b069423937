//! A service's place in the mailbox, from the wish for one to its use.
//!
//! Invariant: a place is taken only under the lock and after the stop flag was looked
//! at under it; a stop is published before [`Release::release`] takes the lock. So
//! no place outlives the stop of its module.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use tokio::{
    sync::mpsc::{
        self, OwnedPermit,
        error::{SendError, TrySendError},
    },
    time::{Sleep, sleep_until},
};

use super::reservations::Release;
use crate::{
    SparkChannelError, Stage,
    control::Control,
    current,
    deadlock::{self, Edge},
};

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

/// Outlives the poll that began it, and with it perhaps the message being handled: what
/// belongs to a message is looked at in each poll.
struct Waiting<T> {
    reserving: Reserving<T>,
    /// The deadline of the request being handled, if the service is used in a handler.
    until: Option<Pin<Box<Sleep>>>,
    waker: Waker,
    /// That the handler it is used in waits for the module.
    edge: Option<Edge>,
}

/// A place, or why the next call has none.
type Placed<T> = Result<OwnedPermit<T>, SparkChannelError>;

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
    /// `Err` once the mailbox is closed, or `callee` stops.
    pub(super) fn poll_reserve(
        &self,
        sender: &mpsc::Sender<T>,
        callee: Option<&Arc<Control>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Closed>> {
        let mut state = self.0.lock();
        if is_stopping(callee) {
            *state = State::Empty;
            return Poll::Ready(Err(Closed));
        }
        // What was refused was a call that has not been made, perhaps of another handler.
        if let State::Empty | State::Refused(_) = *state {
            *state = match sender.clone().try_reserve_owned() {
                Ok(permit) => State::Reserved(permit),
                Err(TrySendError::Closed(_)) => return Poll::Ready(Err(Closed)),
                Err(TrySendError::Full(sender)) => State::Waiting(Waiting::new(sender, cx)),
            };
        }
        if let State::Waiting(waiting) = &mut *state {
            *state = match ready!(waiting.poll(callee, cx)) {
                Ok(Ok(permit)) => State::Reserved(permit),
                Ok(Err(reason)) => State::Refused(reason),
                Err(Closed) => {
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
        callee: Option<&Arc<Control>>,
    ) -> Result<OwnedPermit<T>, Option<SparkChannelError>> {
        let mut state = self.0.lock();
        let taken = std::mem::replace(&mut *state, State::Empty);
        match taken {
            _ if is_stopping(callee) => Err(None),
            State::Reserved(permit) => Ok(permit),
            State::Refused(reason) => Err(Some(reason)),
            State::Empty | State::Waiting(_) => {
                sender
                    .clone()
                    .try_reserve_owned()
                    .map_err(|error| match error {
                        TrySendError::Full(_) => Some(SparkChannelError::Full),
                        TrySendError::Closed(_) => None,
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
    fn new(sender: mpsc::Sender<T>, cx: &Context<'_>) -> Self {
        Self {
            reserving: Box::pin(sender.reserve_owned()),
            until: None,
            waker: cx.waker().clone(),
            edge: None,
        }
    }

    /// A place, or why there will be none for this call.
    fn poll(
        &mut self,
        callee: Option<&Arc<Control>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Placed<T>, Closed>> {
        if let Poll::Ready(reserved) = self.reserving.as_mut().poll(cx) {
            return Poll::Ready(reserved.map(Ok).map_err(|_| Closed));
        }
        if let Err(reason) = self.be_seen(callee, cx) {
            return Poll::Ready(Ok(Err(reason)));
        }
        let deadline = current::deadline();
        if self.until.as_ref().map(|until| until.deadline()) != deadline {
            self.until = deadline.map(|deadline| Box::pin(sleep_until(deadline)));
        }
        if let Some(until) = &mut self.until {
            ready!(until.as_mut().poll(cx));
            let stage = Stage::NotAdmitted;
            return Poll::Ready(Ok(Err(SparkChannelError::TimedOut { stage })));
        }
        Poll::Pending
    }

    /// Publishes that the handler that polls waits for `callee`, and looks for a circle.
    fn be_seen(
        &mut self,
        callee: Option<&Arc<Control>>,
        cx: &Context<'_>,
    ) -> Result<(), SparkChannelError> {
        self.waker.clone_from(cx.waker());
        let Some(callee) = callee else {
            return Ok(());
        };
        // The handler that began to wait may have ended, and this be another one.
        if !self.edge.as_ref().is_some_and(Edge::stands) {
            self.edge = deadlock::wait_for(callee)?;
        }
        match &self.edge {
            Some(edge) => edge.look(callee, cx.waker()),
            None => Ok(()),
        }
    }
}

fn is_stopping(callee: Option<&Arc<Control>>) -> bool {
    callee.is_some_and(|control| control.is_stopping())
}
