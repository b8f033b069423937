//! The mailbox of a module with classes: a bounded queue per class, and the tokio
//! channel, taken from as one.
//!
//! [`queue`] decides, without tasks or locks, who comes next and what a full queue
//! does. Here it gets a lock, wakers, and the channel: whoever sends straight into
//! a dispatcher's public sender is taken in the order of acceptance too. Senders
//! come in through the [`Intake`], run loops have a [`Taker`] each.
//!
//! Invariants:
//!
//! 1. Locks are taken in the order state, then bell. No user code runs under
//!    either: classes are chosen before, messages are dropped after.
//! 2. While the channel's next message is not held in [`Channel::head`], the bell
//!    is what the channel wakes. So a message sent there wakes a replica that
//!    waits, even when the one that looked last is busy.
//! 3. Whoever takes a message while others are left, or was woken and takes
//!    nothing, rings the bell again: a wake is never lost on a replica that does
//!    not need it.

mod bell;
mod intake;
mod place;
mod queue;
mod taker;
#[cfg(test)]
mod tests;

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use tokio::{sync::mpsc, task::unconstrained, time::Instant};

use self::{
    bell::Bell,
    place::Room,
    queue::{Incoming, Next, Outside, Popped, Pushed, Queue},
};
pub(crate) use self::{
    intake::{Classify, Intake},
    queue::LineId,
    taker::{Taken, Taker},
};
use crate::{
    Class, ClassStats, Priority,
    control::Control,
    run_loop::{Receiver, quietly},
};

/// What senders and run loops share.
pub(crate) struct Classes<T> {
    state: Mutex<State<T>>,
    bell: Arc<Bell>,
    /// The bell, as the channel rings it.
    ring: Waker,
    control: Arc<Control>,
    takers: AtomicUsize,
    kind: Kind<T>,
}

/// What there is to know about messages, whatever they say.
pub(crate) struct Kind<T> {
    /// Whether it keeps its place behind everything accepted before it, in any class.
    pub(crate) is_shutdown: fn(&T) -> bool,
    /// Tells whoever waits for an answer that there will be none. Never panics.
    pub(crate) discard: fn(T),
}

/// Why a message was not accepted.
pub(crate) enum Unaccepted<T> {
    /// Its class is full, and it may wait for room in this line.
    Wait(T, LineId),
    Full(T),
    Closed(T),
}

struct State<T> {
    queue: Queue<T>,
    channel: Channel<T>,
}

/// What is sent straight into a dispatcher's public sender.
struct Channel<T> {
    /// Absent once the last taker is gone.
    receiver: Option<mpsc::Receiver<T>>,
    /// Received, not yet taken.
    head: Option<T>,
    received: u64,
    ended: bool,
}

// === impl Classes ===

impl<T> Classes<T> {
    /// A mailbox for what dispatchers send and for what comes through `receiver`.
    pub(crate) fn new(
        receiver: mpsc::Receiver<T>,
        default: Class,
        control: Arc<Control>,
        kind: Kind<T>,
    ) -> Arc<Self> {
        let bell = Arc::new(Bell::default());
        Arc::new(Self {
            state: Mutex::new(State {
                queue: Queue::new(default),
                channel: Channel {
                    receiver: Some(receiver),
                    head: None,
                    received: 0,
                    ended: false,
                },
            }),
            ring: Waker::from(Arc::clone(&bell)),
            bell,
            control,
            takers: AtomicUsize::new(0),
            kind,
        })
    }

    /// A way to take messages for one replica.
    pub(crate) fn taker(self: &Arc<Self>, replica: usize) -> Taker<T> {
        self.takers.fetch_add(1, Ordering::Relaxed);
        Taker::new(Arc::clone(self), replica)
    }

    /// Puts a message into the line of `class`, if there is room or the class makes room.
    pub(crate) fn offer(
        &self,
        class: &Class,
        message: T,
        key: Option<u64>,
    ) -> Result<(), Unaccepted<T>> {
        let (pushed, line) = {
            let mut state = self.state();
            let line = state.queue.line(class);
            let incoming = state.incoming(message, key, self.arrival());
            let pushed = state.queue.push(line, incoming);
            self.count(&pushed);
            (pushed, line)
        };
        match pushed {
            Pushed::Wait(message) => Err(Unaccepted::Wait(message, line)),
            Pushed::Full(message) => Err(Unaccepted::Full(message)),
            Pushed::Closed(message) => Err(Unaccepted::Closed(message)),
            pushed => {
                self.settle(pushed);
                Ok(())
            }
        }
    }

    /// The time, if anybody wants to know when messages are accepted.
    fn arrival(&self) -> Option<Instant> {
        self.control.timings.as_ref().map(|_| Instant::now())
    }

    /// Waits for room in a line.
    pub(crate) const fn room(&self, line: LineId) -> Room<'_, T> {
        Room::new(self, line)
    }

    /// How many messages there are to take.
    pub(crate) fn len(&self) -> usize {
        self.state().len()
    }

    pub(crate) fn stats(&self) -> Vec<ClassStats> {
        self.state().queue.stats()
    }

    /// Counts what was dropped, in the moment it is: a report of a module that has
    /// closed its mailbox holds it.
    fn count(&self, pushed: &Pushed<T>) {
        match pushed {
            Pushed::Conflated(_) => self.control.count_conflated(),
            Pushed::Dropped(_) => self.control.count_dropped(),
            _ => {}
        }
    }

    /// Ends an accepted push: wakes a replica, or drops the message that had to go.
    fn settle(&self, pushed: Pushed<T>) {
        match pushed {
            Pushed::Conflated(old) | Pushed::Dropped(old) => (self.kind.discard)(old),
            _ => self.bell.ring(),
        }
    }

    /// Takes what comes next.
    fn poll_next(&self, state: &mut State<T>) -> Poll<Option<Popped<T>>> {
        let outside = self.outside(&mut state.channel);
        let State { queue, channel } = state;
        match queue.pop(outside) {
            Some(Next::Queued(popped)) => Poll::Ready(Some(popped)),
            Some(Next::Outside) => {
                let head = channel.head.take();
                channel.receive(&self.ring);
                Poll::Ready(head.map(|message| Popped {
                    message,
                    priority: Priority::Normal,
                    arrived: None,
                    wake: None,
                }))
            }
            None if channel.ended => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// Takes the message of priority [`Control`](Priority::Control) that comes next.
    fn next_control(&self, state: &mut State<T>) -> Option<Popped<T>> {
        let outside = self.outside(&mut state.channel);
        state.queue.pop_control(outside)
    }

    /// The message that the channel has to give next.
    fn outside(&self, channel: &mut Channel<T>) -> Option<Outside> {
        channel.receive(&self.ring);
        channel.head.as_ref().map(|head| Outside {
            index: channel.received - 1,
            is_barrier: (self.kind.is_shutdown)(head),
        })
    }

    fn close(&self) {
        let wake = {
            let mut state = self.state();
            if let Some(receiver) = &mut state.channel.receiver {
                receiver.close();
            }
            state.queue.close()
        };
        for waker in wake {
            waker.wake();
        }
    }

    fn taker_dropped(&self) {
        if self.takers.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        self.close();
        let (queued, head, receiver) = {
            let mut state = self.state();
            let channel = &mut state.channel;
            channel.ended = true;
            let (head, receiver) = (channel.head.take(), channel.receiver.take());
            (state.queue.drain(), head, receiver)
        };
        // What they carry is the user's to drop; one by one, for where two panic that are
        // dropped at once, the process ends.
        for message in queued.into_iter().chain(head) {
            quietly(|| drop(message));
        }
        drop(receiver.map(Receiver::new));
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Nothing that can panic runs under it; a poisoned one is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Unaccepted ===

impl<T> Unaccepted<T> {
    pub(crate) fn map<U>(self, f: impl FnOnce(T) -> U) -> Unaccepted<U> {
        match self {
            Self::Wait(message, line) => Unaccepted::Wait(f(message), line),
            Self::Full(message) => Unaccepted::Full(f(message)),
            Self::Closed(message) => Unaccepted::Closed(f(message)),
        }
    }
}

// === impl State ===

impl<T> State<T> {
    fn len(&self) -> usize {
        self.queue.len() + self.channel.len()
    }

    fn incoming(&self, message: T, key: Option<u64>, arrived: Option<Instant>) -> Incoming<T> {
        Incoming {
            message,
            key,
            outside: self.channel.sent(),
            arrived,
        }
    }
}

// === impl Channel ===

impl<T> Channel<T> {
    /// Receives the head, if there is none; otherwise has `ring` woken for it.
    fn receive(&mut self, ring: &Waker) {
        let Some(receiver) = &mut self.receiver else {
            return;
        };
        if self.head.is_some() || self.ended {
            return;
        }
        // Unconstrained: a spent budget would look like an empty channel, and ring.
        let receiving = pin!(unconstrained(poll_fn(|cx| receiver.poll_recv(cx))));
        match receiving.poll(&mut Context::from_waker(ring)) {
            Poll::Ready(Some(message)) => {
                self.received += 1;
                self.head = Some(message);
            }
            Poll::Ready(None) => self.ended = true,
            Poll::Pending => {}
        }
    }

    /// How many messages have been sent so far.
    fn sent(&self) -> u64 {
        // Not what its capacity lacks: a permit may be held for long.
        self.received + self.receiver.as_ref().map_or(0, mpsc::Receiver::len) as u64
    }

    fn len(&self) -> usize {
        let queued = self.receiver.as_ref().map_or(0, mpsc::Receiver::len);
        queued + usize::from(self.head.is_some())
    }
}
