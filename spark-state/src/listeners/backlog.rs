//! The changes that wait for one subscriber, the newest of them.

use std::{
    collections::VecDeque,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::{Change, StateEvent, Version};

pub(crate) struct Backlog {
    prefix: Arc<str>,
    /// How much of a key is the scope that was subscribed to.
    scope_bytes: usize,
    capacity: usize,
    state: Mutex<State>,
}

/// What a subscriber gets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Event(StateEvent),
    /// So many were dropped before the oldest that is left.
    Lagged(u64),
    Closed,
}

#[derive(Default)]
struct State {
    events: VecDeque<StateEvent>,
    /// What the keys of the events take.
    key_bytes: usize,
    lagged: u64,
    closed: bool,
    waker: Option<Waker>,
}

// === impl Backlog ===

impl Backlog {
    pub(crate) fn new(prefix: Arc<str>, scope_bytes: usize, capacity: NonZeroUsize) -> Self {
        Self {
            prefix,
            scope_bytes,
            capacity: capacity.get(),
            state: Mutex::default(),
        }
    }

    /// Returns whom to wake.
    pub(super) fn push(&self, key: &Arc<str>, change: Change, version: Version) -> Option<Waker> {
        if !key.starts_with(&*self.prefix) {
            return None;
        }
        let event = StateEvent::new(Arc::clone(key), self.scope_bytes, change, version);
        let mut state = self.lock();
        state.key_bytes += key.len();
        state.events.push_back(event);
        while state.events.len() > self.capacity || state.is_large() {
            state.pop();
            state.lagged += 1;
        }
        state.waker.take()
    }

    pub(super) fn close(&self) -> Option<Waker> {
        let mut state = self.lock();
        state.closed = true;
        state.waker.take()
    }

    pub(crate) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Taken> {
        let waker = cx.waker().clone();
        let mut state = self.lock();
        if let Some(taken) = state.take() {
            return Poll::Ready(taken);
        }
        let former = state.waker.replace(waker);
        drop(state);
        drop(former);
        Poll::Pending
    }

    pub(crate) fn try_take(&self) -> Option<Taken> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn take(&mut self) -> Option<Taken> {
        if self.lagged != 0 {
            return Some(Taken::Lagged(std::mem::take(&mut self.lagged)));
        }
        match self.pop() {
            Some(event) => Some(Taken::Event(event)),
            None => self.closed.then_some(Taken::Closed),
        }
    }

    fn pop(&mut self) -> Option<StateEvent> {
        let event = self.events.pop_front()?;
        self.key_bytes -= event.full_key().len();
        Some(event)
    }

    /// The newest event waits, whatever its key takes.
    fn is_large(&self) -> bool {
        self.key_bytes > KEY_BYTES_MAX && self.events.len() > 1
    }
}

/// A buffer holds on to keys, which may be long, and which the store may no longer have.
const KEY_BYTES_MAX: usize = 1 << 20;
