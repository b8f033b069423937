//! How many requests may be under way, and how many may wait to be.
//!
//! Invariants:
//!
//! 1. At most `limit` permits are held. One that was given to a waiter counts as held, also before the
//!    waiter has been polled again.
//! 2. At most `queue` wait, and only while all permits are held. So whoever comes while one is free
//!    overtakes nobody.
//! 3. Permits go to those who wait in the order in which they came.
//! 4. Whoever stops waiting gives up its place, or the permit it was given, at once.
//! 5. No waker runs, and none is dropped, under the lock.

use std::{
    collections::VecDeque,
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::{ConfigError, Route};

mod bytes;

pub(crate) use bytes::{ByteBudget, Reserved};

/// A bounded number of permits with a bounded queue.
pub(crate) struct Permits {
    limit: usize,
    queue: usize,
    state: Mutex<State>,
}

/// How many requests of a route may be in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RouteLimit {
    /// As many as the ingress lets in.
    #[default]
    Unlimited,
    /// A queue, and nothing to wait for: an error once the ingress is built.
    QueueOnly,
    /// So many, and so many who wait.
    Limited { limit: usize, queue: usize },
    /// As many as there are, whatever the ingress says.
    Exempt,
}

/// One of [`Permits`], given back when dropped.
pub(crate) struct Permit(Arc<Permits>);

/// All permits are held, and nobody more may wait.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// The future of [`Permits::acquire`].
#[must_use = "futures do nothing unless polled"]
pub(crate) struct Acquire {
    permits: Arc<Permits>,
    /// The place in the queue, once there is one.
    ticket: Option<u64>,
}

#[derive(Default)]
struct State {
    held: usize,
    /// In the order of their tickets.
    waiting: VecDeque<Waiter>,
    next_ticket: u64,
}

struct Waiter {
    ticket: u64,
    waker: Waker,
}

// === impl Permits ===

impl Permits {
    pub(crate) fn new(limit: usize, queue: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            queue,
            state: Mutex::default(),
        })
    }

    /// Takes a permit, waiting for one while there is room to wait.
    ///
    /// # Errors
    ///
    /// [`Full`], at once.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up its place in the queue.
    pub(crate) fn acquire(self: &Arc<Self>) -> Acquire {
        Acquire {
            permits: Arc::clone(self),
            ticket: None,
        }
    }

    /// Takes a permit if one is free.
    pub(crate) fn try_acquire(self: &Arc<Self>) -> Option<Permit> {
        let taken = self.lock().take(self.limit);
        taken.then(|| Permit(Arc::clone(self)))
    }

    /// Whether whoever comes now is turned away.
    pub(crate) fn is_full(&self) -> bool {
        let state = self.lock();
        state.held == self.limit && state.waiting.len() >= self.queue
    }

    fn release(&self) {
        let mut state = self.lock();
        let next = state.waiting.pop_front();
        if next.is_none() {
            state.held -= 1;
        }
        drop(state);
        if let Some(next) = next {
            next.waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl RouteLimit ===

impl RouteLimit {
    /// The permits of the route called `name`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for a limit of zero, and for a queue without a limit.
    pub(crate) fn permits(self, name: &str) -> Result<Option<Arc<Permits>>, ConfigError> {
        match self {
            Self::Unlimited | Self::Exempt => Ok(None),
            Self::QueueOnly => Err(ConfigError::QueueWithoutConcurrency {
                name: name.to_owned(),
            }),
            Self::Limited { limit: 0, .. } => Err(ConfigError::ZeroLimit {
                setting: "concurrency",
            }),
            Self::Limited { limit, queue } => Ok(Some(Permits::new(limit, queue))),
        }
    }
}

// === impl Route ===

impl Route {
    /// Lets `requests` be in flight at a time; others wait in a [queue](Self::queue). Default: as many as
    /// the [ingress](crate::IngressBuilder::max_in_flight) lets in.
    ///
    /// A request is in flight from when its body is complete until its answer is; an answer whose body is
    /// a stream, and a WebSocket, until it ends. Those who wait go in the order in which they came, and
    /// until their [deadline](Self::handler_timeout) (504). A larger value lets this route take more of
    /// what all share. Each place at which a route is registered counts for itself.
    pub fn concurrency(mut self, requests: usize) -> Self {
        let queue = match self.in_flight {
            RouteLimit::Limited { queue, .. } => queue,
            _ => ROUTE_QUEUE,
        };
        self.in_flight = RouteLimit::Limited {
            limit: requests,
            queue,
        };
        self
    }

    /// Lets `requests` wait while as many as its [concurrency](Self::concurrency), set before, are in
    /// flight; further ones are answered 503 at once. Default: 128.
    ///
    /// A larger value turns fewer away in a burst, and makes those who wait wait longer.
    pub fn queue(mut self, requests: usize) -> Self {
        self.in_flight = match self.in_flight {
            RouteLimit::Limited { limit, .. } => RouteLimit::Limited {
                limit,
                queue: requests,
            },
            _ => RouteLimit::QueueOnly,
        };
        self
    }
}

// === impl Permit ===

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.release();
    }
}

// === impl Acquire ===

impl Acquire {
    fn enter(&mut self, waker: Waker) -> Poll<Result<Permit, Full>> {
        let mut state = self.permits.lock();
        if state.take(self.permits.limit) {
            drop(state);
            return Poll::Ready(Ok(Permit(Arc::clone(&self.permits))));
        }
        if state.waiting.len() >= self.permits.queue {
            return Poll::Ready(Err(Full));
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.push_back(Waiter { ticket, waker });
        drop(state);
        self.ticket = Some(ticket);
        Poll::Pending
    }

    fn look(&mut self, ticket: u64, waker: Waker) -> Poll<Result<Permit, Full>> {
        let mut state = self.permits.lock();
        if let Some(place) = state.place_of(ticket) {
            let stale = mem::replace(&mut state.waiting[place].waker, waker);
            drop(state);
            drop(stale);
            return Poll::Pending;
        }
        drop(state);
        // Whoever is no longer in the queue was given a permit.
        self.ticket = None;
        Poll::Ready(Ok(Permit(Arc::clone(&self.permits))))
    }
}

impl Future for Acquire {
    type Output = Result<Permit, Full>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let waker = cx.waker().clone();
        match self.ticket {
            None => self.enter(waker),
            Some(ticket) => self.look(ticket, waker),
        }
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else {
            return;
        };
        let mut state = self.permits.lock();
        let place = state.place_of(ticket);
        let left = place.and_then(|place| state.waiting.remove(place));
        drop(state);
        if left.is_none() {
            self.permits.release();
        }
    }
}

// === impl State ===

impl State {
    /// Takes one of `limit` permits, if one is free.
    fn take(&mut self, limit: usize) -> bool {
        let is_free = self.held < limit;
        self.held += usize::from(is_free);
        is_free
    }

    fn place_of(&self, ticket: u64) -> Option<usize> {
        let by_ticket = |waiter: &Waiter| waiter.ticket;
        self.waiting.binary_search_by_key(&ticket, by_ticket).ok()
    }
}

/// A burst. Longer, and the last in it waits for longer than clients do.
const ROUTE_QUEUE: usize = 128;

#[cfg(test)]
mod tests;
