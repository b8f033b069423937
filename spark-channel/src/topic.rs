//! Publish and subscribe inside a process.
//!
//! Invariants:
//!
//! 1. Locks are taken in one order: the hub's, then a subscriber's.
//! 2. No user code runs under either, but for the comparison of conflated keys:
//!    events are cloned, and dropped, outside.
//! 3. Only the publisher at the head of the line puts events into backlogs, under the
//!    hub's lock, so what it has seen to be room is room.
//! 4. The head leaves its waker in the line before it looks for room and says so to
//!    the backlog it waits for, all under the hub's lock; a subscriber that makes room
//!    for one that waits wakes the head, under the same lock.

mod backlog;
mod line;
mod module;
mod publishing;
mod subscription;

use std::{
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use tokio::time::timeout_at;

pub use self::{
    backlog::Backlog,
    module::ModuleSubscription,
    subscription::{Subscription, SubscriptionEnd, SubscriptionStats},
};
use self::{
    line::Line,
    publishing::{Attempt, Publishing},
    subscription::Subscriber,
};
use crate::{Refused, SparkChannelError, Stage, current};

/// Gives every event that is published to every subscriber: publish and subscribe
/// inside a process.
///
/// A subscriber has a [`Backlog`]: how many events may wait for it, and what happens
/// when one more comes. It reads them from a [`Subscription`], or they are sent to a
/// module as commands by [`subscribe_module`](Self::subscribe_module). It gets what is
/// published from then on; a topic keeps nothing for those who come later.
///
/// **Order.** All subscribers see the events in one order, and those of one publisher
/// in the order published. (What a subscriber misses by its policy is missing; what it
/// gets is still in order.)
///
/// **Cost.** Publishing takes the topic's lock for a moment, each subscriber's in turn,
/// and one clone of the event per subscriber but the last. Nothing is spawned. Only
/// [conflating](Backlog::conflate_by) backlogs are searched.
///
/// **Waiting.** Publishing waits only for subscribers whose backlog is full and whose
/// policy is to [wait](Backlog::wait). One publisher waits at the head of a line; others
/// queue behind it, so that none is overtaken.
///
/// Cloning the topic gives another publisher. The topic closes when the last clone is
/// gone, or by [`close`](Self::close); subscribers still get what waits for them.
///
/// # Examples
///
/// ```
/// use spark_channel::{Backlog, Topic};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> eyre::Result<()> {
/// let prices = Topic::new("prices");
/// let mut all = prices.subscribe(Backlog::wait(16));
/// let mut latest = prices.subscribe(Backlog::drop_oldest(1));
///
/// for price in [101, 102, 103] {
///     assert_eq!(prices.publish(price).await?, 2);
/// }
/// drop(prices);
///
/// assert_eq!(latest.recv().await, Some(103));
/// assert_eq!(latest.stats().dropped, 2);
/// assert_eq!(all.recv().await, Some(101));
/// # Ok(())
/// # }
/// ```
pub struct Topic<T> {
    owner: Arc<Owner<T>>,
}

/// What a topic has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicStats {
    /// Subscribers now.
    pub subscribers: usize,
    /// Events published. Each was offered to every subscriber there was.
    pub published: u64,
    /// Events offered, each once per subscriber.
    pub offered: u64,
    /// Of the offered ones, those a subscriber missed because its backlog was full.
    pub dropped: u64,
    /// Of the offered ones, those replaced by a later event of the same key.
    pub conflated: u64,
    /// Subscribers disconnected because they were too slow.
    pub disconnected: u64,
    /// Publishers that wait now.
    pub waiting: usize,
}

/// Closes the topic when the last publisher is gone.
struct Owner<T> {
    hub: Arc<Hub<T>>,
}

struct Hub<T> {
    name: Arc<str>,
    state: Mutex<State<T>>,
}

struct State<T> {
    /// Replaced as a whole, so that publishing can look at it without the lock.
    subscribers: Arc<[Arc<Subscriber<T>>]>,
    line: Line,
    closed: bool,
    stats: TopicStats,
}

// === impl Topic ===

impl<T: Clone> Topic<T> {
    /// A topic without subscribers. The name appears in [`Debug`](fmt::Debug) and traces.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        let hub = Arc::new(Hub {
            name: name.into(),
            state: Mutex::new(State {
                subscribers: Arc::from([]),
                line: Line::default(),
                closed: false,
                stats: TopicStats::default(),
            }),
        });
        Self {
            owner: Arc::new(Owner { hub }),
        }
    }

    /// Subscribes with `backlog`. Of a closed topic the subscription ends at once.
    pub fn subscribe(&self, backlog: Backlog<T>) -> Subscription<T> {
        Subscription::new(Arc::clone(self.hub()), backlog)
    }

    /// Publishes `event`; says how many subscribers it was offered to.
    ///
    /// Waits while a subscriber whose policy is to [wait](Backlog::wait) has no room, and
    /// behind publishers who wait for that. All subscribers get the event at the same
    /// moment, or none does. Without subscribers it is dropped.
    ///
    /// Inside of a handler it waits no longer than the deadline of the request being handled.
    ///
    /// A module that publishes to a topic it is subscribed to with such a backlog may
    /// wait for itself; a timeout around this bounds it. A future that has been polled
    /// and is then neither polled again nor dropped holds up the publishers behind it.
    ///
    /// # Errors
    ///
    /// The event, with [`Closed`](SparkChannelError::Closed), if the topic is closed, or with
    /// [`TimedOut`](SparkChannelError::TimedOut) at the deadline.
    ///
    /// # Panics
    ///
    /// Passes on a panic of the event's `clone` or of a key function: then nobody has
    /// got the event.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. If the future is dropped before completing, nobody has got the event.
    pub async fn publish(&self, event: T) -> Result<usize, Refused<T>> {
        let mut publishing = Publishing::new(self.hub(), event);
        let published = poll_fn(|cx| publishing.poll(cx));
        let Some(deadline) = current::deadline() else {
            return published.await;
        };
        let published = timeout_at(deadline, published).await;
        published.unwrap_or_else(|_| {
            let stage = Stage::NotAdmitted;
            Err(publishing.give_back(SparkChannelError::TimedOut { stage }))
        })
    }

    /// Publishes `event` now, or gives it back.
    ///
    /// # Errors
    ///
    /// The event, with [`Full`](SparkChannelError::Full) when [`publish`](Self::publish)
    /// would wait, or [`Closed`](SparkChannelError::Closed).
    ///
    /// # Panics
    ///
    /// As [`publish`](Self::publish).
    pub fn try_publish(&self, event: T) -> Result<usize, Refused<T>> {
        let mut publishing = Publishing::new(self.hub(), event);
        loop {
            publishing.prepare();
            let reason = match publishing.attempt(None) {
                Attempt::Done(subscribers) => return Ok(subscribers),
                Attempt::Stale => continue,
                Attempt::Waits => SparkChannelError::Full,
                Attempt::Closed => SparkChannelError::Closed,
            };
            return Err(publishing.give_back(reason));
        }
    }
}

impl<T> Topic<T> {
    /// Refuses further events, also those of publishers who wait. Subscribers get what
    /// waits for them, and then the end.
    pub fn close(&self) {
        self.hub().close();
    }

    /// Whether the topic refuses events.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.hub().lock().closed
    }

    /// The topic's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.hub().name
    }

    /// What has been counted so far.
    #[must_use]
    pub fn stats(&self) -> TopicStats {
        let state = self.hub().lock();
        TopicStats {
            subscribers: state.subscribers.len(),
            waiting: state.line.len(),
            ..state.stats
        }
    }

    fn hub(&self) -> &Arc<Hub<T>> {
        &self.owner.hub
    }
}

impl<T> Clone for Topic<T> {
    fn clone(&self) -> Self {
        Self {
            owner: Arc::clone(&self.owner),
        }
    }
}

impl<T> fmt::Debug for Topic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic")
            .field("name", &self.name())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

impl<T> Drop for Owner<T> {
    fn drop(&mut self) {
        self.hub.close();
    }
}

// === impl Hub ===

impl<T> Hub<T> {
    /// Adds a subscriber, unless the topic is closed.
    fn add(&self, subscriber: &Arc<Subscriber<T>>) -> bool {
        let mut state = self.lock();
        if state.closed {
            return false;
        }
        let others = state.subscribers.iter();
        state.subscribers = others.chain([subscriber]).map(Arc::clone).collect();
        true
    }

    /// Forgets a subscriber and what waits for it; no publisher waits for it any more.
    fn unsubscribe(&self, subscriber: &Arc<Subscriber<T>>) {
        subscriber.end(SubscriptionEnd::Unsubscribed);
        let next = {
            let mut state = self.lock();
            state.remove(subscriber);
            state.line.head()
        };
        wake(next);
        subscriber.clear();
    }

    /// Told by a subscriber that made room for the publisher that waits for it.
    fn room_was_made(&self) {
        let head = self.lock().line.head();
        wake(head);
    }

    fn close(&self) {
        let (subscribers, publishers) = {
            let mut state = self.lock();
            state.closed = true;
            let subscribers = std::mem::replace(&mut state.subscribers, Arc::from([]));
            (subscribers, state.line.wakers())
        };
        for subscriber in &*subscribers {
            subscriber.end(SubscriptionEnd::Closed);
        }
        publishers.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        lock(&self.state)
    }
}

impl<T> State<T> {
    fn remove(&mut self, subscriber: &Arc<Subscriber<T>>) {
        let others = self.subscribers.iter();
        self.subscribers = others
            .filter(|other| !Arc::ptr_eq(other, subscriber))
            .map(Arc::clone)
            .collect();
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Only a comparison of keys can panic under these locks, and it leaves a whole state.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
