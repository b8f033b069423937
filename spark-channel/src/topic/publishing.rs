//! One event, from its publisher to every backlog.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use tokio::task::coop::poll_proceed;

use super::{
    Hub,
    backlog::{Key, Put},
    subscription::Subscriber,
    wake,
};
use crate::{Refused, SparkChannelError};

/// An event on its way: its place in the line, and the copies made so far.
pub(super) struct Publishing<'a, T> {
    hub: &'a Hub<T>,
    ticket: Option<u64>,
    event: Option<T>,
    /// Those the copies were made for.
    subscribers: Arc<[Arc<Subscriber<T>>]>,
    /// One per subscriber but the last, which gets the event itself.
    copies: Vec<T>,
    keys: Vec<Option<Key>>,
}

/// Wakes all of them when it is dropped, also by a panic.
#[derive(Default)]
struct WakeList(Vec<Waker>);

pub(super) enum Attempt {
    Done(usize),
    Closed,
    /// The subscribers have changed.
    Stale,
    Waits,
}

// === impl Publishing ===

impl<'a, T> Publishing<'a, T> {
    pub(super) fn new(hub: &'a Hub<T>, event: T) -> Self {
        Self {
            hub,
            ticket: None,
            event: Some(event),
            subscribers: Arc::from([]),
            copies: Vec::new(),
            keys: Vec::new(),
        }
    }

    pub(super) fn give_back(&mut self, reason: SparkChannelError) -> Refused<T> {
        let message = self.event.take().expect("not published yet");
        Refused { message, reason }
    }

    /// Puts the event into all backlogs, if it is this publisher's turn and there is
    /// room; waits in the line with `waker` otherwise.
    pub(super) fn attempt(&mut self, waker: Option<&Waker>) -> Attempt {
        // Declared first, so dropped last: outside of the lock.
        let mut evicted = Vec::new();
        let mut to_wake = WakeList::default();
        let (mut events, mut keys);
        let mut state = self.hub.lock();
        if state.closed {
            return Attempt::Closed;
        }
        if !Arc::ptr_eq(&state.subscribers, &self.subscribers) {
            return Attempt::Stale;
        }
        // Before it looks for room: who makes some wakes the head of the line.
        let is_head = match waker {
            Some(waker) => state.line.stand(&mut self.ticket, waker),
            None => state.line.len() == 0,
        };
        let waits = waker.is_some();
        if !is_head || !self.subscribers.iter().all(|one| one.has_room(waits)) {
            return Attempt::Waits;
        }
        let Some(event) = self.event.take() else {
            panic!("`publish` polled after it completed");
        };
        self.copies.push(event);
        events = std::mem::take(&mut self.copies).into_iter();
        keys = std::mem::take(&mut self.keys).into_iter();
        let mut too_slow = 0;
        let offered = self.subscribers.iter().zip(keys.by_ref());
        // Without subscribers there is an event left.
        for ((subscriber, key), event) in offered.zip(events.by_ref()) {
            let (put, waker) = subscriber.put(event, key, &mut evicted);
            match put {
                Put::Kept => {}
                Put::Dropped => state.stats.dropped += 1,
                Put::Conflated => state.stats.conflated += 1,
                Put::TooSlow => {
                    state.stats.dropped += 1;
                    too_slow += 1;
                    state.remove(subscriber);
                }
            }
            to_wake.0.extend(waker);
        }
        state.stats.published += 1;
        state.stats.offered += self.subscribers.len() as u64;
        state.stats.disconnected += too_slow;
        to_wake.0.extend(state.line.leave(&mut self.ticket));
        drop(state);
        if too_slow > 0 {
            let topic = &*self.hub.name;
            tracing::warn!(topic, too_slow, "slow subscribers disconnected");
        }
        Attempt::Done(self.subscribers.len())
    }
}

impl<T: Clone> Publishing<'_, T> {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Refused<T>>> {
        // A publisher that never has to wait must not keep its task from yielding.
        let budget = ready!(poll_proceed(cx));
        loop {
            self.prepare();
            match self.attempt(Some(cx.waker())) {
                Attempt::Stale => {}
                Attempt::Waits => return Poll::Pending,
                Attempt::Done(subscribers) => {
                    budget.made_progress();
                    return Poll::Ready(Ok(subscribers));
                }
                Attempt::Closed => {
                    let closed = self.give_back(SparkChannelError::Closed);
                    return Poll::Ready(Err(closed));
                }
            }
        }
    }

    /// Makes the copies for those who are subscribed now.
    pub(super) fn prepare(&mut self) {
        let subscribers = Arc::clone(&self.hub.lock().subscribers);
        if Arc::ptr_eq(&subscribers, &self.subscribers) {
            return;
        }
        let Some(event) = &self.event else {
            return;
        };
        let copies = subscribers.len().saturating_sub(1);
        self.copies.truncate(copies);
        self.copies.resize_with(copies, || event.clone());
        self.keys.clear();
        let keys = subscribers.iter();
        self.keys.extend(keys.map(|one| one.key_of(event)));
        self.subscribers = subscribers;
    }
}

impl<T> Drop for Publishing<'_, T> {
    fn drop(&mut self) {
        if self.ticket.is_some() {
            let next = self.hub.lock().line.leave(&mut self.ticket);
            wake(next);
        }
    }
}

// === impl WakeList ===

impl Drop for WakeList {
    fn drop(&mut self) {
        self.0.drain(..).for_each(Waker::wake);
    }
}
