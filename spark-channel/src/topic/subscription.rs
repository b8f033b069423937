//! A subscriber's end of a topic.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker, ready},
};

use futures_core::Stream;
use tokio::task::coop::poll_proceed;

use super::{
    Hub,
    backlog::{Backlog, Key, KeyOf, Put, Queue},
    lock, wake,
};

/// Receives what is published to a [`Topic`](super::Topic): a [`Stream`] of events.
///
/// Dropping it unsubscribes: what waits is dropped, and publishers no longer wait for it.
#[must_use = "dropping a subscription unsubscribes"]
pub struct Subscription<T> {
    hub: Arc<Hub<T>>,
    subscriber: Arc<Subscriber<T>>,
}

/// Why a subscription has ended. What waited then can still be received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SubscriptionEnd {
    /// The topic was closed, or all its publishers are gone.
    Closed,
    /// An event found the backlog full, and the policy was to
    /// [disconnect](Backlog::disconnect).
    TooSlow,
    /// The subscriber has unsubscribed.
    Unsubscribed,
}

/// What one subscriber has counted. Each event offered to it is exactly one of received,
/// waiting, dropped and conflated, until it unsubscribes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriptionStats {
    /// Events published since it subscribed.
    pub offered: u64,
    /// Events taken from the backlog.
    pub received: u64,
    /// Events in the backlog: how far the subscriber lags behind.
    pub waiting: usize,
    /// Events missed because the backlog was full.
    pub dropped: u64,
    /// Events replaced by a later one of the same key.
    pub conflated: u64,
}

/// What the topic and one subscriber share.
pub(super) struct Subscriber<T> {
    key_of: Option<KeyOf<T>>,
    state: Mutex<State<T>>,
}

struct State<T> {
    queue: Queue<T>,
    /// Of the task that waits for an event.
    waker: Option<Waker>,
    end: Option<SubscriptionEnd>,
    /// Whether a publisher waits for room.
    publisher_waits: bool,
    stats: SubscriptionStats,
}

// === impl Subscription ===

impl<T> Subscription<T> {
    pub(super) fn new(hub: Arc<Hub<T>>, backlog: Backlog<T>) -> Self {
        let (queue, key_of) = backlog.open();
        let subscriber = Arc::new(Subscriber {
            key_of,
            state: Mutex::new(State {
                queue,
                waker: None,
                end: None,
                publisher_waits: false,
                stats: SubscriptionStats::default(),
            }),
        });
        if !hub.add(&subscriber) {
            subscriber.end(SubscriptionEnd::Closed);
        }
        Self { hub, subscriber }
    }

    /// Receives the next event; `None` once the subscription has [ended](Self::end) and
    /// nothing waits any more.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: an event is taken only by the poll that returns it.
    pub async fn recv(&mut self) -> Option<T> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Polls for the next event, as the [`Stream`] does: only the last task that polled is
    /// woken.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        // A backlog that is never empty must not keep its task from yielding.
        let budget = ready!(poll_proceed(cx));
        let mut state = lock(&self.subscriber.state);
        if let Some(entry) = state.queue.take() {
            budget.made_progress();
            return Poll::Ready(Some(self.received(state, entry)));
        }
        if state.end.is_some() {
            return Poll::Ready(None);
        }
        let old = state.waker.replace(cx.waker().clone());
        drop(state);
        drop(old);
        Poll::Pending
    }

    /// The next event, if one waits.
    pub fn try_recv(&mut self) -> Option<T> {
        let mut state = lock(&self.subscriber.state);
        let entry = state.queue.take()?;
        Some(self.received(state, entry))
    }

    /// Why the subscription has ended; `None` while it goes on.
    #[must_use]
    pub fn end(&self) -> Option<SubscriptionEnd> {
        lock(&self.subscriber.state).end
    }

    /// What this subscriber has counted so far.
    #[must_use]
    pub fn stats(&self) -> SubscriptionStats {
        self.subscriber.stats()
    }

    fn received(&self, mut state: MutexGuard<'_, State<T>>, entry: (T, Option<Key>)) -> T {
        state.stats.received += 1;
        let makes_room = std::mem::take(&mut state.publisher_waits);
        drop(state);
        if makes_room {
            self.hub.room_was_made();
        }
        let (event, _) = entry;
        event
    }

    pub(super) fn subscriber(&self) -> &Arc<Subscriber<T>> {
        &self.subscriber
    }

    pub(super) fn hub(&self) -> &Arc<Hub<T>> {
        &self.hub
    }
}

impl<T> Stream for Subscription<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.poll_recv(cx)
    }
}

impl<T> Drop for Subscription<T> {
    fn drop(&mut self) {
        self.hub.unsubscribe(&self.subscriber);
    }
}

impl<T> fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("topic", &self.hub.name)
            .field("end", &self.end())
            .finish_non_exhaustive()
    }
}

// === impl Subscriber ===

impl<T> Subscriber<T> {
    pub(super) fn key_of(&self, event: &T) -> Option<Key> {
        self.key_of.as_ref().map(|key_of| key_of(event))
    }

    /// Whether an event can be put; if not, and the publisher `waits`, it is told when.
    pub(super) fn has_room(&self, waits: bool) -> bool {
        let mut state = lock(&self.state);
        let has_room = state.end.is_some() || state.queue.has_room();
        if !has_room && waits {
            state.publisher_waits = true;
        }
        has_room
    }

    /// Puts an event into the backlog; the subscriber is to be woken with what is returned.
    pub(super) fn put(
        &self,
        event: T,
        key: Option<Key>,
        evicted: &mut Vec<(T, Option<Key>)>,
    ) -> (Put, Option<Waker>) {
        let mut state = lock(&self.state);
        state.stats.offered += 1;
        let put = state.queue.put(event, key, evicted);
        match put {
            Put::Kept => {}
            Put::Conflated => state.stats.conflated += 1,
            Put::Dropped => state.stats.dropped += 1,
            Put::TooSlow => {
                state.stats.dropped += 1;
                state.end = Some(SubscriptionEnd::TooSlow);
            }
        }
        (put, state.waker.take())
    }

    /// Ends the subscription, unless it has ended.
    pub(super) fn end(&self, end: SubscriptionEnd) {
        let waker = {
            let mut state = lock(&self.state);
            state.end.get_or_insert(end);
            state.waker.take()
        };
        wake(waker);
    }

    /// Drops what waits.
    pub(super) fn clear(&self) {
        let left = lock(&self.state).queue.take_all();
        drop(left);
    }

    pub(super) fn stats(&self) -> SubscriptionStats {
        let state = lock(&self.state);
        SubscriptionStats {
            waiting: state.queue.len(),
            ..state.stats
        }
    }
}
